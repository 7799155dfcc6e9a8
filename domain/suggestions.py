"""Suggestions of thresholds: the levels that would have brought about one mail a month, a week or a day.

Each alert that the rule would have raised counts as a mail: FIRING, RESOLVED, and for an interest with `repeat` STILL.
A less extreme level does not always bring more mails: one that every window passes brings a single mail. So levels are
tried from the most extreme one on, which hardly any window passes, until one brings enough mails; a level that nearly
every window would pass is never suggested.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from domain.alerts import Bound
from domain.grids import Grid
from domain.interests import HIGH_PERCENTS, HIGHEST_THRESHOLD, LOW_PERCENTS, LOWEST_LOW, Direction
from domain.measures import Measure, compute_percent_level
from domain.percent_counts import LOOKBACK_HOURS, PercentCounts
from domain.traffic import Traffic
from domain.window_counts import WindowCounts

_ALLOWED: Final = {
    (Measure.FLIGHTS, Bound.HIGH): range(HIGHEST_THRESHOLD + 1),
    (Measure.FLIGHTS, Bound.LOW): range(LOWEST_LOW, HIGHEST_THRESHOLD + 1),
    (Measure.PERCENT, Bound.HIGH): HIGH_PERCENTS,
    (Measure.PERCENT, Bound.LOW): LOW_PERCENTS,
}
"""The thresholds that a person may ask for."""

_LEAST_KNOWN: Final = 2 / 3
"""The part of a month, a week or a day that must be known for a suggestion of one mail in that time."""

_DAY: Final = timedelta(days=1)


class Frequency(StrEnum):
    """The frequency of mails that somebody wants: about one in this time."""

    MONTH = "month"
    WEEK = "week"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """The time in which one mail is wanted."""
        return timedelta(days={Frequency.MONTH: 30, Frequency.WEEK: 7, Frequency.DAY: 1}[self])


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The level of one bound and measure that would have brought about as many mails as wanted."""

    level: int | None
    """None: no level would have."""
    mails: int | None
    """Mails that it would have brought in all windows that could be judged; None without a level."""
    why_none: str | None
    """Why there is no such level, in a sentence; None: there is one."""
    reason: str | None = None
    """The same without the frequency, so that equal reasons are equal sentences; None: there is a level."""


class LevelWindow(NamedTuple):
    """One window that a threshold does not skip, as numbers that are compared with the threshold."""

    number: int
    levels: dict[Bound, int] | None
    """The number that is compared with a threshold, by bound; None: the window is not judged, and ends a run."""


@dataclass(frozen=True, slots=True)
class LevelHistory:
    """All closed windows since an instant that thresholds of one measure judge, in order of time."""

    windows: tuple[LevelWindow, ...]
    lookback: int | None
    """The number of windows, also skipped ones, before a window that may belong to its run. None: no bound."""
    measure: Measure
    judged: timedelta
    """The length of all closed windows that are not lost, also of those that are skipped."""

    def count_mails(self, bound: Bound, level: int, for_windows: int, *, repeat: bool) -> int:
        """Return how many mails an interest with this threshold alone would have brought in these windows."""
        mails = run = 0
        for at, (_, levels) in enumerate(self.windows):
            if levels is None:
                run = 0
                continue
            run_before = run
            run = run + 1 if bound.is_breached(levels[bound], level) else 0
            if run < for_windows and run_before < for_windows:
                continue  # no state, as in most windows
            is_breach = run >= for_windows and self._is_in_reach(at, at - for_windows + 1)
            was_breach = run_before >= for_windows and self._is_in_reach(at, at - for_windows)
            mails += (is_breach is not was_breach) or (is_breach and repeat)
        return mails

    def _is_in_reach(self, at: int, earlier: int) -> bool:
        """Return True if the window at index `earlier` lies within the lookback of that at index `at`, else False."""
        return self.lookback is None or self.windows[earlier].number >= self.windows[at].number - self.lookback


