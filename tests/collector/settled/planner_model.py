"""A model of the collector without any I/O: it polls in the planner's order, as often as a test says."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from uuid import UUID

from collector.intervals import (
    DAY,
    Interval,
    advance_corrected_until,
    compute_available_until,
    day_of,
    find_due_correction,
)
from collector.settled.evidence import LAST_HOURS
from collector.settled.planner import (
    OLD_PRICE,
    RECENT_PRICE,
    ApiCall,
    CollectionTarget,
    QuotaBalance,
    compute_price,
    list_due_calls,
)
from collector.settled.shares import NO_PAYMENTS, Payments, charge
from domain.interests import Direction

HOUR = timedelta(hours=1)
EVIDENCE_CALL_TIMES = (HOUR, 2 * HOUR, 3 * HOUR, 3 * HOUR, 6 * HOUR, 6 * HOUR)
"""Times of the evidence calls about a day's record, after the day's end; it appears at 02:40, and is then proven whole.

Two calls in vain, then arrivals and departures are there, then both are the same after the settle time.
"""
SOMEBODY = UUID(int=1)
"""The person who wants all targets of these tests."""


def can_afford(call: ApiCall, balance: QuotaBalance, now: datetime) -> bool:
    """Return True if the quota allows the call now, and the credits that it must leave are left; else False."""
    price = compute_price(call.interval.begin, now)
    return balance.can_spend(price + call.ahead_credits, now) and balance.left - price >= call.reserved_credits


@dataclass
class CollectorModel:
    """A model of the collector without any I/O, which polls in the planner's order as often as the test says.

    The record of each night costs the evidence calls about it. Days before the begin are proven already.
    """

    now: datetime
    budget: int
    interests: dict[tuple[str, Direction], int]
    backlog: timedelta = DAY
    corrections_after: timedelta = timedelta(0)
    cursors: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    corrected: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    asked: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    people: dict[tuple[str, Direction], dict[UUID, datetime]] = field(default_factory=dict)
    """Who wants each target, and since when. A target that is not in it is wanted by one and the same person."""
    payments: Payments = NO_PAYMENTS
    spent: dict[datetime, int] = field(default_factory=dict)
    evidence_calls: dict[datetime, int] = field(default_factory=dict)
    """Number of evidence calls that were answered about the record of each day; a day before the begin is not in it."""

    def __post_init__(self) -> None:
        """Keep where collection begins, and ask for the records of the last day before the begin and later."""
        self.begin = day_of(self.now) - self.backlog
        self.evidence_calls[day_of(self.now) - DAY] = 0

    def is_recorded(self, day: datetime) -> bool:
        """Return True if the record of a day is proven to be whole."""
        needed = len(EVIDENCE_CALL_TIMES)
        return self.evidence_calls.get(day, needed) == needed and day < day_of(self.now)

    def targets(self) -> list[CollectionTarget]:
        """Return the targets as the database would have them now."""
        targets = []
        find_available = cache(lambda begin: compute_available_until(begin, self.is_recorded))
        for key, interests in self.interests.items():
            cursor = self.cursors.get(key)
            begin = cursor or self.begin
            corrected = self.corrected.get(key, self.begin)
            targets.append(
                CollectionTarget(
                    airport=key[0],
                    direction=key[1],
                    interests=interests,
                    people=self.people.get(key, {SOMEBODY: self.begin}),
                    next_begin=begin,
                    available_until=find_available(begin),
                    cursor=cursor,
                    covered_until=cursor,
                    correction=find_due_correction(corrected, begin, self.now, self.corrections_after),
                    polled_at=self.asked.get(key),
                )
            )
        return targets

    def poll(self) -> list[ApiCall]:
        """Ask and collect all that the credits allow, and return the calls, but no corrections, that were deferred."""
        self._make_evidence_calls(RECENT_PRICE)
        deferred = self._collect()
        return self._collect() if self._make_evidence_calls(OLD_PRICE) else deferred

    def _collect(self) -> list[ApiCall]:
        """Make the due calls in order up to the first that the credits do not allow; return as `poll` does."""
        calls = list_due_calls(
            self.targets(), self.now, self.payments, credits_left=self.budget - self.spent.get(day_of(self.now), 0)
        )
        for number, call in enumerate(calls):
            if not self._spend(call):
                return [] if call.correction else calls[number:]
            interval = call.interval
            key = interval.airport, interval.direction
            self.asked[key] = self.now
            if call.correction:
                self.corrected[key] = interval.end
            else:
                assert call.expected_cursor == self.cursors.get(key)
                self.cursors[key] = interval.end
                self.corrected[key] = advance_corrected_until(
                    self.corrected.get(key, self.begin), interval.begin, interval.end, self.now, self.corrections_after
                )
        return []

    def _make_evidence_calls(self, price: int) -> bool:
        """Make the due evidence calls of this price, the newest day's first; return True if any could be paid."""
        self.evidence_calls.setdefault(day_of(self.now) - DAY, 0)
        before = sum(self.evidence_calls.values())
        for day in sorted(self.evidence_calls, reverse=True):
            end = day + DAY
            interval = Interval("EDDF", Direction.ARRIVALS, end - LAST_HOURS, end)
            if compute_price(interval.begin, self.now) != price:
                continue
            for after in EVIDENCE_CALL_TIMES[self.evidence_calls[day] :]:
                if self.now < end + after or not self._spend(ApiCall(interval, False, None)):
                    break
                self.evidence_calls[day] += 1
        return sum(self.evidence_calls.values()) > before

    def _spend(self, call: ApiCall) -> bool:
        """Spend a call's price if the quota allows the call; return False, and spend nothing, otherwise."""
        today = day_of(self.now)
        if not can_afford(call, QuotaBalance(self.budget, self.spent.get(today, 0)), self.now):
            return False
        price = compute_price(call.interval.begin, self.now)
        self.spent[today] = self.spent.get(today, 0) + price
        if call.bill is not None:
            charged, _ = charge(self.payments, call.bill, price)
            self.payments = Payments(charged.level, {**self.payments.paid, **charged.paid})
        return True
