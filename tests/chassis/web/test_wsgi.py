"""The WSGI server: whose request it is, what is refused before the app sees it, and a stop that loses no answer."""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from flask import Flask, Response, jsonify, request
from waitress.trigger import trigger

from chassis.errors import CannotListenError
from chassis.web.wsgi import LARGEST_BODY, HttpServer
from tests.ports import free_port
from tests.waiting import eventually

LARGE = 8 * 1024 * 1024
"""Bytes that no socket buffer holds: the loop has to send them after the request was handled."""


class Example:
    """A server with one request that lasts until it is told to go on."""

    def __init__(self) -> None:
        self.handling = threading.Event()
        self.go_on = threading.Event()
        app = Flask("example")

        @app.get("/slow")
        def slow() -> str:
            self.handling.set()
            self.go_on.wait(timeout=30)
            return "x" * LARGE

        self.port = free_port()
        self.server = HttpServer(app, "127.0.0.1", self.port)

    def get(self) -> int:
        """The length of the answer."""
        return len(httpx.get(f"http://127.0.0.1:{self.port}/slow", timeout=30).content)


@pytest.fixture
def example() -> Iterator[Example]:
    made = Example()
    made.server.start()
    yield made
    made.go_on.set()


def test_a_stop_finishes_the_request_in_flight(example: Example, caplog: pytest.LogCaptureFixture) -> None:
    """To its last byte, without a word in the log; and takes no new connection."""
    with caplog.at_level(logging.ERROR), ThreadPoolExecutor() as pool:
        answer = pool.submit(example.get)
        assert example.handling.wait(timeout=10)
        stopped = pool.submit(example.server.stop)
        example.go_on.set()
        assert answer.result(timeout=30) == LARGE
        stopped.result(timeout=30)
    assert caplog.records == []
    with pytest.raises(httpx.ConnectError):
        example.get()


def test_a_stop_leaves_no_thread_behind(example: Example) -> None:
    """Also when a connection was kept alive."""
    example.go_on.set()
    with httpx.Client() as client:
        client.get(f"http://127.0.0.1:{example.port}/nothing")
        example.server.stop()
    assert "http" not in {thread.name for thread in threading.enumerate()}


def test_a_stop_writes_to_no_pipe_that_is_closed(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the loop was awake already, and closed everything before it was to be woken for that."""
    pull = trigger._physical_pull

    def pull_an_awake_loop(self: trigger) -> None:
        pull(self)
        eventually(lambda: not self.thunks, "the loop did what it was told")
        pull(self)

    monkeypatch.setattr(trigger, "_physical_pull", pull_an_awake_loop)
    example.server.stop()
    assert "http" not in {thread.name for thread in threading.enumerate()}


def test_a_taken_port_is_an_error_of_ours(example: Example) -> None:
    """One sentence that names the port."""
    with pytest.raises(CannotListenError, match=str(example.port)):
        HttpServer(Flask("other"), "127.0.0.1", example.port)
    example.server.stop()


def app_that_tells() -> Flask:
    """Answers with what it is told about the client."""
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
def serving(app: Flask, **options: Any) -> Iterator[int]:
    """The port on which the app is served."""
    port = free_port()
    server = HttpServer(app, "127.0.0.1", port, **options)
    server.start()
    yield port
    server.stop()


SAID = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "X-Forwarded-Proto": "https", "Forwarded": "for=203.0.113.9"}


@pytest.mark.parametrize("proxy", [None, "192.0.2.1"])
def test_nobody_says_who_they_are(proxy: str | None) -> None:
    """Without a proxy in front, and to others than it, such headers are dropped: anybody can send them."""
    with serving(app_that_tells(), trusted_proxy=proxy) as port:
        told = httpx.get(f"http://127.0.0.1:{port}/whoami", headers=SAID).json()
    assert told == {"address": "127.0.0.1", "scheme": "http", "forwarded": []}


@pytest.mark.parametrize("proxy", ["127.0.0.1", "*"])
def test_the_proxy_says_who_the_client_is(proxy: str) -> None:
    """What it saw is the last in the list; what stands before was said by the client."""
    with serving(app_that_tells(), trusted_proxy=proxy) as port:
        told = httpx.get(f"http://127.0.0.1:{port}/whoami", headers=SAID).json()
    assert (told["address"], told["scheme"]) == ("198.51.100.7", "https")
    assert "Forwarded" not in told["forwarded"]


def exchange(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, header by lower-case names, and body of what a raw request is answered with, to the end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
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
def test_what_does_not_reach_the_app_is_refused_as_the_app_would(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """With problem details that repeat nothing, and without the address in the log."""
    with caplog.at_level(logging.INFO), serving(app_that_tells()) as port:
        answered, headers, body = exchange(port, sent)
    assert (answered, headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(body)
    assert set(problem) == {"title", "status", "detail"}
    assert problem["status"] == status
    assert not any("ann@" in record.getMessage() for record in caplog.records)


def test_a_body_of_chunks_is_limited_too() -> None:
    """413 as soon as it is too large."""
    with serving(app_that_tells()) as port:
        chunks = (b"x" * 65536 for _ in range(LARGEST_BODY // 65536 + 1))
        with contextlib.suppress(httpx.WriteError):
            assert httpx.post(f"http://127.0.0.1:{port}/size", content=chunks).status_code == 413
        assert httpx.post(f"http://127.0.0.1:{port}/size", content=iter([b"x" * 10] * 3)).json() == {"size": 30}


def test_more_requests_than_threads_wait_for_their_turn() -> None:
    """Fifty at once, on two threads: each is answered."""
    app = Flask("example")
    app.get("/")(lambda: "x")
    with serving(app, threads=2) as port, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: httpx.get(f"http://127.0.0.1:{port}/", timeout=30).status_code, range(50)))
    assert answers == [200] * 50
