"""A user_manager that a test of the client controls, and the people it knows."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID, uuid4

import grpc

from notifier.contacts import Contacts
from tests.fakes.user_service import FakeUserService
from towerwatch.users.v1.user_service_pb2 import (
    Contact as ContactMessage,
    GetContactsRequest,
    GetContactsResponse,
    ReportBounceRequest,
    ReportBounceResponse,
)

USER: Final = uuid4()
TIMEOUT_S: Final = 10.0


class UserService(FakeUserService):
    """Counts requests, holds them on the test's word, and keeps whole reports of bounces."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[str]] = []
        """The user ids of each request, in order of their coming."""
        self.bounces: list[ReportBounceRequest] = []
        self.open = threading.Event()
        """Requests are answered while it is set; each has looked up its answer before it waits."""
        self.open.set()
        self.refused: set[str] = set()
        """A request that asks for one of them is answered with INTERNAL."""

    def GetContacts(  # noqa: N802 - gRPC's name
        self, request: GetContactsRequest, context: grpc.ServicerContext
    ) -> GetContactsResponse:
        self.requests.append(list(request.user_ids))
        if not self.refused.isdisjoint(request.user_ids):
            context.abort(grpc.StatusCode.INTERNAL, "refused")
        answer = super().GetContacts(request, context)
        assert self.open.wait(TIMEOUT_S)
        return answer

    def ReportBounce(  # noqa: N802 - gRPC's name
        self, request: ReportBounceRequest, context: grpc.ServicerContext
    ) -> ReportBounceResponse:
        answer = super().ReportBounce(request, context)
        self.bounces.append(request)
        return answer


def build_contact(**changes: object) -> ContactMessage:
    fields: dict[str, object] = {
        "user_id": str(USER),
        "email": "ada@example.net",
        "name": "Ada",
        "time_zone": "UTC",
        "confirmed": True,
    }
    return ContactMessage(**(fields | changes))  # type: ignore[arg-type]


def add_users(users: FakeUserService, number: int) -> list[UUID]:
    """So many users who exist."""
    ids = [uuid4() for _ in range(number)]
    for user_id in ids:
        users.add(build_contact(user_id=str(user_id)))
    return ids


def run_with_contacts(target: str, story: Callable[[Contacts], Awaitable[None]], cache_s: float = 60) -> None:
    async def telling() -> None:
        contacts = Contacts(target, cache_s)
        try:
            await asyncio.wait_for(story(contacts), 4 * TIMEOUT_S)
        finally:
            await contacts.close()

    asyncio.run(telling())


async def wait_until(true: Callable[[], bool], what: str) -> None:
    """Let the event loop run until something is so."""
    async with asyncio.timeout(TIMEOUT_S):
        while not true():
            await asyncio.sleep(0.001)
    assert true(), what
