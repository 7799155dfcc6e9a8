"""Calendars: the instants at which an airport's clock showed the same time of the same weekday, weeks before. Pure.

Zones come from the locked package `tzdata` alone, so that a window has the same base windows on every machine.
"""

from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from domain.airports import find_airport
from domain.grids import LOCAL_WINDOWS, Grid, LocalGrid, splits_hours
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

BaseIntervals = tuple[tuple[int, int] | None, ...]
"""Begin and end (seconds since 1970) of the base window of each of the WEEKS_BACK weeks before a window, the latest
first; None where there is none."""


class LocalStart(NamedTuple):
    """A window by an airport's clock: its begin, its length, and its base windows."""

    begin: int
    """Seconds since 1970."""
    window: Window
    """The length of most such windows."""
    bases: BaseIntervals


class LocalPlan(NamedTuple):
    """The windows by an airport's clock that begin on one UTC day."""

    starts: tuple[LocalStart, ...]
    """In the order of their begin; of two that begin at once, the shorter one first."""
    is_regular: bool
    """True if each window begins with an hour of UTC, and its base windows at the same hour, weeks before, and are as
    long as most: so it is on all days of most zones without a change of clocks. False if one does not."""


class Calendar:
    """The local time of one zone: it converts instants by the zone's rules, and caches the results by day."""

    def __init__(self, time_zone: str) -> None:
        """Load the zone's rules; raise FileNotFoundError if `tzdata` has no zone of this name."""
        self.time_zone = time_zone
        with files("tzdata").joinpath("zoneinfo", *time_zone.split("/")).open("rb") as rules:
            self._zone = ZoneInfo.from_file(rules, key=time_zone)
        self._find_offset_of_day = lru_cache(maxsize=256)(self._compute_offset_of_day)
        self.plan_day = lru_cache(maxsize=64)(self._plan_day)
        self.plan_local_day = lru_cache(maxsize=64)(self._plan_local_day)
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

    def list_base_windows(self, grid: Grid, number: int) -> BaseIntervals:
        """Return the base windows of window `number`, whether anything is known of them or not.

        By UTC a base window must begin where a window by UTC does. By the airport's clock they are the windows of the
        same local time, as long as the clock made them. `grid`: by UTC, or this calendar's.
        """
        if isinstance(grid, LocalGrid):
            same = grid.list_same_windows(number, WEEKS_BACK)
            return tuple(None if each is None else (grid.find_begin(each), grid.find_begin(each + 1)) for each in same)
        length = grid.hours * HOUR_S
        times = self.find_same_times(grid.find_begin(number))
        return tuple(None if at is None or at % length else (at, at + length) for at in times)

    def _plan_local_day(self, day: int) -> LocalPlan:
        """Return the windows by this clock that begin on a UTC day (since 1970), with their base windows."""
        starts = []
        for window in LOCAL_WINDOWS:
            grid = self.find_local_grid(window)
            number, end = grid.find_first_from(day * _DAY_S), (day + 1) * _DAY_S
            while (begin := grid.find_begin(number)) < end:
                starts.append(LocalStart(begin, window, self.list_base_windows(grid, number)))
                number += 1
        starts.sort(key=lambda each: (each.begin, each.window.hours))
        return LocalPlan(tuple(starts), all(map(_is_regular, starts)))

    def _build_local_grid(self, window: Window) -> LocalGrid:
        """Return the grid of the windows of one length by this clock."""
        return LocalGrid(window, self._zone, self.time_zone)

    def _splits_hours(self, day: int) -> bool:
        """Return True if a window by this clock begins within an hour (UTC) of a UTC day (since 1970), else False."""
        offset = self._find_offset_of_day(day)
        if offset is not None and offset == self._find_offset_of_day(day + 1) and not offset % _HOUR:
            return False  # as nearly everywhere
        return splits_hours(self.find_local_grid(Window.SIX_HOURS), day)

    def _compute_offset_of_day(self, day: int) -> timedelta | None:
        """Return the zone's offset from UTC at all hours of a UTC day (since 1970); None if it changes."""
        hours = range(day * DAY_HOURS, (day + 1) * DAY_HOURS)
        offsets = {instant(hour * HOUR_S).astimezone(self._zone).utcoffset() for hour in hours}
        return offsets.pop() if len(offsets) == 1 else None


def _is_regular(start: LocalStart) -> bool:
    """Return True if a local window begins with an hour of UTC, and all its base windows do at the same hour.

    False also if a base window is longer or shorter than most such windows.
    """
    length = start.window.hours * HOUR_S
    begins = [start.begin - weeks * WEEK_HOURS * HOUR_S for weeks in range(1, WEEKS_BACK + 1)]
    return not start.begin % HOUR_S and start.bases == tuple((begin, begin + length) for begin in begins)


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
