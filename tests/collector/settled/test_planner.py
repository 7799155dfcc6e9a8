"""Tests of the credit planner: never below zero credits, no target starves, with enough credits no call waits."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from collector.intervals import DAY, Interval, SourceLags, compute_available_until, day_of
from collector.settled.planner import (
    OLD_PRICE,
    RECENT_PRICE,
    SMALLEST_BUDGET,
    ApiCall,
    CollectionTarget,
    QuotaBalance,
    build_plan,
    can_afford,
    compute_allowance,
    compute_price,
    compute_reserve,
    compute_unaccounted_credits,
    list_due_calls,
)
from domain.interests import Direction
from local.opensky import credits as opensky

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAGS = SourceLags(departures=timedelta(minutes=30), arrivals=timedelta(hours=2))
INSTANTS = st.datetimes(datetime(2013, 1, 1), datetime(2014, 1, 1), timezones=st.just(UTC))
BUDGETS = st.integers(SMALLEST_BUDGET, 8_000)
DIRECTIONS = st.sampled_from([Direction.ARRIVALS, Direction.DEPARTURES])


def target(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> CollectionTarget:
    """Return a target with one hour of departures due, polled one hour ago, with the given changes."""
    now_due = CollectionTarget(
        airport=airport,
        direction=direction,
        interests=1,
        next_begin=NOON - HOUR,
        available_until=NOON,
        covered_until=NOON - HOUR,
        correction=None,
        polled_at=NOON - HOUR,
    )
    return replace(now_due, **changes)  # type: ignore[arg-type]


def airports_in_order(targets: list[CollectionTarget]) -> list[str]:
    """Return the airport of each due call, in order."""
    return [call.interval.airport for call in list_due_calls(targets, NOON, HOUR)]


@given(INSTANTS, st.integers(0, 40 * 86_400), st.integers(1, 86_400))
def test_a_call_never_costs_more_than_the_planner_charges(now: datetime, age_s: int, length_s: int) -> None:
    """The planner's price is at least OpenSky's own, also when OpenSky's clock is minutes ahead."""
    begin = (now - timedelta(seconds=age_s)).replace(microsecond=0)
    end = min(begin + timedelta(seconds=length_s), day_of(begin) + DAY)
    for ahead_s in (0, 300):
        charged = opensky.compute_price(
            int(begin.timestamp()), int(end.timestamp()) - 1, int(now.timestamp()) + ahead_s
        )
        assert charged <= compute_price(begin, now)


def test_an_interval_older_than_a_day_has_the_higher_price() -> None:
    """The price depends on the age of the interval's begin."""
    assert compute_price(NOON - HOUR, NOON) == RECENT_PRICE
    assert compute_price(NOON - DAY - HOUR, NOON) == OLD_PRICE


@given(BUDGETS, INSTANTS)
def test_the_budget_lasts_the_day(budget: int, now: datetime) -> None:
    """A quarter of the budget may be spent at any time, all of it by midnight, and the allowance never shrinks."""
    assert budget // 4 <= compute_allowance(budget, now) <= budget
    later = min(now + HOUR, day_of(now) + DAY - timedelta(microseconds=1))
    assert compute_allowance(budget, now) <= compute_allowance(budget, later)
    assert compute_allowance(budget, day_of(now) + DAY - timedelta(seconds=1)) >= budget - 1


@given(BUDGETS, st.integers(0, 8_000), st.sampled_from([RECENT_PRICE, OLD_PRICE]), INSTANTS)
def test_a_deferred_call_is_affordable_at_the_computed_time(budget: int, spent: int, cost: int, now: datetime) -> None:
    """The computed time is also the earliest one, to within ten seconds."""
    account = QuotaBalance(budget, spent)
    then = account.compute_spending_time(cost, now)
    assert now <= then <= day_of(now) + DAY
    if then < day_of(now) + DAY:
        assert account.can_spend(cost, then)
    else:
        assert QuotaBalance(budget, 0).can_spend(cost, then)
    if then > now + timedelta(seconds=10):
        assert not account.can_spend(cost, then - timedelta(seconds=10))


def test_the_source_is_trusted_when_it_reports_fewer_credits_left() -> None:
    """Another program may spend from the same account; if the source reports more than we count, our count stands."""
    assert compute_unaccounted_credits(400, 100, 250, NOON) == 50
    assert compute_unaccounted_credits(400, 100, 390, NOON) == 0


def test_reported_credits_are_ignored_just_after_midnight() -> None:
    """The source may still report yesterday's rest, which must not reduce today's credits."""
    assert compute_unaccounted_credits(400, 4, 0, day_of(NOON) + timedelta(minutes=5)) == 0
    assert compute_unaccounted_credits(400, 4, 0, day_of(NOON) + timedelta(minutes=15)) == 396


