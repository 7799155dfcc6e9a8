"""Leader terms: fencing tokens in the database that stop the transactions of a superseded leader.

Kafka elects the leader, but cannot stop a leader that was paused for a minute and does not know that it was superseded.
So each leader begins a term in the database. Each of its transactions requires, under the lock of the one row, that no
newer term has begun; the transactions of a superseded leader are rejected as a whole.
"""

from typing import Final, NewType

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db.database import Database
from collector.errors import SupersededError
from collector.model import LeadershipRow

Term = NewType("Term", int)
"""A fencing token: each leader's term is greater than all terms before."""

_ROW_ID: Final = 1


def begin_term(database: Database) -> Term:
    """Begin a new term, one greater than the last, and return it; the term before is superseded.

    Raises DatabaseUnavailableError. Blocks until a running transaction of the superseded leader has ended.
    """
    try:
        return _increment_term(database)
    except IntegrityError:
        return _increment_term(database)  # another replica inserted the first term at the same moment


def _increment_term(database: Database) -> Term:
    """Increment the stored term under its lock, commit, and return it; insert term 1 if there is none.

    Raises IntegrityError if another replica inserts the first term at the same moment.
    """
    with database.transaction() as session:
        row = session.get(LeadershipRow, _ROW_ID, with_for_update=True)
        if row is None:
            row = LeadershipRow(id=_ROW_ID, term=0)
            session.add(row)
        row.term += 1
        session.flush()
        return Term(row.term)


def require_term(session: Session, term: Term) -> None:
    """Raise SupersededError unless `term` is the newest term.

    Holds the lock of the term until the transaction ends: no newer term can begin before.
    """
    row = session.get(LeadershipRow, _ROW_ID, with_for_update=True)
    if row is None or row.term != term:
        raise SupersededError("another collector has begun a term since")
