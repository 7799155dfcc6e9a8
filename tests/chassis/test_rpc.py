"""gRPC servers and channels: retries, health, reflection, errors without details, metrics."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from chassis import rpc
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import CHANNEL_OPTIONS, MAX_CONNECTIONS, MAX_IDLE_MS, SERVER_OPTIONS, GrpcServer, create_channel
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest, AuthenticateResponse
from towerwatch.users.v1.user_service_pb2_grpc import (
    UserServiceServicer,
    UserServiceStub,
    add_UserServiceServicer_to_server,
)

SERVICE = "towerwatch.users.v1.UserService"
TIMEOUT_S = 60
"""Seconds for calls that succeed, generous for an overloaded machine."""


class Known(Exception):
    """An error in the server's table of errors."""


class KnownBetter(Known):
    """An error whose base class is in the table."""


class Servicer(UserServiceServicer):
    """A servicer that raises `failure`, unless it is None."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def Authenticate(  # noqa: N802 - the contract's name
        self, request: AuthenticateRequest, _context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        if self.failure is not None:
            raise self.failure
        return AuthenticateResponse(user_id="u")


class RunningServer:
    """A started gRPC server on a free port."""

    def __init__(self) -> None:
        self.servicer = Servicer()
        self.metrics = Metrics(ServiceIdentity("service", "node"))
        port = free_port()
        self.target = f"127.0.0.1:{port}"
        self.server = GrpcServer(
            "127.0.0.1",
            port,
            {SERVICE: partial(add_UserServiceServicer_to_server, self.servicer)},
            {Known: grpc.StatusCode.NOT_FOUND},
            self.metrics,
        )
        self.server.start()

    def sample(self, name: str, labels: Mapping[str, str]) -> float | None:
        """Return the value of a metric's time series, or None if there is none."""
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "service", "node": "node"})


@pytest.fixture
def served() -> Iterator[RunningServer]:
    made = RunningServer()
    yield made
    made.server.stop()


@pytest.fixture
def connection(served: RunningServer) -> Iterator[grpc.Channel]:
    with create_channel(served.target) as made:
        yield made


def test_the_options_are_those_of_the_design() -> None:
    """Keepalive and retries have exactly these values: clients survive a restart of the server (`docs/design.md`)."""
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    assert client["grpc.keepalive_time_ms"] == 10_000
    assert client["grpc.keepalive_timeout_ms"] == 5_000
    assert client["grpc.keepalive_permit_without_calls"] == 1
    assert client["grpc.http2.max_pings_without_data"] == 0
    assert server["grpc.http2.min_recv_ping_interval_without_data_ms"] == 5_000
    config = json.loads(client["grpc.service_config"])
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    (every_method,) = config["methodConfig"]
    assert every_method["name"] == [{}]
    assert every_method["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize("name", ["", SERVICE])
def test_the_server_and_its_service_are_reported_as_healthy(connection: grpc.Channel, name: str) -> None:
    """Kubernetes checks this by the standard health protocol."""
    stub = health_pb2_grpc.HealthStub(connection)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(connection: grpc.Channel) -> None:
    """With reflection grpcurl needs no proto files."""
    services = ProtoReflectionDescriptorDatabase(connection).get_services()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)


@pytest.mark.parametrize("error", [Known, KnownBetter])
def test_a_known_error_is_a_status_with_its_text(
    served: RunningServer, connection: grpc.Channel, error: type[Exception]
) -> None:
    """The status comes from the service's table, also for subclasses; the metrics count it."""
    served.servicer.failure = error("what to do")
    with pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(connection).Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "what to do"
    labels = {"method": f"/{SERVICE}/Authenticate"}
    assert served.sample("grpc_server_handled_total", {**labels, "code": "NOT_FOUND"}) == 1
    assert served.sample("grpc_server_handling_seconds_count", labels) == 1


def test_an_unexpected_error_is_internal_without_its_text(served: RunningServer, connection: grpc.Channel) -> None:
    """The error's text could contain a secret."""
    served.servicer.failure = RuntimeError("the password is hunter2")
    with pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(connection).Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in (caught.value.details() or "")


