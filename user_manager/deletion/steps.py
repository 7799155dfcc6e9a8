"""The deletion of an account as a list of steps, and when a step is tried again. Pure."""

from datetime import timedelta
from enum import StrEnum
from typing import Final


class Step(StrEnum):
    """What a deletion does, in this order. Each step is safe to repeat, and is repeated until it succeeded."""

    DELETE_INTERESTS = "delete_interests"
    """At the collector: the pivot. While it fails nothing is touched; once it succeeded the deletion will complete."""
    ERASE = "erase"
    """The account and all that is known of the person, here, together with the event that says so."""
    DELETE_LATE_INTERESTS = "late_interests"
    """At the collector once more: what was set while the collector still believed the token."""
    FORGET = "forget"
    """The deletion itself."""

    @property
    def next(self) -> "Step | None":
        """The step after this one; None after the last."""
        order = list(Step)
        place = order.index(self) + 1
        return order[place] if place < len(order) else None


BEGINS_AFTER: Final = {
    Step.DELETE_INTERESTS: timedelta(0),
    Step.ERASE: timedelta(0),
    # The contract lets an answer of Authenticate be believed for a minute; the request that relies on it may take
    # another half.
    Step.DELETE_LATE_INTERESTS: timedelta(minutes=2),
    # So long can be asked how a deletion went.
    Step.FORGET: timedelta(days=1),
}
"""How long after the step before it each step begins."""

LONGEST_PAUSE: Final = timedelta(minutes=1)


def retry_after(attempts: int) -> timedelta:
    """How long a step rests that has failed `attempts` times (at least 1): 1 s, 2 s, 4 s … up to `LONGEST_PAUSE`."""
    seconds: int = 2 ** min(attempts - 1, 10)
    return min(timedelta(seconds=seconds), LONGEST_PAUSE)
