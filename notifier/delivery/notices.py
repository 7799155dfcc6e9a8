"""The delivery of notices: each notice is one mail of its own, sent once, and no notice waits for another's retry.

The steps of each mail: drop a notice that was mailed before, or whose user must get no mail; send the mail; record that
it was sent; acknowledge the event. After a transient failure the notice is published to the retry topic. A crash
between the server's "250" and the record repeats the mail, with the same Message-ID.
"""

import asyncio
import random
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID
from weakref import WeakValueDictionary

import structlog
from faust.types import EventT

from chassis.clock import Clock
from notifier.delivery.bounces import report_bounce_once
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, PendingEvent, SmtpClientLike
from notifier.delivery.policy import MailPolicy, find_drop_reason
from notifier.delivery.retries import MAX_PAUSE, compute_next_attempt_time
from notifier.delivery.store import DeliveryStore
from notifier.delivery.tasks import DeliveryTasks
from notifier.errors import FailureReason, HardBounce, LostAfterData, NotSent
from notifier.mail import compose_unheard_mail
from notifier.messages import ScheduledNotice
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

_MAX_NOTICES: Final = 10_000
"""Maximum number of notices in memory, of about a kilobyte each; further events wait in the broker."""

_MAX_CONCURRENT_ATTEMPTS: Final = 4
"""Maximum number of notices that are attempted at a time, so that alerts and confirmations wait for few of them."""


