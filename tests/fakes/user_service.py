"""A fake UserService with the contacts that the test adds, on a free port of 127.0.0.1."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from towerwatch.users.v1 import user_service_pb2_grpc
from towerwatch.users.v1.user_service_pb2 import (
    AuthenticateRequest,
    AuthenticateResponse,
    Contact,
    GetContactsRequest,
    GetContactsResponse,
    ReportBounceRequest,
    ReportBounceResponse,
    ReportConfirmationRequest,
    ReportConfirmationResponse,
    VerifyUserRequest,
    VerifyUserResponse,
)


class FakeUserService(user_service_pb2_grpc.UserServiceServicer):
    """A fake UserService with the methods that the notifier calls: GetContacts and those that report."""

    def __init__(self) -> None:
        self.contacts: dict[str, Contact] = {}
        """The known contacts by user id. The test may change it at any time."""
        self.asked: list[str] = []
        """All requested user ids, in order."""
        self.asked_interests: dict[str, list[str]] = {}
        """The interests to which links were requested last, by user id; contacts have links to them on example.org."""
        self.knows_interests = True
        """False: as a user_manager of the version before, without such links."""
        self.bounced: list[str] = []
        """User ids of all reported bounces, in order. A bounce does not change the contact."""
        self.confirmations: list[tuple[str, str, int]] = []
        """User id, confirmation id and state of all reports of confirmation mails, in order."""
        self.away = threading.Event()
        """While set, every call fails with UNAVAILABLE."""
        self.port = 0

    def add(self, contact: Contact) -> None:
        self.contacts[contact.user_id] = contact

    def GetContacts(  # noqa: N802 - gRPC's name
        self, request: GetContactsRequest, context: grpc.ServicerContext
    ) -> GetContactsResponse:
        """Return the known contacts among the requested users, and record the requested ids."""
        self.asked += request.user_ids
        if self.away.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        interests = {each.user_id: list(each.interest_ids) for each in request.interests}
        self.asked_interests |= interests
        answer = GetContactsResponse(
            contacts=[self.contacts[each] for each in request.user_ids if each in self.contacts]
        )
        for contact in answer.contacts if self.knows_interests else ():
            for interest_id in interests.get(contact.user_id, ()):
                contact.interest_links.add(
                    interest_id=interest_id,
                    change_url=f"https://example.org/watch?interest={interest_id}",
                    stop_url=f"https://example.org/stop/{interest_id}",
                )
        return answer

    def ReportBounce(  # noqa: N802 - gRPC's name
        self, request: ReportBounceRequest, context: grpc.ServicerContext
    ) -> ReportBounceResponse:
        """Record the reported user id."""
        if self.away.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.bounced.append(request.user_id)
        return ReportBounceResponse()

    def ReportConfirmation(  # noqa: N802 - gRPC's name
        self, request: ReportConfirmationRequest, context: grpc.ServicerContext
    ) -> ReportConfirmationResponse:
        """Record the report."""
        if self.away.is_set():
            context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        self.confirmations.append((request.user_id, request.confirmation_id, request.state))
        return ReportConfirmationResponse()

    def Authenticate(  # noqa: N802 - gRPC's name
        self, request: AuthenticateRequest, context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this fake")

    def VerifyUser(  # noqa: N802 - gRPC's name
        self, request: VerifyUserRequest, context: grpc.ServicerContext
    ) -> VerifyUserResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this fake")

    @property
    def target(self) -> str:
        """Return `host:port` of the server."""
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator["FakeUserService"]:
        """Run the server on a free port during the block."""
        server = grpc.server(ThreadPoolExecutor(max_workers=4))
        user_service_pb2_grpc.add_UserServiceServicer_to_server(self, server)
        self.port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield self
        finally:
            server.stop(None).wait()
