"""What a mail server's answer means for one mail, and for all others. Pure, and total.

An answer is judged by its reply code (RFC 5321, 4.2), its enhanced status code where it has one (RFC 3463, RFC 5248)
and the phase in which it came. The server's words are never looked at: they differ from server to server and may hold
addresses.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    TemporarilyRefused,
)

Enhanced = tuple[int, int, int]
"""Class, subject, detail: 5.1.1."""


class Phase(StrEnum):
    """What the server answers."""

    CONNECT = "connect"
    """Our connection, by its greeting."""
    EHLO = "ehlo"
    STARTTLS = "starttls"
    """Also the handshake, of implicit TLS too."""
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """The command, before the mail itself."""
    CONTENT = "content"
    """The mail's last line."""


class Kind(StrEnum):
    """What to do."""

    TEMPORARY = "temporary"
    """Send this mail again later."""
    PERMANENT = "permanent"
    """Never send this mail again."""
    HARD_BOUNCE = "hard_bounce"
    """Never send anything to this address again."""
    SERVER = "server"
    """Send nothing for a while, and all of it later."""
    UNKNOWN = "unknown"
    """Send this mail again, under the same Message-ID: it may have been taken."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The judgement. `text` holds numbers and our own words only."""

    kind: Kind
    reason: FailureReason
    text: str

    def error(self) -> NotSent:
        """What to raise for it."""
        return _ERRORS[self.kind](self.text, self.reason)


_ERRORS: Final[dict[Kind, type[NotSent]]] = {
    Kind.TEMPORARY: TemporarilyRefused,
    Kind.PERMANENT: PermanentlyRefused,
    Kind.HARD_BOUNCE: HardBounce,
    Kind.SERVER: MailServerUnavailable,
    Kind.UNKNOWN: LostAfterData,
}

_WHAT: Final = {
    Phase.CONNECT: "the connection",
    Phase.EHLO: "our greeting",
    Phase.STARTTLS: "encryption",
    Phase.AUTH: "our login",
    Phase.MAIL: "the sender",
    Phase.RCPT: "the recipient",
    Phase.DATA: "the start of the mail",
    Phase.CONTENT: "the mail",
}

_ENTRY: Final = (Phase.CONNECT, Phase.EHLO, Phase.STARTTLS, Phase.AUTH)
_MAIL: Final = (Phase.MAIL,)
_RCPT: Final = (Phase.RCPT,)
_BODY: Final = (Phase.DATA, Phase.CONTENT)
_ONE: Final = (*_RCPT, *_BODY)
"""Phases in which an answer is about one mail."""
_ALL: Final = tuple(Phase)


@dataclass(frozen=True, slots=True)
class Row:
    """One rule. In `code` and `enhanced` an x stands for any digit or number; no `enhanced`: any, or none at all."""

    phases: tuple[Phase, ...]
    code: str
    kind: Kind
    reason: FailureReason
    enhanced: str = ""
    bare: bool = False
    """Only where the server gave no enhanced code, so that the reply code is all there is."""

    def matches(self, phase: Phase, code: int, enhanced: Enhanced | None) -> bool:
        if phase not in self.phases or (self.bare and enhanced is not None):
            return False
        digits = f"{code:03}"
        if len(digits) != 3 or any(want not in ("x", digit) for want, digit in zip(self.code, digits, strict=True)):
            return False
        if not self.enhanced:
            return True
        wanted = self.enhanced.split(".")
        return enhanced is not None and all(
            want in ("x", str(number)) for want, number in zip(wanted, enhanced, strict=True)
        )


