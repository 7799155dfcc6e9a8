"""A fake clock that a test advances by hand."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A clock whose time passes only when `advance` is called. Its seconds are real seconds."""

    def __init__(self, start: datetime = datetime(2013, 2, 13, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = timedelta(0)

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> timedelta:
        return self._elapsed

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)

    def advance(self, duration: timedelta) -> None:
        """Advance the time by `duration`. Raises ValueError if it is negative: time does not run backwards."""
        if duration < timedelta(0):
            raise ValueError(f"time does not run backwards, not even by {-duration}")
        self._now += duration
        self._elapsed += duration

    def set_wall_clock(self, instant: datetime) -> None:
        """Make `now` jump to another instant, later or earlier, as when somebody sets the wall clock; no time passes.

        `elapsed` does not change.
        """
        self._now = instant
