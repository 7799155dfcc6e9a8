"""The work that every contender does: the stream's own decoding, rule and encoding, on dicts in place of tables."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.streams.traffic import airports, quiet_interests, watching_interests
from streams.entries import encode_interest_entry
from streams.join_state import FoldResult, JoinState
from streams.messages import decode_flights, encode_alert
from towerwatch.topics import ALERTS_RAISED, partition_of

AIRPORTS = 24
WATCHING = 80
"""Of each thousand interests so many fire now and then."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a contender is told on its command line."""

    bootstrap_servers: str
    group: str
    messages: int
    """After so many it ends."""
    measured_from: int
    """So many are its warm-up."""
    interests: int
    """At each airport."""
    changelog: str
    """The topic that takes the state of airports."""
    data: str
    """A folder for what it keeps on disk."""


def task_from_command_line() -> Task:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap-servers", "group", "changelog", "data"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("messages", "measured-from", "interests"):
        parser.add_argument(f"--{name}", type=int, required=True)
    return Task(**vars(parser.parse_args()))


def arguments(task: Task) -> list[str]:
    """The command line that says `task`."""
    return [f"--{name.replace('_', '-')}={getattr(task, name)}" for name in Task.__slots__]


def interest_entries(names: list[str], at_each: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and entries of the table of interests, with those that fire now and then among them."""
    watching = at_each * WATCHING // 1000
    for key, value in watching_interests(names, watching * len(names)):
        yield key, encode_interest_entry(1, value)
    for key, value in quiet_interests(names, (at_each - watching) * len(names)):
        yield key, encode_interest_entry(1, value)


@dataclass(slots=True)
class Stopwatch:
    """Counts a contender's messages; knows when its warm-up was over, and when all was done (seconds since 1970)."""

    task: Task
    done: int = 0
    began: float = 0.0
    ended: float = 0.0

    def one_more(self) -> bool:
        """A message was worked on; whether it was the last one."""
        self.done += 1
        if self.done == self.task.measured_from:
            self.began = time.time()
        return self.done == self.task.messages

    def tell(self) -> None:
        """Print what the benchmark reads."""
        print(json.dumps({"began": self.began, "ended": self.ended}))


def folding_of(task: Task) -> "Folding":
    """The fold that a contender begins with: it knows the interests, and nothing of the airports."""
    return Folding(dict(interest_entries(airports(AIRPORTS), task.interests)))


class Folding:
    """The fold of messages, with dicts in place of the stream's tables."""

    def __init__(self, interests: dict[bytes, bytes], known: "Folding | None" = None) -> None:
        """`interests`: their table. `known`: begin with the airports as they are there."""
        self._airports: dict[bytes, bytes] = dict(known._airports) if known else {}
        self._history: dict[bytes, bytes] = dict(known._history) if known else {}
        self.desk = JoinState(self._airports, interests, self._history)

    def knows(self, airport: bytes) -> bool:
        return airport in self._airports

    def restore(self, airport: bytes, entry: bytes | None) -> None:
        """Take an airport's state from where it is kept."""
        if entry is not None:
            self._airports[airport] = entry

    def outcome(self, sequence: int, value: bytes) -> FoldResult | None:
        """What follows from a message."""
        return self.desk.fold_flights(sequence, decode_flights(value))

    def alerts(self, outcome: FoldResult, cause_published_ms: int) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and partition of each alert."""
        cause_published_at = datetime.fromtimestamp(cause_published_ms / 1000, UTC)
        for alert in self.desk.build_alerts(outcome):
            user_id = str(alert.user_id)
            yield user_id.encode(), encode_alert(alert, cause_published_at), partition_of(user_id, ALERTS_RAISED)

    def write(self, outcome: FoldResult) -> None:
        """Take the state into the dict, as a table would."""
        for key, entry in outcome.history_entries.items():
            if entry is None:
                self._history.pop(key, None)
            else:
                self._history[key] = entry
        self._airports[outcome.key] = outcome.entry
        self.desk.apply_after_write(outcome)
