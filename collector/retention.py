"""Retention of flights: old flights are deleted once their airport and direction has no interest any more.

What was live is deleted then, too; of an airport with interests, only what the record has decided about.
"""

import time
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, and_, delete, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.event_log.retained import REPUBLISHED_DAYS
from collector.event_log.told import limit_told_flights
from collector.interest_versions import delete_expired_versions
from collector.intervals import DAY, day_of
from collector.model import (
    CoverageRow,
    FlightRow,
    InterestRow,
    LiveAgreementRow,
    LiveCoverageRow,
    LiveMovementRow,
    LiveOutcome,
)
from collector.people import delete_idle_people
from collector.settled.history_days import give_up_deleted_days
from collector.settled.source_state import may_trust_clock
from domain.interests import Direction

log = structlog.get_logger()

CHUNK: Final = 1_000
"""Maximum number of flights that one transaction deletes, so that its locks block other transactions only briefly."""


class FlightRetention:
    """Deletion of old flights, for each airport and direction without interest; safe on all replicas at once."""

    def __init__(self, database: Database, clock: Clock, retention: timedelta) -> None:
        """`retention`: the minimum age of a deleted flight.

        It must exceed the maximum age at which an interest may begin, so that no flight is deleted that a new interest
        needs.
        """
        self._database = database
        self._clock = clock
        self._retention = retention

    def delete_expired(self) -> int:
        """Delete the flights that no interest needs and that are older than the retention. Return how many.

        Deletes in transactions of at most CHUNK flights, and logs the number if there were any. The cursor of the
        airport and direction is kept: it marks where the gap begins if a new interest comes. Deletes nothing while the
        clock may be wrong (`may_trust_clock`). Also deletes rows of people that are idle (`delete_idle_people`), and
        former versions of interests that are too old. Raises
        DatabaseUnavailableError.
        """
        with self._database.reading() as session:
            if not may_trust_clock(session, self._clock.now()):
                log.warning("flights.not_swept", reason="the clock may be wrong")
                return 0
            unneeded = _list_targets_without_interest(session)
        deleted = 0
        for airport, direction in unneeded:
            while deleted_in_chunk := self._delete_chunk(airport, direction):
                deleted += deleted_in_chunk
        if deleted:
            log.info("flights.swept", flights=deleted)
        self._delete_expired_live()
        self._delete_expired_versions()
        with self._database.transaction() as session:
            delete_idle_people(session, int(time.time() // 60))
        return deleted

    def _delete_expired_live(self) -> None:
        """Delete what was live and is needed no more, in transactions of at most CHUNK rows. Log how many rows.

        Movements without an interest are deleted as flights are; those of an airport with interests only if the record
        has decided about them, and is too old to be corrected: the others stand as flights do. Stretches of coverage,
        and agreements, are deleted when no log is written anew with them.
        """
        now = self._clock.now()
        horizon = day_of(now - self._retention)
        last_needed = min(horizon, day_of(now - (REPUBLISHED_DAYS + 1) * DAY))
        with self._database.reading() as session:
            targets, wanted = _list_live_targets(session), _list_wanted_targets(session)
        deleted = 0
        for airport, direction in targets:
            if (airport, direction) in wanted:
                is_settled = LiveMovementRow.outcome != LiveOutcome.PUBLISHED.value
                expired = and_(is_settled, LiveMovementRow.event_time < last_needed)
            else:
                expired = LiveMovementRow.event_time < horizon
            deleted += self._delete_rows(
                LiveMovementRow.id,
                LiveMovementRow.airport == airport,
                LiveMovementRow.direction == direction,
                expired,
            )
            deleted += self._delete_rows(
                LiveCoverageRow.id,
                LiveCoverageRow.airport == airport,
                LiveCoverageRow.direction == direction,
                LiveCoverageRow.end_at < last_needed,
            )
        with self._database.transaction() as session:
            session.execute(delete(LiveAgreementRow).where(LiveAgreementRow.day < last_needed))
        if deleted:
            log.info("live.swept", rows=deleted)

    def _delete_expired_versions(self) -> None:
        """Delete the former versions of interests that are too old to be shown, in transactions of at most CHUNK."""
        deleted = CHUNK
        while deleted == CHUNK:
            with self._database.transaction() as session:
                deleted = delete_expired_versions(session, self._clock.now(), CHUNK)

    def _delete_rows(self, column: InstrumentedAttribute[int], *conditions: ColumnElement[bool]) -> int:
        """Delete the rows that meet the conditions, by their ids, at most CHUNK a transaction. Return how many."""
        deleted = 0
        while True:
            with self._database.transaction() as session:
                ids = session.scalars(select(column).where(*conditions).limit(CHUNK)).all()
                if ids:
                    session.execute(delete(column.class_).where(column.in_(ids)))
            deleted += len(ids)
            if len(ids) < CHUNK:
                return deleted

    def _delete_chunk(self, airport: str, direction: str) -> int:
        """Delete the oldest expired flights of a target, at most CHUNK, in one transaction. Return how many.

        Expired: from before the UTC day that lies the retention ago. The first chunk also moves `covered_from` to that
        day, or to `covered_until` if that is earlier. Return 0 if nothing is expired or the cursor is missing.
        """
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
                limit_told_flights(session)
            if ids or cursor.covered_from < horizon:
                give_up_deleted_days(session, cursor, horizon)
            if cursor.covered_from < horizon:  # in the first chunk's transaction: what is covered is complete
                cursor.covered_from = min(horizon, cursor.covered_until)
        return len(ids)


def _list_targets_without_interest(session: Session) -> list[tuple[str, str]]:
    """Return every airport and direction that was collected and that no interest needs any more.

    An interest in both directions needs each of them.
    """
    has_interest = exists().where(
        InterestRow.airport == CoverageRow.airport,
        or_(InterestRow.direction == CoverageRow.direction, InterestRow.direction == Direction.BOTH.value),
    )
    query = select(CoverageRow.airport, CoverageRow.direction).where(~has_interest)
    return [(airport, direction) for airport, direction in session.execute(query)]


def _list_live_targets(session: Session) -> list[tuple[str, str]]:
    """Return every airport and direction with live movements or stretches of live coverage, in order."""
    tables = (LiveMovementRow.airport, LiveMovementRow.direction), (LiveCoverageRow.airport, LiveCoverageRow.direction)
    return sorted({(row[0], row[1]) for columns in tables for row in session.execute(select(*columns).distinct())})


def _list_wanted_targets(session: Session) -> set[tuple[str, str]]:
    """Return every airport and direction that has an interest; one in both directions makes two."""
    rows = session.execute(select(InterestRow.airport, InterestRow.direction).distinct())
    return {(row.airport, part.value) for row in rows for part in Direction(row.direction).parts}
