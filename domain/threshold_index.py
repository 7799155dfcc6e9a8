"""An index of the thresholds of one airport's interests, sorted, so that new alerts are found by range look-ups.

An interest has one entry for each of its bounds: 20 bytes in a sorted list, with other interests of the same
direction, window length, run length and threshold. The index holds nothing else of an interest; its user is stored
in the table of interests, which is read when there is an alert.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never
from uuid import UUID

from domain.alerts import Bound
from domain.changes import TrafficChange
from domain.grids import Grid
from domain.interests import Direction, Interest
from domain.measures import Measure, MeasuredThreshold, list_measured_thresholds
from domain.percent_counts import build_window_counts
from domain.range_alerts import RangeAlert
from domain.rule import ThresholdRange, find_first_window, find_interest_grid, judge
from domain.sorted_entries import SortedEntries, build_entry, get_interest_id
from domain.traffic import Traffic
from domain.window_counts import WindowCounts
from domain.windows import AlignedTo, Window


class ThresholdGroup(NamedTuple):
    """A group of interests that differ only in thresholds, `repeat` and first window.

    They have the same windows and run length, and thresholds in the same measure.
    """

    direction: Direction
    grid: Grid
    for_windows: int
    measure: Measure = Measure.FLIGHTS


class InterestAlert(NamedTuple):
    """A new alert of one interest: the range alert that applies to the interest, and the interest's threshold."""

    interest_id: UUID
    group: ThresholdGroup
    range_alert: RangeAlert
    threshold: int

    @property
    def window_start(self) -> int:
        """Seconds since 1970."""
        return self.group.grid.find_begin(self.range_alert.number)


class ThresholdInForce(NamedTuple):
    """A threshold of one group and bound, and the number of interests that have it; for the list of all thresholds."""

    direction: Direction
    window: Window
    for_windows: int
    bound: Bound
    threshold: int
    interests: int
    measure: Measure = Measure.FLIGHTS
    aligned_to: AlignedTo = AlignedTo.UTC


