"""Hourly counts: the number of distinct flights of one direction at one airport in each hour, day by day.

A day (UTC) on which a window by the airport's clock begins within an hour also has counts by quarter of an hour
(`QuarterDay`). A day that an older version has stored has counts by hour alone.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, count
from operator import is_not
from typing import Final

from domain.windows import HOUR_S

DAY_HOURS: Final = 24
QUARTER_S: Final = 900
"""Seconds in a quarter of an hour: all clocks of today differ from UTC by whole quarters."""
HOUR_QUARTERS: Final = 4
"""Quarters in an hour."""
DAY_QUARTERS: Final = DAY_HOURS * HOUR_QUARTERS
"""Quarters in a day."""
_DAY_S: Final = DAY_HOURS * HOUR_S

Day = tuple[int, ...]
"""Distinct flights in each of the 24 hours of a day (UTC)."""


class QuarterDay(tuple[int, ...]):
    """A `Day`, the flights of its 24 hours, that also has the flights of its 96 quarters of an hour."""

    quarters: tuple[int, ...]
    """Distinct flights in each of the 96 quarters."""

    def __new__(cls, quarters: Iterable[int]) -> "QuarterDay":
        """Return the day with these flights in its 96 quarters."""
        counts = tuple(quarters)
        day = super().__new__(
            cls, [sum(counts[at : at + HOUR_QUARTERS]) for at in range(0, DAY_QUARTERS, HOUR_QUARTERS)]
        )
        day.quarters = counts
        return day

    def __getnewargs__(self) -> tuple[tuple[int, ...]]:
        """Return the arguments of `__new__` from which copy and pickle build an equal day."""
        return (self.quarters,)

    def __eq__(self, other: object) -> bool:
        """Return True if hours and quarters are equal; False for a `Day` without counts by quarter."""
        return tuple.__eq__(self, other) and isinstance(other, QuarterDay) and self.quarters == other.quarters

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


SplitDays = Callable[[int], bool]
"""Returns True for a UTC day (since 1970) to be counted by quarter, because local windows begin within its hours."""


def split_no_day(day: int) -> bool:
    """Return False: where clocks differ from UTC by whole hours, no quarters are needed."""
    return False


def list_quarters(day: Day) -> Sequence[int]:
    """Return the flights of a day in each of its 96 quarters.

    For a day without counts by quarter all flights of an hour are in its last quarter, which is covered to its end only
    if the hour is.
    """
    if isinstance(day, QuarterDay):
        return day.quarters
    return [flights for hour in day for flights in (0, 0, 0, hour)]


def list_changed_hours(earlier: Day, later: Day) -> list[int]:
    """Return the hours of a day in which its counts, by hour or by quarter, differ; in order."""
    if isinstance(earlier, QuarterDay) or isinstance(later, QuarterDay):
        both = zip(list_quarters(earlier), list_quarters(later), strict=True)
        return sorted({at // HOUR_QUARTERS for at, (then, now) in enumerate(both) if then != now})
    return [at for at in range(DAY_HOURS) if earlier[at] != later[at]]


def count_by_hour(times: Sequence[int], splits: SplitDays) -> tuple[dict[int, int], dict[int, int]]:
    """Return the number of event times (seconds since 1970) by hour or, for the days of `splits`, by quarter."""
    hours = Counter([at // HOUR_S for at in times])
    if splits is split_no_day:
        return hours, {}
    split = {day for day in {hour // DAY_HOURS for hour in hours} if splits(day)}
    if not split:
        return hours, {}
    quarters = Counter([at // QUARTER_S for at in times if at // _DAY_S in split])
    return {hour: flights for hour, flights in hours.items() if hour // DAY_HOURS not in split}, quarters


EMPTY_DAY: Final[Day] = (0,) * DAY_HOURS
"""A day without flights."""


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

        Days without flights at both ends are left out. Without days: empty counts.
        """
        with_flights = [day for day, counts in days.items() if any(counts)]
        if not with_flights:
            return cls()
        first, last = min(with_flights), max(with_flights)
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
        at = day - self.first_day
        return self.days[at] if 0 <= at < len(self.days) else EMPTY_DAY

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

    def list_units(self, begin: int, end: int, unit: int) -> Sequence[int]:
        """Return the counts of the hours or quarters from `begin` up to, but not including, `end` (since 1970).

        `unit`: HOUR_S or QUARTER_S. Days without counts by quarter are converted by `list_quarters`.
        """
        if unit == HOUR_S:
            return self.list_hours(begin, end)
        first, last = begin // DAY_QUARTERS, (end - 1) // DAY_QUARTERS
        quarters = [flights for day in range(first, last + 1) for flights in list_quarters(self.day(day))]
        return quarters[begin - first * DAY_QUARTERS : end - first * DAY_QUARTERS]

    def count_between(self, begin: int, end: int) -> int | None:
        """Return the number of flights in [begin, end), both whole quarters of an hour in seconds since 1970.

        None if an hour with flights, of a day without counts by quarter, lies only partly within.
        """
        first, last = -(-begin // HOUR_S), end // HOUR_S
        if begin % HOUR_S == 0 and end % HOUR_S == 0:
            return sum(self.list_hours(first, last))
        flights = sum(self.list_hours(first, last)) if first < last else 0
        edges = (
            [(begin, min(first * HOUR_S, end)), (max(last * HOUR_S, begin), end)] if first <= last else [(begin, end)]
        )
        for edge_begin, edge_end in edges:
            if edge_begin >= edge_end:
                continue
            day = self.day(edge_begin // _DAY_S)
            if not isinstance(day, QuarterDay):
                if day[edge_begin // HOUR_S % DAY_HOURS]:
                    return None
                continue
            at = edge_begin % _DAY_S // QUARTER_S
            flights += sum(day.quarters[at : at + (edge_end - edge_begin) // QUARTER_S])
        return flights

    def with_changes(self, hours: Mapping[int, int], quarters: Mapping[int, int] | None = None) -> "HourlyCounts":
        """Return a copy with more or fewer flights, and self if nothing changes; `hours`: changes by hour since 1970.

        `quarters`: changes by quarter since 1970, of other days; such a day then has counts by quarter, unless it had
        flights without them before. The stored days grow at both ends as needed; days in between without flights are
        empty. Other days are shared. Days without flights at both ends are left out after flights were taken away. No
        hour or quarter may fall below 0.
        """
        if quarters:
            return self._with_quarters(quarters).with_changes(hours)
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
        counted = HourlyCounts(first, tuple(days))
        return counted._without_empty_ends() if min(hours.values()) < 0 else counted

    def _with_quarters(self, quarters: Mapping[int, int]) -> "HourlyCounts":
        """Return a copy with more or fewer flights; `quarters`: changes by quarter since 1970.

        For a day that has flights without counts by quarter, only the hours are changed.
        """
        changed: dict[int, list[int]] = {}
        hours: Counter[int] = Counter()
        for quarter, more in quarters.items():
            day, at = divmod(quarter, DAY_QUARTERS)
            known = self.day(day)
            if not isinstance(known, QuarterDay) and any(known):
                hours[quarter // HOUR_QUARTERS] += more
                continue
            if day not in changed:
                changed[day] = list(list_quarters(known))
            changed[day][at] += more
        if changed:
            first, end = min(changed), max(changed) + 1
            if self.days:
                first, end = min(first, self.first_day), max(end, self.end_day)
            days = [self.day(day) for day in range(first, end)]
            for day, counts in changed.items():
                days[day - first] = QuarterDay(counts) if any(counts) else EMPTY_DAY
            return HourlyCounts(first, tuple(days))._without_empty_ends().with_changes(hours)
        return self.with_changes(hours)

    def _without_empty_ends(self) -> "HourlyCounts":
        """Return a copy without days without flights at both ends, so that equal counts are equal values."""
        within = [index for index, day in enumerate(self.days) if any(day)]
        if not within:
            return HourlyCounts()
        return HourlyCounts(self.first_day + within[0], self.days[within[0] : within[-1] + 1])

    def find_changed_days(self, earlier: "HourlyCounts", since: int) -> list[int]:
        """Return, in order, the days (since 1970) whose counts differ from those in `earlier`.

        Days before `since`, the first day that is still retained, are left out: they were discarded.
        """
        if self is earlier:
            return []
        shift = self.first_day - earlier.first_day
        if not 0 <= shift <= len(earlier.days):
            both = [counts for counts in (self, earlier) if counts.days]
            first, end = min(each.first_day for each in both), max(each.end_day for each in both)
            return [day for day in range(max(first, since), end) if self.day(day) != earlier.day(day)]
        before = earlier.days[shift:] if shift else earlier.days
        # A day that has not changed is the same object, mostly.
        found = compress(count(self.first_day), map(is_not, before, self.days))
        more = range(self.first_day + min(len(before), len(self.days)), max(self.end_day, earlier.end_day))
        taken = range(max(earlier.first_day, since), self.first_day)
        return [day for day in [*taken, *found, *more] if day >= since and self.day(day) != earlier.day(day)]

    def without_days_before(self, day: int) -> "HourlyCounts":
        """Return a copy without the days before `day`; the copy begins with a day that has flights, or is empty.

        Returns self if no day before `day` is stored.
        """
        if day <= self.first_day or not self.days:
            return self
        # The copy begins with a day that has flights, so that equal counts are equal values.
        first = next((index for index in range(day, self.end_day) if any(self.day(index))), self.end_day)
        return HourlyCounts(first, self.days[first - self.first_day :]) if first < self.end_day else HourlyCounts()
