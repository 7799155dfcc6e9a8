"""The delivery of mails that are one event each (a notice, a confirmation): sent once, none waits for another's retry.

The steps of each mail: drop a mail that was sent before or that its user must not get; send the mail; write that it was
sent; acknowledge the event. A mail that fails for now becomes a record of the retry topic. A crash between the server's
"250" and the record repeats the mail, with the same Message-ID.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from dataclasses import replace
from datetime import datetime, timedelta
from email.message import EmailMessage
from typing import ClassVar, Generic, TypeVar
from weakref import WeakValueDictionary

import structlog
from faust.types import EventT

from chassis.clock import SteadyClock
from notifier.delivery.bounces import report_bounce_once, resolve_bounce
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, PendingEvent, SmtpClientLike
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import (
    MAX_PAUSE,
    compute_lifetime_start,
    compute_max_attempts,
    compute_next_attempt_time,
)
from notifier.delivery.store import DeliveryStatus, DeliveryStore
from notifier.delivery.tasks import DeliveryTasks
from notifier.errors import FailureReason, HardBounce, LostAfterData, NotSent
from notifier.mail import Contact
from notifier.messages import ScheduledConfirmation, ScheduledNotice
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

M = TypeVar("M", ScheduledNotice, ScheduledConfirmation)


class SingleMailDelivery(ABC, Generic[M]):
    """The use case that sends mails of one event each: each event is a task, which also acknowledges the event.

    A subclass says what such a mail is: who gets it, what it says, under which key its status is stored.
    """

    kind: ClassVar[str]
    """The metric label of such mails."""
    capacity: ClassVar[int]
    """The maximal number of mails in memory, of about a kilobyte each; further events wait in the broker."""
    concurrent_attempts: ClassVar[int]
    """The maximal number of mails that are attempted at a time."""

    def __init__(
        self,
        store: DeliveryStore,
        contacts: ContactsLike,
        smtp: SmtpClientLike,
        topics: EventTopics,
        policy: MailPolicy,
        in_flight: InFlightLimit,
        clock: SteadyClock,
        metrics: NotifierMetrics,
    ) -> None:
        """`clock` must run in real time."""
        self._store = store
        self._contacts = contacts
        self._smtp = smtp
        self._topics = topics
        self._policy = policy
        self._in_flight = in_flight
        self._clock = clock
        self._metrics = metrics
        self._tasks = DeliveryTasks(self.capacity)
        self._attempts = asyncio.Semaphore(self.concurrent_attempts)
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """A lock for each mail in memory: a duplicate must not be sent at the same time."""
        self._last_failures: dict[str, str] = {}
        """By mail, why its last attempt failed, for the dead letter of one that is given up; lost at a restart."""
        self._retry_attempts: dict[str, int] = {}
        """The attempts in the latest retry record of a deferred mail; records with fewer are complete."""

    async def start(self, pending_event: PendingEvent, scheduled: M) -> None:
        """Start a task that sends a mail at its time.

        Waits first while `capacity` mails are in memory. Returns before the mail is complete; the task acknowledges the
        event.
        """
        await self._tasks.reserve_place()
        self._tasks.start(self._handle_mail(pending_event, scheduled))

    async def stop_and_drain(self, within_s: float) -> None:
        """Cancel the mails that wait, and wait until the attempts in progress have ended.

        Cancels attempts that last longer than `within_s` seconds, and waits one more second for what is cancelled.
        Mails that were not completed are not acknowledged: the partition's next owner reads their events again.
        """
        await self._tasks.stop_and_drain(within_s)
        self._retry_attempts.clear()
        self._last_failures.clear()

    @abstractmethod
    def _get_lifetime(self) -> timedelta:
        """Return the age at which a mail is given up."""

    @abstractmethod
    def _find_status(self, event: EventT[bytes], scheduled: M) -> DeliveryStatus | None:
        """Return the stored status of a mail; None: it is neither sent nor dead-lettered yet."""

    @abstractmethod
    def _mark_mailed(self, event: EventT[bytes], scheduled: M, at: datetime) -> None:
        """Write that the mail was sent at `at`."""

    @abstractmethod
    def _mark_dead_lettered(self, event: EventT[bytes], scheduled: M, at: datetime) -> None:
        """Write that the mail was dead-lettered at `at`."""

    @abstractmethod
    def _clear_dead_lettered(self, event: EventT[bytes], scheduled: M) -> None:
        """Delete the dead-lettered status of a mail that an operator requeued."""

    @abstractmethod
    def _find_drop_reason(self, contact: Contact | None) -> str | None:
        """Return the metric label of the reason why a user must not get the mail; None: the user may get it."""

    @abstractmethod
    def _compose(self, scheduled: M, contact: Contact) -> EmailMessage:
        """Return the mail."""

    @abstractmethod
    def _count_dropped(self, reason: str) -> None:
        """Count a mail that nobody needs."""

    async def _on_sent(self, scheduled: M) -> None:
        """Called after a mail is recorded as sent. Raises nothing."""

    async def _on_deferred(self, scheduled: M, error: NotSent) -> None:
        """Called after the retry of a mail is published. Raises nothing."""

    async def _on_dead_lettered(self, scheduled: M) -> None:
        """Called after a mail is dead-lettered. Raises nothing."""

    async def _handle_mail(self, pending_event: PendingEvent, scheduled: M) -> None:
        """Wait until the mail's time, attempt it once and acknowledge its event.

        Duplicates of a mail are attempted one after the other. Does not acknowledge the event if the worker drains or
        the partition is revoked before. A bug in the handling is logged, dead-letters the event and raises nothing.
        """
        event = pending_event.event
        pause = min(scheduled.not_before - self._clock.now(), MAX_PAUSE)  # limits what a wrong clock wrote
        if pause > timedelta(0):
            await asyncio.sleep(self._clock.real_seconds(pause))
        lock = self._locks.setdefault(scheduled.mail_key, asyncio.Lock())
        async with lock, self._attempts:
            with self._tasks.register_attempt():
                is_completed = True
                try:
                    is_completed = await self._attempt(pending_event, scheduled)
                except Exception as error:  # a bug must cost one mail, kept as evidence, and not the worker
                    log.error("notifier.failed", error=type(error).__name__, exc_info=error)
                    await self._dead_letter(event, scheduled, "bug", f"{type(error).__name__} in the notifier")
                if is_completed and self._topics.is_still_ours(event):
                    await self._store.wait_until_persisted(event)
                    await pending_event.acknowledge()

    async def _attempt(self, pending_event: PendingEvent, scheduled: M) -> bool:
        """Send the mail, or drop it if it is not needed; defer or dead-letter it if that fails.

        Drops a mail that was sent or dead-lettered before, unless an operator requeued it, and a record that a later
        retry record replaced; dead-letters a mail at the end of its lifetime, which begins anew after an absence.
        Returns True then; False if the worker drains or the partition is revoked: the partition's next owner handles
        the event.
        """
        event = pending_event.event
        if self._should_stop(event):
            return False
        if pending_event.requeued:
            self._clear_dead_lettered(event, scheduled)
        if self._find_status(event, scheduled) is not None:
            self._count_dropped("already_sent")
            return True
        if scheduled.attempt < self._retry_attempts.get(scheduled.mail_key, 0):
            return True  # a duplicate failed meanwhile: the broker has the later record
        lifetime = self._get_lifetime()
        scheduled = self._begin_anew_if_untried(scheduled, lifetime)
        is_over = self._clock.now() - self._compute_lifetime_start(scheduled) >= lifetime
        if is_over or scheduled.attempt >= compute_max_attempts(self._policy.retry_base, lifetime):
            last = self._last_failures.get(scheduled.mail_key, f"older than {lifetime}")
            text = f"gave up after {scheduled.attempt} tries: {last}"
            await self._dead_letter(event, scheduled, "gave_up", text)
            return True
        try:
            is_completed = await self._send_if_wanted(event, scheduled)
        except NotSent as error:
            await self._handle_failure(event, scheduled, error)
            return True
        if is_completed:
            self._retry_attempts.pop(scheduled.mail_key, None)
            self._last_failures.pop(scheduled.mail_key, None)
        return is_completed

    async def _send_if_wanted(self, event: EventT[bytes], scheduled: M) -> bool:
        """Request the contact, send the mail and record durably that it was sent; or drop the mail.

        Returns True if the mail is sent or dropped; False if the worker drains or the partition is revoked before the
        mail is begun. Counts the result. Raises NotSent.
        """
        contact = await self._contacts.find_contact(scheduled.user_id)
        drop_reason = self._find_drop_reason(contact)
        if drop_reason is not None:
            self._count_dropped(drop_reason)
            return True
        assert contact is not None  # noqa: S101 - for mypy: without a contact there is a reason
        message = self._compose(scheduled, contact)
        began = time.perf_counter()
        if self._should_stop(event):  # a rebalance must not wait for a mail that is not begun
            return False
        async with self._in_flight.create_slot() as slot:
            try:
                await self._smtp.send(message, self._policy.envelope_from(contact), slot.acquire)
            except NotSent as error:
                if error.reason is not FailureReason.BREAKER_OPEN:
                    self._metrics.count_failed_mail(self.kind)
                raise
            self._mark_mailed(event, scheduled, self._clock.now())
            self._store.clear_unproven_bounce(event, scheduled.user_id)
            await self._store.wait_until_persisted(event)
        self._metrics.count_sent_mail(self.kind, time.perf_counter() - began)
        await self._on_sent(scheduled)
        return True

    async def _handle_failure(self, event: EventT[bytes], scheduled: M, error: NotSent) -> None:
        """Dead-letter a mail after a permanent failure or at the end of its lifetime; else publish its retry.

        The retry's time follows by a backoff. Reports a hard bounce to user_manager, after the dead letter.
        """
        failed_at = self._clock.now()
        error = resolve_bounce(self._store, event, scheduled.user_id, error, failed_at)
        if error.permanent:
            await self._dead_letter(event, scheduled, "refused", str(error))
            # After the dead letter: a crash between the two loses only the report.
            if isinstance(error, HardBounce):
                await report_bounce_once(self._contacts, self._metrics, scheduled.user_id, self._clock.wall.now())
            return
        attempt = scheduled.attempt + 1
        until = compute_next_attempt_time(
            failed_at,
            attempt,
            self._compute_lifetime_start(scheduled),
            self._policy.retry_base,
            random.random(),
            error.retry_at,
            self._get_lifetime(),
        )
        if until is None:
            await self._dead_letter(event, scheduled, "gave_up", f"gave up after {attempt} tries: {error}")
            return
        self._metrics.count_deferred_mail(self.kind, error.reason)
        log.warning(
            f"{self.kind}.put_off",
            user_id=str(scheduled.user_id),
            attempt=attempt,
            reason=str(error),
            about=str(error.reason),
        )
        sealed = scheduled.sealed or isinstance(error, LostAfterData)
        retry = replace(scheduled, attempt=attempt, not_before=until, sealed=sealed)
        await self._topics.publish_retry(scheduled.user_id, retry)
        self._retry_attempts[scheduled.mail_key] = attempt
        self._last_failures[scheduled.mail_key] = str(error)
        await self._on_deferred(scheduled, error)

    async def _dead_letter(self, event: EventT[bytes], scheduled: M, label: str, reason: str) -> None:
        """Publish an event to the dead-letter topic, mark its mail as dead-lettered, and count it.

        `label`: the metric label; `reason`: the text in the header.
        """
        await self._topics.publish_dead_letter(event, reason)
        self._retry_attempts.pop(scheduled.mail_key, None)
        self._last_failures.pop(scheduled.mail_key, None)
        self._mark_dead_lettered(event, scheduled, self._clock.now())
        self._metrics.count_dead_letter(label)
        await self._on_dead_lettered(scheduled)

    def _begin_anew_if_untried(self, scheduled: M, lifetime: timedelta) -> M:
        """Return a mail with a lifetime that begins now if nobody tried it for a whole lifetime, else unchanged.

        The notifier, or all of Towerwatch, was away, or a clock was set: the mail is late, and still to be sent.
        """
        now = self._clock.now()
        if now - compute_lifetime_start(scheduled.not_before, now, self._clock.wall.now()) < lifetime:
            return scheduled
        return replace(scheduled, first_attempt_at=now, not_before=now)

    def _compute_lifetime_start(self, scheduled: M) -> datetime:
        """Return the time from which the lifetime of a mail counts, on the clock of this process."""
        return compute_lifetime_start(scheduled.first_attempt_at, self._clock.now(), self._clock.wall.now())

    def _should_stop(self, event: EventT[bytes]) -> bool:
        """Return True while the worker drains, or if it no longer owns the event's partition."""
        return self._tasks.is_draining or not self._topics.is_still_ours(event)
