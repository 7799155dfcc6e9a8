"""The offset up to which a partition may be committed when its events are acknowledged in any order. Pure."""

from collections import deque
from collections.abc import MutableSet


class OffsetTracker:
    """A queue of one partition's delivered offsets that are not committable yet, in ascending order.

    The consumer adds each offset with `track`, and gets the offset to commit from `take_committable`. This replaces
    Faust's own bookkeeping. Faust commits past an event that is not acknowledged when the event is the very
    next one after the committed offset, or when nothing is committed yet: after a crash the event would never be read
    again. Faust also takes the first event after a gap (of compaction, say) for acknowledged.
    """

    def __init__(self) -> None:
        self._pending: deque[int] = deque()
        self._next = 0

    def track(self, offset: int) -> None:
        """Add the offset of an event that is about to be delivered; ignore it unless it is above all offsets before."""
        if offset >= self._next:
            self._pending.append(offset)
            self._next = offset + 1

    def take_committable(self, acknowledged: MutableSet[int]) -> int | None:
        """Return the offset to commit now, or None if it is the same as after the last call.

        This is one more than the offset of the last event that is acknowledged together with all earlier ones. The
        events up to there are removed from the tracker, and from `acknowledged`, which holds acknowledged offsets in
        any order.
        """
        committable = None
        while self._pending and self._pending[0] in acknowledged:
            offset = self._pending.popleft()
            acknowledged.discard(offset)
            committable = offset + 1
        return committable
