"""The form in which every source of positions gives what it hears: polls of state vectors, in SI units.

A state vector is OpenSky's word for all that is known of one aircraft at one time. Times are Unix seconds and not
datetimes: a poll of the whole world has 12,000 aircraft.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from collector.sources.flight import UNASSIGNED_ADDRESSES

MAX_CLOCK_LEAD_S: Final = 5.0
"""A time in a poll may be this much later than the poll itself, and then counts as the poll's: clocks are rounded."""

_LOWEST_ALTITUDE_M: Final = -1_000.0
_HIGHEST_ALTITUDE_M: Final = 40_000.0
"""Above what an aircraft's altimeter can report (126,700 ft), and balloons reach."""
_FASTEST_M_S: Final = 1_100.0
_STEEPEST_M_S: Final = 200.0
_FIRST_SECOND: Final = 946_684_800.0
"""The beginning of the year 2000: before ADS-B."""
_LAST_SECOND: Final = 4_102_444_800.0
"""The beginning of the year 2100."""


class PositionSource(StrEnum):
    """The technique by which the ground learned an aircraft's position."""

    ADS_B = "ads-b"
    """Sent by the aircraft itself, also where another station sent it on (ADS-R)."""
    MLAT = "mlat"
    """Computed from the times at which several receivers heard the aircraft."""
    RADAR = "radar"
    """From a radar of the air traffic control, sent on as TIS-B or ASTERIX."""
    FLARM = "flarm"
    OTHER = "other"


class Category(IntEnum):
    """Emitter categories that the movement detector distinguishes, with OpenSky's numbers; OpenSky has more of them."""

    ROTORCRAFT = 8
    GLIDER = 9
    LIGHTER_THAN_AIR = 10
    PARACHUTIST = 11
    EMERGENCY_VEHICLE = 16
    SERVICE_VEHICLE = 17
    POINT_OBSTACLE = 18
    CLUSTER_OBSTACLE = 19
    LINE_OBSTACLE = 20


class Position(NamedTuple):
    """A position of an aircraft (degrees, WGS 84) and its own time: a poll may repeat a position of a minute ago."""

    time: float
    """Unix seconds at which the aircraft sent the position."""
    latitude: float
    longitude: float


class StateVector(NamedTuple):
    """The state of one aircraft as a source knows it; None is what it does not know.

    Only `icao24` and `contact_time` are always there. Altitude, velocity and the rest may be newer than the position.
    """

    icao24: str
    """The ICAO address, six lower-case hexadecimal digits."""
    callsign: str
    """Without padding; empty if unknown."""
    contact_time: float
    """Unix seconds of the last message from the aircraft."""
    position: Position | None
    on_ground: bool | None
    """True if the aircraft says that it is on the ground: it is often wrong or late there."""
    baro_altitude_m: float | None
    """Barometric altitude above the standard pressure of 1013.25 hPa: near the ground off by up to 200 m."""
    geo_altitude_m: float | None
    """Altitude above the ellipsoid of WGS 84, not above the sea: the two differ by −105 to +85 m."""
    velocity_m_s: float | None
    """Speed over ground."""
    track_deg: float | None
    """Direction over ground, clockwise from true north, from 0 to below 360."""
    vertical_rate_m_s: float | None
    category: int | None
    """OpenSky's number of the kind of aircraft (see `Category`); None if unknown."""
    source: PositionSource


@dataclass(frozen=True, slots=True)
class Poll:
    """One answer of a source: the state vectors of all aircraft that it heard, and when it was asked."""

    time: float
    """Unix seconds, on the source's clock."""
    states: Sequence[StateVector]
    """In the answer's order; the parsers do not look whether an aircraft is there twice."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """How many fields, or whole rows, were dropped as unreadable or absurd, by the field's name ("row" for rows)."""


class UnreadablePollError(ValueError):
    """The text or the value is no poll of state vectors; the text says in one sentence what it is instead."""


