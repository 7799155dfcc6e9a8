"""The usual counts of one airport: the record of them that the fold keeps, and how the median is computed.

The usual of a window is the median of the counts of the same window, by the airport's clock, 7, 14, 21, 28 and 35 days
before. It is fixed once, when the coverage reaches the window's start (`domain.usual_fold`), and is the same for all
interests. It is kept doubled, so that it is an integer: the median of four counts may end in a half. The windows are
those by UTC, and those by the airport's clock (`domain.grids`).
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from domain.grids import Grid, LocalGrid
from domain.hourly_counts import DAY_HOURS, QUARTER_S
from domain.interests import Direction
from domain.windows import HOUR_S, Window

FEWEST_BASE_WINDOWS: Final = 3
"""Least number of known base windows; a window with fewer has no usual."""

LEAST_DOUBLED_USUAL: Final = 10
"""Twice the usual count below which thresholds in percent skip a window: a percent of under 5 flights says little."""

_FIRST_PLACES: Final = {Window.ONE_HOUR: 0, Window.SIX_HOURS: DAY_HOURS, Window.ONE_DAY: DAY_HOURS + 4}
"""The index of a day's first window of each length among all windows of the day."""
_WINDOWS_A_DAY: Final = {window: DAY_HOURS // window.hours for window in Window}
_NUMBER_BYTES: Final = 2
_LARGEST: Final = 2 ** (8 * _NUMBER_BYTES) - 2
"""The largest doubled usual that is stored; larger ones are stored as this. No airport has half of it in a day."""

_ALL_WINDOWS: Final = f"<{sum(_WINDOWS_A_DAY.values())}H"

UsualDay = bytes
"""The usual counts of the windows of one UTC day: two bytes for each (little-endian), 24 hours, then four windows of
six hours, then the day. 0: no usual; else the doubled usual and 1. Compact, because each message writes some of them.
Windows that were not reached yet have the usual that would be fixed now.

After them come the windows by the airport's clock that begin on the day and have a usual, in the order of their begin:
three bytes for each. The first is the quarter of an hour of the day (UTC) in which the window begins, with `_DAY_LONG`
for a window of a day; the others are the doubled usual and 1. So a window is found by its begin, whatever the number
that newer rules of a zone give it. Days that an older version has fixed lack them."""
EMPTY_USUAL_DAY: Final[UsualDay] = bytes(_NUMBER_BYTES * sum(_WINDOWS_A_DAY.values()))
"""A day without a usual in any window."""

_DAY_S: Final = DAY_HOURS * HOUR_S
_LOCAL_BYTES: Final = 1 + _NUMBER_BYTES
"""Bytes for each window by the airport's clock."""
_DAY_LONG: Final = 0x80
"""Added to the quarter in which a local window begins if the window is one of a day; else it is one of six hours."""


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual counts of one airport, by direction and UTC day (since 1970); days without any are left out."""

    arrivals: dict[int, UsualDay] = field(default_factory=dict)
    departures: dict[int, UsualDay] = field(default_factory=dict)
    both: dict[int, UsualDay] = field(default_factory=dict)

    def select_days(self, direction: Direction) -> dict[int, UsualDay]:
        """Return the usual counts of one direction, by UTC day (since 1970)."""
        match direction:
            case Direction.ARRIVALS:
                return self.arrivals
            case Direction.DEPARTURES:
                return self.departures
            case Direction.BOTH:
                return self.both

    def without_direction(self, direction: Direction) -> "Usual":
        """Return a copy in which nothing is usual in one direction, ARRIVALS or DEPARTURES, and in both together."""
        return replace(self, **{direction.value: {}, Direction.BOTH.value: {}})


NO_USUAL: Final = Usual()
"""No window has a usual, as before the fourth week of an airport's coverage."""


def read_doubled_usual(days: dict[int, UsualDay], grid: Grid, number: int) -> int | None:
    """Return twice the usual count of window `number` of a grid; None if nothing is usual there.

    It does not check whether the window was reached.
    """
    if isinstance(grid, LocalGrid):
        return _read_local_usual(days, grid.window, grid.find_begin(number))
    window = grid
    day, at = divmod(number, _WINDOWS_A_DAY[window])
    packed = days.get(day)
    if packed is None:
        return None
    at = _NUMBER_BYTES * (_FIRST_PLACES[window] + at)
    value = packed[at] | packed[at + 1] << 8
    return value - 1 if value else None


def _read_local_usual(days: dict[int, UsualDay], window: Window, begin: int) -> int | None:
    """Return twice the usual count of the local window that begins at `begin` (seconds since 1970); None: no usual."""
    packed = days.get(begin // _DAY_S, EMPTY_USUAL_DAY)
    name = _name_local_window(window, begin)
    for at in range(len(EMPTY_USUAL_DAY), len(packed), _LOCAL_BYTES):
        if packed[at] == name:
            return int.from_bytes(packed[at + 1 : at + _LOCAL_BYTES], "little") - 1
    return None


def _name_local_window(window: Window, begin: int) -> int:
    """Return the byte that names the local window of its UTC day that begins at `begin` (seconds since 1970)."""
    return begin % _DAY_S // QUARTER_S | (_DAY_LONG if window is Window.ONE_DAY else 0)


def pack_local_usual(window: Window, begin: int, doubled: int) -> bytes:
    """Return the bytes of one local window, which begins at `begin` (seconds since 1970), for the end of its day.

    `doubled`: twice its usual count; a value above `_LARGEST` is stored as `_LARGEST`.
    """
    usual = min(doubled, _LARGEST) + 1
    return bytes([_name_local_window(window, begin)]) + usual.to_bytes(_NUMBER_BYTES, "little")


def copy_local_windows(packed: UsualDay, day: int, since: int) -> bytes:
    """Return the packed local windows of the day `packed` that begin before `since` (seconds since 1970).

    `day`: its number since 1970.
    """
    at = len(EMPTY_USUAL_DAY)
    while at < len(packed) and day * _DAY_S + (packed[at] & ~_DAY_LONG) * QUARTER_S < since:
        at += _LOCAL_BYTES
    return packed[len(EMPTY_USUAL_DAY) : at]


def write_doubled_usual(packed: bytearray, window: Window, number: int, doubled: int) -> None:
    """Set twice the usual count of window `number` in its day; a value above `_LARGEST` is stored as `_LARGEST`."""
    place = _NUMBER_BYTES * (_FIRST_PLACES[window] + number % _WINDOWS_A_DAY[window])
    packed[place : place + _NUMBER_BYTES] = (min(doubled, _LARGEST) + 1).to_bytes(_NUMBER_BYTES, "little")


def pack_doubled_usual(doubled: Sequence[int]) -> UsualDay:
    """Return a day with twice the usual counts of all its windows: of 24 hours, of four windows of six, of the day.

    A value above `_LARGEST` is stored as `_LARGEST`.
    """
    if max(doubled) > _LARGEST:
        doubled = [min(each, _LARGEST) for each in doubled]
    return struct.pack(_ALL_WINDOWS, *[each + 1 for each in doubled])


def copy_windows(packed: UsualDay, whole: UsualDay, begin: int) -> UsualDay:
    """Return a day of the windows of `packed` that start before the hour `begin`, and of the later ones of `whole`.

    It has the windows by UTC alone: local ones are left out.
    """
    if begin == 0:
        return whole
    copied = b""
    for window, place in _FIRST_PLACES.items():
        first, middle = _NUMBER_BYTES * place, _NUMBER_BYTES * (place - (-begin // window.hours))
        copied += packed[first:middle] + whole[middle : first + _NUMBER_BYTES * _WINDOWS_A_DAY[window]]
    return copied


def compute_doubled_median(counts: Sequence[int]) -> int:
    """Return twice the median of some counts: of an even number, the sum of the two middle ones.

    Raises ValueError if there are none.
    """
    if not counts:
        raise ValueError("there is no median of nothing")
    ordered, middle = sorted(counts), len(counts) // 2
    return 2 * ordered[middle] if len(counts) % 2 else ordered[middle - 1] + ordered[middle]
