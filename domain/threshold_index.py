"""The thresholds of one airport's interests, sorted, so that what fires between two counts is a range look-up.

An interest takes one entry for each bound: a string of 20 bytes in a sorted list, beside others of the same
direction, window length, run length and threshold. Nothing else of it is kept here; who it is for stands in the
table of interests and is read when there is something to say.
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
from domain.rule import ThresholdRange, first_window, judge
from domain.traffic import Traffic
from domain.window_counts import WindowCounts
from domain.windows import HOUR_S, Window

_ENTRY_BYTES: Final = 4
_LAST_WINDOW: Final = 2 ** (8 * _ENTRY_BYTES) - 1


class ThresholdGroup(NamedTuple):
    """Interests of which the same is said but for their thresholds, and when they began."""

    direction: Direction
    window: Window
    for_windows: int


class InterestAlert(NamedTuple):
    """News that concerns one interest."""

    interest_id: UUID
    group: ThresholdGroup
    news: RangeAlert
    threshold: int

    @property
    def window_start(self) -> int:
        """Seconds since 1970."""
        return self.news.number * self.group.window.hours * HOUR_S


class ThresholdInForce(NamedTuple):
    """A threshold and how many interests have it."""

    direction: Direction
    window: Window
    for_windows: int
    bound: Bound
    threshold: int
    interests: int


@dataclass(slots=True)
class _Ladder:
    """The entries of one bound by threshold: what has the same threshold is in the order of the first window."""

    thresholds: list[int] = field(default_factory=list)
    entries: dict[int, list[bytes]] = field(default_factory=dict)

    def add(self, threshold: int, entry: bytes) -> None:
        entries = self.entries.get(threshold)
        if entries is None:
            insort(self.thresholds, threshold)
            self.entries[threshold] = [entry]
        elif entry > entries[-1]:
            entries.append(entry)
        else:
            insort(entries, entry)

    def remove(self, threshold: int, entry: bytes) -> None:
        entries = self.entries.get(threshold, [])
        at = bisect_left(entries, entry)
        if at == len(entries) or entries[at] != entry:
            raise KeyError("no such interest at this threshold")
        del entries[at]
        if not entries:
            del self.entries[threshold]
            del self.thresholds[bisect_left(self.thresholds, threshold)]

    def within(self, begin: int, end: int) -> list[int]:
        """The thresholds from `begin` up to, but not including, `end`."""
        first = bisect_left(self.thresholds, begin)
        if first == len(self.thresholds) or self.thresholds[first] >= end:
            return []
        return self.thresholds[first : bisect_left(self.thresholds, end, first)]

    def begun(self, threshold: int, number: int) -> int:
        """How many of a threshold have their first window at `number` or before."""
        if number < 0:
            return 0
        return bisect_right(self.entries[threshold], _packed(number + 1))


@dataclass(slots=True)
class _Kind:
    """The interests that count the same flights in the same windows."""

    ladders: dict[int, dict[tuple[Bound, bool], _Ladder]] = field(default_factory=dict)
    """By the length of the run. Those that want to be told again are apart: only they are looked up while a breach
    goes on."""
    marks: dict[Bound, list[int]] = field(default_factory=lambda: {bound: [] for bound in Bound})
    """By bound all thresholds, of whatever run, once each, in order."""
    marked: Counter[tuple[Bound, int]] = field(default_factory=Counter)
    """How many entries each threshold has."""
    ready: Counter[int] = field(default_factory=Counter)
    """By window: of how many interests it is the first one in which a run can be complete."""
    longest: int = 0
    lowest_high: int | None = None
    highest_low: int | None = None

    def add(self, interest: Interest) -> None:
        first = first_window(interest)
        entry = _packed(first) + interest.interest_id.bytes
        self.ready[first + interest.for_windows - 1] += 1
        ladders = self.ladders.get(interest.for_windows)
        if ladders is None:
            ladders = self.ladders[interest.for_windows] = {}
            self.longest = max(self.longest, interest.for_windows)
        for bound, threshold in list_thresholds(interest):
            ladder = ladders.get((bound, interest.repeat))
            if ladder is None:
                ladder = ladders[bound, interest.repeat] = _Ladder()
            ladder.add(threshold, entry)
            self.marked[bound, threshold] += 1
            if self.marked[bound, threshold] == 1:
                insort(self.marks[bound], threshold)
                self._keep_bounds()

    def remove(self, interest: Interest) -> None:
        first = first_window(interest)
        entry = _packed(first) + interest.interest_id.bytes
        ladders = self.ladders[interest.for_windows]
        for bound, threshold in list_thresholds(interest):
            key = bound, interest.repeat
            ladders[key].remove(threshold, entry)
            if not ladders[key].thresholds:
                del ladders[key]
            self.marked[bound, threshold] -= 1
            if not self.marked[bound, threshold]:
                del self.marked[bound, threshold]
                del self.marks[bound][bisect_left(self.marks[bound], threshold)]
        if not ladders:
            del self.ladders[interest.for_windows]
            self.longest = max(self.ladders, default=0)
        ready = first + interest.for_windows - 1
        self.ready[ready] -= 1
        if not self.ready[ready]:
            del self.ready[ready]
        self._keep_bounds()

    def _keep_bounds(self) -> None:
        """Keep at hand what is asked for with every batch."""
        highs, lows = self.marks[Bound.HIGH], self.marks[Bound.LOW]
        self.lowest_high = highs[0] if highs else None
        self.highest_low = lows[-1] if lows else None

    def is_crossed(self, bound: Bound, stretch: ThresholdRange) -> bool:
        """Whether somebody has one of these thresholds, or one that is passed all the while and wants to be told."""
        marks = self.marks[bound]
        at = bisect_left(marks, stretch.begin)
        if at < len(marks) and marks[at] < stretch.end:
            return True
        repeating = (ladder for ladders in self.ladders.values() if (ladder := ladders.get((bound, True))) is not None)
        match bound:
            case Bound.HIGH:
                return any(ladder.thresholds[0] < stretch.end for ladder in repeating)
            case Bound.LOW:
                return any(ladder.thresholds[-1] >= stretch.begin for ladder in repeating)
            case _:
                assert_never(bound)


class ThresholdIndex:
    """The thresholds of one airport."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Direction, Window], _Kind] = {}
        self._interests = 0

    def __len__(self) -> int:
        """How many interests there are."""
        return self._interests

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ThresholdIndex) and self._kinds == other._kinds

    __hash__ = None  # type: ignore[assignment]  # it changes

    def add(self, interest: Interest) -> None:
        """Take in an interest that is not in here. Cost: a binary search and a place in a sorted list."""
        key = interest.direction, interest.window
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind()
        kind.add(interest)
        self._interests += 1

    def remove(self, interest: Interest) -> None:
        """Take out an interest, as it was when it was added. Raises KeyError where it is not in here."""
        key = interest.direction, interest.window
        kind = self._kinds[key]
        kind.remove(interest)
        if not kind.ladders:
            del self._kinds[key]
        self._interests -= 1

    def findings(self, change: TrafficChange) -> list[InterestAlert]:
        """What a change makes to be said, to whom; in the order of the windows, of one interest in that of the rule.

        What nobody's threshold is crossed by costs a look into one sorted list for each window, however many
        interests there are.
        """
        found: list[InterestAlert] = []
        for key, kind in self._kinds.items():
            if change.is_quiet(*key, kind.longest, kind.highest_low, kind.lowest_high):
                continue
            for number, *stretches in change.crossings(*key, kind.longest, kind.ready):
                for bound, stretch in zip(Bound, stretches, strict=True):
                    if kind.is_crossed(bound, stretch):
                        found += _found(kind, key, number, bound, change)
        found.sort(key=_by_window)
        return found

    def directions(self) -> frozenset[Direction]:
        """Arrivals, departures or both, whose flights somebody wants counted."""
        return frozenset(part for direction, _ in self._kinds for part in direction.parts)

    def in_force(self) -> list[ThresholdInForce]:
        """Each threshold that somebody has, in order."""
        interests: Counter[tuple[ThresholdGroup, Bound, int]] = Counter()
        for group, (bound, _), ladder in self._ladders():
            for threshold, entries in ladder.entries.items():
                interests[group, bound, threshold] += len(entries)
        return sorted(
            ThresholdInForce(*group, bound, threshold, n) for (group, bound, threshold), n in interests.items()
        )

    def in_breach(self, traffic: Traffic) -> dict[tuple[Direction, Window, Bound], int]:
        """How many interests stand in breach: by the last window that is closed, or by the open one already."""
        breaches: Counter[tuple[Direction, Window, Bound]] = Counter()
        for group, (bound, _), ladder in self._ladders():
            windows = WindowCounts(traffic, group.direction, group.window)
            if windows.closed_until is not None:
                breaches[group.direction, group.window, bound] += _standing(ladder, group, bound, windows)
        return {key: count for key, count in breaches.items() if count}

    def _ladders(self) -> Iterator[tuple[ThresholdGroup, tuple[Bound, bool], _Ladder]]:
        for key, kind in self._kinds.items():
            for for_windows, ladders in kind.ladders.items():
                for which, ladder in ladders.items():
                    yield ThresholdGroup(*key, for_windows), which, ladder