@dataclass(slots=True)
class _WindowThresholds:
    """The thresholds of an airport's interests with one direction, window length and measure, of all run lengths.

    Holds the interests' entries, and besides them the extremes and counts with which a change of traffic is compared
    first, so that most changes need no search of the entries.
    """

    by_run_length: dict[int, dict[tuple[Bound, bool], SortedEntries]] = field(default_factory=dict)
    """The entries by `for_windows`, then by bound and `repeat`. Interests with `repeat` are separate, because only they
    are looked up while a breach lasts."""
    thresholds: dict[Bound, list[int]] = field(default_factory=lambda: {bound: [] for bound in Bound})
    """By bound each threshold once, of any run length, in order."""
    entry_counts: Counter[tuple[Bound, int]] = field(default_factory=Counter)
    """The number of entries of each threshold."""
    first_complete: Counter[int] = field(default_factory=Counter)
    """By window: the number of interests whose run can be complete in this window for the first time, if no window is
    skipped."""
    first_windows: dict[int, Counter[int]] = field(default_factory=dict)
    """By run length and first window the number of interests."""
    longest_run: int = 0
    """The largest `for_windows` of all interests; 0: no interests."""
    lowest_high: int | None = None
    """The lowest high threshold; None: no interest has one."""
    highest_low: int | None = None
    """The highest low threshold; None: no interest has one."""

    def add(self, interest: Interest, thresholds: Iterable[MeasuredThreshold]) -> None:
        """Add an entry for each of an interest's thresholds, and update the thresholds, the counts and the extremes."""
        first = find_first_window(interest)
        entry = build_entry(first, interest.interest_id)
        self.first_complete[first + interest.for_windows - 1] += 1
        self.first_windows.setdefault(interest.for_windows, Counter())[first] += 1
        by_bound = self.by_run_length.get(interest.for_windows)
        if by_bound is None:
            by_bound = self.by_run_length[interest.for_windows] = {}
            self.longest_run = max(self.longest_run, interest.for_windows)
        for _, bound, threshold in thresholds:
            entries = by_bound.get((bound, interest.repeat))
            if entries is None:
                entries = by_bound[bound, interest.repeat] = SortedEntries()
            entries.add(threshold, entry)
            self.entry_counts[bound, threshold] += 1
            if self.entry_counts[bound, threshold] == 1:
                insort(self.thresholds[bound], threshold)
                self._update_extremes()

    def remove(self, interest: Interest, thresholds: Iterable[MeasuredThreshold]) -> None:
        """Remove the entries of an interest's thresholds, and update the thresholds, the counts and the extremes.

        Lists and counts that become empty are removed too. Raises KeyError if the interest has no such entries.
        """
        first = find_first_window(interest)
        entry = build_entry(first, interest.interest_id)
        by_bound = self.by_run_length[interest.for_windows]
        for _, bound, threshold in thresholds:
            key = bound, interest.repeat
            by_bound[key].remove(threshold, entry)
            if not by_bound[key].thresholds:
                del by_bound[key]
            self.entry_counts[bound, threshold] -= 1
            if not self.entry_counts[bound, threshold]:
                del self.entry_counts[bound, threshold]
                del self.thresholds[bound][bisect_left(self.thresholds[bound], threshold)]
        if not by_bound:
            del self.by_run_length[interest.for_windows]
            self.longest_run = max(self.by_run_length, default=0)
        _count_down(self.first_complete, first + interest.for_windows - 1)
        _count_down(self.first_windows[interest.for_windows], first)
        if not self.first_windows[interest.for_windows]:
            del self.first_windows[interest.for_windows]
        self._update_extremes()

    def _update_extremes(self) -> None:
        """Set `lowest_high` and `highest_low` from the sorted thresholds; None if no interest has such a threshold."""
        highs, lows = self.thresholds[Bound.HIGH], self.thresholds[Bound.LOW]
        self.lowest_high = highs[0] if highs else None
        self.highest_low = lows[-1] if lows else None

    def may_have_alerts(self, bound: Bound, crossed: ThresholdRange) -> bool:
        """Return True if an interest of any run length may have a new alert of this bound, False if none can.

        An interest may have one if its threshold is in the crossed range; or, with `repeat`, a STILL if its threshold
        is below the end of the range (HIGH) or not below the begin of the range (LOW).
        """
        thresholds = self.thresholds[bound]
        at = bisect_left(thresholds, crossed.begin)
        if at < len(thresholds) and thresholds[at] < crossed.end:
            return True
        repeating = (
            entries for by_bound in self.by_run_length.values() if (entries := by_bound.get((bound, True))) is not None
        )
        match bound:
            case Bound.HIGH:
                return any(entries.thresholds[0] < crossed.end for entries in repeating)
            case Bound.LOW:
                return any(entries.thresholds[-1] >= crossed.begin for entries in repeating)
            case _:
                assert_never(bound)


def _count_down(counter: Counter[int], number: int) -> None:
    """Lower the count of a number by one, and remove the number with its last count."""
    counter[number] -= 1
    if not counter[number]:
        del counter[number]


