"""Tests of `chassis.protobuf`."""

import pytest
from google.protobuf.duration_pb2 import Duration

from chassis.protobuf import parse_message


class UnreadableError(Exception):
    """The caller's own error."""


def test_bytes_become_a_message() -> None:
    """The empty value is a message with default fields."""
    assert parse_message(Duration, Duration(seconds=7).SerializeToString(), UnreadableError) == Duration(seconds=7)
    assert parse_message(Duration, b"", UnreadableError) == Duration()


@pytest.mark.parametrize(("value", "reason"), [(None, "no value"), (b"\xff\xff", "no Duration")])
def test_anything_else_is_the_callers_error(value: bytes | None, reason: str) -> None:
    """The error names the type, and holds nothing of the bytes."""
    with pytest.raises(UnreadableError, match=f"^{reason}$"):
        parse_message(Duration, value, UnreadableError)
