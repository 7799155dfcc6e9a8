"""Tests of the progress that a benchmark reads from a changelog: when each message was completed."""

import pytest

from benchmarks.streams.progress import (
    AppendedRecord,
    CpuReading,
    compute_completion_times,
    compute_cpu_rate,
    compute_rate,
    group_sequences,
)
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


def test_processor_time_of_the_warm_up_does_not_count():
    """Messages of the warm-up, with weeks of past, cost more, so every contender's clock leaves them out."""
    readings = [
        CpuReading(0, 1.0),
        CpuReading(9, 8.0),
        CpuReading(12, 10.0),
        CpuReading(15, 10.5),
        CpuReading(22, 12.0),
    ]
    assert compute_cpu_rate(readings, 10) == (22 - 12) / (12.0 - 10.0)
    assert compute_cpu_rate(readings, 12) == (22 - 12) / (12.0 - 10.0)


def test_readings_without_work_between_them_are_no_measurement():
    """The rate would be a division by zero, or a figure that nobody measured."""
    for readings in ([], [CpuReading(9, 1.0)], [CpuReading(9, 1.0), CpuReading(10, 2.0), CpuReading(10, 2.5)]):
        with pytest.raises(SystemExit, match="too few messages"):
            compute_cpu_rate(readings, 10)
