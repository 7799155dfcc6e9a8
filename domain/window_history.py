"""The alerts of the versions of an interest, by window, from a log of observations and when each was known.

A version gets the alerts that follow while it is in force: those of all that is known when it is set, then those of
each message. So what is told here is what the stream raised, if the log has the same messages in the same order.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from domain.alerts import Alert
from domain.calendar import find_calendar
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.measures import Measure, list_measured_thresholds
from domain.percent_counts import LOOKBACK_HOURS
from domain.rule import find_first_window, find_interest_grid
from domain.traffic import Observation, Traffic
from domain.usual_fold import fold_with_usual
from domain.windows import HOUR_S


@dataclass(frozen=True, slots=True)
class KnownMessage:
    """An observation, and the instant at which it was known."""

    at: datetime
    observation: Observation


@dataclass(frozen=True, slots=True)
class VersionInForce:
    """A version of an interest, and the time [since, until) in which it was in force."""

    interest: Interest
    since: datetime
    until: datetime | None
    """None: it still is."""

    def is_in_force(self, at: datetime) -> bool:
        """Return True if this version is in force at an instant, False before and after."""
        return self.since <= at and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True)
class WindowHistory:
    """The alerts and traffic that follow from an airport's log for the windows of an interest."""

    traffic: Traffic
    """After all messages."""
    alerts: Mapping[int, Sequence[Alert]]
    """By window (since 1970), the alerts of all versions in the order in which they were raised."""
    closings: Sequence[tuple[int, datetime]]
    """The ends of the coverage of all parts of the direction (seconds since 1970), growing, and when each was known."""

    def find_closing(self, end: int) -> datetime | None:
        """Return when the coverage was known to reach an instant (seconds since 1970); None: it does not reach it."""
        place = bisect_left(self.closings, end, key=lambda closing: closing[0])
        return self.closings[place][1] if place < len(self.closings) else None


@dataclass(slots=True)
class _AlertsByWindow:
    """The alerts that were raised so far about the windows `within`."""

    within: range
    alerts: dict[int, list[Alert]] = field(default_factory=dict)
    """By window (since 1970), in the order in which they were raised."""

    def add(self, interest: Interest, before: Traffic, after: Traffic) -> None:
        """Add the alerts about these windows that an interest gets when the traffic changes."""
        grid = find_interest_grid(interest)
        for alert in compute_alerts(interest, before, after, self.within):
            number = grid.find_number(int(alert.window_start.timestamp()))
            self.alerts.setdefault(number, []).append(alert)


def replay_windows(
    messages: Iterable[KnownMessage], versions: Sequence[VersionInForce], within: range
) -> WindowHistory:
    """Return the alerts of the versions of one interest about windows (since 1970), and the traffic after all messages.

    `messages`: in the order of the log; each is known when the one before is, or later. `versions`: at least one, in
    the order of time. A version that is set between two messages gets at once the alerts of what is known by then.
    """
    latest = versions[-1].interest
    calendar, traffic = find_calendar(latest.airport), NO_TRAFFIC
    needs_usual = any(has_percents(each.interest) for each in versions)
    raised, waiting = _AlertsByWindow(within), list(versions)
    closings: list[tuple[int, datetime]] = []
    for message in messages:
        while waiting and waiting[0].since <= message.at:
            raised.add(waiting.pop(0).interest, NO_TRAFFIC, traffic)
        observation = message.observation
        before, traffic = (
            traffic,
            fold_with_usual(traffic, observation, calendar)
            if needs_usual
            else traffic.fold(observation, calendar.splits_hours),
        )
        covered = find_covered_until(traffic, latest.direction)
        if covered is not None and (not closings or covered > closings[-1][0]):
            closings.append((covered, message.at))
        is_first_coverage = find_covered_until(before, latest.direction) is None
        for version in versions:
            # A message about an earlier time changes no alert of these windows.
            may_concern = is_first_coverage or observation.end > _find_earliest_concern(version.interest, within)
            if may_concern and version.is_in_force(message.at):
                raised.add(version.interest, before, traffic)
    for version in waiting:
        raised.add(version.interest, NO_TRAFFIC, traffic)
    return WindowHistory(traffic, raised.alerts, closings)


def find_covered_until(traffic: Traffic, direction: Direction) -> int | None:
    """Return where the coverage of all parts of a direction ends (seconds since 1970); None if a part has none."""
    ends = [part.watermark for part in traffic.select_directions(direction)]
    return min([end for end in ends if end is not None]) if None not in ends else None


def find_judging_version(versions: Sequence[VersionInForce], number: int) -> VersionInForce | None:
    """Return the version that judges a window (since 1970): the last one whose first window is not a later one.

    None: the window is before the first window of all versions.
    """
    return next((each for each in reversed(versions) if find_first_window(each.interest) <= number), None)


def _find_earliest_concern(interest: Interest, within: range) -> int:
    """Return the instant (seconds since 1970) before which no flight changes an alert about the windows `within`."""
    begin = find_interest_grid(interest).find_begin(within.start - interest.for_windows - 1)
    return begin - LOOKBACK_HOURS * HOUR_S if has_percents(interest) else begin


def has_percents(interest: Interest) -> bool:
    """Return True if a threshold of an interest is in percent of what is usual, False if all are in flights."""
    return any(measure is Measure.PERCENT for measure, _, _ in list_measured_thresholds(interest))