def _found(
    kind: _Kind, key: tuple[Direction, Window], number: int, bound: Bound, change: TrafficChange
) -> Iterator[InterestAlert]:
    """All that is to be said of one bound in one window."""
    for for_windows, ladders in kind.ladders.items():
        group = ThresholdGroup(*key, for_windows)
        seldom, again = ladders.get((bound, False)), ladders.get((bound, True))
        if seldom is None and again is None:
            continue
        for news in change.news(*key, number, for_windows, bound):
            if seldom is not None and not news.for_repeat:
                yield from _met(seldom, group, news)
            if again is not None:
                yield from _met(again, group, news)


def _by_window(finding: InterestAlert) -> int:
    return finding.window_start


def _packed(number: int) -> bytes:
    """The number of a window, so that the order of the bytes is that of the numbers. Windows before 1970 have none."""
    return min(max(number, 0), _LAST_WINDOW).to_bytes(_ENTRY_BYTES, "big")


def _met(ladder: _Ladder, group: ThresholdGroup, news: RangeAlert) -> Iterator[InterestAlert]:
    """Those whom news concerns (`RangeAlert.concerns`)."""
    begins = news.number - group.for_windows
    for threshold in ladder.within(*news.stretch):
        end = ladder.begun(threshold, begins + 1 if news.is_first else begins)
        begin = ladder.begun(threshold, begins) if news.is_first else 0
        for entry in ladder.entries[threshold][begin:end]:
            yield InterestAlert(UUID(bytes=entry[_ENTRY_BYTES:]), group, news, threshold)


def _standing(ladder: _Ladder, group: ThresholdGroup, bound: Bound, windows: WindowCounts) -> int:
    """How many of a ladder are in breach by the last closed window, or by the next."""
    last_closed = (windows.closed_until or 0) - 1
    met: dict[int, list[tuple[int, int]]] = {}
    for number in (last_closed, last_closed + 1):
        begins = number - group.for_windows
        for is_first in (False, True):
            said = judge(bound, windows, number, group.for_windows, is_first)
            for stretch in (said.firing, said.still):
                for threshold in ladder.within(*stretch):
                    end = ladder.begun(threshold, begins + 1 if is_first else begins)
                    begin = ladder.begun(threshold, begins) if is_first else 0
                    met.setdefault(threshold, []).append((begin, end))
    return sum(_together(places) for places in met.values())


def _together(places: list[tuple[int, int]]) -> int:
    """How many places lie in at least one of these stretches."""
    count = reached = 0
    for begin, end in sorted(places):
        count += max(end - max(begin, reached), 0)
        reached = max(reached, end)
    return count
