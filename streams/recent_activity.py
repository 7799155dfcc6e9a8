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
from domain.calendar import find_grid
from domain.grids import show_on_clock
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
    """Numbers about alerts that differ only in interest, threshold and count. Names no person and no interest.

    The alerts have the airport, direction, window, bound, state and `for_windows` in common.
    """

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
    """A bounded record of the flights folded and the alerts published lately, in memory.

    Holds the counts of the last 120 seconds, and the 200 latest groups of alerts. For one event loop: it has no lock.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`clock`: the stack's, which a demo may set to another year. `monotonic`: the machine's seconds, for rates."""
        self._clock = clock
        self._monotonic = monotonic
        self._flights = _CountsBySecond()
        self._alerts = _CountsBySecond()
        self._groups: dict[_Key, _GrowingGroup] = {}

    def record_flights(self, airport: str, flights: int) -> None:
        """Add a folded batch's number of flights to the present second; the airport is not recorded."""
        self._flights.add(int(self._monotonic()), flights)

    def record_alert(self, alert: Alert) -> None:
        """Count an alert that the broker has in the present second, and add it to its group.

        A new group begins if none has the alert's airport, direction, window, bound, state and `for_windows`. Then the
        group that began first is removed if 200 are kept already.
        """
        self._alerts.add(int(self._monotonic()), 1)
        start = show_on_clock(find_grid(alert.airport, alert.window, alert.aligned_to), alert.window_start)
        key = (
            alert.airport, alert.direction, alert.window, start, alert.bound, alert.state, alert.for_windows,
        )  # fmt: skip
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MAX_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = _GrowingGroup(alert, self._clock.now())
        else:
            group.add(alert)

    def count_flights_by_second(self, seconds: int = KEPT_SECONDS) -> tuple[int, ...]:
        """Return the flights folded in each of the last `seconds` whole seconds (120 at most), the newest last.

        The present second, which is not over, is left out.
        """
        return self._flights.read_last(int(self._monotonic()), seconds)

    def count_alerts_by_second(self, seconds: int = KEPT_SECONDS) -> tuple[int, ...]:
        """Return the alerts published in each of the last `seconds` whole seconds (120 at most), the newest last.

        The present second, which is not over, is left out.
        """
        return self._alerts.read_last(int(self._monotonic()), seconds)

    def list_alert_groups(self, airport: str | None = None) -> tuple[AlertGroup, ...]:
        """Return the groups of alerts, the group that began last first; of one airport, or of all airports (None)."""
        return tuple(
            group.to_alert_group(key)
            for key, group in reversed(self._groups.items())
            if airport is None or key[0] == airport
        )


class _GrowingGroup:
    """The changing values of an AlertGroup: its count, least and most threshold, and number of alerts."""

    __slots__ = ("alerts", "count", "least", "most", "raised_at")

    def __init__(self, alert: Alert, raised_at: datetime) -> None:
        self.count = alert.count
        self.least = self.most = alert.threshold
        self.alerts = 1
        self.raised_at = raised_at

    def add(self, alert: Alert) -> None:
        """Add an alert of the same kind: count it, and extend the highest count and the range of thresholds."""
        self.alerts += 1
        self.count = max(self.count, alert.count)
        self.least = min(self.least, alert.threshold)
        self.most = max(self.most, alert.threshold)

    def to_alert_group(self, key: _Key) -> AlertGroup:
        """Return the group's present values as a frozen AlertGroup; `key`: the fields that its alerts share."""
        return AlertGroup(*key, self.count, self.least, self.most, self.alerts, self.raised_at)


class _CountsBySecond:
    """A ring buffer of counts by second: the present second and the 120 seconds before it.

    Seconds come from a clock that never goes back. Each call first removes the counts that became too old.
    """

    def __init__(self) -> None:
        self._counts = [0] * (KEPT_SECONDS + 1)  # and the present second
        self._newest = 0

    def add(self, second: int, count: int) -> None:
        """Add `count` to the count of a second, which must not be before the newest second so far."""
        self._advance_to(second)
        self._counts[second % len(self._counts)] += count

    def read_last(self, now: int, seconds: int) -> tuple[int, ...]:
        """Return the counts of the `seconds` seconds (120 at most) before the second `now`, the newest last.

        The second `now` itself is left out.
        """
        self._advance_to(now)
        first = now - min(seconds, KEPT_SECONDS)
        return tuple(self._counts[second % len(self._counts)] for second in range(first, now))

    def _advance_to(self, second: int) -> None:
        """Make `second` the newest second, and set its count and those of the skipped seconds to 0.

        Does nothing if it is not after the newest second.
        """
        if second <= self._newest:
            return
        for passed in range(max(self._newest + 1, second - KEPT_SECONDS), second + 1):
            self._counts[passed % len(self._counts)] = 0
        self._newest = second
