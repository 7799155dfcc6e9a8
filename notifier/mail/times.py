"""Windows on a reader's clock, in words."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Clock:
    """How a reader tells the time: by UTC and, where that is another time, by their own zone."""

    zone: ZoneInfo | None
    """None: the reader has none, or none that this machine knows."""
    now: datetime
    """When the mail is written: what is of this year is told without the year."""

    @classmethod
    def of(cls, time_zone: str, now: datetime) -> "Clock":
        """`time_zone`: an IANA name, or any other text."""
        try:
            zone = ZoneInfo(time_zone)
        except (ValueError, OSError, LookupError):  # not a name at all, a directory of names, an unknown name
            zone = None
        return cls(zone, now)

    def local(self, moment: datetime) -> ZoneInfo | None:
        """The reader's zone, where its clocks show another time than UTC then."""
        if self.zone is None or moment.astimezone(self.zone).utcoffset() == timedelta(0):
            return None
        return self.zone

    def span(self, start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
        """[start, end) with its date: "Fri 8 Feb 00:00–01:00"; the date alone of whole days."""
        begin, until = start.astimezone(zone), end.astimezone(zone)
        if _is_midnight(begin) and _is_midnight(until):
            last = (until - timedelta(hours=1)).date()
            days = self.day(begin)
            return days if last == begin.date() else f"{days} – {self.day(until - timedelta(hours=1))}"
        if begin.date() == until.date() or _ends_the_day(begin, until):
            return f"{self.day(begin)} {hours(start, end, zone)}"
        return f"{self.day(begin)} {begin:%H:%M} – {self.day(until)} {until:%H:%M}"

    def local_span(self, start: datetime, end: datetime, zone: tzinfo) -> str:
        """[start, end) on the clocks of a zone, to be read after the same by UTC: without a date that is no other."""
        begin, until = start.astimezone(zone), end.astimezone(zone)
        same_days = begin.date() == start.astimezone(UTC).date() and until.date() == end.astimezone(UTC).date()
        if same_days and (begin.date() == until.date() or _ends_the_day(begin, until)):
            return hours(start, end, zone)
        return self.span(start, end, zone)

    def day(self, moment: datetime) -> str:
        """A date as people write it, with the year where it is not this one."""
        year = f" {moment.year}" if moment.year != self.now.astimezone(moment.tzinfo).year else ""
        return f"{moment:%a} {moment.day} {moment:%b}{year}"

    def is_obvious(self, start: datetime, end: datetime) -> bool:
        """Whether hours are enough to tell which hours are meant: those of the last day, and of one day."""
        within_a_day = start.date() == end.date() or _ends_the_day(start, end)
        return within_a_day and end - start < _DAY and timedelta(0) <= self.now - start < _DAY


def hours(start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
    """[start, end) of one day, without its date; the end of the day is 24:00 (ISO 8601)."""
    begin, until = start.astimezone(zone), end.astimezone(zone)
    return f"{begin:%H:%M}–{'24:00' if _is_midnight(until) else f'{until:%H:%M}'}"


def _is_midnight(moment: datetime) -> bool:
    return moment.hour == 0 and moment.minute == 0


def _ends_the_day(begin: datetime, until: datetime) -> bool:
    return _is_midnight(until) and (until.date() - begin.date()).days == 1
