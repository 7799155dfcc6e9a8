"""Fault injection: each fault does what its description says, all of them pass, and the timetable stays the truth."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, strategies as st

from local.opensky import faults
from local.opensky.fault_kinds import ANSWER_FAULTS, SCRIPTED_FAULTS, TOKEN_FAULTS, InjectedFault
from local.opensky.faults import MAX_FAILURES_IN_A_ROW, FaultInjector, ScriptedPlan, SeededPlan
from local.opensky.flights import TimetableFlight
from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay
from tests.local.opensky.conftest import CREDENTIALS

BEGIN: Final = int(datetime(2013, 2, 11, tzinfo=UTC).timestamp())
FLIGHTS: Final = [
    TimetableFlight(BEGIN + 600 * n, BEGIN + 600 * n + 60, f"{n:06x}", "TW1", "KJFK", "KBOS") for n in range(1, 21)
]
KINDS: Final = [kind for kind in InjectedFault if kind not in SCRIPTED_FAULTS]


class Caller:
    """A client of a replay that injects faults."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def ask(self, airport: str = "KJFK", path: str = "departure", **headers: str) -> httpx.Response:
        """Request an airport's flights of the day of FLIGHTS."""
        params: dict[str, str | int] = {"airport": airport, "begin": BEGIN, "end": BEGIN + 86_399}
        return self.http.get(f"/api/flights/{path}", params=params, headers=headers)

    def token(self) -> httpx.Response:
        """Request a token with the right credentials."""
        form = {
            "grant_type": "client_credentials",
            "client_id": CREDENTIALS.client_id,
            "client_secret": CREDENTIALS.client_secret,
        }
        return self.http.post(TOKEN_PATH, data=form)

    def rows(self) -> list[dict[str, Any]]:
        """Return the departures of KJFK; the request must succeed."""
        answer = self.ask()
        assert answer.status_code == 200
        return list(answer.json())


@contextmanager
def replay_with_faults(
    given: FaultInjector,
    clock: FakeClock | None = None,
    flights: list[TimetableFlight] = FLIGHTS,
    schedule: RecordSchedule = NIGHTLY,
) -> Iterator[Caller]:
    """Serve a replay that injects these faults for the block, and yield a client."""
    clock = clock or FakeClock()
    with (
        replay(flights, clock, CREDENTIALS, given, schedule) as url,
        httpx.Client(verify=False, base_url=url, timeout=30) as http,
    ):
        yield Caller(http)


def fetch_rows_without_faults() -> list[dict[str, Any]]:
    """Return the departures of KJFK from a replay that injects no faults."""
    with replay_with_faults(faults.scripted_injector([])) as calm:
        return calm.rows()


def test_a_script_is_injected_request_by_request() -> None:
    """Requests for tokens and states take nothing from the script, and after its end no fault is injected."""
    script = [InjectedFault.UNAVAILABLE, None, InjectedFault.LIMITED_UNSAID, InjectedFault.HTML]
    given = faults.scripted_injector(script)
    with replay_with_faults(given) as caller:
        statuses = []
        for _ in range(5):
            assert caller.token().status_code == 200
            assert caller.http.get("/api/states/all").status_code == 200
            statuses.append(caller.ask().status_code)
    assert statuses == [503, 200, 429, 200, 200]
    assert given.fault_counts == Counter(
        {InjectedFault.UNAVAILABLE: 1, InjectedFault.LIMITED_UNSAID: 1, InjectedFault.HTML: 1}
    )


