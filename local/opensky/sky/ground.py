"""The movement of a flight on the ground: from its stand to the runway and the take-off roll, and back after landing.

The transponder is on for at most five minutes on the ground at each end: the timetable has aircraft that take off again
ten minutes after they landed, and nobody can be in two places.
"""

from bisect import bisect_right
from itertools import pairwise
from typing import Final

from local.opensky.sky.airfields import Airfield, RunwayEnd
from local.opensky.sky.chance import draw
from local.opensky.sky.geometry import Point, Pose, StraightLeg, compute_bearing, compute_distance, move_point
from local.opensky.sky.profile import LIFT_OFF_SPEED, TOUCH_DOWN_SPEED

ON_GROUND_S: Final = 290.0
"""Seconds on the ground with the transponder on, before lift-off and after touch-down."""
TOUCH_DOWN_DISTANCE_M: Final = 350.0
"""From the threshold to the touch-down point, at most."""
_ROLL_SHARE: Final = 0.55
"""Take-off and landing rolls use at most this share of a runway."""
_TAKE_OFF_ACCELERATION: Final = 2.2
_BRAKING: Final = 1.9
_EXIT_SPEED: Final = 12.0
_LINE_UP_S: Final = 25.0
_SLOWEST_TAXI: Final = 6.0
_FASTEST_TAXI: Final = 13.0
_HOLDING_POINT_M: Final = 130.0
"""From the middle of the runway to the point where aircraft wait beside it."""

GroundState = tuple[Pose, float]
"""Where the aircraft is, and its speed."""


class TakeOffRun:
    """The way from a stand to the point of lift-off at second 0; seconds before it are negative."""

    __slots__ = ("_line", "_roll_m", "_roll_s", "_taxi", "lift_off")

    def __init__(self, airfield: Airfield, end: RunwayEnd, seed: int) -> None:
        needed = LIFT_OFF_SPEED**2 / (2 * _TAKE_OFF_ACCELERATION)
        self._roll_m = min(needed, _ROLL_SHARE * end.length)
        self._roll_s = 2 * self._roll_m / LIFT_OFF_SPEED
        self._line = StraightLeg(end.threshold, end.far_end)
        self.lift_off = self._line.locate(self._roll_m)
        waiting = move_point(end.threshold, end.heading + 90.0, _HOLDING_POINT_M)
        rolls_at = -self._roll_s - _LINE_UP_S
        self._taxi = _Taxi([find_stand(airfield, seed), waiting, end.threshold], -ON_GROUND_S, rolls_at)

    def locate(self, second: float) -> GroundState | None:
        """Return the state at a second up to 0; None before the transponder is switched on."""
        if second < -ON_GROUND_S:
            return None
        if second >= -self._roll_s:
            rolled = second + self._roll_s
            acceleration = LIFT_OFF_SPEED / self._roll_s
            return self._line.locate(acceleration * rolled * rolled / 2), acceleration * rolled
        pose, speed = self._taxi.locate(second)
        return pose, speed


class LandingRun:
    """The way from the touch-down point at second 0 to a stand."""

    __slots__ = ("_braking", "_line", "_roll_s", "_taxi", "_touched", "touch_down")

    def __init__(self, airfield: Airfield, end: RunwayEnd, seed: int) -> None:
        self._touched = min(TOUCH_DOWN_DISTANCE_M, 0.2 * end.length)
        change = TOUCH_DOWN_SPEED**2 - _EXIT_SPEED**2
        roll_m = min(change / (2 * _BRAKING), _ROLL_SHARE * end.length)
        self._braking = change / (2 * roll_m)
        self._roll_s = (TOUCH_DOWN_SPEED - _EXIT_SPEED) / self._braking
        self._line = StraightLeg(end.threshold, end.far_end)
        self.touch_down = self._line.locate(self._touched)
        left = self._line.locate(self._touched + roll_m).point
        clear = move_point(move_point(left, end.heading, 100.0), end.heading - 90.0, _HOLDING_POINT_M)
        self._taxi = _Taxi([left, clear, find_stand(airfield, seed)], self._roll_s, ON_GROUND_S - 30.0)

    def locate(self, second: float) -> GroundState | None:
        """Return the state at a second from 0 on; None after the transponder is switched off."""
        if second > ON_GROUND_S:
            return None
        if second <= self._roll_s:
            rolled = TOUCH_DOWN_SPEED * second - self._braking * second * second / 2
            return self._line.locate(self._touched + rolled), TOUCH_DOWN_SPEED - self._braking * second
        return self._taxi.locate(second)


def find_stand(airfield: Airfield, seed: int) -> Point:
    """Return a stand by chance, some hundred metres from the middle of the airport."""
    return move_point(airfield.centre, 360.0 * draw(seed, 2), 150.0 + 350.0 * draw(seed, 3))


class _Taxi:
    """A taxi along points at a constant speed between two instants, in seconds from lift-off or touch-down.

    The speed has an upper bound, so the taxi may take longer than the time that there is. Before a take-off it then
    begins earlier, when the transponder is off; after a landing the transponder is switched off before it ends.
    """

    __slots__ = ("_begin", "_end", "_lengths", "_points", "_speed")

    def __init__(self, points: list[Point], begin: float, end: float) -> None:
        self._points = points
        self._lengths = [0.0]
        for a, b in pairwise(points):
            self._lengths.append(self._lengths[-1] + compute_distance(a, b))
        needed = self._lengths[-1] / max(1.0, end - begin)
        self._speed = min(max(needed, _SLOWEST_TAXI), _FASTEST_TAXI)
        taken = self._lengths[-1] / self._speed
        to_runway = end <= 0.0
        self._begin, self._end = (end - taken, end) if to_runway else (begin, begin + taken)

    def locate(self, second: float) -> GroundState:
        """Return the state at a second; before the begin and after the end the aircraft stands still."""
        place = min(max(0.0, second - self._begin) * self._speed, self._lengths[-1])
        at = min(max(0, bisect_right(self._lengths, place) - 1), len(self._points) - 2)
        a, b = self._points[at], self._points[at + 1]
        share = (place - self._lengths[at]) / max(0.01, self._lengths[at + 1] - self._lengths[at])
        latitude = a.latitude + share * (b.latitude - a.latitude)
        longitude = a.longitude + share * (b.longitude - a.longitude)
        moving = self._begin <= second < self._end
        return Pose(latitude, longitude, compute_bearing(a, b)), self._speed if moving else 0.0
