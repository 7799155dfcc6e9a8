"""Collection: what is due at the source, and the one transaction that stores it and says so."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import DatabaseAwayError
from chassis.metrics import Metrics
from collector.errors import CollectedMeanwhileError, SourceError, SourceLimitedError
from collector.intervals import Interval, Lags, by_days, first_begin, known_until
from collector.messages import flights_observed
from collector.model import OUTBOX, CoverageRow, FlightRow, InterestRow
from collector.opensky import Flight
from domain.interests import Direction

log = structlog.get_logger()


class Source(Protocol):
    """What a collection needs of the source of flights."""

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """All flights with an event time in [begin, end), perhaps more than once. Raises SourceError."""
        ...


class Collection:
    """Collects what is due, one airport and direction after the other. For one task at a time."""

    def __init__(self, database: Database, source: Source, clock: Clock, lags: Lags, metrics: Metrics) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._lags = lags
        self._not_before: datetime | None = None
        self._stored = metrics.counter("flights_stored_total", "Flights stored and published", "direction")
        self._seconds = metrics.histogram("flight_data_processing_seconds", "Time to store one interval").labels()

    async def collect(self, airport: str | None = None) -> None:
        """Collect all that is due, of one airport or of all.

        Source or database away: it is logged, and what is missing stays due. Where one interval fails, the airport's
        later ones in this direction wait for it, but the other airports do not. After the source asked for a pause,
        does nothing until that is over.
        """
        if self._not_before is not None and self._clock.now() < self._not_before:
            return
        try:
            for intervals in await asyncio.to_thread(self._due, airport):
                await self._collect_in_order(intervals)
        except SourceLimitedError as error:
            self._not_before = self._clock.now() + timedelta(seconds=error.retry_after_s)
            log.warning("collection.limited", retry_after_s=error.retry_after_s)
        except DatabaseAwayError:
            log.warning("collection.without_database")

    async def _collect_in_order(self, intervals: Iterator[Interval]) -> None:
        """Collect until one fails: coverage has no holes. Raises SourceLimitedError, DatabaseAwayError."""
        for interval in intervals:
            try:
                await self._collect(interval)
            except SourceLimitedError:
                raise
            except (SourceError, CollectedMeanwhileError) as error:
                log.warning(
                    "collection.failed", airport=interval.airport, direction=interval.direction, reason=str(error)
                )
                return

    async def _collect(self, interval: Interval) -> None:
        flights = await self._source.flights(interval.airport, interval.direction, interval.begin, interval.end)
        with self._seconds.time():
            stored = await asyncio.to_thread(self._store, interval, flights)
        self._stored.labels(direction=interval.direction.value).inc(stored)

    def _due(self, airport: str | None) -> list[Iterator[Interval]]:
        """What is to be collected now, by airport and direction that somebody wants; longest uncovered first."""
        now = self._clock.now()
        with self._database.transaction() as session:
            wanted = _wanted(session, airport)
            covered = {(row.airport, row.direction): row.covered_until for row in session.scalars(select(CoverageRow))}
        begins = {
            (icao, direction): covered.get((icao, direction.value)) or first_begin(wanted_from, now)
            for (icao, direction), wanted_from in wanted.items()
        }
        return [
            by_days(icao, direction, begin, known_until(direction, now, self._lags))
            for (icao, direction), begin in sorted(begins.items(), key=lambda item: (item[1], item[0]))
        ]

    def _store(self, interval: Interval, flights: list[Flight]) -> int:
        """Store what is new, move the cursor and write the events, all or nothing. Returns the number of new flights.

        Raises CollectedMeanwhileError, DatabaseAwayError.
        """
        with self._database.transaction() as session:
            cursor = _cursor(session, interval)
            new = _not_stored(session, interval, flights)
            if new:
                session.execute(insert(FlightRow), [_row(interval, flight) for flight in new])
            cursor.covered_until = interval.end
            OUTBOX.add(
                session, flights_observed(interval.airport, interval.direction, interval.begin, interval.end, new)
            )
        return len(new)


def _cursor(session: Session, interval: Interval) -> CoverageRow:
    """The locked cursor, which stands where the interval begins. Raises CollectedMeanwhileError."""
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if cursor is None:
        cursor = CoverageRow(
            airport=interval.airport,
            direction=interval.direction.value,
            covered_from=interval.begin,
            covered_until=interval.begin,
        )
        session.add(cursor)
        try:
            session.flush()
        except IntegrityError:  # made in the same instant
            raise CollectedMeanwhileError("another collector has just begun with this airport") from None
    if cursor.covered_until != interval.begin:
        raise CollectedMeanwhileError("another collector has stored this interval meanwhile")
    return cursor


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
    begins = [first_seen for _, first_seen in candidates]
    stored = session.execute(
        select(FlightRow.icao24, FlightRow.first_seen).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.icao24.in_({icao24 for icao24, _ in candidates}),
            FlightRow.first_seen.between(min(begins), max(begins)),
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
