"""Interests: set, read, removed. Each change commits together with the events that tell of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.database import Database
from collector.errors import CallerGoneError, NoSuchAirportError, NoSuchInterestError
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.messages import collection_requested, interest_removed, interest_set
from collector.model import OUTBOX, CoverageRow, InterestRow
from domain.airports import airport
from domain.interests import Direction, Interest, InterestError, check_thresholds
from domain.windows import Window

FARTHEST_AHEAD = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks to be told."""

    airport: str
    direction: Direction
    window: Window
    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime | None
    """None: the start of the last collected day, so that the first mail comes at once."""


class Interests:
    """The use cases. Every one may raise DatabaseAwayError, and may be called by several threads at once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def set(self, user_id: UUID, wish: Wish) -> tuple[Interest, bool]:
        """Set an interest, or change the one for the same airport, direction and window. Returns it, and if it is new.

        Asking for what is already so changes nothing. Raises NoSuchAirportError, InterestError.
        """
        if airport(wish.airport) is None:
            raise NoSuchAirportError(f"{wish.airport} is no airport's ICAO code; ICAO codes look like KJFK.")
        check_thresholds(wish.high, wish.low, wish.for_windows)
        try:
            return self._set(user_id, wish)
        except IntegrityError:
            return self._set(user_id, wish)  # another request set it in the same instant: now it is a change

    def _set(self, user_id: UUID, wish: Wish) -> tuple[Interest, bool]:
        now = self._clock.now()
        with self._database.transaction() as session:
            row = session.scalars(_same(user_id, wish).with_for_update()).one_or_none()
            if row is not None and not _differs(row, wish):
                return row.value(), False
            _check_effective_from(wish, now)
            is_new = row is None
            if row is None:
                row = InterestRow(
                    interest_id=uuid4(),
                    user_id=user_id,
                    airport=wish.airport,
                    direction=wish.direction.value,
                    window_length=wish.window.value,
                    effective_from=wish.effective_from or _last_collected_day(session, wish, now),
                    version=1,
                    created_at=now,
                )
                session.add(row)
            else:
                # What was said stands: a new version is judged from the present on, unless its maker says otherwise.
                row.version += 1
                row.effective_from = wish.effective_from or now
            row.high, row.low = wish.high, wish.low
            row.for_windows, row.repeat = wish.for_windows, wish.repeat
            row.updated_at = now
            session.flush()
            interest = row.value()
            OUTBOX.add(session, [interest_set(interest)])
            if is_new:
                # Its airport may never have been collected, and the first mail shall come at once.
                OUTBOX.add(session, [collection_requested(wish.airport)])
        return interest, is_new

    def of_user(self, user_id: UUID) -> list[Interest]:
        """A user's interests, oldest first."""
        query = (
            select(InterestRow)
            .where(InterestRow.user_id == user_id)
            .order_by(InterestRow.created_at, InterestRow.interest_id)
        )
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(query)]

    def one(self, user_id: UUID, interest_id: UUID) -> Interest:
        """Raises NoSuchInterestError, also for somebody else's."""
        with self._database.reading() as session:
            return _owned(session.get(InterestRow, interest_id), user_id).value()

    def remove(self, user_id: UUID, interest_id: UUID) -> None:
        """Raises NoSuchInterestError, also for somebody else's."""
        with self._database.transaction() as session:
            row = _owned(session.get(InterestRow, interest_id, with_for_update=True), user_id)
            OUTBOX.add(session, [interest_removed(row.value())])
            session.delete(row)

    def remove_all(self, user_id: UUID, still_asked: Callable[[], bool] = lambda: True) -> int:
        """Remove all of a user's interests, in one transaction. Idempotent. Returns how many there were.

        Nothing is removed when nobody waits for the answer any more as it commits: whoever asked was told that it
        failed. Raises CallerGoneError then.
        """
        with self._database.transaction() as session:
            rows = session.scalars(select(InterestRow).where(InterestRow.user_id == user_id).with_for_update()).all()
            OUTBOX.add(session, [interest_removed(row.value()) for row in rows])
            session.execute(delete(InterestRow).where(InterestRow.interest_id.in_([row.interest_id for row in rows])))
            if not still_asked():
                raise CallerGoneError("The deadline has passed; nothing was removed.")
        return len(rows)

    def coverage(self, user_id: UUID, icao: str) -> dict[Direction, tuple[datetime, datetime]]:
        """By direction, what is covered of an airport that the user has an interest in. Raises NoSuchInterestError."""
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            rows: Sequence[CoverageRow] = session.scalars(select(CoverageRow).where(CoverageRow.airport == icao)).all()
        return {Direction(row.direction): (row.covered_from, row.covered_until) for row in rows}


def _same(user_id: UUID, wish: Wish) -> Select[InterestRow]:
    return select(InterestRow).where(
        InterestRow.user_id == user_id,
        InterestRow.airport == wish.airport,
        InterestRow.direction == wish.direction.value,
        InterestRow.window_length == wish.window.value,
    )


def _differs(row: InterestRow, wish: Wish) -> bool:
    if wish.effective_from is not None and wish.effective_from != row.effective_from:
        return True
    return (row.high, row.low, row.for_windows, row.repeat) != (wish.high, wish.low, wish.for_windows, wish.repeat)


def _check_effective_from(wish: Wish, now: datetime) -> None:
    oldest = day_of(now - FARTHEST_BACK)
    if wish.effective_from is not None and not oldest <= wish.effective_from <= now + FARTHEST_AHEAD:
        raise InterestError(f"effective_from must be from {oldest:%Y-%m-%d} to a year ahead")


def _owned(row: InterestRow | None, user_id: UUID) -> InterestRow:
    if row is None or row.user_id != user_id:
        raise NoSuchInterestError("You have no interest with this id.")
    return row


def _require_interest(session: Session, user_id: UUID, icao: str) -> None:
    query = select(InterestRow.interest_id).where(InterestRow.user_id == user_id, InterestRow.airport == icao).limit(1)
    if session.scalar(query) is None:
        raise NoSuchInterestError(f"You have no interest in {icao}; set one first.")


def _last_collected_day(session: Session, wish: Wish, now: datetime) -> datetime:
    """The start of the last day that was collected of all that the wish counts; yesterday's where nothing was yet."""
    parts = [part.value for part in wish.direction.parts]
    query = select(CoverageRow.covered_until).where(
        CoverageRow.airport == wish.airport, CoverageRow.direction.in_(parts)
    )
    covered = session.scalars(query).all()
    if len(covered) < len(parts):
        return day_of(now) - DAY
    return day_of(min(covered) - timedelta(seconds=1))
