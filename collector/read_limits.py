"""The limit of costly reads by person, so that one person's requests do not take the time of all others."""

import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.errors import TooManyReadsError
from collector.people import count_read
from collector.write_limits import PersonLimits

_MINUTE_S: Final = 60


class ReadLimit:
    """The limit of costly reads by person and minute, counted in the database, and the metric of what it refused."""

    def __init__(
        self,
        database: Database,
        limits: PersonLimits,
        metrics: Metrics,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """`unix_time`: returns real seconds since the epoch."""
        self._database = database
        self._per_minute = limits.reads_per_minute
        self._unix_time = unix_time
        self._refused = metrics.counter("reads_refused_total", "Costly reads refused because of the limit by person")
        self._refused.labels()

    def count_read(self, user_id: UUID) -> None:
        """Count a costly read of a person. Raises TooManyReadsError if it exceeds the limit; DatabaseUnavailableError.

        One statement counts, for all replicas in one row.
        """
        now = self._unix_time()
        with self._database.transaction() as session:
            reads = count_read(session, user_id, int(now // _MINUTE_S))
        if reads > self._per_minute:
            self._refused.labels().inc()
            raise TooManyReadsError(self._per_minute, int(_MINUTE_S - now % _MINUTE_S) + 1)
