"""What is known of the windows of some traffic: how many flights, and whether there may be more."""

from typing import Final, NamedTuple

from domain.interests import Direction
from domain.traffic import DAY_HOURS, Traffic
from domain.windows import HOUR_S, Window


class WindowCount(NamedTuple):
    """What is known of one window, by whichever interest."""

    flights: int
    begun: bool
    """Its flows were covered when it began."""
    closed: bool
    """Its count is final (late flights aside)."""
    lost: bool
    """It can never be known: it counts as no breach for its neighbours."""


_LOST: Final = WindowCount(0, begun=False, closed=False, lost=True)


class WindowCounts:
    """The windows of one length over the flows of one direction. A window is named by its number since 1970."""

    def __init__(self, traffic: Traffic, direction: Direction, window: Window) -> None:
        self._flows = traffic.flows(direction)
        self._hours = window.hours
        earliest, covered_to, covered = 0, None, True
        for flow in self._flows:
            if flow.covered_from is None or flow.watermark is None:
                covered = False
                continue
            earliest = max(earliest, flow.covered_from)
            covered_to = flow.watermark if covered_to is None else min(covered_to, flow.watermark)
        self._covered_to = covered_to if covered else None
        self._first = -(-earliest // (self._hours * HOUR_S))
        self._standings: dict[int, WindowCount] = {}

    @property
    def first(self) -> int | None:
        """The first window that is covered from its beginning; None before all flows are covered."""
        return None if self._covered_to is None else self._first

    @property
    def closed_until(self) -> int | None:
        """The first window that is not over by the watermarks; None before all flows are covered."""
        return None if self._covered_to is None else self._covered_to // (self._hours * HOUR_S)

    def __getitem__(self, number: int) -> WindowCount:
        if number < self._first:
            return _LOST
        standing = self._standings.get(number)
        if standing is None:
            standing = self._standings[number] = self._look(number)
        return standing

    def _look(self, number: int) -> WindowCount:
        day, start = divmod(number * self._hours, DAY_HOURS)
        flights = 0
        gap = False
        for flow in self._flows:
            counts = flow.counts
            if counts.first_day <= day < counts.first_day + len(counts.days):
                flights += sum(counts.days[day - counts.first_day][start : start + self._hours])
            if flow.gaps:
                begin = number * self._hours * HOUR_S
                gap = gap or flow.has_gap_in(begin, begin + self._hours * HOUR_S)
        begun = self._covered_to is not None
        closed = begun and not gap and (number + 1) * self._hours * HOUR_S <= (self._covered_to or 0)
        return WindowCount(flights, begun, closed, gap)
