"""The prices of API calls and the credit accounts."""

import pytest
from hypothesis import given, strategies as st

from local.opensky.credits import DAY, Bucket, CreditAccounts, compute_price, count_days
from local.opensky.errors import OutOfCredits

NOW = 20 * DAY + 3_600


@pytest.mark.parametrize(
    ("begin", "end", "credits"),
    [
        (NOW - 60, NOW, 4),
        (NOW - DAY, NOW, 4),
        (NOW - DAY - 1, NOW - DAY, 30),
        (18 * DAY, 19 * DAY - 1, 30),
        (18 * DAY, 20 * DAY - 1, 30),
        (18 * DAY, 20 * DAY, 180),
        (1 * DAY, 11 * DAY - 1, 600),
    ],
)
def test_older_days_cost_more(begin: int, end: int, credits: int) -> None:
    """The last 24 hours cost 4; else one or two day partitions cost 30, three to ten cost 60 each."""
    assert compute_price(begin, end, NOW) == credits


@given(st.integers(0, 10 * DAY), st.integers(0, 10 * DAY))
def test_partitions_are_the_days_of_utc_that_are_touched(begin: int, length: int) -> None:
    """Both ends belong to the interval, so an end at midnight touches the day that begins there."""
    touched = {begin // DAY, (begin + length) // DAY, *range(begin // DAY, (begin + length) // DAY)}
    assert count_days(begin, begin + length) == len(touched)


@given(st.lists(st.integers(1, 60), max_size=30))
def test_no_caller_spends_more_than_the_allowance(costs: list[int]) -> None:
    """A rejected charge costs nothing, and the returned remainder is right."""
    ledger, left = CreditAccounts(), 400
    for cost in costs:
        if cost <= left:
            left -= cost
            assert ledger.charge("somebody", Bucket.FLIGHTS, 400, cost, NOW) == left
        else:
            with pytest.raises(OutOfCredits):
                ledger.charge("somebody", Bucket.FLIGHTS, 400, cost, NOW)


def test_credits_return_at_midnight_and_belong_to_one_caller() -> None:
    """The error's retry time is the rest of the day, to the second; callers' accounts are independent."""
    ledger = CreditAccounts()
    ledger.charge("one", Bucket.FLIGHTS, 30, 30, NOW)
    ledger.charge("another", Bucket.FLIGHTS, 30, 30, NOW)
    with pytest.raises(OutOfCredits) as refused:
        ledger.charge("one", Bucket.FLIGHTS, 30, 4, NOW)
    with pytest.raises(OutOfCredits):
        ledger.charge("one", Bucket.FLIGHTS, 30, 4, NOW + refused.value.retry_after - 1)
    assert ledger.charge("one", Bucket.FLIGHTS, 30, 4, NOW + refused.value.retry_after) == 26


@given(st.lists(st.tuples(st.sampled_from(Bucket), st.integers(1, 60)), max_size=60))
def test_the_buckets_are_independent(charges: list[tuple[Bucket, int]]) -> None:
    """Each bucket has the whole allowance, whatever is spent in the others."""
    accounts, left = CreditAccounts(), dict.fromkeys(Bucket, 400)
    for bucket, cost in charges:
        if cost <= left[bucket]:
            left[bucket] -= cost
            assert accounts.charge("somebody", bucket, 400, cost, NOW) == left[bucket]
        else:
            with pytest.raises(OutOfCredits):
                accounts.charge("somebody", bucket, 400, cost, NOW)
