"""The shared secret of gRPC calls, between real servers and clients."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr, TypeAdapter, ValidationError
from structlog.testing import capture_logs

from chassis.errors import CannotListenError
from chassis.grpc_health import MAX_WAITING
from chassis.grpc_secret import HEALTH_CHECK, METADATA_KEY, REFUSED, GrpcSecret, split_secrets
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_aio_channel, create_channel
from tests.ports import free_port
from tests.waiting import eventually

OLD, NEW, FOREIGN = "the-old-secret-of-ours", "the-new-secret-of-ours", "the-secret-of-somebody"
TIMEOUT_S = 60


@contextmanager
def serving(secrets: Sequence[str]) -> Iterator[str]:
    """Serve a method that echoes its request; yield the target."""

    def add(server: grpc.Server) -> None:
        handler = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": handler}),))

    port = free_port()
    metrics = Metrics(ServiceIdentity("echo", "test"))
    server = GrpcServer("127.0.0.1", port, {"test.Echo": add}, {}, metrics, secrets)
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop()


def call(channel: Any, metadata: Sequence[tuple[str, str]] = ()) -> grpc.StatusCode:
    """Call the method, and return the call's status."""
    try:
        answer = channel.unary_unary("/test.Echo/Say")(b"hello", timeout=TIMEOUT_S, metadata=metadata)
    except grpc.RpcError as error:
        return error.code()  # type: ignore[no-any-return]
    assert answer == b"hello"
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("accepted", "shown", "status"),
    [
        ((NEW,), (NEW,), grpc.StatusCode.OK),
        ((OLD, NEW), (OLD,), grpc.StatusCode.OK),
        ((OLD, NEW), (NEW, OLD), grpc.StatusCode.OK),
        ((NEW,), (OLD, NEW), grpc.StatusCode.UNAUTHENTICATED),
        ((NEW,), (FOREIGN,), grpc.StatusCode.UNAUTHENTICATED),
        ((NEW,), (NEW[:-1],), grpc.StatusCode.UNAUTHENTICATED),
        ((NEW,), (), grpc.StatusCode.UNAUTHENTICATED),
        ((), (NEW,), grpc.StatusCode.OK),
        ((), (), grpc.StatusCode.OK),
    ],
)
def test_only_who_shows_an_accepted_secret_may_call(
    accepted: Sequence[str], shown: Sequence[str], status: grpc.StatusCode
) -> None:
    """The first secret of a client is shown, each of a server is accepted; so both sides can change it one by one.

    Before, another user of the machine could read every address from user_manager's port.
    """

    async def call_from_asyncio() -> grpc.StatusCode:
        async with create_aio_channel(target, shown) as channel:
            try:
                await channel.unary_unary("/test.Echo/Say")(b"hello", timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    with serving(accepted) as target:
        with create_channel(target, shown) as channel:
            found = call(channel)
        aio_found = asyncio.run(call_from_asyncio())
    assert (found, aio_found) == (status, status)


def test_two_secrets_in_one_call_are_none() -> None:
    """Nobody can try many secrets with one call."""
    with serving((NEW,)) as target, create_channel(target) as channel:
        assert call(channel, [(METADATA_KEY, FOREIGN), (METADATA_KEY, NEW)]) is grpc.StatusCode.UNAUTHENTICATED
        assert call(channel, [(METADATA_KEY, NEW)]) is grpc.StatusCode.OK


def test_a_health_check_needs_no_secret_but_reflection_does() -> None:
    """Probes have no secret; what the service offers is told to nobody else, and nobody else may watch without end."""
    with serving((NEW,)) as target, create_channel(target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="test.Echo")
        assert health.Check(request, timeout=TIMEOUT_S).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            list(health.Watch(request, timeout=TIMEOUT_S))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as refused:
            list(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([listing])))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["/test.Echo/Say", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"])
def test_calls_without_secret_and_message_hold_no_thread(method: str) -> None:
    """Whoever has no secret begins more calls than the server has threads, and sends no message: services and probes
    are answered nevertheless, and what is refused is refused at once.

    Before, each such call held a thread until its client ended it; sixteen of them stopped the server.
    """
    stop = threading.Event()
    with serving((NEW,)) as target, create_channel(target) as strangers, create_channel(target, (NEW,)) as service:
        half = [strangers.stream_unary(method).future(iter(stop.wait, True), wait_for_ready=True) for _ in range(40)]
        health = health_pb2_grpc.HealthStub(service)
        try:
            for _ in range(3):
                assert call(service) is grpc.StatusCode.OK
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            if method != HEALTH_CHECK:
                assert {each.exception(TIMEOUT_S).code() for each in half} == {grpc.StatusCode.UNAUTHENTICATED}
            else:
                eventually(lambda: sum(not each.done() for each in half) <= MAX_WAITING)
        finally:
            stop.set()
            for each in half:
                each.cancel()


def test_refused_calls_are_logged_in_one_sentence_a_minute_without_any_secret() -> None:
    """The operator reads what to do; a stranger can neither fill the log nor write into it."""
    with capture_logs() as logs, serving((NEW,)) as target, create_channel(target, (FOREIGN,)) as channel:
        for _ in range(5):
            assert call(channel) is grpc.StatusCode.UNAUTHENTICATED
    refused = [each for each in logs if each["event"] == "grpc.refused"]
    assert [(each["method"], each["reason"]) for each in refused] == [("/test.Echo/Say", REFUSED)]
    assert not any(secret in str(logs) for secret in (NEW, FOREIGN))


@pytest.mark.parametrize("text", ["short", f"{OLD},short", f"{OLD},{NEW},{FOREIGN}", "ä" * 20, "a\tb" * 10])
def test_an_unusable_secret_is_refused_at_the_start(text: str) -> None:
    """The report does not have the secret itself."""
    adapter = TypeAdapter(GrpcSecret)
    with pytest.raises(ValidationError) as fault:
        adapter.validate_python(text)
    assert text not in str(fault.value.errors(include_input=False))
    assert split_secrets(adapter.validate_python(f" {OLD}, {NEW} ")) == (OLD, NEW)
    assert split_secrets(None) == split_secrets(SecretStr("")) == ()


@pytest.mark.parametrize(
    ("host", "secrets", "is_refused"),
    [
        ("0.0.0.0", [], True),
        ("::", [], True),
        ("0.0.0.0", ["a secret of the tests"], False),
        ("127.0.0.1", [], False),
        ("127.0.0.2", [], False),
        ("localhost", [], False),
        ("::1", [], False),
    ],
)
def test_without_a_secret_only_this_machine_is_served(host: str, secrets: list[str], is_refused: bool) -> None:
    """A server that other machines may reach refuses to listen without a secret, whatever the address is called."""
    if host in ("::", "::1") and not _has_ipv6():
        host = "0.0.0.0" if host == "::" else "127.0.0.1"
    with pytest.raises(CannotListenError, match="GRPC_SECRET") if is_refused else nullcontext():
        GrpcServer(host, free_port(), {}, {}, Metrics(ServiceIdentity("service", "node")), secrets).stop()


def _has_ipv6() -> bool:
    """Return True if this machine has IPv6's own address."""
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True
