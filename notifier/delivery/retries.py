"""The retry schedule: backoff and the time of the next attempt. Pure: the time and the random number are parameters."""

from datetime import datetime, timedelta
from functools import lru_cache
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

_MAX_DOUBLINGS: Final = 16
"""Of the backoff: enough to pass MAX_PAUSE, and no overflow."""

MAX_AGE: Final = timedelta(days=90)
"""No topic keeps an event as long as this: an event that seems older was dated, or is read, by a wrong clock."""


def compute_lifetime_start(stored: datetime, now: datetime, wall_now: datetime) -> datetime:
    """Return the time, on the clock of `now`, from which the lifetime of an event counts that began at `stored`.

    `now` is of the process's steady clock and `wall_now` of the wall clock: either may be wrong, as may the clock that
    wrote `stored`. Of the two ages those below zero or above MAX_AGE are ignored, and the smaller one counts, so that
    no mail is given up because a clock was set; without a credible age the lifetime begins now. A mail is then given
    up by its attempts (`compute_max_attempts`).
    """
    ages = [age for age in (now - stored, wall_now - stored) if timedelta(0) <= age <= MAX_AGE]
    return now - min(ages, default=timedelta(0))


@lru_cache(maxsize=16)
def compute_max_attempts(base: timedelta, lifetime: timedelta) -> int:
    """Return the number of failed attempts after which a lifetime is over whatever the clocks show.

    That many pauses last for the lifetime even if each is as short as its jitter allows.
    """
    attempts, left = 0, lifetime
    while left > timedelta(0) and attempts < _MAX_DOUBLINGS:
        attempts += 1
        left -= compute_backoff(attempts, base, 0.0)
    longest = max(compute_backoff(_MAX_DOUBLINGS + 1, base, 0.0), timedelta(milliseconds=1))
    return attempts + max(-(-left // longest), 0)


def compute_backoff(attempt: int, base: timedelta, chance: float) -> timedelta:
    """Return the pause after attempt number `attempt` (from 1) failed: exponential backoff with jitter.

    The pause doubles with each attempt, from `base` to MAX_PAUSE at most. One half is fixed, the other is multiplied by
    `chance` (from 0 to 1), so that mails that failed together are not retried together.
    """
    doublings = min(attempt - 1, _MAX_DOUBLINGS)
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
