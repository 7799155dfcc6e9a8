"""Is an aircraft on final to a runway, and did it climb out from one? Geometry of single fixes. Pure.

Both return the airfield that fits best, and none if two fit about as well: better no movement than one at the wrong
airport. Heights are barometric, and so wrong by up to 150 m (500 ft) in either direction, which all bounds allow.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from collector.live.airfields import Airfield, RunwayEnd
from collector.live.tracks import Approach, Fix

BAROMETER_SLACK_M: Final = 200.0
"""What the height of an aircraft above an airfield may be wrong by: 150 m of pressure, and rounding."""

_GLIDE: Final = math.tan(math.radians(3.0))
"""The slope of nearly all approaches."""
_FAR_FINAL_M: Final = 18_000.0
_HIGHEST_FINAL_M: Final = 1_250.0
_FASTEST_FINAL_M_S: Final = 125.0
_SLOWEST_FINAL_M_S: Final = 18.0
_FAR_CLIMB_M: Final = 5_000.0
"""How far behind a runway's end an aircraft may be when it is first heard, beside what it flew before."""
_CLIMB_M_S: Final = 90.0
"""The speed at which it flew then, at most."""
_SLOWEST_CLIMB_M_S: Final = 25.0
_POWERED_CLIMB_M_S: Final = 3.5
_POWERED_M_S: Final = 60.0
_STRAIGHT_M: Final = 4_000.0
"""For so far behind a runway aircraft keep its direction; after that they may turn."""
_LONGEST_FLOWN_S: Final = 120.0
_SHORTEST_UNHEARD_S: Final = 60.0
"""An aircraft may have flown for so long before its first position, also where polls are shorter: nobody hears it below
some height, and positions are received more seldom than other messages."""
_STEEP_M_S: Final = 4.5
_STRIP_M: Final = 150.0
_CLOSE_M: Final = 3_000.0
_ALONE_WITHIN_M: Final = 20_000.0
_LONG_RUNWAY_M: Final = 1_400.0
_SHORT_RUNWAY_M: Final = 900.0
_FAST_M_S: Final = 70.0
"""An aircraft that is this fast near the ground needs a long runway, and cannot use a short one."""
_STEEPEST_APPROACH: Final = 0.17
"""Descent over distance: steeper approaches (10 degrees) are those of helicopters, not of airplanes."""
_TURNED_AWAY_DEG: Final = 60.0
"""An aircraft on final that turns by more before the runway has left its approach; less may be due to the wind."""
_CLEARLY: Final = 0.6
"""By so much the best airfield's misfit must be below the second best's."""


class _RunwayFit(NamedTuple):
    """A runway end that a fix may belong to, how badly the fix fits it, and where along the runway the fix is."""

    misfit: float
    """0 is perfect, about 3 the most that is accepted."""
    airfield: Airfield
    end: RunwayEnd
    along_m: float
    """How far the aircraft is behind the threshold of the direction; negative before it."""


def _turn_between(one: float, other: float) -> float:
    """Return the angle between two directions, from 0 to 180 degrees."""
    return abs((one - other + 180.0) % 360.0 - 180.0)


def _choose(fits: list[_RunwayFit]) -> _RunwayFit | None:
    """Return the best fit; None if there is none, or if another airfield's best is not clearly worse."""
    if not fits:
        return None
    best = min(fits, key=lambda fit: fit.misfit)
    for fit in fits:
        if fit.airfield is not best.airfield and fit.misfit - best.misfit < _CLEARLY:
            return None
    return best


def _judge_length(end: RunwayEnd, speed: float) -> float | None:
    """Return by how much a runway is less likely at a speed near the ground; None if it is too short for it."""
    if speed < _FAST_M_S or end.length_m >= _LONG_RUNWAY_M:
        return 0.0
    return _CLEARLY if end.length_m >= _SHORT_RUNWAY_M else None


