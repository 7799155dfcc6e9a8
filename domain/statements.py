"""The statements about a window that were made and withdrawn in the past: a function of the log.

What is said follows from the counts before and after each message. Only corrections can make it untrue, and each
correction is recorded (`domain.corrections`). So the rule is applied to the counts before and after each of them.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from domain.alerts import AlertState, Bound
from domain.corrections import CountsAtCorrection, rewind
from domain.hourly_counts import DAY_HOURS, HourlyCounts
from domain.interests import Direction
from domain.rule import StateRanges, judge
from domain.traffic import DirectionTraffic, Traffic
from domain.window_counts import WindowCounts
from domain.windows import Window


class Told(NamedTuple):
    """The statements about one window that stand, for one threshold of an interest, and how many were withdrawn.

    As if the interest had been set before the first flight.
    """

    states: frozenset[AlertState]
    """FIRING, STILL or both: the breach was told and not withdrawn; RESOLVED: its end was. Empty: nothing stands."""
    withdrawn_breaches: int
    """How often a breach in the window was told and withdrawn."""
    withdrawn_ends: int
    """How often the end of a breach (RESOLVED) was told and withdrawn, or lapsed with the breach that it ended."""

    def revision_of(self, state: AlertState) -> int:
        """Return the revision of a statement that is made now: how often such a one was withdrawn before."""
        return self.withdrawn_ends if state is AlertState.RESOLVED else self.withdrawn_breaches

    def after(self, state: AlertState | None, repeat: bool) -> "Told":
        """Return what stands after the rule gave the window this state (None: no state).

        A told breach is withdrawn by any state that is none. RESOLVED is withdrawn by a breach, and lapses with any
        other state. STILL is told only to interests with `repeat`.
        """
        states, breaches, ends = self
        is_breach = state is not None and state.is_breach
        if not is_breach and not states.isdisjoint(_BREACH_STATES):
            states, breaches = states - _BREACH_STATES, breaches + 1
        if state is not AlertState.RESOLVED and AlertState.RESOLVED in states:
            states, ends = states - {AlertState.RESOLVED}, ends + 1
        if state is not None and (state is not AlertState.STILL or repeat):
            states |= {state}
        return Told(states, breaches, ends)


_BREACH_STATES: Final = frozenset({AlertState.FIRING, AlertState.STILL})
NOTHING_TOLD: Final = Told(frozenset(), 0, 0)
"""Nothing was ever said."""


class PastStatements:
    """The statements that were made about the windows of one length and direction, up to one state of the traffic.

    Nothing is computed before it is requested; then it is kept.
    """

    def __init__(self, traffic: Traffic, direction: Direction, window: Window) -> None:
        self._traffic, self._direction, self._window = traffic, direction, window
        self._now = WindowCounts(traffic, direction, window)
        self._parts = traffic.select_directions(direction)
        self._has_corrections = any(part.corrections or part.forgotten for part in self._parts)
        self._counts: dict[tuple[int, int], list[WindowCounts]] = {}
        self._states: dict[tuple[int, int, bool, Bound], list[StateRanges]] = {}

    def are_corrected(self, number: int, for_windows: int) -> bool:
        """Return True if a correction changed window `number` or one of the `for_windows` before it, else False."""
        if not self._has_corrections:
            return False
        hours = self._list_hours(number, for_windows)
        days = range(hours.start // DAY_HOURS, (hours.stop - 1) // DAY_HOURS + 1)
        return any(
            any(each.touches(hours.start, hours.stop) for each in part.corrections)
            or not part.forgotten.keys().isdisjoint(days)
            for part in self._parts
        )

    def find_told(
        self, bound: Bound, threshold: int, number: int, for_windows: int, first_window: int, repeat: bool
    ) -> Told:
        """Return what stands about window `number` for an interest with these values, and what was withdrawn.

        `first_window`: the interest's first window. Corrections whose records were dropped, because a day had too many,
        count as withdrawals, so that no id comes twice.
        """
        first_complete = first_window + for_windows - 1
        if number < first_complete:
            return NOTHING_TOLD
        told = NOTHING_TOLD
        for ranges in self._list_states(bound, number, for_windows, number == first_complete):
            told = told.after(ranges.find_state(threshold), repeat)
        forgotten = self._count_forgotten(number, for_windows)
        return told._replace(
            withdrawn_breaches=told.withdrawn_breaches + forgotten, withdrawn_ends=told.withdrawn_ends + forgotten
        )

    def _list_states(self, bound: Bound, number: int, for_windows: int, is_first: bool) -> list[StateRanges]:
        """Return the states that the rule gave window `number` before and after each correction, then those of now."""
        key = number, for_windows, is_first, bound
        states = self._states.get(key)
        if states is None:
            states = self._states[key] = [
                judge(bound, counts, number, for_windows, is_first) for counts in self._list_counts(number, for_windows)
            ]
        return states

    def _list_counts(self, number: int, for_windows: int) -> list[WindowCounts]:
        """Return the counts before and after each correction of the windows up to `number`, then those of now.

        In the order of time; valid for window `number` and the `for_windows` before it.
        """
        key = number, for_windows
        counts = self._counts.get(key)
        if counts is None:
            counts = [self._now]
            if self.are_corrected(number, for_windows):
                counts += [
                    WindowCounts(self._build_traffic(each), self._direction, self._window)
                    for each in self._rewind(self._list_hours(number, for_windows))
                ]
            counts.reverse()
            self._counts[key] = counts
        return counts

    def _rewind(self, hours: range) -> list[CountsAtCorrection]:
        """Return the counts of these hours after and before each correction of the direction, the latest first."""
        arrivals, departures = self._traffic.arrivals, self._traffic.departures
        is_counted = [part in self._direction.parts for part in (Direction.ARRIVALS, Direction.DEPARTURES)]
        return list(
            rewind(
                (arrivals.corrections if is_counted[0] else (), departures.corrections if is_counted[1] else ()),
                (arrivals.counts, departures.counts),
                hours,
            )
        )

    def _build_traffic(self, past: CountsAtCorrection) -> Traffic:
        """Return the traffic as it was at a correction, as far as its hours reach."""
        arrivals, departures = (
            _build_part(part, watermark, hours)
            for part, watermark, hours in zip(
                (self._traffic.arrivals, self._traffic.departures), past.watermarks, past.hours, strict=True
            )
        )
        return Traffic(arrivals, departures)

    def _list_hours(self, number: int, for_windows: int) -> range:
        """Return the hours (since 1970) of window `number` and the `for_windows` windows before it."""
        return range((number - for_windows) * self._window.hours, (number + 1) * self._window.hours)

    def _count_forgotten(self, number: int, for_windows: int) -> int:
        """Return how many corrections of the days of these windows are no longer kept."""
        hours = self._list_hours(number, for_windows)
        days = range(hours.start // DAY_HOURS, (hours.stop - 1) // DAY_HOURS + 1)
        return sum(number for part in self._parts for day, number in part.forgotten.items() if day in days)


def _build_part(now: DirectionTraffic, watermark: int | None, hours: Mapping[int, int]) -> DirectionTraffic:
    """Return the traffic of one direction as it was when its coverage ended at `watermark` (None: not covered).

    `hours`: the counts at that time; other hours are empty. Gaps that were declared later are left out.
    """
    if watermark is None:
        return DirectionTraffic()
    return DirectionTraffic(
        counts=HourlyCounts().with_changes({hour: flights for hour, flights in hours.items() if flights}),
        covered_from=now.covered_from,
        watermark=watermark,
        gaps=tuple((begin, min(end, watermark)) for begin, end in now.gaps if begin < watermark),
    )
