"""The detector: polls of state vectors in, take-offs and landings out. A pure fold, without a clock and without I/O.

An aircraft lands when it was in the air and is then slow on an airfield's ground, or when it falls silent on final and
the time in which it could have gone around has passed. It takes off when it was on the ground and is then in the air,
or when it is first heard in its climb behind a runway's end. See docs/adr/0036-movements-from-positions.md.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from collector.live.airborne import (
    compute_go_around_s,
    end_final,
    end_first_heard,
    find_take_off,
    note_final,
    note_go_around,
)
from collector.live.airfields import Airfield, AirfieldIndex
from collector.live.surface import (
    estimate_take_off,
    estimate_touch_down,
    find_ground,
    has_approached,
    has_lifted,
    has_rolled_out,
    note_hovering,
    note_surface,
    stands_at_first,
)
from collector.live.tracks import Fix, Phase, Track
from collector.sources.state_vector import Category, Poll, StateVector
from domain.interests import Direction

BRIDGED_PAUSE_S: Final = 120.0
"""Polls may be missing for so long: of the movements meanwhile nearly all are found afterwards (measured: ADR 36)."""
REVEALED_WITHIN_S: Final = 600.0
"""A movement is revealed by so many seconds after its event time, and two polls, or never."""
FORGET_AFTER_S: Final = 1_200.0
"""An aircraft that was not heard for so long is forgotten."""

_OLDEST_AT_FIRST_S: Final = 60.0
"""A position that is older than this begins no track: sources repeat positions of aircraft that are gone."""
_WATCHED_BELOW_M: Final = 2_500.0
"""Above the highest airfield nearby: an aircraft that is higher is neither landing nor just taking off."""
_LEFT_ABOVE_M: Final = 3_750.0
"""An aircraft that climbs out is remembered up to this height."""
_FEWEST_MISSED_POLLS: Final = 2
_SHORTEST_SILENCE_S: Final = 90.0
_OUT_OF_SIGHT_S: Final = 360.0
"""An aircraft that was low, and not heard for so long, may have landed and taken off again meanwhile."""
_SAME_LANDING_S: Final = 900.0
"""Seconds after a landing by silence within which another one there is the same: the aircraft was only unheard."""
_LOW_M: Final = 1_000.0
_LONGEST_SILENCE_S: Final = 60.0
"""For so long before, such an aircraft may have been in its climb."""
_NEVER: Final = frozenset(
    (
        Category.LIGHTER_THAN_AIR,
        Category.PARACHUTIST,
        Category.EMERGENCY_VEHICLE,
        Category.SERVICE_VEHICLE,
        Category.POINT_OBSTACLE,
        Category.CLUSTER_OBSTACLE,
        Category.LINE_OBSTACLE,
    )
)
"""Categories that neither take off from a runway nor land on one."""


class Evidence(StrEnum):
    """The kind of positions from which a movement was inferred."""

    SURFACE = "surface"
    """The aircraft was heard on the ground."""
    CLIMBING = "climbing"
    """It was first heard in its climb behind a runway's end."""
    SILENT_ON_FINAL = "silent on final"
    """It fell silent on final, and did not go around."""


@dataclass(frozen=True, slots=True)
class Movement:
    """A take-off or a landing of an aircraft at an airport."""

    airport: str
    """ICAO code, of the table of runways or of `airportsdata`."""
    direction: Direction
    """DEPARTURES or ARRIVALS."""
    icao24: str
    callsign: str
    """Empty if unknown."""
    event_time: datetime
    """When it left the ground or touched down, in UTC and whole seconds: an estimate, off by up to two polls."""
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class DetectorMemory:
    """All that a detector remembers of the polls until now."""

    begun: float | None
    """The time of the first poll; None before it."""
    time: float
    """The time of the last poll."""
    poll: int
    """The number of polls."""
    step: float
    """Seconds between the last two polls."""
    tracks: Mapping[str, Track]
    """By the aircraft's address, in the order in which they were first heard."""
    silent_landings: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """The last landings that were found by silence: by the aircraft's address, the airport and the Unix seconds."""


