"""The OpenSky client, against the replay and against a server that does what servers should not do. Real HTTP."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
import stamina
import structlog
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from chassis.metrics import Identity, Metrics
from collector import opensky
from collector.errors import SourceAwayError, SourceError, SourceLimitedError, SourceRefusedError
from collector.opensky import Flight, OpenSkyClient
from domain.interests import Direction
from local.opensky import flights as timetable
from local.opensky.access import Credentials
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import HANG_UP, RESET, TOKEN_PATH, ScriptedOpenSky, answer, replay

BEGIN = datetime(2013, 2, 12, tzinfo=UTC)
END = BEGIN + timedelta(days=1)
SECRET = "hunter2-the-secret"
CREDENTIALS = ("towerwatch", SECRET)


def row(at: int = 3600, **changes: object) -> dict[str, object]:
    """A departure from KJFK, `at` seconds after BEGIN, as OpenSky gives it."""
    seen = int(BEGIN.timestamp()) + at
    fields = {"icao24": "a00001", "firstSeen": seen, "lastSeen": seen + 60, "callsign": "TW1     "}
    return fields | {"estDepartureAirport": "KJFK", "estArrivalAirport": None} | changes


class Asking:
    """A client, and what it counted."""

    def __init__(self, url: str, token_url: str, clock: FakeClock, credentials: tuple[str, str] | None = None) -> None:
        self.metrics = Metrics(Identity("collector", "local"))
        self._client = OpenSkyClient(url, token_url, credentials, clock, self.metrics)
        self._loop = asyncio.new_event_loop()  # one for all questions, as connections and token are kept

    def ask(
        self, direction: Direction = Direction.DEPARTURES, begin: datetime = BEGIN, end: datetime = END
    ) -> list[Flight]:
        return self._loop.run_until_complete(self._client.flights("KJFK", direction, begin, end))

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, {**labels, "service": "collector", "node": "local"}) or 0

    def calls(self) -> tuple[float, float, float]:
        """Attempts, successes, failures."""
        attempt, success, failure = (
            self.counted("opensky_api_calls_total", status=status) for status in ("attempt", "success", "failure")
        )
        return attempt, success, failure

    def close(self) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.close()


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
        *(timetable.Flight(at + s, at + s + 9, f"{i:06x}", "TW", "KJFK", "LICC") for i, s in enumerate(departures)),
        *(timetable.Flight(at + s - 9, at + s, f"{i:06x}", "TW", "LICC", "KJFK") for i, s in enumerate(departures)),
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


def test_a_trickle_ends_at_the_deadline(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes the question and says nothing must not hold the collection for ever."""
    monkeypatch.setattr(opensky, "_DEADLINE_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        client = Asking(f"http://127.0.0.1:{silent.getsockname()[1]}", "", clock)
        with pytest.raises(SourceAwayError, match="no whole answer"):
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


def test_any_answer_is_flights_or_an_error_of_ours(anonymous: Asking, server: ScriptedOpenSky) -> None:
    """Whatever bytes come with a 200."""

    @settings(max_examples=50)
    @given(st.binary(max_size=200))
    def holds(body: bytes) -> None:
        server.script = [answer(200, body)] * 3
        with suppress(SourceError):
            assert anonymous.ask() == []

    holds()
