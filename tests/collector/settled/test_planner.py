"""The credit planner: never below zero, nobody starves, and with enough credits nothing waits."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings, strategies as st

from collector.intervals import DAY, Interval, Lags, day_of, known_until
from collector.settled.planner import (
    OLD_PRICE,
    RECENT_PRICE,
    SMALLEST_BUDGET,
    Account,
    Call,
    Flow,
    available,
    calls_in_order,
    may_ask,
    planned,
    price,
    still_to_pay,
    unaccounted,
)
from domain.interests import Direction
from local.opensky import credits as opensky

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LAGS = Lags(departures=timedelta(minutes=30), arrivals=timedelta(hours=2))
INSTANTS = st.datetimes(datetime(2013, 1, 1), datetime(2014, 1, 1), timezones=st.just(UTC))
BUDGETS = st.integers(SMALLEST_BUDGET, 8_000)
DIRECTIONS = st.sampled_from([Direction.ARRIVALS, Direction.DEPARTURES])


def flow(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> Flow:
    """An hour of departures is due, and was asked for an hour ago, unless changed."""
    now_due = Flow(
        airport=airport,
        direction=direction,
        interests=1,
        begin=NOON - HOUR,
        until=NOON,
        cursor=NOON - HOUR,
        correction=None,
        asked_at=NOON - HOUR,
    )
    return replace(now_due, **changes)  # type: ignore[arg-type]


def airports(flows: list[Flow]) -> list[str]:
    return [call.interval.airport for call in calls_in_order(flows, NOON, HOUR)]


@given(INSTANTS, st.integers(0, 40 * 86_400), st.integers(1, 86_400))
def test_a_question_never_costs_more_than_is_counted(now: datetime, age_s: int, length_s: int) -> None:
    """By the facts that the replay has of OpenSky, also when its clock is minutes ahead."""
    begin = (now - timedelta(seconds=age_s)).replace(microsecond=0)
    end = min(begin + timedelta(seconds=length_s), day_of(begin) + DAY)
    for ahead_s in (0, 300):
        charged = opensky.compute_price(
            int(begin.timestamp()), int(end.timestamp()) - 1, int(now.timestamp()) + ahead_s
        )
        assert charged <= price(begin, now)


def test_today_is_cheap_and_yesterday_is_not() -> None:
    """What is younger than a day, to be exact."""
    assert price(NOON - HOUR, NOON) == RECENT_PRICE
    assert price(NOON - DAY - HOUR, NOON) == OLD_PRICE


@given(BUDGETS, INSTANTS)
def test_the_budget_lasts_the_day(budget: int, now: datetime) -> None:
    """A quarter at once, all of it by midnight, and never less later."""
    assert budget // 4 <= available(budget, now) <= budget
    later = min(now + HOUR, day_of(now) + DAY - timedelta(microseconds=1))
    assert available(budget, now) <= available(budget, later)
    assert available(budget, day_of(now) + DAY - timedelta(seconds=1)) >= budget - 1


@given(BUDGETS, st.integers(0, 8_000), st.sampled_from([RECENT_PRICE, OLD_PRICE]), INSTANTS)
def test_what_is_deferred_is_affordable_when_it_was_said(budget: int, spent: int, cost: int, now: datetime) -> None:
    """Not much earlier, either."""
    account = Account(budget, spent)
    then = account.allows_from(cost, now)
    assert now <= then <= day_of(now) + DAY
    if then < day_of(now) + DAY:
        assert account.allows(cost, then)
    else:
        assert Account(budget, 0).allows(cost, then)
    if then > now + timedelta(seconds=10):
        assert not account.allows(cost, then - timedelta(seconds=10))


def test_the_source_is_believed_when_it_says_less() -> None:
    """What somebody else spent from the same account; and a credit that it does not count is no credit gained."""
    assert unaccounted(400, 100, 250, NOON) == 50
    assert unaccounted(400, 100, 390, NOON) == 0


def test_what_the_source_says_just_after_midnight_may_be_of_yesterday() -> None:
    """Yesterday's end must not cost us today."""
    assert unaccounted(400, 4, 0, day_of(NOON) + timedelta(minutes=5)) == 0
    assert unaccounted(400, 4, 0, day_of(NOON) + timedelta(minutes=15)) == 396


