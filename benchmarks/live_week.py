"""`python -m benchmarks.live_week`: a week of the world's traffic, live, through the collector and the stream.

A made-up sky of 12,000 aircraft between 2,000 airports is polled whole every 87 s, as a free account of OpenSky can,
over HTTP; its record is collected each night. 200 airports have four interests each. The collector is on a clock that
passes in steps, once all of it waits, so that a week takes less than an hour; broker, database and stream are real
processes, and live in real time. Sky and source are processes of their own, and do not count.

Processor time is told as a share of one core in real time: seconds of it by seconds of the simulated week. What
services do while nothing happens goes by real time, and has figures of its own ("at rest"). The lag is from the
broker's append of a message of flights to that of the first state of its airport that includes it, while the week
passes a hundred times as fast as it would.

A line of JSON for each simulated day, and the figures at the end. It is not in `make bench`: it takes long.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, TopicPartition

from benchmarks.streams.figures import percentile, print_progress, report
from benchmarks.streams.kafka import find_changelog, list_stream_topics
from benchmarks.streams.worker import ROOT, running_stream_worker
from benchmarks.week.collector import BEGIN, UNDECIDED
from benchmarks.week.processes import read_cpu_s, read_memory_mb
from benchmarks.week.sky import WorldSky
from benchmarks.week.source import HOST, SharedTime
from chassis.kafka import SEQUENCE_HEADER
from domain.interests import Direction
from local.kafka import Broker
from streams.entries import read_sequence
from tests.mariadb_fixture import MariaDbProcess
from tests.ports import free_port
from tests.service_process import kill_with_parent
from towerwatch.topics import CATALOGUE, FLIGHTS_OBSERVED

NAME: Final = "live_week"
AIRCRAFT: Final = 12_000
WATCHED: Final = 200
SEED: Final = 17
HOURS: Final = 7 * 24
_DAY_S: Final = 86_400
_AT_REST_S: Final = 20.0
_DIRECTIONS: Final = Direction.BOTH.parts


def main() -> int:
    """Run the week, print a line each simulated day, and the figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--hours", type=float, default=HOURS, help="simulated hours (default: a week)")
    parser.add_argument("--aircraft", type=int, default=AIRCRAFT, help="heard at an instant (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "mariadb"), default="sqlite")
    parser.add_argument("--store", choices=("memory", "rocksdb"), default="rocksdb", help="of the stream's tables")
    parser.add_argument("--folder", type=Path, help="for data and logs, which are kept (default: a temporary one)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes of the week end, too
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        _run(folder, options)
    return 0


@dataclass
class _LagReader:
    """Measures the lag of the stream: for each message of flights, how long it took until it was folded."""

    bootstrap_servers: str
    lags_s: list[float] = field(default_factory=list)
    messages: int = 0
    _messages: defaultdict[bytes, deque[tuple[int, float]]] = field(default_factory=lambda: defaultdict(deque))
    _states: defaultdict[bytes, deque[tuple[int, float]]] = field(default_factory=lambda: defaultdict(deque))
    _offsets: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def unfolded(self) -> int:
        """The messages of which no state is there yet."""
        return sum(map(len, self._messages.values()))

    def read_on(self) -> None:
        """Read what was appended since the last call, and note the lag of each message that is folded now.

        Both topics are read again and again, before the broker compacts the states.
        """
        for key, at, sequence, _ in self._read(FLIGHTS_OBSERVED.name):
            self._messages[key].append((sequence, at))
            self.messages += 1
        for key, at, _, value in self._read(find_changelog("airports")):
            self._states[key].append((read_sequence(value), at))
        for key, messages in self._messages.items():
            states = self._states[key]
            while messages and states:
                if states[0][0] >= messages[0][0]:
                    self.lags_s.append(max(states[0][1] - messages.popleft()[1], 0.0))
                else:
                    states.popleft()

    def _read(self, topic: str) -> Iterator[tuple[bytes, float, int, bytes]]:
        """Yield key, append time, sequence and value of the new records of a topic, those of a partition in order."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "nobody", "log_level": 0})
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number))[1] for number in partitions}
            begins = {number: self._offsets.get((topic, number), 0) for number in partitions}
            remaining = {number for number, end in ends.items() if end > begins[number]}
            consumer.assign([TopicPartition(topic, number, begins[number]) for number in remaining])
            while remaining:
                for message in consumer.consume(10_000, timeout=1.0):
                    number, offset = message.partition(), message.offset()
                    if message.error() or number not in remaining or offset >= ends[number]:
                        continue
                    headers = dict(message.headers() or ())
                    yield (
                        message.key() or b"",
                        message.timestamp()[1] / 1_000,
                        int(headers.get(SEQUENCE_HEADER) or 0),
                        message.value() or b"",
                    )
                    if offset + 1 >= ends[number]:
                        remaining.discard(number)
            self._offsets |= {(topic, number): end for number, end in ends.items()}
        finally:
            consumer.close()


@dataclass(frozen=True, slots=True)
class _Processes:
    """The processes that are measured."""

    collector: subprocess.Popen[str]
    others: Mapping[str, int]
    """Stream, broker and database server, by name: their process ids."""

    def read_cpu_s(self) -> dict[str, float]:
        """Return the processor time of each of the others."""
        return {name: read_cpu_s(pid) for name, pid in self.others.items()}

    def read_memory_mb(self) -> dict[str, float]:
        """Return the memory of each of the others."""
        return {name: round(read_memory_mb(pid)) for name, pid in self.others.items()}


def _run(folder: Path, options: argparse.Namespace) -> None:
    """Start all processes, follow the collector through the week, and print the figures."""
    sky = WorldSky(options.aircraft, SEED)
    hourly = _count_hourly(sky)
    airports = folder / "airports"
    airports.write_text("".join(f"{icao} {departures} {arrivals}\n" for icao, (departures, arrivals) in hourly.items()))
    with ExitStack() as stack:
        broker = Broker(folder / "kafka", port=free_port(), topics=list_stream_topics())
        stack.callback(broker.stop)
        broker.start()
        database_url, others = _start_database(folder, options.database, stack)
        worker = stack.enter_context(running_stream_worker(folder, broker.bootstrap_servers, options.store))
        worker.wait_until(worker.is_ready, "readiness")
        others |= {"streams": worker.process.pid, "broker": broker.pid}
        before = read_cpu_s(worker.process.pid)
        time.sleep(_AT_REST_S)
        at_rest = (read_cpu_s(worker.process.pid) - before) / _AT_REST_S
        source = stack.enter_context(_running_source(folder, options.aircraft))
        print_progress(f"{NAME}: {options.aircraft:,} aircraft, {options.hours:g} simulated hours")
        collector = stack.enter_context(
            _running(
                "collector", folder,
                ("--database-url", database_url, "--kafka", broker.bootstrap_servers, "--source", source,
                 "--time-file", str(folder / "time"), "--airports", str(airports), "--hours", str(options.hours)),
            )
        )  # fmt: skip
        processes = _Processes(collector, others)
        lag = _LagReader(broker.bootstrap_servers)
        days, last = _follow(processes, lag)
        deadline = time.monotonic() + 300
        while lag.unfolded and time.monotonic() < deadline:
            lag.read_on()
            time.sleep(0.5)
        _report(days, last, lag, at_rest)
        _report_movements(sky, list(hourly), options.hours, last)
        sizes = {each.name: _measure_topic_mb(folder / "kafka", each.name) for each in CATALOGUE}
        sizes["changelog of airports"] = _measure_topic_mb(folder / "kafka", find_changelog("airports"))
        print(json.dumps({"benchmark": NAME, "topics, MB": {name: size for name, size in sizes.items() if size}}))
        print(json.dumps({"benchmark": NAME, "tables, rows": last["sizes"]}))
        if options.database == "sqlite":
            report(NAME, "size of the database", (folder / "collector.db").stat().st_size / 1e6, "MB")


def _count_hourly(sky: WorldSky) -> dict[str, tuple[float, float]]:
    """Return the watched airports with their departures and arrivals an hour: the busiest, and as many others."""
    step = (len(sky.airports) - WATCHED // 2) // (WATCHED - WATCHED // 2)
    watched = [*sky.airports[: WATCHED // 2], *sky.airports[WATCHED // 2 :: step][: WATCHED - WATCHED // 2]]
    begin = BEGIN.timestamp()
    found = {}
    for each in watched:
        day = [len(list(sky.list_flights(each.icao, part, begin, begin + _DAY_S))) for part in _DIRECTIONS]
        by_part = dict(zip(_DIRECTIONS, day, strict=True))
        found[each.icao] = by_part[Direction.DEPARTURES] / 24, by_part[Direction.ARRIVALS] / 24
    return found


def _start_database(folder: Path, kind: str, stack: ExitStack) -> tuple[str, dict[str, int]]:
    """Return the URL of an empty database, and its server with its process id if it has one."""
    if kind == "sqlite":
        return f"sqlite:///{folder}/collector.db", {}
    data = folder / "mariadb"
    data.mkdir()
    server = MariaDbProcess(data, "--innodb-flush-log-at-trx-commit=2")
    stack.callback(server.kill)
    server.start()
    server.server.execute("CREATE DATABASE collector CHARACTER SET utf8mb4")
    url = server.server.url.set(database="collector").render_as_string(hide_password=False)
    return url, {"database": server.pid}


@contextmanager
def _running_source(folder: Path, aircraft: int) -> Iterator[str]:
    """Run the source of the sky; yield its URL. The time begins where the week does."""
    SharedTime(folder / "time").set(BEGIN.timestamp())
    port = free_port()
    with _running("source", folder, (str(port), str(aircraft), str(SEED), str(folder / "time"))):
        yield f"http://{HOST}:{port}"


@contextmanager
def _running(name: str, folder: Path, arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[str]]:
    """Run a module of `benchmarks.week`, whose log is in the folder; yield its process, and end it afterwards."""
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.week.{name}", *arguments], cwd=ROOT,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, preexec_fn=kill_with_parent,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _follow(processes: _Processes, lag: _LagReader) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read the collector's lines; print one for each simulated day; return those of the days, and the last line.

    Exits the benchmark if the collector ends early.
    """
    begun = processes.read_cpu_s()
    days: list[dict[str, Any]] = []
    line: dict[str, Any] = {}
    for text in processes.collector.stdout or ():
        line = json.loads(text)
        lag.read_on()
        now = processes.read_cpu_s()
        line["others_cpu_s"] = {name: now[name] - begun[name] for name in now}
        line["others_memory_mb"] = processes.read_memory_mb()
        hours = line["simulated_s"] / 3_600
        print_progress(
            f"{hours:5.1f} h: collector {line['cpu_s']:.0f} s, {line['memory_mb']:.0f} MB; "
            f"{line['live_movements']:,} movements; {lag.unfolded:,} of {lag.messages:,} messages not folded"
        )
        if hours >= 1 and abs(hours / 24 - round(hours / 24)) < 0.01 and not line["sizes"]:
            days.append(line)
            print(json.dumps({"benchmark": NAME, "day": round(hours / 24), **_summarize(line)}), flush=True)
    if not line.get("sizes"):
        raise SystemExit("the collector ended early: run it with --folder, and see collector.log there")
    return days, line


def _summarize(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the processor time as shares of one core, and the memory, up to a line of the collector."""
    seconds = line["simulated_s"]
    shares = {"collector": line["cpu_s"], **line["others_cpu_s"]}
    return {
        "share_of_a_core": {name: float(f"{cpu / seconds:.3g}") for name, cpu in shares.items()},
        "memory_mb": {"collector": round(line["memory_mb"]), **line["others_memory_mb"]},
    }


def _report(days: list[dict[str, Any]], last: dict[str, Any], lag: _LagReader, at_rest: float) -> None:
    """Print the figures of processor time, memory and lag."""
    seconds = last["simulated_s"]
    live = last["cpu_s"] - last["settled_cpu_s"] - last["rest_cpu_s"]
    report(NAME, "collector, live", 100 * live / seconds, "% of a core")
    report(NAME, "collector, the night's record", 100 * last["settled_cpu_s"] / seconds, "% of a core")
    for name, cpu_s in last["others_cpu_s"].items():
        report(NAME, name, 100 * cpu_s / seconds, "% of a core")
    report(NAME, "the collector's relay at rest", 100 * last["at_rest"], "% of a core")
    report(NAME, "streams at rest", 100 * at_rest, "% of a core")
    memory = {"collector": last["memory_mb"], "streams": last["others_memory_mb"]["streams"]}
    for name, now in memory.items():
        first = days[0] if days else last
        after_day = first["memory_mb"] if name == "collector" else first["others_memory_mb"][name]
        report(NAME, f"memory of {name}", now, "MB", after_the_first_day=round(after_day), days=len(days))
    for share, what in ((0.5, "median"), (0.99, "p99"), (1.0, "longest")):
        report(NAME, f"lag of the stream, {what}", 1_000 * percentile(lag.lags_s, share), "ms", messages=lag.messages)
    if lag.unfolded:
        raise SystemExit(f"{lag.unfolded:,} messages were never folded: see streams.log in --folder")


def _report_movements(sky: WorldSky, airports: list[str], hours: float, last: Mapping[str, Any]) -> None:
    """Print how many movements were found, of those that the sky made in a time in which they could be found."""
    begin = BEGIN.timestamp()
    flown = sum(
        1
        for airport in airports
        for part in _DIRECTIONS
        for _ in sky.list_flights(airport, part, begin, begin + hours * 3_600 - UNDECIDED.total_seconds())
    )
    report(NAME, "movements that were found live", last["live_movements"], "", flown=flown)


def _measure_topic_mb(folder: Path, topic: str) -> float:
    """Return the MB that a topic's records take on the broker's disk."""
    files = (each for part in folder.rglob(f"{topic}-[0-9]*") for each in part.glob("*.log"))
    return round(sum(each.stat().st_size for each in files) / 1e6, 1)


if __name__ == "__main__":
    sys.exit(main())
