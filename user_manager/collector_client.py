"""Client of the collector's gRPC interface, with the calls that user_manager needs."""

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, TypeVar
from uuid import UUID

import grpc
import structlog

from chassis.grpc_secret import REFUSED
from chassis.rpc import create_channel
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.interests.v1.interest_service_pb2 import (
    DeleteInterestRequest,
    DeleteInterestResponse,
    DeleteInterestsRequest,
    GetInterestRequest,
    GetInterestResponse,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceStub
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

log = structlog.get_logger()

R = TypeVar("R")

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


_REFUSED_FOR_NOW = (
    "the collector does not accept it, as for some minutes while Towerwatch is upgraded. Nothing was changed. If that "
    "lasts, the operator must look at it."
)

_ALIGNED_TO = {
    interests_pb.ALIGNED_TO_UNSPECIFIED: AlignedTo.UTC,
    interests_pb.ALIGNED_TO_UTC: AlignedTo.UTC,
    interests_pb.ALIGNED_TO_AIRPORT: AlignedTo.AIRPORT,
}


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
        self._call(
            self._interests.DeleteInterests,
            DeleteInterestsRequest(user_id=str(user_id)),
            user_id,
            unavailable="The interests cannot be deleted at the moment; nothing was changed.",
            refused="The interests cannot be deleted; the operator must look at it.",
        )

    def load_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Return one interest of the user; None: the user has no such interest. Blocks for the deadline at most.

        A failure is logged. Raises CollectorUnavailableError (transient) and CollectorRefusedError (permanent).
        """
        answer: GetInterestResponse = self._call(
            self._interests.GetInterest,
            GetInterestRequest(user_id=str(user_id), interest_id=str(interest_id)),
            user_id,
            unavailable=(
                "The part of Towerwatch that keeps your alerts does not answer at the moment. Nothing was changed. "
                "Open this page again in a minute."
            ),
            refused=f"The alert cannot be shown: {_REFUSED_FOR_NOW}",
        )
        return decode_interest(answer.interest) if answer.HasField("interest") else None

    def delete_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Delete one interest of the user at the collector, and return it; None: the user has no such interest.

        Idempotent; blocks for the deadline at most. A failure is logged. Raises CollectorUnavailableError (transient;
        the interest may be deleted nevertheless) and CollectorRefusedError (permanent).
        """
        answer: DeleteInterestResponse = self._call(
            self._interests.DeleteInterest,
            DeleteInterestRequest(user_id=str(user_id), interest_id=str(interest_id)),
            user_id,
            unavailable=(
                "The part of Towerwatch that keeps your alerts does not answer at the moment. Nothing was changed, as "
                "far as is known. Try again in a minute; it does no harm to do it twice."
            ),
            refused=f"The alert cannot be stopped: {_REFUSED_FOR_NOW}",
        )
        return decode_interest(answer.interest) if answer.HasField("interest") else None

    def _call(self, method: Callable[..., R], request: Any, user_id: UUID, *, unavailable: str, refused: str) -> R:
        """Make one call about a user, and return its answer.

        A failure is logged. Raises CollectorUnavailableError with the text `unavailable`, and CollectorRefusedError
        with the text `refused`.
        """
        try:
            return method(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            code, name = error.code(), type(request).__name__.removesuffix("Request")
            log.warning("collector.call_failed", method=name, code=code.name, user_id=str(user_id))
            if code in _PERMANENT and error.details() != REFUSED:  # secrets differ while they are changed
                raise CollectorRefusedError(refused) from None
            raise CollectorUnavailableError(unavailable) from None

    def close(self) -> None:
        """Cancel the calls in flight and close the connection."""
        self._channel.close()


def decode_interest(value: interests_pb.InterestSet) -> Interest:
    """Return the interest of a protobuf message. Raises CollectorRefusedError if this version cannot read it."""
    try:
        return Interest(
            interest_id=UUID(value.interest_id),
            user_id=UUID(value.user_id),
            airport=value.airport,
            direction=Direction[flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_")],
            window=Window[interests_pb.Window.Name(value.window).removeprefix("WINDOW_")],
            high=value.high if value.HasField("high") else None,
            low=value.low if value.HasField("low") else None,
            for_windows=value.for_windows,
            repeat=value.repeat,
            effective_from=value.effective_from.ToDatetime(tzinfo=UTC),
            version=value.version,
            high_percent=value.high_percent if value.HasField("high_percent") else None,
            low_percent=value.low_percent if value.HasField("low_percent") else None,
            aligned_to=_ALIGNED_TO[value.aligned_to],
        )
    except (ValueError, KeyError):
        raise CollectorRefusedError("The alert cannot be shown; user_manager is older than the collector.") from None
