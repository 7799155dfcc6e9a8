"""Faults on purpose: each is what it says, all of them pass, and the timetable stays the truth."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import httpx
import pytest
from hypothesis import given, strategies as st

from local.opensky import faults
from local.opensky.faults import (
    ANSWER_FAULTS,
    MAX_FAILURES_IN_A_ROW,
    TOKEN_FAULTS,
    FaultInjector,
    InjectedFault,
    ScriptedPlan,
    SeededPlan,
)
from local.opensky.flights import TimetableFlight
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay
from tests.local.opensky.conftest import CREDENTIALS

BEGIN: Final = int(datetime(2013, 2, 11, tzinfo=UTC).timestamp())
FLIGHTS: Final = [
    TimetableFlight(BEGIN + 600 * n, BEGIN + 600 * n + 60, f"{n:06x}", "TW1", "KJFK", "KBOS") for n in range(1, 21)
]
KINDS: Final = list(InjectedFault)


class Caller:
    """Asks a replay in one fault or another."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def ask(self, airport: str = "KJFK", path: str = "departure", **headers: str) -> httpx.Response:
        params: dict[str, str | int] = {"airport": airport, "begin": BEGIN, "end": BEGIN + 86_399}
        return self.http.get(f"/api/flights/{path}", params=params, headers=headers)

    def token(self) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": CREDENTIALS.client_id,
            "client_secret": CREDENTIALS.client_secret,
        }
        return self.http.post(TOKEN_PATH, data=form)

    def rows(self) -> list[dict[str, Any]]:
        answer = self.ask()
        assert answer.status_code == 200
        return list(answer.json())


@contextmanager
def suffering(
    given: FaultInjector, clock: FakeClock | None = None, flights: list[TimetableFlight] = FLIGHTS
) -> Iterator[Caller]:
    clock = clock or FakeClock()
    with replay(flights, clock, CREDENTIALS, given) as url, httpx.Client(base_url=url, timeout=30) as http:
        yield Caller(http)


def calm_rows() -> list[dict[str, Any]]:
    with suffering(faults.scripted_injector([])) as calm:
        return calm.rows()


def test_a_script_goes_wrong_request_by_request_and_then_no_more() -> None:
    """Requests for tokens and for states take nothing from it."""
    script = [InjectedFault.UNAVAILABLE, None, InjectedFault.LIMITED_UNSAID, InjectedFault.HTML]
    given = faults.scripted_injector(script)
    with suffering(given) as caller:
        statuses = []
        for _ in range(5):
            assert caller.token().status_code == 200
            assert caller.http.get("/api/states/all").status_code == 200
            statuses.append(caller.ask().status_code)
    assert statuses == [503, 200, 429, 200, 200]
    assert given.fault_counts == Counter(
        {InjectedFault.UNAVAILABLE: 1, InjectedFault.LIMITED_UNSAID: 1, InjectedFault.HTML: 1}
    )


def test_an_announced_pause_is_kept_by_the_server(clock: FakeClock) -> None:
    """Whoever comes early is told what is left, and counted; what they ask for does not matter."""
    given = faults.scripted_injector([InjectedFault.LIMITED])
    with suffering(given, clock) as caller:
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


def test_a_limit_may_come_without_a_word_about_the_pause() -> None:
    """Then nobody can know, and nobody is too early."""
    given = faults.scripted_injector([InjectedFault.LIMITED_UNSAID])
    with suffering(given) as caller:
        answer = caller.ask()
        assert answer.status_code == 429
        assert not [name for name in answer.headers if "retry" in name.lower()]
        assert caller.ask().status_code == 200
    assert given.early_requests == 0


@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_a_reset_comes_in_the_midst_of_the_body(airport: str) -> None:
    """The status was good, the bytes do not suffice; also where there are no flights."""
    with suffering(faults.scripted_injector([InjectedFault.RESET])) as caller:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            caller.ask(airport)
        assert caller.ask(airport).status_code in (200, 404)


@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_a_slow_body_outlasts_an_impatient_client(airport: str) -> None:
    """It began in time."""
    with suffering(faults.scripted_injector([InjectedFault.SLOW])) as caller:
        caller.http.timeout = httpx.Timeout(0.2)
        with pytest.raises(httpx.TimeoutException):
            caller.ask(airport)
        caller.http.timeout = httpx.Timeout(30)
        assert caller.ask(airport).status_code in (200, 404)


