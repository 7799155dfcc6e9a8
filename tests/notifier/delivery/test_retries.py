from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from notifier.delivery.retries import LIFETIME, LONGEST, next_try, pause_after

BASE = timedelta(seconds=5)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_pauses_double_up_to_the_longest() -> None:
    """Who is refused again and again is asked less and less often, but never forgotten."""
    assert [pause_after(attempt, BASE, 1).total_seconds() for attempt in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert pause_after(1000, BASE, 1) == LONGEST


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0.01, 300))
def test_a_pause_is_at_least_half_of_its_full_length(attempt: int, chance: float, base: float) -> None:
    """Chance spreads tries that failed together, and never makes one immediate."""
    full = pause_after(attempt, timedelta(seconds=base), 1)
    assert full / 2 <= pause_after(attempt, timedelta(seconds=base), chance) <= full <= LONGEST


def test_tries_go_on_until_the_lifetime_is_over() -> None:
    """The last one comes at its end, and after that none."""
    first = NOW - LIFETIME + timedelta(seconds=3)
    assert next_try(NOW, 5, first, BASE, 1) == first + LIFETIME
    assert next_try(first + LIFETIME, 6, first, BASE, 1) is None
    assert next_try(NOW, 1, NOW, BASE, 1, lifetime=timedelta(seconds=1)) == NOW + timedelta(seconds=1)


@given(st.integers(1, 50), st.floats(0, 1), st.integers(-100, 230))
def test_what_cannot_succeed_before_is_not_tried_before(attempt: int, chance: float, wait_s: int) -> None:
    """While a server is left alone there is no use in asking; afterwards not all come at once."""
    not_before = NOW + timedelta(seconds=wait_s)
    at = next_try(NOW, attempt, NOW, BASE, chance, not_before)
    assert at is not None
    assert max(not_before, NOW + pause_after(attempt, BASE, chance)) <= at <= NOW + LONGEST


def test_nobody_waits_longer_than_the_longest_pause() -> None:
    """Whatever a clock that is wrong has put into `not_before`."""
    assert next_try(NOW, 1, NOW, BASE, 1, NOW + timedelta(days=9)) == NOW + LONGEST