def find_approach(fix: Fix, airfields: Iterable[Airfield]) -> Approach | None:
    """Return on final to which airfield an aircraft is at a fix, or on whose runway it is; None if on none.

    An aircraft that says it is on the ground must be on a runway.
    """
    speed, track = fix.best_speed_m_s, fix.track_deg
    if track is None or not _SLOWEST_FINAL_M_S <= speed <= _FASTEST_FINAL_M_S:
        return None
    if is_steep(fix):
        return None
    fits = []
    for airfield in airfields:
        if fix.on_ground:
            height = 0.0
        elif fix.altitude_m is None or (height := fix.altitude_m - airfield.elevation_m) > _HIGHEST_FINAL_M:
            continue
        if not airfield.ends:
            continue
        x, y = airfield.locate(fix.latitude, fix.longitude)
        if abs(x) > _FAR_FINAL_M + 3_000.0 or abs(y) > _FAR_FINAL_M + 3_000.0:
            continue
        for end in airfield.ends:
            fit = _fit_final(fix, track, height, airfield, end, x, y)
            if fit is not None and (penalty := _judge_length(end, speed)) is not None:
                fits.append(fit._replace(misfit=fit.misfit + penalty))
    best = _choose(fits)
    if best is None:
        return None
    left = max(-best.along_m, 0.0)
    height = 0.0 if fix.on_ground or fix.altitude_m is None else fix.altitude_m - best.airfield.elevation_m
    return Approach(
        best.airfield, best.end, fix.time, height, fix.time + left / (fix.reported_m_s or speed), bool(fix.on_ground)
    )


def is_steep(fix: Fix) -> bool:
    """Return True if an aircraft descends as steeply as helicopters do, and no airplane that is about to land."""
    return fix.rate_m_s is not None and -fix.rate_m_s > max(_STEEPEST_APPROACH * fix.best_speed_m_s, _STEEP_M_S)


def is_lined_up(fix: Fix, approach: Approach) -> bool:
    """Return True if an aircraft has not left the line of its approach to the side."""
    along, left = approach.end.project(*approach.airfield.locate(fix.latitude, fix.longitude))
    return abs(left) <= 250.0 + 0.08 * max(-along, 0.0)


def is_inbound(fix: Fix, approach: Approach) -> bool:
    """Return True if an aircraft flies towards the runway of its approach, or has passed the runway's begin.

    False if it turned away before the runway. An aircraft that flies slowly, or whose direction is unknown, counts as
    not turned.
    """
    along, _ = approach.end.project(*approach.airfield.locate(fix.latitude, fix.longitude))
    if fix.track_deg is None or along >= 0.0 or fix.best_speed_m_s < _SLOWEST_FINAL_M_S:
        return True
    return _turn_between(fix.track_deg, approach.end.heading_deg) <= _TURNED_AWAY_DEG


def is_over_runway(fix: Fix, approach: Approach) -> bool:
    """Return True if an aircraft is over, or on, the runway of its approach."""
    along, left = approach.end.project(*approach.airfield.locate(fix.latitude, fix.longitude))
    return abs(left) <= _STRIP_M and 0.0 <= along <= approach.end.length_m


def _fit_final(
    fix: Fix, track: float, height: float, airfield: Airfield, end: RunwayEnd, x: float, y: float
) -> _RunwayFit | None:
    """Return how well a fix fits to the final approach of a runway's direction: heading, offset, glide path; or None.

    `x`, `y`: metres east and north of the airfield's centre. None if one of the three does not fit at all.
    """
    turn = _turn_between(track, end.heading_deg)
    if turn > 20.0:
        return None
    along, left = end.project(x, y)
    before = max(-along, 0.0)
    width = 250.0 + 0.05 * before
    if along > end.length_m or before > _FAR_FINAL_M or abs(left) > width or (fix.on_ground and before > 300.0):
        return None
    glide = before * _GLIDE
    if not 0.3 * glide - BAROMETER_SLACK_M <= height <= 1.9 * glide + BAROMETER_SLACK_M:
        return None
    misfit = abs(left) / width + abs(height - glide) / (BAROMETER_SLACK_M + 0.25 * glide) + turn / 20.0
    return _RunwayFit(misfit, airfield, end, along)


