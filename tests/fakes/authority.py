"""A fake user_manager that only authenticates tokens, behind a real gRPC server."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import grpc

from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest, AuthenticateResponse
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceServicer, add_UserServiceServicer_to_server


class FakeAuthority(UserServiceServicer):
    """A fake UserService that answers Authenticate calls from a table of tokens, which the test fills."""

    def __init__(self) -> None:
        self.users: dict[str, tuple[UUID, bool]] = {}
        """User id and "address is confirmed" of each valid token. The test may change it at any time."""
        self.sessions: dict[str, tuple[UUID, bool]] = {}
        """Likewise, of each valid secret of a session."""
        self.asked = 0
        """Number of calls received so far."""
        self.answer = grpc.StatusCode.OK
        """Status of all responses."""
        self.prompt = threading.Event()
        """Each call waits for this event before its response; set by default."""
        self.prompt.set()
        self.target = ""
        """`host:port` of the server; empty before `running`."""

    def Authenticate(  # noqa: N802 - the contract's name
        self, request: AuthenticateRequest, context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        """Return the user of the request's token or session; abort with `answer` unless it is OK.

        Aborts with UNAUTHENTICATED if nobody has it.
        """
        self.asked += 1
        self.prompt.wait(timeout=30)
        if self.answer is not grpc.StatusCode.OK:
            context.abort(self.answer, "as the test has it")
        name, known = (request.token, self.users) if request.token else (request.session, self.sessions)
        if name not in known:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "nobody's")
        user_id, confirmed = known[name]
        return AuthenticateResponse(user_id=str(user_id), confirmed=confirmed)

    @contextmanager
    def running(self) -> Iterator["FakeAuthority"]:
        """Run the server on a free port during the block."""
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        add_UserServiceServicer_to_server(self, server)
        self.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield self
        finally:
            self.prompt.set()
            server.stop(grace=None).wait()
