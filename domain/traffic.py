"""Traffic: the hourly flight counts and the coverage of one airport, folded from the collector's observations.

The fold is pure. Times are whole hours and whole seconds since 1970 (UTC), because this is the hot path.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from domain.interests import Direction
from domain.windows import HOUR_S

DAY_HOURS: Final = 24
_DAY_S: Final = DAY_HOURS * HOUR_S

LONGEST_INTERVAL_S: Final = 7 * 24 * HOUR_S
"""The longest interval that one batch of flights covers; the source itself gives two days at a time."""

RETAINED_HOURS: Final = 40 * 24
"""Hours before the watermark for which hourly counts are retained: all windows before are closed and judged.
It exceeds the age that an interest's `effective_from` may have, and the time that the rule looks back from a new
window: the longest interval, and before it MAX_FOR_WINDOWS of the longest windows and one more."""


MAX_DAYS: Final = RETAINED_HOURS // DAY_HOURS + 1 + LONGEST_INTERVAL_S // HOUR_S // DAY_HOURS
"""Days that have counts at the same time, at most: the retained days, the current day, and the longest interval."""

Day = tuple[int, ...]
"""Distinct flights in each of the 24 hours of a day (UTC)."""

EMPTY_DAY: Final[Day] = (0,) * DAY_HOURS
"""A day without flights."""


class Coverage(StrEnum):
    """The coverage that an observation states for its interval."""

    PARTIAL = "partial"
    """More observations of the interval follow."""
    COMPLETE = "complete"
    """All flights of the interval that the source will give have been published."""
    GAP = "gap"
    """The source will never give all flights of the interval."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A batch of new flights of one direction, with the interval [begin, end) that was collected and its coverage."""

    direction: Direction
    begin: int
    """Seconds since 1970."""
    end: int
    event_times: tuple[int, ...]
    """Seconds since 1970, one for each distinct flight. Times outside `valid_times` are not counted."""
    coverage: Coverage

    @property
    def valid_times(self) -> range:
        """The seconds in which its flights may lie: in the interval, or late, but still within the retained hours.

        The collector publishes no other times. A time outside is an error, and one flight of the year 9999 must neither
        change a window of the far future nor take the memory of all the hours until then.
        """
        return range(self.begin - RETAINED_HOURS * HOUR_S, min(self.end, self.begin + LONGEST_INTERVAL_S))

    def list_valid_times(self) -> tuple[int, ...]:
        """Return the event times that lie within `valid_times`, in their order; only these flights are counted."""
        times, valid = self.event_times, self.valid_times
        if not times or (min(times) >= valid.start and max(times) < valid.stop):
            return times
        return tuple(at for at in times if at in valid)


