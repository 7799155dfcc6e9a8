"""Grids: where windows begin and end, by UTC or by the clock of an airport. Pure.

The grid of the windows that are aligned to UTC is their length itself (`domain.windows.Window`). A window by an
airport's clock begins at the first instant at which the clock shows its local time (0, 6, 12 or 18 o'clock) or, where
clocks skip that time, a later one. So a day has 23 or 25 hours when clocks change, and a day that a country skipped,
as Samoa did, is no window. Windows of both kinds are numbered without a break.
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from domain.hourly_counts import DAY_HOURS, QUARTER_S
from domain.windows import EPOCH, HOUR_S, AlignedTo, Window, instant, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCAL_WINDOWS: Final = (Window.SIX_HOURS, Window.ONE_DAY)
"""The lengths of windows that may be aligned to the airport's clock: an hour is an hour by every clock, nearly."""

_DAY_S: Final = DAY_HOURS * HOUR_S
_NAIVE_EPOCH: Final = EPOCH.replace(tzinfo=None)
_STEP: Final = timedelta(days=16)
"""Time between two samples of the offset in the search for long jumps; no clock jumps there and back within it."""
_LAST_LOOK: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""The end of that search."""
_LONG_JUMP: Final = timedelta(hours=4)
"""Least change of the offset between two samples that is searched for skipped windows.

Only a jump of six hours skips one; summer time that ends between the samples may hide up to two hours of it.
"""


class LocalGrid:
    """The windows of one length by the clock of one time zone."""

    aligned_to: Final = AlignedTo.AIRPORT
    """The clock of the grid's windows."""

    def __init__(self, window: Window, zone: tzinfo, time_zone: str) -> None:
        """Find the windows that clocks skipped from begin to end; `window` is one of LOCAL_WINDOWS (not checked)."""
        self.window = window
        """The length of most windows."""
        self.hours = window.hours
        """The same in hours."""
        self.time_zone = time_zone
        """IANA name."""
        self._zone = zone
        self.find_begin = lru_cache(maxsize=1024)(self._compute_begin)
        """Return the begin of a window, by its number, in seconds since 1970. It is the end of the one before."""
        self._skipped = tuple(self._list_skipped())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalGrid) and (self.window, self.time_zone) == (other.window, other.time_zone)

    def __hash__(self) -> int:
        return hash((self.window, self.time_zone))

    def __repr__(self) -> str:
        return f"LocalGrid({self.window.value}, {self.time_zone})"

    def show(self, moment: datetime) -> datetime:
        """Return a moment as the clock shows it."""
        return moment.astimezone(self._zone)

    def find_number(self, second: int) -> int:
        """Return the number of the window that holds an instant (seconds since 1970)."""
        shown = instant(second).astimezone(self._zone).replace(tzinfo=None)
        number = self._convert_shown(shown)
        # The clock may show a time before the window's own, after it was put back.
        while self.find_begin(number + 1) <= second:
            number += 1
        while self.find_begin(number) > second:
            number -= 1
        return number

    def find_first_from(self, second: int) -> int:
        """Return the number of the first window that begins at an instant (seconds since 1970) or later."""
        number = self.find_number(second)
        return number if self.find_begin(number) == second else number + 1

    def _convert_shown(self, shown: datetime) -> int:
        """Return the number of the window with a local time, as if the clock went forward all the time."""
        place = (shown - _NAIVE_EPOCH) // self.window.length
        return place - bisect_right(self._skipped, place)

    def list_same_windows(self, number: int, weeks: int) -> tuple[int | None, ...]:
        """Return, for each of `weeks` weeks before, the number of the window with the local time of window `number`.

        The local time is the one that names the window, also where clocks skip it and the window begins later. The
        latest week comes first. None where clocks skipped the window from begin to end.
        """
        place, windows_a_week = self._find_place(number), 7 * DAY_HOURS // self.hours
        earlier = [place - back * windows_a_week for back in range(1, weeks + 1)]
        return tuple(None if each in self._skipped else each - bisect_right(self._skipped, each) for each in earlier)

    def _find_place(self, number: int) -> int:
        """Return the local time that names window `number`, in windows since 1970 by the clock."""
        place = number
        for skipped in self._skipped:
            place += skipped <= place
        return place

    def _compute_begin(self, number: int) -> int:
        """Return the begin of window `number`, in seconds since 1970."""
        return self._find_instant(self._find_place(number))

    def _find_instant(self, place: int) -> int:
        """Return the first instant at which the clock shows a local time or a later one, in seconds since 1970.

        `place`: that time, in windows since 1970. The result is rounded down to a whole quarter of an hour: all clocks
        have differed from UTC by whole quarters for decades.
        """
        shown = _NAIVE_EPOCH + place * self.window.length
        first, other = (seconds(shown.replace(tzinfo=self._zone, fold=fold).astimezone(UTC)) for fold in (0, 1))
        if first <= other:  # shown once, or twice
            return first // QUARTER_S * QUARTER_S
        # Clocks skip it (PEP 495: then the first is the later instant): the change is in between.
        low, high = other, first
        while high - low > 1:
            middle = (low + high) // 2
            if instant(middle).astimezone(self._zone).replace(tzinfo=None) >= shown:
                high = middle
            else:
                low = middle
        return high // QUARTER_S * QUARTER_S

    def _list_skipped(self) -> "Iterator[int]":
        """Yield the places (windows since 1970, by the clock) of the windows that clocks skipped from begin to end."""
        at = EPOCH
        offset = at.astimezone(self._zone).utcoffset() or timedelta(0)
        while at < _LAST_LOOK:
            later = at + _STEP
            offset_later = later.astimezone(self._zone).utcoffset() or timedelta(0)
            if offset_later - offset >= _LONG_JUMP:
                first, last = (
                    (moment.astimezone(self._zone).replace(tzinfo=None) - _NAIVE_EPOCH) // self.window.length
                    for moment in (at, later)
                )
                yield from (
                    place for place in range(first, last) if self._find_instant(place) == self._find_instant(place + 1)
                )
            at, offset = later, offset_later


Grid = Window | LocalGrid
"""Where windows begin and end. For both: `find_begin`, `find_number`, `find_first_from`, `window`, `aligned_to`."""


def splits_hours(grid: LocalGrid, day: int) -> bool:
    """Return True if a window of the grid begins within an hour (UTC) of a UTC day (since 1970); False if none does."""
    number, end = grid.find_first_from(day * _DAY_S), (day + 1) * _DAY_S
    while (begin := grid.find_begin(number)) < end:
        if begin % HOUR_S:
            return True
        number += 1
    return False


def show_on_clock(grid: Grid, moment: datetime) -> datetime:
    """Return a moment as the clock shows it by which the windows of a grid begin: in UTC, or in the airport's zone."""
    return grid.show(moment) if isinstance(grid, LocalGrid) else moment.astimezone(UTC)
