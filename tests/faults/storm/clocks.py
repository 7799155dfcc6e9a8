"""The wall clocks of a storm: the story's time, and clocks of single processes that stand or are wrong.

`python -m tests.faults.storm.clocks STORY OWN MODULE …` runs a service in which `time.time` and `SystemClock.now` obey
these two files. Monotonic clocks are left as they are, as an administrator who sets the wall clock leaves them. So is
gRPC's time: its core computes deadlines by the kernel's clock, which nothing here moves; its Python half must agree.
"""

import importlib
import json
import os
import runpy
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from chassis.clock import ScaledClock, SystemClock

RATE: Final = 8_640.0
"""Seconds of the story in a real second: a day takes ten seconds."""
SPEEDS: Final = ((timedelta(days=2), 1.0), (timedelta(days=3), 0.4), (timedelta(days=4), 0.1))
"""The share of RATE at which the story goes on while its clock is less than this ahead of what is covered.

The older a day, the longer a collector pauses between two questions for its record; so slowness begins early.
"""
_LAST_SPEED: Final = 0.02
"""The share of RATE farther ahead than that: pauses that a source has asked for still end."""
STANDS_AHEAD: Final = timedelta(days=7.5)
"""The story stands when its clock is this far ahead of the oldest day that is not collected yet.

A collector gives a day up GIVE_UP_AFTER (a week) its end. So a slow machine makes the story slow, and no day is lost
because of it.
"""
NO_STORY: Final = "-"
"""In place of the story's file: the service lives in real time."""

_MODULES_OF_GRPC: Final = ("grpc._channel", "grpc._common", "grpc._server", "grpc._utilities", "grpc.aio._utils")
"""Those that ask for the time."""

_real_time: Final = time.time


Stretch = tuple[float, float, list[tuple[float, float]]]
"""A stretch of the story: the Unix time at which it begins, the reading then, and its speeds.

Each speed holds until the reading given before it; the clock stands after the last one. Readings are real seconds:
`ScaledClock` makes the story's time of them.
"""


def read_stretches(stretches: Sequence[Stretch], at: float) -> float:
    """Return the story clock's reading at a Unix time, by the last stretch that had begun by then.

    Stretches that are added later do not change it: a stopped clock, which is read at the time of its stop, stands.
    """
    since, reading, speeds = next((each for each in reversed(stretches) if each[0] <= at), stretches[0])
    left = max(at - since, 0.0)
    for until, speed in speeds:
        if reading < until:
            lasts = (until - reading) / speed
            if left <= lasts:
                return reading + left * speed
            reading, left = until, left - lasts
    return reading


class StoryClock:
    """The clock of flights, which all processes of the collector and the source read from one file.

    It stands until `go_on`. The file says for all time to come how fast the clock runs and where it stands, so that it
    does not run away while the test is busy.
    """

    def __init__(self, file: Path, start: datetime) -> None:
        self._file = file
        self.anchor = datetime.now(UTC)
        self._start = start
        self._told: tuple[datetime, datetime] | None = None
        anchor = self.anchor.timestamp()
        self._stretches: list[Stretch] = [(anchor, anchor, [])]
        _replace(self._file, self._stretches)

    def go_on(self, covered: datetime, oldest: datetime) -> None:
        """Let the story go on, ever slower, given the instant up to which flights are covered.

        It stands STANDS_AHEAD of `oldest`: the begin of the oldest day that may still be collected.
        """
        if (covered, oldest) == self._told:
            return
        self._told = covered, oldest
        last = self._compute_reading(oldest + STANDS_AHEAD)
        speeds = [(min(self._compute_reading(covered + lead), last), speed) for lead, speed in SPEEDS]
        self._begin_stretch([*speeds, (last, _LAST_SPEED)])

    def stop(self) -> None:
        """Let the story stand for all its processes, until `go_on`."""
        self._told = None
        self._begin_stretch([])

    def now(self) -> datetime:
        """Return the story's time."""
        real = datetime.fromtimestamp(read_stretches(self._stretches, _real_time()), UTC)
        return self._start + (real - self.anchor) * RATE

    def build_environment(self) -> dict[str, str]:
        """Build the settings of the clock, for the collector and the source."""
        return {
            "CLOCK_START": self._start.isoformat(),
            "CLOCK_RATE": repr(RATE),
            "CLOCK_ANCHOR": self.anchor.isoformat(),
        }

    def _compute_reading(self, instant: datetime) -> float:
        """Compute the reading at which the story shows an instant."""
        return (self.anchor + (instant - self._start) / RATE).timestamp()

    def _begin_stretch(self, speeds: list[tuple[float, float]]) -> None:
        """Begin a stretch with these speeds now, at the present reading."""
        now = _real_time()
        self._stretches.append((now, read_stretches(self._stretches, now), speeds))
        _replace(self._file, self._stretches)


