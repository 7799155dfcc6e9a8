"""A model of the forecast of learning: it walks from window to window, and looks at each base window of a day."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Final

from collector.intervals import DAY, day_of
from collector.settled.learning import Forecast, Key
from domain.calendar import find_calendar
from domain.grids import Grid
from domain.interests import Direction
from domain.usual import FEWEST_BASE_WINDOWS
from domain.windows import instant, seconds

_FARTHEST: Final = 60 * DAY


def walk_to_first_judged(forecast: Forecast, airport: str, direction: Direction, grid: Grid) -> datetime | None:
    """Return what `Forecast.find_first_judged` must return for an airport of the forecast."""
    keys = [(airport, part) for part in direction.parts]
    reached = min(_find_reached(forecast, key) for key in keys)
    first = grid.find_number(seconds(reached)) + 1
    if _is_judged_from(forecast, keys, grid, first, has_history=False):
        return None
    for number in count(first):
        start = instant(grid.find_begin(number))
        if start >= reached + _FARTHEST or _is_judged_from(forecast, keys, grid, number, has_history=True):
            return start
    raise AssertionError("windows do not end")


def _is_judged_from(forecast: Forecast, keys: Sequence[Key], grid: Grid, first: int, *, has_history: bool) -> bool:
    """Return True if all windows of a day from window `first` on that may have a usual will, and there is one."""
    calendar, judged = find_calendar(keys[0][0]), 0
    for number in range(first, first + 24 // grid.hours):
        at = instant(grid.find_begin(number))
        bases = [(instant(each[0]), instant(each[1])) for each in calendar.list_base_windows(grid, number) if each]
        if len(bases) < FEWEST_BASE_WINDOWS:
            continue
        known = 0
        for begin, end in bases:
            days = {day_of(begin), day_of(end - timedelta(seconds=1))}
            known += all(_is_day_known(forecast, key, day, at, has_history) for key in keys for day in days)
        if known < FEWEST_BASE_WINDOWS:
            return False
        judged += 1
    return judged > 0


def _is_day_known(forecast: Forecast, key: Key, day: datetime, at: datetime, has_history: bool) -> bool:
    """Return True if a day will be known when a window that starts at `at` is reached, else False."""
    if day in forecast.history[key].covered or _find_reached(forecast, key) <= day:
        return True
    expected = forecast.expected[key].get(day) if has_history else None
    reached_at = at if key in forecast.live_until else day_of(at - timedelta(seconds=1)) + DAY
    return expected is not None and expected <= reached_at


def _find_reached(forecast: Forecast, key: Key) -> datetime:
    """Return the end of the coverage of an airport and direction, live or settled."""
    until = forecast.history[key].covered_until
    return max(until, forecast.live_until.get(key, until))
