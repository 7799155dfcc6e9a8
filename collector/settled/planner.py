"""The credit planner: order the API calls that are due, and decide which of them the day's credits allow. Pure.

Prices of API calls: "API credit usage" of OpenSky's REST documentation (July 2026), which gives anonymous users 400
credits a day, accounts 4,000. The rules, and why they are these, are in docs/adr/0013-credits.md.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from collector.intervals import DAY, Interval, day_of, split_by_days
from domain.interests import Direction

ANONYMOUS_CREDITS_PER_DAY: Final = 400
ACCOUNT_CREDITS_PER_DAY: Final = 4_000

RECENT_PRICE: Final = 4
"""Credits for an interval that begins at most 24 hours before now."""
OLD_PRICE: Final = 30
"""Credits for an older interval of one day, or of two."""
RECENT_AGE: Final = DAY - timedelta(minutes=10)
"""Age up to which we expect the recent price.

Less than the source's 24 hours: the source has another clock, and computes the age when the call arrives.
"""

UPFRONT_DIVISOR: Final = 4
"""One quarter of the day's credits may be spent at any time; the rest becomes available evenly until midnight."""

SMALLEST_BUDGET: Final = UPFRONT_DIVISOR * OLD_PRICE
"""Credits per day that we need at least: with fewer, the upfront quarter does not pay for a call of an old day."""

_LONGEST_PAUSE: Final = DAY + timedelta(minutes=10)
"""The longest pause that the source requires, and some minutes by which clocks differ."""

_CORRECTIONS_WAIT_UNTIL: Final = timedelta(hours=12)
"""Time of day (UTC) until which corrections wait for last night's record to be collected."""

_EVIDENCE_RESERVE: Final = 8 * RECENT_PRICE
"""Credits kept for the evidence calls about last night's record, until it is proven to be whole."""

_MIDNIGHT_TOLERANCE: Final = timedelta(minutes=10)
"""After midnight the source's clock may still be on the day before for this time."""


@dataclass(frozen=True, slots=True)
class QuotaBalance:
    """The credits granted and spent on one UTC day, and the source's pause: they decide which call may be made when."""

    budget: int
    """Credits granted for the day."""
    spent: int
    """Credits spent by us, plus credits that the source reports as spent beyond that."""
    paused_until: datetime | None = None
    """The source accepts no API call before this time. None: there was no pause yet."""

    @property
    def left(self) -> int:
        """Credits left today, never negative."""
        return max(self.budget - self.spent, 0)

    def is_paused(self, now: datetime) -> bool:
        """Return True while the source requires a pause, False if API calls are allowed.

        No pause is longer than a day: one that ends later was stored by a clock that was wrong.
        """
        return self.paused_until is not None and now < self.paused_until <= now + _LONGEST_PAUSE

    def can_spend(self, price: int, now: datetime) -> bool:
        """Return True if `price` more credits are within the allowance of `now`, False if the call has to be deferred.

        A pause of the source is not considered.
        """
        return self.spent + price <= compute_allowance(self.budget, now)

    def compute_spending_time(self, price: int, now: datetime) -> datetime:
        """Return the earliest time from `now` on at which the allowance has grown enough to spend `price` more credits.

        The next midnight (UTC) if the rest of the day's budget is less than `price`.
        """
        midnight = day_of(now)
        if self.spent + price > self.budget:
            return midnight + DAY
        upfront = self.budget // UPFRONT_DIVISOR
        share = max(self.spent + price - upfront, 0) / (self.budget - upfront)
        # Rounded up to the second, plus one: rounding errors must not make the result a credit too early.
        then = midnight + timedelta(seconds=math.ceil(share * DAY.total_seconds()) + 1)
        return min(max(then, now), midnight + DAY)


def compute_allowance(budget: int, now: datetime) -> int:
    """Return how many credits in all may have been spent today by `now`, so that the budget lasts until midnight (UTC).

    One quarter of the budget is allowed from the day's begin; the rest is added evenly until midnight.
    """
    upfront = budget // UPFRONT_DIVISOR
    return upfront + (budget - upfront) * (now - day_of(now)) // DAY


def compute_unaccounted_credits(budget: int, spent: int, reported_left: int, now: datetime) -> int:
    """Return how many credits were spent beyond our own count `spent`, given the rest that the source reports.

    Never negative: if the source reports more than we count, our count stands. 0 just after midnight, when the source
    may still report the rest of yesterday, which must not reduce the credits of today.
    """
    if now - day_of(now) < _MIDNIGHT_TOLERANCE:
        return 0
    return max(budget - reported_left - spent, 0)


def compute_price(begin: datetime, now: datetime) -> int:
    """Return the credits that the source charges for an interval within one UTC day that starts at `begin`.

    RECENT_PRICE if `begin` is less than about a day before `now`, OLD_PRICE otherwise.
    """
    return RECENT_PRICE if begin >= now - RECENT_AGE else OLD_PRICE


