"""Alerts of a user who has very many: they wait in a topic of their own, so that nobody else's wait behind them.

A user may have a share of the places in the queue. New alerts above it go into alerts.waiting.v1 in their order, one a
record, and are tried again when their time has come: those for whose user there is room are queued, the others wait
once more. Alerts of a user who gets no mail are dropped then. So nothing is lost, and what waits takes no memory.

Each lane is apart: corrections, which leave in one mail a day, never make other alerts wait. When the alerts of a user
and lane are due is stored, so that newer ones keep waiting behind them after a restart.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from chassis.clock import SteadyClock
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.corrections import AlertLane
from notifier.delivery.interfaces import ContactsLike
from notifier.delivery.planned_mail import find_open_alert_ids, get_pending_event
from notifier.delivery.policy import request_drop_reason
from notifier.delivery.told import note_pending
from notifier.delivery.user_state import UserState
from notifier.delivery.waiting_times import OVERFLOW_PAUSE, READING_TIME, WaitingTimes, add_waiting_alert
from notifier.messages import Retry
from notifier.metrics import NotifierMetrics


class WaitingTopic(Protocol):
    """Publishes alerts that wait; implemented by `notifier.agents.KafkaTopics`."""

    async def publish_waiting(self, user_id: UUID, retry: Retry) -> None:
        """Publish alerts to alerts.waiting.v1, in place of an earlier record of theirs, until the broker has them.

        Raises TooLargeToWaitError.
        """
        ...


@dataclass(frozen=True, slots=True)
class _LastRead:
    """The times at which a record of alerts.waiting.v1 was due, and was handled."""

    due: datetime
    at: datetime


class AlertOverflow:
    """Decides which new alerts wait in alerts.waiting.v1, and publishes them."""

    def __init__(
        self, topic: WaitingTopic, contacts: ContactsLike, clock: SteadyClock, metrics: NotifierMetrics
    ) -> None:
        self._topic = topic
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics
        self._revoked = asyncio.Event()
        self._last_read: dict[int, _LastRead] = {}
        """By partition, the record of alerts.waiting.v1 that is being handled, or was the last to be."""

    def must_wait(self, lane: AlertLane, batch: AlertBatch, user: UserState) -> bool:
        """Return True if a new alert must wait, as its user's share is used up or older ones wait; False: queue it.

        Also False for an alert of a mail that was in flight before a crash: it is sent, or dropped, with that mail. And
        for one that is older than those that wait and is read again after a crash: it was in memory before.
        """
        if user.has_in_flight(batch.alert_ids):
            return False
        times = self._load_times(lane, batch)
        if times is not None and self._are_unread(batch, times):
            return _get_offset(batch) >= times.since_offset
        return not lane.dispatcher.has_room(batch.user_id, user)

    def must_wait_again(self, lane: AlertLane, batch: AlertBatch, user: UserState) -> bool:
        """Return True if an alert that is due must wait once more, for the same reasons; False: queue it."""
        if user.has_in_flight(batch.alert_ids):
            return False
        times = self._load_times(lane, batch)
        if times is not None and self._clock.now() < times.first_due:  # an older one of the user has just had to
            return _get_offset(batch) >= times.again_offset
        return not lane.dispatcher.has_room(batch.user_id, user)

    def _are_unread(self, batch: AlertBatch, times: WaitingTimes) -> bool:
        """Return True if alerts with these times may not all be read yet: they are not due, or their reader is late."""
        now = self._clock.now()
        if times.keeps_waiting(now):
            return True
        read = self._last_read.get(get_pending_event(batch).event.message.partition)
        return read is not None and read.due < times.last_due and now < read.at + READING_TIME

    async def publish(self, lane: AlertLane, batch: AlertBatch, is_new: bool) -> None:
        """Publish the alerts of a batch to alerts.waiting.v1, store when they are due, and count them.

        Returns once the broker has both, and all that was written before for the same event. `is_new`: True for an
        event of alerts.raised.v1, False for one that waits again.
        """
        event, now = get_pending_event(batch).event, self._clock.now()
        if note_pending(lane.store, event, batch.alerts, now, lane.dispatcher.has_alert):
            await lane.store.wait_until_persisted(event)
        before = lane.store.load_waiting_times(event, batch.user_id)
        times = add_waiting_alert(before, now, _get_offset(batch), is_new=is_new)
        lane.store.save_waiting_times(event, batch.user_id, times, now)
        await self._topic.publish_waiting(batch.user_id, Retry(batch.alerts, 0, times.last_due, batch.lifetime_start))
        await lane.store.wait_until_persisted(event)
        self._metrics.count_overflow(len(batch.alerts))

    def _load_times(self, lane: AlertLane, batch: AlertBatch) -> WaitingTimes | None:
        """Return when the alerts that wait of a batch's user and lane are due, bounded; None: none wait."""
        times = lane.store.load_waiting_times(get_pending_event(batch).event, batch.user_id)
        return None if times is None else times.with_bounded_times(self._clock.now())

    async def wait_until_due(self, partition: int, retry: Retry) -> bool:
        """Wait until alerts that were just read are due; return False if the partitions were revoked meanwhile.

        Their time counts as no later than OVERFLOW_PAUSE from now, whatever clock wrote it.
        """
        until = min(retry.not_before, self._clock.now() + OVERFLOW_PAUSE)
        while (left := until - self._clock.now()) > timedelta(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._clock.real_seconds(left) + 0.001):  # a timer may end a little early
                    await self._revoked.wait()
                    return False
        self._last_read[partition] = _LastRead(until, self._clock.now())
        return True

    async def stop_and_drain(self, _within_s: float) -> None:
        """Make each `wait_until_due` return False at once: the partitions' next owner reads the events again."""
        self._revoked.set()
        self._last_read.clear()
        self._revoked = asyncio.Event()

    async def find_drop_reason(self, batch: AlertBatch) -> str | None:
        """Return the metric label that says why the user of alerts must get no mail; None: the user may get it.

        None also while user_manager is unavailable.
        """
        return await request_drop_reason(self._contacts, batch.user_id)

    async def drop(self, lane: AlertLane, batch: AlertBatch, reason: str) -> None:
        """Record the alerts of a batch as untold, so that their ends are not mailed either, and count them.

        Returns once the record is durable. `reason`: the metric label.
        """
        event = get_pending_event(batch).event
        open_ids = find_open_alert_ids(lane.store, (batch,))
        lane.store.mark_untold(event, open_ids, self._clock.now())
        await lane.store.wait_until_persisted(event)
        self._metrics.count_dropped_alerts(reason, len(open_ids))


def _get_offset(batch: AlertBatch) -> int:
    """Return the offset of the event of a batch in its topic."""
    return get_pending_event(batch).event.message.offset
