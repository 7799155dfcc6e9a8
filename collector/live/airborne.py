"""Is an aircraft in the air about to land, has it gone around, and has it just taken off? Rules on tracks. Pure."""

from collections.abc import Sequence
from typing import Final

from collector.live.airfields import Airfield
from collector.live.runway_use import (
    find_approach,
    find_climb_out,
    is_inbound,
    is_lined_up,
    is_over_runway,
    is_steep,
)
from collector.live.surface import TAXI_M_S
from collector.live.tracks import Approach, Fix, Phase, Track
from collector.sources.state_vector import Category, StateVector

_LIFTED_M: Final = 60.0
"""Above its lowest height on final, an aircraft that is so much higher is going around."""
_CLIMBED_M: Final = 30.0
"""An aircraft that is so much higher than it was has climbed: more than noise."""
_FEWEST_RISES: Final = 2
"""It must be higher at so many fixes: one altitude may be a spike."""
_CLIMBING_M_S: Final = 2.5
_ROLLING_M_S: Final = 30.0
_BEFORE_RUNWAY_S: Final = 5.0
_FASTER_THAN_CARS_M_S: Final = 40.0
_STEEPEST_CLIMB_M_S: Final = 25.0
_ON_FINAL_FOR_S: Final = 40.0
"""Without another fix on final for so long, and one poll, the aircraft has left it."""
_SURE_CLIMB_M_S: Final = 5.0
_SURE_SPEED_M_S: Final = 60.0
"""An aircraft that says it climbs and moves as fast as this needs no second fix."""
_UNKNOWN_FOR_S: Final = 120.0
"""An aircraft that did not take off within so long after it was first heard was in the air already."""
_LOW_AT_BEGIN_M: Final = 300.0
"""Who is heard in the very first poll was not first heard there; lower than this it took off a moment ago."""
_BACK_S: Final = 100.0
"""For so long before a fix its vertical rate tells the altitude well enough."""
_HEARD_AGAIN_WITHIN_S: Final = 60.0
"""An aircraft that reached the runway and flew on would be heard again within so many seconds."""
_FASTEST_LIGHT_M_S: Final = 50.0
"""On final, light aircraft are slower than this."""


def note_final(track: Track, fix: Fix, category: int | None, near: Sequence[Airfield]) -> None:
    """Note in the track that an aircraft is on final, or that it has flown on from there."""
    is_climbing = (fix.rate_m_s or 0.0) > _CLIMBING_M_S and not fix.on_ground
    old = track.approach
    if not is_climbing and category != Category.ROTORCRAFT:
        approach = find_approach(fix, near)
        if approach is not None and (
            old is None or approach.airfield is not old.airfield or approach.height_m < old.height_m + _LIFTED_M
        ):
            if old is not None and old.end is approach.end and approach.touch_down <= fix.time:
                # it is over the runway, and touched down where the fix before it said, or later
                approach = approach._replace(touch_down=min(old.touch_down, fix.time))
            track.approach = track.last_approach = approach
            track.rises, track.has_rolled = 0, _rolls(fix, approach)
            is_before = approach.touch_down - fix.time >= _BEFORE_RUNWAY_S
            track.has_flown_in |= not fix.on_ground and (is_before or fix.best_speed_m_s >= _FASTER_THAN_CARS_M_S)
            return
    if old is None:
        return
    if fix.altitude_m is not None and fix.altitude_m - old.airfield.elevation_m > old.height_m + _LIFTED_M:
        track.rises += 1
    track.has_rolled |= _rolls(fix, old)
    was_over_runway = track.has_rolled or old.touch_down <= old.time
    has_vacated = was_over_runway and (fix.speed_m_s or 0.0) <= TAXI_M_S
    has_turned = not fix.on_ground and not has_vacated and not (is_lined_up(fix, old) and is_inbound(fix, old))
    if track.rises >= _FEWEST_RISES or has_turned or is_steep(fix):
        track.approach = None


def _rolls(fix: Fix, approach: Approach) -> bool:
    """Return True if an aircraft is on the runway of its approach and slower than most of them fly."""
    return fix.speed_m_s is not None and fix.speed_m_s < _ROLLING_M_S and is_over_runway(fix, approach)


def end_final(track: Track, fix: Fix, step: float) -> None:
    """Note in the track that an aircraft which was not on final for some time, and `step` seconds, has left it."""
    if track.approach is not None and fix.time - track.approach.time > _ON_FINAL_FOR_S + step:
        track.approach = None


