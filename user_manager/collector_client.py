"""Client of the collector's gRPC interface, with the two calls that user_manager needs."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import grpc
import structlog

from chassis.grpc_secret import REFUSED
from chassis.rpc import create_channel
from towerwatch.interests.v1.interest_service_pb2 import (
    DeleteInterestsRequest,
    ExportPersonRequest,
    ExportPersonResponse,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import InterestServiceStub
from user_manager.collector_record import CollectorRecord, decode_record
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

log = structlog.get_logger()

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
        try:
            self._interests.DeleteInterests(DeleteInterestsRequest(user_id=str(user_id)), timeout=self._deadline_s)
        except grpc.RpcError as error:
            if _log_failure("DeleteInterests", user_id, error):
                raise CollectorRefusedError("The interests cannot be deleted; the operator must look at it.") from None
            raise CollectorUnavailableError(
                "The interests cannot be deleted at the moment; nothing was changed."
            ) from None

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


def _log_failure(method: str, user_id: UUID, error: grpc.RpcError) -> bool:
    """Log that a call failed; return True if a retry of it would fail alike, False if it may succeed."""
    code = error.code()
    log.warning("collector.call_failed", method=method, code=code.name, user_id=str(user_id))
    return code in _PERMANENT and error.details() != REFUSED  # secrets differ while they are changed
