"""The delivery of one mail with alerts: each alert is mailed once, and none is lost.

The steps of each mail, in this order: drop alerts that were delivered before; drop the mail if the user does not exist
or is unconfirmed, paused or suppressed; write to the user's state which alerts are in flight; send the mail; write that
it was sent; acknowledge the events. After a crash between any two steps the same mail is built again, and sent unless
it is recorded as sent.
"""

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final
from uuid import UUID

import structlog
from faust.types import EventT

from chassis.clock import Clock
from notifier.delivery.batching import MAX_ALERTS_PER_MAIL, AlertBatch, MailQueue, PlannedMail
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, PendingEvent, SmtpClientLike
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import MAX_PAUSE, compute_backoff, compute_next_attempt_time
from notifier.delivery.store import DeliveryStatus, DeliveryStore
from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    UserManagerUnavailable,
)
from notifier.mail import Contact, compose_alerts_mail
from notifier.messages import RaisedAlert, Retry
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()

_MAX_LIFETIME_SPREAD: Final = timedelta(minutes=10)
"""The maximal difference between the starts of lifetime of alerts in one retry record, which stores the earliest."""

_RETRY_SPACING: Final = timedelta(milliseconds=1)
"""The time between retry records that are published together, so that they keep their order."""

_BOUNCE_REPORT_ATTEMPTS: Final = 2
"""Attempts to report to user_manager that an address does not exist. If all fail, the next mail finds it out again."""

_USER_MANAGER_BASE_PAUSE: Final = timedelta(seconds=1)
_USER_MANAGER_MAX_PAUSE: Final = timedelta(seconds=30)


