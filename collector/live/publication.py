"""What is published of live movements and coverage, and when. Pure; times are whole Unix seconds.

The stream takes time that a message skips for a gap. So coverage is published in order, a message begins where the one
before ended, and a hole is skipped only once no feed can cover it any more. Why: docs/adr/0034-live-collection.md.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from collector.live.snapshots import Stretch

QUARTER_S: Final = 900
"""Windows end at quarters of an hour, in any zone: coverage that passes one is published at once."""
LONGEST_UNPUBLISHED_S: Final = 300
"""Coverage that has grown by so much is published, too."""
SHORTEST_AFTER_HOLE_S: Final = 90
"""After a hole, coverage is published once it reaches so far beyond its begin."""
OLDEST_WATERMARK_S: Final = 6 * 86_400
"""A message of flights begins at most so long before the last of them: the stream accepts seven days."""


class WholeStretch(NamedTuple):
    """A stretch of time [begin, end) in whole Unix seconds."""

    begin: int
    end: int


def add_stretch(stretches: Iterable[Stretch], begin: float, end: float) -> tuple[Stretch, ...]:
    """Return stretches with one more, in order, and those that touch or overlap as one."""
    merged: list[Stretch] = []
    for start, stop in sorted([*stretches, (begin, end)]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return tuple(merged)


def cut_before(stretches: Iterable[Stretch], until: float | None) -> tuple[Stretch, ...]:
    """Return what of stretches lies after a time; None: all of them."""
    if until is None:
        return tuple(stretches)
    return tuple((max(begin, until), end) for begin, end in stretches if end > until)


def plan_coverage(
    stretches: Sequence[Stretch],
    told_until: int | None,
    expected_from: float | None = None,
    with_movements: bool = False,
    stored_until: int | None = None,
) -> list[WholeStretch]:
    """Return the stretches that are published as covered now, in their order; what lies between them becomes a gap.

    `stretches`: what the feeds cover, in order, without overlaps. `told_until`: the end of what the stream was told;
    None: nothing. `expected_from`: from where on a feed that is heard without a pause will cover time, and has not yet;
    None: no feed will. `with_movements`: True if movements of this airport and direction are published now.
    `stored_until`: time before this is not published any more, though the stream was not told of it.

    A stretch that goes on where the last one ended is published with movements, when it passes a quarter of an hour,
    or when it is five minutes long. One behind a hole is published once it is 90 s long and nothing before it is
    expected. What precedes one that is published is published, too.
    """
    found: list[WholeStretch] = []
    ready = 0
    told, since = told_until, max(told_until or 0, stored_until or 0)
    for start, stop in stretches:
        each = WholeStretch(max(math.ceil(start), since), math.floor(stop))
        if each.begin >= each.end:
            continue
        found.append(each)
        if told is not None and each.begin <= told:
            passes_quarter = each.end // QUARTER_S > told // QUARTER_S
            is_ready = with_movements or passes_quarter or each.end - told >= LONGEST_UNPUBLISHED_S
        else:
            is_expected = expected_from is not None and expected_from < each.begin
            is_ready = each.end - each.begin >= SHORTEST_AFTER_HOLE_S and not is_expected
        if is_ready:
            ready = len(found)
        told = each.end
    return found[:ready]


def find_batch_interval(event_times: Sequence[int], told_until: int | None) -> WholeStretch:
    """Return the interval [begin, end) of a message with movements, which covers nothing.

    The stream takes the time from what it was told to the begin for a gap: so it begins there or before.
    """
    earliest, latest = min(event_times), max(event_times)
    if told_until is None:
        return WholeStretch(earliest, latest + 1)
    return WholeStretch(min(max(told_until, latest - OLDEST_WATERMARK_S), earliest), latest + 1)
