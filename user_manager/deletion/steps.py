"""The steps of an account's deletion, and the delays before steps and retries. Pure."""

from datetime import timedelta
from enum import StrEnum
from typing import Final


class DeletionStep(StrEnum):
    """A step of the deletion saga, in execution order. Each step is idempotent, and is retried until it succeeds."""

    DELETE_INTERESTS = "delete_interests"
    """Delete the interests at the collector: the pivot. Until it succeeds nothing else changes; once it has succeeded
    the deletion will complete."""
    ERASE_ACCOUNT = "erase"
    """Delete the account and all personal data in this service, together with the event that announces it."""
    DELETE_LATE_INTERESTS = "late_interests"
    """Delete the interests at the collector again: those set while the collector still accepted the token."""
    DELETE_RECORD = "forget"
    """Delete the record of the deletion itself."""

    @property
    def next(self) -> "DeletionStep | None":
        """Return the step after this one; None after the last step."""
        steps = list(DeletionStep)
        position = steps.index(self) + 1
        return steps[position] if position < len(steps) else None


STEP_DELAYS: Final = {
    DeletionStep.DELETE_INTERESTS: timedelta(0),
    DeletionStep.ERASE_ACCOUNT: timedelta(0),
    # The contract lets the collector cache a response of Authenticate for a minute; the request that relies on it may
    # take another half.
    DeletionStep.DELETE_LATE_INTERESTS: timedelta(minutes=2),
    # The status of a completed deletion can be queried for this long.
    DeletionStep.DELETE_RECORD: timedelta(days=1),
}
"""Delay of each step after the end of the step before it."""

MAX_RETRY_DELAY: Final = timedelta(minutes=1)


def compute_longest_wait(step: DeletionStep) -> timedelta:
    """Compute the longest time from now at which an attempt of `step` can be due."""
    return max(STEP_DELAYS[step], MAX_RETRY_DELAY)


def compute_retry_delay(attempts: int) -> timedelta:
    """Compute the backoff after `attempts` (at least 1) failures of a step: 1 s, 2 s, 4 s … up to `MAX_RETRY_DELAY`."""
    seconds: int = 2 ** min(attempts - 1, 10)
    return min(timedelta(seconds=seconds), MAX_RETRY_DELAY)
