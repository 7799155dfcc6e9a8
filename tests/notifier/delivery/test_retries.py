from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies as st

from notifier.delivery.retries import (
    ALERT_LIFETIME,
    MAX_AGE,
    MAX_PAUSE,
    compute_backoff,
    compute_lifetime_start,
    compute_max_attempts,
    compute_next_attempt_time,
)

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


@given(
    age=st.timedeltas(timedelta(0), MAX_AGE),
    error=st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    is_wall_wrong=st.booleans(),
)
def test_one_right_clock_is_enough_to_give_up_no_younger_mail(
    age: timedelta, error: timedelta, is_wall_wrong: bool
) -> None:
    """Whichever of the two clocks is wrong, and by whatever, a mail never counts as older than it is, nor as unborn."""
    right, wrong = NOW + age, NOW + age + error
    now, wall_now = (right, wrong) if is_wall_wrong else (wrong, right)
    counted = now - compute_lifetime_start(NOW, now, wall_now)
    assert timedelta(0) <= counted <= age
    if error == timedelta(0):
        assert counted == age


@given(stored=st.timedeltas(timedelta(days=91), timedelta(days=9000)), is_ahead=st.booleans())
def test_an_impossible_age_counts_from_now(stored: timedelta, is_ahead: bool) -> None:
    """An event of the future, or one older than any topic keeps, was dated or is read by a wrong clock."""
    began = NOW + stored if is_ahead else NOW - stored
    assert compute_lifetime_start(began, NOW, NOW) == NOW


@given(
    base=st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=5)),
    lifetime=st.timedeltas(timedelta(minutes=1), timedelta(days=7)),
)
def test_the_attempts_end_with_a_stopped_clock_but_not_before_the_lifetime(
    base: timedelta, lifetime: timedelta
) -> None:
    """The shortest pauses between that many attempts last for the lifetime, and those between one fewer do not."""
    most = compute_max_attempts(base, lifetime)

    def sum_pauses(attempts: int) -> timedelta:
        few = sum((compute_backoff(each, base, 0.0) for each in range(1, min(attempts, 20) + 1)), timedelta(0))
        return few + max(attempts - 20, 0) * compute_backoff(21, base, 0.0)

    assert sum_pauses(most) >= lifetime > sum_pauses(most - 1)
