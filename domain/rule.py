"""The alert rule: the states that follow from the counts of windows, for ranges of thresholds.

Its text is `docs/design.md` ("The alert rule"), its edge cases are in ADR 0014. The states of a window are the same for
all interests that count the same flights, except for their thresholds. So the rule returns ranges of thresholds
("FIRING for all from 12 up to 30"), and the interests with such a threshold are found in a sorted index
(`domain.threshold_index`), or a single interest is compared with the ranges (`domain.interest_alerts.compute_alerts`).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, assert_never

from domain.alerts import AlertState, Bound
from domain.calendar import find_grid
from domain.grids import Grid
from domain.interests import HIGHEST_THRESHOLD, Interest
from domain.window_counts import WindowCount, WindowCounts
from domain.windows import seconds

Counts = WindowCounts | Mapping[int, WindowCount]
"""The counts of windows by number, at least of a window and of those of its run and before it."""


class ThresholdRange(NamedTuple):
    """A half-open range of thresholds: from `begin` up to, but not including, `end`."""

    begin: int
    end: int


THRESHOLDS_END: Final = HIGHEST_THRESHOLD + 1
"""The first number above all thresholds."""
NO_HIGH: Final = ThresholdRange(0, 0)
"""An empty range below all high thresholds."""
NO_LOW: Final = ThresholdRange(THRESHOLDS_END, THRESHOLDS_END)
"""An empty range above all low thresholds."""
ANY_THRESHOLD: Final = ThresholdRange(0, THRESHOLDS_END)
"""The range of all thresholds."""


class StateRanges(NamedTuple):
    """The states of one bound in one window: for each state the range of thresholds that are in this state.

    The ranges may be empty and never overlap; a threshold in none of the first three has no state.
    """

    firing: ThresholdRange
    resolved: ThresholdRange
    still: ThresholdRange
    undecided: ThresholdRange = ThresholdRange(0, 0)
    """In breach, but in no state yet: the window before the run is open, so that FIRING and STILL cannot be told apart.
    Only of HIGH. What was reported while that window was unknown, because of a gap that was filled since, stands."""

    def breach_of(self, bound: Bound) -> ThresholdRange:
        """Return the range of the thresholds of this bound that are in breach: FIRING, STILL or undecided."""
        match bound:
            case Bound.HIGH:
                return ThresholdRange(0, max(self.firing.end, self.still.end, self.undecided.end))
            case Bound.LOW:
                return ThresholdRange(min(self.firing.begin, self.still.begin), THRESHOLDS_END)
            case _:
                assert_never(bound)

    def find_state(self, threshold: int) -> AlertState | None:
        """Return the state of one threshold: FIRING, RESOLVED or STILL; None if it has no state."""
        for state, (begin, end) in zip(_STATES, self[: len(_STATES)], strict=True):
            if begin <= threshold < end:
                return state
        return None

    def is_undecided(self, threshold: int) -> bool:
        """Return True if a threshold is in breach, but neither FIRING nor STILL yet; False otherwise."""
        return self.undecided.begin <= threshold < self.undecided.end


_STATES: Final = (AlertState.FIRING, AlertState.RESOLVED, AlertState.STILL)
"""The states in the order of the first fields of `StateRanges`."""
NO_STATES: Final = StateRanges(NO_HIGH, NO_HIGH, NO_HIGH)
"""No threshold is in any state."""


def judge(bound: Bound, windows: WindowCounts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """Return the states of all thresholds of a bound in window `number`: `judge_high` for HIGH, `judge_low` for LOW."""
    run = windows.take_run(bound, number, for_windows)
    match bound:
        case Bound.HIGH:
            return judge_high(run, number, for_windows, is_first)
        case Bound.LOW:
            return judge_low(run, number, for_windows, is_first)
        case _:
            assert_never(bound)


def judge_high(windows: Counts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """Return the states of all high thresholds in window `number`, from the `for_windows` windows up to it (its run).

    FIRING: all windows of the run breach the threshold, and the run that ended one window earlier does not; STILL: both
    runs do; RESOLVED (closed windows only): the earlier run does and this one does not. NO_STATES before coverage, or
    while another window of the run is open. While only the window before the run is open, the breach is undecided.

    `is_first`: True for the interests whose first window is `for_windows` - 1 before this window, so that a run can be
    complete here for the first time; the window before their first one counts as no breach. A gap hides flights but
    cannot undo the counted flights, so a window that a gap touches may still fire (ADR 0003); such a window never
    resolves, and in the runs of other windows it counts as no breach.
    """
    window = windows[number]
    if not window.is_covered:
        return NO_STATES
    run = window.flights  # this window and all others of its run breach the thresholds below
    for back in range(1, for_windows):
        earlier = windows[number - back]
        if not (earlier.is_closed or earlier.is_lost):
            return NO_STATES
        run = min(run, 0 if earlier.is_lost else earlier.flights)
    before = 0
    if not is_first:
        oldest = windows[number - for_windows]
        if not (oldest.is_closed or oldest.is_lost):
            return StateRanges(NO_HIGH, NO_HIGH, NO_HIGH, undecided=ThresholdRange(0, run))
        before = 0 if oldest.is_lost else oldest.flights
        for back in range(1, for_windows):
            earlier = windows[number - back]
            before = min(before, 0 if earlier.is_lost else earlier.flights)
    return StateRanges(
        firing=ThresholdRange(before, run),
        resolved=ThresholdRange(run, before) if window.is_closed else NO_HIGH,
        still=ThresholdRange(0, min(run, before)),
    )


def judge_low(windows: Counts, number: int, for_windows: int, is_first: bool) -> StateRanges:
    """Return the states of all low thresholds in window `number`, by its run; NO_STATES until the window is closed.

    The states and `is_first` mean the same as in `judge_high`. An earlier window that is not closed counts as no
    breach, whether a gap hides its flights or it is before the first coverage.
    """
    window = windows[number]
    if not window.is_closed:
        return NO_STATES
    run = window.flights + 1  # this window and all others of its run breach the thresholds from here on
    before = 0
    for back in range(1, for_windows):
        earlier = windows[number - back]
        level = earlier.flights + 1 if earlier.is_closed else THRESHOLDS_END
        run, before = max(run, level), max(before, level)
    if is_first:
        before = THRESHOLDS_END
    else:
        oldest = windows[number - for_windows]
        before = max(before, oldest.flights + 1 if oldest.is_closed else THRESHOLDS_END)
    return StateRanges(
        firing=ThresholdRange(run, before),
        resolved=ThresholdRange(before, run),
        still=ThresholdRange(max(run, before), THRESHOLDS_END),
    )


def find_interest_grid(interest: Interest) -> Grid:
    """Return where the windows of an interest begin and end."""
    return find_grid(interest.airport, interest.window, interest.aligned_to)


def find_first_window(interest: Interest) -> int:
    """Return the number (since 1970) of the first window that starts at or after the interest's `effective_from`."""
    return find_interest_grid(interest).find_first_from(seconds(interest.effective_from))
