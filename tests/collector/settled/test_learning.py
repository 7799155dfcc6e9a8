"""Tests of the forecast of learning: an interest in percent is judged at the forecast time, or earlier."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import pytest
from flask.testing import FlaskClient

from collector.errors import SourceUnavailableError
from collector.model import LiveCoverageRow
from collector.settled import learning_reports
from collector.settled.history_days import store_history_day
from collector.settled.learning import Forecast, expect_history
from collector.settled.learning_reports import KEPT_FOR, LearningReports
from collector.settled.quota import QuotaStore
from collector.settled.source_failure import clear_failure, store_failure
from domain.calendar import BaseIntervals, find_calendar
from domain.interests import Interest
from domain.rule import find_interest_grid
from domain.usual import FEWEST_BASE_WINDOWS
from domain.windows import AlignedTo, Window, instant, seconds
from tests.collector.conftest import ANN, ANNS, BOB, NOON, ON_SQLITE, Service, json_of, prove_past_days, wish
from tests.collector.settled.polling import HOUR, TIMING, build_collector, list_complete, poll
from tests.collector.settled.test_history import PERCENT, TODAY, begin, build_source

DAY: Final = timedelta(days=1)
QUARTER: Final = timedelta(minutes=15)


def say(service: Service, interest: Interest, budget: int) -> datetime | None:
    """Return the forecast end of an interest's learning, for a collector with `budget` credits a day."""
    reports = LearningReports(service.database, service.clock, TIMING, QuotaStore(budget))
    return reports.find_learning_ends([interest]).get(interest.interest_id)


