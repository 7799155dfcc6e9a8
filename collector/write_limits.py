"""The limits of what one person may set and write, so that one stranger cannot fill the tables or the queue."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.errors import LimitError, TooManyAirportsError, TooManyInterestsError, TooManyWritesError
from collector.model import InterestRow
from collector.people import count_write

_MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class PersonLimits:
    """The most that one person may have and do."""

    interests: int = 50
    airports: int = 25
    """Airports with at least one interest of the person."""
    writes_per_minute: int = 60
    """Requests that change interests, in one minute of the wall clock; what is refused counts as well."""


DEFAULT_LIMITS: Final = PersonLimits()
"""The limits unless the operator sets others."""


def require_room(session: Session, user_id: UUID, airport: str, limits: PersonLimits) -> None:
    """Raise TooManyInterestsError or TooManyAirportsError if a new interest in an airport would exceed the limits.

    The caller's transaction holds the lock of the person's row (`join_queue`), so that two replicas cannot exceed them
    together. What a person has above a limit that was lowered stays.
    """
    per_airport = select(InterestRow.airport, func.count()).where(InterestRow.user_id == user_id)
    counts = {icao: count for icao, count in session.execute(per_airport.group_by(InterestRow.airport))}  # noqa: C416
    if sum(counts.values()) >= limits.interests:
        raise TooManyInterestsError(limits.interests)
    if airport not in counts and len(counts) >= limits.airports:
        raise TooManyAirportsError(limits.airports)


class WriteLimit:
    """The limit of writes by person and minute, counted in the database, and the metric of what limits refused."""

    def __init__(
        self,
        database: Database,
        limits: PersonLimits,
        metrics: Metrics,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        """`unix_time`: returns real seconds since the epoch."""
        self._database = database
        self._per_minute = limits.writes_per_minute
        self._unix_time = unix_time
        self._refused = metrics.counter("writes_refused_total", "Writes refused because of a limit by person", "limit")
        for kind in (TooManyInterestsError, TooManyAirportsError, TooManyWritesError):
            self._refused.labels(limit=kind.limit)

    def count_write(self, user_id: UUID) -> None:
        """Count a write of a person. Raises TooManyWritesError if it exceeds the limit; DatabaseUnavailableError.

        One statement counts, for all replicas in one row.
        """
        now = self._unix_time()
        with self._database.transaction() as session:
            writes = count_write(session, user_id, int(now // _MINUTE_S))
        if writes > self._per_minute:
            raise TooManyWritesError(self._per_minute, int(_MINUTE_S - now % _MINUTE_S) + 1)

    @contextmanager
    def counting_refusals(self) -> Iterator[None]:
        """Run the block, and count in the metric an error of a limit that it raises."""
        try:
            yield
        except LimitError as error:
            self._refused.labels(limit=error.limit).inc()
            raise
