"""Collection: what is due at the source, and the one transaction that stores it and says so."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.database import Database
from chassis.metrics import Metrics
from collector.errors import SourceLimitedError, SourceUnavailableError
from collector.messages import flights_observed
from collector.model import OUTBOX, CoverageRow, FlightRow, InterestRow
from collector.opensky import Flight, OpenSkyClient
from domain.interests import Direction
from domain.windows import Window

log = structlog.get_logger()

DAY = timedelta(days=1)

FARTHEST_BACK = 30 * DAY
"""How far before now the first collection of an airport may begin."""


@dataclass(frozen=True, slots=True)
class Lags:
    """How long the source takes to know."""

    departures: timedelta
    arrivals: timedelta
    """After midnight (UTC), for the nightly batch."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch [begin, end) to collect, within one UTC day."""

    airport: str
    direction: Direction
    begin: datetime
    end: datetime


def day_of(instant: datetime) -> datetime:
    """The UTC midnight that the instant's day begins with."""
    return Window.ONE_DAY.start_of(instant)


def known_until(direction: Direction, now: datetime, lags: Lags) -> datetime:
    """Up to where the source knows every flight: departures lag, arrivals are of closed days only."""
    if direction is Direction.DEPARTURES:
        return (now - lags.departures).replace(microsecond=0)
    return day_of(now - lags.arrivals)


def first_begin(wanted_from: datetime, now: datetime) -> datetime:
    """Where the first collection of an airport begins: with yesterday, or with the earliest day that somebody wants."""
    return max(min(day_of(wanted_from), day_of(now) - DAY), day_of(now - FARTHEST_BACK))


def by_days(airport: str, direction: Direction, begin: datetime, end: datetime) -> Iterator[Interval]:
    """[begin, end) split at UTC midnights, for the source answers (and charges) by the day."""
    while begin < end:
        cut = min(day_of(begin) + DAY, end)
        yield Interval(airport, direction, begin, cut)
        begin = cut


class Collection:
    """Collects what is due, one airport after the other."""

    def __init__(
        self, database: Database, source: OpenSkyClient, clock: Clock, lags: Lags, metrics: Metrics
    ) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._lags = lags
        self._one_at_a_time = asyncio.Lock()
        self._not_before: datetime | None = None
        self._stored = metrics.counter("flights_stored_total", "Flights stored and published", "direction")
        self._seconds = metrics.histogram("flight_data_processing_seconds", "Time to store one interval").labels()

    async def collect(self, airport: str | None = None) -> None:
        """Collect all that is due, of one airport or of all. Errors of the source are logged: it is tried again."""
        async with self._one_at_a_time:
            for interval in await asyncio.to_thread(self._due, airport):
                if self._not_before is not None and self._clock.now() < self._not_before:
                    return
                try:
                    await self._collect(interval)
                except SourceLimitedError as error:
                    self._not_before = self._clock.now() + timedelta(seconds=error.retry_after_s)
                    log.warning("collection.limited", retry_after_s=error.retry_after_s)
                    return
                except SourceUnavailableError as error:
                    log.warning("collection.failed", airport=interval.airport, reason=str(error))
                    return

    async def _collect(self, interval: Interval) -> None:
        flights = await self._source.flights(interval.airport, interval.direction, interval.begin, interval.end)
        with self._seconds.time():
            stored = await asyncio.to_thread(self._store, interval, flights)
        self._stored.labels(direction=interval.direction.value).inc(stored)

    def _due(self, airport: str | None) -> list[Interval]:
        """What is to be collected now: the airports that somebody wants, longest uncovered first."""
        now = self._clock.now()
        with self._database.transaction() as session:
            wanted = _wanted(session, airport)
            covered = {(row.airport, row.direction): row.covered_until for row in session.scalars(select(CoverageRow))}
        due: list[Interval] = []
        for (icao, direction), wanted_from in wanted.items():
            begin = covered.get((icao, direction.value)) or first_begin(wanted_from, now)
            due += by_days(icao, direction, begin, known_until(direction, now, self._lags))
        return sorted(due, key=lambda interval: interval.begin)

    def _store(self, interval: Interval, flights: list[Flight]) -> int:
        """Store what is new, move the cursor and write the events, all or nothing. Returns the number of new flights."""
        with self._database.transaction() as session:
            cursor = session.get(
                CoverageRow, (interval.airport, interval.direction.value), with_for_update=True
            )
            if cursor is None:
                cursor = CoverageRow(
                    airport=interval.airport,
                    direction=interval.direction.value,
                    covered_from=interval.begin,
                    covered_until=interval.begin,
                )
                session.add(cursor)
                session.flush()
            if cursor.covered_until != interval.begin:
                return 0  # another collector was here meanwhile
            new = _not_stored(session, interval, flights)
            if new:
                session.execute(insert(FlightRow), [_row(interval, flight) for flight in new])
            cursor.covered_until = interval.end
            OUTBOX.add(
                session, flights_observed(interval.airport, interval.direction, interval.begin, interval.end, new)
            )
        return len(new)


def _wanted(session: Session, airport: str | None) -> dict[tuple[str, Direction], datetime]:
    """By airport and collected direction, the earliest instant that an interest is effective from."""
    query = select(InterestRow.airport, InterestRow.direction, func.min(InterestRow.effective_from)).group_by(
        InterestRow.airport, InterestRow.direction
    )
    if airport is not None:
        query = query.where(InterestRow.airport == airport)
    wanted: defaultdict[tuple[str, Direction], list[datetime]] = defaultdict(list)
    for icao, direction, effective_from in session.execute(query):
        for part in Direction(direction).parts:
            wanted[icao, part].append(effective_from)
    return {key: min(instants) for key, instants in wanted.items()}


def _not_stored(session: Session, interval: Interval, flights: list[Flight]) -> list[Flight]:
    """The flights that were not published before, in the order of their event times, each once."""
    candidates = {(flight.icao24, flight.first_seen): flight for flight in flights}
    if not candidates:
        return []
    stored = session.execute(
        select(FlightRow.icao24, FlightRow.first_seen).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.first_seen.between(
                min(first_seen for _, first_seen in candidates), max(first_seen for _, first_seen in candidates)
            ),
        )
    )
    for icao24, first_seen in stored:
        candidates.pop((icao24, first_seen), None)
    return sorted(candidates.values(), key=lambda flight: (flight.event_time(interval.direction), flight.icao24))


def _row(interval: Interval, flight: Flight) -> dict[str, object]:
    return {
        "airport": interval.airport,
        "direction": interval.direction.value,
        "icao24": flight.icao24,
        "callsign": flight.callsign,
        "first_seen": flight.first_seen,
        "last_seen": flight.last_seen,
        "event_time": flight.event_time(interval.direction),
        "other_airport": flight.other_airport(interval.direction),
    }
