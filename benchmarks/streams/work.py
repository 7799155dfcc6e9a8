"""The work of every contender: the stream's own decoding, rule and encoding, with dicts in place of tables."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.streams.traffic import build_quiet_interests, build_watching_interests, choose_airports
from streams.entries import encode_interest_entry
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights, encode_alert
from towerwatch.topics import ALERTS_RAISED, partition_of

AIRPORTS = 24
WATCHING = 80
"""Number of interests in a thousand that fire now and then."""


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a contender, passed on its command line: where, what and how many messages to process."""

    bootstrap_servers: str
    group: str
    messages: int
    """Number of messages after which the contender ends."""
    measured_from: int
    """Number of messages of the warm-up."""
    interests: int
    """Number of interests at each airport."""
    changelog: str
    """Topic for the states of airports."""
    data: str
    """Folder for the contender's data on disk."""


def parse_task() -> Task:
    """Parse the command line of this process into its task, as `build_arguments` writes it."""
    parser = argparse.ArgumentParser()
    for name in ("bootstrap-servers", "group", "changelog", "data"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("messages", "measured-from", "interests"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return Task(**vars(parser.parse_args()))


def build_arguments(task: Task) -> list[str]:
    """Build the command-line arguments of a task."""
    return [f"--{name.replace('_', '-')}={getattr(task, name)}" for name in Task.__slots__]


def build_interest_entries(names: list[str], at_each: int) -> Iterator[tuple[bytes, bytes]]:
    """Build the keys and entries of the table of interests, `at_each` at each airport.

    First come the 8 % that fire now and then, then those that never fire.
    """
    watching = at_each * WATCHING // 1000
    for key, value in build_watching_interests(names, watching * len(names)):
        yield key, encode_interest_entry(1, value)
    for key, value in build_quiet_interests(names, (at_each - watching) * len(names)):
        yield key, encode_interest_entry(1, value)


@dataclass(slots=True)
class Stopwatch:
    """A counter of a contender's messages, with the times of the end of its warm-up and of all (seconds since 1970).

    Also takes the processor time of this process, with all its threads, at the end of the warm-up.
    """

    task: Task
    done: int = 0
    began: float = 0.0
    ended: float = 0.0
    began_cpu_s: float = 0.0

    def count_message(self) -> bool:
        """Count a message that is done, and store the time if it ends the warm-up.

        Return True if it was the last message of the task, else False.
        """
        self.done += 1
        if self.done == self.task.measured_from:
            self.began, self.began_cpu_s = time.time(), time.process_time()
        return self.done == self.task.messages

    def print_times(self) -> None:
        """Print the times as JSON for the benchmark, and the processor seconds (`cpu_s`) since the warm-up."""
        cpu_s = time.process_time() - self.began_cpu_s
        print(json.dumps({"began": self.began, "ended": self.ended, "cpu_s": cpu_s}))


def build_folding(task: Task) -> "Folding":
    """Build the fold with which a contender starts: all interests of the task, and no state of any airport."""
    return Folding(dict(build_interest_entries(choose_airports(AIRPORTS), task.interests)))


class Folding:
    """A fold of flight messages by the stream's own rule, with dicts in place of the stream's tables.

    For each message a contender calls `compute_result`, `encode_alerts` and `write_result`, in this order.
    """

    def __init__(self, interests: dict[bytes, bytes], known: "Folding | None" = None) -> None:
        """`interests`: the table of interests. `known`: a fold whose airports are copied. None: no airports."""
        self._airports: dict[bytes, bytes] = dict(known._airports) if known else {}
        self._history: dict[bytes, bytes] = dict(known._history) if known else {}
        self.state = JoinState(self._airports, interests, self._history)

    def has_airport(self, airport: bytes) -> bool:
        """Return True if the fold holds a state of the airport, False if not."""
        return airport in self._airports

    def restore_airport(self, airport: bytes, entry: bytes | None) -> None:
        """Set an airport's entry from the contender's own store; None: the store has no entry, and nothing changes."""
        if entry is not None:
            self._airports[airport] = entry

    def compute_result(self, sequence: int, value: bytes) -> FoldResult | None:
        """Decode and fold a message without writing, and return the result, or None if the message is a duplicate."""
        return self.state.fold_flights(sequence, decode_flights(value))

    def encode_alerts(self, result: FoldResult, cause_published_ms: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield key, value and partition of the record of each alert of a result.

        `cause_published_ms` is when the folded message was published (milliseconds since 1970); alerts contain it.
        """
        cause_published_at = datetime.fromtimestamp(cause_published_ms / 1000, UTC)
        for alert in self.state.build_alerts(result):
            user_id = str(alert.user_id)
            yield user_id.encode(), encode_alert(alert, cause_published_at), partition_of(user_id, ALERTS_RAISED)

    def write_result(self, result: FoldResult) -> None:
        """Write a result's states and history into the dicts, as into tables, and apply it to the join state.

        A history entry that is None is deleted.
        """
        for key, entry in result.history_entries.items():
            if entry is None:
                self._history.pop(key, None)
            else:
                self._history[key] = entry
        self._airports[result.key] = result.entry
        self.state.apply_after_write(result)
