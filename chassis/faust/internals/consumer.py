"""Faust's consumer, mended: it takes nothing from aiokafka that Faust would then throw away, commits nothing that is
not done with, and makes no tasks for messages that need not wait."""

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
from chassis.faust.internals.steps import EagerCoroutine
from chassis.faust.settings import FAUST_LOG

_Records = Mapping[TP, list[Any]]

_CHANGELOG_BATCH: Final = 500
"""Records of a changelog that are applied before the event loop is given back: some milliseconds."""


class StreamConsumer(Consumer):
    """To be the `Consumer` of a Faust app's transport."""

    logger = FAUST_LOG

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._offset_trackers: dict[TP, OffsetTracker] = defaultdict(OffsetTracker)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """What Faust is about to deliver, or to drop because it was read before."""
        read = self._read_offset[tp]
        if self.app.topics.acks_enabled_for(tp.topic) and (read is None or record.offset >= read):
            self._offset_trackers[tp].track(record.offset)
        return super()._to_message(tp, record)

    def _new_offset(self, tp: TP) -> int | None:
        """Up to where a partition may be committed, in place of Faust's own reckoning; None: no further than before."""
        self._acked[tp].clear()  # it would sort these
        return self._offset_trackers[tp].take_committable(self._acked_index[tp])

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing is made of offsets that have no event."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        for tp in revoked:
            self._offset_trackers.pop(tp, None)
        await super().on_partitions_revoked(revoked)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        """As Faust's, which takes for committed also what the broker refused: in a rebalance, say, that a standstill of
        the broker has brought about. Read again, events up to there would never count as acknowledged."""
        is_committed = await super()._commit_offsets(offsets, start_new_transaction)
        if not is_committed:
            self._committed_offset.update(dict.fromkeys(offsets))
        return is_committed

    async def perform_seek(self) -> None:
        """All that is not committed is delivered once more."""
        self._offset_trackers.clear()
        self._acked_index.clear()
        self._committed_offset.clear()  # Faust leaves what it had where nothing is committed
        await super().perform_seek()

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _wait_next_records(self, timeout: float) -> tuple[_Records | None, set[TP] | None]:
        """What Faust's `getmany` delivers one by one; records of changelogs are applied here instead, list by list."""
        records, active = await super()._wait_next_records(timeout)
        if not records or active is None:  # a client's, which has no tables
            return records, active
        events: dict[TP, list[Any]] = {}
        changes: dict[TP, list[Any]] = {}
        changelogs = self.app.tables.changelog_topics
        for tp, some in records.items():
            (changes if tp.topic in changelogs else events)[tp] = some
        await self._apply_changelog_records(changes, active)
        return events, active

    async def _apply_changelog_records(self, changes: _Records, active: set[TP]) -> None:
        recovery = cast(StreamTables, self.app.tables).recovery
        generation = self.app.consumer_generation_id
        for tp, records in changes.items():
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            for begin in range(0, len(records), _CHANGELOG_BATCH):
                # As `getmany` looks before each: a rebalance may have begun, and seeks all changelogs when it ends.
                if not self.flow_active or self.app.consumer_generation_id != generation or tp not in active:
                    break
                some = records[begin : begin + _CHANGELOG_BATCH]
                await recovery.apply_records(tp, [self._to_message(tp, each) for each in some])
                await asyncio.sleep(0)

    async def wait_first(self, *coros: WaitArgT, timeout: Any = None) -> WaitResults:
        """As a service waits for the first of some, but the first given is begun at once, and may be all there is.

        So Faust waits until each message is delivered, or the flow stops. Most are delivered without waiting: a full
        buffer is the exception, and only then the three tasks are worth what they cost.
        """
        first, *others = coros
        if not isinstance(first, Coroutine):
            return await super().wait_first(*coros, timeout=timeout)
        try:
            begun = EagerCoroutine(first)
        except BaseException:
            _close_coroutines(others)
            raise
        if not begun.is_done:
            return await super().wait_first(begun, *others, timeout=timeout)
        _close_coroutines(others)
        if self.should_stop:
            return WaitResults([], [], True)
        return WaitResults([first], [begun.result], False)


def _close_coroutines(coros: Iterable[WaitArgT]) -> None:
    """Those that nobody awaits."""
    for each in coros:
        if isinstance(each, Coroutine):
            each.close()


class _ConsumerThread(AIOKafkaConsumerThread):
    """A fetch takes only from partitions that are open, and only while the flow goes on.

    Faust asks for that once, when a fetch begins. But a fetch goes on for a second: through the end of a recovery, and
    through a rebalance into the next assignment. By then all its partitions are paused, and aiokafka takes no
    partitions to mean all. What comes so Faust throws away, and seeks back only to what was committed. Where nothing
    was committed yet, all that there was is passed over: the worker stands still behind it, and with the next event
    acknowledges it unread. A changelog that is passed over so is recovered in part, or waited for in vain.
    """

    logger = FAUST_LOG

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Pauses what is assigned before anything of it can come; Faust opens it first, and pauses it for recovery."""
        self.consumer.pause_partitions(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    async def _fetch_records(
        self,
        consumer: AIOKafkaConsumer,
        active_partitions: set[TP],
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> Mapping[Any, Any]:
        """What is there, or else comes within `timeout` seconds; `active_partitions` changes meanwhile."""
        fetcher, subscriptions = consumer._fetcher, consumer._subscription
        end = time.monotonic() + (timeout or 0)
        with subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                # In this order, because the main thread stops the flow first and opens other partitions then.
                wanted = frozenset(active_partitions)
                if not wanted or not self.consumer.flow_active:
                    return {}
                # In a reassignment aiokafka would wait here for its end, and what was just asked would be of the past.
                if not subscriptions.reassignment_in_progress:
                    records = await fetcher.fetched_records(wanted, timeout=0, max_records=max_records)
                    if records:
                        return records  # type: ignore[no-any-return]
                try:
                    await asyncio.wait_for(fetcher._create_fetch_waiter(), end - time.monotonic())
                except TimeoutError:
                    return {}
