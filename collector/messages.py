"""The collector's events as the contract has them, ready for the outbox."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from chassis.db.outbox import OutboxMessage
from collector.sources.opensky.client import Flight
from domain.interests import Direction, Interest
from towerwatch.collection.v1 import events_pb2 as collection_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import COLLECTIONS_REQUESTED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, partition_of

BATCH = 1_000
"""Flights in one message at most."""


def interest_set(interest: Interest) -> OutboxMessage:
    value = interests_pb.InterestSet(
        interest_id=str(interest.interest_id),
        user_id=str(interest.user_id),
        airport=interest.airport,
        direction=_direction(interest.direction),
        window=interests_pb.Window.Value(f"WINDOW_{interest.window.name}"),
        high=interest.high,
        low=interest.low,
        for_windows=interest.for_windows,
        repeat=interest.repeat,
        version=interest.version,
    )
    value.effective_from.FromDatetime(interest.effective_from)
    return _about_interest(interest, value.SerializeToString())


def interest_removed(interest: Interest) -> OutboxMessage:
    """A tombstone."""
    return _about_interest(interest, None)


def _about_interest(interest: Interest, value: bytes | None) -> OutboxMessage:
    partition = partition_of(interest.airport, INTERESTS_CHANGED)
    key = f"{interest.airport}/{interest.interest_id}".encode()
    return OutboxMessage(INTERESTS_CHANGED.name, partition, key, value)


def flights_observed(
    airport: str, direction: Direction, begin: datetime, end: datetime, flights: Sequence[Flight]
) -> Iterator[OutboxMessage]:
    """The batches of one collected interval; the last one says that it is covered. At least one, for that."""
    for start in range(0, max(len(flights), 1), BATCH):
        last = start + BATCH >= len(flights)
        coverage = flights_pb.COVERAGE_COMPLETE if last else flights_pb.COVERAGE_PARTIAL
        value = _observed(airport, direction, begin, end, coverage)
        for flight in flights[start : start + BATCH]:
            sent = value.flights.add(
                icao24=flight.icao24, callsign=flight.callsign, other_airport=flight.other_airport(direction)
            )
            sent.first_seen.FromDatetime(flight.first_seen)
            sent.last_seen.FromDatetime(flight.last_seen)
        yield _about_flights(value)


def coverage_gap(airport: str, direction: Direction, begin: datetime, end: datetime) -> OutboxMessage:
    """[begin, end) will never be collected, and nobody shall wait for it."""
    return _about_flights(_observed(airport, direction, begin, end, flights_pb.COVERAGE_GAP))


def _observed(
    airport: str, direction: Direction, begin: datetime, end: datetime, coverage: flights_pb.Coverage.ValueType
) -> flights_pb.FlightsObserved:
    value = flights_pb.FlightsObserved(airport=airport, direction=_direction(direction), coverage=coverage)
    value.begin.FromDatetime(begin)
    value.end.FromDatetime(end)
    return value


def _about_flights(value: flights_pb.FlightsObserved) -> OutboxMessage:
    partition = partition_of(value.airport, FLIGHTS_OBSERVED)
    return OutboxMessage(FLIGHTS_OBSERVED.name, partition, value.airport.encode(), value.SerializeToString())


def collection_requested(airport: str) -> OutboxMessage:
    """A wish for a collection at once; an empty airport means all."""
    value = collection_pb.CollectionRequested(airport=airport).SerializeToString()
    return OutboxMessage(COLLECTIONS_REQUESTED.name, 0, airport.encode(), value)


def _direction(direction: Direction) -> flights_pb.Direction.ValueType:
    return flights_pb.Direction.Value(f"DIRECTION_{direction.name}")
