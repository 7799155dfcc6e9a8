"""The windows of an airport for thresholds in percent: the sequence of windows that are not skipped.

A window whose usual is below 5 flights is skipped: the window before the next one is the last that was not. A window
without a usual is in the sequence, and is lost: it is not judged, is no breach for its neighbours, and breaks a run. A
window that was not reached yet is not judged.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from domain.alerts import Bound
from domain.episodes import Lookback
from domain.grids import Grid
from domain.hourly_counts import DAY_HOURS
from domain.interests import HIGHEST_THRESHOLD, MAX_FOR_WINDOWS, Direction
from domain.measures import Measure, compute_percent_level
from domain.traffic import Traffic
from domain.usual import LEAST_DOUBLED_USUAL, UsualDay, read_doubled_usual
from domain.window_counts import LOST, RunBounds, WindowCount, WindowCounts
from domain.windows import HOUR_S, Window

LOOKBACK_HOURS: Final = (MAX_FOR_WINDOWS + 1) * DAY_HOURS
"""Hours before a window in which the windows before it are sought; earlier ones count as lost. By the airport's clock
as many windows are sought as lie in these hours where no clock changes. Many windows may be skipped, and the counts are
not retained for ever: without this bound a run that reaches back to the edge of what is retained would depend on how a
log was cut into messages."""

_UNREACHED: Final = WindowCount(0, is_covered=False, is_closed=False, is_lost=False)


def is_skipped(days: dict[int, UsualDay], grid: Grid, number: int) -> bool:
    """Return True if the usual count of window `number` is below 5, False if not, or if nothing is usual there.

    `days`: what is usual in one direction.
    """
    doubled = read_doubled_usual(days, grid, number)
    return doubled is not None and doubled < LEAST_DOUBLED_USUAL


def list_earlier_windows(days: dict[int, UsualDay], grid: Grid, number: int, windows: int) -> list[int]:
    """Return the last windows before window `number` that are not skipped, the latest first.

    Those that are not found within LOOKBACK_HOURS are numbered before that, where all windows are lost. `days`: what is
    usual in one direction.
    """
    oldest = number - LOOKBACK_HOURS // grid.hours
    earlier: list[int] = []
    at = number - 1
    while len(earlier) < windows:
        if at < oldest or not is_skipped(days, grid, at):
            earlier.append(at)
        at -= 1
    return earlier


class PercentCounts(WindowCounts):
    """A cached view of one traffic as windows of one length and direction, for thresholds in percent of the usual.

    The numbers of windows are those of `WindowCounts`, and so are the counts of windows that are judged.
    """

    def __init__(self, traffic: Traffic, direction: Direction, grid: Grid) -> None:
        """Compute the common coverage of the direction's parts; the rest is computed when it is first requested."""
        super().__init__(traffic, direction, grid)
        self._usual = traffic.usual.select_days(direction)
        self.lookback = LOOKBACK_HOURS // grid.hours
        """Number of windows before a window in which earlier ones that are not skipped are searched for."""
        self._earlier: dict[tuple[int, int], list[int]] = {}

    @property
    def reached(self) -> int:
        """The last window that the coverage of all parts has reached; -1 before all are covered."""
        closed_until = self.closed_until
        return -1 if closed_until is None else closed_until

    def __getitem__(self, number: int) -> WindowCount:
        """Return the count of window `number`, which is not skipped (not checked).

        Lost without a usual; neither covered nor lost before it is reached.
        """
        if number > self.reached:
            return _UNREACHED
        return LOST if self.find_doubled_usual(number) is None else super().__getitem__(number)

    def find_doubled_usual(self, number: int) -> int | None:
        """Return twice the usual count of a window that was reached; None if it has none."""
        return read_doubled_usual(self._usual, self._grid, number)

    def is_skipped(self, number: int) -> bool:
        """Return True if the usual count of a window is below 5, False if not, or if nothing is usual there."""
        return is_skipped(self._usual, self._grid, number)

    def list_earlier(self, number: int, windows: int) -> list[int]:
        """Return the last windows before window `number` that are not skipped, the latest first.

        Those that are not found within LOOKBACK_HOURS are numbered before that, where all windows are lost.
        """
        key = number, windows
        earlier = self._earlier.get(key)
        if earlier is None:
            earlier = self._earlier[key] = list_earlier_windows(self._usual, self._grid, number, windows)
        return earlier

    def iterate_later(self, number: int) -> Iterator[int]:
        """Yield the windows from window `number` on that are not skipped, up to the last that was reached."""
        return (at for at in range(number, self.reached + 1) if not self.is_skipped(at))

    def list_latest(self) -> list[int]:
        """Return the last closed window that is not skipped, and the window after it, if that is reached and judged."""
        closed_until = self.closed_until or 0
        latest = self.list_earlier(closed_until, 1)
        return latest if self.is_skipped(closed_until) else [*latest, closed_until]

    def find_run_bounds(self, number: int, for_windows: int) -> RunBounds:
        """Return the first window of the run of `for_windows` windows up to window `number`, and the one before it."""
        earlier = [number, *self.list_earlier(number, for_windows)]
        return RunBounds(earlier[-1], earlier[-2])

    def find_later(self, number: int, windows: int) -> int:
        """Return the window that is `windows` windows after the first one from `number` on that is not skipped.

        If fewer were reached, the last of those that were; `number` if none was.
        """
        later = list(islice(self.iterate_later(number), windows + 1))
        return later[-1] if later else number

    def take_run(self, bound: Bound, number: int, for_windows: int) -> Mapping[int, WindowCount]:
        """Return the levels, in place of flights, of window `number` and of the `for_windows` windows before it.

        The windows before it are numbered as if none were skipped: `number` - 1 is the last one that was not.
        """
        return self.take_levels(bound, number, self.list_earlier(number, for_windows))

    def take_levels(self, bound: Bound, number: int, earlier: list[int]) -> Mapping[int, WindowCount]:
        """Return the levels of window `number` and of `earlier` windows, numbered `number` - 1 and so on."""
        oldest = number - self.lookback
        levels = {number: self._compute_level(bound, number)}
        for back, each in enumerate(earlier, 1):
            levels[number - back] = LOST if each < oldest else self._compute_level(bound, each)
        return levels

    def _compute_level(self, bound: Bound, number: int) -> WindowCount:
        """Return the count of a window with its level in place of the flights; 0 stays 0, as in a lost window."""
        count = self[number]
        doubled = self.find_doubled_usual(number)
        if not count.flights or not doubled:
            return count
        # No threshold is above the highest one, so nor need a level be.
        return count._replace(flights=min(compute_percent_level(bound, count.flights, doubled), HIGHEST_THRESHOLD))

    def list_affected(self, first: int, last: int, for_windows: int) -> list[int]:
        """Return the windows from `first` to `last`, and the `for_windows` windows after them, that are not skipped.

        Only windows that were reached, and that look back to one of these.
        """
        affected: list[int] = []
        after = 0
        for number in self.iterate_later(first):
            if number > last:
                after += 1
                if after > for_windows or number - self.lookback > last:
                    break
            affected.append(number)
        return affected


