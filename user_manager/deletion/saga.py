"""The deletion of an account: a saga over two services that always converges.

The steps and their order are in `steps`. A record in the database says which one comes next, so a deletion survives
whatever stops the process; the background carries it forward. Every step may be done twice, by two replicas at once.

The request that asks for a deletion does the first two steps itself. When the pivot fails it calls the deletion off,
and nothing was touched. When it crashes before it could tell anybody, the deletion goes on: the pivot may have
succeeded, and deleting is what was asked.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog
from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from user_manager import events
from user_manager.access import Access
from user_manager.deletion.steps import BEGINS_AFTER, Step, retry_after
from user_manager.errors import CollectorAwayError, CollectorRefusedError, DeletionUnknownError
from user_manager.idempotency import forget_answers_about
from user_manager.model import OUTBOX, Deletion, User

log = structlog.get_logger()

HELD: Final = timedelta(seconds=15)
"""So long nobody else goes on with a deletion that somebody has taken up. A step that takes longer is done twice."""

CARRY_ON_EVERY_S: Final = 1.0
"""How often the background looks, in real seconds."""

_AT_ONCE: Final = 4
"""Deletions that are taken up together: even with a dead collector their steps take less time than `HELD`."""


class DeletionStatus(StrEnum):
    """How far a deletion is, for the person who asked for it."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


