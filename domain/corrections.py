"""Corrections: records of the messages that changed what was known already, so that the past can be judged.

A count of a closed window may go up (late flights) or down (retracted flights), a gap may be filled, and what was said
may be withdrawn and come again. Between two corrections counts only grow in hours that are not covered yet, where
nothing is withdrawn, and gaps only come at the end of coverage. So the counts and gaps before and after each correction
tell all that was ever withdrawn (`domain.statements`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from domain.hourly_counts import (
    DAY_HOURS,
    DAY_QUARTERS,
    HOUR_QUARTERS,
    QUARTER_S,
    HourlyCounts,
    QuarterDay,
    list_quarters,
)
from domain.intervals import Intervals, clip_intervals, merge_intervals
from domain.windows import HOUR_S

_DAY_S: Final = DAY_HOURS * HOUR_S
MAX_CORRECTIONS_A_DAY: Final = 64
"""Corrections of one direction that are kept of one day; of older ones only the number is kept, by day.
The collector corrects a day once or twice; without a bound, a source that is broken would fill the state."""


UnitFlights = tuple[tuple[int, int], ...]
"""Hours or quarters (since 1970), in order, each with a number of flights or a change of it."""


class QuarterDetail(NamedTuple):
    """The changes and the counts of a correction by quarters of an hour, as `Correction` has them by hours.

    Flights of days without counts by quarter are in the last quarter of their hour.
    """

    changes: UnitFlights
    open: UnitFlights
    other_open: UnitFlights


class Correction(NamedTuple):
    """The changes that one message made to the counts of one direction, and what was known before and after it.

    A message is a correction if it changed an hour that was covered to its end, if it took flights away, or if it
    filled a gap or covered time before the coverage.
    """

    number: int
    """Order among the corrections of the airport, of both directions."""
    watermark_before: int
    """End of the direction's coverage before the message (seconds since 1970)."""
    watermark_after: int
    """End of the direction's coverage after the message."""
    other_watermark: int | None
    """End of the other direction's coverage; None: it was not covered."""
    changes: tuple[tuple[int, int], ...]
    """Hours (since 1970), in order, each with the flights that were added (above 0) or taken away; none has 0."""
    open_hours: tuple[tuple[int, int], ...]
    """The hours with flights that were not covered to their end after the message, each with its flights then."""
    other_open_hours: tuple[tuple[int, int], ...]
    """The same of the other direction; empty if it was not covered."""

    filled: Intervals = ()
    """The intervals of which more was known after the message: gaps, or parts of gaps, that it filled, and all between
    the new and the old start of coverage if it moved the start."""
    covered_from_before: int | None = None
    """The start of coverage before the message (seconds since 1970), if the message moved it back. None: it did not."""
    quarters: QuarterDetail | None = None
    """The same by quarters of an hour; None: no day of the airport had any, or the record is older."""

    @property
    def day(self) -> int:
        """The last day (since 1970) that was changed: the record is kept with it."""
        last_days = [hour // DAY_HOURS for hour, _ in self.changes[-1:]]
        last_days += [(end - 1) // _DAY_S for _, end in self.filled[-1:]]
        last_days += [quarter // DAY_QUARTERS for quarter, _ in self._changed_quarters[-1:]]
        return max(last_days)

    @property
    def days(self) -> frozenset[int]:
        """All days (since 1970) that were changed."""
        days = {hour // DAY_HOURS for hour, _ in self.changes}
        days.update(quarter // DAY_QUARTERS for quarter, _ in self._changed_quarters)
        for begin, end in self.filled:
            days.update(range(begin // _DAY_S, (end - 1) // _DAY_S + 1))
        return frozenset(days)

    def touches(self, begin: int, end: int) -> bool:
        """Return True if an hour from `begin` up to, but not including, `end` (since 1970) was changed."""
        if self.filled and any(first < end * HOUR_S and last > begin * HOUR_S for first, last in self.filled):
            return True
        if any(begin <= quarter // HOUR_QUARTERS < end for quarter, _ in self._changed_quarters):
            return True  # also if the hour has as many flights as before
        if not self.changes or self.changes[-1][0] < begin or self.changes[0][0] >= end:
            return False
        return any(begin <= hour < end for hour, _ in self.changes)

    @property
    def _changed_quarters(self) -> UnitFlights:
        """The quarters (since 1970) that were changed; empty without counts by quarter."""
        return () if self.quarters is None else self.quarters.changes

    def select_units(self, unit: int) -> QuarterDetail:
        """Return the changes and the open counts by hours (`unit` is HOUR_S) or by quarters (QUARTER_S)."""
        by_hour = QuarterDetail(self.changes, self.open_hours, self.other_open_hours)
        if unit == HOUR_S:
            return by_hour
        return self.quarters or QuarterDetail(*map(_place_in_last_quarters, by_hour))


def _place_in_last_quarters(hours: UnitFlights) -> UnitFlights:
    """Return the flights of hours (since 1970) as those of the last quarter of each hour."""
    return tuple(((hour + 1) * HOUR_QUARTERS - 1, flights) for hour, flights in hours)


class KnownDirection(NamedTuple):
    """The counts of one direction, and where its coverage ends (seconds since 1970; None: not covered)."""

    counts: HourlyCounts
    watermark: int | None

    @property
    def has_quarters(self) -> bool:
        """True if any day has counts by quarter of an hour; False if all have them by hour alone."""
        return any(isinstance(day, QuarterDay) for day in self.counts.days)


def build_correction(
    number: int,
    old: KnownDirection,
    new: KnownDirection,
    other: KnownDirection,
    since: int,
    filled: Intervals,
    covered_from_before: int | None,
) -> Correction | None:
    """Return the record of a message that led from `old` to `new`; None if it is no correction.

    It is none if it filled nothing, and changed no count or only added flights to hours (or quarters, on days with
    counts by quarter) which were not covered to their end. `other`: the other direction. Changes of days before `since`
    (since 1970) are left out. `old` and `new` are covered.
    """
    changes = list_changes(old.counts, new.counts, since)
    is_correction = bool(filled) or _change_known(changes, (old.watermark or 0) // HOUR_S)
    quarters = None
    if old.has_quarters or new.has_quarters or other.has_quarters:
        quarters = QuarterDetail(
            _list_changed_quarters(old.counts, new.counts, since),
            _list_open_quarters(new),
            _list_open_quarters(other),
        )
        is_correction = is_correction or _change_known(quarters.changes, (old.watermark or 0) // QUARTER_S)
    if not is_correction:
        return None
    return Correction(
        number=number,
        watermark_before=old.watermark or 0,
        watermark_after=new.watermark or 0,
        other_watermark=other.watermark,
        changes=changes,
        open_hours=list_open_hours(new.counts, new.watermark or 0),
        other_open_hours=() if other.watermark is None else list_open_hours(other.counts, other.watermark),
        filled=filled,
        covered_from_before=covered_from_before,
        quarters=quarters,
    )


def _change_known(changes: UnitFlights, covered_until: int) -> bool:
    """Return True if flights were taken away, or added before `covered_until` (hours or quarters since 1970)."""
    return any(change < 0 or at < covered_until for at, change in changes)


def _list_changed_quarters(before: HourlyCounts, after: HourlyCounts, since: int) -> UnitFlights:
    """Return the quarters (since 1970) whose counts differ, as `list_changes` does the hours."""
    return tuple(
        (day * DAY_QUARTERS + at, now - then)
        for day in after.find_changed_days(before, since)
        for at, (then, now) in enumerate(
            zip(list_quarters(before.day(day)), list_quarters(after.day(day)), strict=True)
        )
        if then != now
    )


def _list_open_quarters(known: KnownDirection) -> UnitFlights:
    """Return the counts of the quarters with flights that are not covered to their end; empty if nothing is covered."""
    if known.watermark is None:
        return ()
    first, counts = known.watermark // QUARTER_S, known.counts
    begin = max(first // DAY_QUARTERS, counts.first_day) * DAY_QUARTERS
    quarters = counts.list_units(begin, counts.end_day * DAY_QUARTERS, QUARTER_S)
    return tuple((at, flights) for at, flights in enumerate(quarters, begin) if flights and at >= first)


def list_changes(before: HourlyCounts, after: HourlyCounts, since: int) -> tuple[tuple[int, int], ...]:
    """Return the hours (since 1970) whose counts differ, in order, each with the difference.

    Days before `since` are left out: they were discarded.
    """
    return tuple(
        (day * DAY_HOURS + at, now - then)
        for day in after.find_changed_days(before, since)
        for at, (then, now) in enumerate(zip(before.day(day), after.day(day), strict=True))
        if then != now
    )


def list_open_hours(counts: HourlyCounts, watermark: int) -> tuple[tuple[int, int], ...]:
    """Return the counts of the hours with flights that `watermark` (seconds since 1970) does not cover to their end."""
    first = watermark // HOUR_S
    hours = range(max(first, counts.first_hour), counts.end_hour)
    return tuple((hour, flights) for hour in hours if (flights := counts.day(hour // DAY_HOURS)[hour % DAY_HOURS]))


def add_correction(
    corrections: Sequence[Correction], forgotten: Mapping[int, int], correction: Correction
) -> tuple[tuple[Correction, ...], Mapping[int, int]]:
    """Return the corrections of a direction with one more, and by day the number of those that are no longer kept.

    If a day has more than MAX_CORRECTIONS_A_DAY, its oldest is dropped, and counted for each day that it changed.
    """
    added = (*corrections, correction)
    of_day = [each for each in added if each.day == correction.day]
    if len(of_day) <= MAX_CORRECTIONS_A_DAY:
        return added, forgotten
    oldest = of_day[0]
    counted = {**forgotten, **{day: forgotten.get(day, 0) + 1 for day in oldest.days}}
    return tuple(each for each in added if each is not oldest), counted


class KnownTime(NamedTuple):
    """The start of one direction's coverage, and the gaps in it; where coverage ended is not part of it."""

    covered_from: int | None
    """Seconds since 1970; None: not covered."""
    gaps: Intervals


class CountsAtCorrection(NamedTuple):
    """The counts of both directions right before or right after a correction, as far as they were covered then."""

    watermarks: tuple[int | None, int | None]
    """Of arrivals and of departures (seconds since 1970)."""
    hours: tuple[Mapping[int, int], Mapping[int, int]]
    """Flights by hour (or quarter, since 1970) within the wanted ones, of arrivals and of departures."""
    known: tuple[KnownTime, KnownTime]
    """Of arrivals and of departures. Gaps after the watermark were declared later."""


def rewind(
    corrections: tuple[Sequence[Correction], Sequence[Correction]],
    counts: tuple[HourlyCounts, HourlyCounts],
    known: tuple[KnownTime, KnownTime],
    within: range,
    unit: int = HOUR_S,
) -> Iterator[CountsAtCorrection]:
    """Yield the counts after and before each correction, the latest first, for the hours `within` (since 1970).

    With `unit` QUARTER_S (not HOUR_S) for the quarters of an hour `within`. `corrections`, `counts`, `known`: of
    arrivals and of departures; the counts and the known time are the present ones. All corrections are undone, but only
    those that changed an hour in `within` are yielded.
    """
    hours = tuple(dict(zip(within, each.list_units(within.start, within.stop, unit), strict=True)) for each in counts)
    touched = within.start * unit // HOUR_S, -(-within.stop * unit // HOUR_S)
    known_times = list(known)
    both = sorted(((each, part) for part in (0, 1) for each in corrections[part]), key=_get_number, reverse=True)
    for correction, part in both:
        is_wanted = correction.touches(*touched)
        changes, own_open, other_open = map(dict, correction.select_units(unit))
        own, other = hours[part], hours[1 - part]
        if is_wanted:
            after = _replace_open(own, own_open, correction.watermark_after, unit)
            others = _replace_open(other, other_open, correction.other_watermark, unit)
            watermark = correction.watermark_after
            yield _build_counts(part, watermark, correction.other_watermark, after, others, known_times)
        for hour, change in changes.items():
            if hour in own:
                own[hour] -= change
        known_times[part] = _restore_gaps(known_times[part], correction)
        if is_wanted:
            before = dict(after)
            for hour, change in changes.items():
                if hour in before:
                    before[hour] -= change
            watermark = correction.watermark_before
            yield _build_counts(part, watermark, correction.other_watermark, before, others, known_times)


def _get_number(numbered: tuple[Correction, int]) -> int:
    """Return the number of a correction, as a sort key; `numbered`: the correction and its direction's place."""
    return numbered[0].number


def _restore_gaps(known: KnownTime, correction: Correction) -> KnownTime:
    """Return the start of coverage and the gaps of a direction as they were before a correction.

    Gaps that the correction filled are gaps again. `known`: the same after the correction.
    """
    if not correction.filled or known.covered_from is None:
        return known
    covered_from = max(known.covered_from, correction.covered_from_before or known.covered_from)
    # Gaps after the end of coverage were declared later, and are no part of those that were filled.
    declared = clip_intervals(known.gaps, covered_from, correction.watermark_before)
    filled = clip_intervals(correction.filled, covered_from, correction.watermark_before)
    return KnownTime(covered_from, merge_intervals([*declared, *filled]))


def _replace_open(
    flights: Mapping[int, int], open_flights: Mapping[int, int], watermark: int | None, unit: int
) -> dict[int, int]:
    """Return `flights` with the counts of its open hours replaced by those of `open_flights`, 0 for one that it lacks.

    An hour (with `unit` QUARTER_S: a quarter) is open if `watermark` does not cover it to its end. `flights`,
    `open_flights`: by hour or quarter (since 1970); those that are in `open_flights` alone are left out.
    """
    covered_until = 0 if watermark is None else watermark // unit
    return {at: number if at < covered_until else open_flights.get(at, 0) for at, number in flights.items()}


def _build_counts(
    part: int,
    watermark: int,
    other_watermark: int | None,
    own: Mapping[int, int],
    other: Mapping[int, int],
    known: Sequence[KnownTime],
) -> CountsAtCorrection:
    """Return the counts at a correction of arrivals (`part` 0) or departures (1), in the order of the directions.

    `known`: of arrivals, then of departures.
    """
    both = known[0], known[1]
    if part == 0:
        return CountsAtCorrection((watermark, other_watermark), (own, other), both)
    return CountsAtCorrection((other_watermark, watermark), (other, own), both)
