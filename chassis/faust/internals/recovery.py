"""Faust's recovery of tables from their changelogs, made cheaper per record.

Faust puts each changelog record into a queue, as it does with an agent's events, takes them out one by one, with a
timer each, and after each one counts the records that remain in all partitions. Here all records of a fetch are applied
at once.
"""

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from time import monotonic
from typing import Any, Final

import faust
import structlog
from faust.exceptions import DecodeError
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP, EventT, Message
from mode import Service

from chassis.faust.settings import FAUST_LOG

log = structlog.get_logger()

_CHECK_INTERVAL_S: Final = 5.0
"""Seconds between checks whether the recovery is complete when no record arrives; the same as Faust's."""


class StreamTables(TableManager):
    """Faust's table manager whose `recovery` is a `StreamRecovery`; set it as `TableManager` of a Faust app."""

    logger = FAUST_LOG

    @property
    def recovery(self) -> "StreamRecovery":
        """The recovery service of the app, created at the first access."""
        if self._recovery is None:
            self._recovery = StreamRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery  # type: ignore[return-value]  # made here and nowhere else


class StreamRecovery(Recovery):
    """Faust's recovery service without its queue: the consumer passes it lists of changelog records directly.

    `apply_records` applies them to the tables in batches. The recovery ends with the last record, or at a check every
    five seconds. Errors of tables are logged and not raised, and the next batch or check tries again.

    It is for apps without transactions and without a tracer: what Faust does for those is left out. Attributes that
    begin with an underscore and are not defined here are Faust's, which has no public names for them.
    """

    logger = FAUST_LOG

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Faust estimates the remaining time from this many samples; its own deque has no maximum length.
        self._processing_times = deque(maxlen=self.num_samples_required_for_estimate)

    async def apply_records(self, tp: TP, messages: Sequence[Message]) -> None:
        """Apply records of one changelog partition to its table, and end the recovery if they were the last ones.

        Records up to the partition's last applied offset are skipped. The others are put into the table's buffer in
        their order, and the table gets them when the buffer is full or the recovery ends. Records of a partition that
        is neither active nor standby here (it was revoked) are logged and dropped. An error is logged and not raised.
        """
        if tp in self.active_tps:
            offsets, received_at = self.active_offsets, self._active_events_received_at
            table = self.tp_to_table[tp]
            buffered = table.recovery_buffer_size
        elif tp in self.standby_tps:
            offsets, received_at = self.standby_offsets, self._standby_events_received_at
            table = self.tp_to_table[tp]
            buffered = table.standby_buffer_size
        else:  # the partition was revoked meanwhile; Faust would apply them to the table of the record before
            log.warning("recovery.not_ours", topic=tp.topic, partition=tp.partition, records=len(messages))
            return
        received_at[tp] = monotonic()
        try:
            applied = offsets.get(tp)
            new = messages if applied is None else [message for message in messages if message.offset > applied]
            if new:
                events = await _decode_events(self.app, table, new)
                buffer = self.buffers[table]
                buffer += events  # no await between this line and the next, or records are lost or applied twice
                offsets[tp] = new[-1].offset
                self._record_processing_times(len(new))
                for event in events:
                    await table.on_changelog_event(event)
                if len(buffer) >= buffered:
                    table.apply_changelog_batch(buffer)
                    buffer.clear()
                    self._last_flush_at = monotonic()
            self._end_recovery_if_complete()
        except Exception as error:  # as Faust does: buffered records are applied together with the next ones
            log.warning("recovery.failed", error=type(error).__name__, exc_info=error)

    def _record_processing_times(self, records: int) -> None:
        """Record for Faust's estimate of the remaining time how long each of the last `records` records took.

        The seconds since the last call are divided evenly among the records; the first call only records its time.
        """
        now, before = monotonic(), self._last_active_event_processed_at
        if before is not None:
            self._processing_times.extend(repeat((now - before) / records, records))
        self._last_active_event_processed_at = now

    def _end_recovery_if_complete(self) -> None:
        """End the recovery if no active changelog has records left; report standby tables as ready if none is behind.

        At the end of the recovery all buffered records are applied to the tables, and Faust's waiting task is woken.
        """
        if self.in_recovery and not self.need_recovery():
            self.flush_buffers()
            self._set_recovery_ended()
            self.signal_recovery_end.set()
        if not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()

    def _set_recovery_started(self) -> None:
        """Start a recovery as Faust does, but clear the signal of its end before.

        This is Faust's last step before it waits for the signal. Faust itself clears the signal after each record, so a
        signal that is set before Faust waits for it would be lost.
        """
        self.signal_recovery_end.clear()
        super()._set_recovery_started()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Check every five seconds, until the worker stops, whether the recovery is complete, and end it if so.

        The name is that of Faust's task, which reads the queue and is replaced by this one. The check also retries to
        apply buffered records whose table raised an error before. Errors are logged.
        """
        while not self.should_stop:
            await self.sleep(_CHECK_INTERVAL_S)
            try:
                self._end_recovery_if_complete()
            except Exception as error:  # a table's error; the next check tries again
                log.warning("recovery.failed", error=type(error).__name__, exc_info=error)


async def _decode_events(app: Any, table: Any, messages: Sequence[Message]) -> list[EventT[Any]]:
    """Return changelog records as the events that a table applies, in the same order.

    For a table of raw bytes nothing is decoded. In other tables a record that cannot be decoded is logged and left out,
    as Faust leaves it out.
    """
    if table.key_serializer == table.value_serializer == "raw":
        return [faust.Event(app, message.key, message.value, None, message) for message in messages]
    events = []
    for message in messages:
        try:
            events.append(await table.changelog_topic.decode(message, propagate=True))
        except DecodeError as error:
            log.error(
                "recovery.undecodable",
                table=table.name,
                partition=message.partition,
                offset=message.offset,
                error=type(error).__name__,
            )
    return events
