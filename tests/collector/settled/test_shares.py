"""Tests of the fair shares: a brute-force model says the same order, and nobody waits long for what others want."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from collector.intervals import DAY, day_of
from collector.settled.shares import MICRO, ROUND, Bill, Payments, Turn, WaitingCalls, charge, order_fairly, split_price
from domain.interests import Direction
from tests.collector.settled.planner_model import HOUR, CollectorModel

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
PEOPLE = [UUID(int=number) for number in range(1, 7)]
SINCE = st.sampled_from([NOON - hours * HOUR for hours in (1, 2, 30)])
WAITING = st.lists(
    st.builds(
        lambda prices, people, asked_at, urgency, rank: WaitingCalls(
            prices[:1] if rank else prices, people, asked_at, (urgency,), rank
        ),
        st.lists(st.sampled_from([4, 30]), min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(PEOPLE), SINCE, min_size=1, max_size=4),
        st.none() | SINCE,
        st.floats(0, 3),
        st.integers(0, 2),
    ),
    max_size=8,
)
ACCOUNTS = st.builds(
    Payments, st.integers(0, 3 * ROUND), st.dictionaries(st.sampled_from(PEOPLE), st.integers(0, 5 * ROUND))
)


def order_slowly(waiting: list[WaitingCalls], payments: Payments) -> list[Turn]:
    """Return the fair order as `order_fairly` does, by looking at every person and every call for each turn."""
    paid = {person: max(payments.paid.get(person, 0), payments.level) for calls in waiting for person in calls.people}
    served = [0] * len(waiting)
    turns = []
    while any(number < len(calls.prices) for number, calls in zip(served, waiting, strict=True)):
        candidates = []
        for person in paid:
            own = [
                (calls.rank, served[index], calls.order, index)
                for index, calls in enumerate(waiting)
                if person in calls.people and served[index] < len(calls.prices)
            ]
            if own:
                *_, index = min(own)
                since = waiting[index].asked_at or waiting[index].people[person]
                waits = since.timestamp() if served[index] == 0 else float("inf")
                candidates.append((paid[person] // ROUND, waits, waiting[index].order, person.int, index, person))
        round_number, _, _, _, index, person = min(candidates)
        turns.append(Turn(index, served[index], person, round_number))
        price = waiting[index].prices[served[index]] * MICRO
        others = sorted(waiting[index].people.keys() - {person}, key=lambda each: (paid[each], each), reverse=True)
        for left, each in zip(range(len(others), 0, -1), others, strict=True):
            room = max((round_number + 1) * ROUND - 1 - paid[each], 0)
            part = min(room, price // (left + 1))
            paid[each] += part
            price -= part
        paid[person] += price
        served[index] += 1
    return turns


@settings(max_examples=150)
@given(WAITING, ACCOUNTS)
def test_the_order_is_that_of_a_brute_force_model(waiting: list[WaitingCalls], payments: Payments) -> None:
    """The order is the same as by looking at everything for each turn; every call has exactly one turn."""
    turns = list(order_fairly(waiting, payments))
    assert [(turn.calls, turn.number, turn.round) for turn in turns] == [
        (turn.calls, turn.number, turn.round) for turn in order_slowly(waiting, payments)
    ]
    assert sorted((turn.calls, turn.number) for turn in turns) == [
        (index, number) for index, calls in enumerate(waiting) for number in range(len(calls.prices))
    ]


@given(st.sampled_from([4, 30]), st.dictionaries(st.sampled_from(PEOPLE), st.integers(0, 3 * ROUND), min_size=1))
def test_a_price_is_paid_exactly_and_ends_nobodys_round_but_the_payers(price: int, paid: dict[UUID, int]) -> None:
    """The parts add up to the price; what others ask for never takes a person's own turn away."""
    payer = min(paid, key=lambda person: (paid[person], person))
    round_number = paid[payer] // ROUND
    parts = split_price(price * MICRO, payer, paid, round_number)
    assert sum(parts.values()) == price * MICRO
    for person, part in parts.items():
        assert part >= 0
        assert person == payer or part == 0 or paid[person] + part < (round_number + 1) * ROUND


def test_two_pay_a_call_in_equal_parts() -> None:
    """What two people want costs each of them half."""
    ann, bob = PEOPLE[:2]
    charged, parts = charge(Payments(), Bill((ann, bob), ann, 0), 30)
    assert parts == {ann: 15 * MICRO, bob: 15 * MICRO}
    assert charged.paid == parts


