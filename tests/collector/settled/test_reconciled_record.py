"""Tests of the record's transaction where live movements were published: afterwards the counts are the record's."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete

from collector.errors import SupersededError
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, LiveCoverageRow, LiveOutcome
from collector.settled.collection import FlightCollector
from collector.settled.reconciliation import MATCHED_WITHIN
from collector.sources.flight import Flight
from domain.interests import Direction
from domain.windows import HOUR_S
from tests.collector.conftest import ANN, NOON, ON_SQLITE, Service, outbox, prove_past_days, wish
from tests.collector.settled.live_rows import (
    cover_live,
    fold_outbox,
    load_event_times,
    load_outcomes,
    publish_live,
)
from tests.collector.settled.polling import build_collector, list_notices, poll
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

TODAY = day_of(NOON)
TOMORROW = TODAY + DAY
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
MORNING = 12 * HOUR
"""Time of a day at which the record of the day before is whole."""
DEPARTURES, ARRIVALS = Direction.DEPARTURES, Direction.ARRIVALS
MATCHED, RETRACTED, PUBLISHED = LiveOutcome.MATCHED, LiveOutcome.RETRACTED, LiveOutcome.PUBLISHED


def settle(service: Service, collector: FlightCollector, at: datetime) -> None:
    """Collect once at `at`, when the records of all days before are whole."""
    service.clock.advance(at - service.clock.now())
    prove_past_days(service.database, service.clock.now())
    poll(collector)


def watch(service: Service, flights: Sequence[Flight], **options: int) -> tuple[NightlySource, FlightCollector]:
    """Watch the airport's departures since noon, with a flight yesterday, so that it is heard; yesterday is settled."""
    service.set(wish(direction=DEPARTURES), ANN)
    source = NightlySource(service.clock, [build_flight(TODAY - 12 * HOUR, number=999), *flights])
    collector = build_collector(service, source, **options)
    settle(service, collector, NOON)
    return source, collector


def list_events(service: Service) -> list[flights_pb.FlightsObserved]:
    """Return the events about flights, oldest first."""
    return [
        flights_pb.FlightsObserved.FromString(each.value or b"")
        for each in outbox(service.database, FLIGHTS_OBSERVED.name)
    ]


