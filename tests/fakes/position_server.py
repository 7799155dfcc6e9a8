"""A real HTTP server on this machine that gives scripted answers for positions, also cut, slow, and without end."""

import gzip
import json
import socketserver
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

NOW: Final = 1_700_000_000
"""Unix seconds of the polls."""
TOKEN_PATH: Final = "/token"
_WAIT_S: Final = 60.0
"""Real seconds after which a slow answer gives up, in case the test does not end it."""


def answer(status: int, body: object = b"", **headers: str) -> bytes:
    """Return a whole HTTP answer as bytes; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} As scripted", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if "Content_Length" not in headers:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, "", ""]).encode() + content


def zipped(body: object) -> bytes:
    """Return a 200 whose JSON body is compressed."""
    return answer(200, gzip.compress(json.dumps(body).encode(), mtime=0), Content_Encoding="gzip")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the server has received."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


class PositionServer:
    """A server that sends the answers of its script in order, each as bytes or as chunks; after the last one, 500."""

    def __init__(self) -> None:
        self.script: deque[bytes | Iterable[bytes]] = deque()
        self.requests: list[Asked] = []
        """The requests for positions."""
        self.token_requests = 0
        self.revoked: set[str] = set()
        """Tokens that are answered with 401, without use of the script."""
        self.released = threading.Event()
        """Set at the end of the test, so that slow answers end."""
        self.url = ""

    def trickle(self) -> Iterator[bytes]:
        """Yield the beginning of an answer, and then nothing more until the test ends."""
        yield answer(200, b'{"time": 17', Content_Length="5000")
        self.released.wait(_WAIT_S)

    def respond(self, asked: Asked) -> Iterable[bytes]:
        """Record a request and return the chunks of its answer; tokens are `token-1`, `token-2` and so on."""
        if asked.path == TOKEN_PATH:
            self.token_requests += 1
            return [answer(200, {"access_token": f"token-{self.token_requests}", "expires_in": 1800})]
        self.requests.append(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") in self.revoked:
            return [answer(401)]
        given = self.script.popleft() if self.script else answer(500)
        return [given] if isinstance(given, bytes) else given

    @contextmanager
    def running(self) -> Iterator["PositionServer"]:
        """Listen on a free port inside the block."""
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                target = self.rfile.readline().decode().split(" ")[1]
                headers: dict[str, str] = {}
                while line := self.rfile.readline().decode().strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                self.rfile.read(int(headers.get("content-length", "0")))
                url = urlsplit(target)
                try:
                    for chunk in fake.respond(Asked(url.path, parse_qs(url.query), headers)):
                        self.wfile.write(chunk)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has read enough

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        with Server(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                self.released.set()
                server.shutdown()
                thread.join()


def endless(beginning: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield the beginning of an answer, and then the same piece for ever."""
    yield beginning
    while True:
        yield piece
