"""The limits of what one person may set and write, so that one stranger cannot fill the tables or the queue."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.db.database import Database
from chassis.metrics import Metrics
from collector.errors import (
    LimitError,
    TooManyAirportsError,
    TooManyInterestsError,
    TooManyPastWindowsError,
    TooManyWritesError,
)
from collector.model import InterestRow
from collector.people import count_write, pay_past_windows
from domain.calendar import find_grid
from domain.grids import Grid
from domain.windows import EPOCH, AlignedTo, Window, seconds

_MINUTE_S: Final = 60
_SECOND: Final = timedelta(seconds=1)
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class PersonLimits:
    """The most that one person may have and do."""

    interests: int = 50
    airports: int = 25
    """Airports with at least one interest of the person."""
    writes_per_minute: int = 60
    """Requests that change interests, in one minute of the wall clock; what is refused counts as well."""
    past_windows_per_day: int = 40_000
    """Windows between `effective_from` and the present that the person's changes may have judged in 24 hours."""
    reads_per_minute: int = 240
    """Requests whose answers cost much to compute, in one minute of the wall clock; what is refused counts as well.
    The pages of somebody with 50 interests make some 100, if all of these change all the time."""


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


def count_past_windows(grid: Grid, effective_from: datetime, now: datetime) -> int:
    """Return how many windows of a grid start from `effective_from` to `now`: those that the stream judges at once."""
    first = grid.find_first_from(-((EPOCH - effective_from) // _SECOND))  # rounded up
    return max(grid.find_number(seconds(now)) - first + 1, 0)


class PastWindowsLimit:
    """The limit of past windows that a person's changes of interests have judged, counted in the database.

    A new interest, or a new version of one, that is effective from the past makes the stream judge each window since
    then, and each may raise an alert. A person may have so many of them judged at once as in a day; what is used comes
    back evenly in 24 hours of the wall clock.
    """

    def __init__(self, limits: PersonLimits, unix_time: Callable[[], float] = time.time) -> None:
        """`unix_time`: returns real seconds since the epoch."""
        self._per_day = limits.past_windows_per_day
        self._unix_time = unix_time

    def pay(self, session: Session, row: InterestRow, now: datetime) -> None:
        """Charge a person for the past windows of their new or changed interest, in the transaction that stores it.

        `now`: the time of the service's clock. Raises TooManyPastWindowsError, upon which the transaction must be
        rolled back.
        """
        grid = find_grid(row.airport, Window(row.window_length), AlignedTo(row.aligned_to))
        windows = count_past_windows(grid, row.effective_from, now)
        if windows:
            price_ms = -(-windows * _DAY_MS // self._per_day)
            excess_ms = pay_past_windows(session, row.user_id, price_ms, _DAY_MS, int(self._unix_time() * 1000))
            if excess_ms > 0:
                raise TooManyPastWindowsError(windows, self._per_day, -(-excess_ms // 1000))


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
        for kind in (TooManyInterestsError, TooManyAirportsError, TooManyWritesError, TooManyPastWindowsError):
            self._refused.labels(limit=kind.limit)

    def count_write(self, user_id: UUID) -> None:
        """Count a write of a person. Raises TooManyWritesError if it exceeds the limit; DatabaseUnavailableError.

        An upsert counts in the person's row, for all replicas.
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
