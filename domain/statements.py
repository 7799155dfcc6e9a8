"""The statements about a window that were made and withdrawn in the past, derived from the log alone.

Statements follow from the counts and gaps before and after each message. Only corrections can make a statement untrue,
and each correction is recorded (`domain.corrections`). So the rule is applied to what was known before and after each.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from domain.alerts import AlertState, Bound
from domain.corrections import CountsAtCorrection, KnownTime, rewind
from domain.grids import Grid, LocalGrid
from domain.hourly_counts import DAY_HOURS, DAY_QUARTERS, HOUR_QUARTERS, QUARTER_S, HourlyCounts, QuarterDay
from domain.interests import Direction
from domain.measures import Measure
from domain.percent_counts import build_window_counts
from domain.rule import NO_STATES, StateRanges, judge
from domain.traffic import DirectionTraffic, Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S


class StatementHistory(NamedTuple):
    """The valid statements about one window for one threshold of an interest, and how many were withdrawn.

    It is computed as if the interest had been set before the first flight.
    """

    states: frozenset[AlertState]
    """The states that were reported and not withdrawn: FIRING, STILL or both, or RESOLVED. Empty: none."""
    withdrawn_breaches: int
    """Number of times that a breach in the window was reported and then withdrawn."""
    withdrawn_ends: int
    """Number of times that an end of a breach (RESOLVED) was reported and then withdrawn, or lapsed with its breach."""

    def revision_of(self, state: AlertState) -> int:
        """Return the revision of a new statement with this state: how often such a statement was withdrawn before."""
        return self.withdrawn_ends if state is AlertState.RESOLVED else self.withdrawn_breaches

    def with_state(self, state: AlertState | None, repeat: bool) -> "StatementHistory":
        """Return the history after the rule has given the window this state (None: no state).

        A reported breach is withdrawn by any state that is no breach. A reported RESOLVED is withdrawn by a breach, and
        lapses with any other state. STILL is reported only to interests with `repeat`.
        """
        states, breaches, ends = self
        is_breach = state is not None and state.is_breach
        if not is_breach and not states.isdisjoint(_BREACH_STATES):
            states, breaches = states - _BREACH_STATES, breaches + 1
        if state is not AlertState.RESOLVED and AlertState.RESOLVED in states:
            states, ends = states - {AlertState.RESOLVED}, ends + 1
        if state is not None and (state is not AlertState.STILL or repeat):
            states |= {state}
        return StatementHistory(states, breaches, ends)


_BREACH_STATES: Final = frozenset({AlertState.FIRING, AlertState.STILL})
NO_STATEMENTS: Final = StatementHistory(frozenset(), 0, 0)
"""The history of a window about which nothing was ever reported."""


class PastStatements:
    """The statements that were made about the windows of one grid and direction, up to one state of the traffic.

    Results are computed on the first request, and cached.
    """

    def __init__(self, traffic: Traffic, direction: Direction, grid: Grid, measure: Measure = Measure.FLIGHTS) -> None:
        self._traffic, self._direction, self._grid, self._measure = traffic, direction, grid, measure
        self._now = build_window_counts(traffic, direction, grid, measure)
        self._parts = traffic.select_directions(direction)
        self._has_corrections = any(part.corrections or part.forgotten for part in self._parts)
        self._counts: dict[tuple[int, int], list[WindowCounts]] = {}
        self._states: dict[tuple[int, int, bool, Bound], list[StateRanges]] = {}

    def are_corrected(self, number: int, for_windows: int) -> bool:
        """Return True if a correction changed window `number` or one of the `for_windows` before it, else False."""
        if not self._has_corrections:
            return False
        hours, days = self._list_hours(number, for_windows), self._list_days(number, for_windows)
        return any(
            any(each.touches(hours.start, hours.stop) for each in part.corrections)
            or not part.forgotten.keys().isdisjoint(days)
            for part in self._parts
        )

    def find_history(
        self, bound: Bound, threshold: int, number: int, for_windows: int, first_window: int, repeat: bool
    ) -> StatementHistory:
        """Return what was stated and withdrawn so far about window `number`, for an interest with these values.

        Nothing is stated before the interest's first complete run of `for_windows` windows. `first_window`: the
        interest's first window. Corrections whose records were dropped, because a day had too many, count as
        withdrawals, so that no id comes twice.
        """
        run = self._now.find_run_bounds(number, for_windows)
        if first_window > run.begin:
            return NO_STATEMENTS
        history = NO_STATEMENTS
        for ranges in self._list_states(bound, number, for_windows, first_window > run.oldest):
            # What was reported stands while the window is not judged, or is in breach and cannot be compared.
            if ranges is not NO_STATES and not ranges.is_undecided(threshold):
                history = history.with_state(ranges.find_state(threshold), repeat)
        forgotten = self._count_forgotten(number, for_windows)
        return history._replace(
            withdrawn_breaches=history.withdrawn_breaches + forgotten,
            withdrawn_ends=history.withdrawn_ends + forgotten,
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

        They are in the order of time, and valid for window `number` and the `for_windows` before it.
        """
        key = number, for_windows
        counts = self._counts.get(key)
        if counts is None:
            counts = [self._now]
            if self.are_corrected(number, for_windows):
                counts += [
                    build_window_counts(self._build_traffic(each), self._direction, self._grid, self._measure)
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
                (KnownTime(arrivals.covered_from, arrivals.gaps), KnownTime(departures.covered_from, departures.gaps)),
                range(hours.start * HOUR_S // self._unit, hours.stop * HOUR_S // self._unit),
                self._unit,
            )
        )

    @property
    def _unit(self) -> int:
        """Seconds in the unit of counts, an hour or a quarter: every window of the grid has a whole number of it."""
        return QUARTER_S if isinstance(self._grid, LocalGrid) else HOUR_S

    def _build_traffic(self, past: CountsAtCorrection) -> Traffic:
        """Return the traffic as it was at a correction, as far as its hours reach."""
        now = self._traffic.arrivals.counts, self._traffic.departures.counts
        arrivals, departures = (
            _build_part(known, watermark, self._build_counts(flights, counts))
            for known, watermark, flights, counts in zip(past.known, past.watermarks, past.hours, now, strict=True)
        )
        return Traffic(arrivals, departures, self._traffic.usual)

    def _build_counts(self, flights: Mapping[int, int], now: HourlyCounts) -> HourlyCounts:
        """Return the counts with these flights by hour or quarter; `now`: the present counts of the direction.

        Days that have flights now, but no counts by quarter, had none at that time, either.
        """
        known = {at: number for at, number in flights.items() if number}
        if self._unit == HOUR_S:
            return HourlyCounts().with_changes(known)
        hours: Counter[int] = Counter()
        quarters: dict[int, int] = {}
        for quarter, number in known.items():
            day = now.day(quarter // DAY_QUARTERS)
            if isinstance(day, QuarterDay) or not any(day):
                quarters[quarter] = number
            else:
                hours[quarter // HOUR_QUARTERS] += number
        return HourlyCounts().with_changes(hours, quarters)

    def _list_hours(self, number: int, for_windows: int) -> range:
        """Return the hours (since 1970) that hold window `number` and the `for_windows` windows before it."""
        oldest = self._now.find_run_bounds(number, for_windows).oldest
        return range(self._grid.find_begin(oldest) // HOUR_S, -(-self._grid.find_begin(number + 1) // HOUR_S))

    def _list_days(self, number: int, for_windows: int) -> range:
        """Return the days (since 1970) of window `number` and the `for_windows` windows before it."""
        hours = self._list_hours(number, for_windows)
        return range(hours.start // DAY_HOURS, (hours.stop - 1) // DAY_HOURS + 1)

    def _count_forgotten(self, number: int, for_windows: int) -> int:
        """Return how many corrections of the days of these windows are no longer kept."""
        days = self._list_days(number, for_windows)
        return sum(number for part in self._parts for day, number in part.forgotten.items() if day in days)


def _build_part(known: KnownTime, watermark: int | None, counts: HourlyCounts) -> DirectionTraffic:
    """Return the traffic of one direction with these counts, as it was when its coverage ended at `watermark`.

    `watermark` None: it was not covered. `known`: the start of coverage and the gaps at that time; gaps that were
    declared later are left out.
    """
    if watermark is None:
        return DirectionTraffic()
    return DirectionTraffic(
        counts=counts,
        covered_from=known.covered_from,
        watermark=watermark,
        gaps=tuple((begin, min(end, watermark)) for begin, end in known.gaps if begin < watermark),
    )
