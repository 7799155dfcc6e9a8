"""Gauges of the schedule, and of the agreement of live with the record.

Every replica reads them from the database, so all replicas show the same values.
"""

from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.live.agreement import load_distrusted
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
        """Load and set the gauge of credits left, and each direction's gauge to its largest lag.

        The lag is 0 for a direction without interests. Raises DatabaseUnavailableError; the gauges then keep their
        values.
        """
        left, lags = self._status.load_lags()
        self._left.set(left)
        for direction, lag_s in lags.items():
            self._lag.labels(direction=direction.value).set(lag_s)


class AgreementGauges:
    """The gauges of how many airports agree badly with the settled record in each direction; 0 until the first update.

    They have no label by airport: of these there may be thousands, and `/flights/{icao}/coverage` shows each.
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._distrusted = metrics.gauge(
            "live_distrusted_airports", "Airports whose live coverage agrees badly with the record", "direction"
        )
        for direction in Direction.BOTH.parts:
            self._distrusted.labels(direction=direction.value).set(0)

    def update(self) -> None:
        """Set the gauge of each direction to the number of airports that the database has as distrusted.

        Raises DatabaseUnavailableError; the gauges then keep their values.
        """
        with self._database.reading() as session:
            distrusted = [direction for _, direction in load_distrusted(session)]
        for direction in Direction.BOTH.parts:
            self._distrusted.labels(direction=direction.value).set(distrusted.count(direction))
