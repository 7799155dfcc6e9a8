"""How many mails in a minute. Pure: time is handed in."""

from collections import deque
from datetime import datetime, timedelta
from typing import Final

MINUTE: Final = timedelta(minutes=1)


class Pace:
    """Gives each mail the time at which it may go, so that no minute, wherever it begins, sees more than so many."""

    def __init__(self, mails_per_minute: int) -> None:
        """`mails_per_minute` is at least 1."""
        self._times: deque[datetime] = deque(maxlen=mails_per_minute)

    def next(self, now: datetime) -> datetime:
        """When the next mail may go: `now` or later, never before the one that asked before it."""
        if self._times:
            now = max(now, self._times[-1])
        if len(self._times) == self._times.maxlen:
            now = max(now, self._times[0] + MINUTE)
        self._times.append(now)
        return now
