"""The true movements of the sky, and which of them a listener can hear; independent of any detector."""

from typing import Literal, NamedTuple

from local.opensky.sky.flight_track import FlightTrack
from local.opensky.sky.reception import NETWORK, Listener, find_state_of_position
from local.opensky.sky.sky import Sky

Direction = Literal["departure", "arrival"]

_NEAR_S = 600
"""Seconds after lift-off, or before touch-down, in which a position near the ground is looked for."""
_GROUND_S = 290


class TrueMovement(NamedTuple):
    """A take-off or a landing that the sky contains."""

    airport: str
    direction: Direction
    icao24: str
    callsign: str
    time: int
    """Unix seconds of lift-off or touch-down."""
    lowest_heard_m: float | None
    """The least height above the airport at which a position in the air is heard; None: none within ten minutes."""
    heard_on_ground: bool
    """True if a position on the ground is heard, too."""
    went_around: bool
    """True for an arrival that gave up its first approach."""


def list_movements(sky: Sky, begin: int, end: int, listener: Listener = NETWORK) -> list[TrueMovement]:
    """Return the movements with a time in [begin, end), ordered by time, airport and address."""
    found = []
    for track in sky.list_flights(begin, end):
        flight = track.flight
        if flight.departure_airport is not None and track.takes_off and begin <= flight.first_seen < end:
            found.append(_describe(sky, track, "departure", listener))
        if flight.arrival_airport is not None and track.lands and begin <= flight.last_seen < end:
            found.append(_describe(sky, track, "arrival", listener))
    return sorted(found, key=lambda each: (each.time, each.airport, each.icao24))


def _describe(sky: Sky, track: FlightTrack, direction: Direction, listener: Listener) -> TrueMovement:
    """Return a movement of a flight with what is heard of it."""
    flight = track.flight
    departs = direction == "departure"
    airport = flight.departure_airport if departs else flight.arrival_airport
    assert airport is not None  # noqa: S101 - for the type checker
    time = flight.first_seen if departs else flight.last_seen
    seconds = range(time - _GROUND_S, time + _NEAR_S) if departs else range(time - _NEAR_S, time + _GROUND_S)
    lowest: float | None = None
    on_ground = False
    for second in seconds:
        state = find_state_of_position(track, listener, second, sky.settings)
        if state is None:
            continue
        if state.on_ground:
            on_ground = True
        elif lowest is None or state.height_m < lowest:
            lowest = state.height_m
    around = not departs and track.goes_around
    return TrueMovement(airport, direction, flight.icao24, flight.callsign, time, lowest, on_ground, around)
