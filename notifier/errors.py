"""What can go wrong between an alert and a mail server's "250". No text here holds an address or a name."""

from typing import ClassVar


class UndecodableError(Exception):
    """Bytes that are no event of the contract. Permanent: the event is put aside."""


class MalformedHeaderError(ValueError):
    """A header that `notifier.alert_header` did not write."""


class NotSent(Exception):
    """A mail did not go out. The text is for logs and for the headers of a dead letter."""

    permanent: ClassVar[bool]
    """Whether a later try is useless."""
    concerns_all: ClassVar[bool] = False
    """Whether any other mail would have met the same."""


class TemporarilyRefused(NotSent):
    """The mail server would not take this mail now, or was lost while it was being sent."""

    permanent = False


class PermanentlyRefused(NotSent):
    """This mail, as it is, will never be taken."""

    permanent = True


class MailServerAway(NotSent):
    """The mail server cannot be reached, or does not let us in: it refuses our greeting, password or sender.

    Transient although a server may say 5yz to it: our own mistake in the settings must cost nobody an alert.
    """

    permanent = False
    concerns_all = True


class UserManagerAway(NotSent):
    """user_manager gave no answer in time, or an error."""

    permanent = False
    concerns_all = True
