"""The contract's bytes to the domain's values, and retries back to bytes. Unknown fields pass and survive a retry."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window
from notifier.errors import UndecodableError
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.users.v1 import events_pb2 as users_pb

M = TypeVar("M", bound=Message)
E = TypeVar("E", bound=Enum)
N = TypeVar("N", bound=int)

REQUEUED_FROM: Final = "requeued-from"
"""The header of an alert that was a dead letter, and that somebody wants to be tried again: the letter's id."""

_MOST_EARLIER: Final = 48
"""Counts before an alert's own that are looked at: more than the stream tells, and not as many as a stranger likes."""

_ICAO: Final = re.compile(r"[A-Z0-9]{4}")


@dataclass(frozen=True, slots=True)
class RaisedAlert:
    """An alert as the stream raised it."""

    alert: Alert
    cause_published_at: datetime
    original: bytes
    """The AlertRaised as it came."""


@dataclass(frozen=True, slots=True)
class Retry:
    """A mail that must be tried again, or that has to wait."""

    raised: tuple[RaisedAlert, ...]
    """What it tells, of one person; one at least."""
    attempt: int
    """How many times it was tried."""
    not_before: datetime
    first_attempt_at: datetime
    """When the clock of its lifetime began."""
    sealed: bool = False
    """The mail server may have taken it already: it is sent as it is, and nothing joins it."""


@dataclass(frozen=True, slots=True)
class ConfirmationWish:
    """Somebody registered, or asked for another confirmation mail."""

    user_id: UUID
    confirmation_id: str
    """Tells one wish from the next."""


def decode_raised(value: bytes | None) -> RaisedAlert:
    """A value of alerts.raised.v1. Raises UndecodableError."""
    return _raised(_parsed(alerts_pb.AlertRaised, value))


def decode_retry(value: bytes | None) -> Retry:
    """A value of alerts.retry.v1. Raises UndecodableError."""
    message = _parsed(alerts_pb.AlertRetry, value)
    if not (message.HasField("not_before") and message.HasField("first_attempt_at")):
        raise UndecodableError("AlertRetry without its times")
    raised = tuple(_raised(each) for each in (message.alert, *message.others))
    if len({each.alert.user_id for each in raised}) > 1:
        raise UndecodableError("AlertRetry of several people")
    return Retry(
        raised=raised,
        attempt=message.attempt,
        not_before=_instant(message.not_before),
        first_attempt_at=_instant(message.first_attempt_at),
        sealed=message.sealed,
    )


def encode_retry(retry: Retry) -> bytes:
    """A value of alerts.retry.v1."""
    message = alerts_pb.AlertRetry(attempt=retry.attempt, sealed=retry.sealed)
    first, *others = retry.raised
    message.alert.ParseFromString(first.original)
    for each in others:
        message.others.add().ParseFromString(each.original)
    message.not_before.FromDatetime(retry.not_before)
    message.first_attempt_at.FromDatetime(retry.first_attempt_at)
    return message.SerializeToString()


def decode_wish(value: bytes | None) -> ConfirmationWish | None:
    """The wish for a confirmation mail in a value of users.changed.v1.

    None for a tombstone and for every other change, also one that this version does not know. Raises UndecodableError.
    """
    if value is None:
        return None
    message = _parsed(users_pb.UserChanged, value)
    if message.WhichOneof("change") != "registered":
        return None
    if not message.registered.confirmation_id:
        raise UndecodableError("UserRegistered without a confirmation_id")
    return ConfirmationWish(_uuid(message.user_id), message.registered.confirmation_id)


def _raised(message: alerts_pb.AlertRaised) -> RaisedAlert:
    if not (message.HasField("window_start") and message.HasField("cause_published_at")):
        raise UndecodableError("AlertRaised without its times")
    window_start = _instant(message.window_start)
    if not 1970 <= window_start.year < 9999:  # windows before and after it must have a date, too
        raise UndecodableError("AlertRaised of a window out of all time")
    if not _ICAO.fullmatch(message.airport):
        raise UndecodableError("AlertRaised without an ICAO code")
    if len(message.earlier_counts) != len(message.earlier_known):
        raise UndecodableError("AlertRaised with earlier counts of which it is not said whether they are known")
    alert = Alert(
        alert_id=_uuid(message.alert_id),
        interest_id=_uuid(message.interest_id),
        user_id=_uuid(message.user_id),
        version=message.version,
        airport=message.airport,
        direction=_member(Direction, flights_pb.Direction.Name, message.direction, "DIRECTION_"),
        window=_member(Window, interests_pb.Window.Name, message.window, "WINDOW_"),
        window_start=window_start,
        bound=_member(Bound, alerts_pb.Bound.Name, message.bound, "BOUND_"),
        state=_member(AlertState, alerts_pb.State.Name, message.state, "STATE_"),
        count=message.count,
        threshold=message.threshold,
        for_windows=max(message.for_windows, 1),
        withdrawn_count=message.withdrawn_count if message.HasField("withdrawn_count") else None,
        earlier=tuple(
            count if known else None
            for count, known in zip(
                message.earlier_counts[-_MOST_EARLIER:], message.earlier_known[-_MOST_EARLIER:], strict=True
            )
        ),
        episode_id=_uuid(message.episode_id) if message.episode_id else None,
    )
    return RaisedAlert(alert, _instant(message.cause_published_at), message.SerializeToString())


def _parsed(kind: Callable[[], M], value: bytes | None) -> M:
    if value is None:
        raise UndecodableError("no value")
    message = kind()
    try:
        message.ParseFromString(value)
    except DecodeError:
        raise UndecodableError(f"no {message.DESCRIPTOR.name}") from None
    return message


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise UndecodableError("an id that is no UUID") from None


def _instant(timestamp: Timestamp) -> datetime:
    try:
        return timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise UndecodableError("a time outside of the calendar") from None


def _member(kind: type[E], name_of: Callable[[N], str], number: N, prefix: str) -> E:
    """The domain's member for a protobuf enum value: their names are the same but for the prefix."""
    try:
        return kind[name_of(number).removeprefix(prefix)]
    except (ValueError, KeyError):
        raise UndecodableError(f"a {kind.__name__} that this version does not know") from None
