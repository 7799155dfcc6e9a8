"""The record of what was told of one direction of an airport from positions (live), and since by the settled record.

Movements that are inferred from positions are told minutes after they happen; the source's settled record of the day
comes later and has the last word. From this record the rule finds the alerts that only correct what was known live
(`domain.changes.TrafficChange.find_corrected_count`). It is a function of the log alone. Pure.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from domain.intervals import Intervals, cut_interval, merge_intervals
from domain.windows import HOUR_S

MAX_LIVE_STRETCHES: Final = 64
"""Live stretches of one direction that are kept. Corrections of older ones count as first statements, so that a source
that breaks off every hour cannot fill the state."""


class Provenance(StrEnum):
    """The source of a message of flights, or of the fact that caused an alert."""

    SETTLED = "settled"
    """The source's record of finished flights."""
    LIVE = "live"
    """Positions, minutes after the movement; the settled record may correct it."""
    RECENT = "recent"
    """The source's flights of a day before its record is there: not all of them. Only of facts, never of a message."""


@dataclass(frozen=True, slots=True)
class LiveRecord:
    """The messages from positions about one direction, summed up. Instants are seconds since 1970."""

    begin: int
    """The earliest begin of such a message."""
    end: int
    """The latest end of such a message."""
    settled_until: int | None = None
    """Up to where the settled record has covered the direction, since or before; None: it has covered nothing."""
    covered: tuple[tuple[int, int], ...] = ()
    """The stretches [begin, end) that such messages covered, in order; stretches that touch are merged."""
    left_live: Intervals = ()
    """Stretches before `settled_until` that the settled record has not covered, as a day that the source never gave:
    what is known of them still comes from positions. The first begins at 0 if positions came before the record."""

    def has_covered(self, begin: int, end: int) -> bool:
        """Return True if positions covered [begin, end) without a hole, False if not, or if that is forgotten."""
        return any(first <= begin and end <= last for first, last in self.covered)

    def has_told_of(self, begin: int, end: int) -> bool:
        """Return True if a message from positions may have had flights of [begin, end), False if none can have."""
        return begin < self.end and self.begin < end

    def is_unsettled(self, begin: int, end: int) -> bool:
        """Return True if what is known of a part of [begin, end) still comes from positions.

        False if the settled record has covered all of it, or if no message from positions may have had flights of it.
        """
        if not self.has_told_of(begin, end):
            return False
        if self.settled_until is None or self.settled_until < end:
            return True
        return any(first < end and begin < last for first, last in self.left_live)


def record_message(
    live: LiveRecord | None, provenance: Provenance, begin: int, end: int, is_complete: bool, watermark: int | None
) -> LiveRecord | None:
    """Return the record after a message about [begin, end); None: nothing was ever told from positions.

    `live`: the record before it. `is_complete`: True if the message covers its interval. `watermark`: the end of the
    coverage before the message (None: nothing was covered), which the settled record made if there is no record yet.
    """
    match provenance:
        case Provenance.SETTLED:
            return live if live is None or not is_complete else _add_settled_range(live, begin, end)
        case Provenance.RECENT:
            return live  # the flights of a message that covers nothing
        case Provenance.LIVE:
            if live is None:
                live = LiveRecord(begin, end, watermark)
            covered = _add_stretch(live.covered, begin, end) if is_complete else live.covered
            return replace(live, begin=min(live.begin, begin), end=max(live.end, end), covered=covered)


def _add_settled_range(live: LiveRecord, begin: int, end: int) -> LiveRecord:
    """Return what positions told, once the settled record has covered [begin, end); `live` itself if nothing changes.

    What the settled record has skipped before `begin` is added to `left_live`, and [begin, end) is cut out of it.
    """
    settled_until, left_live = live.settled_until or 0, live.left_live
    if settled_until < begin:
        left_live = merge_intervals((*left_live, (settled_until, begin)))[-MAX_LIVE_STRETCHES:]
    left_live = cut_interval(left_live, begin, end)
    if end <= settled_until and left_live is live.left_live:
        return live
    return replace(live, settled_until=max(settled_until, end), left_live=left_live)


def _add_stretch(covered: tuple[tuple[int, int], ...], begin: int, end: int) -> tuple[tuple[int, int], ...]:
    """Return the stretches with one more, merged with those that it touches, at most the MAX_LIVE_STRETCHES latest.

    Only the last stretch may lack a whole hour of the clock: it may still grow, and windows are whole hours.
    """
    merged: list[tuple[int, int]] = []
    for first, last in sorted((*covered, (begin, end))):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    kept = [each for each in merged[:-1] if -(-each[0] // HOUR_S) < each[1] // HOUR_S]
    return (*kept, merged[-1])[-MAX_LIVE_STRETCHES:]