class AlertDelivery:
    """The use case that delivers mails with alerts, several concurrently; the dispatcher calls `deliver` for each.

    Brings each mail to its end: requests the contact, sends the mail, stores the result, defers or dead-letters the
    alerts of a mail that failed, removes the completed batches from the queue and acknowledges their events.
    """

    def __init__(
        self,
        queue: MailQueue,
        store: DeliveryStore,
        contacts: ContactsLike,
        smtp: SmtpClientLike,
        topics: EventTopics,
        policy: MailPolicy,
        in_flight: InFlightLimit,
        connections: int,
        clock: Clock,
        metrics: NotifierMetrics,
    ) -> None:
        """`connections`: how many mails the server takes at a time. `clock` must show real time."""
        self._queue = queue
        self._store = store
        self._contacts = contacts
        self._smtp = smtp
        self._topics = topics
        self._policy = policy
        self._in_flight = in_flight
        self._connections = asyncio.Semaphore(connections)
        """Limits mails with alerts, so that none waits inside the SMTP client and a confirmation mail is sent next."""
        self._clock = clock
        self._metrics = metrics
        self._user_manager_failures = 0
        """The number of consecutive pauses after failures of user_manager."""
        self._paused_until: datetime | None = None

    async def deliver(self, mail: PlannedMail) -> datetime | None:
        """Send, defer, drop or dead-letter a mail, and acknowledge the events of its completed batches.

        Returns None; or the time until which no other mail should be tried, if user_manager is unavailable or the
        circuit to the mail server is open: in the latter case the mail is put back into the queue. Does nothing if the
        partitions are revoked. An unexpected error is logged, dead-letters the mail and raises nothing.
        """
        try:
            return await self._check_and_attempt(mail)
        except Exception as error:  # a bug must cost one mail, kept as evidence, and not the worker
            log.error("notifier.failed", error=type(error).__name__, exc_info=error)
            await self._dead_letter(mail, mail.batches, "bug", f"{type(error).__name__} in the notifier")
            return None

    async def _check_and_attempt(self, mail: PlannedMail) -> datetime | None:
        """Drop a mail that was sent before, dead-letter expired batches, defer above the hourly limit; else attempt it.

        Does nothing if the partitions are revoked. First deletes the dead-lettered status of requeued alerts. A mail is
        also dropped if all of its alerts have a delivery status; the events of a dropped mail are acknowledged. A mail
        that the server may have is not checked against the hourly limit, and expires only as a whole; of another mail
        the batches that have not expired stay queued. Returns None, or the time until which no other mail should be
        tried.
        """
        if not self._is_still_ours(mail):
            return None
        event, now = _get_first_event(mail), self._clock.now()
        self._clear_requeued_dead_letters(mail.batches)
        user = self._store.load_user_state(event, mail.user_id)
        undelivered = self._select_undelivered(mail)
        was_sent = self._was_sent_before(mail)
        if was_sent or not undelivered:
            self._metrics.count_dropped_alerts("already_sent", len(mail.alerts))
            self._store.mark_mailed(event, _get_alert_ids(undelivered), now)  # only if a crash lost their records
            await self._store.wait_until_persisted(event)
            completed = self._find_completed_batches(mail)
            batch_ids = _get_batch_ids(completed)
            new_state = self._with_mail_sent(user, now, batch_ids) if was_sent else user.without_batches(batch_ids)
            await self._save_and_acknowledge(mail, new_state, completed)
            return None
        undelivered_ids = _get_alert_ids(undelivered)
        open_batches = [batch for batch in mail.batches if not undelivered_ids.isdisjoint(batch.alert_ids)]
        expired = [batch for batch in open_batches if now - batch.lifetime_start >= self._policy.lifetime]
        # A mail that the server may have is never divided: it expires as a whole.
        if expired and (not mail.may_be_duplicate or len(expired) == len(open_batches)):
            text = f"gave up after {max(each.attempt for each in expired)} tries: older than {self._policy.lifetime}"
            await self._dead_letter(mail, expired, "gave_up", text)
            return None
        if (
            not mail.may_be_duplicate
            and (allowed_at := user.compute_next_mail_time(now, self._policy.mails_per_hour)) > now
        ):
            until = min(allowed_at, now + MAX_PAUSE)
            await self._defer(mail, undelivered, user, until, FailureReason.ENOUGH_FOR_NOW)
            return None
        return await self._request_contact_and_send(mail, undelivered, user)

    async def _request_contact_and_send(
        self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState
    ) -> datetime | None:
        """Request the contact and send the mail; drop, defer or dead-letter the mail if that is not possible.

        Drops the mail if the user does not exist or is unconfirmed, paused or suppressed; if the server may have the
        mail, its alerts are then marked as mailed. Returns None; or the time until which no other mail should be tried:
        the end of the pause if user_manager is unavailable, the next attempt of the circuit breaker if the circuit is
        open, in which case the mail is put back into the queue untried.
        """
        try:
            contact = await self._contacts.find_contact(mail.user_id)
            self._user_manager_failures = 0
            if contact is None or not contact.confirmed or contact.paused or contact.suppressed:
                self._metrics.count_dropped_alerts(_choose_drop_reason(contact), len(alerts))
                if mail.may_be_duplicate:  # the user may have them: a duplicate event must not mail them differently
                    self._store.mark_mailed(_get_first_event(mail), _get_alert_ids(alerts), self._clock.now())
                await self._save_and_acknowledge(mail, user.without_batches(_get_batch_ids(mail.batches)))
                return None
            await self._send(mail, alerts, user, contact)
        except MailServerUnavailable as error:
            if error.reason is FailureReason.BREAKER_OPEN:
                self._queue.put_back(mail)
                return error.retry_at
            await self._handle_failure(mail, alerts, user, error)
        except NotSent as error:
            await self._handle_failure(mail, alerts, user, error)
            if isinstance(error, UserManagerUnavailable):
                return self._begin_user_manager_pause()
        return None

    def _begin_user_manager_pause(self) -> datetime:
        """Begin a pause after a failure of user_manager, unless one is running already; return the end of the pause.

        The pauses grow with each consecutive one, from _USER_MANAGER_BASE_PAUSE to _USER_MANAGER_MAX_PAUSE.
        """
        now = self._clock.now()
        if self._paused_until is None or self._paused_until <= now:
            self._user_manager_failures += 1
            pause = compute_backoff(self._user_manager_failures, _USER_MANAGER_BASE_PAUSE, random.random())
            self._paused_until = now + min(pause, _USER_MANAGER_MAX_PAUSE)
        return self._paused_until

    async def _send(self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState, contact: Contact) -> None:
        """Write the in-flight state, send the mail, write that it was sent, acknowledge its events.

        Waits before the next step until each write is durable. Waits for a free connection, and sends nothing if the
        partitions are revoked by then. Completes the batches whose alerts all have a status; others stay queued. Counts
        the mail, sent or failed. Raises NotSent.
        """
        event, began = _get_first_event(mail), time.perf_counter()
        cause = min(each.cause_published_at for each in alerts)
        now = self._clock.now()
        message = compose_alerts_mail([each.alert for each in alerts], contact, self._policy.sender, now, cause)
        in_flight_state = user.with_mail_in_flight(_get_alert_ids(alerts))
        if in_flight_state != user:
            self._store.save_user_state(event, mail.user_id, in_flight_state)
            await self._store.wait_until_persisted(event)
        async with self._connections, self._in_flight.create_slot() as slot:
            if not self._is_still_ours(mail):
                return
            try:
                await self._smtp.send(message, self._policy.envelope_from(contact), slot.acquire)
            except NotSent as error:
                if error.reason is not FailureReason.BREAKER_OPEN:
                    self._metrics.count_failed_mail("alerts")
                raise
            now = self._clock.now()
            self._store.mark_mailed(event, _get_alert_ids(alerts), now)
            # Before the user's state drops the in-flight ids: a crash between the two would let other alerts join them.
            await self._store.wait_until_persisted(event)
        self._metrics.count_sent_mail("alerts", time.perf_counter() - began)
        self._metrics.observe_mailed_alerts(tuple(alerts), now)
        completed = self._find_completed_batches(mail)
        await self._save_and_acknowledge(mail, self._with_mail_sent(user, now, _get_batch_ids(completed)), completed)

    async def _handle_failure(
        self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState, error: NotSent
    ) -> None:
        """Dead-letter a mail after a permanent failure or at the end of its lifetime; otherwise defer it by a backoff.

        Reports a hard bounce to user_manager after the dead letter. The mail counts the attempts of its most tried
        batch and the lifetime of its youngest; it is deferred sealed if the mail server may have it.
        """
        now = self._clock.now()
        if error.permanent:
            await self._dead_letter(mail, mail.batches, "refused", str(error))
            # After the dead letter: a crash between the two loses only the report, and the next mail repeats it.
            if isinstance(error, HardBounce):
                await self._report_bounce(mail.user_id, now)
            return
        attempt = max(batch.attempt for batch in mail.batches) + 1
        lifetime_start = max(batch.lifetime_start for batch in mail.batches)
        until = compute_next_attempt_time(
            now,
            attempt,
            lifetime_start,
            self._policy.retry_base,
            random.random(),
            error.retry_at,
            self._policy.lifetime,
        )
        if until is None:
            await self._dead_letter(mail, mail.batches, "gave_up", f"gave up after {attempt} tries: {error}")
            return
        log.warning("alerts.put_off", alerts=len(alerts), attempt=attempt, reason=str(error))
        sealed = mail.may_be_duplicate or isinstance(error, LostAfterData)
        await self._defer(mail, alerts, user, until, error.reason, tried=True, sealed=sealed)

    async def _defer(
        self,
        mail: PlannedMail,
        alerts: Sequence[RaisedAlert],
        user: UserState,
        until: datetime,
        reason: FailureReason,
        tried: bool = False,
        sealed: bool = False,
    ) -> None:
        """Publish the mail's alerts to the retry topic, to be tried at `until`, and acknowledge their events.

        All other queued alerts of the user are deferred with the mail, as untried: they could not be mailed before it,
        and an event that stays in memory for many pauses would make the worker count as stuck. Alerts with a delivery
        status are left out. An unsealed mail may become several records; the records are _RETRY_SPACING apart.

        `alerts`: the undelivered alerts of the mail. `reason`: the metric label. `tried`: the mail counts as attempted.
        `sealed`: the mail server may have the mail, so its alerts stay in flight in the user's state. Counts
        one deferred mail. Raises TooLargeToWaitError.
        """
        other_batches = self._queue.list_other_batches(mail)
        deferred = (*mail.batches, *chain.from_iterable(other_batches))
        self._clear_requeued_dead_letters(deferred)
        user, now = user.without_batches(_get_batch_ids(deferred)), self._clock.now()
        mail_ids = _get_alert_ids(alerts)
        parts = [(mail.batches, mail_ids, tried, sealed)]
        remaining_ids = self._find_open_alert_ids(deferred) - mail_ids
        parts += [(batches, remaining_ids, False, batches[0].sealed) for batches in (mail.batches, *other_batches)]
        for part, wanted_ids, was_tried, is_sealed in parts:
            for batches in (part,) if is_sealed else _group_by_lifetime_start(part):
                by_id = {each.alert.alert_id: each for batch in batches for each in batch.alerts}
                selected = tuple(each for alert_id, each in by_id.items() if alert_id in wanted_ids)
                if selected:
                    wanted_ids -= _get_alert_ids(selected)
                    attempt = max(batch.attempt for batch in batches) + was_tried
                    first_attempt_at = min(batch.lifetime_start for batch in batches)
                    retry = Retry(selected, attempt, until, first_attempt_at, is_sealed)
                    await self._topics.publish_retry(mail.user_id, retry)
                    user = user.with_deferred_batches((compute_batch_id(_get_alert_ids(selected)),), until, now)
                    until += _RETRY_SPACING
        if sealed:  # otherwise other alerts could join an older record of these alerts that is read again
            user = user.with_mail_in_flight(_get_alert_ids(alerts))
        self._metrics.count_deferred_mail("alerts", reason)
        await self._save_and_acknowledge(mail, user, deferred)

    async def _dead_letter(self, mail: PlannedMail, batches: Sequence[AlertBatch], label: str, reason: str) -> None:
        """Publish the events of some of a mail's batches to the dead-letter topic, and acknowledge them.

        Also marks their alerts as dead-lettered and counts each event. Batches whose alerts all have a delivery status
        are only acknowledged. The mail's other batches stay queued. `label` is the metric label, `reason` the text in
        the dead letter's header.
        """
        event, now = _get_first_event(mail), self._clock.now()
        for batch in batches:
            if not self._find_open_alert_ids((batch,)):  # a duplicate: its alerts were mailed or dead-lettered before
                continue
            await self._topics.publish_dead_letter(_get_pending_event(batch).event, reason)
            self._store.mark_dead_lettered(event, batch.alert_ids, now)
            self._metrics.count_dead_letter(label)
        user = self._store.load_user_state(event, mail.user_id).without_batches(_get_batch_ids(batches))
        await self._save_and_acknowledge(mail, user, batches)

    async def _save_and_acknowledge(
        self, mail: PlannedMail, user: UserState, completed: Sequence[AlertBatch] | None = None
    ) -> None:
        """Save the user's state if it changed, remove the completed batches from the queue, acknowledge their events.

        Waits before the last two steps until all writes are durable. Ends the flight of the mail. `completed` None: all
        batches of the mail. Its other batches stay queued. Does nothing after a rebalance.
        """
        completed = mail.batches if completed is None else completed
        event = _get_first_event(mail)
        if not self._is_still_ours(mail):
            return
        if user != self._store.load_user_state(event, mail.user_id):
            self._store.save_user_state(event, mail.user_id, user)
        await self._store.wait_until_persisted(event)
        self._queue.finish(mail, completed, user)
        for batch in completed:
            await _get_pending_event(batch).acknowledge()

    async def _report_bounce(self, user_id: UUID, at: datetime) -> None:
        """Report to user_manager that the user's address does not exist, and count whether that succeeded.

        Makes _BOUNCE_REPORT_ATTEMPTS, a pause apart; raises nothing if all fail.
        """
        for attempt in range(_BOUNCE_REPORT_ATTEMPTS):
            try:
                await self._contacts.report_bounce(user_id, at)
            except UserManagerUnavailable:
                if attempt + 1 < _BOUNCE_REPORT_ATTEMPTS:
                    await asyncio.sleep(self._clock.real_seconds(_USER_MANAGER_BASE_PAUSE))
            else:
                self._metrics.count_bounce_report("told")
                return
        self._metrics.count_bounce_report("not_told")

    def _with_mail_sent(self, user: UserState, now: datetime, batch_ids: frozenset[UUID]) -> UserState:
        return user.with_mail_sent(now, batch_ids, self._policy.mails_per_hour)

    def _clear_requeued_dead_letters(self, batches: Iterable[AlertBatch]) -> None:
        """Delete the dead-lettered status of alerts that an operator requeued, so that they are mailed after all.

        Other batches and alerts that were mailed are not changed.
        """
        for batch in batches:
            if _get_pending_event(batch).requeued:
                self._store.clear_dead_lettered(_get_pending_event(batch).event, batch.alert_ids)

    def _select_undelivered(self, mail: PlannedMail) -> tuple[RaisedAlert, ...]:
        """Return the alerts of the mail, in its order, that are neither mailed nor dead-lettered yet."""
        event = _get_first_event(mail)
        return tuple(each for each in mail.alerts if self._store.find_status(event, each.alert.alert_id) is None)

    def _find_open_alert_ids(self, batches: Iterable[AlertBatch]) -> set[UUID]:
        """Return the ids of the alerts in these batches that are neither mailed nor dead-lettered yet."""
        return {
            alert_id
            for batch in batches
            for alert_id in batch.alert_ids
            if self._store.find_status(_get_pending_event(batch).event, alert_id) is None
        }

    def _find_completed_batches(self, mail: PlannedMail) -> tuple[AlertBatch, ...]:
        """Return the batches of the mail in which every alert is mailed or dead-lettered."""
        return tuple(batch for batch in mail.batches if not self._find_open_alert_ids((batch,)))

    def _was_sent_before(self, mail: PlannedMail) -> bool:
        """Return True if the mail was in flight before a crash and one of its alerts at least is recorded as mailed.

        All alerts of a mail are recorded together, so one record proves that the mail was sent. False for a mail that
        was not in flight before a crash.
        """
        return any(
            self._store.find_status(_get_first_event(mail), each) is DeliveryStatus.MAILED
            for each in mail.in_flight_ids
        )

    def _is_still_ours(self, mail: PlannedMail) -> bool:
        """Return True if this worker still owns the partitions of all events of the mail, False after a rebalance."""
        return all(self._topics.is_still_ours(_get_pending_event(batch).event) for batch in mail.batches)


