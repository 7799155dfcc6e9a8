"""Runs of the contenders over a filled topic, measured by the broker's clock and by processor time."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.streams import original
from benchmarks.streams.kafka import BenchmarkBroker, find_changelog
from benchmarks.streams.progress import (
    CpuReading,
    compute_completion_times,
    compute_cpu_rate,
    compute_rate,
    group_sequences,
)
from benchmarks.streams.traffic import Record
from benchmarks.streams.work import Task, build_arguments
from benchmarks.streams.worker import ROOT, BenchmarkWorker, running_stream_worker
from streams.app import SERVICE
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED

STREAM, STREAM_ROCKSDB = "the stream, tables in memory", "the stream, tables in RocksDB"
AIOKAFKA, CONFLUENT, QUIX = "bare aiokafka loop", "bare confluent-kafka loop", "Quix Streams"
CONTENDERS: Final = (STREAM, AIOKAFKA, STREAM_ROCKSDB, CONFLUENT, QUIX)
_MODULES: Final = {AIOKAFKA: "aiokafka_loop", CONFLUENT: "confluent_loop", QUIX: "quix"}
_WITHIN_S: Final = 300
_ASK_AFTER_CPU_S: Final = 0.3
"""Processor seconds of the worker after which it is asked again. Each answer costs it some milliseconds: on a busy
machine, a worker that is asked by the clock would spend much of its time on answers."""
_ASK_AFTER_S: Final = 1.0
"""Seconds after which the worker is asked again in any case: it may be idle, with all done."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The measured result of one run of a contender: its rates, and its alerts as a check of the work done."""

    messages_per_s: float
    messages_per_cpu_s: float
    """Messages per second of processor time in all threads of the contender: other load on the machine lowers it
    little, and a second core that a contender also keeps busy does not raise it."""
    alerts: int
    """Number of alerts raised by all messages; every contender must raise the same number."""


class BenchmarkRuns:
    """A sequence of runs of contenders, one at a time, over the same filled topic."""

    def __init__(self, cluster: BenchmarkBroker, folder: Path, task: Task, records: Sequence[Record]) -> None:
        """`task`: without group and folder, which each run has for itself. `records`: all records of the topic."""
        self._cluster = cluster
        self._folder = folder
        self._task = task
        self._sequences = group_sequences(records)
        self._flights = sum(record.flights for record in records)
        self._history = find_changelog("history")
        self._runs = 0

    def run(self, contender: str) -> RunResult:
        """Run a contender in a process of its own, from the first message to the last, and return the result.

        Before the run the changelogs, the alerts and the stream's consumer group are deleted, so that each run starts
        anew. Messages of the warm-up do not count. The stream is measured by the broker's clock, others by their own.
        """
        self._runs += 1
        cluster, task = self._cluster, self._task
        cluster.delete_records(task.changelog, self._history, ALERTS_RAISED.name)
        cluster.delete_group(SERVICE)
        folder = self._folder / f"run{self._runs}"
        folder.mkdir()
        group = f"{self._folder.name}-{folder.name}"  # a new name: Quix would recover the state of an old one
        if contender in _MODULES:
            times_of_run = _run_module(_MODULES[contender], replace(task, group=group, data=str(folder)))
            ended = times_of_run["ended"]
            if contender == QUIX:  # Quix writes its states at its end, and then stops
                ended = cluster.read_append_times(f"changelog__{group}--{FLIGHTS_OBSERVED.name}--default")[-1]
            messages = task.messages - task.measured_from
            rate, cpu_rate = messages / (ended - times_of_run["began"]), messages / times_of_run["cpu_s"]
        else:
            store = "rocksdb" if contender == STREAM_ROCKSDB else "memory"
            with running_stream_worker(folder, cluster.bootstrap_servers, store) as worker:
                readings: list[CpuReading] = []
                times = wait_for_completion_times(cluster, worker, self._sequences, self._flights, readings)
                readings.append(CpuReading(task.messages, worker.read_cpu_s()))
            rate = compute_rate(times, task.measured_from)
            cpu_rate = compute_cpu_rate(readings, task.measured_from)
        return RunResult(rate, cpu_rate, cluster.count_records(ALERTS_RAISED.name))


def wait_for_completion_times(
    cluster: BenchmarkBroker,
    worker: BenchmarkWorker,
    sequences: Mapping[bytes, Sequence[int]],
    flights: int,
    readings: list[CpuReading] | None = None,
) -> list[float]:
    """Wait until the worker has folded `flights` flights and published all its states.

    Meanwhile append to `readings` how many messages are folded, and the processor time so far. A message counts once it
    is folded; what sending its alerts and state costs is counted with later messages.

    Return the times (seconds since 1970, by the broker's clock, sorted) at which the messages were done. `sequences`
    holds the sequences of all messages, by airport. Ends the benchmark after a timeout.
    """
    readings = [] if readings is None else readings
    asked_at, asked_cpu_s = 0.0, 0.0

    def are_flights_folded() -> bool:
        nonlocal asked_at, asked_cpu_s
        now, cpu_s = time.monotonic(), worker.read_cpu_s()
        if cpu_s < asked_cpu_s + _ASK_AFTER_CPU_S and now < asked_at + _ASK_AFTER_S:
            return False
        done, folded = worker.sum_metrics("stream_flights_total", "stream_events_total")
        asked_at, asked_cpu_s = now, worker.read_cpu_s()
        readings.append(CpuReading(folded, asked_cpu_s))
        return done >= flights

    worker.wait_until(are_flights_folded, "the end of what it was given", _WITHIN_S, every_s=0.1)
    messages, times = sum(map(len, sequences.values())), list[float]()

    def are_all_done() -> bool:
        times[:] = compute_completion_times(cluster.read_records(find_changelog("airports")), sequences)
        return len(times) == messages

    worker.wait_until(are_all_done, "the last of its states", every_s=0.1)
    return times


def run_original(cluster: BenchmarkBroker, number: int, messages: int) -> float:
    """Fill the original's topic, run its shape over it, and return the messages per second after the warm-up.

    `number` distinguishes the runs, each of which has a consumer group of its own.
    """
    cluster.delete_records(original.COUNTED.name, original.CROSSED.name)
    cluster.fill(original.COUNTED.name, original.build_messages(messages))
    task = Task(cluster.bootstrap_servers, f"original{number}", messages, messages // 10, 0, "none", "none")
    times_of_run = _run_module("original", task)
    return (task.messages - task.measured_from) / (times_of_run["ended"] - times_of_run["began"])


def _run_module(module: str, task: Task) -> dict[str, float]:
    """Run a contender's module in a process of its own, and return the times that it printed as JSON.

    Ends the benchmark, with its standard error, if it fails; after 300 s it is killed, which ends the benchmark too.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.streams.{module}", *build_arguments(task)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{module} did not end within {_WITHIN_S} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise SystemExit(f"{module} ended with {process.returncode}:\n{errors[-4000:]}")
    return dict(json.loads(printed)) if printed else {}
