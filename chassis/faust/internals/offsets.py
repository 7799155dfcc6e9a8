"""Up to where the events of a partition are done with, when they are acknowledged in any order. Pure."""

from collections import deque
from collections.abc import MutableSet


class OffsetTracker:
    """The offsets of one partition that were delivered, in their order, up to the first that is acknowledged and is
    passed.

    Faust's own reckoning passes over an event that is not acknowledged when it is the very next after what is
    committed, or when nothing is committed yet: after a crash it would never be read again. And it takes the first
    event after a gap (of compaction, say) for acknowledged.
    """

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()
        self._next = 0

    def track(self, offset: int) -> None:
        """An event is about to be delivered; one that was before changes nothing."""
        if offset >= self._next:
            self._waiting.append(offset)
            self._next = offset + 1

    def take_committable(self, acknowledged: MutableSet[int]) -> int | None:
        """The offset that comes after the last event before which all are acknowledged; None when that is as before.

        Those that are passed are taken out of `acknowledged`.
        """
        passed = None
        while self._waiting and self._waiting[0] in acknowledged:
            offset = self._waiting.popleft()
            acknowledged.discard(offset)
            passed = offset + 1
        return passed
