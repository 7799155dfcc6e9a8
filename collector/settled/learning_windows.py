"""The search for the first windows that will have a usual, from the times at which the days of history are known. Pure.

Windows that begin on the same day, and whose base windows lie on the same days, are looked at together: which they are
follows from the zone alone, and is kept for the next interest.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, groupby
from typing import Final, NamedTuple

from domain.calendar import REGULAR, WEEKS_BACK, Calendar
from domain.grids import Grid, LocalGrid
from domain.hourly_counts import DAY_HOURS
from domain.usual import FEWEST_BASE_WINDOWS
from domain.windows import HOUR_S

_DAY_S: Final = DAY_HOURS * HOUR_S
_ALWAYS: Final = 0
"""The time (seconds since 1970) from which on a day is known that is known already."""
_NEVER: Final = sys.maxsize
"""The same of a day that nobody will know."""


class WindowGroup(NamedTuple):
    """Windows that follow each other, begin on the same UTC day, and have their base windows on the same days."""

    first: int
    """Number of the first window."""
    last: int
    """Number of the last window."""
    base_days: tuple[tuple[int, ...], ...]
    """For each base window that there is, the UTC days (since 1970) that it lies in."""


@lru_cache(maxsize=8192)
def list_window_groups(calendar: Calendar, grid: Grid, day: int) -> tuple[WindowGroup, ...]:
    """Return all windows of a grid that begin on a UTC day (since 1970), in groups, in their order.

    `grid`: by UTC, or the calendar's.
    """
    number, end = grid.find_first_from(day * _DAY_S), (day + 1) * _DAY_S
    if not isinstance(grid, LocalGrid) and calendar.plan_day(day) is REGULAR:
        weeks = tuple((day - 7 * week,) for week in range(1, WEEKS_BACK + 1))
        return (WindowGroup(number, grid.find_first_from(end) - 1, weeks),)
    windows = []
    while grid.find_begin(number) < end:
        bases = calendar.list_base_windows(grid, number)
        windows.append((number, tuple(_list_days(*base) for base in bases if base is not None)))
        number += 1
    found = []
    for days, members in groupby(windows, key=lambda each: each[1]):
        numbers = [each[0] for each in members]
        found.append(WindowGroup(numbers[0], numbers[-1], days))
    return tuple(found)


def _list_days(begin: int, end: int) -> tuple[int, ...]:
    """Return the UTC days (since 1970) of which a time [begin, end) (seconds since 1970) holds a part."""
    return tuple(range(begin // _DAY_S, (end - 1) // _DAY_S + 1))


@dataclass(frozen=True, slots=True)
class KnownDays:
    """The UTC days (since 1970) of one airport and direction that are known, or will be."""

    covered: AbstractSet[int]
    """Those that are covered."""
    own_from: int
    """The first of those that are known in time because the coverage goes on."""
    expected: Mapping[int, int] = field(default_factory=dict)
    """By day: the least begin (seconds since 1970) of the windows that find it known when they are reached."""

    def find_time(self, day: int) -> int:
        """Return from which begin (seconds since 1970) on windows find a day known when they are reached."""
        return _ALWAYS if day in self.covered or day >= self.own_from else self.expected.get(day, _NEVER)


class KnownTimes:
    """The times from which on days are known in all directions of an interest; each is computed once."""

    def __init__(self, directions: Sequence[KnownDays]) -> None:
        """`directions`: the days of each direction; at least one."""
        self._directions = directions
        self._times: dict[int, int] = {}

    def find_usual_time(self, group: WindowGroup) -> int | None:
        """Return from which begin (seconds since 1970) on the windows of a group have a usual.

        None if they never have one, because there are too few base windows.
        """
        if len(group.base_days) < FEWEST_BASE_WINDOWS:
            return None
        times = sorted(max(map(self._find_time, days)) for days in group.base_days)
        return times[FEWEST_BASE_WINDOWS - 1]

    def _find_time(self, day: int) -> int:
        """Return from which begin (seconds since 1970) on windows find a day known, in all directions."""
        time = self._times.get(day)
        if time is None:
            time = self._times[day] = max(each.find_time(day) for each in self._directions)
        return time


def find_first_judged(calendar: Calendar, grid: Grid, numbers: range, times: KnownTimes) -> int:
    """Return the first of some windows from which on all windows of a day have a usual; the range's stop if none has.

    Windows with too few base windows are ignored, but one of the day must have a usual. `numbers`: not empty.
    """
    needed = DAY_HOURS // grid.hours
    begin = numbers.start  # of the windows up to here of which none lacks a usual
    judged: int | None = None  # the first of them that has one
    for group in _generate_groups(calendar, grid, numbers.start):
        at = times.find_usual_time(group)
        if at is not None:
            first = max(group.first, numbers.start)
            judged_from = min(max(grid.find_first_from(at), first), group.last + 1) if at < _NEVER else group.last + 1
            if judged_from > first:
                begin, judged = judged_from, None
            if judged is None and judged_from <= group.last:
                judged = judged_from
        if judged is not None:
            found = max(begin, judged - needed + 1)
            if found + needed <= group.last + 1:
                return min(found, numbers.stop)
        if begin >= numbers.stop or group.last >= numbers.stop + needed:
            return numbers.stop
    raise AssertionError("days do not end")


def _generate_groups(calendar: Calendar, grid: Grid, first: int) -> Iterator[WindowGroup]:
    """Yield the groups from that of window `first` on, in their order, without end."""
    for day in count(grid.find_begin(first) // _DAY_S):
        for group in list_window_groups(calendar, grid, day):
            if group.last >= first:
                yield group
