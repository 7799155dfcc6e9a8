"""The sequence among a record's headers."""

import pytest
from hypothesis import given, strategies as st

from chassis.kafka import parse_sequence


@given(sequence=st.integers(0, 2**63 - 1))
def test_a_sequence_is_read_from_either_form_of_headers(sequence: int) -> None:
    """Clients give headers as pairs or as a mapping."""
    value = str(sequence).encode()
    assert parse_sequence({"other": b"x", "sequence": value}) == sequence
    assert parse_sequence([("other", b"x"), ("sequence", value)]) == sequence


@pytest.mark.parametrize("headers", [None, {}, [], {"other": b"1"}])
def test_without_the_header_there_is_none(headers) -> None:
    """Then a repeat cannot be told."""
    assert parse_sequence(headers) is None


@pytest.mark.parametrize("value", [None, b"", b"-1", b"1.5", b" 1", "²".encode(), b"9" * 5000, str(2**63).encode()])
def test_what_is_no_number_of_63_bits_is_none(value: bytes | None) -> None:
    """It would not fit where it is stored, and is nobody's sequence."""
    assert parse_sequence({"sequence": value}) is None


@given(value=st.binary(max_size=30))
def test_hostile_bytes_are_a_number_or_none(value: bytes) -> None:
    """Nothing is ever raised."""
    sequence = parse_sequence({"sequence": value})
    assert sequence is None or 0 <= sequence < 2**63
