"""The level of an alert's threshold in each window: a number of flights, or a percent of what is usual there."""

from datetime import datetime
from typing import NamedTuple

from domain.alerts import Alert
from domain.measures import compute_percent_level, convert_to_flights
from domain.usual import LEAST_DOUBLED_USUAL


class WindowFacts(NamedTuple):
    """What is known of one window."""

    flights: int | None
    """None: not known."""
    doubled_usual: int | None
    """Twice what is usual in it; None: nothing is usual there, or not known. Of no use for a threshold in flights."""


def is_skipped(alert: Alert, window: WindowFacts) -> bool:
    """Return True if a window is not judged by the alert's threshold: in percent, of a usual below 5; else False."""
    return alert.percent is not None and window.doubled_usual is not None and window.doubled_usual < LEAST_DOUBLED_USUAL


def is_breached(alert: Alert, window: WindowFacts) -> bool:
    """Return True if a window is known to breach the alert's threshold; False if not, if skipped, or without a usual.

    The alert's own window is compared with the flights that the alert has as its threshold.
    """
    if window.flights is None:
        return False
    if alert.percent is None:
        return alert.bound.is_breached(window.flights, alert.threshold)
    if window.doubled_usual is None or window.doubled_usual < LEAST_DOUBLED_USUAL:
        return False
    level = compute_percent_level(alert.bound, window.flights, window.doubled_usual)
    return alert.bound.is_breached(level, alert.percent)


def find_level(alert: Alert, window: WindowFacts) -> int | None:
    """Return the flights beyond which a window breaches the alert's threshold; None if the window is not judged."""
    if alert.percent is None:
        return alert.threshold
    if window.doubled_usual is None or window.doubled_usual < LEAST_DOUBLED_USUAL:
        return None
    return convert_to_flights(alert.bound, alert.percent, window.doubled_usual)


def list_earlier_windows(alert: Alert) -> list[tuple[datetime, WindowFacts]]:
    """Return the windows before the alert's own that it knows of, the latest first, each with its start."""
    usual = alert.earlier_usual if len(alert.earlier_usual) == len(alert.earlier) else (None,) * len(alert.earlier)
    facts = map(WindowFacts, reversed(alert.earlier), reversed(usual))
    return list(zip(alert.list_earlier_starts(len(alert.earlier)), facts, strict=True))
