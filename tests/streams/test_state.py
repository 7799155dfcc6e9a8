"""The bytes of the tables: what is read is what was written."""

from hypothesis import given, strategies as st

from domain.traffic import Traffic
from streams.state import (
    decode_airport,
    decode_interest_entry,
    encode_airport,
    encode_interest,
    sequence_of_airport,
    sequence_of_interest,
)
from tests.domain.logs import an_interest, interests, interleaved
from tests.streams.events import interest_message

sequences = st.integers(0, 2**63 - 1)


@given(log=interleaved(), sequence=sequences)
def test_an_airport_is_read_as_it_was_written(log, sequence):
    """Recovered traffic is the traffic, in every detail: what is said next depends on it."""
    traffic = Traffic()
    for seen in log:
        traffic = traffic.fold(seen)
    entry = encode_airport(sequence, traffic)
    assert decode_airport(entry) == (sequence, traffic)
    assert sequence_of_airport(entry) == sequence


@given(interest=st.none() | interests, sequence=sequences)
def test_an_interest_is_read_as_it_was_written_and_a_removed_one_is_remembered(interest, sequence):
    """The entry of a removed interest stays, with the sequence of its removal."""
    value = interest_message(interest).SerializeToString() if interest is not None else None
    entry = encode_interest(sequence, value)
    assert decode_interest_entry(entry) == (sequence, interest)
    assert sequence_of_interest(entry) == sequence


def test_an_interest_that_is_refused_today_stops_nobody():
    """A rule that became stricter meets what was written before it did."""
    message = interest_message(an_interest())
    message.for_windows = 365
    assert decode_interest_entry(encode_interest(3, message.SerializeToString())) == (3, None)
