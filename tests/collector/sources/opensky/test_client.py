"""The OpenSky client, against the replay and against a server that does what servers should not do. Real HTTP."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, TypeVar

import pytest
import stamina
import structlog
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from chassis.breaker import BreakerState
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import BreakerOpenError, SourceAwayError, SourceError, SourceLimitedError, SourceRefusedError
from collector.sources.opensky.client import PATIENCE, Flight, OpenSkyClient, Timeouts
from domain.interests import Direction
from local.opensky import flights as timetable
from local.opensky.access import Credentials
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import HANG_UP, RESET, TOKEN_PATH, Asked, ScriptedOpenSky, answer, replay

T = TypeVar("T")

FAILURES_TO_OPEN: Final = PATIENCE.failures_to_open
FIRST_OPENING: Final = PATIENCE.first_opening
LONGEST_OPENING: Final = PATIENCE.longest_opening
BEGIN = datetime(2013, 2, 12, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
SECRET = "hunter2-the-secret"
CREDENTIALS = ("towerwatch", SECRET)
LIMITED: Final = answer(429, X_Rate_Limit_Retry_After_Seconds="120")
PATIENCE_S: Final = 30.0
"""For a thread that another one will wake at once."""


def row(at: int = 3600, **changes: object) -> dict[str, object]:
    """A departure from KJFK, `at` seconds after BEGIN, as OpenSky gives it."""
    seen = int(BEGIN.timestamp()) + at
    fields = {"icao24": "a00001", "firstSeen": seen, "lastSeen": seen + 60, "callsign": "TW1     "}
    return fields | {"estDepartureAirport": "KJFK", "estArrivalAirport": None} | changes


FLOWS = (Direction.DEPARTURES, Direction.ARRIVALS)


class Asking:
    """A client, and what it counted."""

    def __init__(
        self,
        url: str,
        token_url: str,
        clock: FakeClock,
        credentials: tuple[str, str] | None = None,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        self.metrics = Metrics(ServiceIdentity("collector", "local"))
        self.client = OpenSkyClient(url, token_url, credentials, clock, self.metrics, timeouts)
        self._loop = asyncio.new_event_loop()  # one for all questions, as connections and token are kept

    def ask(
        self, direction: Direction = Direction.DEPARTURES, begin: datetime = BEGIN, end: datetime = END
    ) -> list[Flight]:
        return self.run(self.client.flights("KJFK", direction, begin, end))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def fail(self, times: int = 1) -> None:
        """As many questions that the source does not answer."""
        for _ in range(times):
            with pytest.raises(SourceAwayError) as caught:
                self.ask()
            assert not isinstance(caught.value, BreakerOpenError)

    def refused_by_breaker(self) -> BreakerOpenError:
        with pytest.raises(BreakerOpenError) as caught:
            self.ask()
        return caught.value

    def breaker_state(self) -> BreakerState:
        """The one of which the metric is 1; of the others it is 0."""
        shown = {state: self.counted("opensky_breaker_state", state=state.value) for state in BreakerState}
        assert sorted(shown.values()) == [0, 0, 1]
        return max(shown, key=shown.__getitem__)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "collector", "node": "local"}) or 0

    def calls(self) -> tuple[float, float, float]:
        """Attempts, successes, failures."""
        attempt, success, failure = (
            self.counted("opensky_api_calls_total", status=status) for status in ("attempt", "success", "failure")
        )
        return attempt, success, failure

    def close(self) -> None:
        self._loop.run_until_complete(self.client.close())
        self._loop.close()


def after(event: threading.Event) -> Callable[[Asked], None]:
    """An answer that waits for it."""

    def wait(_: Asked) -> None:
        assert event.wait(PATIENCE_S)

    return wait


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    """Between attempts nobody waits."""
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
def anonymous(server: ScriptedOpenSky, clock: FakeClock) -> Iterator[Asking]:
    made = Asking(server.url, server.token_url, clock)
    yield made
    made.close()


@pytest.fixture
def known(server: ScriptedOpenSky, clock: FakeClock) -> Iterator[Asking]:
    """A client with credentials."""
    made = Asking(server.url, server.token_url, clock, CREDENTIALS)
    yield made
    made.close()


def test_flights_are_those_of_the_timetable(clock: FakeClock) -> None:
    """From the replay: begin included, end not, each direction by its own instant, with and without a token."""
    at = int(BEGIN.timestamp())
    day = int(timedelta(days=1).total_seconds())
    departures = [-1, 0, 1, day - 1, day]
    source = [
        *(
            timetable.TimetableFlight(at + s, at + s + 9, f"{i:06x}", "TW", "KJFK", "LICC")
            for i, s in enumerate(departures)
        ),
        *(
            timetable.TimetableFlight(at + s - 9, at + s, f"{i:06x}", "TW", "LICC", "KJFK")
            for i, s in enumerate(departures)
        ),
    ]
    credentials = Credentials(*CREDENTIALS)
    with replay(source, clock, credentials) as url:
        for given_credentials in (None, CREDENTIALS):
            client = Asking(f"{url}/api", f"{url}{TOKEN_PATH}", clock, given_credentials)
            departed = client.ask(Direction.DEPARTURES)
            arrived = client.ask(Direction.ARRIVALS)
            client.close()
            assert [int(each.first_seen.timestamp()) - at for each in departed] == [0, 1, day - 1]
            assert [int(each.last_seen.timestamp()) - at for each in arrived] == [0, 1, day - 1]
            assert {each.other_airport(Direction.DEPARTURES) for each in departed} == {"LICC"}
            assert {each.other_airport(Direction.ARRIVALS) for each in arrived} == {"LICC"}


def test_a_day_without_flights_is_an_empty_list(clock: FakeClock) -> None:
    """The replay says it as OpenSky does: 404."""
    with replay([], clock) as url:
        client = Asking(f"{url}/api", "", clock)
        assert client.ask() == []
        assert client.calls() == (1, 1, 0)
        client.close()


def test_a_question_names_whole_seconds_with_both_ends_included(anonymous: Asking, server: ScriptedOpenSky) -> None:
    """As the documentation has it; anonymous callers send no Authorization."""
    anonymous.ask(Direction.ARRIVALS)
    (asked,) = server.asked
    at = int(BEGIN.timestamp())
    assert asked.path == "/flights/arrival"
    assert asked.query == {"airport": ["KJFK"], "begin": [str(at)], "end": [str(at + 86_399)]}
    assert asked.authorization is None


def test_a_fraction_of_a_second_belongs_to_the_interval_that_holds_the_next_second(
    anonymous: Asking, server: ScriptedOpenSky
) -> None:
    """Event times are whole seconds: [0.5, 10.5) holds those from 1 to 10, and no second is asked for twice."""
    at = int(BEGIN.timestamp())
    cuts = [BEGIN + timedelta(seconds=seconds) for seconds in (0, 0.5, 10.5, 11, 11.000001)]
    for begin, end in pairwise(cuts):
        anonymous.ask(begin=begin, end=end)
    asked = [(int(each.query["begin"][0]) - at, int(each.query["end"][0]) - at) for each in server.asked]
    assert asked == [(0, 0), (1, 10), (11, 11)]  # [10.5, 11) holds none


@pytest.mark.parametrize("length", [timedelta(0), timedelta(microseconds=1), timedelta(seconds=-5)])
def test_an_interval_without_a_whole_second_costs_nothing(
    anonymous: Asking, server: ScriptedOpenSky, length: timedelta
) -> None:
    """No flight can lie in it."""
    begin = BEGIN + timedelta(microseconds=1)
    assert anonymous.ask(begin=begin, end=begin + length) == []
    assert server.asked == []


def test_an_interval_touches_two_days_at_most(anonymous: Asking, server: ScriptedOpenSky) -> None:
    """Of UTC, however short it is; more would be refused, and is a mistake of ours."""
    anonymous.ask(begin=BEGIN, end=END + timedelta(days=1))
    assert len(server.asked) == 1
    second = timedelta(seconds=1)
    for begin, end in ((BEGIN - second, END + second), (BEGIN, END + timedelta(days=1, seconds=1))):
        with pytest.raises(ValueError, match="two UTC days"):
            anonymous.ask(begin=begin, end=end)
    assert len(server.asked) == 1


def test_flights_beyond_what_was_asked_for_are_left_out(anonymous: Asking, server: ScriptedOpenSky) -> None:
    """They belong to another interval, which will bring them."""
    server.script = [answer(200, [row(-1), row(0), row(86_399), row(86_400)])]
    assert [each.first_seen for each in anonymous.ask()] == [BEGIN, END - timedelta(seconds=1)]


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
def test_a_429_tells_how_long_to_pause(
    anonymous: Asking, server: ScriptedOpenSky, header: str | None, pause_s: float
) -> None:
    """It is not tried again at once; where the pause is not said, or makes no sense, it is a minute."""
    server.script = [answer(429, **({} if header is None else {"X_Rate_Limit_Retry_After_Seconds": header}))]
    with pytest.raises(SourceLimitedError) as caught:
        anonymous.ask()
    assert caught.value.retry_after_s == pause_s
    assert len(server.asked) == 1


def test_during_a_pause_nobody_asks_anything(anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock) -> None:
    """Told once, kept for every question, to the second; each is told at once what is left of it."""
    server.script = [LIMITED]
    with pytest.raises(SourceLimitedError):
        anonymous.ask()
    for passed, left in ((0, 120), (119.5, 0.5)):
        clock.advance(timedelta(seconds=passed))
        for direction in (Direction.DEPARTURES, Direction.ARRIVALS):
            with pytest.raises(SourceLimitedError) as caught:
                anonymous.ask(direction)
            assert caught.value.retry_after_s == left
    assert len(server.asked) == 1
    assert anonymous.calls() == (1, 0, 1)
    clock.advance(timedelta(seconds=0.5))
    assert anonymous.ask() == []


def test_during_a_pause_no_token_is_asked_for_either(known: Asking, server: ScriptedOpenSky, clock: FakeClock) -> None:
    """There would be nothing to use it for."""
    server.script = [answer(429, X_Rate_Limit_Retry_After_Seconds="7200")]
    for _ in range(2):
        with pytest.raises(SourceLimitedError):
            known.ask()
        clock.advance(timedelta(hours=1))  # it has expired meanwhile
    assert len(server.tokens_asked) == 1


def test_a_longer_pause_is_not_ended_by_a_shorter_one(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Two questions under way may be told different ones."""
    outcome = overtaken(anonymous, server, late=answer(429, X_Rate_Limit_Retry_After_Seconds="5"), soon=LIMITED)
    assert isinstance(outcome, SourceLimitedError)
    clock.advance(timedelta(seconds=119))
    with pytest.raises(SourceLimitedError):
        anonymous.ask()
    assert len(server.asked) == 2


