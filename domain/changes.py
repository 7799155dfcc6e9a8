"""A change of an airport's traffic, and the range alerts that follow from it.

All alerts follow from the traffic alone. So an event adds the difference between the alerts of the traffic before it
and of the traffic after it, and no record of former alerts is needed: the same log gives the same alert ids, however
it was batched, repeated or interrupted.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from domain.alerts import AlertState, Bound
from domain.calendar import Calendar
from domain.changed_hours import ChangedRange, find_changed_hours, find_coverage_end, find_last_known_hour
from domain.crossed_thresholds import find_crossed_percents, find_crossed_ranges
from domain.episodes import Lookback
from domain.grids import Grid, LocalGrid
from domain.interests import Direction
from domain.live_record import Provenance
from domain.measures import Measure
from domain.percent_counts import PercentCounts, PercentLookback, may_have_breach, may_have_local_breach
from domain.range_alerts import RangeAlert, find_range_alerts
from domain.rule import ThresholdRange
from domain.statements import PastStatements
from domain.traffic import Traffic
from domain.usual_fold import list_base_counts
from domain.window_counts import RunBounds, WindowCounts
from domain.windows import HOUR_S, seconds

NO_TRAFFIC: Final = Traffic()
"""An airport's traffic before the first observation: no flights, no coverage."""


