"""The use cases on interests: set, change, list, read, remove. Each change commits together with its outbox events."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import ContendedError
from collector.airport_checks import require_airport
from collector.errors import CallerGoneError, NoSuchInterestError, VersionMismatchError
from collector.interest_begins import check_effective_from, find_last_collected_day
from collector.interest_requests import InterestRequest, InterestUpdate, replace_measures
from collector.interest_versions import FormerVersion, delete_versions_of_user, keep_version, load_versions_of_user
from collector.messages import encode_collection_request, encode_interest_removal, encode_interest_set
from collector.model import OUTBOX, InterestRow
from collector.people import delete_person, join_queue
from collector.unheard import delete_notice_marks, explain_unheard, find_unheard_since, notify_unheard
from collector.write_limits import DEFAULT_LIMITS, PastWindowsLimit, PersonLimits, require_room
from domain.airports import explain_retired_code, is_icao
from domain.interests import Interest, check_low

log = structlog.get_logger()

T = TypeVar("T")

_MAX_ATTEMPTS: Final = 10
_RETRY_FOR_S: Final = 5.0
"""Seconds after the first attempt in which a transaction that lost to another is attempted again."""


class InterestStore:
    """The stored interests of all users; every change also adds its event to the outbox, in the same transaction.

    Every method may raise DatabaseUnavailableError, and may be called by several threads at once.

    On MySQL two transactions on the same rows must take their locks in the same order: a row is found without a lock,
    then locked by its primary key, and several rows are locked in the order of their keys. A transaction that still
    loses to another (both insert the same interest, for example) is attempted again.
    """

    def __init__(self, database: Database, clock: Clock, limits: PersonLimits = DEFAULT_LIMITS) -> None:
        self._database = database
        self._clock = clock
        self._limits = limits
        self._past_windows = PastWindowsLimit(limits)

    def set(self, user_id: UUID, request: InterestRequest) -> tuple[Interest, bool]:
        """Create an interest, or change the user's interest in the same airport, direction, window and clock.

        Returns the interest, and True if it was created, False if it existed. A request that equals the stored interest
        changes nothing. The interest's event is added to the outbox in every case (a stream that has this version
        ignores it, one that lost it does not), and for a new interest also a request to collect its airport at once. An
        interest whose airport's code was retired since can be changed, but not created. Raises NoSuchAirportError,
        InterestError, ContendedError, and a LimitError above a limit by person.
        """
        if not is_icao(request.airport):
            require_airport(request.airport)
        request.check()
        check_low(request.low)
        return _retry_if_contended(lambda: self._set_in_transaction(user_id, request))

    def _set_in_transaction(self, user_id: UUID, request: InterestRequest) -> tuple[Interest, bool]:
        """Create the interest as version 1, or store a request that differs as its next version, in one transaction.

        A new interest also requests a collection of its airport, and notifies the user if it is unheard. Adds the
        events to the outbox that `set` describes, and returns what `set` returns. Raises InterestError, an error of a
        limit, and IntegrityError if another transaction has just inserted the same interest.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            interest_id = session.scalar(_build_interest_id_query(user_id, request))
            row = None if interest_id is None else _load_and_lock_row(session, interest_id)
            if row is not None:
                if _store_next_version(session, row, request, now):
                    self._past_windows.pay(session, row, now)
                return row.value(), False
            require_airport(request.airport)
            check_effective_from(request, now)
            join_queue(session, user_id)
            require_room(session, user_id, request.airport, self._limits)
            row = InterestRow(
                interest_id=uuid4(),
                user_id=user_id,
                airport=request.airport,
                direction=request.direction.value,
                window_length=request.window.value,
                aligned_to=request.aligned_to.value,
                effective_from=request.effective_from or find_last_collected_day(session, request, now),
                version=1,
                created_at=now,
            )
            session.add(row)
            _write_row_and_add_event(session, row, request, now)
            self._past_windows.pay(session, row, now)
            # Its airport may never have been collected, and the first mail shall come at once.
            OUTBOX.add(session, [encode_collection_request(request.airport)])
            notify_unheard(session, request.airport, now)
            return row.value(), True

    def change(self, user_id: UUID, interest_id: UUID, version: int | None, update: InterestUpdate) -> Interest:
        """Change some fields of an interest if it still has this version (None: any version), and return it.

        The result is the next version, whose event is added to the outbox; without a new `effective_from` it is judged
        from the present on. A threshold of one measure (flights, percent) replaces that of the other. An update that
        equals what is stored changes nothing, and the event of what is stored is added once more. Raises
        NoSuchInterestError, VersionMismatchError, InterestError, ContendedError, TooManyPastWindowsError.
        """
        return _retry_if_contended(lambda: self._change_in_transaction(user_id, interest_id, version, update))

    def _change_in_transaction(
        self, user_id: UUID, interest_id: UUID, version: int | None, update: InterestUpdate
    ) -> Interest:
        """Lock, check and change the interest in one transaction, with its event, and return what is stored then.

        Raises NoSuchInterestError if the user has no such interest, VersionMismatchError if its version is another than
        `version`, InterestError if the changed thresholds or `effective_from` are invalid, TooManyPastWindowsError.
        """
        with self._database.transaction() as session:
            row = _require_owner(_load_and_lock_row(session, interest_id), user_id)
            if version is not None and row.version != version:
                raise VersionMismatchError("The interest has changed since; read it again.")
            request = replace(_build_equal_request(row), **replace_measures(update))
            request.check()
            check_low(update.get("low"))  # one that stays may be of a time when 0 was accepted
            now = self._clock.now()
            if _store_next_version(session, row, request, now):
                self._past_windows.pay(session, row, now)
            return row.value()

    def find_notice(self, airport: str) -> str | None:
        """Return what a person with an interest in an airport should know, in sentences; None if there is nothing.

        The airport's code was retired, or the airport is unheard. Raises DatabaseUnavailableError.
        """
        if (retired := explain_retired_code(airport)) is not None:
            return retired
        with self._database.reading() as session:
            since = find_unheard_since(session, airport, self._clock.now())
        return None if since is None else explain_unheard(airport, since)

    def list_of_user(self, user_id: UUID) -> list[Interest]:
        """Return all interests of a user, oldest (by creation) first; an empty list if there are none."""
        query = (
            select(InterestRow)
            .where(InterestRow.user_id == user_id)
            .order_by(InterestRow.created_at, InterestRow.interest_id)
        )
        with self._database.reading() as session:
            return [row.value() for row in session.scalars(query)]

    def get(self, user_id: UUID, interest_id: UUID) -> Interest:
        """Return one interest of a user. Raises NoSuchInterestError, also for another user's interest."""
        with self._database.reading() as session:
            return _require_owner(session.get(InterestRow, interest_id), user_id).value()

    def list_former_versions(self, user_id: UUID) -> list[FormerVersion]:
        """Return the former versions that are kept of a user's interests, also of removed ones, the oldest first."""
        with self._database.reading() as session:
            return load_versions_of_user(session, user_id)

    def remove(
        self, user_id: UUID, interest_id: UUID, is_caller_waiting: Callable[[], bool] = lambda: True
    ) -> Interest:
        """Delete one interest of a user, add its tombstone to the outbox, and return it as it was.

        Raises NoSuchInterestError, also for another user's interest, ContendedError, and, with nothing deleted,
        CallerGoneError if the caller has stopped waiting before the commit.
        """

        def work() -> Interest:
            """Delete the interest in one transaction, and return it as it was."""
            with self._database.transaction() as session:
                row = _require_owner(_load_and_lock_row(session, interest_id), user_id)
                keep_version(session, row, self._clock.now())
                interest = row.value()
                _delete_row_and_add_tombstone(session, row)
                _require_waiting_caller(session, is_caller_waiting)
            return interest

        return _retry_if_contended(work)

    def remove_of_airport(self, user_id: UUID, icao: str) -> int:
        """Delete a user's interests in one airport, in one transaction, and return how many were deleted.

        Adds a tombstone for each to the outbox. Idempotent: 0 is no error. Raises ContendedError, and
        NoSuchAirportError if the user has no interest there and no airport has the code.
        """
        if not is_icao(icao):
            require_airport(icao)
        removed = _retry_if_contended(
            lambda: self._remove_matching(InterestRow.user_id == user_id, InterestRow.airport == icao)
        )
        if not removed:
            require_airport(icao)
        return removed

    def remove_all(self, user_id: UUID, is_caller_waiting: Callable[[], bool] = lambda: True) -> int:
        """Delete all interests of a user, in one transaction, and return how many were deleted. Idempotent.

        Adds a tombstone for each to the outbox, and deletes the marks that the user was notified. Deletes nothing if
        the caller has stopped waiting before the commit, for the caller takes the request for failed: raises
        CallerGoneError then. Raises ContendedError.
        """
        return _retry_if_contended(
            lambda: self._remove_matching(
                InterestRow.user_id == user_id, deleted_user=user_id, is_caller_waiting=is_caller_waiting
            )
        )

    def _remove_matching(
        self,
        *conditions: ColumnElement[bool],
        deleted_user: UUID | None = None,
        is_caller_waiting: Callable[[], bool] = lambda: True,
    ) -> int:
        """Delete the interests that match all conditions, in one transaction, and return how many were deleted.

        Locks them in the order of their ids, adds a tombstone for each to the outbox, and keeps what they were as
        former versions. `deleted_user`: keep nothing of this user, but also delete the user's row of `people`, former
        versions, and marks of being notified of unheard airports and retired codes. An interest that another
        transaction removes first is not counted. Raises CallerGoneError, and deletes nothing, if the caller has stopped
        waiting before the commit.
        """
        with self._database.transaction() as session:
            ids = session.scalars(select(InterestRow.interest_id).where(*conditions)).all()
            rows = [row for each in sorted(ids) if (row := _load_and_lock_row(session, each)) is not None]
            for row in rows:
                if deleted_user is None:
                    keep_version(session, row, self._clock.now())
                _delete_row_and_add_tombstone(session, row)
            if deleted_user is not None:
                delete_versions_of_user(session, deleted_user)
                delete_notice_marks(session, user_id=deleted_user)
                delete_person(session, deleted_user)
            _require_waiting_caller(session, is_caller_waiting)
        return len(rows)


