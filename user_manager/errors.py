"""Everything that user_manager's own code raises. Each text is one sentence for the person who asked."""

from typing import ClassVar


class UserManagerError(Exception):
    """The text may be shown to whoever asked: it holds no address, no token and nobody else's data."""

    transient: ClassVar[bool] = False
    """Whether the same request may succeed later."""


class AddressInvalidError(UserManagerError):
    """What was given is no e-mail address that mail can be sent to."""


class AddressTakenError(UserManagerError):
    """An account with this address exists."""


class AlreadyConfirmedError(UserManagerError):
    """There is nothing left to confirm."""


class TooSoonError(UserManagerError):
    """The person asked for the same a moment ago."""

    transient = True

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class IdempotencyKeyReusedError(UserManagerError):
    """The key was given with another body before."""


class StillInFlightError(UserManagerError):
    """A request for the same is being worked on, and takes long."""

    transient = True


class TokenUnknownError(UserManagerError):
    """The token is nobody's: it was never given, was replaced, or the account is gone."""


class NotYoursError(UserManagerError):
    """A user asked for an account that is not their own, whether it exists or not."""


class NotOperatorError(UserManagerError):
    """A user asked for what only the operator may see."""


class AccountUnknownError(UserManagerError):
    """The operator asked for an account that does not exist."""


class VersionMismatchError(UserManagerError):
    """The account was changed since the caller looked at it."""


class BadCursorError(UserManagerError):
    """A cursor that no page of ours ended with."""


class LinkForgedError(UserManagerError):
    """The link was not made with our key, or was cut short on its way."""


class LinkExpiredError(UserManagerError):
    """The link is genuine, and too old: its time is over, or mail to the address came back since."""


class LinkOrphanedError(UserManagerError):
    """The link is genuine, and its account is gone."""


class TooManyUsersError(UserManagerError):
    """One call asked for more users than it may."""


class BadInstantError(UserManagerError):
    """A time that was left out, or is none that a calendar has."""


class DeletionUnknownError(UserManagerError):
    """No deletion has this id, or it was completed long ago."""


class CollectorAwayError(UserManagerError):
    """The collector did not answer in time, or could not do it now. Asking again is safe."""

    transient = True


class CollectorRefusedError(UserManagerError):
    """The collector will not do what it was asked, however often: it and we disagree on the contract."""
