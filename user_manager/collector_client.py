"""Client of the collector's gRPC interface, with the calls that user_manager needs."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import grpc
import structlog

from chassis.grpc_secret import REFUSED
from chassis.rpc import create_channel
from domain.interests import Interest
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.interests.v1.interest_service_pb2 import (
    DeleteInterestRequest,
    DeleteInterestResponse,
    DeleteInterestsRequest,
    ExportPersonRequest,
    ExportPersonResponse,
    GetInterestRequest,
    GetInterestResponse,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceStub
from user_manager.collector_record import CollectorRecord, decode_interest, decode_record
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

log = structlog.get_logger()

R = TypeVar("R")

DEADLINE_S = 3.0
"""Deadline of one call with all its retries, in real seconds; a person waits for the response."""

EXPORT_DEADLINE_S: Final = 10.0
"""Deadline of all pages of an export together, in real seconds."""

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

_NOT_READ: Final = "What the collector keeps about you cannot be read"


_REFUSED_FOR_NOW = (
    "the collector does not accept it, as for some minutes while Towerwatch is upgraded. Nothing was changed. If that "
    "lasts, the operator must look at it."
)


class CollectorClient:
    """A client of the collector's InterestService. Connects on first use; safe for several threads."""

    def __init__(
        self,
        target: str,
        deadline_s: float = DEADLINE_S,
        secrets: Sequence[str] = (),
        export_deadline_s: float = EXPORT_DEADLINE_S,
    ) -> None:
        """`target` is `host:port`; the first of `secrets`, if any, is sent with each call."""
        self._channel = create_channel(target, secrets)
        self._interests = InterestServiceStub(self._channel)
        self._deadline_s = deadline_s
        self._export_deadline_s = export_deadline_s

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
        return _decode_interest(answer.interest) if answer.HasField("interest") else None

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
        return _decode_interest(answer.interest) if answer.HasField("interest") else None

    def _call(self, method: Callable[..., R], request: Any, user_id: UUID, *, unavailable: str, refused: str) -> R:
        """Make one call about a user, and return its answer.

        A failure is logged. Raises CollectorUnavailableError with the text `unavailable`, and CollectorRefusedError
        with the text `refused`.
        """
        try:
            return method(request, timeout=self._deadline_s)
        except grpc.RpcError as error:
            if _log_failure(type(request).__name__.removesuffix("Request"), user_id, error):
                raise CollectorRefusedError(refused) from None
            raise CollectorUnavailableError(unavailable) from None

    def export_person(self, user_id: UUID) -> CollectorRecord:
        """Return all that the collector keeps about the user. Changes nothing; blocks for the deadline of exports.

        A failure is logged. Raises CollectorUnavailableError (transient), also if the pages take longer than the
        deadline, and CollectorRefusedError (permanent), also for an answer that this version cannot read.
        """
        ends_at = time.monotonic() + self._export_deadline_s
        pages: list[ExportPersonResponse] = []
        try:
            while not pages or pages[-1].next_page_token:
                left_s = min(self._deadline_s, ends_at - time.monotonic())
                if left_s <= 0:
                    log.warning("collector.export_too_slow", user_id=str(user_id))
                    raise CollectorUnavailableError(f"{_NOT_READ} at the moment; try again shortly.")
                token = pages[-1].next_page_token if pages else ""
                request = ExportPersonRequest(user_id=str(user_id), page_token=token)
                pages.append(self._interests.ExportPerson(request, timeout=left_s))
            return decode_record(user_id, pages)
        except grpc.RpcError as error:
            if _log_failure("ExportPerson", user_id, error):
                raise CollectorRefusedError(f"{_NOT_READ}; the operator must look at it.") from None
            raise CollectorUnavailableError(f"{_NOT_READ} at the moment; try again shortly.") from None
        except ValueError:
            log.warning("collector.answer_unknown", method="ExportPerson", user_id=str(user_id))
            raise CollectorRefusedError(f"{_NOT_READ}; the operator must look at it.") from None

    def close(self) -> None:
        """Cancel the calls in flight and close the connection."""
        self._channel.close()


def _decode_interest(value: interests_pb.InterestSet) -> Interest:
    """Return the interest of a protobuf message. Raises CollectorRefusedError if this version cannot read it."""
    try:
        return decode_interest(value)
    except ValueError:
        raise CollectorRefusedError("The alert cannot be shown; user_manager is older than the collector.") from None


def _log_failure(method: str, user_id: UUID, error: grpc.RpcError) -> bool:
    """Log that a call failed; return True if a retry of it would fail alike, False if it may succeed."""
    code = error.code()
    log.warning("collector.call_failed", method=method, code=code.name, user_id=str(user_id))
    return code in _PERMANENT and error.details() != REFUSED  # secrets differ while they are changed
