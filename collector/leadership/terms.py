"""Terms of office: the database's own fence around what a leader may do.

Kafka elects the leader, but cannot stop one that stood still for a minute and does not know that it was replaced. So
each leader begins a term in the database, and each of its transactions requires, under the lock of the one row, that
no other has begun since: what a deposed leader still does is refused whole.
"""

from typing import Final, NewType

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db.database import Database
from collector.errors import DeposedError
from collector.model import LeadershipRow

Term = NewType("Term", int)

_ROW: Final = 1


def begin_term(database: Database) -> Term:
    """Begin a new term, once the transaction of another that is under way has ended. Raises DatabaseAwayError."""
    try:
        return _begin(database)
    except IntegrityError:
        return _begin(database)  # another made the first term in the same instant


def _begin(database: Database) -> Term:
    with database.transaction() as session:
        row = session.get(LeadershipRow, _ROW, with_for_update=True)
        if row is None:
            row = LeadershipRow(id=_ROW, term=0)
            session.add(row)
        row.term += 1
        session.flush()
        return Term(row.term)


def require_term(session: Session, term: Term) -> None:
    """Let nobody else begin a term until this transaction has ended. Raises DeposedError where somebody has."""
    row = session.get(LeadershipRow, _ROW, with_for_update=True)
    if row is None or row.term != term:
        raise DeposedError("another collector has begun a term since")