def count_by_hour(times: Sequence[datetime]) -> dict[int, int]:
    """Return the number of instants by hour since 1970."""
    return dict(Counter(int(at.timestamp()) // HOUR_S for at in times))


def read_counts(service: Service, direction: Direction = DEPARTURES) -> dict[int, int]:
    """Return the counts of the stream by hour since 1970, of two weeks; hours without flights are left out."""
    traffic = fold_outbox(service.database, direction)
    first = int(TODAY.timestamp()) // HOUR_S - 5 * 24
    return {hour: count for hour in range(first, first + 19 * 24) if (count := traffic.counts.total(hour, 1))}


def test_one_message_settles_the_day(service: Service) -> None:
    """A matched flight keeps the time that was published; what live missed is added, what it made up is retracted.

    The matched flight is not published again, and its row keeps the source's own times beside.
    """
    record = [build_flight(TODAY + 13 * HOUR + 7 * MINUTE, number=1), build_flight(TODAY + 15 * HOUR, number=2)]
    _, collector = watch(service, record)
    live = [(1, TODAY + 12 * HOUR + 58 * MINUTE), (3, TODAY + 14 * HOUR)]
    publish_live(service.database, DEPARTURES, live)
    cover_live(service.database, DEPARTURES, NOON, TOMORROW + 9 * HOUR)
    settle(service, collector, TOMORROW + MORNING)
    event = list_events(service)[-1]
    assert event.coverage == flights_pb.COVERAGE_COMPLETE
    assert event.provenance == flights_pb.PROVENANCE_SETTLED
    assert (event.begin.seconds, event.end.seconds) == (int(TODAY.timestamp()), int(TOMORROW.timestamp()))
    assert [each.icao24 for each in event.flights] == ["000002"]
    assert [(each.icao24, each.first_seen.seconds) for each in event.retracted] == [
        ("000003", int(live[1][1].timestamp()))
    ]
    assert load_outcomes(service.database) == [(1, MATCHED), (3, RETRACTED)]
    assert load_event_times(service.database, DEPARTURES)[1:] == [live[0], (2, TODAY + 15 * HOUR)]
    assert read_counts(service) == count_by_hour([TODAY - 12 * HOUR, live[0][1], TODAY + 15 * HOUR])
    traffic = fold_outbox(service.database, DEPARTURES)
    assert traffic.watermark == int((TOMORROW + 9 * HOUR).timestamp())


def test_without_live_movements_nothing_is_different(service: Service) -> None:
    """The record's flights are published with their own times, and nothing is retracted."""
    _, collector = watch(service, [build_flight(TODAY + hour * HOUR, number=hour) for hour in range(3)])
    settle(service, collector, TOMORROW + MORNING)
    assert [(len(each.flights), len(each.retracted)) for each in list_events(service)] == [(1, 0), (3, 0)]


def test_the_last_minutes_of_a_day_are_left_to_the_next_record(service: Service) -> None:
    """A movement just before midnight may be a flight that the record has just after it; else it is retracted then."""
    record = [build_flight(TOMORROW + 5 * MINUTE, number=1), build_flight(TOMORROW - 5 * MINUTE, number=3)]
    source, collector = watch(service, record)
    before, after = TOMORROW - 10 * MINUTE, TOMORROW + 6 * MINUTE
    publish_live(service.database, DEPARTURES, [(1, before), (2, before + MINUTE), (3, after)])
    source.available.append(build_flight(TOMORROW + 20 * HOUR, number=4))
    settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(1, PUBLISHED), (2, PUBLISHED), (3, MATCHED)]
    settle(service, collector, TOMORROW + DAY + MORNING)
    assert load_outcomes(service.database) == [(1, MATCHED), (2, RETRACTED), (3, MATCHED)]
    assert read_counts(service) == count_by_hour([TODAY - 12 * HOUR, before, after, TOMORROW + 20 * HOUR])


def test_a_flight_that_a_correction_brings_counts_again(service: Service) -> None:
    """It was retracted; two days later the record has it: it is published again, at the time of its movement."""
    record = [build_flight(TODAY + hour * HOUR, number=hour) for hour in (13, 14)]
    source, collector = watch(service, record)
    seen = TODAY + 16 * HOUR + 55 * MINUTE
    publish_live(service.database, DEPARTURES, [(7, seen)])
    settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(7, RETRACTED)]
    assert sum(read_counts(service).values()) == 3
    source.available.append(build_flight(seen + 8 * MINUTE, number=7))
    for hour in range(3):  # one correction after the other, the oldest first
        settle(service, collector, TODAY + 3 * DAY + MORNING + hour * HOUR)
    assert load_outcomes(service.database) == [(7, MATCHED)]
    assert (7, seen) in load_event_times(service.database, DEPARTURES)
    assert read_counts(service)[int(seen.timestamp()) // HOUR_S] == 1
    assert sum(read_counts(service).values()) == 4


def test_a_correction_takes_back_what_came_after_the_record(service: Service) -> None:
    """A movement that was published when its day was settled already is decided with the next answer."""
    record = [build_flight(TODAY + hour * HOUR, number=hour) for hour in (13, 14)]
    _, collector = watch(service, record)
    settle(service, collector, TOMORROW + MORNING)
    publish_live(service.database, DEPARTURES, [(13, TODAY + 13 * HOUR + MINUTE), (8, TODAY + 15 * HOUR)])
    settle(service, collector, TODAY + 2 * DAY + MORNING)
    assert load_outcomes(service.database) == [(13, MATCHED), (8, RETRACTED)]
    assert read_counts(service) == count_by_hour([TODAY - 12 * HOUR, *(each.first_seen for each in record)])


@ON_SQLITE
def test_a_day_that_is_given_up_stays_as_it_was_live(service: Service) -> None:
    """The record never comes: nothing is retracted, nor when the days after it are settled."""
    source, collector = watch(service, [])
    source.recorded_at = lambda day: None if TODAY <= day < TOMORROW else day + DAY + 3 * HOUR
    publish_live(service.database, DEPARTURES, [(1, TODAY + 14 * HOUR), (2, TOMORROW - MINUTE)])
    cover_live(service.database, DEPARTURES, TODAY, TOMORROW)
    source.available += [build_flight(TODAY + number * DAY + HOUR, number=50 + number) for number in range(12)]
    for number in range(4 * 9):
        service.clock.advance(NOON + number * 6 * HOUR + HOUR - service.clock.now())
        poll(collector)
    by_record = [each for each in list_events(service) if each.provenance == flights_pb.PROVENANCE_SETTLED]
    settled = [each.begin.seconds for each in by_record if each.coverage == flights_pb.COVERAGE_COMPLETE]
    assert int(TODAY.timestamp()) not in settled
    assert len(settled) > 2
    assert load_outcomes(service.database) == [(1, PUBLISHED), (2, PUBLISHED)]
    assert read_counts(service)[int((TODAY + 14 * HOUR).timestamp()) // HOUR_S] == 1
    traffic = fold_outbox(service.database, DEPARTURES)
    assert not traffic.has_gap_in(int(TODAY.timestamp()), int(TOMORROW.timestamp()))


def test_departures_of_today_that_were_seen_live_are_not_published(service: Service) -> None:
    """They come from the source before the night, and count already; the night does not count them again."""
    record = [build_flight(TODAY + 13 * HOUR, number=1), build_flight(TODAY + 13 * HOUR + 30 * MINUTE, number=2)]
    source, collector = watch(service, record, live_credits_per_day=1_000)
    source.departures_at_once = True
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR + 2 * MINUTE)])
    settle(service, collector, TODAY + 14 * HOUR)
    assert [[each.icao24 for each in event.flights] for event in list_events(service)[-1:]] == [["000002"]]
    assert load_outcomes(service.database) == [(1, MATCHED)]
    settle(service, collector, TOMORROW + MORNING)
    assert sum(read_counts(service).values()) == 3
    assert sum(len(event.retracted) for event in list_events(service)) == 0


