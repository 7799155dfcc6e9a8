"""The meaning of a mail server's failure reply: for the mail, its address, or all mails. Pure; covers every reply.

A reply is classified by its code (RFC 5321, 4.2), its enhanced status code if it has one (RFC 3463, RFC 5248) and the
phase in which it came. Only a code that names the mailbox counts against an address at once. What is said of us (our
account, relaying, sender, quota, content) waits for an operator. The server's text may turn blame for an address into
blame for us, never the reverse (`notifier.smtp.wording`), and is not kept: it may hold addresses.
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
    SendingSideRefused,
    TemporarilyRefused,
    UnprovenBounce,
)
from notifier.smtp.wording import find_blamed_part

EnhancedCode = tuple[int, int, int]
"""An enhanced status code, as class, subject, detail: 5.1.1."""


class Phase(StrEnum):
    """The step of an SMTP session to which the server replies."""

    CONNECT = "connect"
    """The connection and the server's greeting."""
    EHLO = "ehlo"
    STARTTLS = "starttls"
    """Also the TLS handshake, with implicit TLS too."""
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    """The command DATA, before the mail's content."""
    CONTENT = "content"
    """The mail's content, whose reply comes after its last line."""


class Disposition(StrEnum):
    """The action that a failure requires: retry or give up the mail, its address, or all mails."""

    TEMPORARY = "temporary"
    """Send this mail again later."""
    PERMANENT = "permanent"
    """Never send this mail again."""
    HARD_BOUNCE = "hard_bounce"
    """Never send anything to this address again."""
    UNPROVEN = "unproven"
    """Send this mail again later; if it is rejected so again, the address may be at fault (`UnprovenBounce`)."""
    SENDING_SIDE = "sending_side"
    """Send this mail again later, and warn: the server blames our account, relaying, sender, quota or content."""
    SERVER = "server"
    """Send no mail for a while, and all mails later: the server as a whole has failed."""
    UNKNOWN = "unknown"
    """Send this mail again, with the same Message-ID: the server may have accepted it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The classification of a failure. `text` holds numbers and our own words only, never the server's text."""

    disposition: Disposition
    reason: FailureReason
    text: str

    def to_error(self) -> NotSent:
        """Return a new error to raise for this outcome, of the disposition's class, with the text and the reason."""
        return _ERRORS[self.disposition](self.text, self.reason)


_ERRORS: Final[dict[Disposition, type[NotSent]]] = {
    Disposition.TEMPORARY: TemporarilyRefused,
    Disposition.PERMANENT: PermanentlyRefused,
    Disposition.HARD_BOUNCE: HardBounce,
    Disposition.UNPROVEN: UnprovenBounce,
    Disposition.SENDING_SIDE: SendingSideRefused,
    Disposition.SERVER: MailServerUnavailable,
    Disposition.UNKNOWN: LostAfterData,
}

_PHASE_NAMES: Final = {
    Phase.CONNECT: "the connection",
    Phase.EHLO: "our greeting",
    Phase.STARTTLS: "encryption",
    Phase.AUTH: "our login",
    Phase.MAIL: "the sender",
    Phase.RCPT: "the recipient",
    Phase.DATA: "the start of the mail",
    Phase.CONTENT: "the mail",
}

_OPENING: Final = (Phase.CONNECT, Phase.EHLO, Phase.STARTTLS, Phase.AUTH)
_MAIL: Final = (Phase.MAIL,)
_RCPT: Final = (Phase.RCPT,)
_DATA: Final = (Phase.DATA, Phase.CONTENT)
_PER_MAIL: Final = (*_RCPT, *_DATA)
"""Phases in which a reply is about one mail."""
_ALL: Final = tuple(Phase)
PHASES_OF_ONE_MAIL: Final = frozenset(_PER_MAIL)
"""Phases after the recipient was named."""

_TEMPORARY: Final = Disposition.TEMPORARY
_PERMANENT: Final = Disposition.PERMANENT
_HARD_BOUNCE: Final = Disposition.HARD_BOUNCE
_UNPROVEN: Final = Disposition.UNPROVEN
_SENDING_SIDE: Final = Disposition.SENDING_SIDE
_SERVER: Final = Disposition.SERVER

_MAY_BE_OURS: Final = (_PERMANENT, _HARD_BOUNCE, _UNPROVEN, _SENDING_SIDE)
"""Dispositions of refusals whose text may blame the sending side."""