TABLE: Final = (
    # The server as a whole, whenever it says so.
    Row(_ALL, "421", Kind.SERVER, FailureReason.BUSY),  # closing the channel: RFC 5321, 3.8
    Row((Phase.STARTTLS,), "454", Kind.SERVER, FailureReason.TLS),  # TLS not available now: RFC 3207, 4
    Row(_ALL, "454", Kind.SERVER, FailureReason.AUTHENTICATION),  # temporary authentication failure: RFC 4954, 6
    Row(_ALL, "432", Kind.SERVER, FailureReason.AUTHENTICATION),  # a password transition is needed: RFC 4954, 6
    Row((Phase.STARTTLS,), "530", Kind.SERVER, FailureReason.TLS),
    Row(_ALL, "530", Kind.SERVER, FailureReason.AUTHENTICATION),  # authentication required: RFC 4954, 6
    Row(_ALL, "534", Kind.SERVER, FailureReason.AUTHENTICATION),  # the mechanism is too weak: RFC 4954, 6
    Row(_ALL, "535", Kind.SERVER, FailureReason.AUTHENTICATION),  # credentials invalid: RFC 4954, 6
    Row(_ALL, "538", Kind.SERVER, FailureReason.AUTHENTICATION),  # encryption required for it: RFC 2554, 6
    Row(_ALL, "521", Kind.SERVER, FailureReason.NOT_WELCOME),  # the host takes no mail: RFC 7504, 2
    # Before any mail: whatever it is, the next mail would meet it too.
    Row((Phase.STARTTLS,), "xxx", Kind.SERVER, FailureReason.TLS),
    Row((Phase.AUTH,), "xxx", Kind.SERVER, FailureReason.AUTHENTICATION),
    Row(_ENTRY, "4xx", Kind.SERVER, FailureReason.BUSY),
    Row(_ENTRY, "5xx", Kind.SERVER, FailureReason.NOT_WELCOME),  # 554 at the greeting: RFC 5321, 3.1
    Row(_ENTRY, "xxx", Kind.SERVER, FailureReason.PROTOCOL),
    # MAIL: it is always us who send, so only what is said of this mail's size and alphabet is about this mail.
    Row(_MAIL, "552", Kind.PERMANENT, FailureReason.TOO_LARGE),  # by its declared SIZE: RFC 1870, 6.1
    Row(_MAIL, "5xx", Kind.PERMANENT, FailureReason.TOO_LARGE, "5.3.4"),  # too big for the system: RFC 3463, 3.4
    Row(_MAIL, "5xx", Kind.PERMANENT, FailureReason.TOO_LARGE, "5.2.3"),
    Row(
        _MAIL, "5xx", Kind.PERMANENT, FailureReason.ADDRESS, "5.6.7"
    ),  # non-ASCII addresses not permitted: RFC 6531, 4.2
    Row(
        _MAIL, "452", Kind.SERVER, FailureReason.STORAGE
    ),  # insufficient system storage: RFC 5321, 4.2.3; RFC 1870, 6.1
    Row(_MAIL, "4xx", Kind.SERVER, FailureReason.BUSY),
    Row(_MAIL, "500", Kind.SERVER, FailureReason.PROTOCOL),
    Row(_MAIL, "502", Kind.SERVER, FailureReason.PROTOCOL),
    Row(_MAIL, "503", Kind.SERVER, FailureReason.PROTOCOL),
    Row(_MAIL, "5xx", Kind.SERVER, FailureReason.SENDER),
    # RCPT, later.
    Row(_ONE, "4xx", Kind.TEMPORARY, FailureReason.MAILBOX_FULL, "4.2.2"),  # RFC 3463, 3.3
    Row(_ONE, "4xx", Kind.TEMPORARY, FailureReason.STORAGE, "4.3.1"),  # RFC 3463, 3.4
    Row(_ONE, "4xx", Kind.TEMPORARY, FailureReason.POLICY_LATER, "4.7.x"),  # RFC 3463, 3.8; greylisting: RFC 6647
    Row(_RCPT, "4xx", Kind.TEMPORARY, FailureReason.MAILBOX_BUSY, "4.2.x"),
    Row(_ONE, "452", Kind.TEMPORARY, FailureReason.STORAGE, bare=True),  # RFC 5321, 4.2.3
    Row(_RCPT, "450", Kind.TEMPORARY, FailureReason.MAILBOX_BUSY, bare=True),  # mailbox unavailable: RFC 5321, 4.2.3
    Row(_ONE, "4xx", Kind.TEMPORARY, FailureReason.PUT_OFF),
    # We are out of step with the server; over a new connection it may go better.
    Row(_ONE, "503", Kind.TEMPORARY, FailureReason.PROTOCOL),
    # RCPT, for good. Servers like Postfix speak about the sender only here.
    Row(_RCPT, "5xx", Kind.SERVER, FailureReason.SENDER, "5.1.7"),  # bad sender's mailbox address: RFC 3463, 3.2
    Row(_RCPT, "5xx", Kind.SERVER, FailureReason.SENDER, "5.1.8"),  # bad sender's system address: RFC 3463, 3.2
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.1"),  # no such mailbox: RFC 3463, 3.2
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.2"),  # no such system
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.3"),  # not an address
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.6"),  # moved, nobody knows where
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.10"),  # null MX: RFC 7505, 4.2
    Row(_RCPT, "5xx", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.2.1"),  # mailbox disabled: RFC 3463, 3.3
    Row(_RCPT, "556", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN),  # the domain takes no mail: RFC 7504, 4
    # Without an enhanced code the first meaning of the reply code must do: mailbox unavailable, user not local, mailbox
    # name not allowed (RFC 5321, 4.2.3). Servers that refuse for policy nearly always say 5.7.x.
    Row(_RCPT, "550", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, bare=True),
    Row(_RCPT, "551", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, bare=True),
    Row(_RCPT, "553", Kind.HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, bare=True),
    # RCPT, DATA and the mail itself, for good.
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.TOO_LARGE, "5.2.3"),  # longer than the mailbox allows: RFC 3463, 3.3
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.TOO_LARGE, "5.3.4"),  # longer than the system allows: RFC 3463, 3.4
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.MAILBOX_FULL, "5.2.2"),  # a bounce of today, not for ever
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.POLICY, "5.7.x"),  # RFC 3463, 3.8
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.ADDRESS, "5.6.7"),  # RFC 6531, 4.2
    Row(_BODY, "5xx", Kind.PERMANENT, FailureReason.CONTENT, "5.6.x"),  # RFC 3463, 3.7
    Row(_BODY, "5xx", Kind.PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.x"),
    Row(
        _RCPT, "552", Kind.PERMANENT, FailureReason.MAILBOX_FULL, bare=True
    ),  # exceeded storage allocation: RFC 5321, 4.2.3
    Row(_BODY, "552", Kind.PERMANENT, FailureReason.TOO_LARGE, bare=True),  # the same, of the mail: RFC 1870, 6.3
    Row(_BODY, "550", Kind.PERMANENT, FailureReason.POLICY, bare=True),  # refused for policy: RFC 5321, 3.3, 4.2.3
    Row(_ONE, "500", Kind.PERMANENT, FailureReason.PROTOCOL),  # such a mail or address, this server cannot read
    Row(_ONE, "501", Kind.PERMANENT, FailureReason.PROTOCOL),
    Row(_ONE, "502", Kind.PERMANENT, FailureReason.PROTOCOL),
    Row(_ONE, "504", Kind.PERMANENT, FailureReason.PROTOCOL),
    Row(_ONE, "555", Kind.PERMANENT, FailureReason.PROTOCOL),  # parameters not implemented: RFC 5321, 4.1.1.11
    Row(_ONE, "5xx", Kind.PERMANENT, FailureReason.REFUSED),  # 554 among them
)
"""The first row that matches holds."""

