"""The one agent. It reads both inputs, because two agents would have to lock the airport against each other."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

import structlog
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError
from faust.types import EventT, StreamT, TopicT

from chassis.faust.app import publish_dead_letter
from chassis.faust.table import set_current_event
from chassis.kafka import parse_sequence
from domain.alerts import Alert
from streams.errors import MisroutedError, UnsequencedError, UnusableEventError
from streams.join_state import Desk, Outcome
from streams.messages import decode_flights, decode_interest_key, encode_alert
from streams.metrics import StreamMetrics
from streams.recent_activity import Ticker
from streams.tables import SequencedTable
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

log = structlog.get_logger()

_EVENTS_AT_ONCE: Final = 200
_ALERTS_AT_ONCE: Final = 1_000
_YIELD_AFTER_S: Final = 0.005
"""So long others wait while events are folded: the producer that sends what followed from those before is one."""

Send = Callable[[bytes, bytes, int], Awaitable[Awaitable[object]]]
"""Hands a record (key, value, partition) to the producer; what it gives is done once the broker has the record."""


@dataclass(frozen=True, slots=True)
class Tables:
    """What the stream remembers."""

    airports: SequencedTable
    interests: SequencedTable
    history: SequencedTable


@dataclass(slots=True)
class _Work:
    """What follows from some events together, in the order in which it is to be done."""

    epoch: int
    """Of the desk: it is void where the desk has forgotten since."""
    aside: list[tuple[EventT[bytes], str, Exception]] = field(default_factory=list)
    alerts: list[Iterable[tuple[Alert, datetime]]] = field(default_factory=list)
    past: dict[bytes, tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    entries: dict[tuple[str, bytes], tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    """By topic and key: of several that follow each other, the last; None: the one that the table has by then."""
    outcomes: list[Outcome] = field(default_factory=list)
    done: list[EventT[bytes]] = field(default_factory=list)


class Join:
    """Flight events meet interests.

    Three steps in this order, so that a crash between any two repeats alerts, under the same ids, and loses none:
    the broker has the alerts; the broker has the state that makes the event a duplicate; the event is acknowledged.
    Events that wait already take each of the steps together, and the next ones are folded meanwhile: for each alone the
    broker would have to be waited for.
    """

    def __init__(
        self,
        desk: Desk,
        tables: Tables,
        send_alert: Send,
        dead_letters: TopicT,
        metrics: StreamMetrics,
        ticker: Ticker,
        still_ours: Callable[[EventT[bytes]], bool],
        crash: Callable[[BaseException], None],
    ) -> None:
        """`still_ours`: whether this worker still owns an event's partition, as it did when it received the event.

        `crash` ends the worker, to be started again: when a table holds what its changelog will never have.
        """
        self._desk = desk
        self._tables = {FLIGHTS_OBSERVED.name: tables.airports, INTERESTS_CHANGED.name: tables.interests}
        self._history = tables.history
        self._send_alert = send_alert
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._ticker = ticker
        self._still_ours = still_ours
        self._crash = crash
        self._acknowledgements: set[asyncio.Task[None]] = set()

    async def run(self, stream: StreamT[bytes]) -> None:
        """Fold all events. Each is acknowledged by hand: Faust would acknowledge one that failed, and one that a stop
        interrupts."""
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        waiting: asyncio.Queue[EventT[bytes]] = asyncio.Queue(_EVENTS_AT_ONCE)
        folded: asyncio.Queue[_Work] = asyncio.Queue(1)
        tasks = (
            asyncio.create_task(self._going_on(lambda: self._fold(waiting, folded))),
            asyncio.create_task(self._going_on(lambda: self._finish(events, folded))),
        )
        try:
            async for event in events.events():
                await waiting.put(event)
            await waiting.join()
            await folded.join()
        finally:
            for task in tasks:
                task.cancel()

    async def _going_on(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            while True:
                await step()
        except Exception as error:  # what is left to go wrong here is the machinery, and without it nothing goes on
            log.error("join.broken", error=type(error).__name__, exc_info=error)
            self._crash(error)

    async def _fold(self, waiting: asyncio.Queue[EventT[bytes]], folded: asyncio.Queue["_Work"]) -> None:
        """Take the events that wait, and hand on what follows from them. Meanwhile what followed from those before is
        finished: the broker takes its time."""
        event = await waiting.get()
        while self._desk.derive():
            await asyncio.sleep(0)
        work = _Work(self._desk.epoch)
        began, taken = time.monotonic(), 0
        while True:
            taken += 1
            are_many = self._still_ours(event) and self._are_many(event, work)
            if are_many or waiting.empty() or taken >= _EVENTS_AT_ONCE:
                break
            if time.monotonic() - began > _YIELD_AFTER_S:
                await asyncio.sleep(0)
                began = time.monotonic()
                if work.epoch != self._desk.epoch:
                    break  # a rebalance: what comes now must not share the fate of what came before it
            event = waiting.get_nowait()
        await folded.put(work)
        for _ in range(taken):
            waiting.task_done()
        if are_many:
            await folded.join()  # its alerts are made when they are sent, of what is known now

    async def _finish(self, stream: StreamT[bytes], folded: asyncio.Queue["_Work"]) -> None:
        """Do what follows from some events. What was taken away is left out: who has it now reads it again."""
        work = await folded.get()
        if await self._done(work):
            acknowledgement = asyncio.create_task(self._acknowledge(stream, work.done))
            self._acknowledgements.add(acknowledgement)
            acknowledgement.add_done_callback(self._acknowledgements.discard)
        elif work.epoch == self._desk.epoch:
            self._desk.forget()  # what it followed is not what the tables have, nor what was folded upon it
        folded.task_done()

    def _are_many(self, event: EventT[bytes], work: "_Work") -> bool:
        """Add what follows from an event; whether that is so much that it has to be done before the next one."""
        topic = event.message.topic
        set_current_event(event)
        try:
            with self._metrics.fold_seconds.time():
                key, outcome = self._outcome(event)
            if outcome is None:
                self._repeat(event, key, work)
                return False
            at = datetime.fromtimestamp(event.message.timestamp, UTC)
            alerts: Iterable[Alert] = self._desk.alerts(outcome)
            are_many = len(outcome.findings) > _ALERTS_AT_ONCE
            if not are_many:  # those of many are made when they are sent, for there may be more than memory should hold
                alerts = tuple(alerts)
        except UnusableEventError as error:
            work.aside.append((event, str(error), error))
            return False
        except Exception as error:  # a bug in the rule must cost one event, kept as evidence, and not the stream
            log.error("join.failed", error=type(error).__name__, exc_info=error)
            work.aside.append((event, f"{type(error).__name__} in the join", error))
            return False
        self._desk.follow(outcome)
        work.alerts.append((alert, at) for alert in alerts)
        work.past |= {past_key: (event, entry) for past_key, entry in outcome.past.items()}
        work.entries[topic, key] = event, outcome.entry
        work.outcomes.append(outcome)
        work.done.append(event)
        self._metrics.event(topic, "folded")
        return are_many

    def _outcome(self, event: EventT[bytes]) -> tuple[bytes, Outcome | None]:
        """The key of the table's entry, and what follows from the event; None from a repeat."""
        message = event.message
        sequence = parse_sequence(message.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        if message.topic == INTERESTS_CHANGED.name:
            key = message.key or b""
            _require_partition(message.partition, decode_interest_key(key)[0])
            return key, self._desk.interest_changed(sequence, key, message.value)
        batch = decode_flights(message.value)
        _require_partition(message.partition, batch.airport)
        return batch.airport.encode(), self._desk.flights_observed(sequence, batch)

    def _repeat(self, event: EventT[bytes], key: bytes, work: _Work) -> None:
        """A repeat writes the entry that makes it one once more, to be acknowledged when the changelog has it.

        A table on disk may have what its changelog has not: a worker that is killed has written the one, and not yet
        sent the other. Only the event itself comes again, and is told by that entry to be a repeat.
        """
        topic = event.message.topic
        work.entries.setdefault((topic, key), (event, None))
        work.done.append(event)
        self._metrics.event(topic, "duplicate")

    async def _done(self, work: _Work) -> bool:
        """Whether all is done; not when the partitions were taken away meanwhile."""
        for event, reason, error in work.aside:
            await _insist(lambda event=event, reason=reason: publish_dead_letter(self._dead_letters, event, reason))  # type: ignore[misc]
            self._metrics.dead_letter(event.message.topic, type(error).__name__)
            self._metrics.event(event.message.topic, "dead_letter")
        if not (await self._raised(work) and await self._past_kept(work)):
            return False
        # The tables may be another's by now, or be recovering: no await from here to the last write.
        if not self._are_ours(work):
            return False
        for (topic, key), (event, entry) in work.entries.items():
            if entry is None:
                set_current_event(event)
                entry = self._tables[topic][key]
            self._tables[topic].write(event, key, entry)
            self._desk.settle(key, entry)
        for outcome in work.outcomes:
            self._metrics.folded(outcome)
            self._ticker.folded(outcome.airport, outcome.flights)
        work.done += [event for event, _, _ in work.aside]
        return True

    def _are_ours(self, work: _Work) -> bool:
        return work.epoch == self._desk.epoch and all(self._still_ours(event) for event in work.done)

    async def _raised(self, work: _Work) -> bool:
        """Send the alerts; true once the broker has all of them, false when the partitions were taken away."""
        alerts: Iterator[tuple[Alert, datetime]] = chain.from_iterable(work.alerts)
        while some := self._next_of(alerts, work):
            await _insist(lambda some=some: self._send(some))  # type: ignore[misc]
            for alert, _ in some:
                self._metrics.raised(alert)
                self._ticker.raised(alert)
            if not self._are_ours(work):
                return False
        return True

    def _next_of(self, alerts: Iterator[tuple[Alert, datetime]], work: _Work) -> tuple[tuple[Alert, datetime], ...]:
        if work.done:
            set_current_event(
                work.done[-1]
            )  # where there are many, they are of the last event, and its interests are read now
        return tuple(islice(alerts, _ALERTS_AT_ONCE))

    async def _send(self, alerts: tuple[tuple[Alert, datetime], ...]) -> None:
        sent = [
            await self._send_alert(
                (user_id := str(alert.user_id)).encode(),
                encode_alert(alert, cause_published_at),
                partition_of(user_id, ALERTS_RAISED),
            )
            for alert, cause_published_at in alerts
        ]
        for each in sent:
            await each

    async def _past_kept(self, work: _Work) -> bool:
        """Move days into history; true once the changelog has them, false when the partitions were taken away."""
        if not work.past:
            return True
        if not self._are_ours(work):
            return False
        for key, (event, entry) in work.past.items():
            self._history.write(event, key, entry)
        return await self._are_kept(
            self._history.last_write(event.message.partition) for event, _ in work.past.values()
        )

    async def _are_kept(self, last_writes: Iterable[asyncio.Future[Any] | None]) -> bool:
        """Wait until the changelogs have some writes, or the worker ends because they never will."""
        writes = {write for write in last_writes if write is not None}
        if not writes:
            return True
        await asyncio.wait(writes)
        error = next((error for write in writes if (error := write.exception()) is not None), None)
        if error is not None:
            log.error("join.state_not_kept", error=type(error).__name__)
            self._crash(error)
        return error is None

    async def _acknowledge(self, stream: StreamT[bytes], events: list[EventT[bytes]]) -> None:
        """Acknowledge events once the state that they made, or that made them duplicates, is in the changelog."""
        places = {(event.message.topic, event.message.partition) for event in events}
        if await self._are_kept([self._tables[topic].last_write(partition) for topic, partition in places]):
            for event in events:
                if self._still_ours(event):
                    await stream.ack(event)


def _require_partition(partition: int, airport: str) -> None:
    if partition_of(airport, FLIGHTS_OBSERVED) != partition:
        raise MisroutedError("not in the partition of its airport")


async def _insist(send: Callable[[], Awaitable[None]]) -> None:
    """Send; tries as long as it takes, because without the broker nothing else goes on."""
    pause = 0.1
    while True:
        try:
            await send()
            return
        except (KafkaError, FaustError) as error:
            log.warning("join.broker_refused", error=type(error).__name__, again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 10.0)
