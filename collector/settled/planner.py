"""The credit planner: what to ask the source for, in which order, and what of it the day's credits allow. Pure.

What a question costs: "API credit usage" of OpenSky's REST documentation (July 2026), which gives anonymous users 400
credits a day, accounts 4,000. The rules, and why they are these, are in docs/adr/0013-credits.md.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Final

from collector.intervals import DAY, Interval, by_days, day_of
from domain.interests import Direction

ANONYMOUS_PER_DAY: Final = 400
ACCOUNT_PER_DAY: Final = 4_000

RECENT_PRICE: Final = 4
"""Of an interval that begins at most 24 hours before now."""
OLD_PRICE: Final = 30
"""Of an older interval of one day, or of two."""
_RECENT: Final = DAY - timedelta(minutes=10)
"""Less than the source's 24 hours: its clock is another, and it looks when the question arrives."""

AT_ONCE: Final = 4
"""A quarter of the day's credits may be spent at any time; the rest becomes available evenly until midnight."""

SMALLEST_BUDGET: Final = AT_ONCE * OLD_PRICE
"""With less, what may be spent at once would not pay for an old day."""

_CLOCKS_AGREE_AFTER: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Account:
    """The day's credits."""

    budget: int
    spent: int
    """By us and, where the source says so, beyond that."""
    paused_until: datetime | None = None
    """Before then the source wants no request."""

    @property
    def left(self) -> int:
        return max(self.budget - self.spent, 0)

    def paused(self, now: datetime) -> bool:
        """Whether the source wants no request now."""
        return self.paused_until is not None and now < self.paused_until

    def allows(self, price: int, now: datetime) -> bool:
        """Whether so many more credits may be spent now."""
        return self.spent + price <= available(self.budget, now)

    def allows_from(self, price: int, now: datetime) -> datetime:
        """The earliest instant from `now` on that so many credits may be spent at: tomorrow's first, if not today."""
        midnight = day_of(now)
        if self.spent + price > self.budget:
            return midnight + DAY
        at_once = self.budget // AT_ONCE
        share = max(self.spent + price - at_once, 0) / (self.budget - at_once)
        # Rounded up to the second, and one more: what comes of fractions must not fall short of a credit.
        return max(midnight + timedelta(seconds=math.ceil(share * DAY.total_seconds()) + 1), now)


def available(budget: int, now: datetime) -> int:
    """What may have been spent of the day's budget by now, so that it lasts until midnight."""
    at_once = budget // AT_ONCE
    return at_once + (budget - at_once) * (now - day_of(now)) // DAY


def unaccounted(budget: int, spent: int, said_left: int, now: datetime) -> int:
    """What was spent beyond what we know of, when the source says what is left. Never negative: our count stands too.

    Just after midnight the source may still speak of yesterday, and yesterday's end must not cost us today.
    """
    if now - day_of(now) < _CLOCKS_AGREE_AFTER:
        return 0
    return max(budget - said_left - spent, 0)


def price(begin: datetime, now: datetime) -> int:
    """What flights of an interval within one day cost, in credits."""
    return RECENT_PRICE if begin >= now - _RECENT else OLD_PRICE


@dataclass(frozen=True, slots=True)
class Flow:
    """An airport and direction that somebody wants: what is missing of it, and whose turn it is."""

    airport: str
    direction: Direction
    interests: int
    begin: datetime
    """Where collection goes on."""
    until: datetime
    """Up to where the source knows; not after `begin` where nothing is due."""
    cursor: datetime | None
    """Up to where it is covered; what lies between this and `begin` will not be collected. None: never collected."""
    correction: tuple[datetime, datetime] | None
    """A stretch of one day that is to be collected once more."""
    asked_at: datetime | None
    """When the source was last asked for it. None: never."""

    def urgency(self, now: datetime) -> tuple[float, int, float]:
        """The greater, the earlier it is its turn.

        Waiting time for each credit that its turn costs, so that each gets the same share of the credits, and the cheap
        ones their turn more often; the more interests the more, but so slowly that no one waits for ever. Who was never
        asked for comes first; among those the most interests, then the longest uncovered.
        """
        waited = math.inf if self.asked_at is None else max((now - self.asked_at).total_seconds(), 0.0)
        weight = (1 + math.log2(max(self.interests, 1))) / price(self.begin, now)
        return waited * weight, self.interests, (now - self.begin).total_seconds()


@dataclass(frozen=True, slots=True)
class Call:
    """One question to the source."""

    interval: Interval
    correction: bool
    """Whether the interval was collected before."""
    cursor: datetime | None
    """Where the flow's cursor stands before the answer is stored; before the interval's begin: a gap is declared."""
    kept: int = 0
    """Credits that must be left after it."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A call with its price, as of now."""

    call: Call
    price: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is due, in the order of its turns."""

    calls: tuple[PlannedCall, ...]
    deferred_until: datetime | None
    """When the credits allow the first call that they do not allow now; None where they allow all of them.

    Corrections wait for what is left over, and are nothing to tell of.
    """


def calls_in_order(flows: Iterable[Flow], now: datetime, poll_interval: timedelta) -> list[Call]:
    """All that is due: one interval of each flow in turn, then their next ones; corrections after all of that."""
    in_turn = sorted(flows, key=lambda flow: (flow.airport, flow.direction))
    in_turn.sort(key=lambda flow: flow.urgency(now), reverse=True)
    rounds = zip_longest(*(_missing(flow) for flow in in_turn))
    calls = [call for turns in rounds for call in turns if call is not None]
    kept = still_to_pay(in_turn, now, poll_interval)
    for flow in in_turn:
        if flow.correction is not None:
            interval = Interval(flow.airport, flow.direction, *flow.correction)
            calls.append(Call(interval, correction=True, cursor=flow.cursor, kept=kept))
    return calls


def _missing(flow: Flow) -> Iterator[Call]:
    cursor = flow.cursor
    for interval in by_days(flow.airport, flow.direction, flow.begin, flow.until):
        yield Call(interval, correction=False, cursor=cursor)
        cursor = interval.end


def still_to_pay(flows: Iterable[Flow], now: datetime, poll_interval: timedelta) -> int:
    """What the collections from now to midnight cost, once all that is due now is collected."""
    today = day_of(now)
    polls = max(math.ceil((today + DAY - now) / poll_interval) - 1, 0)
    total = 0
    for flow in flows:
        if flow.direction is Direction.DEPARTURES:
            total += polls * RECENT_PRICE
        elif max(flow.begin, flow.until) < today:  # the batch of last night is not there yet
            total += OLD_PRICE
    return total


def planned(calls: Sequence[Call], account: Account, now: datetime) -> Plan:
    """The calls with their prices, and from when on the first that must wait is paid for."""
    priced = tuple(PlannedCall(call, price(call.interval.begin, now)) for call in calls)
    spent = account.spent
    for each in priced:
        if each.call.correction:
            break
        then = Account(account.budget, spent)
        if not then.allows(each.price, now):
            return Plan(priced, then.allows_from(each.price, now))
        spent += each.price
    return Plan(priced, None)


def may_ask(call: Call, account: Account, now: datetime) -> bool:
    """Whether the credits allow this call now."""
    cost = price(call.interval.begin, now)
    return account.allows(cost, now) and account.left - cost >= call.kept
