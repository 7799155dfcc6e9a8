"""Second replicas of the services of a running demo, behind proxies that give each connection to the next replica."""

import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Final

import httpx

from local.ports import HOST
from local.processes import ROOT
from tests import plain_http
from tests.ports import free_ports
from tests.service_process import kill_with_parent
from tests.waiting import eventually

REPLICATED: Final = ("user_manager", "collector")


@contextmanager
def with_second_replicas(data: Path) -> Iterator[dict[str, "RoundRobin"]]:
    """Run a second replica of each service, on the same database, for the block; yield the proxies by service.

    The gateway has a connection for each request, so requests go to the replicas in turn. The second replicas call each
    other, and not the first ones: a session of one side is one of the other by what is stored alone.
    """
    with ExitStack() as stack:
        environments = {service: read_environment(data, service) for service in REPLICATED}
        own = {f"{service.upper()}_GRPC_TARGET": f"unix:{data}/grpc/{service}.2" for service in REPLICATED}
        ports = {service: free_ports(2) for service in REPLICATED}
        for service, first in environments.items():
            port = ports[service]
            settings = first | own | {
                "HTTP_PORT": str(port), "GRPC_PORT": str(port + 1),
                "HTTP_SOCKET": f"{data}/http/{service}.2", "GRPC_SOCKET": f"{data}/grpc/{service}.2",
            }  # fmt: skip
            log = stack.enter_context((data / "logs" / f"{service}_2.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", service], cwd=ROOT, env=settings, start_new_session=True,
                preexec_fn=kill_with_parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
        for service, port in ports.items():
            eventually(lambda port=port: is_ready(port), f"readiness of a second {service}", 120)  # type: ignore[misc]
        yield {
            service: stack.enter_context(_sharing(Path(first["HTTP_SOCKET"]), Path(f"{data}/http/{service}.2")))
            for service, first in environments.items()
        }


def is_ready(port: int) -> bool:
    """Return True if the service at the port says that it is ready; False if not, or if it does not answer."""
    try:
        return plain_http.get(f"http://{HOST}:{port}/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def read_environment(data: Path, name: str) -> dict[str, str]:
    """Return the environment variables of one process of a running demo."""
    pid = json.loads((data / "processes.json").read_text())[name]
    return dict(each.split("=", 1) for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in each)


class RoundRobin(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A proxy at a Unix domain socket, which gives each connection to the next of several other sockets."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: Path, replicas: list[Path]) -> None:
        self._turns = cycle(replicas)
        self._turn = threading.Lock()
        self.taken: Counter[Path] = Counter()
        """The number of connections that each replica has got."""
        super().__init__(str(address), _Connection)

    def choose(self) -> Path:
        """Return the socket of the replica whose turn it is."""
        with self._turn:
            replica = next(self._turns)
            self.taken[replica] += 1
        return replica


class _Connection(socketserver.BaseRequestHandler):
    """A connection that is passed on, byte for byte, in both directions."""

    server: RoundRobin
    request: socket.socket

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as replica:
            replica.connect(str(self.server.choose()))
            forth = threading.Thread(target=_pass_on, args=(self.request, replica), daemon=True)
            forth.start()
            _pass_on(replica, self.request)
            forth.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until the source ends, and end the sink then."""
    try:
        while some := source.recv(65_536):
            sink.sendall(some)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()


@contextmanager
def _sharing(address: Path, second: Path) -> Iterator[RoundRobin]:
    """Put a proxy in the place of a listening socket for the block, and share its connections with a second socket."""
    first = address.with_suffix(".1")
    address.rename(first)  # it listens on, at its new name
    proxy = RoundRobin(address, [first, second])
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
        first.rename(address)
