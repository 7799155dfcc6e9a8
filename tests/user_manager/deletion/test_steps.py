"""The steps of a deletion: their order, their delays and the backoff of retries."""

from datetime import timedelta

from hypothesis import given, strategies as st

from user_manager.deletion.steps import MAX_RETRY_DELAY, STEP_DELAYS, DeletionStep, compute_retry_delay


def test_the_pivot_is_first_and_the_record_goes_last() -> None:
    """The order is interests, account, late interests, record; the last step has no next one."""
    step, order = DeletionStep.DELETE_INTERESTS, [DeletionStep.DELETE_INTERESTS]
    while (following := step.next) is not None:
        order.append(following)
        step = following
    assert order == [
        DeletionStep.DELETE_INTERESTS,
        DeletionStep.ERASE_ACCOUNT,
        DeletionStep.DELETE_LATE_INTERESTS,
        DeletionStep.DELETE_RECORD,
    ]
    assert set(STEP_DELAYS) == set(DeletionStep)


def test_late_interests_are_deleted_once_no_service_accepts_the_token() -> None:
    """The contract lets a service cache a response of Authenticate for 60 s."""
    assert STEP_DELAYS[DeletionStep.DELETE_LATE_INTERESTS] > timedelta(seconds=60)


@given(st.integers(1, 1_000_000))
def test_retry_delays_grow_up_to_a_minute(attempts: int) -> None:
    """The delay never shrinks with the number of attempts, and is a minute at most."""
    assert timedelta(seconds=1) <= compute_retry_delay(attempts) <= compute_retry_delay(attempts + 1) <= MAX_RETRY_DELAY
