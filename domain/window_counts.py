"""The counts of windows: how many flights each window has, and whether more flights may follow."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from domain.alerts import Bound
from domain.grids import Grid, LocalGrid
from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.traffic import Traffic
from domain.windows import HOUR_S


class WindowCount(NamedTuple):
    """The number of flights in one window, and how final the number is. The same for all interests."""

    flights: int
    is_covered: bool
    """True if coverage of all counted directions had begun when the window started."""
    is_closed: bool
    """True if the count is final (except for late flights)."""
    is_lost: bool
    """True if the full count is unknown, because of a gap or before the coverage; such a window counts as no breach for
    its neighbours. It becomes known only if the gap is filled."""


LOST: Final = WindowCount(0, is_covered=False, is_closed=False, is_lost=True)


class RunBounds(NamedTuple):
    """The windows with which a run of windows begins."""

    oldest: int
    """The window before the run."""
    begin: int
    """The first window of the run."""


class WindowCounts:
    """A cached view of one traffic as windows of one grid and direction: `counts[number]` is the count of a window.

    Windows are numbered from 1970. For BOTH the flights of arrivals and departures are added, and a window is covered
    or closed only if it is so in both, but lost if a gap touches either.
    """

    def __init__(self, traffic: Traffic, direction: Direction, grid: Grid) -> None:
        """Compute the common coverage of the direction's parts; a window is counted when it is first requested."""
        self._directions = traffic.select_directions(direction)
        self._grid = grid
        self._hours = grid.hours
        covered_from, covered_until, are_all_covered = 0, None, True
        for part in self._directions:
            if part.covered_from is None or part.watermark is None:
                are_all_covered = False
                continue
            covered_from = max(covered_from, part.covered_from)
            covered_until = part.watermark if covered_until is None else min(covered_until, part.watermark)
        self._covered_until = covered_until if are_all_covered else None
        self.is_truncated = any(part.is_truncated and part.covered_from == covered_from for part in self._directions)
        """True if windows before the first were covered once, and are not retained any more. False also if only one of
        two directions was covered before the first: then none of these windows was ever judged."""
        self._first = (
            grid.find_first_from(covered_from)
            if isinstance(grid, LocalGrid)
            else -(-covered_from // (self._hours * HOUR_S))
        )
        self._counts: dict[int, WindowCount] = {}
        self._has_history = any(part.history for part in self._directions)

    @property
    def first(self) -> int | None:
        """The first window that is covered from its start; None before all directions are covered."""
        return None if self._covered_until is None else self._first

    @property
    def closed_until(self) -> int | None:
        """The first window that ends after the watermark (BOTH: the earlier one); None before all are covered."""
        if self._covered_until is None:
            return None
        if isinstance(self._grid, LocalGrid):
            return self._grid.find_number(self._covered_until)
        return self._covered_until // (self._hours * HOUR_S)

    def __getitem__(self, number: int) -> WindowCount:
        """Return the count of window `number`; later calls return the same value.

        A window that starts before the first coverage has 0 flights, and is lost.
        """
        if number < self._first:
            return LOST
        count = self._counts.get(number)
        if count is None:
            count = self._counts[number] = self._count_window(number)
        return count

    def is_live(self, number: int) -> bool:
        """Return True if a part of window `number` is known from positions alone: the record may still correct it."""
        begin, end = self._grid.find_begin(number), self._grid.find_begin(number + 1)
        return any(part.live is not None and part.live.is_unsettled(begin, end) for part in self._directions)

    def list_earlier(self, number: int, windows: int) -> Sequence[int]:
        """Return the numbers of the last windows before window `number`, the latest first."""
        return range(number - 1, number - windows - 1, -1)

    def list_latest(self) -> list[int]:
        """Return the last closed window, and the window after it."""
        closed_until = self.closed_until or 0
        return [closed_until - 1, closed_until]

    def find_run_bounds(self, number: int, for_windows: int) -> RunBounds:
        """Return the first window of the run of `for_windows` windows up to window `number`, and the one before it."""
        return RunBounds(number - for_windows, number - for_windows + 1)

    def take_run(self, bound: Bound, number: int, for_windows: int) -> "Mapping[int, WindowCount] | WindowCounts":
        """Return the counts of window `number` and of the `for_windows` windows before it, as a bound compares them."""
        return self

    def _count_window(self, number: int) -> WindowCount:
        """Return the flights of window `number` in all directions, and whether the window is covered, closed and lost.

        It is covered if all directions have any coverage at all (earlier windows never come here), closed if all
        directions are covered to its end and no gap touches it, and lost if a gap touches it. A window of which a part
        is known as history alone has no flights, and is lost.
        """
        if self._has_history and self._is_history(number):
            return LOST
        if isinstance(self._grid, LocalGrid):
            return self._count_local_window(self._grid, number)
        day, start = divmod(number * self._hours, DAY_HOURS)
        flights = 0
        has_gap = False
        for part in self._directions:
            counts = part.counts
            if counts.first_day <= day < counts.first_day + len(counts.days):
                flights += sum(counts.days[day - counts.first_day][start : start + self._hours])
            if part.gaps:
                begin = number * self._hours * HOUR_S
                has_gap = has_gap or part.has_gap_in(begin, begin + self._hours * HOUR_S)
        is_covered = self._covered_until is not None
        is_closed = is_covered and not has_gap and (number + 1) * self._hours * HOUR_S <= (self._covered_until or 0)
        return WindowCount(flights, is_covered, is_closed, has_gap)

    def _is_history(self, number: int) -> bool:
        """Return True if a part of window `number` is known as history alone, in any direction; False if none is."""
        begin, end = self._grid.find_begin(number), self._grid.find_begin(number + 1)
        return any(part.has_history_in(begin, end) for part in self._directions)

    def _count_local_window(self, grid: LocalGrid, number: int) -> WindowCount:
        """Return the count of a window by the airport's clock, which need not begin or end with an hour of UTC.

        It is lost if it begins or ends within an hour whose flights are only known together.
        """
        begin, end = grid.find_begin(number), grid.find_begin(number + 1)
        counted = [part.counts.count_between(begin, end) for part in self._directions]
        flights = [each for each in counted if each is not None]
        if len(flights) < len(counted):
            return LOST
        has_gap = any(part.has_gap_in(begin, end) for part in self._directions)
        is_covered = self._covered_until is not None
        is_closed = is_covered and not has_gap and end <= (self._covered_until or 0)
        return WindowCount(sum(flights), is_covered, is_closed, has_gap)
