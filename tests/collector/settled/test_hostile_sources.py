"""Tests of sources that contradict themselves: what they have not given is never zero, and nothing waits for ever."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from collector.errors import SourceUnavailableError
from collector.intervals import DAY, day_of
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, NOON, ON_SQLITE, Service, outbox, wish
from tests.collector.settled.polling import (
    HOUR,
    build_collector,
    list_complete,
    list_notices,
    list_published,
    poll_hourly,
)
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY
ARRIVALS, DEPARTURES, BOTH = Direction.ARRIVALS, Direction.DEPARTURES, Direction.BOTH
EVIDENCE_CALL = timedelta(hours=6)
"""Length of the interval of an evidence call."""

pytestmark = ON_SQLITE


def list_hourly_flights(begin: datetime, days: int) -> list[Flight]:
    """Return a flight of 29 minutes in each hour of so many days."""
    return [build_flight(begin + number * HOUR, 29, number) for number in range(24 * days)]


class HostileSource(NightlySource):
    """A source with a flight in each hour, which keeps the time of each call."""

    def __init__(self, service: Service, first_day: datetime = TODAY - 4 * DAY, days: int = 16) -> None:
        super().__init__(service.clock, list_hourly_flights(first_day, days))
        self.call_times: list[datetime] = []
        self.missing: set[datetime] = set()
        """Days of which the source has no record (any more)."""
        self.recorded_at = self._find_record_time

    def _find_record_time(self, day: datetime) -> datetime | None:
        """Return the time at which the record of a day appears: 02:40 of the night after it, or never."""
        return None if day in self.missing else day + DAY + timedelta(hours=2, minutes=40)

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Keep the time of the call, and answer as the other source does."""
        self.call_times.append(self.clock.now())
        return await super().fetch_flights(airport, direction, begin, end)


class OutageSource(HostileSource):
    """A source that answers every call with nothing, or with an error in one direction, during an outage."""

    outage: tuple[datetime, datetime]
    failing_direction: Direction | None = None

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return no flights during the outage, and fail in the direction that fails."""
        found = await super().fetch_flights(airport, direction, begin, end)
        if not self.outage[0] <= self.clock.now() < self.outage[1]:
            return found
        if direction is self.failing_direction:
            raise SourceUnavailableError("503")
        return []


@pytest.mark.parametrize(
    ("heard_before", "failing"), [(True, None), (False, None), (False, ARRIVALS)], ids=["heard", "new", "arrivals fail"]
)
def test_the_first_answer_about_an_airport_is_confirmed(
    service: Service, heard_before: bool, failing: Direction | None
) -> None:
    """In an outage it is neither zero flights nor a reason to say that nobody listens there, in either direction."""
    if heard_before:
        service.set(wish(direction=ARRIVALS), ANN)
    service.set(wish("KBOS", direction=BOTH), ANN)
    source = OutageSource(service)
    begin = TODAY + DAY + 14 * HOUR
    source.outage, source.failing_direction = (begin, begin + 2 * HOUR), failing
    collector = build_collector(service, source)
    poll_hourly(service, collector, begin)
    service.set(wish(direction=BOTH), BOB)
    poll_hourly(service, collector, begin + 20 * HOUR)
    covered = list_complete(service.database, direction=DEPARTURES)
    assert [flights for _, _, flights in covered] == [24, 24]
    assert list_notices(service.database) == []


class LateAirportSource(HostileSource):
    """A source whose record of one day has KJFK's flights hours after those of the other airports."""

    late_day: datetime
    given_at: datetime

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return nothing for the late day at KJFK before its flights are given."""
        if airport == "KJFK" and day_of(begin) == self.late_day and self.clock.now() < self.given_at:
            return []
        return super().list_recorded(airport, direction, begin, end)


def test_an_empty_day_of_a_busy_airport_is_doubted_after_a_gap_too(service: Service) -> None:
    """The days before the gap show that it is busy, though the cursor's coverage begins after it."""
    source = LateAirportSource(service)
    source.missing = {TODAY}
    source.late_day, source.given_at = TODAY + DAY, TODAY + 8 * DAY + 7 * HOUR
    service.set(wish("KBOS", direction=ARRIVALS, effective_from=TODAY - 3 * DAY), ANN)
    service.set(wish("KBOS", direction=ARRIVALS, effective_from=TODAY - 3 * DAY), BOB)
    service.set(wish(direction=ARRIVALS, effective_from=TODAY - 3 * DAY), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 10 * HOUR)
    service.clock.advance(6 * DAY + 14 * HOUR)
    poll_hourly(service, collector, TODAY + 8 * DAY + 22 * HOUR)
    assert (TODAY, TODAY + DAY) in [
        gap[:2] for gap in list_published(service.database, "KJFK", ARRIVALS, flights_pb.COVERAGE_GAP)
    ]
    asked = [begin for airport, _, begin, _ in source.collections if airport == "KJFK"]
    assert asked.count(source.late_day) == 2
    covered = list_complete(service.database)
    assert covered[-1][1] == TODAY + 8 * DAY
    assert all(flights == 24 for _, _, flights in covered)


