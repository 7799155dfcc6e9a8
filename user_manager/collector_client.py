"""Client of the collector's gRPC interface, with the one call that user_manager needs."""

from collections.abc import Sequence
from uuid import UUID

import grpc
import structlog

from chassis.grpc_secret import REFUSED
from chassis.rpc import create_channel
from towerwatch.interests.v1.interest_service_pb2 import DeleteInterestsRequest
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceStub
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

log = structlog.get_logger()

DEADLINE_S = 3.0
"""Deadline of one call with all its retries, in real seconds; a person waits for the response."""

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
"""Statuses that a retry of the same request would get again."""


class CollectorClient:
    """A client of the collector's InterestService. Connects on first use; safe for several threads."""

    def __init__(self, target: str, deadline_s: float = DEADLINE_S, secrets: Sequence[str] = ()) -> None:
        """`target` is `host:port`; the first of `secrets`, if any, is sent with each call."""
        self._channel = create_channel(target, secrets)
        self._interests = InterestServiceStub(self._channel)
        self._deadline_s = deadline_s

    def delete_interests(self, user_id: UUID) -> None:
        """Delete all interests of the user at the collector. Idempotent; blocks for the deadline at most.

        A failure is logged. Raises CollectorUnavailableError (transient; the interests may be deleted nevertheless) and
        CollectorRefusedError (permanent).
        """
        try:
            self._interests.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=self._deadline_s)
        except grpc.RpcError as error:
            code = error.code()
            log.warning("collector.call_failed", method="DeleteInterests", code=code.name, user_id=str(user_id))
            if code in _PERMANENT and error.details() != REFUSED:  # secrets differ while they are changed
                raise CollectorRefusedError("The interests cannot be deleted; the operator must look at it.") from None
            raise CollectorUnavailableError(
                "The interests cannot be deleted at the moment; nothing was changed."
            ) from None

    def close(self) -> None:
        """Cancel the calls in flight and close the connection."""
        self._channel.close()
