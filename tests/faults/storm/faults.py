"""The faults of a storm: a schedule that is drawn from a seed, and their execution."""

import math
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from random import Random
from typing import Final, assert_never

from tests.faults.storm.clocks import WrongClock
from tests.faults.storm.sink import MOODS, WELL
from tests.faults.storm.stack import DATABASES, REPLICAS, SERVICES, Stack

BROKER: Final = "broker"
DATABASE: Final = "database"


class FaultKind(StrEnum):
    """What is done to the target of a fault."""

    KILL = "kill -9"
    TERM = "SIGTERM"
    FREEZE = "SIGSTOP"
    KILL_BOTH = "kill -9 of both"
    AWAY = "away until a circuit opens"
    MOOD = "mood"
    LOCK = "locked"
    CLOCK_STOPPED = "clock stopped"
    CLOCK_BACK = "clock set back"
    CLOCK_AHEAD = "clock set ahead"


CLOCK_FAULTS: Final = (FaultKind.CLOCK_STOPPED, FaultKind.CLOCK_BACK, FaultKind.CLOCK_AHEAD)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: it begins `at` seconds after the begin of a part of the story, and is undone `lasts` seconds later."""

    part: int
    at: float
    lasts: float
    kind: FaultKind
    target: str
    detail: str = ""

    @property
    def subject(self) -> str:
        """What the fault is done to: the process, or its clock, which may be wrong while the process is killed."""
        return f"clock of {self.target}" if self.kind in CLOCK_FAULTS else self.target

    def __str__(self) -> str:
        lasts = "to the end" if math.isinf(self.lasts) else f"for {self.lasts:.1f} s"
        return f"{self.target}: {self.kind} {self.detail} {lasts}"


_CLOCKS_OFF: Final = {
    FaultKind.CLOCK_BACK: (timedelta(hours=-8), timedelta(minutes=-10), timedelta(seconds=-20)),
    FaultKind.CLOCK_AHEAD: (timedelta(minutes=10), timedelta(seconds=30)),
}


LONGEST_ABSENCE_S: Final = 150.0
"""How long the mail server is away at most: the people of some notifier may have nothing that is to be mailed."""

_CIRCUIT_OPENED: Final = b"mail_server.left_alone"
"""What a notifier logs when its circuit opens."""

SHARES: Final = (0.2, 0.4, 0.4)
"""The shares of a storm's faults in each part of its story: people come, flights before the break, flights after it."""


def draw_schedule(chance: Random, count: int, on_mariadb: bool, spacing_s: float = 3.5) -> list[Fault]:
    """Draw so many faults, in the order of their begins.

    The first kinds of the list below are in every schedule that is long enough. The mail server is away at the begin of
    the last part, when the flights of some days come at once.
    """
    wanted: list[tuple[FaultKind, str]] = [
        (FaultKind.KILL, BROKER),
        (FaultKind.CLOCK_STOPPED, chance.choice(("notifier_1", "notifier_2"))),
        (FaultKind.FREEZE, chance.choice(("collector_1", "collector_2"))),
        (FaultKind.FREEZE, chance.choice(("streams_1", "streams_2"))),
        (FaultKind.KILL, chance.choice(("streams_1", "streams_2"))),
        (FaultKind.KILL, chance.choice(("notifier_1", "notifier_2"))),
        (FaultKind.MOOD, "sink"),
        (FaultKind.KILL if on_mariadb else FaultKind.LOCK, DATABASE),
        (FaultKind.KILL_BOTH, chance.choice(SERVICES)),
        (FaultKind.CLOCK_BACK, chance.choice(REPLICAS)),
        (FaultKind.AWAY, "sink"),
        (FaultKind.TERM, chance.choice(REPLICAS)),
        (FaultKind.MOOD, "sink"),
    ][:count]
    while len(wanted) < count:
        wanted.append(_draw_kind(chance, on_mariadb))
    chance.shuffle(wanted)
    first, second = round(count * SHARES[0]), round(count * (SHARES[0] + SHARES[1]))
    parts = [wanted[:first], wanted[first:second], wanted[second:]]
    misled = _arrange_absence(parts)
    faults: list[Fault] = []
    for part, some in enumerate(parts):
        now = chance.uniform(0.0, 2.0)
        for kind, target in some:
            lasts, detail = _draw_details(chance, kind, target)
            if kind is FaultKind.AWAY:
                now, detail = 0.0, misled
            faults.append(Fault(part, now, lasts, kind, target, detail))
            now += chance.uniform(0.3, 2 * spacing_s)
    return faults


