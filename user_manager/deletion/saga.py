"""The deletion of an account: a saga over two services that always converges.

The steps and their order are in `steps`. A record in the database holds the next step, so a deletion survives any stop
of the process: a background task resumes it. Every step may be executed twice, by two replicas at once.

The request that starts a deletion executes the first two steps itself. If the pivot fails, the request cancels the
deletion, and nothing was changed. If the process crashes before it could respond, the deletion continues: the pivot may
have succeeded, and deleting is what the user requested.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol, assert_never
from uuid import UUID, uuid4

import structlog
from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock, SteadyClock
from chassis.credentials import Credential
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from user_manager.access import AccountAuthorizer
from user_manager.deletion.erasure import erase_account
from user_manager.deletion.steps import STEP_DELAYS, DeletionStep, compute_longest_wait, compute_retry_delay
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError, DeletionUnknownError
from user_manager.model import Deletion, User

log = structlog.get_logger()

LEASE_DURATION: Final = timedelta(seconds=15)
"""Time for which a deletion belongs to the replica that leased it. A step that takes longer may be executed twice."""

RESUME_INTERVAL_S: Final = 1.0
"""Seconds between two runs of `resume_due_deletions`, in real time."""

_BATCH_SIZE: Final = 4
"""Deletions leased together: even with an unavailable collector their steps take less time than `LEASE_DURATION`."""


class DeletionStatus(StrEnum):
    """The progress of a deletion, as shown to the person who requested it."""

    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class DeletionProgress:
    """The progress of a deletion, which follows from the step that comes next."""

    next_step: DeletionStep

    @property
    def are_interests_deleted(self) -> bool:
        """Return True if the interests are deleted, after which there is no way back; False if not yet."""
        return self.next_step is not DeletionStep.DELETE_INTERESTS

    @property
    def is_account_deleted(self) -> bool:
        """Return True if the account and all personal data are deleted; False if not. Later steps concern nobody."""
        return self.next_step not in (DeletionStep.DELETE_INTERESTS, DeletionStep.ERASE_ACCOUNT)

    @property
    def status(self) -> DeletionStatus:
        """Return the progress in one word."""
        return DeletionStatus.COMPLETED if self.is_account_deleted else DeletionStatus.IN_PROGRESS


class InterestDeleter(Protocol):
    """The part of the collector's interface that deletions need."""

    def delete_interests(self, user_id: UUID) -> None:
        """Delete all interests of this user. Idempotent. Raises CollectorUnavailableError, CollectorRefusedError."""
        ...


@dataclass(frozen=True, slots=True)
class _LeasedDeletion:
    """A copy of a deletion's record, taken when this replica leased the deletion."""

    deletion_id: UUID
    user_id: UUID
    step: DeletionStep
    """The next step at that time."""
    request: UUID
    """Id of the last request for this deletion at that time."""
    is_new: bool = False
    """True if the lease's own request inserted the record; only then may a failed pivot cancel the deletion."""

    @classmethod
    def from_record(cls, record: Deletion, *, is_new: bool = False) -> "_LeasedDeletion":
        """Copy a record of the database."""
        return cls(record.deletion_id, record.user_id, DeletionStep(record.step), record.request, is_new)


