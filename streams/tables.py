"""The stream's tables: plain Faust tables, made safe against workers that do not know yet that they were replaced."""

from collections.abc import Callable, Iterable
from typing import Any

import faust
from faust.types import EventT, FutureMessage


class SequencedTable(faust.Table[bytes, bytes]):
    """A table whose entries carry the sequence of the last event that is in them.

    A worker that was paused, or cut off, goes on to write for a while although its partitions are already another's.
    What it writes comes late in the changelog and is older than what is there; so where Faust takes the last record
    of a key at recovery, the one with the highest sequence is taken here.
    """

    def __init__(self, app: faust.App, *, sequence_of: Callable[[bytes], int], **options: Any) -> None:
        super().__init__(app, key_type=bytes, value_type=bytes, **options)
        self._sequence_of = sequence_of
        self._last_sent: dict[int | None, FutureMessage] = {}

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
            key, sequence = event.message.key or b"", self._sequence_of(event.message.value or b"")
            if key not in newest:
                entry = self.data.get(key)
                newest[key] = self._sequence_of(entry) if entry else 0
            if sequence >= newest[key]:
                newest[key] = sequence
                kept.append(event)
        super().apply_changelog_batch(kept)