def test_a_question_that_waits_for_its_next_attempt_keeps_the_pause_too(
    anonymous: Asking, server: ScriptedOpenSky
) -> None:
    """One gets a 503, late; meanwhile another was limited: there is no second attempt."""
    assert isinstance(overtaken(anonymous, server, late=answer(503), soon=LIMITED), SourceLimitedError)
    assert len(server.asked) == 2


def overtaken(asking: Asking, server: ScriptedOpenSky, late: bytes, soon: bytes) -> object:
    """What a question ends with whose first answer, `late`, comes after another question had `soon`, and its end."""
    other_ended = threading.Event()

    def wait(asked: Asked) -> None:
        if asked.query["airport"] == ["LICC"]:
            assert other_ended.wait(PATIENCE_S)

    server.before_answering = wait

    async def two() -> object:
        server.script = [late]
        before = len(server.asked)
        first = asyncio.create_task(asking.client.flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while len(server.asked) == before or server.script == [late]:
            await asyncio.sleep(0)
        server.script = [soon]
        await asyncio.gather(asking.client.flights("KJFK", Direction.DEPARTURES, BEGIN, END), return_exceptions=True)
        other_ended.set()
        (outcome,) = await asyncio.gather(first, return_exceptions=True)
        return outcome

    return asking.run(two())


@pytest.mark.parametrize("status", [200, 404])
def test_credits_are_what_the_source_last_said(anonymous: Asking, server: ScriptedOpenSky, status: int) -> None:
    """Unknown at first; a header that is missing or makes no sense changes nothing."""
    assert anonymous.client.remaining_credits is None
    body: object = [] if status == 200 else b""
    for header, known in (
        (None, None), ("400", 400), ("many", 400), ("-1", 400), ("3.5", 400), ("9" * 30, 400), (None, 400), ("0", 0),
    ):  # fmt: skip
        headers = {} if header is None else {"X_Rate_Limit_Remaining": header}
        server.script = [answer(status, body, **headers)]
        anonymous.ask()
        assert anonymous.client.remaining_credits == known


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
    anonymous: Asking, server: ScriptedOpenSky, bad: bytes
) -> None:
    """Transient: what is missing stays due."""
    server.script = [bad] * 4
    with pytest.raises(SourceAwayError) as caught:
        anonymous.ask()
    assert caught.value.transient
    assert len(server.asked) == 3
    assert anonymous.calls() == (3, 0, 3)


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_fault_that_passes_is_not_noticed(anonymous: Asking, server: ScriptedOpenSky, bad: bytes) -> None:
    """The third attempt brings the flights."""
    server.script = [bad, bad, answer(200, [row()])]
    assert len(anonymous.ask()) == 1
    assert anonymous.calls() == (3, 1, 2)


