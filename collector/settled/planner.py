"""The credit planner: order the API calls that are due, and decide which of them the day's credits allow. Pure.

Prices of API calls: "API credit usage" of OpenSky's REST documentation (July 2026), which gives anonymous users 400
credits a day, accounts 4,000. The rules, and why they are these, are in docs/adr/0013-credits.md and 0029.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from uuid import UUID

from collector.intervals import DAY, Interval, day_of, split_by_days
from collector.settled.evidence import EvidenceCall, NightlyRecord
from collector.settled.shares import NO_PAYMENTS, ROUND, Bill, Payments, WaitingCalls, order_fairly
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

_RESERVED_UNTIL: Final = timedelta(hours=12)
"""Time of day (UTC) until which corrections wait for last night's record, and other calls leave its credits."""

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
    people: Mapping[UUID, datetime]
    """The people with such an interest, each with the time at which the first of theirs was set; never empty."""
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
    uncounted_begin: datetime | None = None
    """Begin of the last interval whose answer could not be counted. None: there was none."""
    uncounted_at: datetime | None = None
    """Time of that answer."""

    def find_uncounted_time(self, now: datetime) -> datetime | None:
        """Return the time of the last answer that could not be counted, if it is about an interval that is due.

        None if there was none, and for a time in the future, which a wrong clock has stored.
        """
        due = (self.next_begin, None if self.correction is None else self.correction[0])
        is_due = self.uncounted_begin is not None and self.uncounted_begin in due
        return self.uncounted_at if is_due and self.uncounted_at is not None and self.uncounted_at <= now else None

    def compute_order(self, now: datetime) -> tuple[float, ...]:
        """Return a sort key among the targets of one person: the target with the smallest key is collected first.

        First comes the longest waiting time, divided by the price of the next call, so that cheap calls are made more
        often. A target that was never polled comes before all others. Among equals: the one with most interests, then
        the one whose next interval begins earliest.
        """
        waited_s = math.inf if self.polled_at is None else max((now - self.polled_at).total_seconds(), 0.0)
        return -waited_s / compute_price(self.next_begin, now), -self.interests, self.next_begin.timestamp()


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
    ahead_credits: int = 0
    """Credits of calls that come first and are not made now: the allowance of now must be enough for them, too."""
    bill: Bill | None = None
    """Who pays. None: nobody, the call is for all."""
    record: NightlyRecord | None = None
    """The record for which the call is evidence. None: the call collects flights."""


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


