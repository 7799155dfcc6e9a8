"""Use cases on the sessions of an account: who is signed in, where else, and signing out."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.credentials import Credential, SessionSecret
from chassis.db.database import Database
from chassis.errors import ChassisError
from user_manager.access import AccountAuthorizer
from user_manager.accounts import Account
from user_manager.errors import NoSuchSessionError
from user_manager.model import WebSession
from user_manager.web_sessions import (
    SessionLifetimes,
    delete_expired_sessions,
    delete_session,
    delete_sessions_of_user,
    find_session,
    is_use_due,
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session as its owner may see it: without its secret."""

    session_id: UUID
    device: str
    created_at: datetime
    last_used_at: datetime
    ends_at: datetime
    """Time at which the session ends unless it is used before."""
    is_current: bool
    """True for the session that has sent the request."""


class Sessions:
    """Use cases on sessions that exist. Safe for several threads; each may raise DatabaseUnavailableError."""

    def __init__(
        self, database: Database, authorizer: AccountAuthorizer, clock: Clock, lifetimes: SessionLifetimes
    ) -> None:
        self._database = database
        self._authorizer = authorizer
        self._clock = clock
        self._lifetimes = lifetimes

    def record_use(self, secret: SessionSecret) -> None:
        """Store that a session is used now, unless that was stored a short time ago; do nothing if it has ended.

        A use that the database cannot store now is not recorded: the request itself may still succeed. Times in the
        future, which a clock that was ahead has written, are set to now.
        """
        now = self._clock.now()
        with suppress(ChassisError):
            with self._database.reading() as session:
                row = find_session(session, secret, now, self._lifetimes)
                is_due = row is not None and is_use_due(row, now)
            if is_due:
                with self._database.transaction() as session:
                    row = find_session(session, secret, now, self._lifetimes)
                    if row is not None:
                        row.created_at, row.last_used_at = min(row.created_at, now), now

    def load_current(self, secret: SessionSecret) -> tuple[Account, SessionView]:
        """Return the account and the session that this secret belongs to. Raises SessionUnknownError."""
        with self._database.reading() as session:
            row, user = self._authorizer.load_session(session, secret)
            return Account.from_user(user), self._build_view(row, row.session_id)

    def list_of_account(self, credential: Credential, email: str) -> list[SessionView]:
        """Return the sessions of the account with this address, the latest used one first.

        Raises TokenUnknownError, SessionUnknownError, NotYoursError, AccountUnknownError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            user = self._authorizer.load_account(session, credential, email)
            current_id = self._find_id(session, credential)
            rows = session.scalars(
                select(WebSession)
                .where(WebSession.user_id == user.user_id, ~self._lifetimes.build_over_condition(now))
                .order_by(WebSession.last_used_at.desc(), WebSession.created_at.desc(), WebSession.session_id)
            )
            return [self._build_view(row, current_id) for row in rows]

    def end(self, credential: Credential, email: str, session_id: UUID) -> bool:
        """End one session of the account with this address; return True if it is the caller's own, else False.

        Raises TokenUnknownError, SessionUnknownError, NotYoursError, AccountUnknownError, NoSuchSessionError.
        """
        with self._database.transaction() as session:
            user = self._authorizer.load_account(session, credential, email)
            is_current = session_id == self._find_id(session, credential)
            its_own = (WebSession.session_id == session_id, WebSession.user_id == user.user_id)
            ended = session.connection().execute(delete(WebSession).where(*its_own)).rowcount
            user_id = user.user_id
        if ended == 0:
            raise NoSuchSessionError("This account has no session with this id; it may have ended meanwhile.")
        log.info("session.ended", user_id=str(user_id))
        return is_current

    def end_all(self, credential: Credential, email: str) -> None:
        """End all sessions of the account with this address, also the one that has sent the request.

        Raises TokenUnknownError, SessionUnknownError, NotYoursError, AccountUnknownError.
        """
        with self._database.transaction() as session:
            user_id = self._authorizer.load_account(session, credential, email).user_id
            ended = delete_sessions_of_user(session, user_id)
        log.info("sessions.ended", user_id=str(user_id), sessions=ended)

    def sign_out(self, secret: SessionSecret) -> None:
        """End the session with this secret. Idempotent: a session that is over stays so."""
        with self._database.transaction() as session:
            is_ended = delete_session(session, secret)
        if is_ended:
            log.info("session.signed_out")

    def delete_expired(self) -> None:
        """Delete the sessions that are over; a background task of the service calls this periodically."""
        with self._database.transaction() as session:
            delete_expired_sessions(session, self._clock.now(), self._lifetimes)

    def _find_id(self, session: Session, credential: Credential) -> UUID | None:
        """Return the id of the session whose secret a credential is; None for a token, or if the session has ended."""
        if not isinstance(credential, SessionSecret):
            return None
        row = find_session(session, credential, self._clock.now(), self._lifetimes)
        return None if row is None else row.session_id

    def _build_view(self, row: WebSession, current_id: UUID | None) -> SessionView:
        """Return what the owner may see of a session; `current_id` is the id of the one that asks, if one does."""
        return SessionView(
            row.session_id,
            row.device,
            row.created_at,
            row.last_used_at,
            self._lifetimes.compute_end(row),
            is_current=row.session_id == current_id,
        )
