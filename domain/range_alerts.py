"""The new alerts of one window for ranges of thresholds: the difference between its states before and after a change.

`domain.rule` gives the states for each of the two counts; `domain.changes` finds the windows to compare.
"""

from collections.abc import Iterator
from typing import NamedTuple

from domain.alerts import AlertState, Bound
from domain.rule import NO_STATES, StateRanges, ThresholdRange, judge
from domain.window_counts import RunBounds, WindowCounts


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
    """True: only for interests whose first window is the first of the run of `for_windows` windows up to this one.
    False: only for interests that began earlier."""
    for_repeat: bool
    """True: only for interests with `repeat`. False: for all."""
    flights: int | None
    """Flights in the window; None: the first count that breaches the threshold, because the window is still open."""
    withdrawn_flights: int | None = None
    """With WITHDRAWN: the count before the correction. None: another state."""
    withdrawn_state: AlertState | None = None
    """With WITHDRAWN: the state that is withdrawn, FIRING, STILL or RESOLVED. None: another state."""
    told: bool | None = None
    """True: only for interests that got an alert of this breach, which is withdrawn, or which is told to an interest
    that was set later. False: only for interests that got no alert of this state before. None: for all."""

    def applies_to(self, first_window: int, run: RunBounds, repeat: bool) -> bool:
        """Return True if an interest with these values has the alert, provided that its threshold is in `thresholds`.

        Returns False if the alert is only for interests with `repeat` and this one has none, or if the interest's first
        window is wrong: it must be the first of the alert's `run` if `is_first` (or be skipped right before it), else
        earlier than that. Neither the threshold nor the window length is compared, nor the earlier alerts (`told`).
        """
        if self.for_repeat and not repeat:
            return False
        if self.is_first:
            return run.oldest < first_window <= run.begin
        return first_window <= run.oldest


def find_range_alerts(
    bound: Bound, then: WindowCounts, now: WindowCounts, number: int, for_windows: int, was_corrected: bool
) -> Iterator[RangeAlert]:
    """Yield the alerts of a bound in window `number` that follow from the counts now and did not follow then.

    First for the interests that began earlier, then for those whose run can first be complete here (`is_first`). For
    each of the two: WITHDRAWN for thresholds that were FIRING or STILL then and are in breach no more, and for those
    that were RESOLVED then and are in breach now; then FIRING, RESOLVED, STILL. Alerts of an open window have no count,
    except WITHDRAWN. `was_corrected`: True if earlier corrections changed the window or its run, so that FIRING may
    have been reported of a window that is STILL now, and the other way round: then some alerts are only for interests
    that got, or did not get, an earlier alert (`told`). The same holds for a breach that is undecided, because the
    window before it is open: only a filled gap can have made that window open again, after FIRING was reported.
    """
    for is_first in (False, True):
        new = judge(bound, now, number, for_windows, is_first)
        if new is NO_STATES:
            continue
        old = judge(bound, then, number, for_windows, is_first)
        if new == old:
            continue
        window = now[number]
        if was_corrected:
            yield from _find_undecided_alerts(bound, old, new, then, now, number, is_first)
        if old is not NO_STATES:
            for withdrawn_state, thresholds in _list_withdrawn(bound, old, new):
                is_still = withdrawn_state is AlertState.STILL
                yield RangeAlert(
                    number=number,
                    bound=bound,
                    state=AlertState.WITHDRAWN,
                    thresholds=thresholds,
                    is_first=is_first,
                    for_repeat=is_still and not was_corrected,
                    flights=window.flights,
                    withdrawn_flights=then[number].flights,
                    withdrawn_state=withdrawn_state,
                    told=True if is_still and was_corrected else None,
                )
        # An early high has the first count that breaches the threshold, whatever else came in the same batch.
        count = window.flights if window.is_closed else None
        for state, ranges in _subtract_states(new, old):
            for thresholds in ranges:
                yield RangeAlert(
                    number=number,
                    bound=bound,
                    state=state,
                    thresholds=thresholds,
                    is_first=is_first,
                    for_repeat=state is AlertState.STILL,
                    flights=count,
                    told=False if was_corrected and old is not NO_STATES and state.is_breach else None,
                )


def _find_undecided_alerts(
    bound: Bound,
    old: StateRanges,
    new: StateRanges,
    then: WindowCounts,
    now: WindowCounts,
    number: int,
    is_first: bool,
) -> Iterator[RangeAlert]:
    """Yield the alerts of a breach that was undecided and is none now, and of one that is undecided and first judged.

    Of the first WITHDRAWN, of the second FIRING, both only for interests that got, or would have got, FIRING before the
    window before the run became open.
    """
    window = now[number]
    for ended in _subtract_range(old.undecided, new.breach_of(bound)):
        yield RangeAlert(
            number=number,
            bound=bound,
            state=AlertState.WITHDRAWN,
            thresholds=ended,
            is_first=is_first,
            for_repeat=False,
            flights=window.flights,
            withdrawn_flights=then[number].flights,
            withdrawn_state=AlertState.FIRING,
            told=True,
        )
    if old is NO_STATES and new.undecided.begin < new.undecided.end:
        yield RangeAlert(
            number=number,
            bound=bound,
            state=AlertState.FIRING,
            thresholds=new.undecided,
            is_first=is_first,
            for_repeat=False,
            flights=window.flights if window.is_closed else None,
            told=True,
        )


def _list_withdrawn(bound: Bound, old: StateRanges, new: StateRanges) -> Iterator[tuple[AlertState, ThresholdRange]]:
    """Yield the states that are no longer true, each with a range of the thresholds that were in this state.

    FIRING and STILL are no longer true where there is no breach now; RESOLVED where there is one. RESOLVED is
    not withdrawn where only the breach before it turns out to be none: the window is normal, as reported.
    """
    breach = new.breach_of(bound)
    for state, thresholds in ((AlertState.FIRING, old.firing), (AlertState.STILL, old.still)):
        for ended in _subtract_range(thresholds, breach):
            yield state, ended
    undone = ThresholdRange(max(old.resolved.begin, breach.begin), min(old.resolved.end, breach.end))
    if undone.begin < undone.end:
        yield AlertState.RESOLVED, undone


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
