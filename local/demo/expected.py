"""The alerts that must be mailed, computed from the timetable alone: the rule without Kafka, services or time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from domain.alerts import Alert, AlertState
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import seconds
from local.opensky.flights import Timetable
from notifier.mail.alert_header import AlertHeaderFields, select_header_fields

DAY = timedelta(days=1)


def compute_expected_alerts(timetable: Timetable, interest: Interest, end: datetime) -> list[AlertHeaderFields]:
    """Compute the alerts of one interest for the windows from `effective_from` to `end`, all of them covered.

    The interval must be whole days. The days are folded and judged one after the other, so the alerts are in the order
    of the days on which they are raised.
    """
    alerts: list[Alert] = []
    traffic, day = NO_TRAFFIC, interest.effective_from
    while day < end:  # traffic is retained for some weeks only, so each day is judged when it is over
        after = traffic
        for direction in interest.direction.parts:
            times = _find_event_times(timetable, interest.airport, direction, day, day + DAY)
            after = after.fold(Observation(direction, seconds(day), seconds(day + DAY), times, Coverage.COMPLETE))
        alerts += compute_alerts(interest, traffic, after)
        traffic, day = after, day + DAY
    return [select_header_fields(alert) for alert in alerts]


def _find_event_times(
    timetable: Timetable, airport: str, direction: Direction, begin: datetime, end: datetime
) -> tuple[int, ...]:
    """Return the event times (Unix seconds) of an airport's flights of one direction in [begin, end), in order.

    An event time is when a departure was first seen, or an arrival last seen.
    """
    first, last = seconds(begin), seconds(end) - 1
    if direction is Direction.DEPARTURES:
        return tuple(flight.first_seen for flight in timetable.find_departures(airport, first, last))
    return tuple(flight.last_seen for flight in timetable.find_arrivals(airport, first, last))


@dataclass(frozen=True, slots=True)
class AlertDifference:
    """The alerts by which the mailed ones differ from the expected ones; as a bool, True if any differs."""

    missing: tuple[AlertHeaderFields, ...]
    """Expected, and not mailed."""
    unexpected: tuple[AlertHeaderFields, ...]
    """Mailed, and not expected, or mailed more often than expected."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected)


def compare_alerts(expected: Iterable[AlertHeaderFields], mailed: Iterable[AlertHeaderFields]) -> AlertDifference:
    """Return the expected alerts that were not mailed, and the mailed alerts that were not expected.

    Order does not matter. Each expected alert matches one mailed alert: a duplicate of it is unexpected. An alert for a
    high threshold may carry the smaller count at which it was raised early; all else must be equal.
    """
    missing = list(expected)
    unexpected = []
    for each in mailed:
        match = next((alert for alert in missing if _is_match(alert, each)), None)
        if match is None:
            unexpected.append(each)
        else:
            missing.remove(match)
    return AlertDifference(tuple(missing), tuple(unexpected))


def _is_match(expected: AlertHeaderFields, mailed: AlertHeaderFields) -> bool:
    """Return True if the mailed alert is the expected one, False if any field differs.

    The count of a high threshold that is FIRING or STILL may be smaller than expected, if it is in breach.
    """
    if replace(expected, count=mailed.count) != mailed:
        return False
    if mailed.bound.can_breach_while_open and mailed.state in (AlertState.FIRING, AlertState.STILL):
        return mailed.bound.is_breached(mailed.count, mailed.threshold) and mailed.count <= expected.count
    return mailed.count == expected.count
