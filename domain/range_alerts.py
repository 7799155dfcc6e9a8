"""The new alerts of one window for ranges of thresholds: the difference between its states before and after a change.

`domain.rule` gives the states for each of the two counts; `domain.changes` finds the windows to compare.
"""

from collections.abc import Iterator
from typing import NamedTuple

from domain.alerts import AlertState, Bound
from domain.rule import NO_STATES, THRESHOLDS_END, StateRanges, ThresholdRange, judge_high, judge_low
from domain.window_counts import WindowCounts


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


def find_high_alerts(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
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


def find_low_alerts(then: WindowCounts, now: WindowCounts, number: int, for_windows: int) -> Iterator[RangeAlert]:
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