_SAID_OF_FULL_MAILBOXES: Final = (
    FailureReason.UNPROVEN,
    FailureReason.MAILBOX_UNKNOWN,
    FailureReason.QUOTA,
    FailureReason.REFUSED,
)
"""Reasons, by the codes alone, of replies that some servers also send for a mailbox that is full."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of classification: the replies that it matches, and their meaning (disposition and reason).

    A reply matches if its phase, its reply code and its enhanced code match. In `code` and `enhanced` an x stands for
    any digit or number. An empty `enhanced` matches any enhanced code, and none.
    """

    phases: tuple[Phase, ...]
    code: str
    disposition: Disposition
    reason: FailureReason
    enhanced: str = ""
    without_enhanced: bool = False
    """True: matches only replies without an enhanced code."""

    def matches(self, phase: Phase, code: int, enhanced: EnhancedCode | None) -> bool:
        """Return True if the rule applies to a reply in this phase, with these codes; `enhanced` None: it has none.

        A code that has not three digits matches no rule.
        """
        if phase not in self.phases or (self.without_enhanced and enhanced is not None):
            return False
        digits = f"{code:03}"
        if len(digits) != 3 or any(want not in ("x", got) for want, got in zip(self.code, digits, strict=True)):
            return False
        if not self.enhanced:
            return True
        patterns = self.enhanced.split(".")
        return enhanced is not None and all(
            want in ("x", str(got)) for want, got in zip(patterns, enhanced, strict=True)
        )


