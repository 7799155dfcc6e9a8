"""The stream's tables: plain Faust tables, made safe against workers that do not know yet that they were replaced."""

from collections.abc import Iterable
from contextvars import copy_context

from faust.types import EventT

from chassis.faust.table import DirectTable, set_current_event
from streams.entries import sequence_of


class SequencedTable(DirectTable):
    """A table whose entries begin with the sequence of the last event that is in them.

    A worker that was paused, or cut off, goes on to write for a while although its partitions are already another's.
    What it writes comes late in the changelog and is older than what is there; so where Faust takes the last record
    of a key at recovery, the one with the highest sequence is taken here. A deletion is always taken.
    """

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
                set_current_event(event)  # else a table on disk looks for the key in each of its partitions
                entry = self.data.get(key)
                newest[key] = sequence_of(entry) if entry else 0
            if sequence is None or sequence >= newest[key]:
                newest[key] = sequence or 0
                kept.append(event)
        return kept
