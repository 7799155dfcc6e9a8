"""A fake clock that a test advances by hand."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """A clock whose time changes only when `advance` is called. Its seconds are real seconds."""

    def __init__(self, start: datetime = datetime(2013, 2, 13, tzinfo=UTC)) -> None:
        self._now = start

    def now(self) -> datetime:
        return self._now

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)

    def advance(self, duration: timedelta) -> None:
        """Advance the time by `duration`. Raises ValueError if it is negative: time does not run backwards."""
        if duration < timedelta(0):
            raise ValueError(f"time does not run backwards, not even by {-duration}")
        self._now += duration
