"""When to try again. Pure: time and chance are handed in."""

from datetime import datetime, timedelta
from typing import Final

LONGEST: Final = timedelta(minutes=4)
"""No pause is longer. What waits is in hand, and its event not acknowledged; a worker that acknowledges nothing for
`stuck_after_s` (ten minutes, eight at least) is taken for stuck. Retries wait side by side, none behind another."""

LIFETIME: Final = timedelta(hours=24)
"""So long after its first try an alert is news; later it becomes a dead letter."""

CONFIRMATION_TRIES: Final = 5
"""Of one confirmation mail while its recipient alone is refused: within 75 s, with the first pause at its default of
5 s. Nobody else's waits behind it."""


def pause_after(attempt: int, base: timedelta, chance: float) -> timedelta:
    """How long to wait after try number `attempt` (from 1) failed.

    Doubles from `base` to LONGEST. Half of it is fixed, half is `chance` (from 0 to 1), so that what failed together
    does not come back together.
    """
    doublings = min(attempt - 1, 16)  # enough to pass LONGEST, and no overflow
    full = min(base * float(2**doublings), LONGEST)
    return full / 2 + full / 2 * chance


def next_try(
    now: datetime,
    attempt: int,
    first_attempt_at: datetime,
    base: timedelta,
    chance: float,
    not_before: datetime | None = None,
    lifetime: timedelta = LIFETIME,
) -> datetime | None:
    """When to try again after try number `attempt` (from 1) failed `now`; None when it would come too late.

    `not_before`, where known, is before when no try can succeed (`NotSent.retry_at`); it is honoured up to LONGEST from
    now, and what waits for it comes spread over a pause, not all at once. The last try is at the end of the lifetime.
    """
    end = first_attempt_at + lifetime
    if now >= end:
        return None
    pause = pause_after(attempt, base, chance)
    wait = max(not_before - now, timedelta(0)) if not_before is not None else timedelta(0)
    if wait > pause:
        pause = wait + min(pause_after(1, base, chance), wait)
    return min(now + min(pause, LONGEST), end)
