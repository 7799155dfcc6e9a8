"""The history that an alert carries: the counts of the windows before its own, and the start of its breach.

Both are the same for all interests that count the same flights (the start: only with the same threshold, too), so each
is computed once and shared by the alerts of all these interests.
"""

from typing import Final

from domain.alerts import Bound
from domain.window_counts import WindowCounts

MAX_EARLIER_COUNTS: Final = 12
"""Windows before an alert's own window whose counts the alert carries, at most."""


class Lookback:
    """A cached view of the history before each window of one length and direction, valid for one state of the traffic.

    It gives the counts of the windows before an alert, and the begin of a breach; both are computed once and kept.
    """

    def __init__(self, windows: WindowCounts) -> None:
        self._windows = windows
        self._earlier_counts: dict[int, tuple[int | None, ...]] = {}
        self._live_windows: dict[int, int] = {}
        self._run_starts: dict[tuple[Bound, int, int], int] = {}

    def list_earlier_counts(self, number: int) -> tuple[int | None, ...]:
        """Return the counts of up to MAX_EARLIER_COUNTS windows right before window `number`, the oldest first.

        The oldest windows whose count is not known are left out, so the first count is known (or the result is empty);
        a later window that is not closed (a gap, or no coverage) is None.
        """
        found = self._earlier_counts.get(number)
        if found is None:
            before = [self._windows[each] for each in range(number - MAX_EARLIER_COUNTS, number)]
            counts = [each.flights if each.is_closed else None for each in before]
            first = next((at for at, count in enumerate(counts) if count is not None), len(counts))
            found = self._earlier_counts[number] = tuple(counts[first:])
        return found

    def find_live_windows(self, number: int) -> int:
        """Return which windows are known from positions alone, as bits: 0 is window `number`, n the n-th before it.

        The windows before it are those of `list_earlier_counts`.
        """
        found = self._live_windows.get(number)
        if found is None:
            earlier = range(len(self.list_earlier_counts(number)) + 1)
            found = self._live_windows[number] = sum(self._windows.is_live(number - back) << back for back in earlier)
        return found

    def list_earlier_usual(self, number: int) -> tuple[int | None, ...]:
        """Return an empty tuple: alerts in flights need no usual counts (`PercentLookback` returns them)."""
        return ()

    def find_run_start(self, bound: Bound, threshold: int, number: int) -> int:
        """Return the number of the first of the consecutive closed windows before window `number` that all breach.

        Window `number` itself is not compared. Returns `number` if the window right before it is no breach or not
        closed. If the run began before the retained counts, the first retained window is returned. Results are cached,
        and a search ends at a window whose result is known.
        """
        at = number
        while (start := self._run_starts.get((bound, threshold, at))) is None and self._is_breach(
            bound, threshold, at - 1
        ):
            at -= 1
        found = self._run_starts[bound, threshold, number] = at if start is None else start
        return found

    def find_firing(self, start: int, for_windows: int) -> int:
        """Return the window in which a breach fires that began in window `start`: the last of its first run."""
        return start + for_windows - 1

    def _is_breach(self, bound: Bound, threshold: int, number: int) -> bool:
        """Return True if window `number` is closed and breaches the threshold, False if not, or if it is not closed."""
        window = self._windows[number]
        return window.is_closed and bound.is_breached(window.flights, threshold)
