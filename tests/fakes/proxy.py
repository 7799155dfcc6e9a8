"""A small real HTTP proxy: it records what it is asked for, and either serves it or refuses."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RecordingProxy(socketserver.ThreadingTCPServer):
    """A proxy on a free port that records the first line and the headers of every request, and answers each alike."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes) -> None:
        """`answer` is the whole response, to CONNECT as to GET."""
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.answer = answer
        self.requests: list[str] = []
        self.headers: list[str] = []

    @property
    def port(self) -> int:
        """The port that the proxy listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The proxy's address, as proxy variables have it."""
        return f"http://127.0.0.1:{self.port}"


class _ProxyHandler(socketserver.StreamRequestHandler):
    """The handler of one connection to the proxy: records one request and answers it."""

    server: RecordingProxy

    def handle(self) -> None:
        """Record the request, send the answer, and close the connection."""
        first = self.rfile.readline().decode("latin-1").strip()
        if first:  # else somebody only looks whether the port is open
            self.server.requests.append(first)
        while line := self.rfile.readline().strip():
            self.server.headers.append(line.decode("latin-1"))
        self.wfile.write(self.server.answer)


@contextmanager
def recording_proxy(answer: bytes = b"HTTP/1.1 503 Refused\r\nContent-Length: 0\r\n\r\n") -> Iterator[RecordingProxy]:
    """Run a proxy during the block; by default it refuses every request with 503."""
    with RecordingProxy(answer) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
