"""gRPC as every service speaks it: retries, health, reflection, errors without details, metrics."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, GrpcServer, create_channel
from tests.ports import free_port
from towerwatch.users.v1.user_service_pb2 import AuthenticateRequest, AuthenticateResponse
from towerwatch.users.v1.user_service_pb2_grpc import (
    UserServiceServicer,
    UserServiceStub,
    add_UserServiceServicer_to_server,
)

SERVICE = "towerwatch.users.v1.UserService"


class Known(Exception):
    """In the table of errors."""


class KnownBetter(Known):
    """In the table too, by its base."""


class Servicer(UserServiceServicer):
    """Raises what the test says."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def Authenticate(  # noqa: N802 - the contract's name
        self, request: AuthenticateRequest, _context: grpc.ServicerContext
    ) -> AuthenticateResponse:
        if self.failure is not None:
            raise self.failure
        return AuthenticateResponse(user_id="u")


class Served:
    """A server on a free port."""

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
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "service", "node": "node"})


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.stop()


@pytest.fixture
def connection(served: Served) -> Iterator[grpc.Channel]:
    with create_channel(served.target) as made:
        yield made


def test_the_settings_are_the_designs() -> None:
    """DESIGN.md section 7, to the number."""
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
def test_health_is_told_of_the_server_and_of_its_service(connection: grpc.Channel, name: str) -> None:
    """By the standard protocol, as Kubernetes asks it."""
    answer = health_pb2_grpc.HealthStub(connection).Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(connection: grpc.Channel) -> None:
    """So that grpcurl needs no file."""
    services = ProtoReflectionDescriptorDatabase(connection).get_services()
    assert {SERVICE, "grpc.health.v1.Health"} <= set(services)


@pytest.mark.parametrize("error", [Known, KnownBetter])
def test_a_known_error_is_a_status_with_its_text(
    served: Served, connection: grpc.Channel, error: type[Exception]
) -> None:
    """By the service's table, also for what is derived from an error in it; and it is counted so."""
    served.servicer.failure = error("what to do")
    with pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(connection).Authenticate(AuthenticateRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "what to do"
    labels = {"method": f"/{SERVICE}/Authenticate"}
    assert served.sample("grpc_server_handled_total", {**labels, "code": "NOT_FOUND"}) == 1
    assert served.sample("grpc_server_handling_seconds_count", labels) == 1


def test_a_bug_tells_nothing_of_itself(served: Served, connection: grpc.Channel) -> None:
    """INTERNAL, without its text."""
    served.servicer.failure = RuntimeError("the password is hunter2")
    with pytest.raises(grpc.RpcError) as caught:
        UserServiceStub(connection).Authenticate(AuthenticateRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in (caught.value.details() or "")


class Flaky(Servicer):
    """UNAVAILABLE for the first calls."""

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
def test_what_is_unavailable_is_asked_again(failures: int, calls: int) -> None:
    """Three times more, by the channel itself; then the caller learns it."""
    flaky = Flaky(failures)
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    add_UserServiceServicer_to_server(flaky, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with create_channel(f"127.0.0.1:{port}") as connection:
        stub = UserServiceStub(connection)
        if failures < 4:
            assert stub.Authenticate(AuthenticateRequest(), timeout=30).user_id == "u"
        else:
            with pytest.raises(grpc.RpcError) as caught:
                stub.Authenticate(AuthenticateRequest(), timeout=30)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    server.stop(grace=None).wait()
    assert flaky.calls == calls


def test_a_server_that_comes_back_is_found_again(served: Served) -> None:
    """The channel survives its server's restart, without being made anew."""
    with create_channel(served.target) as connection:
        stub = UserServiceStub(connection)
        assert stub.Authenticate(AuthenticateRequest(), timeout=5).user_id == "u"
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
        assert stub.Authenticate(AuthenticateRequest(), timeout=30, wait_for_ready=True).user_id == "u"
        again.stop()
