"""A mail as it goes over the wire: who it is from, who it is for, and its bytes. Pure."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.errors import MessageError
from email.message import EmailMessage
from typing import Final, Self

from notifier.errors import FailureReason, PermanentlyRefused

Sign = Callable[[bytes], bytes]
"""Adds a signature (DKIM) to a mail's final bytes, which have CRLF at the ends of lines."""

_NO_ADDRESS: Final = re.compile(r"[\x00-\x1f\x7f<>]|^$")
"""What would end a command, or the path in it."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One mail to one recipient. `content` ends with CRLF and is not dot-stuffed."""

    sender: str
    """Empty: nobody, as in MAIL FROM:<>."""
    recipient: str
    content: bytes
    mail: EmailMessage = field(repr=False, compare=False)
    sign: Sign | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, mail: EmailMessage, sender: str | None = None, sign: Sign | None = None) -> Self:
        """The mail as its own policy writes it, signed, from `sender` or else the mailbox of From.

        Raises PermanentlyRefused for a mail without exactly one recipient, or one that cannot be written.
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
        if _NO_ADDRESS.search(recipient) or (sender and _NO_ADDRESS.search(sender)):
            raise PermanentlyRefused("an address that SMTP cannot carry", FailureReason.ADDRESS)
        return cls(sender, recipient, _finished(content, sign), mail, sign)

    @property
    def needs_smtputf8(self) -> bool:
        """Whether an address is in another alphabet (RFC 6531)."""
        return not (self.sender.isascii() and self.recipient.isascii())

    @property
    def needs_8bitmime(self) -> bool:
        """Whether there is more than ASCII in the mail (RFC 6152)."""
        return not self.content.isascii()

    def in_seven_bits(self) -> bytes:
        """The content for a server that takes no eight bits, signed anew."""
        return _finished(self.mail.as_bytes(policy=self.mail.policy.clone(cte_type="7bit")), self.sign)


def stuffed(content: bytes) -> bytes:
    """What follows DATA, with its last line (RFC 5321, 4.5.2)."""
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def _finished(content: bytes, sign: Sign | None) -> bytes:
    content = _lines_ended(content)
    return content if sign is None else _lines_ended(sign(content))


def _lines_ended(content: bytes) -> bytes:
    """With CRLF at the end of each line and nowhere a bare CR or LF, which servers read in different ways
    (RFC 5321, 2.3.8; "SMTP smuggling")."""
    if content.count(b"\r\n") != content.count(b"\n") or content.count(b"\r") != content.count(b"\n"):
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content if content.endswith(b"\r\n") else content + b"\r\n"
