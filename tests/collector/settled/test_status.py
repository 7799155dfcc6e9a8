"""Tests of the scheduler's state, as any replica reads it from the database, and of its gauges."""

import asyncio
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import delete

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SourceLimitedError
from collector.gauges import SchedulerGauges
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, InterestRow, UnheardRow
from collector.settled.quota import QuotaStore
from collector.settled.status import MAX_SHOWN_CALLS, PlannedCall, SchedulerStatus, TargetCoverage
from domain.interests import Direction
from tests.collector.conftest import NOON, NOWHERE, ON_SQLITE, Service, prove_days, prove_past_days, wish
from tests.collector.settled.test_collection import (
    TIMING,
    build_collector_on,
    list_daily_flights,
    run,
    run_recorded,
)
from tests.fakes.nightly_source import NightlySource

TODAY = day_of(NOON)


def build_status(service: Service, budget: int = 400) -> SchedulerStatus:
    """Return the scheduler's status of the service, with this budget of credits per day."""
    return SchedulerStatus(service.database, service.clock, TIMING, QuotaStore(budget))


def test_without_interests_the_plan_is_empty(service: Service) -> None:
    """No call is due, and all credits are left."""
    state = build_status(service).load_state()
    assert (state.at, state.budget, state.spent, state.left, state.due) == (NOON, 400, 0, 400, 0)
    assert (state.plan, state.coverage, state.deferred_until) == ((), (), None)


def test_the_plan_has_the_next_calls_in_order_with_prices(service: Service) -> None:
    """The plan is known before anything is collected."""
    service.set(wish(direction=Direction.BOTH, effective_from=NOON - 2 * DAY))
    prove_days(service.database, TODAY - 2 * DAY, TODAY - DAY)
    state = build_status(service).load_state()
    assert state.plan == (
        PlannedCall("KJFK", Direction.ARRIVALS, TODAY - 2 * DAY, TODAY - DAY, 30, False),
        PlannedCall("KJFK", Direction.DEPARTURES, TODAY - 2 * DAY, TODAY - DAY, 30, False),
        PlannedCall("KJFK", Direction.ARRIVALS, TODAY - DAY, TODAY, 30, False),
        PlannedCall("KJFK", Direction.DEPARTURES, TODAY - DAY, TODAY, 30, False),
    )
    assert state.deferred_until is None
    assert [(each.covered_from, each.covered_until, each.asked_at) for each in state.coverage] == [
        (None, None, None)
    ] * 2


def test_what_is_not_proven_is_not_in_the_plan(service: Service) -> None:
    """The state says what the next day waits for instead."""
    service.set(wish(direction=Direction.BOTH))
    state = build_status(service).load_state()
    assert (state.plan, state.due, state.records) == ((), 0, ())
    waiting = "waiting for the night's record of 12 Feb; "
    assert [each.waiting_for for each in state.coverage] == [f"{waiting}no answer yet"] * 2
    assert [(each.goes_on_at, each.due_until) for each in state.coverage] == [(TODAY - DAY, TODAY - DAY)] * 2
    service.clock.set_wall_clock(TODAY + timedelta(minutes=30))
    shown = [each.waiting_for for each in build_status(service).load_state().coverage]
    assert shown == [f"{waiting}first asked at 01:00"] * 2


def test_after_build_collector_on_the_state_has_credits_spent_and_coverage(service: Service) -> None:
    """All of the state comes from the database, so it is the same on every replica."""
    service.set()
    service.set()
    source = NightlySource(service.clock, list_daily_flights())
    run_recorded(service, build_collector_on(service.database, source, service.clock, budget=400))
    state = build_status(service).load_state()
    assert (state.spent, state.left, state.due) == (30, 370, 0)
    assert state.coverage == (
        TargetCoverage(
            airport="KJFK",
            direction=Direction.DEPARTURES,
            interests=2,
            people=2,
            covered_from=TODAY - DAY,
            covered_until=TODAY,
            goes_on_at=TODAY,
            due_until=TODAY,
            asked_at=NOON,
            lag_s=12 * 3600.0,
            waiting_for=None,
            waits_for_credits=None,
        ),
    )


