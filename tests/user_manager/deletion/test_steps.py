"""The steps of a deletion: their order, and when a failed one is tried again."""

from datetime import timedelta

from hypothesis import given, strategies as st

from user_manager.deletion.steps import BEGINS_AFTER, LONGEST_PAUSE, Step, retry_after


def test_the_pivot_is_first_and_the_record_goes_last() -> None:
    """Interests, account, late interests, record: each step leads to the next, and the last to none."""
    step, order = Step.DELETE_INTERESTS, [Step.DELETE_INTERESTS]
    while (following := step.next) is not None:
        order.append(following)
        step = following
    assert order == [Step.DELETE_INTERESTS, Step.ERASE, Step.DELETE_LATE_INTERESTS, Step.FORGET]
    assert set(BEGINS_AFTER) == set(Step)


def test_late_interests_are_deleted_once_nobody_believes_the_token() -> None:
    """The contract lets an answer be believed for 60 s."""
    assert BEGINS_AFTER[Step.DELETE_LATE_INTERESTS] > timedelta(seconds=60)


@given(st.integers(1, 1_000_000))
def test_pauses_grow_up_to_a_minute(attempts: int) -> None:
    """A dead collector is asked once a minute, however long it is dead."""
    assert timedelta(seconds=1) <= retry_after(attempts) <= retry_after(attempts + 1) <= LONGEST_PAUSE
