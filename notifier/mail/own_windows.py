"""Windows by the airport's own clock as text: "Sun 10 Mar (23 hours) at KBOS"."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from chassis.texts import Texts
from domain.airports import find_airport
from domain.alerts import Alert
from domain.windows import AlignedTo, Window
from notifier.mail.times import ReaderTimes, find_zone

_HOUR: Final = timedelta(hours=1)


def find_own_zone(alert: Alert) -> ZoneInfo | None:
    """Return the zone by whose clock an alert's window begins; None: UTC, also if no airport has the code any more."""
    airport = find_airport(alert.airport) if alert.aligned_to is AlignedTo.AIRPORT else None
    return None if airport is None else find_zone(airport.time_zone)


def format_own_range(alert: Alert, begin: datetime, end: datetime, times: ReaderTimes) -> str:
    """Return the time of one or more of an alert's windows by the clock by which they begin.

    "Fri 8 Feb 00:00–06:00 UTC", or "Sun 10 Mar (23 hours) at KBOS".
    """
    zone = find_own_zone(alert)
    if zone is None:
        return f"{times.format_range(begin, end)} UTC"
    texts = times.texts
    odd = format_odd_length(texts, alert.window, begin, end) if alert.count_windows(begin, end) == 1 else ""
    return texts.get("at_airport", range=f"{times.format_range(begin, end, zone)}{odd}", airport=alert.airport)


def format_shared_range(alerts: Sequence[Alert], times: ReaderTimes) -> str:
    """Return the time of all windows of some alerts, at least one, by their airport's clock, as `format_own_range`.

    Empty unless all are of one airport and begin by its clock.
    """
    if len({each.airport for each in alerts}) > 1 or any(find_own_zone(each) is None for each in alerts):
        return ""
    begin, end = min(each.window_start for each in alerts), max(each.window_end for each in alerts)
    return format_own_range(alerts[0], begin, end, times)


def format_odd_length(texts: Texts, window: Window, begin: datetime, end: datetime) -> str:
    """Return the length of a window in which clocks change, " (23 hours)" or " (24.5 hours)"; else the empty text."""
    return "" if end - begin == window.length else texts.get("odd_length", hours=(end - begin) / _HOUR)
