"""Sessions of browsers in the database: 256 random bits in a cookie, stored as their SHA-256 only. ADR 53."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from chassis.credentials import SessionSecret
from user_manager import tokens
from user_manager.model import WebSession

DEFAULT_IDLE: Final = timedelta(days=30)
"""Time without use after which a session ends, by default."""
DEFAULT_LIFETIME: Final = timedelta(days=180)
"""Time after signing in at which a session ends, by default."""
SHORTEST_SESSION: Final = timedelta(minutes=5)
"""The least that either may be set to: longer than the time between two recorded uses of a session in use."""
LONGEST_SESSION: Final = timedelta(days=400)
"""The most that either may be set to: no browser keeps a cookie for longer (RFC 6265bis, 5.5)."""

USE_RECORDED_EVERY: Final = timedelta(minutes=1)
"""Least time between two recorded uses of a session."""

MOST_SESSIONS: Final = 20
"""Most sessions of one account; a further one ends the one that was not used for longest."""


@dataclass(frozen=True, slots=True)
class SessionLifetimes:
    """The lifetimes of a session: after its last use, and after signing in."""

    idle: timedelta = DEFAULT_IDLE
    """Time after the last use."""
    whole: timedelta = DEFAULT_LIFETIME
    """Time after signing in."""

    def compute_end(self, row: WebSession) -> datetime:
        """Return the time at which a session ends unless it is used before."""
        return min(row.created_at + self.whole, row.last_used_at + self.idle)

    def build_over_condition(self, now: datetime) -> ColumnElement[bool]:
        """Return the SQL condition on `WebSession` that a session has ended."""
        return (WebSession.created_at <= now - self.whole) | (WebSession.last_used_at <= now - self.idle)


def start_session(
    session: Session, user_id: UUID, device: str, now: datetime, lifetimes: SessionLifetimes
) -> SessionSecret:
    """Store a new session of a user, and return its secret, which is not stored.

    Deletes the user's sessions that have ended and, of `MOST_SESSIONS`, the one that was not used for longest.
    """
    session.execute(delete(WebSession).where(WebSession.user_id == user_id, lifetimes.build_over_condition(now)))
    latest_first = (WebSession.last_used_at.desc(), WebSession.created_at.desc(), WebSession.session_id)
    kept = session.scalars(select(WebSession).where(WebSession.user_id == user_id).order_by(*latest_first)).all()
    for surplus in kept[MOST_SESSIONS - 1 :]:
        session.delete(surplus)
    secret = tokens.generate_token()
    session.add(
        WebSession(
            session_id=uuid4(),
            secret_sha256=tokens.compute_digest(secret),
            user_id=user_id,
            device=device,
            created_at=now,
            last_used_at=now,
        )
    )
    return SessionSecret(secret)


def find_session(
    session: Session, secret: SessionSecret, now: datetime, lifetimes: SessionLifetimes
) -> WebSession | None:
    """Return the session with this secret; None if there is none, or it has ended."""
    return session.scalar(
        select(WebSession).where(
            WebSession.secret_sha256 == tokens.compute_digest(secret.text), ~lifetimes.build_over_condition(now)
        )
    )


def is_use_due(row: WebSession, now: datetime) -> bool:
    """Return True if a use of the session now is to be recorded: the last one is old, or a wrong clock wrote a time."""
    return now - row.last_used_at >= USE_RECORDED_EVERY or row.last_used_at > now or row.created_at > now


def delete_session(session: Session, secret: SessionSecret) -> bool:
    """Delete the session with this secret, and return True; return False if there is none."""
    by_secret = WebSession.secret_sha256 == tokens.compute_digest(secret.text)
    return session.connection().execute(delete(WebSession).where(by_secret)).rowcount > 0


def delete_sessions_of_user(session: Session, user_id: UUID) -> int:
    """Delete all sessions of a user, in the session's transaction, and return how many there were."""
    return session.connection().execute(delete(WebSession).where(WebSession.user_id == user_id)).rowcount


def delete_expired_sessions(session: Session, now: datetime, lifetimes: SessionLifetimes) -> None:
    """Delete the sessions of all users that have ended."""
    session.execute(delete(WebSession).where(lifetimes.build_over_condition(now)))