def find_climb_out(
    first: Fix, fix: Fix, silence: float, airfields: Sequence[Airfield], *, has_turned: bool = False
) -> tuple[Airfield, float] | None:
    """Return from which airfield an aircraft took off that was first heard at one fix and climbs at another, and when.

    `silence` is how long before the first fix nobody heard the aircraft: it may have taken off within all that time,
    and is as far away and as high as it came since. Both fixes may be the same; else the aircraft was first heard on,
    or close to, the airfield. The time is in Unix seconds. None if no airfield fits.
    """
    track, speed = fix.track_deg, fix.best_speed_m_s
    if track is None or fix.altitude_m is None or speed < _SLOWEST_CLIMB_M_S or fix.on_ground:
        return None
    unheard = max(silence, _SHORTEST_UNHEARD_S) if silence > 0.0 else 0.0
    flown = min(unheard + fix.time - first.time, _LONGEST_FLOWN_S)
    far = _FAR_CLIMB_M + _CLIMB_M_S * flown
    fits = []
    for airfield in airfields:
        height = fix.altitude_m - airfield.elevation_m
        if not airfield.ends or not -BAROMETER_SLACK_M <= height <= 700.0 + 12.0 * flown:
            continue
        if fix is not first and airfield.measure_to_runway(first.latitude, first.longitude) > _CLOSE_M:
            continue
        x, y = airfield.locate(fix.latitude, fix.longitude)
        if abs(x) > far + 3_000.0 or abs(y) > far + 3_000.0:
            continue
        for end in airfield.ends:
            fit = _fit_climb(track, height, far, airfield, end, x, y, has_turned)
            if fit is not None and (penalty := _judge_length(end, speed)) is not None:
                fits.append(fit._replace(misfit=fit.misfit + penalty))
    best = _choose(fits)
    if best is not None:
        took_s = best.along_m / max(speed, 40.0) if fix.altitude_m > best.airfield.elevation_m else 0.0
        return best.airfield, fix.time - took_s
    if fits or has_turned or fix is not first or fix.rate_m_s is None:
        return None
    return _find_turned(fix, fix.altitude_m, fix.rate_m_s, track, speed, flown, airfields)


def _find_turned(
    fix: Fix, altitude: float, rate: float, track: float, speed: float, flown: float, airfields: Sequence[Airfield]
) -> tuple[Airfield, float] | None:
    """Return the airfield from which an aircraft took off that has already turned from its runway, and when.

    It must climb away as only airplanes with some power do, and no other airfield with a long runway may be near.
    """
    long = [each for each in airfields if max((end.length_m for end in each.ends), default=0.0) >= _LONG_RUNWAY_M]
    near = [(math.hypot(*each.locate(fix.latitude, fix.longitude)), each) for each in long]
    near = [(distance, each) for distance, each in near if distance < _ALONE_WITHIN_M]
    if rate < _POWERED_CLIMB_M_S or speed < _POWERED_M_S or len(near) != 1:
        return None
    distance, airfield = near[0]
    height = altitude - airfield.elevation_m
    x, y = airfield.locate(fix.latitude, fix.longitude)
    if (
        distance > 6_000.0 + _CLIMB_M_S * flown
        or height > 700.0 + 12.0 * flown
        or not 0.05 * distance - BAROMETER_SLACK_M <= height <= 0.35 * distance + BAROMETER_SLACK_M
        or _turn_between(track, math.degrees(math.atan2(x, y))) > 75.0
    ):
        return None
    return airfield, fix.time - distance / max(speed, _POWERED_M_S)


def _fit_climb(
    track: float, height: float, far: float, airfield: Airfield, end: RunwayEnd, x: float, y: float, has_turned: bool
) -> _RunwayFit | None:
    """Return how a fix at these metres from the centre fits to the climb from a direction; None if not at all."""
    along, left = end.project(x, y)
    behind = max(along - end.length_m, 0.0)
    if along < 0.0 or behind > far:
        return None
    turn = _turn_between(track, end.heading_deg)
    width = 200.0 + 0.25 * behind + 0.45 * max(behind - _STRAIGHT_M, 0.0)
    most_turn = 20.0 if behind < 1_000.0 else 40.0 if behind < _STRAIGHT_M else 75.0
    if has_turned:
        width, most_turn = _STRIP_M + 0.05 * behind, 120.0
    if turn > most_turn or abs(left) > width:
        return None
    lowest, highest = 0.02 * behind - BAROMETER_SLACK_M, 0.25 * along + BAROMETER_SLACK_M
    if not lowest <= height <= highest:
        return None
    usual = 0.09 * max(along - 0.5 * end.length_m, 0.0)
    misfit = abs(left) / width + turn / most_turn + abs(height - usual) / (BAROMETER_SLACK_M + usual)
    return _RunwayFit(misfit, airfield, end, along)