def test_the_target_polled_longest_ago_is_first() -> None:
    """Among equals the longest wait comes first, and a target that was never polled comes before all others."""
    long, never = target("LICC", polled_at=NOON - 3 * HOUR), target("EGLL", polled_at=None)
    assert airports_in_order([target(), long, never]) == ["EGLL", "LICC", "KJFK"]


def test_the_target_with_more_interests_is_first() -> None:
    """More interests win at the same wait, but not against a much longer wait."""
    popular = target("LICC", interests=1000)
    assert airports_in_order([target(), popular]) == ["LICC", "KJFK"]
    assert airports_in_order([target(polled_at=NOON - 24 * HOUR), popular]) == ["KJFK", "LICC"]


def test_of_new_targets_the_earliest_begin_is_first() -> None:
    """The earlier begin wins between targets that were never polled and have as many interests."""
    old = target("LICC", polled_at=None, next_begin=NOON - 3 * DAY, covered_until=None)
    new = target("KJFK", polled_at=None, next_begin=NOON - DAY, covered_until=None)
    assert airports_in_order([new, old])[0] == "LICC"


def test_a_backlog_of_days_alternates_with_other_targets() -> None:
    """A round has one call per target: one day of the backlog, then the others, then its next day."""
    backlog = target("LICC", polled_at=None, next_begin=day_of(NOON) - 2 * DAY, covered_until=None)
    assert airports_in_order([target(), backlog]) == ["LICC", "KJFK", "LICC", "LICC"]


def test_corrections_are_last_and_keep_the_reserve() -> None:
    """A correction is made only if the credits for the rest of the day's polls are left after it."""
    stretch = (day_of(NOON) - 3 * DAY, day_of(NOON) - 2 * DAY)
    targets = [target(correction=stretch, polled_at=None), target("LICC")]
    calls = list_due_calls(targets, NOON, HOUR)
    assert [(call.interval.airport, call.correction) for call in calls] == [
        ("KJFK", False),
        ("LICC", False),
        ("KJFK", True),
    ]
    kept = compute_reserve(targets, NOON, HOUR)
    assert (calls[-1].reserved_credits, kept) == (kept, 2 * 11 * RECENT_PRICE)
    assert can_afford(calls[-1], QuotaBalance(400, 400 - OLD_PRICE - kept - 100), NOON + 11 * HOUR)
    assert not can_afford(calls[-1], QuotaBalance(400, 400 - OLD_PRICE - kept + 1), NOON + 11 * HOUR)


def test_the_reserve_has_the_price_of_last_nights_arrivals() -> None:
    """The price of the nightly batch is reserved until the batch is collected."""
    one = day_of(NOON) + HOUR
    waiting = target(direction=Direction.ARRIVALS, next_begin=day_of(NOON) - DAY, available_until=day_of(NOON) - DAY)
    assert compute_reserve([waiting], one, HOUR) == OLD_PRICE
    assert compute_reserve([replace(waiting, next_begin=day_of(NOON), available_until=day_of(NOON))], one, HOUR) == 0


def test_each_call_expects_the_cursor_of_the_call_before() -> None:
    """The first call of a target may expect a cursor before its begin, which makes a gap."""
    begin = day_of(NOON) - DAY
    resumed = target(next_begin=begin, covered_until=begin - 40 * DAY)
    first, second = list_due_calls([resumed], NOON, HOUR)
    assert (first.expected_cursor, first.interval.begin) == (begin - 40 * DAY, begin)
    assert second.expected_cursor == first.interval.end == second.interval.begin


def test_a_plan_has_the_time_of_the_first_deferred_call() -> None:
    """The plan ends its deferral when the first unaffordable call can be paid; corrections do not count."""
    calls = list_due_calls([target(), target("LICC")], NOON, HOUR)
    assert build_plan(calls, QuotaBalance(400, 0), NOON).deferred_until is None
    spent = compute_allowance(400, NOON) - RECENT_PRICE
    until = build_plan(calls, QuotaBalance(400, spent), NOON).deferred_until
    assert until is not None
    assert NOON < until < NOON + HOUR
    assert build_plan(calls, QuotaBalance(400, 398), NOON).deferred_until == day_of(NOON) + DAY
    stretch = (day_of(NOON) - 3 * DAY, day_of(NOON) - 2 * DAY)
    only_correction = list_due_calls([target(next_begin=NOON, correction=stretch)], NOON, HOUR)
    assert build_plan(only_correction, QuotaBalance(400, 400), NOON).deferred_until is None


