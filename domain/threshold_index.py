"""An index of the thresholds of one airport's interests, sorted, so that new alerts are found by range look-ups.

An interest has one entry for each of its bounds: 20 bytes in a sorted list, with other interests of the same
direction, window length, run length and threshold. The index holds nothing else of an interest; its user is stored
in the table of interests, which is read when there is an alert.
"""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, assert_never
from uuid import UUID

from domain.alerts import Bound, list_thresholds
from domain.changes import RangeAlert, TrafficChange
from domain.interests import Direction, Interest
from domain.rule import ThresholdRange, find_first_window, judge
from domain.traffic import Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, Window

_NUMBER_BYTES: Final = 4
"""The bytes of an entry that hold the number of its interest's first window; the interest's id follows."""
_LAST_WINDOW: Final = 2 ** (8 * _NUMBER_BYTES) - 1
"""The largest window number that fits."""


class ThresholdGroup(NamedTuple):
    """A group of interests that differ only in thresholds, `repeat` and first window: same windows and run length."""

    direction: Direction
    window: Window
    for_windows: int


class InterestAlert(NamedTuple):
    """A new alert of one interest: the range alert that applies to the interest, and the interest's threshold."""

    interest_id: UUID
    group: ThresholdGroup
    range_alert: RangeAlert
    threshold: int

    @property
    def window_start(self) -> int:
        """Seconds since 1970."""
        return self.range_alert.number * self.group.window.hours * HOUR_S


class ThresholdInForce(NamedTuple):
    """A threshold, and the number of interests that have it."""

    direction: Direction
    window: Window
    for_windows: int
    bound: Bound
    threshold: int
    interests: int


@dataclass(slots=True)
class _SortedEntries:
    """The entries of one bound, by threshold. Entries with the same threshold are in order of their first window."""

    thresholds: list[int] = field(default_factory=list)
    """Each threshold once, in order."""
    entries: dict[int, list[bytes]] = field(default_factory=dict)

    def add(self, threshold: int, entry: bytes) -> None:
        """Add an entry to a threshold, in order."""
        entries = self.entries.get(threshold)
        if entries is None:
            insort(self.thresholds, threshold)
            self.entries[threshold] = [entry]
        elif entry > entries[-1]:
            entries.append(entry)
        else:
            insort(entries, entry)

    def remove(self, threshold: int, entry: bytes) -> None:
        """Remove an entry from a threshold. Raises KeyError if the threshold does not have the entry."""
        entries = self.entries.get(threshold, [])
        at = bisect_left(entries, entry)
        if at == len(entries) or entries[at] != entry:
            raise KeyError("no such interest at this threshold")
        del entries[at]
        if not entries:
            del self.entries[threshold]
            del self.thresholds[bisect_left(self.thresholds, threshold)]

    def list_thresholds_between(self, begin: int, end: int) -> list[int]:
        """Return, in order, the thresholds from `begin` up to, but not including, `end`."""
        first = bisect_left(self.thresholds, begin)
        if first == len(self.thresholds) or self.thresholds[first] >= end:
            return []
        return self.thresholds[first : bisect_left(self.thresholds, end, first)]

    def count_begun(self, threshold: int, number: int) -> int:
        """Return how many entries of a threshold have their first window at or before window `number`."""
        if number < 0:
            return 0
        return bisect_right(self.entries[threshold], _encode_window_number(number + 1))


