"""Tables of bytes whose writes are cheap, go to the partition that is meant, and can be waited for."""

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
"""A record of a changelog; done once the broker has it."""


def set_current_event(event: EventT[bytes]) -> None:
    """From here on, this task reads and writes tables in the partition of `event`.

    Faust takes the partition of the event that a stream gave last, which is another where several are in hand.
    """
    _current_event.set(weakref.ref(event))  # it has no public name


class DirectTable(faust.Table[bytes, bytes]):
    """A table whose changelog records go to the producer at once, not through a task and a buffer of Faust's."""

    def __init__(self, app: faust.App, **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._last_writes: dict[int, Write] = {}

    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None:
        """Write an entry, or delete it (None), because of an event: into its partition, whichever came after it."""
        set_current_event(event)
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
            write = self._try_publish_now(partition, key, value)
        if write is None:
            write = self.send_changelog(partition, key, value, value_serializer="raw")
        self._last_writes[partition] = write

    def _try_publish_now(self, partition: int, key: bytes, value: bytes | None) -> Write | None:
        producer, topic = self.app.producer, self._changelog_name
        try:
            sending = EagerCoroutine(producer.send(topic, key, value, partition, timestamp=None, headers=None))
        except (KafkaError, FaustError):  # it is closed, say; what the buffer makes of that is what Faust makes of it
            return None
        if not sending.is_done:  # nothing is sent yet
            sending.close()
            return None
        write = cast(Write, sending.result)
        size = len(value) if value is not None else 0
        sensors: Any = self.app.sensors  # none of which looks at the message, which there is not here
        state = sensors.on_send_initiated(producer, topic, None, len(key), size)
        write.add_done_callback(partial(self._on_published, state))
        return write

    def _on_published(self, state: Any, write: Write) -> None:
        """What Faust does once the broker has a record."""
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
        """Faust's, which has no other name: of records that waited in the buffer."""
        self._persist_offset(write.result())

    def _persist_offset(self, record: RecordMetadata) -> None:
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

    async def purge(self, is_over: Callable[[bytes], bool]) -> int:
        """Delete the entries whose value is over from this worker's own copy; how many there were.

        Nothing is written to the changelog, which must forget them by itself (`retention.ms`). Lets others go on after
        each partition.
        """
        purged = 0
        for entries, delete in list(self._iter_copies()):
            over = [key for key, value in entries() if is_over(value)]
            for key in over:
                delete(key)
            purged += len(over)
            await asyncio.sleep(0)
        return purged

    def _iter_copies(self) -> Iterator[tuple[Callable[[], Iterable[tuple[bytes, bytes]]], Callable[[bytes], object]]]:
        store: Any = self.data
        if isinstance(store, TableStore):
            for db in store.list_open_databases():
                yield partial(store.iter_entries, db), db.delete
        else:
            yield store.data.items, partial(_remove_key, store)


def _remove_key(store: Any, key: bytes) -> None:
    store.data.pop(key, None)


D = TypeVar("D", bound=DirectTable)


def add_table(app: faust.App, kind: type[D], name: str, partitions: int, says: str, **options: Any) -> D:
    """A table of an app, with as many changelog partitions as its sources have, or its first write would fail."""
    table = kind(app, name=name, partitions=partitions, help=says, beacon=app.tables.beacon, **options)
    app.tables.add(table)
    return table