class MovementDetector:
    """The fold: `observe` takes the polls in the order of their times, and returns the movements that each reveals."""

    def __init__(self, airfields: AirfieldIndex) -> None:
        self._airfields = airfields
        self._tracks: dict[str, Track] = {}
        self._silent_landings: dict[str, tuple[str, float]] = {}
        self._begun: float | None = None
        self._time = 0.0
        self._poll = 0
        self._step = 0.0

    @property
    def aircraft(self) -> int:
        """The number of aircraft that are remembered."""
        return len(self._tracks)

    def get_memory(self) -> DetectorMemory:
        """Return what the detector remembers. Its tracks are the detector's own, and change with the next poll."""
        return DetectorMemory(self._begun, self._time, self._poll, self._step, self._tracks, self._silent_landings)

    def restore(self, memory: DetectorMemory) -> None:
        """Go on from a memory: from now on the detector finds what the one would find that had it."""
        self._begun, self._time, self._poll, self._step = memory.begun, memory.time, memory.poll, memory.step
        self._tracks, self._silent_landings = dict(memory.tracks), dict(memory.silent_landings)

    def count_undecided(self, airport: str | None = None) -> int:
        """Return how many aircraft are on final, at any or at one airport, that neither landed nor went around yet."""
        return sum(
            track.approach is not None
            and (track.phase is Phase.AIRBORNE or track.has_flown_in)
            and not track.hovers
            and airport in (None, track.approach.airfield.icao)
            for track in self._tracks.values()
        )

    def observe(self, poll: Poll) -> list[Movement]:
        """Return the movements that a poll reveals. A poll that is not later than the one before is ignored."""
        if self._begun is None:
            self._begun = poll.time
        elif poll.time <= self._time:
            return []
        else:
            self._step = poll.time - self._time
        self._time = poll.time
        self._poll += 1
        found: list[Movement] = []
        for state in poll.states:
            track = self._tracks.get(state.icao24)
            if track is None:
                if not self._is_watched(state):
                    continue
                track = self._tracks[state.icao24] = Track(self._step)
            self._fold(state, track, found)
        self._judge_silence(found)
        return [each for each in found if each.event_time.timestamp() >= self._begun]

    def _is_watched(self, state: StateVector) -> bool:
        """Return True if an aircraft that is not remembered is near an airfield, low enough to use it; else False."""
        position = state.position
        if position is None or state.category in _NEVER or self._time - position.time > _OLDEST_AT_FIRST_S:
            return False
        highest = self._airfields.find_ceiling(position.latitude, position.longitude)
        if highest is None:
            return False
        altitude = state.baro_altitude_m
        return altitude is None or bool(state.on_ground) or altitude <= highest + _WATCHED_BELOW_M

    def _fold(self, state: StateVector, track: Track, found: list[Movement]) -> None:
        """Fold a state vector into its aircraft's track; add the movement that it reveals, if any."""
        last = track.fix
        fix = track.fold_state(state)
        if fix is None:
            note_go_around(track, state)
            return
        track.last_poll = self._poll
        if last is None:
            track.restart(fix, track.first_silence)
        elif track.phase is Phase.AIRBORNE and self._may_have_landed(last, fix):
            track.restart(fix, _LONGEST_SILENCE_S)
        on = find_ground(self._airfields, state.category, fix)
        note_surface(track, fix, on)
        if on is not None and (has_rolled_out(track, fix, on) or (last is None and stands_at_first(fix, on))):
            self._settle(state.icao24, track, fix, on, found)
        elif track.phase is Phase.SURFACE and track.airfield is not None:
            if has_lifted(track, fix, track.airfield):
                time = estimate_take_off(track, fix, track.airfield)
                self._depart(state.icao24, track, fix, (track.airfield, time), Evidence.SURFACE, found)
        else:
            note_hovering(track, fix, on)
            self._fold_airborne(state, track, fix, on, found)

    def _settle(self, icao24: str, track: Track, fix: Fix, on: Airfield, found: list[Movement]) -> None:
        """Let an aircraft be on an airfield's ground; if it was in the air before, it has landed there."""
        if track.phase is Phase.AIRBORNE or (
            track.phase is Phase.UNKNOWN and track.has_flown_in and has_approached(track, fix)
        ):
            self._add_landing(icao24, track, on, estimate_touch_down(track, fix, on), Evidence.SURFACE, found)
        self._silent_landings.pop(icao24, None)
        track.phase, track.airfield, track.surface_time = Phase.SURFACE, on, fix.time
        track.approach = track.last_approach = None

    def _add_landing(
        self, icao24: str, track: Track, airfield: Airfield, time: float, evidence: Evidence, found: list[Movement]
    ) -> None:
        """Add the landing of an aircraft on an airfield to `found`, unless it is a duplicate of one found by silence.

        An aircraft that landed there by its silence less than 15 minutes ago, and has not taken off since, was only
        unheard on its final, or went around unheard: it has landed once.
        """
        airport, landed_at = self._silent_landings.get(icao24, ("", 0.0))
        if airport == airfield.icao and time - landed_at < _SAME_LANDING_S:
            return
        found.append(self._create(icao24, track, airfield, Direction.ARRIVALS, time, evidence))
        if evidence is Evidence.SILENT_ON_FINAL:
            self._silent_landings[icao24] = airfield.icao, time

    def _depart(
        self,
        icao24: str,
        track: Track,
        fix: Fix,
        take_off: tuple[Airfield, float],
        evidence: Evidence,
        found: list[Movement],
    ) -> None:
        """Let an aircraft be in the air that took off from an airfield at a time."""
        found.append(self._create(icao24, track, take_off[0], Direction.DEPARTURES, take_off[1], evidence))
        self._silent_landings.pop(icao24, None)
        track.restart(fix, 0.0)
        track.phase = Phase.AIRBORNE

    def _fold_airborne(
        self, state: StateVector, track: Track, fix: Fix, on: Airfield | None, found: list[Movement]
    ) -> None:
        """Judge a fix of an aircraft that is not known to be on the ground; add its take-off if it reveals one."""
        near = self._airfields.find_near(fix.latitude, fix.longitude)
        note_final(track, fix, state.category, near)
        end_final(track, fix, self._step)
        if track.phase is Phase.UNKNOWN:
            take_off = find_take_off(track, fix, state.category, near, on)
            if take_off is not None:
                self._depart(state.icao24, track, fix, take_off, Evidence.CLIMBING, found)
            else:
                end_first_heard(track, fix, self._step)
        elif track.approach is None and _has_left(fix, near):
            del self._tracks[state.icao24]

    def _may_have_landed(self, last: Fix, fix: Fix) -> bool:
        """Return True if an aircraft was low, then unheard for so long that it may have landed since; else False."""
        if fix.time - last.time < _OUT_OF_SIGHT_S or last.altitude_m is None:
            return False
        near = self._airfields.find_near(last.latitude, last.longitude)
        return any(last.altitude_m - each.elevation_m < _LOW_M for each in near)

    def _judge_silence(self, found: list[Movement]) -> None:
        """Let aircraft that fell silent on final have landed once they could have gone around; forget who is gone."""
        gone = []
        for icao24, track in self._tracks.items():
            fix, approach = track.fix, track.approach
            silence = self._time - fix.time if fix is not None else FORGET_AFTER_S
            if fix is not None and approach is not None and not track.hovers and self._has_landed(track, fix, silence):
                evidence = Evidence.SURFACE if approach.has_touched else Evidence.SILENT_ON_FINAL
                self._add_landing(icao24, track, approach.airfield, approach.touch_down, evidence, found)
                gone.append(icao24)
            elif silence >= FORGET_AFTER_S:
                gone.append(icao24)
        for icao24 in gone:
            del self._tracks[icao24]
        for icao24 in [each for each, (_, at) in self._silent_landings.items() if self._time - at >= FORGET_AFTER_S]:
            del self._silent_landings[icao24]

    def _has_landed(self, track: Track, fix: Fix, silence: float) -> bool:
        """Return True if an aircraft on final has been silent for too long to have gone around, else False."""
        return (
            track.approach is not None
            and (track.phase is Phase.AIRBORNE or track.has_flown_in)
            and silence >= _SHORTEST_SILENCE_S
            and self._poll - track.last_poll >= _FEWEST_MISSED_POLLS
            and silence >= compute_go_around_s(track.approach, fix.best_speed_m_s)
        )

    def _create(
        self, icao24: str, track: Track, airfield: Airfield, direction: Direction, time: float, evidence: Evidence
    ) -> Movement:
        """Return a movement at a time in Unix seconds, which is not later than the poll."""
        event_time = datetime.fromtimestamp(round(min(time, self._time)), UTC)
        return Movement(airfield.icao, direction, icao24, track.callsign, event_time, evidence)


def _has_left(fix: Fix, near: Sequence[Airfield]) -> bool:
    """Return True if an aircraft is far from all airfields, or too high to land soon; False if it may land soon."""
    if not near:
        return True
    highest = max(each.elevation_m for each in near) + _LEFT_ABOVE_M
    return fix.altitude_m is not None and fix.altitude_m > highest and fix.best_speed_m_s > 60.0


def detect_movements(polls: Iterable[Poll], airfields: AirfieldIndex) -> Iterator[Movement]:
    """Yield the movements in polls, which come in the order of their times."""
    detector = MovementDetector(airfields)
    for poll in polls:
        yield from detector.observe(poll)
