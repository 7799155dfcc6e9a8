"""Storage of the day's credit quotas in the database: a restarted or new leader continues with the credits left."""

from datetime import datetime
from enum import IntEnum

from sqlalchemy.orm import Session

from collector.intervals import DAY, day_of
from collector.model import CreditsRow
from collector.settled.planner import QuotaBalance, compute_unaccounted_credits


class Bucket(IntEnum):
    """The source's independent daily buckets of credits, each with a pause of its own; the numbers are rows' ids."""

    FLIGHTS = 1
    """Of `/flights`."""
    STATES = 2
    """Of `/states`: of positions."""


class QuotaStore:
    """The API credits of one bucket spent today and its pause, in one database row; only the leader writes.

    Every method works in its caller's transaction. The first write on a new UTC day sets the credits spent to 0.
    """

    def __init__(self, per_day: int, bucket: Bucket = Bucket.FLIGHTS) -> None:
        """`per_day`: credits that the source grants for one UTC day."""
        self._per_day = per_day
        self._row_id = bucket.value

    def load_balance(self, session: Session, now: datetime) -> QuotaBalance:
        """Return the credits granted and spent on the day of `now`, and the pause that the source required.

        Nothing is locked or written. Credits stored on an earlier day count as 0 spent; the pause outlasts midnight.
        """
        row = session.get(CreditsRow, self._row_id)
        if row is None:
            return QuotaBalance(self._per_day, 0)
        spent = row.spent + row.unaccounted if _is_present_day(row, now) else 0
        return QuotaBalance(self._per_day, spent, row.paused_until)

    def load_live_spent(self, session: Session, now: datetime) -> int:
        """Return the credits spent today on departures of today."""
        row = session.get(CreditsRow, self._row_id)
        return row.live_spent if row is not None and _is_present_day(row, now) else 0

    def charge_live(self, session: Session, price: int, now: datetime) -> None:
        """Add `price` credits to those spent today on departures of today; `charge` has added them to the total."""
        self._lock_row_and_begin_new_day(session, now).live_spent += price

    def charge(self, session: Session, price: int, now: datetime) -> None:
        """Add `price` credits to the credits that we have spent today."""
        self._lock_row_and_begin_new_day(session, now).spent += price

    def refund(self, session: Session, price: int, charged_at: datetime, now: datetime) -> None:
        """Subtract `price` credits from the credits spent today, but not below 0.

        Subtracts nothing if they were charged on another UTC day.
        """
        row = self._lock_row_and_begin_new_day(session, now)
        if row.day == day_of(charged_at):
            row.spent = max(row.spent - price, 0)

    def reconcile_with_source(
        self, session: Session, reported_left: int | None, called_at: datetime, now: datetime
    ) -> None:
        """Replace the number of credits spent today beyond our own count by what the source's report implies.

        `reported_left`: the credits left today according to the source's answer to the API call of `called_at`. None,
        or an answer to a call of an earlier day, changes nothing.
        """
        if reported_left is not None and day_of(called_at) == day_of(now):
            row = self._lock_row_and_begin_new_day(session, now)
            row.unaccounted = compute_unaccounted_credits(self._per_day, row.spent, reported_left, now)

    def store_pause(self, session: Session, until: datetime, now: datetime) -> None:
        """Store that the source accepts no API call before `until`."""
        self._lock_row_and_begin_new_day(session, now).paused_until = until

    def _lock_row_and_begin_new_day(self, session: Session, now: datetime) -> CreditsRow:
        """Load and lock the row; if a new UTC day has begun, set its day, and its spent and unaccounted credits to 0.

        A missing row is added, unlocked, with 0 credits spent. A clock that was set back by a day at most changes
        nothing. The pause is kept.
        """
        row = session.get(CreditsRow, self._row_id, with_for_update=True)
        if row is None:
            row = CreditsRow(id=self._row_id, day=day_of(now), spent=0, unaccounted=0, live_spent=0, paused_until=None)
            session.add(row)
        elif not _is_present_day(row, now):
            row.day, row.spent, row.unaccounted, row.live_spent = day_of(now), 0, 0, 0
        return row


def _is_present_day(row: CreditsRow, now: datetime) -> bool:
    """Return True if the row's credits count as those of today, False if a new day must be begun.

    A row of tomorrow counts as of today, since the clock was set back: a corrected clock must not grant credits twice.
    A row of a later day was stored by a wrong clock and does not count, since it would stop collection until that day.
    """
    return day_of(now) <= row.day <= day_of(now) + DAY
