"""Progress: what a changelog says of the messages that are done."""

import pytest

from benchmarks.streams.progress import AppendedRecord, compute_completion_times, compute_rate, group_sequences
from benchmarks.streams.traffic import Record
from domain.traffic import Traffic
from streams.entries import AirportState, encode_airport_entry


def _state(at: float, airport: bytes, sequence: int) -> AppendedRecord:
    return AppendedRecord(at, airport, encode_airport_entry(AirportState().after_batch(sequence, Traffic())))


AIRPORTS = (b"KJFK", b"LICC", b"KJFK", b"LICC", b"KJFK", b"LICC")
SEQUENCES = group_sequences(Record(0, airport, b"", sequence) for sequence, airport in enumerate(AIRPORTS, 1))


def test_a_state_is_that_of_all_messages_before_it():
    """One for several messages, one that tells nothing new, and each airport for itself."""
    changelog = [_state(3.0, b"LICC", 6), _state(1.0, b"KJFK", 3), _state(2.0, b"KJFK", 3), _state(4.0, b"KJFK", 5)]
    assert compute_completion_times(changelog, SEQUENCES) == [1.0, 1.0, 3.0, 3.0, 3.0, 4.0]


def test_what_is_not_in_a_state_is_not_done():
    """The clock must not stop before the last message is in the changelog."""
    assert compute_completion_times([_state(1.0, b"KJFK", 3)], SEQUENCES) == [1.0, 1.0]
    assert compute_completion_times([], SEQUENCES) == []


def test_what_is_done_together_with_the_warm_up_belongs_to_it():
    """Else they would count, and have taken no time."""
    times = [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]
    assert compute_rate(times, 2) == 3 / 2.0


def test_there_is_no_rate_of_an_instant():
    """All in one chunk: then nothing was measured."""
    with pytest.raises(SystemExit):
        compute_rate([1.0, 1.0, 1.0], 1)
