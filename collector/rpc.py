"""The collector's gRPC interface."""

from uuid import UUID

import grpc
from towerwatch.interests.v1.interest_service_pb2 import DeleteInterestsRequest, DeleteInterestsResponse
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceServicer

from collector.errors import BadUserIdError
from collector.interests import Interests


class InterestServicer(InterestServiceServicer):
    """InterestService, as the contract promises it."""

    def __init__(self, interests: Interests) -> None:
        self._interests = interests

    def DeleteInterests(  # noqa: N802 - the contract's name
        self, request: DeleteInterestsRequest, context: grpc.ServicerContext
    ) -> DeleteInterestsResponse:
        try:
            user_id = UUID(request.user_id)
        except ValueError:
            raise BadUserIdError("user_id must be a UUID") from None
        return DeleteInterestsResponse(deleted=self._interests.remove_all(user_id))
