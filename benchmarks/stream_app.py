"""`python -m benchmarks.stream_app`: one worker of the stream against real Kafka, beside others that do the same work.

The same work: the flights of 24 airports with 1,000 interests each (some fire now and then) come from one topic that is
filled beforehand; each message is decoded and folded by the stream's own rule, its alerts are published, its state is
written with a changelog, its offset is committed. It is done by

- the stream, `python -m streams`, with its tables in memory and in RocksDB;
- Quix Streams: a stateful function, as its user writes it, with Quix's own state (RocksDB, changelog) and checkpoints;
- a bare loop with aiokafka and one with confluent-kafka, which keep their state in a dict and publish it as the stream
  does, one record a message; they commit after each fetch.

Each has a process of its own, one at a time, from the topic's beginning to its end. The stream, the aiokafka loop and
Quix Streams take turns in some rounds. Shown are medians, with the least and the most of all rounds; a ratio is the
median of each round's, so that what slows the machine for some minutes slows both. Each figure is given by the clock,
and by processor time in all threads of the contender: on a machine that others use too, only the latter is stable.

The clock runs from the end of the warm-up (six weeks of past and a tenth of the messages) until all is done: of the
stream it is the broker's, from the record of state that ends the warm-up to the last one, when the alerts are
acknowledged (Faust commits a little later, now and then); of a loop its own, until its last commit; of Quix its own,
until the broker has the states of its last checkpoint. Start and stop of the process are left out, but the processor
time of a loop and of Quix includes their stop. Everybody must have raised the same number of alerts.

The original's shape is one JSON message for each airport and interest, consumed with kafka-python, with a flush and a
commit for each message. A batch of n flights at an airport with 1,000 interests is 1,000 of them.

Broker and contender share the machine: only the ratios travel.
"""

import argparse
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.streams import original
from benchmarks.streams.contest import AIOKAFKA, CONTENDERS, QUIX, STREAM, BenchmarkRuns, RunResult, run_original
from benchmarks.streams.figures import median, print_progress, report
from benchmarks.streams.kafka import BenchmarkBroker, find_changelog, list_stream_topics, with_append_times
from benchmarks.streams.traffic import Record, build_flight_records, build_past_records, choose_airports
from benchmarks.streams.work import AIRPORTS, Task, build_interest_entries
from local.kafka import running_broker
from towerwatch.topics import FLIGHTS_OBSERVED, partition_of

NAME: Final = "stream_app"
INTERESTS: Final = 1_000
"""Number of interests at each airport."""
MESSAGES: Final = {1: 6_000, 10: 6_000, 100: 6_000, 1_000: 1_600}
"""Number of messages by batch size; enough for some seconds."""
COMPARED: Final = (STREAM, AIOKAFKA, QUIX)
ROUNDS: Final = 3
"""Rounds of the compared contenders; others run in the first alone."""
ORIGINAL_MESSAGES: Final = 1_000
ORIGINAL: Final = "the original's shape"


