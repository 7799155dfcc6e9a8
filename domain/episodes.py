"""What came before an alert: the counts that led up to its window, and where the breach began that it speaks of.

Both are the same for all interests that count the same flights (the second: and have the same threshold), so they are
found once and shared, however many people are told.
"""

from typing import Final

from domain.alerts import Bound
from domain.window_counts import WindowCounts

EARLIER_WINDOWS: Final = 12
"""Windows before an alert's own whose counts it carries, at most."""


class Lookback:
    """What lies behind the windows of one length and direction. Of use as long as their traffic is what is known."""

    def __init__(self, windows: WindowCounts) -> None:
        self._windows = windows
        self._earlier: dict[int, tuple[int | None, ...]] = {}
        self._begins: dict[tuple[Bound, int, int], int] = {}

    def earlier(self, number: int) -> tuple[int | None, ...]:
        """The counts of up to EARLIER_WINDOWS windows before, the oldest first, from the first that is known on.

        None stands for a window that is not known: a gap, or no coverage.
        """
        found = self._earlier.get(number)
        if found is None:
            before = [self._windows[each] for each in range(number - EARLIER_WINDOWS, number)]
            counts = [each.flights if each.closed else None for each in before]
            first = next((at for at, count in enumerate(counts) if count is not None), len(counts))
            found = self._earlier[number] = tuple(counts[first:])
        return found

    def run_begin(self, bound: Bound, threshold: int, number: int) -> int:
        """The first of the windows right before `number` that were all past a threshold; `number` if there are none.

        Of a run that is longer than traffic is remembered: the first that is.
        """
        at = number
        while (begin := self._begins.get((bound, threshold, at))) is None and self._is_past(bound, threshold, at - 1):
            at -= 1
        found = self._begins[bound, threshold, number] = at if begin is None else begin
        return found

    def _is_past(self, bound: Bound, threshold: int, number: int) -> bool:
        window = self._windows[number]
        if not window.closed:  # a window that is never known counts as no breach for its neighbours
            return False
        return bound.is_breached(window.flights, threshold)