class FewDeparturesSource(HostileSource):
    """A source in which LICC has arrivals on each day, but departures on one day only."""

    day_with_departures: datetime | None = None

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return departures of LICC for the one day only."""
        found = super().list_recorded(airport, direction, begin, end)
        if airport == "LICC" and direction is DEPARTURES:
            return [flight for flight in found if day_of(flight.first_seen) == self.day_with_departures]
        return found


def test_days_that_were_not_asked_for_are_not_zero(service: Service) -> None:
    """Arrivals show that an airport is heard, and that its departures asked for in vain are zero: only those days."""
    source = FewDeparturesSource(service)
    source.day_with_departures = TODAY + 5 * DAY
    interest = service.set(wish("LICC", direction=DEPARTURES), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 10 * HOUR)
    service.interests.remove(ANN, interest.interest_id)
    service.clock.advance(8 * DAY)
    service.set(wish("LICC", direction=DEPARTURES), ANN)
    poll_hourly(service, collector, TODAY + 10 * DAY)
    service.set(wish("LICC", direction=ARRIVALS, effective_from=TODAY), BOB)
    poll_hourly(service, collector, TODAY + 10 * DAY + 11 * HOUR)  # before corrections ask for all days
    asked = {
        begin for airport, direction, begin, _ in source.collections if (airport, direction) == ("LICC", DEPARTURES)
    }
    covered = list_complete(service.database, "LICC", DEPARTURES)
    assert covered != []
    assert {begin + number * DAY for begin, end, _ in covered for number in range((end - begin) // DAY)} <= asked


def test_a_day_without_a_record_is_not_zero(service: Service) -> None:
    """Nor if the arrivals show later that its airport was heard."""
    source = FewDeparturesSource(service)
    source.missing = {TODAY + DAY}
    service.set(wish("LICC", direction=DEPARTURES), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + 2 * DAY + 10 * HOUR)
    service.clock.advance(6 * DAY + 14 * HOUR)
    poll_hourly(service, collector, TODAY + 9 * DAY + 10 * HOUR)
    service.set(wish("LICC", direction=ARRIVALS, effective_from=TODAY), BOB)
    poll_hourly(service, collector, TODAY + 10 * DAY + 10 * HOUR)
    covered = list_complete(service.database, "LICC", DEPARTURES)
    assert covered != []
    assert not any(begin <= TODAY + DAY < end for begin, end, _ in covered)


class TwoReplicasSource(HostileSource):
    """A source whose answers about one day come from two replicas in turns, one of which lacks a flight."""

    day: datetime
    answers = 0

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return all flights, or all but the last, if the interval lies in that day."""
        found = super().list_recorded(airport, direction, begin, end)
        if day_of(begin) != self.day:
            return found
        self.answers += 1
        return found[: len(found) - self.answers % 2]


