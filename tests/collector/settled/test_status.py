"""The scheduler's state, as any replica reads it from the database; and the gauges that say the same."""

import asyncio
from datetime import timedelta

import pytest

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SourceLimitedError
from collector.gauges import SchedulerGauges
from collector.intervals import DAY, day_of
from collector.settled.quota import QuotaStore
from collector.settled.status import MAX_SHOWN_CALLS, PlannedCall, SchedulerStatus, TargetCoverage
from domain.interests import Direction
from tests.collector.conftest import NOON, NOWHERE, Service, wish
from tests.collector.settled.test_collection import LAGS, TIMING, FakeSource, a_collection, run

TODAY = day_of(NOON)


def status_of(service: Service, budget: int = 400) -> SchedulerStatus:
    return SchedulerStatus(service.database, service.clock, TIMING, QuotaStore(budget))


def test_without_interests_there_is_nothing_to_do(service: Service) -> None:
    """And all credits are left."""
    state = status_of(service).load_state()
    assert (state.at, state.budget, state.spent, state.left, state.due) == (NOON, 400, 0, 400, 0)
    assert (state.plan, state.coverage, state.deferred_until) == ((), (), None)


def test_the_plan_has_what_comes_next_in_order_with_its_price(service: Service) -> None:
    """Before anything is collected."""
    service.set(wish(direction=Direction.BOTH))
    state = status_of(service).load_state()
    assert state.plan == (
        PlannedCall("KJFK", Direction.ARRIVALS, TODAY - DAY, TODAY, 30, False),
        PlannedCall("KJFK", Direction.DEPARTURES, TODAY - DAY, TODAY, 30, False),
        PlannedCall("KJFK", Direction.DEPARTURES, TODAY, NOON - LAGS.departures, 4, False),
    )
    assert state.deferred_until is None
    assert [(each.covered_from, each.covered_until, each.asked_at) for each in state.coverage] == [
        (None, None, None)
    ] * 2


def test_afterwards_it_has_what_was_spent_and_covered(service: Service) -> None:
    """The same on every replica, for all of it is in the database."""
    service.set()
    service.set()
    run(a_collection(service.database, FakeSource(service.clock), service.clock, budget=400))
    state = status_of(service).load_state()
    assert (state.spent, state.left, state.due) == (34, 366, 0)
    assert state.coverage == (
        TargetCoverage(
            airport="KJFK",
            direction=Direction.DEPARTURES,
            interests=2,
            covered_from=TODAY - DAY,
            covered_until=NOON - LAGS.departures,
            goes_on_at=NOON - LAGS.departures,
            due_until=NOON - LAGS.departures,
            asked_at=NOON,
            lag_s=1800.0,
        ),
    )


def test_a_lack_of_credits_is_said_and_until_when(service: Service) -> None:
    """What waits is in the plan; at the time that was said, it goes on."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    collection = a_collection(service.database, FakeSource(service.clock), service.clock, budget=200)
    run(collection)
    state = status_of(service, budget=200).load_state()
    assert (state.spent, state.due) == (120, 6)
    assert state.deferred_until is not None
    assert NOON < state.deferred_until < TODAY + DAY
    service.clock.advance(state.deferred_until - NOON)
    run(collection)
    assert status_of(service, budget=200).load_state().spent == 150


def test_a_pause_that_the_source_wants_is_said(service: Service) -> None:
    """Also by replicas that did not meet it, and by the next leader."""
    service.set()
    source = FakeSource(service.clock)
    source.failures = [SourceLimitedError(3600)]
    run(a_collection(service.database, source, service.clock))
    state = status_of(service).load_state()
    assert (state.spent, state.deferred_until) == (0, NOON + timedelta(hours=1))
    source.asked.clear()
    run(a_collection(service.database, source, service.clock))
    assert source.asked == []


def test_a_new_day_has_all_its_credits(service: Service) -> None:
    """Of the clock of the service."""
    service.set()
    run(a_collection(service.database, FakeSource(service.clock), service.clock))
    service.clock.advance(DAY)
    assert status_of(service).load_state().spent == 0


def test_of_a_long_plan_the_beginning_is_shown(service: Service) -> None:
    """And how long it is."""
    for airport in ("KJFK", "LICC", "EGLL", "KBOS"):
        service.set(wish(airport, effective_from=NOON - timedelta(days=29)))
    state = status_of(service).load_state()
    assert len(state.plan) == MAX_SHOWN_CALLS
    assert state.due == 4 * 30


def test_without_a_database_there_is_no_state(service: Service) -> None:
    """The caller answers that it is away."""
    with pytest.raises(DatabaseUnavailableError):
        SchedulerStatus(Database(NOWHERE), service.clock, TIMING, QuotaStore(400)).load_state()


def test_the_gauges_say_the_same_on_every_replica(service: Service) -> None:
    """Credits left, and the lag of the airport that lags most, for each direction and not for each airport."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    collection = a_collection(service.database, FakeSource(service.clock), service.clock, budget=400)

    async def collect_one() -> None:
        await collection.collect(await collection.begin_term(), "KJFK")

    asyncio.run(collect_one())
    metrics = Metrics(ServiceIdentity("collector", "local"))
    SchedulerGauges(status_of(service), metrics).update()
    labels = {"service": "collector", "node": "local"}
    value = metrics.registry.get_sample_value
    assert value("opensky_credits_left", labels) == 400 - 34
    assert value("coverage_lag_seconds", {"direction": "departures", **labels}) == (NOON - TODAY + DAY).total_seconds()
    assert value("coverage_lag_seconds", {"direction": "arrivals", **labels}) == 0
