"""gRPC on a Unix domain socket: other users of the machine can neither reach it nor take its connections."""

import asyncio
import contextlib
import socket
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from chassis import rpc
from chassis.errors import CannotListenError
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import SERVER_OPTIONS, GrpcServer, create_aio_channel, create_channel
from tests.chassis.test_rpc import SERVICE, TIMEOUT_S, Servicer
from tests.ports import free_port
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest
from towerwatch.users.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server

REQUEST = AuthenticateRequest(token="t")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_ACKNOWLEDGED = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"

Start = Callable[[Path], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server on a free port and on a socket; returns the port. All are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def start_server(path: Path) -> int:
            """Start a server on a free port and on this socket."""
            port = free_port()
            server = GrpcServer(
                "127.0.0.1",
                port,
                {SERVICE: partial(add_UserServiceServicer_to_server, Servicer())},
                {},
                Metrics(ServiceIdentity("service", "node")),
                socket_path=str(path),
            )
            server.start()
            stack.callback(server.stop)
            return port

        yield start_server


def call(target: str) -> str:
    """Make a call by a new channel, and return the user's id."""
    with create_channel(target) as channel:
        return str(UserServiceStub(channel).Authenticate(REQUEST, timeout=TIMEOUT_S, wait_for_ready=True).user_id)


def test_whoever_takes_all_connections_of_the_port_takes_none_of_the_socket(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local stranger holds each connection that the port admits; a service that was idle, or is new, is answered.

    Before, services called the port: once idle for 30 s, they had lost their place.
    """
    bounded = [(name, 3 if name == "grpc.max_allowed_incoming_connections" else at) for name, at in SERVER_OPTIONS]
    monkeypatch.setattr(rpc, "SERVER_OPTIONS", bounded)
    path = tmp_path / "grpc" / "s.sock"
    port = start(path)
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            stranger.sendall(PREFACE)
            stranger.settimeout(TIMEOUT_S)
            assert stranger.recv(1) != b"", "the server has admitted it"
            stranger.sendall(SETTINGS_ACKNOWLEDGED)
        refused = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        refused.settimeout(TIMEOUT_S)
        with contextlib.suppress(ConnectionError):
            assert refused.recv(1) == b"", "the port admits no other"
        assert call(f"unix:{path}") == "u"


@pytest.mark.parametrize("name", ["s.sock", "with space.sock", "with%25.sock", "ä.sock"])
def test_any_path_is_served_also_where_a_socket_is_left_over(start: Start, tmp_path: Path, name: str) -> None:
    """A process that was killed leaves its socket, in whose place the next one listens; the port goes on, too."""
    path = tmp_path / "new" / "grpc" / name
    path.parent.mkdir(mode=0o700, parents=True)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    port = start(path)
    assert call(f"unix:{path}") == "u"
    assert call(f"127.0.0.1:{port}") == "u"


def test_a_channel_for_asyncio_finds_it_too(start: Start, tmp_path: Path) -> None:
    """The notifier uses one."""
    path = tmp_path / "grpc" / "s.sock"
    start(path)

    async def call_by_asyncio() -> str:
        """Make a call, and return the user's id."""
        async with create_aio_channel(f"unix:{path}") as channel:
            answer = await UserServiceStub(channel).Authenticate(REQUEST, timeout=TIMEOUT_S, wait_for_ready=True)
        return str(answer.user_id)

    assert asyncio.run(call_by_asyncio()) == "u"


def test_only_the_processs_user_may_enter_the_folder(start: Start, tmp_path: Path) -> None:
    """A missing folder is made so; one that others may enter ends the process with a sentence that says what to do."""
    start(tmp_path / "grpc" / "s.sock")
    assert stat.S_IMODE((tmp_path / "grpc").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o711)
    with pytest.raises(CannotListenError, match="chmod 700"):
        start(tmp_path / "open" / "s.sock")
    (tmp_path / "file").touch()
    with pytest.raises(CannotListenError, match="cannot listen in"):
        start(tmp_path / "file" / "s.sock")
