from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from notifier.delivery.retries import ALERT_LIFETIME, MAX_PAUSE, compute_backoff, compute_next_attempt_time

BASE = timedelta(seconds=5)
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_the_backoff_doubles_up_to_the_maximum() -> None:
    """Attempts become rarer, but never stop before the lifetime is over."""
    assert [compute_backoff(attempt, BASE, 1).total_seconds() for attempt in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert compute_backoff(1000, BASE, 1) == MAX_PAUSE


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0.01, 300))
def test_a_pause_is_at_least_half_of_its_full_length(attempt: int, chance: float, base: float) -> None:
    """The jitter spreads mails that failed together, and makes no attempt immediate."""
    full = compute_backoff(attempt, timedelta(seconds=base), 1)
    assert full / 2 <= compute_backoff(attempt, timedelta(seconds=base), chance) <= full <= MAX_PAUSE


def test_attempts_continue_until_the_lifetime_is_over() -> None:
    """The last attempt is at the end of the lifetime; after that the mail is given up."""
    first = NOW - ALERT_LIFETIME + timedelta(seconds=3)
    assert compute_next_attempt_time(NOW, 5, first, BASE, 1) == first + ALERT_LIFETIME
    assert compute_next_attempt_time(first + ALERT_LIFETIME, 6, first, BASE, 1) is None
    assert compute_next_attempt_time(NOW, 1, NOW, BASE, 1, lifetime=timedelta(seconds=1)) == NOW + timedelta(seconds=1)


@given(st.integers(1, 50), st.floats(0, 1), st.integers(-100, 230))
def test_no_attempt_is_made_before_not_before(attempt: int, chance: float, wait_s: int) -> None:
    """While the circuit is open an attempt is useless; after it the attempts are spread."""
    not_before = NOW + timedelta(seconds=wait_s)
    at = compute_next_attempt_time(NOW, attempt, NOW, BASE, chance, not_before)
    assert at is not None
    assert max(not_before, NOW + compute_backoff(attempt, BASE, chance)) <= at <= NOW + MAX_PAUSE


def test_no_pause_exceeds_the_maximum() -> None:
    """A wrong clock in `not_before` delays no attempt further."""
    assert compute_next_attempt_time(NOW, 1, NOW, BASE, 1, NOW + timedelta(days=9)) == NOW + MAX_PAUSE