def find_first_judged(service: Service, interest: Interest) -> datetime | None:
    """Return the start of the first window with a usual, by the log alone: the rule with the messages in their order.

    A window is reached with the first message after which the coverage reaches its start; then its base windows must be
    covered. None: no window has a usual.
    """
    known: set[datetime] = set()
    calendar, grid, number = find_calendar(interest.airport), find_interest_grid(interest), None
    watermark = None
    for told_from, told_until, _ in list_complete(service.database, interest.airport, interest.direction):
        known.update(told_from + place * QUARTER for place in range((told_until - told_from) // QUARTER))
        watermark = told_until if watermark is None else max(told_until, watermark)
        number = grid.find_number(seconds(told_from)) if number is None else number
        while grid.find_begin(number) <= seconds(watermark):
            if _has_usual(calendar.list_base_windows(grid, number), known):
                return instant(grid.find_begin(number))
            number += 1
    return None


def _has_usual(bases: BaseIntervals, known: set[datetime]) -> bool:
    """Return True if three base windows lie in quarters of an hour that are known, else False."""
    there = [all(instant(at) in known for at in range(*base, 900)) for base in bases if base is not None]
    return sum(there) >= FEWEST_BASE_WINDOWS


@pytest.mark.parametrize(("budget", "airports"), [(400, 1), (400, 2), (4_000, 1), (4_000, 6)])
@ON_SQLITE
def test_windows_are_judged_from_when_it_is_said(service: Service, budget: int, airports: int) -> None:
    """The forecast when the interest is set, with few credits or many, alone or not, comes true or earlier."""
    source = build_source(service)
    prove_past_days(service.database, NOON)
    collector = build_collector(service, source, budget)
    icaos = ("KJFK", "KBOS", "KLGA", "KEWR", "KORD", "KDEN")[:airports]
    interests = [service.set(wish(icao, **PERCENT)) for icao in icaos]
    said = {each.interest_id: say(service, each, budget) for each in interests}
    assert all(each is not None and TODAY <= each <= TODAY + 22 * DAY for each in said.values())
    until = max(each for each in said.values() if each is not None) + 2 * DAY
    _poll(service, collector, until)
    for interest in interests:
        first, expected = find_first_judged(service, interest), said[interest.interest_id]
        assert first is not None
        assert expected is not None
        assert first <= expected
        assert say(service, interest, budget) is None


def _poll(service: Service, collector: object, until: datetime) -> None:
    """Poll every two hours until a time."""

    async def lead() -> None:
        term = await collector.begin_term()  # type: ignore[attr-defined]
        while service.clock.now() < until:
            await collector.collect(term)  # type: ignore[attr-defined]
            service.clock.advance(2 * HOUR)

    asyncio.run(lead())


@pytest.mark.parametrize("window", [Window.SIX_HOURS, Window.ONE_DAY])
@pytest.mark.parametrize("airport", ["KJFK", "RJTT", "VNKT"])
@ON_SQLITE
def test_windows_by_the_airports_clock_are_judged_from_when_it_is_said(
    service: Service, airport: str, window: Window
) -> None:
    """West and east of Greenwich, and with days that begin within an hour: the history that is asked for suffices."""
    source = build_source(service)
    prove_past_days(service.database, NOON)
    collector = build_collector(service, source, 4_000)
    interest = service.set(wish(airport, window=window, aligned_to=AlignedTo.AIRPORT, **PERCENT))
    said = say(service, interest, 4_000)
    assert said is not None
    assert find_interest_grid(interest).find_first_from(seconds(said)) == find_interest_grid(interest).find_number(
        seconds(said)
    )
    assert TODAY < said <= TODAY + DAY
    _poll(service, collector, said + 2 * DAY)
    assert find_first_judged(service, interest) == said
    assert say(service, interest, 4_000) is None


@ON_SQLITE
def test_nothing_is_said_once_it_is_known_nor_of_flights(service: Service) -> None:
    """There is no forecast for an interest in flights; for one in percent only until three weeks are collected."""
    _, collector = begin(service)
    flights, percent = service.set(wish(), BOB), service.set(wish(**PERCENT), ANN)
    assert say(service, flights, 100_000) is None
    assert say(service, percent, 100_000) == TODAY + HOUR
    poll(collector)
    assert say(service, percent, 100_000) is None


@ON_SQLITE
def test_where_positions_cover_an_airport_it_is_judged_from_the_hour_on(service: Service) -> None:
    """Live coverage reaches windows when they begin: those that begin before the history is there are not judged."""
    _, collector = begin(service)
    interest = service.set(wish(), ANN)
    poll(collector)
    interest = service.set(wish(**PERCENT), ANN)
    with service.database.transaction() as session:
        session.add(
            LiveCoverageRow(
                airport="KJFK",
                direction="departures",
                begin_at=TODAY,
                end_at=NOON - timedelta(minutes=10),
                published=True,
            )
        )
    said = say(service, interest, 100_000)
    assert said is not None
    assert NOON + HOUR <= said <= NOON + 2 * HOUR


@pytest.mark.parametrize("window", list(Window))
@ON_SQLITE
def test_few_credits_make_it_later(service: Service, window: Window) -> None:
    """The fewer credits, the later; an airport's own days count as well, so it is never later than three weeks."""
    begin(service)
    interest = service.set(wish(window=window, **PERCENT))
    said = [say(service, interest, budget) for budget in (4_000, 800, 400, 200, 120)]
    assert all(each is not None for each in said)
    assert said == sorted(each for each in said if each is not None)
    assert said[0] == TODAY + window.length
    assert TODAY + 7 * DAY < max(each for each in said if each is not None) <= TODAY + 21 * DAY


def test_rest_says_until_when_an_interest_learns(client: FlaskClient, service: Service) -> None:
    """POST, GET and PATCH give the instant and a sentence; null for an interest in flights."""
    body = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "low_percent": 50}
    created = json_of(client.post("/interests", json=body, headers=ANNS))
    assert datetime.fromisoformat(str(created["learning_until"])) >= TODAY
    assert "is not known yet" in str(created["learning"])
    one = json_of(client.get(f"/interests/{created['interest_id']}", headers=ANNS))
    assert one["learning_until"] == created["learning_until"]
    (listed,) = json_of(client.get("/interests", headers=ANNS))["interests"]  # type: ignore[misc]
    assert listed["learning"] == created["learning"]
    change = {"low_value": 3}
    headers = {**ANNS, "If-Match": "*"}
    changed = json_of(client.patch(f"/interests/{created['interest_id']}", json=change, headers=headers))
    assert (changed["learning_until"], changed["learning"]) == (None, None)


@ON_SQLITE
def test_while_nothing_is_collected_the_forecast_moves_on(service: Service) -> None:
    """Windows are judged at the earliest from then on: what was said is not said again once its time has passed."""
    begin(service)
    interest, said = service.set(wish(**PERCENT)), []
    for _ in range(4):
        until = say(service, interest, 4_000)
        assert until is not None
        assert until > service.clock.now() - DAY, "today's hours are reached with the record of the night"
        said.append(until)
        service.clock.advance(2 * DAY)
    assert said == sorted(set(said))


@ON_SQLITE
def test_days_that_the_source_does_not_give_move_the_forecast(service: Service) -> None:
    """Three base weeks must be known: with three of the five days of a weekday given up, that weekday is not judged."""
    begin(service)
    interest = service.set(wish(**PERCENT))
    first = say(service, interest, 100_000)
    assert first == TODAY + HOUR
    with service.database.transaction() as session:
        for week in (1, 2, 3):
            store_history_day(session, "KJFK", "departures", TODAY - week * 7 * DAY, covered=False)
    later = say(service, interest, 100_000)
    assert later == TODAY + DAY, "the hours of today have two base weeks, those of tomorrow all"


@ON_SQLITE
def test_while_the_source_fails_the_sentence_says_so(client: FlaskClient, service: Service) -> None:
    """The forecast takes the source to answer from now on; that it does not is said with the time."""
    body = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "low_percent": 50}
    location = client.post("/interests", json=body, headers=ANNS).headers["Location"]
    before = str(json_of(client.get(location, headers=ANNS))["learning"])
    assert "did not answer" not in before
    with service.database.transaction() as session:
        store_failure(session, SourceUnavailableError("away"), service.clock.now())
    (shown,) = json_of(client.get("/interests", headers=ANNS))["interests"]  # type: ignore[misc]
    failed = "The source did not answer at 13 Feb 12:00 UTC; while it does not, that moves on."
    assert failed in shown["learning"]
    with service.database.transaction() as session:
        clear_failure(session)
    assert json_of(client.get(location, headers=ANNS))["learning"] == before


