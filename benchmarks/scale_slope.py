"""`python -m benchmarks.scale_slope`: measures whether the costs in docs/scale.md are linear, with 48 partitions.

Interests in 480 airports, which have shares of 1/rank as people's choices do, are spread over 48 partitions by the
contract's own partitioner. Each partition has a join state of its own, as in a worker: 62,500, 250,000 and 1,000,000
interests in all. Printed for each number: bytes and microseconds to index an interest, flights per second of the fold
(a batch of 60 at every airport, by its partition), the part of all interests that the fullest partition has, and the
part of the fullest worker where 2, 4, 12 and 48 workers share the partitions. `ratio` compares with the smallest number
of interests, or with an even share: 1.0 means that the cost is linear, or the share even. Times are
processor times of this process, on dicts in place of tables.
"""

import argparse
import sys
import time
import tracemalloc
from itertools import count
from typing import Final

from benchmarks.scale_model import compute_shares
from benchmarks.streams.figures import median, print_progress, report
from benchmarks.streams.traffic import (
    Record,
    build_flight_records,
    build_past_records,
    build_quiet_interests,
    choose_airports,
)
from benchmarks.streams.work import Folding
from streams.entries import encode_interest_entry
from streams.messages import decode_flights
from towerwatch.topics import Topic, partition_of

NAME: Final = "scale_slope"
TOPIC: Final = Topic("of-48-partitions", 48)
AIRPORTS: Final = 480
INTERESTS: Final = (62_500, 250_000, 1_000_000)
WORKERS: Final = (2, 4, 12, 48)
BATCH: Final = 60
ROUNDS: Final = 5


def main() -> int:
    """Measure all numbers of interests one after the other, and report the figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    airports = choose_airports(AIRPORTS)
    sequence = count(1)
    past = build_past_records(airports, sequence)
    records = build_flight_records(airports, BATCH, 2 * AIRPORTS * (ROUNDS + 1), sequence)
    rounds = [records[at : at + 2 * AIRPORTS] for at in range(0, len(records), 2 * AIRPORTS)]
    partitions = {airport: partition_of(airport, TOPIC) for airport in airports}
    base: tuple[float, float, float] | None = None
    for wanted in INTERESTS:
        number = wanted // 10 if options.quick else wanted
        base = _measure(number, airports, partitions, past, rounds, base)
    return 0


def _measure(
    number: int,
    airports: list[str],
    partitions: dict[str, int],
    past: list[Record],
    rounds: list[list[Record]],
    base: tuple[float, float, float] | None,
) -> tuple[float, float, float]:
    """Measure `number` interests, and report the figures. `partitions`: the partition of each airport.

    Return bytes and microseconds of an interest, and flights per second; those of the smallest number are `base`.
    """
    tables: list[dict[bytes, bytes]] = [{} for _ in range(TOPIC.partitions)]
    for key, value in build_quiet_interests(airports, number, compute_shares(len(airports))):
        tables[partitions[key[:4].decode()]][key] = encode_interest_entry(1, value)
    whole = sum(map(len, tables))
    print_progress(f"{whole:,} interests in {TOPIC.partitions} partitions")
    weight = _weigh(tables)
    foldings = [Folding(table) for table in tables]
    began = time.process_time()
    for folding in foldings:
        _index(folding)
    indexed_us = (time.process_time() - began) / whole * 1e6
    for record in past:
        _fold(foldings[partitions[record.key[:4].decode()]], record)
    rates = []
    for place, records in enumerate(rounds):
        began = time.process_time()
        for record in records:
            _fold(foldings[partitions[record.key[:4].decode()]], record)
        if place:  # the first is a warm-up
            rates.append(BATCH * len(records) / (time.process_time() - began))
    found = weight / whole, indexed_us, median(rates)
    beside = base or found
    name = f"{INTERESTS[0]:,} interests"
    report(NAME, f"{number:,} interests: index of one", found[0], "bytes", (name, beside[0]))
    report(NAME, f"{number:,} interests: indexing of one", found[1], "µs", (name, beside[1]))
    report(NAME, f"{number:,} interests: fold, batches of {BATCH}", found[2], "flights/s", (name, beside[2]))
    _report_shares(number, [len(table) for table in tables])
    return beside


def _weigh(tables: list[dict[bytes, bytes]]) -> int:
    """Index all these tables once, and return the bytes of their join states and indexes.

    The count is exact but slow, so the time of indexing is measured in another run.
    """
    tracemalloc.start()
    foldings = [Folding(table) for table in tables]
    for folding in foldings:
        _index(folding)
    weight, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return weight


def _report_shares(number: int, sizes: list[int]) -> None:
    """Report which part of the interests the fullest partition and the fullest worker has, beside an even share."""
    whole = sum(sizes)
    even = f"an even share of {len(sizes)}", 1 / len(sizes)
    report(NAME, f"{number:,} interests: part of the fullest partition", max(sizes) / whole, "of all", even)
    for workers in WORKERS:
        # Kafka's assignor gives each worker neighbouring partitions.
        each = len(sizes) // workers
        fullest = max(sum(sizes[at : at + each]) for at in range(0, len(sizes), each))
        even = f"an even share of {workers}", 1 / workers
        report(NAME, f"{number:,} interests: part of the fullest of {workers} workers", fullest / whole, "of all", even)


def _index(folding: Folding) -> None:
    """Index the thresholds of all interests of a join state, as a worker does in steps after its start."""
    while folding.state.index_more_interests():
        pass


def _fold(folding: Folding, record: Record) -> None:
    """Fold a record, and write the result. End the benchmark if it is a duplicate, or makes an interest fire."""
    result = folding.state.fold_flights(record.sequence, decode_flights(record.value))
    if result is None or result.interest_alerts:
        raise SystemExit("a batch was dropped, or made an interest fire: this is not what was to be measured")
    folding.write_result(result)


if __name__ == "__main__":
    sys.exit(main())