def _retry_if_contended(work: Callable[[], T]) -> T:
    """Run a transaction, again at once whenever it lost to another one and was rolled back, and return its result.

    Raises ContendedError after `_MAX_ATTEMPTS` lost attempts, or after the first attempt that is lost more than
    `_RETRY_FOR_S` after the begin. Any other error of `work` is raised at its first occurrence.
    """
    deadline = time.monotonic() + _RETRY_FOR_S
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        try:
            return work()
        except IntegrityError:  # another has just inserted the same interest: the next attempt changes it
            log.info("interests.same_inserted", attempt=attempt)
        except ContendedError:
            log.info("interests.contended", attempt=attempt)
        if time.monotonic() > deadline:
            break
    raise ContendedError("Another request is changing the same; try again shortly.")


def _build_interest_id_query(user_id: UUID, request: InterestRequest) -> Select[UUID]:
    """Build the query for the id of the user's interest in the request's airport, direction, window and clock."""
    return select(InterestRow.interest_id).where(
        InterestRow.user_id == user_id,
        InterestRow.airport == request.airport,
        InterestRow.direction == request.direction.value,
        InterestRow.window_length == request.window.value,
        InterestRow.aligned_to == request.aligned_to.value,
    )


def _load_and_lock_row(session: Session, interest_id: UUID) -> InterestRow | None:
    """Load the interest's row, and lock it until the transaction ends; None if no such row exists."""
    return session.get(InterestRow, interest_id, with_for_update=True)