def list_due_calls(
    targets: Sequence[CollectionTarget],
    now: datetime,
    payments: Payments = NO_PAYMENTS,
    evidence: Sequence[EvidenceCall] = (),
    credits_left: int | None = None,
) -> list[ApiCall]:
    """Return the API calls that are due, in the order that gives each person the same share of the credits.

    `payments`: what each person has paid. `evidence`: the evidence calls that are due and for which people pay: those
    whose targets wait for the record. `credits_left`: calls are listed until they cost more than this; None: all. Of a
    person's targets the most urgent comes first, in rounds of one call per target, and a target's calls go from its
    oldest uncollected day to its newest. Then come a person's evidence calls, and last the corrections, at most one per
    target.

    A call for last night's record that is not due yet, because the record is not proven, has its place in the order as
    well: until noon (UTC), the credits of now must be enough for it before a later call is made. Corrections wait until
    noon, when there is such a call, and must leave these credits also later: in the morning the allowance is small.
    """
    listed = _WaitingList(now, None if credits_left is None else credits_left // OLD_PRICE + 2)
    for target in sorted(targets, key=lambda target: (target.airport, target.direction)):
        listed.add_target(target)
    for evidence_call in evidence:
        listed.add_evidence(evidence_call, targets)
    waits_for_night, is_morning = compute_reserve(targets, now) > 0, now - day_of(now) < _RESERVED_UNTIL
    expected = spent = 0
    calls: list[ApiCall] = []
    for turn in order_fairly(listed.waiting, payments):
        if credits_left is not None and spent > credits_left:
            break
        call = listed.calls[turn.calls][turn.number]
        if call is None:
            expected += OLD_PRICE
        elif not (call.correction and waits_for_night and is_morning):
            waiting = listed.waiting[turn.calls]
            spent += waiting.prices[turn.number]
            reserved = expected + _EVIDENCE_RESERVE if call.correction and waits_for_night else 0
            bill = Bill(tuple(waiting.people), turn.payer, turn.round * ROUND)
            ahead = expected if is_morning else 0
            calls.append(replace(call, reserved_credits=reserved, ahead_credits=ahead, bill=bill))
    return calls


def count_due_calls(targets: Iterable[CollectionTarget]) -> int:
    """Return how many API calls are due for these targets, corrections included, whatever the credits allow."""
    return sum(sum(1 for _ in _list_uncollected_days(target)) + (target.correction is not None) for target in targets)


def choose_calls_of_airport(calls: Iterable[ApiCall], airport: str) -> list[ApiCall]:
    """Return copies of the due calls that are for one airport, and of the evidence calls, in their order.

    They do not overtake the other airports' calls. The price of each call that is left out before a call is added to
    its `ahead_credits`, and each bill gets the level of the first bill among all due calls.
    """
    level = None
    ahead = 0
    chosen = []
    for call in calls:
        level = call.bill.level if level is None and call.bill is not None else level
        if call.record is not None or call.interval.airport == airport:
            bill = None if call.bill is None or level is None else replace(call.bill, level=level)
            chosen.append(replace(call, ahead_credits=call.ahead_credits + ahead, bill=bill))
        else:
            ahead += OLD_PRICE
    return chosen


class _WaitingList:
    """The input of `order_fairly`, and the API calls that it stands for, in the same order."""

    def __init__(self, now: datetime, most_calls: int | None) -> None:
        """`most_calls`: of each target at most so many are listed; None: all."""
        self._now = now
        self._most_calls = most_calls
        self.waiting: list[WaitingCalls] = []
        self.calls: list[Sequence[ApiCall | None]] = []
        """None in place of a call: the call for last night's record, which is expected and not due yet."""

    def add_target(self, target: CollectionTarget) -> None:
        """Add the calls of a target that are due or expected, and its correction."""
        calls: list[ApiCall | None] = [*islice(_list_uncollected_days(target), self._most_calls)]
        if max(target.next_begin, target.available_until) == day_of(self._now) - DAY:
            calls.append(None)
        order = target.compute_order(self._now)
        self._add(calls, target.people, target.polled_at, order)
        if target.correction is not None:
            interval = Interval(target.airport, target.direction, *target.correction)
            correction = ApiCall(interval, correction=True, expected_cursor=target.covered_until)
            self._add([correction], target.people, target.polled_at, order, rank=2)

    def add_evidence(self, call: EvidenceCall, targets: Iterable[CollectionTarget]) -> None:
        """Add an evidence call, for the people whose targets wait for its record."""
        people: dict[UUID, datetime] = {}
        day, direction = call.record.key
        for target in targets:
            if target.next_begin < day + DAY and direction in (target.direction, Direction.ARRIVALS):
                people |= target.people
        if people:
            order = (float(len(self.waiting)),)  # as given: what was proven in part comes before what was not
            api_call = ApiCall(call.interval, correction=False, expected_cursor=None, record=call.record)
            self._add([api_call], people, call.record.asked_at, order, rank=1)

    def _add(
        self,
        calls: Sequence[ApiCall | None],
        people: Mapping[UUID, datetime],
        asked_at: datetime | None,
        order: tuple[float, ...],
        *,
        rank: int = 0,
    ) -> None:
        """Add calls with their prices, if there are any; the other parameters are those of `WaitingCalls`.

        None in place of a call has the price of an old day.
        """
        prices = [OLD_PRICE if call is None else compute_price(call.interval.begin, self._now) for call in calls]
        if calls:
            self.waiting.append(WaitingCalls(prices, people, asked_at, order, rank))
            self.calls.append(calls)


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
    waiting = sum(_waits_for_last_night(target, now) for target in targets)
    return waiting * OLD_PRICE + (_EVIDENCE_RESERVE if waiting else 0)


def _waits_for_last_night(target: CollectionTarget, now: datetime) -> bool:
    """Return True until the records of all days up to today's midnight are proven to be whole for a target."""
    return max(target.next_begin, target.available_until) < day_of(now)


def build_plan(calls: Sequence[ApiCall], balance: QuotaBalance, now: datetime) -> CollectionPlan:
    """Return the calls with their prices, and the time at which the first call that must be deferred can be paid.

    All calls stay in the plan, in the given order. The credits of each call are taken as spent for the calls after it.
    Corrections after all other calls are not considered, nor is a pause of the source.
    """
    priced_calls = tuple(PricedCall(call, compute_price(call.interval.begin, now)) for call in calls)
    last = max((number for number, call in enumerate(calls) if not call.correction), default=-1)
    spent = balance.spent
    for priced in priced_calls[: last + 1]:
        balance_then = QuotaBalance(balance.budget, spent)
        needed = priced.price + priced.call.ahead_credits
        if not balance_then.can_spend(needed, now):
            until = balance_then.compute_spending_time(needed, now)
            noon = day_of(now) + _RESERVED_UNTIL
            return CollectionPlan(priced_calls, min(until, noon) if priced.call.ahead_credits and now < noon else until)
        spent += priced.price
    return CollectionPlan(priced_calls, None)
