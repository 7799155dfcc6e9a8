"""The errors between an alert and the mail server's "250", and those of dead letters. No text contains an address or a
name."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from chassis.errors import ChassisError


class FailureReason(StrEnum):
    """The reason why a mail was not sent; the values are metric labels."""

    UNREACHABLE = "unreachable"
    """No connection was accepted, or it broke before the login was complete."""
    NOT_WELCOME = "not_welcome"
    """The server accepts no mail at all, or none from this machine."""
    TLS = "tls"
    """The server offers no encryption, or its certificate is not trusted."""
    AUTHENTICATION = "authentication"
    """The server rejected our user name or password."""
    SENDER = "sender"
    """The server rejected our own address."""
    BUSY = "busy"
    """The server will accept mails later."""
    ENOUGH_FOR_NOW = "enough_for_now"
    """The user has received the maximal number of mails of an hour."""
    GATHERING = "gathering"
    """The mail lists corrections, and more of them may come."""
    BREAKER_OPEN = "breaker_open"
    """No attempt was made: the circuit to the server is open after failures."""
    LOST = "lost"
    """The connection broke, or the server timed out, before the mail was complete."""
    LOST_AFTER_DATA = "lost_after_data"
    """The connection broke, or the server timed out, after the mail's last line: the server may have accepted the
    mail."""
    PROTOCOL = "protocol"
    """The server's replies violate the protocol, or the server rejects our commands."""
    STORAGE = "storage"
    """The server has no disk space."""
    PUT_OFF = "put_off"
    """The server will accept this mail later."""
    POLICY_LATER = "policy_later"
    """The server will accept this mail later, because of a rule: greylisting, too many mails."""
    MAILBOX_BUSY = "mailbox_busy"
    """The server will accept this mail later, because of the mailbox."""
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_UNKNOWN = "mailbox_unknown"
    """The address does not exist."""
    ADDRESS = "address"
    """The address is invalid, or this server cannot send to it (SMTPUTF8)."""
    TOO_LARGE = "too_large"
    POLICY = "policy"
    """A rule of the server forbids the mail permanently."""
    CONTENT = "content"
    """The server rejected the content or the format of the mail."""
    RELAY = "relay"
    """The server does not relay our mails to this recipient."""
    ACCOUNT = "account"
    """The server does not let our account send."""
    QUOTA = "quota"
    """We have sent too much, or too fast."""
    UNPROVEN = "unproven"
    """The server rejected the recipient without saying whether the address or our relaying is at fault."""
    REFUSED = "refused"
    """The server rejected the mail permanently, for an unknown reason."""
    USER_MANAGER = "user_manager"
    LINK = "link"
    """The link that the mail is about cannot be printed: user_manager's PUBLIC_URL is wrong."""


class UndecodableError(Exception):
    """An event's bytes do not match the contract. Permanent: the event is dead-lettered."""


class MalformedHeaderError(ValueError):
    """The value of a mail's header is not one that `notifier.mail.alert_header` writes."""


class NotSent(Exception):
    """The base of all errors after which a mail is not known to be sent; subclasses set `permanent`.

    The text is for logs and for the headers of a dead letter.
    """

    permanent: ClassVar[bool]
    """True if another attempt cannot succeed."""
    affects_all_mails: ClassVar[bool] = False
    """True if any other mail would have failed, too."""
    reason: FailureReason = FailureReason.REFUSED
    retry_at: datetime | None = None
    """No attempt before this time can succeed; None: unknown."""

    def __init__(self, text: str = "", reason: FailureReason | None = None, retry_at: datetime | None = None) -> None:
        """`reason` None: the default reason of the class. `retry_at` None: the time is unknown."""
        super().__init__(text)
        if reason is not None:
            self.reason = reason
        self.retry_at = retry_at


class TemporarilyRefused(NotSent):
    """The mail server rejected this mail temporarily, or the connection broke while the mail was sent.

    Another attempt may succeed; other mails are not affected.
    """

    permanent = False
    reason = FailureReason.PUT_OFF


class LostAfterData(TemporarilyRefused):
    """The connection broke after the mail's last line: the server may have accepted the mail.

    It is sent again with the same Message-ID: a duplicate mail is better than a lost one (RFC 5321, 4.5.3.2.6).
    """

    reason = FailureReason.LOST_AFTER_DATA


class SendingSideRefused(TemporarilyRefused):
    """The mail server rejected this mail, and blames us or nobody: our account, relaying, sender, quota or content.

    Transient although the reply is 5yz: it says nothing against the address, and an operator can mend it meanwhile.
    """

    reason = FailureReason.REFUSED


class UnprovenBounce(TemporarilyRefused):
    """The mail server rejected the recipient with a bare 550, 551 or 553, which may also mean that it relays no mail.

    Transient until it is proven (`notifier.delivery.bounces`).
    """

    reason = FailureReason.UNPROVEN
    other_accepted_at: datetime | None = None
    """When this server last accepted a mail to another recipient; None: not since this process started."""


class PermanentlyRefused(NotSent):
    """The mail server, or our own check, rejected this mail permanently: it is dead-lettered without a retry."""

    permanent = True


class HardBounce(PermanentlyRefused):
    """The mail server reported that the address does not exist, or it is proven: no mail should be sent to it again."""

    reason = FailureReason.MAILBOX_UNKNOWN


class MailServerUnavailable(NotSent):
    """The mail server is unreachable, its circuit is open, or it rejects our greeting, login or sender.

    Affects all mails. Transient even after a 5yz reply: a mistake in our settings must not lose an alert.
    """

    permanent = False
    affects_all_mails = True
    reason = FailureReason.UNREACHABLE


class UserManagerUnavailable(NotSent):
    """user_manager returned an error or no response within the deadline, or our client was closed.

    Transient, and affects all mails.
    """

    permanent = False
    affects_all_mails = True
    reason = FailureReason.USER_MANAGER


class UnprintableLink(NotSent):
    """The link that the mail is about cannot stand in a mail, so the mail would be of no use.

    Transient, and affects all mails with such a link: an operator must correct the PUBLIC_URL of user_manager.
    """

    permanent = False
    affects_all_mails = True
    reason = FailureReason.LINK


class TooLargeToWaitError(Exception):
    """A mail that must be deferred exceeds the maximal size of a record of the retry topic."""


class NotRequeuable(Exception):
    """A dead letter cannot be requeued. The text explains why, and what to do instead."""


class DeadLettersUnreadableError(ChassisError):
    """The dead-letter topic does not exist, or the broker returned fewer records than it contains."""