def _build_equal_request(row: InterestRow) -> InterestRequest:
    """Build the request that equals a stored interest, for `change` to replace some of its fields.

    Its `effective_from` is None, not the stored one: the next version is judged from the present on.
    """
    present = row.value()
    return InterestRequest(
        airport=present.airport,
        direction=present.direction,
        window=present.window,
        high=present.high,
        low=present.low,
        for_windows=present.for_windows,
        repeat=present.repeat,
        effective_from=None,
        high_percent=present.high_percent,
        low_percent=present.low_percent,
        aligned_to=present.aligned_to,
    )


def _store_next_version(session: Session, row: InterestRow, request: InterestRequest, now: datetime) -> bool:
    """Store a request in a locked row as its next version, and add the interest's event to the outbox.

    If the row equals the request, it stays as it is and its event is added once more: the log may have lost it. Returns
    False then: a stream that has this version judges nothing. The new version is effective from the request's
    `effective_from`, or from `now` if that is None. Raises InterestError if the request's `effective_from` is out of
    range.
    """
    if not _would_change(row, request):
        OUTBOX.add(session, [encode_interest_set(row.value())])
        return False
    check_effective_from(request, now)
    keep_version(session, row, now)
    # Alerts that were raised stand: a new version is judged from the present on, unless the request names an instant.
    row.version += 1
    row.effective_from = request.effective_from or now
    _write_row_and_add_event(session, row, request, now)
    return True


def _write_row_and_add_event(session: Session, row: InterestRow, request: InterestRequest, now: datetime) -> None:
    """Set a row's thresholds, options and `updated_at`, flush the session, and add the interest's event to the outbox.

    The row is in the session already, new or locked, with its version and `effective_from` set by the caller. Raises
    IntegrityError if the row is new and another transaction has inserted the same interest.
    """
    row.high, row.low = request.high, request.low
    row.high_percent, row.low_percent = request.high_percent, request.low_percent
    row.for_windows, row.repeat = request.for_windows, request.repeat
    row.updated_at = now
    session.flush()
    OUTBOX.add(session, [encode_interest_set(row.value())])


def _delete_row_and_add_tombstone(session: Session, row: InterestRow) -> None:
    """Delete a locked row in the caller's transaction, and add the interest's tombstone to the outbox."""
    OUTBOX.add(session, [encode_interest_removal(row.value())])
    session.delete(row)


def _require_waiting_caller(session: Session, is_caller_waiting: Callable[[], bool]) -> None:
    """Flush the session, which may take long, then raise CallerGoneError if the caller has stopped waiting."""
    session.flush()
    if not is_caller_waiting():
        raise CallerGoneError("The deadline has passed; nothing was removed.")


def _would_change(row: InterestRow, request: InterestRequest) -> bool:
    """Return True if the request would change the row, False if the row already equals it.

    Compares thresholds and options, and `effective_from` unless the request leaves it out (None).
    """
    if request.effective_from is not None and request.effective_from != row.effective_from:
        return True
    return (row.high, row.low, row.high_percent, row.low_percent, row.for_windows, row.repeat) != (
        request.high,
        request.low,
        request.high_percent,
        request.low_percent,
        request.for_windows,
        request.repeat,
    )


def _require_owner(row: InterestRow | None, user_id: UUID) -> InterestRow:
    """Return the row unchanged. Raises NoSuchInterestError if it is None or belongs to another user."""
    if row is None or row.user_id != user_id:
        raise NoSuchInterestError("You have no interest with this id.")
    return row
