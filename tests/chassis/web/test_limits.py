"""How often one client may ask."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from chassis.web import limits
from chassis.web.http import Problem
from chassis.web.limits import ClientRateLimit, identify_client


class Client:
    """Asks from one address."""

    def __init__(self, limit: ClientRateLimit, address: str = "192.0.2.1") -> None:
        self._app = Flask("example")
        self._limit = limit
        self._address = address

    def ask(self) -> int | None:
        """None, or the seconds after which to ask again."""
        with self._app.test_request_context(environ_base={"REMOTE_ADDR": self._address}):
            try:
                self._limit.count_request()
            except Problem as problem:
                refused = problem
            else:
                return None
        assert refused.status == 429
        assert self._address not in refused.detail
        return int(refused.headers["Retry-After"])


class Time:
    """Stands still until it is moved."""

    now = 1_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The library reads the machine's clock."""
    clock = Time()
    monkeypatch.setattr("time.time", lambda: clock.now)
    return clock


def test_what_is_within_the_rate_is_let_in(clock: Time) -> None:
    """And the next one when the oldest of them is as old as the rate says: that is what Retry-After promises."""
    client = Client(ClientRateLimit("3/minute"))
    for _ in range(3):
        assert client.ask() is None
        clock.now += 10
    assert client.ask() == 30
    clock.now += 29
    assert client.ask() == 1
    clock.now += 1.001
    assert client.ask() is None
    assert client.ask() == 10


def test_being_refused_costs_nothing(clock: Time) -> None:
    """Who keeps asking is let in as soon as who waits."""
    client = Client(ClientRateLimit("1/minute"))
    assert client.ask() is None
    for _ in range(59):
        clock.now += 1
        assert client.ask() is not None
    clock.now += 1.001
    assert client.ask() is None


def test_each_client_has_a_rate_of_their_own() -> None:
    """By address."""
    limit = ClientRateLimit("1/minute")
    one, other = Client(limit), Client(limit, "192.0.2.2")
    assert one.ask() is None
    assert other.ask() is None
    assert one.ask() is not None


def test_at_once_no_more_are_let_in_than_one_after_another() -> None:
    """Threads share the count."""
    client = Client(ClientRateLimit("20/minute"))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.ask(), range(100)))
    assert answers.count(None) == 20


def test_the_clients_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are cheap; memory is not."""
    monkeypatch.setattr(limits, "_MOST_CLIENTS", 10)
    limit = ClientRateLimit("1/minute")
    for number in range(100):
        Client(limit, f"192.0.2.{number}").ask()
    assert len(limit._storage.events) <= 11


@pytest.mark.parametrize("rate", ["", "x", "60", "60/fortnight", "-1/minute", "1/minute;2/hour"])
def test_what_is_no_rate_is_refused_when_the_service_starts(rate: str) -> None:
    """And not at the first request."""
    with pytest.raises(ValueError):
        ClientRateLimit(rate)


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("[2001:db8::1]", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_a_client_has_one_ipv4_address_or_a_network_of_ipv6(address: str, client: str) -> None:
    """RFC 6177: nobody has fewer than 2⁶⁴ addresses."""
    assert identify_client(address) == client
