"""Airports of which the source never gave a flight: nothing is covered there, and their people are notified once.

Each function runs in the caller's transaction.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from collector.messages import encode_airport_unheard
from collector.model import OUTBOX, CoverageRow, InterestRow, UnheardNoticeRow, UnheardRow
from domain.interests import Direction


def find_unheard_since(session: Session, airport: str) -> datetime | None:
    """Return the begin of the first day that was asked for at an unheard airport; None if it is heard, or not asked.

    Unheard: neither direction has any coverage, because no answer had a flight so far.
    """
    if session.scalar(select(CoverageRow.airport).where(CoverageRow.airport == airport).limit(1)) is not None:
        return None
    return session.scalar(select(func.min(UnheardRow.since)).where(UnheardRow.airport == airport))


def notify_unheard(session: Session, airport: str) -> None:
    """Add a notice to the outbox for each person with an interest in an unheard airport who has none yet.

    Does nothing if the airport is heard, or if a direction that an interest there is about was not asked for yet: its
    flights may show that the airport is heard.
    """
    since = find_unheard_since(session, airport)
    if since is None or not _is_asked_in_every_direction(session, airport):
        return
    people = set(session.scalars(select(InterestRow.user_id).where(InterestRow.airport == airport)))
    notified = set(session.scalars(select(UnheardNoticeRow.user_id).where(UnheardNoticeRow.airport == airport)))
    for user_id in sorted(people - notified):
        session.add(UnheardNoticeRow(airport=airport, user_id=user_id))
        OUTBOX.add(session, [encode_airport_unheard(user_id, airport, since)])


def _is_asked_in_every_direction(session: Session, airport: str) -> bool:
    """Return True if each direction that the airport's interests are about was asked for in vain, else False."""
    watched = session.scalars(select(InterestRow.direction).where(InterestRow.airport == airport).distinct())
    asked = set(session.scalars(select(UnheardRow.direction).where(UnheardRow.airport == airport)))
    return all(part.value in asked for each in watched for part in Direction(each).parts)


def forget_notices(session: Session, *, airport: str | None = None, user_id: UUID | None = None) -> None:
    """Delete the marks that people were notified: of an airport that is heard now, or of a person who is deleted."""
    query = delete(UnheardNoticeRow)
    if airport is not None:
        query = query.where(UnheardNoticeRow.airport == airport)
    if user_id is not None:
        query = query.where(UnheardNoticeRow.user_id == user_id)
    session.execute(query)


def describe_unheard(airport: str, since: datetime) -> str:
    """Return the sentence for people about an unheard airport."""
    return (
        f"OpenSky has not reported a flight at {airport} since {since:%-d %B %Y}: nobody may be listening there. "
        "Nothing is said about its traffic until flights are reported."
    )
