"""Clocks that are passed in as parameters, so that tests, replays and demos control the time.

Code that needs the time takes a `Clock`, and never calls `datetime.now()`. Processes of one local stack get the same
four values (start, rate, anchor, stop) and therefore agree on the time, even after one of them was restarted.

An instant (`now`) is for what is stored, shown or compared with others. A period inside the process (a pause, the age
of a token) is measured by `elapsed`, which a correction of the wall clock does not change.
"""

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_MONOTONIC: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""The clock of `elapsed`: monotonic, and it runs on while the machine is suspended. On Linux that is CLOCK_BOOTTIME
(clock_gettime(2)); macOS has no such name, and its CLOCK_MONOTONIC does the same."""
_STARTED_AT_NS: Final = time.clock_gettime_ns(_MONOTONIC)
"""Time of that clock when this module was imported. `elapsed` counts from it, to fit into a timedelta at any rate."""


class Clock(Protocol):
    """A source of the present time, which may be shifted, run faster or slower than real time, or be halted."""

    def now(self) -> datetime:
        """Return the present instant: aware, in UTC. It jumps, in either direction, when the wall clock is set."""
        ...

    def elapsed(self) -> timedelta:
        """Return the time that has passed on this clock since a fixed point of this process, for differences only.

        It never decreases, does not jump when the wall clock is set, and goes on after the clock's stop. Other
        processes have other fixed points: it must not be stored.
        """
        ...

    def real_seconds(self, duration: timedelta) -> float:
        """Return the real seconds that `duration` takes on this clock, for timers. Never negative."""
        ...


@dataclass(frozen=True, slots=True)
class SystemClock:
    """The machine's clock: real time, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> timedelta:
        return timedelta(microseconds=(time.clock_gettime_ns(_MONOTONIC) - _STARTED_AT_NS) // 1000)

    def real_seconds(self, duration: timedelta) -> float:
        return max(duration.total_seconds(), 0.0)


class SteadyClock:
    """A clock that shows the time at which it was made plus the time that has passed since then on another clock.

    It does not jump or halt when that clock, the wall clock, does: for a process that orders its work by due times. It
    stays wrong if the wall clock was wrong when it was made, so instants that people read are of `wall`, and what was
    stored by another process is bounded before it is compared with this clock.
    """

    def __init__(self, wall: Clock) -> None:
        """`wall`: the clock that people read."""
        self.wall = wall
        self._offset = wall.now() - wall.elapsed()

    def now(self) -> datetime:
        return self._offset + self.wall.elapsed()

    def elapsed(self) -> timedelta:
        return self.wall.elapsed()

    def real_seconds(self, duration: timedelta) -> float:
        return self.wall.real_seconds(duration)


@dataclass(frozen=True, slots=True)
class ScaledClock:
    """A clock that shows `start` at the real instant `anchor`, runs at `rate` times real speed, and halts at `stop`.

    `start` and `stop` are instants that this clock shows; `anchor` is an instant of `real`, in the past or the future.
    Raises ValueError when the rate is not a positive finite number, an instant is naive, or `stop` precedes `start`.
    """

    start: datetime
    rate: float
    anchor: datetime
    stop: datetime | None = None
    real: Clock = SystemClock()

    def __post_init__(self) -> None:
        _require_positive(self.rate)
        for name, instant in (("start", self.start), ("anchor", self.anchor), ("stop", self.stop)):
            if instant is not None and instant.utcoffset() is None:
                raise ValueError(
                    f"CLOCK_{name.upper()}: the clock's {name} must name its offset from UTC; Z at its end means UTC"
                )
        if self.stop is not None and self.stop < self.start:
            raise ValueError("CLOCK_STOP: the clock would stop before its start, CLOCK_START")

    def now(self) -> datetime:
        """Return the instant that this clock shows: aware, in UTC, and never after `stop`."""
        # Converted to UTC first: in a zone with daylight saving time, addition would be by the zone's wall clock.
        shown = self.start.astimezone(UTC) + (self.real.now() - self.anchor) * self.rate
        return shown if self.stop is None else min(shown, self.stop.astimezone(UTC))

    def is_halted(self) -> bool:
        """Return True if the clock has reached its stop, and does not go on; False if it runs."""
        return self.stop is not None and self.now() >= self.stop

    def elapsed(self) -> timedelta:
        """Return the elapsed real time, multiplied by the rate, as if the clock never halted.

        So a pause that began on a halted clock ends, as its timer does (`real_seconds`); if `elapsed` halted too, a
        rate limit, an open circuit breaker or an expired token would stay for ever.
        """
        return self.real.elapsed() * self.rate

    def real_seconds(self, duration: timedelta) -> float:
        """Return the real seconds that `duration` takes, as if the clock never halted.

        So the timers of a halted clock keep firing, although `now` does not change.
        """
        return max(duration.total_seconds(), 0.0) / self.rate


def build_clock(
    start: datetime | None, rate: float = 1.0, anchor: datetime | None = None, stop: datetime | None = None
) -> Clock:
    """Return the clock that four settings describe: the machine's clock without a start, else a scaled clock.

    Without an anchor a scaled clock shows `start` at the moment of this call, which suits a process that shares no
    clock with others. Raises ValueError as `ScaledClock` does, and when a rate, an anchor or a stop is given without a
    start.
    """
    if start is not None:
        return ScaledClock(start, rate, anchor or datetime.now(UTC), stop)
    _require_positive(rate)
    if rate != 1.0 or anchor is not None or stop is not None:
        raise ValueError(
            "CLOCK_START is missing: a clock with CLOCK_RATE, CLOCK_ANCHOR or CLOCK_STOP needs a start too"
        )
    return SystemClock()


def _require_positive(rate: float) -> None:
    """Raise ValueError unless the clock's rate is a positive finite number."""
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"the clock's rate must be a number above 0, not {rate}")