def test_a_request_during_an_announced_pause_is_rejected(clock: FakeClock) -> None:
    """Every request for flights during the pause gets the remaining seconds, and is counted."""
    given = faults.scripted_injector([InjectedFault.LIMITED])
    with replay_with_faults(given, clock) as caller:
        first = caller.ask()
        pause = int(first.headers["X-Rate-Limit-Retry-After-Seconds"])
        assert first.status_code == 429
        assert 1 <= pause <= faults.MAX_PAUSE_S
        clock.advance(timedelta(seconds=pause - 0.5))
        early = caller.ask("KBOS", "arrival")
        assert (early.status_code, early.headers["X-Rate-Limit-Retry-After-Seconds"]) == (429, "1")
        assert caller.token().status_code == 200
        clock.advance(timedelta(seconds=0.5))
        assert caller.ask().status_code == 200
    assert given.early_requests == 1


@pytest.mark.parametrize("fault", [InjectedFault.LIMITED_BY_PROXY, InjectedFault.LIMITED_UNTIL])
def test_a_load_balancer_announces_its_pause_in_its_own_way(clock: FakeClock, fault: InjectedFault) -> None:
    """In seconds or as a date, never shorter than the pause; who calls earlier is told the rest in the same way."""
    given = faults.scripted_injector([fault])
    with replay_with_faults(given, clock) as caller:
        for answer in (caller.ask(), caller.ask("KBOS", "arrival")):
            assert answer.status_code == 429
            assert "X-Rate-Limit-Retry-After-Seconds" not in answer.headers
        text = answer.headers["Retry-After"]
        if fault is InjectedFault.LIMITED_UNTIL:
            left = (parsedate_to_datetime(text) - parsedate_to_datetime(answer.headers["Date"])).total_seconds()
        else:
            left = int(text)
        assert 1 <= left <= faults.MAX_PAUSE_S + 1
        clock.advance(timedelta(seconds=left))
        assert caller.ask().status_code == 200
    assert given.early_requests == 1


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        (InjectedFault.HTML, 200, "text/html"),
        (InjectedFault.NOT_FOUND_HTML, 404, "text/html"),
        (InjectedFault.NOT_FOUND_PROBLEM, 404, "application/json"),
        (InjectedFault.BAD_GATEWAY, 502, "text/html"),
        (InjectedFault.PROXY_LOGIN, 407, "text/html"),
        (InjectedFault.PROBLEM, 200, "application/problem+json"),
        (InjectedFault.NULL, 200, "application/json"),
        (InjectedFault.OTHER_JSON, 200, "application/json"),
        (InjectedFault.REDIRECT, 302, ""),
        (InjectedFault.OUTAGE, 404, ""),
    ],
)
@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_something_else_answers_in_the_sources_name(
    fault: InjectedFault, status: int, content_type: str, airport: str
) -> None:
    """For an airport with flights and for one without; the next answer is the source's own."""
    with replay_with_faults(faults.scripted_injector([fault])) as caller:
        calm = caller.http.get("/api/states/all").status_code
        answer = caller.ask(airport)
        assert (calm, answer.status_code) == (200, status)
        if content_type:
            assert answer.headers["Content-Type"].partition(";")[0] == content_type
        assert bool(answer.content) is (fault not in (InjectedFault.REDIRECT, InjectedFault.OUTAGE))
        assert caller.ask().status_code == 200


@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_compressed_bodies_that_are_broken(airport: str) -> None:
    """One is no compression at all; of two the end is missing, of the page so much that nothing is left to read."""
    script = [InjectedFault.GZIP_BROKEN, InjectedFault.GZIP_CUT, InjectedFault.NOT_FOUND_CUT]
    with replay_with_faults(faults.scripted_injector([*script])) as caller:
        with pytest.raises((httpx.DecodingError, ValueError)):  # the latter: two bytes are too few to see it
            caller.ask(airport).json()
        cut = caller.ask(airport)
        assert cut.status_code == 200
        with pytest.raises(ValueError):
            cut.json()
        page = caller.ask(airport)
        assert (page.status_code, page.content) == (404, b"")
        assert page.num_bytes_downloaded > 0