RULES: Final = (
    # Replies about the server as a whole, in any phase.
    Rule(_ALL, "421", _SERVER, FailureReason.BUSY),  # closing the channel: RFC 5321, 3.8
    Rule((Phase.STARTTLS,), "454", _SERVER, FailureReason.TLS),  # TLS not available now: RFC 3207, 4
    Rule(_PER_MAIL, "454", _TEMPORARY, FailureReason.RELAY, "4.7.1"),  # Postfix: relay access denied, for now
    Rule(_ALL, "454", _SERVER, FailureReason.AUTHENTICATION),  # temporary authentication failure: RFC 4954, 6
    Rule(_ALL, "432", _SERVER, FailureReason.AUTHENTICATION),  # a password transition is needed: RFC 4954, 6
    Rule((Phase.STARTTLS,), "530", _SERVER, FailureReason.TLS),
    Rule(_ALL, "530", _SERVER, FailureReason.AUTHENTICATION),  # authentication required: RFC 4954, 6
    Rule(_ALL, "534", _SERVER, FailureReason.AUTHENTICATION),  # the mechanism is too weak: RFC 4954, 6
    Rule(_ALL, "535", _SERVER, FailureReason.AUTHENTICATION),  # credentials invalid: RFC 4954, 6
    Rule(_ALL, "538", _SERVER, FailureReason.AUTHENTICATION),  # encryption required for it: RFC 2554, 6
    Rule(_ALL, "521", _SERVER, FailureReason.NOT_WELCOME),  # the host takes no mail: RFC 7504, 2
    # Failures before any mail: the next mail would fail in the same way.
    Rule((Phase.STARTTLS,), "xxx", _SERVER, FailureReason.TLS),
    Rule((Phase.AUTH,), "xxx", _SERVER, FailureReason.AUTHENTICATION),
    Rule(_OPENING, "4xx", _SERVER, FailureReason.BUSY),
    Rule(_OPENING, "5xx", _SERVER, FailureReason.NOT_WELCOME),  # 554 at the greeting: RFC 5321, 3.1
    Rule(_OPENING, "xxx", _SERVER, FailureReason.PROTOCOL),
    # MAIL: the sender is the same for all mails, so only replies about size and alphabet are about this mail.
    Rule(_MAIL, "552", _SENDING_SIDE, FailureReason.TOO_LARGE),  # by its declared SIZE: RFC 1870, 6.1
    Rule(_MAIL, "5xx", _SENDING_SIDE, FailureReason.TOO_LARGE, "5.3.4"),  # too big for the system: RFC 3463, 3.4
    Rule(_MAIL, "5xx", _PERMANENT, FailureReason.TOO_LARGE, "5.2.3"),
    Rule(_MAIL, "5xx", _PERMANENT, FailureReason.ADDRESS, "5.6.7"),  # non-ASCII address not permitted: RFC 6531, 4.2
    Rule(_MAIL, "452", _SERVER, FailureReason.STORAGE),  # insufficient system storage: RFC 5321, 4.2.3; RFC 1870, 6.1
    Rule(_MAIL, "4xx", _SERVER, FailureReason.BUSY),
    Rule(_MAIL, "500", _SERVER, FailureReason.PROTOCOL),
    Rule(_MAIL, "502", _SERVER, FailureReason.PROTOCOL),
    Rule(_MAIL, "503", _SERVER, FailureReason.PROTOCOL),
    Rule(_MAIL, "5xx", _SERVER, FailureReason.SENDER),
    # RCPT, temporary.
    Rule(_PER_MAIL, "4xx", _TEMPORARY, FailureReason.MAILBOX_FULL, "4.2.2"),  # RFC 3463, 3.3
    Rule(_PER_MAIL, "4xx", _TEMPORARY, FailureReason.STORAGE, "4.3.1"),  # RFC 3463, 3.4
    Rule(_PER_MAIL, "4xx", _TEMPORARY, FailureReason.POLICY_LATER, "4.7.x"),  # RFC 3463, 3.8; greylisting: RFC 6647
    Rule(_RCPT, "4xx", _TEMPORARY, FailureReason.MAILBOX_BUSY, "4.2.x"),
    Rule(_PER_MAIL, "452", _TEMPORARY, FailureReason.STORAGE, without_enhanced=True),  # RFC 5321, 4.2.3
    Rule(_RCPT, "450", _TEMPORARY, FailureReason.MAILBOX_BUSY, without_enhanced=True),  # RFC 5321, 4.2.3
    Rule(_PER_MAIL, "4xx", _TEMPORARY, FailureReason.PUT_OFF),
    # Client and server are out of sequence; a new connection may work.
    Rule(_PER_MAIL, "503", _TEMPORARY, FailureReason.PROTOCOL),
    # Permanent. Servers like Postfix reject the sender only at RCPT, others after the content.
    Rule(_PER_MAIL, "5xx", _SERVER, FailureReason.SENDER, "5.1.7"),  # bad sender's mailbox address: RFC 3463, 3.2
    Rule(_PER_MAIL, "5xx", _SERVER, FailureReason.SENDER, "5.1.8"),  # bad sender's system address: RFC 3463, 3.2
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.1"),  # no such mailbox: RFC 3463, 3.2
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.2"),  # no such system
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.3"),  # not an address
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.6"),  # moved, nobody knows where
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.1.10"),  # null MX: RFC 7505, 4.2
    Rule(_RCPT, "5xx", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN, "5.2.1"),  # mailbox disabled: RFC 3463, 3.3
    Rule(_RCPT, "556", _HARD_BOUNCE, FailureReason.MAILBOX_UNKNOWN),  # the domain takes no mail: RFC 7504, 4
    # Without an enhanced code these say that the mailbox is unavailable, not local or not allowed, and as well that
    # the server does not relay for us (RFC 5321, 3.6.2, 4.2.3): one such reply proves nothing.
    Rule(_RCPT, "550", _UNPROVEN, FailureReason.UNPROVEN, without_enhanced=True),
    Rule(_RCPT, "551", _UNPROVEN, FailureReason.UNPROVEN, without_enhanced=True),
    Rule(_RCPT, "553", _UNPROVEN, FailureReason.UNPROVEN, without_enhanced=True),
    # RCPT, DATA and the content, permanent: about the recipient's mailbox, or not to be mended by waiting.
    Rule(_PER_MAIL, "5xx", _PERMANENT, FailureReason.TOO_LARGE, "5.2.3"),  # too long for the mailbox: RFC 3463, 3.3
    Rule(_PER_MAIL, "5xx", _PERMANENT, FailureReason.MAILBOX_FULL, "5.2.2"),  # no hard bounce: it may have space later
    Rule(_PER_MAIL, "5xx", _PERMANENT, FailureReason.ADDRESS, "5.6.7"),  # RFC 6531, 4.2
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.1"),
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.2"),
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.3"),
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.6"),
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.1.10"),
    Rule(_DATA, "5xx", _PERMANENT, FailureReason.MAILBOX_UNKNOWN, "5.2.1"),
    Rule(_PER_MAIL, "500", _PERMANENT, FailureReason.PROTOCOL),  # the server cannot parse such a mail or address
    Rule(_PER_MAIL, "501", _PERMANENT, FailureReason.PROTOCOL),
    Rule(_PER_MAIL, "502", _PERMANENT, FailureReason.PROTOCOL),
    Rule(_PER_MAIL, "504", _PERMANENT, FailureReason.PROTOCOL),
    Rule(_PER_MAIL, "555", _PERMANENT, FailureReason.PROTOCOL),  # parameters not implemented: RFC 5321, 4.1.1.11
    # All others name no mailbox: they are about us, or may be. The operator can mend them while the mail waits.
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.TOO_LARGE, "5.3.4"),  # too long for the system: RFC 3463, 3.4
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.POLICY, "5.7.x"),  # RFC 3463, 3.8
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.CONTENT, "5.6.x"),  # RFC 3463, 3.7
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.QUOTA, "5.4.5"),  # Gmail: the day's limit of mails
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.QUOTA, "5.1.90"),  # Exchange Online: the same
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.SENDER, "5.2.252"),  # Exchange Online: SendAsDenied
    Rule(_RCPT, "552", _SENDING_SIDE, FailureReason.QUOTA, without_enhanced=True),  # storage, or our quota
    Rule(_DATA, "552", _SENDING_SIDE, FailureReason.TOO_LARGE, without_enhanced=True),  # RFC 1870, 6.3
    Rule(_DATA, "550", _SENDING_SIDE, FailureReason.POLICY, without_enhanced=True),  # RFC 5321, 3.3, 4.2.3
    Rule(_PER_MAIL, "5xx", _SENDING_SIDE, FailureReason.REFUSED),  # 554 among them
)
"""In order of precedence: the first rule that matches applies."""