def test_nobody_there_is_a_source_that_is_away(clock: FakeClock) -> None:
    """Connection refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = Asking(f"http://127.0.0.1:{port}", "", clock)
    with pytest.raises(SourceAwayError, match="ConnectError"):
        client.ask()
    client.close()


def test_a_server_that_says_nothing_is_away(clock: FakeClock) -> None:
    """It takes the question, and must not hold the collection for ever."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = Asking(url, "", clock, timeouts=Timeouts(total_s=0.1))
        with pytest.raises(SourceAwayError):
            client.ask()
        assert client.calls() == (3, 0, 3)
        client.close()


def test_a_question_has_a_deadline_with_all_its_attempts(clock: FakeClock) -> None:
    """Whatever the single steps may take, for there may be many: tokens, attempts, pauses."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Asking(f"http://127.0.0.1:{silent.getsockname()[1]}", "", clock)
        client.client._deadline_s = 0.05
        with pytest.raises(SourceAwayError, match=r"no whole answer within 0\.05 s"):
            client.ask()
        assert client.calls() == (1, 0, 1)
        client.close()


def test_a_trickle_ends_at_the_timeout(clock: FakeClock) -> None:
    """Each byte comes soon, the last one never."""
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
        client = Asking(url, "", clock, timeouts=Timeouts(total_s=0.2))
        with pytest.raises(SourceAwayError, match=r"no whole answer within 0\.2 s"):
            client.ask()
        assert client.calls() == (3, 0, 3)
        client.close()
        over.set()


def test_a_host_that_takes_no_connection_is_away(clock: FakeClock) -> None:
    """Its own, shorter timeout: nothing has been asked yet."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # as many as the queue holds, and the kernel answers no more
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        client = Asking(url, "", clock, timeouts=Timeouts(connect_s=0.1, total_s=PATIENCE_S))
        with pytest.raises(SourceAwayError, match="ConnectTimeout"):
            client.ask()
        client.close()