def test_a_slow_body_comes_whole_to_a_patient_client() -> None:
    """Every fault passes, this one by itself."""
    with suffering(FaultInjector(ScriptedPlan([InjectedFault.SLOW]), stall_s=0.05)) as caller:
        assert caller.rows() == calm_rows()


@pytest.mark.parametrize("fault", [InjectedFault.TRUNCATED, InjectedFault.HTML])
@pytest.mark.parametrize("airport", ["KJFK", "LICC"])
def test_what_is_no_json_comes_as_if_all_were_well(fault: InjectedFault, airport: str) -> None:
    """Status 200, a length that is right, the credits taken; never a shorter list."""
    with suffering(faults.scripted_injector([fault])) as caller:
        answer = caller.ask(airport)
        assert answer.status_code == 200
        assert "X-Rate-Limit-Remaining" in answer.headers
        with pytest.raises(ValueError):
            answer.json()


def test_a_forgotten_token_is_a_401_until_there_is_a_new_one() -> None:
    """Who has none is not touched."""
    given = faults.scripted_injector([InjectedFault.FORGOTTEN, InjectedFault.FORGOTTEN])
    with suffering(given) as caller:
        assert caller.ask().status_code == 200
        old = f"Bearer {caller.token().json()['access_token']}"
        assert [caller.ask(Authorization=old).status_code for _ in range(2)] == [401, 401]
        assert caller.ask(Authorization=f"Bearer {caller.token().json()['access_token']}").status_code == 200
    assert given.fault_counts == Counter({InjectedFault.FORGOTTEN: 1})


def test_duplicated_flights_are_there_at_least_once() -> None:
    """Nothing else is."""
    with suffering(faults.scripted_injector([InjectedFault.DUPLICATED])) as caller:
        rows = caller.rows()
    assert len(rows) > len(FLIGHTS)
    assert {json.dumps(row) for row in rows} == {json.dumps(row) for row in calm_rows()}


def test_a_late_flight_is_there_when_asked_again() -> None:
    """In however many answers flights are late, each is late in one of them only, and in one direction only."""
    given = faults.scripted_injector([InjectedFault.LATE] * 50)
    calm = calm_rows()
    seen: list[list[dict[str, Any]]] = []
    with suffering(given) as caller:
        for _ in range(30):
            seen.append(caller.rows())
        assert len(caller.ask("KBOS", "arrival").json()) < len(FLIGHTS)
    for row in calm:
        assert sum(row not in rows for rows in seen) == 1
    for before, after in pairwise(seen):
        assert {json.dumps(row) for row in [*before, *after]} == {json.dumps(row) for row in calm}
    assert len(given.withheld_flights) > len(FLIGHTS)


def test_an_airport_whose_only_flight_is_late_has_none() -> None:
    """As OpenSky says it: 404."""
    with suffering(faults.scripted_injector([InjectedFault.LATE]), flights=FLIGHTS[:1]) as caller:
        assert [caller.ask().status_code for _ in range(2)] == [404, 200]


def test_a_malformed_flight_is_well_when_asked_again() -> None:
    """Its place is taken by something else; the others are as they were."""
    calm = calm_rows()
    with suffering(faults.scripted_injector([InjectedFault.MALFORMED] * 50)) as caller:
        for _ in range(3):
            rows = caller.rows()
            assert len(rows) == len(calm)
            assert 1 <= sum(row not in calm for row in rows) <= 3
        for _ in range(30):
            rows = caller.rows()
    assert rows == calm


def test_what_the_replay_refuses_is_refused() -> None:
    """A fault takes the place of an answer, not of the truth about a question."""
    with suffering(faults.scripted_injector([InjectedFault.HTML, InjectedFault.LATE, InjectedFault.RESET])) as caller:
        for _ in range(3):
            assert caller.http.get("/api/flights/departure").status_code == 400


