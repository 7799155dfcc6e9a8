"""The day's credits in the database: they survive restarts, and the next leader goes on with what the last one left."""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from collector.intervals import day_of
from collector.model import CreditsRow
from collector.settled.planner import Account, unaccounted

_ROW: Final = 1


class Ledger:
    """Reads and writes in its caller's transaction; who writes is the leader alone."""

    def __init__(self, per_day: int) -> None:
        self._per_day = per_day

    def account(self, session: Session, now: datetime) -> Account:
        """As it stands now."""
        row = session.get(CreditsRow, _ROW)
        if row is None:
            return Account(self._per_day, 0)
        spent = row.spent + row.unaccounted if row.day >= day_of(now) else 0
        return Account(self._per_day, spent, row.paused_until)

    def take(self, session: Session, price: int, now: datetime) -> None:
        """Count so many as spent."""
        self._today(session, now).spent += price

    def take_back(self, session: Session, price: int, taken_at: datetime, now: datetime) -> None:
        """Count so many, which were taken then, as not spent after all."""
        row = self._today(session, now)
        if row.day == day_of(taken_at):
            row.spent = max(row.spent - price, 0)

    def learn(self, session: Session, said_left: int | None, asked_at: datetime, now: datetime) -> None:
        """Believe the source, which said what is left when it answered a question of `asked_at`, if it says less."""
        if said_left is not None and day_of(asked_at) == day_of(now):
            row = self._today(session, now)
            row.unaccounted = unaccounted(self._per_day, row.spent, said_left, now)

    def pause(self, session: Session, until: datetime, now: datetime) -> None:
        """Remember that the source wants no request before then."""
        self._today(session, now).paused_until = until

    def _today(self, session: Session, now: datetime) -> CreditsRow:
        row = session.get(CreditsRow, _ROW, with_for_update=True)
        if row is None:
            row = CreditsRow(id=_ROW, day=day_of(now), spent=0, unaccounted=0, paused_until=None)
            session.add(row)
        elif row.day < day_of(now):  # never back: a clock that was put right must not give credits twice
            row.day, row.spent, row.unaccounted = day_of(now), 0, 0
        return row