_WITHOUT_REPLY: Final = {
    Phase.CONNECT: (Disposition.SERVER, FailureReason.UNREACHABLE),
    Phase.EHLO: (Disposition.SERVER, FailureReason.UNREACHABLE),
    Phase.STARTTLS: (Disposition.SERVER, FailureReason.TLS),
    Phase.AUTH: (Disposition.SERVER, FailureReason.UNREACHABLE),
    Phase.MAIL: (Disposition.TEMPORARY, FailureReason.LOST),
    Phase.RCPT: (Disposition.TEMPORARY, FailureReason.LOST),
    Phase.DATA: (Disposition.TEMPORARY, FailureReason.LOST),
    Phase.CONTENT: (Disposition.UNKNOWN, FailureReason.LOST_AFTER_DATA),
}
"""The meaning of no reply: the connection was lost or reset, a timeout, or an invalid line. Without the "250" after the
last line, the server may or may not have the mail (RFC 5321, 4.5.3.2.6); before the last line it discards the mail
(RFC 5321, 4.1.1.4)."""


def classify(phase: Phase, code: int | None, enhanced: EnhancedCode | None = None, words: str = "") -> Outcome:
    """Classify a failure in a phase: an unexpected reply, or no reply at all (`code` None).

    The first of `RULES` that matches a reply applies. A reply that no rule matches is a PROTOCOL failure: of the server
    as a whole while the connection is opened, later of this mail, to be sent again. After the content such a reply
    means as much as no reply: the server may have the mail. A missing reply is classified by its phase alone.

    `words`: the server's text. If it blames the sending side, a refusal counts neither against the address nor as
    permanent, whatever its codes are.
    """
    text = _describe_failure(phase, code, enhanced)
    if code is not None:
        for rule in RULES:
            if rule.matches(phase, code, enhanced):
                blamed = find_blamed_part(words) if rule.disposition in _MAY_BE_OURS else None
                if blamed is FailureReason.MAILBOX_FULL:
                    if rule.reason in _SAID_OF_FULL_MAILBOXES:
                        return Outcome(_TEMPORARY, blamed, text)
                elif blamed is not None:
                    return Outcome(_SENDING_SIDE, blamed, text)
                return Outcome(rule.disposition, rule.reason, text)
        # SMTP has no such reply in this phase: its meaning is unknown.
        if phase is not Phase.CONTENT:
            disposition = Disposition.SERVER if phase in _OPENING else Disposition.TEMPORARY
            return Outcome(disposition, FailureReason.PROTOCOL, text)
    disposition, reason = _WITHOUT_REPLY[phase]
    return Outcome(disposition, reason, text)


def _describe_failure(phase: Phase, code: int | None, enhanced: EnhancedCode | None) -> str:
    """Return a phrase for operators: what the server refused, with its codes, or to what it gave no answer."""
    if code is not None:
        dotted = f" {'.'.join(map(str, enhanced))}" if enhanced else ""
        return f"the server refused {_PHASE_NAMES[phase]}: {code}{dotted}"
    if phase is Phase.STARTTLS:  # not "no answer": the server may have sent an invalid certificate
        return "no encryption with the server that can be trusted"
    offers_none = ", or it offers none" if phase is Phase.AUTH else ""
    return f"no answer from the server to {_PHASE_NAMES[phase]}{offers_none}"