def test_a_wrong_date_is_off_by_hours_and_the_rest_of_the_answer_is_right(clock: FakeClock) -> None:
    """As of a machine with a wrong clock, or of an old cache."""
    with replay_with_faults(faults.scripted_injector([InjectedFault.WRONG_DATE]), clock) as caller:
        answer = caller.ask()
        assert answer.json() == fetch_rows_without_faults()
        assert abs(parsedate_to_datetime(answer.headers["Date"]) - clock.now()) > timedelta(hours=1)
        assert abs(parsedate_to_datetime(caller.ask().headers["Date"]) - clock.now()) < timedelta(minutes=1)


def test_a_429_without_a_pause_announces_none() -> None:
    """No request counts as too early if no pause was announced."""
    given = faults.scripted_injector([InjectedFault.LIMITED_UNSAID])
    with replay_with_faults(given) as caller:
        answer = caller.ask()
        assert answer.status_code == 429
        assert not [name for name in answer.headers if "retry" in name.lower()]
        assert caller.ask().status_code == 200
    assert given.early_requests == 0


@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_a_reset_breaks_the_connection_within_the_body(airport: str) -> None:
    """The status is 200, but the body is incomplete, also for an airport without flights."""
    with replay_with_faults(faults.scripted_injector([InjectedFault.RESET])) as caller:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            caller.ask(airport)
        assert caller.ask(airport).status_code in (200, 404)


@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_a_slow_body_exceeds_a_short_timeout(airport: str) -> None:
    """A client with a short read timeout gets half of the body, and its next request succeeds."""
    with replay_with_faults(faults.scripted_injector([InjectedFault.SLOW])) as caller:
        caller.http.timeout = httpx.Timeout(0.2)
        with pytest.raises(httpx.TimeoutException):
            caller.ask(airport)
        caller.http.timeout = httpx.Timeout(30)
        assert caller.ask(airport).status_code in (200, 404)


def test_a_slow_body_is_complete_for_a_client_that_waits() -> None:
    """After the stall the second half of the body is sent."""
    with replay_with_faults(FaultInjector(ScriptedPlan([InjectedFault.SLOW]), stall_s=0.05)) as caller:
        assert caller.rows() == fetch_rows_without_faults()


@pytest.mark.parametrize("fault", [InjectedFault.TRUNCATED, InjectedFault.HTML])
@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_invalid_json_comes_with_status_200(fault: InjectedFault, airport: str) -> None:
    """The length is right and credits are charged, but the body is no JSON, never a shorter list."""
    with replay_with_faults(faults.scripted_injector([fault])) as caller:
        answer = caller.ask(airport)
        assert answer.status_code == 200
        assert "X-Rate-Limit-Remaining" in answer.headers
        with pytest.raises(ValueError):
            answer.json()


def test_a_revoked_token_is_a_401_until_it_is_renewed() -> None:
    """A caller without a token is not affected."""
    given = faults.scripted_injector([InjectedFault.FORGOTTEN, InjectedFault.FORGOTTEN])
    with replay_with_faults(given) as caller:
        assert caller.ask().status_code == 200
        old = f"Bearer {caller.token().json()['access_token']}"
        assert [caller.ask(Authorization=old).status_code for _ in range(2)] == [401, 401]
        assert caller.ask(Authorization=f"Bearer {caller.token().json()['access_token']}").status_code == 200
    assert given.fault_counts == Counter({InjectedFault.FORGOTTEN: 1})


def test_a_duplicating_answer_holds_every_flight() -> None:
    """The answer holds duplicates, all flights, and nothing else."""
    with replay_with_faults(faults.scripted_injector([InjectedFault.DUPLICATED])) as caller:
        rows = caller.rows()
    assert len(rows) > len(FLIGHTS)
    assert {json.dumps(row) for row in rows} == {json.dumps(row) for row in fetch_rows_without_faults()}