def _arrange_absence(parts: list[list[tuple[FaultKind, str]]]) -> str:
    """Move the mail server's absence to the begin of the last part, and let nothing restart one notifier after it.

    Return that notifier: one whose clock is stopped. Its circuit opens by a clock that stands; if it waited by that
    clock, it would stay open for ever, unless a restart or another clock mended it. Return "" if there is no absence.
    """
    every = [each for part in parts for each in part]
    if (FaultKind.AWAY, "sink") not in every:
        return ""
    misled = next(target for kind, target in every if kind is FaultKind.CLOCK_STOPPED and target.startswith("notifier"))
    for part in parts:
        while (FaultKind.AWAY, "sink") in part:
            part.remove((FaultKind.AWAY, "sink"))
    _, before, last = parts
    before += [each for each in last if _touch(each[1], misled)]
    last[:] = [(FaultKind.AWAY, "sink"), *(each for each in last if not _touch(each[1], misled))]
    return misled


def _touch(one: str, other: str) -> bool:
    """Return True if the two targets have a process in common."""
    return one == other or one.rpartition("_")[0] == other or other.rpartition("_")[0] == one


def _draw_kind(chance: Random, on_mariadb: bool) -> tuple[FaultKind, str]:
    """Draw a kind of fault and its target."""
    where = chance.random()
    replica = chance.choice(REPLICAS)
    if where < 0.5:
        kinds = (FaultKind.KILL, FaultKind.KILL, FaultKind.TERM, FaultKind.FREEZE, FaultKind.FREEZE)
        return chance.choice(kinds), replica
    if where < 0.62:
        return chance.choice((FaultKind.CLOCK_STOPPED, FaultKind.CLOCK_BACK, FaultKind.CLOCK_AHEAD)), replica
    if where < 0.72:
        return chance.choice((FaultKind.KILL, FaultKind.TERM, FaultKind.FREEZE)), BROKER
    if where < 0.88:
        return chance.choice((FaultKind.MOOD, FaultKind.MOOD, FaultKind.MOOD, FaultKind.KILL, FaultKind.FREEZE)), "sink"
    if where < 0.95:
        on_server = (FaultKind.KILL, FaultKind.TERM, FaultKind.FREEZE)
        return (chance.choice(on_server) if on_mariadb else FaultKind.LOCK), DATABASE
    return chance.choice((FaultKind.KILL, FaultKind.TERM, FaultKind.FREEZE)), "source"


def _draw_details(chance: Random, kind: FaultKind, target: str) -> tuple[float, str]:
    """Draw how long a fault lasts, and what else it needs."""
    match kind:
        case FaultKind.KILL | FaultKind.TERM:
            return chance.choice((0.0, 0.0, chance.uniform(0.5, 6.0))), ""
        case FaultKind.FREEZE:
            # Sessions run out after 6 s (Faust) and 10 s (leader), leases after 15 s.
            longest = 18.0 if target in REPLICAS else 9.0
            return chance.uniform(2.0, longest), ""
        case FaultKind.KILL_BOTH:
            return chance.uniform(0.0, 4.0), ""
        case FaultKind.AWAY:
            return LONGEST_ABSENCE_S, ""
        case FaultKind.MOOD:
            return chance.uniform(3.0, 9.0), chance.choice([each for each in MOODS if each != WELL])
        case FaultKind.LOCK:
            return chance.uniform(1.0, 6.0), chance.choice(DATABASES)
        case FaultKind.CLOCK_STOPPED:
            return _draw_duration_of_clock(chance, target), ""
        case FaultKind.CLOCK_BACK | FaultKind.CLOCK_AHEAD:
            off = chance.choice(_CLOCKS_OFF[kind])
            return _draw_duration_of_clock(chance, target), f"{off.total_seconds():+.0f} s"
        case _:
            assert_never(kind)


def _draw_duration_of_clock(chance: Random, target: str) -> float:
    """Draw how long a clock is wrong: often to the end, and at a notifier, whose breaker and retries wait, always.

    A collector stores nothing by a clock that disagrees with the source, so its clock is mended at some time.
    """
    short = chance.uniform(6.0, 20.0)
    if target.startswith("collector"):
        return short
    return math.inf if target.startswith("notifier") or chance.random() < 0.5 else short


