"""`python -m benchmarks.stream_fold`: the pure fold, without Kafka: what a flight costs, and what an interest weighs.

Batches are decoded and folded by the stream's own `JoinState`, on dicts in place of tables, at airports that were
watched for six weeks and have 0 to a million interests, none of which fires. The sizes of batches are the collector's:
an hour of a busy airport (30 to 60 flights), a day that is collected at night (some 600), the most that it sends
(1,000). All numbers of interests take turns in short rounds; medians are shown, with their share of the figure without
interests. The clock is the processor time of this process, which does nothing else: others on the machine do not count.
"""

import argparse
import gc
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

from benchmarks.streams.figures import measure_resident_bytes, median, print_progress, report
from benchmarks.streams.traffic import (
    USUAL_FLIGHTS,
    Record,
    build_flight_records,
    build_past_records,
    build_quiet_interests,
    build_quiet_percents,
    choose_airports,
)
from benchmarks.streams.work import Folding
from streams.entries import encode_interest_entry
from streams.join_state import JoinState
from streams.messages import decode_flights

NAME: Final = "stream_fold"
AIRPORTS: Final = 24
INTERESTS: Final = (0, 1_000, 100_000, 1_000_000)
WEIGHED: Final = 100_000
"""Number of interests whose index memory is measured exactly, which takes a while."""
SIZES: Final = (30, 60, 600, 1_000)
ROUNDS: Final = 7
BATCHES_A_ROUND: Final = 600
FLIGHTS_A_ROUND: Final = 60_000
"""Most flights in a round: large batches are fewer than BATCHES_A_ROUND."""


def main() -> int:
    """Measure memory and speed of the fold with each number of interests, and print the figures; return 0."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see whether it works")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    share, rounds = (10, 3) if options.quick else (1, ROUNDS)
    names = choose_airports(AIRPORTS)
    _measure_index_memory(_build_interest_table(names, WEIGHED // share))
    sequence = count(1)
    known = Folding({})
    for record in build_past_records(names, sequence):
        result = known.compute_result(record.sequence, record.value)
        if result is not None:
            known.write_result(result)
    foldings = {}
    for interests in INTERESTS:
        number = interests // share
        table = _build_interest_table(names, number)
        before = measure_resident_bytes()
        folding = foldings[number] = Folding(table, known)
        _index_interests(folding.state)
        if number >= WEIGHED:
            weight = (measure_resident_bytes() - before) / number
            report(NAME, "memory per interest, index, by what the process holds", weight, "bytes", interests=number)
        print_progress(f"{number:,} interests")
    for place, size in enumerate(SIZES):
        # Airports of its own, each with its share of the interests: to index a million again would take long.
        _measure_speed(foldings, names[place :: len(SIZES)], size, rounds, sequence)
    foldings.clear()
    _measure_percents(names, INTERESTS[-1] // share, rounds, sequence)
    return 0


def _measure_percents(names: list[str], number: int, rounds: int, sequence: Iterator[int]) -> None:
    """Measure and report the speed of the fold with `number` interests in percent of the usual, and with none.

    The airports have a usual number of flights in each hour of the weeks before.
    """
    known = Folding({})
    for record in build_past_records(names, sequence, USUAL_FLIGHTS):
        result = known.compute_result(record.sequence, record.value)
        if result is not None:
            known.write_result(result)
    foldings = {}
    for interests in (0, number):
        table = {key: encode_interest_entry(1, value) for key, value in build_quiet_percents(names, interests)}
        foldings[interests] = Folding(table, known)
        _index_interests(foldings[interests].state)
    print_progress(f"{number:,} interests in percent")
    for place, size in enumerate(SIZES):
        _measure_speed(foldings, names[place :: len(SIZES)], size, rounds, sequence, "interests in percent")


def _build_interest_table(names: list[str], number: int) -> dict[bytes, bytes]:
    """Build a table, entries by key, of `number` interests that never fire, spread over the airports `names`."""
    return {key: encode_interest_entry(1, value) for key, value in build_quiet_interests(names, number)}


def _index_interests(state: JoinState) -> None:
    """Index the thresholds of all interests of a join state at once, as a worker does in steps after its start."""
    while state.index_more_interests():
        pass


def _measure_index_memory(table: dict[bytes, bytes]) -> None:
    """Measure exactly, and report, the bytes per interest of the index and of its table of interests, separately."""
    gc.collect()
    tracemalloc.start()
    state = JoinState({}, table, {})
    _index_interests(state)
    gc.collect()
    weight, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    table_bytes = sum(sys.getsizeof(key) + sys.getsizeof(entry) for key, entry in table.items()) + sys.getsizeof(table)
    number = len(table)
    report(NAME, "memory per interest, index", weight / number, "bytes", interests=number)
    report(NAME, "memory per interest, table in memory", table_bytes / number, "bytes", interests=number)


def _measure_speed(
    foldings: dict[int, Folding],
    names: list[str],
    size: int,
    rounds: int,
    sequence: Iterator[int],
    kind: str = "interests",
) -> None:
    """Measure and report flights per second of the fold of the same batches with each number of interests.

    `kind`: their name in the figures. The numbers take turns in rounds, after a warm-up; medians are reported,
    and beside them the decoding alone.
    """
    batches = min(BATCHES_A_ROUND, FLIGHTS_A_ROUND // size)
    records = build_flight_records(names, size, batches * (rounds + 1), sequence)
    for folding in foldings.values():
        _measure_fold_seconds(folding.state, records[:batches])
    rates: dict[int, list[float]] = {number: [] for number in foldings}
    alone: list[float] = []
    gc.collect()
    gc.freeze()  # the garbage collector must not visit a million interests during the measurement
    for number in range(1, rounds + 1):
        round_records = records[number * batches : (number + 1) * batches]
        began = time.process_time()
        for record in round_records:
            decode_flights(record.value)
        alone.append(size * batches / (time.process_time() - began))
        for interests, folding in foldings.items():
            rates[interests].append(size * batches / _measure_fold_seconds(folding.state, round_records))
    gc.unfreeze()
    base = f"fold, 0 {kind}, batches of {size:,}", median(rates[0])
    for interests, measured in rates.items():
        rate = median(measured)
        figure = f"fold, {interests:,} {kind}, batches of {size:,}"
        report(NAME, figure, rate, "flights/s", base, microseconds_a_batch=round(size / rate * 1e6, 1))
    report(NAME, f"decoding alone, batches of {size:,}", median(alone), "flights/s", base)


def _measure_fold_seconds(state: JoinState, records: Sequence[Record]) -> float:
    """Decode and fold records, apply the results to the state, and return the processor seconds that this took.

    Ends the benchmark if a record counts as a duplicate or makes an interest fire.
    """
    began = time.process_time()
    for record in records:
        result = state.fold_flights(record.sequence, decode_flights(record.value))
        if result is None or result.interest_alerts:
            raise SystemExit("a batch was dropped, or made an interest fire: this is not what was to be measured")
        state.apply_after_write(result)
    return time.process_time() - began


if __name__ == "__main__":
    sys.exit(main())