def test_a_day_whose_answers_go_on_changing_becomes_a_gap(service: Service) -> None:
    """A week after its end, as a day without a record does; the days after it are covered."""
    source = TwoReplicasSource(service)
    source.day = TODAY
    service.set(wish(direction=ARRIVALS), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 15 * HOUR)
    service.clock.advance(6 * DAY + 9 * HOUR)
    poll_hourly(service, collector, TODAY + 8 * DAY + 12 * HOUR)
    gaps = list_published(service.database, "KJFK", ARRIVALS, flights_pb.COVERAGE_GAP)
    assert [(begin, end) for begin, end, _ in gaps] == [(TODAY, TODAY + DAY)]
    assert list_complete(service.database)[-1][1] == TODAY + 8 * DAY


def test_a_record_that_vanishes_is_proven_anew_or_given_up(service: Service) -> None:
    """An airport watched later gets nothing of it: its empty answer contradicts the evidence, and the day is a gap."""
    source = HostileSource(service)
    service.set(wish("KBOS", direction=ARRIVALS), ANN)
    collector = build_collector(service, source)
    poll_hourly(service, collector, TODAY + DAY + 10 * HOUR)
    assert list_complete(service.database, "KBOS")[-1][1] == TODAY + DAY
    source.missing = {TODAY}
    service.set(wish(direction=ARRIVALS, effective_from=YESTERDAY), BOB)
    poll_hourly(service, collector, TODAY + DAY + 15 * HOUR)
    service.clock.advance(6 * DAY + 9 * HOUR)
    poll_hourly(service, collector, TODAY + 8 * DAY + 12 * HOUR)
    gaps = list_published(service.database, "KJFK", ARRIVALS, flights_pb.COVERAGE_GAP)
    assert [(begin, end) for begin, end, _ in gaps] == [(TODAY, TODAY + DAY)]
    assert list_complete(service.database)[-1][1] == TODAY + 8 * DAY


def test_an_interest_far_back_is_collected_from_on_few_credits(service: Service) -> None:
    """The proofs of weeks of old days do not use up the credits of the first collection."""
    source = HostileSource(service, TODAY - 28 * DAY, 34)
    service.set(wish(effective_from=TODAY - 25 * DAY), ANN)
    poll_hourly(service, build_collector(service, source, budget=120), TODAY + 2 * DAY + 12 * HOUR)
    assert list_complete(service.database, direction=DEPARTURES) != []


def test_departures_of_today_do_not_use_up_the_credits_of_the_record(service: Service) -> None:
    """The days that have ended come first, also if the setting allows most of the budget for today."""
    airports = ["KJFK", "KBOS", "KLGA", "KEWR", "KORD"]
    for airport in airports:
        service.set(wish(airport), ANN)
    source = HostileSource(service)
    source.departures_at_once = True
    poll_hourly(service, build_collector(service, source, budget=250, live_credits_per_day=240), TODAY + 3 * DAY)
    for airport in airports:
        assert list_complete(service.database, airport, DEPARTURES)[-1][1] >= TODAY + 2 * DAY


def test_evidence_is_asked_for_at_each_hourly_poll(service: Service) -> None:
    """Though each answer comes some seconds after its poll has begun."""
    source = HostileSource(service)
    service.set(wish(direction=DEPARTURES), ANN)
    poll_hourly(service, build_collector(service, source), TODAY + DAY)
    first_call = len(source.calls)
    poll_hourly(service, build_collector(service, source), TODAY + DAY + 10 * HOUR)
    hours = [
        (at - TODAY - DAY) // HOUR
        for at, (_, direction, begin, end) in zip(
            source.call_times[first_call:], source.calls[first_call:], strict=True
        )
        if direction is ARRIVALS and end - begin == EVIDENCE_CALL and end == TODAY + DAY
    ]
    assert hours == [1, 2, 3, 6]