class NoticeDelivery:
    """The use case that mails notices: a task for each event attempts the mail, and acknowledges the event.

    Notices are not grouped, and the hourly limit on alert mails does not apply: a user gets one notice per airport.
    """

    def __init__(
        self,
        store: DeliveryStore,
        contacts: ContactsLike,
        smtp: SmtpClientLike,
        topics: EventTopics,
        policy: MailPolicy,
        in_flight: InFlightLimit,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        """`clock` must show real time."""
        self._store = store
        self._contacts = contacts
        self._smtp = smtp
        self._topics = topics
        self._policy = policy
        self._in_flight = in_flight
        self._clock = clock
        self._metrics = metrics
        self._tasks = DeliveryTasks(_MAX_NOTICES)
        self._attempts = asyncio.Semaphore(_MAX_CONCURRENT_ATTEMPTS)
        self._locks: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        """A lock for each notice in memory: a duplicate must not be mailed at the same time."""
        self._retry_times: dict[UUID, datetime] = {}
        """Time of the next attempt, by the latest retry record of each deferred notice; older records are dropped."""

    async def start(self, pending_event: PendingEvent, scheduled: ScheduledNotice) -> None:
        """Start a task that mails a notice at its time, and acknowledges its event.

        Waits first while _MAX_NOTICES are in memory. Returns before the mail is attempted.
        """
        await self._tasks.reserve_place()
        self._tasks.start(self._handle_notice(pending_event, scheduled))

    async def stop_and_drain(self, within_s: float) -> None:
        """Cancel the tasks that wait before an attempt, and wait until the attempts in progress have ended.

        Cancels attempts that last longer than `within_s` seconds, and waits one more second for what is cancelled.
        Notices that were not completed are not acknowledged: the partition's next owner reads them again.
        """
        await self._tasks.stop_and_drain(within_s)
        self._retry_times.clear()

    async def _handle_notice(self, pending_event: PendingEvent, scheduled: ScheduledNotice) -> None:
        """Wait until the notice's time, attempt it once and acknowledge its event.

        Duplicates of a notice are attempted one after the other. Does not acknowledge the event if the worker drains or
        the partition is revoked before. A bug in the handling is logged, dead-letters the event and raises nothing.
        """
        event = pending_event.event
        pause = min(scheduled.not_before - self._clock.now(), MAX_PAUSE)  # a wrong clock may have written a later time
        if pause > timedelta(0):
            await asyncio.sleep(self._clock.real_seconds(pause))
        lock = self._locks.setdefault(scheduled.raised.event_id, asyncio.Lock())
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

    async def _attempt(self, pending_event: PendingEvent, scheduled: ScheduledNotice) -> bool:
        """Mail the notice, or drop it if it is not needed; defer or dead-letter it if the mail fails.

        Drops a notice that was mailed before, or dead-lettered before and not requeued by an operator, and a retry
        record that a later one replaces. Dead-letters a notice at the end of its lifetime. Returns True in all these
        cases: the event is complete. Returns False if the worker drains or the partition is revoked: the partition's
        next owner handles the event.
        """
        event, notice_id = pending_event.event, scheduled.raised.event_id
        if self._should_stop(event):
            return False
        if pending_event.requeued:
            self._store.clear_dead_lettered(event, (notice_id,))
        if self._store.find_status(event, notice_id) is not None:
            self._metrics.count_dropped_notice("already_sent")
            return True
        if scheduled.not_before < self._retry_times.get(notice_id, scheduled.not_before):
            return True  # a duplicate has failed meanwhile, and published a later retry record
        if self._clock.now() - scheduled.first_attempt_at >= self._policy.lifetime:
            text = f"gave up after {scheduled.attempt} tries: older than {self._policy.lifetime}"
            await self._dead_letter(event, scheduled, "gave_up", text)
            return True
        try:
            is_completed = await self._send_if_wanted(event, scheduled)
        except NotSent as error:
            await self._handle_failure(event, scheduled, error)
            return True
        if is_completed:
            self._retry_times.pop(notice_id, None)
        return is_completed

    async def _send_if_wanted(self, event: EventT[bytes], scheduled: ScheduledNotice) -> bool:
        """Request the contact, send the mail and record durably that it was sent; or drop the notice.

        Drops it if the user does not exist or is unconfirmed, paused or suppressed. Returns True if the notice is
        mailed or dropped; False if the worker drains or the partition is revoked before the mail is started. Counts
        the result. Raises NotSent.
        """
        notice = scheduled.raised.notice
        contact = await self._contacts.find_contact(notice.user_id)
        drop_reason = find_drop_reason(contact)
        if drop_reason is not None:
            self._metrics.count_dropped_notice(drop_reason)
            return True
        assert contact is not None  # noqa: S101 - for mypy: without a contact there is a reason
        message = compose_unheard_mail(notice, contact, self._policy.sender, self._clock.now())
        began = time.perf_counter()
        if self._should_stop(event):  # a rebalance must not wait for a mail that is not started
            return False
        async with self._in_flight.create_slot() as slot:
            try:
                await self._smtp.send(message, self._policy.envelope_from(contact), slot.acquire)
            except NotSent as error:
                if error.reason is not FailureReason.BREAKER_OPEN:
                    self._metrics.count_failed_mail("notice")
                raise
            self._store.mark_mailed(event, (notice.notice_id,), self._clock.now())
            await self._store.wait_until_persisted(event)
        self._metrics.count_sent_mail("notice", time.perf_counter() - began)
        return True

    async def _handle_failure(self, event: EventT[bytes], scheduled: ScheduledNotice, error: NotSent) -> None:
        """Dead-letter a notice after a permanent failure, or if its lifetime ends before a next attempt; else defer.

        A deferred notice is published to the retry topic, with a backoff. A hard bounce is reported to user_manager,
        after the dead letter.
        """
        failed_at = self._clock.now()
        if error.permanent:
            await self._dead_letter(event, scheduled, "refused", str(error))
            # After the dead letter: a crash between the two loses only the report.
            if isinstance(error, HardBounce):
                await report_bounce_once(self._contacts, self._metrics, scheduled.raised.user_id, failed_at)
            return
        attempt = scheduled.attempt + 1
        until = self._compute_next_attempt_time(failed_at, attempt, scheduled, error)
        if until is None:
            await self._dead_letter(event, scheduled, "gave_up", f"gave up after {attempt} tries: {error}")
            return
        self._metrics.count_deferred_mail("notice", error.reason)
        log.warning("notice.put_off", user_id=str(scheduled.raised.user_id), attempt=attempt, reason=str(error))
        sealed = scheduled.sealed or isinstance(error, LostAfterData)
        retry = replace(scheduled, attempt=attempt, not_before=until, sealed=sealed)
        await self._topics.publish_retry(scheduled.raised.user_id, retry)
        self._retry_times[scheduled.raised.event_id] = until

    def _compute_next_attempt_time(
        self, failed_at: datetime, attempt: int, scheduled: ScheduledNotice, error: NotSent
    ) -> datetime | None:
        """Return the time of the next attempt, after number `attempt` failed; None if the notice must be given up."""
        return compute_next_attempt_time(
            failed_at,
            attempt,
            scheduled.first_attempt_at,
            self._policy.retry_base,
            random.random(),
            error.retry_at,
            self._policy.lifetime,
        )

    async def _dead_letter(self, event: EventT[bytes], scheduled: ScheduledNotice, label: str, reason: str) -> None:
        """Publish an event to the dead-letter topic, mark its notice as dead-lettered, and count it.

        `label`: the metric label; `reason`: the text in the header.
        """
        await self._topics.publish_dead_letter(event, reason)
        self._retry_times.pop(scheduled.raised.event_id, None)
        self._store.mark_dead_lettered(event, (scheduled.raised.event_id,), self._clock.now())
        self._metrics.count_dead_letter(label)

    def _should_stop(self, event: EventT[bytes]) -> bool:
        """Return True while the worker drains, or if it no longer owns the event's partition."""
        return self._tasks.is_draining or not self._topics.is_still_ours(event)
