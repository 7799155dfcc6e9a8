"""The forecast of learning: from when on windows will be judged by percent of what is usual. Pure.

An interest in percent *learns* while the windows to come have no usual count yet. The forecast follows the planner's
own order, and assumes that the same history is wanted later as now. Where a step may cost one call or two, it assumes
two: so the days are there at the time that it says, or earlier.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from collector.intervals import DAY, Interval, day_of
from collector.settled.history import MORNING, HistoryTarget, order_history
from collector.settled.learning_windows import KnownDays, KnownTimes, find_first_judged
from collector.settled.planner import (
    OLD_PRICE,
    RECENT_PRICE,
    CollectionTarget,
    QuotaBalance,
    compute_reserve,
    count_due_calls,
)
from collector.settled.shares import Payments
from domain.calendar import find_calendar
from domain.grids import Grid
from domain.interests import Direction, Interest
from domain.rule import find_interest_grid
from domain.windows import HOUR_S, instant, seconds

_FARTHEST: Final = 60 * DAY
"""How far ahead the forecast goes. Three weeks of coverage give a usual; after a change of clocks it takes more."""
_ALMOST_A_SECOND: Final = timedelta(microseconds=999_999)
"""Added to an instant, so that `seconds` rounds it up."""
_DAY_S: Final = 24 * HOUR_S
_EVIDENCE_PRICE: Final = 20 * RECENT_PRICE
"""Credits of a day for the evidence of the night's record, with a repetition or two of each call."""

Key = tuple[str, Direction]
"""An airport and a direction, never both."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The credits of today, and what each later day costs before anything is left for history."""

    balance: QuotaBalance
    payments: Payments
    ordinary_price: int
    """Credits of a whole day for what is due."""
    poll_interval: timedelta


