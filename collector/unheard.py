"""Airports of which the source never gave a flight: nothing is covered there, and their people are notified once.

Each function runs in the caller's transaction.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from collector.messages import encode_airport_unheard
from collector.model import OUTBOX, CoverageRow, InterestRow, UnheardNoticeRow, UnheardRow
from domain.interests import Direction
from domain.notices import describe_unheard


def find_unheard_since(session: Session, airport: str) -> datetime | None:
    """Return the begin of the first day that was asked for at an unheard airport; None if it is heard, or not asked.

    Unheard: neither direction has any coverage, and each direction that an interest is about was asked for in vain. One
    that was not asked for yet may show that the airport is heard.
    """
    if session.scalar(select(CoverageRow.airport).where(CoverageRow.airport == airport).limit(1)) is not None:
        return None
    watched = session.scalars(select(InterestRow.direction).where(InterestRow.airport == airport).distinct())
    since = {
        row.direction: row.since for row in session.scalars(select(UnheardRow).where(UnheardRow.airport == airport))
    }
    if any(part.value not in since for each in watched for part in Direction(each).parts):
        return None
    return min(since.values(), default=None)


def notify_unheard(session: Session, airport: str) -> None:
    """Add a notice to the outbox for each person with an interest in an unheard airport who has none yet.

    Does nothing if the airport is heard, or was not asked for yet.
    """
    since = find_unheard_since(session, airport)
    if since is None:
        return
    people = set(session.scalars(select(InterestRow.user_id).where(InterestRow.airport == airport)))
    notified = set(session.scalars(select(UnheardNoticeRow.user_id).where(UnheardNoticeRow.airport == airport)))
    for user_id in sorted(people - notified):
        session.add(UnheardNoticeRow(airport=airport, user_id=user_id))
        OUTBOX.add(session, [encode_airport_unheard(user_id, airport, since)])


def forget_notices(session: Session, *, airport: str | None = None, user_id: UUID | None = None) -> None:
    """Delete the marks that people were notified: of an airport that is heard now, or of a person who is deleted."""
    query = delete(UnheardNoticeRow)
    if airport is not None:
        query = query.where(UnheardNoticeRow.airport == airport)
    if user_id is not None:
        query = query.where(UnheardNoticeRow.user_id == user_id)
    session.execute(query)


def explain_unheard(airport: str, since: datetime) -> str:
    """Return in two sentences that an airport is unheard since a day, and what that means for an interest there."""
    return f"{describe_unheard(airport, since)} Nothing is said about its traffic until flights are reported."