class Deletions:
    """The executor of the deletion saga: a request starts a deletion, the background task resumes and completes it.

    Safe for several threads, and on several replicas at once. A session raises SessionUnknownError where a token raises
    TokenUnknownError.
    """

    def __init__(
        self,
        database: Database,
        interests: InterestDeleter,
        authorizer: AccountAuthorizer,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._interests = interests
        self._authorizer = authorizer
        self._clock = SteadyClock(clock)  # attempts go on while the wall clock stands or is set back
        self._pending = metrics.gauge("deletions_pending", "Deletions whose step is not done yet", "step")
        self._failed = metrics.counter("deletion_step_failures_total", "Steps of deletions that failed", "step")

    def delete(self, credential: Credential, email: str) -> UUID | None:
        """Delete the account with this address and all data about its owner: execute the first two steps. Idempotent.

        Records the deletion first, so that it survives a stop of the process. Returns None if the deletion is complete
        for the user; the deletion's id if the background task will complete it. That is so, too, if the collector fails
        and an earlier request had recorded the deletion: its success may have been promised. Blocks on the collector,
        but holds no database lock meanwhile. Raises TokenUnknownError, NotYoursError, AccountUnknownError,
        CollectorUnavailableError, CollectorRefusedError: then the account is unchanged. Raises DatabaseUnavailableError
        if it is unknown whether the deletion was recorded or cancelled: the background task may then still complete it.
        """
        deletion = self._begin(credential, email)
        if deletion.step is DeletionStep.DELETE_INTERESTS:
            try:
                self._execute_step(deletion, DeletionStep.DELETE_INTERESTS)
            except (CollectorUnavailableError, CollectorRefusedError):
                if not deletion.is_new:  # an earlier request's pivot may have succeeded, and its success been promised
                    return deletion.deletion_id
                continuing_id = self._cancel(deletion)
                if continuing_id is None:
                    raise
                return continuing_id
            except DatabaseUnavailableError:  # the pivot succeeded, but its success could not be recorded
                return deletion.deletion_id
        try:
            self._execute_step(deletion, DeletionStep.ERASE_ACCOUNT)
        except DatabaseUnavailableError:
            return deletion.deletion_id
        return None

    def load_progress(self, deletion_id: UUID) -> DeletionProgress:
        """Return how far a deletion is. Raises DatabaseUnavailableError, DeletionUnknownError."""
        with self._database.reading() as session:
            step = session.scalar(select(Deletion.step).where(Deletion.deletion_id == deletion_id))
        if step is None:
            raise DeletionUnknownError("No deletion has this id, or it was completed long ago.")
        return DeletionProgress(DeletionStep(step))

    def resume_due_deletions(self) -> int:
        """Execute the next step of every deletion that is due, in leased batches; return the number of deletions.

        A failed step is counted, logged and retried later, with exponential backoff. Raises DatabaseUnavailableError.
        """
        leased = 0
        while True:
            batch = self._lease_due_deletions()
            for deletion in batch:
                try:
                    self._execute_step(deletion, deletion.step)
                except (CollectorUnavailableError, CollectorRefusedError, DatabaseUnavailableError) as error:
                    self._schedule_retry(deletion, error)
            leased += len(batch)
            if len(batch) < _BATCH_SIZE:
                return leased

    def update_pending_gauge(self) -> None:
        """Set the gauge of deletions, for each step the number that wait for it (0 if none), from the database.

        Raises DatabaseUnavailableError.
        """
        with self._database.reading() as session:
            counts = dict(session.execute(select(Deletion.step, func.count()).group_by(Deletion.step)).all())
        for step in DeletionStep:
            self._pending.labels(step=step).set(counts.get(step, 0))

    def _execute_step(self, deletion: _LeasedDeletion, step: DeletionStep) -> None:
        """Execute one step and record its success, so that the next step follows; the last step deletes the record.

        Raises CollectorUnavailableError, CollectorRefusedError and DatabaseUnavailableError.
        """
        match step:
            case DeletionStep.DELETE_INTERESTS:
                self._delete_interests(deletion)
            case DeletionStep.ERASE_ACCOUNT:
                self._erase_account(deletion)
            case DeletionStep.DELETE_LATE_INTERESTS:
                self._delete_late_interests(deletion)
            case DeletionStep.DELETE_RECORD:
                self._delete_record(deletion)
            case _:
                assert_never(step)

    def _delete_interests(self, deletion: _LeasedDeletion) -> None:
        """Execute the pivot: delete the user's interests at the collector, and record that it succeeded.

        If another request has cancelled the deletion meanwhile, its record is inserted again. Raises
        CollectorUnavailableError and CollectorRefusedError: then nothing is recorded.
        """
        self._interests.delete_interests(deletion.user_id)
        try:
            with self._database.transaction() as session:
                if not self._advance_record(session, deletion, DeletionStep.DELETE_INTERESTS):
                    self._restore_cancelled_record(session, deletion)
        except IntegrityError:  # a new request inserted the record at the same instant: now it exists
            with self._database.transaction() as session:
                self._advance_record(session, deletion, DeletionStep.DELETE_INTERESTS)

    def _erase_account(self, deletion: _LeasedDeletion) -> None:
        """Delete the account and its stored answers, publish the event of the deletion, and advance the record.

        All in one transaction. If the account is gone already, only the record is advanced.
        """
        with self._database.transaction() as session:
            erased = erase_account(session, deletion.user_id)  # False: another replica was faster
            self._advance_record(session, deletion, DeletionStep.ERASE_ACCOUNT)
        if erased:
            log.info("account.deleted", user_id=str(deletion.user_id))

    def _delete_late_interests(self, deletion: _LeasedDeletion) -> None:
        """Delete the interests that were set while the collector still accepted the token of the erased account.

        Then advance the record.
        """
        self._interests.delete_interests(deletion.user_id)
        with self._database.transaction() as session:
            self._advance_record(session, deletion, DeletionStep.DELETE_LATE_INTERESTS)

    def _delete_record(self, deletion: _LeasedDeletion) -> None:
        with self._database.transaction() as session:
            session.execute(delete(Deletion).where(Deletion.deletion_id == deletion.deletion_id))

    def _begin(self, credential: Credential, email: str) -> _LeasedDeletion:
        """Record the request for a deletion before any step is executed, and lease the deletion.

        Tries twice, because a concurrent request may insert the record. Raises TokenUnknownError, NotYoursError,
        AccountUnknownError and DatabaseUnavailableError.
        """
        try:
            return self._record_request(credential, email)
        except IntegrityError:  # another request inserted the record at the same instant: now it exists
            return self._record_request(credential, email)

    def _record_request(self, credential: Credential, email: str) -> _LeasedDeletion:
        """Insert the deletion's record, or take over an existing one (reset its attempts), and lease the deletion.

        The record's `request` becomes this request's id, so an older request cannot cancel the deletion. Raises the
        errors of `delete`, and IntegrityError if another request inserts the record at the same instant.
        """
        now = self._clock.now()
        request = uuid4()
        with self._database.transaction() as session:
            user_id = self._authorizer.load_account(session, credential, email, include_deleting=True).user_id
            record = session.scalar(select(Deletion).where(Deletion.user_id == user_id).with_for_update())
            is_new = record is None
            if record is None:
                record = Deletion(
                    deletion_id=uuid4(),
                    user_id=user_id,
                    step=DeletionStep.DELETE_INTERESTS,
                    requested_at=now,
                )
                session.add(record)
            record.request = request
            record.attempts = 0
            record.next_attempt_at = now + LEASE_DURATION
            session.flush()
            return _LeasedDeletion.from_record(record, is_new=is_new)

    def _cancel(self, deletion: _LeasedDeletion) -> UUID | None:
        """Delete the record of a deletion whose pivot failed, unless a later request has taken the record over.

        Returns None if the account remains; the deletion's id if the pivot of another request succeeded, so that the
        deletion completes nevertheless. Raises DatabaseUnavailableError: then the outcome is open, because the
        background task resumes a record that remains.
        """
        is_own_request = (
            Deletion.deletion_id == deletion.deletion_id,
            Deletion.step == DeletionStep.DELETE_INTERESTS,
            Deletion.request == deletion.request,
        )
        with self._database.transaction() as session:
            session.execute(delete(Deletion).where(*is_own_request))
            return session.scalar(
                select(Deletion.deletion_id).where(
                    Deletion.user_id == deletion.user_id, Deletion.step != DeletionStep.DELETE_INTERESTS
                )
            )

    def _advance_record(self, session: Session, deletion: _LeasedDeletion, done: DeletionStep) -> bool:
        """Replace the completed step `done` in the user's record by the step after it, with no attempts and a due time.

        Returns True if the record was changed, False if no record of this user has `done` as its next step.
        """
        following = done.next
        assert following is not None, "the last step deletes the record"  # noqa: S101 - a bug of ours, not a state
        moved = session.connection().execute(
            update(Deletion)
            .where(Deletion.user_id == deletion.user_id, Deletion.step == done)
            .values(step=following, attempts=0, next_attempt_at=self._compute_due_time(following))
        )
        return moved.rowcount == 1

    def _restore_cancelled_record(self, session: Session, deletion: _LeasedDeletion) -> None:
        """Insert the record again if another request cancelled the deletion while this one's pivot succeeded.

        The deletion must complete, because the interests are deleted. Does nothing if a record of the user exists or
        the account was erased meanwhile.
        """
        recorded_step = session.scalar(select(Deletion.step).where(Deletion.user_id == deletion.user_id))
        if recorded_step is None and session.get(User, deletion.user_id) is not None:
            session.add(
                Deletion(
                    deletion_id=deletion.deletion_id,
                    user_id=deletion.user_id,
                    step=DeletionStep.ERASE_ACCOUNT,
                    request=deletion.request,
                    attempts=0,
                    next_attempt_at=self._compute_due_time(DeletionStep.ERASE_ACCOUNT),
                    requested_at=self._clock.now(),
                )
            )

    def _compute_due_time(self, step: DeletionStep) -> datetime:
        """Compute the time at which the background task executes `step`, if no request has executed it before."""
        # A request executes the next step at once, so the background task waits at least the first retry delay.
        return self._clock.now() + max(STEP_DELAYS[step], compute_retry_delay(1))

    def _lease_due_deletions(self) -> list[_LeasedDeletion]:
        """Lease up to `_BATCH_SIZE` due deletions, longest due first: no other replica resumes them during the lease.

        Rows that another replica has locked are skipped. A deletion is also due if its time lies farther ahead than its
        step can have set it: the clock was set back since, and nobody should wait for it.
        """
        now = self._clock.now()
        is_too_far_ahead = (
            and_(Deletion.step == step, Deletion.next_attempt_at > now + compute_longest_wait(step))
            for step in DeletionStep
        )
        with self._database.transaction() as session:
            due = session.scalars(
                select(Deletion)
                .where(or_(Deletion.next_attempt_at <= now, *is_too_far_ahead))
                .order_by(Deletion.next_attempt_at)
                .limit(_BATCH_SIZE)
                .with_for_update(skip_locked=True)
            ).all()
            for record in due:
                record.next_attempt_at = now + LEASE_DURATION
            return [_LeasedDeletion.from_record(record) for record in due]

    def _schedule_retry(self, deletion: _LeasedDeletion, error: Exception) -> None:
        """Count and log the failure of the deletion's step, and set the time of the next attempt by the backoff.

        The record is unchanged if it has passed the step meanwhile. Raises DatabaseUnavailableError.
        """
        self._failed.labels(step=deletion.step).inc()
        with self._database.transaction() as session:
            attempts = 1 + (
                session.scalar(select(Deletion.attempts).where(Deletion.deletion_id == deletion.deletion_id)) or 0
            )
            session.execute(
                update(Deletion)
                .where(Deletion.deletion_id == deletion.deletion_id, Deletion.step == deletion.step)
                .values(attempts=attempts, next_attempt_at=self._clock.now() + compute_retry_delay(attempts))
            )
        log.warning(
            "deletion.step_failed",
            deletion_id=str(deletion.deletion_id), step=deletion.step, attempts=attempts, error=type(error).__name__,
        )  # fmt: skip
