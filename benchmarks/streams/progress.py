"""Computes from the stream's changelog when each message was done; and messages per second of processor time."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.streams.traffic import Record
from streams.entries import read_sequence


class AppendedRecord(NamedTuple):
    """A record in a topic, with the time at which the broker appended it."""

    at: float
    """Time of the append by the broker's clock (seconds since 1970)."""
    key: bytes
    value: bytes


class CpuReading(NamedTuple):
    """The messages that a process had done at an instant, and the processor seconds it had used since its start."""

    messages: int
    cpu_s: float


def compute_cpu_rate(readings: Sequence[CpuReading], warm_up: int) -> float:
    """Compute the messages per processor second, from the first reading after the warm-up to the last reading.

    `warm_up`: number of messages of the warm-up. `readings` are in order of time. Ends the benchmark if there are not
    two readings after the warm-up with work between them.
    """
    measured = [reading for reading in readings if reading.messages >= warm_up]
    if not measured or measured[-1].messages == measured[0].messages or measured[-1].cpu_s == measured[0].cpu_s:
        raise SystemExit("too few messages: they were all done between two readings")
    return (measured[-1].messages - measured[0].messages) / (measured[-1].cpu_s - measured[0].cpu_s)


def group_sequences(records: Iterable[Record]) -> Mapping[bytes, Sequence[int]]:
    """Group the messages' sequences by airport (the records' key), in the order of the records."""
    sequences: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in records:
        sequences[record.key].append(record.sequence)
    return sequences


def compute_rate(times: Sequence[float], warm_up: int) -> float:
    """Compute the messages per second after the first `warm_up` messages; `times` are those of all messages, sorted.

    Messages done at the same instant as the last one of the warm-up belong to the warm-up. Ends the benchmark if no
    message is left.
    """
    began = times[warm_up - 1]
    measured = len(times) - bisect_right(times, began)
    if not measured:
        raise SystemExit("too few messages: they were all done at once")
    return measured / (times[-1] - began)


def compute_completion_times(
    changelog: Iterable[AppendedRecord], sequences: Mapping[bytes, Sequence[int]]
) -> list[float]:
    """Compute the times at which messages were done, sorted, one for each message; unfinished messages are left out.

    `sequences` holds the sequences of all messages by airport, in ascending order.

    A message is done when the broker has a state of its airport that includes the message; one state may include
    several messages.
    """
    done = dict.fromkeys(sequences, 0)
    times: list[float] = []
    for record in sorted(changelog, key=lambda each: each.at):
        of_airport = sequences.get(record.key, ())
        now = bisect_right(of_airport, read_sequence(record.value))
        if now > done.get(record.key, 0):
            times += [record.at] * (now - done[record.key])
            done[record.key] = now
    return times