def build_level_history(
    traffic: Traffic, direction: Direction, grid: Grid, measure: Measure, first: int
) -> LevelHistory:
    """Return the closed windows from window number `first` on, as thresholds of one measure compare them."""
    counts, window = WindowCounts(traffic, direction, grid), grid.window
    if counts.first is None or counts.closed_until is None:
        return LevelHistory((), None, measure, timedelta(0))
    numbers = range(max(first, counts.first), counts.closed_until)
    if measure is Measure.FLIGHTS:
        windows = [
            LevelWindow(number, dict.fromkeys(Bound, count.flights) if (count := counts[number]).is_closed else None)
            for number in numbers
        ]
        known = sum(each.levels is not None for each in windows)
        return LevelHistory(tuple(windows), None, measure, known * window.length)
    percents = PercentCounts(traffic, direction, grid)
    windows = [
        LevelWindow(number, _find_percent_levels(percents, number))
        for number in numbers
        if not percents.is_skipped(number)
    ]
    skipped = len(numbers) - len(windows)
    known = sum(each.levels is not None for each in windows)
    return LevelHistory(tuple(windows), LOOKBACK_HOURS // window.hours, measure, (known + skipped) * window.length)


def _find_percent_levels(percents: PercentCounts, number: int) -> dict[Bound, int] | None:
    """Return the percents that are compared with thresholds in a window that is not skipped; None if it is lost."""
    count, doubled = percents[number], percents.find_doubled_usual(number)
    if not count.is_closed or not doubled:
        return None
    return {bound: compute_percent_level(bound, count.flights, doubled) for bound in Bound}


def suggest_levels(
    history: LevelHistory, bound: Bound, for_windows: int, *, repeat: bool
) -> dict[Frequency, Suggestion]:
    """Return for each frequency the level of a bound that would have brought about so many mails in a history.

    None for a frequency of which too little is known, or that no level comes near. Levels are tried from the most
    extreme one on until one brings as many mails as are wanted. Of those tried that bring at least half and at most
    twice as many (two are never too many: the end of a breach is a mail, too), the nearest is suggested, and of equally
    near ones the most extreme.
    """
    tried: list[tuple[int, int]] = []
    levels = iterate_levels(history, bound)
    found = {}
    for frequency in Frequency:
        wanted = history.judged / frequency.length
        while not tried or max(mails for _, mails in tried) < wanted:
            level = next(levels, None)
            if level is None:
                break
            tried.append((level, history.count_mails(bound, level, for_windows, repeat=repeat)))
        found[frequency] = _choose_suggestion(frequency, history.judged, tried)
    return found


def _choose_suggestion(frequency: Frequency, judged: timedelta, tried: list[tuple[int, int]]) -> Suggestion:
    """Return the suggestion for a frequency from the levels tried, the most extreme first, each with its mails."""
    wanted = judged / frequency.length
    if wanted < _LEAST_KNOWN:
        known = f"Only {judged / _DAY:.1f} days are known" if judged else "Nothing is known yet"
        judgeable = f"{known} that such a level can judge"
        why_none = f"{judgeable}: too little for a mail a {frequency.value}."
        return Suggestion(None, None, why_none, f"{judgeable}: too little.")
    if not tried:
        why_none = "No level that may be set would have been passed."
        return Suggestion(None, None, why_none, why_none)
    # Only as far as the first one that brings enough: a less frequent wish has tried fewer levels.
    enough = next((at for at, (_, mails) in enumerate(tried) if mails >= wanted), len(tried) - 1)
    fitting = [each for each in tried[: enough + 1] if wanted / 2 <= each[1] <= max(2 * wanted, 2)]
    if fitting:
        level, mails = min(fitting, key=lambda each: abs(each[1] - wanted))
        return Suggestion(level, mails, None)
    most = max(mails for _, mails in tried[: enough + 1])
    if most < wanted:
        why_none = f"No level would have brought as much as a mail a {frequency.value}."
        return Suggestion(None, None, why_none, "No level would have brought as many mails.")
    why_none = f"No level would have brought about a mail a {frequency.value}: one step makes many of few."
    reason = "No level would have brought about so many mails: one step makes many of few."
    return Suggestion(None, None, why_none, reason)


def iterate_levels(history: LevelHistory, bound: Bound) -> Iterator[int]:
    """Yield the levels that differ in the windows that breach them, the most extreme first, with one breach at least.

    Of levels that the same windows breach, the most extreme one. Only levels that a person may ask for.
    """
    allowed = _ALLOWED[history.measure, bound]
    values = {each.levels[bound] for each in history.windows if each.levels is not None}
    last = None
    for level in _list_just_breached(values, bound):
        level = min(level, allowed.stop - 1)
        if level >= allowed.start and level != last:
            yield level
            last = level


def _list_just_breached(values: Iterable[int], bound: Bound) -> list[int]:
    """Return for each value the most extreme level that it breaches, the most extreme of these first."""
    match bound:
        case Bound.HIGH:
            return [value - 1 for value in sorted(values, reverse=True)]
        case Bound.LOW:
            return [value + 1 for value in sorted(values)]