@ON_SQLITE
def test_the_forecast_is_made_only_for_whom_it_says_something_and_is_kept(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never for interests that are judged, at however many airports; else once in ten seconds for all who ask."""
    begin(service)
    judged = [service.set(wish(icao, **PERCENT), ANN) for icao in ("KBOS", "KLGA")]
    for each in judged:
        service.cover(each.direction, TODAY - 60 * DAY, TODAY, airport=each.airport)
    learner, another = (service.set(wish(icao, **PERCENT), BOB) for icao in ("KJFK", "KEWR"))
    said = {each.interest_id: say(service, each, 4_000) for each in (learner, another)}
    made = 0

    def make_forecast(*args: Any) -> Forecast:
        nonlocal made
        made += 1
        return expect_history(*args)

    monkeypatch.setattr(learning_reports, "expect_history", make_forecast)
    reports = LearningReports(service.database, service.clock, TIMING, QuotaStore(4_000))
    assert reports.find_learning_ends(judged).by_interest == {}
    assert made == 0
    for asked in ([learner], [another]):
        assert reports.find_learning_ends([*judged, *asked]).by_interest.items() <= said.items()
    assert reports.find_learning_ends([another, *judged, learner]).by_interest == said
    assert made == 1
    service.clock.advance(KEPT_FOR)
    reports.find_learning_ends([learner])
    assert made == 2, "after its time it is made anew"
    reports.find_learning_ends([service.set(wish("EDDF", **PERCENT), ANN)])
    assert made == 3, "an airport that nobody wanted before is not in it"
