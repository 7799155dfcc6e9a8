"""Corrections: records of the messages that changed what was known already, so that the past can be judged.

A count of a closed window may go up (late flights) or down (retracted flights), a gap may be filled, and what was said
may be withdrawn and come again. Between two corrections counts only grow in hours that are not covered yet, where
nothing is withdrawn, and gaps only come at the end of coverage. So the counts and gaps before and after each correction
tell all that was ever withdrawn (`domain.statements`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from domain.hourly_counts import DAY_HOURS, HourlyCounts
from domain.intervals import Intervals, clip_intervals, merge_intervals
from domain.windows import HOUR_S

_DAY_S: Final = DAY_HOURS * HOUR_S
MAX_CORRECTIONS_A_DAY: Final = 64
"""Corrections of one direction that are kept of one day; of older ones only the number is kept, by day.
The collector corrects a day once or twice; without a bound, a source that is broken would fill the state."""


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

    @property
    def day(self) -> int:
        """The last day (since 1970) that was changed: the record is kept with it."""
        last_days = [hour // DAY_HOURS for hour, _ in self.changes[-1:]]
        last_days += [(end - 1) // _DAY_S for _, end in self.filled[-1:]]
        return max(last_days)

    @property
    def days(self) -> frozenset[int]:
        """All days (since 1970) that were changed."""
        days = {hour // DAY_HOURS for hour, _ in self.changes}
        for begin, end in self.filled:
            days.update(range(begin // _DAY_S, (end - 1) // _DAY_S + 1))
        return frozenset(days)

    def touches(self, begin: int, end: int) -> bool:
        """Return True if an hour from `begin` up to, but not including, `end` (since 1970) was changed."""
        if self.filled and any(first < end * HOUR_S and last > begin * HOUR_S for first, last in self.filled):
            return True
        if not self.changes or self.changes[-1][0] < begin or self.changes[0][0] >= end:
            return False
        return any(begin <= hour < end for hour, _ in self.changes)


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
    """Flights by hour (since 1970) within the wanted hours, of arrivals and of departures."""
    known: tuple[KnownTime, KnownTime]
    """Of arrivals and of departures. Gaps after the watermark were declared later."""


def rewind(
    corrections: tuple[Sequence[Correction], Sequence[Correction]],
    counts: tuple[HourlyCounts, HourlyCounts],
    known: tuple[KnownTime, KnownTime],
    within: range,
) -> Iterator[CountsAtCorrection]:
    """Yield the counts after and before each correction, the latest first, for the hours `within` (since 1970).

    `corrections`, `counts`, `known`: of arrivals and of departures; the counts and the known time are the present ones.
    All corrections are undone, but only those that changed an hour in `within` are yielded.
    """
    hours = tuple(dict(zip(within, each.list_hours(within.start, within.stop), strict=True)) for each in counts)
    known_times = list(known)
    both = sorted(((each, part) for part in (0, 1) for each in corrections[part]), key=_get_number, reverse=True)
    for correction, part in both:
        is_wanted = correction.touches(within.start, within.stop)
        own_open, other_open = dict(correction.open_hours), dict(correction.other_open_hours)
        own, other = hours[part], hours[1 - part]
        if is_wanted:
            after = _replace_open_hours(own, own_open, correction.watermark_after)
            others = _replace_open_hours(other, other_open, correction.other_watermark)
            watermark = correction.watermark_after
            yield _build_counts(part, watermark, correction.other_watermark, after, others, known_times)
        for hour, change in correction.changes:
            if hour in own:
                own[hour] -= change
        known_times[part] = _restore_gaps(known_times[part], correction)
        if is_wanted:
            before = dict(after)
            for hour, change in correction.changes:
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


def _replace_open_hours(
    hours: Mapping[int, int], open_hours: Mapping[int, int], watermark: int | None
) -> dict[int, int]:
    """Return `hours` with the counts of its open hours replaced by those of `open_hours`, 0 for one that it lacks.

    An hour is open if `watermark` does not cover it to its end. `hours`, `open_hours`: flights by hour (since 1970);
    hours that are in `open_hours` alone are left out.
    """
    covered_until = 0 if watermark is None else watermark // HOUR_S
    return {hour: flights if hour < covered_until else open_hours.get(hour, 0) for hour, flights in hours.items()}


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
