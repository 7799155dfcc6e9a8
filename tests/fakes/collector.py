"""Fake collectors that read, delete and export interests: one in this process, one behind a real gRPC server."""

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import grpc

from domain.interests import Interest
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.interests.v1.interest_service_pb2 import (
    DeleteInterestRequest,
    DeleteInterestResponse,
    DeleteInterestsRequest,
    DeleteInterestsResponse,
    ExportPersonRequest,
    ExportPersonResponse,
    GetInterestRequest,
    GetInterestResponse,
)
from towerwatch.interests.v1.interest_service_pb2_grpc import (
    InterestServiceServicer,
    add_InterestServiceServicer_to_server,
)
from user_manager.collector_record import CollectorRecord


class FakeCollectorClient:
    """A fake of user_manager's client of the collector, on a dict of interests; raises `failure` if that is set."""

    def __init__(self) -> None:
        self.deleted: list[UUID] = []
        self.interests: dict[UUID, Interest] = {}
        """The interests that exist, by id."""
        self.records: dict[UUID, CollectorRecord] = {}
        """The record that `export_person` returns, by user."""
        self.failure: Exception | None = None

    def delete_interests(self, user_id: UUID) -> None:
        """Record the call, or raise `failure`."""
        if self.failure is not None:
            raise self.failure
        self.deleted.append(user_id)

    def load_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Return the user's interest, None if there is none, or raise `failure`."""
        if self.failure is not None:
            raise self.failure
        interest = self.interests.get(interest_id)
        return interest if interest is not None and interest.user_id == user_id else None

    def delete_interest(self, user_id: UUID, interest_id: UUID) -> Interest | None:
        """Delete and return the user's interest, None if there is none, or raise `failure`."""
        interest = self.load_interest(user_id, interest_id)
        if interest is not None:
            del self.interests[interest_id]
        return interest

    def export_person(self, user_id: UUID) -> CollectorRecord:
        """Return the user's entry of `records`, an empty record if there is none, or raise `failure`."""
        if self.failure is not None:
            raise self.failure
        return self.records.get(user_id, CollectorRecord())


class FakeCollector(InterestServiceServicer):
    """A fake InterestService on a free port, which serves from `start` to `stop`."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        """User ids of all successful calls, in order."""
        self.interest: InterestSet | None = None
        """The interest in all answers about one; None: they have none."""
        self.pages: list[ExportPersonResponse] = [ExportPersonResponse()]
        """The pages of each export; each but the last names the number of the next one."""
        self.exported: list[ExportPersonRequest] = []
        """The requests of all successful exports, in order."""
        self.answer = grpc.StatusCode.OK
        """Status of all responses; it applies to every retry, as the client retries after UNAVAILABLE."""
        self.prompt = threading.Event()
        """Each call waits for this event before its response; set by default."""
        self.prompt.set()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        add_InterestServiceServicer_to_server(self, self._server)
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def DeleteInterests(  # noqa: N802 — the contract's name
        self, request: DeleteInterestsRequest, context: grpc.ServicerContext
    ) -> DeleteInterestsResponse:
        """Record the call and return OK, or abort with `answer`."""
        self._wait_or_abort(context)
        self.deleted.append(request.user_id)
        return DeleteInterestsResponse(deleted=1)

    def GetInterest(  # noqa: N802 — the contract's name
        self, request: GetInterestRequest, context: grpc.ServicerContext
    ) -> GetInterestResponse:
        """Return `interest`, or abort with `answer`."""
        self._wait_or_abort(context)
        return GetInterestResponse(interest=self.interest)

    def DeleteInterest(  # noqa: N802 — the contract's name
        self, request: DeleteInterestRequest, context: grpc.ServicerContext
    ) -> DeleteInterestResponse:
        """Record the call and return `interest`, or abort with `answer`."""
        self._wait_or_abort(context)
        self.deleted.append(f"{request.user_id}/{request.interest_id}")
        return DeleteInterestResponse(interest=self.interest)

    def _wait_or_abort(self, context: grpc.ServicerContext) -> None:
        """Wait until `prompt` is set, and abort the call with `answer` if that is an error."""
        self.prompt.wait(timeout=30)
        if self.answer is not grpc.StatusCode.OK:
            context.abort(self.answer, "as the test has it")

    def ExportPerson(  # noqa: N802 — the contract's name
        self, request: ExportPersonRequest, context: grpc.ServicerContext
    ) -> ExportPersonResponse:
        """Record the call and return the page that it asks for, or abort with `answer`."""
        self._wait_or_abort(context)
        self.exported.append(request)
        return self.pages[int(request.page_token or 0)]

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self.prompt.set()
        self._server.stop(grace=None).wait()