class ThresholdIndex:
    """An index of the thresholds of one airport's interests, which finds the interests that have new alerts.

    It changes with `add` and `remove`, and holds no traffic: each query gets the traffic or its change.
    """

    def __init__(self) -> None:
        self._by_windows: dict[tuple[Direction, Grid, Measure], _WindowThresholds] = {}
        self._interests = 0

    def __len__(self) -> int:
        """Return the number of interests in the index."""
        return self._interests

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThresholdIndex) and self._by_windows == other._by_windows

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, interest: Interest) -> None:
        """Add an interest that is not in the index (not checked).

        Cost: a binary search and an insertion into a sorted list.
        """
        for key, thresholds in _group_thresholds(interest):
            window_thresholds = self._by_windows.get(key)
            if window_thresholds is None:
                window_thresholds = self._by_windows[key] = _WindowThresholds()
            window_thresholds.add(interest, thresholds)
        self._interests += 1

    def remove(self, interest: Interest) -> None:
        """Remove an interest, given exactly as it was added. Raises KeyError if it is not in the index."""
        for key, thresholds in _group_thresholds(interest):
            window_thresholds = self._by_windows[key]
            window_thresholds.remove(interest, thresholds)
            if not window_thresholds.by_run_length:
                del self._by_windows[key]
        self._interests -= 1

    def find_alerts(self, change: TrafficChange) -> list[InterestAlert]:
        """Return the new alerts of all interests after a change of traffic, ordered by the start of their windows.

        The alerts of one interest in one window are in the order in which the rule raises them. A change without any
        breach is rejected by a comparison with the extreme thresholds; a change that crosses no threshold costs one
        binary search for each window, however many interests there are.
        """
        found: list[InterestAlert] = []
        for key, window_thresholds in self._by_windows.items():
            if change.has_no_breach(
                *key, window_thresholds.longest_run, window_thresholds.highest_low, window_thresholds.lowest_high
            ):
                continue
            for number, *ranges in change.find_crossed_thresholds(
                *key,
                window_thresholds.longest_run,
                window_thresholds.first_complete,
                window_thresholds.first_windows,
            ):
                for bound, crossed in zip(Bound, ranges, strict=True):
                    if window_thresholds.may_have_alerts(bound, crossed):
                        found += _find_alerts_of_window(window_thresholds, key, number, bound, change)
        found.sort(key=_get_place)
        return found

    def list_directions(self) -> frozenset[Direction]:
        """Return the directions whose flights some interest counts: ARRIVALS, DEPARTURES, both of them, or none."""
        return frozenset(part for direction, _, _ in self._by_windows for part in direction.parts)

    def list_in_force(self) -> list[ThresholdInForce]:
        """Return each threshold that an interest has, with the number of its interests, with or without `repeat`.

        Sorted by direction, window length, run length, bound (each text alphabetically) and threshold.
        """
        interests: Counter[tuple[ThresholdGroup, Bound, int]] = Counter()
        for group, (bound, _), sorted_entries in self._iterate_entries():
            for threshold, entries in sorted_entries.entries.items():
                interests[group, bound, threshold] += len(entries)
        return sorted(
            ThresholdInForce(
                group.direction,
                group.grid.window,
                group.for_windows,
                bound,
                threshold,
                n,
                group.measure,
                group.grid.aligned_to,
            )
            for (group, bound, threshold), n in interests.items()
        )

    def count_in_breach(self, traffic: Traffic) -> dict[tuple[Direction, Window, Bound], int]:
        """Return the number of interests in breach, by direction, window length and bound; zeros are left out.

        An interest is in breach if its threshold is FIRING or STILL in the last closed window or in the window after
        it. Interests of a direction that is not completely covered are not counted.
        """
        breaches: Counter[tuple[Direction, Window, Bound]] = Counter()
        for group, (bound, _), entries in self._iterate_entries():
            windows = build_window_counts(traffic, group.direction, group.grid, group.measure)
            if windows.closed_until is not None:
                breaches[group.direction, group.grid.window, bound] += _count_interests_in_breach(
                    entries, group, bound, windows
                )
        return {key: count for key, count in breaches.items() if count}

    def _iterate_entries(self) -> Iterator[tuple[ThresholdGroup, tuple[Bound, bool], SortedEntries]]:
        """Yield every `SortedEntries` of the index with its group, and its bound and `repeat`, in no special order."""
        for key, window_thresholds in self._by_windows.items():
            for for_windows, by_bound in window_thresholds.by_run_length.items():
                for bound_and_repeat, entries in by_bound.items():
                    yield ThresholdGroup(*key[:2], for_windows, key[2]), bound_and_repeat, entries


