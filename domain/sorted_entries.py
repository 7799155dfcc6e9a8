"""Sorted entries: the interests of one group, bound and `repeat`, found by threshold and by their first window."""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

_NUMBER_BYTES: Final = 4
"""The bytes of an entry that hold the number of its interest's first window; the interest's id follows."""
_LAST_WINDOW: Final = 2 ** (8 * _NUMBER_BYTES) - 1
"""The largest window number that fits."""


@dataclass(slots=True)
class SortedEntries:
    """The entries of the interests of one group, bound and `repeat`, by threshold.

    An entry is the number of an interest's first window (4 bytes), then the interest's id. Entries with the same
    threshold are in order of their first window.
    """

    thresholds: list[int] = field(default_factory=list)
    """Each threshold once, in order."""
    entries: dict[int, list[bytes]] = field(default_factory=dict)

    def add(self, threshold: int, entry: bytes) -> None:
        """Insert an entry at its place in the sorted list of a threshold; a new threshold gets a list."""
        entries = self.entries.get(threshold)
        if entries is None:
            insort(self.thresholds, threshold)
            self.entries[threshold] = [entry]
        elif entry > entries[-1]:
            entries.append(entry)
        else:
            insort(entries, entry)

    def remove(self, threshold: int, entry: bytes) -> None:
        """Remove an entry from a threshold, and the threshold with its last entry.

        Raises KeyError, and changes nothing, if the threshold does not have the entry.
        """
        entries = self.entries.get(threshold, [])
        at = bisect_left(entries, entry)
        if at == len(entries) or entries[at] != entry:
            raise KeyError("no such interest at this threshold")
        del entries[at]
        if not entries:
            del self.entries[threshold]
            del self.thresholds[bisect_left(self.thresholds, threshold)]

    def list_thresholds_between(self, begin: int, end: int) -> list[int]:
        """Return, in order, the thresholds that have entries from `begin` up to, but not including, `end`."""
        first = bisect_left(self.thresholds, begin)
        if first == len(self.thresholds) or self.thresholds[first] >= end:
            return []
        return self.thresholds[first : bisect_left(self.thresholds, end, first)]

    def count_begun(self, threshold: int, number: int) -> int:
        """Return the number of entries of a threshold whose first window is window `number` or earlier.

        So the result is also the end of these entries in the threshold's list. Raises KeyError for a threshold without
        entries, unless `number` is negative: then the result is 0.
        """
        if number < 0:
            return 0
        return bisect_right(self.entries[threshold], _encode_window_number(number + 1))


def build_entry(first_window: int, interest_id: UUID) -> bytes:
    """Return the entry of an interest; entries sort by first window, then by id."""
    return _encode_window_number(first_window) + interest_id.bytes


def get_interest_id(entry: bytes) -> UUID:
    """Return the id of an entry's interest."""
    return UUID(bytes=entry[_NUMBER_BYTES:])


def _encode_window_number(number: int) -> bytes:
    """Return the number of a window as 4 bytes that sort in the order of the numbers.

    Windows before 1970 become 0, numbers above _LAST_WINDOW become _LAST_WINDOW.
    """
    return min(max(number, 0), _LAST_WINDOW).to_bytes(_NUMBER_BYTES, "big")
