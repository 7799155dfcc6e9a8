"""The stream's only agent. It reads both input topics: two agents would need a lock for each airport."""

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

from chassis.faust.app import dead_letter
from chassis.faust.table import set_current_event
from chassis.kafka import sequence_in
from domain.alerts import Alert
from streams.errors import MisroutedError, UnsequencedError, UnusableEventError
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights, decode_interest_key, encode_alert
from streams.metrics import StreamMetrics
from streams.recent_activity import RecentActivity
from streams.tables import SequencedTable
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

log = structlog.get_logger()

_EVENTS_AT_ONCE: Final = 200
_ALERTS_AT_ONCE: Final = 1_000
_YIELD_AFTER_S: Final = 0.005
"""Seconds of folding after which other tasks get the event loop: the producer that sends earlier effects is one."""

Send = Callable[[bytes, bytes, int], Awaitable[Awaitable[object]]]
"""Gives a record (key, value, partition) to the producer; the result is done once the broker has the record."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The three tables of the stream."""

    airports: SequencedTable
    interests: SequencedTable
    history: SequencedTable


@dataclass(slots=True)
class _PendingEffects:
    """The effects of a batch of folded events, which are not done yet: dead letters, alerts and table writes.

    The fields are in the order in which the effects must be done.
    """

    epoch: int
    """`JoinState.epoch` at the fold: the effects are invalid once the join state has another epoch."""
    dead_letters: list[tuple[EventT[bytes], str, Exception]] = field(default_factory=list)
    """Unusable events, each with its reason and its error."""
    alerts: list[Iterable[tuple[Alert, datetime]]] = field(default_factory=list)
    """By event, its alerts, each with the time at which the event was published."""
    history_entries: dict[bytes, tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    """By key of the history table, the event and the entry to write. Entry None: delete."""
    table_entries: dict[tuple[str, bytes], tuple[EventT[bytes], bytes | None]] = field(default_factory=dict)
    """By topic and key, the last event and the entry to write. Entry None: write the table's present entry again."""
    results: list[FoldResult] = field(default_factory=list)
    events: list[EventT[bytes]] = field(default_factory=list)
    """Events to acknowledge when all effects are done."""


class Join:
    """The agent that joins flight events with interests: it publishes alerts, writes tables and acknowledges events.

    The order of the three steps is fixed, so that a crash between two steps repeats alerts with the same ids and loses
    no alert: the broker has the alerts; the broker has the state that makes the event a duplicate; the event is
    acknowledged. Events that already wait in the queue take each step together, while the next events are folded:
    otherwise every event would wait for the broker alone.
    """

    def __init__(
        self,
        join_state: JoinState,
        tables: Tables,
        send_alert: Send,
        dead_letter_topic: TopicT,
        metrics: StreamMetrics,
        activity: RecentActivity,
        is_still_owned: Callable[[EventT[bytes]], bool],
        crash_worker: Callable[[BaseException], None],
    ) -> None:
        """`is_still_owned` returns True while this worker owns an event's partition without a rebalance since.

        `crash_worker` ends the worker, to be started again: used when a table holds a write that its changelog will
        never have.
        """
        self._join_state = join_state
        self._tables = {FLIGHTS_OBSERVED.name: tables.airports, INTERESTS_CHANGED.name: tables.interests}
        self._history = tables.history
        self._send_alert = send_alert
        self._dead_letter_topic = dead_letter_topic
        self._metrics = metrics
        self._activity = activity
        self._is_still_owned = is_still_owned
        self._crash_worker = crash_worker
        self._acknowledgements: set[asyncio.Task[None]] = set()

    async def run(self, stream: StreamT[bytes]) -> None:
        """Fold all events of the stream, do their effects and acknowledge them.

        The agent acknowledges by hand: Faust would also acknowledge an event that failed or that a stop interrupts.
        """
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        waiting: asyncio.Queue[EventT[bytes]] = asyncio.Queue(_EVENTS_AT_ONCE)
        folded: asyncio.Queue[_PendingEffects] = asyncio.Queue(1)
        tasks = (
            asyncio.create_task(self._repeat_until_cancelled(lambda: self._fold_waiting_events(waiting, folded))),
            asyncio.create_task(self._repeat_until_cancelled(lambda: self._finish_next_effects(events, folded))),
        )
        try:
            async for event in events.events():
                await waiting.put(event)
            await waiting.join()
            await folded.join()
        finally:
            for task in tasks:
                task.cancel()

    async def _repeat_until_cancelled(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step for ever, and crash the worker if the step raises an error."""
        try:
            while True:
                await step()
        except Exception as error:  # only the agent's own machinery can fail here, and the stream would stand still
            log.error("join.broken", error=type(error).__name__, exc_info=error)
            self._crash_worker(error)

    async def _fold_waiting_events(
        self, waiting: asyncio.Queue[EventT[bytes]], folded: asyncio.Queue["_PendingEffects"]
    ) -> None:
        """Fold the events that wait, and put their effects into the queue `folded`.

        `_finish_next_effects` does the effects of earlier events meanwhile, because it waits for the broker.
        """
        event = await waiting.get()
        while self._join_state.index_more_interests():
            await asyncio.sleep(0)
        effects = _PendingEffects(self._join_state.epoch)
        began, taken = time.monotonic(), 0
        while True:
            taken += 1
            has_many_alerts = self._is_still_owned(event) and self._fold_event(event, effects)
            if has_many_alerts or waiting.empty() or taken >= _EVENTS_AT_ONCE:
                break
            if time.monotonic() - began > _YIELD_AFTER_S:
                await asyncio.sleep(0)
                began = time.monotonic()
                if effects.epoch != self._join_state.epoch:
                    break  # a rebalance: later events must not be discarded together with the earlier ones
            event = waiting.get_nowait()
        await folded.put(effects)
        for _ in range(taken):
            waiting.task_done()
        if has_many_alerts:
            await folded.join()  # the alerts are built while they are sent, from the present tables

    async def _finish_next_effects(self, stream: StreamT[bytes], folded: asyncio.Queue["_PendingEffects"]) -> None:
        """Do the next effects in the queue, then acknowledge their events in a task of its own.

        Events whose partition was revoked are not acknowledged: the partition's new owner reads them again.
        """
        effects = await folded.get()
        if await self._perform_effects(effects):
            acknowledgement = asyncio.create_task(self._acknowledge_when_stored(stream, effects.events))
            self._acknowledgements.add(acknowledgement)
            acknowledgement.add_done_callback(self._acknowledgements.discard)
        elif effects.epoch == self._join_state.epoch:
            self._join_state.discard_indexes()  # they contain the results of these effects, which the tables lack
        folded.task_done()

    def _fold_event(self, event: EventT[bytes], effects: "_PendingEffects") -> bool:
        """Fold an event, and add its effects to `effects`.

        Return True if the event has more alerts than memory should hold (they are built while they are sent, before
        the next event is folded), False otherwise. An event that cannot be folded becomes a dead letter.
        """
        topic = event.message.topic
        set_current_event(event)
        try:
            with self._metrics.fold_seconds.time():
                key, result = self._compute_result(event)
            if result is None:
                self._add_duplicate(event, key, effects)
                return False
            published_at = datetime.fromtimestamp(event.message.timestamp, UTC)
            alerts: Iterable[Alert] = self._join_state.build_alerts(result)
            has_many_alerts = len(result.interest_alerts) > _ALERTS_AT_ONCE
            if not has_many_alerts:
                alerts = tuple(alerts)
        except UnusableEventError as error:
            effects.dead_letters.append((event, str(error), error))
            return False
        except Exception as error:  # a bug in the rule must cost one event, kept as evidence, and not the stream
            log.error("join.failed", error=type(error).__name__, exc_info=error)
            effects.dead_letters.append((event, f"{type(error).__name__} in the join", error))
            return False
        self._join_state.apply_before_write(result)
        effects.alerts.append((alert, published_at) for alert in alerts)
        effects.history_entries |= {
            history_key: (event, entry) for history_key, entry in result.history_entries.items()
        }
        effects.table_entries[topic, key] = event, result.entry
        effects.results.append(result)
        effects.events.append(event)
        self._metrics.count_event(topic, "folded")
        return has_many_alerts

    def _compute_result(self, event: EventT[bytes]) -> tuple[bytes, FoldResult | None]:
        """Return the key of the event's table entry and the result of its fold. Result None: a duplicate.

        Raises UnusableEventError for an event that can never be folded.
        """
        message = event.message
        sequence = sequence_in(message.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        if message.topic == INTERESTS_CHANGED.name:
            key = message.key or b""
            _require_partition(message.partition, decode_interest_key(key)[0])
            return key, self._join_state.fold_interest(sequence, key, message.value)
        batch = decode_flights(message.value)
        _require_partition(message.partition, batch.airport)
        return batch.airport.encode(), self._join_state.fold_flights(sequence, batch)

    def _add_duplicate(self, event: EventT[bytes], key: bytes, effects: _PendingEffects) -> None:
        """Add a duplicate event: its table entry is written once more, and then the event is acknowledged.

        A table on disk may hold a write that its changelog lacks: a killed worker wrote the table and did not send
        the changelog record. Only the event itself comes again, and that entry makes it a duplicate.
        """
        topic = event.message.topic
        effects.table_entries.setdefault((topic, key), (event, None))
        effects.events.append(event)
        self._metrics.count_event(topic, "duplicate")

    async def _perform_effects(self, effects: _PendingEffects) -> bool:
        """Publish the dead letters and the alerts, then write the tables.

        Return True once all is done, False if the partitions were revoked meanwhile.
        """
        for event, reason, error in effects.dead_letters:
            await self._publish_dead_letter(event, reason)
            self._metrics.count_dead_letter(event.message.topic, type(error).__name__)
            self._metrics.count_event(event.message.topic, "dead_letter")
        if not (await self._publish_alerts(effects) and await self._write_history(effects)):
            return False
        # Another worker may own the tables by now, or they may be in recovery: no await until the last write.
        if not self._owns_all_events(effects):
            return False
        for (topic, key), (event, entry) in effects.table_entries.items():
            if entry is None:
                set_current_event(event)
                entry = self._tables[topic][key]
            self._tables[topic].write(event, key, entry)
            self._join_state.mark_written(key, entry)
        for result in effects.results:
            self._metrics.count_batch(result)
            self._activity.record_flights(result.airport, result.flights)
        effects.events += [event for event, _, _ in effects.dead_letters]
        return True

    async def _publish_dead_letter(self, event: EventT[bytes], reason: str) -> None:
        """Publish an event to the dead-letter topic, and wait until the broker has it."""
        await _retry_until_sent(lambda: dead_letter(self._dead_letter_topic, event, reason))

    def _owns_all_events(self, effects: _PendingEffects) -> bool:
        """Return True if this worker still owns the partitions of all events, False after a rebalance."""
        return effects.epoch == self._join_state.epoch and all(self._is_still_owned(event) for event in effects.events)

    async def _publish_alerts(self, effects: _PendingEffects) -> bool:
        """Publish the alerts, up to 1,000 at once.

        Return True once the broker has all alerts, False if the partitions were revoked.
        """
        alerts: Iterator[tuple[Alert, datetime]] = chain.from_iterable(effects.alerts)
        while batch := self._take_next_alerts(alerts, effects):
            await _retry_until_sent(lambda batch=batch: self._send_alerts(batch))  # type: ignore[misc]
            for alert, _ in batch:
                self._metrics.count_alert(alert)
                self._activity.record_alert(alert)
            if not self._owns_all_events(effects):
                return False
        return True

    def _take_next_alerts(
        self, alerts: Iterator[tuple[Alert, datetime]], effects: _PendingEffects
    ) -> tuple[tuple[Alert, datetime], ...]:
        """Take up to 1,000 alerts from the iterator, which may read the table of interests to build them."""
        if effects.events:
            # Only the last event's alerts can be unbuilt: their interests are read from that event's partition.
            set_current_event(effects.events[-1])
        return tuple(islice(alerts, _ALERTS_AT_ONCE))

    async def _send_alerts(self, alerts: tuple[tuple[Alert, datetime], ...]) -> None:
        """Send alerts, and wait until the broker has all of them. Raises KafkaError or FaustError."""
        sent = [
            await self._send_alert(
                (user_id := str(alert.user_id)).encode(),
                encode_alert(alert, cause_published_at),
                partition_of(user_id, ALERTS_RAISED),
            )
            for alert, cause_published_at in alerts
        ]
        for confirmation in sent:
            await confirmation

    async def _write_history(self, effects: _PendingEffects) -> bool:
        """Write closed days into the history table, and wait for its changelog.

        Return True once the changelog has them, False if the partitions were revoked or the broker refused a write.
        """
        if not effects.history_entries:
            return True
        if not self._owns_all_events(effects):
            return False
        for key, (event, entry) in effects.history_entries.items():
            self._history.write(event, key, entry)
        return await self._wait_for_changelogs(
            self._history.last_write(event.message.partition) for event, _ in effects.history_entries.values()
        )

    async def _wait_for_changelogs(self, last_writes: Iterable[asyncio.Future[Any] | None]) -> bool:
        """Wait until the changelogs have these writes.

        Return True once the changelogs have all of them. Return False after a write that a changelog will never have:
        then the worker is crashed.
        """
        writes = {write for write in last_writes if write is not None}
        if not writes:
            return True
        await asyncio.wait(writes)
        error = next((error for write in writes if (error := write.exception()) is not None), None)
        if error is not None:
            log.error("join.state_not_kept", error=type(error).__name__)
            self._crash_worker(error)
        return error is None

    async def _acknowledge_when_stored(self, stream: StreamT[bytes], events: list[EventT[bytes]]) -> None:
        """Acknowledge events once the changelogs have the state that makes these events duplicates."""
        partitions = {(event.message.topic, event.message.partition) for event in events}
        if await self._wait_for_changelogs(
            [self._tables[topic].last_write(partition) for topic, partition in partitions]
        ):
            for event in events:
                if self._is_still_owned(event):
                    await stream.ack(event)


def _require_partition(partition: int, airport: str) -> None:
    """Raise MisroutedError unless the airport belongs to the partition."""
    if partition_of(airport, FLIGHTS_OBSERVED) != partition:
        raise MisroutedError("not in the partition of its airport")


async def _retry_until_sent(send: Callable[[], Awaitable[None]]) -> None:
    """Send, with retries and backoff (0.1 s to 10 s) for ever: without the broker the stream cannot continue."""
    pause = 0.1
    while True:
        try:
            await send()
            return
        except (KafkaError, FaustError) as error:
            log.warning("join.broker_refused", error=type(error).__name__, again_in_s=pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 10.0)
