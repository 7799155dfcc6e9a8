"""The WSGI server: a port that is taken is said, and a stop loses no answer."""

import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from flask import Flask

from chassis.errors import CannotListenError
from chassis.wsgi import HttpServer

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

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
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


def test_a_taken_port_is_an_error_of_ours(example: Example) -> None:
    """One sentence that names the port."""
    with pytest.raises(CannotListenError, match=str(example.port)):
        HttpServer(Flask("other"), "127.0.0.1", example.port)
    example.server.stop()
