"""The alert rule: what the standing of windows says about thresholds. DESIGN.md section 4 is its text, ADR 0014 its
corners.

What is said of a window is the same for all interests that count the same flights, but for their thresholds. So the
rule speaks of stretches of thresholds ("FIRING for all from 12 up to 30"), and who has one of those is found in a
sorted index (`domain.threshold_index`), or asked of a single interest (`domain.changes.alerts_between`).
"""

from typing import Final, NamedTuple, assert_never

from domain.alerts import Bound
from domain.interests import HIGHEST_THRESHOLD, Interest
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, seconds


class ThresholdRange(NamedTuple):
    """The thresholds from `begin` up to, but not including, `end`."""

    begin: int
    end: int


BEYOND: Final = HIGHEST_THRESHOLD + 1
NO_HIGH: Final = ThresholdRange(0, 0)
"""No high threshold, and none below."""
NO_LOW: Final = ThresholdRange(BEYOND, BEYOND)
"""No low threshold, and none above."""
ANY_THRESHOLD: Final = ThresholdRange(0, BEYOND)


class StateRanges(NamedTuple):
    """What is said of one bound in one window: for each state, of which thresholds."""

    firing: ThresholdRange
    resolved: ThresholdRange
    still: ThresholdRange


NO_STATES: Final = StateRanges(NO_HIGH, NO_HIGH, NO_HIGH)


def judge(bound: Bound, windows: WindowCounts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """Return the states of one bound in a window, for all thresholds (`judge_high`, `judge_low`)."""
    match bound:
        case Bound.HIGH:
            return judge_high(windows, number, for_windows, is_first)
        case Bound.LOW:
            return judge_low(windows, number, for_windows, is_first)
        case _:
            assert_never(bound)


def judge_high(windows: WindowCounts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """What is said of the high threshold in a window.

    `is_first`: for the interests whose first window is so late that this is the first one in which a run can be
    complete; the window before their first counts as no breach. A gap hides flights but cannot undo those that were
    counted, so a window that a gap touches may still fire (ADR 0003); it never resolves, and for its neighbours it
    is unknown.
    """
    window = windows[number]
    if not window.begun:
        return NO_STATES
    run = window.flights  # thresholds below it are passed by this window and by all others of its run
    for back in range(1, for_windows):
        each = windows[number - back]
        if not (each.closed or each.lost):
            return NO_STATES
        run = min(run, 0 if each.lost else each.flights)
    before = 0
    if not is_first:
        oldest = windows[number - for_windows]
        if not (oldest.closed or oldest.lost):
            return NO_STATES
        before = 0 if oldest.lost else oldest.flights
        for back in range(1, for_windows):
            each = windows[number - back]
            before = min(before, 0 if each.lost else each.flights)
    return StateRanges(
        firing=ThresholdRange(before, run),
        resolved=ThresholdRange(run, before) if window.closed else NO_HIGH,
        still=ThresholdRange(0, min(run, before)),
    )


def judge_low(windows: WindowCounts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """What is said of the low threshold in a window: only once it is closed. `is_first`: as for `judge_high`."""
    window = windows[number]
    if not window.closed:
        return NO_STATES
    run = window.flights + 1  # thresholds from it on are not reached by this window nor by any other of its run
    before = 0
    for back in range(1, for_windows):
        each = windows[number - back]
        level = each.flights + 1 if each.closed else BEYOND
        run, before = max(run, level), max(before, level)
    if is_first:
        before = BEYOND
    else:
        oldest = windows[number - for_windows]
        before = max(before, oldest.flights + 1 if oldest.closed else BEYOND)
    return StateRanges(
        firing=ThresholdRange(run, before),
        resolved=ThresholdRange(before, run),
        still=ThresholdRange(max(run, before), BEYOND),
    )


def first_window(interest: Interest) -> int:
    """The number of the first window that an interest is for."""
    return -(-seconds(interest.effective_from) // (interest.window.hours * HOUR_S))
