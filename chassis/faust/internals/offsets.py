"""The offset up to which a partition may be committed when its events are acknowledged in any order. Pure."""

from collections import deque
from collections.abc import MutableSet


class OffsetTracker:
    """A tracker of one partition's delivered offsets, from the first one that is not yet committable.

    It replaces Faust's own bookkeeping. Faust commits past an event that is not acknowledged when the event is the very
    next one after the committed offset, or when nothing is committed yet: after a crash the event would never be read
    again. Faust also takes the first event after a gap (of compaction, say) for acknowledged.
    """

    def __init__(self) -> None:
        self._pending: deque[int] = deque()
        self._next = 0

    def track(self, offset: int) -> None:
        """Add the offset of an event that is about to be delivered; an offset that was added before changes nothing."""
        if offset >= self._next:
            self._pending.append(offset)
            self._next = offset + 1

    def take_committable(self, acknowledged: MutableSet[int]) -> int | None:
        """Return the offset to commit now, or None if it is the same as after the last call.

        This is the offset after the last event of which all earlier events are acknowledged too. The events up to there
        are removed from the tracker, and from `acknowledged`.
        """
        committable = None
        while self._pending and self._pending[0] in acknowledged:
            offset = self._pending.popleft()
            acknowledged.discard(offset)
            committable = offset + 1
        return committable
