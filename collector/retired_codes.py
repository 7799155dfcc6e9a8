"""Retired codes of airports, which an update of the table has dropped: their users are notified once, by mail."""

from typing import Final

import structlog
from sqlalchemy import and_, delete, exists, select
from sqlalchemy.exc import IntegrityError

from chassis.db.database import Database
from collector.messages import encode_code_retired
from collector.model import OUTBOX, InterestRow, RetiredNoticeRow
from collector.settled.schedule import list_retired_airports
from domain.airports import find_successor

log = structlog.get_logger()

_NOTIFY_AT_ONCE: Final = 500
"""Maximum number of users who are notified in one transaction, so that its locks block other transactions briefly."""


class RetirementNotices:
    """The use case that notifies users of retired codes.

    Safe on all replicas at once, also on replicas with another table of airports.

    A user is notified once for each code: the mark is kept until the user has no interest under it. A replica with an
    older table, which still has the code, neither notifies nor deletes the mark.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def notify_users(self) -> int:
        """Add a notice to the outbox for each user with an interest under a retired code who was not notified yet.

        Each mark commits together with its notice. Returns the number of notices, which is also logged if there are
        any. First deletes the marks of users without an interest under the code. Raises DatabaseUnavailableError,
        ContendedError.
        """
        self._delete_unused_marks()
        with self._database.reading() as session:
            retired = list_retired_airports(session)
        notified = 0
        for airport in retired:
            while notified_at_once := self._notify_next_users(airport):
                notified += notified_at_once
        if notified:
            log.info("retired_codes.notified", notices=notified, airports=retired)
        return notified

    def _notify_next_users(self, airport: str) -> int:
        """Notify the next users of a retired code, at most _NOTIFY_AT_ONCE, in one transaction. Return how many.

        Returns 0, too, if another replica notifies the same users at this moment.
        """
        successor = find_successor(airport)
        is_notified = exists().where(
            RetiredNoticeRow.airport == airport, RetiredNoticeRow.user_id == InterestRow.user_id
        )
        query = (
            select(InterestRow.user_id)
            .where(InterestRow.airport == airport, ~is_notified)
            .distinct()
            .order_by(InterestRow.user_id)
            .limit(_NOTIFY_AT_ONCE)
        )
        try:
            with self._database.transaction() as session:
                users = session.scalars(query).all()
                for user_id in users:
                    session.add(RetiredNoticeRow(airport=airport, user_id=user_id))
                session.flush()
                code = "" if successor is None else successor.icao
                OUTBOX.add(session, [encode_code_retired(user_id, airport, code) for user_id in users])
        except IntegrityError:  # another replica has just stored one of these marks, with its notice
            log.info("retired_codes.same_notified", airport=airport)
            return 0
        return len(users)

    def _delete_unused_marks(self) -> None:
        """Delete the marks of users who have no interest under the code any more."""
        has_interest = exists().where(
            and_(InterestRow.airport == RetiredNoticeRow.airport, InterestRow.user_id == RetiredNoticeRow.user_id)
        )
        with self._database.transaction() as session:
            session.execute(delete(RetiredNoticeRow).where(~has_interest).execution_options(synchronize_session=False))
