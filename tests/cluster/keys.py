"""The keys and certificates of a control plane of one test run, and the kubeconfigs that hold them."""

import ipaddress
import json
from base64 import b64encode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENTS: Final = {
    "admin": ("kubernetes-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
}
"""The clients that get a kubeconfig, with the user and the group that the API server reads from its certificate."""

LOOPBACK: Final = "127.0.0.1"

CONTEXT: Final = "kind-towerwatch"
"""The name of the cluster in each kubeconfig: the one of `make kind-up`, which its commands name."""

_LIFETIME: Final = timedelta(days=1)

_Certificate = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def make_keys(
    folder: Path,
    server: str,
    addresses: Collection[str] = (LOOPBACK,),
    clients: Mapping[str, tuple[str, str | None]] = CLIENTS,
    servers: Mapping[str, str] | None = None,
) -> None:
    """Write an authority, the API server's certificate, the keys of service accounts, and a kubeconfig for each client.

    `server` is the API server's URL, `addresses` the IP addresses that its certificate is valid for. Each of `servers`,
    by its name the IP address, gets a certificate, too. All keys are new; their certificates are valid for a day.
    """
    folder.mkdir(mode=0o700, parents=True)
    authority = _make_certificate("towerwatch-test", None)
    _write(folder / "ca.crt", authority[0].public_bytes(Encoding.PEM))
    _write(folder / "ca.key", _encode_key(authority[1]))
    names = {"apiserver": ("kube-apiserver", addresses)}
    names |= {name: (name, (address,)) for name, address in (servers or {}).items()}
    for name, (user, valid_for) in names.items():
        server_certificate = _make_certificate(user, authority, addresses=valid_for)
        _write(folder / f"{name}.crt", server_certificate[0].public_bytes(Encoding.PEM))
        _write(folder / f"{name}.key", _encode_key(server_certificate[1]))
    accounts = rsa.generate_private_key(65537, 2048)
    _write(folder / "accounts.key", _encode_key(accounts))
    _write(folder / "accounts.pub", accounts.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for name, (user, group) in clients.items():
        certificate, key = _make_certificate(user, authority, group)
        _write(folder / f"{name}.pem", certificate.public_bytes(Encoding.PEM) + _encode_key(key))
        _write(folder / f"{name}.conf", _encode_kubeconfig(name, server, authority, (certificate, key)))


def _encode_kubeconfig(name: str, server: str, authority: _Certificate, client: _Certificate) -> bytes:
    """Return the kubeconfig by which a client reaches the API server, as JSON, which is YAML."""
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [
            {
                "name": CONTEXT,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": _encode_base64(authority[0].public_bytes(Encoding.PEM)),
                },
            }
        ],
        "users": [
            {
                "name": name,
                "user": {
                    "client-certificate-data": _encode_base64(client[0].public_bytes(Encoding.PEM)),
                    "client-key-data": _encode_base64(_encode_key(client[1])),
                },
            }
        ],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": name}}],
    }
    return json.dumps(kubeconfig).encode()


def _make_certificate(
    user: str, authority: _Certificate | None, group: str | None = None, addresses: Collection[str] = (LOOPBACK,)
) -> _Certificate:
    """Make a key and its certificate; without an authority it signs itself, and may sign others."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
    if group:
        names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(authority[0].subject if authority else x509.Name(names))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
    )
    if authority:
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        valid_for = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        builder = builder.add_extension(usages, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(valid_for), critical=False)
    return builder.sign(authority[1] if authority else key, hashes.SHA256()), key


def _encode_key(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _encode_base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _write(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)
