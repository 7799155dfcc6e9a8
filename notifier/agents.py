"""The three agents, and where each failure ends: in a retry, in a dead letter, never outside of the loop."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import count

import structlog
from faust.types import EventT, StreamT, TopicT

from chassis.clock import Clock
from chassis.metrics import Metrics
from chassis.stream_app import dead_letter
from notifier.errors import NotSent, UndecodableError
from notifier.mailroom import Mailroom
from notifier.messages import (
    ConfirmationWish,
    RaisedAlert,
    Retry,
    decode_raised,
    decode_retry,
    decode_wish,
    encode_retry,
)
from notifier.retries import CONFIRMATION_TRIES, LIFETIME, LONGEST, pause_after
from towerwatch.topics import ALERTS_RETRY, partition_of

log = structlog.get_logger()


class Agents:
    """Reads fresh alerts, retries and changes of accounts, each by an agent of its own, so that none waits for another.

    An event is acknowledged by hand, once everything about it is done: Faust's own way acknowledges what it
    interrupts at a stop, and an alert that was only waiting would be lost.
    """

    def __init__(
        self,
        mailroom: Mailroom,
        retries: TopicT,
        dead_letters: TopicT,
        clock: Clock,
        retry_base: timedelta,
        metrics: Metrics,
    ) -> None:
        """`clock` must show real time. `retry_base`: the pause after a first failure."""
        self._mailroom = mailroom
        self._retries = retries
        self._dead_letters = dead_letters
        self._clock = clock
        self._retry_base = retry_base
        self._retried = metrics.counter("email_retries_total", "Mails put off until later", "kind")
        self._dead = metrics.counter("dead_letters_total", "Events put aside for good", "reason")

    async def raised(self, stream: StreamT[bytes]) -> None:
        """Mail fresh alerts."""
        await self._each(stream, self._raised)

    async def retried(self, stream: StreamT[bytes]) -> None:
        """Mail, at their time, alerts that could not be mailed before."""
        await self._each(stream, self._retried_later)

    async def users_changed(self, stream: StreamT[bytes]) -> None:
        """Mail confirmation links."""
        await self._each(stream, self._user_changed)

    async def _each(self, stream: StreamT[bytes], handle: Callable[[EventT[bytes]], Awaitable[None]]) -> None:
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        async for event in events.events():
            try:
                await handle(event)
            except UndecodableError as error:
                await self._put_aside(event, "undecodable", f"undecodable: {error}")
            except Exception as error:  # a bug must cost one event, kept as evidence, and not the agent
                log.error("notifier.failed", topic=event.message.topic, error=type(error).__name__, exc_info=error)
                await self._put_aside(event, "bug", f"{type(error).__name__} in the notifier")
            await events.ack(event)

    async def _raised(self, event: EventT[bytes]) -> None:
        raised = decode_raised(event.message.value)
        began = self._clock.now()
        try:
            await self._mailroom.tell(raised)
        except NotSent as error:
            await self._failed(event, error, raised, attempt=1, first_attempt_at=began)

    async def _retried_later(self, event: EventT[bytes]) -> None:
        retry = decode_retry(event.message.value)
        # The bound is for a time that some broken clock wrote: no pause of ours is longer.
        await self._sleep(min(retry.not_before - self._clock.now(), LONGEST))
        try:
            await self._mailroom.tell(retry.raised)
        except NotSent as error:
            await self._failed(event, error, retry.raised, retry.attempt + 1, retry.first_attempt_at)

    async def _failed(
        self, event: EventT[bytes], error: NotSent, raised: RaisedAlert, attempt: int, first_attempt_at: datetime
    ) -> None:
        """Put an alert off, or aside when that is useless. Returns once the broker has it."""
        now = self._clock.now()
        if error.permanent:
            await self._put_aside(event, "refused", str(error))
            return
        if now - first_attempt_at >= LIFETIME:
            await self._put_aside(event, "gave_up", f"gave up after {attempt} tries: {error}")
            return
        not_before = now + self._pause_after(attempt)
        value = encode_retry(Retry(raised, attempt, not_before, first_attempt_at))
        user_id = str(raised.alert.user_id)
        partition = partition_of(user_id, ALERTS_RETRY)
        await self._insist(lambda: _acknowledged(self._retries, user_id.encode(), value, partition))
        self._retried.labels(kind="alert").inc()
        log.warning("alert.put_off", alert_id=str(raised.alert.alert_id), attempt=attempt, reason=str(error))

    async def _user_changed(self, event: EventT[bytes]) -> None:
        wish = decode_wish(event.message.value)
        if wish is not None:
            await self._ask_to_confirm(event, wish)

    async def _ask_to_confirm(self, event: EventT[bytes], wish: ConfirmationWish) -> None:
        """Try in place. The contact is asked for again each time, so who is gone or has confirmed ends it.

        While nobody could be mailed, others lose nothing by waiting, so it goes on for LIFETIME after the wish. A
        recipient who alone is refused gets CONFIRMATION_TRIES, and may ask for another mail.
        """
        wished_at = datetime.fromtimestamp(event.message.timestamp, UTC)
        for attempt in count(1):
            try:
                await self._mailroom.ask_to_confirm(wish)
                return
            except NotSent as error:
                if error.permanent:
                    await self._put_aside(event, "refused", str(error))
                    return
                too_old = self._clock.now() - wished_at >= LIFETIME
                if too_old or (attempt >= CONFIRMATION_TRIES and not error.concerns_all):
                    await self._put_aside(event, "gave_up", f"gave up after {attempt} tries: {error}")
                    return
                self._retried.labels(kind="confirmation").inc()
                log.warning("confirmation.put_off", user_id=str(wish.user_id), attempt=attempt, reason=str(error))
            await self._sleep(self._pause_after(attempt))

    async def _put_aside(self, event: EventT[bytes], label: str, reason: str) -> None:
        await self._insist(lambda: dead_letter(self._dead_letters, event, reason))
        self._dead.labels(reason=label).inc()

    async def _insist(self, send: Callable[[], Awaitable[None]]) -> None:
        """Send, and return once the broker has it; tries as long as it takes, since without it nothing else goes on."""
        for attempt in count(1):
            try:
                await send()
                return
            except Exception as error:  # noqa: BLE001 - a broker that is away raises many kinds, and none may get out
                log.warning("broker.refused", error=type(error).__name__, attempt=attempt)
            await self._sleep(min(timedelta(seconds=0.1) * 2 ** min(attempt, 7), timedelta(seconds=10)))

    def _pause_after(self, attempt: int) -> timedelta:
        return pause_after(attempt, self._retry_base, random.random())

    async def _sleep(self, pause: timedelta) -> None:
        await asyncio.sleep(self._clock.real_seconds(pause))


async def _acknowledged(topic: TopicT, key: bytes, value: bytes, partition: int) -> None:
    """Send, and return once the broker has it."""
    await (await topic.send(key=key, value=value, partition=partition))
