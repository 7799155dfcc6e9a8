"""The five agents of the notifier, and the topics for retries and dead letters. No error ends an agent's loop."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import structlog
from faust.types import EventT, StreamT, TopicT

from chassis.faust.app import publish_dead_letter
from chassis.faust.sending import retry_until_sent
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.confirmations import ConfirmationDelivery
from notifier.delivery.corrections import AlertLane
from notifier.delivery.interfaces import PendingEvent
from notifier.delivery.notices import NoticeDelivery
from notifier.delivery.overflow import AlertOverflow
from notifier.delivery.planned_mail import get_pending_event
from notifier.delivery.told import must_wait_for_corrections, note_waiting
from notifier.errors import TooLargeToWaitError, UndecodableError
from notifier.messages import (
    REQUEUED_FROM,
    RaisedAlert,
    Retry,
    ScheduledConfirmation,
    ScheduledNotice,
    decode_confirmation_request,
    decode_raised_alert,
    decode_raised_notice,
    decode_retry,
    encode_retry,
)
from notifier.metrics import NotifierMetrics
from towerwatch.topics import ALERTS_RETRY, ALERTS_WAITING, partition_of

log = structlog.get_logger()

_MAX_RETRY_BYTES: Final = 900_000
"""The maximal size of a retry record. Brokers and producers accept about a million bytes; our mails need a tenth."""


class KafkaTopics:
    """The producer of retry records and dead letters, for events that cannot be completed now.

    Each publish method repeats until the broker has acknowledged the record, however long that takes. Implements
    `notifier.delivery.interfaces.EventTopics`.
    """

    def __init__(
        self,
        retries: TopicT,
        waiting: TopicT,
        dead_letters: TopicT,
        is_still_ours: Callable[[EventT[Any]], bool],
    ) -> None:
        """`is_still_ours` returns True if this worker still owns an event's partition, False after a rebalance."""
        self._retries = retries
        self._waiting = waiting
        self._dead_letters = dead_letters
        self.is_still_ours = is_still_ours

    async def publish_retry(self, user_id: UUID, retry: Retry | ScheduledNotice | ScheduledConfirmation) -> None:
        """Publish a mail that must be sent later to the retry topic, in the user's partition.

        Returns once the broker has acknowledged the record; a failed attempt is repeated, without end. Raises
        TooLargeToWaitError, and publishes nothing, if the record exceeds _MAX_RETRY_BYTES.
        """
        key = str(user_id)
        await self._publish(self._retries, partition_of(key, ALERTS_RETRY), key, retry)

    async def publish_waiting(self, user_id: UUID, retry: Retry) -> None:
        """Publish alerts of a user who has very many to alerts.waiting.v1, as `publish_retry` does.

        The key names the first alert, so that the topic's compaction removes its earlier records.
        """
        key = f"{user_id}/{retry.alerts[0].alert.alert_id}"
        await self._publish(self._waiting, partition_of(str(user_id), ALERTS_WAITING), key, retry)

    async def _publish(
        self, topic: TopicT, partition: int, key: str, retry: Retry | ScheduledNotice | ScheduledConfirmation
    ) -> None:
        """Publish a record to a partition of a topic, until the broker has it. Raises TooLargeToWaitError."""
        value = encode_retry(retry)
        if len(value) > _MAX_RETRY_BYTES:
            raise TooLargeToWaitError(f"{len(value):,} bytes")
        await self._send(lambda: _send_and_wait(topic, key.encode(), value, partition))

    async def publish_dead_letter(self, event: EventT[bytes], reason: str) -> None:
        """Publish an event's bytes to the dead-letter topic, with headers about its origin and the reason.

        Returns once the broker has acknowledged the record; a failed attempt is repeated, without end.
        """
        await self._send(lambda: publish_dead_letter(self._dead_letters, event, reason))

    async def _send(self, send: Callable[[], Awaitable[None]]) -> None:
        """Call `send` until it succeeds: an unavailable broker raises many kinds of errors, and none may get out."""
        await retry_until_sent(send, "broker.refused", (Exception,))


