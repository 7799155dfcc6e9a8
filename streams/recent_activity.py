"""What this worker just did, for people who watch: rates of the last two minutes, and the alerts that it raised last.

Fed by the join for each batch and each alert, so it costs a microsecond and never grows. It is of this worker, and
since its start: what matters is on the topics, and in the tables.
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

REMEMBERED_S: Final = 120
"""Seconds whose counts are kept."""

RATE_OVER_S: Final = 10
"""A rate is of so many whole seconds: fewer would flicker, since batches come in bursts."""

MOST_GROUPS: Final = 200

_Key = tuple[str, Direction, Window, datetime, Bound, AlertState, int]


@dataclass(frozen=True, slots=True)
class AlertGroup:
    """Alerts that say the same of the same window, to so many interests. No person, and no interest, is named."""

    airport: str
    direction: Direction
    window: Window
    window_start: datetime
    bound: Bound
    state: AlertState
    for_windows: int
    count: int
    """Flights: the most that one of the alerts told."""
    least_threshold: int
    most_threshold: int
    alerts: int
    raised_at: datetime
    """When the first of them was, on the clock of the stack."""


class Ticker:
    """Counts what is folded and raised. Of one event loop: it has no lock."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`clock`: the stack's, which a demo may have set to another year. `monotonic`: the machine's seconds, in
        which rates are told."""
        self._clock = clock
        self._monotonic = monotonic
        self._flights = _Seconds()
        self._alerts = _Seconds()
        self._groups: dict[_Key, _Group] = {}

    def folded(self, airport: str, flights: int) -> None:
        """A batch was folded: so many flights at an airport."""
        self._flights.add(int(self._monotonic()), flights)

    def raised(self, alert: Alert) -> None:
        """The broker has an alert."""
        self._alerts.add(int(self._monotonic()), 1)
        key = (
            alert.airport, alert.direction, alert.window, alert.window_start, alert.bound, alert.state,
            alert.for_windows,
        )  # fmt: skip
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = _Group(alert, self._clock.now())
        else:
            group.add(alert)

    def flights_by_second(self, seconds: int = REMEMBERED_S) -> tuple[int, ...]:
        """Flights folded in each of the last whole seconds, the newest last."""
        return self._flights.last(int(self._monotonic()), seconds)

    def alerts_by_second(self, seconds: int = REMEMBERED_S) -> tuple[int, ...]:
        """Alerts raised in each of the last whole seconds, the newest last."""
        return self._alerts.last(int(self._monotonic()), seconds)

    def recent_alerts(self, airport: str | None = None) -> tuple[AlertGroup, ...]:
        """The groups of alerts that were begun last, the newest first; of one airport, or of all."""
        return tuple(
            group.shown(key) for key, group in reversed(self._groups.items()) if airport is None or key[0] == airport
        )


class _Group:
    """An AlertGroup that grows."""

    __slots__ = ("alerts", "count", "least", "most", "raised_at")

    def __init__(self, alert: Alert, raised_at: datetime) -> None:
        self.count = alert.count
        self.least = self.most = alert.threshold
        self.alerts = 1
        self.raised_at = raised_at

    def add(self, alert: Alert) -> None:
        self.alerts += 1
        self.count = max(self.count, alert.count)
        self.least = min(self.least, alert.threshold)
        self.most = max(self.most, alert.threshold)

    def shown(self, key: _Key) -> AlertGroup:
        return AlertGroup(*key, self.count, self.least, self.most, self.alerts, self.raised_at)


class _Seconds:
    """Counts by second, in a ring."""

    def __init__(self) -> None:
        self._counts = [0] * (REMEMBERED_S + 1)  # and the second that runs
        self._newest = 0

    def add(self, second: int, count: int) -> None:
        self._go_on_to(second)
        self._counts[second % len(self._counts)] += count

    def last(self, now: int, seconds: int) -> tuple[int, ...]:
        self._go_on_to(now)
        return tuple(self._counts[each % len(self._counts)] for each in range(now - min(seconds, REMEMBERED_S), now))

    def _go_on_to(self, second: int) -> None:
        if second <= self._newest:
            return
        for each in range(max(self._newest + 1, second - REMEMBERED_S), second + 1):
            self._counts[each % len(self._counts)] = 0
        self._newest = second
