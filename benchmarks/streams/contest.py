"""One run of one contender over a topic that is filled already, and what the broker's clock says of it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.streams import original
from benchmarks.streams.kafka import Cluster, changelog_of
from benchmarks.streams.progress import rate_after, sequences_of, times_done
from benchmarks.streams.traffic import Record
from benchmarks.streams.work import Task, arguments
from benchmarks.streams.worker import ROOT, Worker, working
from streams.app import SERVICE
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED

STREAM, STREAM_ROCKSDB = "the stream, tables in memory", "the stream, tables in RocksDB"
AIOKAFKA, CONFLUENT, QUIX = "bare aiokafka loop", "bare confluent-kafka loop", "Quix Streams"
CONTENDERS: Final = (STREAM, AIOKAFKA, STREAM_ROCKSDB, CONFLUENT, QUIX)
_MODULES: Final = {AIOKAFKA: "aiokafka_loop", CONFLUENT: "confluent_loop", QUIX: "quix"}
_WITHIN_S: Final = 120


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed."""

    messages_per_s: float
    alerts: int
    """How many it raised, of all messages: those of other contenders must be as many."""


class Contest:
    """The topics and what is to be done with them. For one run at a time."""

    def __init__(self, cluster: Cluster, folder: Path, task: Task, records: Sequence[Record]) -> None:
        """`task` without its group and folder, which each run has for itself. `records`: all that is in the topic."""
        self._cluster = cluster
        self._folder = folder
        self._task = task
        self._sequences = sequences_of(records)
        self._flights = sum(record.flights for record in records)
        self._history = changelog_of("history")
        self._runs = 0

    def run(self, contender: str) -> Run:
        """From the first message to the last, by a process of the contender's own."""
        self._runs += 1
        cluster, task = self._cluster, self._task
        cluster.empty(task.changelog, self._history, ALERTS_RAISED.name)
        cluster.forget_group(SERVICE)
        folder = self._folder / f"run{self._runs}"
        folder.mkdir()
        group = f"{self._folder.name}-{folder.name}"  # nobody's before: Quix would recover what is under its name
        if contender in _MODULES:
            told = _ran(_MODULES[contender], replace(task, group=group, data=str(folder)))
            ended = told["ended"]
            if contender == QUIX:  # which writes its states at its end, and then stops everything
                ended = cluster.appended_at(f"changelog__{group}--{FLIGHTS_OBSERVED.name}--default")[-1]
            rate = (task.messages - task.measured_from) / (ended - told["began"])
        else:
            store = "rocksdb" if contender == STREAM_ROCKSDB else "memory"
            with working(folder, cluster.bootstrap_servers, store) as worker:
                times = times_until_done(cluster, worker, self._sequences, self._flights)
            rate = rate_after(times, task.measured_from)
        return Run(rate, cluster.count(ALERTS_RAISED.name))


def times_until_done(
    cluster: Cluster, worker: Worker, sequences: Mapping[bytes, Sequence[int]], flights: int
) -> list[float]:
    """Wait for the worker to fold so many flights; when each message was done."""
    # Each look costs something.
    worker.until(lambda: worker.flights_folded() >= flights, "the end of what it was given", _WITHIN_S, every_s=0.5)
    messages, times = sum(map(len, sequences.values())), list[float]()

    def looked() -> bool:
        times[:] = times_done(cluster.records(changelog_of("airports")), sequences)
        return len(times) == messages

    worker.until(looked, "the last of its states", every_s=0.1)
    return times


def run_original(cluster: Cluster, number: int, messages: int) -> float:
    """Messages a second of the original's shape."""
    cluster.empty(original.COUNTED.name, original.CROSSED.name)
    cluster.fill(original.COUNTED.name, original.messages(messages))
    task = Task(cluster.bootstrap_servers, f"original{number}", messages, messages // 10, 0, "none", "none")
    told = _ran("original", task)
    return (task.messages - task.measured_from) / (told["ended"] - told["began"])


def _ran(module: str, task: Task) -> dict[str, float]:
    """What a contender printed, after it has ended; it is killed, with all that it began, when that takes too long."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.streams.{module}", *arguments(task)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        told, complaints = process.communicate(timeout=_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{module} did not end within {_WITHIN_S} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise SystemExit(f"{module} ended with {process.returncode}:\n{complaints[-4000:]}")
    return dict(json.loads(told)) if told else {}