@dataclass(frozen=True, slots=True)
class HourlyCounts:
    """The number of distinct flights in each hour, stored by day (UTC); hours outside the days have no flights.

    A changed copy shares the tuples of the days that did not change.
    """

    first_day: int = 0
    """Days since 1970."""
    days: tuple[Day, ...] = ()

    @classmethod
    def from_days(cls, days: Mapping[int, Day]) -> "HourlyCounts":
        """Return the counts of days given by their number since 1970; missing days in between have no flights.

        Without days: empty counts.
        """
        if not days:
            return cls()
        first, last = min(days), max(days)
        return cls(first, tuple(days.get(day, EMPTY_DAY) for day in range(first, last + 1)))

    @property
    def end_day(self) -> int:
        """The day after the last day with counts, in days since 1970."""
        return self.first_day + len(self.days)

    @property
    def first_hour(self) -> int:
        """The first hour of the first day, in hours since 1970."""
        return self.first_day * DAY_HOURS

    @property
    def end_hour(self) -> int:
        """The hour after the last hour of the last day, in hours since 1970."""
        return self.end_day * DAY_HOURS

    def day(self, day: int) -> Day:
        """Return the counts of one day, by its number since 1970."""
        return self.days[day - self.first_day] if self.first_day <= day < self.end_day else EMPTY_DAY

    def total(self, hour: int, hours: int) -> int:
        """Return the number of flights in `hours` hours, of which `hour` (since 1970) is the first; may span days."""
        day, start = divmod(hour, DAY_HOURS)
        if start + hours <= DAY_HOURS:  # as every window lies
            return sum(self.day(day)[start : start + hours])
        within = range(max(hour, self.first_hour), min(hour + hours, self.end_hour))
        return sum(self.day(each // DAY_HOURS)[each % DAY_HOURS] for each in within)

    def list_hours(self, begin: int, end: int) -> tuple[int, ...]:
        """Return the counts of the hours from `begin` up to, but not including, `end` (hours since 1970).

        One count for each hour, 0 for hours outside the stored days.
        """
        first, last = begin // DAY_HOURS, (end - 1) // DAY_HOURS
        hours: tuple[int, ...] = ()
        for day in range(first, last + 1):
            hours += self.day(day)
        return hours[begin - first * DAY_HOURS : end - first * DAY_HOURS]

    def with_flights(self, hours: Mapping[int, int]) -> "HourlyCounts":
        """Return a copy with additional flights, and self if there are none; `hours`: their number by hour since 1970.

        The stored days grow at both ends as needed; days in between without flights are empty. Other days are shared.
        """
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

    def find_changed_days(self, earlier: "HourlyCounts") -> list[int]:
        """Return, in order, the days (since 1970) whose counts differ from those in `earlier`.

        A day that only `earlier` has, because it was discarded since, is no change.
        """
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

    def without_days_before(self, day: int) -> "HourlyCounts":
        """Return a copy without the days before `day`; the copy begins with a day that has flights, or is empty.

        Returns self if no day before `day` is stored.
        """
        if day <= self.first_day or not self.days:
            return self
        # The copy begins with a day that has flights, so that equal counts are equal values.
        first = next((index for index in range(day, self.end_day) if any(self.day(index))), self.end_day)
        return HourlyCounts(first, self.days[first - self.first_day :]) if first < self.end_day else HourlyCounts()


@dataclass(frozen=True, slots=True)
class DirectionTraffic:
    """The traffic of one direction at one airport: hourly counts, and the time for which they are complete."""

    counts: HourlyCounts = HourlyCounts()
    covered_from: int | None = None
    """The start of coverage (seconds since 1970); None before the first coverage."""
    watermark: int | None = None
    """The end of coverage (seconds since 1970); None before the first coverage."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Intervals [begin, end) that the source will never give, in order; adjacent intervals are merged."""

    def fold(self, observation: Observation) -> "DirectionTraffic":
        """Return the traffic after an observation: flights counted, coverage or gap added, expired days discarded.

        The first COMPLETE observation starts the coverage. From then on the watermark moves (never back) to the end of
        an observation that is COMPLETE or GAP, to its begin if it is PARTIAL; an interval between the watermark and the
        begin, which the collector skipped, becomes a gap.
        """
        # An interval that the collector skipped is a gap: no later observation will cover it.
        after = self._with_gap_until(observation.begin)
        match observation.coverage:
            case Coverage.COMPLETE:
                after = after._with_coverage(observation.begin, observation.end)
            case Coverage.GAP:
                after = after._with_gap_until(observation.end)
            case Coverage.PARTIAL:
                pass
            case _:
                assert_never(observation.coverage)
        return after._without_expired_coverage()._with_flights_of(observation)

    def _with_flights_of(self, observation: Observation) -> "DirectionTraffic":
        """Return a copy that counts the observation's valid flights and drops the days older than the retention.

        Flights of dropped days are not counted. The oldest day is the first day of coverage, but at most MAX_DAYS
        before the last day with counts; before the first coverage it is RETAINED_HOURS before the observation's day or
        the last stored day, whichever is later. Returns self if the counts do not change.
        """
        hours = Counter([at // HOUR_S for at in observation.list_valid_times()])
        if self.covered_from is not None:
            # The second limit is never reached if times go forward; a log that jumps back for years must not take
            # the memory of all the days in between.
            end = max([self.counts.end_day, *(hour // DAY_HOURS + 1 for hour in hours)])
            oldest = max(self.covered_from // _DAY_S, end - MAX_DAYS)
        else:
            oldest = max(observation.begin // _DAY_S, self.counts.end_day - 1) - RETAINED_HOURS // DAY_HOURS
        retained = self.counts.without_days_before(oldest)
        counts = retained.with_flights({hour: more for hour, more in hours.items() if hour >= oldest * DAY_HOURS})
        return self if counts is self.counts else replace(self, counts=counts)

    def _with_coverage(self, begin: int, end: int) -> "DirectionTraffic":
        """Return a copy in which [begin, end) is covered: the watermark moves to `end`, but never back.

        `begin` is the start of coverage only if nothing was covered before.
        """
        if self.watermark is None:
            return replace(self, covered_from=begin, watermark=end)
        return replace(self, watermark=max(self.watermark, end))

    def _with_gap_until(self, end: int) -> "DirectionTraffic":
        """Return a copy with a gap from the watermark to `end`, which becomes the watermark.

        The gap is merged with an adjacent gap before it. Returns self before the first coverage (all is unknown there)
        or if the watermark has reached `end` already.
        """
        if self.watermark is None or end <= self.watermark:
            return self
        begin, gaps_before = self.watermark, self.gaps
        if gaps_before and gaps_before[-1][1] == begin:
            begin, gaps_before = gaps_before[-1][0], gaps_before[:-1]
        return replace(self, gaps=(*gaps_before, (begin, end)), watermark=end)

    def _without_expired_coverage(self) -> "DirectionTraffic":
        """Return a copy whose coverage begins RETAINED_HOURS before the watermark's day, or later.

        Gaps that end before that are dropped. Returns self if coverage begins late enough.
        """
        if self.watermark is None or self.covered_from is None:
            return self
        oldest = self.watermark // _DAY_S * _DAY_S - RETAINED_HOURS * HOUR_S
        if oldest <= self.covered_from:
            return self
        return replace(self, covered_from=oldest, gaps=tuple(gap for gap in self.gaps if gap[1] > oldest))

    def has_gap_in(self, begin: int, end: int) -> bool:
        """Return True if a gap overlaps [begin, end) (seconds since 1970), False if none does."""
        before_end = bisect_left(self.gaps, (end,))  # gaps are in order and do not overlap
        return before_end > 0 and begin < self.gaps[before_end - 1][1]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The traffic of one airport: arrivals and departures."""

    arrivals: DirectionTraffic = DirectionTraffic()
    departures: DirectionTraffic = DirectionTraffic()

    def select_directions(self, direction: Direction) -> tuple[DirectionTraffic, ...]:
        """Return the traffic of each part of a direction: arrivals and departures for BOTH, else one."""
        if direction is Direction.BOTH:
            return (self.arrivals, self.departures)
        return (self.arrivals,) if direction is Direction.ARRIVALS else (self.departures,)

    def without_direction(self, direction: Direction) -> "Traffic":
        """Return a copy in which nothing is known of one direction, ARRIVALS or DEPARTURES; the other stays."""
        if direction is Direction.ARRIVALS:
            return replace(self, arrivals=DirectionTraffic())
        return replace(self, departures=DirectionTraffic())

    def fold(self, observation: Observation) -> "Traffic":
        """Return the traffic after an observation: the traffic of the observation's direction changes, the other stays.

        Raises ValueError if the observation's direction is BOTH.
        """
        if observation.direction is Direction.ARRIVALS:
            return replace(self, arrivals=self.arrivals.fold(observation))
        if observation.direction is Direction.DEPARTURES:
            return replace(self, departures=self.departures.fold(observation))
        raise ValueError("an observation is of arrivals or of departures, not of both")
