"""Faust tables of bytes: a write costs little, goes to its event's partition, and can be waited for."""

import asyncio
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import faust
from aiokafka.errors import KafkaError
from faust.exceptions import FaustError
from faust.streams import _current_event
from faust.types import EventT, FutureMessage, RecordMetadata

from chassis.faust.internals.steps import EagerCoroutine
from chassis.faust.store import TableStore

Write = asyncio.Future[RecordMetadata]
"""The future of a changelog record, done once the broker has acknowledged the record."""


def set_current_event(event: EventT[bytes]) -> None:
    """Make this task read and write tables in the partition of `event` from now on.

    Only a weak reference to the event is kept: the caller must hold the event meanwhile. By itself Faust uses the
    partition of the event that a stream delivered last, which may differ from the partition of the event being
    processed when several are in progress.
    """
    _current_event.set(weakref.ref(event))  # it has no public name


class DirectTable(faust.Table[bytes, bytes]):
    """A Faust table of bytes that passes changelog records to the producer directly, without Faust's task and buffer.

    Agents set and delete entries with `write`, and wait for `last_write` before they acknowledge an event. `purge`
    deletes expired entries of the local copy alone.
    """

    def __init__(self, app: faust.App, **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._last_writes: dict[int, Write] = {}

    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None:
        """Set an entry, or delete it (None), and publish the changelog record, without waiting for the broker.

        The partition is that of `event`, even if other events came after it; it stays this task's current partition.
        """
        set_current_event(event)
        if entry is not None:
            self[key] = entry
        else:
            del self[key]

    def last_write(self, partition: int) -> Write | None:
        """Return the future of the last changelog record in a partition, or None if nothing was written.

        It is done once the broker has acknowledged the record.
        """
        return self._last_writes.get(partition)

    def on_key_set(self, key: bytes, value: bytes) -> None:
        """Publish the changelog record and notify the sensors before an entry is set; Faust calls this.

        Faust's own method also handles the expiry of keys, which only windowed tables have.
        """
        self._publish(key, value)
        self.app.sensors.on_table_set(self, key, value)

    def on_key_del(self, key: bytes) -> None:
        """Publish the changelog record and notify the sensors before an entry is deleted; Faust calls this."""
        self._publish(key, None)
        self.app.sensors.on_table_del(self, key)

    def _publish(self, key: bytes, value: bytes | None) -> None:
        """Publish a changelog record after all earlier ones of its partition, and store its future for `last_write`.

        `value` None deletes the key. The partition is that of the current event.

        A producer accepts a record at once, unless its batch for the partition is full. Only then the record goes
        through Faust's buffer, as Faust would send all records: by a task that wraps each of them in four objects.
        Faust fetches no events while its buffer holds many records.
        """
        partition = cast(int, self.partition_for_key(key))  # None only with a partitioner, which there is not
        before = self._last_writes.get(partition)
        write = None
        if not isinstance(before, FutureMessage) or before.done():  # else it may still be in the buffer
            write = self._try_publish_now(partition, key, value)
        if write is None:
            write = self.send_changelog(partition, key, value, value_serializer="raw")
        self._last_writes[partition] = write

    def _try_publish_now(self, partition: int, key: bytes, value: bytes | None) -> Write | None:
        """Pass a record to the producer without waiting, and return the future of its acknowledgement.

        Return None, with nothing sent, if the batch is full or the producer raises an error. Faust's sensors are
        notified, and the record's offset is persisted once the broker has acknowledged it.
        """
        producer, topic = self.app.producer, self._changelog_name
        try:
            sending = EagerCoroutine(producer.send(topic, key, value, partition, timestamp=None, headers=None))
        except (KafkaError, FaustError):  # it is closed, say; then Faust's buffer handles the error
            return None
        if not sending.is_done:  # the batch is full, and nothing is sent yet
            sending.close()
            return None
        write = cast(Write, sending.result)
        size = len(value) if value is not None else 0
        sensors: Any = self.app.sensors  # the third argument, Faust's message, does not exist here; no sensor uses it
        state = sensors.on_send_initiated(producer, topic, None, len(key), size)
        write.add_done_callback(partial(self._on_published, state))
        return write

    def _on_published(self, state: Any, write: Write) -> None:
        """Notify the sensors that a record was acknowledged or rejected, and persist the offset if it was acknowledged.

        Called when the future `write` is done; if it was cancelled, do nothing. `state` is what the sensors returned
        when the record was sent.
        """
        producer = self.app.producer
        if write.cancelled():
            return
        if (error := write.exception()) is not None:
            self.app.sensors.on_send_error(producer, error, state)
            return
        record = write.result()
        self.app.sensors.on_send_completed(producer, state, record)
        self._persist_offset(record)

    def _on_changelog_sent(self, write: FutureMessage) -> None:
        """Persist the offset of a record that went through Faust's buffer; Faust calls this method by its name."""
        self._persist_offset(write.result())

    def _persist_offset(self, record: RecordMetadata) -> None:
        """Store with the table that it holds its changelog up to a record, so that recovery starts after the record.

        The offset is not stored if the record is not the next one after the stored offset. Then another worker owned
        the partition meanwhile, and its records would never be read here. When the partition is assigned again,
        everything after the stored offset is recovered.
        """
        before = self.data.persisted_offset(record.topic_partition)
        if record.offset == (-1 if before is None else before) + 1:
            self.data.set_persisted_offset(record.topic_partition, record.offset)

    @cached_property
    def _changelog_name(self) -> str:
        """The name of the table's changelog topic."""
        return self.changelog_topic.get_topic_name()

    async def purge(self, is_over: Callable[[bytes], bool]) -> int:
        """Delete expired entries from this worker's own copy of the table, and return how many were deleted.

        `is_over` returns True for the value of an expired entry. All entries are read. Nothing is written to the
        changelog, whose `retention.ms` must delete the records there. Other tasks may run after each partition.
        """
        purged = 0
        for entries, delete in list(self._iter_copies()):
            expired = [key for key, value in entries() if is_over(value)]
            for key in expired:
                delete(key)
            purged += len(expired)
            await asyncio.sleep(0)
        return purged

    def _iter_copies(self) -> Iterator[tuple[Callable[[], Iterable[tuple[bytes, bytes]]], Callable[[bytes], object]]]:
        """Yield, for each local copy (one per partition on disk, one in memory), two functions.

        The first returns the copy's entries; the second deletes a key without a changelog record.
        """
        store: Any = self.data
        if isinstance(store, TableStore):
            for db in store.list_open_databases():
                yield partial(store.iter_entries, db), db.delete
        else:
            yield store.data.items, partial(_remove_key, store)


def _remove_key(store: Any, key: bytes) -> None:
    """Delete a key from a table in memory, if it exists."""
    store.data.pop(key, None)


D = TypeVar("D", bound=DirectTable)


def add_table(app: faust.App, kind: type[D], name: str, partitions: int, description: str, **options: Any) -> D:
    """Create a table of class `kind`, add it to an app, and return it. `options` are those of Faust's tables.

    `partitions` is the number of its changelog partitions, and must be that of its source topics: otherwise the first
    write fails.
    """
    table = kind(app, name=name, partitions=partitions, help=description, beacon=app.tables.beacon, **options)
    app.tables.add(table)
    return table
