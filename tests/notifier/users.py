"""A user_manager for tests of its client that holds or refuses requests, and its users."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID, uuid4

import grpc

from notifier.contacts import ContactsClient
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
"""Seconds."""


class UserService(FakeUserService):
    """A fake user_manager that records requests and bounce reports, and holds responses until the test releases
    them."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[list[str]] = []
        """The user ids of each request, in order of arrival."""
        self.bounces: list[ReportBounceRequest] = []
        self.open = threading.Event()
        """While set, requests are answered; each request looks up its response before it waits."""
        self.open.set()
        self.refused: set[str] = set()
        """A request that contains one of these users fails with INTERNAL."""

    def GetContacts(  # noqa: N802 - gRPC's name
        self, request: GetContactsRequest, context: grpc.ServicerContext
    ) -> GetContactsResponse:
        """Record the request and look up its response; return the response once `open` is set."""
        self.requests.append(list(request.user_ids))
        if not self.refused.isdisjoint(request.user_ids):
            context.abort(grpc.StatusCode.INTERNAL, "refused")
        answer = super().GetContacts(request, context)
        assert self.open.wait(TIMEOUT_S)
        return answer

    def ReportBounce(  # noqa: N802 - gRPC's name
        self, request: ReportBounceRequest, context: grpc.ServicerContext
    ) -> ReportBounceResponse:
        """Record the bounce report."""
        answer = super().ReportBounce(request, context)
        self.bounces.append(request)
        return answer


def build_contact(**changes: object) -> ContactMessage:
    """Return a confirmed contact of USER with these changes."""
    fields: dict[str, object] = {
        "user_id": str(USER),
        "email": "ada@example.net",
        "name": "Ada",
        "time_zone": "UTC",
        "confirmed": True,
    }
    return ContactMessage(**(fields | changes))  # type: ignore[arg-type]


def add_users(users: FakeUserService, number: int) -> list[UUID]:
    """Add this number of users and return their ids."""
    ids = [uuid4() for _ in range(number)]
    for user_id in ids:
        users.add(build_contact(user_id=str(user_id)))
    return ids


def run_with_contacts(target: str, check: Callable[[ContactsClient], Awaitable[None]], cache_s: float = 60) -> None:
    """Run a coroutine with a client of this target, and close the client."""

    async def run_and_close() -> None:
        contacts = ContactsClient(target, cache_s)
        try:
            await asyncio.wait_for(check(contacts), 4 * TIMEOUT_S)
        finally:
            await contacts.close()

    asyncio.run(run_and_close())


async def wait_until(condition: Callable[[], bool], description: str) -> None:
    """Let the event loop run until a condition is true; fail after TIMEOUT_S."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.001)
    assert condition(), description