def test_who_waits_longest_is_first() -> None:
    """Of equals; and who was never asked for is before them."""
    long, never = flow("LICC", asked_at=NOON - 3 * HOUR), flow("EGLL", asked_at=None)
    assert airports([flow(), long, never]) == ["EGLL", "LICC", "KJFK"]


def test_what_most_want_is_first() -> None:
    """Of those that wait as long; but not before one that waits much longer."""
    popular = flow("LICC", interests=1000)
    assert airports([flow(), popular]) == ["LICC", "KJFK"]
    assert airports([flow(asked_at=NOON - 24 * HOUR), popular]) == ["KJFK", "LICC"]


def test_of_the_new_ones_what_is_uncovered_longest_is_first() -> None:
    """Where as many want it."""
    old = flow("LICC", asked_at=None, begin=NOON - 3 * DAY, cursor=None)
    new = flow("KJFK", asked_at=None, begin=NOON - DAY, cursor=None)
    assert airports([new, old])[0] == "LICC"


def test_a_backlog_takes_turns_with_the_others() -> None:
    """One day of it, then the others, then its next day."""
    backlog = flow("LICC", asked_at=None, begin=day_of(NOON) - 2 * DAY, cursor=None)
    assert airports([flow(), backlog]) == ["LICC", "KJFK", "LICC", "LICC"]


def test_corrections_are_last_and_leave_what_the_day_still_needs() -> None:
    """However urgent their airport is."""
    stretch = (day_of(NOON) - 3 * DAY, day_of(NOON) - 2 * DAY)
    flows = [flow(correction=stretch, asked_at=None), flow("LICC")]
    calls = calls_in_order(flows, NOON, HOUR)
    assert [(call.interval.airport, call.correction) for call in calls] == [
        ("KJFK", False),
        ("LICC", False),
        ("KJFK", True),
    ]
    kept = still_to_pay(flows, NOON, HOUR)
    assert (calls[-1].kept, kept) == (kept, 2 * 11 * RECENT_PRICE)
    assert may_ask(calls[-1], Account(400, 400 - OLD_PRICE - kept - 100), NOON + 11 * HOUR)
    assert not may_ask(calls[-1], Account(400, 400 - OLD_PRICE - kept + 1), NOON + 11 * HOUR)


def test_arrivals_that_come_tonight_are_kept_for() -> None:
    """Until the batch of last night is collected, its price is not left over."""
    one = day_of(NOON) + HOUR
    waiting = flow(direction=Direction.ARRIVALS, begin=day_of(NOON) - DAY, until=day_of(NOON) - DAY)
    assert still_to_pay([waiting], one, HOUR) == OLD_PRICE
    assert still_to_pay([replace(waiting, begin=day_of(NOON), until=day_of(NOON))], one, HOUR) == 0


def test_the_calls_of_a_flow_follow_its_cursor() -> None:
    """Each says where it expects the cursor; the first of them may find a gap."""
    begin = day_of(NOON) - DAY
    resumed = flow(begin=begin, cursor=begin - 40 * DAY)
    first, second = calls_in_order([resumed], NOON, HOUR)
    assert (first.cursor, first.interval.begin) == (begin - 40 * DAY, begin)
    assert second.cursor == first.interval.end == second.interval.begin


def test_a_plan_says_when_it_goes_on() -> None:
    """From when on the first call is paid for that cannot be paid now; of corrections it does not speak."""
    calls = calls_in_order([flow(), flow("LICC")], NOON, HOUR)
    assert planned(calls, Account(400, 0), NOON).deferred_until is None
    spent = available(400, NOON) - RECENT_PRICE
    until = planned(calls, Account(400, spent), NOON).deferred_until
    assert until is not None
    assert NOON < until < NOON + HOUR
    assert planned(calls, Account(400, 398), NOON).deferred_until == day_of(NOON) + DAY
    stretch = (day_of(NOON) - 3 * DAY, day_of(NOON) - 2 * DAY)
    only_correction = calls_in_order([flow(begin=NOON, correction=stretch)], NOON, HOUR)
    assert planned(only_correction, Account(400, 400), NOON).deferred_until is None


