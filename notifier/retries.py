"""When to try again. Pure: time and chance are handed in."""

from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(minutes=4)
"""No pause is longer: retries queue up behind one another, and Faust takes a stream for stuck after five minutes."""

LIFETIME: Final = timedelta(hours=24)
"""So long after its first try an alert is news; later it becomes a dead letter."""

CONFIRMATION_TRIES: Final = 5
"""Of one confirmation mail while its recipient alone is refused; others wait behind it meanwhile (75 s at most,
with the first pause at its default of 5 s)."""


def pause_after(attempt: int, base: timedelta, chance: float) -> timedelta:
    """How long to wait after try number `attempt` (from 1) failed.

    Doubles from `base` to LONGEST. Half of it is fixed, half is `chance` (from 0 to 1), so that what failed together
    does not come back together.
    """
    doublings = min(attempt - 1, 16)  # enough to pass LONGEST, and no overflow
    full = min(base * float(2**doublings), LONGEST)
    return full / 2 + full / 2 * chance
