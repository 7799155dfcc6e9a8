"""The history that an alert carries: the counts of the windows before its own, and the start of its breach.

Both are the same for all interests that count the same flights (the second: and have the same threshold), so each is
computed once and shared by the alerts of all these interests.
"""

from typing import Final

from domain.alerts import Bound
from domain.window_counts import WindowCounts

MAX_EARLIER_COUNTS: Final = 12
"""Windows before an alert's own window whose counts the alert carries, at most."""


class Lookback:
    """A cache of the history before each window of one length and direction, valid for one state of the traffic."""

    def __init__(self, windows: WindowCounts) -> None:
        self._windows = windows
        self._earlier_counts: dict[int, tuple[int | None, ...]] = {}
        self._run_starts: dict[tuple[Bound, int, int], int] = {}

    def list_earlier_counts(self, number: int) -> tuple[int | None, ...]:
        """Return the counts of up to MAX_EARLIER_COUNTS windows before window `number`, the oldest first.

        The first count is known; None stands for a later window that is not known: a gap, or no coverage.
        """
        found = self._earlier_counts.get(number)
        if found is None:
            before = [self._windows[each] for each in range(number - MAX_EARLIER_COUNTS, number)]
            counts = [each.flights if each.is_closed else None for each in before]
            first = next((at for at, count in enumerate(counts) if count is not None), len(counts))
            found = self._earlier_counts[number] = tuple(counts[first:])
        return found

    def find_run_start(self, bound: Bound, threshold: int, number: int) -> int:
        """Return the first of the consecutive windows right before window `number` that all breach a threshold.

        Returns `number` if the window before it breaches nothing. If the run began before the retained counts, the
        first retained window is returned.
        """
        at = number
        while (start := self._run_starts.get((bound, threshold, at))) is None and self._is_breach(
            bound, threshold, at - 1
        ):
            at -= 1
        found = self._run_starts[bound, threshold, number] = at if start is None else start
        return found

    def _is_breach(self, bound: Bound, threshold: int, number: int) -> bool:
        """Return True if window `number` is closed and breaches the threshold, False if not or if it is unknown."""
        window = self._windows[number]
        return window.is_closed and bound.is_breached(window.flights, threshold)
