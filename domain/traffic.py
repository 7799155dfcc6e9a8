"""Traffic: what is known of the flights at one airport. A pure fold of what the collector observed.

Inside, time is whole hours and whole seconds since 1970 (UTC), because this is the hot path.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from domain.interests import Direction
from domain.windows import HOUR_S

DAY_HOURS: Final = 24
_DAY_S: Final = DAY_HOURS * HOUR_S

LONGEST_INTERVAL_S: Final = 7 * 24 * HOUR_S
"""No batch of flights is of a longer interval; the source itself gives two days at a time."""

RETAINED_HOURS: Final = 40 * 24
"""Hourly counts older than this before the watermark are forgotten: windows there are closed and judged.
It exceeds the age that an interest's `effective_from` may have, and all that the judgement of a new window looks back
at: the longest interval, and before it MOST_WINDOWS of the longest windows and one more."""


MOST_DAYS: Final = RETAINED_HOURS // DAY_HOURS + 1 + LONGEST_INTERVAL_S // HOUR_S // DAY_HOURS
"""Days that are counted at once: what is retained, the day that is going on, and an interval."""

Day = tuple[int, ...]
"""Distinct flights in each of the 24 hours of a day (UTC)."""

EMPTY_DAY: Final[Day] = (0,) * DAY_HOURS


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

    def within_reach(self) -> tuple[int, ...]:
        """The event times that count."""
        times, reach = self.event_times, self.reach
        if not times or (min(times) >= reach.start and max(times) < reach.stop):
            return times
        return tuple(at for at in times if at in reach)


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """Distinct flights by hour, kept by day (UTC); hours outside have none. A day that does not change is shared."""

    first_day: int = 0
    """Days since 1970."""
    days: tuple[Day, ...] = ()

    @classmethod
    def of(cls, days: Mapping[int, Day]) -> "HourlyCounts":
        """Days by their number; those that are missing in between had no flights."""
        if not days:
            return cls()
        first, last = min(days), max(days)
        return cls(first, tuple(days.get(day, EMPTY_DAY) for day in range(first, last + 1)))

    @property
    def end_day(self) -> int:
        return self.first_day + len(self.days)

    @property
    def first_hour(self) -> int:
        """Hours since 1970."""
        return self.first_day * DAY_HOURS

    @property
    def end_hour(self) -> int:
        return self.end_day * DAY_HOURS

    def day(self, day: int) -> Day:
        """The counts of one day."""
        return self.days[day - self.first_day] if self.first_day <= day < self.end_day else EMPTY_DAY

    def total(self, hour: int, hours: int) -> int:
        """Flights in the `hours` hours from `hour` on."""
        day, start = divmod(hour, DAY_HOURS)
        if start + hours <= DAY_HOURS:  # as every window lies
            return sum(self.day(day)[start : start + hours])
        within = range(max(hour, self.first_hour), min(hour + hours, self.end_hour))
        return sum(self.day(each // DAY_HOURS)[each % DAY_HOURS] for each in within)

    def between(self, begin: int, end: int) -> tuple[int, ...]:
        """The counts of the hours from `begin` up to, but not including, `end`."""
        first, last = begin // DAY_HOURS, (end - 1) // DAY_HOURS
        hours: tuple[int, ...] = ()
        for day in range(first, last + 1):
            hours += self.day(day)
        return hours[begin - first * DAY_HOURS : end - first * DAY_HOURS]

    def plus(self, hours: Mapping[int, int]) -> "HourlyCounts":
        """With more flights: how many, by hour."""
        if not hours:
            return self
        changed: dict[int, list[int]] = {}
        for hour, more in hours.items():
            day, at = divmod(hour, DAY_HOURS)
            if day not in changed:
                changed[day] = list(self.day(day))
            changed[day][at] += more
        first, end = min(changed), max(changed) + 1
        if self.days:
            first, end = min(first, self.first_day), max(end, self.end_day)
            before, after = (EMPTY_DAY,) * (self.first_day - first), (EMPTY_DAY,) * (end - self.end_day)
            days = [*before, *self.days, *after]
        else:
            days = [EMPTY_DAY] * (end - first)
        for day, counts in changed.items():
            days[day - first] = tuple(counts)
        return HourlyCounts(first, tuple(days))

    def changed_since(self, earlier: "HourlyCounts") -> list[int]:
        """The days, in order, whose counts are not those of `earlier`; what was forgotten has not changed."""
        if self is earlier:
            return []
        shift = self.first_day - earlier.first_day
        if not 0 <= shift <= len(earlier.days):
            days = range(self.first_day, self.end_day)
            return [day for day in days if self.day(day) != earlier.day(day)]
        before = earlier.days[shift:] if shift else earlier.days
        # A day that has not changed is the same object, mostly.
        found = [day for day, (a, b) in enumerate(zip(before, self.days, strict=False), self.first_day) if a is not b]
        more = range(self.first_day + len(before), self.end_day)
        return [day for day in [*found, *more] if self.day(day) != earlier.day(day)]

    def since(self, day: int) -> "HourlyCounts":
        """Without what lies before `day`."""
        if day <= self.first_day or not self.days:
            return self
        # What is kept begins with a day that has flights, so that the same counts are the same value.
        first = next((index for index in range(day, self.end_day) if any(self.day(index))), self.end_day)
        return HourlyCounts(first, self.days[first - self.first_day :]) if first < self.end_day else HourlyCounts()


@dataclass(frozen=True, slots=True)
class DirectionTraffic:
    """The traffic of one direction."""

    counts: HourlyCounts = HourlyCounts()
    covered_from: int | None = None
    """Where coverage began (seconds); None before the first coverage."""
    watermark: int | None = None
    """Up to where coverage reaches (seconds)."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Stretches [begin, end) that the source will never give, in order, merged."""

    def fold(self, seen: Observation) -> "DirectionTraffic":
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

    def _counted(self, seen: Observation) -> "DirectionTraffic":
        hours = Counter([at // HOUR_S for at in seen.within_reach()])
        if self.covered_from is not None:
            # A log that goes forward never comes to the second limit; one that jumps back for years must not cost us
            # the memory of all the days in between.
            end = max([self.counts.end_day, *(hour // DAY_HOURS + 1 for hour in hours)])
            oldest = max(self.covered_from // _DAY_S, end - MOST_DAYS)
        else:
            oldest = max(seen.begin // _DAY_S, self.counts.end_day - 1) - RETAINED_HOURS // DAY_HOURS
        kept = self.counts.since(oldest)
        counts = kept.plus({hour: more for hour, more in hours.items() if hour >= oldest * DAY_HOURS})
        return self if counts is self.counts else replace(self, counts=counts)

    def _covered(self, begin: int, end: int) -> "DirectionTraffic":
        if self.watermark is None:
            return replace(self, covered_from=begin, watermark=end)
        return replace(self, watermark=max(self.watermark, end))

    def _missing(self, end: int) -> "DirectionTraffic":
        if self.watermark is None or end <= self.watermark:
            return self  # before the first coverage all is unknown anyway, and what was covered stays so
        begin, earlier = self.watermark, self.gaps
        if earlier and earlier[-1][1] == begin:
            begin, earlier = earlier[-1][0], earlier[:-1]
        return replace(self, gaps=(*earlier, (begin, end)), watermark=end)

    def _forgetting(self) -> "DirectionTraffic":
        if self.watermark is None or self.covered_from is None:
            return self
        oldest = self.watermark // _DAY_S * _DAY_S - RETAINED_HOURS * HOUR_S
        if oldest <= self.covered_from:
            return self
        return replace(self, covered_from=oldest, gaps=tuple(gap for gap in self.gaps if gap[1] > oldest))

    def has_gap_in(self, begin: int, end: int) -> bool:
        """Whether a gap touches [begin, end)."""
        before_end = bisect_left(self.gaps, (end,))  # they are in order and apart
        return before_end > 0 and begin < self.gaps[before_end - 1][1]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of one airport."""

    arrivals: DirectionTraffic = DirectionTraffic()
    departures: DirectionTraffic = DirectionTraffic()

    def flows(self, direction: Direction) -> tuple[DirectionTraffic, ...]:
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