@dataclass
class Storm:
    """The faults of a schedule, done and undone in time by `tick`, which is called again and again.

    No process meets two of them at the same time: the second one waits until the first one is undone.
    """

    stack: Stack
    schedule: Sequence[Fault]
    say: Callable[[str], None]
    done: list[Fault] = field(default_factory=list)
    circuits_opened: int = 0
    """How many circuits of a notifier with a stopped clock opened while the mail server was away."""
    _openings_before: int = 0
    _began: float = 0.0
    _part_began: float = 0.0
    _coming: list[Fault] = field(default_factory=list)
    _undo: list[tuple[float, Fault, Callable[[], None]]] = field(default_factory=list)

    def begin(self, part: int) -> None:
        """Let the faults of a part of the story begin, in time from now; those of the part before must be over."""
        self._began = self._began or time.monotonic()
        self._part_began = time.monotonic() - self._began
        self._coming = [fault for fault in self.schedule if fault.part == part]

    @property
    def is_over(self) -> bool:
        """True once all faults of the part have begun, and all that do not last to the end are undone."""
        return not self._coming and all(math.isinf(until) for until, _, _ in self._undo)

    def disturbs(self, target: str) -> bool:
        """Return True while a fault of this target is not undone yet."""
        return any(fault.target == target for _, fault, _ in self._undo)

    def tick(self) -> None:
        """Begin the faults whose time has come, undo those that are over, and restart what has ended by itself."""
        now = time.monotonic() - self._began
        for each in [each for each in self._undo if each[0] <= now or self._has_worked(each[1])]:
            self._undo.remove(each)
            self.say(f"{now:6.1f} s  {each[1].target}: {each[1].kind} is over")
            each[2]()
        while self._coming and self._part_began + self._coming[0].at <= now:
            fault = self._coming[0]
            for each in [each for each in self._undo if math.isinf(each[0]) and each[1].subject == fault.subject]:
                self._undo.remove(each)  # a clock that is wrong gets wrong in another way
            if any(_touch(other.subject, fault.subject) for _, other, _ in self._undo):
                break  # the one before began late
            self._coming.pop(0)
            self.say(f"{now:6.1f} s  {fault}")
            self._undo.append((now + fault.lasts, fault, self._do(fault)))
            self.done.append(fault)
        self.stack.supervise()

    def _has_worked(self, fault: Fault) -> bool:
        """Return True if a fault has brought about what it was for: the circuit of a notifier has opened; else False.

        False for all other faults, which last as long as they were drawn to.
        """
        if fault.kind is not FaultKind.AWAY or self._count_openings(fault.detail) == self._openings_before:
            return False
        self.say(f"         the circuit of {fault.detail} is open, and its clock stands")
        self.circuits_opened += 1
        return True

    def _count_openings(self, notifier: str) -> int:
        """Count how often the circuit of a notifier has opened so far, by its log."""
        return self.stack.processes[notifier].log.read_bytes().count(_CIRCUIT_OPENED)

    def _do(self, fault: Fault) -> Callable[[], None]:
        """Do a fault, and return what undoes it."""
        stack = self.stack
        match fault.kind:
            case FaultKind.MOOD:
                stack.set_mood(fault.detail)
                return lambda: stack.set_mood(WELL)
            case FaultKind.CLOCK_STOPPED:
                stack.set_clock(fault.target, WrongClock.stopped())
                return lambda: stack.set_clock(fault.target, WrongClock())
            case FaultKind.CLOCK_BACK | FaultKind.CLOCK_AHEAD:
                off = timedelta(seconds=float(fault.detail.removesuffix(" s")))
                stack.set_clock(fault.target, WrongClock(off))
                return lambda: stack.set_clock(fault.target, WrongClock())
            case FaultKind.LOCK:
                return _lock_file(stack, fault.detail)
            case FaultKind.KILL_BOTH:
                both = [stack.processes[f"{fault.target}_{number}"] for number in (1, 2)]
                for each in both:
                    each.end(signal.SIGKILL)
                return lambda: [each.resume() for each in both] and None
            case FaultKind.AWAY:
                stack.set_clock(fault.detail, WrongClock.stopped())
                self._openings_before = self._count_openings(fault.detail)
                stack.processes[fault.target].end(signal.SIGKILL)
                return stack.processes[fault.target].resume
            case FaultKind.KILL | FaultKind.TERM | FaultKind.FREEZE:
                number = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGSTOP": signal.SIGSTOP}[fault.kind]
                if fault.target == BROKER:
                    return _disturb_broker(stack, number)
                if fault.target == DATABASE:
                    return _disturb_mariadb(stack, number)
                process = stack.processes[fault.target]
                if number is signal.SIGSTOP:
                    process.send(number)
                    return lambda: process.send(signal.SIGCONT)
                process.end(number)
                return process.resume
            case _:
                assert_never(fault.kind)


def _disturb_broker(stack: Stack, number: signal.Signals) -> Callable[[], None]:
    """Send the broker a signal; return what lets it go on."""
    broker = stack.broker
    if number is signal.SIGSTOP:
        pid = broker.pid
        os.kill(pid, number)
        return lambda: os.kill(pid, signal.SIGCONT)
    if number is signal.SIGKILL:
        os.kill(broker.pid, number)
    else:
        broker.stop()
    return stack.start_broker


def _disturb_mariadb(stack: Stack, number: signal.Signals) -> Callable[[], None]:
    """Send the database server a signal; return what lets it go on."""
    mariadb = stack.mariadb
    assert mariadb is not None
    if number is signal.SIGSTOP:
        mariadb.send(number)
        return lambda: mariadb.send(signal.SIGCONT)
    if number is signal.SIGKILL:
        mariadb.kill()
    else:
        mariadb.stop()
    return mariadb.start


def _lock_file(stack: Stack, service: str) -> Callable[[], None]:
    """Lock a service's SQLite file for writing; return what unlocks it."""
    connection = sqlite3.connect(stack.folder / f"{service}.db", timeout=5, isolation_level=None)
    with suppress(sqlite3.OperationalError):
        connection.execute("BEGIN IMMEDIATE")
    return connection.close
