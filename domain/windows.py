"""Windows: half-open intervals of time, aligned to UTC, in which flights are counted; and conversions of instants.

Windows that are aligned to an airport's own clock are in `domain.grids`.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The instant from which seconds, hours, days and windows are counted."""
HOUR_S: Final = 3600
"""Seconds in an hour."""
_SECOND: Final = timedelta(seconds=1)


class AlignedTo(StrEnum):
    """The clock whose midnight the windows are aligned to."""

    UTC = "utc"
    """Midnight UTC, everywhere."""
    AIRPORT = "airport"
    """Midnight by the airport's own clock: a day has 23 or 25 hours when clocks change."""


class Window(StrEnum):
    """The length of a window. Each length divides the day, so windows are aligned to UTC midnight.

    It is also the grid of the windows of this length that are aligned to UTC (`domain.grids.Grid`).
    """

    ONE_HOUR = "1h"
    SIX_HOURS = "6h"
    ONE_DAY = "1d"

    @property
    def hours(self) -> int:
        """The length in hours."""
        return _HOURS[self]

    @property
    def length(self) -> timedelta:
        """The length as a difference of times."""
        return _LENGTHS[self]

    def start_of(self, instant: datetime) -> datetime:
        """Return the start of the window that contains `instant`."""
        length = self.length
        return EPOCH + (instant - EPOCH) // length * length

    @property
    def window(self) -> "Window":
        """The length of the grid's windows: itself."""
        return self

    @property
    def aligned_to(self) -> AlignedTo:
        """The clock of the grid's windows."""
        return AlignedTo.UTC

    def find_begin(self, number: int) -> int:
        """Return the begin of window `number` (since 1970), in seconds since 1970. It is the end of the one before."""
        return number * _HOURS[self] * HOUR_S

    def find_number(self, second: int) -> int:
        """Return the number of the window that holds an instant (seconds since 1970)."""
        return second // (_HOURS[self] * HOUR_S)

    def find_first_from(self, second: int) -> int:
        """Return the number of the first window that begins at an instant (seconds since 1970) or later."""
        return -(-second // (_HOURS[self] * HOUR_S))


_HOURS: Final = {Window.ONE_HOUR: 1, Window.SIX_HOURS: 6, Window.ONE_DAY: 24}
_LENGTHS: Final = {window: timedelta(hours=hours) for window, hours in _HOURS.items()}


def seconds(instant: datetime) -> int:
    """Return the whole seconds from 1970 to `instant`, rounded down."""
    return (instant - EPOCH) // _SECOND


def instant(seconds_since_epoch: int) -> datetime:
    """Return the aware UTC datetime that is `seconds_since_epoch` seconds after 1970-01-01T00:00:00Z."""
    return EPOCH + timedelta(seconds=seconds_since_epoch)
