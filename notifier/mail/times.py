"""Windows as text: in UTC, and in the time zone and the language of the mail's reader."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from chassis.texts import Texts
from chassis.time_zones import list_time_zones
from domain.local_times import format_hours, format_time, is_start_of_day, is_within_day

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ReaderTimes:
    """Formats windows and dates for one reader: in UTC and, where it differs from UTC, in the reader's time zone.

    Holds the zone, the time of writing and the texts of the reader's language, on which the shown dates depend.
    """

    zone: ZoneInfo | None
    """None: the reader has no time zone, or one that this machine does not know."""
    now: datetime
    """The time at which the mail is written: dates of this year are shown without the year."""
    texts: Texts

    @classmethod
    def of(cls, time_zone: str, now: datetime, texts: Texts) -> "ReaderTimes":
        """Create the formatting for a reader with this time zone: an IANA name, or any other text for UTC alone."""
        return cls(find_zone(time_zone), now, texts)

    def local_zone(self, start: datetime, end: datetime | None = None) -> ZoneInfo | None:
        """Return the reader's time zone if its clocks differ from UTC at some moment of [start, end), else None.

        `end` None: at the moment `start`.
        """
        return find_local_zone(self.zone, start, end)

    def format_range(self, start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
        """Return [start, end) with its date in a zone: "Fri 8 Feb 00:00–01:00".

        A range from midnight to midnight is its first and last date alone, "Fri 8 Feb – Sun 10 Feb", or its one date;
        another range over several days names both dates, "Fri 8 Feb 22:00 – Sat 9 Feb 04:00". A time that clocks show
        twice, because they go back, has its offset: "Sun 25 Oct 02:00 CEST – 02:00 CET".
        """
        first_day = self.format_date(start.astimezone(zone))
        if is_start_of_day(start, zone) and is_start_of_day(end, zone):
            last = (end - _HOUR).astimezone(zone)  # a moment of the last day, even where clocks skip a whole day
            return first_day if self.format_date(last) == first_day else f"{first_day} – {self.format_date(last)}"
        if is_within_day(start, end, zone):
            return f"{first_day} {format_hours(start, end, zone)}"
        return f"{self.format_moment(start, zone)} – {self.format_moment(end, zone)}"

    def format_local_range(self, start: datetime, end: datetime, zone: tzinfo) -> str:
        """Return [start, end) in a time zone, to be shown after the same range in UTC.

        Only the hours if the range is within one day, and the dates are the same as in UTC; else with its dates.
        """
        same_days = all(each.astimezone(zone).date() == each.astimezone(UTC).date() for each in (start, end))
        if same_days and is_within_day(start, end, zone):
            return format_hours(start, end, zone)
        return self.format_range(start, end, zone)

    def format_moment(self, moment: datetime, zone: tzinfo = UTC) -> str:
        """Return a moment with its date in a zone: "Fri 8 Feb 00:00"."""
        return f"{self.format_date(moment.astimezone(zone))} {format_time(moment, zone)}"

    def format_date(self, moment: datetime) -> str:
        """Return the date of a moment in its own time zone, "Fri 8 Feb", with the year if it is not that of `now`."""
        is_this_year = moment.year == self.now.astimezone(moment.tzinfo).year
        return self.texts.format_date(moment, "date.day" if is_this_year else "date.day_year")

    def is_date_obvious(self, start: datetime, end: datetime) -> bool:
        """Return True if [start, end), in UTC, needs no date: it began in the last 24 hours and lies within one day.

        A whole day is not obvious: it needs its date.
        """
        return is_within_day(start, end) and end - start < _DAY and timedelta(0) <= self.now - start < _DAY


def find_local_zone(zone: ZoneInfo | None, start: datetime, end: datetime | None = None) -> ZoneInfo | None:
    """Return a time zone if its clocks differ from UTC at some moment of [start, end), else None.

    `end` None: at the moment `start`.
    """
    last = start if end is None else max(start, end - timedelta.resolution)
    if zone is None or not any(each.astimezone(zone).utcoffset() for each in (start, last)):
        return None
    return zone


def find_zone(name: str) -> ZoneInfo | None:
    """Return the time zone with an IANA name; None for any other text, and for a zone that this machine lacks."""
    try:
        return ZoneInfo(name) if name in list_time_zones() else None
    except (ValueError, OSError, LookupError):  # not a name at all, a directory of names, an unknown name
        return None