@dataclass
class World:
    """Airports that are collected by the planner's word, hour by hour, without any I/O: a model of the collector."""

    now: datetime
    budget: int
    interests: dict[tuple[str, Direction], int]
    cursors: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    asked: dict[tuple[str, Direction], datetime] = field(default_factory=dict)
    spent: dict[datetime, int] = field(default_factory=dict)
    longest_wait: timedelta = timedelta(0)
    backlog: timedelta = DAY

    def flows(self) -> list[Flow]:
        return [
            Flow(
                airport=key[0],
                direction=key[1],
                interests=interests,
                begin=self.cursors.get(key, day_of(self.now) - self.backlog),
                until=known_until(key[1], self.now, LAGS),
                cursor=self.cursors.get(key),
                correction=None,
                asked_at=self.asked.get(key),
            )
            for key, interests in self.interests.items()
        ]

    def collect(self) -> list[Call]:
        """Returns what had to wait."""
        calls = calls_in_order(self.flows(), self.now, HOUR)
        for number, call in enumerate(calls):
            today = day_of(self.now)
            if not may_ask(call, Account(self.budget, self.spent.get(today, 0)), self.now):
                return calls[number:]
            self.spent[today] = self.spent.get(today, 0) + price(call.interval.begin, self.now)
            key = call.interval.airport, call.interval.direction
            assert call.cursor == self.cursors.get(key)
            self.asked[key], self.cursors[key] = self.now, call.interval.end
        return []

    def days_behind(self) -> float:
        return max((self.now - flow.begin) / DAY for flow in self.flows())


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
    """Whatever is wanted by whomever, and however much is to be made up for."""
    world = World(begin, budget, interests, backlog=backlog * DAY)
    for _ in range(72):
        world.collect()
        world.now += HOUR
    assert max(world.spent.values()) <= budget


@settings(max_examples=60)
@given(INTERESTS, INSTANTS, st.integers(1, 30), st.integers(SMALLEST_BUDGET, 400))
def test_no_airport_starves(
    interests: dict[tuple[str, Direction], int], begin: datetime, backlog: int, budget: int
) -> None:
    """With the poorest budget each is asked for within days: a wait ends when the others' turns are paid for.

    One wait costs the others at most 14 turns for one of its own (as many times more count 10,000 interests), each of
    which has the same share of the credits.
    """
    world = World(begin, budget, interests, backlog=backlog * DAY)
    hours = 24 * (2 + -(-OLD_PRICE * 15 * len(interests) // budget))
    last_asked = dict.fromkeys(interests, begin)
    for _ in range(2 * hours):
        world.collect()
        for key, at in world.asked.items():
            last_asked[key] = at
        for key in interests:
            due = known_until(key[1], world.now, LAGS) > world.cursors.get(key, begin - DAY)
            assert not due or world.now - last_asked[key] < timedelta(hours=hours), key
        world.now += HOUR


@settings(max_examples=60)
@given(INTERESTS, INSTANTS, st.integers(1, 30))
def test_with_enough_credits_nothing_waits(
    interests: dict[tuple[str, Direction], int], begin: datetime, backlog: int
) -> None:
    """A quarter of the budget pays for all that is due: it is collected now."""
    world = World(begin, 4 * OLD_PRICE * len(interests) * (backlog + 3) * 2, interests, backlog=backlog * DAY)
    for _ in range(30):
        assert world.collect() == []
        for key, cursor in world.cursors.items():
            assert cursor == max(known_until(key[1], world.now, LAGS), cursor)
        world.now += HOUR


def test_three_airports_are_polled_all_day_on_400_credits() -> None:
    """What an anonymous user has, spent fairly: departures of three airports stay fresh, arrivals come once a day."""
    interests = {(icao, direction): 1 for icao in ("KJFK", "LICC", "EGLL") for direction in Direction.BOTH.parts}
    world = World(day_of(NOON) + timedelta(minutes=10), 400, interests)
    lags = []
    for hour in range(5 * 24):
        world.collect()
        if hour > 48:
            lags += [world.now - world.cursors[key] for key in interests if key[1] is Direction.DEPARTURES]
        world.now += HOUR
    assert max(lags) <= timedelta(hours=6)
    assert world.days_behind() <= 3


@pytest.mark.parametrize("left", [0, 3])
def test_without_credits_nothing_is_asked(left: int) -> None:
    """Never below zero."""
    call = Call(Interval("KJFK", Direction.DEPARTURES, NOON - HOUR, NOON), correction=False, cursor=None)
    assert not may_ask(call, Account(400, 400 - left), day_of(NOON) + DAY - timedelta(seconds=1))