def test_a_movement_that_came_after_its_departure_of_today_is_taken_back(service: Service) -> None:
    """Both were published; in the night one of the two goes, and the record has the movement all the same."""
    source, collector = watch(service, [build_flight(TODAY + 13 * HOUR, number=1)], live_credits_per_day=1_000)
    source.departures_at_once = True
    settle(service, collector, TODAY + 14 * HOUR)
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR + 2 * MINUTE)])
    settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(1, MATCHED)]
    assert read_counts(service) == count_by_hour([TODAY - 12 * HOUR, TODAY + 13 * HOUR])


def test_an_empty_day_with_live_movements_is_doubted(service: Service) -> None:
    """Five movements on a day say that the record is out, also at a new airport; hours later it is believed."""
    source, collector = watch(service, [])
    publish_live(service.database, DEPARTURES, [(number, NOON + number * HOUR) for number in range(5)])
    settle(service, collector, TOMORROW + MORNING)
    assert [outcome for _, outcome in load_outcomes(service.database)] == [PUBLISHED] * 5
    settle(service, collector, TOMORROW + MORNING + 7 * HOUR)
    assert [outcome for _, outcome in load_outcomes(service.database)] == [RETRACTED] * 5
    assert sum(read_counts(service).values()) == 1
    assert source.collections[-1][2] == TODAY


def test_an_airport_that_only_live_hears_keeps_its_movements(service: Service) -> None:
    """The record has no flight of it: nothing is taken back, nobody is told that it is unheard.

    A week after live coverage has ended they are told.
    """
    service.set(wish(direction=Direction.BOTH), ANN)
    collector = build_collector(service, NightlySource(service.clock))
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR), (2, TODAY + 20 * HOUR)])
    cover_live(service.database, DEPARTURES, NOON, TOMORROW)
    settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(1, PUBLISHED), (2, PUBLISHED)]
    assert list_notices(service.database) == []
    assert service.interests.find_notice("KJFK") is None
    settle(service, collector, TOMORROW + 8 * DAY)
    assert [each.user_id for each in list_notices(service.database)] == [str(ANN)]


def test_coverage_that_is_not_published_hears_no_airport(service: Service) -> None:
    """Of a distrusted airport nothing is said live, so its people are told."""
    service.set(wish(direction=Direction.BOTH), ANN)
    cover_live(service.database, DEPARTURES, NOON, TOMORROW, published=False)
    settle(service, build_collector(service, NightlySource(service.clock)), TOMORROW + MORNING)
    assert [each.user_id for each in list_notices(service.database)] == [str(ANN)]
    with service.database.transaction() as session:
        session.execute(delete(LiveCoverageRow))


def test_what_was_before_the_first_flight_of_the_record_stands(service: Service) -> None:
    """An airport is covered from its first flight on; of the other direction all that the record lacks goes."""
    service.set(wish(direction=Direction.BOTH), ANN)
    source = NightlySource(service.clock)
    collector = build_collector(service, source)
    settle(service, collector, NOON)
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR), (2, TODAY + 18 * HOUR)])
    publish_live(service.database, ARRIVALS, [(3, TODAY + 14 * HOUR), (4, TODAY + 19 * HOUR)])
    source.available.append(build_flight(TODAY + 17 * HOUR, 30 * 60, number=5))  # lands on another day
    settle(service, collector, TOMORROW + MORNING)
    with service.database.reading() as session:
        begins = {row.direction: row.covered_from for row in session.query(CoverageRow)}
    assert begins == dict.fromkeys(("arrivals", "departures"), TODAY + 17 * HOUR)
    assert load_outcomes(service.database) == [(1, PUBLISHED), (3, PUBLISHED), (2, RETRACTED), (4, RETRACTED)]
    assert sum(read_counts(service, ARRIVALS).values()) == 1


