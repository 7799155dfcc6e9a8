"""Kafka events as the collector publishes them, for tests."""

from dataclasses import dataclass

from hypothesis import strategies as st

from domain.interests import Direction, Interest
from domain.traffic import Observation
from domain.windows import AlignedTo
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, Topic, partition_of

AIRPORTS = ("KJFK", "LICC", "EGLL")


@dataclass(frozen=True, slots=True)
class Event:
    """One Kafka record about an airport."""

    topic: Topic
    airport: str
    key: bytes | None
    value: bytes | None
    sequence: int | None
    """None: without the header."""

    @property
    def partition(self) -> int:
        """Partition of the event's airport."""
        return partition_of(self.airport, self.topic)


def build_flights_message(airport: str, seen: Observation) -> flights_pb.FlightsObserved:
    """Build the message of an observation at an airport; the fingerprints are taken for the aircraft's addresses."""
    message = flights_pb.FlightsObserved(
        airport=airport,
        direction=flights_pb.Direction.Value(f"DIRECTION_{seen.direction.name}"),
        coverage=flights_pb.Coverage.Value(f"COVERAGE_{seen.coverage.name}"),
        provenance=flights_pb.Provenance.Value(f"PROVENANCE_{seen.provenance.name}"),
        record_part=seen.is_record_part,
        history=seen.is_history,
    )
    message.begin.seconds, message.end.seconds = seen.begin, seen.end
    for number, at in enumerate(seen.event_times):
        aircraft = seen.fingerprints[number] if seen.fingerprints else number
        _set_times(message.flights.add(icao24=f"{aircraft:06x}", callsign="TST1"), seen.direction, at)
    for at, aircraft in seen.retracted:
        _set_times(message.retracted.add(icao24=f"{aircraft:06x}"), seen.direction, at)
    return message


def _set_times(flight: flights_pb.Flight, direction: Direction, at: int) -> None:
    """Set the times of a flight whose event time is `at`; the other time is another hour, so that a mix-up shows."""
    other = at - 7200 if direction is Direction.ARRIVALS else at + 7200
    first, last = (other, at) if direction is Direction.ARRIVALS else (at, other)
    flight.first_seen.seconds, flight.last_seen.seconds = first, last


def build_interest_message(interest: Interest) -> interests_pb.InterestSet:
    """Build the message of an interest that is set."""
    message = interests_pb.InterestSet(
        interest_id=str(interest.interest_id),
        user_id=str(interest.user_id),
        airport=interest.airport,
        direction=flights_pb.Direction.Value(f"DIRECTION_{interest.direction.name}"),
        window=interests_pb.Window.Value(f"WINDOW_{interest.window.name}"),
        high=interest.high,
        low=interest.low,
        for_windows=interest.for_windows,
        repeat=interest.repeat,
        version=interest.version,
        high_percent=interest.high_percent,
        low_percent=interest.low_percent,
    )
    message.effective_from.FromDatetime(interest.effective_from)
    if interest.aligned_to is not AlignedTo.UTC:
        message.aligned_to = interests_pb.AlignedTo.Value(f"ALIGNED_TO_{interest.aligned_to.name}")
    return message


def interest_key(interest: Interest) -> bytes:
    """Return the key of an interest's events."""
    return f"{interest.airport}/{interest.interest_id}".encode()


def observed(airport: str, sequence: int | None, seen: Observation) -> Event:
    """Build the event of an observation at an airport. `sequence` None: without the header."""
    value = build_flights_message(airport, seen).SerializeToString()
    return Event(FLIGHTS_OBSERVED, airport, airport.encode(), value, sequence)


def interest_set(interest: Interest, sequence: int | None) -> Event:
    """Build the event of an interest that is set. `sequence` None: without the header."""
    value = build_interest_message(interest).SerializeToString()
    return Event(INTERESTS_CHANGED, interest.airport, interest_key(interest), value, sequence)


def interest_removed(interest: Interest, sequence: int | None) -> Event:
    """Build the event of an interest that is removed: a tombstone. `sequence` None: without the header."""
    return Event(INTERESTS_CHANGED, interest.airport, interest_key(interest), None, sequence)


@st.composite
def damaged(draw, message: bytes) -> bytes:
    """Generate a damaged copy of a message: cut, changed or with bytes added."""
    at = draw(st.integers(0, len(message)))
    return draw(
        st.sampled_from(
            [
                message[:at],
                message[:at] + draw(st.binary(max_size=8)) + message[at:],
                message[:at] + draw(st.binary(min_size=1, max_size=4)) + message[at + 1 :],
                message + message[at:],
            ]
        )
    )
