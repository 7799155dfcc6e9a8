"""The planner of history: which days before an airport's coverage are asked for, for interests in percent. Pure.

What is usual in a window follows from the same window of the five weeks before. An airport that nobody watched has no
such weeks, so the collector asks for them, newest first, with the credits that are left when all that is due is paid.
The rules, and why they are these, are in docs/adr/0051-history-for-what-is-usual.md.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from collector.intervals import DAY, Interval, day_of
from collector.settled.evidence import FEWEST_FLIGHTS, LAST_HOURS, NightlyRecord
from collector.settled.planner import OLD_PRICE, CollectionTarget, compute_reserve
from collector.settled.shares import ROUND, Bill, Payments, WaitingCalls, order_fairly
from domain.calendar import WEEKS_BACK, find_calendar
from domain.interests import Direction
from domain.windows import instant, seconds

MORNING: Final = timedelta(hours=12)
"""Time of day (UTC) until which history waits for last night's record, as corrections do."""
_DAYS_A_CALL: Final = 2
"""UTC days that one API call of an old interval may touch; two cost as much as one."""
_FEW_ATTEMPTS: Final = 3
"""Attempts to prove a day from which on the pause between them is longer."""
_FIRST_PAUSE: Final = timedelta(hours=6)
"""The pause after each of the first attempts to prove a day."""
_PAUSE: Final = DAY
"""The pause after each later attempt."""


@dataclass(frozen=True, slots=True)
class HistoryTarget:
    """An airport and direction with an interest in percent, and the days before its coverage to ask for."""

    airport: str
    direction: Direction
    people: Mapping[UUID, datetime]
    """The people with such an interest, each with the time at which the first of theirs was set; never empty."""
    polled_at: datetime | None
    """Time of the last API call for what is due here. None: never polled."""
    covered_until: datetime
    """The end of the coverage."""
    covered: frozenset[datetime]
    """The days (UTC midnights) before the end of the coverage that are covered, as far back as they are needed."""
    wanted: tuple[datetime, ...]
    """The days (UTC midnights) to ask for, newest first."""
    unproven: frozenset[datetime]
    """Those of which nothing proves yet that the source has recorded them."""

    def list_intervals(self) -> Iterator[Interval]:
        """Yield the intervals to ask for, newest first: two days that follow each other, or one."""
        days = list(self.wanted)
        while days:
            end = days[0] + DAY
            taken = 1
            while taken < min(_DAYS_A_CALL, len(days)) and days[taken] == days[taken - 1] - DAY:
                taken += 1
            yield Interval(self.airport, self.direction, days[taken - 1], end)
            days = days[taken:]


@dataclass(frozen=True, slots=True)
class HistoryCall:
    """One API call for history: the flights of one day or two, and the conditions under which it is made."""

    interval: Interval
    unproven: tuple[datetime, ...]
    """The days of the interval that its own answer, or another airport's, must prove; newest first."""
    bill: Bill
    reserved_credits: int = 0
    """Credits that must be left after this call."""
    ahead_credits: int = 0
    """Credits for which the allowance of now must be enough, too: of calls that are due, and of a proof."""


def find_first_wanted(airport: str, covered_until: datetime) -> datetime:
    """Return the UTC midnight of the earliest day from which the next uncovered windows may have base windows.

    That is 35 days before, or 36 if clocks were set since so that a local time lies on the day before.
    """
    starts = (covered_until, covered_until + DAY - timedelta(hours=1))
    calendar = find_calendar(airport)
    bases = [calendar.find_same_times(seconds(start))[-1] for start in starts]
    earliest = min([instant(each) for each in bases if each is not None], default=covered_until)
    return day_of(min(earliest, covered_until - WEEKS_BACK * 7 * DAY))


def list_wanted_days(
    begin: datetime, covered_from: datetime, known: Mapping[datetime, bool], must_wait: Callable[[datetime], bool]
) -> Iterator[datetime]:
    """Yield the days (UTC midnights) from `begin` on to ask for, newest first: those that begin before the coverage.

    `known`: the days that need not be asked for. `must_wait`: True for a day that is not asked for now.
    """
    day = day_of(covered_from)
    if day == covered_from:
        day -= DAY
    while day >= begin:
        if day not in known and not must_wait(day):
            yield day
        day -= DAY


def must_wait_for_proof(record: NightlyRecord, now: datetime) -> bool:
    """Return True if a day's record is given up, or an attempt to prove it failed lately; False if one may be made.

    A record that is proven to be whole never waits.
    """
    if record.whole_since is not None:
        return False
    if record.is_given_up(now):
        return True
    pause = _FIRST_PAUSE if record.attempts < _FEW_ATTEMPTS else _PAUSE
    return record.asked_at is not None and record.there_since is None and now < record.asked_at + pause


def is_proven_by(times: Iterable[datetime], day: datetime) -> bool:
    """Return True if these event times, of one answer, show that the source has recorded the end of a day.

    As evidence of a night's record, that takes FEWEST_FLIGHTS in the day's last hours. The day lies before one whose
    record is proven, so the record of the day has been made at least a day ago: it is not asked for a second time.
    """
    return sum(day + DAY - LAST_HOURS <= each < day + DAY for each in times) >= FEWEST_FLIGHTS


def list_history_calls(
    history: Sequence[HistoryTarget], targets: Sequence[CollectionTarget], payments: Payments, now: datetime
) -> list[HistoryCall]:
    """Return the API calls for history that may be made now, in the order that gives each person the same share.

    `targets`: all that is collected. They come after everything that is due for anybody: the credits of now must be
    enough for one more call of each target that has calls due. Until noon (UTC) there are none while a target waits for
    last night's record; after noon the credits for that record are left.
    """
    reserve = compute_reserve(targets, now)
    if reserve and now - day_of(now) < MORNING:
        return []
    due = sum(target.available_until > target.next_begin or target.correction is not None for target in targets)
    return [
        replace(call, reserved_credits=reserve, ahead_credits=OLD_PRICE * (due + bool(call.unproven)))
        for call in order_history(history, payments)
    ]


def order_history(history: Sequence[HistoryTarget], payments: Payments) -> Iterator[HistoryCall]:
    """Yield all API calls for history in the fair order, without conditions; it is computed as far as it is read."""
    waiting: list[WaitingCalls] = []
    intervals: list[list[tuple[Interval, tuple[datetime, ...]]]] = []
    for target in sorted(history, key=lambda each: (each.airport, each.direction)):
        found = list(target.list_intervals())
        if found:
            order = (-found[0].end.timestamp(), float(len(waiting)))
            waiting.append(WaitingCalls([OLD_PRICE] * len(found), target.people, target.polled_at, order))
            intervals.append([(interval, _list_unproven(target, interval)) for interval in found])
    for turn in order_fairly(waiting, payments):
        interval, unproven = intervals[turn.calls][turn.number]
        yield HistoryCall(interval, unproven, Bill(tuple(waiting[turn.calls].people), turn.payer, turn.round * ROUND))


def _list_unproven(target: HistoryTarget, interval: Interval) -> tuple[datetime, ...]:
    """Return the unproven days of an interval, newest first."""
    return tuple(day for day in target.wanted if interval.begin <= day < interval.end and day in target.unproven)