class Agents:
    """The agents for new alerts, retries, notices and account updates: separate streams; none waits for another.

    The agents only decode an event and start its handling: alerts and their retries go into the dispatcher's queue,
    registrations and their retries to `ConfirmationDelivery`, notices and theirs to `NoticeDelivery`. The event is
    acknowledged by hand once its handling is complete: Faust itself would acknowledge the events that a stop
    interrupts, and alerts in the queue would be lost.
    """

    def __init__(
        self,
        alerts: AlertLane,
        corrections: AlertLane,
        confirmations: ConfirmationDelivery,
        notices: NoticeDelivery,
        overflow: AlertOverflow,
        topics: KafkaTopics,
        metrics: NotifierMetrics,
    ) -> None:
        self._alerts = alerts
        self._corrections = corrections
        self._confirmations = confirmations
        self._notices = notices
        self._overflow = overflow
        self._topics = topics
        self._metrics = metrics

    async def consume_alerts(self, stream: StreamT[bytes]) -> None:
        """Queue new alerts from alerts.raised.v1 for mailing."""
        await self._consume(stream, self._handle_alert)

    async def consume_retries(self, stream: StreamT[bytes]) -> None:
        """Queue deferred alerts, notices and confirmations from alerts.retry.v1 for mailing at their time."""
        await self._consume(stream, self._handle_retry)

    async def consume_waiting(self, stream: StreamT[bytes]) -> None:
        """Queue alerts of users with very many from alerts.waiting.v1, at their time and if there is room."""
        await self._consume(stream, self._handle_waiting)

    async def consume_notices(self, stream: StreamT[bytes]) -> None:
        """Start a mail for each notice in notices.raised.v1."""
        await self._consume(stream, self._handle_notice)

    async def consume_user_changes(self, stream: StreamT[bytes]) -> None:
        """Start a confirmation mail for each registration in users.changed.v1."""
        await self._consume(stream, self._handle_user_change)

    async def _consume(self, stream: StreamT[bytes], handle: Callable[[PendingEvent], Awaitable[bool]]) -> None:
        """Pass each event of a stream to `handle`, one after the other; dead-letter an event if `handle` raises.

        `handle` returns True if it, or the partition's next owner, will acknowledge the event, False if the event is
        complete. An event that is complete or dead-lettered is acknowledged here, unless its partition is revoked.
        UndecodableError and bugs (all other errors, which are logged too) do not end the loop.
        """
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        async for event in events.events():
            requeued = REQUEUED_FROM in dict(event.message.headers or ())
            pending_event = PendingEvent(event, _create_acknowledge(events, event), requeued)
            try:
                will_be_acknowledged = await handle(pending_event)
            except UndecodableError as error:
                await self._dead_letter(event, "undecodable", f"undecodable: {error}")
                will_be_acknowledged = False
            except Exception as error:  # a bug must cost one event, kept as evidence, and not the agent
                log.error("notifier.failed", topic=event.message.topic, error=type(error).__name__, exc_info=error)
                await self._dead_letter(event, "bug", f"{type(error).__name__} in the notifier")
                will_be_acknowledged = False
            if not will_be_acknowledged and self._topics.is_still_ours(event):
                await pending_event.acknowledge()

    async def _handle_alert(self, pending_event: PendingEvent) -> bool:
        """Queue the new alert of an event for mailing, in a batch of one, once there is capacity.

        A correction is queued with the corrections, as is an alert that follows one that waits. The alert's lifetime
        starts at the timestamp of its record. An alert of a user who has very many goes to alerts.waiting.v1 (but for
        one that an operator requeued). Returns False then: the event is complete. Else True: the alert is queued, or
        its partition is revoked, and the event must not be acknowledged now. Raises UndecodableError.
        """
        event = pending_event.event
        alert = decode_raised_alert(event.message.value)
        lane, batch = self._build_new_batch(
            pending_event, (alert,), datetime.fromtimestamp(event.message.timestamp, UTC)
        )
        if not pending_event.requeued and self._topics.is_still_ours(event):
            user = lane.store.load_user_state(event, batch.user_id)
            if self._overflow.must_wait(lane, batch, user):
                await self._let_wait(lane, batch, is_new=True)
                return False
        return await self._enqueue(lane, batch)

    async def _handle_waiting(self, pending_event: PendingEvent) -> bool:
        """Queue alerts of alerts.waiting.v1 when their time has come, as new ones; or let them wait once more.

        Returns False if they wait once more, or if their user gets no mail: the event is complete. Returns True as
        `_handle_alert` does. Raises UndecodableError.
        """
        event = pending_event.event
        retry = decode_retry(event.message.value)
        if not isinstance(retry, Retry):
            raise UndecodableError("AlertRetry of no alerts")
        if not await self._overflow.wait_until_due(event.message.partition, retry):
            return True
        lane, batch = self._build_new_batch(pending_event, retry.alerts, retry.first_attempt_at)
        drop_reason = await self._overflow.find_drop_reason(batch)
        if not self._topics.is_still_ours(event):
            return True
        user = lane.store.load_user_state(event, batch.user_id)
        if drop_reason is not None and not user.has_in_flight(batch.alert_ids):  # else it is dropped with its mail
            await self._overflow.drop(lane, batch, drop_reason)
            return False
        if self._overflow.must_wait_again(lane, batch, user):
            await self._let_wait(lane, batch, is_new=False)
            return False
        return await self._enqueue(lane, batch)

    async def _let_wait(self, lane: AlertLane, batch: AlertBatch, is_new: bool) -> None:
        """Publish the alerts of a batch to alerts.waiting.v1; those that follow a correction among them wait, too.

        `is_new`: False for alerts that wait again.
        """
        if lane is self._corrections:
            note_waiting(lane.store, get_pending_event(batch).event, batch.alerts, batch.lifetime_start)
        await self._overflow.publish(lane, batch, is_new)

    def _build_new_batch(
        self, pending_event: PendingEvent, alerts: tuple[RaisedAlert, ...], lifetime_start: datetime
    ) -> tuple[AlertLane, AlertBatch]:
        """Build a batch of new alerts, and return it with its lane: that of corrections, or of all others.

        An alert that follows one that waits for the mail of corrections is of their lane, too.
        """
        event, store = pending_event.event, self._corrections.store
        waits = any(must_wait_for_corrections(store, event, each.alert) for each in alerts)
        batch = AlertBatch(alerts, pending_event, lifetime_start, catch_up=waits)
        return self._corrections if waits else self._alerts, batch

    async def _handle_retry(self, pending_event: PendingEvent) -> bool:
        """Queue the deferred alerts of a retry record as one batch, with its attempts and times, once capacity is free.

        The mail of a deferred notice or confirmation is started instead. Returns True if the batch is queued, the mail
        started or the partition revoked: the event must not be acknowledged now. Returns False if a later retry record
        replaced this one: the event is complete. Raises UndecodableError.
        """
        retry = decode_retry(pending_event.event.message.value)
        if isinstance(retry, ScheduledNotice):
            await self._notices.start(pending_event, retry)
            return True
        if isinstance(retry, ScheduledConfirmation):
            await self._confirmations.start(pending_event, retry)
            return True
        return await self._enqueue(
            self._alerts if retry.gather_until is None else self._corrections,
            AlertBatch(
                retry.alerts,
                pending_event,
                retry.first_attempt_at,
                retry.attempt,
                retry.not_before,
                retry.sealed,
                retry.catch_up,
                retry.gather_until,
            ),
        )

    async def _enqueue(self, lane: AlertLane, batch: AlertBatch) -> bool:
        """Wait for capacity, then queue a batch in its lane.

        Not if its partition is revoked, or if a later retry record replaced it.

        Returns True if the batch is queued, or if its partition is revoked: both must not be acknowledged now. Returns
        False if a later retry record replaced it (never for a new alert): then its event is complete.
        """
        await lane.dispatcher.wait_for_capacity(is_retry=batch.not_before is not None)
        assert isinstance(batch.pending_event, PendingEvent)  # noqa: S101 - for mypy: it is what was put in
        event = batch.pending_event.event
        if not self._topics.is_still_ours(event):  # after a rebalance the partition's owner reads the event again
            return True
        user = lane.store.load_user_state(event, batch.user_id)
        if batch.not_before and batch.batch_id and user.has_newer_retry(batch.batch_id, batch.not_before):
            return False  # completed before, but its offset was not committed; the newer record is in the topic
        if lane is self._corrections:
            note_waiting(lane.store, event, batch.alerts, batch.lifetime_start)
        lane.dispatcher.enqueue(batch, user)
        return True

    async def _handle_notice(self, pending_event: PendingEvent) -> bool:
        """Start the mail of a new notice, whose lifetime starts at the timestamp of its record.

        Always returns True: the task that is started acknowledges the event. Raises UndecodableError.
        """
        raised = decode_raised_notice(pending_event.event.message.value)
        published_at = datetime.fromtimestamp(pending_event.event.message.timestamp, UTC)
        await self._notices.start(pending_event, ScheduledNotice(raised, 0, published_at, published_at))
        return True

    async def _handle_user_change(self, pending_event: PendingEvent) -> bool:
        """Start a confirmation mail if the event is a registration; wait first while too many are in progress.

        The lifetime of the request starts at the timestamp of its record.
        Returns True if the mail is started: its task acknowledges the event. Returns False for every other account
        update, which is complete. Raises UndecodableError.
        """
        request = decode_confirmation_request(pending_event.event.message.value)
        if request is None:
            return False
        published_at = datetime.fromtimestamp(pending_event.event.message.timestamp, UTC)
        await self._confirmations.start(pending_event, ScheduledConfirmation(request, 0, published_at, published_at))
        return True

    async def _dead_letter(self, event: EventT[bytes], label: str, reason: str) -> None:
        """Publish an event to the dead-letter topic, and count it.

        `label`: the metric label; `reason`: the text in the header.
        """
        await self._topics.publish_dead_letter(event, reason)
        self._metrics.count_dead_letter(label)


def _create_acknowledge(events: StreamT[bytes], event: EventT[bytes]) -> Callable[[], Awaitable[None]]:
    """Return the function that acknowledges an event of a stream."""

    async def acknowledge() -> None:
        await events.ack(event)

    return acknowledge


async def _send_and_wait(topic: TopicT, key: bytes, value: bytes, partition: int) -> None:
    """Send a record to a partition and wait until the broker has acknowledged it."""
    await (await topic.send(key=key, value=value, partition=partition))
