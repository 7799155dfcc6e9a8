"""The demo's deadline on progress: a story that gets no further ends with an error."""

import time
from datetime import datetime
from typing import Final

from chassis.clock import Clock
from local.errors import LocalError

STUCK_AFTER_S: Final = 60.0


class Progress:
    """The deadline on a wait's progress, not on the whole: a stack that gets no further is stuck."""

    def __init__(self, clock: Clock, stop: datetime) -> None:
        """`stop`: before the clock has reached it, no progress is required."""
        self._clock = clock
        self._stop = stop
        self._last: object = None
        self._progressed_at = time.monotonic()

    def require(self, state: object) -> None:
        """Raise LocalError if the state has been the same for a minute since the clock's stop."""
        if state != self._last or self._clock.now() < self._stop:
            self._last, self._progressed_at = state, time.monotonic()
        elif time.monotonic() - self._progressed_at > STUCK_AFTER_S:
            raise LocalError(
                f"nothing more is covered for {STUCK_AFTER_S:.0f} s; see the logs of collector and streams"
            )
