"""A TLS server's certificate that only the test's own client trusts."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from local.certificates import build_self_signed_certificate


def server_context(
    folder: Path, address: str = "127.0.0.1", valid_for: timedelta = timedelta(hours=1)
) -> tuple[ssl.SSLContext, Path]:
    """Build a server's TLS context for an IP address; return it with the file of the certificate that clients trust.

    The files `trusted.pem` and `key.pem` are written to `folder`. A negative `valid_for`: the certificate expired that
    long ago.
    """
    now = datetime.now(UTC)
    certificate, key = build_self_signed_certificate(
        "fake mail server", [x509.IPAddress(ip_address(address))], now - timedelta(days=1), now + valid_for
    )
    trusted, private = folder / "trusted.pem", folder / "key.pem"
    trusted.write_bytes(certificate)
    private.write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    return context, trusted
