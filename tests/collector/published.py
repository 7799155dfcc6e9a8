"""An airport with a known timetable, and a check that collectors published each of its flights exactly once."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from sqlalchemy import select

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.kafka import parse_sequence
from collector.model import CoverageRow
from local.kafka import Broker
from local.opensky.flights import TimetableFlight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

AIRPORT: Final = "KTEB"
START: Final = datetime(2013, 2, 13, tzinfo=UTC)


def timetable(days: int = 40) -> list[TimetableFlight]:
    """Return flights for `days` days from two days before START: a departure and an arrival every twenty minutes."""
    first = int((START - timedelta(days=2)).timestamp())
    moments = range(first, first + days * 86_400, 1200)
    departures = [
        TimetableFlight(at, at + 3000, f"{number:06x}", "TW", AIRPORT, "LICC") for number, at in enumerate(moments, 1)
    ]
    arrivals = [
        TimetableFlight(at - 3000, at, f"{number:06x}", "TW", "LICC", AIRPORT) for number, at in enumerate(moments, 1)
    ]
    return departures + arrivals


def load_covered_until(folder: Path) -> dict[str, datetime]:
    """Return the end of the airport's coverage by direction, from the database of a `Process` in this folder."""
    database = Database(f"sqlite:///{folder}/collector.db")
    try:
        with database.reading() as session:
            rows = session.scalars(select(CoverageRow).where(CoverageRow.airport == AIRPORT)).all()
    except DatabaseUnavailableError:
        return {}  # there are no tables yet
    finally:
        database.close()
    return {row.direction: row.covered_until for row in rows}


def assert_published_once(kafka: Broker, until: dict[str, datetime], flights: list[TimetableFlight]) -> None:
    """Assert that the published batches lie end to end, and hold each flight of the timetable exactly once."""
    published = asyncio.run(_read_observed(kafka, until))
    for direction in until:
        number = flights_pb.Direction.Value(f"DIRECTION_{direction.upper()}")
        _assert_end_to_end([each for each in published if each.direction == number], direction, flights)


async def _read_observed(kafka: Broker, until: dict[str, datetime]) -> list[flights_pb.FlightsObserved]:
    """Return the airport's events up to the coverage `until`; duplicates are dropped by sequence."""
    partition = TopicPartition(FLIGHTS_OBSERVED.name, partition_of(AIRPORT, FLIGHTS_OBSERVED))
    found: list[flights_pb.FlightsObserved] = []
    waited_for = set(until)
    last = 0
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as consumer, asyncio.timeout(120):
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while waited_for:
            record = await consumer.getone()
            sequence = parse_sequence(record.headers)
            assert sequence is not None
            if sequence <= last:
                continue
            last = sequence
            value = flights_pb.FlightsObserved.FromString(record.value)
            found.append(value)
            name = flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower()
            if value.end.ToDatetime(UTC) >= until[name]:
                waited_for.discard(name)
    return found


def _assert_end_to_end(
    published: list[flights_pb.FlightsObserved], direction: str, flights: list[TimetableFlight]
) -> None:
    """Assert the rule for one direction."""
    assert all(each.coverage == flights_pb.COVERAGE_COMPLETE for each in published)
    assert [each.begin.seconds for each in published[1:]] == [each.end.seconds for each in published[:-1]]
    begin, end = published[0].begin.seconds, published[-1].end.seconds
    if direction == "departures":
        due = [each for each in flights if each.departure_airport == AIRPORT and begin <= each.first_seen < end]
    else:
        due = [each for each in flights if each.arrival_airport == AIRPORT and begin <= each.last_seen < end]
    sent = [(each.icao24, each.first_seen.seconds) for batch in published for each in batch.flights]
    assert sorted(sent) == sorted((each.icao24, each.first_seen) for each in due)