def _get_pending_event(batch: AlertBatch) -> PendingEvent:
    assert isinstance(batch.pending_event, PendingEvent)  # noqa: S101 - for mypy: `MailQueue` does not use it
    return batch.pending_event


def _get_first_event(mail: PlannedMail) -> EventT[bytes]:
    return _get_pending_event(mail.batches[0]).event


def _get_alert_ids(alerts: Iterable[RaisedAlert]) -> set[UUID]:
    return {each.alert.alert_id for each in alerts}


def _get_batch_ids(batches: Iterable[AlertBatch]) -> frozenset[UUID]:
    """Return the batch ids of those of these batches that were deferred; new batches have no id."""
    return frozenset(batch_id for batch in batches if (batch_id := batch.batch_id) is not None)


def _group_by_lifetime_start(batches: Iterable[AlertBatch]) -> Iterator[tuple[AlertBatch, ...]]:
    """Yield the batches in groups for one retry record each, ordered by start of lifetime, the oldest first.

    A group spans _MAX_LIFETIME_SPREAD at most, and no more than MAX_ALERTS_PER_MAIL alerts unless it is one batch.
    """
    group: list[AlertBatch] = []
    for batch in sorted(batches, key=lambda each: each.lifetime_start):
        is_full = sum(len(each.alerts) for each in (*group, batch)) > MAX_ALERTS_PER_MAIL
        if group and (is_full or batch.lifetime_start - group[0].lifetime_start > _MAX_LIFETIME_SPREAD):
            yield tuple(group)
            group = []
        group.append(batch)
    if group:
        yield tuple(group)


def _choose_drop_reason(contact: Contact | None) -> str:
    """Return the metric label that explains why a contact gets no alerts, for a contact who must not get them.

    "user_gone" for None, else "suppressed", "unconfirmed" or "paused", in this order of precedence.
    """
    if contact is None:
        return "user_gone"
    if contact.suppressed:
        return "suppressed"
    return "paused" if contact.confirmed else "unconfirmed"
