"""The contract's bytes to the domain's values and back. Unknown fields pass; what the rules need is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import DecodeError, Message
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb

from domain.alerts import Alert
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation
from domain.windows import Window
from streams.errors import UndecodableError

M = TypeVar("M", bound=Message)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ObservedFlights:
    """A batch of flights, as the rule takes it."""

    airport: str
    observation: Observation


def _parsed(kind: Callable[[], M], value: bytes | None) -> M:
    if value is None:
        raise UndecodableError("no value")
    message = kind()
    try:
        message.ParseFromString(value)
    except DecodeError:
        raise UndecodableError(f"no {message.DESCRIPTOR.name}") from None
    return message


def decode_flights(value: bytes | None) -> ObservedFlights:
    """A value of flights.observed.v1. Raises UndecodableError."""
    batch = _parsed(flights_pb.FlightsObserved, value)
    direction = _member(Direction, flights_pb.Direction.Name, batch.direction, "DIRECTION_")
    if not batch.airport or direction is Direction.BOTH or batch.end.seconds <= batch.begin.seconds:
        raise UndecodableError("FlightsObserved without an airport, one direction and an interval")
    if direction is Direction.DEPARTURES:
        times = tuple(flight.first_seen.seconds for flight in batch.flights)
    else:
        times = tuple(flight.last_seen.seconds for flight in batch.flights)
    coverage = _member(Coverage, flights_pb.Coverage.Name, batch.coverage, "COVERAGE_")
    return ObservedFlights(
        batch.airport, Observation(direction, batch.begin.seconds, batch.end.seconds, times, coverage)
    )


def decode_interest(value: bytes) -> Interest:
    """A value of interests.changed.v1 (no tombstone). Raises UndecodableError."""
    return interest_of(_parsed(interests_pb.InterestSet, value))


def interest_of(message: interests_pb.InterestSet) -> Interest:
    """The contract's interest as the domain's. Raises UndecodableError."""
    try:
        return Interest(
            interest_id=UUID(message.interest_id),
            user_id=UUID(message.user_id),
            airport=message.airport,
            direction=_member(Direction, flights_pb.Direction.Name, message.direction, "DIRECTION_"),
            window=_member(Window, interests_pb.Window.Name, message.window, "WINDOW_"),
            high=message.high if message.HasField("high") else None,
            low=message.low if message.HasField("low") else None,
            for_windows=max(message.for_windows, 1),
            repeat=message.repeat,
            effective_from=message.effective_from.ToDatetime(UTC),
            version=message.version,
        )
    except ValueError:
        raise UndecodableError("InterestSet with an id that is no UUID") from None


def _member(kind: type[T], name_of: Callable[[int], str], number: int, prefix: str) -> T:
    """The domain's member for a protobuf enum value: their names are the same but for the prefix."""
    try:
        return kind[name_of(number).removeprefix(prefix)]  # type: ignore[index, no-any-return]
    except (ValueError, KeyError):
        raise UndecodableError(f"a {kind.__name__} that this version does not know") from None


def encode_alert(alert: Alert, cause_published_at: datetime) -> bytes:
    """A value of alerts.raised.v1."""
    message = alerts_pb.AlertRaised(
        alert_id=str(alert.alert_id),
        interest_id=str(alert.interest_id),
        user_id=str(alert.user_id),
        version=alert.version,
        airport=alert.airport,
        direction=flights_pb.Direction.Value(f"DIRECTION_{alert.direction.name}"),
        window=interests_pb.Window.Value(f"WINDOW_{alert.window.name}"),
        bound=alerts_pb.Bound.Value(f"BOUND_{alert.bound.name}"),
        state=alerts_pb.State.Value(f"STATE_{alert.state.name}"),
        count=alert.count,
        threshold=alert.threshold,
        for_windows=alert.for_windows,
        withdrawn_count=alert.withdrawn_count,
    )
    message.window_start.FromDatetime(alert.window_start)
    message.cause_published_at.FromDatetime(cause_published_at)
    return message.SerializeToString()
