"""What the event in a dead letter is about, as far as its bytes tell: they may be anything. Pure."""

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
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, FLIGHTS_OBSERVED, INTERESTS_CHANGED, USERS_CHANGED
from towerwatch.users.v1 import events_pb2 as users_pb

N = TypeVar("N", bound=int)

_KINDS: Final[Mapping[str, type[Message]]] = {
    ALERTS_RAISED.name: alerts_pb.AlertRaised,
    ALERTS_RETRY.name: alerts_pb.AlertRetry,
    FLIGHTS_OBSERVED.name: flights_pb.FlightsObserved,
    INTERESTS_CHANGED.name: interests_pb.InterestSet,
    USERS_CHANGED.name: users_pb.UserChanged,
}
SOURCES: Final = tuple(_KINDS)
"""The topics whose events are put aside."""

_UNSAFE: Final = re.compile(r"[^ -~]")


def message_of(topic: str, value: bytes | None) -> Message | None:
    """The event in a letter from a topic, unchecked; None where its bytes are none."""
    kind = _KINDS.get(topic)
    if kind is None or not value:
        return None
    message = kind()
    try:
        message.ParseFromString(value)
    except DecodeError:
        return None
    return message if message.ListFields() else None


def facts(topic: str, key: bytes | None, message: Message | None) -> Iterable[tuple[str, str]]:
    """What an event is about, by name; those that are not told are empty. No address and no name is among them."""
    match message:
        case alerts_pb.AlertRaised():
            yield "airport", message.airport
            yield "direction", _name(flights_pb.Direction.Name, message.direction, "DIRECTION_").lower()
            yield "window_start", _iso(message.window_start)
            yield "bound", _name(alerts_pb.Bound.Name, message.bound, "BOUND_").lower()
            yield "state", _name(alerts_pb.State.Name, message.state, "STATE_")
            yield "alert", message.alert_id
        case alerts_pb.AlertRetry():
            yield from facts(ALERTS_RAISED.name, key, message.alert)
            yield "others", str(len(message.others) or "")
            yield "sealed", "yes" if message.sealed else ""
        case flights_pb.FlightsObserved():
            yield "airport", message.airport
            yield "direction", _name(flights_pb.Direction.Name, message.direction, "DIRECTION_").lower()
            yield "begin", _iso(message.begin)
            yield "end", _iso(message.end)
            yield "flights", str(len(message.flights))
        case users_pb.UserChanged():
            yield "change", message.WhichOneof("change") or ""
            yield "user", message.user_id
        case _ if topic == INTERESTS_CHANGED.name:  # whose tombstones tell all by their key
            yield "interest", text_of(key)


def alert_ids(message: Message | None) -> Iterable[UUID]:
    """The ids of the alerts in an event, without those that are none."""
    alerts: Iterable[alerts_pb.AlertRaised] = ()
    if isinstance(message, alerts_pb.AlertRaised):
        alerts = (message,)
    elif isinstance(message, alerts_pb.AlertRetry):
        alerts = (message.alert, *message.others)
    for each in alerts:
        try:
            yield UUID(each.alert_id)
        except ValueError:
            continue


def as_json(message: Message) -> str | None:
    """The event as JSON, in ASCII; None where it holds what JSON has no form for, as a time outside of the calendar."""
    try:
        return json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True), indent=1)
    except (json_format.Error, ValueError, OverflowError):
        return None


def text_of(content: bytes | None) -> str:
    return (content or b"").decode(errors="backslashreplace")


def printable(text: str) -> str:
    """The text in ASCII, with all that a terminal could obey, or show as something else, escaped."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def utc(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _iso(timestamp: Timestamp) -> str:
    try:
        return utc(timestamp.ToDatetime(UTC)) if timestamp.ListFields() else ""
    except (ValueError, OverflowError):
        return "out of all time"


def _name(name_of: Callable[[N], str], number: N, prefix: str) -> str:
    """The name of an enum's value without its prefix; of one that this version does not know, the number."""
    try:
        return name_of(number).removeprefix(prefix) if number else ""
    except ValueError:
        return str(number)
