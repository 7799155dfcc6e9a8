"""Is an aircraft on the ground of an airfield, has it rolled out there, and has it taken off from there? Pure rules.

`on_ground` flickers, and the speed that an aircraft sends on the ground is often minutes old, so speeds come from the
positions, and a landing needs a slow aircraft, or one that stays: a touch-and-go is neither.
"""

from typing import Final

from collector.live.airfields import Airfield, AirfieldIndex
from collector.live.runway_use import BAROMETER_SLACK_M
from collector.live.tracks import Fix, Phase, Track
from collector.sources.state_vector import Category

TAXI_M_S: Final = 16.0
"""Aircraft taxi at up to this speed (31 kt); nearly all fly faster."""

_STOPPING_M_S: Final = 10.0
"""An aircraft that says that it is on the ground, and is as slow as this, has rolled out."""
_FEWEST_VOTES: Final = 2
"""By so many the fixes that say "on the ground" must outnumber the others."""
_TAXI_FOR_S: Final = 20.0
"""Or it taxies for so long; a headwind makes the roll of a touch-and-go slow, but not for so long."""
_ON_GROUND_FOR_S: Final = 45.0
"""Or it says for so long that it is on the ground."""
_SLOW_FOR_S: Final = 40.0
"""An aircraft that never says that it is on the ground must be slow there for so long."""
_APPROACHED_WITHIN_S: Final = 400.0
"""And must have been on final so many seconds ago."""
_FASTEST_ROLL_M_S: Final = 120.0
_FLYING_M_S: Final = 30.0
"""Above this speed an aircraft may be in the air, if it is high enough, too."""
_SURELY_FLYING_M_S: Final = 40.0
"""Above this speed it is in the air if it is also away from the runways."""
_AWAY_M: Final = 1_000.0
_STEEPEST_CLIMB_M_S: Final = 25.0
_USUAL_CLIMB_M_S: Final = 10.0
_ROLL_S: Final = 10.0
"""From the height of the first fix in the air back to the take-off, beside the climb itself."""
_HELICOPTER_M_S: Final = (18.0, 28.0)
"""Beside the runways airplanes taxi more slowly, and fly faster."""
_BESIDE_RUNWAY_M: Final = 150.0
_ROTORCRAFT_RUNWAY_M: Final = 250.0
"""A helicopter lands at an airport only if it comes this near to a runway: the hospital next door has a heliport."""


def find_ground(airfields: AirfieldIndex, category: int | None, fix: Fix) -> Airfield | None:
    """Return the airfield on whose ground a fix may be; None if it is beside all, too high, or too fast."""
    if fix.speed_m_s is not None and fix.speed_m_s > _FASTEST_ROLL_M_S:
        return None
    airfield = airfields.find_on_ground(fix.latitude, fix.longitude)
    if airfield is None:
        return None
    if category == Category.ROTORCRAFT:
        distance = airfield.measure_to_runway(fix.latitude, fix.longitude)
        if not airfield.ends or distance > _ROTORCRAFT_RUNWAY_M:
            return None
    if fix.on_ground and airfield.ends:
        return airfield  # whatever the altitude says: on the ground it is often nonsense
    is_low = fix.altitude_m is None or abs(fix.altitude_m - airfield.elevation_m) <= BAROMETER_SLACK_M + 50.0
    return airfield if is_low else None


def note_surface(track: Track, fix: Fix, on: Airfield | None) -> None:
    """Note in the track since when the aircraft says that it is on the ground, and since when it is slow there."""
    is_slow = fix.speed_m_s is not None and fix.speed_m_s <= TAXI_M_S
    if on is None or not (fix.on_ground or is_slow):
        track.ground_since, track.ground_votes = None, 0
    elif fix.on_ground:
        track.ground_since = fix.time if track.ground_since is None else track.ground_since
        track.ground_votes += 1
    else:
        track.ground_votes = max(track.ground_votes - 1, 0)
    if on is None or not is_slow:
        track.slow_since = None
    elif track.slow_since is None:
        track.slow_since = fix.time


