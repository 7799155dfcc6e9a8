"""The stream's tables: Faust tables that are safe against late writes of a worker that was replaced."""

from collections.abc import Iterable
from contextvars import copy_context
from dataclasses import dataclass

from faust.types import EventT

from chassis.faust.table import DirectTable, set_current_event
from streams.entries import read_sequence


class SequencedTable(DirectTable):
    """A table whose entries begin with the sequence of the last event that is in them.

    A worker that was paused, or cut off, continues to write for a while although another worker owns its partitions
    already. Such records come late in the changelog, and are older than the entries before them. So at recovery this
    table takes the record of a key with the highest sequence, where Faust takes the last one. A deletion is always
    taken.
    """

    def apply_changelog_batch(self, batch: Iterable[EventT[bytes]]) -> None:
        """Apply the records of a changelog batch, except those older than the table's entries; Faust calls this.

        Called at recovery. The caller's current event stays the same.
        """
        # In a context of its own, because the current event selects the partition of the tables.
        super().apply_changelog_batch(copy_context().run(self._select_newest_records, batch))

    def _select_newest_records(self, batch: Iterable[EventT[bytes]]) -> list[EventT[bytes]]:
        """Return the records of a changelog batch that are not older than the table's entries, in order.

        A record is older if its sequence is lower than that of the table's entry of its key, or of a record selected
        before it. Deletions are always selected; after a deletion, any sequence is. Changes the current event.
        """
        newest: dict[bytes, int] = {}
        selected = []
        for event in batch:
            key, value = event.message.key or b"", event.message.value
            sequence = read_sequence(value) if value else None
            if key not in newest and sequence is not None:
                set_current_event(event)  # else a table on disk searches the key in each of its partitions
                entry = self.data.get(key)
                newest[key] = read_sequence(entry) if entry else 0
            if sequence is None or sequence >= newest[key]:
                newest[key] = sequence or 0
                selected.append(event)
        return selected


@dataclass(frozen=True, slots=True)
class Tables:
    """The three tables of the stream, which only the join writes: airports, interests, and history (closed days)."""

    airports: SequencedTable
    interests: SequencedTable
    history: SequencedTable
