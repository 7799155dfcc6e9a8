"""The secrets of the local cluster: random, made once, never committed."""

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
"""The user name for Prometheus; the password is in `operators.password`."""

CERTIFICATE: Final = "tls.crt"

_GRPC_SECRET: Final = "GRPC_SECRET"  # noqa: S105 - the name of a variable
_CALLING_SERVICES: Final = ("user-manager", "collector", "notifier", "streams")
"""The services that serve gRPC or call it."""

_CERTIFICATE_LIFETIME: Final = timedelta(days=365)


def make_secrets(folder: Path, now: datetime | None = None) -> bool:
    """Make random secrets and a TLS certificate, and write them to `folder` as the overlay for kind needs them.

    Files and folder are for their owner only. Returns True if the secrets were made, False if the folder already had
    any file but examples: these are left as they are, for the databases were made with their passwords; only the secret
    of gRPC calls is added where an earlier version made none. The certificate is valid from an hour before `now` (UTC;
    default: the present) for a year.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(each.suffix != ".example" for each in folder.iterdir()):
        _add_grpc_secret(folder)
        return False
    operator_token, operator_password = _make_random_text(), _make_random_text()
    user_db, data_db = _make_random_text(), _make_random_text()
    certificate, key = _make_self_signed_certificate(now or datetime.now(UTC))
    files = {
        "user-manager.env": _encode_variables(
            DATABASE_URL=f"mysql+pymysql://user_manager:{user_db}@user-db/user_manager",
            SIGNING_KEY=_make_random_text(),
            OPERATOR_TOKEN=operator_token,
        ),
        "collector.env": _encode_variables(
            DATABASE_URL=f"mysql+pymysql://collector:{data_db}@data-db/collector", OPERATOR_TOKEN=operator_token
        ),
        "user-db.env": _encode_variables(MYSQL_ROOT_PASSWORD=_make_random_text(), MYSQL_PASSWORD=user_db),
        "data-db.env": _encode_variables(MYSQL_ROOT_PASSWORD=_make_random_text(), MYSQL_PASSWORD=data_db),
        "operators.password": operator_password + "\n",
        "operators.htpasswd": f"{OPERATOR}:{_hash_with_salt(operator_password)}\n",
        CERTIFICATE: certificate,
        "tls.key": key,
    }
    for name, content in files.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
    _add_grpc_secret(folder)
    return True


def _add_grpc_secret(folder: Path) -> None:
    """Add a secret of gRPC calls, the same to the files of all these services, unless each has one."""
    paths = [folder / f"{service}.env" for service in _CALLING_SERVICES]
    if all(path.exists() and _GRPC_SECRET in path.read_text() for path in paths):
        return
    secret = _make_random_text()
    for path in paths:
        before = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in before if not line.startswith(f"{_GRPC_SECRET}=")]
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write("\n".join((*kept, f"{_GRPC_SECRET}={secret}")) + "\n")


def _make_random_text() -> str:
    """Return 256 random bits, in characters that a URL and an env file take unescaped."""
    return secrets.token_urlsafe(32)


def _encode_variables(**values: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _hash_with_salt(password: str) -> str:
    """Return the password's salted hash in nginx's format (RFC 2307).

    One round of SHA-1 is enough for 256 random bits, which nobody guesses.
    """
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode("ascii")


def _make_self_signed_certificate(now: datetime) -> tuple[str, str]:
    """Make a self-signed certificate for `localhost` and the loopback addresses; return it and its key, both PEM.

    It is valid from an hour before `now` until a year after.
    """
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(IPv4Address("127.0.0.1")),
        x509.IPAddress(IPv6Address("::1")),
    ]
    certificate, key = build_self_signed_certificate(
        "Towerwatch in kind", names, now - timedelta(hours=1), now + _CERTIFICATE_LIFETIME
    )
    return certificate.decode("ascii"), key.decode("ascii")
