"""Storage of the day's credit quota in the database: a restarted or new leader continues with the credits left."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from collector.intervals import day_of
from collector.model import CreditsRow
from collector.settled.planner import QuotaBalance, compute_unaccounted_credits

_ROW_ID: Final = 1


class QuotaStore:
    """The API credit quota in the database. Every method works in its caller's transaction; only the leader writes."""

    def __init__(self, per_day: int) -> None:
        """`per_day`: credits that the source grants for one UTC day."""
        self._per_day = per_day

    def load_balance(self, session: Session, now: datetime) -> QuotaBalance:
        """Return the credits granted and spent on the day of `now`, and the pause that the source required."""
        row = session.get(CreditsRow, _ROW_ID)
        if row is None:
            return QuotaBalance(self._per_day, 0)
        spent = row.spent + row.unaccounted if row.day >= day_of(now) else 0
        return QuotaBalance(self._per_day, spent, row.paused_until)

    def charge(self, session: Session, price: int, now: datetime) -> None:
        """Add `price` credits to the credits spent today."""
        self._lock_row_of_today(session, now).spent += price

    def refund(self, session: Session, price: int, charged_at: datetime, now: datetime) -> None:
        """Subtract `price` credits from the credits spent today, if they were charged on the same UTC day."""
        row = self._lock_row_of_today(session, now)
        if row.day == day_of(charged_at):
            row.spent = max(row.spent - price, 0)

    def reconcile_with_source(
        self, session: Session, reported_left: int | None, called_at: datetime, now: datetime
    ) -> None:
        """Store credits that were spent from our account without our knowledge, as the source reports them.

        `reported_left`: the credits left today according to the source's answer to the API call of `called_at`. None,
        or an answer to a call of an earlier day, changes nothing.
        """
        if reported_left is not None and day_of(called_at) == day_of(now):
            row = self._lock_row_of_today(session, now)
            row.unaccounted = compute_unaccounted_credits(self._per_day, row.spent, reported_left, now)

    def store_pause(self, session: Session, until: datetime, now: datetime) -> None:
        """Store that the source accepts no API call before `until`."""
        self._lock_row_of_today(session, now).paused_until = until

    def _lock_row_of_today(self, session: Session, now: datetime) -> CreditsRow:
        """Return the locked row, reset to zero credits spent if a new UTC day has begun; insert the row if missing."""
        row = session.get(CreditsRow, _ROW_ID, with_for_update=True)
        if row is None:
            row = CreditsRow(id=_ROW_ID, day=day_of(now), spent=0, unaccounted=0, paused_until=None)
            session.add(row)
        elif row.day < day_of(now):  # never back to an earlier day: a corrected clock must not grant credits twice
            row.day, row.spent, row.unaccounted = day_of(now), 0, 0
        return row