@pytest.mark.parametrize("status", [301, 400, 401, 403])
def test_a_refusal_is_for_an_operator(anonymous: Asking, server: ScriptedOpenSky, status: int) -> None:
    """Permanent: it is not tried again."""
    server.script = [answer(status, b"no")]
    with pytest.raises(SourceRefusedError, match=str(status)) as caught:
        anonymous.ask()
    assert not caught.value.transient
    assert len(server.asked) == 1


MALFORMED = {
    "no icao24": {"icao24": None},
    "upper case": {"icao24": "A00001"},
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
    "long callsign": {"callsign": "TOWERWATCH"},
    "callsign of another type": {"callsign": 7},
    "half a character": {"callsign": "\ud800"},
    "nul": {"callsign": "A\x00"},
    "airport of another type": {"estArrivalAirport": ["KJFK"]},
}


@pytest.mark.parametrize("fault", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_flight_is_left_out_and_counted(
    anonymous: Asking, server: ScriptedOpenSky, fault: dict[str, object]
) -> None:
    """The others are kept; the log names the fields, not what they held."""
    server.script = [answer(200, [row(), row(7200, **fault), row(9000)])]
    with structlog.testing.capture_logs() as logs:
        assert len(anonymous.ask()) == 2
    assert anonymous.counted("opensky_malformed_flights_total") == 1
    (entry,) = logs
    assert (entry["event"], entry["left_out"]) == ("opensky.malformed_flights", 1)


@pytest.mark.parametrize("odd", [{}, [], None, 7, "flight", [row()]], ids=repr)
def test_one_odd_row_is_one_malformed_flight(anonymous: Asking, server: ScriptedOpenSky, odd: object) -> None:
    """Also when it is the only one: it must not block its airport for ever."""
    server.script = [answer(200, [odd])]
    assert anonymous.ask() == []
    assert anonymous.counted("opensky_malformed_flights_total") == 1


def test_what_is_unknown_may_be_missing(anonymous: Asking, server: ScriptedOpenSky) -> None:
    """A callsign, an airport; padding goes."""
    server.script = [
        answer(200, [row(callsign=None), row(7200), {k: row()[k] for k in ("icao24", "firstSeen", "lastSeen")}])
    ]
    assert [(each.callsign, each.arrival_airport) for each in anonymous.ask()] == [("", ""), ("TW1", ""), ("", "")]


@given(st.dictionaries(st.sampled_from(list(row())), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda each: st.lists(each, max_size=2)
)))  # fmt: skip
def test_any_row_is_a_flight_or_malformed(changes: dict[str, object]) -> None:
    """No value of any field is a crash, and a flight that is accepted can be stored and published."""
    try:
        flight = Flight.model_validate(row(**changes))
    except ValidationError:
        return
    assert flight.first_seen <= flight.last_seen
    for text in (flight.callsign, flight.departure_airport, flight.arrival_airport):
        assert text.isascii()


