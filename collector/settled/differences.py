"""What an answer of the source brings: flights that were never told of, and flights that it now tells otherwise. Pure.

The rule, with an example, is in docs/adr/0012-corrections.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from collector.sources.opensky.client import Flight
from domain.interests import Direction

FlightKey = tuple[str, datetime]
"""What a flight is recognised by at one airport and in one direction: icao24 and first_seen."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a flight and may be told otherwise later."""

    last_seen: datetime
    callsign: str
    other_airport: str


@dataclass(frozen=True, slots=True)
class Novelties:
    """What to do with an answer."""

    new: tuple[Flight, ...]
    """To be stored and told, in the order of their event times."""
    changed: tuple[Flight, ...]
    """To be stored in place of what is known, and not to be told: the count stays as it is."""


def newest_versions(flights: Iterable[Flight]) -> dict[FlightKey, Flight]:
    """Each flight once. Where an answer has two versions of one, the one that was seen longer is the newer."""
    newest: dict[FlightKey, Flight] = {}
    for flight in sorted(flights, key=lambda flight: (flight.last_seen, flight.callsign)):
        newest[flight.icao24, flight.first_seen] = flight
    return newest


def novelties(direction: Direction, flights: Mapping[FlightKey, Flight], known: Mapping[FlightKey, Known]) -> Novelties:
    """Compare an answer with what is stored, wherever in time that was counted."""
    new = [flight for key, flight in flights.items() if key not in known]
    new.sort(key=lambda flight: (flight.event_time(direction), flight.icao24, flight.first_seen))
    changed = [flight for key, flight in flights.items() if key in known and known_of(direction, flight) != known[key]]
    return Novelties(tuple(new), tuple(changed))


def known_of(direction: Direction, flight: Flight) -> Known:
    """What is stored of it."""
    return Known(flight.last_seen, flight.callsign, flight.other_airport(direction))
