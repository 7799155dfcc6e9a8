from datetime import timedelta

from hypothesis import given, strategies as st

from notifier.retries import LONGEST, pause_after

BASE = timedelta(seconds=5)


def test_pauses_double_up_to_the_longest() -> None:
    """Who is refused again and again is asked less and less often, but never forgotten."""
    assert [pause_after(attempt, BASE, 1).total_seconds() for attempt in (1, 2, 3, 4)] == [5, 10, 20, 40]
    assert pause_after(1000, BASE, 1) == LONGEST


@given(st.integers(1, 10**9), st.floats(0, 1), st.floats(0.01, 300))
def test_a_pause_is_at_least_half_of_its_full_length(attempt: int, chance: float, base: float) -> None:
    """Chance spreads tries that failed together, and never makes one immediate."""
    full = pause_after(attempt, timedelta(seconds=base), 1)
    assert full / 2 <= pause_after(attempt, timedelta(seconds=base), chance) <= full <= LONGEST
