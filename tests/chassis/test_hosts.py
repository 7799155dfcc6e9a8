"""The check of `Host`: every form of it, on Flask and on aiohttp, over real sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp import web
from hypothesis import given, strategies as st

from chassis.aiohttp_server import BoundedAppRunner, create_host_check
from chassis.hosts import AllowedHosts, check_host_names, parse_host
from chassis.metrics import Metrics, ServiceIdentity
from chassis.web.http import create_app
from chassis.web.wsgi import HttpServer
from tests.ports import free_port

TIMEOUT_S = 60

NAMES = ("https://alerts.example.org/x", "watch.example.net", "collector", None, "")
HOSTS = AllowedHosts(NAMES, environment={})

TABLE = {
    "Host: localhost": 200,
    "Host: LOCALHOST:8520": 200,
    "Host: localhost.": 200,
    "Host: 127.0.0.1:8520": 200,
    "Host: 10.4.5.6": 200,
    "Host: [::1]": 200,
    "Host: [::1]:8520": 200,
    "Host: [fe80::2]:1": 200,
    "Host: alerts.example.org": 200,
    "Host: Alerts.Example.ORG.:443": 200,
    "Host: watch.example.net": 200,
    "Host: collector:8080": 200,
    "Host: collector.towerwatch.svc": 421,
    "Host: collector-0.collector.towerwatch.svc.cluster.local:8080": 421,
    "Host: alerts.example.org:": 200,
    "Host: evil.example": 421,
    "Host: alerts.example.org.evil.example": 421,
    "Host: collector.evil.example": 421,
    "Host: localhost.evil.example": 421,
    "Host: 127.0.0.1.evil.example": 421,
    "Host: 0x7f000001": 421,
    "Host: svc.cluster.local": 421,
    "Host: evil.example\r\nX-Forwarded-Host: localhost": 421,
    "Host: evil.example\r\nForwarded: host=localhost": 421,
    "Host: localhost@evil.example": 400,
    "Host: user:secret@localhost": 400,
    "Host: localhost/": 400,
    "Host: localhost evil.example": 400,
    "Host: localhost, evil.example": 400,
    "Host: localhost\r\nHost: evil.example": 400,
    "Host: localhost\r\nHost: localhost": 400,
    "Host: [::1": 400,
    "Host: [evil.example]": 400,
    "Host: ::1": 400,
    "Host: localhost:port": 400,
    "Host: ": 400,
    "X-None: at all": 400,
}
"""The header of a request, and the status with which it is answered."""


@contextmanager
def serve_flask(port: int) -> Iterator[None]:
    """Serve a Flask app as the services do."""
    app = create_app("example", Metrics(ServiceIdentity("example", "test")), {}, lambda: True, HOSTS)
    app.add_url_rule("/page", "page", lambda: "here")
    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield
    server.stop()


@contextmanager
def serve_aiohttp(port: int) -> Iterator[None]:
    """Serve an aiohttp app as the Faust workers do."""
    loop = asyncio.new_event_loop()
    app = web.Application(middlewares=[create_host_check(HOSTS)])

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="here")

    app.router.add_get("/page", answer)
    app.router.add_get("/health/live", answer)

    async def start() -> web.AppRunner:
        runner = BoundedAppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(TIMEOUT_S)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture(scope="module", params=[serve_flask, serve_aiohttp], ids=["flask", "aiohttp"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a running server, of each kind in turn."""
    at = free_port()
    with request.param(at):
        yield at


def send(port: int, header: str, target: str = "/page") -> tuple[int, str]:
    """Send a request with these header lines; return the status and the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(f"GET {target} HTTP/1.1\r\n{header}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while received := client.recv(65536):
            answer += received
    return int(answer[9:12]), answer.decode()


@pytest.mark.parametrize("header", TABLE)
def test_a_request_is_answered_only_under_an_own_host_name_or_an_address(port: int, header: str) -> None:
    """A foreign name gets 421 with the setting that would allow it, and what is no single host gets 400."""
    status, answer = send(port, header)
    assert status == TABLE[header]
    if status == 421:
        assert "ALLOWED_HOSTS" in answer
        assert "evil" not in answer


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/page", "localhost", 200),
        ("http://evil.example/page", "localhost", 421),
        ("http://evil.example:80/page", "127.0.0.1", 421),
        ("http://alerts.example.org/page", "evil.example", 200),
        ("//evil.example", "localhost", 404),
        ("//localhost/page", "evil.example", 421),
    ],
)
def test_the_host_of_an_absolute_target_replaces_the_header(port: int, target: str, host: str, status: int) -> None:
    """RFC 9112, 3.2.2: such a request has two hosts, and the one in the request line counts."""
    assert send(port, f"Host: {host}", target)[0] == status


@pytest.mark.parametrize("header", ["Host: evil.example", "Host: a@b", "Host: 10.1.2.3:8080"])
def test_health_is_answered_under_any_host(port: int, header: str) -> None:
    """A probe may send what it likes; the answer tells nothing."""
    assert send(port, header, "/health/live")[0] == 200


@given(st.text(max_size=40))
def test_no_text_is_an_own_host_but_an_own_host(text: str) -> None:
    """Whatever is sent as host: it is allowed only if it names one of the hosts, and never raises."""
    if HOSTS.find_fault(text) is None:
        assert parse_host(text) is not None


@pytest.mark.parametrize("text", ["a b", "https://x.example", "x.example:1", "x@y", "[::1]", "x.example/y"])
def test_a_setting_that_is_no_host_name_is_refused_at_the_start(text: str) -> None:
    """A host with a port or a scheme would never match, and the operator would not know why."""
    with pytest.raises(ValueError, match="host names without port"):
        check_host_names(text)
    assert check_host_names("a.example, B.example,") == "a.example, B.example,"


@pytest.mark.parametrize(
    ("host", "is_name_of_service"),
    [
        ("collector.towerwatch.svc", True),
        ("collector-0.collector.towerwatch.svc.cluster.local:8080", True),
        ("attacker.svc.example", False),
        ("svc.cluster.local", False),
    ],
)
def test_names_of_services_are_allowed_in_kubernetes_only(host: str, is_name_of_service: bool) -> None:
    """Elsewhere whoever answers the machine's DNS queries can point such a name to it, and a page reads the mailbox."""
    within = AllowedHosts(NAMES, environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert (within.find_fault(host) is None) == is_name_of_service
    assert HOSTS.find_fault(host) is not None
