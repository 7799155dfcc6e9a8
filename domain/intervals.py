"""Intervals of time: lists of half-open intervals [begin, end) in order, which do not overlap."""

from collections.abc import Iterable

Intervals = tuple[tuple[int, int], ...]
"""Intervals [begin, end) in seconds since 1970, in order; none is empty, and no two overlap."""


def merge_intervals(intervals: Iterable[tuple[int, int]]) -> Intervals:
    """Return the time that lies in any of the intervals, which may be in any order; adjacent intervals are merged."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(intervals):
        if begin >= end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return tuple(merged)


def clip_intervals(intervals: Intervals, begin: int, end: int) -> Intervals:
    """Return the parts of the intervals that lie in [begin, end)."""
    return tuple((max(first, begin), min(last, end)) for first, last in intervals if first < end and last > begin)


def cut_interval(intervals: Intervals, begin: int, end: int) -> Intervals:
    """Return the parts of the intervals that lie before `begin` or from `end` on; the same object if nothing is cut."""
    if begin >= end or not any(first < end and last > begin for first, last in intervals):
        return intervals
    parts = [part for first, last in intervals for part in ((first, min(last, begin)), (max(first, end), last))]
    return tuple(part for part in parts if part[0] < part[1])


def subtract_intervals(intervals: Intervals, others: Intervals) -> Intervals:
    """Return the parts of the intervals that lie in none of the others."""
    for begin, end in others:
        intervals = cut_interval(intervals, begin, end)
    return intervals
