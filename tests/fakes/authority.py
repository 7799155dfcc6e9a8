"""A user_manager that only says whose a token is, behind a real gRPC server."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import grpc

from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest, AuthenticateResponse
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceServicer, add_UserServiceServicer_to_server


class FakeAuthority(UserServiceServicer):
    """Knows the tokens that the test tells it."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[UUID, bool]] = {}
        """By token, who it is and whether the address is confirmed; may be changed at any time."""
        self.asked = 0
        """How many calls came."""
        self.answer = grpc.StatusCode.OK
        """What all calls are answered with."""
        self.prompt = threading.Event()
        """Calls wait for it before they are answered."""
        self.prompt.set()
        self.target = ""

    def Authenticate(  # noqa: N802 - the contract's name
        self, request: AuthenticateRequest, context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        self.asked += 1
        self.prompt.wait(timeout=30)
        if self.answer is not grpc.StatusCode.OK:
            context.abort(self.answer, "as the test has it")
        if request.token not in self.users:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "nobody's")
        user_id, confirmed = self.users[request.token]
        return AuthenticateResponse(user_id=str(user_id), confirmed=confirmed)

    @contextmanager
    def running(self) -> Iterator["FakeAuthority"]:
        """Serve on a free port inside of the block."""
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        add_UserServiceServicer_to_server(self, server)
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield self
        finally:
            self.prompt.set()
            server.stop(grace=None).wait()
