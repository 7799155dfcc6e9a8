"""A real gateway process for tests, and a service behind it that answers whatever a test wants, byte by byte."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.ports import HOST, free_ports
from tests.service_process import ROOT, kill_with_parent

PATIENCE_S: Final = 120.0
"""Seconds that one step may take on a busy machine."""


@dataclass(eq=False)
class Exchange:
    """A request as it comes to the service, and the connection on which to answer."""

    connection: socket.socket
    head: bytes
    """The request's first line and headers, without the empty line."""
    received: bytearray = field(default_factory=bytearray)
    """The part of the body that has arrived."""

    def receive(self, count: int) -> bytes:
        """Return the next `count` bytes of what follows the head; fewer at its end."""
        while len(self.received) < count and (piece := self.connection.recv(65_536)):
            self.received += piece
        wanted, self.received = bytes(self.received[:count]), self.received[count:]
        return wanted

    def send(self, data: bytes) -> None:
        """Send a part of the answer, as it is."""
        self.connection.sendall(data)


OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: towerwatch\r\nContent-Type: text/plain\r\n\r\n"


class Service:
    """A service on a Unix domain socket; each connection is for one request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer: Callable[[Exchange], None] = answer_ok
        self.seen: list[bytes] = []
        """The heads of the requests that came."""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self) -> None:
        """Forget the requests so far, and answer 200 from now on."""
        self.seen.clear()
        self.answer = answer_ok

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def _accept(self) -> None:
        """Take connections until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE_S)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """Read a request's head, and let the test answer it."""
        with connection, contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65_536)
                if not piece:
                    return
                received += piece
            head, _, rest = received.partition(b"\r\n\r\n")
            self.seen.append(head)
            self.answer(Exchange(connection, head, bytearray(rest)))


def answer_ok(exchange: Exchange) -> None:
    """Answer 200 with the text `ok`, which a HEAD request does not get."""
    exchange.send(OK if exchange.head.startswith(b"HEAD ") else OK + b"ok")


@dataclass(frozen=True)
class RunningGateway:
    """A gateway process, with the service for accounts; that for interests does not run."""

    process: subprocess.Popen[str]
    port: int
    web_port: int
    service: Service

    @property
    def url(self) -> str:
        """The address for people."""
        return f"http://{HOST}:{self.port}"

    @property
    def web_url(self) -> str:
        """The address of the gateway's own health and metrics."""
        return f"http://{HOST}:{self.web_port}"

    def connect(self) -> socket.socket:
        """Open a connection to the gateway."""
        return socket.create_connection((HOST, self.port), timeout=PATIENCE_S)


@contextmanager
def running_gateway(*options: str) -> Iterator[RunningGateway]:
    """Run a real gateway process with these options for the block, and a service behind it."""
    port = free_ports(2)
    with tempfile.TemporaryDirectory() as folder:  # a test's own folder may have too long a path for a socket
        service = Service(Path(folder) / "accounts.sock")
        command = [
            *(sys.executable, "-m", "local.gateway", "--port", str(port), "--web-port", str(port + 1)),
            *("--user-manager", f"unix:{service.path}", "--collector", f"unix:{folder}/none.sock", *options),
        ]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, preexec_fn=kill_with_parent
        ) as process:
            try:
                assert process.stdout is not None
                assert "serving people" in process.stdout.readline()
                yield RunningGateway(process, port, port + 1, service)
            finally:
                process.kill()
                service.close()


def read_to_end(client: socket.socket) -> bytes:
    """Return all that comes until the other side closes the connection."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65_536):
            received += piece
    return bytes(received)
