"""LISTEN_HOST: the same spellings, and the same meaning, for HTTP, gRPC and a worker's pages."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from flask import Flask
from grpc_health.v1 import health_pb2, health_pb2_grpc

from chassis.addresses import normalize_listen_host
from chassis.errors import CannotListenError
from chassis.faust.worker import _Sites
from chassis.listening import bind_listeners
from chassis.metrics import Metrics, ServiceIdentity
from chassis.rpc import GrpcServer, create_channel
from chassis.web.wsgi import HttpServer
from tests import plain_http
from tests.ports import free_port

TIMEOUT_S = 30
"""Seconds for each request, generous for an overloaded machine."""


def has_ipv6() -> bool:
    """Return True if this machine has the address ::1, else False."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


@contextlib.contextmanager
def http(host: str, port: int) -> Iterator[Callable[[str], bool]]:
    """Serve HTTP; yield a function that asks for / at an address."""
    app = Flask("example")
    app.add_url_rule("/", view_func=lambda: "here")
    server = HttpServer(app, host, port)
    server.start()
    try:
        yield lambda at: plain_http.get(f"http://{at}:{port}/", timeout=TIMEOUT_S).text == "here"
    finally:
        server.stop()


@contextlib.contextmanager
def rpc(host: str, port: int) -> Iterator[Callable[[str], bool]]:
    """Serve gRPC; yield a function that asks for its health at an address."""
    server = GrpcServer(host, port, {}, {}, Metrics(ServiceIdentity("service", "node")), ["a secret of the tests"])
    server.start()

    def ask(at: str) -> bool:
        with create_channel(f"{at}:{port}") as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        return True

    try:
        yield ask
    finally:
        server.stop()


@contextlib.contextmanager
def pages(host: str, port: int) -> Iterator[Callable[[str], bool]]:
    """Serve a worker's pages on their sockets, as Faust does; yield a function that asks for / at an address."""
    loop = asyncio.new_event_loop()
    listeners = bind_listeners(host, port, "HTTP")

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)

    async def ask(at: str) -> bool:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S) as client:
            return (await client.get(f"http://{at}:{port}/")).text == "here"

    loop.run_until_complete(runner.setup())
    loop.run_until_complete(_Sites(web.SockSite(runner, each) for each in listeners).start())
    try:
        yield lambda at: loop.run_until_complete(ask(at))
    finally:
        loop.run_until_complete(runner.cleanup())
        loop.close()


SERVERS = pytest.mark.parametrize("serve", [http, rpc, pages])


@SERVERS
@pytest.mark.parametrize(
    ("setting", "reached"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", ["127.0.0.1"]),
        ("127.0.0.2", ["127.0.0.2"]),
        ("::ffff:127.0.0.1", ["127.0.0.1"]),
        ("localhost", ["127.0.0.1"]),
        ("LOCALHOST", ["127.0.0.1"]),
        ("::1", ["[::1]"]),
        ("[::1]", ["[::1]"]),
        ("0:0:0:0:0:0:0:1", ["[::1]"]),
        ("::", ["[::1]", "127.0.0.1"]),
        ("[::]", ["[::1]", "127.0.0.1"]),
        ("0::0", ["[::1]", "127.0.0.1"]),
    ],
)
def test_every_server_understands_every_spelling(serve: Any, setting: str, reached: list[str]) -> None:
    """`::` is all addresses of the machine, those of IPv4 too."""
    possible = [at for at in reached if has_ipv6() or at != "[::1]"]
    if possible:
        with serve(normalize_listen_host(setting), free_port()) as ask:
            assert all(ask(at) for at in possible)
    else:
        with pytest.raises(CannotListenError), serve(normalize_listen_host(setting), free_port()):
            pass


@SERVERS
@pytest.mark.parametrize("setting", ["127.0.0.1", "0.0.0.0", "localhost", "::1", "::"])
def test_a_port_in_use_is_told_by_the_systems_reason(serve: Any, setting: str) -> None:
    """A port is taken when any other socket listens there; the sentence has the reason."""
    if setting == "::1" and not has_ipv6():
        setting = "127.0.0.1"
    port = free_port()
    held = bind_listeners(setting, port, "test")
    with pytest.raises(CannotListenError, match=os.strerror(errno.EADDRINUSE)), serve(setting, port):
        pass
    for each in held:
        each.close()


@SERVERS
@pytest.mark.parametrize("setting", ["192.0.2.7", "2001:db8::1", "no-such-name.invalid"])
def test_an_address_of_another_machine_is_one_sentence(serve: Any, setting: str) -> None:
    """The sentence names the address, and not a taken port."""
    with (
        pytest.raises(CannotListenError, match=r"^(HTTP|gRPC) cannot listen on \S+: .+\.$") as caught,
        serve(setting, 18080),
    ):
        pass
    assert "in use" not in str(caught.value)
    assert "taken" not in str(caught.value)
