"""The rate limit of requests per client."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from chassis.web import limits
from chassis.web.http import Problem
from chassis.web.limits import ClientRateLimit


class Client:
    """A client that sends requests from one address."""

    def __init__(self, limit: ClientRateLimit, address: str = "192.0.2.1") -> None:
        self._app = Flask("example")
        self._limit = limit
        self._address = address

    def send_request(self) -> int | None:
        """Send a request; return None if it is admitted, else the seconds after which to retry."""
        with self._app.test_request_context(environ_base={"REMOTE_ADDR": self._address}):
            try:
                self._limit.count_request()
            except Problem as problem:
                rejection = problem
            else:
                return None
        assert rejection.status == 429
        assert self._address not in rejection.detail
        return int(rejection.headers["Retry-After"])


class Time:
    """A monotonic clock that only the test moves."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.mark.parametrize("jump_s", [-8 * 3600.0, 400 * 86_400.0])
def test_a_wall_clock_that_is_set_changes_no_limit(clock: Time, jump_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the wall clock, a client at its limit was locked out for as long as the clock was set back."""
    client = Client(ClientRateLimit("1/minute", clock))
    assert client.send_request() is None
    began = time.time()
    monkeypatch.setattr("time.time", lambda: began + jump_s)
    assert client.send_request() == 60
    clock.now += 60.001
    assert client.send_request() is None


def test_requests_within_the_rate_are_admitted(clock: Time) -> None:
    """A rejected request is admitted after the time in Retry-After, when the oldest admitted one leaves the window."""
    client = Client(ClientRateLimit("3/minute", clock))
    for _ in range(3):
        assert client.send_request() is None
        clock.now += 10
    assert client.send_request() == 30
    clock.now += 29
    assert client.send_request() == 1
    clock.now += 1.001
    assert client.send_request() is None
    assert client.send_request() == 10


def test_a_rejected_request_is_not_counted(clock: Time) -> None:
    """A client that keeps sending requests is admitted as early as one that waits."""
    client = Client(ClientRateLimit("1/minute", clock))
    assert client.send_request() is None
    for _ in range(59):
        clock.now += 1
        assert client.send_request() is not None
    clock.now += 1.001
    assert client.send_request() is None


def test_each_client_has_a_limit_of_its_own() -> None:
    """Clients are distinguished by their addresses."""
    limit = ClientRateLimit("1/minute")
    one, other = Client(limit), Client(limit, "192.0.2.2")
    assert one.send_request() is None
    assert other.send_request() is None
    assert one.send_request() is not None


def test_concurrent_requests_are_limited_too() -> None:
    """All threads share the count of a client."""
    client = Client(ClientRateLimit("20/minute"))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.send_request(), range(100)))
    assert answers.count(None) == 20


def test_the_number_of_stored_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with many addresses must not use up the memory."""
    monkeypatch.setattr(limits, "_MOST_CLIENTS", 10)
    limit = ClientRateLimit("1/minute")
    for number in range(100):
        Client(limit, f"192.0.2.{number}").send_request()
    assert len(limit._admitted_at) <= 11


@pytest.mark.parametrize("rate", ["", "x", "60", "60/fortnight", "-1/minute", "1/minute;2/hour"])
def test_an_invalid_rate_raises_when_the_service_starts(rate: str) -> None:
    """The error is not delayed until the first request."""
    with pytest.raises(ValueError):
        ClientRateLimit(rate)
