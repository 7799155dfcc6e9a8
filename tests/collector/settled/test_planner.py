"""Tests of the credit planner: never below zero credits, no target starves, with enough credits no call waits."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given, settings, strategies as st

from collector.intervals import (
    DAY,
    Interval,
    day_of,
)
from collector.settled.evidence import EvidenceCall, NightlyRecord
from collector.settled.planner import (
    OLD_PRICE,
    RECENT_PRICE,
    SMALLEST_BUDGET,
    ApiCall,
    CollectionTarget,
    QuotaBalance,
    build_plan,
    compute_allowance,
    compute_price,
    compute_reserve,
    compute_unaccounted_credits,
    list_due_calls,
)
from domain.interests import Direction
from local.opensky import credits as opensky
from tests.collector.settled.planner_model import EVIDENCE_CALL_TIMES, HOUR, SOMEBODY, CollectorModel, can_afford

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
LAST_NIGHT = day_of(NOON) - DAY
"""The newest day with a record."""
INSTANTS = st.datetimes(datetime(2013, 1, 1), datetime(2014, 1, 1), timezones=st.just(UTC))
BUDGETS = st.integers(SMALLEST_BUDGET, 8_000)
DIRECTIONS = st.sampled_from([Direction.ARRIVALS, Direction.DEPARTURES])


def target(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> CollectionTarget:
    """Return a target with last night's day of departures due, polled one hour ago, with the given changes."""
    now_due = CollectionTarget(
        airport=airport,
        direction=direction,
        interests=1,
        people={SOMEBODY: NOON - 30 * DAY},
        next_begin=LAST_NIGHT,
        available_until=LAST_NIGHT + DAY,
        cursor=LAST_NIGHT,
        covered_until=LAST_NIGHT,
        correction=None,
        polled_at=NOON - HOUR,
    )
    return replace(now_due, **changes)  # type: ignore[arg-type]


def airports_in_order(targets: list[CollectionTarget]) -> list[str]:
    """Return the airport of each due call, in order."""
    return [call.interval.airport for call in list_due_calls(targets, NOON)]


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
@example(budget=400, spent=396, cost=RECENT_PRICE, now=day_of(NOON))  # the last credit, at midnight
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
    old = target("LICC", polled_at=None, next_begin=LAST_NIGHT - 2 * DAY, cursor=None, covered_until=None)
    new = target("KJFK", polled_at=None, cursor=None, covered_until=None)
    assert airports_in_order([new, old])[0] == "LICC"


def test_a_backlog_of_days_alternates_with_other_targets() -> None:
    """A round has one call per target: one day of the backlog, then the others, then its next day."""
    backlog = target("LICC", polled_at=None, next_begin=LAST_NIGHT - 2 * DAY, cursor=None, covered_until=None)
    assert airports_in_order([target(), backlog]) == ["LICC", "KJFK", "LICC", "LICC"]


def test_corrections_are_last_and_keep_the_reserve() -> None:
    """A correction is made only if the credits for last night's record, which is not there yet, are left after it."""
    stretch = (day_of(NOON) - 5 * DAY, day_of(NOON) - 4 * DAY)
    waiting = {"next_begin": LAST_NIGHT - DAY, "cursor": LAST_NIGHT - DAY, "available_until": LAST_NIGHT}
    targets = [target(correction=stretch, polled_at=None, **waiting), target("LICC", **waiting)]
    calls = list_due_calls(targets, NOON)
    assert [(call.interval.airport, call.correction) for call in calls] == [
        ("KJFK", False),
        ("LICC", False),
        ("KJFK", True),
    ]
    kept = compute_reserve(targets, NOON)
    assert (calls[-1].reserved_credits, kept) == (kept, 2 * OLD_PRICE + 8 * RECENT_PRICE)
    assert can_afford(calls[-1], QuotaBalance(400, 400 - OLD_PRICE - kept - 100), NOON + 11 * HOUR)
    assert not can_afford(calls[-1], QuotaBalance(400, 400 - OLD_PRICE - kept + 1), NOON + 11 * HOUR)


def test_the_reserve_has_the_price_of_last_nights_record() -> None:
    """The price of last night's record and of the questions about it is reserved until the record is proven."""
    one = day_of(NOON) + HOUR
    waiting = target(next_begin=LAST_NIGHT, available_until=LAST_NIGHT)
    assert compute_reserve([waiting], one) == OLD_PRICE + 8 * RECENT_PRICE
    assert compute_reserve([replace(waiting, available_until=day_of(NOON))], one) == 0
    assert compute_reserve([replace(waiting, next_begin=day_of(NOON), available_until=day_of(NOON))], one) == 0


