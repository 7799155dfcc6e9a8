"""A limit of mails per minute. Pure: the caller passes the elapsed time of its clock."""

from collections import deque
from datetime import timedelta
from typing import Final

MINUTE: Final = timedelta(minutes=1)


class RateLimit:
    """A sliding-window rate limit: no interval of one minute has more than `mails_per_minute` mails.

    The caller reserves a time for each mail, and waits for that time itself.
    """

    def __init__(self, mails_per_minute: int) -> None:
        """`mails_per_minute` is at least 1."""
        self._send_times: deque[timedelta] = deque(maxlen=mails_per_minute)
        """Of the latest mails, at most as many as one minute may have."""

    def reserve(self, now: timedelta) -> timedelta:
        """Reserve and return the earliest time at which the next mail may be sent.

        Times are elapsed times of one clock (`Clock.elapsed`). The time is `now` or later, never before an earlier
        reservation, and a minute or more after the reservation `mails_per_minute` mails ago. A reservation cannot be
        given back.
        """
        if self._send_times:
            now = max(now, self._send_times[-1])
        if len(self._send_times) == self._send_times.maxlen:
            now = max(now, self._send_times[0] + MINUTE)
        self._send_times.append(now)
        return now
