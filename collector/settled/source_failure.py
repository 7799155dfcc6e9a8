"""The last failure of the source of the record: stored by the leader, shown by any replica until a call succeeds.

Each function runs in the caller's transaction.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy.orm import Session

from collector.errors import BreakerOpenError, SourceError
from collector.intervals import day_of
from collector.model import LiveStateRow

_KEY: Final = "record failure"
"""No feed has this name: the row stands in the table of the feeds' states, and is of another format."""
_FORMAT: Final = "failure-1"


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """A call of the source that failed, and after which none has succeeded."""

    at: datetime
    reason: str
    """Why, in words, as an operator may read it; it holds no secret."""

    def explain(self, now: datetime) -> str:
        """Return in words when the source failed and why, and that nobody needs to do anything for a further try."""
        at = f"{self.at:%H:%M}" if day_of(self.at) == day_of(now) else f"{self.at:%-d %b %H:%M}"
        return f"the last call failed at {at}: {self.reason}; the source is asked again by itself"


def store_failure(session: Session, error: SourceError, now: datetime) -> None:
    """Store a failed call as the last failure; do nothing if the circuit breaker is open, for no call was made."""
    if isinstance(error, BreakerOpenError):
        return
    body = json.dumps({"reason": str(error)}).encode()
    session.merge(LiveStateRow(feed=_KEY, format=_FORMAT, stated_at=now.timestamp(), body=body))


def clear_failure(session: Session) -> None:
    """Delete the last failure, if there is one: a call has succeeded."""
    row = session.get(LiveStateRow, _KEY)
    if row is not None:
        session.delete(row)


def load_failure(session: Session) -> SourceFailure | None:
    """Return the last failure; None if the last call has succeeded, or none was made."""
    row = session.get(LiveStateRow, _KEY)
    if row is None or row.format != _FORMAT:
        return None
    return SourceFailure(datetime.fromtimestamp(row.stated_at, UTC), json.loads(row.body)["reason"])
