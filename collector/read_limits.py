"""The limit of costly reads by person, so that one person's requests do not take the time of all others."""

import time
from collections.abc import Callable
from threading import Lock
from typing import Final
from uuid import UUID

from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.errors import TooManyReadsError
from collector.people import count_read
from collector.write_limits import PersonLimits

_MINUTE_S: Final = 60


class ReadLimit:
    """The limit of costly reads by person and minute, and the metric of what it refused. Thread-safe."""

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
        self._lock = Lock()
        self._minute = 0
        self._reads: dict[UUID, int] = {}
        self._refused = metrics.counter("reads_refused_total", "Costly reads refused because of the limit by person")
        self._refused.labels()

    def count_read(self, user_id: UUID) -> None:
        """Count a costly read of a person. Raises TooManyReadsError if it exceeds the limit; DatabaseUnavailableError.

        On a server an upsert counts in the person's row, for all replicas. On SQLite, where a transaction that writes
        waits for all others that do, the read is counted in this process's memory, and waits for nobody.
        """
        now = self._unix_time()
        minute = int(now // _MINUTE_S)
        if self._database.is_sqlite:
            reads = self._count_in_memory(user_id, minute)
        else:
            with self._database.transaction() as session:
                reads = count_read(session, user_id, minute)
        if reads > self._per_minute:
            self._refused.labels().inc()
            raise TooManyReadsError(self._per_minute, int(_MINUTE_S - now % _MINUTE_S) + 1)

    def _count_in_memory(self, user_id: UUID, minute: int) -> int:
        """Count a read of a person, and return their number in the minute; those of other minutes are forgotten."""
        with self._lock:
            if minute != self._minute:
                self._minute, self._reads = minute, {}
            reads = self._reads[user_id] = self._reads.get(user_id, 0) + 1
            return reads