def test_a_superseded_leader_settles_nothing(service: Service) -> None:
    """Its answer is dropped with the outcomes; the next leader matches each movement once."""
    source, collector = watch(service, [build_flight(TODAY + 13 * HOUR, number=1)])
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR), (2, TODAY + 15 * HOUR)])
    source.meanwhile = lambda: asyncio.run(build_collector(service, source).begin_term()) and None
    with pytest.raises(SupersededError):
        settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(1, PUBLISHED), (2, PUBLISHED)]
    source.meanwhile = lambda: None
    settle(service, collector, TOMORROW + MORNING + HOUR)
    assert load_outcomes(service.database) == [(1, MATCHED), (2, RETRACTED)]
    assert sum(read_counts(service).values()) == 2


def test_an_interest_that_is_removed_leaves_its_movements(service: Service) -> None:
    """Nobody asks for the record any more; who watches the airport again next day has the day settled as any other."""
    source, collector = watch(service, [build_flight(TODAY + 13 * HOUR, number=1)])
    publish_live(service.database, DEPARTURES, [(1, TODAY + 13 * HOUR), (2, TODAY + 15 * HOUR)])
    service.interests.remove_all(ANN)
    settle(service, collector, TOMORROW + MORNING)
    assert load_outcomes(service.database) == [(1, PUBLISHED), (2, PUBLISHED)]
    service.set(wish(direction=DEPARTURES), ANN)
    settle(service, collector, TOMORROW + MORNING + HOUR)
    assert load_outcomes(service.database) == [(1, MATCHED), (2, RETRACTED)]
    assert source.collections[-1][2] == TODAY


@pytest.mark.parametrize(("direction", "seed"), [(DEPARTURES, 0), (ARRIVALS, 1)])
def test_after_the_nights_the_counts_are_the_records(service: Service, direction: Direction, seed: int) -> None:
    """Whatever live found, missed and made up, near midnight too, each flight of the record counts once, where told.

    The stream's counts by hour are those of the stored flights' event times as published, and of the movements that are
    not decided yet; each such time is at most 20 minutes from the record's.
    """
    chance = random.Random(seed)
    record = [
        build_flight(TODAY + timedelta(minutes=chance.randrange(4 * 24 * 60)), 45, number=chance.randrange(1, 12))
        for _ in range(120)
    ]
    record += [build_flight(TODAY + day * DAY, 45, number=900 + day) for day in (-1, 4, 5, 6)]
    late = chance.sample(record[:100], 8)
    service.set(wish(direction=direction), ANN)
    source = NightlySource(service.clock, [each for each in record if each not in late])
    collector = build_collector(service, source)
    found = {
        (int(each.icao24, 16), each.event_time(direction) + chance.randrange(-14, 15) * MINUTE)
        for each in record
        if chance.random() < 0.8
    }
    found |= {(chance.randrange(1, 12), TODAY + chance.randrange(4 * 24 * 60) * MINUTE) for _ in range(24)}
    for day in range(4):
        begin = TODAY + day * DAY
        publish_live(service.database, direction, [each for each in sorted(found) if begin <= each[1] < begin + DAY])
        settle(service, collector, begin + DAY + MORNING)
    source.available = list(record)
    for day in range(4, 7):  # the corrections, with flights that come late
        for hour in range(3):
            settle(service, collector, TODAY + day * DAY + MORNING + (hour + 1) * HOUR)
    with service.database.reading() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", direction.value))
    flights = load_event_times(service.database, direction)
    outcomes = load_outcomes(service.database)
    assert {RETRACTED, MATCHED} <= {outcome for _, outcome in outcomes}
    assert PUBLISHED not in {outcome for _, outcome in outcomes}
    assert read_counts(service, direction) == count_by_hour([at for _, at in flights])
    for number, at in flights:
        assert any(
            abs(each.event_time(direction) - at) <= MATCHED_WITHIN and int(each.icao24, 16) == number for each in record
        )
    assert cursor.covered_until == TODAY + 6 * DAY
    assert len(flights) >= 60