@dataclass
class CollectorModel:
    """A model of the collector without any I/O: targets are collected hour by hour in the planner's order."""

    now: datetime
    budget: int
    interests: dict[tuple[str, Direction], int]
    cursors: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    asked: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    spent: dict[datetime, int] = field(default_factory=dict)
    longest_wait: timedelta = timedelta(0)
    backlog: timedelta = DAY

    def targets(self) -> list[CollectionTarget]:
        """Return the targets as the database would have them now."""
        return [
            CollectionTarget(
                airport=key[0],
                direction=key[1],
                interests=interests,
                next_begin=self.cursors.get(key, day_of(self.now) - self.backlog),
                available_until=compute_available_until(key[1], self.now, LAGS),
                covered_until=self.cursors.get(key),
                correction=None,
                polled_at=self.asked.get(key),
            )
            for key, interests in self.interests.items()
        ]

    def collect(self) -> list[ApiCall]:
        """Collect all that the credits allow, and return the calls that had to be deferred."""
        calls = list_due_calls(self.targets(), self.now, HOUR)
        for number, call in enumerate(calls):
            today = day_of(self.now)
            if not can_afford(call, QuotaBalance(self.budget, self.spent.get(today, 0)), self.now):
                return calls[number:]
            self.spent[today] = self.spent.get(today, 0) + compute_price(call.interval.begin, self.now)
            key = call.interval.airport, call.interval.direction
            assert call.expected_cursor == self.cursors.get(key)
            self.asked[key], self.cursors[key] = self.now, call.interval.end
        return []

    def days_behind(self) -> float:
        """Return the greatest lag of all targets, in days."""
        return max((self.now - target.next_begin) / DAY for target in self.targets())


INTERESTS = st.dictionaries(
    st.tuples(st.sampled_from(["KJFK", "LICC", "EGLL", "KBOS", "KLGA", "LIRF"]), DIRECTIONS),
    st.integers(1, 10_000),
    min_size=1,
)


@settings(max_examples=60)
@given(INTERESTS, BUDGETS, INSTANTS, st.integers(1, 30))
def test_no_day_costs_more_than_its_budget(
    interests: dict[tuple[str, Direction], int], budget: int, begin: datetime, backlog: int
) -> None:
    """Interests and backlogs of any size never make the collector spend more than a day's credits."""
    model = CollectorModel(begin, budget, interests, backlog=backlog * DAY)
    for _ in range(72):
        model.collect()
        model.now += HOUR
    assert max(model.spent.values()) <= budget


@settings(max_examples=60)
@given(INTERESTS, INSTANTS, st.integers(1, 30), st.integers(SMALLEST_BUDGET, 400))
def test_no_airport_starves(
    interests: dict[tuple[str, Direction], int], begin: datetime, backlog: int, budget: int
) -> None:
    """Even with the smallest budget each target is polled within days.

    A wait ends when the other targets' calls are paid for. One wait costs the others at most 14 calls for one of its
    own (the weight of 10,000 interests), and each target has the same share of the credits.
    """
    model = CollectorModel(begin, budget, interests, backlog=backlog * DAY)
    hours = 24 * (2 + -(-OLD_PRICE * 15 * len(interests) // budget))
    last_asked = dict.fromkeys(interests, begin)
    for _ in range(2 * hours):
        model.collect()
        for key, at in model.asked.items():
            last_asked[key] = at
        for key in interests:
            due = compute_available_until(key[1], model.now, LAGS) > model.cursors.get(key, begin - DAY)
            assert not due or model.now - last_asked[key] < timedelta(hours=hours), key
        model.now += HOUR


@settings(max_examples=60)
@given(INTERESTS, INSTANTS, st.integers(1, 30))
def test_with_enough_credits_no_call_is_deferred(
    interests: dict[tuple[str, Direction], int], begin: datetime, backlog: int
) -> None:
    """If a quarter of the budget pays for all due calls, all are made at once."""
    model = CollectorModel(begin, 4 * OLD_PRICE * len(interests) * (backlog + 3) * 2, interests, backlog=backlog * DAY)
    for _ in range(30):
        assert model.collect() == []
        for key, cursor in model.cursors.items():
            assert cursor == max(compute_available_until(key[1], model.now, LAGS), cursor)
        model.now += HOUR


def test_three_airports_are_polled_all_day_on_400_credits() -> None:
    """Anonymous access suffices for three airports_in_order: departures stay fresh, arrivals come once a day."""
    interests = {(icao, direction): 1 for icao in ("KJFK", "LICC", "EGLL") for direction in Direction.BOTH.parts}
    model = CollectorModel(day_of(NOON) + timedelta(minutes=10), 400, interests)
    lags = []
    for hour in range(5 * 24):
        model.collect()
        if hour > 48:
            lags += [model.now - model.cursors[key] for key in interests if key[1] is Direction.DEPARTURES]
        model.now += HOUR
    assert max(lags) <= timedelta(hours=6)
    assert model.days_behind() <= 3


@pytest.mark.parametrize("left", [0, 3])
def test_without_credits_no_call_is_made(left: int) -> None:
    """The credits never go below zero."""
    call = ApiCall(Interval("KJFK", Direction.DEPARTURES, NOON - HOUR, NOON), correction=False, expected_cursor=None)
    assert not can_afford(call, QuotaBalance(400, 400 - left), day_of(NOON) + DAY - timedelta(seconds=1))
