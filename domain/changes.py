"""A change of an airport's traffic, and the range alerts that follow from it.

All alerts follow from the traffic alone. So an event adds the difference between the alerts of the traffic before it
and of the traffic after it, and no record of former alerts is needed: the same log gives the same alert ids, however
it was batched, repeated or interrupted.
"""

from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from domain.alerts import AlertState, Bound
from domain.episodes import Lookback
from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.live_record import Provenance
from domain.range_alerts import RangeAlert, find_range_alerts
from domain.rule import ANY_THRESHOLD, NO_HIGH, NO_LOW, THRESHOLDS_END, ThresholdRange
from domain.statements import PastStatements
from domain.traffic import DirectionTraffic, Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, Window, seconds

NO_TRAFFIC: Final = Traffic()
"""An airport's traffic before the first observation: no flights, no coverage."""


class _ChangedRange(NamedTuple):
    """The range of hours in which one direction's traffic changed, and the direction's coverage before and after.

    For BOTH the range spans the changes of arrivals and of departures.
    """

    first: int
    """The first changed hour, in hours since 1970."""
    last: int
    """The last changed hour, in hours since 1970."""
    covered_until_before: int | None
    """The end of coverage of all parts before the change (seconds since 1970); None: not all parts were covered."""
    covered_until: int
    """The end of coverage of all parts after the change (seconds since 1970)."""
    last_known: int
    """The last hour in which a part is covered or has flights, in hours since 1970."""
    is_first_coverage: bool
    """True if the change is the first after which all parts are covered, so that all windows are new."""


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
            Direction.ARRIVALS: _find_changed_hours(before.arrivals, after.arrivals),
            Direction.DEPARTURES: _find_changed_hours(before.departures, after.departures),
        }
        self._changed_ranges = {direction: self._build_changed_range(direction, hours) for direction in Direction}
        self._window_counts: dict[tuple[Direction, Window], tuple[WindowCounts, WindowCounts]] = {}
        self._lookbacks: dict[tuple[Direction, Window], tuple[Lookback, Lookback]] = {}
        self._past_statements: dict[tuple[Direction, Window], PastStatements] = {}

    def _build_changed_range(
        self, direction: Direction, hours: Mapping[Direction, tuple[int, int] | None]
    ) -> _ChangedRange | None:
        """Return one range that spans the changed hours of all parts of a direction, with the coverage of all parts.

        `hours`: the first and last changed hour of each part, None if the part did not change. Returns None if no part
        changed, or if a part is not covered after the change.
        """
        changed = [part_hours for part in direction.parts if (part_hours := hours[part]) is not None]
        covered_until = _find_coverage_end(self._after, direction)
        covered_until_before = _find_coverage_end(self._before, direction)
        if not changed or covered_until is None:
            return None
        known = self._after.select_directions(direction)
        if self._is_correction:  # the last flights may have been taken away
            known += self._before.select_directions(direction)
        return _ChangedRange(
            first=min([first for first, _ in changed]),
            last=max([last for _, last in changed]),
            covered_until_before=covered_until_before,
            covered_until=covered_until,
            last_known=max([_find_last_known_hour(part) for part in known]),
            is_first_coverage=covered_until_before is None,
        )

    def _get_window_counts(self, direction: Direction, window: Window) -> tuple[WindowCounts, WindowCounts]:
        """Return the counts of the windows before and after the change; later calls return the same two objects."""
        key = direction, window
        pair = self._window_counts.get(key)
        if pair is None:
            pair = self._window_counts[key] = WindowCounts(self._before, *key), WindowCounts(self._after, *key)
        return pair

    def list_affected_windows(self, direction: Direction, window: Window, for_windows: int) -> list[int]:
        """Return, in order, the numbers of the windows whose alerts may differ between before and after the change.

        These are the changed windows and the `for_windows` (length of the longest run) windows after them; after the
        first coverage of all parts, all windows since the start of coverage. Windows without flights that are not
        closed, and windows before the coverage, are left out. Empty if nothing changed or a part is not covered.
        """
        changed = self._changed_ranges[direction]
        if changed is None:
            return []
        before, after = self._get_window_counts(direction, window)
        first, last = after.first or 0, changed.last_known // window.hours
        # The first coverage of one part makes all known windows of the other ready to be judged; a later change
        # affects only the changed windows and the runs that follow.
        if not changed.is_first_coverage:
            first = max(first, changed.first // window.hours)
            last = min(last, changed.last // window.hours + for_windows)
        # An open window without flights has no alerts, unless it had flights before.
        return [
            number
            for number in range(first, last + 1)
            if (count := after[number]).is_closed or count.flights or before[number].flights
        ]

    def has_no_breach(
        self, direction: Direction, window: Window, for_windows: int, low: int | None, high: int | None
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
        hours = window.hours
        length = hours * HOUR_S
        first, last = changed.first // hours, changed.last_known // hours
        closed_until = changed.covered_until // length
        if changed.covered_until_before is None or first < changed.covered_until_before // length:
            return False  # alerts of windows that were closed before may be different now
        if closed_until != changed.covered_until_before // length:
            first -= for_windows  # a window that closes now is compared with the windows before it
        most = least = 0
        for part in self._after.select_directions(direction):
            counts = part.counts.list_hours(first * hours, (last + 1) * hours)
            if hours > 1:
                counts = tuple([sum(counts[at : at + hours]) for at in range(0, len(counts), hours)])
            most += max(counts)
            least += min(counts[: closed_until - first], default=0)
        return (high is None or most <= high) and (low is None or closed_until <= first or least >= low)

    def find_crossed_thresholds(
        self, direction: Direction, window: Window, for_windows: int, first_complete: Container[int]
    ) -> Iterator[tuple[int, ThresholdRange, ThresholdRange]]:
        """Yield each affected window, in order, with its ranges of high and of low thresholds that may have new alerts.

        Interests with other thresholds have no new alerts, except for STILL; the ranges may be empty or too large.
        `for_windows`: the length of the longest run. `first_complete`: the windows in which the runs of some interests
        can be complete for the first time.
        """
        for number in self.list_affected_windows(direction, window, for_windows):
            before, after = self._get_window_counts(direction, window)
            is_first_complete = number in first_complete
            yield (
                number,
                *_find_crossed_ranges(before, after, number, for_windows, is_first_complete, self._is_correction),
            )

    def find_range_alerts(
        self, direction: Direction, window: Window, number: int, for_windows: int, bound: Bound
    ) -> list[RangeAlert]:
        """Return the new alerts of one bound in window `number`, for runs of `for_windows`, in the order of raising.

        First the alerts for interests that began earlier, then those with `is_first`; of each kind WITHDRAWN, FIRING,
        RESOLVED and STILL, with no, one or two ranges each. Empty if the states did not change, and for a correction of
        a window whose earlier windows are not retained any more, because its earlier alerts are unknown.
        """
        before, after = self._get_window_counts(direction, window)
        if self._is_correction and after.is_truncated and number - for_windows < (after.first or 0):
            return []
        was_corrected = self.get_past_statements(direction, window).are_corrected(number, for_windows)
        return [*find_range_alerts(bound, before, after, number, for_windows, was_corrected)]

    def is_due(
        self,
        direction: Direction,
        window: Window,
        range_alert: RangeAlert,
        threshold: int,
        for_windows: int,
        first_window: int,
        repeat: bool,
    ) -> bool:
        """Return True if an interest with these values is to get an alert, by the statements that it got before.

        The range alert must apply to the interest. True if the alert does not depend on earlier statements.
        """
        if range_alert.told is None:
            return True
        history = self.get_past_statements(direction, window).find_history(
            range_alert.bound, threshold, range_alert.number, for_windows, first_window, repeat
        )
        if range_alert.told:
            return any(state.is_breach for state in history.states)
        return range_alert.state not in history.states

    def get_past_statements(self, direction: Direction, window: Window) -> PastStatements:
        """Return the statements that were made before the change; the same object for each call.

        With the first coverage of all parts (which includes an interest that was just set): the statements that follow
        from the traffic after the change, as if the interest had been set before the first flight.
        """
        key = direction, window
        past = self._past_statements.get(key)
        if past is None:
            is_known = _find_coverage_end(self._before, direction) is not None
            past = self._past_statements[key] = PastStatements(self._before if is_known else self._after, *key)
        return past

    def was_window_known(self, direction: Direction, window: Window, window_start: datetime) -> bool:
        """Return True if the window that starts at `window_start` was fully known before the change.

        That is: every part of the direction was covered to the window's end, and no gap touched the window. False if it
        was open, touched by a gap, or before the first coverage (so for all windows of an interest that was just set).
        """
        before, _ = self._get_window_counts(direction, window)
        return before[seconds(window_start) // (window.hours * HOUR_S)].is_closed

    def get_lookbacks(self, direction: Direction, window: Window) -> tuple[Lookback, Lookback]:
        """Return the lookbacks into the traffic before and after the change; the same two objects for each call."""
        key = direction, window
        lookbacks = self._lookbacks.get(key)
        if lookbacks is None:
            before, after = self._get_window_counts(direction, window)
            lookbacks = self._lookbacks[key] = Lookback(before), Lookback(after)
        return lookbacks

    def find_provenance(self, direction: Direction, window: Window, number: int) -> Provenance:
        """Return where the change comes from; without a message, where what is known of window `number` comes from."""
        if self._cause is not None:
            return self._cause
        begin, end = _find_window_seconds(window, number)
        parts = self._after.select_directions(direction)
        if any(part.live is not None and part.live.is_unsettled(begin, end) for part in parts):
            return Provenance.LIVE
        is_recorded = all(part.watermark is not None and end <= part.watermark for part in parts)
        return Provenance.SETTLED if is_recorded else Provenance.RECENT

    def find_corrected_count(
        self,
        direction: Direction,
        window: Window,
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
        begin, end = _find_window_seconds(window, number)
        before, after = self._get_window_counts(direction, window)
        if state is AlertState.WITHDRAWN:
            is_correction = any(live.has_told_of(begin, end) for live in lives)
        else:
            run = range(max(number - for_windows, min(first_window, number)), number)
            is_correction = (
                any(live.has_covered(begin, end) for live in lives)
                and before[number].is_closed
                and all(before[each].is_closed or not after[each].is_closed for each in run)
            )
        return before[number].flights if is_correction else None


def _find_window_seconds(window: Window, number: int) -> tuple[int, int]:
    """Return the begin and the end of window `number`, in seconds since 1970."""
    length = window.hours * HOUR_S
    return number * length, (number + 1) * length


def _is_correction(before: Traffic, after: Traffic) -> bool:
    """Return True if the change added a correction to a direction's records (`domain.corrections`), else False."""
    return any(
        new.corrections and (not old.corrections or new.corrections[-1].number != old.corrections[-1].number)
        for old, new in ((before.arrivals, after.arrivals), (before.departures, after.departures))
    )


def _find_coverage_end(traffic: Traffic, direction: Direction) -> int | None:
    """Return the earliest watermark of a direction's parts (seconds since 1970); None if a part is not covered."""
    covered_until: int | None = None
    for part in traffic.select_directions(direction):
        if part.watermark is None:
            return None
        covered_until = part.watermark if covered_until is None else min(covered_until, part.watermark)
    return covered_until


def _find_last_known_hour(traffic: DirectionTraffic) -> int:
    """Return the later of the hour that holds the watermark and the last hour with flights, in hours since 1970.

    Without watermark only the flights count; 0 if neither exists.
    """
    counts = traffic.counts
    covered_until = (traffic.watermark or 0) // HOUR_S
    if not counts.days:
        return covered_until
    last_day = counts.days[-1]
    last_hour = next((counts.end_hour - back for back in range(1, DAY_HOURS + 1) if last_day[-back]), 0)
    return max(covered_until, last_hour)


def _find_crossed_ranges(
    then: WindowCounts,
    now: WindowCounts,
    number: int,
    for_windows: int,
    is_first_complete: bool,
    is_correction: bool,
) -> tuple[ThresholdRange, ThresholdRange]:
    """Return the ranges of high and of low thresholds that may have new alerts, except STILL, in window `number`.

    The ranges hold every such threshold of all run lengths up to `for_windows`, and may hold more: all thresholds if
    this window or one of the `for_windows` before it is lost, else none if all these windows are unchanged, else all
    after a correction (`is_correction`): counts may have gone down, and what was said may have to be withdrawn.
    `then` and `now`: the counts before and after the change. `is_first_complete`: True if some interests' runs can be
    complete in this window for the first time.
    """
    window, window_then = now[number], then[number]
    if window.is_lost:
        return ANY_THRESHOLD, ANY_THRESHOLD
    last = now[number - 1]
    flights, flights_then = window.flights, window_then.flights
    least = most = last.flights
    are_earlier_unchanged = True
    for back in range(number - for_windows, number):
        earlier = now[back]
        if earlier.is_lost:
            return ANY_THRESHOLD, ANY_THRESHOLD
        if earlier.flights < least:
            least = earlier.flights
        elif earlier.flights > most:
            most = earlier.flights
        are_earlier_unchanged = are_earlier_unchanged and earlier == then[back]
    if are_earlier_unchanged and window == window_then:
        return NO_HIGH, NO_LOW
    if is_correction:
        return ANY_THRESHOLD, ANY_THRESHOLD
    high, low = NO_HIGH, NO_LOW
    fired = flights_then if are_earlier_unchanged else 0  # lower thresholds were breached before, and have fired
    if last.is_closed:
        # FIRING needs a window before that does not breach the threshold, RESOLVED needs the last one to breach it.
        if not window.is_closed:
            high = ThresholdRange(max(least, fired), flights)
        else:
            high = ThresholdRange(min(least, flights), max(last.flights, flights))
            low = ThresholdRange(min(flights, last.flights) + 1, max(flights, most) + 1)
    if is_first_complete:  # for some interests there was no breach before
        high = ThresholdRange(min(high.begin, fired) if last.is_closed else fired, max(high.end, flights))
        if window.is_closed:
            low = ThresholdRange(min(low.begin, flights + 1), THRESHOLDS_END)
    return high, low


def _find_changed_hours(old: DirectionTraffic, new: DirectionTraffic) -> tuple[int, int] | None:
    """Return the first and the last hour (since 1970) in which counts or coverage differ, or None if nothing does.

    Coverage differs from the old watermark (without one: the start of coverage) to the new one, and where it was
    filled. Days that were only discarded are no difference.
    """
    if old is new:
        return None
    hours: list[int] = []
    if old.watermark != new.watermark:
        hours += [(old.watermark or new.covered_from or 0) // HOUR_S, (new.watermark or 0) // HOUR_S]
    filled = new.list_filled(old)
    if filled:
        hours += [filled[0][0] // HOUR_S, (filled[-1][1] - 1) // HOUR_S]
    days = new.counts.find_changed_days(old.counts, new.first_retained_day)
    for day in days[:1] + days[-1:]:
        earlier, later = old.counts.day(day), new.counts.day(day)
        changed = [at for at in range(DAY_HOURS) if earlier[at] != later[at]]
        hours += [day * DAY_HOURS + at for at in changed[:1] + changed[-1:]]
    return (min(hours), max(hours)) if hours else None
