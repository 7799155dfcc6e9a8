"""Fake sources of flights: an HTTP server with scripted answers, and the replay with flights of the test."""

import asyncio
import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from chassis.clock import Clock
from local.opensky.access import AccessControl, Credentials
from local.opensky.faults import FaultInjector
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from local.opensky.server import make_app

TOKEN_PATH: Final = "/auth/realms/opensky-network/protocol/openid-connect/token"
HANG_UP: Final = b""
"""In place of an answer: close the connection."""
RESET: Final = b"RST"
"""In place of an answer: reset the connection."""


def answer(status: int, body: object = b"", **headers: str) -> bytes:
    """Return a whole HTTP answer as bytes; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} As scripted", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request that the server has received."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str | None
    body: str
    cache_control: str | None = None


class ScriptedOpenSky:
    """An OpenSky server that sends the answers of its script in order, then 404; tokens have their own script."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.token_script: list[bytes] = []
        """Answers to token requests; after the last one the tokens `token-1`, `token-2` and so on, for 30 minutes."""
        self.requests: list[ReceivedRequest] = []
        """The requests for flights."""
        self.revoked: set[str] = set()
        """Authorization headers that get a 401, without use of the script."""
        self.before_answering: Callable[[ReceivedRequest], None] = lambda _: None
        """Called between a request for flights and its answer, in a thread of the request's own."""
        self.token_requests: list[ReceivedRequest] = []
        """The requests for tokens."""
        self.url = ""

    @property
    def token_url(self) -> str:
        return f"{self.url}{TOKEN_PATH}"

    def next_answer(self, request: ReceivedRequest) -> bytes:
        """Record a request and return the next answer of its script."""
        if request.path == TOKEN_PATH:
            self.token_requests.append(request)
            given = {"access_token": f"token-{len(self.token_requests)}", "expires_in": 1800, "token_type": "Bearer"}
            return self.token_script.pop(0) if self.token_script else answer(200, given)
        self.requests.append(request)
        refused = request.authorization in self.revoked
        given = answer(401) if refused else self.script.pop(0) if self.script else answer(404)
        self.before_answering(request)
        return given

    @contextmanager
    def running(self) -> Iterator["ScriptedOpenSky"]:
        """Listen on a free port inside the block."""
        fake = self

        class RequestHandler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method, _, rest = self.rfile.readline().decode().partition(" ")
                headers: dict[str, str] = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers.get("content-length", "0"))).decode()
                url = urlsplit(rest.partition(" ")[0])
                shown = (headers.get("authorization"), body, headers.get("cache-control"))
                request = ReceivedRequest(method, url.path, parse_qs(url.query), *shown)
                given = fake.next_answer(request)
                if given == RESET:
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.request.close()
                    return
                self.wfile.write(given)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

            def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
                self.close_request(request)  # one that was reset cannot be shut down

        with Server(("127.0.0.1", 0), RequestHandler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def replay(
    flights: Iterable[TimetableFlight],
    clock: Clock,
    credentials: Credentials | None = None,
    faults: FaultInjector | None = None,
    schedule: RecordSchedule = NIGHTLY,
) -> Iterator[str]:
    """Run a replay of these flights inside the block, and yield its base URL; the credits are practically unlimited.

    By default the record of each UTC day appears as a whole, at 02:40 of the next day, and departures are not live.
    """
    access = AccessControl(credentials, credits_per_day=1_000_000)
    app = make_app(Timetable(flights), clock, access, faults, schedule)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
