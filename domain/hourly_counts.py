"""Hourly counts: the number of distinct flights of one direction at one airport in each hour, day by day."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DAY_HOURS: Final = 24

Day = tuple[int, ...]
"""Distinct flights in each of the 24 hours of a day (UTC)."""

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

    def with_changes(self, hours: Mapping[int, int]) -> "HourlyCounts":
        """Return a copy with more or fewer flights, and self if nothing changes; `hours`: changes by hour since 1970.

        The stored days grow at both ends as needed; days in between without flights are empty. Other days are shared.
        Days without flights at both ends are left out after flights were taken away. No hour may fall below 0.
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
        counted = HourlyCounts(first, tuple(days))
        return counted._without_empty_ends() if min(hours.values()) < 0 else counted

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
        found = [day for day, (a, b) in enumerate(zip(before, self.days, strict=False), self.first_day) if a is not b]
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
