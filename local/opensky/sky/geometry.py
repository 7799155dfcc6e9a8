"""Paths over the ground: great circles and arcs, and the path from one runway's end to another's. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import asin, atan2, cos, degrees, hypot, radians, sin, sqrt
from typing import Final, NamedTuple, Protocol

EARTH_RADIUS_M: Final = 6_371_000.0
_ROUNDS: Final = 8
"""How often the tangents of two arcs are computed anew; for arcs more than a few radii apart three are enough."""
_NEARLY_WHOLE_CIRCLE_DEG: Final = 358.0
"""An arc that would be longer than this is left out: the aircraft is already on its course, up to this error."""
_STRAIGHT_DEG: Final = 3.0
"""A bend between two legs that is no larger than this counts as none."""


class Point(NamedTuple):
    """A place on the ground, in degrees."""

    latitude: float
    longitude: float


class Pose(NamedTuple):
    """A place on the ground and the direction of the movement there, in degrees."""

    latitude: float
    longitude: float
    track: float

    @property
    def point(self) -> Point:
        return Point(self.latitude, self.longitude)


def compute_distance(a: Point, b: Point) -> float:
    """Return the distance of two points in metres (haversine formula)."""
    north, south = radians(a.latitude), radians(b.latitude)
    half = sin((south - north) / 2) ** 2 + cos(north) * cos(south) * sin(radians(b.longitude - a.longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_M * asin(min(1.0, sqrt(half)))


def compute_bearing(a: Point, b: Point) -> float:
    """Return the direction in which the great circle from `a` to `b` begins, from 0 to below 360 degrees."""
    north, south, east = radians(a.latitude), radians(b.latitude), radians(b.longitude - a.longitude)
    y = sin(east) * cos(south)
    x = cos(north) * sin(south) - sin(north) * cos(south) * cos(east)
    return degrees(atan2(y, x)) % 360.0


def move_point(start: Point, bearing: float, distance: float) -> Point:
    """Return the point at a distance from `start` (negative: behind it) along the great circle with this bearing."""
    angle, course, north = distance / EARTH_RADIUS_M, radians(bearing), radians(start.latitude)
    latitude = asin(sin(north) * cos(angle) + cos(north) * sin(angle) * cos(course))
    east = atan2(sin(course) * sin(angle) * cos(north), cos(angle) - sin(north) * sin(latitude))
    return Point(degrees(latitude), (start.longitude + degrees(east) + 180.0) % 360.0 - 180.0)


def compute_turn(from_track: float, to_track: float) -> float:
    """Return the shortest turn from one direction to another, from -180 to below 180; positive is to the right."""
    return (to_track - from_track + 180.0) % 360.0 - 180.0


class Leg(Protocol):
    """A piece of a path."""

    length: float

    def locate(self, distance: float) -> Pose:
        """Return the pose at a distance from the leg's begin."""
        ...


class StraightLeg:
    """A piece of a great circle between two points."""

    __slots__ = ("_across", "_start", "length")

    def __init__(self, start: Point, end: Point) -> None:
        self.length = compute_distance(start, end)
        a, b = _compute_unit_vector(start), _compute_unit_vector(end)
        angle = self.length / EARTH_RADIUS_M
        along, size = cos(angle), sin(angle) or 1.0
        self._start = a
        self._across = tuple((q - p * along) / size for p, q in zip(a, b, strict=True))

    def locate(self, distance: float) -> Pose:
        """Return the pose at a distance from the begin; beyond both ends the great circle goes on."""
        angle = distance / EARTH_RADIUS_M
        c, s = cos(angle), sin(angle)
        (ax, ay, az), (bx, by, bz) = self._start, self._across
        x, y, z = ax * c + bx * s, ay * c + by * s, az * c + bz * s
        dx, dy, dz = bx * c - ax * s, by * c - ay * s, bz * c - az * s
        level = hypot(x, y) or 1e-12
        east = (dy * x - dx * y) / level
        north = dz * level - z * (dx * x + dy * y) / level
        return Pose(degrees(atan2(z, level)), degrees(atan2(y, x)), degrees(atan2(east, north)) % 360.0)


