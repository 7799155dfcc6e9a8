"""What must be mailed, computed from the timetable alone: the rule without Kafka, services or time."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.alerts import Bound, State
from domain.interests import Direction, Interest
from domain.judgement import NOTHING_KNOWN, alerts_between
from domain.traffic import Coverage, Observation
from domain.windows import seconds
from local.demo.options import Wanted
from local.opensky.flights import Timetable
from notifier.alert_header import ToldAlert

NOBODY = UUID(int=0)


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
    traffic = NOTHING_KNOWN
    first, last = seconds(begin), seconds(end) - 1
    for direction in wanted.direction.parts:
        if direction is Direction.DEPARTURES:
            times = tuple(flight.first_seen for flight in timetable.departures(wanted.airport, first, last))
        else:
            times = tuple(flight.last_seen for flight in timetable.arrivals(wanted.airport, first, last))
        traffic = traffic.fold(Observation(direction, first, last + 1, times, Coverage.COMPLETE))
    return [
        ToldAlert(
            alert.airport,
            alert.direction,
            alert.window,
            alert.bound,
            alert.state,
            alert.window_start,
            alert.count,
            alert.threshold,
        )
        for alert in alerts_between(interest, NOTHING_KNOWN, traffic)
    ]


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
    for told in mailed:
        match = next((each for each in left if _agree(each, told)), None)
        if match is None:
            unexpected.append(told)
        else:
            left.remove(match)
    return Difference(tuple(left), tuple(unexpected))


def _agree(expected: ToldAlert, told: ToldAlert) -> bool:
    same = (expected.airport, expected.direction, expected.window, expected.bound, expected.state) == (
        told.airport,
        told.direction,
        told.window,
        told.bound,
        told.state,
    )
    if not same or (expected.window_start, expected.threshold) != (told.window_start, told.threshold):
        return False
    if told.bound is Bound.HIGH and told.state in (State.FIRING, State.STILL):
        return told.threshold < told.count <= expected.count
    return told.count == expected.count
