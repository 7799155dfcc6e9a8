"""Unheard airports, of which the source never gave a flight: they are not covered, and their users are notified once.

Each function runs in the caller's transaction.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from collector.messages import encode_airport_unheard
from collector.model import (
    OUTBOX,
    CoverageRow,
    InterestRow,
    LiveCoverageRow,
    RetiredNoticeRow,
    UnheardNoticeRow,
    UnheardRow,
)
from domain.interests import Direction
from domain.notices import describe_unheard

_ASKED_RECENTLY: Final = timedelta(days=9)
"""Age of the last day that was asked for up to which an airport counts as unheard; later nobody knows any more.

More than a week, after which a day without a record is given up.
"""

_HEARD_LIVE_RECENTLY: Final = timedelta(days=7)
"""Age of the last live coverage up to which an airport is heard: a receiver that was off for a weekend is no reason to
tell people that nothing will be said."""


def find_unheard_since(session: Session, airport: str, now: datetime) -> datetime | None:
    """Return the begin of the first day that was asked for at an unheard airport; None if the airport is not unheard.

    Unheard: neither direction has any coverage, nor was covered live in the last days, and each direction that an
    interest is about was asked for and had no flight, the last time in the last days. While one of these was not asked
    for yet, the airport may still be heard.
    """
    if session.scalar(select(CoverageRow.airport).where(CoverageRow.airport == airport).limit(1)) is not None:
        return None
    if _is_heard_live(session, airport, now):
        return None
    watched = session.scalars(select(InterestRow.direction).where(InterestRow.airport == airport).distinct())
    rows = session.scalars(select(UnheardRow).where(UnheardRow.airport == airport))
    since = {row.direction: row.since for row in rows if row.asked_until >= now - _ASKED_RECENTLY}
    if any(part.value not in since for each in watched for part in Direction(each).parts):
        return None
    return min(since.values(), default=None)


def _is_heard_live(session: Session, airport: str, now: datetime) -> bool:
    """Return True if live coverage of the airport, in either direction, was published in the last days; else False."""
    query = select(LiveCoverageRow.id).where(
        LiveCoverageRow.airport == airport,
        LiveCoverageRow.direction.in_([part.value for part in Direction.BOTH.parts]),
        LiveCoverageRow.end_at >= now - _HEARD_LIVE_RECENTLY,
        LiveCoverageRow.published,
    )
    return session.scalar(query.limit(1)) is not None


def notify_unheard(session: Session, airport: str, now: datetime) -> None:
    """Add a notice to the outbox for each user with an interest in an unheard airport who was not notified yet.

    Marks these users as notified. Does nothing if the airport is heard, or was not asked for yet.
    """
    since = find_unheard_since(session, airport, now)
    if since is None:
        return
    users = set(session.scalars(select(InterestRow.user_id).where(InterestRow.airport == airport)))
    notified = set(session.scalars(select(UnheardNoticeRow.user_id).where(UnheardNoticeRow.airport == airport)))
    for user_id in sorted(users - notified):
        session.add(UnheardNoticeRow(airport=airport, user_id=user_id))
        OUTBOX.add(session, [encode_airport_unheard(user_id, airport, since)])


def delete_notice_marks(session: Session, *, airport: str | None = None, user_id: UUID | None = None) -> None:
    """Delete the marks of notified users: of an airport that is heard now, or of a user who is deleted.

    The marks of a user are also those of retired codes. One of `airport` and `user_id` must be given: without both, all
    marks of unheard airports are deleted.
    """
    query = delete(UnheardNoticeRow)
    if airport is not None:
        query = query.where(UnheardNoticeRow.airport == airport)
    if user_id is not None:
        query = query.where(UnheardNoticeRow.user_id == user_id)
        session.execute(delete(RetiredNoticeRow).where(RetiredNoticeRow.user_id == user_id))
    session.execute(query)


def explain_unheard(airport: str, since: datetime) -> str:
    """Return the statement that an airport is unheard since a day, and what that means for interests: two sentences."""
    return f"{describe_unheard(airport, since)} Nothing is said about its traffic until flights are reported."
