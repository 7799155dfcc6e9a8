"""The three agents, and where events go that are not done with: never outside of the loop."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final
from uuid import UUID

import structlog
from faust.types import EventT, StreamT, TopicT

from chassis.faust.app import publish_dead_letter
from notifier.delivery.batching import Bundle
from notifier.delivery.confirmations import Confirmations
from notifier.delivery.dispatch import Dispatch
from notifier.delivery.interfaces import Arrival
from notifier.delivery.store import Ledger
from notifier.errors import TooLargeToWaitError, UndecodableError
from notifier.messages import REQUEUED_FROM, Retry, decode_raised, decode_retry, decode_wish, encode_retry
from notifier.metrics import NotifierMetrics
from towerwatch.topics import ALERTS_RETRY, partition_of

log = structlog.get_logger()

_LARGEST_RETRY: Final = 900_000
"""Bytes. Brokers and producers take records of about a million; mails of ours need a tenth."""


class KafkaTopics:
    """Where events go that are not done with."""

    def __init__(self, retries: TopicT, dead_letters: TopicT, are_ours: Callable[[EventT[Any]], bool]) -> None:
        """`are_ours`: whether this worker still owns an event's partition, as it did when it received the event."""
        self._retries = retries
        self._dead_letters = dead_letters
        self.are_ours = are_ours

    async def put_off(self, user_id: UUID, retry: Retry) -> None:
        """Publish what has to wait; returns once the broker has it. Raises TooLargeToWaitError."""
        key, value = str(user_id), encode_retry(retry)
        if len(value) > _LARGEST_RETRY:
            raise TooLargeToWaitError(f"{len(value):,} bytes")
        partition = partition_of(key, ALERTS_RETRY)
        await _insist(lambda: _acknowledged(self._retries, key.encode(), value, partition))

    async def bury(self, event: EventT[bytes], reason: str) -> None:
        """Make a dead letter of an event; returns once the broker has it."""
        await _insist(lambda: publish_dead_letter(self._dead_letters, event, reason))


class Agents:
    """Reads fresh alerts, retries and changes of accounts, each by an agent of its own, so that none waits for another.

    They only take events in hand. An event is acknowledged by hand, once everything about it is done: Faust's own way
    acknowledges what it interrupts at a stop, and an alert that was only waiting would be lost.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        confirmations: Confirmations,
        ledger: Ledger,
        topics: KafkaTopics,
        metrics: NotifierMetrics,
    ) -> None:
        self._dispatch = dispatch
        self._confirmations = confirmations
        self._ledger = ledger
        self._topics = topics
        self._metrics = metrics

    async def raised(self, stream: StreamT[bytes]) -> None:
        """Mail fresh alerts."""
        await self._each(stream, self._raised)

    async def retried(self, stream: StreamT[bytes]) -> None:
        """Mail, at their time, alerts that could not be mailed before."""
        await self._each(stream, self._retried)

    async def users_changed(self, stream: StreamT[bytes]) -> None:
        """Mail confirmation links."""
        await self._each(stream, self._user_changed)

    async def _each(self, stream: StreamT[bytes], take: Callable[[Arrival], Awaitable[bool]]) -> None:
        """`take` says whether it will acknowledge the event."""
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        async for event in events.events():
            arrival = Arrival(event, _acknowledging(events, event), REQUEUED_FROM in dict(event.message.headers or ()))
            try:
                taken = await take(arrival)
            except UndecodableError as error:
                await self._put_aside(event, "undecodable", f"undecodable: {error}")
                taken = False
            except Exception as error:  # a bug must cost one event, kept as evidence, and not the agent
                log.error("notifier.failed", topic=event.message.topic, error=type(error).__name__, exc_info=error)
                await self._put_aside(event, "bug", f"{type(error).__name__} in the notifier")
                taken = False
            if not taken and self._topics.are_ours(event):
                await arrival.acknowledge()

    async def _raised(self, arrival: Arrival) -> bool:
        raised = decode_raised(arrival.event.message.value)
        since = datetime.fromtimestamp(arrival.event.message.timestamp, UTC)
        return await self._take(Bundle((raised,), arrival, since))

    async def _retried(self, arrival: Arrival) -> bool:
        retry = decode_retry(arrival.event.message.value)
        since = retry.first_attempt_at
        return await self._take(Bundle(retry.raised, arrival, since, retry.attempt, retry.not_before, retry.sealed))

    async def _take(self, bundle: Bundle) -> bool:
        await self._dispatch.room(is_retry=bundle.not_before is not None)
        assert isinstance(bundle.origin, Arrival)  # noqa: S101 - for mypy: it is what was put in
        event = bundle.origin.event
        if not self._topics.are_ours(event):  # a rebalance began meanwhile, and it is read again, here or elsewhere
            return True
        person = self._ledger.person(event, bundle.user_id)
        if bundle.not_before and bundle.name and person.has_put_off_again(bundle.name, bundle.not_before):
            return False  # done with before, and not committed yet; its successor is in the topic
        self._dispatch.take(bundle, person)
        return True

    async def _user_changed(self, arrival: Arrival) -> bool:
        wish = decode_wish(arrival.event.message.value)
        if wish is None:
            return False
        await self._confirmations.take(arrival, wish)
        return True

    async def _put_aside(self, event: EventT[bytes], label: str, reason: str) -> None:
        await self._topics.bury(event, reason)
        self._metrics.dead(label)


def _acknowledging(events: StreamT[bytes], event: EventT[bytes]) -> Callable[[], Awaitable[None]]:
    async def acknowledge() -> None:
        await events.ack(event)

    return acknowledge


async def _insist(send: Callable[[], Awaitable[None]]) -> None:
    """Send, and return once the broker has it; tries as long as it takes, since without it nothing else goes on."""
    for attempt in count(1):
        try:
            await send()
            return
        except Exception as error:  # noqa: BLE001 - a broker that is away raises many kinds, and none may get out
            log.warning("broker.refused", error=type(error).__name__, attempt=attempt)
        await asyncio.sleep(min(timedelta(seconds=0.1) * 2 ** min(attempt, 7), timedelta(seconds=10)).total_seconds())


async def _acknowledged(topic: TopicT, key: bytes, value: bytes, partition: int) -> None:
    """Send, and return once the broker has it."""
    await (await topic.send(key=key, value=value, partition=partition))
