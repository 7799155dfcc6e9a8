"""Explanations of an interest's alerts: for each window its count, how much of it is known, and its states."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from domain.alerts import AlertState, Bound
from domain.calendar import find_calendar
from domain.interests import Interest
from domain.measures import Measure, find_measure, list_measured_thresholds
from domain.percent_counts import PercentCounts
from domain.rule import find_first_window, find_interest_grid, judge
from domain.traffic import Traffic
from domain.usual_fold import list_base_counts
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, instant


class Knowledge(StrEnum):
    """The completeness of a window's flights (all, some, none), or that the interest is not yet in effect in it."""

    CLOSED = "closed"
    """All its flights."""
    OPEN = "open"
    """Some of its flights; more may follow."""
    GAP = "gap"
    """Some of its flights; the rest is not known, unless the gap is filled later."""
    UNCOVERED = "before coverage"
    """No flights: the window starts before the first coverage, or a part of it was told as history alone."""
    EARLY = "before effective_from"
    """The window starts before the interest is in effect, and is not judged."""


class Usualness(StrEnum):
    """The reason for which a window is not judged by thresholds in percent."""

    UNREACHED = "not reached"
    """The coverage has not reached its start: what is usual in it is not fixed yet."""
    UNKNOWN = "nothing usual"
    """Too little was known of the weeks before when it was reached."""
    SKIPPED = "skipped"
    """Fewer than five flights are usual."""


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """The result of the alert rule for one interest and one window [start, end): its count and its states."""

    start: datetime
    end: datetime
    count: int
    """Distinct flights that are known."""
    knowledge: Knowledge
    high: AlertState | None
    """The state of the high threshold, None if there is none; STILL is mailed only to interests with `repeat`."""
    low: AlertState | None
    """The state of the low threshold, as `high`."""
    doubled_usual: int | None = None
    """Twice the count that is usual in the window; None: nothing is, or the interest has no threshold in percent."""
    unjudged: Usualness | None = None
    """The reason for which thresholds in percent do not judge the window. None: they do, or the interest has none."""
    base_counts: tuple[int, ...] = ()
    """The counts of the same window of the weeks before, the latest first, as far as they are known now."""

    def state_of(self, bound: Bound) -> AlertState | None:
        """Return the state of the interest's threshold of one bound; None if the window has no state for the bound."""
        match bound:
            case Bound.HIGH:
                return self.high
            case Bound.LOW:
                return self.low
            case _:
                assert_never(bound)


def judge_windows(interest: Interest, traffic: Traffic, within: range | None = None) -> Iterator[WindowVerdict]:
    """Yield the verdicts of an interest's windows in order of time, each from the traffic as it is now.

    The first verdict is of the window `for_windows` before the interest's first window or the first covered one,
    whichever is later; the last is of the last closed window, or of a later window with flights. Nothing is yielded
    until all directions of the interest are covered. `within`: only verdicts of these windows (since 1970).
    """
    grid = find_interest_grid(interest)
    windows = WindowCounts(traffic, interest.direction, grid)
    first, covered, closed_until = find_first_window(interest), windows.first, windows.closed_until
    if covered is None or closed_until is None:
        return
    counted_until = max(part.counts.end_hour for part in traffic.select_directions(interest.direction))
    last = max(
        closed_until - 1, _find_last_with_flights(windows, grid.find_number(counted_until * HOUR_S), closed_until)
    )
    percents = PercentCounts(traffic, interest.direction, grid)
    has_percents = any(find_measure(interest, bound) is Measure.PERCENT for bound in Bound)
    judged = range(max(first, covered) - interest.for_windows, last + 1)
    if within is not None:
        judged = range(max(judged.start, within.start), min(judged.stop, within.stop))
    for number in judged:
        verdict = WindowVerdict(
            start=instant(grid.find_begin(number)),
            end=instant(grid.find_begin(number + 1)),
            count=windows[number].flights,
            knowledge=_classify_knowledge(windows, number, first),
            high=_find_state(interest, windows, percents, number, first, Bound.HIGH),
            low=_find_state(interest, windows, percents, number, first, Bound.LOW),
        )
        yield _add_usual(verdict, interest, traffic, percents, number) if has_percents else verdict


def _add_usual(
    verdict: WindowVerdict, interest: Interest, traffic: Traffic, percents: PercentCounts, number: int
) -> WindowVerdict:
    """Return the verdict of window `number` with what is usual in it, and why it is not judged by percents."""
    unjudged = None
    doubled = percents.find_doubled_usual(number) if number <= percents.reached else None
    if number > percents.reached:
        unjudged = Usualness.UNREACHED
    elif doubled is None:
        unjudged = Usualness.UNKNOWN
    elif percents.is_skipped(number):
        unjudged = Usualness.SKIPPED
    calendar = find_calendar(interest.airport)
    base_counts = list_base_counts(traffic, calendar, interest.direction, find_interest_grid(interest), number)
    return replace(verdict, doubled_usual=doubled, unjudged=unjudged, base_counts=base_counts)


def _find_last_with_flights(windows: WindowCounts, last: int, closed_until: int) -> int:
    """Return the last window in [closed_until, last] that has flights; if none has any, the window before them."""
    return next((number for number in range(last, closed_until - 1, -1) if windows[number].flights), closed_until - 1)


def _classify_knowledge(windows: WindowCounts, number: int, first: int) -> Knowledge:
    """Return how much is known of window `number`, for an interest whose first window is `first`.

    A window before `first` is EARLY, unless the window is not covered: then it is UNCOVERED.
    """
    window = windows[number]
    if window.is_closed:
        return Knowledge.CLOSED if number >= first else Knowledge.EARLY
    if not window.is_covered:
        return Knowledge.UNCOVERED
    if number < first:
        return Knowledge.EARLY
    return Knowledge.GAP if window.is_lost else Knowledge.OPEN


def _find_state(
    interest: Interest, windows: WindowCounts, percents: PercentCounts, number: int, first: int, bound: Bound
) -> AlertState | None:
    """Return the state of the interest's threshold of a bound in window `number`: FIRING, RESOLVED or STILL.

    STILL is also returned for interests without `repeat`. None if the interest has no such threshold, if no run of
    `for_windows` since its first window `first` can be complete here, or if the rule gives no state; of a threshold in
    percent also if the window is skipped.
    """
    for measure, each, threshold in list_measured_thresholds(interest):
        if each is not bound:
            continue
        judged = percents if measure is Measure.PERCENT else windows
        if measure is Measure.PERCENT and percents.is_skipped(number):
            return None
        run = judged.find_run_bounds(number, interest.for_windows)
        if first > run.begin:
            return None
        return judge(bound, judged, number, interest.for_windows, first > run.oldest).find_state(threshold)
    return None
