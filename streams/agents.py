"""The stream's only agent, which joins flight events with interests.

It reads both input topics: two agents would need a lock for each airport.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

import structlog
from faust.types import EventT, StreamT, TopicT

from chassis.faust.app import publish_dead_letter
from chassis.faust.sending import retry_until_sent
from chassis.faust.table import set_current_event
from chassis.kafka import parse_sequence
from domain.alerts import Alert
from streams.effects import PendingEffects, Send, send_alerts
from streams.errors import MisroutedError, UnsequencedError, UnusableEventError
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights, decode_interest_key
from streams.metrics import StreamMetrics
from streams.recent_activity import RecentActivity
from streams.tables import Tables
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

log = structlog.get_logger()

_BROKER_REFUSED: Final = "join.broker_refused"
"""The log event of a failed send."""

_EVENTS_AT_ONCE: Final = 200
_ALERTS_AT_ONCE: Final = 1_000
_YIELD_AFTER_S: Final = 0.005
"""Seconds of folding after which other tasks get the event loop: the producer that sends earlier effects is one."""


class Join:
    """The agent that joins flight events with interests: it publishes alerts, writes tables and acknowledges events.

    Each step begins only when the one before is complete: the broker has the alerts; the broker has the table writes,
    which make the event a duplicate; the event is acknowledged. So a crash between two steps repeats alerts with the
    same ids, and loses none. Events that wait in the queue are processed as one batch, with one wait for the broker at
    each step, while the next events are folded. So `run` starts two tasks, joined by a queue of `PendingEffects`: one
    folds events, the other performs their effects.
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
        never have, and after an error in the agent's own machinery. `send_alert` sends to alerts.raised.v1.
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
        """Fold all events of the stream, do their effects and acknowledge them, until the stream ends.

        Up to 200 events wait to be folded; then the stream is not read further. At the stream's end, return when all
        effects are done (the last acknowledgements may still run). The agent acknowledges by hand: Faust would also
        acknowledge an event that failed or that a stop interrupts.
        """
        events = stream.noack()  # type: ignore[attr-defined]  # the interface lacks what every stream has
        waiting: asyncio.Queue[EventT[bytes]] = asyncio.Queue(_EVENTS_AT_ONCE)
        folded: asyncio.Queue[PendingEffects] = asyncio.Queue(1)
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
        """Repeat a step until this task is cancelled, or the step raises an error: then log it and crash the worker."""
        try:
            while True:
                await step()
        except Exception as error:  # only the agent's own machinery can fail here, and the stream would stand still
            log.error("join.broken", error=type(error).__name__, exc_info=error)
            self._crash_worker(error)

    async def _fold_waiting_events(
        self, waiting: asyncio.Queue[EventT[bytes]], folded: asyncio.Queue[PendingEffects]
    ) -> None:
        """Wait for an event, fold it with the events that wait behind it, and put their effects into `folded`.

        Ends the batch when no event waits, after 200 events, after an event with many alerts, or after a rebalance. An
        event that closes days of an airport begins new effects, if the effects so far write the airport's entry.
        Drops events whose partition this worker no longer owns. Before the first fold, the index of interests is
        completed. After an event with many alerts, waits until the effects are done; otherwise `_finish_next_effects`
        does them while the next events are folded. Other tasks run after each 5 ms of folding.
        """
        event = await waiting.get()
        effects = await self._begin_effects()
        began, taken = time.monotonic(), 0
        while True:
            taken += 1
            while self._is_still_owned(event) and not self._fold_event(event, effects):
                await folded.put(effects)
                effects = await self._begin_effects()
            if effects.has_many_alerts or waiting.empty() or taken >= _EVENTS_AT_ONCE:
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
        if effects.has_many_alerts:
            await folded.join()  # the alerts are built while they are sent, from the present tables

    async def _begin_effects(self) -> PendingEffects:
        """Complete the index of interests step by step, and return new effects without any event."""
        while self._join_state.index_more_interests():
            await asyncio.sleep(0)
        return PendingEffects(self._join_state.epoch)

    async def _finish_next_effects(self, stream: StreamT[bytes], folded: asyncio.Queue[PendingEffects]) -> None:
        """Do the next effects in the queue, then start a task that acknowledges their events.

        If the effects were not all done, none of the events is acknowledged: the partitions' new owners read them
        again. Then the join state's indexes are discarded, unless a rebalance did so already.
        """
        effects = await folded.get()
        if await self._perform_effects(effects):
            acknowledgement = asyncio.create_task(self._acknowledge_when_stored(stream, effects.events))
            self._acknowledgements.add(acknowledgement)
            acknowledgement.add_done_callback(self._acknowledgements.discard)
        elif effects.epoch == self._join_state.epoch:
            self._join_state.discard_indexes()  # they contain the results of these effects, which the tables lack
        folded.task_done()

    def _fold_event(self, event: EventT[bytes], effects: PendingEffects) -> bool:
        """Fold an event, apply its result to the join state in memory, and add its effects to `effects`.

        An event that cannot be folded, even because of a bug, is added as a dead letter; a duplicate only has its table
        entry written again. Events that were folded and duplicates are counted at once. Sets `effects.has_many_alerts`
        for a batch with more than 1,000 alerts (they are built while they are sent, before the next event is folded).
        Makes this task use the tables in the event's partition.

        Return True once the event is in `effects`. Return False if it must be folded after these effects (see
        `PendingEffects.may_follow`): then nothing is applied or added.
        """
        topic = event.message.topic
        set_current_event(event)
        try:
            with self._metrics.fold_seconds.time():
                key, result = self._compute_result(event)
            if result is None:
                self._add_duplicate(event, key, effects)
                return True
            if not effects.may_follow(topic, key, result):
                return False
            published_at = datetime.fromtimestamp(event.message.timestamp, UTC)
            alerts: Iterable[Alert] = self._join_state.build_alerts(result)
            has_many_alerts = len(result.interest_alerts) > _ALERTS_AT_ONCE
            if not has_many_alerts:
                alerts = tuple(alerts)
        except UnusableEventError as error:
            effects.dead_letters.append((event, str(error), error))
            return True
        except Exception as error:  # a bug in the rule must cost one event, kept as evidence, and not the stream
            log.error("join.failed", error=type(error).__name__, exc_info=error)
            effects.dead_letters.append((event, f"{type(error).__name__} in the join", error))
            return True
        self._join_state.apply_before_write(result)
        effects.alerts.append((alert, published_at) for alert in alerts)
        effects.history_entries |= {
            history_key: (event, entry) for history_key, entry in result.history_entries.items()
        }
        effects.table_entries[topic, key] = event, result.entry
        effects.results.append(result)
        effects.events.append(event)
        effects.has_many_alerts = has_many_alerts
        self._metrics.count_event(topic, "folded")
        return True

    def _compute_result(self, event: EventT[bytes]) -> tuple[bytes, FoldResult | None]:
        """Decode an event, and return the key of its table entry and the result of its fold. Result None: a duplicate.

        An interest's key is the event's own, a batch's key is the airport. Nothing is written. Raises
        UnusableEventError for an event without a sequence, in the wrong partition, or that cannot be decoded.
        """
        message = event.message
        sequence = parse_sequence(message.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        if message.topic == INTERESTS_CHANGED.name:
            key = message.key or b""
            _require_partition(message.partition, decode_interest_key(key)[0])
            return key, self._join_state.fold_interest(sequence, key, message.value)
        batch = decode_flights(message.value)
        _require_partition(message.partition, batch.airport)
        return batch.airport.encode(), self._join_state.fold_flights(sequence, batch)

    def _add_duplicate(self, event: EventT[bytes], key: bytes, effects: PendingEffects) -> None:
        """Add a duplicate event to `effects`, and count it: the entry that the table has for it is written once more.

        Then the event is acknowledged; a duplicate raises no alert. An entry that `effects` already writes under this
        key stays, and is not written twice. The reason: a table on disk may hold a write that its changelog lacks,
        because a killed worker wrote the table and did not send the changelog record. Only the event itself comes
        again, and that entry makes it a duplicate.
        """
        topic = event.message.topic
        effects.table_entries.setdefault((topic, key), (event, None))
        effects.events.append(event)
        self._metrics.count_event(topic, "duplicate")

    async def _perform_effects(self, effects: PendingEffects) -> bool:
        """Publish the dead letters and the alerts, write the history and wait for its changelog, then write the tables.

        Return True once all is done: then the batches are counted, their flights are recorded in the recent activity,
        and the dead letters' events are appended to `effects.events`. The changelogs may not have the last writes yet.
        Return False if the partitions were revoked or a changelog refused the history: then airports and interests are
        not written, but dead letters, alerts and history may be. Dead letters are counted when each is published.
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
        """Publish an event with its reason to the dead-letter topic; retry until the broker has the dead letter."""
        await retry_until_sent(lambda: publish_dead_letter(self._dead_letter_topic, event, reason), _BROKER_REFUSED)

    def _owns_all_events(self, effects: PendingEffects) -> bool:
        """Return True if this worker still owns the partitions of `effects.events` and has the join state of the fold.

        False after a rebalance, or after the join state's indexes were discarded. The events of dead letters, which
        write nothing, are not in the list yet.
        """
        return effects.epoch == self._join_state.epoch and all(self._is_still_owned(event) for event in effects.events)

    async def _publish_alerts(self, effects: PendingEffects) -> bool:
        """Publish the alerts, up to 1,000 at once, each time with retries until the broker has them, and count them.

        Each published alert is also recorded in the recent activity. Return True once the broker has all alerts, False
        if the partitions were revoked: then the remaining alerts are not published.
        """
        alerts: Iterator[tuple[Alert, datetime]] = chain.from_iterable(effects.alerts)
        while batch := self._take_next_alerts(alerts, effects):
            await retry_until_sent(lambda batch=batch: send_alerts(self._send_alert, batch), _BROKER_REFUSED)  # type: ignore[misc]
            for alert, _ in batch:
                self._metrics.count_alert(alert)
                self._activity.record_alert(alert)
            if not self._owns_all_events(effects):
                return False
        return True

    def _take_next_alerts(
        self, alerts: Iterator[tuple[Alert, datetime]], effects: PendingEffects
    ) -> tuple[tuple[Alert, datetime], ...]:
        """Take the next alerts from the iterator, up to 1,000; none: the iterator is at its end.

        The iterator may read the table of interests to build the alerts, so this task is made to use the tables in the
        last event's partition.
        """
        if effects.events:
            # Only the last event's alerts can be unbuilt: their interests are read from that event's partition.
            set_current_event(effects.events[-1])
        return tuple(islice(alerts, _ALERTS_AT_ONCE))

    async def _write_history(self, effects: PendingEffects) -> bool:
        """Write closed days into the history table, delete its expired days, and wait for its changelog.

        First waits until the changelog has the airports' entries so far: a worker that recovers from the changelogs
        must not find a day's new entry in the history without the airport's entry that contains the day.

        Return True once the changelog has all writes, or without any entry to write. Return False if the partitions
        were revoked (nothing is written then), or the broker refused a write (the worker is crashed then).
        """
        if not effects.history_entries:
            return True
        airports = self._tables[FLIGHTS_OBSERVED.name]
        if not await self._wait_for_changelogs(
            [airports.last_write(event.message.partition) for event, _ in effects.history_entries.values()]
        ):
            return False
        if not self._owns_all_events(effects):
            return False
        for key, (event, entry) in effects.history_entries.items():
            self._history.write(event, key, entry)
        return await self._wait_for_changelogs(
            self._history.last_write(event.message.partition) for event, _ in effects.history_entries.values()
        )

    async def _wait_for_changelogs(self, last_writes: Iterable[asyncio.Future[Any] | None]) -> bool:
        """Wait until each of these writes is in its changelog or failed; None stands for no write.

        Return True if the changelogs have all of them. Return False if one failed, so that its changelog will never
        have it: then the worker is crashed.
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
        """Wait until the changelogs have the state that makes these events duplicates, then acknowledge the events.

        Events that this worker no longer owns are not acknowledged. If a changelog refused a write, no event is
        acknowledged, and the worker is crashed.
        """
        partitions = {(event.message.topic, event.message.partition) for event in events}
        if await self._wait_for_changelogs(
            [self._tables[topic].last_write(partition) for topic, partition in partitions]
        ):
            for event in events:
                if self._is_still_owned(event):
                    await stream.ack(event)


def _require_partition(partition: int, airport: str) -> None:
    """Raise MisroutedError unless the airport's key belongs to this partition of the input topics."""
    if partition_of(airport, FLIGHTS_OBSERVED) != partition:
        raise MisroutedError("not in the partition of its airport")
