"""`python -m benchmarks.stream_fold`: the pure fold, without Kafka: what a flight costs, and what an interest weighs.

Batches are decoded and folded by the stream's own `JoinState`, on dicts in place of tables, at airports that were
watched for six weeks and have 0 to a million interests, none of which fires. The sizes of batches are the collector's:
an hour of a busy airport (30 to 60 flights), a day that is collected at night (some 600), the most that it sends
(1,000). All numbers of interests take turns in short rounds; medians are shown, with their share of the figure without
interests. The clock is the processor time of this process, which does nothing else: others on the machine do not count.
"""

import argparse
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.streams.figures import median, progress, report
from benchmarks.streams.traffic import Record, airports, flight_records, past_records, quiet_interests
from benchmarks.streams.work import Folding
from streams.entries import encode_interest_entry
from streams.join_state import JoinState
from streams.messages import decode_flights

NAME: Final = "stream_fold"
AIRPORTS: Final = 24
INTERESTS: Final = (0, 1_000, 100_000, 1_000_000)
WEIGHED: Final = 100_000
"""Interests whose index is weighed exactly, which takes its time."""
SIZES: Final = (30, 60, 600, 1_000)
ROUNDS: Final = 7
BATCHES_A_ROUND: Final = 600
FLIGHTS_A_ROUND: Final = 60_000
"""At most: of large batches fewer."""


def main() -> int:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    share, rounds = (10, 3) if options.quick else (1, ROUNDS)
    names = airports(AIRPORTS)
    _weigh(_entries(names, WEIGHED // share))
    sequence = count(1)
    known = Folding({})
    for record in past_records(names, sequence):
        outcome = known.outcome(record.sequence, record.value)
        if outcome is not None:
            known.write(outcome)
    foldings = {}
    for interests in INTERESTS:
        number = interests // share
        table = _entries(names, number)
        before = _resident_bytes()
        folding = foldings[number] = Folding(table, known)
        _derive(folding.desk)
        if number >= WEIGHED:
            weight = (_resident_bytes() - before) / number
            report(NAME, "memory per interest, index, by what the process holds", weight, "bytes", interests=number)
        progress(f"{number:,} interests")
    for place, size in enumerate(SIZES):
        # Airports of its own, each with its share of the interests: to index a million again would take long.
        _fold(foldings, names[place :: len(SIZES)], size, rounds, sequence)
    return 0


def _entries(names: list[str], number: int) -> dict[bytes, bytes]:
    """A table of interests."""
    return {key: encode_interest_entry(1, value) for key, value in quiet_interests(names, number)}


def _derive(desk: JoinState) -> None:
    while desk.index_more_interests():
        pass


def _weigh(table: dict[bytes, bytes]) -> None:
    """Memory of the index, apart from what the table itself holds."""
    gc.collect()
    tracemalloc.start()
    desk = JoinState({}, table, {})
    _derive(desk)
    gc.collect()
    weight, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    own = sum(sys.getsizeof(key) + sys.getsizeof(entry) for key, entry in table.items()) + sys.getsizeof(table)
    number = len(table)
    report(NAME, "memory per interest, index", weight / number, "bytes", interests=number)
    report(NAME, "memory per interest, table in memory", own / number, "bytes", interests=number)


def _resident_bytes() -> int:
    """What the process has in memory (Linux); 0 elsewhere."""
    gc.collect()
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def _fold(foldings: dict[int, Folding], names: list[str], size: int, rounds: int, sequence: Iterator[int]) -> None:
    """Each number of interests folds the same batches, a round each in turn."""
    batches = min(BATCHES_A_ROUND, FLIGHTS_A_ROUND // size)
    records = flight_records(names, size, batches * (rounds + 1), sequence)
    for folding in foldings.values():
        _seconds(folding.desk, records[:batches])
    rates: dict[int, list[float]] = {number: [] for number in foldings}
    alone: list[float] = []
    gc.collect()
    gc.freeze()  # a million interests are not to be walked through by the collector while the clock runs
    for number in range(1, rounds + 1):
        some = records[number * batches : (number + 1) * batches]
        began = time.process_time()
        for record in some:
            decode_flights(record.value)
        alone.append(size * batches / (time.process_time() - began))
        for interests, folding in foldings.items():
            rates[interests].append(size * batches / _seconds(folding.desk, some))
    gc.unfreeze()
    base = f"fold, 0 interests, batches of {size:,}", median(rates[0])
    for interests, measured in rates.items():
        rate = median(measured)
        figure = f"fold, {interests:,} interests, batches of {size:,}"
        report(NAME, figure, rate, "flights/s", base, microseconds_a_batch=round(size / rate * 1e6, 1))
    report(NAME, f"decoding alone, batches of {size:,}", median(alone), "flights/s", base)


def _seconds(desk: JoinState, records: Sequence[Record]) -> float:
    """Decode, fold and encode."""
    began = time.process_time()
    for record in records:
        outcome = desk.fold_flights(record.sequence, decode_flights(record.value))
        if outcome is None or outcome.interest_alerts:
            raise SystemExit("a batch was dropped, or made an interest fire: this is not what was to be measured")
        desk.apply_after_write(outcome)
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
