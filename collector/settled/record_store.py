"""Storage of the evidence about the source's records; each function runs in the caller's transaction."""

from datetime import datetime
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import NightlyRecordRow
from collector.settled.evidence import NightlyRecord, NightlyRecords
from domain.interests import Direction

_KEPT_FOR: Final = FARTHEST_BACK + 10 * DAY
"""Age from which the evidence about a day is deleted: no collection begins that far back."""


def load_records(session: Session, now: datetime) -> NightlyRecords:
    """Load the evidence about all days that may still be collected."""
    rows = session.scalars(select(NightlyRecordRow).where(NightlyRecordRow.day >= day_of(now - _KEPT_FOR)))
    return NightlyRecords(_build_record(row) for row in rows)


def store_record(session: Session, record: NightlyRecord, now: datetime) -> None:
    """Insert or update the evidence about one record; an insert also deletes evidence that is too old to be needed."""
    row = session.get(NightlyRecordRow, (record.day, record.direction.value), with_for_update=True)
    if row is None:
        session.execute(delete(NightlyRecordRow).where(NightlyRecordRow.day < day_of(now - _KEPT_FOR)))
        row = NightlyRecordRow(day=record.day, direction=record.direction.value)
        session.add(row)
    row.asked_at, row.attempts = record.asked_at, record.attempts
    row.airport, row.flights, row.digest = record.airport, record.flights, record.digest
    row.there_since, row.whole_since = record.there_since, record.whole_since


def _build_record(row: NightlyRecordRow) -> NightlyRecord:
    """Return a row of the table as a domain value."""
    return NightlyRecord(
        day=row.day,
        direction=Direction(row.direction),
        asked_at=row.asked_at,
        attempts=row.attempts,
        airport=row.airport,
        flights=row.flights,
        digest=row.digest,
        there_since=row.there_since,
        whole_since=row.whole_since,
    )
