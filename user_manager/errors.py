"""All errors that user_manager's own code raises. Each text is one sentence for the person who sent the request."""

from typing import ClassVar


class UserManagerError(Exception):
    """Base class of all errors of this service.

    The text may be shown to the caller: it holds no address, no token and nobody else's data.
    """

    transient: ClassVar[bool] = False
    """True if a retry of the same request may succeed later."""


class AddressInvalidError(UserManagerError):
    """The given text is no e-mail address that can receive mail."""

    field = "email"


class AlreadyConfirmedError(UserManagerError):
    """The address is confirmed and not suppressed, so no confirmation mail is needed."""


class TooSoonError(UserManagerError):
    """The person requested a confirmation mail a short time ago; `retry_after_s` is the wait in seconds."""

    transient = True

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class TooManyMailsError(UserManagerError):
    """The client, or all clients together, have caused too many mails in this hour; `retry_after_s` is the wait."""

    transient = True

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class IdempotencyKeyReusedError(UserManagerError):
    """The Idempotency-Key was used before with another request body."""


class StillInFlightError(UserManagerError):
    """An identical or conflicting request is still in flight."""

    transient = True


class TokenUnknownError(UserManagerError):
    """The token belongs to no account: it was never issued, was replaced, or the account was deleted."""


class SessionUnknownError(UserManagerError):
    """No session has this secret (any more): it was ended, was not used for too long, or its account was deleted."""


class NoSuchSessionError(UserManagerError):
    """The account has no session with this id (any more)."""


class NotYoursError(UserManagerError):
    """A user requested an account other than their own, whether that account exists or not."""


class NotOperatorError(UserManagerError):
    """A user requested something that only the operator may do."""


class AccountUnknownError(UserManagerError):
    """The operator requested an account that does not exist."""


class VersionMismatchError(UserManagerError):
    """The account was changed after the caller read it."""


class BadCursorError(UserManagerError):
    """The cursor was not issued by this service."""

    field = "cursor"


class LinkForgedError(UserManagerError):
    """The link was not signed with this service's key, or was changed or cut short."""


class LinkExpiredError(UserManagerError):
    """The link is genuine but no longer valid: its lifetime is over, or mail to the address bounced since."""


class LinkOrphanedError(UserManagerError):
    """The link is genuine, but its account was deleted, or it was used before."""


class TooManyUsersError(UserManagerError):
    """One call requested more users than the maximum."""


class TooManyInterestLinksError(UserManagerError):
    """One call requested links to more interests than the maximum."""


class BadInstantError(UserManagerError):
    """A required time is missing, or lies outside the range of calendar dates."""


class BadConfirmationStateError(UserManagerError):
    """A report does not say how far the confirmation mail is, or in a way that this version does not know."""


class DeletionUnknownError(UserManagerError):
    """No deletion has this id, or its record was removed a day after completion."""


class CollectorUnavailableError(UserManagerError):
    """The collector did not respond in time, or cannot delete the interests now. A retry is safe."""

    transient = True


class CollectorRefusedError(UserManagerError):
    """The collector rejects the call permanently: the two services disagree on the contract."""
