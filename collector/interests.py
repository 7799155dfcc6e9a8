"""Interests: set, read, removed. Each change commits together with the events that tell of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypedDict, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import ContendedError
from collector.errors import (
    CallerGoneError,
    NoSuchAirportError,
    NoSuchInterestError,
    VersionMismatchError,
)
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.messages import encode_collection_request, encode_interest_removal, encode_interest_set
from collector.model import OUTBOX, CoverageRow, InterestRow
from domain.airports import describe_unknown_code, find_airport
from domain.interests import Direction, Interest, InterestError, check_thresholds
from domain.windows import Window

log = structlog.get_logger()

T = TypeVar("T")

OLDEST_LAST_DAY = 2 * DAY
"""Just after midnight the last day whose arrivals are known is the one before yesterday."""

FARTHEST_AHEAD = timedelta(days=366)

_ATTEMPTS: Final = 10
_PATIENCE_S: Final = 2.0
"""How long after its beginning a transaction that lost is still begun again."""

_SHOWN: Final = 10
"""Characters of what was given as a code that are repeated in an answer."""


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


class Change(TypedDict, total=False):
    """What a person wants to be otherwise. What is left out stays; a threshold that is None is removed."""

    high: int | None
    low: int | None
    for_windows: int
    repeat: bool
    effective_from: datetime


class Interests:
    """The use cases. Every one may raise DatabaseUnavailableError, and may be called by several threads at once.

    On MySQL two that are about the same rows must take their locks in the same order: a row is found without a lock,
    then locked by its primary key, and several are in the order of their keys. What still loses to another (both
    insert the same, say) is done again.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def set(self, user_id: UUID, wish: Wish) -> tuple[Interest, bool]:
        """Set an interest, or change the one for the same airport, direction and window. Returns it, and if it is new.

        Asking for what is already so changes nothing. Raises NoSuchAirportError, InterestError, ContendedError.
        """
        require_airport(wish.airport)
        check_thresholds(wish.high, wish.low, wish.for_windows)
        return _again_where_lost(lambda: self._set(user_id, wish))

    def _set(self, user_id: UUID, wish: Wish) -> tuple[Interest, bool]:
        now = self._clock.now()
        with self._database.transaction() as session:
            interest_id = session.scalar(_id_of_same(user_id, wish))
            row = None if interest_id is None else _locked(session, interest_id)
            if row is not None:
                _change(session, row, wish, now)
                return row.value(), False
            check_effective_from(wish, now)
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
            _write(session, row, wish, now)
            # Its airport may never have been collected, and the first mail shall come at once.
            OUTBOX.add(session, [encode_collection_request(wish.airport)])
            return row.value(), True

    def change(self, user_id: UUID, interest_id: UUID, version: int | None, change: Change) -> Interest:
        """Change what may be changed of an interest, if it still has this version (None: whichever).

        Asking for what is already so changes nothing. Raises NoSuchInterestError, VersionMismatchError, InterestError.
        """
        return _again_where_lost(lambda: self._changed(user_id, interest_id, version, change))

    def _changed(self, user_id: UUID, interest_id: UUID, version: int | None, change: Change) -> Interest:
        with self._database.transaction() as session:
            row = _owned(_locked(session, interest_id), user_id)
            if version is not None and row.version != version:
                raise VersionMismatchError("The interest has changed since; read it again.")
            wish = replace(_wish_of(row), **change)
            check_thresholds(wish.high, wish.low, wish.for_windows)
            _change(session, row, wish, self._clock.now())
            return row.value()

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

        def work() -> None:
            with self._database.transaction() as session:
                _remove(session, _owned(_locked(session, interest_id), user_id))

        _again_where_lost(work)

    def remove_of_airport(self, user_id: UUID, icao: str) -> int:
        """Remove a user's interests in one airport, in one transaction. Idempotent. Returns how many there were.

        Raises NoSuchAirportError.
        """
        require_airport(icao)
        return _again_where_lost(
            lambda: self._remove_every(InterestRow.user_id == user_id, InterestRow.airport == icao)
        )

    def remove_all(self, user_id: UUID, still_asked: Callable[[], bool] = lambda: True) -> int:
        """Remove all of a user's interests, in one transaction. Idempotent. Returns how many there were.

        Nothing is removed when nobody waits for the answer any more as it commits: whoever asked was told that it
        failed. Raises CallerGoneError then.
        """
        return _again_where_lost(lambda: self._remove_every(InterestRow.user_id == user_id, still_asked=still_asked))

    def _remove_every(self, *conditions: ColumnElement[bool], still_asked: Callable[[], bool] = lambda: True) -> int:
        with self._database.transaction() as session:
            ids = session.scalars(select(InterestRow.interest_id).where(*conditions)).all()
            rows = [row for each in sorted(ids) if (row := _locked(session, each)) is not None]
            for row in rows:
                _remove(session, row)
            session.flush()
            if not still_asked():
                raise CallerGoneError("The deadline has passed; nothing was removed.")
        return len(rows)


