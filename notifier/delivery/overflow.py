"""Alerts of a user who has very many: they wait in a topic of their own, so that nobody else's wait behind them.

A user may have a share of the places in the queue. New alerts above it go into alerts.waiting.v1 in their order, one a
record, and are tried again when their time has come: those for whose user there is room are queued, the others wait
once more. Alerts of a user who gets no mail are dropped then. So nothing is lost, and what waits takes no memory.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

from chassis.clock import SteadyClock
from notifier.delivery.alert_batch import AlertBatch
from notifier.delivery.corrections import AlertLane
from notifier.delivery.interfaces import ContactsLike
from notifier.delivery.planned_mail import find_open_alert_ids, get_pending_event
from notifier.delivery.policy import request_drop_reason
from notifier.delivery.user_state import UserState
from notifier.messages import Retry
from notifier.metrics import NotifierMetrics

OVERFLOW_PAUSE: Final = timedelta(hours=1)
"""How long an alert waits before it is looked at again: in an hour a user gets some thousand alerts at most."""

_READING_TIME: Final = timedelta(minutes=5)
"""How long a user's new alerts go on to wait behind older ones whose time has come, and which may not be read yet."""


class WaitingTopic(Protocol):
    """Publishes alerts that wait; implemented by `notifier.agents.KafkaTopics`."""

    async def publish_waiting(self, user_id: UUID, retry: Retry) -> None:
        """Publish alerts to alerts.waiting.v1, in place of an earlier record of theirs, until the broker has them.

        Raises TooLargeToWaitError.
        """
        ...


class AlertOverflow:
    """Decides which new alerts wait in alerts.waiting.v1, and publishes them."""

    def __init__(
        self, topic: WaitingTopic, contacts: ContactsLike, clock: SteadyClock, metrics: NotifierMetrics
    ) -> None:
        self._topic = topic
        self._contacts = contacts
        self._clock = clock
        self._metrics = metrics
        self._first_due: dict[UUID, datetime] = {}
        """By user, the time of the first of the alerts that wait: no later one is queued before it."""
        self._last_due: dict[UUID, datetime] = {}
        """By user, the time of the last of them: newer alerts wait behind it."""
        self._revoked = asyncio.Event()

    def must_wait(self, lane: AlertLane, batch: AlertBatch, user: UserState) -> bool:
        """Return True if a new alert must wait, as its user's share is used up or older ones wait; False: queue it."""
        last = self._last_due.get(batch.user_id)
        if last is not None and self._clock.now() < last + _READING_TIME:
            return True
        return not lane.dispatcher.has_room(batch.user_id, user)

    def must_wait_again(self, lane: AlertLane, batch: AlertBatch, user: UserState) -> bool:
        """Return True if an alert that is due must wait once more, for the same reasons; False: queue it."""
        first = self._first_due.get(batch.user_id)
        if first is not None and self._clock.now() < first:  # an older one of the same user has just had to
            return True
        return not lane.dispatcher.has_room(batch.user_id, user)

    async def publish(self, batch: AlertBatch) -> None:
        """Publish the alerts of a batch to alerts.waiting.v1; return once the broker has them, and count them."""
        now = self._clock.now()
        due = now + OVERFLOW_PAUSE
        retry = Retry(batch.alerts, 0, due, batch.lifetime_start)
        await self._topic.publish_waiting(batch.user_id, retry)
        for user_id in [user_id for user_id, last in self._last_due.items() if last + _READING_TIME <= now]:
            del self._last_due[user_id]
            self._first_due.pop(user_id, None)
        if self._first_due.get(batch.user_id, now) <= now:
            self._first_due[batch.user_id] = due
        self._last_due[batch.user_id] = due
        self._metrics.count_overflow(len(batch.alerts))

    async def wait_until_due(self, retry: Retry) -> bool:
        """Wait until alerts that were just read are due; return False if the partitions were revoked meanwhile.

        Their time counts as no later than OVERFLOW_PAUSE from now, whatever clock wrote it.
        """
        until = min(retry.not_before, self._clock.now() + OVERFLOW_PAUSE)
        while (left := until - self._clock.now()) > timedelta(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._clock.real_seconds(left) + 0.001):  # a timer may end a little early
                    await self._revoked.wait()
                    return False
        return True

    async def stop_and_drain(self, _within_s: float) -> None:
        """Make each `wait_until_due` return False at once: the partitions' next owner reads the events again."""
        self._revoked.set()
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