@dataclass(frozen=True, slots=True)
class Forecast:
    """When each day of history that is wanted will be there, by airport and direction."""

    history: Mapping[Key, HistoryTarget]
    expected: Mapping[Key, Mapping[datetime, datetime]]
    """By day; a day that the credits do not allow within _FARTHEST is left out."""
    live_until: Mapping[Key, datetime]
    """The end of the live coverage of those that are covered live now."""
    at: datetime
    """The time of the forecast."""

    def find_learning_end(self, interest: Interest) -> datetime | None:
        """Return the start of the first window from which on an interest in percent is judged; None if it is already.

        None, too, for an interest without percents, for one whose history is not in the forecast, and for one that
        takes effect at that window's start or later. If no window within 60 days will be judged, the first one after.
        """
        if interest.high_percent is None and interest.low_percent is None:
            return None
        start = self.find_first_judged(interest.airport, interest.direction, find_interest_grid(interest))
        return start if start is not None and start > interest.effective_from else None

    def find_first_judged(self, airport: str, direction: Direction, grid: Grid) -> datetime | None:
        """Return the start of the first window of a grid from which on all windows of a day will have a usual.

        None if those to come have one already, and if the history is not in the forecast. If there is none within 60
        days, the first window after. A window that has fewer than three base windows because of a change of clocks is
        ignored: it will never have a usual.
        """
        keys = [(airport, part) for part in direction.parts]
        if any(key not in self.history for key in keys):
            return None
        calendar = find_calendar(airport)
        reached = min(self._find_reached(key) for key in keys)
        first = grid.find_number(seconds(reached)) + 1  # a window that starts at `reached` is reached
        present = KnownTimes([self._find_known_days(key) for key in keys])
        if find_first_judged(calendar, grid, range(first, first + 1), present) == first:
            return None
        stop = grid.find_first_from(seconds(reached + _FARTHEST + _ALMOST_A_SECOND))
        times = KnownTimes([replace(self._find_known_days(key), expected=self._list_known_times(key)) for key in keys])
        return instant(grid.find_begin(find_first_judged(calendar, grid, range(first, stop), times)))

    def _find_known_days(self, key: Key) -> KnownDays:
        """Return the days of an airport and direction that are known at present, or will be by the coverage alone."""
        until = seconds(self._find_reached(key) + _ALMOST_A_SECOND)
        return KnownDays(frozenset(seconds(day) // _DAY_S for day in self.history[key].covered), -(-until // _DAY_S))

    def _list_known_times(self, key: Key) -> dict[int, int]:
        """Return from which begin (seconds since 1970) on windows find each day of history known when they are reached.

        A window is reached with the coverage up to its start. The record of a day comes after its end, live at once.
        """
        expected = self.expected[key].items()
        if key in self.live_until:
            return {seconds(day) // _DAY_S: seconds(at + _ALMOST_A_SECOND) for day, at in expected}
        return {
            seconds(day) // _DAY_S: (-(-seconds(at + _ALMOST_A_SECOND) // _DAY_S) - 1) * _DAY_S + 1
            for day, at in expected
        }

    def _find_reached(self, key: Key) -> datetime:
        """Return the end of the coverage of an airport and direction, live or settled."""
        target = self.history[key]
        return max(target.covered_until, self.live_until.get(key, target.covered_until))


def expect_history(
    wanted: Collection[Key],
    history: Sequence[HistoryTarget],
    targets: Sequence[CollectionTarget],
    budget: Budget,
    live_until: Mapping[Key, datetime],
    now: datetime,
) -> Forecast:
    """Return the forecast of when the days of history of some airports and directions will be collected.

    `history`: all that is wanted by anybody, in whose fair order the credits are spent; `targets`: all that is
    collected, which comes first.
    """
    days_left = {
        (target.airport, target.direction): len(target.wanted)
        for target in history
        if (target.airport, target.direction) in wanted
    }
    expected: dict[Key, dict[datetime, datetime]] = {key: {} for key in wanted}
    times, at = _SpendingTimes(budget, targets, now), now
    # Each poll plans anew, which may put a call behind those of all other targets: it gets the last one's time.
    pending: deque[Interval] = deque()

    def settle_first() -> None:
        """Take the days of the first pending call as collected at the time of the newest one."""
        interval = pending.popleft()
        key = interval.airport, interval.direction
        for day in _list_days(interval.begin, interval.end) if key in days_left else ():
            expected[key][day] = at + budget.poll_interval
            days_left[key] -= 1

    for call in order_history(history, budget.payments):
        if not any(days_left.values()):
            break
        # Another airport may have to prove what this answer does not.
        spent_at = times.spend(OLD_PRICE * (2 if call.unproven else 1))
        if spent_at is None:
            pending.clear()
            break
        at = spent_at
        pending.append(call.interval)
        if len(pending) == len(history):
            settle_first()
    while pending:
        settle_first()
    found = {(target.airport, target.direction): target for target in history}
    return Forecast({key: found[key] for key in wanted if key in found}, expected, live_until, now)


class _SpendingTimes:
    """The times at which the credits allow one call after another, when all that is due is paid first."""

    def __init__(self, budget: Budget, targets: Sequence[CollectionTarget], now: datetime) -> None:
        """Begin at `now`, with the credits of today that are spent or that calls which are due will cost."""
        self._budget = budget
        reserve, balance = compute_reserve(targets, now), budget.balance
        # What else is due today is not known yet: it is taken to cost what that costs on any day.
        self._spent = max(balance.spent + OLD_PRICE * count_due_calls(targets) + reserve, budget.ordinary_price)
        self._at = now
        if balance.paused_until is not None and balance.is_paused(now):
            self._at = balance.paused_until
        if reserve:
            self._at = max(self._at, day_of(now) + MORNING)
        self._end = now + _FARTHEST

    def spend(self, price: int) -> datetime | None:
        """Return the time at which `price` more credits may be spent, and count them; None if not within 60 days."""
        per_day = self._budget.balance.budget
        while self._at < self._end:
            balance = QuotaBalance(per_day, self._spent)
            if self._spent + price <= per_day:
                self._at = balance.compute_spending_time(price, self._at)
                self._spent += price
                return self._at
            self._spent = self._budget.ordinary_price + max(self._spent - per_day, 0)
            self._at = day_of(self._at) + DAY + MORNING
        return None


def compute_ordinary_price(targets: Sequence[CollectionTarget], *, are_corrected: bool, live_credits: int) -> int:
    """Return the credits of a whole day for what is due: each target's day, its correction, and the evidence."""
    calls = len(targets) * (2 if are_corrected else 1)
    return calls * OLD_PRICE + _EVIDENCE_PRICE + live_credits


@dataclass(frozen=True, slots=True)
class LearningEnds:
    """The times from which interests in percent will be judged, with the state of the source at the forecast."""

    by_interest: Mapping[UUID, datetime]
    """By the id of an interest that is not judged yet."""
    failed_at: datetime | None = None
    """Time of the source's last call, if it failed: the forecast takes it to answer from now on. None: it answers."""

    def get(self, interest_id: UUID) -> datetime | None:
        """Return the instant from which an interest will be judged by percent; None if it is, or has no percents."""
        return self.by_interest.get(interest_id)


def explain_learning(airport: str, learning_until: datetime, failed_at: datetime | None = None) -> str:
    """Return in some sentences from when on windows are judged by percent at the earliest, and what that depends on.

    `failed_at`: time of the source's last call, if it failed.
    """
    failure = ""
    if failed_at is not None:
        failure = f" The source did not answer at {failed_at:%-d %b %H:%M} UTC; while it does not, that moves on."
    return (
        f"What is usual at {airport} is not known yet: judged by percent are, at the earliest, windows that start at "
        f"{learning_until:%-d %b %H:%M} UTC or later.{failure} A day that the source does not give moves it on. "
        "It takes three earlier weeks, which are collected as long as the source answers and its credits allow. "
        "Airports that are added later, by you or by others, have a share of the credits, and may make it later. "
        "What happens in a window is known after it: live within minutes, else in the night's record of the day after."
    )


def _list_days(begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the UTC midnights from `begin` to before `end`."""
    while begin < end:
        yield begin
        begin += DAY
