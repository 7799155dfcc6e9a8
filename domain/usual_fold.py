"""The fold of an airport's traffic that also fixes what is usual: the usual of a window, once, when it is reached.

A window is reached by the first message after which the coverage of all its directions' parts reaches its start. Its
usual is then fixed from the counts after that message, whether anybody has an interest or not: the median of the base
windows that are known then, if three are; else it has no usual, for good. Corrections of past weeks do not change it.
So the usual is a function of the log, and no window is judged by percents before it is reached.

To keep the cost of a message small, a whole UTC day is computed when its first window is reached: all windows that
begin on it, by UTC and by the airport's clock. Each correction computes the day's windows that are not reached yet
again, so that their usual is right when they are reached.
"""

from collections.abc import Sequence
from operator import add
from typing import Final

from domain.calendar import REGULAR, WEEK_HOURS, WEEKS_BACK, Calendar, LocalPlan, Plan
from domain.grids import Grid
from domain.hourly_counts import DAY_HOURS, Day
from domain.interests import Direction
from domain.traffic import DirectionTraffic, Observation, Traffic, find_oldest_coverage
from domain.usual import (
    EMPTY_USUAL_DAY,
    FEWEST_BASE_WINDOWS,
    Usual,
    UsualDay,
    compute_doubled_median,
    copy_local_windows,
    copy_windows,
    pack_doubled_usual,
    pack_local_usual,
    write_doubled_usual,
)
from domain.windows import HOUR_S, Window

_DAY_S: Final = DAY_HOURS * HOUR_S
_LONGER_WINDOWS: Final = (Window.SIX_HOURS, Window.ONE_DAY)
_MIDDLE: Final = WEEKS_BACK // 2
_BASE_DAYS: Final = tuple(7 * weeks for weeks in range(WEEKS_BACK, 0, -1))
"""Days from a regular day back to each of its base days, the earliest one first."""
_EARLIEST_HOURS: Final = FEWEST_BASE_WINDOWS * WEEK_HOURS - 2 * DAY_HOURS
"""Hours after the start of coverage before which no window has three base windows. Clocks move by a day at most."""

_Parts = tuple[tuple[DirectionTraffic, DirectionTraffic], ...]
"""The traffic of each part of a direction after a message and before it: days that the message made too old to be
retained are still known from before, so that a message of a week has the same base windows as one of each day."""


def fold_with_usual(traffic: Traffic, observation: Observation, calendar: Calendar) -> Traffic:
    """Return the traffic after an observation as `Traffic.fold` does, with the usual of all windows that it reaches.

    `calendar`: the airport's. Raises ValueError if the observation's direction is BOTH.
    """
    after = traffic.fold(observation, calendar.splits_hours)
    is_arrivals = observation.direction is Direction.ARRIVALS
    if is_arrivals:
        old, new, other = traffic.arrivals, after.arrivals, after.departures
    else:
        old, new, other = traffic.departures, after.departures, after.arrivals
    reached_before, reached = old.watermark, new.watermark
    if reached is None:
        return after
    # Whatever changes a count or a gap of a past week is a correction, or is of the history.
    has_correction = new.corrections is not old.corrections or new.history is not old.history
    has_correction = has_correction or (bool(new.history) and observation.may_correct(reached_before))
    if not has_correction and reached_before is not None and reached_before // _DAY_S == reached // _DAY_S:
        return after  # the day is computed already
    usual = after.usual
    own = _compute_days(
        usual.arrivals if is_arrivals else usual.departures,
        ((new, old),),
        reached_before,
        reached,
        has_correction,
        calendar,
    )
    both = usual.both
    if other.watermark is not None:
        before = None if reached_before is None else min(reached_before, other.watermark)
        reached = min(reached, other.watermark)
        both = _compute_days(both, ((new, old), (other, other)), before, reached, has_correction, calendar)
    own, both = _drop_days(own, new), _drop_days(both, after.departures)
    return after.with_usual(Usual(own, usual.departures, both) if is_arrivals else Usual(usual.arrivals, own, both))


