"""A live day of the whole stack under faults: the demo's story and its judgement, with wrong data from the source.

`python -m tests.faults.live_storm --seed N [--count M]`: run storms by hand, one after the other. While positions flow,
the source is unavailable, its time stands still, or its sky is empty, for some minutes of each hour; and collector,
stream workers, user_manager and the source itself are killed, stopped or frozen, as the seed decides. Afterwards the
demo judges: the flights in force are the record's, the alerts in force those of the rule, each of them is mailed, no
other is, and no alert contradicts the truth beyond the stated error of live.
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final
from unittest import mock

from chassis.clock import Clock, HeldClock
from local.demo import __main__ as demo, plan
from local.processes import ProcessSupervisor
from tests.ports import free_ports

DAY: Final = datetime(2013, 2, 13, tzinfo=UTC)
"""An ordinary day: on the day of the demo, with a blizzard, few aircraft fly that a source could fail to report."""
INTERESTS: Final = (
    "KJFK:departures:1h:high=25:low=9",
    "KBOS:arrivals:1h:high=20:low=5",
    "KLGA:both:6h:high=190:low=60",
)
"""Levels that quiet and busy hours of these airports cross."""
_KINDS: Final = ("outage", "503", "frozen", "frozen", "old", "empty", "empty", "null")
_BUSY_HOURS: Final = (11.0, 23.0)
RATE: Final = 450
"""Seconds of the story in a real second, half of the demo's.

A machine that is busy besides sees little live at this rate, and such a storm says little: the figures at its end show
the share of the time. `--rate` makes the story slower.
"""
_FIRST_HOUR, _LAST_HOUR = 3.0, 20.0
"""Hours of the day between which processes are disturbed; an hour takes 8 s at RATE."""
_TARGETS: Final = ("collector", "collector", "streams", "streams_2", "user_manager", "opensky")
"""The processes that are disturbed. What kills of notifier, broker and databases do, `tests.faults.storm` finds out."""
_PORTS: Final = 16


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault of one process at an hour of the day: a signal; a frozen process goes on after `lasts` real seconds."""

    hour: float
    target: str
    number: signal.Signals
    lasts: float

    def __str__(self) -> str:
        return f"hour {self.hour:4.1f}  {self.target}: {self.number.name}" + f" for {self.lasts:.1f} s" * bool(
            self.lasts
        )


def draw_disturbances(seed: int) -> list[Disturbance]:
    """Draw the faults of the processes, in the order of their begin."""
    chance = Random(f"live storm {seed}")
    found = []
    for _ in range(chance.randint(4, 6)):
        number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP))
        lasts = chance.uniform(1.0, 8.0) if number is signal.SIGSTOP else 0.0
        found.append(Disturbance(chance.uniform(_FIRST_HOUR, _LAST_HOUR), chance.choice(_TARGETS), number, lasts))
    return sorted(found, key=lambda each: each.hour)


def draw_state_faults(seed: int) -> str:
    """Draw when the source of positions is unavailable or wrong, for 2 to 75 minutes; return the demo's option."""
    chance = Random(f"positions {seed}")
    found, at = [], chance.uniform(0.0, 3.0)
    while at < _BUSY_HOURS[1]:
        minutes = chance.choice((2, 5, 15, 30, 60, 75))
        found.append(f"{chance.choice(_KINDS)}@{DAY + timedelta(hours=at):%Y-%m-%dT%H:%MZ}+{minutes}")
        at += minutes / 60 + chance.uniform(0.5, 3.0 if at < _BUSY_HOURS[0] else 2.0)
    return ",".join(found)


