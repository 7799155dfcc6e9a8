"""The delivery of one mail with alerts: each alert is mailed once, and none is lost.

The steps of each mail, in this order: drop alerts that were delivered before; drop the mail if the user does not exist
or is unconfirmed, paused or suppressed; write to the user's state which alerts are in flight; send the mail; write that
it was sent; acknowledge the events. After a crash between any two steps the same mail is built again, and sent unless
it is recorded as sent.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from email.message import EmailMessage
from itertools import chain
from typing import ClassVar
from uuid import UUID

import structlog

from chassis.clock import SteadyClock
from notifier.delivery.alert_batch import AlertBatch, PlannedMail
from notifier.delivery.batching import MailQueue
from notifier.delivery.bounces import report_bounce_repeatedly, resolve_bounce
from notifier.delivery.catch_up import convert_to_catch_up, is_lifetime_over
from notifier.delivery.composition import compose_mail
from notifier.delivery.deferral import build_retries, compute_retry_time
from notifier.delivery.early import publish_early_batches
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ContactsLike, EventTopics, SmtpClientLike
from notifier.delivery.pauses import UserManagerPause
from notifier.delivery.planned_mail import (
    clear_requeued_dead_letters,
    find_completed_batches,
    find_open_alert_ids,
    get_alert_ids,
    get_batch_ids,
    get_first_event,
    get_pending_event,
    select_undelivered,
    was_sent_before,
)
from notifier.delivery.policy import MailPolicy, find_drop_reason, request_drop_reason
from notifier.delivery.retries import MAX_PAUSE
from notifier.delivery.store import DeliveryStore
from notifier.delivery.told import drop_queued, drop_unexpected, note_pending, note_told
from notifier.delivery.user_state import UserState, compute_batch_id
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from notifier.messages import RaisedAlert
from notifier.metrics import NotifierMetrics

log = structlog.get_logger()


class AlertDelivery:
    """The use case that delivers mails with alerts, several concurrently; the dispatcher calls `deliver` for each.

    Brings each mail to its end: requests the contact, sends the mail, stores the result, defers or dead-letters the
    alerts of a mail that failed, removes the completed batches from the queue and acknowledges their events.
    """

    kind: ClassVar[str] = "alerts"
    """The metric label of its mails."""
    late_kind: ClassVar[str] = "catch_up"
    """The metric label of its mails that are given up by their attempts alone; their dead letters have the subject."""
    late_subject: ClassVar[str] = "what became too old"

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
        clock: SteadyClock,
        metrics: NotifierMetrics,
    ) -> None:
        """`connections`: how many mails the server takes at a time. `clock` must run in real time."""
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
        self._user_manager_pause = UserManagerPause()

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
        """Drop a mail that was sent before, convert expired batches, defer above the hourly limit; else send it.

        Does nothing if the partitions are revoked. First deletes the dead-lettered status of requeued alerts. A mail is
        also dropped if all of its alerts have a delivery status; the events of a dropped mail are acknowledged. A mail
        that the server may have is not checked against the hourly limit, and expires only as a whole; of another mail
        the batches that have not expired stay queued. A batch that expires becomes one of a catch-up mail; if that
        expires, too, it is dead-lettered. Batches of alerts that follow what waits (`publish_early_batches`) wait.
        Returns None, or the time until which no other mail should be tried.
        """
        if not self._is_still_ours(mail):
            return None
        event, now = get_first_event(mail), self._clock.now()
        clear_requeued_dead_letters(self._store, mail.batches)
        user = self._store.load_user_state(event, mail.user_id).with_bounded_mail_times(now)
        unexpected = 0 if mail.may_be_duplicate else drop_unexpected(self._store, mail, now)
        self._metrics.count_dropped_alerts("not_begun", unexpected)
        undelivered = select_undelivered(self._store, mail)
        was_sent = was_sent_before(self._store, mail)
        if was_sent or not undelivered:
            self._metrics.count_dropped_alerts("already_sent", len(mail.alerts) - unexpected)
            self._store.mark_mailed(event, get_alert_ids(undelivered), now)  # only if a crash lost their records
            await self._store.wait_until_persisted(event)
            completed = find_completed_batches(self._store, mail)
            batch_ids = get_batch_ids(completed)
            is_counted = was_sent and self._counts_as_mail(mail.alerts)
            new_state = self._with_mail_sent(user, now, batch_ids) if is_counted else user.without_batches(batch_ids)
            await self._save_and_acknowledge(mail, new_state, completed)
            return None
        undelivered_ids = get_alert_ids(undelivered)
        open_batches = [batch for batch in mail.batches if not undelivered_ids.isdisjoint(batch.alert_ids)]
        expired = [batch for batch in open_batches if self._is_lifetime_over(batch)]
        # A mail that the server may have is never divided: it expires as a whole.
        if expired and (not mail.may_be_duplicate or len(expired) == len(open_batches)):
            given_up = [batch for batch in expired if batch.catch_up or (mail.is_catch_up and mail.may_be_duplicate)]
            if not given_up:
                self._convert_all_too_old(mail)
                return None
            text = f"gave up after {max(each.attempt for each in given_up)} tries of a mail about {self.late_subject}"
            await self._dead_letter(mail, given_up, "gave_up", text)
            return None
        if not mail.may_be_duplicate:
            allowed_at, reason = self._find_allowed_time(mail, user, now)
            is_limited = reason is FailureReason.ENOUGH_FOR_NOW
            if allowed_at > now and not (is_limited and await request_drop_reason(self._contacts, mail.user_id)):
                await self._defer(mail, undelivered, user, min(allowed_at, now + MAX_PAUSE), reason)
                return None
            early = await publish_early_batches(self._topics, self._store, self._queue, mail, now, self._metrics)
            if early:
                await self._save_and_acknowledge(mail, user.without_batches(get_batch_ids(early)), early)
                return None
        return await self._request_contact_and_send(mail, undelivered, user)

    def _find_allowed_time(self, mail: PlannedMail, user: UserState, now: datetime) -> tuple[datetime, FailureReason]:
        """Return when the mail may be sent, by the hourly limit (not after `now`: at once), and why not before."""
        return user.compute_next_mail_time(now, self._policy.mails_per_hour), FailureReason.ENOUGH_FOR_NOW

    def _find_drop_reason(self, contact: Contact | None) -> str | None:
        """Return the metric label that says why the user must not get the mail; None: the user may get it."""
        return find_drop_reason(contact)

    def _drop(self, mail: PlannedMail, alerts: Sequence[RaisedAlert], reason: str) -> Sequence[RaisedAlert]:
        """Record alerts of a mail as dropped, and count them; return those to be mailed all the same: none.

        If the server may have the mail they count as mailed: a duplicate event must not mail them differently."""
        self._metrics.count_dropped_alerts(reason, len(alerts))
        mark = self._store.mark_mailed if mail.may_be_duplicate else self._store.mark_untold
        mark(get_first_event(mail), get_alert_ids(alerts), self._clock.now())
        return ()

    async def _request_contact_and_send(
        self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState
    ) -> datetime | None:
        """Request the contact and send the mail; drop, defer or dead-letter the mail if that is not possible.

        Drops the mail, and what else waits for the user, if the user does not exist or is unconfirmed, paused or
        suppressed. Returns None; or the time until which no other mail should be tried:
        the end of the pause if user_manager is unavailable, the next attempt of the circuit breaker if the circuit is
        open, in which case the mail is put back into the queue untried.
        """
        try:
            contact = await self._contacts.find_contact(mail.user_id, {each.alert.interest_id for each in alerts})
            self._user_manager_pause.reset()
            drop_reason = self._find_drop_reason(contact)
            if drop_reason is not None:
                alerts = self._drop(mail, alerts, drop_reason)
                if not alerts:
                    dropped = [*mail.batches]
                    if find_drop_reason(contact) is not None:  # nothing may be mailed to the user
                        dropped += drop_queued(self._store, self._queue.list_other_batches(mail), self._clock.now())
                        others = sum(len(each.alerts) for each in dropped) - len(mail.alerts)
                        self._metrics.count_dropped_alerts(drop_reason, others)
                    await self._save_and_acknowledge(mail, user.without_batches(get_batch_ids(dropped)), dropped)
                    return None
            assert contact is not None  # noqa: S101 - for mypy: without a contact all is dropped
            await self._send(mail, alerts, user, contact)
        except MailServerUnavailable as error:
            if error.reason is FailureReason.BREAKER_OPEN:
                self._queue.put_back(mail)
                return error.retry_at
            await self._handle_failure(mail, alerts, user, error)
        except NotSent as error:
            await self._handle_failure(mail, alerts, user, error)
            if isinstance(error, UserManagerUnavailable):
                return self._user_manager_pause.begin(self._clock.now())
        return None

    async def _send(self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState, contact: Contact) -> None:
        """Write the in-flight state, send the mail, write that it was sent, acknowledge its events.

        If all alerts of a catch-up mail cancel each other, they are recorded as mailed, and nothing is sent.
        Waits before the next step until each write is durable. Waits for a free connection, and sends nothing if the
        partitions are revoked by then. Completes the batches whose alerts all have a status; others stay queued. Counts
        the mail, sent or failed. Raises NotSent.
        """
        event, began = get_first_event(mail), time.perf_counter()
        kind = self.late_kind if mail.is_catch_up else self.kind
        message = self._compose(mail, alerts, contact)
        in_flight_state = user.with_mail_in_flight(get_alert_ids(alerts))
        if in_flight_state != user:
            self._store.save_user_state(event, mail.user_id, in_flight_state)
            await self._store.wait_until_persisted(event)
        async with self._connections, self._in_flight.create_slot() as slot:
            if not self._is_still_ours(mail):
                return
            try:
                if message is not None:
                    await self._smtp.send(message, self._policy.envelope_from(contact), slot.acquire)
            except NotSent as error:
                if error.reason is not FailureReason.BREAKER_OPEN:
                    self._metrics.count_failed_mail(kind)
                raise
            now = self._clock.now()
            self._store.mark_mailed(event, get_alert_ids(alerts), now)
            note_told(self._store, event, alerts, now)
            self._store.clear_unproven_bounce(event, mail.user_id)
            # Before the user's state drops the in-flight ids: a crash between the two would let other alerts join them.
            await self._store.wait_until_persisted(event)
        if message is None:
            self._metrics.count_dropped_alerts("withdrawn", len(alerts))
        else:
            self._metrics.count_sent_mail(kind, time.perf_counter() - began)
            self._metrics.observe_mailed_alerts(tuple(alerts), now)
        completed = find_completed_batches(self._store, mail)
        batch_ids = get_batch_ids(completed)
        is_counted = message is not None and self._counts_as_mail(alerts)
        new_state = self._with_mail_sent(user, now, batch_ids) if is_counted else user.without_batches(batch_ids)
        await self._save_and_acknowledge(mail, new_state, completed)

    def _compose(self, mail: PlannedMail, alerts: Sequence[RaisedAlert], contact: Contact) -> EmailMessage | None:
        """Return the mail with these alerts; None if it is a catch-up mail whose alerts cancel each other."""
        return compose_mail(alerts, contact, self._policy.sender, self._clock.wall.now(), mail.is_catch_up)

    async def _handle_failure(
        self, mail: PlannedMail, alerts: Sequence[RaisedAlert], user: UserState, error: NotSent
    ) -> None:
        """Dead-letter a mail after a permanent failure or at the end of its lifetime; otherwise defer it by a backoff.

        An unproven bounce counts as a hard one once it is proven (`resolve_bounce`). Reports a hard bounce to
        user_manager after the dead letter. The mail counts the attempts of its most tried batch and the lifetime of its
        youngest; it is deferred sealed if the mail server may have it.
        """
        now = self._clock.now()
        error = resolve_bounce(self._store, get_first_event(mail), mail.user_id, error, now)
        if error.permanent:
            await self._dead_letter(mail, mail.batches, "refused", str(error))
            # After the dead letter: a crash between the two loses only the report, and the next mail repeats it.
            if isinstance(error, HardBounce):
                await report_bounce_repeatedly(self._contacts, self._metrics, mail.user_id, self._clock)
            return
        attempt = max(batch.attempt for batch in mail.batches) + 1
        wall_now, chance = self._clock.wall.now(), random.random()
        until = compute_retry_time(mail, attempt, self._policy, now, wall_now, chance, error.retry_at)
        log.warning(
            f"{self.kind}.put_off", alerts=len(alerts), attempt=attempt, reason=str(error), about=str(error.reason)
        )
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
        """Move the mail's alerts and all other queued alerts of the user to the retry topic, to be tried at `until`.

        Records the deferral in the user's state, then acknowledges the events. The other alerts are moved, too: they
        could not be mailed before this mail, and an event that stays in memory for many pauses would make the worker
        count as stuck. This deferral is no attempt of theirs. Alerts with a delivery status are left out. An unsealed
        mail may become several records (`build_retries`).

        `alerts`: the undelivered alerts of the mail. `reason`: the metric label. `tried`: the mail counts as attempted.
        `sealed`: the mail server may have the mail, so its alerts stay in flight in the user's state. Counts one
        deferred mail. Raises TooLargeToWaitError.
        """
        other_batches = self._queue.list_other_batches(mail)
        deferred = (*mail.batches, *chain.from_iterable(other_batches))
        clear_requeued_dead_letters(self._store, deferred)
        mail_ids = get_alert_ids(alerts)
        remaining_ids = find_open_alert_ids(self._store, deferred) - mail_ids
        parts = build_retries(mail, mail_ids, other_batches, remaining_ids, until, tried=tried, sealed=sealed)
        retries = [(compute_batch_id(get_alert_ids(each.alerts)), each) for each in parts]
        delay = user.compute_delay_beyond((batch_id, retry.not_before) for batch_id, retry in retries)
        user, now, event = user.without_batches(get_batch_ids(deferred)), self._clock.now(), get_first_event(mail)
        note_pending(self._store, event, chain.from_iterable(each.alerts for _, each in retries), now)
        await self._store.wait_until_persisted(event)
        for batch_id, retry in retries:
            later = replace(retry, not_before=retry.not_before + delay)
            await self._topics.publish_retry(mail.user_id, later)
            user = user.with_deferred_batches((batch_id,), later.not_before, now)
        if sealed:  # otherwise other alerts could join an older record of these alerts that is read again
            user = user.with_mail_in_flight(mail_ids)
        self._metrics.count_deferred_mail(self.kind, reason)
        await self._save_and_acknowledge(mail, user, deferred)

    async def _dead_letter(self, mail: PlannedMail, batches: Sequence[AlertBatch], label: str, reason: str) -> None:
        """Publish the events of some of a mail's batches to the dead-letter topic, and acknowledge them.

        Also marks their alerts as dead-lettered and counts each event. Batches whose alerts all have a delivery status
        are only acknowledged. The mail's other batches stay queued. `label` is the metric label, `reason` the text in
        the dead letter's header.
        """
        event, now = get_first_event(mail), self._clock.now()
        for batch in batches:
            if not find_open_alert_ids(self._store, (batch,)):  # a duplicate: its alerts have a status already
                continue
            await self._topics.publish_dead_letter(get_pending_event(batch).event, reason)
            self._store.mark_dead_lettered(event, batch.alert_ids, now)
            self._metrics.count_dead_letter(label)
        user = self._store.load_user_state(event, mail.user_id).without_batches(get_batch_ids(batches))
        await self._save_and_acknowledge(mail, user, batches)

    async def _save_and_acknowledge(
        self, mail: PlannedMail, user: UserState, completed: Sequence[AlertBatch] | None = None
    ) -> None:
        """Save the user's state if it changed, and wait until all writes are durable; then complete the batches.

        They are removed from the queue, and their events acknowledged. Ends the flight of the mail. `completed` None:
        all batches of the mail. Its other batches stay queued. Does nothing after a rebalance.
        """
        completed = mail.batches if completed is None else completed
        event = get_first_event(mail)
        if not self._is_still_ours(mail):
            return
        if user != self._store.load_user_state(event, mail.user_id):
            self._store.save_user_state(event, mail.user_id, user)
        await self._store.wait_until_persisted(event)
        self._queue.finish(mail, completed, user)
        for batch in completed:
            await get_pending_event(batch).acknowledge()

    def prepare(self, batch: AlertBatch) -> AlertBatch:
        """Return a batch as it is to be queued: as one of a catch-up mail if its lifetime is over, else unchanged."""
        if batch.catch_up or not self._is_lifetime_over(batch):
            return batch
        return convert_to_catch_up(batch, self._clock.now())

    def _is_lifetime_over(self, batch: AlertBatch) -> bool:
        """Return True if a batch must not be mailed as it is: it became too old, or its catch-up mail is given up."""
        return is_lifetime_over(batch, self._policy, self._clock.now(), self._clock.wall.now())

    def _convert_all_too_old(self, mail: PlannedMail) -> None:
        """Convert all batches of the mail's user whose lifetime is over; put the mail back into the queue untried."""
        batches = (*mail.batches, *chain.from_iterable(self._queue.list_other_batches(mail)))
        converted = {each: later for each in batches if (later := self.prepare(each)) is not each}
        log.info("alerts.too_old", alerts=sum(len(each.alerts) for each in converted))
        self._queue.exchange(mail, converted)

    def _counts_as_mail(self, _alerts: Sequence[RaisedAlert]) -> bool:
        """Return True if a mail with these alerts counts for the limit of mails: always."""
        return True

    def _with_mail_sent(self, user: UserState, now: datetime, batch_ids: frozenset[UUID]) -> UserState:
        return user.with_mail_sent(now, batch_ids, self._policy.mails_per_hour)

    def _is_still_ours(self, mail: PlannedMail) -> bool:
        """Return True if this worker still owns the partitions of all events of the mail, False after a rebalance."""
        return all(self._topics.is_still_ours(get_pending_event(batch).event) for batch in mail.batches)
