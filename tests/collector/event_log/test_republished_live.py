"""Tests of a lost log where airports were live: the new log makes of the stream what the old one made of it."""

import random
from datetime import datetime, timedelta

import pytest
from sqlalchemy import delete, func, select, update

from collector.event_log.republication import republish
from collector.intervals import DAY, day_of
from collector.model import OUTBOX, CoverageRow, FlightRow, LeadershipRow, LiveOutcome
from domain.interests import Direction
from domain.traffic import DirectionTraffic
from domain.windows import HOUR_S
from tests.collector.conftest import ANN, NOON, ON_SQLITE, Service, outbox, prove_past_days, wish
from tests.collector.settled.live_rows import cover_live, fold_outbox, load_outcomes, publish_live
from tests.collector.settled.polling import build_collector, poll
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

TODAY = day_of(NOON)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DEPARTURES = Direction.DEPARTURES


def note_told(service: Service) -> None:
    """Note that everything so far was told, and empty the outbox, as the relay has."""
    with service.database.transaction() as session:
        session.execute(update(CoverageRow).values(told_until=CoverageRow.covered_until))
        session.execute(delete(OUTBOX.rows))


def lose_log(service: Service, told_flight_id: int) -> None:
    """Publish everything again; what was in the outbox is in the outbox anew."""
    with service.database.transaction() as session:
        if session.get(LeadershipRow, 1) is None:
            session.add(LeadershipRow(id=1, term=1))
        session.flush()
        republish(session, told_flight_id)


def get_last_flight_id(service: Service) -> int:
    """Return the greatest id of a flight."""
    with service.database.reading() as session:
        return session.scalar(select(func.max(FlightRow.id))) or 0


def list_events(service: Service) -> list[flights_pb.FlightsObserved]:
    """Return the events about flights, oldest first."""
    return [
        flights_pb.FlightsObserved.FromString(each.value or b"")
        for each in outbox(service.database, FLIGHTS_OBSERVED.name)
    ]


def describe(traffic: DirectionTraffic) -> tuple[object, object, object]:
    """Return the counts by hour, the known flights by day without their order, and the watermark."""
    first = int(TODAY.timestamp()) // HOUR_S - 5 * 24
    counts = {hour: count for hour in range(first, first + 30 * 24) if (count := traffic.counts.total(hour, 1))}
    known = {
        day: sorted(packed[at : at + 4] for at in range(0, len(packed), 4)) for day, packed in traffic.known.items()
    }
    return counts, known, traffic.watermark


class Story:
    """Days of an airport that are seen live, with faults, and are settled the next morning."""

    def __init__(self, service: Service, seed: int) -> None:
        self.service, self.chance = service, random.Random(seed)
        service.set(wish(direction=DEPARTURES), ANN)
        record = [build_flight(TODAY - 12 * HOUR, number=99)]
        for _ in range(40):
            at = TODAY + self.chance.randrange(3 * 24 * 60) * MINUTE
            record.append(build_flight(at, number=self.chance.randrange(1, 9)))
        self.record = record
        self.collector = build_collector(service, NightlySource(service.clock, record))
        self.settle(NOON)

    def settle(self, at: datetime) -> None:
        """Collect once at `at`, when the records of all days before are whole."""
        self.service.clock.advance(at - self.service.clock.now())
        prove_past_days(self.service.database, self.service.clock.now())
        poll(self.collector)

    def fly(self, day: int) -> None:
        """Publish a day's movements and two stretches of coverage, with an hour between that is not covered."""
        begin = TODAY + day * DAY
        found = {
            (int(each.icao24, 16), each.first_seen + self.chance.randrange(-9, 10) * MINUTE)
            for each in self.record
            if begin <= each.first_seen < begin + DAY and self.chance.random() < 0.7
        }
        found |= {(self.chance.randrange(1, 9), begin + self.chance.randrange(24 * 60) * MINUTE) for _ in range(4)}
        publish_live(
            self.service.database, DEPARTURES, [each for each in sorted(found) if begin <= each[1] < begin + DAY]
        )
        cover_live(self.service.database, DEPARTURES, begin + HOUR, begin + 14 * HOUR)
        cover_live(self.service.database, DEPARTURES, begin + 15 * HOUR, begin + DAY)