class Flaky(Servicer):
    """A servicer that answers the first calls with UNAVAILABLE."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.calls = 0
        self._failures = failures

    def Authenticate(  # noqa: N802 - the contract's name
        self, request: AuthenticateRequest, context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        self.calls += 1
        if self.calls <= self._failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return AuthenticateResponse(user_id="u")


@pytest.mark.parametrize(("failures", "calls"), [(0, 1), (1, 2), (3, 4), (4, 4)])
def test_a_call_that_is_unavailable_is_retried(failures: int, calls: int) -> None:
    """The channel itself retries up to three times; then the caller gets the error."""
    flaky = Flaky(failures)
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_UserServiceServicer_to_server(flaky, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with create_channel(f"127.0.0.1:{port}") as connection:
        stub = UserServiceStub(connection)
        if failures < 4:
            assert stub.Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S).user_id == "u"
        else:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    server.stop(grace=None).wait()
    assert flaky.calls == calls


def test_a_channel_reconnects_to_a_restarted_server(served: RunningServer) -> None:
    """The same channel works after its server's restart."""
    with create_channel(served.target) as connection:
        stub = UserServiceStub(connection)
        assert stub.Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S).user_id == "u"
        served.server.stop()
        with pytest.raises(grpc.RpcError):
            stub.Authenticate(AuthenticateRequest(), timeout=5)
        host, _, port = served.target.partition(":")
        again = GrpcServer(
            host,
            int(port),
            {SERVICE: partial(add_UserServiceServicer_to_server, Servicer())},
            {},
            Metrics(ServiceIdentity("service", "node")),
        )
        again.start()
        assert stub.Authenticate(AuthenticateRequest(), timeout=TIMEOUT_S, wait_for_ready=True).user_id == "u"
        again.stop()


def count_open(connections: list[socket.socket]) -> int:
    """Return how many of the connections the server has not closed."""
    still = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(65536):
                pass
        except BlockingIOError:
            still += 1
        except OSError:
            pass
    return still


def test_idle_connections_keep_no_file_and_nobody_out(served: RunningServer) -> None:
    """Whoever opens many connections and says nothing has a bounded number, for seconds; others stay served."""
    address = ("127.0.0.1", int(served.target.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(create_channel(served.target))
        stub = UserServiceStub(channel)
        stub.Authenticate(AuthenticateRequest(token="t"), timeout=TIMEOUT_S)
        idle = [stack.enter_context(socket.create_connection(address)) for _ in range(MAX_CONNECTIONS + 50)]
        eventually(lambda: count_open(idle) < MAX_CONNECTIONS)
        stub.Authenticate(AuthenticateRequest(token="t"), timeout=TIMEOUT_S)
        later = stack.enter_context(create_channel(served.target))
        call = UserServiceStub(later).Authenticate
        call(AuthenticateRequest(token="t"), timeout=TIMEOUT_S, wait_for_ready=True)


def test_idle_http2_connections_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections that a server has are those of somebody who makes no call on them: they make room.

    Before, they stayed for five minutes, and every new client got UNAVAILABLE.
    """
    assert dict(SERVER_OPTIONS)["grpc.max_connection_idle_ms"] == MAX_IDLE_MS
    soon = [(name, 500 if name == "grpc.max_connection_idle_ms" else value) for name, value in SERVER_OPTIONS]
    monkeypatch.setattr(rpc, "SERVER_OPTIONS", soon)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    settings_acknowledged = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
    served = RunningServer()
    address = ("127.0.0.1", int(served.target.rpartition(":")[2]))
    with contextlib.ExitStack() as stack:
        stack.callback(served.server.stop)
        for _ in range(MAX_CONNECTIONS):
            idle = stack.enter_context(socket.create_connection(address))
            idle.sendall(preface + settings_acknowledged)
        channel = stack.enter_context(create_channel(served.target))
        request = AuthenticateRequest(token="t")
        assert UserServiceStub(channel).Authenticate(request, timeout=TIMEOUT_S, wait_for_ready=True).user_id == "u"
