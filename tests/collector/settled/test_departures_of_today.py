"""Tests of departures of today, should the source give any: they come early, cover nothing, and cost little."""

from datetime import timedelta

from collector.intervals import DAY, day_of
from collector.model import CoverageRow
from domain.interests import Direction
from tests.collector.conftest import ANN, NOON, ON_SQLITE, Service, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, list_published, poll_hourly
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY
DEPARTURES = Direction.DEPARTURES


def make_source(service: Service, *, departures_at_once: bool) -> NightlySource:
    """Return a source with a flight each hour."""
    flights = [build_flight(YESTERDAY + number * HOUR, 20, number) for number in range(24 * 6)]
    return NightlySource(service.clock, flights, departures_at_once=departures_at_once)


def count_partial(service: Service) -> int:
    """Return the number of flights that were published without coverage."""
    partial = list_published(service.database, "KJFK", DEPARTURES, flights_pb.COVERAGE_PARTIAL)
    return sum(flights for _, _, flights in partial)


def test_by_default_departures_of_today_are_not_asked_for(service: Service) -> None:
    """They would cost credits, and nobody knows whether there are any."""
    service.set(wish(direction=DEPARTURES), ANN)
    source = make_source(service, departures_at_once=True)
    poll_hourly(service, build_collector(service, source), TODAY + 2 * DAY)
    assert all(end <= day_of(end) for _, _, _, end in source.calls)
    assert count_partial(service) == 0


def test_they_are_published_as_they_come_and_the_record_covers_them(service: Service) -> None:
    """Each flight is published once, and the day is covered in the morning after it, as without them."""
    service.set(wish(direction=DEPARTURES), ANN)
    source = make_source(service, departures_at_once=True)
    poll_hourly(service, build_collector(service, source, live_credits_per_day=1_000), TODAY + 2 * DAY + 9 * HOUR)
    assert count_partial(service) > 24
    complete = list_complete(service.database, direction=DEPARTURES)
    assert [(begin, end) for begin, end, _ in complete] == [
        (YESTERDAY, TODAY), (TODAY, TODAY + DAY), (TODAY + DAY, TODAY + 2 * DAY)
    ]  # fmt: skip
    of_the_third_day = 9 + 1
    assert count_partial(service) + sum(flights for _, _, flights in complete) in range(72, 72 + of_the_third_day + 1)


def test_they_cost_no_more_than_the_setting(service: Service) -> None:
    """Ten credits a day are two evidence calls."""
    service.set(wish(direction=DEPARTURES), ANN)
    source = make_source(service, departures_at_once=True)
    poll_hourly(service, build_collector(service, source, live_credits_per_day=10), TODAY + 2 * DAY + 12 * HOUR)
    asked = [day_of(end - timedelta(seconds=1)) for _, _, begin, end in source.calls if end != day_of(end)]
    assert {day: asked.count(day) for day in asked} == {TODAY: 2, TODAY + DAY: 2, TODAY + 2 * DAY: 2}


def test_a_source_without_them_changes_nothing(service: Service) -> None:
    """Silence about today is not taken for anything."""
    service.set(wish(direction=DEPARTURES), ANN)
    source = make_source(service, departures_at_once=False)
    poll_hourly(service, build_collector(service, source, live_credits_per_day=1_000), TODAY + 2 * DAY)
    assert count_partial(service) == 0
    assert [flights for _, _, flights in list_complete(service.database, direction=DEPARTURES)] == [24, 24]


@ON_SQLITE
def test_a_day_that_an_earlier_version_covered_in_part_gets_its_flights(service: Service) -> None:
    """It covered departures half an hour after they were, before the source gave any; the record has them."""
    with service.database.transaction() as session:
        covered_until = NOON - HOUR / 2
        session.add(
            CoverageRow(
                airport="KJFK",
                direction="departures",
                covered_from=YESTERDAY,
                covered_until=covered_until,
                corrected_until=YESTERDAY,
            )
        )
    service.set(wish(direction=DEPARTURES), ANN)
    source = make_source(service, departures_at_once=False)
    poll_hourly(service, build_collector(service, source), TODAY + 3 * DAY + 14 * HOUR)
    published = list_complete(service.database, direction=DEPARTURES)
    for day in (YESTERDAY, TODAY, TODAY + DAY, TODAY + 2 * DAY):
        assert sum(flights for begin, end, flights in published if day <= begin and end <= day + DAY) == 24
