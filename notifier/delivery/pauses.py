"""The growing pause after failures of user_manager, which all mails respect."""

import random
from datetime import datetime, timedelta
from typing import Final

from notifier.delivery.retries import compute_backoff

_BASE: Final = timedelta(seconds=1)
_LONGEST: Final = timedelta(seconds=30)


class UserManagerPause:
    """The pause between requests for contacts while user_manager is unavailable."""

    def __init__(self) -> None:
        self._failures = 0
        """The number of consecutive pauses after failures."""
        self._until: datetime | None = None

    def begin(self, now: datetime) -> datetime:
        """Begin a pause after a failure, unless one is running already; return the end of the pause.

        The pauses grow with each consecutive one, from _BASE to _LONGEST.
        """
        if self._until is None or self._until <= now:
            self._failures += 1
            self._until = now + min(compute_backoff(self._failures, _BASE, random.random()), _LONGEST)
        return self._until

    def reset(self) -> None:
        """Let the next pause be a short one again: user_manager has answered."""
        self._failures = 0
