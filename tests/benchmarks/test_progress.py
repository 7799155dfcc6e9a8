"""Tests of the progress that a benchmark reads from a changelog: when each message was completed."""

import pytest

from benchmarks.streams.progress import AppendedRecord, compute_completion_times, compute_rate, group_sequences
from benchmarks.streams.traffic import Record
from domain.traffic import Traffic
from streams.entries import AirportState, encode_airport_entry


def _build_state_record(at: float, airport: bytes, sequence: int) -> AppendedRecord:
    """Build a changelog record, appended at `at`, of an airport's state after the message with this sequence."""
    return AppendedRecord(at, airport, encode_airport_entry(AirportState().after_batch(sequence, Traffic())))


AIRPORTS = (b"KJFK", b"LICC", b"KJFK", b"LICC", b"KJFK", b"LICC")
SEQUENCES = group_sequences(Record(0, airport, b"", sequence) for sequence, airport in enumerate(AIRPORTS, 1))


def test_a_state_completes_all_messages_up_to_its_sequence():
    """A state can complete several messages or none, and only those of its own airport."""
    changelog = [
        _build_state_record(3.0, b"LICC", 6),
        _build_state_record(1.0, b"KJFK", 3),
        _build_state_record(2.0, b"KJFK", 3),
        _build_state_record(4.0, b"KJFK", 5),
    ]
    assert compute_completion_times(changelog, SEQUENCES) == [1.0, 1.0, 3.0, 3.0, 3.0, 4.0]


def test_a_message_above_all_sequences_is_not_completed():
    """The measurement must not end before the last message is in the changelog."""
    assert compute_completion_times([_build_state_record(1.0, b"KJFK", 3)], SEQUENCES) == [1.0, 1.0]
    assert compute_completion_times([], SEQUENCES) == []


def test_messages_completed_at_the_same_time_as_the_warm_up_do_not_count():
    """They would count without having taken any time."""
    times = [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]
    assert compute_rate(times, 2) == 3 / 2.0


def test_a_rate_without_a_duration_is_an_error():
    """If all messages are completed at one time, nothing was measured."""
    with pytest.raises(SystemExit):
        compute_rate([1.0, 1.0, 1.0], 1)