def note_go_around(track: Track, state: StateVector) -> None:
    """Note in the track altitudes above that of the approach which come without a position; several of them end it."""
    approach, altitude = track.approach, state.baro_altitude_m
    if approach is None or altitude is None or state.on_ground or state.contact_time <= approach.time:
        return
    risen = altitude - approach.airfield.elevation_m - approach.height_m - 2 * _LIFTED_M
    if 0.0 < risen < _STEEPEST_CLIMB_M_S * (state.contact_time - approach.time):  # what is still higher is nonsense
        track.rises += 1
        if track.rises >= _FEWEST_RISES:
            track.approach = None


def find_take_off(
    track: Track, fix: Fix, category: int | None, near: Sequence[Airfield], on: Airfield | None
) -> tuple[Airfield, float] | None:
    """Return from which airfield, and when, an aircraft took off that was first heard a moment ago; None if it did not.

    While it is slow on an airfield's ground, it counts as heard for the first time: it may take off from there.
    """
    first = track.first
    if first is None:
        return None
    if on is not None and fix.speed_m_s is not None and fix.speed_m_s <= TAXI_M_S:
        track.first, track.first_silence, track.lowest_m = fix, 0.0, fix.altitude_m
        return None
    if _has_come_in(track, first, fix):
        track.phase = Phase.AIRBORNE  # what follows may be a go-around or a touch-and-go, but no take-off
        return None
    if fix.altitude_m is not None and (track.lowest_m is None or fix.altitude_m < track.lowest_m):
        track.lowest_m = fix.altitude_m
    if track.hovers or category == Category.ROTORCRAFT or not _has_climbed(track, fix):
        return None
    if track.first_silence <= 0.0 and not _is_low(first, near):
        return None
    first = track.first = _complete_altitude(first, fix)
    headed = first
    if first.track_deg is None:
        headed = first._replace(track_deg=fix.track_deg, speed_m_s=fix.speed_m_s)
    found = find_climb_out(headed, headed, track.first_silence, near)
    if found is None and fix is not first:
        found = find_climb_out(first, fix, track.first_silence, near)
        if found is None and first.track_deg is None:
            found = find_climb_out(headed, headed, track.first_silence, near, has_turned=True)
    return found


def _complete_altitude(first: Fix, fix: Fix) -> Fix:
    """Return the first fix with its altitude, if that was unknown, computed back from a later fix in the climb."""
    elapsed = fix.time - first.time
    if first.altitude_m is not None or fix.altitude_m is None or fix.rate_m_s is None or not 0.0 < elapsed <= _BACK_S:
        return first
    rate = fix.rate_m_s if first.rate_m_s is None else (first.rate_m_s + fix.rate_m_s) / 2
    return first._replace(altitude_m=fix.altitude_m - rate * elapsed)


def _has_come_in(track: Track, first: Fix, fix: Fix) -> bool:
    """Return True if an aircraft has descended since it was first heard, as none does that takes off; else False."""
    if fix.on_ground or fix.altitude_m is None or first.altitude_m is None or first.on_ground:
        return False
    descended = first.altitude_m - fix.altitude_m
    return descended >= _LIFTED_M or (track.has_flown_in and descended >= _CLIMBED_M)


def _has_climbed(track: Track, fix: Fix) -> bool:
    """Return True if an aircraft has climbed since it was first heard, or says so and is as fast as in a climb."""
    rate = fix.rate_m_s
    if (rate or 0.0) >= _SURE_CLIMB_M_S and (fix.reported_m_s or 0.0) >= _SURE_SPEED_M_S:
        return True
    if track.lowest_m is None or fix.altitude_m is None:
        return False
    return fix.altitude_m - track.lowest_m >= _CLIMBED_M and (rate is None or rate > 0.5)


def _is_low(fix: Fix, near: Sequence[Airfield]) -> bool:
    """Return True if an aircraft is just above the height of an airfield nearby."""
    altitude = fix.altitude_m
    return altitude is None or any(altitude - each.elevation_m < _LOW_AT_BEGIN_M for each in near)


def end_first_heard(track: Track, fix: Fix, step: float) -> None:
    """Let an aircraft be in the air that has not taken off within some time, and `step` seconds, since first heard."""
    if track.first is not None and fix.time - track.first.time > _UNKNOWN_FOR_S + step:
        track.phase = Phase.AIRBORNE


def compute_go_around_s(approach: Approach, speed_m_s: float) -> float:
    """Return for how long an aircraft must be silent on final before it can no longer have gone around, in seconds.

    In that time it descends to the runway, and climbs again to where it was last heard and would be heard again. The
    height may be wrong; light aircraft descend and climb more slowly, and roll in between (a touch-and-go).
    """
    height, left_s = max(approach.height_m, 0.0), approach.touch_down - approach.time
    if speed_m_s < _FASTEST_LIGHT_M_S:
        return max(60.0 + 0.65 * (height + 200.0), left_s + _HEARD_AGAIN_WITHIN_S)
    return max(45.0 + 0.41 * (height + 50.0), left_s + _HEARD_AGAIN_WITHIN_S)
