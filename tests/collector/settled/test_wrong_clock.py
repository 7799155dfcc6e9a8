"""Tests of a wrong clock: it moves no cursor, claims no coverage, and stops nothing once it is right again."""

from datetime import datetime, timedelta

import pytest
from flask.testing import FlaskClient

from collector.errors import SourceLimitedError, WrongClockError
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, CreditsRow, LastPollRow, NightlyRecordRow
from collector.retention import FlightRetention
from collector.settled.planner import QuotaBalance
from collector.settled.quota import QuotaStore
from domain.interests import Direction
from tests.collector.conftest import ANN, NOON, ON_SQLITE, OPERATOR, Service, json_of, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, poll, poll_hourly
from tests.fakes.nightly_source import NightlySource, build_flight

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY
ARRIVALS = Direction.ARRIVALS
FAR = timedelta(days=400)


def make_source(service: Service) -> NightlySource:
    """Return a source with a flight each hour of many days, which shows that the clock is right."""
    flights = [build_flight(YESTERDAY - 3 * DAY + number * HOUR, 20, number) for number in range(24 * 20)]
    return NightlySource(service.clock, flights, shown_clock_error=timedelta(0))


def look_at_a_wrong_clock(service: Service, error: timedelta, source: NightlySource) -> None:
    """Poll once while the clock is off by `error`, and set it right again."""
    right = service.clock.now()
    service.clock._now, source.shown_clock_error = right + error, error
    poll(build_collector(service, source))
    service.clock._now, source.shown_clock_error = right, timedelta(0)