def _compute_days(
    days: dict[int, UsualDay],
    parts: _Parts,
    reached_before: int | None,
    reached: int,
    has_correction: bool,
    calendar: Calendar,
) -> dict[int, UsualDay]:
    """Return the days of one direction (since 1970, in order) up to the one that is reached now.

    Days that are missing are computed. After a correction the windows of the last day that were not reached before are
    computed again. `reached_before`: the end of the coverage of all parts before the message (None: not all were
    covered); `reached`: the same after it (both seconds since 1970). Days that are too early to have a usual are left
    out. Returns `days` itself if there is nothing to compute.
    """
    earliest = (max([_find_known_from(*part) for part in parts]) // HOUR_S + _EARLIEST_HOURS) * HOUR_S
    since = earliest if reached_before is None else max(reached_before + 1, earliest)
    computed: dict[int, UsualDay] = {}
    for day in range(since // _DAY_S, reached // _DAY_S + 1):
        known = days.get(day)
        if known is not None and not has_correction:
            continue
        computed[day] = _compute_day(parts, day, since, calendar, known or EMPTY_USUAL_DAY)
    if not computed:
        return days
    return {**days, **{day: packed for day, packed in computed.items() if packed != days.get(day)}}


def _drop_days(days: dict[int, UsualDay], part: DirectionTraffic) -> dict[int, UsualDay]:
    """Return the days that are still retained in the traffic `part`.

    For the days of both directions, `part` is that of the departures. Returns `days` itself if all are retained.
    """
    oldest = find_oldest_coverage(part.watermark or 0) // _DAY_S
    if min(days, default=oldest) >= oldest:
        return days
    return {day: packed for day, packed in days.items() if day >= oldest}


def _find_known_from(after: DirectionTraffic, before: DirectionTraffic) -> int:
    """Return the earliest time (seconds since 1970) from which one direction is known, after or before a message."""
    known_before = before.known_from
    if known_before is None or (after.known_from or 0) <= known_before:
        return after.known_from or 0
    return known_before


def _compute_day(parts: _Parts, day: int, since: int, calendar: Calendar, known: UsualDay) -> UsualDay:
    """Return the usual counts of a UTC day, with those of the windows from `since` on computed from what is known now.

    Earlier windows stay as they are in `known`. `since`: seconds since 1970.
    """
    plan, local_plan = calendar.plan_day(day), calendar.plan_local_day(day)
    weeks = None
    if plan is REGULAR or local_plan.is_regular:
        weeks = _list_known_base_weeks(parts, day)
    begin = min(max(-(-since // HOUR_S) - day * DAY_HOURS, 0), DAY_HOURS)
    if plan is REGULAR and weeks is not None:
        packed = copy_windows(known, _compute_regular_day(weeks), begin)
    else:
        packed = _compute_irregular_day(parts, day, begin, plan, known)
    kept = copy_local_windows(known, day, since)
    later_weeks = _list_known_base_weeks(parts, day + 1) if weeks is not None and local_plan.is_regular else None
    if weeks is not None and later_weeks is not None:
        both = [[*hours, *later] for hours, later in zip(weeks, later_weeks, strict=True)]
        return packed + kept + _compute_regular_local_windows(both, day, since, local_plan)
    return packed + kept + _compute_local_windows(parts, since, local_plan)


def _compute_irregular_day(parts: _Parts, day: int, begin: int, plan: Plan, known: UsualDay) -> UsualDay:
    """Return the usual counts of a UTC day, with those of the windows by UTC from hour `begin` on computed one by one.

    Earlier windows stay as they are in `known`. `plan`: the base hours of the day.
    """
    packed = bytearray(copy_windows(known, EMPTY_USUAL_DAY, begin))
    for hour in range(day * DAY_HOURS + begin, (day + 1) * DAY_HOURS):
        bases = [_find_base_hour(plan, weeks, hour) for weeks in range(1, WEEKS_BACK + 1)]
        _fix_window(packed, parts, Window.ONE_HOUR, hour, bases)
        for window in _LONGER_WINDOWS:
            if hour % window.hours == 0:
                _fix_window(packed, parts, window, hour // window.hours, bases)
    return bytes(packed)


def _compute_local_windows(parts: _Parts, since: int, plan: LocalPlan) -> bytes:
    """Return what is usual in the local windows of a plan that begin from `since` on (seconds since 1970), packed."""
    packed = b""
    for begin, window, bases in plan.starts:
        if begin < since:
            continue
        counts = [flights for base in bases if (flights := _count_known(parts, base)) is not None]
        if len(counts) >= FEWEST_BASE_WINDOWS:
            packed += pack_local_usual(window, begin, compute_doubled_median(counts))
    return packed


def _compute_regular_local_windows(weeks: Sequence[Sequence[int]], day: int, since: int, plan: LocalPlan) -> bytes:
    """Return, faster, what `_compute_local_windows` returns for a regular plan whose base windows are all known.

    `weeks`: the counts of the 48 hours from the begin of each base day on; `day`: the plan's, since 1970.
    """
    packed = b""
    for begin, window, _ in plan.starts:
        if begin >= since:
            hour = begin // HOUR_S - day * DAY_HOURS
            end = hour + window.hours
            packed += pack_local_usual(window, begin, 2 * sorted([sum(hours[hour:end]) for hours in weeks])[_MIDDLE])
    return packed


def _count_known(parts: _Parts, base: tuple[int, int] | None) -> int | None:
    """Return the flights of all parts in a base window [begin, end), in seconds since 1970.

    None if there is no such window, or not all its flights are known: a part is not covered from its begin to its end
    without a gap, or the window begins or ends within an hour whose flights are only known together.
    """
    if base is None:
        return None
    flights = 0
    for after, before in parts:
        part = _select_retained(after, before, base[0])
        counted = part.counts.count_between(*base) if part.is_known(*base) else None
        if counted is None:
            return None
        flights += counted
    return flights


def _compute_regular_day(weeks: Sequence[Day]) -> UsualDay:
    """Return what is usual in all windows by UTC of a day whose base days are all known.

    `weeks`: the hourly counts of the WEEKS_BACK base days.
    """
    columns = [*zip(*weeks, strict=True)]
    quarters = [[sum(counts[at : at + 6]) for counts in weeks] for at in (0, 6, 12, 18)]
    doubled = [2 * sorted(column)[_MIDDLE] for column in columns]
    doubled += [2 * sorted(quarter)[_MIDDLE] for quarter in quarters]
    doubled.append(2 * sorted(map(sum, weeks))[_MIDDLE])
    return pack_doubled_usual(doubled)


def _list_known_base_weeks(parts: _Parts, day: int) -> Sequence[Day] | None:
    """Return the hourly counts of all parts together on the same UTC day of each week before, the earliest first.

    None if not all of these days are known of all parts.
    """
    base_days = _list_known_base_days(parts, day)
    if base_days is None or len(base_days) == WEEKS_BACK:
        return base_days
    return [tuple(map(add, *both)) for both in zip(base_days[:WEEKS_BACK], base_days[WEEKS_BACK:], strict=True)]


def _list_known_base_days(parts: _Parts, day: int) -> tuple[Day, ...] | None:
    """Return for each part in turn the hourly counts of the same UTC day of each week before.

    None if not all of these days are known of all parts.
    """
    begin, end = (day - _BASE_DAYS[0]) * _DAY_S, (day - 6) * _DAY_S
    found: tuple[Day, ...] = ()
    for after, before in parts:
        counts = after.counts
        at = day - _BASE_DAYS[0] - counts.first_day
        if at >= 0 and not after.gaps and (after.covered_from or 0) <= begin and (after.watermark or 0) >= end:
            counted = counts.days[at : at + 29 : 7]
            if len(counted) == WEEKS_BACK:
                found += counted
                continue
        retained = [_select_retained(after, before, (day - back) * _DAY_S) for back in _BASE_DAYS]
        for part, back in zip(retained, _BASE_DAYS, strict=True):
            if not part.is_known((day - back) * _DAY_S, (day - back + 1) * _DAY_S):
                return None
        found += tuple([part.counts.day(day - back) for part, back in zip(retained, _BASE_DAYS, strict=True)])
    return found


def _select_retained(after: DirectionTraffic, before: DirectionTraffic, begin: int) -> DirectionTraffic:
    """Return the traffic of one direction that still retains a time `begin` (seconds since 1970).

    That is the traffic after the message, if it knows flights from there on, else the traffic before it.
    """
    known_from = after.known_from
    return after if known_from is not None and known_from <= begin else before


def _find_base_hour(plan: Plan, weeks: int, hour: int) -> int | None:
    """Return the hour (since 1970) with the same local time some weeks before `hour`; None if there is none."""
    hours = plan[weeks - 1]
    return hour - weeks * WEEK_HOURS if hours is None else hours[hour % DAY_HOURS]


def _fix_window(packed: bytearray, parts: _Parts, window: Window, number: int, bases: list[int | None]) -> None:
    """Write the usual of window `number` into the day `packed`: the median of its base windows, if three are known.

    `bases`: the hours (since 1970) at which they start, None where there is none. An hour at which no window of this
    length starts has no base window.
    """
    counts = _list_known_counts(parts, window.hours, bases)
    if len(counts) >= FEWEST_BASE_WINDOWS:
        write_doubled_usual(packed, window, number, compute_doubled_median(counts))


def _list_known_counts(parts: _Parts, hours: int, bases: Sequence[int | None]) -> list[int]:
    """Return the flights of all parts in each of the base windows (`hours` long) that is known, in their order.

    Known is a base window that starts at an hour where windows of this length do, and whose flights are known of all
    parts: covered from its start to its end, without a gap, or as history. `bases`: the hours (since 1970) at which
    they start, None where there is none.
    """
    found: list[int] = []
    for base in bases:
        if base is None or base % hours:
            continue
        begin, end = base * HOUR_S, (base + hours) * HOUR_S
        retained = [_select_retained(after, before, begin) for after, before in parts]
        if all(part.is_known(begin, end) for part in retained):
            found.append(sum(part.counts.total(base, hours) for part in retained))
    return found


def find_base_windows(
    traffic: Traffic, calendar: Calendar, direction: Direction, grid: Grid, number: int
) -> list[tuple[int, int]]:
    """Return the base windows of window `number` as far as they are known now: start and flights, the latest first.

    Starts are seconds since 1970. Three at least make a usual, the median of their flights.
    """
    parts = tuple((part, part) for part in traffic.select_directions(direction))
    return [
        (base[0], flights)
        for base in calendar.list_base_windows(grid, number)
        if base is not None and (flights := _count_known(parts, base)) is not None
    ]


def list_base_counts(
    traffic: Traffic, calendar: Calendar, direction: Direction, grid: Grid, number: int
) -> tuple[int, ...]:
    """Return the counts of the base windows of window `number` as far as they are known now, the latest week first.

    They are for a person to read beside the usual: a correction of a past week may have changed them since it was
    fixed, and weeks that are no longer retained are left out.
    """
    return tuple(flights for _, flights in find_base_windows(traffic, calendar, direction, grid, number))
