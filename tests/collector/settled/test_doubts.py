"""Tests of answers without flights: a busy airport's is asked for again, and no outage is taken for zero."""

from datetime import datetime, timedelta
from statistics import median

import pytest
from hypothesis import given, strategies as st

from collector.intervals import DAY, day_of
from collector.settled.doubts import BUSY_FLIGHTS_PER_DAY, is_usually_busy
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import ANN, NOON, Service, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, poll, poll_hourly
from tests.fakes.nightly_source import NightlySource, build_flight

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY
ARRIVALS = Direction.ARRIVALS


def flights_of(day: datetime, count: int) -> list[Flight]:
    """Return so many flights, spread over a day."""
    return [
        build_flight(day + timedelta(hours=1) + number * (20 * HOUR / max(count, 1)), 10, number)
        for number in range(count)
    ]


@given(st.lists(st.integers(0, 20), max_size=9))
def test_an_airport_is_busy_by_the_median_of_its_days(counts: list[int]) -> None:
    """Without days nothing is known of it."""
    assert is_usually_busy(counts) is (bool(counts) and median(counts) >= BUSY_FLIGHTS_PER_DAY)


def test_a_day_without_flights_at_a_busy_airport_is_believed_six_hours_later(service: Service) -> None:
    """Then zero is zero, is published and fires."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = NightlySource(service.clock, flights_of(YESTERDAY, 9))
    collector = build_collector(service, source)
    asked = TODAY + DAY + 6 * HOUR
    poll_hourly(service, collector, asked + 6 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [9]
    calls_before = len(source.collections)
    poll(collector)
    assert source.collections[calls_before:] == [("KJFK", ARRIVALS, TODAY, TODAY + DAY)]
    assert list_complete(service.database)[-1] == (TODAY, TODAY + DAY, 0)


def test_flights_that_come_meanwhile_are_taken(service: Service) -> None:
    """The doubted answer was wrong; nothing of it was published."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = NightlySource(service.clock, flights_of(YESTERDAY, 9))
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 10 * HOUR)
    source.available += flights_of(TODAY, 7)
    poll_hourly(service, collector, TODAY + DAY + 14 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [9, 7]


def test_a_quiet_airport_without_flights_is_believed_at_once(service: Service) -> None:
    """It often has days without flights."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = NightlySource(service.clock, flights_of(YESTERDAY, 2))
    poll_hourly(service, build_collector(service, source), TODAY + DAY + 7 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [2, 0]


class OutageSource(NightlySource):
    """A source that answers nothing from the collection of one day on, until the test ends the outage."""

    ends_with: datetime | None = None
    """End of the day with whose collection the outage begins."""
    is_out = False

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return no flights during the outage."""
        found = await super().fetch_flights(airport, direction, begin, end)
        self.is_out = self.is_out or (end - begin == DAY and end == self.ends_with)
        return [] if self.is_out else found


class CorrectionOutage(NightlySource):
    """A source that answers nothing for one day, from two days after its end until the outage ends."""

    day = YESTERDAY
    until = YESTERDAY

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return no flights for the day during the outage."""
        found = await super().fetch_flights(airport, direction, begin, end)
        is_out = self.day + 3 * DAY <= self.clock.now() < self.until
        return [] if is_out and (begin, end) == (self.day, self.day + DAY) else found

    def count_corrections(self, day: datetime) -> int:
        """Return how often a day was asked for, after it was collected."""
        return sum((begin, end) == (day, day + DAY) for _, _, begin, end in self.collections) - 1


@pytest.mark.parametrize("outage_hours", [2, 30, 5 * 24])
def test_an_outage_of_its_correction_costs_no_late_flight(service: Service, outage_hours: int) -> None:
    """A correction without flights, of a day that had some, is asked for on later days until it has flights.

    Once a day, and not each hour: an old day costs thirty credits. The corrections of the days after are made then.
    """
    service.set(wish(direction=ARRIVALS), ANN)
    source = CorrectionOutage(service.clock, [*flights_of(YESTERDAY, 3), *flights_of(TODAY, 2)])
    source.until = YESTERDAY + 3 * DAY + outage_hours * HOUR
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 12 * HOUR)
    late = [build_flight(day + 12 * HOUR, 10, 70 + number) for number, day in enumerate((YESTERDAY, TODAY))]
    source.available += late
    poll_hourly(service, collector, source.until + 40 * HOUR)
    published = list_complete(service.database)
    assert [each for each in published if each[0] == YESTERDAY] == [
        (YESTERDAY, TODAY, 3), (YESTERDAY, TODAY, 1)
    ]  # fmt: skip
    assert [each for each in published if each[0] == TODAY] == [(TODAY, TODAY + DAY, 2), (TODAY, TODAY + DAY, 1)]
    assert source.count_corrections(YESTERDAY) <= outage_hours / 24 + 3


def test_a_day_whose_flights_never_come_back_is_given_up(service: Service) -> None:
    """After a week its correction is not made any more, and those of later days are."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = CorrectionOutage(service.clock, [*flights_of(YESTERDAY, 3), *flights_of(TODAY, 2)])
    source.until = YESTERDAY + 99 * DAY
    poll_hourly(service, build_collector(service, source), YESTERDAY + 12 * DAY)
    assert 5 <= source.count_corrections(YESTERDAY) <= 9
    assert source.count_corrections(TODAY) == 1


def test_an_outage_that_answers_nothing_is_not_taken_for_zero(service: Service) -> None:
    """The evidence airport is asked in the same minute; if it has no flights any more, the day is proven anew."""
    service.set(wish(direction=ARRIVALS), ANN)
    source = OutageSource(service.clock, flights_of(YESTERDAY, 2) + flights_of(TODAY, 3))
    source.ends_with = TODAY + DAY
    poll_hourly(service, build_collector(service, source), TODAY + DAY + 15 * HOUR)
    assert source.is_out
    assert [entry[2] for entry in list_complete(service.database)] == [2]
    source.ends_with, source.is_out = None, False
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 18 * HOUR)
    assert [entry[2] for entry in list_complete(service.database)] == [2]
    poll(collector)
    assert [entry[2] for entry in list_complete(service.database)] == [2, 3]
