"""The bounds on HTTP connections: a client that sends or reads slowly is closed, and keeps nobody else out."""

import asyncio
import gzip
import logging
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest import mock

import pytest
from aiohttp import web
from hypothesis import given, strategies as st

from chassis import aiohttp_server, connections
from chassis.aiohttp_server import BoundedAppRunner
from chassis.connections import (
    ANSWER_WITHIN_S,
    IDLE_WITHIN_S,
    REQUEST_WITHIN_S,
    TransferDeadlines,
    TransferState,
    make_room,
)
from chassis.metrics import Metrics, ServiceIdentity
from chassis.web.http import create_app
from chassis.web.wsgi import HttpServer
from tests.ports import free_port

TIMEOUT_S = 60
LARGE = 32 * 1024 * 1024
"""Bytes of an answer that no socket buffer holds."""


@contextmanager
def serve_flask(port: int) -> Iterator[None]:
    """Serve a Flask app as the services do."""
    app = create_app("example", Metrics(ServiceIdentity("example", "test")), {}, lambda: True)

    @app.get("/large")
    def large() -> str:
        return "x" * LARGE

    server = HttpServer(app, "127.0.0.1", port)
    server.start()
    yield
    server.stop()


@contextmanager
def serve_aiohttp(port: int) -> Iterator[None]:
    """Serve an aiohttp app as the Faust workers and the mailbox do."""
    loop = asyncio.new_event_loop()
    app = web.Application()

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="alive")

    async def large(_: web.Request) -> web.Response:
        return web.Response(text="x" * LARGE)

    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.router.add_post("/read", read)
    app.router.add_get("/health/live", live)
    app.router.add_get("/large", large)

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


@pytest.fixture(params=[serve_flask, serve_aiohttp], ids=["flask", "aiohttp"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a running server, of each kind in turn."""
    at = free_port()
    with request.param(at):
        yield at


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """Connect to the server from a loopback address."""
    return socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S, source_address=(source, 0))


def is_alive(port: int, source: str) -> bool:
    """Return True if the server answers a probe of /health/live from this address with 200."""
    with connect(port, source) as probe:
        probe.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return probe.recv(12) == b"HTTP/1.1 200"


def test_half_requests_from_one_address_keep_nobody_out(port: int) -> None:
    """1,100 unfinished requests from one address: probes from it and from another address are answered all the time.

    Before, waitress accepted nothing any more after 1,000 of them, and the probes failed.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4096, hard)), hard))
    with ExitStack() as open_sockets:
        for number in range(1100):
            half = open_sockets.enter_context(connect(port))
            half.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Never")
            if number % 100 == 99:
                assert is_alive(port, "127.0.0.1")
                assert is_alive(port, "127.0.0.2")


def test_a_client_that_sends_no_more_gets_its_answer(port: int) -> None:
    """Whoever closes its direction after the request reads the whole answer and the end (RFC 9112, 9.6).

    Before, aiohttp's servers closed the connection without an answer.
    """
    for path, size in (("/health/live", 0), ("/large", LARGE)):
        with connect(port) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
            answer = bytearray()
            while piece := client.recv(1 << 20):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200")
            assert len(answer) > size


def test_a_client_that_ends_within_a_request_is_closed(port: int) -> None:
    """Its body will never be complete: no handler waits for the rest."""
    for half in (
        b"",
        b"GET /health/live HT",
        b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf",
    ):
        with connect(port) as client:
            client.sendall(half)
            client.shutdown(socket.SHUT_WR)
            while client.recv(1 << 16):
                pass


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: private\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nprivate\r\n\r\n",
        b"\x16\x03\r\n\r\n",
        b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nprivate",
        b"POST /nope HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\npri\r\nvate\r\n",
    ],
)
def test_a_malformed_request_leaves_nothing_in_the_log(
    port: int, caplog: pytest.LogCaptureFixture, request_bytes: bytes
) -> None:
    """Nobody can fill the log with stack traces, or write into it what a header held."""
    with connect(port) as client:
        client.sendall(request_bytes)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    of_requests = [each for each in caplog.records if each.name != "waitress.queue"]  # which a busy machine fills
    assert [each for each in of_requests if each.levelno >= logging.WARNING or each.exc_info] == []
    assert "private" not in caplog.text


def test_a_compressed_body_stays_as_it_is() -> None:
    """A handler gets the bytes that the headers speak of, of which some may stand for very many."""
    at, body = free_port(), gzip.compress(bytes(1 << 20))
    with serve_aiohttp(at), connect(at) as client:
        head = "POST /read HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
    assert answer.partition(b"\r\n\r\n")[2] == body


