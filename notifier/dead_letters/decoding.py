"""Decoding of the event in a dead letter, whose bytes may be anything, and escaping of its texts. Pure."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    ALERTS_WAITING,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
    USERS_CHANGED,
)
from towerwatch.users.v1 import events_pb2 as users_pb

N = TypeVar("N", bound=int)

_MESSAGE_CLASSES: Final[Mapping[str, type[Message]]] = {
    ALERTS_RAISED.name: alerts_pb.AlertRaised,
    ALERTS_RETRY.name: alerts_pb.AlertRetry,
    ALERTS_WAITING.name: alerts_pb.AlertRetry,
    FLIGHTS_OBSERVED.name: flights_pb.FlightsObserved,
    INTERESTS_CHANGED.name: interests_pb.InterestSet,
    NOTICES_RAISED.name: notices_pb.AirportUnheard,
    USERS_CHANGED.name: users_pb.UserChanged,
}
SOURCES: Final = tuple(_MESSAGE_CLASSES)
"""The names of the topics whose events may become dead letters."""

_UNPRINTABLE: Final = re.compile(r"[^ -~]")


def decode_message(topic: str, value: bytes | None) -> Message | None:
    """Return the event in a dead letter whose source is this topic: decoded by that topic's protobuf, not validated.

    Returns None for an unknown topic, for a missing or empty value, for bytes that cannot be decoded, and for a message
    without any field.
    """
    message_class = _MESSAGE_CLASSES.get(topic)
    if message_class is None or not value:
        return None
    message = message_class()
    try:
        message.ParseFromString(value)
    except DecodeError:
        return None
    return message if message.ListFields() else None


def extract_facts(topic: str, key: bytes | None, message: Message | None) -> Iterable[tuple[str, str]]:
    """Yield what an event is about, as pairs of name and value: airport, direction, alert id and the like.

    `message`: the decoded event. The pairs depend on its kind: a retry has those of its first alert and the number of
    its other alerts, or those of its notice or request, and whether it is sealed; an event of interests.changed.v1 has
    only its key, the interest. Yields nothing for other events that are not decoded. A missing value is empty. No value
    is an e-mail address or a user's name.
    """
    match message:
        case alerts_pb.AlertRaised():
            yield "airport", message.airport
            yield "direction", _format_enum(flights_pb.Direction.Name, message.direction, "DIRECTION_").lower()
            yield "window_start", _format_timestamp(message.window_start)
            yield "bound", _format_enum(alerts_pb.Bound.Name, message.bound, "BOUND_").lower()
            yield "state", _format_enum(alerts_pb.State.Name, message.state, "STATE_")
            yield "alert", message.alert_id
        case notices_pb.AirportUnheard():
            yield "airport", message.airport
            yield "since", _format_timestamp(message.since)
            yield "retired", (message.retired.successor or "yes") if message.HasField("retired") else ""
            yield "notice", message.notice_id
        case alerts_pb.AlertRetry() if message.HasField("notice"):
            yield from extract_facts(NOTICES_RAISED.name, key, message.notice)
            yield "sealed", "yes" if message.sealed else ""
        case alerts_pb.AlertRetry() if message.HasField("confirmation"):
            yield from extract_facts(USERS_CHANGED.name, key, message.confirmation)
            yield "sealed", "yes" if message.sealed else ""
        case alerts_pb.AlertRetry():
            yield from extract_facts(ALERTS_RAISED.name, key, message.alert)
            yield "others", str(len(message.others) or "")
            yield "sealed", "yes" if message.sealed else ""
        case flights_pb.FlightsObserved():
            yield "airport", message.airport
            yield "direction", _format_enum(flights_pb.Direction.Name, message.direction, "DIRECTION_").lower()
            yield "begin", _format_timestamp(message.begin)
            yield "end", _format_timestamp(message.end)
            yield "flights", str(len(message.flights))
        case users_pb.UserChanged():
            yield "change", message.WhichOneof("change") or ""
            yield "user", message.user_id
        case _ if topic == INTERESTS_CHANGED.name:  # a tombstone has no value: its key identifies the interest
            yield "interest", decode_text(key)


def extract_event_ids(message: Message | None) -> Iterable[UUID]:
    """Yield the ids of the alerts or of the notice in an event; nothing for an event without any.

    An AlertRaised has one alert, an AlertRetry several alerts or a notice, an AirportUnheard a notice. Invalid ids are
    left out.
    """
    ids: Iterable[str] = ()
    match message:
        case alerts_pb.AlertRaised():
            ids = (message.alert_id,)
        case notices_pb.AirportUnheard():
            ids = (message.notice_id,)
        case alerts_pb.AlertRetry():
            ids = (message.alert.alert_id, *(each.alert_id for each in message.others), message.notice.notice_id)
    for each in ids:
        try:
            yield UUID(each)
        except ValueError:
            continue


def format_json(message: Message) -> str | None:
    """Return the event as indented JSON in ASCII, with the fields' protobuf names.

    Returns None if it holds a value that JSON cannot, such as a time outside of the calendar.
    """
    try:
        return json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True), indent=1)
    except (json_format.Error, ValueError, OverflowError):
        return None


def decode_text(content: bytes | None) -> str:
    """Return bytes as text, with invalid UTF-8 escaped; None becomes the empty text."""
    return (content or b"").decode(errors="backslashreplace")


def escape_unprintable(text: str) -> str:
    """Return the text in printable ASCII, all other characters escaped as in Python: \\n, \\x1b, \\u2013.

    A terminal could execute control characters, or show other characters as something else.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def format_utc(moment: datetime) -> str:
    """Return an instant in UTC, to the second: "2026-11-23T05:00:00Z"."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _format_timestamp(timestamp: Timestamp) -> str:
    """Return a protobuf timestamp in UTC, to the second; empty if it is not set.

    A time outside of the calendar becomes "out of all time".
    """
    try:
        return format_utc(timestamp.ToDatetime(UTC)) if timestamp.ListFields() else ""
    except (ValueError, OverflowError):
        return "out of all time"


def _format_enum(name_of: Callable[[N], str], number: N, prefix: str) -> str:
    """Return the name of an enum's value without its prefix; empty for 0, which means that it is not set.

    For a value unknown to this version, the number.
    """
    try:
        return name_of(number).removeprefix(prefix) if number else ""
    except ValueError:
        return str(number)
