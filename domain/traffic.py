"""Traffic: what is known of the flights at one airport. A pure fold of what the collector observed.

Inside, time is whole hours and whole seconds since 1970 (UTC), because this is the hot path.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from domain.interests import Direction
from domain.windows import HOUR_S

LONGEST_INTERVAL_S: Final = 7 * 24 * HOUR_S
"""No batch of flights is of a longer interval; the source itself gives two days at a time."""

RETAINED_HOURS: Final = 40 * 24
"""Hourly counts older than this before the watermark are forgotten: windows there are closed and judged.
It exceeds the age that an interest's `effective_from` may have, and all that the judgement of a new window looks back
at: the longest interval, and before it MOST_WINDOWS of the longest windows and one more."""


MOST_HOURS: Final = RETAINED_HOURS + 24 + LONGEST_INTERVAL_S // HOUR_S
"""Hours that are counted at once: what is retained, up to a day more since forgetting goes by days, and an interval."""


class Coverage(StrEnum):
    """What an observation says of its interval."""

    PARTIAL = "partial"
    COMPLETE = "complete"
    GAP = "gap"


@dataclass(frozen=True, slots=True)
class Observation:
    """Flights of one direction, seen for the first time, and what is now known of the interval [begin, end)."""

    direction: Direction
    begin: int
    """Seconds since 1970."""
    end: int
    event_times: tuple[int, ...]
    """Seconds since 1970, one for each distinct flight. What lies out of `reach` is not counted."""
    coverage: Coverage

    @property
    def reach(self) -> range:
        """The seconds in which its flights can lie: in the interval, or late, but not too late to matter.

        The collector keeps to it; a time beyond is somebody's error, and one flight of the year 9999 must neither
        change a window that nobody has heard of yet nor take the memory of all the hours in between.
        """
        return range(self.begin - RETAINED_HOURS * HOUR_S, min(self.end, self.begin + LONGEST_INTERVAL_S))


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Distinct flights by hour; hours outside have none."""

    first_hour: int = 0
    """Hours since 1970."""
    counts: tuple[int, ...] = ()

    @property
    def end_hour(self) -> int:
        return self.first_hour + len(self.counts)

    def total(self, hour: int, hours: int) -> int:
        """Flights in the `hours` hours from `hour` on."""
        start = hour - self.first_hour
        return sum(self.counts[max(start, 0) : max(start + hours, 0)])

    def plus(self, hours: Iterable[int]) -> "HourlyCounts":
        """With one more flight in each of `hours`."""
        added = sorted(hours)
        if not added:
            return self
        first = min(self.first_hour, added[0]) if self.counts else added[0]
        end = max(self.end_hour, added[-1] + 1)
        counts = [0] * (end - first)
        if self.counts:
            counts[self.first_hour - first : self.end_hour - first] = self.counts
        for hour in added:
            counts[hour - first] += 1
        return HourlyCounts(first, tuple(counts))

    def since(self, hour: int) -> "HourlyCounts":
        """Without what lies before `hour`."""
        if hour <= self.first_hour:
            return self
        if hour >= self.end_hour:
            return HourlyCounts()
        return HourlyCounts(hour, self.counts[hour - self.first_hour :])


@dataclass(frozen=True, slots=True)
class Flow:
    """The traffic of one direction."""

    counts: HourlyCounts = HourlyCounts()
    covered_from: int | None = None
    """Where coverage began (seconds); None before the first coverage."""
    watermark: int | None = None
    """Up to where coverage reaches (seconds)."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Stretches [begin, end) that the source will never give, in order, merged."""

    def fold(self, seen: Observation) -> "Flow":
        """The flow after an observation."""
        # What the collector jumped over is a stretch that nobody will tell of.
        flow = self._missing(seen.begin)
        match seen.coverage:
            case Coverage.COMPLETE:
                flow = flow._covered(seen.begin, seen.end)
            case Coverage.GAP:
                flow = flow._missing(seen.end)
            case Coverage.PARTIAL:
                pass
        return flow._forgetting()._counted(seen)

    def _counted(self, seen: Observation) -> "Flow":
        hours = [at // HOUR_S for at in seen.event_times if at in seen.reach]
        if self.covered_from is not None:
            # A log that goes forward never comes to the second limit; one that jumps back for years must not cost us
            # the memory of all the hours in between.
            end = max([self.counts.end_hour, *hours])
            oldest = max(self.covered_from // HOUR_S, end - MOST_HOURS)
        else:
            oldest = max(seen.begin // HOUR_S, self.counts.end_hour) - RETAINED_HOURS
        return replace(self, counts=self.counts.since(oldest).plus(hour for hour in hours if hour >= oldest))

    def _covered(self, begin: int, end: int) -> "Flow":
        if self.watermark is None:
            return replace(self, covered_from=begin, watermark=end)
        return replace(self, watermark=max(self.watermark, end))

    def _missing(self, end: int) -> "Flow":
        if self.watermark is None or end <= self.watermark:
            return self  # before the first coverage all is unknown anyway, and what was covered stays so
        begin, earlier = self.watermark, self.gaps
        if earlier and earlier[-1][1] == begin:
            begin, earlier = earlier[-1][0], earlier[:-1]
        return replace(self, gaps=(*earlier, (begin, end)), watermark=end)

    def _forgetting(self) -> "Flow":
        if self.watermark is None or self.covered_from is None:
            return self
        oldest_hour = (self.watermark // HOUR_S - RETAINED_HOURS) // 24 * 24
        if oldest_hour <= self.covered_from // HOUR_S:
            return self
        oldest = oldest_hour * HOUR_S
        return replace(self, covered_from=oldest, gaps=tuple(gap for gap in self.gaps if gap[1] > oldest))

    def has_gap_in(self, begin: int, end: int) -> bool:
        """Whether a gap touches [begin, end)."""
        return any(gap_begin < end and begin < gap_end for gap_begin, gap_end in self.gaps)


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of one airport."""

    arrivals: Flow = Flow()
    departures: Flow = Flow()

    def flows(self, direction: Direction) -> tuple[Flow, ...]:
        """The flows that a direction is made of."""
        if direction is Direction.BOTH:
            return (self.arrivals, self.departures)
        return (self.arrivals,) if direction is Direction.ARRIVALS else (self.departures,)

    def fold(self, seen: Observation) -> "Traffic":
        """The traffic after an observation."""
        if seen.direction is Direction.ARRIVALS:
            return replace(self, arrivals=self.arrivals.fold(seen))
        if seen.direction is Direction.DEPARTURES:
            return replace(self, departures=self.departures.fold(seen))
        raise ValueError("an observation is of arrivals or of departures, not of both")