@dataclass(slots=True)
class _WindowThresholds:
    """The thresholds of all interests that count the same flights in the same windows, of any run length."""

    by_run_length: dict[int, dict[tuple[Bound, bool], _SortedEntries]] = field(default_factory=dict)
    """The entries by `for_windows`, then by bound and `repeat`. Interests with `repeat` are separate, because only they
    are looked up while a breach lasts."""
    thresholds: dict[Bound, list[int]] = field(default_factory=lambda: {bound: [] for bound in Bound})
    """By bound each threshold once, of any run length, in order."""
    entry_counts: Counter[tuple[Bound, int]] = field(default_factory=Counter)
    """The number of entries of each threshold."""
    first_complete: Counter[int] = field(default_factory=Counter)
    """By window: the number of interests whose run can be complete in this window for the first time."""
    longest_run: int = 0
    lowest_high: int | None = None
    highest_low: int | None = None

    def add(self, interest: Interest) -> None:
        """Add the entries of an interest."""
        first = find_first_window(interest)
        entry = _encode_window_number(first) + interest.interest_id.bytes
        self.first_complete[first + interest.for_windows - 1] += 1
        by_bound = self.by_run_length.get(interest.for_windows)
        if by_bound is None:
            by_bound = self.by_run_length[interest.for_windows] = {}
            self.longest_run = max(self.longest_run, interest.for_windows)
        for bound, threshold in list_thresholds(interest):
            entries = by_bound.get((bound, interest.repeat))
            if entries is None:
                entries = by_bound[bound, interest.repeat] = _SortedEntries()
            entries.add(threshold, entry)
            self.entry_counts[bound, threshold] += 1
            if self.entry_counts[bound, threshold] == 1:
                insort(self.thresholds[bound], threshold)
                self._update_extremes()

    def remove(self, interest: Interest) -> None:
        """Remove the entries of an interest. Raises KeyError if the interest has no such entries."""
        first = find_first_window(interest)
        entry = _encode_window_number(first) + interest.interest_id.bytes
        by_bound = self.by_run_length[interest.for_windows]
        for bound, threshold in list_thresholds(interest):
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
        first_complete = first + interest.for_windows - 1
        self.first_complete[first_complete] -= 1
        if not self.first_complete[first_complete]:
            del self.first_complete[first_complete]
        self._update_extremes()

    def _update_extremes(self) -> None:
        """Set `lowest_high` and `highest_low`, which every batch of flights is compared with."""
        highs, lows = self.thresholds[Bound.HIGH], self.thresholds[Bound.LOW]
        self.lowest_high = highs[0] if highs else None
        self.highest_low = lows[-1] if lows else None

    def may_have_alerts(self, bound: Bound, crossed: ThresholdRange) -> bool:
        """Return True if an interest has a threshold in the crossed range, or may have a STILL; False if none does."""
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


class ThresholdIndex:
    """An index of the thresholds of one airport's interests, which finds the interests that have new alerts."""

    def __init__(self) -> None:
        self._by_windows: dict[tuple[Direction, Window], _WindowThresholds] = {}
        self._interests = 0

    def __len__(self) -> int:
        """Return the number of interests in the index."""
        return self._interests

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThresholdIndex) and self._by_windows == other._by_windows

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, interest: Interest) -> None:
        """Add an interest that is not in the index. Cost: a binary search and an insertion into a sorted list."""
        key = interest.direction, interest.window
        window_thresholds = self._by_windows.get(key)
        if window_thresholds is None:
            window_thresholds = self._by_windows[key] = _WindowThresholds()
        window_thresholds.add(interest)
        self._interests += 1

    def remove(self, interest: Interest) -> None:
        """Remove an interest, given exactly as it was added. Raises KeyError if it is not in the index."""
        key = interest.direction, interest.window
        window_thresholds = self._by_windows[key]
        window_thresholds.remove(interest)
        if not window_thresholds.by_run_length:
            del self._by_windows[key]
        self._interests -= 1

    def find_alerts(self, change: TrafficChange) -> list[InterestAlert]:
        """Return the new alerts of all interests after a change of traffic, in the order of the windows.

        The alerts of one interest are in the order of the rule. A change that crosses no threshold costs one binary
        search for each window, however many interests there are.
        """
        found: list[InterestAlert] = []
        for key, window_thresholds in self._by_windows.items():
            if change.has_no_breach(
                *key, window_thresholds.longest_run, window_thresholds.highest_low, window_thresholds.lowest_high
            ):
                continue
            for number, *ranges in change.find_crossed_thresholds(
                *key, window_thresholds.longest_run, window_thresholds.first_complete
            ):
                for bound, crossed in zip(Bound, ranges, strict=True):
                    if window_thresholds.may_have_alerts(bound, crossed):
                        found += _find_alerts_of_window(window_thresholds, key, number, bound, change)
        found.sort(key=_get_window_start)
        return found

    def list_directions(self) -> frozenset[Direction]:
        """Return the directions whose flights some interest counts: ARRIVALS, DEPARTURES, both of them, or none."""
        return frozenset(part for direction, _ in self._by_windows for part in direction.parts)

    def list_in_force(self) -> list[ThresholdInForce]:
        """Return each threshold that an interest has, with the number of its interests, in order."""
        interests: Counter[tuple[ThresholdGroup, Bound, int]] = Counter()
        for group, (bound, _), sorted_entries in self._iterate_entries():
            for threshold, entries in sorted_entries.entries.items():
                interests[group, bound, threshold] += len(entries)
        return sorted(
            ThresholdInForce(*group, bound, threshold, n) for (group, bound, threshold), n in interests.items()
        )

    def count_in_breach(self, traffic: Traffic) -> dict[tuple[Direction, Window, Bound], int]:
        """Return the number of interests in breach, by direction, window length and bound; zeros are left out.

        An interest is in breach if the last closed window or the open window after it is FIRING or STILL.
        """
        breaches: Counter[tuple[Direction, Window, Bound]] = Counter()
        for group, (bound, _), entries in self._iterate_entries():
            windows = WindowCounts(traffic, group.direction, group.window)
            if windows.closed_until is not None:
                breaches[group.direction, group.window, bound] += _count_breaches(entries, group, bound, windows)
        return {key: count for key, count in breaches.items() if count}

    def _iterate_entries(self) -> Iterator[tuple[ThresholdGroup, tuple[Bound, bool], _SortedEntries]]:
        """Return all sorted entries, each with its group, its bound and its `repeat`."""
        for key, window_thresholds in self._by_windows.items():
            for for_windows, by_bound in window_thresholds.by_run_length.items():
                for bound_and_repeat, entries in by_bound.items():
                    yield ThresholdGroup(*key, for_windows), bound_and_repeat, entries