def test_each_call_expects_the_cursor_of_the_call_before() -> None:
    """The first call of a target may expect a cursor before its begin, which makes a gap."""
    begin = LAST_NIGHT - DAY
    resumed = target(next_begin=begin, cursor=begin - 40 * DAY, covered_until=begin - 40 * DAY)
    first, second = list_due_calls([resumed], NOON)
    assert (first.expected_cursor, first.interval.begin) == (begin - 40 * DAY, begin)
    assert second.expected_cursor == first.interval.end == second.interval.begin


def test_an_airport_without_flights_goes_on_where_it_was_asked_last() -> None:
    """What was asked for in vain is not covered, and not asked for again."""
    (call,) = list_due_calls([target(cursor=LAST_NIGHT, covered_until=None)], NOON)
    assert (call.expected_cursor, call.interval.begin) == (LAST_NIGHT, LAST_NIGHT)


def test_a_plan_has_the_time_of_the_first_deferred_call() -> None:
    """The plan ends its deferral when the first unaffordable call can be paid; corrections do not count."""
    calls = list_due_calls([target(), target("LICC")], NOON)
    assert build_plan(calls, QuotaBalance(400, 0), NOON).deferred_until is None
    spent = compute_allowance(400, NOON) - OLD_PRICE
    until = build_plan(calls, QuotaBalance(400, spent), NOON).deferred_until
    assert until is not None
    assert NOON < until < NOON + 3 * HOUR
    assert build_plan(calls, QuotaBalance(400, 398), NOON).deferred_until == day_of(NOON) + DAY
    stretch = (day_of(NOON) - 4 * DAY, day_of(NOON) - 3 * DAY)
    only_correction = list_due_calls([target(next_begin=day_of(NOON), correction=stretch)], NOON)
    assert [call.correction for call in only_correction] == [True]
    assert build_plan(only_correction, QuotaBalance(400, 400), NOON).deferred_until is None


