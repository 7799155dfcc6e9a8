"""Gauges of the schedule. Every replica reads them from the database, so all say the same, whoever leads."""

from chassis.metrics import Metrics
from collector.settled.status import SchedulerStatus
from domain.interests import Direction


class SchedulerGauges:
    """Measures when it is told to."""

    def __init__(self, status: SchedulerStatus, metrics: Metrics) -> None:
        self._status = status
        self._left = metrics.gauge("opensky_credits_left", "Credits left of the day's budget").labels()
        self._lag = metrics.gauge(
            "coverage_lag_seconds",
            "Lag of the wanted airport that lags most",
            "direction",
        )
        for direction in Direction.BOTH.parts:
            self._lag.labels(direction=direction.value).set(0)

    def measure(self) -> None:
        """Raises DatabaseAwayError; the gauges then keep what they showed."""
        state = self._status.show()
        self._left.set(state.left)
        for direction in Direction.BOTH.parts:
            lags = [each.lag_s for each in state.coverage if each.direction is direction]
            self._lag.labels(direction=direction.value).set(max(lags, default=0.0))
