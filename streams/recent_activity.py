"""The recent activity of this worker, for its pages: rates of the last two minutes, and the latest groups of alerts.

The join records each batch and each alert here, so a record costs a microsecond and the memory is bounded. The data are
of this worker since its start, and are lost at its end: the topics and tables hold all that matters.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from chassis.clock import Clock
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window

KEPT_SECONDS: Final = 120
"""Number of past seconds whose counts are kept."""

RATE_INTERVAL_S: Final = 10
"""Whole seconds over which a rate is computed: fewer would flicker, since batches come in bursts."""

MAX_GROUPS: Final = 200
"""Groups of alerts that are kept; the oldest is removed first."""

_Key = tuple[str, Direction, Window, datetime, Bound, AlertState, int]


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Alerts about the same window that differ only in interest, threshold and count. Names no person, no interest."""

    airport: str
    direction: Direction
    window: Window
    window_start: datetime
    bound: Bound
    state: AlertState
    for_windows: int
    count: int
    """Flights: the highest count of the alerts."""
    least_threshold: int
    most_threshold: int
    alerts: int
    """Number of alerts in the group."""
    raised_at: datetime
    """When the first alert was published, by the stack's clock."""


class RecentActivity:
    """A record of the flights folded and the alerts published lately. For one event loop: it has no lock."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`clock`: the stack's, which a demo may set to another year. `monotonic`: the machine's seconds, for rates."""
        self._clock = clock
        self._monotonic = monotonic
        self._flights = _CountsBySecond()
        self._alerts = _CountsBySecond()
        self._groups: dict[_Key, _GrowingGroup] = {}

    def record_flights(self, airport: str, flights: int) -> None:
        """Record a folded batch: its airport and its number of flights."""
        self._flights.add(int(self._monotonic()), flights)

    def record_alert(self, alert: Alert) -> None:
        """Record an alert that the broker has, in the group of its kind."""
        self._alerts.add(int(self._monotonic()), 1)
        key = (
            alert.airport, alert.direction, alert.window, alert.window_start, alert.bound, alert.state,
            alert.for_windows,
        )  # fmt: skip
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = _GrowingGroup(alert, self._clock.now())
        else:
            group.add(alert)

    def count_flights_by_second(self, seconds: int = KEPT_SECONDS) -> tuple[int, ...]:
        """Return the flights folded in each of the last whole seconds, the newest last."""
        return self._flights.read_last(int(self._monotonic()), seconds)

    def count_alerts_by_second(self, seconds: int = KEPT_SECONDS) -> tuple[int, ...]:
        """Return the alerts published in each of the last whole seconds, the newest last."""
        return self._alerts.read_last(int(self._monotonic()), seconds)

    def list_alert_groups(self, airport: str | None = None) -> tuple[AlertGroup, ...]:
        """Return the latest groups of alerts, the newest first; of one airport, or of all airports (None)."""
        return tuple(
            group.to_alert_group(key)
            for key, group in reversed(self._groups.items())
            if airport is None or key[0] == airport
        )


class _GrowingGroup:
    """An AlertGroup to which alerts are still added."""

    __slots__ = ("alerts", "count", "least", "most", "raised_at")

    def __init__(self, alert: Alert, raised_at: datetime) -> None:
        self.count = alert.count
        self.least = self.most = alert.threshold
        self.alerts = 1
        self.raised_at = raised_at

    def add(self, alert: Alert) -> None:
        """Add an alert of the same kind to the group."""
        self.alerts += 1
        self.count = max(self.count, alert.count)
        self.least = min(self.least, alert.threshold)
        self.most = max(self.most, alert.threshold)

    def to_alert_group(self, key: _Key) -> AlertGroup:
        """Return the group's present values; `key`: the fields that its alerts share."""
        return AlertGroup(*key, self.count, self.least, self.most, self.alerts, self.raised_at)


class _CountsBySecond:
    """A ring buffer of counts by second."""

    def __init__(self) -> None:
        self._counts = [0] * (KEPT_SECONDS + 1)  # and the present second
        self._newest = 0

    def add(self, second: int, count: int) -> None:
        """Add to the count of a second, which must not be before an earlier one."""
        self._advance_to(second)
        self._counts[second % len(self._counts)] += count

    def read_last(self, now: int, seconds: int) -> tuple[int, ...]:
        """Return the counts of the last `seconds` whole seconds before the second `now`, the newest last."""
        self._advance_to(now)
        first = now - min(seconds, KEPT_SECONDS)
        return tuple(self._counts[second % len(self._counts)] for second in range(first, now))

    def _advance_to(self, second: int) -> None:
        """Set the counts of all seconds between the newest one and `second` to 0."""
        if second <= self._newest:
            return
        for passed in range(max(self._newest + 1, second - KEPT_SECONDS), second + 1):
            self._counts[passed % len(self._counts)] = 0
        self._newest = second
