"""The alerts that follow from a change of an airport's traffic.

All alerts follow from the traffic alone. So an event adds the difference between the alerts of the traffic before it
and of the traffic after it, and no record of former alerts is needed: the same log gives the same alert ids, however
it was cut, repeated or interrupted.
"""

from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple, assert_never

from domain.alerts import Alert, AlertState, Bound, compute_alert_id, list_thresholds
from domain.episodes import Lookback
from domain.interests import Direction, Interest
from domain.rule import (
    ANY_THRESHOLD,
    NO_HIGH,
    NO_LOW,
    NO_STATES,
    THRESHOLDS_END,
    StateRanges,
    ThresholdRange,
    find_first_window,
    judge_high,
    judge_low,
)
from domain.traffic import DAY_HOURS, DirectionTraffic, Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, Window, instant

NO_TRAFFIC: Final = Traffic()
"""An airport's traffic before the first observation: no flights, no coverage."""


class RangeAlert(NamedTuple):
    """A new alert of one window, for all thresholds of one bound in a range.

    It follows from the traffic after a change, and did not follow from the traffic before. Not every interest with such
    a threshold has the alert: see `applies_to`.
    """

    number: int
    """The window's number since 1970."""
    bound: Bound
    state: AlertState
    thresholds: ThresholdRange
    is_first: bool
    """True: only for interests whose first window is `for_windows` - 1 before this window. False: only for interests
    that began earlier."""
    for_repeat: bool
    """True: only for interests with `repeat`. False: for all."""
    flights: int | None
    """Flights in the window; None: the first count that breaches the threshold, because the window is still open."""
    withdrawn_flights: int | None = None
    """With WITHDRAWN: the count of the withdrawn alert. None: another state."""

    def applies_to(self, first_window: int, for_windows: int, repeat: bool) -> bool:
        """Return True if an interest with these values has the alert, provided that its threshold is in `thresholds`.

        Returns False if the alert is only for interests with `repeat` and this one has none, or if the interest's first
        window is wrong: it must be `for_windows` - 1 before the alert's window if `is_first`, else earlier than that.
        Neither the threshold nor the window length is compared.
        """
        if self.for_repeat and not repeat:
            return False
        oldest = self.number - for_windows  # the window before the run
        return first_window == oldest + 1 if self.is_first else first_window <= oldest


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
    One object serves all interests of the airport: it caches the counts and the history of the windows.
    """

    def __init__(self, before: Traffic, after: Traffic) -> None:
        """Find the changed hours of each direction; counts and history are computed when they are first requested."""
        self._before, self._after = before, after
        hours = {
            Direction.ARRIVALS: _find_changed_hours(before.arrivals, after.arrivals),
            Direction.DEPARTURES: _find_changed_hours(before.departures, after.departures),
        }
        self._changed_ranges = {direction: self._build_changed_range(direction, hours) for direction in Direction}
        self._window_counts: dict[tuple[Direction, Window], tuple[WindowCounts, WindowCounts]] = {}
        self._lookbacks: dict[tuple[Direction, Window], tuple[Lookback, Lookback]] = {}

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
        return _ChangedRange(
            first=min([first for first, _ in changed]),
            last=max([last for _, last in changed]),
            covered_until_before=covered_until_before,
            covered_until=covered_until,
            last_known=max([_find_last_known_hour(part) for part in self._after.select_directions(direction)]),
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
        _, after = self._get_window_counts(direction, window)
        first, last = after.first or 0, changed.last_known // window.hours
        # The first coverage of one part makes all known windows of the other ready to be judged; a later change
        # affects only the changed windows and the runs that follow.
        if not changed.is_first_coverage:
            first = max(first, changed.first // window.hours)
            last = min(last, changed.last // window.hours + for_windows)
        # An open window without flights has no alerts yet.
        return [number for number in range(first, last + 1) if (count := after[number]).is_closed or count.flights]

    def has_no_breach(
        self, direction: Direction, window: Window, for_windows: int, low: int | None, high: int | None
    ) -> bool:
        """Return True if the change certainly has no new alerts, because no relevant count is a breach.

        Also returns True if nothing changed or a part of the direction is not covered.
        Returns False if a breach is possible: always after the first coverage of all parts, and after a change of a
        window that was closed before (late flights). This quick check is enough for most changes: it compares the
        extreme counts with `low` (the highest low threshold) and `high` (the lowest high threshold); None: there is
        none. `for_windows`: the length of the longest run.
        """
        changed = self._changed_ranges[direction]
        if changed is None:
            return True
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
            yield number, *_find_crossed_ranges(before, after, number, for_windows, number in first_complete)

    def find_range_alerts(
        self, direction: Direction, window: Window, number: int, for_windows: int, bound: Bound
    ) -> list[RangeAlert]:
        """Return the new alerts of one bound in window `number`, for runs of `for_windows`, in the order of raising.

        First the alerts for interests that began earlier, then those with `is_first`; of each kind WITHDRAWN (only
        LOW), FIRING, RESOLVED and STILL, with no, one or two ranges each. Empty if the states did not change.
        """
        before, after = self._get_window_counts(direction, window)
        match bound:
            case Bound.HIGH:
                return [*_find_high_alerts(before, after, number, for_windows)]
            case Bound.LOW:
                return [*_find_low_alerts(before, after, number, for_windows)]
            case _:
                assert_never(bound)

    def get_lookbacks(self, direction: Direction, window: Window) -> tuple[Lookback, Lookback]:
        """Return the lookbacks into the traffic before and after the change; the same two objects for each call."""
        key = direction, window
        lookbacks = self._lookbacks.get(key)
        if lookbacks is None:
            before, after = self._get_window_counts(direction, window)
            lookbacks = self._lookbacks[key] = Lookback(before), Lookback(after)
        return lookbacks


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
    then: WindowCounts, now: WindowCounts, number: int, for_windows: int, is_first_complete: bool
) -> tuple[ThresholdRange, ThresholdRange]:
    """Return the ranges of high and of low thresholds that may have new alerts, except STILL, in window `number`.

    The ranges hold every such threshold of all run lengths up to `for_windows`, and may hold more: all thresholds if
    this window or one of the `for_windows` before it is lost, else none if all these windows are unchanged.
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
    high, low = NO_HIGH, NO_LOW
    fired = flights_then if are_earlier_unchanged else 0  # lower thresholds were breached before, and have fired
    if last.is_closed:
        # FIRING needs a window before that does not breach the threshold, RESOLVED needs the last one to breach it.
        if not window.is_closed:
            high = ThresholdRange(max(least, fired), flights)
        else:
            high = ThresholdRange(min(least, flights), max(last.flights, flights))
            # An alert of a low count may have to be withdrawn.
            begin = 0 if window_then.is_closed else min(flights, last.flights) + 1
            low = ThresholdRange(begin, max(flights, most) + 1)
    if is_first_complete:  # for some interests there was no breach before
        high = ThresholdRange(min(high.begin, fired) if last.is_closed else fired, max(high.end, flights))
        if window.is_closed:
            low = ThresholdRange(min(low.begin, flights + 1), THRESHOLDS_END)
    return high, low