@pytest.mark.parametrize("error", [FAR, -FAR, timedelta(hours=2), -timedelta(hours=2)])
def test_one_look_at_a_wrong_clock_changes_nothing(service: Service, error: timedelta) -> None:
    """Collection goes on as without it: the same intervals are covered, with the same flights, at the same times."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = make_source(service)
    poll_hourly(service, build_collector(service, source), TODAY + DAY + 5 * HOUR)
    look_at_a_wrong_clock(service, error, source)
    assert [entry[2] for entry in list_complete(service.database)] == [24]
    poll_hourly(service, build_collector(service, source), TODAY + 3 * DAY + 7 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [24, 24, 24, 24]


def test_a_wrong_clock_stores_nothing_of_an_answer(service: Service) -> None:
    """Neither coverage nor evidence, however long it stays wrong; the operator sees why."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = make_source(service)
    source.shown_clock_error = timedelta(hours=-1, seconds=-1)
    poll_hourly(service, build_collector(service, source), TODAY + 2 * DAY)
    assert list_complete(service.database) == []
    with service.database.reading() as session:
        assert session.query(NightlyRecordRow).count() == 0
    source.shown_clock_error = timedelta(hours=1)
    poll_hourly(service, build_collector(service, source), TODAY + 2 * DAY + 8 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [24, 24, 24]


def test_the_status_shows_how_far_the_clock_is_off(service: Service, client: FlaskClient) -> None:
    """In seconds, with the time of the comparison: that of the answer, a second after the call."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = make_source(service)
    assert json_of(client.get("/scheduler/status", headers=OPERATOR))["clock_error_seconds"] is None
    source.shown_clock_error = timedelta(minutes=-3)
    poll(build_collector(service, source))
    shown = json_of(client.get("/scheduler/status", headers=OPERATOR))
    assert (shown["clock_error_seconds"], shown["clock_compared_at"]) == (-180.0, "2013-02-13T12:00:01Z")


def test_an_answer_that_wants_a_pause_compares_the_clocks_too(service: Service, client: FlaskClient) -> None:
    """A 429 has the source's time: while it allows no more calls, the last comparison would grow old."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = make_source(service)
    source.failures, source.shown_clock_error = [SourceLimitedError(3_600)], timedelta(minutes=-3)
    poll(build_collector(service, source))
    assert json_of(client.get("/scheduler/status", headers=OPERATOR))["clock_error_seconds"] == -180.0


def test_stored_instants_of_the_future_are_taken_back(service: Service) -> None:
    """An earlier version stored them; with a clock that agrees with the source, collection goes on at yesterday."""
    service.set(wish(direction=ARRIVALS), ANN)
    future = NOON + FAR
    with service.database.transaction() as session:
        session.add(
            CoverageRow(
                airport="KJFK",
                direction="arrivals",
                covered_from=YESTERDAY,
                covered_until=future,
                corrected_until=future,
            )
        )
        session.add(LastPollRow(airport="KJFK", direction="arrivals", asked_at=future))
        session.add(
            CreditsRow(id=1, day=day_of(future), spent=100_000, unaccounted=0, live_spent=0, paused_until=future)
        )
    poll_hourly(service, build_collector(service, make_source(service)), TODAY + DAY + 7 * HOUR)
    assert list_complete(service.database) == [(YESTERDAY, TODAY, 24), (TODAY, TODAY + DAY, 24)]
    with service.database.reading() as session:
        credit = session.get_one(CreditsRow, 1)
        assert (credit.day, credit.paused_until) == (TODAY + DAY, None)
        assert session.get_one(LastPollRow, ("KJFK", "arrivals")).asked_at < TODAY + 2 * DAY
        assert session.get_one(CoverageRow, ("KJFK", "arrivals")).corrected_until <= TODAY + DAY  # type: ignore[operator]


def test_nothing_is_taken_back_by_a_clock_that_nobody_confirmed(service: Service) -> None:
    """Perhaps the clock is wrong now, and was right before."""
    service.set(wish(direction=ARRIVALS), ANN)
    with service.database.transaction() as session:
        session.add(CoverageRow(airport="KJFK", direction="arrivals", covered_from=YESTERDAY, covered_until=NOON + FAR))
    for error in (None, timedelta(hours=5)):
        source = make_source(service)
        source.shown_clock_error = error
        poll(build_collector(service, source))
    with service.database.reading() as session:
        assert session.get_one(CoverageRow, ("KJFK", "arrivals")).covered_until == NOON + FAR


def test_a_pause_that_a_wrong_clock_stored_does_not_last(service: Service) -> None:
    """No pause is longer than a day; the source repeats it if it still holds."""
    assert QuotaBalance(400, 0, NOON + DAY).is_paused(NOON)
    assert not QuotaBalance(400, 0, NOON + 2 * DAY).is_paused(NOON)
    service.set(wish(direction=ARRIVALS), ANN)
    source = make_source(service)
    source.failures = [SourceLimitedError(3_600)]
    look_at_a_wrong_clock(service, FAR, source)
    poll(build_collector(service, source))
    assert len(source.calls) == 2


def test_the_credits_of_a_wrong_day_do_not_count(service: Service) -> None:
    """Those of a day that is at most one ahead do: a clock that is set back must not grant credits twice."""
    quota = QuotaStore(400)
    for ahead, spent in ((timedelta(0), 30), (DAY, 30), (2 * DAY, 0), (FAR, 0)):
        with service.database.transaction() as session:
            session.query(CreditsRow).delete()
            session.add(CreditsRow(id=1, day=TODAY + ahead, spent=30, unaccounted=0, live_spent=7, paused_until=None))
        with service.database.transaction() as session:
            assert quota.load_balance(session, NOON).spent == spent
            quota.charge(session, 4, NOON)
        with service.database.transaction() as session:
            assert quota.load_balance(session, NOON).spent == spent + 4
            assert quota.load_live_spent(session, NOON) == (7 if spent else 0)


@pytest.mark.parametrize("error", [FAR, timedelta(hours=2)])
def test_a_wrong_clock_deletes_no_flights(service: Service, error: timedelta) -> None:
    """A clock that was wrong at its last comparison, or has jumped since, makes no flight old."""
    service.set(wish("LICC", direction=ARRIVALS), ANN)
    poll(build_collector(service, make_source(service)))
    service.cover(ARRIVALS, YESTERDAY - 50 * DAY, TODAY)
    service.store(ARRIVALS, YESTERDAY, YESTERDAY - 49 * DAY)
    retention = FlightRetention(service.database, service.clock, timedelta(days=40))
    if error == FAR:
        service.clock.set_wall_clock(NOON + FAR)
    else:
        source = make_source(service)
        source.shown_clock_error = error
        service.clock.advance(3 * HOUR)
        poll(build_collector(service, source))
    assert retention.delete_expired() == 0
    service.clock.set_wall_clock(NOON + 8 * HOUR)
    poll(build_collector(service, make_source(service)))
    assert retention.delete_expired() == 1


def test_the_error_says_what_to_do() -> None:
    """It goes into the log of the collector."""
    assert (
        str(WrongClockError(FAR))
        == "this machine's clock is 9600.0 h ahead of the source's; set the machine's clock right"
    )
    assert "1.5 h behind" in str(WrongClockError(-1.5 * HOUR))


class RightClockSource(NightlySource):
    """A source whose own clock is right, whatever the service's clock shows."""

    error = timedelta(0)
    """How far the service's clock is ahead."""

    def _is_given(self, direction: Direction, at: datetime, now: datetime) -> bool:
        """Return True if the record has a flight at the right time."""
        return super()._is_given(direction, at, now - self.error)


@ON_SQLITE
@pytest.mark.parametrize(
    ("error", "is_shown"),
    [(HOUR / 2, True), (-2 * HOUR, False), (20 * HOUR, False), (-3 * DAY, False), (10 * DAY, False), (FAR, True)],
)
def test_a_clock_that_is_wrong_for_hours_loses_nothing(service: Service, error: timedelta, is_shown: bool) -> None:
    """Nor if the answers meanwhile have no `Date`, as behind a proxy: once it is right, every day is covered."""
    source = RightClockSource(service.clock, make_source(service).available, shown_clock_error=timedelta(0))
    service.set(wish(direction=Direction.BOTH), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + timedelta(hours=4, minutes=10))
    service.clock.set_wall_clock(service.clock.now() + error)
    source.error, source.shown_clock_error = error, error if is_shown else None
    poll_hourly(service, collector, service.clock.now() + 6 * HOUR)
    service.clock.set_wall_clock(service.clock.now() - error)
    source.error, source.shown_clock_error = timedelta(0), timedelta(0)
    poll_hourly(service, collector, TODAY + 3 * DAY + 12 * HOUR)
    for direction in Direction.BOTH.parts:
        covered = list_complete(service.database, direction=direction)
        assert [flights for begin, end, flights in covered if end - begin == DAY and flights != 24] == []
        assert covered[-1][1] == TODAY + 3 * DAY