@dataclass(frozen=True, slots=True)
class WrongClock:
    """What is wrong with the clock of one process: it is `off` by so much, or stands since `stopped_at`, or both."""

    off: timedelta = timedelta(0)
    stopped_at: float | None = None
    """Unix seconds; None: it does not stand."""

    @classmethod
    def stopped(cls) -> "WrongClock":
        """Return a clock that stands from now on."""
        return cls(stopped_at=_real_time())

    def write(self, file: Path) -> None:
        """Let the process that reads this file have this clock from now on."""
        _replace(file, [self.off.total_seconds(), self.stopped_at])


def _replace(file: Path, content: object) -> None:
    """Replace a file by JSON at once, so that no reader sees half of it."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content))
    part.replace(file)


class _WatchedFile:
    """A file of JSON that is read again once it was replaced."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._content: Any = None

    def read(self) -> Any:
        """Return the content that the file has now."""
        state = os.stat(self._path)  # noqa: PTH116 - called thousands of times a second
        if (state.st_ino, state.st_mtime_ns) != self._seen:
            self._content = json.loads(Path(self._path).read_text())
            self._seen = state.st_ino, state.st_mtime_ns
        return self._content


def install(story: str, own: str) -> None:
    """Replace this process's wall clock by one that two files control: that of the story, and that of the process."""
    own_file = _WatchedFile(own)
    story_file = None if story == NO_STORY else _WatchedFile(story)

    def wall() -> float:
        """Return the wrong Unix time of this process, in place of `time.time`."""
        off, stopped_at = own_file.read()
        now = _real_time()
        return (now if stopped_at is None else min(now, stopped_at)) + off

    def system_now(_clock: SystemClock) -> datetime:
        """Return the wrong instant of this process, in place of `SystemClock.now`; callers scale it by RATE."""
        if story_file is None:
            return datetime.fromtimestamp(wall(), UTC)
        stretches = story_file.read()
        off, stopped_at = own_file.read()
        now = _real_time()
        if stopped_at is not None:
            now = min(now, stopped_at)
        # The wrong clock is off by this much of the story's time.
        return datetime.fromtimestamp(read_stretches(stretches, now) + off / RATE, UTC)

    real = types.ModuleType("time")
    vars(real).update(vars(time))
    for name in _MODULES_OF_GRPC:
        vars(importlib.import_module(name))["time"] = real
    time.time = wall
    time.time_ns = lambda: int(wall() * 1e9)
    patched: Callable[[SystemClock], datetime] = system_now
    SystemClock.now = patched  # type: ignore[method-assign]


def build_story_clock(environment: dict[str, str]) -> ScaledClock:
    """Build the clock of `StoryClock.build_environment` in a process that has called `install`."""
    return ScaledClock(
        datetime.fromisoformat(environment["CLOCK_START"]),
        float(environment["CLOCK_RATE"]),
        datetime.fromisoformat(environment["CLOCK_ANCHOR"]),
    )


if __name__ == "__main__":
    _, story_path, own_path, module, *rest = sys.argv
    # Under its own name: as __main__ this module would be another one, with a time of its own.
    from tests.faults.storm import clocks

    clocks.install(story_path, own_path)
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