class TrafficChange:
    """A change of an airport's traffic, which computes the range alerts that follow from it, window by window.

    `before` and `after`: the traffic before and after the change; with `before` = NO_TRAFFIC all alerts so far follow.
    `cause`: where the message comes from that made the change; None: no message did, an interest was set. One object
    serves all interests of the airport: it caches the counts and the history of the windows.
    """

    def __init__(self, before: Traffic, after: Traffic, cause: Provenance | None = None) -> None:
        """Find the changed hours of each direction; counts and history are computed when they are first requested."""
        self._before, self._after, self._cause = before, after, cause
        self._is_correction = _is_correction(before, after)
        """True if windows that were judged before may be different now: by flights, or by a gap that was filled."""
        hours = {
            Direction.ARRIVALS: find_changed_hours(before.arrivals, after.arrivals),
            Direction.DEPARTURES: find_changed_hours(before.departures, after.departures),
        }
        self._changed_ranges = {direction: self._build_changed_range(direction, hours) for direction in Direction}
        self._window_counts: dict[tuple[Direction, Grid], tuple[WindowCounts, WindowCounts]] = {}
        self._percent_counts: dict[tuple[Direction, Grid], tuple[PercentCounts, PercentCounts]] = {}
        self._lookbacks: dict[tuple[Direction, Grid, Measure], tuple[Lookback, Lookback]] = {}
        self._past_statements: dict[tuple[Direction, Grid, Measure], PastStatements] = {}

    def _build_changed_range(
        self, direction: Direction, hours: Mapping[Direction, tuple[int, int] | None]
    ) -> ChangedRange | None:
        """Return one range that spans the changed hours of all parts of a direction, with the coverage of all parts.

        `hours`: the first and last changed hour of each part, None if the part did not change. Returns None if no part
        changed, or if a part is not covered after the change.
        """
        changed = [part_hours for part in direction.parts if (part_hours := hours[part]) is not None]
        covered_until = find_coverage_end(self._after, direction) if changed else None
        if covered_until is None:
            return None
        covered_until_before = find_coverage_end(self._before, direction)
        known = self._after.select_directions(direction)
        if self._is_correction:  # the last flights may have been taken away
            known += self._before.select_directions(direction)
        return ChangedRange(
            first=min([first for first, _ in changed]),
            last=max([last for _, last in changed]),
            covered_until_before=covered_until_before,
            covered_until=covered_until,
            last_known=max([find_last_known_hour(part) for part in known]),
            is_first_coverage=covered_until_before is None,
        )

    def _get_window_counts(self, direction: Direction, grid: Grid) -> tuple[WindowCounts, WindowCounts]:
        """Return the counts of the windows before and after the change; later calls return the same two objects."""
        key = direction, grid
        pair = self._window_counts.get(key)
        if pair is None:
            pair = self._window_counts[key] = WindowCounts(self._before, *key), WindowCounts(self._after, *key)
        return pair

    def _get_percent_counts(self, direction: Direction, grid: Grid) -> tuple[PercentCounts, PercentCounts]:
        """Return the windows for thresholds in percent, before and after the change; later calls return the same pair.

        Both have the usual counts of after the change: those of windows that were reached before do not change.
        """
        key = direction, grid
        pair = self._percent_counts.get(key)
        if pair is None:
            before = self._before.with_usual(self._after.usual)
            pair = self._percent_counts[key] = PercentCounts(before, *key), PercentCounts(self._after, *key)
        return pair

    def _get_counts(self, direction: Direction, grid: Grid, measure: Measure) -> tuple[WindowCounts, WindowCounts]:
        """Return the windows for thresholds in one measure, before and after the change."""
        if measure is Measure.PERCENT:
            return self._get_percent_counts(direction, grid)
        return self._get_window_counts(direction, grid)

    def find_run_bounds(
        self, direction: Direction, grid: Grid, measure: Measure, number: int, for_windows: int
    ) -> RunBounds:
        """Return the first window of the run of `for_windows` windows up to window `number`, and the one before it."""
        return self._get_counts(direction, grid, measure)[1].find_run_bounds(number, for_windows)

    def list_affected_windows(self, direction: Direction, grid: Grid, measure: Measure, for_windows: int) -> list[int]:
        """Return, in order, the numbers of the windows whose alerts may differ between before and after the change.

        These are the changed windows and the `for_windows` (length of the longest run) windows after them; after the
        first coverage of all parts, all windows since the start of coverage. Windows without flights that are not
        closed, and windows before the coverage, are left out, and for percents those that are skipped or not reached.
        Empty if nothing changed or a part is not covered.
        """
        changed = self._changed_ranges[direction]
        if changed is None:
            return []
        before, after = self._get_window_counts(direction, grid)
        first, (changed_first, changed_last) = after.first or 0, _find_windows(grid, changed.first, changed.last)
        _, last = _find_windows(grid, changed.first, changed.last_known)
        # The first coverage of one part makes all known windows of the other ready to be judged; a later change
        # affects only the changed windows and the runs that follow.
        if not changed.is_first_coverage:
            first = max(first, changed_first)
            last = min(last, changed_last + for_windows)
        numbers: Iterable[int] = range(first, last + 1)
        if measure is Measure.PERCENT:
            before, after = judged = self._get_percent_counts(direction, grid)
            changed_until = last if changed.is_first_coverage else changed_last
            numbers = judged[1].list_affected(first, changed_until, for_windows)
        # An open window without flights has no alerts, unless it had flights before.
        return [
            number
            for number in numbers
            if (count := after[number]).is_closed or count.flights or before[number].flights
        ]

    def has_no_breach(
        self,
        direction: Direction,
        grid: Grid,
        measure: Measure,
        for_windows: int,
        low: int | None,
        high: int | None,
    ) -> bool:
        """Return True if the change certainly has no new alerts, because no relevant count is a breach.

        Also returns True if nothing changed or a part of the direction is not covered.
        Returns False if a breach is possible: always after the first coverage of all parts, and after a correction:
        late flights, or flights that were taken away. This quick check is enough for most changes: it compares the
        extreme counts with `low` (the highest low threshold) and `high` (the lowest high threshold); None: there is
        none. `for_windows`: the length of the longest run.
        """
        changed = self._changed_ranges[direction]
        if changed is None:
            return True
        if self._is_correction:
            return False  # alerts of windows that were judged before may be different now
        if isinstance(grid, LocalGrid):
            return self._has_no_local_breach(direction, grid, measure, changed, for_windows, low, high)
        hours, length = grid.hours, grid.hours * HOUR_S
        first, last = changed.first // hours, changed.last_known // hours
        closed_until = changed.covered_until // length
        if changed.covered_until_before is None or first < changed.covered_until_before // length:
            return False  # alerts of windows that were closed before may be different now
        is_closing = closed_until != changed.covered_until_before // length
        if measure is Measure.PERCENT:
            return not may_have_breach(
                self._after,
                direction,
                grid.window,
                range(first, last + 1),
                for_windows if is_closing else 0,
                changed.covered_until,
                low,
                high,
            )
        if is_closing:
            first -= for_windows  # a window that closes now is compared with the windows before it
        most = least = 0
        for part in self._after.select_directions(direction):
            counts = part.counts.list_hours(first * hours, (last + 1) * hours)
            if hours > 1:
                counts = tuple([sum(counts[at : at + hours]) for at in range(0, len(counts), hours)])
            most += max(counts)
            least += min(counts[: closed_until - first], default=0)
        return (high is None or most <= high) and (low is None or closed_until <= first or least >= low)

    def _has_no_local_breach(
        self,
        direction: Direction,
        grid: LocalGrid,
        measure: Measure,
        changed: ChangedRange,
        for_windows: int,
        low: int | None,
        high: int | None,
    ) -> bool:
        """Return True if windows by the airport's clock certainly have no new alerts, False if a breach is possible."""
        first, last = _find_windows(grid, changed.first, changed.last_known)
        closed_until, before = grid.find_number(changed.covered_until), changed.covered_until_before
        if before is None or first < grid.find_number(before):
            return False  # also if only an hour lies in two windows, of which the first was closed before
        is_closing = closed_until != grid.find_number(before)
        if measure is Measure.PERCENT:
            _, judged = self._get_percent_counts(direction, grid)
            return not may_have_local_breach(judged, range(first, last + 1), for_windows * is_closing, low, high)
        if is_closing:
            first -= for_windows  # a window that closes now is compared with the windows before it
        _, after = self._get_window_counts(direction, grid)
        most = max([after[number].flights for number in range(first, last + 1)], default=0)
        least = min([after[number].flights for number in range(first, closed_until)], default=None)
        return (high is None or most <= high) and (low is None or least is None or least >= low)

    def find_crossed_thresholds(
        self,
        direction: Direction,
        grid: Grid,
        measure: Measure,
        for_windows: int,
        first_complete: Container[int],
        first_windows: Mapping[int, Container[int]],
    ) -> Iterator[tuple[int, ThresholdRange, ThresholdRange]]:
        """Yield each affected window, in order, with its ranges of high and of low thresholds that may have new alerts.

        Interests with other thresholds have no new alerts, except for STILL; the ranges may be empty or too large.
        `for_windows`: the length of the longest run. `first_complete`: the windows in which the runs of some interests
        can be complete for the first time, if no window is skipped. `first_windows`: the first windows of the interests
        by the length of their run.
        """
        for number in self.list_affected_windows(direction, grid, measure, for_windows):
            if measure is Measure.PERCENT:
                judged = self._get_percent_counts(direction, grid)
                yield number, *find_crossed_percents(*judged, number, for_windows, first_windows, self._is_correction)
                continue
            before, after = self._get_window_counts(direction, grid)
            is_first_complete = number in first_complete
            yield (
                number,
                *find_crossed_ranges(before, after, number, for_windows, is_first_complete, self._is_correction),
            )

    def find_range_alerts(
        self, direction: Direction, grid: Grid, measure: Measure, number: int, for_windows: int, bound: Bound
    ) -> list[RangeAlert]:
        """Return the new alerts of one bound in window `number`, for runs of `for_windows`, in the order of raising.

        First the alerts for interests that began earlier, then those with `is_first`; of each kind WITHDRAWN, FIRING,
        RESOLVED and STILL, with no, one or two ranges each. Empty if the states did not change, and for a correction of
        a window whose earlier windows are not retained any more, because its earlier alerts are unknown.
        """
        before, after = self._get_counts(direction, grid, measure)
        oldest = after.find_run_bounds(number, for_windows).oldest
        if self._is_correction and after.is_truncated and oldest < (after.first or 0):
            return []
        was_corrected = self.get_past_statements(direction, grid, measure).are_corrected(number, for_windows)
        return [*find_range_alerts(bound, before, after, number, for_windows, was_corrected)]

    def is_due(
        self,
        direction: Direction,
        grid: Grid,
        measure: Measure,
        range_alert: RangeAlert,
        threshold: int,
        for_windows: int,
        first_window: int,
        repeat: bool,
    ) -> bool:
        """Return True if an interest with these values is to get an alert, False if its earlier statements exclude it.

        The range alert must apply to the interest. True also if the alert does not depend on earlier statements.
        """
        if range_alert.told is None:
            return True
        history = self.get_past_statements(direction, grid, measure).find_history(
            range_alert.bound, threshold, range_alert.number, for_windows, first_window, repeat
        )
        if range_alert.told:
            return any(state.is_breach for state in history.states)
        return range_alert.state not in history.states

    def get_past_statements(
        self, direction: Direction, grid: Grid, measure: Measure = Measure.FLIGHTS
    ) -> PastStatements:
        """Return the statements that were made before the change; the same object for each call.

        With the first coverage of all parts (which includes an interest that was just set): the statements that follow
        from the traffic after the change, as if the interest had been set before the first flight.
        """
        key = direction, grid, measure
        past = self._past_statements.get(key)
        if past is None:
            is_known = find_coverage_end(self._before, direction) is not None
            past = self._past_statements[key] = PastStatements(
                self._before.with_usual(self._after.usual) if is_known else self._after, *key
            )
        return past

    def was_window_known(self, direction: Direction, grid: Grid, window_start: datetime) -> bool:
        """Return True if the window that starts at `window_start` was fully known before the change.

        That is: every part of the direction was covered to the window's end, and no gap touched the window. False if it
        was open, touched by a gap, or before the first coverage (so for all windows of an interest that was just set).
        """
        before, _ = self._get_window_counts(direction, grid)
        return before[grid.find_number(seconds(window_start))].is_closed

    def get_lookbacks(
        self, direction: Direction, grid: Grid, measure: Measure = Measure.FLIGHTS
    ) -> tuple[Lookback, Lookback]:
        """Return the lookbacks into the traffic before and after the change; the same two objects for each call."""
        key = direction, grid, measure
        lookbacks = self._lookbacks.get(key)
        if lookbacks is None:
            counts = self._get_window_counts(direction, grid)
            if measure is Measure.PERCENT:
                judged = self._get_percent_counts(direction, grid)
                lookbacks = PercentLookback(counts[0], judged[0]), PercentLookback(counts[1], judged[1])
            else:
                lookbacks = Lookback(counts[0]), Lookback(counts[1])
            self._lookbacks[key] = lookbacks
        return lookbacks

    def find_doubled_usual(self, direction: Direction, grid: Grid, number: int) -> int | None:
        """Return twice the usual count of window `number` after the change; None: nothing is usual, or not reached."""
        return self._get_percent_counts(direction, grid)[1].find_doubled_usual(number)

    def list_base_counts(self, direction: Direction, grid: Grid, number: int, calendar: Calendar) -> tuple[int, ...]:
        """Return the counts of the base windows of window `number` as far as they are known after the change."""
        return list_base_counts(self._after, calendar, direction, grid, number)

    def find_provenance(self, direction: Direction, grid: Grid, number: int) -> Provenance:
        """Return where the change comes from; without a message, where what is known of window `number` comes from."""
        if self._cause is not None:
            return self._cause
        begin, end = grid.find_begin(number), grid.find_begin(number + 1)
        parts = self._after.select_directions(direction)
        if any(part.live is not None and part.live.is_unsettled(begin, end) for part in parts):
            return Provenance.LIVE
        is_recorded = all(part.watermark is not None and end <= part.watermark for part in parts)
        return Provenance.SETTLED if is_recorded else Provenance.RECENT

    def find_corrected_count(
        self,
        direction: Direction,
        grid: Grid,
        measure: Measure,
        number: int,
        for_windows: int,
        first_window: int,
        state: AlertState,
    ) -> int | None:
        """Return the count before the change if an alert about window `number` only corrects what was known live.

        The message is the settled record, and either it withdraws an alert of a window of which positions told; or
        positions had covered the window, it was closed before, and so was each other window of the alert's run that is
        closed now, as far as the interest (from `first_window` on) is concerned. None for a first statement: of a
        window that becomes known with the message, such as all windows where nothing is told from positions.
        """
        if self._cause is not Provenance.SETTLED:
            return None
        lives = [part.live for part in self._before.select_directions(direction) if part.live is not None]
        begin, end = grid.find_begin(number), grid.find_begin(number + 1)
        before, after = self._get_window_counts(direction, grid)
        if state is AlertState.WITHDRAWN:
            is_correction = any(live.has_told_of(begin, end) for live in lives)
        else:
            earlier = self._get_counts(direction, grid, measure)[1].list_earlier(number, for_windows)
            run = [each for each in earlier if each >= first_window]
            is_correction = (
                any(live.has_covered(begin, end) for live in lives)
                and before[number].is_closed
                and all(before[each].is_closed or not after[each].is_closed for each in run)
            )
        return before[number].flights if is_correction else None


def _find_windows(grid: Grid, first_hour: int, last_hour: int) -> tuple[int, int]:
    """Return the first and the last window that have a part of one of these hours (since 1970)."""
    if isinstance(grid, LocalGrid):
        return grid.find_number(first_hour * HOUR_S), grid.find_number((last_hour + 1) * HOUR_S - 1)
    hours = grid.hours
    return first_hour // hours, last_hour // hours


def _is_correction(before: Traffic, after: Traffic) -> bool:
    """Return True if the change added a correction to a direction's records (`domain.corrections`), else False."""
    return any(
        new.corrections and (not old.corrections or new.corrections[-1].number != old.corrections[-1].number)
        for old, new in ((before.arrivals, after.arrivals), (before.departures, after.departures))
    )
