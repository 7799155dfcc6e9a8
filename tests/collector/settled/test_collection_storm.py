"""Test of the collector under a storm of faults: the result is the same as that of a calm week."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from chassis.db.outbox_relay import OutboxRelay
from chassis.kafka import parse_sequence
from chassis.metrics import Metrics, ServiceIdentity
from collector.interests import InterestStore
from collector.intervals import DAY
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow
from collector.settled.collection import FlightCollector
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.sources.opensky.client import OpenSkyClient
from collector.sources.opensky.connection import OpenSkyConnection, OpenSkyTimeouts
from domain.interests import Direction
from local.kafka import Broker
from local.opensky import faults, flights as timetable
from local.opensky.access import Credentials
from local.opensky.fault_kinds import InjectedFault
from local.opensky.faults import DrawnFault, FaultInjector
from tests.collector.conftest import wish
from tests.fakes.clock import FakeClock
from tests.fakes.opensky import TOKEN_PATH, replay
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

BEGIN: Final = datetime(2013, 2, 10, tzinfo=UTC)
DAYS: Final = 3
"""Number of days with flights; the rest of the time is for late ones."""
POLLED_DAYS: Final = 11
AIRPORTS: Final = ("KJFK", "LICC")
CREDENTIALS: Final = ("towerwatch", "a secret of the storm")
POLL: Final = timedelta(hours=3)
TIMING: Final = CollectionTiming(
    RecordTiming(timedelta(hours=1), timedelta(hours=3)), POLL, corrections_after=timedelta(days=2)
)
SHORT_TIMEOUTS: Final = OpenSkyTimeouts(total_s=0.25)
"""Short timeouts: each answer that never comes costs this real time."""
PUBLISH_TIMEOUT_S: Final = 120.0
"""Generous, for other processes may keep the machine busy."""
RATE: Final = 0.25


@dataclass(frozen=True, slots=True)
class OutagePlan:
    """A plan in which every call for flights gets the fault OUTAGE, 404 without a body, from one time to another."""

    clock: FakeClock
    begin: datetime
    end: datetime

    def draw(self, call: str, kinds: Sequence[InjectedFault]) -> DrawnFault:
        """Draw OUTAGE for a call for flights within the outage, else nothing."""
        is_hit = call.startswith("/api/flights/") and self.begin <= self.clock.now() < self.end
        return (InjectedFault.OUTAGE if is_hit else None), Random(call)


class StoredKey(NamedTuple):
    """The identity of a flight at one airport and direction."""

    airport: str
    direction: str
    icao24: str
    first_seen: datetime


class WeekResult(NamedTuple):
    """The rows and the events after one week of collections."""

    stored: dict[StoredKey, tuple[object, ...]]
    """Callsign, event time, last_seen and other airport of each flight at each airport."""
    coverage: set[tuple[object, ...]]
    published: Counter[tuple[str, str, str, int]]
    """Number of times that each flight was published, by airport, direction, icao24 and first_seen."""
    covered: dict[tuple[str, str], list[tuple[int, int]]]
    """Intervals that were published as complete for the first time, in order, by airport and direction."""


def traffic() -> list[timetable.TimetableFlight]:
    """Return 250 flights between the two airports, the same ones on each call."""
    chance = Random(2013)
    begin = int(BEGIN.timestamp())
    made = []
    for number in range(250):
        origin, destination = chance.sample(AIRPORTS, 2)
        first_seen = begin + chance.randrange(DAYS * 86_400 - 20_000)
        last_seen = first_seen + chance.randrange(600, 20_000)
        made.append(
            timetable.TimetableFlight(first_seen, last_seen, f"{number + 1:06x}", f"TW{number}", origin, destination)
        )
    return made


def beacon_traffic() -> list[timetable.TimetableFlight]:
    """Return flights between two beacons, four an hour: they prove the records of days without other traffic."""
    begin = int(BEGIN.timestamp())
    return [
        timetable.TimetableFlight(at, at + 3_000, f"{0xBEA000 + number:06x}", f"BC{number}", *beacons)
        for number, at in enumerate(range(begin, begin + POLLED_DAYS * 86_400, 900))
        for beacons in [("EDDF", "KATL") if number % 2 else ("KATL", "EDDF")]
    ]


@pytest.fixture(autouse=True)
def no_retry_pauses() -> Iterator[None]:
    """Make the client retry without a pause."""
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


def collect_week(
    kafka: Broker, folder: Path, storm: FaultInjector | None, clock: FakeClock | None = None
) -> WeekResult:
    """Collect a week, with a poll every few hours, and return what was stored and published."""
    clock = clock or FakeClock(BEGIN + timedelta(hours=1))
    database = Database(f"sqlite:///{folder}/collector.db")
    SCHEMA.create_all(database.engine)
    interests = InterestStore(database, clock)
    for airport in AIRPORTS:
        interests.set(UUID(int=1), wish(airport, Direction.BOTH, effective_from=BEGIN))
    metrics = Metrics(ServiceIdentity("collector", "local"))

    async def collect_from(url: str) -> None:
        timeouts = (
            OpenSkyTimeouts() if storm is None else SHORT_TIMEOUTS
        )  # in a calm week no answer is late, but a machine may be
        api = f"{url}/api"
        connection = OpenSkyConnection([api], f"{url}{TOKEN_PATH}", CREDENTIALS, clock, metrics, timeouts)
        client = OpenSkyClient(api, connection, clock, metrics)
        collector = FlightCollector(database, client, clock, TIMING, QuotaStore(1_000_000), metrics)
        term = await collector.begin_term()
        while clock.now() < BEGIN + POLLED_DAYS * DAY:
            await collector.collect(term)
            clock.advance(POLL)
        await connection.close()

    with replay([*traffic(), *beacon_traffic()], clock, Credentials(*CREDENTIALS), storm) as url:
        asyncio.run(collect_from(url))
    with database.reading() as session:
        rows = session.scalars(select(FlightRow)).all()
        stored: dict[StoredKey, tuple[object, ...]] = {
            StoredKey(row.airport, row.direction, row.icao24, row.first_seen): (
                row.callsign,
                row.event_time,
                row.last_seen,
                row.other_airport,
            )
            for row in rows
        }
        assert len(stored) == len(rows)
        coverage = {(row.airport, row.direction, row.covered_from) for row in session.scalars(select(CoverageRow))}
    events = asyncio.run(_relay_and_read(kafka, database, metrics))
    database.close()
    return WeekResult(stored, coverage, _count_publications(events), _list_new_coverage(events))


async def _relay_and_read(kafka: Broker, database: Database, metrics: Metrics) -> list[flights_pb.FlightsObserved]:
    """Relay the outbox until it is empty, and return the events without duplicates, as a reader sees them."""
    partitions = {TopicPartition(FLIGHTS_OBSERVED.name, partition_of(each, FLIGHTS_OBSERVED)) for each in AIRPORTS}
    events = []
    async with (
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as consumer,
        asyncio.timeout(PUBLISH_TIMEOUT_S),
    ):
        consumer.assign(list(partitions))
        begin = await consumer.end_offsets(partitions)
        relay = asyncio.create_task(OutboxRelay(database, OUTBOX, kafka.bootstrap_servers, metrics).run())
        while _has_backlog(database):
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


def _has_backlog(database: Database) -> bool:
    """Return True while the outbox holds messages, False once it is empty."""
    with database.reading() as session:
        return OUTBOX.count_unpublished(session) > 0


def _count_publications(events: list[flights_pb.FlightsObserved]) -> Counter[tuple[str, str, str, int]]:
    """Return how often each flight was published."""
    return Counter(
        (event.airport, flights_pb.Direction.Name(event.direction), flight.icao24, flight.first_seen.seconds)
        for event in events
        for flight in event.flights
    )


def _list_new_coverage(events: list[flights_pb.FlightsObserved]) -> dict[tuple[str, str], list[tuple[int, int]]]:
    """Return the intervals that were covered for the first time, by airport and direction, in order."""
    covered: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for event in events:
        intervals = covered.setdefault((event.airport, flights_pb.Direction.Name(event.direction)), [])
        assert event.coverage != flights_pb.COVERAGE_GAP
        if event.coverage == flights_pb.COVERAGE_COMPLETE and (not intervals or event.end.seconds > intervals[-1][1]):
            intervals.append((event.begin.seconds, event.end.seconds))
    return covered


@pytest.fixture(scope="module")
def calm(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> WeekResult:
    """Return the result of a week without faults, in which each end of every flight is published once."""
    result = collect_week(kafka, tmp_path_factory.mktemp("calm"), None)
    assert len(result.stored) == 2 * len(traffic())
    assert set(result.published.values()) == {1}
    assert len(result.published) == 2 * len(traffic())
    return result


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_a_storm_has_the_result_of_a_calm_week(kafka: Broker, calm: WeekResult, tmp_path: Path, seed: int) -> None:
    """Rows and events are the same flight by flight, and coverage grows without a hole and as far."""
    storm = faults.seeded_injector(seed, RATE)
    result = collect_week(kafka, tmp_path, storm)
    assert result.stored == calm.stored
    assert result.published == calm.published
    assert result.coverage == calm.coverage
    for target, intervals in result.covered.items():
        assert [begin for begin, _ in intervals[1:]] == [end for _, end in intervals[:-1]]
        assert intervals[0][0] == calm.covered[target][0][0]
        assert intervals[-1][1] >= int((BEGIN + 9 * DAY).timestamp())
    assert set(result.covered) == set(calm.covered)
    assert len(set(storm.fault_counts)) >= len(InjectedFault) - 3, f"a storm of few kinds: {storm.fault_counts}"


@pytest.mark.parametrize(("begin_hours", "hours"), [(0, 10), (24, 12), (27, 3), (48, 30), (51, 60), (72, 24)])
def test_an_outage_that_says_no_flights_is_never_believed(
    kafka: Broker, calm: WeekResult, tmp_path: Path, begin_hours: int, hours: int
) -> None:
    """A source that answers every call with its own "no flights" for hours or days costs no flight and no coverage.

    The airports with evidence are silent, too: the days are proven anew afterwards. (A correction that falls into the
    outage is made on a later day, which may be after this week: a flight keeps the fields of its first answer so long.)
    """
    clock = FakeClock(BEGIN + timedelta(hours=1))
    begin = BEGIN + timedelta(hours=begin_hours)
    outage = FaultInjector(OutagePlan(clock, begin, begin + timedelta(hours=hours)))
    result = collect_week(kafka, tmp_path, outage, clock)
    assert outage.fault_counts[InjectedFault.OUTAGE] > 0
    assert (result.stored.keys(), result.published) == (calm.stored.keys(), calm.published)
    assert result.coverage == calm.coverage
