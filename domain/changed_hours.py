"""The hours of an airport's traffic that a message changed, and the coverage before and after it."""

from typing import NamedTuple

from domain.hourly_counts import DAY_HOURS, list_changed_hours
from domain.interests import Direction
from domain.traffic import DirectionTraffic, Traffic
from domain.windows import HOUR_S


class ChangedRange(NamedTuple):
    """The range of hours in which one direction's traffic changed, and the direction's coverage before and after.

    For BOTH the range spans the changes of arrivals and of departures.
    """

    first: int
    """The first changed hour, in hours since 1970."""
    last: int
    """The last changed hour, in hours since 1970."""
    covered_until_before: int | None
    """The end of coverage of all parts before the change (seconds since 1970); None: not all parts were covered."""
    covered_until: int
    """The end of coverage of all parts after the change (seconds since 1970)."""
    last_known: int
    """The last hour in which a part is covered or has flights, in hours since 1970."""
    is_first_coverage: bool
    """True if the change is the first after which all parts are covered, so that all windows are new."""


def find_coverage_end(traffic: Traffic, direction: Direction) -> int | None:
    """Return the earliest watermark of a direction's parts (seconds since 1970); None if a part is not covered."""
    covered_until: int | None = None
    for part in traffic.select_directions(direction):
        if part.watermark is None:
            return None
        covered_until = part.watermark if covered_until is None else min(covered_until, part.watermark)
    return covered_until


def find_last_known_hour(traffic: DirectionTraffic) -> int:
    """Return the later of the hour that holds the watermark and the last hour with flights, in hours since 1970.

    Without watermark only the flights count; 0 if neither exists.
    """
    counts = traffic.counts
    covered_until = (traffic.watermark or 0) // HOUR_S
    if not counts.days:
        return covered_until
    last_day = counts.days[-1]
    last_hour = next((counts.end_hour - back for back in range(1, DAY_HOURS + 1) if last_day[-back]), 0)
    return max(covered_until, last_hour)


def find_changed_hours(old: DirectionTraffic, new: DirectionTraffic) -> tuple[int, int] | None:
    """Return the first and the last hour (since 1970) in which counts or coverage differ, or None if nothing does.

    Coverage differs from the old watermark (without one: the start of coverage) to the new one, and where it was
    filled. Days that were only discarded are no difference.
    """
    if old is new:
        return None
    hours: list[int] = []
    if old.watermark != new.watermark:
        hours += [(old.watermark or new.covered_from or 0) // HOUR_S, (new.watermark or 0) // HOUR_S]
    filled = new.list_filled(old)
    if filled:
        hours += [filled[0][0] // HOUR_S, (filled[-1][1] - 1) // HOUR_S]
    days = new.counts.find_changed_days(old.counts, new.first_retained_day)
    for day in days[:1] + days[-1:]:
        changed = list_changed_hours(old.counts.day(day), new.counts.day(day))
        hours += [day * DAY_HOURS + at for at in changed[:1] + changed[-1:]]
    return (min(hours), max(hours)) if hours else None
