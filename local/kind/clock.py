"""The cluster's clock: a file from which the manifests make a ConfigMap."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from chassis.clock import ScaledClock


def write_clock(path: Path, clock: ScaledClock) -> None:
    """Write the clock to a file, as the CLOCK_… environment variables that the services and the replay read.

    An existing file is overwritten. CLOCK_STOP is empty for a clock that never stops.
    """
    stop = clock.stop.isoformat() if clock.stop else ""
    path.write_text(
        f"CLOCK_START={clock.start.isoformat()}\nCLOCK_RATE={clock.rate!r}\n"
        f"CLOCK_ANCHOR={clock.anchor.isoformat()}\nCLOCK_STOP={stop}\n"
    )


def make_daily_clock(now: datetime) -> ScaledClock:
    """Make a clock that shows 8 February 2013, the day of the blizzard, at `now`, and runs 60 times as fast.

    It stops on 31 December 2013, where the flights end: some five real days later.
    """
    return ScaledClock(datetime(2013, 2, 8, tzinfo=UTC), 60.0, now, datetime(2013, 12, 31, tzinfo=UTC))


def make_scenario_clock(
    begin: datetime, end: datetime, covered_after: timedelta, now: datetime, takes_s: float
) -> ScaledClock:
    """Make a clock that shows `begin` at `now`, and `end` `takes_s` real seconds later.

    It stops `covered_after` after `end`, when the last day is covered, and no later one.
    """
    return ScaledClock(begin, (end - begin).total_seconds() / takes_s, now, end + covered_after)