@settings(max_examples=100)
@given(WAITING)
def test_who_waits_has_paid_at_most_two_rounds_less_than_anybody(waiting: list[WaitingCalls]) -> None:
    """Max-min: nobody gets a further call while another waits who has got less, but for what a round ends with."""
    payments = Payments()
    paid = dict.fromkeys(PEOPLE, 0)
    left = [len(calls.prices) for calls in waiting]
    for turn in order_fairly(waiting, payments):
        calls = waiting[turn.calls]
        waits = [
            paid[person]
            for person in PEOPLE
            if any(person in each.people and rest for each, rest in zip(waiting, left, strict=True))
        ]
        assert paid[turn.payer] // ROUND == min(waits) // ROUND
        left[turn.calls] -= 1
        payments, _ = charge(
            Payments(payments.level, paid),
            Bill(tuple(calls.people), turn.payer, turn.round * ROUND),
            calls.prices[turn.number],
        )
        paid |= payments.paid
        assert max(paid.values()) < min(waits) + 2 * ROUND


@settings(max_examples=100)
@given(st.lists(st.sets(st.sampled_from(PEOPLE), min_size=1, max_size=4), min_size=1, max_size=12), st.data())
def test_no_airport_waits_twice_as_long_as_if_all_had_as_many(airports: list[set[UUID]], data: st.DataObject) -> None:
    """A person with m airports of n people's waits for m n calls on the average, for (m + 2) n at most.

    With the airports spread evenly, each of their airports would wait for m n calls. So nobody's airport waits twice
    as long because of others' wishes, whatever these are and with whomever it is shared.
    """
    since = {person: NOON - data.draw(st.integers(1, 9)) * HOUR for person in PEOPLE}
    waiting = [
        WaitingCalls([30] * 200, {person: since[person] for person in sorted(people)}, None, (float(number),))
        for number, people in enumerate(airports)
    ]
    people = {person for each in airports for person in each}
    last, made = dict.fromkeys(range(len(airports)), 0), [0] * len(airports)
    for number, turn in zip(range(200), order_fairly(waiting, Payments()), strict=False):
        last[turn.calls] = number
        made[turn.calls] += 1
        for index, wanted_by in enumerate(airports):
            even = len(people) * min(sum(person in each for each in airports) for person in wanted_by)
            assert number - last[index] <= even + 2 * len(people), (index, number)
            assert made[index] >= number // (2 * even) - 1, (index, number)


def simulate(
    credits_per_day: int, owned: list[int], step: timedelta, strangers: list[int], churn: bool = False
) -> list[float]:
    """Poll for three weeks; return the longest lag in days of the honest people's airports, at the end of each day.

    `owned`: the number of airports of each honest person; `strangers`: of each stranger, who comes on the third day.
    `churn`: a stranger sets all interests anew before each poll, under new airports.
    """
    begin = day_of(NOON) + timedelta(minutes=10)
    model = CollectorModel(begin, credits_per_day, {}, corrections_after=2 * DAY)

    def add(person: int, airports: int, offset: int = 0) -> None:
        for number in range(offset, offset + airports):
            for part in Direction.BOTH.parts:
                model.interests[f"{person}/{number}", part] = 1
                model.people[f"{person}/{number}", part] = {UUID(int=person): model.now}

    for person, airports in enumerate(owned, start=1):
        add(person, airports)
    honest = list(model.interests)
    lags = []
    for poll in range(21 * DAY // step):
        came = poll * step >= 2 * DAY
        if came and (churn or poll * step < 2 * DAY + step):
            for key in [key for key in model.interests if key not in honest]:
                del model.interests[key]
            for number, airports in enumerate(strangers, start=1_000):
                add(number, airports, offset=poll * airports)
        model.poll()
        if poll * step % DAY == DAY - step:
            lags.append(max((model.now - model.cursors.get(key, model.begin)) / DAY for key in honest))
        model.now += step
    return lags


@pytest.mark.parametrize(
    ("credits_per_day", "owned", "step", "strangers", "churn"),
    [
        (400, [1] * 4, 2 * HOUR, [50], False),  # one stranger, anonymous credits
        (400, [1] * 4, 2 * HOUR, [50], True),  # who sets and removes all interests before each poll
        (4_000, [1, 2, 3, 1, 2, 3, 1, 2, 3, 2], 12 * HOUR, [500], False),  # one stranger, the credits of an account
        (4_000, [1] * 10, 6 * HOUR, [1] * 40, False),  # many strangers with one airport each: many people
    ],
)
def test_a_strangers_airports_do_not_make_others_lag(
    credits_per_day: int, owned: list[int], step: timedelta, strangers: list[int], churn: bool
) -> None:
    """In three weeks nobody's lag grows: each day is collected on the day after, as without the stranger.

    Before shares by person, the lag grew by a day every day: 17 days after 17, in the first and in the third story.
    """
    lags = simulate(credits_per_day, owned, step, strangers, churn)
    assert max(lags[3:]) < 2.1, lags
