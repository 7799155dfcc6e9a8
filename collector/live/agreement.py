"""Which airports and directions agree so badly with the settled record that their live coverage is not published."""

from sqlalchemy.orm import Session

from collector.settled.agreement import find_distrusted
from domain.interests import Direction


def load_distrusted(session: Session) -> frozenset[tuple[str, Direction]]:
    """Load the airports and directions whose stretches of live coverage are stored, but not published.

    Their movements are published all the same. The answer changes only when an answer of the record is stored. Runs in
    the caller's transaction.
    """
    return find_distrusted(session)
