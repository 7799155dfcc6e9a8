"""The errors that the collector's own code raises. Each text is one sentence for the user or operator concerned."""

from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class CollectorError(Exception):
    """The base of all errors of the collector.

    The text may be shown to the caller: it holds no token, no secret, no SQL and nobody else's data.
    """

    transient: ClassVar[bool] = False
    """True if the same action may succeed later, False if it would fail again."""


class NotAuthenticatedError(CollectorError):
    """The token belongs to no user."""


class NotConfirmedError(CollectorError):
    """The user's e-mail address is not confirmed yet."""


class NotAllowedError(CollectorError):
    """The action is reserved for the operator."""


class NoSuchAirportError(CollectorError):
    """No airport has this ICAO code."""


class NoSuchInterestError(CollectorError):
    """The user has no such interest, whether another user has it or not."""


class VersionMismatchError(CollectorError):
    """The interest was changed since the caller read it."""


class BadCursorError(CollectorError):
    """The page cursor is invalid: none of our pages ended with it."""


class BadUserIdError(CollectorError):
    """The user id is no UUID."""


class CallerGoneError(CollectorError):
    """The caller has stopped waiting for the answer."""

    transient = True


class UserManagerUnavailableError(CollectorError):
    """The user_manager, which authenticates users, is unavailable."""

    transient = True


class SupersededError(CollectorError):
    """Another collector has begun a newer term.

    Nothing of the superseded collector's transaction was stored, and it must make no API call.
    """


class ConcurrentCollectionError(CollectorError):
    """Another collector has stored this interval, or is about to store it."""


class SourceError(CollectorError):
    """The source returned no flights because of an error: never to be taken for "there are none"."""


class SourceUnavailableError(SourceError):
    """The source is unreachable, or its answer is unreadable."""

    transient = True


class BreakerOpenError(SourceUnavailableError):
    """The circuit breaker is open after too many failures of the source: the API call was not made."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source fails, and is not asked for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the service's clock until the breaker may admit a call again."""


class SourceLimitedError(SourceError):
    """The source requires a pause: it rejects API calls for some time (rate limit)."""

    transient = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source wants no request for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the source's clock."""


class ForeignAnswer(StrEnum):
    """PLACEHOLDER"""

    HTML = "html"


class ForeignAnswerError(SourceUnavailableError):
    """PLACEHOLDER"""

    kind = ForeignAnswer.HTML


class WrongClockError(SourceError):
    """The service's clock differs from the source's by more than an hour: nothing of the answer can be stored."""

    def __init__(self, error: timedelta) -> None:
        """`error`: the time that the service's clock is ahead of the source's; negative if it is behind."""
        hours = abs(error) / timedelta(hours=1)
        side = "ahead of" if error > timedelta(0) else "behind"
        super().__init__(f"this machine's clock is {hours:.1f} h {side} the source's; set the machine's clock right")
        self.error = error


class SourceRefusedError(SourceError):
    """The source rejects the credentials or the request: an operator must look at it."""
