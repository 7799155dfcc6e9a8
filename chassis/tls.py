"""Trust in the certificates of servers that this project is a client of."""

import ssl


def create_trust(authorities: str | None) -> ssl.SSLContext:
    """Return a TLS context that verifies certificates and names; `authorities`: PEM, or None for the system's.

    Raises ValueError if the text holds no certificate.
    """
    try:
        return ssl.create_default_context(cadata=authorities)
    except (ssl.SSLError, TypeError, ValueError):  # TypeError: not in ASCII
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None