@pytest.mark.parametrize(("seed", "told_days"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, None)])
@ON_SQLITE
def test_the_new_log_makes_of_the_stream_what_the_old_one_made(
    service: Service, seed: int, told_days: int | None
) -> None:
    """Counts, known flights and watermark are the same, however much of it was told before the loss.

    Three days are live, two of them settled; what was told first is past, and what a night took back that was not told
    is there in the past and taken back behind it. None: of no day it is known that it was told, as of a database from
    before that was noted.
    """
    story = Story(service, seed)
    told_until: datetime | None = TODAY
    told_flight_id = get_last_flight_id(service)
    for day in range(3):
        story.fly(day)
        if day:
            story.settle(TODAY + day * DAY + 12 * HOUR)
        if day + 1 == told_days:
            told_flight_id = get_last_flight_id(service)
            with service.database.reading() as session:
                told_until = session.get_one(CoverageRow, ("KJFK", "departures")).covered_until
    if told_days == 4:
        told_flight_id = get_last_flight_id(service)
        told_until = TODAY + 2 * DAY
    if told_days is None:
        told_flight_id, told_until = 0, None
    expected = describe(fold_outbox(service.database, DEPARTURES))
    with service.database.transaction() as session:
        session.execute(update(CoverageRow).values(told_until=told_until))
        session.execute(delete(OUTBOX.rows))  # all of it is published
    assert {outcome for _, outcome in load_outcomes(service.database)} == set(LiveOutcome)
    lose_log(service, told_flight_id)
    assert describe(fold_outbox(service.database, DEPARTURES)) == expected
    events = list_events(service)
    assert events[0].begins_anew
    assert any(each.retracted for each in events) is (told_days is None or told_days < 3)
    assert all(each.past for each in events if each.provenance == flights_pb.PROVENANCE_LIVE)
    assert not any(each.past and each.retracted for each in events)


def test_an_airport_that_only_live_hears_is_published_again(service: Service) -> None:
    """It has no settled coverage; its movements and stretches are past, and can be retracted later."""
    service.set(wish(direction=DEPARTURES), ANN)
    publish_live(service.database, DEPARTURES, [(1, NOON), (2, NOON + 3 * HOUR), (3, NOON + 9 * DAY)])
    cover_live(service.database, DEPARTURES, NOON + HOUR, NOON + 2 * HOUR)
    expected = describe(fold_outbox(service.database, DEPARTURES))
    note_told(service)
    lose_log(service, 0)
    assert describe(fold_outbox(service.database, DEPARTURES))[:2] == expected[:2]
    assert all(each.past for each in list_events(service))
    assert sum(len(each.flights) for each in list_events(service)) == 3


def test_what_was_still_in_the_outbox_is_not_past(service: Service) -> None:
    """Nobody was told of it: its alerts are raised from the new log."""
    service.set(wish(direction=DEPARTURES), ANN)
    publish_live(service.database, DEPARTURES, [(1, NOON)])
    cover_live(service.database, DEPARTURES, NOON - HOUR, NOON + HOUR)
    note_told(service)
    publish_live(service.database, DEPARTURES, [(2, NOON + 2 * HOUR)])
    cover_live(service.database, DEPARTURES, NOON + HOUR, NOON + 3 * HOUR)
    lose_log(service, 0)
    events = list_events(service)
    assert [(each.past, [flight.icao24 for flight in each.flights]) for each in events] == [
        (True, []),
        (True, ["000001"]),
        (False, ["000002"]),
        (False, []),
    ]
    assert (events[-1].begin.ToSeconds(), events[-1].end.ToSeconds()) == (
        int((NOON + HOUR).timestamp()),
        int((NOON + 3 * HOUR).timestamp()),
    )
