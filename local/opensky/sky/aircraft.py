"""What every aircraft and vehicle of the sky has in common: an identity, and a true state at each time."""

from typing import NamedTuple, Protocol


class TrueState(NamedTuple):
    """The true position and movement of an aircraft, before any error of a report."""

    latitude: float
    longitude: float
    altitude_m: float
    """Above the mean sea level."""
    height_m: float
    """Above the airport that it is nearest to."""
    on_ground: bool
    speed: float
    track: float
    vertical_rate: float
    floor_m: float
    """The height below which nobody hears aircraft there."""
    pressure_error_m: float
    """What a barometric altimeter reads too much."""


class Identity(NamedTuple):
    """The identity of an aircraft: its address, callsign and category, and the seed of its random features."""

    icao24: str
    callsign: str
    category: int
    """OpenSky's number of the kind of aircraft; 8: rotorcraft, 16 and 17: vehicles."""
    seed: int
    """The seed of everything that is by chance in its reports."""


class Aircraft(Protocol):
    """An aircraft, or a vehicle with a transponder, during one flight or one time of work."""

    identity: Identity

    def locate(self, time: float) -> TrueState | None:
        """Return its state at an instant; None while its transponder is off."""
        ...
