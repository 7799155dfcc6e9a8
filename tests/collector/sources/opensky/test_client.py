"""Tests of the OpenSky client, over real HTTP, against the replay and against a server with scripted faults."""

import asyncio
import gzip
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any, Final, TypeVar

import pytest
import stamina
import structlog
from hypothesis import example, given, settings, strategies as st
from pydantic import ValidationError

from chassis.breaker import BreakerState
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import (
    BreakerOpenError,
    ForeignAnswer,
    ForeignAnswerError,
    IncompleteAnswerError,
    SourceError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.sources.breaker_guard import BREAKER_POLICY
from collector.sources.flight import Flight
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection, OpenSkyTimeouts
from collector.sources.opensky.flight_reader import FlightReader, count_tolerated_rows
from domain.interests import Direction
from local.opensky import flights as timetable
from local.opensky.access import Credentials
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import HANG_UP, RESET, TOKEN_PATH, ReceivedRequest, ScriptedOpenSky, answer, replay

T = TypeVar("T")

FAILURES_TO_OPEN: Final = BREAKER_POLICY.failures_to_open
FIRST_OPENING: Final = BREAKER_POLICY.first_opening
LONGEST_OPENING: Final = BREAKER_POLICY.longest_opening
BEGIN = datetime(2013, 2, 12, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
SECRET = "hunter2-the-secret"
CREDENTIALS = ("towerwatch", SECRET)
LIMITED: Final = answer(429, X_Rate_Limit_Retry_After_Seconds="120")
THREAD_TIMEOUT_S: Final = 30.0
"""Real seconds until a thread that another one should wake at once counts as hanging."""


def row(at: int = 3600, **changes: object) -> dict[str, object]:
    """Return a departure from KJFK, `at` seconds after BEGIN, as OpenSky encodes it."""
    seen = int(BEGIN.timestamp()) + at
    fields = {"icao24": "a00001", "firstSeen": seen, "lastSeen": seen + 60, "callsign": "TW1     "}
    return fields | {"estDepartureAirport": "KJFK", "estArrivalAirport": None} | changes


DIRECTIONS = (Direction.DEPARTURES, Direction.ARRIVALS)


class ClientUnderTest:
    """A client with metrics and an event loop of its own, for synchronous tests."""

    def __init__(
        self,
        url: str,
        token_url: str,
        clock: FakeClock,
        credentials: tuple[str, str] | None = None,
        timeouts: OpenSkyTimeouts = OpenSkyTimeouts(),  # noqa: B008 - frozen
    ) -> None:
        self.metrics = Metrics(ServiceIdentity("collector", "local"))
        self._connection = OpenSkyConnection([url], token_url, credentials, clock, self.metrics, timeouts)
        self.client = OpenSkyClient(url, self._connection, clock, self.metrics)
        self._loop = asyncio.new_event_loop()  # one for all calls, because connections and token are kept

    def fetch(
        self, direction: Direction = Direction.DEPARTURES, begin: datetime = BEGIN, end: datetime = END
    ) -> list[Flight]:
        """Fetch the flights of KJFK."""
        return self.run(self.client.fetch_flights("KJFK", direction, begin, end))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the client's loop."""
        return self._loop.run_until_complete(work)

    def fail(self, times: int = 1) -> None:
        """Make so many API calls, each of which must fail with SourceUnavailableError."""
        for _ in range(times):
            with pytest.raises(SourceUnavailableError) as caught:
                self.fetch()
            assert not isinstance(caught.value, BreakerOpenError)

    def expect_open_breaker(self) -> BreakerOpenError:
        """Make an API call, which the breaker must reject, and return the error."""
        with pytest.raises(BreakerOpenError) as caught:
            self.fetch()
        return caught.value

    def shown_breaker_state(self) -> BreakerState:
        """Return the state whose metric is 1, after a check that all others are 0."""
        shown = {state: self.metric("opensky_breaker_state", state=state.value) for state in BreakerState}
        assert sorted(shown.values()) == [0, 0, 1]
        return max(shown, key=shown.__getitem__)

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value, 0 if it has none."""
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "collector", "node": "local"}) or 0

    def call_counts(self) -> tuple[float, float, float]:
        """Return the numbers of attempts, successes and failures."""
        attempt, success, failure = (
            self.metric("opensky_api_calls_total", status=status) for status in ("attempt", "success", "failure")
        )
        return attempt, success, failure

    def close(self) -> None:
        """Close the client and the loop."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def wait_for(event: threading.Event) -> Callable[[ReceivedRequest], None]:
    """Return a hook for `before_answering` that waits for the event."""

    def wait(_: ReceivedRequest) -> None:
        assert event.wait(THREAD_TIMEOUT_S)

    return wait


@pytest.fixture(autouse=True)
def no_retry_pauses() -> Iterator[None]:
    """Make the client retry without a pause."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def server() -> Iterator[ScriptedOpenSky]:
    with ScriptedOpenSky().running() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(END + timedelta(hours=12))


@pytest.fixture
def anonymous(server: ScriptedOpenSky, clock: FakeClock) -> Iterator[ClientUnderTest]:
    """Yield a client without credentials."""
    client = ClientUnderTest(server.url, server.token_url, clock)
    yield client
    client.close()


@pytest.fixture
def authenticated(server: ScriptedOpenSky, clock: FakeClock) -> Iterator[ClientUnderTest]:
    """Yield a client with credentials."""
    client = ClientUnderTest(server.url, server.token_url, clock, CREDENTIALS)
    yield client
    client.close()


def test_flights_are_those_of_the_replays_timetable(clock: FakeClock) -> None:
    """The begin is included, the end is not; each direction counts by its own time, with and without a token."""
    at = int(BEGIN.timestamp())
    day = int(timedelta(days=1).total_seconds())
    departures = [-1, 0, 1, day - 1, day]
    source = [
        *(
            timetable.TimetableFlight(at + s, at + s + 9, f"{i:06x}", "TW", "KJFK", "LICC")
            for i, s in enumerate(departures, 1)
        ),
        *(
            timetable.TimetableFlight(at + s - 9, at + s, f"{i:06x}", "TW", "LICC", "KJFK")
            for i, s in enumerate(departures, 1)
        ),
    ]
    credentials = Credentials(*CREDENTIALS)
    clock.advance(timedelta(hours=27))  # so the record of the next day, too, on which the last flight arrived, is there
    with replay(source, clock, credentials) as url:
        for given_credentials in (None, CREDENTIALS):
            client = ClientUnderTest(f"{url}/api", f"{url}{TOKEN_PATH}", clock, given_credentials)
            departed = client.fetch(Direction.DEPARTURES)
            arrived = client.fetch(Direction.ARRIVALS)
            client.close()
            assert [int(each.first_seen.timestamp()) - at for each in departed] == [0, 1, day - 1]
            assert [int(each.last_seen.timestamp()) - at for each in arrived] == [0, 1, day - 1]
            assert {each.other_airport(Direction.DEPARTURES) for each in departed} == {"LICC"}
            assert {each.other_airport(Direction.ARRIVALS) for each in arrived} == {"LICC"}


def test_a_day_without_flights_is_an_empty_list(clock: FakeClock) -> None:
    """The replay answers with 404, as OpenSky does."""
    with replay([], clock) as url:
        client = ClientUnderTest(f"{url}/api", "", clock)
        assert client.fetch() == []
        assert client.call_counts() == (1, 1, 0)
        client.close()


def test_a_request_has_whole_seconds_with_both_ends_included(
    anonymous: ClientUnderTest, server: ScriptedOpenSky
) -> None:
    """The parameters are as documented, and anonymous clients send no Authorization header."""
    anonymous.fetch(Direction.ARRIVALS)
    (asked,) = server.requests
    at = int(BEGIN.timestamp())
    assert asked.path == "/flights/arrival"
    assert asked.query == {"airport": ["KJFK"], "begin": [str(at)], "end": [str(at + 86_399)]}
    assert asked.authorization is None


def test_a_fraction_of_a_second_belongs_to_the_interval_that_holds_the_next_second(
    anonymous: ClientUnderTest, server: ScriptedOpenSky
) -> None:
    """Event times are whole seconds: [0.5, 10.5) holds those from 1 to 10, and no second is requested twice."""
    at = int(BEGIN.timestamp())
    cuts = [BEGIN + timedelta(seconds=seconds) for seconds in (0, 0.5, 10.5, 11, 11.000001)]
    for begin, end in pairwise(cuts):
        anonymous.fetch(begin=begin, end=end)
    asked = [(int(each.query["begin"][0]) - at, int(each.query["end"][0]) - at) for each in server.requests]
    assert asked == [(0, 0), (1, 10), (11, 11)]  # [10.5, 11) holds none


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=-5)])
def test_an_interval_without_a_whole_second_needs_no_request(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, length: timedelta
) -> None:
    """No flight can be in it."""
    begin = BEGIN + timedelta(microseconds=1)
    assert anonymous.fetch(begin=begin, end=begin + length) == []
    assert server.requests == []


def test_an_interval_touches_two_days_at_most(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """An interval that touches three UTC days would be rejected by the source, and is a mistake of ours."""
    anonymous.fetch(begin=BEGIN, end=END + timedelta(days=1))
    assert len(server.requests) == 1
    second = timedelta(seconds=1)
    for begin, end in ((BEGIN - second, END + second), (BEGIN, END + timedelta(days=1, seconds=1))):
        with pytest.raises(ValueError, match="two UTC days"):
            anonymous.fetch(begin=begin, end=end)
    assert len(server.requests) == 1


def test_flights_outside_of_the_interval_are_left_out(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """They are in the answer for another interval."""
    server.script = [answer(200, [row(-1), row(0), row(86_399), row(86_400)])]
    assert [each.first_seen for each in anonymous.fetch()] == [BEGIN, END - timedelta(seconds=1)]


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7200", 7200),
        ("1.5", 1.5),
        (None, 60),
        ("", 60),
        ("soon", 60),
        ("nan", 60),
        ("inf", 60),
        ("-5", 1),
        ("0", 1),
        ("1e300", 86_400),
    ],
)
def test_a_429_has_the_length_of_the_pause(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, header: str | None, pause_s: float
) -> None:
    """A rate limit is not retried; if the header is missing or invalid, the pause is one minute."""
    server.script = [answer(429, **({} if header is None else {"X_Rate_Limit_Retry_After_Seconds": header}))]
    with pytest.raises(SourceLimitedError) as caught:
        anonymous.fetch()
    assert caught.value.retry_after_s == pause_s
    assert len(server.requests) == 1


def test_during_a_pause_no_request_is_sent(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """The pause holds for every call, to the second, and each call reports the rest of the pause at once."""
    server.script = [LIMITED]
    with pytest.raises(SourceLimitedError):
        anonymous.fetch()
    for passed, left in ((0, 120), (119.5, 0.5)):
        clock.advance(timedelta(seconds=passed))
        for direction in (Direction.DEPARTURES, Direction.ARRIVALS):
            with pytest.raises(SourceLimitedError) as caught:
                anonymous.fetch(direction)
            assert caught.value.retry_after_s == left
    assert len(server.requests) == 1
    assert anonymous.call_counts() == (1, 0, 1)
    clock.advance(timedelta(seconds=0.5))
    assert anonymous.fetch() == []


def test_during_a_pause_no_token_is_requested(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """No call would use the token."""
    server.script = [answer(429, X_Rate_Limit_Retry_After_Seconds="7200")]
    for _ in range(2):
        with pytest.raises(SourceLimitedError):
            authenticated.fetch()
        clock.advance(timedelta(hours=1))  # it has expired meanwhile
    assert len(server.token_requests) == 1


def test_a_longer_pause_is_not_ended_by_a_shorter_one(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Two concurrent calls may get different pauses."""
    outcome = run_overtaken_call(
        anonymous, server, late=answer(429, X_Rate_Limit_Retry_After_Seconds="5"), soon=LIMITED
    )
    assert isinstance(outcome, SourceLimitedError)
    clock.advance(timedelta(seconds=119))
    with pytest.raises(SourceLimitedError):
        anonymous.fetch()
    assert len(server.requests) == 2


def test_a_call_between_two_attempts_keeps_the_pause(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """One call gets a late 503, another was limited meanwhile: the first makes no second attempt."""
    assert isinstance(run_overtaken_call(anonymous, server, late=answer(503), soon=LIMITED), SourceLimitedError)
    assert len(server.requests) == 2


def run_overtaken_call(under_test: ClientUnderTest, server: ScriptedOpenSky, late: bytes, soon: bytes) -> object:
    """Return the outcome of a call whose first answer, `late`, comes after another call got `soon` and ended."""
    other_ended = threading.Event()

    def wait(asked: ReceivedRequest) -> None:
        if asked.query["airport"] == ["LICC"]:
            assert other_ended.wait(THREAD_TIMEOUT_S)

    server.before_answering = wait

    async def two() -> object:
        server.script = [late]
        before = len(server.requests)
        first = asyncio.create_task(under_test.client.fetch_flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while len(server.requests) == before or server.script == [late]:
            await asyncio.sleep(0)
        server.script = [soon]
        await asyncio.gather(
            under_test.client.fetch_flights("KJFK", Direction.DEPARTURES, BEGIN, END), return_exceptions=True
        )
        other_ended.set()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)
        return outcome

    return under_test.run(two())


@pytest.mark.parametrize("status", [200, 404])
def test_remaining_credits_are_those_last_reported(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, status: int
) -> None:
    """They are unknown at first; a missing or invalid header changes nothing."""
    assert anonymous.client.remaining_credits is None
    body: object = [] if status == 200 else b""
    for header, expected in (
        (None, None), ("400", 400), ("many", 400), ("-1", 400), ("3.5", 400), ("9" * 30, 400), (None, 400), ("0", 0),
    ):  # fmt: skip
        headers = {} if header is None else {"X_Rate_Limit_Remaining": header}
        server.script = [answer(status, body, **headers)]
        anonymous.fetch()
        assert anonymous.client.remaining_credits == expected


TRUNCATED = answer(200, [row()] * 9)[:-40]
BAD_ANSWERS = {
    "out of order": answer(503),
    "hung up": HANG_UP,
    "reset": RESET,
    "truncated": TRUNCATED,
    "truncated JSON": answer(200, json.dumps([row()]).encode()[:-5]),
    "HTML": answer(200, b"<html>maintenance</html>"),
    "an object": answer(200, {"flights": []}),
    "null": answer(200, None),
    "empty": answer(200),
    "no UTF-8": answer(200, b"\xff\xfe["),
    "nested": answer(200, b"[" * 100_000),
    "not gzip": answer(200, b"[]", Content_Encoding="gzip"),
    "another format": answer(200, [{"flight": 1}, {"flight": 2}]),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
}


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_bad_answer_is_tried_three_times_and_never_means_no_flights(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, bad: bytes
) -> None:
    """The error is transient, so the interval stays due."""
    server.script = [bad] * 4
    with pytest.raises(SourceUnavailableError) as caught:
        anonymous.fetch()
    assert caught.value.transient
    assert len(server.requests) == 3
    assert anonymous.call_counts() == (3, 0, 3)


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_passing_fault_is_retried(anonymous: ClientUnderTest, server: ScriptedOpenSky, bad: bytes) -> None:
    """The third attempt gets the flights."""
    server.script = [bad, bad, answer(200, [row()])]
    assert len(anonymous.fetch()) == 1
    assert anonymous.call_counts() == (3, 1, 2)


def test_a_refused_connection_is_an_unavailable_source(clock: FakeClock) -> None:
    """No server listens on the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = ClientUnderTest(f"http://127.0.0.1:{port}", "", clock)
    with pytest.raises(SourceUnavailableError, match="ConnectError"):
        client.fetch()
    client.close()


def test_a_silent_server_is_an_unavailable_source(clock: FakeClock) -> None:
    """A server that accepts the connection and never answers must not block the collection for ever."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = ClientUnderTest(url, "", clock, timeouts=OpenSkyTimeouts(total_s=0.1))
        with pytest.raises(SourceUnavailableError):
            client.fetch()
        assert client.call_counts() == (3, 0, 3)
        client.close()


def test_a_call_has_a_deadline_for_all_its_attempts(clock: FakeClock) -> None:
    """Tokens, attempts and pauses together must not exceed the deadline."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = ClientUnderTest(f"http://127.0.0.1:{silent.getsockname()[1]}", "", clock)
        client.client._deadline_s = 0.05
        with pytest.raises(SourceUnavailableError, match=r"no whole answer within 0\.05 s"):
            client.fetch()
        assert client.call_counts() == (1, 0, 1)
        client.close()


def test_a_trickle_ends_at_the_timeout(clock: FakeClock) -> None:
    """The timeout counts to the last byte, though each byte before arrives soon."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def trickle() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=drip, args=[slow.accept()[0]], daemon=True).start()

        def drip(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n[")
                while not over.wait(0.01):
                    connection.sendall(b" ")

        threading.Thread(target=trickle, daemon=True).start()
        url = f"http://127.0.0.1:{slow.getsockname()[1]}"
        client = ClientUnderTest(url, "", clock, timeouts=OpenSkyTimeouts(total_s=0.2))
        with pytest.raises(SourceUnavailableError, match=r"no whole answer within 0\.2 s"):
            client.fetch()
        assert client.call_counts() == (3, 0, 3)
        client.close()
        over.set()


def test_a_host_that_accepts_no_connection_is_an_unavailable_source(clock: FakeClock) -> None:
    """The connection has its own, shorter timeout."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # the queue is full then, and the kernel accepts no more
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        client = ClientUnderTest(url, "", clock, timeouts=OpenSkyTimeouts(connect_s=0.1, total_s=THREAD_TIMEOUT_S))
        with pytest.raises(SourceUnavailableError, match="ConnectTimeout"):
            client.fetch()
        client.close()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_rejected_request_is_a_permanent_error(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, status: int
) -> None:
    """A rejection is not retried."""
    server.script = [answer(status, b"no")]
    with pytest.raises(SourceRefusedError, match=str(status)) as caught:
        anonymous.fetch()
    assert not caught.value.transient
    assert len(server.requests) == 1


MALFORMED = {
    "no icao24": {"icao24": None},
    "too long": {"icao24": "a000011"},
    "line break": {"icao24": "a00001\n"},
    "no time": {"firstSeen": None},
    "negative": {"firstSeen": -5},
    "boolean": {"firstSeen": True},
    "float": {"firstSeen": 1360627200.5},
    "text": {"lastSeen": "1360627200"},
    "beyond the calendar": {"lastSeen": 253_402_300_800},
    "huge": {"lastSeen": 10**30},
    "backwards": {"lastSeen": 1},
}


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_flight_is_left_out_and_counted(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, fault: dict[str, object]
) -> None:
    """The other flights are returned; the log has the names of the fields, not their values."""
    server.script = [answer(200, [*map(row, range(19)), row(7200, **fault)])]
    with structlog.testing.capture_logs() as logs:
        assert len(anonymous.fetch()) == 19
    assert anonymous.metric("opensky_malformed_flights_total") == 1
    (entry,) = logs
    assert (entry["event"], entry["left_out"]) == ("opensky.malformed_flights", 1)


def test_an_answer_with_many_malformed_flights_is_an_error(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """What is left of it is not all flights, and would cover the day with too few. It is not asked for again now."""
    server.script = [answer(200, [row(), *(row(at, lastSeen=None) for at in range(60, 107))])]
    with pytest.raises(IncompleteAnswerError, match="47 of the 48"):
        anonymous.fetch()
    assert len(server.requests) == 1


def test_one_malformed_flight_of_few_is_left_out_of_the_sources_last_word(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """It would keep a small airport from being covered for ever."""
    server.script = [answer(200, [row(), row(60, lastSeen=None)])] * 2
    with pytest.raises(IncompleteAnswerError):
        anonymous.fetch()
    clock.advance(timedelta(days=4))
    assert len(anonymous.fetch()) == 1


@pytest.mark.parametrize("status", [200, 404, 503])
def test_an_answer_that_would_fill_the_memory_is_an_error(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, status: int
) -> None:
    """Its few compressed bytes are millions; it is neither read to its end nor asked for again."""
    server.script = [answer(status, gzip.compress(b"[" + b" " * 40_000_000 + b"]"), Content_Encoding="gzip")]
    with pytest.raises(SourceRefusedError, match="bytes"):
        anonymous.fetch()
    assert len(server.requests) == 1


@pytest.mark.parametrize("odd", [b"{}", b"0", b"[]", json.dumps(row()).encode()])
def test_an_answer_with_more_rows_than_any_airport_has_is_not_read(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, odd: bytes
) -> None:
    """A few megabytes of tiny rows would take minutes; not one of them is looked at, nor asked for again."""
    server.script = [answer(200, b"[" + b",".join([odd] * 20_001) + b"]")]
    with pytest.raises(SourceRefusedError, match="20001 flights"):
        anonymous.fetch()
    assert anonymous.metric("opensky_malformed_flights_total") == 0
    assert len(server.requests) == 1


def test_other_tasks_go_on_while_an_answer_is_parsed(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser waits here for another task of the loop, which it would block for ever if it ran in the loop."""
    begun, ran = threading.Event(), threading.Event()

    def read_flights(*_: object) -> list[Flight]:
        """Return no flights once the other task has run."""
        begun.set()
        assert ran.wait(THREAD_TIMEOUT_S)
        return []

    async def fetch_beside_another_task() -> list[Flight]:
        """Fetch, and go on here once the answer is being parsed."""
        fetching = asyncio.create_task(anonymous.client.fetch_flights("KJFK", Direction.DEPARTURES, BEGIN, END))
        while not begun.is_set() and not fetching.done():
            await asyncio.sleep(0.001)
        ran.set()
        return await fetching

    monkeypatch.setattr(FlightReader, "read_flights", read_flights)
    server.script = [answer(200, [row()])]
    assert anonymous.run(fetch_beside_another_task()) == []


@pytest.mark.parametrize(("status", "body"), [(200, [row()]), (200, []), (404, b"")])
def test_an_old_answer_of_a_cache_is_an_error(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, status: int, body: object
) -> None:
    """It would be the second answer that proves the first one, or confirm zero flights in an outage.

    Caches are asked for the source's own answer; a cache may keep one for as long as its clock and ours may differ.
    """
    server.script = [answer(status, body, Age="10763"), answer(status, body, Age="299")]
    with pytest.raises(SourceRefusedError, match="no-cache"):
        anonymous.fetch()
    assert len(anonymous.fetch()) == (1 if body == [row()] else 0)
    assert [request.cache_control for request in server.requests] == ["no-cache"] * 2


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("mine", [0, 1, 18, 19])
def test_flights_of_another_airport_are_not_counted(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, direction: Direction, mine: int
) -> None:
    """A few are left out; with more of them the answer is one to another question, which covers nothing."""
    field = {Direction.DEPARTURES: "estDepartureAirport", Direction.ARRIVALS: "estArrivalAirport"}[direction]
    rows = [row(at, **{field: ("kjfk ", None)[at % 2]}) for at in range(mine)]
    server.script = [answer(200, [*rows, *(row(60 + at, **{field: "KATL"}) for at in range(20 - mine))])]
    if mine == 19:
        assert len(anonymous.fetch(direction)) == 19
    else:
        with pytest.raises(IncompleteAnswerError):
            anonymous.fetch(direction)
    assert len(server.requests) == 1


@pytest.mark.parametrize("icao24", ["000000", " FFFFFF"])
def test_an_address_that_no_aircraft_has_is_no_identity(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, icao24: str
) -> None:
    """Several aircraft may send it at once: as one of them they would be merged, and too few flights be counted. So
    many such rows make the answer incomplete, and it covers nothing."""
    shared = [row(60 * at, icao24=icao24) for at in range(2)]
    server.script = [answer(200, [*map(row, range(40)), *shared]), answer(200, [*map(row, range(9)), *shared])]
    assert len(anonymous.fetch()) == 40
    with pytest.raises(IncompleteAnswerError, match="2 of the 11"):
        anonymous.fetch()


@given(st.integers(0, 2_000), st.floats(0, 9))
def test_at_most_one_row_in_twenty_is_tolerated_and_never_all(rows: int, days: float) -> None:
    """But one of two or more, once the answer is the source's last word."""
    tolerated = count_tolerated_rows(rows, timedelta(days=days))
    assert tolerated * 20 <= rows or (tolerated == 1 and rows > 1 and days >= 2)
    assert tolerated < max(rows, 1)


@pytest.mark.parametrize("odd", [{}, [], None, 7, "flight", [row()]], ids=repr)
def test_an_answer_without_any_identity_is_unavailable(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, odd: object
) -> None:
    """One row that cannot be read is not "no flights": it would cover the interval as empty."""
    server.script = [answer(200, [odd])] * 3
    with pytest.raises(SourceUnavailableError, match="none of the rows"):
        anonymous.fetch()
    assert anonymous.metric("opensky_malformed_flights_total") == 3


DROPPED = {
    "long callsign": ("callsign", "TOWERWATCH"),
    "callsign of another type": ("callsign", 7),
    "half a character": ("callsign", "\ud800"),
    "nul within": ("callsign", "A\x00B"),
    "local code": ("estArrivalAirport", "US-0571"),
    "eight characters": ("estDepartureAirport", "ZZZZ0001"),
    "three characters": ("estArrivalAirport", "JFK"),
    "airport of another type": ("estArrivalAirport", ["KJFK"]),
}


@pytest.mark.parametrize(("field", "value"), DROPPED.values(), ids=DROPPED.keys())
def test_a_field_that_does_not_count_is_dropped_from_its_flight(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, field: str, value: object
) -> None:
    """The flight counts all the same; the field is counted each time and logged once a day, without its value."""
    server.script = [answer(200, [row(**{field: value}), row(7200, **{field: value})])]
    with structlog.testing.capture_logs() as logs:
        flights = anonymous.fetch()
    texts = {"callsign": "callsign", "estArrivalAirport": "arrival_airport", "estDepartureAirport": "departure_airport"}
    assert [getattr(flight, texts[field]) for flight in flights] == ["", ""]
    assert anonymous.metric("opensky_malformed_flights_total") == 0
    assert anonymous.metric("opensky_dropped_fields_total", field=field) == 2
    assert [(entry["event"], entry["field"]) for entry in logs] == [("opensky.field_dropped", field)]


SPELLINGS = {
    "upper-case address": ({"icao24": "A00001"}, "icao24", "a00001"),
    "float without a fraction": ({"firstSeen": float(row()["firstSeen"])}, "callsign", "TW1"),
    "callsign padded with nul": ({"callsign": "TW7 \x00\x00"}, "callsign", "TW7"),
    "lower-case airport": ({"estArrivalAirport": "kbos"}, "arrival_airport", "KBOS"),
}


@pytest.mark.parametrize(("changes", "name", "expected"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_another_spelling_is_understood(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, changes: dict[str, object], name: str, expected: str
) -> None:
    """Nothing is dropped from such a flight."""
    server.script = [answer(200, [row(**changes)])]
    (flight,) = anonymous.fetch()
    assert getattr(flight, name) == expected


FOREIGN_ANSWERS = {
    "404 with a page": (404, b"<html>no such page</html>", ForeignAnswer.HTML),
    "404 with a problem": (404, b'{"status":404,"error":"Not Found"}', ForeignAnswer.PROBLEM_JSON),
    "404 with null": (404, b"null", ForeignAnswer.JSON),
    "404 with an empty list": (404, b"[]", ForeignAnswer.NOT_FOUND_WITH_BODY),
    "404 with a line break": (404, b"\n", ForeignAnswer.NOT_FOUND_WITH_BODY),
    "page": (200, b"<html>sign in</html>", ForeignAnswer.HTML),
    "null": (200, b"null", ForeignAnswer.JSON),
    "object": (200, b'{"flights": []}', ForeignAnswer.JSON),
    "nothing": (200, b"", ForeignAnswer.UNREADABLE),
    "a part": (200, b'[{"icao24": "a00001"', ForeignAnswer.UNREADABLE),
    "rows of another service": (200, b'[{"id": 1}, {"id": 2}]', ForeignAnswer.NO_IDENTITY),
    "redirect": (302, b"", ForeignAnswer.REDIRECT),
    "permanent redirect": (301, b"no", ForeignAnswer.REDIRECT),
}


@pytest.mark.parametrize(("status", "body", "kind"), FOREIGN_ANSWERS.values(), ids=FOREIGN_ANSWERS.keys())
def test_what_others_answer_in_the_sources_name_is_not_zero_flights(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, status: int, body: bytes, kind: ForeignAnswer
) -> None:
    """Only a 404 with an empty body, and an empty list, mean that there were no flights.

    Each foreign answer is counted by its kind, and says nothing about the source's clock.
    """
    headers = {"Location": "/elsewhere"} if status in (301, 302) else {}
    server.script = [answer(status, body, Date=format_date(BEGIN), **headers)] * 3
    with pytest.raises(ForeignAnswerError, match=str(status)) as caught:
        anonymous.fetch()
    assert caught.value.kind is kind
    counted = {each: anonymous.metric("opensky_foreign_answers_total", kind=each.value) for each in ForeignAnswer}
    assert counted == {each: 3 if each is kind else 0 for each in ForeignAnswer}
    assert anonymous.client.clock_error is None


def test_a_foreign_answers_body_is_in_no_log_and_no_error(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """It may hold somebody's session, or an address inside a company's network."""
    with structlog.testing.capture_logs() as logs:
        for status, body, _ in FOREIGN_ANSWERS.values():
            headers = {"Location": f"/{SECRET}", "Content_Type": SECRET}
            server.script = [answer(status, body + SECRET.encode(), **headers)] * 3
            with pytest.raises(SourceUnavailableError) as caught:
                anonymous.fetch()
            assert SECRET not in str(caught.value)
    assert SECRET not in str(logs)


@pytest.mark.parametrize("bad", [answer(200, b"<html>sign in</html>"), answer(302, Location="/sign-in")])
def test_a_foreign_answer_in_the_token_servers_name_is_no_rejection(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, bad: bytes
) -> None:
    """The credentials may be right: the error is transient, and counted like any foreign answer."""
    server.token_script = [bad] * 3
    with pytest.raises(ForeignAnswerError) as caught:
        authenticated.fetch()
    assert authenticated.metric("opensky_foreign_answers_total", kind=caught.value.kind.value) == 3
    assert (len(server.token_requests), server.requests) == (3, [])


# The source's clock


def format_date(instant: datetime) -> str:
    """Return an instant as an HTTP date."""
    return format_datetime(instant, usegmt=True)


OWN_ANSWERS = {
    "flights": (200, json.dumps([row()]).encode()),
    "an empty list": (200, b"[]"),
    "no flights": (404, b""),
    "a rate limit": (429, b"Too many requests"),
}


@pytest.mark.parametrize(("status", "body"), OWN_ANSWERS.values(), ids=OWN_ANSWERS.keys())
@pytest.mark.parametrize("days", [-400, 0, 400])
def test_each_answer_of_the_source_is_compared_with_our_clock(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock, status: int, body: bytes, days: int
) -> None:
    """The error is positive if our clock is ahead; the metric shows the same."""
    ahead = timedelta(days=days)
    assert anonymous.client.clock_error is None
    server.script = [answer(status, body, Date=format_date(clock.now() - ahead))]
    with suppress(SourceLimitedError):
        anonymous.fetch()
    assert anonymous.client.clock_error is not None
    assert abs(anonymous.client.clock_error - ahead) <= timedelta(seconds=1)
    assert anonymous.metric("opensky_clock_error_seconds") == anonymous.client.clock_error.total_seconds()


@pytest.mark.parametrize("own", OWN_ANSWERS.values(), ids=OWN_ANSWERS.keys())
def test_an_answer_without_a_date_leaves_the_clocks_error_unknown(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock, own: tuple[int, bytes]
) -> None:
    """An earlier error is not taken for the present one."""
    for headers in ({}, {"Date": "yesterday"}):
        clock.advance(timedelta(days=1))  # past the pause
        server.script = [answer(404, Date=format_date(clock.now())), answer(*own, **headers)]
        anonymous.fetch()
        assert anonymous.client.clock_error == timedelta(0)
        with suppress(SourceLimitedError):
            anonymous.fetch()
        assert anonymous.client.clock_error is None


@pytest.mark.parametrize("status", [400, 401, 403, 503])
def test_a_rejection_or_failure_does_not_change_the_clocks_error(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock, status: int
) -> None:
    """Proxies and gateways send those too, by clocks of their own."""
    server.script = [answer(404, Date=format_date(clock.now()))]
    server.script += [answer(status, Date=format_date(clock.now() + timedelta(days=1)))] * 3
    anonymous.fetch()
    with pytest.raises(SourceError):
        anonymous.fetch()
    assert anonymous.client.clock_error == timedelta(0)


def test_the_token_servers_clock_is_not_compared(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """It is another machine than the source."""
    server.token_script = [answer(429, Date=format_date(clock.now() + timedelta(days=1)))]
    with pytest.raises(SourceLimitedError):
        authenticated.fetch()
    assert authenticated.client.clock_error is None


def test_a_fast_clock_has_no_error_by_the_time_that_an_answer_takes(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """In a demo hours pass on the service's clock between a request and its answer."""
    server.script = [answer(404, Date=format_date(clock.now() + timedelta(hours=2)))]
    server.before_answering = lambda _: clock.advance(timedelta(hours=3))
    anonymous.fetch()
    assert anonymous.client.clock_error == timedelta(0)


# A wall clock that is set


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["flights", "none", "limited", "limited until", "away", "away", "html", "rejected token"]),
        st.sampled_from([0, 1, 20, 60, 600, 1800]),
        st.sampled_from([0, 400, -400]),
    ),
    min_size=1,
    max_size=14,
)


def script_step(kind: str) -> list[bytes]:
    """Return the answers of the source to all attempts of one API call."""
    dated = {"Date": format_date(BEGIN), "Retry_After": format_date(BEGIN + timedelta(minutes=5))}
    return {
        "flights": [answer(200, [row()])],
        "none": [answer(404)],
        "limited": [LIMITED],
        "limited until": [answer(429, **dated)],
        "away": [answer(503)] * 3,
        "html": [answer(200, b"<html>")] * 3,
        "rejected token": [answer(401), answer(200, [row()])],
    }[kind]


@settings(max_examples=25, deadline=None)
@given(STEPS)
@example([("limited", 0, 400), ("flights", 0, -400), ("flights", 60, 0), ("flights", 60, 0)])
@example([("away", 0, 0)] * FAILURES_TO_OPEN + [("flights", 0, 400), ("flights", 0, -400), ("flights", 60, 0)])
@example([("flights", 0, 400), ("flights", 0, -400), ("flights", 1800, 0), ("flights", 600, 0)])
def test_a_wall_clock_that_is_set_changes_no_call(steps: list[tuple[str, int, int]]) -> None:
    """Pauses, tokens and the breaker go on as if nothing had happened, when the clock jumps by 400 days.

    Two clients meet the same source; the clock of the second is set between the calls, and stays wrong or is set back.
    Both get the same outcomes, from the same requests, with the same tokens.
    """

    def play(has_jumps: bool) -> list[object]:
        """Return the outcomes of all calls, and the requests that the source and its token server got."""
        clock = FakeClock(END)
        seen: list[object] = []
        with ScriptedOpenSky().running() as server:
            client = ClientUnderTest(server.url, server.token_url, clock, CREDENTIALS)
            for kind, seconds, jump_days in steps:
                server.script = script_step(kind)
                if has_jumps:
                    clock.set_wall_clock(clock.now() + timedelta(days=jump_days))
                clock.advance(timedelta(seconds=seconds))
                try:
                    seen.append(client.fetch())
                except SourceError as error:
                    seen.append((type(error), str(error)))
                seen.append(client.shown_breaker_state())
            client.close()
            return [*seen, [asked.authorization for asked in server.requests], len(server.token_requests)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("collector.sources.breaker_guard.random.random", lambda: 1.0)
        assert play(has_jumps=True) == play(has_jumps=False)


def test_a_field_is_logged_once_a_day_although_the_wall_clock_is_set(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """After a look at a time 400 days ahead it is neither logged each time nor never again."""
    spoiled = answer(200, [row(callsign="TOWERWATCH")])
    with structlog.testing.capture_logs() as logs:
        for days, passed, expected in ((0, 0, 1), (400, 0, 1), (-400, 23, 1), (0, 1, 2)):
            clock.set_wall_clock(clock.now() + timedelta(days=days))
            clock.advance(timedelta(hours=passed))
            server.script = [spoiled]
            anonymous.fetch()
            assert len(logs) == expected


def test_optional_fields_may_be_missing(anonymous: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """Callsign and airports are optional, and padding is removed."""
    server.script = [
        answer(200, [row(callsign=None), row(7200), {k: row()[k] for k in ("icao24", "firstSeen", "lastSeen")}])
    ]
    assert [(each.callsign, each.arrival_airport) for each in anonymous.fetch()] == [("", ""), ("TW1", ""), ("", "")]


@given(st.dictionaries(st.sampled_from(list(row())), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda each: st.lists(each, max_size=2)
)))  # fmt: skip
def test_any_row_is_a_flight_or_malformed(changes: dict[str, object]) -> None:
    """No value of any field makes the client crash, and an accepted flight can be stored and published."""
    try:
        flight = Flight.model_validate(row(**changes))
    except ValidationError:
        return
    assert flight.first_seen <= flight.last_seen
    assert flight.callsign.isascii()
    for code in (flight.departure_airport, flight.arrival_airport):
        assert code == "" or (len(code) == 4 and code.isascii() and code == code.upper())


def test_a_token_is_used_until_shortly_before_it_expires(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """One token serves many calls; it is renewed one minute early."""
    authenticated.fetch()
    clock.advance(timedelta(minutes=28, seconds=59))
    authenticated.fetch()
    assert [asked.authorization for asked in server.requests] == ["Bearer token-1"] * 2
    clock.advance(timedelta(seconds=1))
    authenticated.fetch()
    assert server.requests[-1].authorization == "Bearer token-2"
    assert len(server.token_requests) == 2
    assert f"client_secret={SECRET}" in server.token_requests[0].body


def test_a_rejected_token_is_renewed_once(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """The server may have lost the token."""
    authenticated.fetch()
    server.script = [answer(401), answer(200, [row()])]
    assert len(authenticated.fetch()) == 1
    assert [asked.authorization for asked in server.requests[-2:]] == ["Bearer token-1", "Bearer token-2"]


def test_a_new_token_that_is_rejected_ends_the_call(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """After two tokens and two requests the error is permanent."""
    server.script = [answer(401)] * 9
    with pytest.raises(SourceRefusedError):
        authenticated.fetch()
    assert (len(server.token_requests), len(server.requests)) == (2, 2)


def test_a_call_renews_its_token_once_whatever_else_fails(
    authenticated: ClientUnderTest, server: ScriptedOpenSky
) -> None:
    """Server errors in between do not allow a second renewal."""
    server.script = [answer(503), answer(401), answer(503), answer(401), answer(200, [row()])]
    with pytest.raises(SourceRefusedError):
        authenticated.fetch()
    assert (len(server.token_requests), len(server.requests)) == (2, 4)


def test_tasks_share_one_renewal(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """The first token, and the next one after a revocation, are requested once by all tasks together."""

    async def many() -> list[list[Flight]]:
        asked = (authenticated.client.fetch_flights(f"KJ{i:02}", Direction.DEPARTURES, BEGIN, END) for i in range(8))
        return await asyncio.gather(*asked)

    assert authenticated.run(many()) == [[]] * 8
    assert len(server.token_requests) == 1
    server.revoked = {"Bearer token-1"}
    assert authenticated.run(many()) == [[]] * 8
    assert len(server.token_requests) == 2
    assert {asked.authorization for asked in server.requests} == {"Bearer token-1", "Bearer token-2"}


def test_a_late_rejection_does_not_renew_the_new_token(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """Two tasks used the old token; the first has renewed it before the second gets its rejection."""
    authenticated.fetch()
    assert run_overtaken_call(authenticated, server, late=answer(401), soon=answer(401)) == []
    assert len(server.token_requests) == 2


def test_a_cancelled_renewal_is_taken_over_by_the_next_task(
    authenticated: ClientUnderTest, server: ScriptedOpenSky
) -> None:
    """No task waits for ever for a cancelled one."""

    async def cancelled() -> list[Flight]:
        first = asyncio.create_task(authenticated.client.fetch_flights("KJFK", Direction.DEPARTURES, BEGIN, END))
        second = asyncio.create_task(authenticated.client.fetch_flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while not server.token_requests:
            await asyncio.sleep(0)
        first.cancel()
        return await second

    assert authenticated.run(cancelled()) == []
    assert {asked.query["airport"][0] for asked in server.requests} == {"LICC"}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_rejected_credentials_are_a_permanent_error(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, status: int
) -> None:
    """The token is requested once, and the error's text has no secret."""
    server.token_script = [answer(status, {"error": f"invalid client {SECRET}"})]
    with pytest.raises(SourceRefusedError, match="OPENSKY_CLIENT_ID") as caught:
        authenticated.fetch()
    assert SECRET not in str(caught.value)
    assert (len(server.token_requests), server.requests) == (1, [])


@pytest.mark.parametrize(
    "bad",
    [
        answer(503), HANG_UP, RESET, answer(200, b"<html>"), answer(200, []), answer(200, {"access_token": SECRET}),
        answer(200, {"access_token": f"{SECRET}\r\nX: y", "expires_in": 1800}),
        answer(200, {"access_token": f"{SECRET}é", "expires_in": 1800}),
        answer(200, {"access_token": SECRET, "expires_in": 10**30}),
        answer(200, {"access_token": SECRET, "expires_in": "soon"}),
    ],
)  # fmt: skip
def test_a_failed_token_request_is_tried_three_times(
    authenticated: ClientUnderTest, server: ScriptedOpenSky, bad: bytes
) -> None:
    """The error is transient; neither the error nor the log has the token."""
    server.token_script = [bad] * 4
    with structlog.testing.capture_logs() as logs, pytest.raises(SourceUnavailableError) as caught:
        authenticated.fetch()
    assert len(server.token_requests) == 3
    assert SECRET not in f"{caught.value}{logs}"


def test_a_rate_limit_on_tokens_is_a_rate_limit(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """A 429 of the token server raises SourceLimitedError too."""
    server.token_script = [answer(429)]
    with pytest.raises(SourceLimitedError):
        authenticated.fetch()


# The breaker


def test_the_breaker_opens_after_repeated_failures_and_closes_after_a_success(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """No request is sent while it is open; then one probe is, and its success closes the breaker."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    assert anonymous.shown_breaker_state() is BreakerState.CLOSED
    with structlog.testing.capture_logs() as logs:
        anonymous.fail(FAILURES_TO_OPEN)
    assert [entry["event"] for entry in logs if entry["event"].startswith("opensky.")] == ["opensky.breaker_opened"]
    assert anonymous.shown_breaker_state() is BreakerState.OPEN
    asked = len(server.requests)
    refused = anonymous.expect_open_breaker()
    assert refused.transient
    assert FIRST_OPENING.total_seconds() / 2 <= refused.retry_after_s <= FIRST_OPENING.total_seconds()
    clock.advance(timedelta(seconds=refused.retry_after_s) - timedelta(milliseconds=1))
    anonymous.expect_open_breaker()
    assert len(server.requests) == asked
    clock.advance(timedelta(milliseconds=1))
    assert anonymous.fetch() == []
    assert len(server.requests) == asked + 1
    assert anonymous.shown_breaker_state() is BreakerState.CLOSED


def test_a_failed_probe_doubles_the_opening(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """A probe is one call, retried as often as any other."""
    server.script = [answer(503)] * 3 * (FAILURES_TO_OPEN + 1)
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(timedelta(seconds=anonymous.expect_open_breaker().retry_after_s))
    anonymous.fail()
    assert anonymous.expect_open_breaker().retry_after_s >= FIRST_OPENING.total_seconds()
    assert server.script == []


def test_during_a_probe_no_other_call_is_admitted(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Other calls raise BreakerOpenError at once."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(FIRST_OPENING)
    others_refused = threading.Event()
    server.before_answering = wait_for(others_refused)
    asked = len(server.requests)

    async def probe() -> list[Flight]:
        probe = asyncio.create_task(anonymous.client.fetch_flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while len(server.requests) == asked:
            await asyncio.sleep(0)
        assert anonymous.shown_breaker_state() is BreakerState.HALF_OPEN
        for direction in DIRECTIONS:
            with pytest.raises(BreakerOpenError) as caught:
                await anonymous.client.fetch_flights("KJFK", direction, BEGIN, END)
            assert caught.value.retry_after_s >= 1, "a caller must not retry in a tight loop"
        others_refused.set()
        return await probe

    assert anonymous.run(probe()) == []
    assert len(server.requests) == asked + 1


def test_after_a_cancelled_probe_another_is_admitted(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """A leader that steps down during a probe must not lock out the next term."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(FIRST_OPENING)
    cancelled = threading.Event()
    server.before_answering = wait_for(cancelled)
    asked = len(server.requests)

    async def cancel() -> None:
        probe = asyncio.create_task(anonymous.client.fetch_flights("KJFK", Direction.DEPARTURES, BEGIN, END))
        while len(server.requests) == asked:
            await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    anonymous.run(cancel())
    cancelled.set()
    assert anonymous.fetch() == []


@pytest.mark.parametrize("status", [200, 404, 400, 403, 429])
def test_an_answer_is_no_failure_for_the_breaker(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock, status: int
) -> None:
    """No flights, a rate limit or a rejection do not open the breaker; each ends a series of failures."""
    body: object = [] if status == 200 else b""
    for _ in range(2):
        server.script = [answer(503)] * 3 * (FAILURES_TO_OPEN - 1)
        anonymous.fail(FAILURES_TO_OPEN - 1)
        server.script = [answer(status, body)]
        with suppress(SourceLimitedError, SourceRefusedError):
            anonymous.fetch()
        clock.advance(timedelta(minutes=1))
    assert anonymous.shown_breaker_state() is BreakerState.CLOSED


def test_rejected_credentials_do_not_open_the_breaker(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """The server works, and the operator must see its answer each time."""
    server.script = [answer(401)] * 99
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(SourceRefusedError):
            authenticated.fetch()
    assert authenticated.shown_breaker_state() is BreakerState.CLOSED


def test_an_unavailable_token_server_opens_the_breaker(authenticated: ClientUnderTest, server: ScriptedOpenSky) -> None:
    """A call without a token is a failed call."""
    server.token_script = [answer(503)] * 99
    authenticated.fail(FAILURES_TO_OPEN)
    authenticated.expect_open_breaker()
    assert (len(server.token_requests), server.requests) == (3 * FAILURES_TO_OPEN, [])


def test_any_answer_is_flights_or_an_error_of_ours(
    anonymous: ClientUnderTest, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Any bytes with status 200 give flights or a SourceError."""

    @settings(max_examples=50)
    @given(st.binary(max_size=200))
    def holds(body: bytes) -> None:
        server.script = [answer(200, body)] * 3
        clock.advance(LONGEST_OPENING)  # so that the breaker admits each call
        with suppress(SourceError):
            assert anonymous.fetch() == []

    holds()
