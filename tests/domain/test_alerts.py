"""Tests of the bounds: a count compared with a threshold."""

import pytest
from hypothesis import given, strategies as st

from domain.alerts import Bound, list_thresholds
from tests.domain.logs import an_interest


@given(count=st.integers(0, 10), threshold=st.integers(0, 10))
def test_a_count_equal_to_the_threshold_breaches_no_bound(count: int, threshold: int):
    """More flights than a high threshold are a breach, and fewer than a low one; the same number is neither."""
    assert Bound.HIGH.is_breached(count, threshold) == (count > threshold)
    assert Bound.LOW.is_breached(count, threshold) == (count < threshold)


@given(counts=st.lists(st.integers(0, 10), min_size=1), threshold=st.integers(0, 10), bound=st.sampled_from(Bound))
def test_if_any_count_is_a_breach_the_worst_count_is(counts: list[int], threshold: int, bound: Bound):
    """The worst count is one of the counts, and no other count is a breach unless the worst is one."""
    worst = bound.worst_of(counts)
    assert worst in counts
    assert bound.is_breached(worst, threshold) == any(bound.is_breached(count, threshold) for count in counts)


def test_the_worst_of_no_counts_is_an_error():
    """An empty sequence has no worst count."""
    with pytest.raises(ValueError, match="empty"):
        Bound.LOW.worst_of([])


def test_only_the_thresholds_that_an_interest_has_are_listed():
    """A threshold of zero is a threshold; None is none. High comes before low."""
    assert list_thresholds(an_interest(high=4, low=0)) == [(Bound.HIGH, 4), (Bound.LOW, 0)]
    assert list_thresholds(an_interest(high=None, low=3)) == [(Bound.LOW, 3)]
    assert list_thresholds(an_interest(high=0, low=None)) == [(Bound.HIGH, 0)]
