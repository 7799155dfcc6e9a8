"""Rules for the intervals to collect: begin, end, split by days, corrections. Pure: no clock, no database."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from domain.interests import Direction
from domain.windows import Window

DAY: Final = timedelta(days=1)

FARTHEST_BACK: Final = 30 * DAY
"""Maximum age of the begin of an airport's first collection."""

CORRECTION_EXPIRES_AFTER: Final = 7 * DAY
"""Time after which a correction that was due, but that the credits did not allow, is dropped as useless."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open interval [begin, end) of one airport and direction, within one UTC day and in whole seconds."""

    airport: str
    direction: Direction
    begin: datetime
    end: datetime


def day_of(instant: datetime) -> datetime:
    """Return the UTC midnight at which the instant's day begins."""
    return Window.ONE_DAY.start_of(instant)


def compute_available_until(next_begin: datetime, is_recorded: Callable[[datetime], bool]) -> datetime:
    """Return the end (UTC midnight) of the recorded days from `next_begin` on that follow each other without a hole.

    `is_recorded`: True for the midnight of a day whose record at the source is proven to be whole. Returns `next_begin`
    if its own day is not recorded.
    """
    end, day = next_begin, day_of(next_begin)
    while is_recorded(day):
        end = day = day + DAY
    return end


def skip_missing_days(next_begin: datetime, is_missing: Callable[[datetime], bool]) -> datetime:
    """Return the first instant from `next_begin` on whose day is not given up.

    `is_missing`: True for the midnight of a day whose record is given up. The days that are skipped become a gap.
    """
    while is_missing(day_of(next_begin)):
        next_begin = day_of(next_begin) + DAY
    return next_begin


def compute_first_begin(effective_from: datetime, now: datetime) -> datetime:
    """Return the UTC midnight at which the first collection of an airport begins.

    The day of `effective_from` (the earliest of its interests), or yesterday if that is earlier; not before the day
    FARTHEST_BACK ago.
    """
    return max(min(day_of(effective_from), day_of(now) - DAY), day_of(now - FARTHEST_BACK))


def find_common_begin(wishes: Iterable[tuple[datetime, datetime]], now: datetime) -> datetime:
    """Return the UTC midnight at which the first collection begins of an airport that several people want.

    `wishes`: for each person, the earliest `effective_from` of their interests, and when the first of these was set.
    What lies more than a day before that is a wish for history. Nobody waits for somebody else's history: it begins
    with the latest of the people's begins. But no day is left out that someone has wanted without such a wish: so it
    begins with the earliest of these days, if that is earlier. Raises ValueError without wishes.
    """
    begins = [(compute_first_begin(effective_from, now), day_of(set_at) - DAY) for effective_from, set_at in wishes]
    return min(max(begin for begin, _ in begins), min(max(pair) for pair in begins))


def split_by_days(airport: str, direction: Direction, begin: datetime, end: datetime) -> Iterator[Interval]:
    """Yield [begin, end) split at UTC midnights, oldest first, because the source answers and charges by the day.

    Yields nothing if `begin` is not before `end`.
    """
    while begin < end:
        cut = min(day_of(begin) + DAY, end)
        yield Interval(airport, direction, begin, cut)
        begin = cut


def compute_next_begin(covered_until: datetime | None, effective_from: datetime, now: datetime) -> datetime:
    """Return the begin of the next collection: the cursor, or the begin of a first collection if that is later.

    `covered_until`: the cursor, or None if nothing is collected yet. A range between the cursor and the result is a
    gap: no interest needs it, or it is too old, and the source charges for every day.
    """
    begin = compute_first_begin(effective_from, now)
    return begin if covered_until is None else max(covered_until, begin)


def find_due_correction(
    corrected_until: datetime, covered_until: datetime, now: datetime, after: timedelta
) -> tuple[datetime, datetime] | None:
    """Return the oldest (begin, end) within one UTC day to collect a second time, or None if no correction is due.

    It begins at `corrected_until` and ends at the next midnight, and is due once that day is covered to its end and
    ended at least `after` ago. Days whose correction was due for more than CORRECTION_EXPIRES_AFTER are skipped. With
    `after` 0 no correction is ever due.
    """
    begin = max(corrected_until, day_of(now - after - CORRECTION_EXPIRES_AFTER))
    end = day_of(begin) + DAY
    return (begin, end) if after and end <= covered_until and end + after <= now else None


def advance_corrected_until(
    corrected_until: datetime, begin: datetime, end: datetime, now: datetime, after: timedelta
) -> datetime:
    """Return the new value of `corrected_until` after [begin, end), within one day, was collected.

    It is `end` if the interval's day ended at least `after` before `now`: late flights are in the answer then, and no
    correction is needed. It stays the same otherwise, if an earlier interval still needs a correction, or with `after`
    0.
    """
    late_enough = after and day_of(begin) + DAY + after <= now
    return end if corrected_until >= begin and late_enough else corrected_until
