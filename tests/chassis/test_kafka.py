"""Parsing of the sequence in a record's headers."""

import pytest
from hypothesis import given, strategies as st

from chassis.kafka import parse_sequence


@given(sequence=st.integers(0, 2**63 - 1))
def test_a_sequence_is_parsed_from_either_form_of_headers(sequence: int) -> None:
    """Kafka clients return headers as pairs or as a mapping."""
    value = str(sequence).encode()
    assert parse_sequence({"other": b"x", "sequence": value}) == sequence
    assert parse_sequence([("other", b"x"), ("sequence", value)]) == sequence


@pytest.mark.parametrize("headers", [None, {}, [], {"other": b"1"}])
def test_without_the_header_the_sequence_is_none(headers) -> None:
    """A duplicate of such a record cannot be detected."""
    assert parse_sequence(headers) is None


@pytest.mark.parametrize("value", [None, b"", b"-1", b"1.5", b" 1", "²".encode(), b"9" * 5000, str(2**63).encode()])
def test_a_value_that_is_no_number_of_63_bits_is_none(value: bytes | None) -> None:
    """No outbox assigns such a sequence, and readers could not store it."""
    assert parse_sequence({"sequence": value}) is None


@given(value=st.binary(max_size=30))
def test_any_bytes_are_a_sequence_or_none(value: bytes) -> None:
    """The parser never raises."""
    sequence = parse_sequence({"sequence": value})
    assert sequence is None or 0 <= sequence < 2**63