def note_hovering(track: Track, fix: Fix, on: Airfield | None) -> None:
    """Note in the track that an aircraft flies beside the runways as slowly as only a helicopter does."""
    if on is None or fix.on_ground or track.ground_since is not None or fix.speed_m_s is None:
        return
    slowest, fastest = _HELICOPTER_M_S
    if slowest < fix.speed_m_s < fastest:
        track.hoverings += on.measure_to_runway(fix.latitude, fix.longitude) > _BESIDE_RUNWAY_M


def has_rolled_out(track: Track, fix: Fix, on: Airfield) -> bool:
    """Return True if an aircraft on an airfield's ground has slowed down there, or stays; else False.

    If it never said that it is on the ground, it must have been on final, and be slow for longer. If we do not know the
    airfield's runways, it must have said so, and be slow for longer, too.
    """
    slow_for = fix.time - track.slow_since if track.slow_since is not None else -1.0
    has_said_so = track.ground_votes >= _FEWEST_VOTES
    if not on.ends:
        return has_said_so and slow_for >= _SLOW_FOR_S
    if has_said_so and track.ground_since is not None:
        is_stopping = fix.speed_m_s is not None and fix.speed_m_s <= _STOPPING_M_S
        return is_stopping or slow_for >= _TAXI_FOR_S or fix.time - track.ground_since >= _ON_GROUND_FOR_S
    is_silent_about_it = track.phase is not Phase.SURFACE and not track.hovers
    return is_silent_about_it and slow_for >= _SLOW_FOR_S and has_approached(track, fix)


def stands_at_first(fix: Fix, on: Airfield) -> bool:
    """Return True if an aircraft, when it is first heard, says that it is on the ground, and its altitude agrees.

    Else False.
    """
    if not fix.on_ground or not on.ends:
        return False
    return fix.altitude_m is None or abs(fix.altitude_m - on.elevation_m) <= BAROMETER_SLACK_M


def has_approached(track: Track, fix: Fix) -> bool:
    """Return True if an aircraft was on final some minutes ago."""
    approach = track.last_approach
    return approach is not None and fix.time - approach.time <= _APPROACHED_WITHIN_S


def estimate_touch_down(track: Track, fix: Fix, on: Airfield) -> float:
    """Return when an aircraft that has rolled out on an airfield touched down there, in Unix seconds."""
    touched = track.ground_since or track.slow_since or fix.time
    approach = track.last_approach
    if approach is not None and approach.airfield is on and has_approached(track, fix):
        return min(touched, approach.touch_down)
    return touched


def has_lifted(track: Track, fix: Fix, airfield: Airfield) -> bool:
    """Return True if an aircraft that was on an airfield's ground is in the air: fast, and high or away from there."""
    if fix.on_ground or fix.speed_m_s is None:
        return False
    speed = fix.speed_m_s
    distance = airfield.measure_to_runway(fix.latitude, fix.longitude)
    if distance > airfield.apron_m and fix.reported_m_s is not None:
        speed = max(speed, fix.reported_m_s)  # the mean since the last fix is low if it stood for a while
    if speed < _FLYING_M_S:
        return False
    if fix.altitude_m is not None:
        highest = 2 * BAROMETER_SLACK_M + _STEEPEST_CLIMB_M_S * (fix.time - track.surface_time)
        if BAROMETER_SLACK_M < fix.altitude_m - airfield.elevation_m < highest:
            return True
    return speed >= _SURELY_FLYING_M_S and distance > _AWAY_M


def estimate_take_off(track: Track, fix: Fix, airfield: Airfield) -> float:
    """Return when an aircraft took off that was on an airfield's ground and is in the air, in Unix seconds."""
    height = max((fix.altitude_m or 0.0) - airfield.elevation_m, 0.0)
    climb = min(max(fix.rate_m_s or _USUAL_CLIMB_M_S, 3.0), 20.0)
    return max(fix.time - height / climb - _ROLL_S, track.surface_time)
