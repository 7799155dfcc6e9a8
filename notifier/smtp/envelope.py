"""A mail ready for SMTP: envelope sender, recipient, and the bytes to transmit. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.errors import MessageError
from email.message import EmailMessage
from typing import Final, Self

from notifier.errors import FailureReason, PermanentlyRefused

Sign = Callable[[bytes], bytes]
"""Adds a signature (DKIM) to a mail's final bytes, whose lines end with CRLF."""

_INVALID_ADDRESS: Final = re.compile(r"[\x00-\x1f\x7f<>]|^$")
"""Characters that would end an SMTP command or the address in it; or no address."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail to one recipient, as SMTP transmits it: both addresses and the signed content.

    Created by `Envelope.of`. `content` ends with CRLF and is not dot-stuffed; `mail` and `sign` serve to encode the
    mail again for a server without 8BITMIME.
    """

    sender: str
    """The address to which a bounce goes; empty: no bounce, MAIL FROM:<>."""
    recipient: str
    content: bytes
    mail: EmailMessage = field(repr=False, compare=False)
    sign: Sign | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, mail: EmailMessage, sender: str | None = None, sign: Sign | None = None) -> Self:
        """Serialize and sign a mail for transmission from `sender` to the address in To.

        `sender`: None for the address in From, empty for no bounces. Headers are written in UTF-8 only if one of the
        addresses is not ASCII. Raises PermanentlyRefused for a mail without exactly one recipient, for a mail that
        cannot be serialized, and for an address with control characters or angle brackets.
        """
        try:
            [recipient] = (each.addr_spec for each in mail["To"].addresses)
            if sender is None:
                [sender] = (each.addr_spec for each in mail["From"].addresses)
            utf8 = not (recipient.isascii() and sender.isascii())
            policy = mail.policy.clone(linesep="\r\n", utf8=True) if utf8 else mail.policy  # type: ignore[call-arg]
            content = mail.as_bytes(policy=policy)
        except (MessageError, ValueError, LookupError, AttributeError, TypeError) as error:
            raise PermanentlyRefused(f"cannot be written: {type(error).__name__}", FailureReason.ADDRESS) from None
        if _INVALID_ADDRESS.search(recipient) or (sender and _INVALID_ADDRESS.search(sender)):
            raise PermanentlyRefused("an address that SMTP cannot carry", FailureReason.ADDRESS)
        return cls(sender, recipient, _normalize_and_sign(content, sign), mail, sign)

    @property
    def needs_smtputf8(self) -> bool:
        """True if the sender's or the recipient's address is not ASCII (RFC 6531)."""
        return not (self.sender.isascii() and self.recipient.isascii())

    @property
    def needs_8bitmime(self) -> bool:
        """True if the mail is not ASCII (RFC 6152)."""
        return not self.content.isascii()

    def encode_in_seven_bits(self) -> bytes:
        """Serialize the mail again in ASCII and sign it again; return that content, for a server without 8BITMIME."""
        return _normalize_and_sign(self.mail.as_bytes(policy=self.mail.policy.clone(cte_type="7bit")), self.sign)


def dot_stuff(content: bytes) -> bytes:
    """Return the bytes to transmit after DATA: the dot-stuffed content and the final line "." (RFC 5321, 4.5.2)."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _normalize_and_sign(content: bytes, sign: Sign | None) -> bytes:
    """Return the content with CRLF at the end of each line, and with a signature if `sign` is given."""
    content = _normalize_line_ends(content)
    return content if sign is None else _normalize_line_ends(sign(content))


def _normalize_line_ends(content: bytes) -> bytes:
    """Return the content with CRLF at the end of each line, the last one too, and no other CR or LF.

    Servers differ in how they read a bare CR or LF (RFC 5321, 2.3.8; "SMTP smuggling").
    """
    if content.count(b"\r\n") != content.count(b"\n") or content.count(b"\r") != content.count(b"\n"):
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"