class FieldReader:
    """Reader of the fields of a row that drops what cannot be true, and counts it by the field's name.

    Every method returns None, `read_callsign` the empty text, for a value that is missing (None) or dropped.
    """

    def __init__(self) -> None:
        self.dropped: Counter[str] = Counter()

    def read_number(self, name: str, value: object, low: float, high: float) -> float | None:
        """Return a number from `low` to `high`; None for anything else, also NaN, infinity, texts and booleans."""
        if value is None:
            return None
        if (type(value) is float or type(value) is int) and low <= value <= high:
            return float(value)
        self.dropped[name] += 1
        return None

    def read_altitude(self, name: str, value: object, unit_m: float = 1.0) -> float | None:
        """Return in metres an altitude that is given in units of `unit_m` metres; None: see the class."""
        found = self.read_number(name, value, _LOWEST_ALTITUDE_M / unit_m, _HIGHEST_ALTITUDE_M / unit_m)
        return None if found is None else found * unit_m

    def read_velocity(self, value: object, unit_m_s: float = 1.0) -> float | None:
        """Return in m/s a speed over ground that is given in units of `unit_m_s` m/s; None: see the class."""
        found = self.read_number("velocity", value, 0.0, _FASTEST_M_S / unit_m_s)
        return None if found is None else found * unit_m_s

    def read_vertical_rate(self, value: object, unit_m_s: float = 1.0) -> float | None:
        """Return in m/s a vertical rate that is given in units of `unit_m_s` m/s; None: see the class."""
        found = self.read_number("vertical_rate", value, -_STEEPEST_M_S / unit_m_s, _STEEPEST_M_S / unit_m_s)
        return None if found is None else found * unit_m_s

    def read_track(self, value: object) -> float | None:
        """Return the direction of a movement in degrees from 0 to below 360 (360 becomes 0); None: see the class."""
        found = self.read_number("track", value, 0.0, 360.0)
        return None if found is None else found % 360.0

    def read_position(self, time: float | None, latitude: object, longitude: object) -> Position | None:
        """Return a position, or None without one of its three parts.

        Exactly 0° N 0° E is dropped, too: transponders and programs that know no position send it.
        """
        north = self.read_number("position", latitude, -90.0, 90.0)
        east = self.read_number("position", longitude, -180.0, 180.0)
        if time is None or north is None or east is None:
            return None
        if north == 0.0 and east == 0.0:
            self.dropped["position"] += 1
            return None
        return Position(time, north, east)

    def read_callsign(self, value: object) -> str:
        """Return a callsign without padding (spaces, NUL, or the `@` of unset characters); empty if dropped."""
        if value is None:
            return ""
        if isinstance(value, str):
            callsign = value.strip(" \t\0@")
            if len(callsign) <= 8 and callsign.isascii() and callsign.isprintable():
                return callsign
        self.dropped["callsign"] += 1
        return ""

    def read_icao24(self, value: object) -> str | None:
        """Return an ICAO address in lower case; None for any other identity (`~` first: no ICAO address)."""
        if isinstance(value, str):
            address = value.strip(" ").lower()
            if len(address) == 6 and not address.strip("0123456789abcdef") and address not in UNASSIGNED_ADDRESSES:
                return address
        self.dropped["icao24"] += 1
        return None


def read_poll_time(value: object, name: str) -> float:
    """Return the time of a poll in Unix seconds. Raises UnreadablePollError if it is none; `name` is the member's."""
    if (type(value) is float or type(value) is int) and _FIRST_SECOND <= value <= _LAST_SECOND:
        return float(value)
    raise UnreadablePollError(f'its member "{name}" must be Unix seconds of the years 2000 to 2099')


def bound_time(value: float | None, poll_time: float, dropped: Counter[str], name: str) -> float | None:
    """Return a time within a poll; one that is up to MAX_CLOCK_LEAD_S later than the poll becomes the poll's time.

    Returns None for None, and for a time that is later still or infinite, which is counted in `dropped` under `name`.
    """
    if value is None or value <= poll_time:
        return value
    if value - poll_time <= MAX_CLOCK_LEAD_S and math.isfinite(value):
        return poll_time
    dropped[name] += 1
    return None
