"""Comparison of an answer of the source with the stored flights: which flights are new, and which changed. Pure.

The rule, with an example, is in docs/adr/0012-corrections.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from collector.sources.flight import Flight
from domain.interests import Direction

FlightKey = tuple[str, datetime]
"""Identity of a flight at one airport and in one direction: icao24 and first_seen."""


@dataclass(frozen=True, slots=True)
class StoredFlight:
    """The stored fields of a flight that the source may change later."""

    last_seen: datetime
    callsign: str
    other_airport: str


@dataclass(frozen=True, slots=True)
class AnswerDiff:
    """The differences between an answer of the source and the stored flights."""

    new: tuple[Flight, ...]
    """Flights to store and to publish, in the order of their event times."""
    changed: tuple[Flight, ...]
    """Flights whose row is to be updated, and which are not published: the count stays the same."""


def select_newest_versions(flights: Iterable[Flight]) -> dict[FlightKey, Flight]:
    """Return each flight once, by its key; of two versions in one answer the one with the later last_seen.

    If these are equal, the version whose callsign comes last in order.
    """
    newest: dict[FlightKey, Flight] = {}
    for flight in sorted(flights, key=lambda flight: (flight.last_seen, flight.callsign)):
        newest[flight.icao24, flight.first_seen] = flight
    return newest


def compare_with_stored(
    direction: Direction, flights: Mapping[FlightKey, Flight], stored: Mapping[FlightKey, StoredFlight]
) -> AnswerDiff:
    """Return which flights of an answer are new and which are changed, whatever event time they were stored with.

    New: no stored flight has the key. Changed: any field of `StoredFlight` differs. Stored flights that the answer
    lacks are ignored. The new flights are ordered by event time.
    """
    new = [flight for key, flight in flights.items() if key not in stored]
    new.sort(key=lambda flight: (flight.event_time(direction), flight.icao24, flight.first_seen))
    changed = [
        flight
        for key, flight in flights.items()
        if key in stored and build_stored_flight(direction, flight) != stored[key]
    ]
    return AnswerDiff(tuple(new), tuple(changed))


def build_stored_flight(direction: Direction, flight: Flight) -> StoredFlight:
    """Return those fields of a source's flight that may change later, as they would be stored."""
    return StoredFlight(flight.last_seen, flight.callsign, flight.other_airport(direction))
