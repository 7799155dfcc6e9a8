"""A collector on a test's database that polls hour by hour, and readers of what it publishes."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.settled.collection import FlightCollector
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.settled.source_calls import FlightSource
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import Service, outbox
from tests.fakes.clock import FakeClock
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.topics import FLIGHTS_OBSERVED, NOTICES_RAISED

HOUR: Final = timedelta(hours=1)
TIMING: Final = CollectionTiming(
    RecordTiming(asked_after=HOUR, settle_time=3 * HOUR), poll_interval=HOUR, corrections_after=timedelta(days=2)
)


ANSWER_TAKES: Final = timedelta(seconds=1)
"""Time from a call to its answer."""


class SlowSource:
    """Another source, whose answers take ANSWER_TAKES each: the calls of one poll are made one after the other."""

    remaining_credits: int | None = None
    clock_error: timedelta | None = None

    def __init__(self, source: FlightSource, clock: FakeClock) -> None:
        self._source = source
        self._clock = clock

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the other source's answer, or fail as it does, ANSWER_TAKES later."""
        try:
            return await self._source.fetch_flights(airport, direction, begin, end)
        finally:
            self.remaining_credits, self.clock_error = self._source.remaining_credits, self._source.clock_error
            self._clock.advance(ANSWER_TAKES)


def build_collector(service: Service, source: FlightSource, budget: int = 100_000, **options: int) -> FlightCollector:
    """Return a collector on the service's database, with so many credits per day, whose answers take a second each."""
    metrics = Metrics(ServiceIdentity("collector", "local"))
    return FlightCollector(
        service.database,
        SlowSource(source, service.clock),
        service.clock,
        TIMING,
        QuotaStore(budget),
        metrics,
        **options,  # type: ignore[arg-type]
    )


def poll(collector: FlightCollector) -> None:
    """Begin a term and collect once in it."""

    async def lead() -> None:
        await collector.collect(await collector.begin_term())

    asyncio.run(lead())


def poll_hourly(service: Service, collector: FlightCollector, until: datetime, step: timedelta = HOUR) -> None:
    """Poll each hour, or each `step`, from now to `until`, where the clock stands in the end.

    The polls begin exactly so far apart, however long the answers of one take.
    """

    async def lead() -> None:
        term = await collector.begin_term()
        at = service.clock.now()
        while at < until:
            await collector.collect(term)
            at = min(at + step, until)
            service.clock.advance(at - service.clock.now())

    asyncio.run(lead())


Covered = list[tuple[datetime, datetime, int]]
"""Intervals in the order of their events, each with the number of its flights."""


def list_published(
    database: Database, airport: str, direction: Direction, coverage: flights_pb.Coverage.ValueType
) -> Covered:
    """Return the intervals that were published with this coverage for an airport and direction."""
    values = [
        flights_pb.FlightsObserved.FromString(each.value or b"") for each in outbox(database, FLIGHTS_OBSERVED.name)
    ]
    return [
        (value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC), len(value.flights))
        for value in values
        if value.airport == airport
        and flights_pb.Direction.Name(value.direction) == f"DIRECTION_{direction.name}"
        and value.coverage == coverage
    ]


def list_complete(database: Database, airport: str = "KJFK", direction: Direction = Direction.ARRIVALS) -> Covered:
    """Return the intervals that were published as completely covered."""
    return list_published(database, airport, direction, flights_pb.COVERAGE_COMPLETE)


def list_notices(database: Database) -> list[notices_pb.AirportUnheard]:
    """Return the notices about unheard airports in the outbox, oldest first."""
    return [notices_pb.AirportUnheard.FromString(each.value or b"") for each in outbox(database, NOTICES_RAISED.name)]
