"""Properties of the planner of history over weeks, with a model of the collector that polls in the planner's order."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from collector.intervals import DAY, day_of
from collector.settled.history import (
    HistoryCall,
    HistoryTarget,
    find_first_wanted,
    list_history_calls,
    list_wanted_days,
)
from collector.settled.learning import Budget, Forecast, compute_ordinary_price, expect_history
from collector.settled.planner import OLD_PRICE, ApiCall, QuotaBalance
from collector.settled.shares import Payments, charge
from domain.calendar import find_calendar
from domain.interests import Direction, Interest
from domain.usual import FEWEST_BASE_WINDOWS
from domain.windows import Window, instant, seconds
from tests.collector.settled.planner_model import HOUR, CollectorModel

MORNING: Final = datetime(2013, 2, 13, 6, 10, tzinfo=UTC)
STEP: Final = 2 * HOUR
ICAOS: Final = ("KJFK", "KBOS", "EDDF", "VNKT", "YLHI", "PHNL")
Key = tuple[str, Direction]


@dataclass
class HistoryModel(CollectorModel):
    """The model of the collector, with people who want history of some targets; the source has and proves every day."""

    percents: dict[Key, dict[UUID, datetime]] = field(default_factory=dict)
    """By target: who has an interest in percent there, and since when."""
    history_days: dict[Key, set[datetime]] = field(default_factory=dict)
    """The days of history that are there."""
    told: dict[Key, list[datetime]] = field(default_factory=dict)
    """The days of each target in the order in which they were published."""
    are_proven: bool = True
    """True if the days of history are proven already, so that no other airport may have to prove them."""
    made: list[HistoryCall] = field(default_factory=list)
    """The calls for history, in their order."""

    def list_history(self) -> list[HistoryTarget]:
        """Return the targets of history as the database would have them now."""
        found = []
        for target in self.targets():
            key = target.airport, target.direction
            if key not in self.percents or key not in self.cursors or target.available_until > target.next_begin:
                continue
            until, known = self.cursors[key], self.history_days.setdefault(key, set())
            covered_from = min([self.begin, *known])
            first = find_first_wanted(target.airport, until)
            wanted = tuple(list_wanted_days(first, covered_from, {}, lambda _: False))
            own = {self.begin + number * DAY for number in range((until - self.begin) // DAY)}
            found.append(
                HistoryTarget(
                    target.airport,
                    target.direction,
                    self.percents[key],
                    target.polled_at,
                    until,
                    frozenset(known | own),
                    wanted,
                    frozenset() if self.are_proven else frozenset(wanted),
                )
            )
        return found

    def poll(self) -> list[ApiCall]:
        """Collect what is due, then history; return the calls, but no corrections, that were deferred."""
        before = dict(self.cursors)
        deferred = super().poll()
        for key, cursor in self.cursors.items():
            day = before.get(key, self.begin)
            while day < cursor:
                self.told.setdefault(key, []).append(day)
                day += DAY
        for call in list_history_calls(self.list_history(), self.targets(), self.payments, self.now):
            balance = QuotaBalance(self.budget, self.spent.get(day_of(self.now), 0))
            if not balance.can_spend(OLD_PRICE + call.ahead_credits, self.now):
                break
            if balance.left - OLD_PRICE < call.reserved_credits:
                break
            assert not deferred, "history is asked for while something due waits"
            self.spent[day_of(self.now)] = balance.spent + OLD_PRICE
            charged, _ = charge(self.payments, call.bill, OLD_PRICE)
            self.payments = Payments(charged.level, {**self.payments.paid, **charged.paid})
            key = call.interval.airport, call.interval.direction
            day = call.interval.end - DAY
            while day >= call.interval.begin:
                assert day not in self.history_days[key]
                self.history_days[key].add(day)
                self.told[key].append(day)
                day -= DAY
            self.made.append(call)
        return deferred

    def forecast(self) -> Forecast:
        """Return the forecast of learning as of now, for targets that have coverage."""
        targets = self.targets()
        price = compute_ordinary_price(targets, are_corrected=bool(self.corrections_after), live_credits=0)
        balance = QuotaBalance(self.budget, self.spent.get(day_of(self.now), 0))
        budget = Budget(balance, self.payments, price, STEP)
        return expect_history(list(self.percents), self.list_history(), targets, budget, {}, self.now)

    def find_first_judged(self, key: Key) -> datetime | None:
        """Return the start of the first hour with a usual, by the days in the order in which they were published."""
        known: set[datetime] = set()
        calendar, start, watermark = find_calendar(key[0]), self.begin, self.begin
        for day in self.told[key]:
            known.add(day)
            watermark = max(watermark, day + DAY)
            while start <= watermark:
                bases = [instant(each) for each in calendar.find_same_times(seconds(start)) if each is not None]
                if sum(day_of(base) in known for base in bases) >= FEWEST_BASE_WINDOWS:
                    return start
                start += HOUR
        return None


def build_model(budget: int, owners: list[int], others: int, corrections_after: timedelta) -> HistoryModel:
    """Return a model with an airport in percent for each of `owners`, and so many airports in flights of one person."""
    model = HistoryModel(MORNING, budget, {}, corrections_after=corrections_after)
    for icao, owner in zip(ICAOS, owners, strict=False):
        key = icao, Direction.DEPARTURES
        model.interests[key] = 1
        model.people[key] = model.percents[key] = {UUID(int=owner): MORNING}
    for number in range(others):
        key = f"X{number:03}", Direction.ARRIVALS
        model.interests[key] = 1
        model.people[key] = {UUID(int=99): MORNING}
    return model


def build_interest(icao: str) -> Interest:
    """Return an interest in percent in the departures of an airport, by the hour."""
    effective_from = MORNING - 9 * DAY
    what = icao, Direction.DEPARTURES, Window.ONE_HOUR
    return Interest(UUID(int=1), UUID(int=2), *what, None, None, 1, False, effective_from, 1, None, 50)


@settings(max_examples=15, deadline=None)
@given(
    budget=st.sampled_from([200, 400, 800, 1_600, 4_000]),
    owners=st.lists(st.integers(1, 3), min_size=1, max_size=6),
    others=st.integers(0, 8),
    corrections_after=st.sampled_from([timedelta(0), 2 * DAY]),
    are_proven=st.booleans(),
)
def test_weeks_of_history_keep_all_promises(
    budget: int, owners: list[int], others: int, corrections_after: timedelta, are_proven: bool
) -> None:
    """Never over the budget; due first; newest first, each day once; and judged at the forecast time, or earlier."""
    model = build_model(budget, owners, others, corrections_after)
    model.are_proven = are_proven
    said: dict[Key, datetime] = {}
    for _ in range(24 * DAY // STEP):
        model.poll()
        if not said and all(target.available_until <= target.next_begin for target in model.targets()):
            forecast = model.forecast()
            for key, history in forecast.history.items():
                expected = forecast.find_learning_end(build_interest(key[0]))
                said.setdefault(key, expected or history.covered_until + HOUR)
        assert all(spent <= budget for spent in model.spent.values())
        model.now += STEP
    for key in model.percents:
        days = [day for day in model.told.get(key, []) if day < model.begin]
        assert days == sorted(days, reverse=True)
        assert max(Counter(days).values(), default=1) == 1
        if key in said:
            first = model.find_first_judged(key)
            assert first is None or first <= max(said[key], model.begin), (key, said[key], first)
            if first is None:
                assert said[key] > max(model.told[key])


@pytest.mark.parametrize("budget", [800, 4_000])
def test_who_wants_much_history_leaves_others_theirs(budget: int) -> None:
    """One person with five airports and one with one: until the one's is there, both have the same number of calls."""
    model = build_model(budget, [1, 1, 1, 1, 1, 2], 0, timedelta(0))
    for _ in range(10 * DAY // STEP):
        model.poll()
        model.now += STEP
    payers = [next(iter(call.bill.people)) for call in model.made]
    last = max(number for number, payer in enumerate(payers) if payer == UUID(int=2))
    of_two = payers[: last + 1].count(UUID(int=2))
    assert of_two >= 17
    assert abs(of_two - (last + 1 - of_two)) <= 2


def test_history_delays_nobodys_day() -> None:
    """With as many airports in flights as the credits allow, their days come as they come without anybody's history."""
    ends = []
    for owners in ([1, 2, 3], []):
        model = build_model(800, owners, 12, timedelta(0))
        lags = []
        for number in range(10 * DAY // STEP):
            model.poll()
            model.now += STEP
            if number % 12 == 11:
                keys = [key for key in model.interests if key[0].startswith("X")]
                lags.append(max(model.now - model.cursors.get(key, model.begin) for key in keys))
        ends.append(lags)
    with_history, without = ends
    assert max(with_history[2:]) <= max(without[2:]) + STEP
