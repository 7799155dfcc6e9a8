"""The retry schedule: backoff and the time of the next attempt. Pure: the time and the random number are parameters."""

from datetime import datetime, timedelta
from typing import Final

MAX_PAUSE: Final = timedelta(minutes=4)
"""The longest pause before an attempt. A waiting alert is in memory and its event is not acknowledged; a worker that
acknowledges no event for `stuck_after_s` (ten minutes by default, at least eight) counts as stuck. Retries wait side by
side, none behind another."""

ALERT_LIFETIME: Final = timedelta(hours=24)
"""The default age, from the first attempt, at which an alert is given up and dead-lettered."""

CONFIRMATION_LIFETIME: Final = timedelta(days=7)
"""The age at which a confirmation request is given up: as long as the link in a confirmation mail is valid
(`user_manager.links.CONFIRMATION_LINK_LIFETIME`)."""


def compute_backoff(attempt: int, base: timedelta, chance: float) -> timedelta:
    """Return the pause after attempt number `attempt` (from 1) failed: exponential backoff with jitter.

    The pause doubles with each attempt, from `base` to MAX_PAUSE at most. One half is fixed, the other is multiplied by
    `chance` (from 0 to 1), so that mails that failed together are not retried together.
    """
    doublings = min(attempt - 1, 16)  # enough to pass MAX_PAUSE, and no overflow
    full = min(base * float(2**doublings), MAX_PAUSE)
    return full / 2 + full / 2 * chance


def compute_next_attempt_time(
    now: datetime,
    attempt: int,
    first_attempt_at: datetime,
    base: timedelta,
    chance: float,
    not_before: datetime | None = None,
    lifetime: timedelta = ALERT_LIFETIME,
) -> datetime | None:
    """Return the time of the next attempt after attempt number `attempt` (from 1) failed `now`; None: give up.

    Gives up once `lifetime` has passed since `first_attempt_at`. The pause is that of `compute_backoff`. `not_before`,
    if known, is the time before which no attempt can succeed (`NotSent.retry_at`). It is respected up to MAX_PAUSE from
    now, and mails that wait for it are spread over a further pause. The result is never later than the end of the
    lifetime, at which the last attempt is made.
    """
    end = first_attempt_at + lifetime
    if now >= end:
        return None
    pause = compute_backoff(attempt, base, chance)
    wait = max(not_before - now, timedelta(0)) if not_before is not None else timedelta(0)
    if wait > pause:
        pause = wait + min(compute_backoff(1, base, chance), wait)
    return min(now + min(pause, MAX_PAUSE), end)
