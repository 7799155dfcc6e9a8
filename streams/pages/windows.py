"""The windows of an airport's charts: which ones are shown, their flights, their coverage, and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from domain.grids import Grid, LocalGrid, show_on_clock
from domain.hourly_counts import HourlyCounts
from domain.interests import Direction
from domain.live_record import Provenance
from domain.traffic import RETAINED_HOURS, DirectionTraffic, Traffic
from domain.windows import HOUR_S, Window, instant

MAX_WINDOWS: Final = {Window.ONE_HOUR: 72, Window.SIX_HOURS: 56, Window.ONE_DAY: 90}
"""Largest number of windows on a chart: three days, two weeks, and the whole history."""

MIN_WINDOWS: Final = {Window.ONE_HOUR: 24, Window.SIX_HOURS: 28, Window.ONE_DAY: 30}
"""Least number of windows on a chart, covered or not: a day, a week, a month."""


class WindowCoverage(StrEnum):
    """The coverage of a window on the chart: how much of its flights is known."""

    CLOSED = "closed"
    """All its flights are known."""
    OPEN = "open"
    """Some of its flights are known; more may follow."""
    GAP = "gap"
    """A gap in coverage touches it: some of its flights are not known, unless the gap is filled."""
    UNCOVERED = "not covered"
    """It starts before the first coverage."""
    FROM_HISTORY = "closed, from the history"
    """It was closed so long ago that its coverage is discarded; only closed windows enter the history."""


@dataclass(frozen=True, slots=True)
class WindowShown:
    """One window, its number of flights, its coverage, and where what is known comes from."""

    start: datetime
    """By the clock by which windows begin: in UTC, or in the airport's zone."""
    count: int
    """Number of flights that are known; of both directions together for BOTH."""
    known: WindowCoverage
    provenance: Provenance | None = None
    """LIVE if what is known of it, or a part of that, comes from positions alone; SETTLED if all comes from the night's
    record. None of other windows than CLOSED and OPEN, and of an open one of which nothing is known yet."""
    is_begun: bool = True
    """False: no part of it is covered yet, so that the flights that are known may be few of many."""
    doubled_usual: int | None = None
    """Twice what is usual in it. None: nothing is, it was not reached yet, or it is too long ago."""


def select_windows(traffic: Traffic, past: Mapping[Direction, HourlyCounts], grid: Grid) -> range:
    """Return the numbers of the windows that the charts show: one range for all directions in `past`, to compare them.

    Windows are numbered as in their `grid`. The range ends with the window of the newest coverage or flight; it
    begins with the oldest coverage or kept history, but has at least `MIN_WINDOWS` windows, and of more than
    `MAX_WINDOWS` only the newest. `past`: the counts of each direction as far back as they are kept. The range is empty
    if no direction has coverage or counts.
    """
    begins, ends = [], []
    for direction, counts in past.items():
        direction_traffic = traffic.select_directions(direction)[0]
        covered_from, watermark = direction_traffic.covered_from, direction_traffic.watermark
        if covered_from is not None and watermark is not None:
            begins.append(min(covered_from, direction_traffic.known_from or covered_from) // HOUR_S)
            ends.append(-(-watermark // HOUR_S))
        if counts.first_hour < counts.end_hour:
            ends.append(_find_last_hour_with_flights(counts) + 1)
            if watermark is None or counts.first_hour < _compute_discard_hour(watermark):
                begins.append(counts.first_hour)
    if not ends:
        return range(0)
    end = grid.find_number(max(ends) * HOUR_S - 1) + 1
    begin = grid.find_number(min(begins) * HOUR_S) if begins else end
    return range(max(min(begin, end - MIN_WINDOWS[grid.window]), end - MAX_WINDOWS[grid.window]), end)


def _find_last_hour_with_flights(counts: HourlyCounts) -> int:
    """Return the last hour (since 1970) that has flights, or the first hour of the counts if no hour has flights."""
    hours = range(counts.end_hour - 1, counts.first_hour, -1)
    return next((hour for hour in hours if counts.total(hour, 1)), counts.first_hour)


def _compute_discard_hour(watermark: int) -> int:
    """Return the hour (since 1970) before which coverage may be discarded already.

    That is a day after `RETAINED_HOURS` before the watermark (seconds since 1970), since whole days are discarded.
    """
    return watermark // HOUR_S - RETAINED_HOURS + 24


def build_window(number: int, grid: Grid, parts: list[tuple[DirectionTraffic, HourlyCounts]]) -> WindowShown:
    """Build one window from the traffic and history of its directions: the sum of their flights, the worst coverage.

    The worst coverage is the first that any direction has, of: uncovered, gap, open, from the history, closed. Its
    provenance is LIVE if what is known of any direction comes from positions.
    """
    start, end = grid.find_begin(number), grid.find_begin(number + 1)
    hour = start // HOUR_S
    coverages = {_classify_coverage(direction_traffic, past, hour, start, end) for direction_traffic, past in parts}
    least = next(
        coverage
        for coverage in (
            WindowCoverage.UNCOVERED,
            WindowCoverage.GAP,
            WindowCoverage.OPEN,
            WindowCoverage.FROM_HISTORY,
            WindowCoverage.CLOSED,
        )
        if coverage in coverages
    )
    if isinstance(grid, LocalGrid):
        count = sum(past.count_between(start, end) or 0 for _, past in parts)
    else:
        count = sum(past.total(hour, grid.hours) for _, past in parts)
    is_begun = least is not WindowCoverage.OPEN or all((flow.watermark or 0) > start for flow, _ in parts)
    provenance = None
    if least is WindowCoverage.CLOSED or (least is WindowCoverage.OPEN and (is_begun or count)):
        is_live = any(flow.live is not None and flow.live.is_unsettled(start, end) for flow, _ in parts)
        provenance = Provenance.LIVE if is_live else Provenance.SETTLED
    return WindowShown(show_on_clock(grid, instant(start)), count, least, provenance, is_begun)


def _classify_coverage(
    direction_traffic: DirectionTraffic, past: HourlyCounts, hour: int, start: int, end: int
) -> WindowCoverage:
    """Return one direction's coverage of the window [start, end).

    A window with a gap is GAP, whether it is closed or open. A window before the kept coverage is FROM_HISTORY if the
    history has its hours, else UNCOVERED; a window that was published as history, for what is usual, is FROM_HISTORY,
    too. `hour`: the window's first hour, in hours since 1970; `start` and `end`: in seconds since 1970.
    """
    if direction_traffic.covered_from is None or direction_traffic.watermark is None:
        return WindowCoverage.UNCOVERED
    if direction_traffic.has_history_in(start, end) and direction_traffic.is_known(start, end):
        return WindowCoverage.FROM_HISTORY
    if start < direction_traffic.covered_from:
        # Coverage is kept for some forty days, closed windows for ninety.
        is_kept = past.first_hour <= hour < min(past.end_hour, _compute_discard_hour(direction_traffic.watermark))
        return WindowCoverage.FROM_HISTORY if is_kept else WindowCoverage.UNCOVERED
    if direction_traffic.has_gap_in(start, end):
        return WindowCoverage.GAP
    return WindowCoverage.CLOSED if end <= direction_traffic.watermark else WindowCoverage.OPEN