def test_a_token_is_kept_until_shortly_before_it_ends(known: Asking, server: ScriptedOpenSky, clock: FakeClock) -> None:
    """One token for many questions; a new one a minute early."""
    known.ask()
    clock.advance(timedelta(minutes=28, seconds=59))
    known.ask()
    assert [asked.authorization for asked in server.asked] == ["Bearer token-1"] * 2
    clock.advance(timedelta(seconds=1))
    known.ask()
    assert server.asked[-1].authorization == "Bearer token-2"
    assert len(server.tokens_asked) == 2
    assert f"client_secret={SECRET}" in server.tokens_asked[0].body


def test_a_token_that_is_not_accepted_any_more_is_renewed_once(known: Asking, server: ScriptedOpenSky) -> None:
    """The server may have forgotten it."""
    known.ask()
    server.script = [answer(401), answer(200, [row()])]
    assert len(known.ask()) == 1
    assert [asked.authorization for asked in server.asked[-2:]] == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_is_never_accepted_is_no_loop(known: Asking, server: ScriptedOpenSky) -> None:
    """Two tokens, two questions, then it is for an operator."""
    server.script = [answer(401)] * 9
    with pytest.raises(SourceRefusedError):
        known.ask()
    assert (len(server.tokens_asked), len(server.asked)) == (2, 2)


def test_a_question_renews_its_token_once_whatever_else_goes_wrong(known: Asking, server: ScriptedOpenSky) -> None:
    """Faults of the server in between begin no new round."""
    server.script = [answer(503), answer(401), answer(503), answer(401), answer(200, [row()])]
    with pytest.raises(SourceRefusedError):
        known.ask()
    assert (len(server.tokens_asked), len(server.asked)) == (2, 4)


