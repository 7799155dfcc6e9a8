"""Calendars: the instants at which an airport's clock showed the same time of the same weekday, weeks before. Pure.

Zones come from the locked package `tzdata` alone, so that a window has the same base windows on every machine.
"""

from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

from domain.airports import find_airport
from domain.grids import Grid, LocalGrid, splits_hours
from domain.hourly_counts import DAY_HOURS
from domain.windows import HOUR_S, AlignedTo, Window, instant, seconds

WEEKS_BACK: Final = 5
"""Number of weeks before a window whose windows at the same local time are its base windows."""
WEEK_HOURS: Final = 7 * DAY_HOURS
_WEEK: Final = timedelta(days=7)
_HOUR: Final = timedelta(hours=1)
_DAY_S: Final = DAY_HOURS * HOUR_S

BaseHours = tuple[int | None, ...]
"""For each of the 24 hours of a UTC day the hour (since 1970) that begins at the same local time some weeks before.
None: no hour of UTC does, or that local time did not exist."""
Plan = tuple[BaseHours | None, ...]
"""For each of the WEEKS_BACK weeks, the latest first, the base hours of a UTC day. None: all 24 hours have the same
local times as the same hours (UTC) of the day that many weeks before, as on all days without a change of clocks."""
REGULAR: Final[Plan] = (None,) * WEEKS_BACK
"""The plan of a day whose base days are the same days (UTC) of the weeks before, hour by hour."""


class Calendar:
    """The local time of one zone: it converts instants by the zone's rules, and caches the results by day."""

    def __init__(self, time_zone: str) -> None:
        """Load the zone's rules; raise FileNotFoundError if `tzdata` has no zone of this name."""
        self.time_zone = time_zone
        with files("tzdata").joinpath("zoneinfo", *time_zone.split("/")).open("rb") as rules:
            self._zone = ZoneInfo.from_file(rules, key=time_zone)
        self._find_offset_of_day = lru_cache(maxsize=256)(self._compute_offset_of_day)
        self.plan_day = lru_cache(maxsize=64)(self._plan_day)
        self.splits_hours = lru_cache(maxsize=256)(self._splits_hours)
        self.find_local_grid = cache(self._build_local_grid)

    def find_same_times(self, start: int) -> tuple[int | None, ...]:
        """Return the instants at which the clock showed the time that it shows at `start`, 7, 14, … 35 days before.

        Of two such instants, where clocks went back, the first; None where clocks skipped that time. Instants are
        seconds since 1970. Whether a window begins at an instant is the caller's question: this serves all windows.
        """
        shown = instant(start).astimezone(self._zone).replace(tzinfo=None)
        return tuple(self._find_instant(shown - weeks * _WEEK) for weeks in range(1, WEEKS_BACK + 1))

    def show(self, moment: datetime) -> datetime:
        """Return a moment as the clock shows it, with its offset."""
        return moment.astimezone(self._zone)

    def _find_instant(self, shown: datetime) -> int | None:
        """Return the first instant (seconds since 1970) at which the clock showed a time; None if it never did."""
        moment = shown.replace(tzinfo=self._zone, fold=0).astimezone(UTC)
        # A time that clocks skip comes back as another one (PEP 495).
        return seconds(moment) if moment.astimezone(self._zone).replace(tzinfo=None) == shown else None

    def _plan_day(self, day: int) -> Plan:
        """Return the base hours of a UTC day (since 1970) for each of the weeks before it."""
        offset = self._find_offset_of_day(day)
        days = [day - 7 * weeks for weeks in range(1, WEEKS_BACK + 1)]
        # A day beside a change of clocks may have times that are shown twice, of which the first is on another day.
        is_regular = [
            offset is not None and all(self._find_offset_of_day(each) == offset for each in (base - 1, base, base + 1))
            for base in days
        ]
        if all(is_regular):
            return REGULAR
        hours = [self.find_same_times(hour * HOUR_S) for hour in range(day * DAY_HOURS, (day + 1) * DAY_HOURS)]
        return tuple(
            None if is_regular[at] else tuple(_convert_to_hour(times[at]) for times in hours)
            for at in range(WEEKS_BACK)
        )

    def _build_local_grid(self, window: Window) -> LocalGrid:
        """Return the grid of the windows of one length by this clock."""
        return LocalGrid(window, self._zone, self.time_zone)

    def _splits_hours(self, day: int) -> bool:
        """Return True if a window by this clock begins within an hour (UTC) of a UTC day (since 1970), not with it."""
        offset = self._find_offset_of_day(day)
        if offset is not None and offset == self._find_offset_of_day(day + 1) and not offset % _HOUR:
            return False  # as nearly everywhere
        return splits_hours(self.find_local_grid(Window.SIX_HOURS), day)

    def _compute_offset_of_day(self, day: int) -> timedelta | None:
        """Return the zone's offset from UTC at all hours of a UTC day (since 1970); None if it changes."""
        hours = range(day * DAY_HOURS, (day + 1) * DAY_HOURS)
        offsets = {instant(hour * HOUR_S).astimezone(self._zone).utcoffset() for hour in hours}
        return offsets.pop() if len(offsets) == 1 else None


def _convert_to_hour(at: int | None) -> int | None:
    """Return the hour (since 1970) that begins at an instant (seconds since 1970), None if no hour begins then."""
    return None if at is None or at % HOUR_S else at // HOUR_S


@lru_cache(maxsize=512)
def _load_calendar(time_zone: str) -> Calendar:
    """Return the calendar of a zone: one object for all its airports, while it is among the last that were used."""
    return Calendar(time_zone)


@lru_cache(maxsize=65_536)
def find_calendar(airport: str) -> Calendar:
    """Return the calendar of an airport, by its ICAO code; that of UTC for a code that no airport has (any more)."""
    known = find_airport(airport)
    return _load_calendar("UTC" if known is None else known.time_zone)


def find_grid(airport: str, window: Window, aligned_to: AlignedTo) -> Grid:
    """Return where the windows of an airport (ICAO code) begin and end: by UTC, or by the airport's clock."""
    return window if aligned_to is AlignedTo.UTC else find_calendar(airport).find_local_grid(window)
