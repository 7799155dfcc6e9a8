"""Faust's consumer with its faults corrected.

The corrected consumer fetches no records that Faust would then discard, commits no offset whose event is not
acknowledged, and creates no tasks for messages that need not wait.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import ConsumerStoppedError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode.services import WaitArgT, WaitResults

from chassis.faust.internals.offsets import OffsetTracker
from chassis.faust.internals.recovery import StreamTables
from chassis.faust.internals.starting import start_client
from chassis.faust.internals.steps import EagerCoroutine
from chassis.faust.settings import FAUST_LOG

_Records = Mapping[TP, list[Any]]

_CHANGELOG_BATCH: Final = 500
"""Records of a changelog that are applied before other tasks may run; they take some milliseconds."""


class StreamConsumer(Consumer):
    """Faust's consumer, corrected in its commits and made faster; set it as `Consumer` of an app's transport.

    It holds an `OffsetTracker` for each partition of events, so that no offset is committed before all earlier events
    are acknowledged. It applies changelog records in batches, not through Faust's queue, and delivers events without a
    task each.
    """

    logger = FAUST_LOG

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offset_trackers: dict[TP, OffsetTracker] = defaultdict(OffsetTracker)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """Track a record's offset until its event is acknowledged, and return Faust's message of the record.

        The offset is not tracked if the topic needs no acknowledgements (a changelog), or if Faust will drop the record
        because it was read before. Faust calls this by its name, for each record.
        """
        read_offset = self._read_offset[tp]
        if self.app.topics.acks_enabled_for(tp.topic) and (read_offset is None or record.offset >= read_offset):
            self._offset_trackers[tp].track(record.offset)
        return super()._to_message(tp, record)

    def _new_offset(self, tp: TP) -> int | None:
        """Return the offset to commit of a partition, or None if it is the same as after the last call.

        It is the offset after the last event of which all earlier events are acknowledged too. The acknowledgements up
        to there are removed. Faust calls this; its own rule is described at `OffsetTracker`.
        """
        self._acked[tp].clear()  # Faust's list, which it would sort
        return self._offset_trackers[tp].take_committable(self._acked_index[tp])

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: ignore offsets that have no event, where Faust would take them for acknowledged."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Discard the offset trackers of revoked partitions, then do what Faust does."""
        for tp in revoked:
            self._offset_trackers.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """Commit offsets as Faust does, but record them as committed only if the broker accepts.

        Return True if the broker accepts, False if it refuses; then no offset counts as committed in these partitions.
        Faust records the offsets also when the broker refuses (during a rebalance that followed a standstill of the
        broker, say). When the events up to there were read again, they would never count as acknowledged.
        """
        is_committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not is_committed:
            self._committed_offset.update(dict.fromkeys(offsets))
        return is_committed

    async def perform_seek(self) -> None:
        """Discard all tracked, acknowledged and committed offsets, then seek to the committed offsets as Faust does.

        All events that are not committed are delivered once more, and must be acknowledged again.
        """
        self._offset_trackers.clear()
        self._acked_index.clear()
        self._committed_offset.clear()  # Faust keeps its old entry of a partition where nothing is committed
        await super().perform_seek()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        """Create the corrected consumer thread; Faust calls this."""
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> tuple[_Records | None, set[TP] | None]:
        """Apply the changelog records of the next fetch to the tables, and return its other records: the events.

        Return the records by partition, and the set of active partitions as Faust's own method does. Faust's `getmany`
        delivers the events one by one. The consumer of a Faust client has no tables (its set is None): there all
        records are returned.
        """
        records, active = await super()._wait_next_records(timeout)
        if not records or active is None:  # None: the consumer of a Faust client, which has no tables
            return records, active
        events: dict[TP, list[Any]] = {}
        changes: dict[TP, list[Any]] = {}
        changelogs = self.app.tables.changelog_topics
        for tp, fetched in records.items():
            (changes if tp.topic in changelogs else events)[tp] = fetched
        await self._apply_changelog_records(changes, active)
        return events, active

    async def _apply_changelog_records(self, changes: _Records, active: set[TP]) -> None:
        """Apply fetched changelog records to the tables, in batches of 500 between which other tasks may run.

        Update the end offset of each changelog in Faust's monitor. Records of a changelog that is not active are
        dropped; so is the rest of all when the flow stops or a rebalance begins, which seeks all changelogs anew.
        """
        recovery = cast(StreamTables, self.app.tables).recovery
        generation = self.app.consumer_generation_id
        for tp, records in changes.items():
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            for begin in range(0, len(records), _CHANGELOG_BATCH):
                # `getmany` checks the same before each message: a rebalance may have begun, which seeks all changelogs.
                if not self.flow_active or self.app.consumer_generation_id != generation or tp not in active:
                    break
                batch = records[begin : begin + _CHANGELOG_BATCH]
                await recovery.apply_records(tp, [self._to_message(tp, record) for record in batch])
                await asyncio.sleep(0)

    async def wait_first(self, *coros: WaitArgT, timeout: Any = None) -> WaitResults:
        """Wait until one of some coroutines is done, as Faust does, but run the first one at once, without a task.

        If the first coroutine ends without waiting, the others are closed and never run, and the result contains the
        first alone, or only that the consumer stops. Otherwise Faust's own method waits until any of them is done.
        Raises what the first coroutine raises. Faust calls this to wait until a message is delivered or the flow stops.
        Most messages are delivered without waiting; the tasks of Faust's own method are needed only when a buffer is
        full.
        """
        first, *others = coros
        if not isinstance(first, Coroutine):
            return await super().wait_first(*coros, timeout=timeout)
        try:
            eager = EagerCoroutine(first)
        except BaseException:
            _close_coroutines(others)
            raise
        if not eager.is_done:
            return await super().wait_first(eager, *others, timeout=timeout)
        _close_coroutines(others)
        if self.should_stop:
            return WaitResults([], [], True)
        return WaitResults([first], [eager.result], False)