@dataclass(frozen=True, slots=True)
class CollectionTarget:
    """An airport and direction with at least one interest: which intervals are due, and when it was last polled."""

    airport: str
    direction: Direction
    interests: int
    """Number of interests."""
    next_begin: datetime
    """Begin of the next interval to collect."""
    available_until: datetime
    """End of the days whose record is proven to be whole; not after `next_begin` if nothing is due."""
    cursor: datetime | None
    """End of the coverage, or of the days that were asked for if the airport is unheard. None: never collected.

    The range from here to `next_begin` will not be collected; it becomes a gap.
    """
    covered_until: datetime | None
    """End of the coverage: flights before this time are stored. None: nothing is covered."""
    correction: tuple[datetime, datetime] | None
    """Interval within one day to collect a second time, for late flights. None: no correction is due."""
    polled_at: datetime | None
    """Time of the last API call for this target. None: never polled."""

    def compute_urgency(self, now: datetime) -> tuple[float, int, float]:
        """Return a sort key: the target with the greatest key is collected first.

        First comes the waiting time divided by the price of the next call, so that each target gets the same share of
        the credits, and cheap ones are polled more often; the logarithm of the number of interests is a weight, so that
        popular targets come earlier and no target starves. A target that was never polled comes before all others;
        among those the one with most interests, then the one whose next interval begins earliest.
        """
        waited_s = math.inf if self.polled_at is None else max((now - self.polled_at).total_seconds(), 0.0)
        weight = (1 + math.log2(max(self.interests, 1))) / compute_price(self.next_begin, now)
        return waited_s * weight, self.interests, (now - self.next_begin).total_seconds()


@dataclass(frozen=True, slots=True)
class ApiCall:
    """One API call to make, for the flights of one interval, and the conditions under which it is made and stored."""

    interval: Interval
    correction: bool
    """True if the interval was collected before."""
    expected_cursor: datetime | None
    """Where the target's cursor must stand when the answer is stored; None: the target was never collected.

    Before the interval's begin: the range between is declared a gap.
    """
    reserved_credits: int = 0
    """Credits that must be left after this call."""


@dataclass(frozen=True, slots=True)
class PricedCall:
    """An API call with its price, as of now."""

    call: ApiCall
    price: int
    """Credits."""


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """All API calls that are due, priced and in the order in which they will be made, and when they must wait."""

    calls: tuple[PricedCall, ...]
    deferred_until: datetime | None
    """Time at which the credits allow the first call that they do not allow now; None if they allow all calls.

    Deferred corrections are not counted: they use only credits that are left over.
    """


def list_due_calls(targets: Iterable[CollectionTarget], now: datetime) -> list[ApiCall]:
    """Return all API calls that are due, in rounds of one call per target, the most urgent target first in each round.

    A target's calls go from its oldest uncollected day to its newest. Corrections come last, at most one per target;
    they must leave the credits that last night's record needs, and wait for it until noon (UTC): in the morning the
    allowance of the day's credits is small.
    """
    by_urgency = sorted(targets, key=lambda target: (target.airport, target.direction))
    by_urgency.sort(key=lambda target: target.compute_urgency(now), reverse=True)
    rounds = zip_longest(*(_list_uncollected_days(target) for target in by_urgency))
    calls = [call for calls_of_round in rounds for call in calls_of_round if call is not None]
    reserve = compute_reserve(by_urgency, now)
    if reserve and now - day_of(now) < _CORRECTIONS_WAIT_UNTIL:
        return calls
    for target in by_urgency:
        if target.correction is not None:
            interval = Interval(target.airport, target.direction, *target.correction)
            correction = ApiCall(
                interval, correction=True, expected_cursor=target.covered_until, reserved_credits=reserve
            )
            calls.append(correction)
    return calls


def _list_uncollected_days(target: CollectionTarget) -> Iterator[ApiCall]:
    """Yield one API call for each UTC day, or part of a day, that is available and not collected yet, oldest first.

    The first call expects the target's present cursor, each later call the end of the call before.
    """
    cursor = target.cursor
    for interval in split_by_days(target.airport, target.direction, target.next_begin, target.available_until):
        yield ApiCall(interval, correction=False, expected_cursor=cursor)
        cursor = interval.end


def compute_reserve(targets: Iterable[CollectionTarget], now: datetime) -> int:
    """Return the credits to keep for last night's record: OLD_PRICE for each target that waits for it.

    A target waits until the records of all days up to today's midnight are proven to be whole. While any target waits,
    some credits for evidence calls are added. The calls that are due now are not included.
    """
    waiting = sum(max(target.next_begin, target.available_until) < day_of(now) for target in targets)
    return waiting * OLD_PRICE + (_EVIDENCE_RESERVE if waiting else 0)


def build_plan(calls: Sequence[ApiCall], balance: QuotaBalance, now: datetime) -> CollectionPlan:
    """Return the calls with their prices, and the time at which the first call that must be deferred can be paid.

    All calls stay in the plan, in the given order. The credits of each call are taken as spent for the calls after it,
    up to the first correction. A pause of the source is not considered.
    """
    priced_calls = tuple(PricedCall(call, compute_price(call.interval.begin, now)) for call in calls)
    spent = balance.spent
    for priced in priced_calls:
        if priced.call.correction:
            break
        balance_then = QuotaBalance(balance.budget, spent)
        if not balance_then.can_spend(priced.price, now):
            return CollectionPlan(priced_calls, balance_then.compute_spending_time(priced.price, now))
        spent += priced.price
    return CollectionPlan(priced_calls, None)
