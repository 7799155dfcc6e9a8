"""The certificate authorities that every client of a source trusts."""

import os
import ssl
from functools import cache

import httpx


def get_trust() -> ssl.SSLContext:
    """Return the authorities that httpx trusts by default, for all clients of the process together.

    Reading them takes some 30 ms of computing and half a megabyte for each client otherwise. They are read again only
    if one of the variables that choose them (SSL_CERT_FILE, SSL_CERT_DIR) has changed.
    """
    return _read_trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _read_trust(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Read the authorities. The parameters, which httpx takes from the environment by itself, only tell sets apart."""
    return httpx.create_ssl_context()
