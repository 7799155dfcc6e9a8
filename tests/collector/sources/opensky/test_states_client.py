"""Tests of the client of OpenSky's positions, over real HTTP, against a server with scripted answers and faults."""

import asyncio
import gzip
import zlib
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import (
    BreakerOpenError,
    ForeignAnswer,
    ForeignAnswerError,
    SourceError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.sources.breaker_guard import POSITIONS_POLICY
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection
from collector.sources.opensky.states_client import OpenSkyStatesClient
from collector.sources.position_metrics import PositionMetrics
from collector.sources.regions import OWN_RECEIVERS, WORLD, Box, StatesRegion
from collector.sources.state_vector import Poll
from domain.interests import Direction
from tests.fakes.clock import FakeClock
from tests.fakes.position_server import NOW, TOKEN_PATH, PositionServer, answer, endless, zipped

T = TypeVar("T")

SECRET: Final = "hunter2-the-secret"
LONG_S: Final = 60.0
"""Real seconds that no answer of this machine takes."""
PARIS: Final = Box(4_700, 10, 5_000, 450)
ROW: Final = [
    "39de4f", "TVF12AB ", "France", NOW - 3, NOW - 1, 2.55, 49.01, 350.52, False, 70.1, 265.0, -3.5, None, 420.0,
    "1000", False, 0, 4,
]  # fmt: skip
POLL: Final = {"time": NOW, "states": [ROW]}


class StatesUnderTest:
    """A client of positions and one of flights, of the same account, with metrics and an event loop of their own."""

    def __init__(self, server: PositionServer, clock: FakeClock) -> None:
        self.metrics = Metrics(ServiceIdentity("collector", "local"))
        self.connection = OpenSkyConnection(
            [server.url], f"{server.url}{TOKEN_PATH}", ("towerwatch", SECRET), clock, self.metrics
        )
        shared = PositionMetrics(self.metrics)
        self.states = OpenSkyStatesClient(server.url, self.connection, clock, self.metrics, shared)
        self.flights = OpenSkyClient(server.url, self.connection, clock, self.metrics)
        self._loop = asyncio.new_event_loop()

    def poll(self, region: StatesRegion = PARIS, within_s: float = LONG_S) -> Poll:
        """Poll a region."""
        return self.run(self.states.fetch_poll(region, within_s))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the clients' loop."""
        return self._loop.run_until_complete(work)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if it has none."""
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "collector", "node": "local"}) or 0

    def close(self) -> None:
        """Close the connections and the loop."""
        self._loop.run_until_complete(self.connection.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


@pytest.fixture
def server() -> Iterator[PositionServer]:
    with PositionServer().running() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime.fromtimestamp(NOW, UTC))


@pytest.fixture
def client(server: PositionServer, clock: FakeClock) -> Iterator[StatesUnderTest]:
    under_test = StatesUnderTest(server, clock)
    yield under_test
    under_test.close()


@pytest.mark.parametrize(
    ("region", "path", "query"),
    [
        (PARIS, "/states/all", {"lamin": "47.00", "lomin": "0.10", "lamax": "50.00", "lomax": "4.50"}),
        (Box(-9_000, -18_000, -8_901, -17_955), "/states/all",
         {"lamin": "-90.00", "lomin": "-180.00", "lamax": "-89.01", "lomax": "-179.55"}),
        (WORLD, "/states/all", {}),
        (OWN_RECEIVERS, "/states/own", {}),
    ],
)  # fmt: skip
def test_a_region_is_asked_for_with_categories_and_the_accounts_token(
    client: StatesUnderTest, server: PositionServer, region: StatesRegion, path: str, query: dict[str, str]
) -> None:
    """Edges are degrees; the answer may be compressed, as that for the whole world is."""
    server.script.append(zipped(POLL))
    poll = client.poll(region)
    assert (poll.time, [each.icao24 for each in poll.states]) == (NOW, ["39de4f"])
    assert poll.states[0].category == 4
    (asked,) = server.requests
    assert asked.path == path
    assert asked.query == {name: [value] for name, value in {"extended": "1", **query}.items()}
    assert asked.headers["authorization"] == "Bearer token-1"
    assert asked.headers["accept-encoding"] == "gzip"
    assert client.metric("positions_polls_total", source="opensky", outcome="success") == 1
    assert client.metric("positions_aircraft", source="opensky") == 1


def test_flights_and_positions_share_one_token(client: StatesUnderTest, server: PositionServer) -> None:
    """The authorization server is asked once for both; a rejected token is replaced for both, in the same poll."""
    server.script.extend([answer(200, POLL), answer(404), answer(200, POLL)])
    client.poll()
    begin = datetime(2023, 11, 13, tzinfo=UTC)
    assert client.run(client.flights.fetch_flights("LFPG", Direction.ARRIVALS, begin, begin + timedelta(days=1))) == []
    assert server.token_requests == 1
    server.revoked.add("token-1")
    assert client.poll().states
    assert [each.headers["authorization"] for each in server.requests[-2:]] == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_is_rejected_twice_is_a_refusal(client: StatesUnderTest, server: PositionServer) -> None:
    """It is not renewed for ever within one poll."""
    server.revoked |= {"token-1", "token-2"}
    with pytest.raises(SourceRefusedError):
        client.poll()
    assert len(server.requests) == 2


def test_a_request_without_a_token_is_not_sent_and_says_so(client: StatesUnderTest, server: PositionServer) -> None:
    """The server of tokens is unreachable: the source was not asked, so that the request costs nothing."""
    client.connection._token_url = "http://127.0.0.1:9/token"  # nothing listens on the port of "discard"
    with pytest.raises(SourceUnavailableError) as caught:
        client.poll()
    assert caught.value.is_unasked
    assert server.requests == []


def test_null_states_are_a_poll_without_aircraft(client: StatesUnderTest, server: PositionServer) -> None:
    """It is the source's own answer, not an error; what it covers is not the client's to judge."""
    server.script.append(answer(200, {"time": NOW, "states": None}))
    assert client.poll() == Poll(NOW, ())


def bomb() -> bytes:
    """Return an answer of 100 kB that is 100 MB when it is decompressed."""
    return answer(200, gzip.compress(b" " * 100_000_000, 9, mtime=0), Content_Encoding="gzip")


PAGE: Final = b"<!DOCTYPE html><html><body>Please sign in</body></html>"
FOREIGN: Final[dict[str, tuple[bytes, ForeignAnswer]]] = {
    "page": (answer(200, PAGE, Content_Type="text/html"), ForeignAnswer.HTML),
    "compressed page": (answer(200, gzip.compress(PAGE), Content_Encoding="gzip"), ForeignAnswer.HTML),
    "null": (answer(200, None), ForeignAnswer.JSON),
    "list": (answer(200, []), ForeignAnswer.JSON),
    "no time": (answer(200, {"states": []}), ForeignAnswer.JSON),
    "error": (answer(200, {"error": "no"}), ForeignAnswer.PROBLEM_JSON),
    "empty": (answer(200), ForeignAnswer.UNREADABLE),
    "cut off": (answer(200, b'{"time": 1700000000, "states": [['), ForeignAnswer.UNREADABLE),
    "deep": (answer(200, b"[" * 200_000), ForeignAnswer.UNREADABLE),
    "rows of another form": (answer(200, {"time": NOW, "states": [{"hex": "39de4f"}]}), ForeignAnswer.NO_IDENTITY),
    "404": (answer(404), ForeignAnswer.NOT_FOUND_WITH_BODY),
    "redirect": (answer(302, Location="https://portal.example/"), ForeignAnswer.REDIRECT),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_others_say_in_the_sources_name_is_no_empty_sky(
    client: StatesUnderTest, server: PositionServer, case: str
) -> None:
    """It is an outage, counted by kind with those of flights; a redirect is not followed with the token."""
    given, kind = FOREIGN[case]
    server.script.append(given)
    with pytest.raises(ForeignAnswerError) as caught:
        client.poll()
    assert caught.value.kind is kind
    assert client.metric("opensky_foreign_answers_total", kind=kind.value) == 1
    assert client.metric("positions_polls_total", source="opensky", outcome="failure") == 1
    assert len(server.requests) == 1


UNAVAILABLE: Final[dict[str, Callable[[PositionServer], bytes | Iterable[bytes]]]] = {
    "503": lambda _: answer(503),
    "connection closed": lambda _: b"",
    "cut body": lambda _: answer(200, b'{"time": 1', Content_Length="5000"),
    "cut gzip": lambda _: answer(200, gzip.compress(b'{"time": 17, "states": []}')[:-9], Content_Encoding="gzip"),
    "gzip that is none": lambda _: answer(200, POLL, Content_Encoding="gzip"),
    "another coding": lambda _: answer(200, zlib.compress(b"{}"), Content_Encoding="deflate"),
    "bomb": lambda _: bomb(),
    "no end": lambda _: endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"[" * 1_000_000),
}  # fmt: skip


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_an_answer_that_is_broken_or_too_large_is_an_outage(
    client: StatesUnderTest, server: PositionServer, case: str
) -> None:
    """It is not read to an end that may never come, and asked for once: the next poll is the next attempt."""
    server.script.append(UNAVAILABLE[case](server))
    expected = SourceRefusedError if case in ("bomb", "no end") else SourceUnavailableError
    with pytest.raises(expected) as caught:
        client.poll()
    assert not isinstance(caught.value, ForeignAnswerError)
    assert SECRET not in str(caught.value)
    assert "token-1" not in str(caught.value)
    assert len(server.requests) == 1


def test_a_slow_answer_ends_with_the_time_that_the_poll_has(client: StatesUnderTest, server: PositionServer) -> None:
    """Bytes that trickle do not make a poll last until after the next one is due."""
    server.script.append(server.trickle())
    with pytest.raises(SourceUnavailableError, match="no whole answer"):
        client.poll(within_s=0.2)


@pytest.mark.parametrize("headers", [{"X_Rate_Limit_Retry_After_Seconds": "120"}, {"Retry_After": "120"}])
def test_a_429_pauses_positions_and_not_flights(
    client: StatesUnderTest, server: PositionServer, clock: FakeClock, headers: dict[str, str]
) -> None:
    """The source has a bucket for each; during the pause nothing is asked for positions."""
    server.script.extend([answer(429, X_Rate_Limit_Remaining="0", **headers), answer(404), answer(200, POLL)])
    with pytest.raises(SourceLimitedError) as caught:
        client.poll()
    assert caught.value.retry_after_s == 120
    assert client.states.remaining_credits == 0
    with pytest.raises(SourceLimitedError):
        client.poll(WORLD)
    begin = datetime(2023, 11, 13, tzinfo=UTC)
    assert client.run(client.flights.fetch_flights("LFPG", Direction.ARRIVALS, begin, begin + timedelta(days=1))) == []
    assert client.flights.remaining_credits is None
    assert len(server.requests) == 2
    clock.advance(timedelta(seconds=120))
    assert client.poll().states


def test_the_breaker_opens_for_positions_alone_and_closes_again(
    client: StatesUnderTest, server: PositionServer, clock: FakeClock
) -> None:
    """After failures in a row nothing is asked for two minutes at most; an outage of the flights does not open it."""
    for _ in range(POSITIONS_POLICY.failures_to_open):
        with pytest.raises(SourceUnavailableError):
            client.poll()
    with pytest.raises(BreakerOpenError):
        client.poll()
    assert len(server.requests) == POSITIONS_POLICY.failures_to_open
    assert client.metric("positions_breaker_state", source="opensky", state="open") == 1
    assert client.metric("opensky_breaker_state", state="closed") == 1
    clock.advance(POSITIONS_POLICY.longest_opening)
    server.script.append(answer(200, POLL))
    assert client.poll().states
    assert client.metric("positions_breaker_state", source="opensky", state="closed") == 1


@pytest.mark.parametrize("status", [400, 403, 407, 418])
def test_a_refusal_is_told_as_one_sentence(client: StatesUnderTest, server: PositionServer, status: int) -> None:
    """As for an account without receivers that asks for its own."""
    server.script.append(answer(status))
    with pytest.raises(SourceRefusedError) as caught:
        client.poll(OWN_RECEIVERS)
    assert f"status {status}" in str(caught.value)


def test_credits_are_those_that_the_last_answer_reported(client: StatesUnderTest, server: PositionServer) -> None:
    """Also those of an answer that is an error."""
    server.script.extend([answer(200, POLL, X_Rate_Limit_Remaining="3999"), answer(503, X_Rate_Limit_Remaining="3990")])
    client.poll()
    assert client.states.remaining_credits == 3999
    with pytest.raises(SourceError):
        client.poll()
    assert client.states.remaining_credits == 3990
