"""Faust's recovery of tables, with what it costs a record cut down.

Faust delivers each record of a changelog as it delivers an event to an agent, through a queue from which it takes them
one by one, with a timer each; and after each it counts what is left of all partitions. Here a fetch is applied at once.
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
"""Without a record, it is seen to again whether anything is left to wait for; as Faust does."""


class StreamTables(TableManager):
    """To be the `TableManager` of a Faust app."""

    logger = FAUST_LOG

    @property
    def recovery(self) -> "StreamRecovery":
        if self._recovery is None:
            self._recovery = StreamRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery  # type: ignore[return-value]  # made here and nowhere else


class StreamRecovery(Recovery):
    """Is given the records of changelogs by the consumer itself, in lists.

    Of an app that is not transactional, and has no tracer: what Faust does for those is left out. The names that begin
    with an underscore are Faust's: it has no others for what a recovery consists of.
    """

    logger = FAUST_LOG

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # From these Faust estimates how long it will take, when there are so many; it trims its own by hand.
        self._processing_times = deque(maxlen=self.num_samples_required_for_estimate)

    async def apply_records(self, tp: TP, messages: Sequence[Message]) -> None:
        """Apply records of one partition of a changelog, in their order; and end the recovery if they were the last."""
        if tp in self.active_tps:
            offsets, received_at = self.active_offsets, self._active_events_received_at
            table = self.tp_to_table[tp]
            buffered = table.recovery_buffer_size
        elif tp in self.standby_tps:
            offsets, received_at = self.standby_offsets, self._standby_events_received_at
            table = self.tp_to_table[tp]
            buffered = table.standby_buffer_size
        else:  # taken away meanwhile; Faust would put them into the table of the record before
            log.warning("recovery.not_ours", topic=tp.topic, partition=tp.partition, records=len(messages))
            return
        received_at[tp] = monotonic()
        try:
            seen = offsets.get(tp)
            new = messages if seen is None else [each for each in messages if each.offset > seen]
            if new:
                events = await _decode_events(self.app, table, new)
                buffer = self.buffers[table]
                buffer += events  # nothing may come between this and the next line, or it is lost or not ended with
                offsets[tp] = new[-1].offset
                self._record_processing_times(len(new))
                for event in events:
                    await table.on_changelog_event(event)
                if len(buffer) >= buffered:
                    table.apply_changelog_batch(buffer)
                    buffer.clear()
                    self._last_flush_at = monotonic()
            self._end_recovery_if_complete()
        except Exception as error:  # as Faust: what is in a buffer is applied with what comes next
            log.warning("recovery.failed", error=type(error).__name__, exc_info=error)

    def _record_processing_times(self, records: int) -> None:
        """Tell Faust how long each of some records took, from the one before them."""
        now, before = monotonic(), self._last_active_event_processed_at
        if before is not None:
            self._processing_times.extend(repeat((now - before) / records, records))
        self._last_active_event_processed_at = now

    def _end_recovery_if_complete(self) -> None:
        if self.in_recovery and not self.need_recovery():
            self.flush_buffers()
            self._set_recovery_ended()
            self.signal_recovery_end.set()
        if not self.tables.standbys_ready and not self.standby_remaining_total():
            self.tables.on_standbys_ready()

    def _set_recovery_started(self) -> None:
        """Faust's first step of a recovery, and the last before it waits for the signal of its end.

        Faust clears the signal after each record: one that is given before anybody waits for it is lost.
        """
        self.signal_recovery_end.clear()
        super()._set_recovery_started()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """In place of Faust's task, which empties the queue: what could not be applied is tried again."""
        while not self.should_stop:
            await self.sleep(_CHECK_INTERVAL_S)
            try:
                self._end_recovery_if_complete()
            except Exception as error:  # of a table; the next look tries again
                log.warning("recovery.failed", error=type(error).__name__, exc_info=error)


async def _decode_events(app: Any, table: Any, messages: Sequence[Message]) -> list[EventT[Any]]:
    """The records as events, as a table takes them; its interface does not tell how. What cannot be decoded is left
    out, as Faust leaves it out."""
    if table.key_serializer == table.value_serializer == "raw":
        return [faust.Event(app, each.key, each.value, None, each) for each in messages]
    events = []
    for each in messages:
        try:
            events.append(await table.changelog_topic.decode(each, propagate=True))
        except DecodeError as error:
            log.error(
                "recovery.undecodable",
                table=table.name,
                partition=each.partition,
                offset=each.offset,
                error=type(error).__name__,
            )
    return events