class Interests(Protocol):
    """What deletions need of the service that keeps interests."""

    def delete_interests(self, user_id: UUID) -> None:
        """Idempotent. Raises CollectorAwayError, CollectorRefusedError."""
        ...


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A deletion as somebody has taken it up."""

    deletion_id: UUID
    user_id: UUID
    step: Step
    request: UUID


class Deletions:
    """The use cases, and the background's round. May be called by several threads at once."""

    def __init__(
        self, database: Database, interests: Interests, access: Access, clock: Clock, metrics: Metrics
    ) -> None:
        self._database = database
        self._interests = interests
        self._access = access
        self._clock = clock
        self._pending = metrics.gauge("deletions_pending", "Deletions whose step is not done yet", "step")
        self._failed = metrics.counter("deletion_step_failures_total", "Steps of deletions that failed", "step")

    def delete(self, token: str, email: str) -> UUID | None:
        """Delete the account with this address and everything about it. Safe to repeat.

        Returns None when it is done; the deletion's id when it will be done, but not all of it could be done now.
        Blocks on the collector, but holds no lock meanwhile. Raises TokenUnknownError, NotYoursError,
        AccountUnknownError, CollectorAwayError, CollectorRefusedError: then the account is untouched.
        Raises DatabaseAwayError when even that is not known.
        """
        deletion = self._begin(token, email)
        if deletion.step is Step.DELETE_INTERESTS:
            try:
                self._do(deletion, Step.DELETE_INTERESTS)
            except (CollectorAwayError, CollectorRefusedError):
                goes_on = self._call_off(deletion)
                if goes_on is None:
                    raise
                return goes_on
            except DatabaseUnavailableError:  # the pivot succeeded; that it did could not be recorded
                return deletion.deletion_id
        try:
            self._do(deletion, Step.ERASE)
        except DatabaseUnavailableError:
            return deletion.deletion_id
        return None

    def status(self, deletion_id: UUID) -> DeletionStatus:
        """How far a deletion is. Raises DatabaseAwayError, DeletionUnknownError."""
        with self._database.reading() as session:
            step = session.scalar(select(Deletion.step).where(Deletion.deletion_id == deletion_id))
        if step is None:
            raise DeletionUnknownError("No deletion has this id, or it was completed long ago.")
        waiting = step in (Step.DELETE_INTERESTS, Step.ERASE)
        return DeletionStatus.IN_PROGRESS if waiting else DeletionStatus.COMPLETED

    def carry_on(self) -> int:
        """Do the next step of every deletion whose time has come. Returns how many were taken up.

        A step that fails is tried again later, each time after a longer pause. Raises DatabaseAwayError.
        """
        taken_up = 0
        while True:
            taken = self._take_up()
            for deletion in taken:
                try:
                    self._do(deletion, deletion.step)
                except (CollectorAwayError, CollectorRefusedError, DatabaseUnavailableError) as error:
                    self._put_off(deletion, error)
            taken_up += len(taken)
            if len(taken) < _AT_ONCE:
                return taken_up

    def count_pending(self) -> None:
        """Set the gauge of deletions under way from the database. Raises DatabaseAwayError."""
        with self._database.reading() as session:
            counts = dict(session.execute(select(Deletion.step, func.count()).group_by(Deletion.step)).all())
        for step in Step:
            self._pending.labels(step=step).set(counts.get(step, 0))

    def _do(self, deletion: _UnderWay, step: Step) -> None:
        {
            Step.DELETE_INTERESTS: self._delete_interests,
            Step.ERASE: self._erase,
            Step.DELETE_LATE_INTERESTS: self._delete_late_interests,
            Step.FORGET: self._forget,
        }[step](deletion)

    def _delete_interests(self, deletion: _UnderWay) -> None:
        self._interests.delete_interests(deletion.user_id)
        try:
            with self._database.transaction() as session:
                if not self._advance(session, deletion, Step.DELETE_INTERESTS):
                    self._record_again(session, deletion)
        except IntegrityError:  # a new request recorded it in the same instant: it is there now
            with self._database.transaction() as session:
                self._advance(session, deletion, Step.DELETE_INTERESTS)

    def _erase(self, deletion: _UnderWay) -> None:
        with self._database.transaction() as session:
            gone = session.connection().execute(delete(User).where(User.user_id == deletion.user_id))
            if gone.rowcount == 1:  # else another replica was faster, and has announced it
                forget_answers_about(session, deletion.user_id)
                OUTBOX.add(session, [events.deleted(deletion.user_id)])
            self._advance(session, deletion, Step.ERASE)
        if gone.rowcount == 1:
            log.info("account.deleted", user_id=str(deletion.user_id))

    def _delete_late_interests(self, deletion: _UnderWay) -> None:
        self._interests.delete_interests(deletion.user_id)
        with self._database.transaction() as session:
            self._advance(session, deletion, Step.DELETE_LATE_INTERESTS)

    def _forget(self, deletion: _UnderWay) -> None:
        with self._database.transaction() as session:
            session.execute(delete(Deletion).where(Deletion.deletion_id == deletion.deletion_id))

    def _begin(self, token: str, email: str) -> _UnderWay:
        """Record that the deletion is wanted, before anything is done. Raises as `delete` does."""
        try:
            return self._recorded(token, email)
        except IntegrityError:
            return self._recorded(token, email)  # another request recorded it in the same instant: it is there now

    def _recorded(self, token: str, email: str) -> _UnderWay:
        now = self._clock.now()
        request = uuid4()
        with self._database.transaction() as session:
            user_id = self._access.account(session, token, email, leaving=True).user_id
            deletion = session.scalar(select(Deletion).where(Deletion.user_id == user_id).with_for_update())
            if deletion is None:
                deletion = Deletion(
                    deletion_id=uuid4(),
                    user_id=user_id,
                    step=Step.DELETE_INTERESTS,
                    requested_at=now,
                )
                session.add(deletion)
            deletion.request = request
            deletion.attempts = 0
            deletion.next_attempt_at = now + HELD
            session.flush()
            return _under_way(deletion)

    def _call_off(self, deletion: _UnderWay) -> UUID | None:
        """Forget a deletion whose pivot failed. Returns None, or the id of a deletion that completes all the same.

        A later request for the same decides for itself: it may be at the pivot now, or past it. When the database does
        not answer (DatabaseAwayError) nothing can be promised: a record that stays is carried forward.
        """
        mine = (
            Deletion.deletion_id == deletion.deletion_id,
            Deletion.step == Step.DELETE_INTERESTS,
            Deletion.request == deletion.request,
        )
        with self._database.transaction() as session:
            session.execute(delete(Deletion).where(*mine))
            return session.scalar(
                select(Deletion.deletion_id).where(
                    Deletion.user_id == deletion.user_id, Deletion.step != Step.DELETE_INTERESTS
                )
            )

    def _advance(self, session: Session, deletion: _UnderWay, done: Step) -> bool:
        """Record that a step is done. False when there is no record (any more) that waits for it."""
        following = done.next
        assert following is not None, "the last step deletes the record"  # noqa: S101 - a bug of ours, not a state
        moved = session.connection().execute(
            update(Deletion)
            .where(Deletion.user_id == deletion.user_id, Deletion.step == done)
            .values(step=following, attempts=0, next_attempt_at=self._due(following))
        )
        return moved.rowcount == 1

    def _record_again(self, session: Session, deletion: _UnderWay) -> None:
        """The pivot has succeeded, so the deletion must complete, whoever called it off or has gone on with it."""
        known = session.scalar(select(Deletion.step).where(Deletion.user_id == deletion.user_id))
        if known is None and session.get(User, deletion.user_id) is not None:
            session.add(
                Deletion(
                    deletion_id=deletion.deletion_id,
                    user_id=deletion.user_id,
                    step=Step.ERASE,
                    request=deletion.request,
                    attempts=0,
                    next_attempt_at=self._due(Step.ERASE),
                    requested_at=self._clock.now(),
                )
            )

    def _due(self, step: Step) -> datetime:
        # A request goes on with the next step at once; the background comes later, and only when that did not succeed.
        return self._clock.now() + max(BEGINS_AFTER[step], retry_after(1))

    def _take_up(self) -> list[_UnderWay]:
        now = self._clock.now()
        with self._database.transaction() as session:
            due = session.scalars(
                select(Deletion)
                .where(Deletion.next_attempt_at <= now)
                .order_by(Deletion.next_attempt_at)
                .limit(_AT_ONCE)
                .with_for_update(skip_locked=True)
            ).all()
            for deletion in due:
                deletion.next_attempt_at = now + HELD
            return [_under_way(deletion) for deletion in due]

    def _put_off(self, deletion: _UnderWay, error: Exception) -> None:
        self._failed.labels(step=deletion.step).inc()
        with self._database.transaction() as session:
            attempts = 1 + (
                session.scalar(select(Deletion.attempts).where(Deletion.deletion_id == deletion.deletion_id)) or 0
            )
            session.execute(
                update(Deletion)
                .where(Deletion.deletion_id == deletion.deletion_id, Deletion.step == deletion.step)
                .values(attempts=attempts, next_attempt_at=self._clock.now() + retry_after(attempts))
            )
        log.warning(
            "deletion.step_failed",
            deletion_id=str(deletion.deletion_id), step=deletion.step, attempts=attempts, error=type(error).__name__,
        )  # fmt: skip


def _under_way(deletion: Deletion) -> _UnderWay:
    return _UnderWay(deletion.deletion_id, deletion.user_id, Step(deletion.step), deletion.request)
