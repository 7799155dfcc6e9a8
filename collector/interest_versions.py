"""The table of the former versions of interests, each with the time in which it was in force.

A version is stored when it is changed or removed, and kept for KEPT_FOR, so that windows of before show which version
judged them. Each function runs in the caller's transaction.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, String, Uuid, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from collector.intervals import DAY
from collector.model import AUTO_ID, Base, InterestRow
from domain.interests import Direction, Interest
from domain.windows import AlignedTo, Window

KEPT_FOR: Final = 40 * DAY
"""Age from which a former version is deleted: windows of before are not shown."""
MAX_VERSIONS: Final = 500
"""Former versions that are kept of one person; of more, the oldest are deleted."""

_ENUMS: Final = ("direction", "window", "aligned_to")
_STORED_AS_THEY_ARE: Final = tuple(each.name for each in fields(Interest) if each.name not in _ENUMS)


@dataclass(frozen=True, slots=True)
class FormerVersion:
    """A version of an interest that was in force in [since, until)."""

    interest: Interest
    since: datetime
    until: datetime


class InterestVersionRow(Base):
    """A former version of an interest, which may be removed by now."""

    __tablename__ = "interest_versions"
    __table_args__ = (
        Index("ix_interest_versions_user", "user_id", "id"),
        Index("ix_interest_versions_interest", "interest_id", "id"),
        Index("ix_interest_versions_until", "until_at"),
        TABLE_OPTIONS,
    )

    id: Mapped[int] = mapped_column(AUTO_ID, primary_key=True, autoincrement=True)
    interest_id: Mapped[UUID] = mapped_column(Uuid)
    user_id: Mapped[UUID] = mapped_column(Uuid)
    airport: Mapped[str] = mapped_column(String(4))
    direction: Mapped[str] = mapped_column(String(10))
    window_length: Mapped[str] = mapped_column(String(2))
    aligned_to: Mapped[str] = mapped_column(String(7))
    high: Mapped[int | None]
    low: Mapped[int | None]
    high_percent: Mapped[int | None]
    low_percent: Mapped[int | None]
    for_windows: Mapped[int]
    repeat: Mapped[bool]
    effective_from: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int] = mapped_column(BigInteger)
    since_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The time at which it was set."""
    until_at: Mapped[datetime] = mapped_column(UtcDateTime)
    """The time at which it was changed or removed."""

    def to_version(self) -> FormerVersion:
        """Return the row as a frozen value."""
        stored = {name: getattr(self, name) for name in _STORED_AS_THEY_ARE}
        direction, window = Direction(self.direction), Window(self.window_length)
        interest = Interest(**stored, direction=direction, window=window, aligned_to=AlignedTo(self.aligned_to))
        return FormerVersion(interest, self.since_at, self.until_at)


def keep_version(session: Session, row: InterestRow, now: datetime) -> None:
    """Store the present version of a locked row, which is about to be changed or removed, as a former one.

    The oldest of the person's former versions are deleted if there are more than MAX_VERSIONS.
    """
    present = row.value()
    session.add(
        InterestVersionRow(
            **{name: getattr(present, name) for name in _STORED_AS_THEY_ARE},
            direction=present.direction.value,
            window_length=present.window.value,
            aligned_to=present.aligned_to.value,
            since_at=row.updated_at,
            until_at=max(now, row.updated_at),
        )
    )
    session.flush()
    first_surplus = session.scalar(
        select(InterestVersionRow.id)
        .where(InterestVersionRow.user_id == row.user_id)
        .order_by(InterestVersionRow.id.desc())
        .offset(MAX_VERSIONS)
        .limit(1)
    )
    if first_surplus is not None:
        session.execute(
            delete(InterestVersionRow).where(
                InterestVersionRow.user_id == row.user_id, InterestVersionRow.id <= first_surplus
            )
        )


def load_versions(session: Session, interest_id: UUID, since: datetime) -> list[FormerVersion]:
    """Return the former versions of an interest that were in force at `since` or later, the oldest first."""
    query = (
        select(InterestVersionRow)
        .where(InterestVersionRow.interest_id == interest_id, InterestVersionRow.until_at >= since)
        .order_by(InterestVersionRow.id)
    )
    return [row.to_version() for row in session.scalars(query)]


def load_versions_of_user(session: Session, user_id: UUID) -> list[FormerVersion]:
    """Return all former versions that are kept of a person's interests, also of removed ones, the oldest first."""
    query = select(InterestVersionRow).where(InterestVersionRow.user_id == user_id).order_by(InterestVersionRow.id)
    return [row.to_version() for row in session.scalars(query)]


def delete_versions_of_user(session: Session, user_id: UUID) -> None:
    """Delete all former versions of a person's interests; do nothing if there are none."""
    session.execute(delete(InterestVersionRow).where(InterestVersionRow.user_id == user_id))


def delete_expired_versions(session: Session, now: datetime, limit: int) -> int:
    """Delete at most `limit` former versions that ended more than KEPT_FOR ago; return the number of deleted ones."""
    expired = select(InterestVersionRow.id).where(InterestVersionRow.until_at < now - KEPT_FOR).limit(limit)
    ids = session.scalars(expired).all()
    if ids:
        session.execute(delete(InterestVersionRow).where(InterestVersionRow.id.in_(ids)))
    return len(ids)
