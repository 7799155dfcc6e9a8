"""Windows: half-open stretches of time, aligned to UTC, in which flights are counted."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_S: Final = 3600


class Window(StrEnum):
    """How long a window is. Each length divides the day, so windows are aligned to UTC midnight."""

    ONE_HOUR = "1h"
    SIX_HOURS = "6h"
    ONE_DAY = "1d"

    @property
    def hours(self) -> int:
        return _HOURS[self]

    @property
    def length(self) -> timedelta:
        return timedelta(hours=self.hours)

    def start_of(self, instant: datetime) -> datetime:
        """The start of the window that `instant` lies in."""
        return EPOCH + (instant - EPOCH) // self.length * self.length


_HOURS: Final = {Window.ONE_HOUR: 1, Window.SIX_HOURS: 6, Window.ONE_DAY: 24}


def seconds(instant: datetime) -> int:
    """Whole seconds from the epoch to `instant`, rounded down."""
    return (instant - EPOCH) // timedelta(seconds=1)


def instant(seconds_since_epoch: int) -> datetime:
    """The instant so many seconds after the epoch."""
    return EPOCH + timedelta(seconds=seconds_since_epoch)
