"""The stream's tables: plain Faust tables, made safe against workers that do not know yet that they were replaced."""

import weakref
from collections.abc import Iterable
from typing import Any

import faust
from faust.streams import _current_event
from faust.types import EventT, FutureMessage

from streams.state import sequence_of


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
        self._last_sent: dict[int | None, FutureMessage] = {}

    def write(self, event: EventT[bytes], key: bytes, entry: bytes | None) -> None:
        """Write an entry, or delete it (None), because of an event: into its partition, whichever came after it."""
        turn_to(event)
        if entry is not None:
            self[key] = entry
        else:
            del self[key]

    def last_write(self, partition: int) -> FutureMessage | None:
        """The changelog record of the last write from a source partition, done once the broker has it."""
        return self._last_sent.get(partition)

    def send_changelog(self, partition: int | None, *args: Any, **options: Any) -> FutureMessage:
        sent = super().send_changelog(partition, *args, **options)
        self._last_sent[partition] = sent
        return sent

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        newest: dict[bytes, int] = {}
        kept = []
        for event in batch:
            key, value = event.message.key or b"", event.message.value
            sequence = sequence_of(value) if value else None
            if key not in newest and sequence is not None:
                entry = self.data.get(key)
                newest[key] = sequence_of(entry) if entry else 0
            if sequence is None or sequence >= newest[key]:
                newest[key] = sequence or 0
                kept.append(event)
        super().apply_changelog_batch(kept)
