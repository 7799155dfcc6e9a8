"""The WSGI server: the client's address behind a proxy, unreadable requests, and a stop that loses no answer."""

import contextlib
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from flask import Flask, Response, jsonify, request, url_for
from waitress.trigger import trigger

from chassis.errors import CannotListenError
from chassis.web import wsgi
from chassis.web.wsgi import LARGEST_BODY, MOST_PIPELINED, HttpServer
from tests import plain_http
from tests.ports import free_port
from tests.waiting import eventually

LARGE = 8 * 1024 * 1024
"""Bytes of an answer that exceeds every socket buffer, so that the loop sends the rest after the request ended."""

TIMEOUT_S = 60
"""Seconds for requests and waits, generous for an overloaded machine."""


@pytest.fixture(autouse=True)
def long_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a stop so much time that even an overloaded machine sends all answers."""
    monkeypatch.setattr(wsgi, "DRAIN_S", float(TIMEOUT_S))


class Example:
    """A server with one route, /slow, whose request lasts until `go_on` is set."""

    def __init__(self) -> None:
        self.handling = threading.Event()
        self.go_on = threading.Event()
        app = Flask("example")

        @app.get("/slow")
        def slow() -> str:
            self.handling.set()
            self.go_on.wait(timeout=TIMEOUT_S)
            return "x" * LARGE

        self.port = free_port()
        self.server = HttpServer(app, "127.0.0.1", self.port)

    def get(self) -> int:
        """Send a request to /slow and return the length of the answer."""
        return len(plain_http.get(f"http://127.0.0.1:{self.port}/slow", timeout=TIMEOUT_S).content)


@pytest.fixture
def example() -> Iterator[Example]:
    made = Example()
    made.server.start()
    yield made
    made.go_on.set()


def test_a_stop_finishes_the_request_in_flight(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is sent completely, nothing is logged, and new connections are refused."""
    with caplog.at_level(logging.ERROR), ThreadPoolExecutor() as pool:
        answer = pool.submit(example.get)
        assert example.handling.wait(timeout=TIMEOUT_S)
        stopping = pool.submit(example.server.stop)
        example.go_on.set()
        assert answer.result(timeout=TIMEOUT_S) == LARGE
        stopping.result(timeout=TIMEOUT_S)
    assert caplog.records == []
    with pytest.raises(httpx.ConnectError):
        example.get()


def is_server_thread_ended() -> bool:
    """Return True if no thread of an HTTP server runs, False if one does."""
    return "http" not in {thread.name for thread in threading.enumerate()}


def test_a_stop_ends_the_servers_thread(example: Example) -> None:
    """The thread ends also if a connection was kept alive."""
    example.go_on.set()
    with httpx.Client(verify=False, timeout=TIMEOUT_S) as client:
        client.get(f"http://127.0.0.1:{example.port}/nothing")
        example.server.stop()
    eventually(is_server_thread_ended)


def test_a_stop_does_not_write_to_a_closed_pipe(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds also if the loop is awake already, and closes everything before the stop wakes it."""
    pull = trigger._physical_pull

    def pull_an_awake_loop(self: trigger) -> None:
        pull(self)
        eventually(lambda: not self.thunks, "the loop calls the added functions")
        pull(self)

    monkeypatch.setattr(trigger, "_physical_pull", pull_an_awake_loop)
    example.server.stop()
    eventually(is_server_thread_ended)


def test_a_port_in_use_raises_cannot_listen_error(example: Example) -> None:
    """The error is one sentence that contains the port."""
    with pytest.raises(CannotListenError, match=str(example.port)):
        HttpServer(Flask("other"), "127.0.0.1", example.port)
    example.server.stop()


def create_echo_app() -> Flask:
    """Create an app whose answers contain what it knows of the client and the request."""
    app = Flask("example")

    @app.get("/whoami")
    def whoami() -> Response:
        forwarded = sorted(name for name in request.headers.keys() if "Forwarded" in name)  # noqa: SIM118
        return jsonify(address=request.remote_addr, scheme=request.scheme, forwarded=forwarded)

    @app.post("/size")
    def size() -> Response:
        return jsonify(size=len(request.get_data()))

    @app.get("/fails/<name>")
    def fails(name: str) -> Response:
        raise RuntimeError("of the WSGI app itself")

    app.config["PROPAGATE_EXCEPTIONS"] = True
    return app


@contextmanager
def serve(app: Flask, **options: Any) -> Iterator[int]:
    """Serve an app during the block, which gets the port."""
    port = free_port()
    server = HttpServer(app, "127.0.0.1", port, **options)
    server.start()
    yield port
    server.stop()


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "Forwarded": "for=203.0.113.9",
}


@pytest.mark.parametrize("proxy", [None, "192.0.2.1"])
def test_forwarded_headers_from_other_clients_than_the_proxy_are_dropped(proxy: str | None) -> None:
    """Any client can send these headers, so only the trusted proxy's count."""
    with serve(create_echo_app(), trusted_proxy=proxy) as port:
        seen = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=FORWARDED, timeout=TIMEOUT_S).json()
    assert seen == {"address": "127.0.0.1", "scheme": "http", "forwarded": []}


