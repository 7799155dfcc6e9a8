"""Regions of the world in which a source is asked for positions, and which airports have room in them. Pure.

Edges of boxes are whole hundredths of a degree, so that our product of the sides and the source's cannot come out on
different sides of a price's limit.
"""

import math
from dataclasses import dataclass
from typing import Final

KM_PER_DEGREE: Final = 111.0
"""Kilometres of one degree of latitude, rounded down from 111.2: a room that is computed with it is not too small."""
KM_PER_NM: Final = 1.852
LARGEST_RADIUS_NM: Final = 250
"""The largest radius that `/v2/point` services take."""
EARTH_RADIUS_KM: Final = 6_371.0
_CENTS: Final = 100
_PRICE_LIMITS: Final = ((25, 1), (100, 2), (400, 3))
"""Square degrees, and the credits of an area up to that ("API credit usage" of OpenSky's REST documentation)."""
WORLD_PRICE: Final = 4
"""Credits for the whole world, and for a larger area than those."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A region between two parallels and two meridians, in hundredths of a degree; it does not cross ±180°."""

    south: int
    west: int
    north: int
    east: int

    def __post_init__(self) -> None:
        """Raise ValueError unless the box is one on the globe, with some area."""
        if not (-9_000 <= self.south < self.north <= 9_000 and -18_000 <= self.west < self.east <= 18_000):
            raise ValueError(f"{self} is no box on the globe")

    def contains(self, latitude: float, longitude: float) -> bool:
        """Return True if a position (degrees) is in the box or on its edge, else False; 180° and −180° are the same."""
        east = _normalize_longitude(longitude) * _CENTS
        is_between = self.west <= east <= self.east or (abs(east) == 18_000 and self.west <= -east <= self.east)
        return is_between and self.south <= latitude * _CENTS <= self.north

    def compute_area(self) -> float:
        """Return the product of the sides, in square degrees."""
        return (self.north - self.south) * (self.east - self.west) / _CENTS**2

    def compute_price(self) -> int:
        """Return the credits that the source charges for one question about the box."""
        area = (self.north - self.south) * (self.east - self.west)
        return next((price for limit, price in _PRICE_LIMITS if area <= limit * _CENTS**2), WORLD_PRICE)


@dataclass(frozen=True, slots=True)
class World:
    """The whole world as a region."""

    def contains(self, latitude: float, longitude: float) -> bool:
        """Return True: every position is in the world."""
        return True

    def compute_price(self) -> int:
        """Return the credits that the source charges for one question about the whole world."""
        return WORLD_PRICE


@dataclass(frozen=True, slots=True)
class OwnReceivers:
    """The region that the account's own receivers hear, wherever they are."""

    def compute_price(self) -> int:
        """Return 0: the source charges nothing for it."""
        return 0


@dataclass(frozen=True, slots=True, order=True)
class Circle:
    """A region around a point, as `/v2/point` services take it."""

    latitude: float
    longitude: float
    """Degrees, rounded to a hundredth."""
    radius_nm: int
    """Nautical miles, from 1 to 250."""

    def __post_init__(self) -> None:
        """Raise ValueError unless the circle is one on the globe, with a radius that services take."""
        if not (abs(self.latitude) <= 90 and abs(self.longitude) <= 180 and 1 <= self.radius_nm <= LARGEST_RADIUS_NM):
            raise ValueError(f"{self} is no circle that a service takes")

    def contains(self, latitude: float, longitude: float) -> bool:
        """Return True if a position (degrees) is in the circle."""
        return measure_distance_km(self.latitude, self.longitude, latitude, longitude) <= self.radius_nm * KM_PER_NM


WORLD: Final = World()
OWN_RECEIVERS: Final = OwnReceivers()
StatesRegion = Box | World | OwnReceivers
"""What OpenSky can be asked for."""


def measure_distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Return the great-circle distance of two positions (degrees), by the haversine formula."""
    phi, other_phi = math.radians(latitude), math.radians(other_latitude)
    half = (
        math.sin((other_phi - phi) / 2) ** 2
        + math.cos(phi) * math.cos(other_phi) * math.sin(math.radians(other_longitude - longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(half, 1.0)))


def _normalize_longitude(longitude: float) -> float:
    """Return a longitude from −180 to 180; −180 and 180 stay as they are."""
    return longitude if -180 <= longitude <= 180 else (longitude + 180) % 360 - 180


def find_midpoint(
    latitude: float, longitude: float, other_latitude: float, other_longitude: float
) -> tuple[float, float]:
    """Return the position halfway between two (degrees) on the great circle; of antipodes, the first one."""
    one, other = _to_vector(latitude, longitude), _to_vector(other_latitude, other_longitude)
    x, y, z = (a + b for a, b in zip(one, other, strict=True))
    if math.hypot(x, y, z) < 1e-9:
        return latitude, longitude
    return math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x))


def _to_vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    """Return a position as a vector of length 1 from the Earth's centre."""
    phi, lam = math.radians(latitude), math.radians(longitude)
    return math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)
