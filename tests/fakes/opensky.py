"""Sources of flights: an HTTP server that answers as scripted, and the replay with flights of the test's own."""

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
from local.opensky.server import make_app

TOKEN_PATH: Final = "/auth/realms/opensky-network/protocol/openid-connect/token"
HANG_UP: Final = b""
"""In place of an answer: close the connection."""
RESET: Final = b"RST"
"""In place of an answer: break the connection off."""


def answer(status: int, body: object = b"", **headers: str) -> bytes:
    """A whole HTTP answer; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} As scripted", f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    authorization: str | None
    body: str


class ScriptedOpenSky:
    """Gives the answers of its script in turn, then 404; requests for a token have a script of their own."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.token_script: list[bytes] = []
        """When it is at its end, tokens are given: `token-1`, `token-2` and so on, for 30 minutes."""
        self.asked: list[Asked] = []
        """For flights."""
        self.revoked: set[str] = set()
        """Authorization headers that get a 401, and nothing of the script."""
        self.before_answering: Callable[[Asked], None] = lambda _: None
        """What happens between a request for flights and its answer; in a thread of the request's own."""
        self.tokens_asked: list[Asked] = []
        self.url = ""

    @property
    def token_url(self) -> str:
        return f"{self.url}{TOKEN_PATH}"

    def next_answer(self, asked: Asked) -> bytes:
        if asked.path == TOKEN_PATH:
            self.tokens_asked.append(asked)
            given = {"access_token": f"token-{len(self.tokens_asked)}", "expires_in": 1800, "token_type": "Bearer"}
            return self.token_script.pop(0) if self.token_script else answer(200, given)
        self.asked.append(asked)
        refused = asked.authorization in self.revoked
        given = answer(401) if refused else self.script.pop(0) if self.script else answer(404)
        self.before_answering(asked)
        return given

    @contextmanager
    def running(self) -> Iterator["ScriptedOpenSky"]:
        """Listen inside of the block."""
        fake = self

        class Conversation(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                method, _, rest = self.rfile.readline().decode().partition(" ")
                headers: dict[str, str] = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = self.rfile.read(int(headers.get("content-length", "0"))).decode()
                url = urlsplit(rest.partition(" ")[0])
                asked = Asked(method, url.path, parse_qs(url.query), headers.get("authorization"), body)
                given = fake.next_answer(asked)
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

        with Server(("127.0.0.1", 0), Conversation) as server:
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
) -> Iterator[str]:
    """The base URL of a replay of these flights, which runs inside of the block; credits are plenty."""
    app = make_app(Timetable(flights), clock, AccessControl(credentials, credits_per_day=1_000_000), faults)
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
