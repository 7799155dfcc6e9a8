"""The stream's tables: plain Faust tables, made safe against workers that do not know yet that they were replaced."""

import asyncio
import weakref
from collections.abc import Iterable
from contextvars import copy_context
from functools import cached_property, partial
from typing import Any, cast

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError
from faust.streams import _current_event
from faust.types import EventT, FutureMessage, RecordMetadata

from chassis.stream_steps import Begun
from streams.state import sequence_of

Write = asyncio.Future[RecordMetadata]
"""A record of a changelog; done once the broker has it."""


def turn_to(event: EventT[bytes]) -> None:
    """From here on, this task reads and writes tables in the partition of `event`.

    Faust takes the partition of the event that a stream gave last, which is another where several are in hand.
    """
    _current_event.set(weakref.ref(event))  # it has no public name


class SequencedTable(faust.Table[bytes, bytes]):
    """A table whose entries begin with the sequence of the last event that is in them.

    A worker that was paused, or cut off, goes on to write for a while although its partitions are already another's.
    What it writes comes late in the changelog and is older than what is there; so where Faust takes the last record
    of a key at recovery, the one with the highest sequence is taken here. A deletion is always taken.
    """

    def __init__(self, app: faust.App, **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._last_writes: dict[int, Write] = {}

    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None:
        """Write an entry, or delete it (None), because of an event: into its partition, whichever came after it."""
        turn_to(event)
        if entry is not None:
            self[key] = entry
        else:
            del self[key]

    def last_write(self, partition: int) -> Write | None:
        """The changelog record of the last write from a source partition, done once the broker has it."""
        return self._last_writes.get(partition)

    def on_key_set(self, key: bytes, value: bytes) -> None:
        """What Faust does before an entry is set, but for the end of keys, which only windows have."""
        self._publish(key, value)
        self.app.sensors.on_table_set(self, key, value)

    def on_key_del(self, key: bytes) -> None:
        """What Faust does before an entry is deleted."""
        self._publish(key, None)
        self.app.sensors.on_table_del(self, key)

    def _publish(self, key: bytes, value: bytes | None) -> None:
        """Hand a record to the producer, after all that was handed to it before.

        A producer takes a record at once, unless its batch for the partition is full. Only then the record is left to
        Faust's buffer, as Faust would leave all: a task that wraps each record in four objects. Faust takes no events
        while there is much in it.
        """
        partition = cast(int, self.partition_for_key(key))  # None only with a partitioner, and there is none
        before = self._last_writes.get(partition)
        write = None
        if not isinstance(before, FutureMessage) or before.done():  # else it may wait in the buffer still
            write = self._published_at_once(partition, key, value)
        if write is None:
            write = self.send_changelog(partition, key, value, value_serializer="raw")
        self._last_writes[partition] = write

    def _published_at_once(self, partition: int, key: bytes, value: bytes | None) -> Write | None:
        producer, topic = self.app.producer, self._changelog_name
        try:
            sending = Begun(producer.send(topic, key, value, partition, timestamp=None, headers=None))
        except (KafkaError, FaustError):  # it is closed, say; what the buffer makes of that is what Faust makes of it
            return None
        if not sending.is_done:  # nothing is sent yet
            sending.close()
            return None
        write = cast(Write, sending.result)
        size = len(value) if value is not None else 0
        sensors: Any = self.app.sensors  # none of which looks at the message, which there is not here
        state = sensors.on_send_initiated(producer, topic, None, len(key), size)
        write.add_done_callback(partial(self._published, state))
        return write

    def _published(self, state: Any, write: Write) -> None:
        """What Faust does once the broker has a record."""
        producer = self.app.producer
        if write.cancelled():
            return
        if (error := write.exception()) is not None:
            self.app.sensors.on_send_error(producer, error, state)
            return
        record = write.result()
        self.app.sensors.on_send_completed(producer, state, record)
        self._has_up_to(record)

    def _on_changelog_sent(self, write: FutureMessage) -> None:
        """Faust's, which has no other name: of records that waited in the buffer."""
        self._has_up_to(write.result())

    def _has_up_to(self, record: RecordMetadata) -> None:
        """Remember, on disk, that a record and all before it in its changelog need not be recovered.

        Not when there is one before it that is not of this table: then the partition was another's meanwhile, and
        what that one wrote would never be read here. From there on all is recovered, when the partition comes back.
        """
        before = self.data.persisted_offset(record.topic_partition)
        if record.offset == (-1 if before is None else before) + 1:
            self.data.set_persisted_offset(record.topic_partition, record.offset)

    @cached_property
    def _changelog_name(self) -> str:
        return self.changelog_topic.get_topic_name()

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        # In a context of its own, because which partition is turned to is no matter of whoever asks for this.
        super().apply_changelog_batch(copy_context().run(self._newest, batch))

    def _newest(self, batch: Iterable[EventT[bytes]]) -> list[EventT[bytes]]:
        """Those of some records of the changelog that are not older than what the table has."""
        newest: dict[bytes, int] = {}
        kept = []
        for event in batch:
            key, value = event.message.key or b"", event.message.value
            sequence = sequence_of(value) if value else None
            if key not in newest and sequence is not None:
                turn_to(event)  # else a table on disk looks for the key in each of its partitions
                entry = self.data.get(key)
                newest[key] = sequence_of(entry) if entry else 0
            if sequence is None or sequence >= newest[key]:
                newest[key] = sequence or 0
                kept.append(event)
        return kept