def main() -> int:
    """Start a broker, run the original's shape and the contenders at the chosen batch sizes, and print their figures.

    Return 0.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{NAME}", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of it, to see whether it works: its ratios mean nothing"
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=list(MESSAGES), help="of batches (default: all)")
    parser.add_argument("--contenders", nargs="*", default=list(CONTENDERS), help="(default: all)")
    parser.add_argument("--rounds", type=int, help=f"of those that take turns (default {ROUNDS}; quick: 1)")
    options, _ = parser.parse_known_args()  # `make bench` gives all benchmarks the same arguments
    originals = with_append_times((original.COUNTED, original.CROSSED))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running_broker(folder / "kafka", topics=(*list_stream_topics(), *originals)) as broker:
            cluster = BenchmarkBroker(broker.bootstrap_servers)
            print_progress("the broker is ready")
            fill_interests(cluster, choose_airports(AIRPORTS), INTERESTS)
            messages = ORIGINAL_MESSAGES // (10 if options.quick else 1)
            print_progress("the interests are set")
            per_s = median(run_original(cluster, number, messages) for number in range(3))
            report(NAME, f"{ORIGINAL}, {INTERESTS:,} messages a batch", per_s, "messages/s")
            for size in options.sizes:
                number = MESSAGES[size] // (4 if options.quick else 1)
                rounds = options.rounds or (1 if options.quick else ROUNDS)
                _compare_contenders(cluster, folder / str(size), size, number, rounds, options.contenders, per_s)
    return 0


def fill_interests(cluster: BenchmarkBroker, names: list[str], at_each: int) -> None:
    """Publish `at_each` interests at each airport to the changelog, as the stream writes them.

    A worker that starts afterwards has them when it is ready.
    """
    cluster.fill(
        find_changelog("interests"),
        (
            Record(partition_of(key[:4].decode(), FLIGHTS_OBSERVED), key, entry, 1)
            for key, entry in build_interest_entries(names, at_each)
        ),
    )


def _compare_contenders(
    cluster: BenchmarkBroker,
    folder: Path,
    size: int,
    messages: int,
    rounds: int,
    contenders: list[str],
    original_messages_per_s: float,
) -> None:
    """Fill the topic with batches of one size, run all contenders over it in turn, and print their rates.

    Contenders that are not in COMPARED run in the first round alone. Ends the benchmark if the contenders raised
    different numbers of alerts. `original_messages_per_s` is the rate of the original's shape.
    """
    folder.mkdir()
    names, sequence = choose_airports(AIRPORTS), count(1)
    before = build_past_records(names, sequence)
    cluster.delete_records(FLIGHTS_OBSERVED.name)
    records = [*before, *build_flight_records(names, size, messages, sequence)]
    cluster.fill(FLIGHTS_OBSERVED.name, records)
    task = Task(
        cluster.bootstrap_servers,
        group="",
        messages=len(records),
        measured_from=len(before) + messages // 10,
        interests=INTERESTS,
        changelog=find_changelog("airports"),
        data="",
    )
    contest = BenchmarkRuns(cluster, folder, task, records)
    runs: dict[str, list[RunResult]] = {each: [] for each in contenders}
    for number in range(rounds):
        turns = [each for each in contenders if number == 0 or each in COMPARED]
        for contender in turns if number % 2 == 0 else reversed(turns):
            run = contest.run(contender)
            runs[contender].append(run)
            print_progress(
                f"{size:,} flights a message, {contender}: {run.messages_per_s:,.0f} messages/s, "
                f"{run.messages_per_cpu_s:,.0f} by processor time"
            )
    alerts = {each: {run.alerts for run in of_one} for each, of_one in runs.items()}
    if len(set().union(*alerts.values())) > 1:
        raise SystemExit(f"not the same work was done: alerts by contender {alerts}")
    _report_runs(size, runs)
    if STREAM in runs:
        flights_per_s = original_messages_per_s / INTERESTS * size
        figure = f"{ORIGINAL}, batches of {size:,}"
        report(NAME, figure, flights_per_s, "flights/s")
        ours = median(run.messages_per_s for run in runs[STREAM])
        report(NAME, f"{STREAM}, batches of {size:,}", ours * size, "flights/s", (figure, flights_per_s))
    raised = next(iter(runs.values()))[0].alerts
    report(NAME, f"alerts raised by each contender, batches of {size:,}", raised, "alerts", messages=messages)


def _report_runs(size: int, runs: dict[str, list[RunResult]]) -> None:
    """Print the rates of all contenders, by the clock and by processor time, and the stream's ratios to the others."""
    for contender, of_one in runs.items():
        for unit, rates in _split_rates(of_one).items():
            least, most = round(min(rates)), round(max(rates))
            figure = f"{contender}, batches of {size:,}"
            report(NAME, figure, median(rates), unit, rounds=len(rates), least=least, most=most)
            if STREAM in runs and contender != STREAM:
                ours = _split_rates(runs[STREAM])[unit]
                ratios = [a / b for a, b in zip(ours, rates, strict=False)]  # some run in the first round alone
                figure = f"{STREAM}, of {contender}, batches of {size:,}, by {unit}"
                report(NAME, figure, median(ratios), "ratio", least=round(min(ratios), 3), most=round(max(ratios), 3))


def _split_rates(runs: list[RunResult]) -> dict[str, list[float]]:
    """Return the rates of runs, in their order, by unit: by the clock and by processor time."""
    return {
        "messages/s": [run.messages_per_s for run in runs],
        "messages/s of processor time": [run.messages_per_cpu_s for run in runs],
    }


if __name__ == "__main__":
    sys.exit(main())