@pytest.mark.parametrize("proxy", ["127.0.0.1", "*"])
def test_the_trusted_proxys_headers_contain_the_clients_address(proxy: str) -> None:
    """The last address in the list is what the proxy saw; the client itself may have sent the others."""
    with serve(create_echo_app(), trusted_proxy=proxy) as port:
        seen = plain_http.get(f"http://127.0.0.1:{port}/whoami", headers=FORWARDED, timeout=TIMEOUT_S).json()
    assert (seen["address"], seen["scheme"]) == ("198.51.100.7", "https")
    assert "Forwarded" not in seen["forwarded"]


@pytest.mark.parametrize(
    ("prefix", "path", "shown"),
    [
        ("", "/things/1", "/things/1"),
        ("/tower", "/things/1", "/tower/things/1"),
        ("/tower", "/tower/things/1", "/tower/things/1"),
        ("/a/b", "/things/1", "/a/b/things/1"),
        ("/a/b", "/a/b/things/1", "/a/b/things/1"),
        ("/fl%C3%BCge", "/things/1", "/fl%C3%BCge/things/1"),
        ("/fl%C3%BCge", "/fl%C3%BCge/things/1", "/fl%C3%BCge/things/1"),
        ("/a%20b", "/things/1", "/a%20b/things/1"),
        ("/things", "/things/1", None),
        ("/tower", "/towers/things/1", None),
    ],
)
def test_links_begin_with_the_path_under_which_people_reach_the_service(
    prefix: str, path: str, shown: str | None
) -> None:
    """A proxy may remove the prefix from the requests that it passes on, or leave it; None: there is no such path."""
    app = Flask("example")

    @app.get("/things/<int:number>")
    def thing(number: int) -> Response:
        return Response(headers={"Location": url_for("thing", number=number)})

    with serve(app, path_prefix=prefix) as port:
        answer = plain_http.get(f"http://127.0.0.1:{port}{path}", timeout=TIMEOUT_S)
    assert answer.headers.get("Location") == shown


def exchange(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a raw request, and return the answer's status, headers (by lower-case names) and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status_line.split()[1]), headers, body


TOO_MUCH = LARGEST_BODY + 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: {TOO_MUCH}\r\n\r\n".encode(), 413),
        (b"POST /size HTTP/1.1\r\nHost: x\r\nContent-Length: 10, 10\r\n\r\n", 400),
        (b"POST /size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /whoami HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n", 400),
        (b"GET /fails/ann@example.org HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 500),
    ],
    ids=["too large", "length", "coding", "header", "bug"],
)
def test_a_request_that_does_not_reach_the_app_is_answered_with_problem_details(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer contains nothing of the request, and the log does not contain the path."""
    with caplog.at_level(logging.INFO), serve(create_echo_app()) as port:
        answered, headers, body = exchange(port, sent)
    assert (answered, headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(body)
    assert set(problem) == {"title", "status", "detail"}
    assert problem["status"] == status
    assert not any("ann@" in record.getMessage() for record in caplog.records)


def test_the_limit_of_bodies_holds_for_chunked_bodies() -> None:
    """A chunked body is answered with 413 as soon as it is too large."""
    with serve(create_echo_app()) as port, httpx.Client(verify=False, timeout=TIMEOUT_S) as client:
        chunks = (b"x" * 65536 for _ in range(LARGEST_BODY // 65536 + 1))
        with contextlib.suppress(httpx.WriteError):
            assert client.post(f"http://127.0.0.1:{port}/size", content=chunks).status_code == 413
        assert client.post(f"http://127.0.0.1:{port}/size", content=iter([b"x" * 10] * 3)).json() == {"size": 30}


def test_more_requests_than_threads_are_all_answered() -> None:
    """Fifty requests at once on two threads are all answered."""
    app = Flask("example")
    app.get("/")(lambda: "x")
    with serve(app, threads=2) as port, ThreadPoolExecutor(50) as pool:
        url = f"http://127.0.0.1:{port}/"
        answers = list(pool.map(lambda _: plain_http.get(url, timeout=TIMEOUT_S).status_code, range(50)))
    assert answers == [200] * 50


def test_a_client_that_pipelines_and_reads_nothing_blocks_no_thread() -> None:
    """Two connections on two threads send as many requests as fit into one read; others are answered meanwhile."""
    app = Flask("example")
    app.get("/large", endpoint="large")(lambda: b"x" * 200_000)
    app.get("/", endpoint="small")(lambda: "x")
    with serve(app, threads=2) as port, contextlib.ExitStack() as connections:
        for _ in range(2):
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S))
            connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        for _ in range(20):
            assert plain_http.get(f"http://127.0.0.1:{port}/", timeout=TIMEOUT_S).status_code == 200


@pytest.mark.parametrize("surplus", [0, 50])
def test_pipelined_requests_are_answered_in_order_up_to_a_bound(surplus: int) -> None:
    """The last answer closes the connection if there were more, so that the client knows which were not answered."""
    app = Flask("example")
    app.get("/<int:number>")(lambda number: f"<{number}>")
    paths = [f"/{number}" for number in range(MOST_PIPELINED + surplus)]
    sent = "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n" for path in paths).encode()
    with serve(app) as port, socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
        received = b""
        while f"<{MOST_PIPELINED - 1}>".encode() not in received or surplus:
            part = connection.recv(65536)
            if not part:
                break
            received += part
    answered = [int(number) for number in re.findall(rb"<(\d+)>", received)]
    assert answered == [*range(len(answered))]
    assert MOST_PIPELINED <= len(answered) < MOST_PIPELINED + max(surplus, 1)
    assert received.lower().count(b"connection: close") == bool(surplus)
