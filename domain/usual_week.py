"""What is usual in the windows of a week, by what is known now, for a chart."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from domain.calendar import find_calendar
from domain.grids import Grid
from domain.hourly_counts import DAY_HOURS
from domain.interests import Direction
from domain.traffic import Traffic
from domain.usual import FEWEST_BASE_WINDOWS, compute_doubled_median
from domain.usual_fold import find_base_windows
from domain.windows import instant, seconds

_WEEK_DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class BaseWindow:
    """One of the windows of the weeks before of which a usual is the median."""

    start: datetime
    flights: int


@dataclass(frozen=True, slots=True)
class UsualWindow:
    """A window, and what would be usual in it if it were reached now."""

    start: datetime
    doubled_usual: int | None
    """Twice the usual count; None: fewer than three of the windows of the weeks before are known."""
    base: tuple[BaseWindow, ...]
    """The known windows of the weeks before, the latest first."""


def list_usual_week(
    traffic: Traffic, airport: str, direction: Direction, grid: Grid, since: datetime
) -> list[UsualWindow]:
    """Return what is usual in all windows of seven days from `since`, the begin of a day by the grid's clock, in order.

    It follows from the flights of the five weeks before that are known now, by the airport's clock (ICAO code). A
    window that was reached already was judged by what was known then, which may differ.
    """
    calendar, first = find_calendar(airport), grid.find_number(seconds(since))
    found = []
    for number in range(first, first + _WEEK_DAYS * DAY_HOURS // grid.hours):
        base = find_base_windows(traffic, calendar, direction, grid, number)
        counts = [flights for _, flights in base]
        found.append(
            UsualWindow(
                start=instant(grid.find_begin(number)),
                doubled_usual=compute_doubled_median(counts) if len(counts) >= FEWEST_BASE_WINDOWS else None,
                base=tuple(BaseWindow(instant(start), flights) for start, flights in base),
            )
        )
    return found
