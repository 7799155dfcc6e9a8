"""How far the stream was at which time, from what its changelog says."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.streams.traffic import Record
from streams.entries import read_sequence


class Appended(NamedTuple):
    """A record as it lies in a topic."""

    at: float
    """When the broker appended it (seconds since 1970)."""
    key: bytes
    value: bytes


def sequences_of(records: Iterable[Record]) -> Mapping[bytes, Sequence[int]]:
    """The sequences of the messages of each airport, in order."""
    sequences: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in records:
        sequences[record.key].append(record.sequence)
    return sequences


def rate_after(times: Sequence[float], warm_up: int) -> float:
    """Messages a second, from when the first `warm_up` were done until all were.

    Several may be done at one instant: those that were together with the last of the warm-up belong to it.
    """
    began = times[warm_up - 1]
    measured = len(times) - bisect_right(times, began)
    if not measured:
        raise SystemExit("too few messages: they were all done at once")
    return measured / (times[-1] - began)


def times_done(changelog: Iterable[Appended], sequences: Mapping[bytes, Sequence[int]]) -> list[float]:
    """When each message was done, in that order; those that are not yet are not in the list.

    A message is done when the broker has a state of its airport that it is in; one may be written for several.
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
