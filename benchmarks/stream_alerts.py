"""`python -m benchmarks.stream_alerts`: how soon and how fast the stream tells, and how soon it is back.

Three scenes with one worker, `python -m streams`, and real Kafka:

- Latency: batches of an hour's flights come at half the rate that the worker could take at most (measured just before);
  24 airports with 1,000 interests each. From the append of the batch to the append of the alert, by the broker's clock.
- A burst: one batch makes 100,000 interests at one airport fire, or resolve, at once. From the append of the batch to
  the append of the last alert; beside it, a bare aiokafka producer that makes and sends the same alerts.
- Recovery of 1,000,000 interests from the changelog and from local RocksDB: from the start of the process to readiness,
  and to the state of the first batch, for which thresholds must have been indexed.

Broker and worker share the machine.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any, Final

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.stream_app import fill_interests
from benchmarks.streams.contest import wait_for_completion_times
from benchmarks.streams.figures import median, percentile, print_progress, report
from benchmarks.streams.kafka import BenchmarkBroker, find_changelog, list_stream_topics
from benchmarks.streams.progress import compute_rate, group_sequences
from benchmarks.streams.traffic import (
    NOW,
    Record,
    build_alarmed_interests,
    build_flight_records,
    build_past,
    build_past_records,
    build_quiet_interests,
    build_records,
    choose_airports,
)
from benchmarks.streams.work import AIRPORTS, Folding
from benchmarks.streams.worker import BenchmarkWorker, running_stream_worker
from domain.interests import Direction
from domain.traffic import Coverage, Observation
from domain.windows import HOUR_S
from local.kafka import running_broker
from streams.app import SERVICE
from streams.entries import encode_interest_entry
from streams.join_state import FoldResult
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, partition_of

NAME: Final = "stream_alerts"
AN_HOUR: Final = 60
"""Flights of an hour at a busy airport in one direction."""
HIGH: Final = 500
"""High threshold (flights a day) of the interests of the burst."""
_DAY_S: Final = 24 * HOUR_S


def main() -> int:
    """Start a broker, run the chosen scenes one after the other, and print their figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    parser.add_argument("--scenes", nargs="*", default=["latency", "burst", "recovery"], help="(default: all)")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    share = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_broker(folder / "kafka", topics=list_stream_topics()) as broker:
            cluster = BenchmarkBroker(broker.bootstrap_servers)
            if "latency" in options.scenes:
                _measure_latency(cluster, folder / "latency", 8_000 // share, 10.0 / share)
                _delete_state(cluster)
            if "burst" in options.scenes:
                _measure_burst(cluster, folder / "burst", 100_000 // share)
                _delete_state(cluster)
            if "recovery" in options.scenes:
                _measure_recovery(cluster, folder / "recovery", 1_000_000 // share)
    return 0


def _delete_state(cluster: BenchmarkBroker) -> None:
    """Delete the flights, the alerts, the records of the changelogs, and the stream's consumer group."""
    changelogs = [find_changelog(table) for table in ("airports", "interests", "history")]
    cluster.delete_records(FLIGHTS_OBSERVED.name, ALERTS_RAISED.name, *changelogs)
    cluster.delete_group(SERVICE)


def _measure_latency(cluster: BenchmarkBroker, folder: Path, messages: int, seconds: float) -> None:
    """Measure the latency of alerts at half of the maximum load, and report its median and p99 in ms.

    The maximum load is measured first with `messages` batches. Then a load of half of it lasts about `seconds`.
    """
    names = choose_airports(AIRPORTS)
    fill_interests(cluster, names, 1_000)
    sequence = count(1)
    before = build_past_records(names, sequence)
    after = build_flight_records(names, AN_HOUR, messages * 2, sequence)
    cluster.fill(FLIGHTS_OBSERVED.name, [*before, *after[:messages]])
    with running_stream_worker(folder, cluster.bootstrap_servers, "memory") as worker:
        given = [*before, *after[:messages]]
        times = wait_for_completion_times(cluster, worker, group_sequences(given), sum(each.flights for each in given))
        most = compute_rate(times, len(before) + messages // 10)
        print_progress(f"at most {most:,.0f} batches/s; now half of that")
        cluster.delete_records(ALERTS_RAISED.name)
        later = after[messages : messages + int(most / 2 * seconds)]
        took = cluster.fill(FLIGHTS_OBSERVED.name, later, per_second=most / 2)
        given += later
        wait_for_completion_times(cluster, worker, group_sequences(given), sum(each.flights for each in given))
    latencies_ms = []
    for record in cluster.read_records(ALERTS_RAISED.name):
        cause = AlertRaised.FromString(record.value).cause_published_at
        latencies_ms.append((record.at - cause.seconds - cause.nanos / 1e9) * 1000)
    circumstances: dict[str, float] = {"alerts": len(latencies_ms), "batches_per_s": round(len(later) / took)}
    report(NAME, "latency at half the maximum load, median", percentile(latencies_ms, 0.5), "ms", None, **circumstances)
    report(NAME, "latency at half the maximum load, p99", percentile(latencies_ms, 0.99), "ms", None, **circumstances)


def _measure_burst(cluster: BenchmarkBroker, folder: Path, interests: int) -> None:
    """Measure the alerts per second when all interests of an airport fire or resolve with one batch.

    Report the median of three batches, beside that of a bare aiokafka producer that makes and sends the same alerts.
    """
    (airport,) = choose_airports(1)
    table = {key: encode_interest_entry(1, value) for key, value in build_alarmed_interests(airport, interests, HIGH)}
    _fill_table(cluster, table)
    sequence = count(1)
    cluster.fill(FLIGHTS_OBSERVED.name, build_records(build_past(Direction.DEPARTURES), [airport], sequence))
    days = [
        Observation(
            Direction.DEPARTURES,
            NOW + day * _DAY_S,
            NOW + (day + 1) * _DAY_S,
            tuple(NOW + day * _DAY_S + second for second in range(flights)),
            Coverage.COMPLETE,
        )
        for day, flights in enumerate((HIGH, HIGH + 1, HIGH - 1, HIGH + 1))
    ]
    batches = list(build_records(days, [airport], sequence))
    folding = Folding(table)
    for record in build_records(build_past(Direction.DEPARTURES), [airport], count(1)):
        folding.write_result(_compute_result(folding, record))
    rates, bare = [], []
    with running_stream_worker(folder, cluster.bootstrap_servers, "memory") as worker:
        cluster.fill(FLIGHTS_OBSERVED.name, batches[:1])
        folding.write_result(_compute_result(folding, batches[0]))
        flights = sum(len(each.event_times) for each in build_past(Direction.DEPARTURES)) + HIGH
        worker.wait_until(lambda: worker.count_folded_flights() >= flights, "the end of its first batches")
        for batch in batches[1:]:
            cluster.delete_records(ALERTS_RAISED.name)
            cluster.fill(FLIGHTS_OBSERVED.name, [batch])
            worker.wait_until(lambda: cluster.count_records(ALERTS_RAISED.name) >= interests, "all alerts")
            published_at = cluster.read_append_times(FLIGHTS_OBSERVED.name)[-1]
            rates.append(interests / (cluster.read_append_times(ALERTS_RAISED.name)[-1] - published_at))
            cluster.delete_records(ALERTS_RAISED.name)
            bare.append(interests / uvloop.run(_send_with_bare_producer(cluster.bootstrap_servers, folding, batch)))
            print_progress(f"{interests:,} alerts: {rates[-1]:,.0f}/s, bare {bare[-1]:,.0f}/s")
    beside = f"{interests:,} alerts at once, made and sent by a bare aiokafka producer"
    report(NAME, beside, median(bare), "alerts/s")
    report(NAME, f"{interests:,} alerts at once", median(rates), "alerts/s", (beside, median(bare)))


def _compute_result(folding: Folding, record: Record) -> FoldResult:
    """Fold a record without writing, and return the result. End the benchmark if the record counts as a duplicate."""
    result = folding.compute_result(record.sequence, record.value)
    if result is None:
        raise SystemExit("a batch was taken for a duplicate")
    return result


async def _send_with_bare_producer(bootstrap_servers: str, folding: Folding, batch: Record) -> float:
    """Fold a batch, send its alerts with a bare producer, and return the seconds until the last acknowledgement.

    The result is written into the fold afterwards. The producer is connected before the clock starts.
    """
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        max_batch_size=128 * 1024,
    ) as producer:
        await producer.partitions_for(ALERTS_RAISED.name)
        began = time.perf_counter()
        result = _compute_result(folding, batch)
        sent: list[asyncio.Future[Any]] = []
        for key, value, partition in folding.encode_alerts(result, int(time.time() * 1000)):
            sent.append(await producer.send(ALERTS_RAISED.name, value, key, partition))
        await asyncio.gather(*sent)
        took = time.perf_counter() - began
    folding.write_result(result)
    return took


def _measure_recovery(cluster: BenchmarkBroker, folder: Path, interests: int) -> None:
    """Measure the recovery of interests from the changelog, and after a restart from local RocksDB.

    Report for both the seconds until readiness and until the first batch is folded, and the peak memory.
    """
    names = choose_airports(AIRPORTS)
    _fill_table(
        cluster, {key: encode_interest_entry(1, value) for key, value in build_quiet_interests(names, interests)}
    )
    print_progress(f"{interests:,} interests are in the changelog")
    sequence = count(1)
    before = build_past_records(names[:1], sequence)
    after = build_flight_records(names[:1], AN_HOUR, 2, sequence)
    cluster.fill(FLIGHTS_OBSERVED.name, before)
    figure = f"recovery of {interests:,} interests"
    from_changelog, from_rocksdb = f"{figure} from the changelog into RocksDB", f"{figure} from local RocksDB"
    first: tuple[float, float] | None = None
    for number, source in enumerate((from_changelog, from_rocksdb)):
        cluster.fill(FLIGHTS_OBSERVED.name, after[number : number + 1])
        ready, folded, memory = _measure_restart(cluster, folder, [*before, *after[: number + 1]])
        first = first or (ready, folded)
        beside = f"{from_changelog}, ready", first[0]
        most = round(memory / 1e6)
        report(NAME, f"{source}, ready", ready, "s", beside, interests_per_s=interests // ready, most_memory_mb=most)
        beside = f"{from_changelog}, first batch folded", first[1]
        report(NAME, f"{source}, first batch folded", folded, "s", beside)


def _measure_restart(cluster: BenchmarkBroker, data: Path, given: list[Record]) -> tuple[float, float, int]:
    """Run a worker on RocksDB until all given records are folded, and then stop it.

    Return the seconds from its start until readiness, those until all records are folded, and its peak memory in bytes.
    """
    began = time.time()
    with running_stream_worker(data, cluster.bootstrap_servers, "rocksdb") as worker:
        worker.wait_until(worker.is_ready, "readiness", within_s=300)
        ready = time.time() - began
        times = wait_for_completion_times(cluster, worker, group_sequences(given), flights=1)
        memory = _read_peak_memory(worker)
    return ready, times[-1] - began, memory


def _read_peak_memory(worker: BenchmarkWorker) -> int:
    """Read the peak resident memory of a worker process in bytes (Linux); 0 elsewhere."""
    status = Path(f"/proc/{worker.process.pid}/status")
    if not status.exists():
        return 0
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _fill_table(cluster: BenchmarkBroker, table: dict[bytes, bytes]) -> None:
    """Publish the entries of a table of interests, by key, to its changelog, each to the partition of its airport."""
    cluster.fill(
        find_changelog("interests"),
        (
            Record(partition_of(key[:4].decode(), FLIGHTS_OBSERVED), key, entry, sequence=1)
            for key, entry in table.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
