"""DKIM signatures (RFC 6376) that also cover the headers to unsubscribe (RFC 8058, 4)."""

from dataclasses import dataclass, field
from typing import Final

import dkim  # type: ignore[import-untyped]
from dkim.crypto import UnparsableKeyError, parse_pem_private_key  # type: ignore[import-untyped]

_OVERSIGNED_HEADERS: Final = (
    b"from", b"to", b"subject", b"date", b"message-id", b"list-unsubscribe", b"list-unsubscribe-post",
)  # fmt: skip
"""Headers that are signed once more than the mail holds them, so that nobody can add another (RFC 6376, 8.15)."""

_OTHER_SIGNED_HEADERS: Final = (
    b"in-reply-to", b"references", b"list-id", b"auto-submitted", b"mime-version", b"content-type",
    b"content-transfer-encoding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A DKIM key: domain, selector and private key.

    Creating it raises ValueError for a key that is not RSA in PEM, and for a domain or selector that is empty or not
    ASCII.
    """

    domain: str
    selector: str
    """The public key is in DNS at selector._domainkey.domain."""
    private_key: bytes = field(repr=False)
    """RSA in PEM (PKCS#1 or PKCS#8)."""

    def __post_init__(self) -> None:
        try:
            parse_pem_private_key(self.private_key)
        except (UnparsableKeyError, ValueError):  # ValueError for invalid base 64
            raise ValueError("the DKIM key must be an RSA private key in PEM") from None
        if not (self.domain.isascii() and self.selector.isascii() and self.domain and self.selector):
            raise ValueError("the DKIM domain and selector must be names in ASCII")


def sign_mail(message: bytes, key: SigningKey) -> bytes:
    """Return the bytes of a mail with a DKIM-Signature header before them. `message`: lines end with CRLF.

    The signature covers the body and the headers of two lists, as far as the mail has them; those of the first list
    (`_OVERSIGNED_HEADERS`) once more than it has them, so that none can be added. Canonicalization is relaxed. Takes
    some 10 ms of processor time with a key of 2048 bits.
    """
    signing = dkim.DKIM(message)
    present = {name.lower() for name, _ in signing.headers}
    covered = [name for name in (*_OVERSIGNED_HEADERS, *_OTHER_SIGNED_HEADERS) if name in present]
    signature: bytes = signing.sign(
        key.selector.encode(),
        key.domain.encode(),
        key.private_key,
        canonicalize=(b"relaxed", b"relaxed"),
        include_headers=[*covered, *_OVERSIGNED_HEADERS],
    )
    return signature + message