class ArcLeg:
    """A piece of a circle around a centre, flown to the right or to the left."""

    __slots__ = ("_begin", "_centre", "_east_scale", "_radius", "_sign", "length")

    def __init__(self, centre: Point, radius: float, begin: float, turn: float) -> None:
        """`begin`: the bearing from the centre to the first point; `turn`: degrees, positive to the right."""
        self._centre, self._radius, self._begin = centre, radius, begin
        self._sign = 1.0 if turn >= 0 else -1.0
        self._east_scale = cos(radians(centre.latitude))
        self.length = radius * radians(abs(turn))

    def locate(self, distance: float) -> Pose:
        """Return the pose at a distance from the begin."""
        bearing = self._begin + self._sign * degrees(distance / self._radius)
        point = move_on_plane(self._centre, bearing, self._radius, self._east_scale)
        return Pose(point.latitude, point.longitude, (bearing + self._sign * 90.0) % 360.0)


def move_on_plane(start: Point, bearing: float, distance: float, east_scale: float) -> Point:
    """Return the point at some kilometres from `start`, as if the earth were flat; `east_scale` is cos(latitude)."""
    course = radians(bearing)
    north, east = distance * cos(course) / EARTH_RADIUS_M, distance * sin(course) / EARTH_RADIUS_M
    return Point(start.latitude + degrees(north), start.longitude + degrees(east) / east_scale)


class Path:
    """A path of legs, each of which begins where the one before ends."""

    __slots__ = ("_begins", "_legs", "length")

    def __init__(self, legs: Sequence[Leg]) -> None:
        self._legs = [leg for leg in legs if leg.length > 0.01] or list(legs[:1])
        *self._begins, self.length = accumulate((leg.length for leg in self._legs), initial=0.0)

    def locate(self, distance: float) -> Pose:
        """Return the pose at a distance from the begin; before it and after the end the outer legs go on."""
        at = max(0, bisect_right(self._begins, distance) - 1)
        return self._legs[at].locate(distance - self._begins[at])


def plan_turns(start: Pose, end: Pose, start_radius: float, end_radius: float) -> list[Leg]:
    """Return the legs from one pose to another: an arc, a great circle and an arc.

    Both turns are the shorter way round, unless the poses are too near for that: then they are those of the shortest
    path without a bend (of four paths with turns to the right or left two always exist: Dubins, 1957).
    """
    course_out = compute_bearing(start.point, end.point)
    course_in = (compute_bearing(end.point, start.point) + 180.0) % 360.0
    sign_out = 1.0 if compute_turn(start.track, course_out) >= 0 else -1.0
    sign_in = 1.0 if compute_turn(course_in, end.track) >= 0 else -1.0
    legs, bend = _plan_signed_turns(start, end, start_radius, end_radius, (sign_out, sign_in))
    if bend <= _STRAIGHT_DEG:
        return legs
    all_signs = ((1.0, 1.0), (-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0))
    plans = [_plan_signed_turns(start, end, start_radius, end_radius, signs) for signs in all_signs]
    best, _ = min(plans, key=lambda plan: (max(plan[1], _STRAIGHT_DEG), sum(leg.length for leg in plan[0])))
    return best