def test_a_withheld_flight_is_in_the_next_answer() -> None:
    """Each flight is withheld in one answer at most, and in one direction only."""
    given = faults.scripted_injector([InjectedFault.LATE] * 50)
    calm = fetch_rows_without_faults()
    seen: list[list[dict[str, Any]]] = []
    with replay_with_faults(given) as caller:
        for _ in range(30):
            seen.append(caller.rows())
        assert len(caller.ask("KBOS", "arrival").json()) < len(FLIGHTS)
    for row in calm:
        assert sum(row not in rows for rows in seen) == 1
    for before, after in pairwise(seen):
        assert {json.dumps(row) for row in [*before, *after]} == {json.dumps(row) for row in calm}
    assert len(given.withheld_flights) > len(FLIGHTS)


def test_an_answer_without_any_flight_is_a_404() -> None:
    """If the only flight is withheld, the answer is OpenSky's 404."""
    with replay_with_faults(faults.scripted_injector([InjectedFault.LATE]), flights=FLIGHTS[:1]) as caller:
        assert [caller.ask().status_code for _ in range(2)] == [404, 200]


def test_a_malformed_flight_is_right_in_the_next_answer() -> None:
    """One to three flights are replaced by something malformed, the others stay; each flight once at most."""
    calm = fetch_rows_without_faults()
    with replay_with_faults(faults.scripted_injector([InjectedFault.MALFORMED] * 50)) as caller:
        for _ in range(3):
            rows = caller.rows()
            assert len(rows) == len(calm)
            assert 1 <= sum(row not in calm for row in rows) <= 3
        for _ in range(30):
            rows = caller.rows()
    assert rows == calm


def test_an_invalid_request_is_rejected_despite_a_fault() -> None:
    """A fault replaces a good answer, never the rejection of an invalid request."""
    with replay_with_faults(
        faults.scripted_injector([InjectedFault.HTML, InjectedFault.LATE, InjectedFault.RESET])
    ) as caller:
        for _ in range(3):
            assert caller.http.get("/api/flights/departure").status_code == 400


@pytest.mark.parametrize("minutes", [-4, 4])
def test_a_skewed_server_uses_its_own_clock(clock: FakeClock, minutes: int) -> None:
    """Departures are known up to the server's time, answers bear it as their date, and tokens expire by it."""
    now = int(clock.now().timestamp())
    flights = [TimetableFlight(now + 60 * m, now + 60 * m, "abcdef", "TW1", "KJFK", None) for m in (-5, -3, 3, 5)]
    skewed = FaultInjector(ScriptedPlan([]), skew=timedelta(minutes=minutes))
    with replay_with_faults(skewed, clock, flights, RecordSchedule(departures_live=True)) as caller:
        known = caller.http.get(f"/api/flights/departure?airport=KJFK&begin={now - 3600}&end={now + 3600}").json()
        assert len(known) == (1 if minutes < 0 else 3)
        states = caller.http.get("/api/states/all")
        assert states.json()["time"] == now + 60 * minutes
        assert parsedate_to_datetime(states.headers["Date"]).timestamp() == now + 60 * minutes
        headers = {"Authorization": f"Bearer {caller.token().json()['access_token']}"}
        clock.advance(timedelta(seconds=1_799))
        assert caller.http.get("/api/states/all", headers=headers).status_code == 200
        clock.advance(timedelta(seconds=1))
        assert caller.http.get("/api/states/all", headers=headers).status_code == 401


questions = st.lists(st.sampled_from(["/api/flights/departure a", "/api/flights/departure b", "token"]), max_size=120)


def list_possible_faults(question: str) -> tuple[InjectedFault, ...]:
    """Return the kinds of faults that this call can meet."""
    return TOKEN_FAULTS if question == "token" else tuple(KINDS)