@pytest.mark.parametrize("minutes", [-4, 4])
def test_a_server_whose_clock_is_off_does_not_know_the_same_flights(clock: FakeClock, minutes: int) -> None:
    """Departures up to what it takes for now; and its tokens live by that clock."""
    now = int(clock.now().timestamp())
    flights = [TimetableFlight(now + 60 * m, now + 60 * m, "abcdef", "TW1", "KJFK", None) for m in (-5, -3, 3, 5)]
    skewed = FaultInjector(ScriptedPlan([]), skew=timedelta(minutes=minutes))
    with suffering(skewed, clock, flights) as caller:
        known = caller.http.get(f"/api/flights/departure?airport=KJFK&begin={now - 3600}&end={now + 3600}").json()
        assert len(known) == (1 if minutes < 0 else 3)
        assert caller.http.get("/api/states/all").json()["time"] == now + 60 * minutes
        headers = {"Authorization": f"Bearer {caller.token().json()['access_token']}"}
        clock.advance(timedelta(seconds=1_799))
        assert caller.http.get("/api/states/all", headers=headers).status_code == 200
        clock.advance(timedelta(seconds=1))
        assert caller.http.get("/api/states/all", headers=headers).status_code == 401


questions = st.lists(st.sampled_from(["/api/flights/departure a", "/api/flights/departure b", "token"]), max_size=120)


def kinds_of(question: str) -> tuple[InjectedFault, ...]:
    return TOKEN_FAULTS if question == "token" else tuple(InjectedFault)


@given(st.integers(), st.floats(0, 1), questions)
def test_the_same_seed_goes_wrong_in_the_same_way(seed: int, rate: float, asked: list[str]) -> None:
    """For each question by itself, whatever else is asked in between."""
    plan, other = SeededPlan(seed, rate), SeededPlan(seed, rate)
    together = [(question, plan.draw(question, kinds_of(question))[0]) for question in asked]
    for each in set(asked):
        alone = [other.draw(each, kinds_of(each))[0] for _ in range(asked.count(each))]
        assert [fault for question, fault in together if question == each] == alone


@given(st.integers(), st.sampled_from([0.5, 0.9, 1]), st.sampled_from([tuple(InjectedFault), TOKEN_FAULTS]))
def test_whoever_asks_again_is_answered(seed: int, rate: float, kinds: tuple[InjectedFault, ...]) -> None:
    """After a bounded number of failures of the same question, of which at most one is a forgotten token."""
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
    """From one seed, within some hundred requests; the rate is kept."""
    plan = SeededPlan(1, rate=0.5)
    drawn = Counter(plan.draw(f"question {n}", KINDS)[0] for n in range(1_000))
    assert set(drawn) == {None, *KINDS}
    assert 400 < drawn[None] < 600


def test_the_same_seed_gives_the_same_answers() -> None:
    """Byte by byte, for the same requests in the same order."""

    def answers() -> list[tuple[int, bytes]]:
        said: list[tuple[int, bytes]] = []
        clock = FakeClock()
        with suffering(faults.seeded_injector(11, rate=0.8, stall_s=0), clock) as caller:
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
def test_the_command_line_names_a_seed_and_a_rate(text: str, seed: int, rate: float) -> None:
    """The clock is off by some minutes, for the same seed by the same."""
    clock = FakeClock()
    skews = {faults.parse_faults(text).skew_clock(clock).now() - clock.now() for _ in range(2)}
    assert len(skews) == 1
    assert abs(skews.pop()) <= faults.MAX_SKEW
    plan, same = SeededPlan(seed, rate), faults.parse_faults(text).plan
    assert [same.draw("q", KINDS)[0] for _ in range(50)] == [plan.draw("q", KINDS)[0] for _ in range(50)]


def test_the_command_line_takes_a_script() -> None:
    """Names as the faults have them; null for nothing."""
    given = faults.parse_faults('["503", null, "html", "401"]')
    assert given.plan == ScriptedPlan([InjectedFault.UNAVAILABLE, None, InjectedFault.HTML, InjectedFault.FORGOTTEN])


@pytest.mark.parametrize(
    "text",
    ["", "many", "7:", "7:often", "7:1.5", "7:-1", "7:nan", "1.5", "[", '["no such fault"]', "[503]", '[["503"]]'],
)
def test_anything_else_is_one_clear_sentence(text: str) -> None:
    """For whoever typed it."""
    with pytest.raises(ValueError) as caught:
        faults.parse_faults(text)
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("SEED", "rate", "script"))
