"""One receiver of one's own: it hears what is above its horizon and within its range."""

from dataclasses import dataclass
from functools import cached_property
from math import cos, hypot, radians, sqrt
from typing import Final

from local.opensky.sky.aircraft import TrueState
from local.opensky.sky.chance import derive_seed
from local.opensky.sky.geometry import EARTH_RADIUS_M, Point, compute_distance

NAUTICAL_MILE_M: Final = 1_852.0
DEFAULT_RANGE_NM: Final = 150.0
LISTED_S: Final = 60
"""Seconds after its last message for which readsb lists an aircraft."""
_HORIZON_M: Final = 4_120.0
"""The radio horizon of an antenna 1 m high: 4.12 km times the square root of the height (ITU-R P.310, 4/3 earth)."""
_ANTENNA_M: Final = 12.0
_GROUND_RANGE_M: Final = 8_000.0
"""Buildings hide what is on the ground and farther away than this."""
_FAR_M: Final = 30_000.0
"""Beyond its reach: farther than an aircraft flies, and a climbing one makes its horizon wider, in a minute."""
_FAINT_SHARE: Final = 0.9
"""Beyond this share of the range, or of the horizon, some seconds of an aircraft are not heard."""


@dataclass(frozen=True)
class Receiver:
    """A receiver with an antenna on a roof."""

    position: Point
    range_nm: float = DEFAULT_RANGE_NM

    @cached_property
    def salt(self) -> int:
        return derive_seed("receiver", *self.position)

    @property
    def oldest_s(self) -> int:
        return LISTED_S

    @property
    def serial(self) -> int:
        """The number by which OpenSky knows the receiver."""
        return self.salt % 1_000_000_000

    def hears(self, state: TrueState) -> bool:
        """Return True if the aircraft is above the horizon and within the range; heights are those above an airport."""
        distance, reach = self._measure(state)
        return distance <= reach

    def is_faint(self, state: TrueState) -> bool:
        """Return True near the limits of what is heard."""
        distance, reach = self._measure(state)
        return distance > _FAINT_SHARE * reach

    def is_far(self, state: TrueState) -> bool:
        """Return True if the aircraft is so far out of reach that it was so a minute ago, too."""
        distance, reach = self._measure(state)
        return distance > reach + _FAR_M

    def _measure(self, state: TrueState) -> tuple[float, float]:
        """Return the distance of the aircraft, roughly if it is far, and the greatest at which it would be heard."""
        north = state.latitude - self.position.latitude
        east = (state.longitude - self.position.longitude) * cos(radians(self.position.latitude))
        rough = radians(hypot(north, east)) * EARTH_RADIUS_M
        limit = self.range_nm * NAUTICAL_MILE_M
        if rough > 1.5 * limit + _FAR_M:
            return rough, limit
        distance = compute_distance(self.position, Point(state.latitude, state.longitude))
        horizon = _HORIZON_M * (sqrt(_ANTENNA_M) + sqrt(max(0.0, state.height_m)))
        return distance, min(limit, horizon, _GROUND_RANGE_M if state.on_ground else limit)