def test_a_byte_now_and_then_does_not_keep_a_request_open(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole request has one deadline, which no byte extends; a stray line break is no request.

    Before, aiohttp's servers waited without end for a body that a handler reads.
    """
    monkeypatch.setattr(connections, "REQUEST_WITHIN_S", 0.5)
    monkeypatch.setattr(aiohttp_server, "_CHECK_EVERY_S", 0.1)
    body = b"POST /read HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    for begun, drip in ((b"GET / HTTP/1.1\r\nX-Slow: ", b"X"), (b"", b"\r\n"), (body, b"X")):
        with connect(port) as client:
            client.sendall(begun)
            client.settimeout(0.05)
            assert is_closed_while_sending(client, drip)


def is_closed_while_sending(client: socket.socket, drip: bytes) -> bool:
    """Send some bytes again and again until the server closes the connection; return False if it never does."""
    for _ in range(int(TIMEOUT_S / 0.05)):
        try:
            client.sendall(drip)
            if client.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_a_client_that_reads_no_answer_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer's deadline is not extended by the bytes that the client's buffers take."""
    monkeypatch.setattr(connections, "ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr(aiohttp_server, "_CHECK_EVERY_S", 0.1)
    closed = threading.Event()
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(TIMEOUT_S * 20):
            if closed.wait(0.05):
                break
            try:  # a reset connection is an error for the sender
                client.sendall(b"G")
            except OSError:
                closed.set()
    assert closed.is_set()


@given(
    st.lists(st.tuples(st.floats(0.01, 20), st.sampled_from((TransferState.IDLE, TransferState.RECEIVING)))),
)
def test_no_order_of_bytes_keeps_a_connection_without_a_request(
    steps: list[tuple[float, TransferState]],
) -> None:
    """Whether a part of a request is there or not, in any order: without a whole one the connection ends in time."""
    deadlines, now = TransferDeadlines(0.0), 0.0
    for pause, state in steps:
        now += pause
        assert deadlines.detect_missed_deadline(now, state, 0) == (now > REQUEST_WITHIN_S)


def test_an_idle_connection_is_kept_for_its_own_time_and_each_request_has_a_new_deadline() -> None:
    """Proxies keep connections for 60 s, and a request that begins late has all of its time."""
    deadlines = TransferDeadlines(0.0)
    assert not deadlines.detect_missed_deadline(1, TransferState.HANDLING, 0)
    assert not deadlines.detect_missed_deadline(1000, TransferState.HANDLING, 0), (
        "the service's own time has no deadline here"
    )
    assert not deadlines.detect_missed_deadline(1000 + IDLE_WITHIN_S - 1, TransferState.IDLE, 1)
    assert not deadlines.detect_missed_deadline(1000 + IDLE_WITHIN_S - 1, TransferState.RECEIVING, 1)
    assert not deadlines.detect_missed_deadline(1000 + IDLE_WITHIN_S - 2 + REQUEST_WITHIN_S, TransferState.RECEIVING, 1)
    assert deadlines.detect_missed_deadline(1000 + IDLE_WITHIN_S + REQUEST_WITHIN_S, TransferState.IDLE, 1)
    assert not deadlines.detect_missed_deadline(2000, TransferState.ANSWERING, 2)
    assert not deadlines.detect_missed_deadline(2000 + ANSWER_WITHIN_S, TransferState.ANSWERING, 2)
    assert deadlines.detect_missed_deadline(2001 + ANSWER_WITHIN_S, TransferState.ANSWERING, 2)


@dataclass(eq=False)
class FakeConnection:
    """A connection of one client."""

    client: str | None
    opened_at: float
    is_waiting_for_client: bool = True


@mock.patch.object(connections, "MAX_PER_CLIENT", 5)
@mock.patch.object(connections, "MAX_CONNECTIONS", 12)
@given(st.lists(st.tuples(st.sampled_from(("a", "b", "c", None)), st.booleans()), max_size=60))
def test_no_client_takes_the_place_of_another(openings: list[tuple[str | None, bool]]) -> None:
    """No client has more than its share and all together no more than the limit; a client with a share left gets in.

    Who is closed waits for the client; of the trusted proxy (None) only the whole is bounded.
    """
    open_ones: list[FakeConnection] = []
    for number, (client, waits) in enumerate(openings):
        before = [each for each in open_ones if each.client == client]
        is_admitted = make_room(client, open_ones, open_ones.remove)
        if is_admitted:
            open_ones.append(FakeConnection(client, number, waits))
        elif client is not None and len(before) < 5:
            assert len(open_ones) == 12
        assert len(open_ones) <= 12
        for name in "abc":
            assert sum(each.client == name for each in open_ones) <= 5
