"""What user_manager asks of the collector, over gRPC."""

from uuid import UUID

import grpc
import structlog

from chassis.rpc import create_channel
from towerwatch.interests.v1.interest_service_pb2 import DeleteInterestsRequest
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceStub
from user_manager.errors import CollectorAwayError, CollectorRefusedError

log = structlog.get_logger()

DEADLINE_S = 3.0
"""Real seconds for one call with all its retries; a person waits for the answer."""

_PERMANENT = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    )
)
"""Statuses that the same request will get again."""


class CollectorClient:
    """Calls the collector's InterestService. Connects when first used; may be shared by threads."""

    def __init__(self, target: str, deadline_s: float = DEADLINE_S) -> None:
        """`target` is `host:port`."""
        self._channel = create_channel(target)
        self._interests = InterestServiceStub(self._channel)
        self._deadline_s = deadline_s

    def delete_interests(self, user_id: UUID) -> None:
        """Delete everything that the user wanted to be told. Idempotent; blocks for the deadline at most.

        Raises CollectorAwayError (transient; it may have happened nevertheless), CollectorRefusedError (permanent).
        """
        try:
            self._interests.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=self._deadline_s)
        except grpc.RpcError as error:
            code = error.code()
            log.warning("collector.call_failed", method="DeleteInterests", code=code.name, user_id=str(user_id))
            if code in _PERMANENT:
                raise CollectorRefusedError("The interests cannot be deleted; the operator must look at it.") from None
            raise CollectorAwayError("The interests cannot be deleted at the moment; nothing was changed.") from None

    def close(self) -> None:
        """End calls in flight and let go of the connection."""
        self._channel.close()
