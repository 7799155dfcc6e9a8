"""How high and how fast an aircraft flies along its path, and at which second it is where. Pure.

Along a path of known length, from lift-off to touch-down in a known time, speed and height are limited by knots at both
ends: so far behind the lift-off, so far before the touch-down. Between the knots the square of the speed is linear,
which is a constant acceleration. The speed in between follows from the time that the flight has.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt
from typing import Final, NamedTuple

from local.opensky.sky.geometry import ArcLeg, Path, Pose, plan_circle

LIFT_OFF_SPEED: Final = 77.0
TOUCH_DOWN_SPEED: Final = 68.0
GLIDE_SLOPE: Final = 0.0524
"""Three degrees, the usual descent on final."""
SLOWEST_CRUISE: Final = 150.0
FASTEST_CRUISE: Final = 280.0
_SLOWEST_SCALE: Final = 0.9
"""All speeds of a flight that has some time to spare are reduced by at most this factor."""
_HOLD_TURN_S: Final = 240.0
"""Seconds for one circle in a hold."""
_ROUNDS: Final = 14
_PIECES: Final = 24
"""A path is cut in so many pieces at least, between which acceleration is constant."""

Knots = Sequence[tuple[float, float]]
"""Places (metres, ascending) with a value at each; between them it is linear, and beyond them it stays."""

CLIMB_SPEEDS: Final[Knots] = ((0, 77), (3_000, 84), (12_000, 110), (25_000, 130), (60_000, 190), (120_000, 300))
CLIMB_HEIGHTS: Final[Knots] = ((0, 0), (3_300, 460), (25_000, 2_800), (100_000, 6_400), (230_000, 12_500))
_FINAL_SPEEDS: Final[Knots] = ((0, 68), (6_000, 72), (12_000, 88))
_DESCENT_SPEEDS: Final[Knots] = ((22_000, 108), (40_000, 125), (65_000, 165), (140_000, 300))
_DESCENT_HEIGHTS: Final[Knots] = ((19_000, 995), (63_000, 3_000), (255_000, 12_500))


class Kinematics(NamedTuple):
    """The place of an aircraft along its path, and its movement there."""

    pose: Pose
    height_m: float
    """Above the mean sea level."""
    speed: float
    vertical_rate: float
    share: float
    """The share of the path that lies behind it."""


@dataclass(frozen=True, slots=True)
class GoAround:
    """A go-around: an approach given up at a low height, and a circuit to a new final."""

    low_distance: float
    """Metres before the touch-down point at which the first approach ends."""
    circuit_length: float
    final_length: float


class ImpossibleFlightError(Exception):
    """No aircraft can fly this path in this time."""


def interpolate(knots: Knots, place: float) -> tuple[float, float]:
    """Return the value at a place, by straight lines between the knots, and the slope there.

    Before the first knot and after the last one the value is constant.
    """
    if place <= knots[0][0]:
        return knots[0][1], 0.0
    if place >= knots[-1][0]:
        return knots[-1][1], 0.0
    at = bisect_right(knots, (place, float("inf")))
    (x0, y0), (x1, y1) = knots[at - 1], knots[at]
    slope = (y1 - y0) / (x1 - x0)
    return y0 + slope * (place - x0), slope


def list_approach_knots(go_around: GoAround | None) -> tuple[Knots, Knots]:
    """Return the knots of speed and of height by the distance to go, with the circuit of a go-around."""
    if go_around is None:
        return (*_FINAL_SPEEDS, *_DESCENT_SPEEDS), ((0.0, 0.0), *_DESCENT_HEIGHTS)
    final, low = go_around.final_length, go_around.low_distance
    circuit = final + go_around.circuit_length  # the distance to go where the first approach ends
    moved = circuit - low
    speeds = [(0.0, 68.0), (6_000.0, 72.0), (final, 95.0), (circuit - 5_000.0, 95.0), (circuit, 72.0)]
    speeds += [(d + moved, v) for d, v in (*_FINAL_SPEEDS, *_DESCENT_SPEEDS) if d > low + 100.0]
    heights = [(0.0, 0.0), (final, final * GLIDE_SLOPE), (circuit - 6_500.0, final * GLIDE_SLOPE)]
    heights += [(circuit, low * GLIDE_SLOPE), *((d + moved, h) for d, h in _DESCENT_HEIGHTS)]
    return speeds, heights


class FlightProfile:
    """The movement along a path between lift-off (second 0) and touch-down (second `duration`)."""

    __slots__ = ("_accelerations", "_approach", "_cruise_m", "_elevations", "_hold", "_hold_turn_s", "_path", "_places",
                 "_speeds", "_times", "duration")  # fmt: skip

    def __init__(
        self,
        path: Path,
        duration: float,
        cruise_m: float,
        elevations: tuple[float, float],
        go_around: GoAround | None = None,
    ) -> None:
        """Find the cruising speed with which the path takes `duration` seconds; insert a hold if there is more time.

        `cruise_m`: the greatest height; `elevations`: those of both airports. Raises ImpossibleFlightError.
        """
        self._path, self._cruise_m, self._elevations, self.duration = path, cruise_m, elevations, duration
        approach_speeds, self._approach = list_approach_knots(go_around)
        places = _list_places(path.length, approach_speeds)
        limits = [
            min(interpolate(CLIMB_SPEEDS, place)[0], interpolate(approach_speeds, path.length - place)[0])
            for place in places
        ]
        cruise, hold_s, scale = _choose_speed(places, limits, duration)
        self._places = places
        self._speeds = [min(limit, cruise) * scale for limit in limits]
        self._times, self._accelerations = [0.0], []
        for at in range(len(places) - 1):
            v0, v1 = self._speeds[at : at + 2]
            self._times.append(self._times[-1] + 2 * (places[at + 1] - places[at]) / (v0 + v1))
            self._accelerations.append((v1 * v1 - v0 * v0) / (2 * (places[at + 1] - places[at])))
        self._accelerations.append(0.0)
        self._hold: tuple[float, float, ArcLeg] | None = None
        self._hold_turn_s = 0.0
        if hold_s:
            self._insert_hold(hold_s, min(45_000.0, 0.45 * path.length) + (approach_speeds[-1][0] - 140_000.0))

    def _insert_hold(self, hold_s: float, distance_to_go: float) -> None:
        """Insert circles of `hold_s` seconds in all where the path has so many metres to go."""
        place = max(self._path.length - distance_to_go, 0.3 * self._path.length)
        at = max(0, bisect_right(self._places, place) - 1)
        place = self._places[at]
        circles = max(1, round(hold_s / _HOLD_TURN_S))
        self._hold_turn_s = hold_s / circles
        radius = self._speeds[at] * self._hold_turn_s / (2 * pi)
        self._hold = (self._times[at], hold_s, plan_circle(self._path.locate(place), radius))

    def locate(self, second: float) -> Kinematics:
        """Return where the aircraft is, from second 0 to `duration`."""
        if self._hold is not None:
            begin, length, circle = self._hold
            if begin < second < begin + length:
                inside = self._locate_freely(begin)
                turned = ((second - begin) % self._hold_turn_s) / self._hold_turn_s
                return inside._replace(pose=circle.locate(turned * circle.length), vertical_rate=0.0)
            if second >= begin + length:
                second -= length
        return self._locate_freely(second)

    def _locate_freely(self, second: float) -> Kinematics:
        """Return where the aircraft is at a second that does not count those in the hold."""
        at = min(max(0, bisect_right(self._times, second) - 1), len(self._times) - 2)
        elapsed, acceleration = second - self._times[at], self._accelerations[at]
        speed = self._speeds[at] + acceleration * elapsed
        place = self._places[at] + (self._speeds[at] + speed) / 2 * elapsed
        up, up_slope = interpolate(CLIMB_HEIGHTS, place)
        down, down_slope = interpolate(self._approach, self._path.length - place)
        height, slope = min(
            (up + self._elevations[0], up_slope), (down + self._elevations[1], -down_slope), (self._cruise_m, 0.0)
        )
        return Kinematics(self._path.locate(place), height, speed, slope * speed, place / self._path.length)


def _list_places(length: float, approach_speeds: Knots) -> list[float]:
    """Return the places between which acceleration is constant: all knots, and even pieces of the path."""
    found = {place for place, _ in CLIMB_SPEEDS} | {length - distance for distance, _ in approach_speeds}
    found |= {length * piece / _PIECES for piece in range(_PIECES + 1)}
    places = sorted(place for place in found if 0.0 <= place <= length)
    kept = [0.0]
    for place in places:
        if place - kept[-1] > 1.0:
            kept.append(place)
    kept[-1] = length
    return kept


def _choose_speed(places: Sequence[float], limits: Sequence[float], duration: float) -> tuple[float, float, float]:
    """Return the cruising speed, the seconds in a hold, and the factor of all speeds that fill the time exactly.

    Raises ImpossibleFlightError if the time is too short.
    """

    def measure(cruise: float) -> float:
        """Return the seconds that the path takes at a cruising speed."""
        speeds = [min(limit, cruise) for limit in limits]
        return sum(2 * (b - a) / (v + w) for a, b, v, w in zip(places, places[1:], speeds, speeds[1:], strict=False))

    if measure(FASTEST_CRUISE) > duration:
        raise ImpossibleFlightError
    slowest = measure(SLOWEST_CRUISE)
    if slowest < duration:
        if slowest >= _SLOWEST_SCALE * duration:
            return SLOWEST_CRUISE, 0.0, slowest / duration
        cruise = 215.0
        return cruise, duration - measure(cruise), 1.0
    low, high = SLOWEST_CRUISE, FASTEST_CRUISE
    for _ in range(_ROUNDS):
        middle = sqrt(low * high)
        low, high = (middle, high) if measure(middle) > duration else (low, middle)
    return high, 0.0, measure(high) / duration
