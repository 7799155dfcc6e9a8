"""`python -m benchmarks.flights`: flights per second from the source to the database, and from there to Kafka.

A fake source that responds at once returns ten days of arrivals and departures of some large airports. First all of it
is collected, as the leader does: interval after interval, each with its cursor and its events in one transaction. Then
the relay publishes it to a real Apache Kafka of the benchmark's own. Both figures are compared with plain inserts of
the same rows, in transactions of the same size.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

from sqlalchemy import insert

from chassis.clock import ScaledClock
from chassis.db.database import Database
from chassis.db.outbox_relay import OutboxRelay
from chassis.metrics import Metrics, ServiceIdentity
from chassis.topics import ensure_topics
from collector.interest_requests import InterestRequest
from collector.interests import InterestStore
from collector.intervals import DAY, day_of
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow, NightlyRecordRow
from collector.settled.collection import FlightCollector
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.sources.flight import Flight
from domain.interests import Direction
from domain.windows import Window
from local.kafka import Broker
from tests.ports import free_port
from towerwatch.topics import CATALOGUE

AIRPORTS: Final = ("KJFK", "KATL", "EGLL", "EDDF", "LFPG", "LICC")
DAYS: Final = 10
FLIGHTS_A_DAY: Final = 700
"""Flights per day of each airport and direction."""
NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)


class PromptSource:
    """A fake source of flights that returns evenly spread flights of every airport without delay or quota."""

    remaining_credits: int | None = None
    clock_error: timedelta | None = None

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the flights from `begin` to before `end`, one every `DAY / FLIGHTS_A_DAY`."""
        step = DAY / FLIGHTS_A_DAY
        count = int((end - begin) / step)
        return [_build_flight(airport, direction, begin + number * step) for number in range(count)]


def _build_flight(airport: str, direction: Direction, at: datetime) -> Flight:
    """Build a flight of one hour that departs from or arrives at the airport at `at`, by its direction."""
    second = int(at.timestamp())
    first_seen = second if direction is Direction.DEPARTURES else second - 3600
    return Flight.model_validate(
        {
            "icao24": f"{hash((airport, direction, second)) & 0xFFFFFF:06x}",
            "firstSeen": first_seen,
            "lastSeen": first_seen + 3600,
            "callsign": "TW1",
        }
    )


def main() -> int:
    """Measure inserts, collection and publishing, and print flights per second with ratios to inserts; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flights", description=__doc__)
    parser.add_argument("--database-url", help="an empty database of your own (default: a new SQLite file)")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(options.database_url or f"sqlite:///{folder}/collector.db")
        broker = Broker(folder / "kafka", port=free_port())
        try:
            SCHEMA.create_all(database.engine)
            inserted = _measure_inserts(database)
            collected, flights = asyncio.run(_measure_collection(database))
            broker.start()
            published = asyncio.run(_measure_publishing(database, broker.bootstrap_servers, flights))
        finally:
            broker.stop()
            database.close()
    print(f"Inserting alone  {inserted:7.0f} flights/s  1.00")
    print(f"Collecting       {collected:7.0f} flights/s  {collected / inserted:.2f}")
    print(f"Publishing       {published:7.0f} flights/s  {published / inserted:.2f}")
    return 0


def _measure_inserts(database: Database) -> float:
    """Insert as many flights as are collected later, delete them again, and return the inserts per second.

    Each transaction inserts FLIGHTS_A_DAY rows. The deletion is not measured.
    """
    rows = [
        {
            "airport": "KJFK", "direction": "departures", "icao24": f"{number:06x}", "callsign": "TW1",
            "first_seen": NOW, "last_seen": NOW, "event_time": NOW, "other_airport": "",
        }
        for number in range(DAYS * len(AIRPORTS) * FLIGHTS_A_DAY)
    ]  # fmt: skip
    with database.transaction() as session:
        session.add(CoverageRow(airport="KJFK", direction="departures", covered_from=NOW, covered_until=NOW))
    began = time.perf_counter()
    for start in range(0, len(rows), FLIGHTS_A_DAY):
        with database.transaction() as session:
            session.execute(insert(FlightRow), rows[start : start + FLIGHTS_A_DAY])
    took = time.perf_counter() - began
    with database.transaction() as session:
        for table in (FlightRow.__table__, CoverageRow.__table__):
            session.execute(table.delete())  # type: ignore[attr-defined]
    return len(rows) / took


async def _measure_collection(database: Database) -> tuple[float, int]:
    """Set an interest for each airport, collect all flights as the leader does, and store them with their events.

    Return the flights per second and the number of stored flights, by the collector's own metric.
    """
    clock = ScaledClock(NOW, 1.0, datetime.now(UTC))
    interests = InterestStore(database, clock)
    for airport in AIRPORTS:
        wish = InterestRequest(airport, Direction.BOTH, Window.ONE_HOUR, 40, None, 1, False, NOW - DAYS * DAY)
        interests.set(uuid4(), wish)
    _prove_days(database)
    timing = CollectionTiming(RecordTiming(timedelta(hours=1), timedelta(hours=3)), timedelta(hours=1), timedelta(0))
    metrics = Metrics(ServiceIdentity("benchmark", "local"))
    collector = FlightCollector(database, PromptSource(), clock, timing, QuotaStore(1_000_000_000), metrics)
    term = await collector.begin_term()
    began = time.perf_counter()
    await collector.collect(term)
    took = time.perf_counter() - began
    labels = {"service": "benchmark", "node": "local"}
    stored = sum(
        metrics.registry.get_sample_value("flights_stored_total", {"direction": direction.value, **labels}) or 0
        for direction in Direction.BOTH.parts
    )
    return stored / took, int(stored)


def _prove_days(database: Database) -> None:
    """Store that the records of all days are whole, so that one collection collects them all and asks nothing else."""
    with database.transaction() as session:
        for number in range(1, DAYS + 1):
            for direction in Direction.BOTH.parts:
                record = {"attempts": 2, "airport": "EDDF", "flights": 1, "digest": ""}
                day = day_of(NOW) - number * DAY
                proof = {"asked_at": NOW, "there_since": NOW, "whole_since": NOW}
                session.add(NightlyRecordRow(day=day, direction=direction.value, **record, **proof))


async def _measure_publishing(database: Database, bootstrap_servers: str, flights: int) -> float:
    """Create the topics, run the relay until the outbox is empty, and return the flights per second.

    `flights` is the number of flights in the outbox's events. Raises the relay's error if the relay ends.
    """
    await ensure_topics(bootstrap_servers, CATALOGUE, 1)
    relay = OutboxRelay(database, OUTBOX, bootstrap_servers, Metrics(ServiceIdentity("benchmark", "local")))
    began = time.perf_counter()
    task = asyncio.create_task(relay.run())
    while await asyncio.to_thread(_has_unpublished, database):
        if task.done():
            await task
        await asyncio.sleep(0.01)
    took = time.perf_counter() - began
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return flights / took


def _has_unpublished(database: Database) -> bool:
    """Return True if the outbox holds an event, False if it is empty."""
    with database.reading() as session:
        return session.execute(OUTBOX.rows.select().with_only_columns(OUTBOX.rows.c.id).limit(1)).first() is not None


if __name__ == "__main__":
    sys.exit(main())