@given(st.integers(), st.floats(0, 1), questions)
def test_the_same_seed_draws_the_same_faults(seed: int, rate: float, asked: list[str]) -> None:
    """The faults of a call do not depend on the calls between its requests."""
    plan, other = SeededPlan(seed, rate), SeededPlan(seed, rate)
    together = [(question, plan.draw(question, list_possible_faults(question))[0]) for question in asked]
    for each in set(asked):
        alone = [other.draw(each, list_possible_faults(each))[0] for _ in range(asked.count(each))]
        assert [fault for question, fault in together if question == each] == alone


@given(st.integers(), st.sampled_from([0.5, 0.9, 1]), st.sampled_from([tuple(InjectedFault), TOKEN_FAULTS]))
def test_a_repeated_call_succeeds_after_a_bounded_number_of_failures(
    seed: int, rate: float, kinds: tuple[InjectedFault, ...]
) -> None:
    """At most one of a call's failures in a row is a revoked token."""
    plan = SeededPlan(seed, rate)
    suffered: list[InjectedFault] = []
    for _ in range(200):
        fault, _ = plan.draw("question", kinds)
        if fault is None or fault in ANSWER_FAULTS:
            suffered.clear()
        else:
            suffered.append(fault)
        assert len(suffered) <= MAX_FAILURES_IN_A_ROW
        assert suffered.count(InjectedFault.FORGOTTEN) <= 1


def test_every_kind_of_fault_is_drawn() -> None:
    """One seed draws every kind within some hundred requests, and the rate is as given."""
    plan = SeededPlan(1, rate=0.5)
    drawn = Counter(plan.draw(f"question {n}", KINDS)[0] for n in range(1_000))
    assert set(drawn) == {None, *KINDS}
    assert 400 < drawn[None] < 600


def test_the_same_seed_gives_the_same_answers() -> None:
    """The same requests in the same order get the same bytes."""

    def answers() -> list[tuple[int, bytes]]:
        said: list[tuple[int, bytes]] = []
        clock = FakeClock()
        with replay_with_faults(faults.seeded_injector(11, rate=0.8, stall_s=0), clock) as caller:
            for _ in range(20):
                clock.advance(timedelta(minutes=2))
                with suppress(httpx.TransportError):
                    answer = caller.ask()
                    said.append((answer.status_code, answer.content))
        return said

    first = answers()
    assert len(set(first)) > 3
    assert first == answers()


@pytest.mark.parametrize(
    ("text", "seed", "rate"), [("7", 7, faults.DEFAULT_RATE), ("7:0.5", 7, 0.5), ("-1:0", -1, 0), ("0:1", 0, 1)]
)
def test_the_option_takes_a_seed_and_a_rate(text: str, seed: int, rate: float) -> None:
    """The clock is skewed by some minutes, always the same for the same seed."""
    clock = FakeClock()
    skews = {faults.parse_faults(text).skew_clock(clock).now() - clock.now() for _ in range(2)}
    assert len(skews) == 1
    assert faults.parse_faults(text).skew_clock(clock).elapsed() == clock.elapsed()
    assert abs(skews.pop()) <= faults.MAX_SKEW
    plan, same = SeededPlan(seed, rate), faults.parse_faults(text).plan
    assert [same.draw("q", KINDS)[0] for _ in range(50)] == [plan.draw("q", KINDS)[0] for _ in range(50)]


def test_the_option_takes_a_script() -> None:
    """A script is a JSON list of the faults' values, with null for no fault."""
    given = faults.parse_faults('["503", null, "html", "401"]')
    assert given.plan == ScriptedPlan([InjectedFault.UNAVAILABLE, None, InjectedFault.HTML, InjectedFault.FORGOTTEN])


@pytest.mark.parametrize(
    "text",
    ["", "many", "7:", "7:often", "7:1.5", "7:-1", "7:nan", "1.5", "[", '["no such fault"]', "[503]", '[["503"]]'],
)
def test_an_invalid_option_is_rejected_with_one_sentence(text: str) -> None:
    """The error names the accepted forms."""
    with pytest.raises(ValueError) as caught:
        faults.parse_faults(text)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("SEED", "rate", "script"))
