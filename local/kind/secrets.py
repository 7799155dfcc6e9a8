"""The secrets of the cluster on this machine: random, made once, never committed."""

import base64
import hashlib
import os
import secrets
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from cryptography import x509

from local.certificates import build_self_signed_certificate

OPERATOR: Final = "operator"
"""Who may see Prometheus; the password is in `operators.password`."""

CERTIFICATE: Final = "tls.crt"

_CERTIFICATE_LIFE: Final = timedelta(days=365)


def make(folder: Path, now: datetime | None = None) -> bool:
    """Write what manifests/overlays/kind takes from `folder`, for its owner's eyes alone.

    All or nothing: where there is anything already it is left as it is, for the databases were made with its
    passwords. Returns whether secrets were made. `now` is when the certificate begins to hold (UTC; default: now).
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(each.suffix != ".example" for each in folder.iterdir()):
        return False
    operator_token, operator_password = _random(), _random()
    user_db, data_db = _random(), _random()
    certificate, key = _self_signed(now or datetime.now(UTC))
    files = {
        "user-manager.env": _variables(
            DATABASE_URL=f"mysql+pymysql://user_manager:{user_db}@user-db/user_manager",
            SIGNING_KEY=_random(),
            OPERATOR_TOKEN=operator_token,
        ),
        "collector.env": _variables(
            DATABASE_URL=f"mysql+pymysql://collector:{data_db}@data-db/collector", OPERATOR_TOKEN=operator_token
        ),
        "user-db.env": _variables(MYSQL_ROOT_PASSWORD=_random(), MYSQL_PASSWORD=user_db),
        "data-db.env": _variables(MYSQL_ROOT_PASSWORD=_random(), MYSQL_PASSWORD=data_db),
        "operators.password": operator_password + "\n",
        "operators.htpasswd": f"{OPERATOR}:{_salted_hash(operator_password)}\n",
        CERTIFICATE: certificate,
        "tls.key": key,
    }
    for name, content in files.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
    return True


def _random() -> str:
    """256 bits, in characters that a URL and an env file take as they are."""
    return secrets.token_urlsafe(32)


def _variables(**values: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _salted_hash(password: str) -> str:
    """As nginx reads it (RFC 2307). One round of SHA-1 is enough for 256 random bits, which nobody guesses."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode("ascii")


def _self_signed(now: datetime) -> tuple[str, str]:
    """Build a certificate for this machine that signs itself; return the certificate and its key, both PEM."""
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
        x509.IPAddress(IPv6Address("::1")),
    ]
    certificate, key = build_self_signed_certificate(
        "Towerwatch in kind", names, now - timedelta(hours=1), now + _CERTIFICATE_LIFE
    )
    return certificate.decode("ascii"), key.decode("ascii")