def may_have_breach(
    traffic: Traffic,
    direction: Direction,
    window: Window,
    numbers: range,
    for_windows: int,
    covered_until: int,
    low: int | None,
    high: int | None,
) -> bool:
    """Return True if one of some windows, or of the `for_windows` windows before them, may breach a threshold.

    This cheap check of windows by UTC builds no view of them, because most messages breach nothing. False: none of them
    breaches.
    `covered_until`: the end of the coverage of all parts (seconds since 1970). `low` and `high`: the highest low
    threshold and the lowest high threshold, in percent; None: there is none.
    """
    days, parts, hours = traffic.usual.select_days(direction), traffic.select_directions(direction), window.hours
    closed_until = covered_until // (hours * HOUR_S)  # also the last window that was reached
    judged: list[int] = [*range(numbers.start, min(numbers.stop, closed_until + 1))]
    if for_windows:
        judged += list_earlier_windows(days, window, numbers.start, for_windows)
    for number in judged:
        doubled = read_doubled_usual(days, window, number)
        if doubled is None or doubled < LEAST_DOUBLED_USUAL:
            continue
        day, at = divmod(number * hours, DAY_HOURS)
        level = 200 * sum([sum(part.counts.day(day)[at : at + hours]) for part in parts])
        if high is not None and level > high * doubled:
            return True
        if low is not None and level < low * doubled and number < closed_until:
            return True
    return False


def may_have_local_breach(
    windows: PercentCounts, numbers: range, for_windows: int, low: int | None, high: int | None
) -> bool:
    """Return True if one of some windows by the airport's clock, or of the `for_windows` before them, may breach.

    False: none of them breaches. `low` and `high`: as for `may_have_breach`.
    """
    judged = [*range(numbers.start, min(numbers.stop, windows.reached + 1))]
    if for_windows:
        judged += windows.list_earlier(numbers.start, for_windows)
    for number in judged:
        doubled = windows.find_doubled_usual(number)
        if doubled is None or doubled < LEAST_DOUBLED_USUAL:
            continue
        level = 200 * windows[number].flights
        if high is not None and level > high * doubled:
            return True
        if low is not None and level < low * doubled and number < windows.reached:
            return True
    return False


class PercentLookback(Lookback):
    """A cached view of the windows before each window, for alerts of thresholds in percent."""

    def __init__(self, windows: WindowCounts, judged: PercentCounts) -> None:
        """`windows`: all windows, whose counts are listed; `judged`: those of which breaches are found."""
        super().__init__(windows)
        self._judged = judged
        self._earlier_usual: dict[int, tuple[int | None, ...]] = {}

    def list_earlier_usual(self, number: int) -> tuple[int | None, ...]:
        """Return twice the usual counts of the windows of `list_earlier_counts`; None: nothing is usual there."""
        found = self._earlier_usual.get(number)
        if found is None:
            before = range(number - len(self.list_earlier_counts(number)), number)
            found = self._earlier_usual[number] = tuple(self._judged.find_doubled_usual(each) for each in before)
        return found

    def find_run_start(self, bound: Bound, threshold: int, number: int) -> int:
        """Return the number of the first of the consecutive closed windows before window `number` that all breach.

        Skipped windows do not count. Returns `number` if the last one that was not skipped is no breach or not closed.
        """
        start = number
        while True:
            (earlier,) = self._judged.list_earlier(start, 1)
            window = self._judged.take_levels(bound, earlier, [])[earlier]
            if start - earlier > self._judged.lookback or not window.is_closed:
                return start
            if not bound.is_breached(window.flights, threshold):
                return start
            start = earlier

    def find_firing(self, start: int, for_windows: int) -> int:
        """Return the window in which a breach fires that began in window `start`: the last of its first run."""
        return self._judged.find_later(start, for_windows - 1)


def build_window_counts(traffic: Traffic, direction: Direction, grid: Grid, measure: Measure) -> WindowCounts:
    """Build the view of a traffic as windows of one grid and direction, for thresholds in one measure."""
    if measure is Measure.PERCENT:
        return PercentCounts(traffic, direction, grid)
    return WindowCounts(traffic, direction, grid)
