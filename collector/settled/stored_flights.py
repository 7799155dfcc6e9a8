"""The table of flights as the collector uses it: load stored flights, insert new ones, update changed ones.

Each function runs in the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, insert, or_, select, update
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval
from collector.model import FlightRow
from collector.settled.differences import StoredFlight
from collector.settled.duplicates import LONGEST_FLIGHT, SAME_EVENT_WITHIN, FlightKey, ReportedFlight
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction


def load_stored_flights(session: Session, interval: Interval, reported: Sequence[ReportedFlight]) -> list[StoredFlight]:
    """Load the stored flights of the interval's airport and direction that may be the same as reported ones.

    These are the flights of the same aircraft that were in the air at most ten minutes before the earliest or after the
    latest reported flight, or between, even if they were published in another interval; and the flights with the key of
    a reported row. A stored flight that lasts longer than LONGEST_FLIGHT may be missing if no reported row has its key.
    """
    if not reported:
        return []
    begin, end = min(each.span.begin for each in reported), max(each.span.end for each in reported)
    aircraft = {each.flight.icao24 for each in reported}
    possible = and_(
        FlightRow.icao24.in_(aircraft),
        FlightRow.first_seen.between(begin - LONGEST_FLIGHT, end + SAME_EVENT_WITHIN),
        FlightRow.last_seen >= begin - SAME_EVENT_WITHIN,
    )
    # Loaded by key: one reported flight with a wrong, far too early first_seen must not widen the range for all.
    early = [key for each in reported for key in each.keys if key[1] < begin]
    reported_early = and_(
        FlightRow.icao24.in_({icao24 for icao24, _ in early}),
        FlightRow.first_seen.in_({first_seen for _, first_seen in early}),
    )
    return _select_flights(session, interval, or_(possible, reported_early) if early else possible)


def load_flights_of_interval(session: Session, interval: Interval) -> list[StoredFlight]:
    """Load the stored flights of the interval's airport and direction whose take-off or landing is in the interval.

    That time is the one that the source gave last, not the event time as first published.
    """
    source_time = FlightRow.first_seen if interval.direction is Direction.DEPARTURES else FlightRow.last_seen
    near = FlightRow.event_time.between(interval.begin - DAY, interval.end + DAY)  # so that the index is used
    return _select_flights(session, interval, near, source_time >= interval.begin, source_time < interval.end)


def load_published_flights(
    session: Session, airport: str, direction: Direction, begin: datetime, end: datetime
) -> list[PublishedFlight]:
    """Load the stored flights of an airport and direction with an event time, as published, in [begin, end)."""
    rows = session.execute(
        select(FlightRow.icao24, FlightRow.event_time).where(
            FlightRow.airport == airport,
            FlightRow.direction == direction.value,
            FlightRow.event_time >= begin,
            FlightRow.event_time < end,
        )
    )
    return [PublishedFlight(row.icao24, row.event_time) for row in rows]


def insert_flights(
    session: Session, interval: Interval, flights: tuple[Flight, ...], event_times: Mapping[FlightKey, datetime]
) -> None:
    """Insert flights for the interval's airport and direction; the caller has checked that none is stored there yet.

    `event_times`: by icao24 and first_seen, the event time of a flight that was published with another one than its
    own, because it was seen live.
    """
    if flights:
        session.execute(
            insert(FlightRow),
            [
                _build_flight_row(
                    interval,
                    flight,
                    event_times.get((flight.icao24, flight.first_seen), flight.event_time(interval.direction)),
                )
                for flight in flights
            ],
        )


def update_flights(session: Session, flights: tuple[StoredFlight, ...]) -> None:
    """Update the rows of the changed flights. Key and event time stay as first published."""
    if flights:
        session.execute(
            update(FlightRow),
            [
                {
                    "id": flight.id,
                    "last_seen": flight.last_seen,
                    "callsign": flight.callsign,
                    "other_airport": flight.other_airport,
                }
                for flight in flights
            ],
        )


def _build_flight_row(interval: Interval, flight: Flight, event_time: datetime) -> dict[str, object]:
    """Return the column values of a new row of the flights table, in the interval's airport and direction."""
    return {
        "airport": interval.airport,
        "direction": interval.direction.value,
        "icao24": flight.icao24,
        "callsign": flight.callsign,
        "first_seen": flight.first_seen,
        "last_seen": flight.last_seen,
        "event_time": event_time,
        "other_airport": flight.other_airport(interval.direction),
    }


def _select_flights(session: Session, interval: Interval, *conditions: ColumnElement[bool]) -> list[StoredFlight]:
    """Load the stored flights of the interval's airport and direction that meet all conditions."""
    rows = session.execute(
        select(
            FlightRow.id,
            FlightRow.icao24,
            FlightRow.first_seen,
            FlightRow.last_seen,
            FlightRow.callsign,
            FlightRow.other_airport,
        ).where(FlightRow.airport == interval.airport, FlightRow.direction == interval.direction.value, *conditions)
    )
    return [
        StoredFlight(row.id, row.icao24, row.first_seen, row.last_seen, row.callsign, row.other_airport) for row in rows
    ]
