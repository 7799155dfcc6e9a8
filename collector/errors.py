"""What can go wrong in the collector, and how it is answered."""

from collections.abc import Mapping

import grpc

from chassis.http import ProblemKind
from domain.interests import InterestError


class NotAuthenticatedError(Exception):
    """The token is nobody's."""


class NotConfirmedError(Exception):
    """The address is not confirmed yet."""


class NotAllowedError(Exception):
    """It is somebody else's business."""


class UserManagerUnavailableError(Exception):
    """Who may do what cannot be asked at present. Transient."""


class NoSuchAirportError(Exception):
    """No airport has this ICAO code."""


class NoSuchInterestError(Exception):
    """The person has no such interest."""


class BadUserIdError(Exception):
    """An id that is no UUID."""


class SourceUnavailableError(Exception):
    """The source of flights does not answer as it should. Transient."""


class SourceLimitedError(SourceUnavailableError):
    """The source wants no request for a while. Transient."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the source wants no request for {retry_after_s:.0f} s")
        self.retry_after_s = retry_after_s
        """Seconds on the source's clock."""


class SourceRefusedError(SourceUnavailableError):
    """The source does not accept the credentials, or the request. An operator must look at it."""


PROBLEMS: Mapping[type[Exception], ProblemKind] = {
    NotAuthenticatedError: ProblemKind(401, {"WWW-Authenticate": "Bearer"}),
    NotConfirmedError: ProblemKind(403),
    NotAllowedError: ProblemKind(403),
    UserManagerUnavailableError: ProblemKind(503, {"Retry-After": "5"}),
    NoSuchAirportError: ProblemKind(422),
    InterestError: ProblemKind(422),
    NoSuchInterestError: ProblemKind(404),
}

STATUSES: Mapping[type[Exception], grpc.StatusCode] = {BadUserIdError: grpc.StatusCode.INVALID_ARGUMENT}
