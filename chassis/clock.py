"""Clocks that are passed in as parameters, so that tests, replays and demos control the time.

Code that needs the time takes a `Clock`, and never calls `datetime.now()`. Processes of one local stack get the same
four values (start, rate, anchor, stop) and therefore agree on the time, even after one of them was restarted. In place
of the anchor they may get the file in which it will be: then their clock is held until all of them are ready.

An instant (`now`) is for what is stored, shown or compared with others. A period inside the process (a pause, the age
of a token) is measured by `elapsed`, which a correction of the wall clock does not change.
"""

import math
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple, Protocol

from chassis.faults import explain_unreadable

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


class HeldClock:
    """A clock that shows `start` until a file holds its anchor; since then it is the `ScaledClock` of that anchor.

    All processes with the same file and values agree on the time, also those that start after the release. Before it
    no time elapses either, so a pause that begins on the held clock ends only after the release. Safe for threads.
    """

    def __init__(
        self, start: datetime, rate: float, path: Path, stop: datetime | None = None, real: Clock | None = None
    ) -> None:
        """`path`: the file of the anchor, in a folder that exists. The other values are as of `ScaledClock`.

        Raises ValueError as `ScaledClock` does, and if the folder does not exist or the file holds no instant.
        """
        self._held = ScaledClock(start, rate, start, stop, real or SystemClock())
        self._path = path
        self._lock = Lock()
        self._release: _Release | None = None
        if not path.absolute().parent.is_dir():
            raise ValueError("CLOCK_ANCHOR_PATH: names a file in a folder that does not exist; make the folder first")
        self._find_release()

    def now(self) -> datetime:
        """Return the instant that this clock shows: aware, in UTC, never before `start` and never after `stop`.

        Raises ValueError if the file has appeared and holds no instant.
        """
        release = self._find_release()
        start = self._held.start.astimezone(UTC)
        return start if release is None else max(start, release.clock.now())

    def elapsed(self) -> timedelta:
        """Return the time that has passed since the release, multiplied by the rate; zero before it.

        It goes on after the clock's stop, as that of `ScaledClock`. Raises ValueError as `now` does.
        """
        release = self._find_release()
        if release is None:
            return timedelta(0)
        return max(self._held.real.elapsed() - release.elapsed, timedelta(0)) * self._held.rate

    def real_seconds(self, duration: timedelta) -> float:
        """Return the real seconds that `duration` takes once the clock runs, so timers fire on a held clock, too."""
        return self._held.real_seconds(duration)

    def is_halted(self) -> bool:
        """Return True if the clock has reached its stop, and does not go on; False if it runs or is still held."""
        release = self._find_release()
        return release is not None and release.clock.is_halted()

    def release(self) -> ScaledClock:
        """Make the clock of all processes run from now on, and return it. A clock that runs already is left as it is.

        The file appears whole. Raises OSError if it cannot be written.
        """
        release = self._find_release()
        if release is None:
            anchor = self._held.real.now()
            part = self._path.with_name(f"{self._path.name}.part")
            part.write_text(anchor.isoformat(), encoding="ascii")
            part.replace(self._path)
            release = self._store_release(anchor)
        return release.clock

    def _find_release(self) -> "_Release | None":
        """Return the release, None before it; the file is looked for until then, and never again."""
        if self._release is None and (anchor := _read_anchor(self._path)) is not None:
            return self._store_release(anchor)
        return self._release

    def _store_release(self, anchor: datetime) -> "_Release":
        """Store the release at `anchor`, unless another thread has stored one, and return what is stored.

        Measured once for all threads, as the elapsed time would else step back by the difference.
        """
        with self._lock:
            if self._release is None:
                real = self._held.real
                self._release = _Release(replace(self._held, anchor=anchor), real.elapsed() - (real.now() - anchor))
            return self._release


class _Release(NamedTuple):
    """The release of a held clock: the clock that it is since then, and when that was."""

    clock: ScaledClock
    elapsed: timedelta
    """The real elapsed time of this process at the anchor; below zero if the process started later."""


def _read_anchor(path: Path) -> datetime | None:
    """Return the instant in the file, None if there is no file. Raises ValueError for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"CLOCK_ANCHOR_PATH: names a file that cannot be read ({explain_unreadable(error)})") from None
    try:
        anchor = datetime.fromisoformat(text.strip())
    except ValueError:
        anchor = None
    if anchor is None or anchor.utcoffset() is None:
        raise ValueError(
            "CLOCK_ANCHOR_PATH: the file must hold one instant with its offset from UTC, like 2026-01-01T00:00:00Z"
        )
    return anchor


def build_clock(
    start: datetime | None,
    rate: float = 1.0,
    anchor: datetime | None = None,
    stop: datetime | None = None,
    anchor_path: Path | None = None,
) -> Clock:
    """Return the clock that five settings describe: the machine's clock without a start, else one with another time.

    That is a held clock if `anchor_path` names the file of its anchor, else a scaled clock. Without an anchor a scaled
    clock shows `start` at the moment of this call, which suits a process that shares no clock with others. Raises
    ValueError as `ScaledClock` and `HeldClock` do, when a rate, an anchor or a stop is given without a start, and when
    the anchor is given twice.
    """
    if start is not None and anchor_path is not None:
        if anchor is not None:
            raise ValueError("CLOCK_ANCHOR_PATH: the anchor is in this file or in CLOCK_ANCHOR; unset one of them")
        return HeldClock(start, rate, anchor_path, stop)
    if start is not None:
        return ScaledClock(start, rate, anchor or datetime.now(UTC), stop)
    _require_positive(rate)
    if rate != 1.0 or anchor is not None or stop is not None or anchor_path is not None:
        raise ValueError(
            "CLOCK_START is missing: a clock with CLOCK_RATE, CLOCK_ANCHOR, CLOCK_ANCHOR_PATH or CLOCK_STOP needs a "
            "start too"
        )
    return SystemClock()


def _require_positive(rate: float) -> None:
    """Raise ValueError unless the clock's rate is a positive finite number."""
    if not (math.isfinite(rate) and rate > 0):
        raise ValueError(f"the clock's rate must be a number above 0, not {rate}")