def _again_where_lost(work: Callable[[], T]) -> T:
    """What a transaction returns, done again where it lost to another and so was rolled back.

    Raises ContendedError when it lost too often, or waited so long that whoever asked would not wait for more.
    """
    until = time.monotonic() + _PATIENCE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return work()
        except IntegrityError:  # another has just inserted the same: now it is there to be changed
            log.info("interests.same_inserted", attempt=attempt)
        except ContendedError:
            log.info("interests.contended", attempt=attempt)
        if time.monotonic() > until:
            break
    raise ContendedError("Another request is changing the same; try again shortly.")


def require_airport(icao: str) -> None:
    """Raises NoSuchAirportError unless it is an airport's ICAO code, and then says which may be meant."""
    if find_airport(icao) is None:
        raise NoSuchAirportError(f"{icao[:_SHOWN]}: {describe_unknown_code(icao)}")


def _id_of_same(user_id: UUID, wish: Wish) -> Select[UUID]:
    return select(InterestRow.interest_id).where(
        InterestRow.user_id == user_id,
        InterestRow.airport == wish.airport,
        InterestRow.direction == wish.direction.value,
        InterestRow.window_length == wish.window.value,
    )


def _locked(session: Session, interest_id: UUID) -> InterestRow | None:
    """The row as it is now, and stays until the transaction ends; None where there is none."""
    return session.get(InterestRow, interest_id, with_for_update=True)


def _wish_of(row: InterestRow) -> Wish:
    """The wish for what already is."""
    present = row.value()
    return Wish(
        airport=present.airport,
        direction=present.direction,
        window=present.window,
        high=present.high,
        low=present.low,
        for_windows=present.for_windows,
        repeat=present.repeat,
        effective_from=None,
    )


def _change(session: Session, row: InterestRow, wish: Wish, now: datetime) -> None:
    """Make a locked row what is wished, if it is not. Raises InterestError."""
    if not _differs(row, wish):
        return
    check_effective_from(wish, now)
    # What was said stands: a new version is judged from the present on, unless its maker says otherwise.
    row.version += 1
    row.effective_from = wish.effective_from or now
    _write(session, row, wish, now)


def _write(session: Session, row: InterestRow, wish: Wish, now: datetime) -> None:
    row.high, row.low = wish.high, wish.low
    row.for_windows, row.repeat = wish.for_windows, wish.repeat
    row.updated_at = now
    session.flush()
    OUTBOX.add(session, [encode_interest_set(row.value())])


def _remove(session: Session, row: InterestRow) -> None:
    OUTBOX.add(session, [encode_interest_removal(row.value())])
    session.delete(row)


def _differs(row: InterestRow, wish: Wish) -> bool:
    if wish.effective_from is not None and wish.effective_from != row.effective_from:
        return True
    return (row.high, row.low, row.for_windows, row.repeat) != (wish.high, wish.low, wish.for_windows, wish.repeat)


def check_effective_from(wish: Wish, now: datetime) -> None:
    """Raises InterestError for an instant that nobody can want, or that is before all that is collected."""
    oldest = day_of(now - FARTHEST_BACK)
    if wish.effective_from is not None and not oldest <= wish.effective_from <= now + FARTHEST_AHEAD:
        raise InterestError(f"effective_from must be from {oldest:%Y-%m-%d} to a year ahead")


def _owned(row: InterestRow | None, user_id: UUID) -> InterestRow:
    if row is None or row.user_id != user_id:
        raise NoSuchInterestError("You have no interest with this id.")
    return row


def _last_collected_day(session: Session, wish: Wish, now: datetime) -> datetime:
    """The start of the last day that was collected of all that the wish counts; yesterday's where nothing was yet.

    Never older than collection is anyway: an airport that nobody wanted for weeks is not to be paid for day by day.
    """
    parts = [part.value for part in wish.direction.parts]
    query = select(CoverageRow.covered_until).where(
        CoverageRow.airport == wish.airport, CoverageRow.direction.in_(parts)
    )
    covered = session.scalars(query).all()
    if len(covered) < len(parts):
        return day_of(now) - DAY
    return max(day_of(min(covered) - timedelta(seconds=1)), day_of(now) - OLDEST_LAST_DAY)
