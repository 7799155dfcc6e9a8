"""The pause that a source requires of its clients when it answers with 429 (or 503 and `Retry-After`)."""

from collections.abc import Mapping
from datetime import timedelta

from chassis.clock import Clock
from collector.errors import SourceLimitedError
from collector.sources.opensky.answers import parse_pause


class RequiredPause:
    """The end of the pause that a source last required, in elapsed time of the service's clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = timedelta(0)

    def begin(self, headers: Mapping[str, str]) -> SourceLimitedError:
        """Begin the pause that an answer's headers require, or extend a running one; return the error to raise."""
        pause_s = parse_pause(headers, self._clock.now())
        self._until = max(self._until, self._clock.elapsed() + timedelta(seconds=pause_s))
        return SourceLimitedError(pause_s)

    def require_over(self) -> None:
        """Raise SourceLimitedError, with the seconds that are left, during a pause; do nothing after it."""
        left = self._until - self._clock.elapsed()
        if left > timedelta(0):
            raise SourceLimitedError(left.total_seconds())
