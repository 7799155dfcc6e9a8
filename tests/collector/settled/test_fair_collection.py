"""Tests of the shares by person with the real collector and database: requests do not overtake, a leader goes on."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from collector.errors import SourceUnavailableError
from collector.model import PersonRow
from collector.settled.collection import FlightCollector
from collector.settled.shares import ROUND
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, CARL, NOON, ON_SQLITE, Service, prove_past_days, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, list_published, poll, poll_hourly
from tests.collector.settled.test_hostile_sources import HostileSource
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb

STRANGERS = ["EDDF", "LFPG", "LIRF", "EHAM", "LEMD", "KLAX", "KORD", "RJTT", "YSSY", "EDDM", "LOWW", "LSZH", "EKCH"]
DAY = timedelta(days=1)


def collect_each(collector: FlightCollector, airports: list[str]) -> None:
    """Collect each airport in a run of its own, as the requests of new interests do."""

    async def lead() -> None:
        term = await collector.begin_term()
        for airport in airports:
            await collector.collect(term, airport)

    asyncio.run(lead())


def load_paid(service: Service) -> dict[object, int]:
    """Return what each person has paid, in microcredits."""
    with service.database.reading() as session:
        return {row.user_id: row.paid for row in session.scalars(select(PersonRow))}


def build_source(service: Service) -> NightlySource:
    """Return a source with a departure on each of the last days, at every airport."""
    return NightlySource(service.clock, [build_flight(NOON - days * DAY) for days in (1, 2)])


def test_a_strangers_requests_leave_the_credits_of_who_waits(service: Service) -> None:
    """Each new interest requests a collection at once; a stranger's are made only beside those that come first."""
    prove_past_days(service.database, NOON)
    source = build_source(service)
    collector = build_collector(service, source, 400)
    service.set(wish("LICC"), ANN)
    service.clock.advance(HOUR)
    for airport in STRANGERS:
        service.set(wish(airport), BOB)
    collect_each(collector, STRANGERS)
    assert 0 < len(source.calls) < len(STRANGERS)
    source.calls.clear()
    poll(collector)
    assert source.calls[0][0] == "LICC"


def test_a_new_leader_goes_on_with_what_each_person_has_paid(service: Service) -> None:
    """The accounts are in the database: over two leaders, nobody is ever two calls ahead of another who waits."""
    prove_past_days(service.database, NOON)
    source = build_source(service)
    owners = {airport: (ANN, BOB, CARL)[number % 3] for number, airport in enumerate(STRANGERS[:12])}
    for airport, person in owners.items():
        service.set(wish(airport), person)
    poll(build_collector(service, source, 400))
    by_first = len(source.calls)
    service.clock.advance(4 * HOUR)
    poll(build_collector(service, source, 400))
    assert by_first % 3 != 0
    assert by_first < len(source.calls) < len(owners)
    made = dict.fromkeys((ANN, BOB, CARL), 0)
    for airport, *_ in source.calls:
        made[owners[airport]] += 1
        assert max(made.values()) <= min(made.values()) + 1


def test_what_two_want_is_paid_by_both_and_given_back_if_it_fails(service: Service) -> None:
    """A call that two people want costs each of them half; of one that fails, both get theirs back."""
    prove_past_days(service.database, NOON)
    source = build_source(service)
    service.set(wish("LICC", Direction.DEPARTURES), ANN)
    service.set(wish("LICC", Direction.DEPARTURES), BOB)
    before = load_paid(service)
    source.failing = {"LICC": SourceUnavailableError("away")}
    poll(build_collector(service, source, 400))
    assert load_paid(service) == before
    source.failing = {}
    poll(build_collector(service, source, 400))
    after = load_paid(service)
    assert {person: after[person] - before[person] for person in (ANN, BOB)} == {ANN: ROUND // 2, BOB: ROUND // 2}


@ON_SQLITE
@pytest.mark.parametrize("joins_after", [0, 30])
def test_nobody_waits_for_the_history_that_somebody_else_wants(service: Service, joins_after: int) -> None:
    """Whether Bob's history is collected already or not: Ann's first day comes within a day, and no day is called zero.

    What is left of the history is a gap, so its windows are not judged.
    """
    today = NOON - 12 * HOUR
    source = HostileSource(service, today - 31 * DAY, 40)
    collector = build_collector(service, source, 400)
    service.set(wish("LICC", effective_from=today - 30 * DAY), BOB)
    poll_hourly(service, collector, NOON + joins_after * HOUR)
    service.set(wish("LICC"), ANN)
    poll_hourly(service, collector, NOON + (joins_after + 24) * HOUR)
    covered = list_complete(service.database, "LICC", Direction.DEPARTURES)
    assert covered[-1][1] >= today + joins_after // 24 * DAY
    assert all(flights == 24 * ((end - begin) // DAY) for begin, end, flights in covered)
    gaps = list_published(service.database, "LICC", Direction.DEPARTURES, flights_pb.COVERAGE_GAP)
    assert [end for _, end, _ in gaps] == ([today - DAY] if joins_after else [])
