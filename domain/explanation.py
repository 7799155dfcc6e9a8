"""Why an interest was told something, or was not: window by window."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from domain.alerts import AlertState, Bound
from domain.interests import Interest
from domain.rule import first_window, judge
from domain.traffic import Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, instant


class Knowledge(StrEnum):
    """What is known of a window."""

    CLOSED = "closed"
    """All its flights."""
    OPEN = "open"
    """Some of its flights; more may come."""
    GAP = "gap"
    """Some of its flights; the rest will never be known."""
    UNCOVERED = "before coverage"
    EARLY = "before effective_from"


@dataclass(frozen=True, slots=True)
class WindowVerdict:
    """What the rule makes of one window."""

    start: datetime
    end: datetime
    count: int
    """Distinct flights that are known."""
    knowledge: Knowledge
    high: AlertState | None
    """What is to be said of the high threshold; STILL is mailed only to those who asked for it."""
    low: AlertState | None

    def state_of(self, bound: Bound) -> AlertState | None:
        """Return the state of one bound in the window; None if no alert follows from the rule."""
        match bound:
            case Bound.HIGH:
                return self.high
            case Bound.LOW:
                return self.low
            case _:
                assert_never(bound)


def verdicts(interest: Interest, traffic: Traffic) -> Iterator[WindowVerdict]:
    """From as many windows before the first that is judged as a run takes, to the last of which something is known."""
    windows = WindowCounts(traffic, interest.direction, interest.window)
    first, covered, closed_until = first_window(interest), windows.first, windows.closed_until
    if covered is None or closed_until is None:
        return
    hours = interest.window.hours
    counted = max(flow.counts.end_hour for flow in traffic.flows(interest.direction))
    last = max(closed_until - 1, _last_with_flights(windows, counted // hours, closed_until))
    for number in range(max(first, covered) - interest.for_windows, last + 1):
        standing = windows[number]
        yield WindowVerdict(
            start=instant(number * hours * HOUR_S),
            end=instant((number + 1) * hours * HOUR_S),
            count=standing.flights,
            knowledge=_knowledge(windows, number, first),
            high=_said(interest, windows, number, first, Bound.HIGH),
            low=_said(interest, windows, number, first, Bound.LOW),
        )


def _last_with_flights(windows: WindowCounts, last: int, closed_until: int) -> int:
    """The last window beyond the closed ones that has flights."""
    return next((number for number in range(last, closed_until - 1, -1) if windows[number].flights), closed_until - 1)


def _knowledge(windows: WindowCounts, number: int, first: int) -> Knowledge:
    standing = windows[number]
    if standing.closed:
        return Knowledge.CLOSED if number >= first else Knowledge.EARLY
    if not standing.begun:
        return Knowledge.UNCOVERED
    if number < first:
        return Knowledge.EARLY
    return Knowledge.GAP if standing.lost else Knowledge.OPEN


def _said(interest: Interest, windows: WindowCounts, number: int, first: int, bound: Bound) -> AlertState | None:
    threshold = bound.threshold_of(interest)
    ready = first + interest.for_windows - 1
    if threshold is None or number < ready:
        return None
    said = judge(bound, windows, number, interest.for_windows, number == ready)
    for state, stretch in (
        (AlertState.FIRING, said.firing),
        (AlertState.RESOLVED, said.resolved),
        (AlertState.STILL, said.still),
    ):
        if stretch.begin <= threshold < stretch.end:
            return state
    return None