def _close_coroutines(coros: Iterable[WaitArgT]) -> None:
    """Close coroutines that will not be awaited, so that Python does not warn of them; ignore other awaitables."""
    for coro in coros:
        if isinstance(coro, Coroutine):
            coro.close()


class _ConsumerThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, whose fetches return only records of partitions that are not paused.

    Faust checks the partitions once, when a fetch begins. But a fetch may last a second, and a recovery or a rebalance
    may end meanwhile. Then all partitions of the fetch are paused, and aiokafka takes an empty list of partitions to
    mean all partitions. Faust discards the records that are fetched in this way, and seeks back only to the committed
    offset. Where nothing is committed yet, all these events are skipped: the worker's position is past them, and the
    next commit covers them although nobody has processed them. A changelog that is skipped in this way is recovered in
    part, or its recovery never ends.
    """

    logger = FAUST_LOG

    async def on_start(self) -> None:
        """Start aiokafka's consumer, and wait for a broker if none answers; Faust would end the worker then."""

        def create() -> AIOKafkaConsumer:
            """Create a client, which Faust's timers ask for its partitions while it waits."""
            self._consumer = self._create_consumer(loop=self.thread_loop)
            return self._consumer

        self.time_started = time.monotonic()
        await start_client(self, create)

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Print nothing: Faust prints a stack trace beside the log, and then logs the same error."""

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pause the newly assigned partitions before any record can be fetched, then do what Faust does.

        Without this, Faust would fetch from them until the recovery begins.
        """
        self.consumer.pause_partitions(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[Any, Any]:
        """Wait up to `timeout` seconds for records of active partitions, and return at most `max_records` of them.

        Return an empty mapping after the timeout, when the flow stops, or when no partition is active. During a
        reassignment nothing is fetched. Other threads change `active_partitions` meanwhile, so it is read again after
        each wait. Raises ConsumerStoppedError if the consumer is closed.
        """
        fetcher, subscriptions = consumer._fetcher, consumer._subscription
        end = time.monotonic() + (timeout or 0)
        with subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                # In this order, because the main thread first stops the flow and then opens other partitions.
                partitions = frozenset(active_partitions)
                if not partitions or not self.consumer.flow_active:
                    return {}
                # During a reassignment aiokafka would wait here for its end, and `partitions` would be out of date.
                if not subscriptions.reassignment_in_progress:
                    records = await fetcher.fetched_records(partitions, timeout=0, max_records=max_records)
                    if records:
                        return records  # type: ignore[no-any-return]
                try:
                    await asyncio.wait_for(fetcher._create_fetch_waiter(), end - time.monotonic())
                except TimeoutError:
                    return {}
