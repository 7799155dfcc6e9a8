"""The sweep: flights of airports that nobody wants any more are forgotten after a while."""

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import delete, exists, or_, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.intervals import day_of
from collector.model import CoverageRow, FlightRow, InterestRow
from domain.interests import Direction

log = structlog.get_logger()

CHUNK: Final = 1_000
"""Flights that one transaction deletes: who waits for its locks shall not notice."""


class Sweep:
    """May run on every replica, also at the same time."""

    def __init__(self, database: Database, clock: Clock, retention: timedelta) -> None:
        """`retention` must exceed how far back an interest may begin, so that it never meets what is wanted anew."""
        self._database = database
        self._clock = clock
        self._retention = retention

    def run(self) -> int:
        """Forget what nobody wants and is older than the retention. Returns how many flights. Raises DatabaseAwayError.

        The cursor stays: it says where the gap begins when the airport is wanted again.
        """
        with self._database.reading() as session:
            unwanted = _unwanted(session)
        swept = 0
        for airport, direction in unwanted:
            while forgotten := self._forget_some(airport, direction):
                swept += forgotten
        if swept:
            log.info("flights.swept", flights=swept)
        return swept

    def _forget_some(self, airport: str, direction: str) -> int:
        horizon = day_of(self._clock.now() - self._retention)
        with self._database.transaction() as session:
            cursor = session.get(CoverageRow, (airport, direction), with_for_update=True)
            if cursor is None:
                return 0
            ids = session.scalars(
                select(FlightRow.id)
                .where(FlightRow.airport == airport, FlightRow.direction == direction, FlightRow.event_time < horizon)
                .order_by(FlightRow.event_time)
                .limit(CHUNK)
            ).all()
            if ids:
                session.execute(delete(FlightRow).where(FlightRow.id.in_(ids)))
            if cursor.covered_from < horizon:  # in the first chunk's transaction: what is covered is complete
                cursor.covered_from = min(horizon, cursor.covered_until)
        return len(ids)


def _unwanted(session: Session) -> list[tuple[str, str]]:
    wanted = exists().where(
        InterestRow.airport == CoverageRow.airport,
        or_(InterestRow.direction == CoverageRow.direction, InterestRow.direction == Direction.BOTH.value),
    )
    query = select(CoverageRow.airport, CoverageRow.direction).where(~wanted)
    return [(airport, direction) for airport, direction in session.execute(query)]
