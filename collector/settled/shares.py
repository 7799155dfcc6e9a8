"""Fair shares: order the calls that wait so that each person gets the same share of the credits; split prices. Pure.

A max-min fair queue by person (deficit round robin). In each round each person who waits pays for one call of the full
price; what several people want is paid by all of them. Who wants less than a share pays less, and the others' rounds
come sooner. The rules, and why they are these, are in docs/adr/0029-fair-shares.md.
"""

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

MICRO: Final = 1_000_000
"""Microcredits of one credit: what a person has paid is counted in these, so that a price can be split."""

ROUND: Final = 30 * MICRO
"""Microcredits that each person pays in one round: the highest price of a call."""


@dataclass(frozen=True, slots=True)
class Payments:
    """The microcredits that each person has paid so far."""

    level: int = 0
    """The begin of the round that was served last: the virtual time of the fair queue. Who has paid less did not wait,
    and counts as having paid this: no credit is saved up by not asking."""
    paid: Mapping[UUID, int] = field(default_factory=dict)
    """By person. Who is not in it has paid nothing."""

    def find_paid(self, person: UUID) -> int:
        """Return what a person has paid, but at least the level."""
        return max(self.paid.get(person, 0), self.level)


NO_PAYMENTS: Final = Payments()
"""Nobody has paid anything."""


@dataclass(frozen=True, slots=True)
class Bill:
    """Who pays for a call, and in which round it is made."""

    people: tuple[UUID, ...]
    """The people for whom the call is made; the payer is one of them."""
    payer: UUID
    """The person whose turn it is."""
    level: int
    """The begin of the round in which the call is made."""


@dataclass(frozen=True, slots=True)
class WaitingCalls:
    """Calls of one kind that wait for credits, in their order, and the people for whom they are made."""

    prices: Sequence[int]
    """The price of each call, in credits."""
    people: Mapping[UUID, datetime]
    """The people who want these calls, each with the time since when; never empty."""
    asked_at: datetime | None
    """Time of the last such call. None: there was none yet."""
    order: tuple[float, ...]
    """A sort key among the first calls of one person: the smallest comes first."""
    rank: int = 0
    """A person's calls of a smaller rank come before these."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The place of one call in the fair order."""

    calls: int
    """Number of the `WaitingCalls` that the call is one of."""
    number: int
    """Number of the call among these."""
    payer: UUID
    """The person whose turn it is."""
    round: int
    """The number of the round: no person who waits has a smaller one."""


def split_price(price: int, payer: UUID, paid: Mapping[UUID, int], round_number: int) -> dict[UUID, int]:
    """Return what each person pays of a price (microcredits): equal parts, which add up to it.

    `paid`: what each of the people has paid so far; the payer is one of them. Nobody but the payer pays so much that
    the round would end for them: else what others ask for could use up a person's own turn. What they do not pay,
    the others pay.
    """
    end = (round_number + 1) * ROUND - 1
    equal = price // len(paid)
    if all(amount + equal <= end for person, amount in paid.items() if person != payer):
        parts = dict.fromkeys(paid, equal)
        parts[payer] += price - equal * len(paid)
        return parts
    room = sorted((max(end - amount, 0), person.int, person) for person, amount in paid.items() if person != payer)
    parts, left = {}, price
    for number, (most, _, person) in enumerate(room):
        part = min(left // (len(room) - number + 1), most)
        if part:
            parts[person] = part
            left -= part
    parts[payer] = left
    return parts


def charge(payments: Payments, bill: Bill, price: int) -> tuple[Payments, dict[UUID, int]]:
    """Compute the payments after a call of this price (credits) was charged, and what each person paid of it.

    Only the people of the bill are in the returned payments. The level never falls.
    """
    level = max(payments.level, bill.level)
    paid = {person: Payments(level, payments.paid).find_paid(person) for person in bill.people}
    parts = split_price(price * MICRO, bill.payer, paid, level // ROUND)
    return Payments(level, {person: paid[person] + parts.get(person, 0) for person in paid}), parts


def order_fairly(waiting: Sequence[WaitingCalls], payments: Payments) -> Iterator[Turn]:
    """Yield all calls in the fair order; it is computed only as far as it is read.

    The turn is that of the person in the lowest round; among these, of the person whose next call waits longest (since
    it was asked last, or since it is wanted). Of a person's own calls, each kind has its second call after the first
    calls of all, and these are ordered by `WaitingCalls.order`. Each call is paid by all people who want it.
    """
    return _FairQueue(waiting, payments).serve()


class _FairQueue:
    """The state of one run of `order_fairly`: the calls, what each person has paid, and a heap of people's turns."""

    def __init__(self, waiting: Sequence[WaitingCalls], payments: Payments) -> None:
        self._waiting = waiting
        self._served = [0] * len(waiting)
        self._paid: dict[UUID, int] = {}
        self._calls_of: dict[UUID, list[tuple[int, int, tuple[float, ...], int]]] = {}
        """By person: a heap of calls. The numbers of calls that were served for somebody else are out of date."""
        self._turns: list[tuple[int, float, tuple[float, ...], int, int, UUID]] = []
        """A heap of the people's turns; an entry whose last number is not the person's newest is out of date."""
        self._newest: dict[UUID, int] = {}
        for index, calls in enumerate(waiting):
            entry = (calls.rank, 0, calls.order, index)
            for person in calls.people:
                self._calls_of.setdefault(person, []).append(entry)
        for person, queue in self._calls_of.items():
            heapq.heapify(queue)
            self._paid[person] = payments.find_paid(person)
            self._queue_turn(person)

    def serve(self) -> Iterator[Turn]:
        """Yield the turns in their order."""
        while self._turns:
            *_, entry, person = heapq.heappop(self._turns)
            index = self._find_next_calls(person)
            if entry != self._newest[person] or index is None:
                continue
            calls, number = self._waiting[index], self._served[index]
            round_number = self._paid[person] // ROUND
            yield Turn(index, number, person, round_number)
            self._served[index] += 1
            paid = {each: self._paid[each] for each in calls.people}
            for each, part in split_price(calls.prices[number] * MICRO, person, paid, round_number).items():
                self._paid[each] += part
            for each in calls.people:
                self._queue_turn(each)

    def _queue_turn(self, person: UUID) -> None:
        """Put a person's next turn into the heap, in place of an earlier one; do nothing if no call is left."""
        index = self._find_next_calls(person)
        if index is None:
            return
        calls = self._waiting[index]
        since = calls.asked_at or calls.people[person]
        waits_from = since.timestamp() if self._served[index] == 0 else math.inf
        newest = self._newest[person] = self._newest.get(person, 0) + 1
        heapq.heappush(self._turns, (self._paid[person] // ROUND, waits_from, calls.order, person.int, newest, person))

    def _find_next_calls(self, person: UUID) -> int | None:
        """Return the index of the calls of which the person's next call is one; None if no call is left."""
        queue = self._calls_of[person]
        while queue:
            rank, number, order, index = queue[0]
            if self._served[index] == len(self._waiting[index].prices):
                heapq.heappop(queue)
            elif self._served[index] != number:
                heapq.heapreplace(queue, (rank, self._served[index], order, index))
            else:
                return index
        return None