def _find_alerts_of_window(
    window_thresholds: _WindowThresholds,
    key: tuple[Direction, Window],
    number: int,
    bound: Bound,
    change: TrafficChange,
) -> Iterator[InterestAlert]:
    """Return the new alerts of one bound in window `number`, of all interests."""
    for for_windows, by_bound in window_thresholds.by_run_length.items():
        group = ThresholdGroup(*key, for_windows)
        reported_once, repeating = by_bound.get((bound, False)), by_bound.get((bound, True))
        if reported_once is None and repeating is None:
            continue
        for range_alert in change.find_range_alerts(*key, number, for_windows, bound):
            if reported_once is not None and not range_alert.for_repeat:
                yield from _select_interests(reported_once, group, range_alert)
            if repeating is not None:
                yield from _select_interests(repeating, group, range_alert)


def _get_window_start(alert: InterestAlert) -> int:
    """Return an alert's window start, as a sort key."""
    return alert.window_start


def _encode_window_number(number: int) -> bytes:
    """Return the number of a window as bytes that sort in the order of the numbers. Windows before 1970 become 0."""
    return min(max(number, 0), _LAST_WINDOW).to_bytes(_NUMBER_BYTES, "big")


def _select_interests(
    entries: _SortedEntries, group: ThresholdGroup, range_alert: RangeAlert
) -> Iterator[InterestAlert]:
    """Return the alerts of the interests to which a range alert applies (`RangeAlert.applies_to`)."""
    oldest = range_alert.number - group.for_windows  # the window before the run
    for threshold in entries.list_thresholds_between(*range_alert.thresholds):
        end = entries.count_begun(threshold, oldest + 1 if range_alert.is_first else oldest)
        begin = entries.count_begun(threshold, oldest) if range_alert.is_first else 0
        for entry in entries.entries[threshold][begin:end]:
            yield InterestAlert(UUID(bytes=entry[_NUMBER_BYTES:]), group, range_alert, threshold)


def _count_breaches(entries: _SortedEntries, group: ThresholdGroup, bound: Bound, windows: WindowCounts) -> int:
    """Return the number of entries that are FIRING or STILL in the last closed window or in the window after it."""
    last_closed = (windows.closed_until or 0) - 1
    places: dict[int, list[tuple[int, int]]] = {}
    for number in (last_closed, last_closed + 1):
        oldest = number - group.for_windows  # the window before the run
        for is_first in (False, True):
            states = judge(bound, windows, number, group.for_windows, is_first)
            for breached in (states.firing, states.still):
                for threshold in entries.list_thresholds_between(*breached):
                    end = entries.count_begun(threshold, oldest + 1 if is_first else oldest)
                    begin = entries.count_begun(threshold, oldest) if is_first else 0
                    places.setdefault(threshold, []).append((begin, end))
    return sum(_count_places(intervals) for intervals in places.values())


def _count_places(intervals: list[tuple[int, int]]) -> int:
    """Return the number of places in a list that lie in at least one of the intervals [begin, end)."""
    count = reached = 0
    for begin, end in sorted(intervals):
        count += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return count
