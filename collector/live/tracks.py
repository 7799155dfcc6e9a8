"""What the detector remembers of an aircraft near an airfield: its last fixes, and what it may be doing.

A fix is one fresh position with what belongs to it. Altitudes jump and flags flicker in real data, so speeds come from
the positions, and an altitude that jumps must be confirmed by the next one.
"""

import math
from enum import IntEnum
from typing import Final, NamedTuple

from collector.live.airfields import Airfield, RunwayEnd
from collector.sources.state_vector import Position, StateVector

SHORTEST_STEP_S: Final = 4.0
"""Fixes that follow each other sooner are skipped: the error of a position, some 10 m, would spoil the speed."""

_METRES_PER_DEGREE: Final = 111_195.0
_FASTEST_M_S: Final = 350.0
"""An aircraft near an airfield is not faster: a position that would need more is false, or another aircraft's."""
_OLDEST_COMPANION_S: Final = 15.0
"""Altitude and flags are of the last contact: they do not belong to a position that is this much older."""
_JUMP_M: Final = 100.0
_JUMP_M_S: Final = 25.0
"""An altitude may change by so much, and by so much per second more; else it is held for a spike until confirmed."""


_FEWEST_HOVERINGS: Final = 2


class Phase(IntEnum):
    """The phase of an aircraft's flight that the detector has inferred from its positions."""

    UNKNOWN = 0
    """Heard for the first time, or again, a moment ago: it may be taking off."""
    AIRBORNE = 1
    SURFACE = 2
    """On the ground of an airfield."""


class Approach(NamedTuple):
    """The last fix at which an aircraft was lined up with a runway and low enough to land on it, or rolled on it."""

    airfield: Airfield
    end: RunwayEnd
    time: float
    """Unix seconds of the fix."""
    height_m: float
    """Above the airfield, by the barometer; 0 on the runway."""
    touch_down: float
    """Unix seconds at which it reaches the runway at its speed; in the past once it has."""
    has_touched: bool
    """True if the aircraft said itself, over the runway, that it was on the ground."""


class Fix(NamedTuple):
    """A fresh position of an aircraft, and how it got there from the fix before."""

    time: float
    latitude: float
    longitude: float
    altitude_m: float | None
    """None if unknown, or held for a spike."""
    on_ground: bool | None
    """As the aircraft says: it flickers."""
    speed_m_s: float | None
    """Over ground, from the positions; None at the first fix."""
    reported_m_s: float | None
    """Speed over ground as the aircraft says; on the ground it is often minutes old."""
    track_deg: float | None
    """Direction over ground: as the aircraft says, else from the positions."""
    rate_m_s: float | None
    """Vertical rate as the aircraft says."""

    @property
    def best_speed_m_s(self) -> float:
        """The speed over ground: from the positions, else as the aircraft says, else 0."""
        return self.speed_m_s if self.speed_m_s is not None else self.reported_m_s or 0.0


