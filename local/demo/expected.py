"""What must be mailed, computed from the timetable alone: the rule without Kafka, services or time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from domain.alerts import Alert, AlertState, Bound
from domain.changes import NO_TRAFFIC, alerts_between
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import seconds
from local.demo.options import Wanted
from local.opensky.flights import Timetable
from notifier.mail.alert_header import ToldAlert, told

NOBODY = UUID(int=0)
DAY = timedelta(days=1)


def expected_alerts(timetable: Timetable, wanted: Wanted, begin: datetime, end: datetime) -> list[ToldAlert]:
    """What is to be said of one interest about the windows in [begin, end), once all of them are covered."""
    interest = Interest(
        interest_id=NOBODY,
        user_id=NOBODY,
        airport=wanted.airport,
        direction=wanted.direction,
        window=wanted.window,
        high=wanted.high,
        low=wanted.low,
        for_windows=wanted.for_windows,
        repeat=wanted.repeat,
        effective_from=begin,
        version=1,
    )
    alerts: list[Alert] = []
    traffic, day = NO_TRAFFIC, begin
    while day < end:  # traffic is not remembered for ever, so each day is judged when it is over
        after = traffic
        for direction in wanted.direction.parts:
            times = _event_times(timetable, wanted.airport, direction, day, day + DAY)
            after = after.fold(Observation(direction, seconds(day), seconds(day + DAY), times, Coverage.COMPLETE))
        alerts += alerts_between(interest, traffic, after)
        traffic, day = after, day + DAY
    return [told(alert) for alert in alerts]


def _event_times(
    timetable: Timetable, airport: str, direction: Direction, begin: datetime, end: datetime
) -> tuple[int, ...]:
    first, last = seconds(begin), seconds(end) - 1
    if direction is Direction.DEPARTURES:
        return tuple(flight.first_seen for flight in timetable.find_departures(airport, first, last))
    return tuple(flight.last_seen for flight in timetable.find_arrivals(airport, first, last))


@dataclass(frozen=True, slots=True)
class Difference:
    """Where what was mailed is not what was expected."""

    missing: tuple[ToldAlert, ...]
    unexpected: tuple[ToldAlert, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected)


def difference(expected: Iterable[ToldAlert], mailed: Iterable[ToldAlert]) -> Difference:
    """Compares exactly, duplicates included; but an early high may carry the count at which it was said."""
    left = list(expected)
    unexpected = []
    for each in mailed:
        match = next((alert for alert in left if _agree(alert, each)), None)
        if match is None:
            unexpected.append(each)
        else:
            left.remove(match)
    return Difference(tuple(left), tuple(unexpected))


def _agree(expected: ToldAlert, mailed: ToldAlert) -> bool:
    if replace(expected, count=mailed.count) != mailed:
        return False
    if mailed.bound is Bound.HIGH and mailed.state in (AlertState.FIRING, AlertState.STILL):
        return mailed.threshold < mailed.count <= expected.count
    return mailed.count == expected.count