def _find_alerts_of_window(
    window_thresholds: _WindowThresholds,
    key: tuple[Direction, Grid, Measure],
    number: int,
    bound: Bound,
    change: TrafficChange,
) -> Iterator[InterestAlert]:
    """Yield the new alerts of one bound in window `number` for the interests of all run lengths, one length at a time.

    Within a length, the alerts follow the order of `TrafficChange.find_range_alerts`. Range alerts `for_repeat` reach
    only the interests with `repeat`, all others reach both kinds.
    """
    for for_windows, by_bound in window_thresholds.by_run_length.items():
        group = ThresholdGroup(*key[:2], for_windows, key[2])
        reported_once, repeating = by_bound.get((bound, False)), by_bound.get((bound, True))
        if reported_once is None and repeating is None:
            continue
        for range_alert in change.find_range_alerts(*key, number, for_windows, bound):
            if reported_once is not None and not range_alert.for_repeat:
                yield from _select_interests(reported_once, group, range_alert, change, repeat=False)
            if repeating is not None:
                yield from _select_interests(repeating, group, range_alert, change, repeat=True)


def _get_place(alert: InterestAlert) -> tuple[int, bool]:
    """Return an alert's window start and its bound, HIGH first, as a sort key: an interest may have two measures."""
    return alert.window_start, alert.range_alert.bound is Bound.LOW


def _group_thresholds(
    interest: Interest,
) -> list[tuple[tuple[Direction, Grid, Measure], list[MeasuredThreshold]]]:
    """Return an interest's thresholds by the key under which they are indexed: one key or, of two measures, two."""
    thresholds, grid = list_measured_thresholds(interest), find_interest_grid(interest)
    return [
        ((interest.direction, grid, measure), [each for each in thresholds if each.measure is measure])
        for measure in dict.fromkeys(each.measure for each in thresholds)
    ]


def _select_interests(
    entries: SortedEntries, group: ThresholdGroup, range_alert: RangeAlert, change: TrafficChange, repeat: bool
) -> Iterator[InterestAlert]:
    """Yield an alert for each interest in `entries` whose threshold and first window a range alert applies to.

    The alerts are in order of threshold, then of first window. The same condition as `RangeAlert.applies_to`, but
    found by binary search, and `TrafficChange.is_due`; the caller has selected the interests by `repeat`.
    """
    key = group.direction, group.grid, group.measure
    run = change.find_run_bounds(*key, range_alert.number, group.for_windows)
    # What was told is the same for all of these interests that have the same threshold.
    latest_first = run.begin if range_alert.is_first else run.oldest
    for threshold in entries.list_thresholds_between(*range_alert.thresholds):
        if not change.is_due(*key, range_alert, threshold, group.for_windows, latest_first, repeat):
            continue
        end = entries.count_begun(threshold, latest_first)
        begin = entries.count_begun(threshold, run.oldest) if range_alert.is_first else 0
        for entry in entries.entries[threshold][begin:end]:
            yield InterestAlert(get_interest_id(entry), group, range_alert, threshold)


def _count_interests_in_breach(
    entries: SortedEntries, group: ThresholdGroup, bound: Bound, windows: WindowCounts
) -> int:
    """Return the number of interests in `entries` that are FIRING or STILL in the last closed window or the next one.

    Each interest counts once, and only if it began early enough for a complete run. The next window is usually open.
    """
    places: dict[int, list[tuple[int, int]]] = {}
    for number in windows.list_latest():
        run = windows.find_run_bounds(number, group.for_windows)
        for is_first in (False, True):
            states = judge(bound, windows, number, group.for_windows, is_first)
            for breached in (states.firing, states.still):
                for threshold in entries.list_thresholds_between(*breached):
                    end = entries.count_begun(threshold, run.begin if is_first else run.oldest)
                    begin = entries.count_begun(threshold, run.oldest) if is_first else 0
                    places.setdefault(threshold, []).append((begin, end))
    return sum(_count_places(intervals) for intervals in places.values())


def _count_places(intervals: list[tuple[int, int]]) -> int:
    """Return the number of places (integers) that lie in at least one of the intervals [begin, end).

    The intervals may overlap and be in any order; a place in several of them counts once.
    """
    count = reached = 0
    for begin, end in sorted(intervals):
        count += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return count
