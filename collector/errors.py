"""Everything that the collector's own code raises. Each text is one sentence for the person or operator concerned."""

from typing import ClassVar


class CollectorError(Exception):
    """The text may be shown: it holds no token, no secret, no SQL and nobody else's data."""

    transient: ClassVar[bool] = False
    """Whether the same may succeed later."""


class NotAuthenticatedError(CollectorError):
    """The token is nobody's."""


class NotConfirmedError(CollectorError):
    """The address is not confirmed yet."""


class NotAllowedError(CollectorError):
    """It is the operator's business."""


class NoSuchAirportError(CollectorError):
    """No airport has this ICAO code."""


class NoSuchInterestError(CollectorError):
    """The person has no such interest, whether somebody else has it or not."""


class VersionMismatchError(CollectorError):
    """The interest was changed since the caller looked at it."""


class BadCursorError(CollectorError):
    """A cursor that no page of ours ended with."""


class BadUserIdError(CollectorError):
    """An id that is no UUID."""


class CallerGoneError(CollectorError):
    """Whoever asked has stopped waiting for the answer."""

    transient = True


class UserManagerAwayError(CollectorError):
    """Who may do what cannot be asked at present."""

    transient = True


class DeposedError(CollectorError):
    """Another collector has begun a term since; nothing of this one's was stored, and nothing shall be asked."""


class CollectedMeanwhileError(CollectorError):
    """Another collector has stored this interval, or is about to."""


class SourceError(CollectorError):
    """The source of flights gave no flights: never to be taken for "there are none"."""


class SourceAwayError(SourceError):
    """The source cannot be reached, or answers with what cannot be read."""

    transient = True


class BreakerOpenError(SourceAwayError):
    """The source has failed so often that it is left alone for a while: it was not asked."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source fails, and is not asked for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the service's clock until it is worth asking again."""


class SourceLimitedError(SourceError):
    """The source wants no request for a while."""

    transient = True

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source wants no request for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the source's clock."""


class SourceRefusedError(SourceError):
    """The source does not accept the credentials, or the request: an operator must look at it."""