class DoublingSource(NightlySource):
    """A source that gives each flight of LICC in up to three rows, and in each answer other ones of them."""

    def __init__(self, service: Service, seed: int, end: datetime) -> None:
        super().__init__(service.clock)
        self._chance = Random(seed)
        self.flights: list[list[Flight]] = []
        """The rows of each flight."""
        for aircraft in range(12):
            at = YESTERDAY + timedelta(minutes=self._chance.randrange(60))
            while at < end:
                length = timedelta(minutes=self._chance.choice([20, 45, 55, 120, 300]))
                if self._chance.random() < 0.3:
                    at = day_of(at) + DAY + timedelta(seconds=self._chance.randrange(-100, 100))
                self.flights.append(self._draw_rows(aircraft, at, length))
                at += length + timedelta(minutes=self._chance.choice([30, 60, 200, 500]))

    def _draw_rows(self, aircraft: int, at: datetime, length: timedelta) -> list[Flight]:
        """Return one to three rows of a flight, whose times differ by up to some minutes."""
        rows = []
        for number in range(self._chance.choice([1, 2, 2, 3])):
            later = timedelta(seconds=self._chance.choice([0, 16, 145, 30]) if number else 0)
            earlier = timedelta(seconds=self._chance.choice([0, 20, 100]) if number else 0)
            fields = {
                "icao24": f"{aircraft:06x}",
                "firstSeen": int((at + later).timestamp()),
                "lastSeen": int((at + length - earlier).timestamp()),
                "callsign": "ABC1" if self._chance.random() < 0.7 else None,
                "estArrivalAirport": None if number else "EDDF",
            }
            rows.append(Flight.model_validate(fields))
        return rows

    def list_recorded(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return at least one row of each flight that is recorded, in any order."""
        if airport in self.beacons:
            return super().list_recorded(airport, direction, begin, end)
        now, found = self.clock.now(), []
        for rows in self.flights:
            told = self._chance.sample(rows, self._chance.randrange(1, len(rows) + 1))
            found += [
                row
                for row in told
                if begin <= (at := row.event_time(direction)) < end and self._is_given(direction, at, now)
            ]
        self._chance.shuffle(found)
        return found


@pytest.mark.parametrize("seed", range(2))
def test_flights_in_other_rows_in_each_answer_are_published_once(service: Service, seed: int) -> None:
    """Never lost and never twice, over midnight and in corrections; nor do they keep a day from being proven whole."""
    end = TODAY + DAY
    source = DoublingSource(service, seed, end)
    service.set(wish("LICC", BOTH), ANN)
    poll_hourly(service, build_collector(service, source), TODAY + 3 * DAY + 14 * HOUR)
    for direction in BOTH.parts:
        owners = {(row.icao24, row.first_seen): number for number, rows in enumerate(source.flights) for row in rows}
        published = Counter(owners[row] for row in list_published_rows(service, "LICC", direction))
        inside = {
            number
            for number, rows in enumerate(source.flights)
            if all(YESTERDAY <= row.event_time(direction) < end for row in rows)
        }
        assert [number for number, count in published.items() if count > 1] == []
        assert inside - set(published) == set()


def list_published_rows(service: Service, airport: str, direction: Direction) -> list[tuple[str, datetime]]:
    """Return the address and first_seen of each published flight of an airport and direction."""
    values = [
        flights_pb.FlightsObserved.FromString(each.value or b"")
        for each in outbox(service.database, FLIGHTS_OBSERVED.name)
    ]
    return [
        (flight.icao24, flight.first_seen.ToDatetime(UTC))
        for value in values
        if value.airport == airport and flights_pb.Direction.Name(value.direction) == f"DIRECTION_{direction.name}"
        for flight in value.flights
    ]