def _plan_signed_turns(
    start: Pose, end: Pose, start_radius: float, end_radius: float, signs: tuple[float, float]
) -> tuple[list[Leg], float]:
    """Return the legs with turns in these directions, and the greatest bend between two of them, in degrees.

    `signs`: of the first and the second turn; 1 is to the right, -1 to the left. Without such a path there is a bend.
    """
    sign_out, sign_in = signs
    course_out = compute_bearing(start.point, end.point)
    course_in = (compute_bearing(end.point, start.point) + 180.0) % 360.0
    out_centre = _find_centre(start, sign_out, start_radius)
    in_centre = _find_centre(end, sign_in, end_radius)
    for _ in range(_ROUNDS):
        leave = _move_around(out_centre, course_out - sign_out * 90.0, start_radius)
        join = _move_around(in_centre, course_in - sign_in * 90.0, end_radius)
        course_out = compute_bearing(leave, join)
        course_in = (compute_bearing(join, leave) + 180.0) % 360.0
    turn_out = ((course_out - start.track) * sign_out) % 360.0
    turn_in = ((end.track - course_in) * sign_in) % 360.0
    legs: list[Leg] = []
    leave, join = start.point, end.point
    if turn_out < _NEARLY_WHOLE_CIRCLE_DEG:
        legs.append(ArcLeg(out_centre, start_radius, start.track - sign_out * 90.0, sign_out * turn_out))
        leave = legs[0].locate(legs[0].length).point
    last: Leg | None = None
    if turn_in < _NEARLY_WHOLE_CIRCLE_DEG:
        last = ArcLeg(in_centre, end_radius, course_in - sign_in * 90.0, sign_in * turn_in)
        join = last.locate(0.0).point
    legs += [StraightLeg(leave, join), *([] if last is None else [last])]
    tracks = [start.track, *(leg.locate(at).track for leg in legs for at in (0.0, leg.length)), end.track]
    return legs, max(abs(compute_turn(a, b)) for a, b in zip(tracks[::2], tracks[1::2], strict=True))


def plan_circuit(start: Pose, ahead: float, back: float, radius: float, sign: float) -> list[Leg]:
    """Return the legs of a circuit: straight on, a half circle, back abeam, and a half circle to the first direction.

    It ends on the line of its begin, `back` metres behind it. `ahead`: metres straight on; `sign`: 1 for turns to the
    right, -1 for turns to the left.
    """
    first = _move(start, ahead)
    out_centre = _find_centre(first, sign, radius)
    out = ArcLeg(out_centre, radius, first.track - sign * 90.0, sign * 180.0)
    abeam = out.locate(out.length)
    last = _move(start, -back)
    in_centre = _find_centre(last, sign, radius)
    home = ArcLeg(in_centre, radius, last.track + sign * 90.0, sign * 180.0)
    return [StraightLeg(start.point, first.point), out, StraightLeg(abeam.point, home.locate(0.0).point), home]


def plan_circle(start: Pose, radius: float) -> ArcLeg:
    """Return a whole circle to the right that begins and ends at the pose."""
    return ArcLeg(_find_centre(start, 1.0, radius), radius, start.track - 90.0, 360.0)


def _move(pose: Pose, distance: float) -> Pose:
    """Return the pose moved along its own direction; some kilometres leave the direction as it is."""
    return Pose(*move_point(pose.point, pose.track, distance), pose.track)


def _find_centre(pose: Pose, sign: float, radius: float) -> Point:
    """Return the centre of the circle that touches the pose, to its right (`sign` 1) or its left (-1).

    It is exactly where an ArcLeg around it comes through the pose's point.
    """
    bearing = pose.track + sign * 90.0
    centre = pose.point
    for _ in range(3):
        scale = cos(radians(centre.latitude))
        found = move_on_plane(centre, bearing + 180.0, radius, scale)
        centre = Point(
            centre.latitude + pose.latitude - found.latitude, centre.longitude + pose.longitude - found.longitude
        )
    return centre


def _move_around(centre: Point, bearing: float, radius: float) -> Point:
    return move_on_plane(centre, bearing, radius, cos(radians(centre.latitude)))


def _compute_unit_vector(point: Point) -> tuple[float, float, float]:
    """Return the point on the sphere of radius 1."""
    latitude, longitude = radians(point.latitude), radians(point.longitude)
    return cos(latitude) * cos(longitude), cos(latitude) * sin(longitude), sin(latitude)
