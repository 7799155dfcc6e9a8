"""What can go wrong between an alert and a mail server's "250", and with dead letters. No text holds an address or a
name."""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from chassis.errors import ChassisError


class Reason(StrEnum):
    """Why a mail did not go out, as a class that a metric can count by."""

    UNREACHABLE = "unreachable"
    """Nobody took our connection, or it broke before the server let us in."""
    NOT_WELCOME = "not_welcome"
    """The server takes no mail, or none from this machine."""
    TLS = "tls"
    """No encryption, or none with somebody whose certificate can be believed."""
    AUTHENTICATION = "authentication"
    """Our name or password."""
    SENDER = "sender"
    """Our own address."""
    BUSY = "busy"
    """The server will take mail later."""
    ENOUGH_FOR_NOW = "enough_for_now"
    """The person got as many mails as one may get in an hour."""
    BREAKER_OPEN = "breaker_open"
    """The server was not asked: it is being left alone after failures."""
    LOST = "lost"
    """The connection broke, or the server fell silent, before it had the mail."""
    LOST_AFTER_DATA = "lost_after_data"
    """The same after the mail's last line: nobody knows whether it was taken."""
    PROTOCOL = "protocol"
    """We and the server do not understand each other."""
    STORAGE = "storage"
    """The server has no room."""
    PUT_OFF = "put_off"
    """This mail, later."""
    POLICY_LATER = "policy_later"
    """The same, for a rule of the server: greylisting, too many mails."""
    MAILBOX_BUSY = "mailbox_busy"
    """The same, for the mailbox."""
    MAILBOX_FULL = "mailbox_full"
    MAILBOX_UNKNOWN = "mailbox_unknown"
    """There is no such address."""
    ADDRESS = "address"
    """An address that no mail can be written to, or not over this server (SMTPUTF8)."""
    TOO_LARGE = "too_large"
    POLICY = "policy"
    """A rule of the server, for good."""
    CONTENT = "content"
    """What the mail holds, or how it is written."""
    REFUSED = "refused"
    """For good, for no reason that we understand."""
    USER_MANAGER = "user_manager"


class UndecodableError(Exception):
    """Bytes that are no event of the contract. Permanent: the event is put aside."""


class MalformedHeaderError(ValueError):
    """A header that `notifier.mail.alert_header` did not write."""


class NotSent(Exception):
    """A mail did not go out. The text is for logs and for the headers of a dead letter."""

    permanent: ClassVar[bool]
    """Whether a later try is useless."""
    concerns_all: ClassVar[bool] = False
    """Whether any other mail would have met the same."""
    reason: Reason = Reason.REFUSED
    retry_at: datetime | None = None
    """No try before this instant can succeed; None where nobody knows."""

    def __init__(self, text: str = "", reason: Reason | None = None, retry_at: datetime | None = None) -> None:
        """Without a `reason`, the usual one of the class."""
        super().__init__(text)
        if reason is not None:
            self.reason = reason
        self.retry_at = retry_at


class TemporarilyRefused(NotSent):
    """The mail server would not take this mail now, or was lost before it had it."""

    permanent = False
    reason = Reason.PUT_OFF


class LostAfterData(TemporarilyRefused):
    """The server fell silent after the mail's last line: it may have taken it.

    Sent again, under the same Message-ID: a mail twice is better than none (RFC 5321, 4.5.3.2.6).
    """

    reason = Reason.LOST_AFTER_DATA


class PermanentlyRefused(NotSent):
    """This mail, as it is, will never be taken."""

    permanent = True


class HardBounce(PermanentlyRefused):
    """There is no such address, says the server: nothing should ever be sent to it again."""

    reason = Reason.MAILBOX_UNKNOWN


class MailServerAway(NotSent):
    """The mail server cannot be reached, is left alone, or does not let us in: our greeting, password or sender.

    Transient although a server may say 5yz to it: our own mistake in the settings must cost nobody an alert.
    """

    permanent = False
    concerns_all = True
    reason = Reason.UNREACHABLE


class UserManagerAway(NotSent):
    """user_manager gave no answer in time, or an error."""

    permanent = False
    concerns_all = True
    reason = Reason.USER_MANAGER


class TooLargeToWaitError(Exception):
    """What has to wait is more than a record of the retry topic can hold."""


class NotRequeuable(Exception):
    """A dead letter that cannot be handled again from here. The text says why, and what to do instead."""


class DeadLettersUnreadableError(ChassisError):
    """The topic of dead letters is not there, or the broker gives less than there is."""