def test_tasks_share_one_renewal(known: Asking, server: ScriptedOpenSky) -> None:
    """The first token, and the one after it was revoked, are asked for once by all together."""

    async def many() -> list[list[Flight]]:
        asked = (known.client.flights(f"KJ{i:02}", Direction.DEPARTURES, BEGIN, END) for i in range(8))
        return await asyncio.gather(*asked)

    assert known.run(many()) == [[]] * 8
    assert len(server.tokens_asked) == 1
    server.revoked = {"Bearer token-1"}
    assert known.run(many()) == [[]] * 8
    assert len(server.tokens_asked) == 2
    assert {asked.authorization for asked in server.asked} == {"Bearer token-1", "Bearer token-2"}


def test_a_refusal_that_comes_late_does_not_renew_again(known: Asking, server: ScriptedOpenSky) -> None:
    """The old token was refused to two tasks; when the second learns it, the first has got the new one."""
    known.ask()
    assert overtaken(known, server, late=answer(401), soon=answer(401)) == []
    assert len(server.tokens_asked) == 2


def test_a_task_that_is_cancelled_in_a_renewal_leaves_it_to_the_next(known: Asking, server: ScriptedOpenSky) -> None:
    """Nobody waits for ever for somebody who has gone."""

    async def cancelled() -> list[Flight]:
        first = asyncio.create_task(known.client.flights("KJFK", Direction.DEPARTURES, BEGIN, END))
        second = asyncio.create_task(known.client.flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while not server.tokens_asked:
            await asyncio.sleep(0)
        first.cancel()
        return await second

    assert known.run(cancelled()) == []
    assert {asked.query["airport"][0] for asked in server.asked} == {"LICC"}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_refused_credentials_are_for_an_operator(known: Asking, server: ScriptedOpenSky, status: int) -> None:
    """Asked for once; the text holds no secret."""
    server.token_script = [answer(status, {"error": f"invalid client {SECRET}"})]
    with pytest.raises(SourceRefusedError, match="OPENSKY_CLIENT_ID") as caught:
        known.ask()
    assert SECRET not in str(caught.value)
    assert (len(server.tokens_asked), server.asked) == (1, [])


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
def test_a_token_that_cannot_be_had_is_tried_three_times(known: Asking, server: ScriptedOpenSky, bad: bytes) -> None:
    """Transient; neither the error nor the log shows the token."""
    server.token_script = [bad] * 4
    with structlog.testing.capture_logs() as logs, pytest.raises(SourceAwayError) as caught:
        known.ask()
    assert len(server.tokens_asked) == 3
    assert SECRET not in f"{caught.value}{logs}"


def test_a_limit_on_tokens_is_a_limit(known: Asking, server: ScriptedOpenSky) -> None:
    """Whoever asks for the pause, it is kept."""
    server.token_script = [answer(429)]
    with pytest.raises(SourceLimitedError):
        known.ask()


# The breaker


def test_a_source_that_fails_again_and_again_is_left_alone(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """After so many questions in a row, each tried three times, none goes out; then one does, and all is well."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    assert anonymous.breaker_state() is BreakerState.CLOSED
    with structlog.testing.capture_logs() as logs:
        anonymous.fail(FAILURES_TO_OPEN)
    assert [entry["event"] for entry in logs if entry["event"].startswith("opensky.")] == ["opensky.breaker_opened"]
    assert anonymous.breaker_state() is BreakerState.OPEN
    asked = len(server.asked)
    refused = anonymous.refused_by_breaker()
    assert refused.transient
    assert FIRST_OPENING.total_seconds() / 2 <= refused.retry_after_s <= FIRST_OPENING.total_seconds()
    clock.advance(timedelta(seconds=refused.retry_after_s) - timedelta(milliseconds=1))
    anonymous.refused_by_breaker()
    assert len(server.asked) == asked
    clock.advance(timedelta(milliseconds=1))
    assert anonymous.ask() == []
    assert len(server.asked) == asked + 1
    assert anonymous.breaker_state() is BreakerState.CLOSED


def test_a_probe_that_fails_doubles_the_time(anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock) -> None:
    """One question, tried as often as any other."""
    server.script = [answer(503)] * 3 * (FAILURES_TO_OPEN + 1)
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(timedelta(seconds=anonymous.refused_by_breaker().retry_after_s))
    anonymous.fail()
    assert anonymous.refused_by_breaker().retry_after_s >= FIRST_OPENING.total_seconds()
    assert server.script == []


def test_while_a_probe_is_out_no_other_question_is(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Whoever else asks is told so at once."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(FIRST_OPENING)
    others_refused = threading.Event()
    server.before_answering = after(others_refused)
    asked = len(server.asked)

    async def probe() -> list[Flight]:
        probe = asyncio.create_task(anonymous.client.flights("LICC", Direction.DEPARTURES, BEGIN, END))
        while len(server.asked) == asked:
            await asyncio.sleep(0)
        assert anonymous.breaker_state() is BreakerState.HALF_OPEN
        for direction in FLOWS:
            with pytest.raises(BreakerOpenError) as caught:
                await anonymous.client.flights("KJFK", direction, BEGIN, END)
            assert caught.value.retry_after_s >= 1, "nobody asks again in a tight loop"
        others_refused.set()
        return await probe

    assert anonymous.run(probe()) == []
    assert len(server.asked) == asked + 1


def test_a_probe_that_is_cancelled_leaves_its_place(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """A leader that steps down in the midst of it must not lock out the next term."""
    server.script = [answer(503)] * 3 * FAILURES_TO_OPEN
    anonymous.fail(FAILURES_TO_OPEN)
    clock.advance(FIRST_OPENING)
    cancelled = threading.Event()
    server.before_answering = after(cancelled)
    asked = len(server.asked)

    async def cancel() -> None:
        probe = asyncio.create_task(anonymous.client.flights("KJFK", Direction.DEPARTURES, BEGIN, END))
        while len(server.asked) == asked:
            await asyncio.sleep(0)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)

    anonymous.run(cancel())
    cancelled.set()
    assert anonymous.ask() == []


@pytest.mark.parametrize("status", [200, 404, 400, 403, 429])
def test_an_answer_is_no_failure_of_the_server(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock, status: int
) -> None:
    """Neither none, nor a limit, nor a refusal opens the breaker; each ends a row of failures."""
    body: object = [] if status == 200 else b""
    for _ in range(2):
        server.script = [answer(503)] * 3 * (FAILURES_TO_OPEN - 1)
        anonymous.fail(FAILURES_TO_OPEN - 1)
        server.script = [answer(status, body)]
        with suppress(SourceLimitedError, SourceRefusedError):
            anonymous.ask()
        clock.advance(timedelta(minutes=1))
    assert anonymous.breaker_state() is BreakerState.CLOSED


def test_refused_credentials_do_not_hide_behind_the_breaker(known: Asking, server: ScriptedOpenSky) -> None:
    """The server works; the operator must see what it says, each time."""
    server.script = [answer(401)] * 99
    for _ in range(FAILURES_TO_OPEN + 1):
        with pytest.raises(SourceRefusedError):
            known.ask()
    assert known.breaker_state() is BreakerState.CLOSED


def test_a_token_server_that_is_away_opens_the_breaker_too(known: Asking, server: ScriptedOpenSky) -> None:
    """A question that cannot be asked is one that is not answered."""
    server.token_script = [answer(503)] * 99
    known.fail(FAILURES_TO_OPEN)
    known.refused_by_breaker()
    assert (len(server.tokens_asked), server.asked) == (3 * FAILURES_TO_OPEN, [])


def test_any_answer_is_flights_or_an_error_of_ours(
    anonymous: Asking, server: ScriptedOpenSky, clock: FakeClock
) -> None:
    """Whatever bytes come with a 200."""

    @settings(max_examples=50)
    @given(st.binary(max_size=200))
    def holds(body: bytes) -> None:
        server.script = [answer(200, body)] * 3
        clock.advance(LONGEST_OPENING)  # so that each is asked for
        with suppress(SourceError):
            assert anonymous.ask() == []

    holds()