_SILENCE: Final = {
    Phase.CONNECT: (Kind.SERVER, FailureReason.UNREACHABLE),
    Phase.EHLO: (Kind.SERVER, FailureReason.UNREACHABLE),
    Phase.STARTTLS: (Kind.SERVER, FailureReason.TLS),
    Phase.AUTH: (Kind.SERVER, FailureReason.UNREACHABLE),
    Phase.MAIL: (Kind.TEMPORARY, FailureReason.LOST),
    Phase.RCPT: (Kind.TEMPORARY, FailureReason.LOST),
    Phase.DATA: (Kind.TEMPORARY, FailureReason.LOST),
    Phase.CONTENT: (Kind.UNKNOWN, FailureReason.LOST_AFTER_DATA),
}
"""No answer: lost, reset, timed out, or a line that is none. Without the last line's "250" the server may or may not
hold the mail (RFC 5321, 4.5.3.2.6); before it, RFC 5321, 4.1.1.4 has it thrown away."""


def classify(phase: Phase, code: int | None, enhanced: Enhanced | None = None) -> Outcome:
    """Judge a failure: a reply that was not the one hoped for, or with `code` None no reply at all."""
    text = _text(phase, code, enhanced)
    if code is not None:
        for row in TABLE:
            if row.matches(phase, code, enhanced):
                return Outcome(row.kind, row.reason, text)
        # No reply that SMTP has at this place, so none that could be relied on.
        if phase is not Phase.CONTENT:
            return Outcome(Kind.SERVER if phase in _ENTRY else Kind.TEMPORARY, FailureReason.PROTOCOL, text)
    kind, reason = _SILENCE[phase]
    return Outcome(kind, reason, text)


def _text(phase: Phase, code: int | None, enhanced: Enhanced | None) -> str:
    if code is not None:
        return f"the server refused {_WHAT[phase]}: {code}" + (f" {'.'.join(map(str, enhanced))}" if enhanced else "")
    if phase is Phase.STARTTLS:  # a certificate that cannot be believed is an answer, too
        return "no encryption with the server that can be trusted"
    offers_none = ", or it offers none" if phase is Phase.AUTH else ""
    return f"no answer from the server to {_WHAT[phase]}{offers_none}"