class StormSupervisor(ProcessSupervisor):
    """The demo's supervisor that also injects the faults, and starts again the processes that they have ended."""

    def __init__(self, environment: Mapping[str, str], data: Path, seed: int, rate: int) -> None:
        """`environment`, `data`: as of the demo's supervisor. `rate`: that of the story's clock."""
        super().__init__(environment, data)
        self._rate = rate
        self._coming = draw_disturbances(seed)
        self._frozen: list[tuple[float, Callable[[], None]]] = []
        self._clock: Clock | None = None

    def add_environment(self, variables: Mapping[str, str]) -> None:
        """Add variables, and make the clock that those of the clock describe."""
        super().add_environment(variables)
        if "CLOCK_ANCHOR_PATH" in variables:
            self._clock = HeldClock(DAY, self._rate, Path(variables["CLOCK_ANCHOR_PATH"]))

    def require_alive(self, but: Collection[str] = ()) -> None:
        """Inject the faults that are due, start again what they have ended, and require all other processes alive."""
        self._disturb()
        if self._hour > _FIRST_HOUR:
            self.restart_ended(_TARGETS)
            but = (*but, *_TARGETS)
        super().require_alive(but)

    @property
    def _hour(self) -> float:
        """The hour of the story, counted from the begin of its day; zero until its clock is released."""
        return 0.0 if self._clock is None else (self._clock.now() - DAY) / timedelta(hours=1)

    def _disturb(self) -> None:
        """Begin the faults whose time has come, and continue the processes that were frozen long enough."""
        for each in [each for each in self._frozen if each[0] <= time.monotonic()]:
            self._frozen.remove(each)
            each[1]()
        while self._coming and self._hour > self._coming[0].hour:
            self._begin(self._coming.pop(0))

    def _begin(self, disturbance: Disturbance) -> None:
        """Send the signal of a fault, and note when a frozen process is to continue."""
        process = self._running[disturbance.target].process
        print(f"\n  {disturbance}", flush=True)
        process.send_signal(disturbance.number)
        if disturbance.lasts:
            until = time.monotonic() + disturbance.lasts
            self._frozen.append((until, lambda: process.send_signal(signal.SIGCONT)))

    def stop(self) -> None:
        """Continue what is frozen, and stop all processes."""
        for _, go_on in self._frozen:
            go_on()
        super().stop()


def run_storm(seed: int, data: Path, rate: int = RATE) -> int:
    """Run the storm of a seed, print its story, and return the exit status of the demo: 0 if all came out right."""
    arguments = ["demo", "--once", "--streams-workers", "2", "--data", str(data)]
    arguments += ["--from", f"{DAY:%F}", "--to", f"{DAY + timedelta(days=1):%F}"]
    arguments += [part for each in INTERESTS for part in ("--interest", each)]
    arguments += ["--port-base", str(free_ports(_PORTS)), "--state-faults", draw_state_faults(seed)]

    def make_supervisor(environment: Mapping[str, str], folder: Path) -> StormSupervisor:
        """Make the supervisor that disturbs its processes."""
        return StormSupervisor(environment, folder, seed, rate)

    with (
        mock.patch.object(sys, "argv", arguments),
        mock.patch.object(demo, "ProcessSupervisor", make_supervisor),
        mock.patch.object(plan, "LIVE_CLOCK_RATE", rate),
    ):
        return demo.main()


def find_stack_traces(data: Path) -> list[str]:
    """Return the names of the logs of a storm that have a stack trace; none must."""
    logs = sorted((data / "logs").glob("*.log"))
    return [each.name for each in logs if "Traceback" in each.read_text(errors="replace")]


def main() -> int:
    """Run the storms of the arguments; return 0 if all of them came out right, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.live_storm", description=__doc__, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (%(default)s)")
    parser.add_argument("--count", type=int, default=1, help="run so many seeds, one after the other (%(default)s)")
    parser.add_argument("--rate", type=int, default=RATE, help="seconds of the story in a second (%(default)s)")
    parser.add_argument("--folder", type=Path, help="for data and logs; default: a temporary one")
    chosen = parser.parse_args()
    base = chosen.folder or Path(tempfile.mkdtemp(prefix="live-storm-"))
    wrong = []
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        data = base / f"seed-{seed}"
        status, traces = run_storm(seed, data, chosen.rate), find_stack_traces(data)
        is_right = status == 0 and not traces
        print(f"seed {seed}: {'right' if is_right else f'NOT RIGHT (status {status}, stack traces: {traces}), {data}'}")
        if not is_right:
            wrong.append(seed)
    print(f"{chosen.count - len(wrong)} of {chosen.count} live storms came out right" + f"; not: {wrong}" * bool(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