INTERESTS = st.dictionaries(
    st.tuples(st.sampled_from(["KJFK", "LICC", "EGLL", "KBOS", "KLGA", "LIRF"]), DIRECTIONS),
    st.integers(1, 10_000),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(INTERESTS, BUDGETS, INSTANTS, st.integers(1, 30))
def test_no_day_costs_more_than_its_budget(
    interests: dict[tuple[str, Direction], int], budget: int, begin: datetime, backlog: int
) -> None:
    """Interests, backlogs, questions and corrections never make the collector spend more than a day's credits."""
    model = CollectorModel(begin, budget, interests, backlog * DAY, corrections_after=2 * DAY)
    for _ in range(36):
        model.poll()
        model.now += 2 * HOUR
    assert max(model.spent.values()) <= budget


@settings(max_examples=25)
@example({"A": 1, "B": 10_000, "C": 10_000, "D": 10_000, "E": 10_000}, datetime(2013, 1, 1, tzinfo=UTC), 1, 120)
@given(
    st.dictionaries(st.sampled_from("ABCDEF"), st.sampled_from([1, 10_000]), min_size=1),
    INSTANTS,
    st.integers(1, 30),
    st.integers(SMALLEST_BUDGET, 400),
)
def test_no_airport_starves(airports: dict[str, int], begin: datetime, backlog: int, budget: int) -> None:
    """Even with the smallest budget each target is polled within days.

    A wait ends when the other targets' calls are paid for. One wait costs the others at most 14 calls for one of its
    own (the weight of 10,000 interests), and each target has the same share of the credits that the questions leave.
    """
    poll_interval = 3 * HOUR  # a call of the smallest budget is affordable every 8 hours
    interests = {(airport, Direction.ARRIVALS): number for airport, number in airports.items()}
    model = CollectorModel(begin, budget, interests, backlog * DAY)
    # Whole calls: what is left of a day's credits is lost at midnight, with what they allow after the day's last poll.
    allowed = compute_allowance(budget, day_of(begin) + DAY - poll_interval)
    calls_per_day = (allowed - len(EVIDENCE_CALL_TIMES) * RECENT_PRICE) // OLD_PRICE
    longest = DAY * (2 - (-15 * len(interests) // calls_per_day))
    last_asked = dict.fromkeys(interests, begin)
    while model.now < begin + longest + 5 * DAY:
        model.poll()
        last_asked |= model.asked
        for target in model.targets():
            due = target.available_until > target.next_begin
            assert not due or model.now - last_asked[target.airport, target.direction] < longest, target
        model.now += poll_interval


@settings(max_examples=40)
@given(INTERESTS, INSTANTS, st.integers(1, 30))
def test_with_enough_credits_no_call_is_deferred(
    interests: dict[tuple[str, Direction], int], begin: datetime, backlog: int
) -> None:
    """If a quarter of the budget pays for all due calls, all are made at once, up to the newest recorded day."""
    budget = 4 * OLD_PRICE * len(interests) * (backlog + 3) * 2
    model = CollectorModel(begin, budget, interests, backlog * DAY)
    for _ in range(30):
        assert model.poll() == []
        newest = max((day for day in model.evidence_calls if model.is_recorded(day)), default=day_of(begin) - 2 * DAY)
        assert all(model.cursors.get(key, model.begin) >= newest + DAY for key in interests)
        model.now += HOUR


@pytest.mark.parametrize(("corrections_after", "collected_after"), [(0 * DAY, 9 * HOUR), (2 * DAY, 18 * HOUR)])
def test_three_airports_are_collected_each_day_on_400_credits(
    corrections_after: timedelta, collected_after: timedelta
) -> None:
    """Anonymous access suffices for three airports, both directions: each day, its questions and its correction.

    Without corrections all of a day is collected three hours after the proof of its record. Corrections use the credits
    of the night before; the day is collected some hours later then, and each day is corrected on the third day after.
    """
    interests = {(icao, direction): 1 for icao in ("KJFK", "LICC", "EGLL") for direction in Direction.BOTH.parts}
    model = CollectorModel(day_of(NOON) + timedelta(minutes=10), 400, interests, corrections_after=corrections_after)
    for _ in range(12 * 24):
        model.poll()
        today = day_of(model.now)
        if model.now > NOON + 4 * DAY:
            collected_until = today if model.now > today + collected_after else today - DAY
            assert min(model.cursors.values()) >= collected_until
            assert not corrections_after or min(model.corrected.values()) >= today - 3 * DAY
        model.now += HOUR
    assert max(model.spent.values()) <= 400
    calls = 12 if corrections_after else 6
    assert model.spent[day_of(NOON) + 9 * DAY] == calls * OLD_PRICE + len(EVIDENCE_CALL_TIMES) * RECENT_PRICE


@pytest.mark.parametrize("left", [0, 3])
def test_without_credits_no_call_is_made(left: int) -> None:
    """The credits never go below zero."""
    call = ApiCall(Interval("KJFK", Direction.DEPARTURES, NOON - HOUR, NOON), correction=False, expected_cursor=None)
    assert not can_afford(call, QuotaBalance(400, 400 - left), day_of(NOON) + DAY - timedelta(seconds=1))


def test_evidence_about_an_old_day_is_paid_by_those_who_wait_for_it() -> None:
    """An evidence call about an old day has its place in the order, and is paid by those whose airports need it."""
    ann, bob = UUID(int=1), UUID(int=2)
    old = day_of(NOON) - 9 * DAY
    history = target("LICC", people={bob: NOON}, next_begin=old, available_until=old, cursor=old, covered_until=old)
    fresh = target("KJFK", people={ann: NOON})
    question = EvidenceCall(NightlyRecord(old, Direction.ARRIVALS), "EDDF")
    calls = list_due_calls([history, fresh], NOON, evidence=[question])
    assert {call.interval.airport: call.bill.people for call in calls if call.bill} == {"EDDF": (bob,), "KJFK": (ann,)}
    assert [call.record is not None for call in calls if call.interval.airport == "EDDF"] == [True]


def test_until_noon_a_later_call_leaves_the_allowance_to_last_nights_record() -> None:
    """Who has an older day to ask for does not spend the morning's credits while another waits for the record."""
    ann, bob = UUID(int=1), UUID(int=2)
    early = day_of(NOON) + HOUR
    asked = {"people": {ann: NOON - DAY}, "polled_at": NOON - 2 * DAY}
    hers = [target(airport, next_begin=LAST_NIGHT, available_until=LAST_NIGHT, **asked) for airport in ("EGLL", "KJFK")]
    his = target("LICC", people={bob: NOON - DAY}, next_begin=LAST_NIGHT - 2 * DAY, available_until=LAST_NIGHT)
    calls = list_due_calls([*hers, his], early)
    assert [call.ahead_credits for call in calls] == [OLD_PRICE, 2 * OLD_PRICE]
    assert build_plan(calls, QuotaBalance(400, 70), early).deferred_until is not None
    assert [call.ahead_credits for call in list_due_calls([*hers, his], NOON)] == [0, 0]