class Track:
    """The memory of one aircraft: last fix, phase, what speaks for a take-off or a landing; a few hundred bytes."""

    __slots__ = (
        "airfield",
        "approach",
        "callsign",
        "first",
        "first_silence",
        "fix",
        "ground_since",
        "ground_votes",
        "has_flown_in",
        "has_rolled",
        "hoverings",
        "last_approach",
        "last_poll",
        "level",
        "lowest_m",
        "outlier",
        "phase",
        "rises",
        "slow_since",
        "spike_m",
        "surface_time",
    )

    def __init__(self, first_silence: float) -> None:
        """`first_silence`: seconds before the first fix in which nobody could hear the aircraft, or nobody did."""
        self.callsign = ""
        self.phase = Phase.UNKNOWN
        self.fix: Fix | None = None
        self.last_poll = 0
        """The number of the poll with the last fix."""
        self.outlier: Position | None = None
        """A position that is too far from the last fix; if the next one confirms it, the aircraft is there."""
        self.level: tuple[float, float] | None = None
        """The last altitude that was believed, and its time in Unix seconds."""
        self.spike_m: float | None = None
        """An altitude that jumped, and is not confirmed."""
        self.first: Fix | None = None
        """While the phase is UNKNOWN: the fix at which the aircraft was first heard, or last rolled slowly."""
        self.first_silence = first_silence
        self.lowest_m: float | None = None
        """While the phase is UNKNOWN: the lowest altitude since the first fix."""
        self.airfield: Airfield | None = None
        """While the phase is SURFACE: where."""
        self.surface_time = 0.0
        """While the phase is SURFACE: Unix seconds of the last fix on the ground."""
        self.ground_since: float | None = None
        """Unix seconds since which each fix says that it is on the ground, or is slow."""
        self.ground_votes = 0
        """Since then: how many more fixes say so than say that the aircraft flies."""
        self.slow_since: float | None = None
        """Unix seconds since which the aircraft moves no faster than it taxies."""
        self.approach: Approach | None = None
        """None if it is not on final, or flew on from there."""
        self.last_approach: Approach | None = None
        """The approach, also after the aircraft has flown on, or rolled on, from there."""
        self.has_flown_in = False
        """True if it was on final before the runway, or faster over it than any car."""
        self.has_rolled = False
        """True if it was slow on the runway of its approach."""
        self.rises = 0
        """How often since the approach the altitude was higher than there."""
        self.hoverings = 0
        """How many fixes were beside the runways, low and as slow as no airplane flies."""

    @property
    def hovers(self) -> bool:
        """True if it moves like a helicopter."""
        return self.hoverings >= _FEWEST_HOVERINGS

    def restart(self, fix: Fix, silence: float) -> None:
        """Let the phase be UNKNOWN from this fix on, after so many seconds in which nobody heard the aircraft."""
        self.phase = Phase.UNKNOWN
        self.first, self.first_silence, self.lowest_m = fix, silence, fix.altitude_m
        self.airfield = self.approach = self.last_approach = self.ground_since = self.slow_since = None
        self.rises = self.ground_votes = 0
        self.has_flown_in = self.has_rolled = False

    def fold_state(self, state: StateVector) -> Fix | None:
        """Return the new fix of a state vector, with the speed since the fix before, which it replaces.

        None without a new fix: the position is unknown, old or too early after the last, or it is an outlier.
        """
        position, last = state.position, self.fix
        if state.callsign:
            self.callsign = state.callsign
        if position is None or (last is not None and position.time - last.time < SHORTEST_STEP_S):
            return None
        speed = track = None
        if last is not None:
            speed, track = _measure_step(last.time, last.latitude, last.longitude, position)
            if speed > _FASTEST_M_S:
                if self.outlier is None or _measure_step(*self.outlier, position)[0] > _FASTEST_M_S:
                    self.outlier = position
                    return None
                speed = track = None
            elif speed < 1.0:
                track = None
        self.outlier = None
        is_current = state.contact_time - position.time <= _OLDEST_COMPANION_S
        self.fix = Fix(
            position.time,
            position.latitude,
            position.longitude,
            self._filter_altitude(state, position.time) if is_current else None,
            state.on_ground if is_current else None,
            speed,
            state.velocity_m_s if is_current and not state.on_ground else None,
            state.track_deg if is_current and state.track_deg is not None else track,
            state.vertical_rate_m_s if is_current else None,
        )
        return self.fix

    def _filter_altitude(self, state: StateVector, time: float) -> float | None:
        """Return the altitude of a state vector; None if it is unknown or a spike, which the next may confirm."""
        altitude = state.baro_altitude_m if state.baro_altitude_m is not None else state.geo_altitude_m
        if altitude is None:
            return None
        if self.level is not None:
            believed, when = self.level
            tolerance = _JUMP_M + _JUMP_M_S * (time - when)
            is_confirmed = self.spike_m is not None and abs(altitude - self.spike_m) <= 2 * _JUMP_M
            if abs(altitude - believed) > tolerance and not is_confirmed:
                self.spike_m = altitude
                return None
        self.spike_m, self.level = None, (altitude, time)
        return altitude


def _measure_step(time: float, latitude: float, longitude: float, to: Position) -> tuple[float, float]:
    """Return speed in m/s and direction in degrees from a position at a time to a later one."""
    north = (to.latitude - latitude) * _METRES_PER_DEGREE
    east = ((to.longitude - longitude + 540.0) % 360.0 - 180.0) * _METRES_PER_DEGREE
    east *= math.cos(math.radians(latitude))
    elapsed = max(to.time - time, 0.1)
    return math.hypot(east, north) / elapsed, math.degrees(math.atan2(east, north)) % 360.0
