"""Parsing of protobuf messages."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

M = TypeVar("M", bound=Message)


def parse_message(kind: Callable[[], M], value: bytes | None, error: Callable[[str], Exception]) -> M:
    """Parse bytes as a protobuf message of class `kind`; unknown fields are ignored.

    Raises the exception that `error` makes of a reason, also for a missing value (None, a tombstone).
    """
    if value is None:
        raise error("no value")
    message = kind()
    try:
        message.ParseFromString(value)
    except DecodeError:
        raise error(f"no {message.DESCRIPTOR.name}") from None
    return message
