"""InterestService over gRPC: parses, makes one call, translates."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import grpc

from chassis.errors import DatabaseUnavailableError
from collector.errors import BadUserIdError, CallerGoneError
from collector.interests import Interests
from towerwatch.interests.v1.interest_service_pb2 import DeleteInterestsRequest, DeleteInterestsResponse
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceServicer

SERVICE_NAME: Final = "towerwatch.interests.v1.InterestService"

STATUSES: Final[Mapping[type[Exception], grpc.StatusCode]] = {
    BadUserIdError: grpc.StatusCode.INVALID_ARGUMENT,
    CallerGoneError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DatabaseUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


class InterestService(InterestServiceServicer):
    """Answers the other services. The server's interceptor turns what is raised into `STATUSES`."""

    def __init__(self, interests: Interests) -> None:
        self._interests = interests

    def DeleteInterests(  # noqa: N802 - the contract's name
        self, request: DeleteInterestsRequest, context: grpc.ServicerContext
    ) -> DeleteInterestsResponse:
        try:
            user_id = UUID(request.user_id)
        except ValueError:
            raise BadUserIdError("user_id must be a UUID") from None
        return DeleteInterestsResponse(deleted=self._interests.remove_all(user_id, context.is_active))