def _find_changed_hours(old: DirectionTraffic, new: DirectionTraffic) -> tuple[int, int] | None:
    """Return the first and the last hour (since 1970) in which counts or coverage differ, or None if nothing does.

    Coverage differs from the old watermark (without one: the start of coverage) to the new one. Days that were only
    discarded are no difference.
    """
    if old is new:
        return None
    hours: list[int] = []
    if old.watermark != new.watermark:
        hours += [(old.watermark or new.covered_from or 0) // HOUR_S, (new.watermark or 0) // HOUR_S]
    days = new.counts.find_changed_days(old.counts)
    for day in days[:1] + days[-1:]:
        earlier, later = old.counts.day(day), new.counts.day(day)
        changed = [at for at in range(DAY_HOURS) if earlier[at] != later[at]]
        hours += [day * DAY_HOURS + at for at in changed[:1] + changed[-1:]]
    return (min(hours), max(hours)) if hours else None


def _find_high_alerts(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
    """Yield the alerts of high thresholds in window `number` that follow from the counts now and did not then.

    First for the interests that began earlier, then for those whose run can first be complete here (`is_first`); of
    each FIRING, RESOLVED, STILL. An open window's alerts have no count. High alerts are never withdrawn.
    """
    for is_first in (False, True):
        new = judge_high(now, number, for_windows, is_first)
        if new is NO_STATES:
            continue
        old = judge_high(then, number, for_windows, is_first)
        if new == old:
            continue
        window = now[number]
        # An early high has the first count that breaches the threshold, whatever else came in the same batch.
        count = window.flights if window.is_closed else None
        for state, ranges in _subtract_states(new, old):
            for thresholds in ranges:
                yield RangeAlert(number, Bound.HIGH, state, thresholds, is_first, state is AlertState.STILL, count)


def _find_low_alerts(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
    """Yield the alerts of low thresholds in window `number` that follow from the counts now and did not then.

    First for the interests that began earlier, then for those whose run can first be complete here (`is_first`). For
    each of the two: WITHDRAWN for thresholds that were FIRING or STILL then and are in breach no more (a
    withdrawn STILL only for interests with `repeat`), then FIRING, RESOLVED, STILL.
    """
    for is_first in (False, True):
        old = judge_low(then, number, for_windows, is_first)
        new = judge_low(now, number, for_windows, is_first)
        if new == old:
            continue
        count = now[number].flights
        if old is not NO_STATES:
            # Counts only grow, so the thresholds still in breach are higher than the thresholds no longer in breach.
            breach_begin = THRESHOLDS_END if new is NO_STATES else min(new.firing.begin, new.still.begin)
            withdrawn_count = then[number].flights
            for breached, for_repeat in ((old.firing, False), (old.still, True)):
                ended = ThresholdRange(breached.begin, min(breached.end, breach_begin))
                if ended.begin < ended.end:
                    yield RangeAlert(
                        number,
                        Bound.LOW,
                        AlertState.WITHDRAWN,
                        ended,
                        is_first,
                        for_repeat,
                        count,
                        withdrawn_count,
                    )
        for state, ranges in _subtract_states(new, old):
            for thresholds in ranges:
                yield RangeAlert(number, Bound.LOW, state, thresholds, is_first, state is AlertState.STILL, count)


def _subtract_states(new: StateRanges, old: StateRanges) -> Iterator[tuple[AlertState, list[ThresholdRange]]]:
    """Yield FIRING, RESOLVED and STILL, each with the (maybe no) thresholds in this state in `new` but not in `old`."""
    yield AlertState.FIRING, _subtract_range(new.firing, old.firing)
    yield AlertState.RESOLVED, _subtract_range(new.resolved, old.resolved)
    yield AlertState.STILL, _subtract_range(new.still, old.still)


def _subtract_range(new: ThresholdRange, old: ThresholdRange) -> list[ThresholdRange]:
    """Return the parts of `new` that are not in `old`: none, one or two ranges."""
    if new.begin >= new.end:
        return []
    if old.begin >= old.end or old.end <= new.begin or new.end <= old.begin:
        return [new]
    parts = (ThresholdRange(new.begin, old.begin), ThresholdRange(old.end, new.end))
    return [part for part in parts if part.begin < part.end]


def compute_alerts(interest: Interest, before: Traffic, after: Traffic) -> Iterator[Alert]:
    """Yield the new alerts of one interest after its airport's traffic changed, in the order of the windows.

    Within a window HIGH comes before LOW. Windows before the interest's first are skipped. With `before` = NO_TRAFFIC:
    all alerts so far, for an interest that was just set.
    """
    first = find_first_window(interest)
    thresholds = list_thresholds(interest)
    change, key = TrafficChange(before, after), (interest.direction, interest.window)
    for number in change.list_affected_windows(*key, interest.for_windows):
        if number < first:
            continue  # before the interest is in effect
        for bound, threshold in thresholds:
            for range_alert in change.find_range_alerts(*key, number, interest.for_windows, bound):
                begin, end = range_alert.thresholds
                if begin <= threshold < end and range_alert.applies_to(first, interest.for_windows, interest.repeat):
                    yield build_alert(interest, change, range_alert, threshold)


def build_alert(interest: Interest, change: TrafficChange, range_alert: RangeAlert, threshold: int) -> Alert:
    """Return the alert of one interest from a range alert that applies to it and holds its threshold (not checked).

    Adds the alert's id, its episode (the id of the FIRING that began its breach, its own id for FIRING) and the counts
    of the windows before. In an open window the count is `threshold` + 1, the first that breaches the threshold.
    """
    start = _compute_window_start(interest, range_alert.number)
    own_id = compute_alert_id(interest.interest_id, interest.version, range_alert.bound, start, range_alert.state)
    before, after = change.get_lookbacks(interest.direction, interest.window)
    episode_id = own_id
    if range_alert.state is not AlertState.FIRING:
        lookback = before if range_alert.state is AlertState.WITHDRAWN else after
        episode_start = _compute_window_start(interest, _find_episode_start(interest, lookback, range_alert, threshold))
        episode_id = compute_alert_id(
            interest.interest_id, interest.version, range_alert.bound, episode_start, AlertState.FIRING
        )
    return Alert(
        alert_id=own_id,
        interest_id=interest.interest_id,
        user_id=interest.user_id,
        version=interest.version,
        airport=interest.airport,
        direction=interest.direction,
        window=interest.window,
        window_start=start,
        bound=range_alert.bound,
        state=range_alert.state,
        count=threshold + 1 if range_alert.flights is None else range_alert.flights,
        threshold=threshold,
        for_windows=interest.for_windows,
        withdrawn_count=range_alert.withdrawn_flights,
        earlier=after.list_earlier_counts(range_alert.number),
        episode_id=episode_id,
    )


def _compute_window_start(interest: Interest, number: int) -> datetime:
    """Return the start (UTC) of the interest's window `number`."""
    return instant(number * interest.window.hours * HOUR_S)


def _find_episode_start(interest: Interest, lookback: Lookback, range_alert: RangeAlert, threshold: int) -> int:
    """Return the number of the window whose FIRING began the breach of a STILL, RESOLVED or WITHDRAWN alert.

    `lookback`: for WITHDRAWN into the traffic before the change, else into the traffic after. A withdrawn FIRING began
    its breach in its own window; every other breach fired in the last window of its first run of `for_windows`.
    """
    if range_alert.state is AlertState.WITHDRAWN and not range_alert.for_repeat:
        return range_alert.number  # the withdrawn alert was FIRING: only STILL is limited to interests with `repeat`
    # A breach needs `for_windows` consecutive windows, none before the interest's first; it fires in the last of them.
    run_start = lookback.find_run_start(range_alert.bound, threshold, range_alert.number)
    return max(run_start, find_first_window(interest)) + interest.for_windows - 1
