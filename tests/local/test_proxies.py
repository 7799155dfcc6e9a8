"""Our own traffic on one machine never takes a proxy, whatever the machine's variables are."""

import asyncio
from collections.abc import Iterator
from dataclasses import fields

import pytest
from flask import Flask
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_aio_channel, create_channel
from chassis.web.wsgi import HttpServer
from local.ports import Ports
from local.stack import is_ready
from tests.fakes.proxy import RecordingProxy, recording_proxy
from tests.ports import free_port, free_ports
from tests.proxies import set_proxies

TIMEOUT_S = 30
"""Seconds for each request, generous for an overloaded machine."""

VARIABLES = pytest.mark.parametrize(
    "variables",
    [
        {"http_proxy": "{}"},
        {"https_proxy": "{}"},
        {"HTTP_PROXY": "{}", "HTTPS_PROXY": "{}"},
        {"all_proxy": "{}"},
        {"ALL_PROXY": "{}"},
        {"grpc_proxy": "{}"},
        {"grpc_proxy": "{}", "http_proxy": "{}", "https_proxy": "{}", "all_proxy": "{}"},
        {"http_proxy": "{}", "no_proxy": "example.org"},
        {"http_proxy": "socks5h://127.0.0.1:1"},
        {"ALL_PROXY": "socks5://127.0.0.1:1"},
        {"https_proxy": "proxy:3128", "http_proxy": "proxy:3128"},
        {"http_proxy": "http://", "grpc_proxy": "http://"},
        {"http_proxy": "http://127.0.0.1:notaport", "https_proxy": "http://127.0.0.1:99999"},
        {"http_proxy": "http://user:p@ss@127.0.0.1:1", "https_proxy": "http://user:p@ss@127.0.0.1:1"},
        {"http_proxy": "{}", "no_proxy": "[::1],fd00::/8,*.example.org"},
    ],
)


@pytest.fixture
def proxy() -> Iterator[RecordingProxy]:
    with recording_proxy() as running:
        yield running


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], proxy: RecordingProxy) -> None:
    """Set these variables, with the proxy's address in place of {}."""
    set_proxies(monkeypatch, {name: value.format(proxy.url) for name, value in variables.items()})


@VARIABLES
def test_calls_between_services_are_direct(
    monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy, variables: dict[str, str]
) -> None:
    """gRPC asks the other service itself, with the channel for threads and with that for asyncio."""
    set_variables(monkeypatch, variables, proxy)
    port = free_port()
    server = GrpcServer("127.0.0.1", port, {}, {}, Metrics(ServiceIdentity("service", "node")))
    server.start()
    request = health_pb2.HealthCheckRequest()

    async def ask() -> object:
        async with create_aio_channel(f"localhost:{port}") as channel:
            return await health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S)

    with create_channel(f"localhost:{port}") as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_S) == asyncio.run(ask())
    server.stop()
    assert proxy.requests == []


@VARIABLES
def test_health_checks_of_the_stack_are_direct(
    monkeypatch: pytest.MonkeyPatch, proxy: RecordingProxy, variables: dict[str, str], tmp_path
) -> None:
    """A healthy service is ready for the demo and for `make up`."""
    set_variables(monkeypatch, variables, proxy)
    ports = Ports.from_base(free_ports(len(fields(Ports))))
    app = Flask("example")
    app.add_url_rule("/health/ready", view_func=lambda: "ready")
    server = HttpServer(app, "127.0.0.1", ports.user_manager_http)
    server.start()
    assert is_ready("user_manager", ports, tmp_path)
    server.stop()
    assert proxy.requests == []
