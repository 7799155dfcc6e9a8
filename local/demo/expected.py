"""The alerts that must be mailed, computed from the timetable alone: the rule without Kafka, services or time."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time

from domain.alerts import Alert, AlertState, Bound
from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import instant, seconds
from local.demo.expected_percents import PercentTruth
from local.demo.plan import DAY, LEARNED_FROM, DemoPlan, list_days
from local.opensky.flights import Timetable
from local.opensky.record_options import FIRST_DAY
from notifier.mail.alert_header import AlertHeaderFields, select_header_fields


@dataclass(frozen=True, slots=True)
class ExpectedCoverage:
    """The coverage that an airport must have: every day from `begin` on, except those that the source never records."""

    begin: datetime
    missing_days: frozenset[datetime] = frozenset()
    """UTC midnights; each of these days is a gap."""


@dataclass(frozen=True, slots=True)
class ExpectedStory:
    """The alerts and unheard airports of a demo run, if the collector begins with the plan's first day."""

    plan: DemoPlan
    alerts: tuple[AlertHeaderFields, ...]
    unheard: frozenset[str]
    """The airports of which no flight is ever recorded: no alert is said about them."""


def compute_expected_story(timetable: Timetable, interests: Sequence[Interest], plan: DemoPlan) -> ExpectedStory:
    """Compute the alerts of all interests, each for the windows from its `effective_from` to the plan's end."""
    coverage = compute_expected_coverage(timetable, interests, plan)
    alerts = [
        alert
        for interest in interests
        if (covered := coverage[interest.airport]) is not None
        for alert in compute_expected_alerts(timetable, interest, plan.end, covered)
    ]
    return ExpectedStory(plan, tuple(alerts), frozenset(each for each, covered in coverage.items() if covered is None))


def compute_expected_coverage(
    timetable: Timetable, interests: Iterable[Interest], plan: DemoPlan
) -> Mapping[str, ExpectedCoverage | None]:
    """Return the coverage that each airport of the interests must have; None for an airport that stays unheard.

    An airport is heard from its first flight on, in any direction that an interest there names: before that, no flights
    may mean that nobody listens there. But if it has a flight on the first recorded day, it is heard from the begin of
    that day on.
    """
    directions: defaultdict[str, set[Direction]] = defaultdict(set)
    for interest in interests:
        directions[interest.airport].update(interest.direction.parts)
    days = list_days(plan.first_day, plan.end)
    missing = frozenset(day for day in days if not plan.is_recorded(day))
    recorded = [day for day in days if day not in missing]
    found: dict[str, ExpectedCoverage | None] = {}
    for airport, parts in directions.items():
        first = _find_first_flight(timetable, airport, parts, recorded)
        if first is None or airport in plan.schedule.unheard_airports:
            found[airport] = None
        else:
            begin = recorded[0] if first < recorded[0] + DAY else first
            found[airport] = ExpectedCoverage(begin, missing)
    return found


def _find_first_flight(
    timetable: Timetable, airport: str, directions: Iterable[Direction], days: Iterable[datetime]
) -> datetime | None:
    """Return the first event time of an airport's flights of some directions on these days; None without flights."""
    for day in days:
        times = [at for each in directions for at in _find_event_times(timetable, airport, each, day, day + DAY)]
        if times:
            return instant(min(times))
    return None


def compute_expected_alerts(
    timetable: Timetable, interest: Interest, end: datetime, coverage: ExpectedCoverage | None = None
) -> list[AlertHeaderFields]:
    """Compute the alerts of one interest for the windows from `effective_from` to `end`.

    `coverage`: what is covered of its airport; None: all from `effective_from` on. `effective_from` and `end` are UTC
    midnights. The days are folded and judged one after the other, so the alerts are in the order of the days on which
    they are raised. Behind them come those of thresholds in percent, which are computed by brute force.
    """
    coverage = coverage or ExpectedCoverage(interest.effective_from)
    in_percent = list(compute_expected_percents(timetable, interest, end, coverage))
    if interest.high is None and interest.low is None:
        return in_percent
    interest = replace(interest, high_percent=None, low_percent=None)
    alerts: list[Alert] = []
    traffic = NO_TRAFFIC
    # Traffic is retained for some weeks only, so each day is judged when it is over.
    for day in list_days(coverage.begin, end):
        after, begin = traffic, max(day, coverage.begin)
        for direction in interest.direction.parts:
            times: tuple[int, ...] = ()
            if day not in coverage.missing_days:
                times = _find_event_times(timetable, interest.airport, direction, begin, day + DAY)
            state = Coverage.GAP if day in coverage.missing_days else Coverage.COMPLETE
            seen = Observation(direction, seconds(begin), seconds(day + DAY), times, state)
            after = after.fold(seen, find_calendar(interest.airport).splits_hours)
        alerts += compute_alerts(interest, traffic, after)
        traffic = after
    return [*(select_header_fields(alert) for alert in alerts), *in_percent]


def compute_expected_percents(
    timetable: Timetable, interest: Interest, end: datetime, coverage: ExpectedCoverage
) -> Iterator[AlertHeaderFields]:
    """Yield the alerts of an interest's thresholds in percent, for the windows from `effective_from` to `end`."""
    percents = [(Bound.HIGH, interest.high_percent), (Bound.LOW, interest.low_percent)]
    for bound, percent in percents:
        if percent is not None:
            yield from build_percent_truth(timetable, interest, end, coverage).list_alerts(bound, percent, end)


def build_percent_truth(
    timetable: Timetable, interest: Interest, end: datetime, coverage: ExpectedCoverage
) -> PercentTruth:
    """Build what an interest's thresholds in percent are judged by; the movements of the weeks before are known."""
    begin = max(coverage.begin - LEARNED_FROM, datetime.combine(FIRST_DAY, time.min, UTC))
    times = sorted(
        at
        for part in interest.direction.parts
        for at in _find_event_times(timetable, interest.airport, part, begin, end)
    )
    return PercentTruth(interest, [instant(at) for at in times], begin, coverage.missing_days)


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