def test_a_lack_of_credits_is_shown_with_the_end_of_the_deferral(service: Service) -> None:
    """Deferred calls are in the plan, and collection continues at the time that was shown."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    source = NightlySource(service.clock, list_daily_flights())
    collector = build_collector_on(service.database, source, service.clock, budget=200)
    run_recorded(service, collector)
    state = build_status(service, budget=200).load_state()
    assert (state.spent, state.due) == (120, 5)
    assert state.deferred_until is not None
    assert NOON < state.deferred_until < TODAY + DAY
    assert [each.waits_for_credits for each in state.coverage] == [
        "waits for credits: one person pays for it; it is the next"
    ]
    service.clock.advance(state.deferred_until - NOON)
    run(collector)
    assert build_status(service, budget=200).load_state().spent == 150


def test_a_pause_of_the_source_is_shown_and_kept(service: Service) -> None:
    """Other replicas, and the next leader, also keep the pause."""
    service.set()
    prove_past_days(service.database, NOON)
    source = NightlySource(service.clock)
    source.failures = [SourceLimitedError(3600)]
    run(build_collector_on(service.database, source, service.clock))
    state = build_status(service).load_state()
    assert (state.spent, state.deferred_until) == (0, NOON + timedelta(hours=1))
    source.calls.clear()
    run(build_collector_on(service.database, source, service.clock))
    assert source.calls == []


def test_a_new_day_has_all_its_credits(service: Service) -> None:
    """A day is a UTC day of the service's clock. An empty answer is confirmed by an evidence call for 4 credits."""
    service.set()
    run_recorded(service, build_collector_on(service.database, NightlySource(service.clock), service.clock))
    assert build_status(service).load_state().spent == 30 + 4
    service.clock.advance(DAY)
    assert build_status(service).load_state().spent == 0


def test_of_a_long_plan_the_beginning_is_shown(service: Service) -> None:
    """The state has the first calls of a long plan, and the number of all."""
    for airport in ("KJFK", "LICC", "EGLL", "KBOS"):
        service.set(wish(airport, effective_from=NOON - timedelta(days=29)))
    prove_past_days(service.database, NOON)
    state = build_status(service).load_state()
    assert len(state.plan) == MAX_SHOWN_CALLS
    assert state.due == 4 * 29


def test_an_unavailable_database_raises(service: Service) -> None:
    """The caller handles DatabaseUnavailableError."""
    with pytest.raises(DatabaseUnavailableError):
        SchedulerStatus(Database(NOWHERE), service.clock, TIMING, QuotaStore(400)).load_state()


def test_the_gauges_show_the_state_of_the_database(service: Service) -> None:
    """They show the credits left and, for each direction, the lag of the airport that lags most."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    prove_past_days(service.database, NOON)
    source = NightlySource(service.clock, list_daily_flights())
    collector = build_collector_on(service.database, source, service.clock, budget=400)

    async def collect_one() -> None:
        await collector.collect(await collector.begin_term(), "KJFK")

    asyncio.run(collect_one())
    metrics = Metrics(ServiceIdentity("collector", "local"))
    SchedulerGauges(build_status(service), metrics).update()
    labels = {"service": "collector", "node": "local"}
    value = metrics.registry.get_sample_value
    assert value("opensky_credits_left", labels) == 400 - 30
    assert value("coverage_lag_seconds", {"direction": "departures", **labels}) == (NOON - TODAY + DAY).total_seconds()
    assert value("coverage_lag_seconds", {"direction": "arrivals", **labels}) == 0


def build_interest_row(number: int, airport: str, direction: Direction, effective_from: datetime) -> InterestRow:
    """Return the row of an interest of a user of its own."""
    return InterestRow(
        interest_id=uuid4(), user_id=UUID(int=number), airport=airport, direction=direction.value, window_length="1h",
        high=1, low=None, for_windows=1, repeat=False, version=1, effective_from=effective_from, created_at=NOON,
        updated_at=NOON,
    )  # fmt: skip


INSTANTS = (None, *(TODAY - days * DAY for days in (-1, 0, 1, 2, 3, 9, 40)))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    airports=st.dictionaries(
        st.sampled_from(["KJFK", "LICC", "EGLL", "UAFM"]),  # the last one is a retired code
        st.tuples(
            st.lists(st.tuples(st.sampled_from(Direction), st.sampled_from(INSTANTS[1:])), max_size=3),
            st.tuples(*(st.tuples(st.sampled_from(INSTANTS), st.sampled_from(INSTANTS)) for _ in range(2))),
        ),
    )
)
@ON_SQLITE
def test_the_lags_are_those_of_the_whole_state(
    service: Service,
    airports: dict[str, tuple[list[tuple[Direction, datetime]], tuple[tuple[datetime | None, datetime | None], ...]]],
) -> None:
    """What is loaded for the gauges equals what the state shows, whatever is set, covered, unheard or retired."""
    with service.database.transaction() as session:
        for table in (InterestRow, CoverageRow, UnheardRow):
            session.execute(delete(table))
        for airport, (interests, cursors) in airports.items():
            for number, (direction, effective_from) in enumerate(interests):
                session.add(build_interest_row(number, airport, direction, effective_from))
            for part, (covered, asked) in zip(Direction.BOTH.parts, cursors, strict=True):
                if covered is not None:
                    session.add(
                        CoverageRow(
                            airport=airport, direction=part.value, covered_from=covered - DAY, covered_until=covered
                        )
                    )
                if asked is not None:
                    session.add(UnheardRow(airport=airport, direction=part.value, since=asked - DAY, asked_until=asked))
    status = build_status(service)
    state = status.load_state()
    assert status.load_lags() == (
        state.left,
        {
            part: max((each.lag_s for each in state.coverage if each.direction is part), default=0.0)
            for part in Direction.BOTH.parts
        },
    )
