"""Collection in a storm: the replay with every fault that it knows, and in the end what a calm week leaves behind."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

import pytest
import stamina
from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import select

from chassis.db.database import Database
from chassis.db.outbox import OutboxRelay
from chassis.kafka import parse_sequence
from chassis.metrics import Metrics, ServiceIdentity
from collector.interests import Interests
from collector.intervals import DAY, Lags
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow
from collector.settled.collection import Collection
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing
from collector.sources.opensky.client import OpenSkyClient, Timeouts
from domain.interests import Direction
from local.kafka import Broker
from local.opensky import faults, flights as timetable
from local.opensky.access import Credentials
from local.opensky.faults import Fault, Faults
from tests.collector.conftest import wish
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

BEGIN: Final = datetime(2013, 2, 10, tzinfo=UTC)
DAYS: Final = 3
"""In which there are flights; the rest of the week is for what was late."""
AIRPORTS: Final = ("KJFK", "LICC")
CREDENTIALS: Final = ("towerwatch", "a secret of the storm")
POLL: Final = timedelta(hours=3)
TIMING: Final = Timing(Lags(timedelta(minutes=30), timedelta(hours=2)), POLL, corrections_after=timedelta(days=1))
IMPATIENT: Final = Timeouts(total_s=0.25)
"""Some bodies never come: that costs so much real time, each time."""
RATE: Final = 0.25


class FlightAt(NamedTuple):
    """What a flight is recognised by."""

    airport: str
    direction: str
    icao24: str
    first_seen: datetime


class Left(NamedTuple):
    """What a week of collecting leaves behind."""

    stored: dict[FlightAt, tuple[object, ...]]
    """Of each flight at each airport: callsign, event time, and what is known of its other end."""
    coverage: set[tuple[object, ...]]
    told: Counter[tuple[str, str, str, int]]
    """How often each flight was published, by airport, direction, icao24 and first_seen."""
    covered: dict[tuple[str, str], list[tuple[int, int]]]
    """By airport and direction, the intervals that were published as complete for the first time, in their order."""


def traffic() -> list[timetable.Flight]:
    chance = Random(2013)
    begin = int(BEGIN.timestamp())
    made = []
    for number in range(250):
        origin, destination = chance.sample(AIRPORTS, 2)
        first_seen = begin + chance.randrange(DAYS * 86_400 - 20_000)
        last_seen = first_seen + chance.randrange(600, 20_000)
        made.append(timetable.Flight(first_seen, last_seen, f"{number:06x}", f"TW{number}", origin, destination))
    return made


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    """Between attempts nobody waits."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


def collected(kafka: Broker, folder: Path, storm: Faults | None) -> Left:
    """A week, in which somebody asks every few hours for what is due."""
    clock = FakeClock(BEGIN + timedelta(hours=1))
    database = Database(f"sqlite:///{folder}/collector.db")
    SCHEMA.create_all(database.engine)
    interests = Interests(database, clock)
    for airport in AIRPORTS:
        interests.set(UUID(int=1), wish(airport, Direction.BOTH, effective_from=BEGIN))
    metrics = Metrics(ServiceIdentity("collector", "local"))

    async def week(url: str) -> None:
        client = OpenSkyClient(f"{url}/api", f"{url}{TOKEN_PATH}", CREDENTIALS, clock, metrics, IMPATIENT)
        collection = Collection(database, client, clock, TIMING, Ledger(1_000_000), metrics)
        term = await collection.begin_term()
        while clock.now() < BEGIN + 10 * DAY:
            await collection.collect(term)
            clock.advance(POLL)
        await client.close()

    with replay(traffic(), clock, Credentials(*CREDENTIALS), storm) as url:
        asyncio.run(week(url))
    with database.reading() as session:
        rows = session.scalars(select(FlightRow)).all()
        stored: dict[FlightAt, tuple[object, ...]] = {
            FlightAt(row.airport, row.direction, row.icao24, row.first_seen): (
                row.callsign,
                row.event_time,
                row.last_seen,
                row.other_airport,
            )
            for row in rows
        }
        assert len(stored) == len(rows)
        coverage = {(row.airport, row.direction, row.covered_from) for row in session.scalars(select(CoverageRow))}
    events = asyncio.run(_published(kafka, database, metrics))
    database.close()
    return Left(stored, coverage, _told(events), _covered(events))


async def _published(kafka: Broker, database: Database, metrics: Metrics) -> list[flights_pb.FlightsObserved]:
    """What the relay publishes until the outbox is empty, as readers take it: repeats dropped by their sequence."""
    partitions = {TopicPartition(FLIGHTS_OBSERVED.name, partition_of(each, FLIGHTS_OBSERVED)) for each in AIRPORTS}
    events = []
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as consumer, asyncio.timeout(60):
        consumer.assign(list(partitions))
        begin = await consumer.end_offsets(partitions)
        relay = asyncio.create_task(OutboxRelay(database, OUTBOX, kafka.bootstrap_servers, metrics).run())
        while _waits(database):
            await asyncio.sleep(0.05)
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)
        end = await consumer.end_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, begin[partition])
            last = 0
            while await consumer.position(partition) < end[partition]:
                record = await consumer.getone(partition)
                sequence = parse_sequence(record.headers)
                assert sequence is not None
                if sequence > last:
                    last = sequence
                    events.append(flights_pb.FlightsObserved.FromString(record.value))
    return events


def _waits(database: Database) -> bool:
    with database.reading() as session:
        return OUTBOX.count_unpublished(session) > 0


def _told(events: list[flights_pb.FlightsObserved]) -> Counter[tuple[str, str, str, int]]:
    return Counter(
        (event.airport, flights_pb.Direction.Name(event.direction), flight.icao24, flight.first_seen.seconds)
        for event in events
        for flight in event.flights
    )


def _covered(events: list[flights_pb.FlightsObserved]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    covered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for event in events:
        intervals = covered.setdefault((event.airport, flights_pb.Direction.Name(event.direction)), [])
        assert event.coverage != flights_pb.COVERAGE_GAP
        if event.coverage == flights_pb.COVERAGE_COMPLETE and (not intervals or event.end.seconds > intervals[-1][1]):
            intervals.append((event.begin.seconds, event.end.seconds))
    return covered


@pytest.fixture(scope="module")
def calm(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Left:
    """What a source without faults leaves: every flight of the timetable, at both of its ends, told once."""
    left = collected(kafka, tmp_path_factory.mktemp("calm"), None)
    assert len(left.stored) == 2 * len(traffic())
    assert set(left.told.values()) == {1}
    assert len(left.told) == 2 * len(traffic())
    return left


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_storm_leaves_behind_what_a_calm_week_does(kafka: Broker, calm: Left, tmp_path: Path, seed: int) -> None:
    """Flight by flight in the database and on the topic; coverage grows without a hole, and reaches as far."""
    storm = faults.seeded(seed, RATE)
    left = collected(kafka, tmp_path, storm)
    assert left.stored == calm.stored
    assert left.told == calm.told
    assert left.coverage == calm.coverage
    for flow, intervals in left.covered.items():
        assert [begin for begin, _ in intervals[1:]] == [end for _, end in intervals[:-1]]
        assert intervals[0][0] == calm.covered[flow][0][0]
        assert intervals[-1][1] >= int((BEGIN + 9 * DAY).timestamp())
    assert set(left.covered) == set(calm.covered)
    assert len(set(storm.met)) >= len(Fault) - 2, f"a storm of few kinds: {storm.met}"
