"""The collector's gRPC service InterestService: parses a request, makes one call, translates the result."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import grpc

from chassis.errors import DatabaseUnavailableError
from collector.errors import BadUserIdError, CallerGoneError
from collector.interests import InterestStore
from towerwatch.interests.v1.interest_service_pb2 import DeleteInterestsRequest, DeleteInterestsResponse
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceServicer

SERVICE_NAME: Final = "towerwatch.interests.v1.InterestService"

STATUSES: Final[Mapping[type[Exception], grpc.StatusCode]] = {
    BadUserIdError: grpc.StatusCode.INVALID_ARGUMENT,
    CallerGoneError: grpc.StatusCode.DEADLINE_EXCEEDED,
    DatabaseUnavailableError: grpc.StatusCode.UNAVAILABLE,
}


class InterestService(InterestServiceServicer):
    """The gRPC service by which other services delete interests; the server's interceptor maps errors by `STATUSES`."""

    def __init__(self, interests: InterestStore) -> None:
        self._interests = interests

    def DeleteInterests(  # noqa: N802 - the contract's name
        self, request: DeleteInterestsRequest, context: grpc.ServicerContext
    ) -> DeleteInterestsResponse:
        """Delete all interests of a user in one transaction, and reply with their number; 0 is no error.

        Raises BadUserIdError, and CallerGoneError if the call's deadline passes before the commit: nothing is deleted
        then.
        """
        try:
            user_id = UUID(request.user_id)
        except ValueError:
            raise BadUserIdError("user_id must be a UUID") from None
        return DeleteInterestsResponse(deleted=self._interests.remove_all(user_id, context.is_active))
