"""The table of flights as the collector uses it: load stored flights, insert new ones, update changed ones.

Each function runs in the caller's transaction.
"""

from collections.abc import Mapping

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval
from collector.model import FlightRow
from collector.settled.differences import FlightKey, StoredFlight, build_stored_flight
from collector.sources.flight import Flight
from domain.interests import Direction


def load_stored_flights(
    session: Session, interval: Interval, flights: Mapping[FlightKey, Flight]
) -> dict[FlightKey, tuple[int, StoredFlight]]:
    """Load those of the given flights that are stored for the interval's airport and direction, at whatever event time.

    Returns row id and stored fields by key.
    """
    if not flights:
        return {}
    begins = [first_seen for _, first_seen in flights]
    rows = session.execute(
        select(
            FlightRow.id,
            FlightRow.icao24,
            FlightRow.first_seen,
            FlightRow.last_seen,
            FlightRow.callsign,
            FlightRow.other_airport,
        ).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.icao24.in_({icao24 for icao24, _ in flights}),
            FlightRow.first_seen.between(min(begins), max(begins)),
        )
    )
    return {
        (row.icao24, row.first_seen): (row.id, StoredFlight(row.last_seen, row.callsign, row.other_airport))
        for row in rows
        if (row.icao24, row.first_seen) in flights
    }


def load_stored_keys(session: Session, interval: Interval) -> set[FlightKey]:
    """Load the keys of the flights that are stored for the interval's airport and direction, with a time in it.

    The time is the one that the source now gives, not the event time as first published.
    """
    source_time = FlightRow.first_seen if interval.direction is Direction.DEPARTURES else FlightRow.last_seen
    rows = session.execute(
        select(FlightRow.icao24, FlightRow.first_seen).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.event_time.between(interval.begin - DAY, interval.end + DAY),  # so that the index is used
            source_time >= interval.begin,
            source_time < interval.end,
        )
    )
    return {(icao24, first_seen) for icao24, first_seen in rows}


def insert_flights(session: Session, interval: Interval, flights: tuple[Flight, ...]) -> None:
    """Insert the flights, in the interval's airport and direction; none is stored there yet."""
    if flights:
        session.execute(insert(FlightRow), [_build_flight_row(interval, flight) for flight in flights])


def update_flights(session: Session, interval: Interval, ids: list[int], flights: tuple[Flight, ...]) -> None:
    """Update the rows of the changed flights; `ids` are in the order of the flights."""
    if flights:
        session.execute(update(FlightRow), _build_row_updates(interval, ids, flights))


def _build_flight_row(interval: Interval, flight: Flight) -> dict[str, object]:
    """Return the column values of a new row of the flights table, in the interval's airport and direction."""
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


def _build_row_updates(interval: Interval, ids: list[int], flights: tuple[Flight, ...]) -> list[dict[str, object]]:
    """Return the column values of each changed flight, with its row's id; `ids` are in the order of the flights.

    Without the event time, which stays as first published.
    """
    updates = []
    for row_id, flight in zip(ids, flights, strict=True):
        stored = build_stored_flight(interval.direction, flight)
        updates.append(
            {
                "id": row_id,
                "last_seen": stored.last_seen,
                "callsign": stored.callsign,
                "other_airport": stored.other_airport,
            }
        )
    return updates
