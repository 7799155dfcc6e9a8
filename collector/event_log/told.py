"""Notes of what people were told: up to where the alerts of coverage, flights and interests were raised and mailed.

Only the offsets that the readers have committed show it, and they are lost with the log. So it is noted in the database
while the log is there: first the database is read (a snapshot); if the outbox is empty then, and afterwards the stream
has read its inputs to their ends, and after that the notifier the alerts to theirs, everything in the snapshot was
told.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from collector.model import OUTBOX, CoverageRow, EventLogRow, FlightRow, InterestRow


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows that are published, but not noted as told."""

    covered: dict[tuple[str, str], datetime]
    """By airport and direction, the end of the coverage."""
    flight_id: int
    """The greatest id of a flight."""
    interests: dict[UUID, int]
    """By interest, its version."""

    def is_noted(self, row: EventLogRow) -> bool:
        """Return True if all of it is noted as told already."""
        return not self.covered and not self.interests and self.flight_id == row.told_flight_id


def take_snapshot(session: Session) -> Snapshot | None:
    """Read what is not noted as told; None if something in the database may not be published yet."""
    covered = session.execute(
        select(CoverageRow.airport, CoverageRow.direction, CoverageRow.covered_until).where(
            CoverageRow.told_until.is_distinct_from(CoverageRow.covered_until)
        )
    )
    snapshot = Snapshot(
        {(row.airport, row.direction): row.covered_until for row in covered},
        session.scalar(select(func.max(FlightRow.id))) or 0,
        {
            row.interest_id: row.version
            for row in session.execute(
                select(InterestRow.interest_id, InterestRow.version).where(
                    InterestRow.told_version != InterestRow.version
                )
            )
        },
    )
    # Read last: what was committed before has its row here until it is published.
    return None if OUTBOX.count_unpublished(session) else snapshot


def mark_told(session: Session, row: EventLogRow, snapshot: Snapshot) -> None:
    """Store that everything in a snapshot was told; `row` is locked. What was changed since stays unnoted."""
    for (airport, direction), until in snapshot.covered.items():
        session.execute(
            update(CoverageRow)
            .where(
                CoverageRow.airport == airport,
                CoverageRow.direction == direction,
                CoverageRow.covered_until >= until,
            )
            .values(told_until=until)
        )
    for interest_id, version in snapshot.interests.items():
        session.execute(
            update(InterestRow)
            .where(InterestRow.interest_id == interest_id, InterestRow.version >= version)
            .values(told_version=version)
        )
    row.told_flight_id = snapshot.flight_id


def limit_told_flights(session: Session) -> None:
    """Lower the greatest told id to the greatest id there is, after flights were deleted: SQLite gives ids again."""
    greatest = session.scalar(select(func.max(FlightRow.id))) or 0
    session.execute(update(EventLogRow).where(EventLogRow.told_flight_id > greatest).values(told_flight_id=greatest))
