"""Windows: half-open intervals of time, aligned to UTC, in which flights are counted; and conversions of instants."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The instant from which seconds, hours, days and windows are counted."""
HOUR_S: Final = 3600
"""Seconds in an hour."""
_SECOND: Final = timedelta(seconds=1)


class Window(StrEnum):
    """The length of a window. Each length divides the day, so windows are aligned to UTC midnight."""

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


_HOURS: Final = {Window.ONE_HOUR: 1, Window.SIX_HOURS: 6, Window.ONE_DAY: 24}
_LENGTHS: Final = {window: timedelta(hours=hours) for window, hours in _HOURS.items()}


def seconds(instant: datetime) -> int:
    """Return the whole seconds from 1970 to `instant`, rounded down."""
    return (instant - EPOCH) // _SECOND


def instant(seconds_since_epoch: int) -> datetime:
    """Return the aware UTC datetime that is `seconds_since_epoch` seconds after 1970-01-01T00:00:00Z."""
    return EPOCH + timedelta(seconds=seconds_since_epoch)
