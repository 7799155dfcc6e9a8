"""The clock of the cluster's story: a file from which the manifests make a ConfigMap."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from chassis.clock import ScaledClock


def write(path: Path, clock: ScaledClock) -> None:
    """Write the clock as the variables that the services and the replay read."""
    stop = clock.stop.isoformat() if clock.stop else ""
    path.write_text(
        f"CLOCK_START={clock.start.isoformat()}\nCLOCK_RATE={clock.rate!r}\n"
        f"CLOCK_ANCHOR={clock.anchor.isoformat()}\nCLOCK_STOP={stop}\n"
    )


def for_daily_use(now: datetime) -> ScaledClock:
    """From the blizzard on, an hour in a minute, until the flights end: some five days."""
    return ScaledClock(datetime(2013, 2, 8, tzinfo=UTC), 60.0, now, datetime(2013, 12, 31, tzinfo=UTC))


def for_story(begin: datetime, end: datetime, lag: timedelta, now: datetime, takes_s: float) -> ScaledClock:
    """From `begin` on at `now`, so fast that `end` is reached `takes_s` real seconds later; it stops `lag` after it."""
    return ScaledClock(begin, (end - begin).total_seconds() / takes_s, now, end + lag)
