"""Gauges of the schedule. Every replica reads them from the database, so all replicas show the same values."""

from chassis.metrics import Metrics
from collector.settled.status import SchedulerStatus
from domain.interests import Direction


class SchedulerGauges:
    """The gauges of the credits left today, and of the largest coverage lag (seconds) in each direction.

    All of them are 0 until the first update.
    """

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

    def update(self) -> None:
        """Load the scheduler's state; set the gauge of credits left, and each direction's gauge to its largest lag.

        The lag is 0 for a direction without interests. Raises DatabaseUnavailableError; the gauges then keep their
        values.
        """
        state = self._status.load_state()
        self._left.set(state.left)
        for direction in Direction.BOTH.parts:
            lags = [target.lag_s for target in state.coverage if target.direction is direction]
            self._lag.labels(direction=direction.value).set(max(lags, default=0.0))
