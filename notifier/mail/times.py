"""Windows as text: in UTC, and in the time zone of the mail's reader."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from chassis.time_zones import list_time_zones

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReaderTimes:
    """Formats windows and dates for one reader: in UTC and, where it differs from UTC, in the reader's time zone.

    Holds the zone and the time of writing, on which the shown dates depend.
    """

    zone: ZoneInfo | None
    """None: the reader has no time zone, or one that this machine does not know."""
    now: datetime
    """The time at which the mail is written: dates of this year are shown without the year."""

    @classmethod
    def of(cls, time_zone: str, now: datetime) -> "ReaderTimes":
        """Create the formatting for a reader with this time zone: an IANA name, or any other text for UTC alone."""
        try:
            zone = ZoneInfo(time_zone) if time_zone in list_time_zones() else None
        except (ValueError, OSError, LookupError):  # not a name at all, a directory of names, an unknown name
            zone = None
        return cls(zone, now)

    def local_zone(self, moment: datetime) -> ZoneInfo | None:
        """Return the reader's time zone if its clocks differ from UTC at that moment, else None."""
        if self.zone is None or moment.astimezone(self.zone).utcoffset() == timedelta(0):
            return None
        return self.zone

    def format_range(self, start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
        """Return [start, end) with its date in a zone: "Fri 8 Feb 00:00–01:00".

        A range from midnight to midnight is its first and last date alone, "Fri 8 Feb – Sun 10 Feb", or its one date;
        another range over several days names both dates, "Fri 8 Feb 22:00 – Sat 9 Feb 04:00".
        """
        begin, until = start.astimezone(zone), end.astimezone(zone)
        if _is_midnight(begin) and _is_midnight(until):
            last = (until - timedelta(hours=1)).date()
            first_day = self.format_date(begin)
            return (
                first_day if last == begin.date() else f"{first_day} – {self.format_date(until - timedelta(hours=1))}"
            )
        if begin.date() == until.date() or _is_end_of_same_day(begin, until):
            return f"{self.format_date(begin)} {format_hours(start, end, zone)}"
        return f"{self.format_date(begin)} {begin:%H:%M} – {self.format_date(until)} {until:%H:%M}"

    def format_local_range(self, start: datetime, end: datetime, zone: tzinfo) -> str:
        """Return [start, end) in a time zone, to be shown after the same range in UTC.

        Only the hours if the range is within one day, and the dates are the same as in UTC; else with its dates.
        """
        begin, until = start.astimezone(zone), end.astimezone(zone)
        same_days = begin.date() == start.astimezone(UTC).date() and until.date() == end.astimezone(UTC).date()
        if same_days and (begin.date() == until.date() or _is_end_of_same_day(begin, until)):
            return format_hours(start, end, zone)
        return self.format_range(start, end, zone)

    def format_moment(self, moment: datetime, zone: tzinfo = UTC) -> str:
        """Return a moment with its date in a zone: "Fri 8 Feb 00:00"."""
        local = moment.astimezone(zone)
        return f"{self.format_date(local)} {local:%H:%M}"

    def format_date(self, moment: datetime) -> str:
        """Return the date of a moment in its own time zone, "Fri 8 Feb", with the year if it is not that of `now`."""
        year = f" {moment.year}" if moment.year != self.now.astimezone(moment.tzinfo).year else ""
        return f"{moment:%a} {moment.day} {moment:%b}{year}"

    def is_date_obvious(self, start: datetime, end: datetime) -> bool:
        """Return True if [start, end), in UTC, needs no date: it began in the last 24 hours and lies within one day.

        A whole day is not obvious: it needs its date.
        """
        within_a_day = start.date() == end.date() or _is_end_of_same_day(start, end)
        return within_a_day and end - start < _DAY and timedelta(0) <= self.now - start < _DAY


def format_hours(start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
    """Return [start, end) of one day without its date, "23:00–24:00"; the end of the day is 24:00 (ISO 8601)."""
    begin, until = start.astimezone(zone), end.astimezone(zone)
    return f"{begin:%H:%M}–{'24:00' if _is_midnight(until) else f'{until:%H:%M}'}"


def _is_midnight(moment: datetime) -> bool:
    return moment.hour == 0 and moment.minute == 0


def _is_end_of_same_day(begin: datetime, until: datetime) -> bool:
    """Return True if `until` is the midnight at which the day of `begin` ends."""
    return _is_midnight(until) and (until.date() - begin.date()).days == 1
