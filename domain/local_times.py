"""Times of day in a time zone as text, told apart where clocks go back and show the same time twice.

Every text with a local time is made from these functions.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)


def is_shown_twice(moment: datetime, zone: tzinfo) -> bool:
    """Return True if the zone's clocks show the same date and time at another moment, too: they go back in between."""
    local = moment.astimezone(zone)
    # PEP 495: of a time that clocks show twice, the two values of `fold` are the two moments. A moment that exists is
    # never in the hour that clocks skip, in which the two values differ as well.
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def format_time(moment: datetime, zone: tzinfo = UTC) -> str:
    """Return the time of day in a zone: "02:00", or "02:00 CEST" where clocks show that time twice.

    A zone without letters of its own has its offset there: "01:30 UTC+10:30".
    """
    local = moment.astimezone(zone)
    return f"{local:%H:%M} {_name_offset(local)}" if is_shown_twice(moment, zone) else f"{local:%H:%M}"


def format_hours(start: datetime, end: datetime, zone: tzinfo = UTC) -> str:
    """Return [start, end) of one day without its date, "23:00–24:00"; the end of the day is 24:00 (ISO 8601).

    Where clocks show a time twice, its letters or offset follow: "01:00–02:00 CEST", "02:00 CEST – 02:00 CET".
    """
    begin = format_time(start, zone)
    dash = " – " if " " in begin else "–"
    return f"{begin}{dash}{'24:00' if is_next_midnight(start, end, zone) else format_time(end, zone)}"


def is_within_day(start: datetime, end: datetime, zone: tzinfo = UTC) -> bool:
    """Return True if [start, end) lies within one date of a zone; the day may end with it."""
    return start.astimezone(zone).date() == end.astimezone(zone).date() or is_next_midnight(start, end, zone)


def is_next_midnight(start: datetime, end: datetime, zone: tzinfo = UTC) -> bool:
    """Return True if `end` is the midnight at which the date of `start` ends in a zone."""
    days = (end.astimezone(zone).date() - start.astimezone(zone).date()).days
    return days == 1 and is_start_of_day(end, zone)


def is_start_of_day(moment: datetime, zone: tzinfo = UTC) -> bool:
    """Return True at midnight in a zone; where clocks go back to midnight, at the first of the two alone."""
    local = moment.astimezone(zone)
    return local.hour == 0 and local.minute == 0 and local.fold == 0


def _name_offset(local: datetime) -> str:
    """Return what tells a time from its twin: the zone's letters, "CEST", or else its offset, "UTC+10:30"."""
    names = {local.replace(fold=fold).tzname() or "" for fold in (0, 1)}
    name = local.tzname() or ""
    if len(names) == 2 and all(each.isalpha() for each in names):
        return name
    offset = local.utcoffset() or timedelta(0)
    hours, rest = divmod(abs(offset), _HOUR)
    minutes = f":{rest // _MINUTE:02}" if rest else ""
    return f"UTC{'-' if offset < timedelta(0) else '+'}{hours}{minutes}"
