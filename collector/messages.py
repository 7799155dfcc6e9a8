"""Encoding of the collector's events for the outbox, as the protobuf contract defines them."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

from chassis.db.outbox import OutboxMessage
from collector.intervals import Interval
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction, Interest
from domain.notices import compute_retired_notice_id, compute_unheard_notice_id
from domain.windows import AlignedTo
from towerwatch.collection.v1 import events_pb2 as collection_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.topics import COLLECTIONS_REQUESTED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, NOTICES_RAISED, partition_of

MAX_FLIGHTS_PER_MESSAGE = 1_000
"""Maximum number of flights in one `FlightsObserved` message, new and retracted ones together."""


def encode_interest_set(interest: Interest, past: bool = False) -> OutboxMessage:
    """Return the `InterestSet` event of a new or changed interest.

    `past`: True if it is published again for a lost log, and what is known so far was told to its user.
    """
    return _build_interest_message(interest, build_interest_set(interest, past).SerializeToString())


def build_interest_set(interest: Interest, past: bool = False) -> interests_pb.InterestSet:
    """Return the message of an interest; `past` as in `encode_interest_set`."""
    value = interests_pb.InterestSet(
        interest_id=str(interest.interest_id),
        user_id=str(interest.user_id),
        airport=interest.airport,
        direction=_encode_direction(interest.direction),
        window=interests_pb.Window.Value(f"WINDOW_{interest.window.name}"),
        high=interest.high,
        low=interest.low,
        for_windows=interest.for_windows,
        repeat=interest.repeat,
        version=interest.version,
        high_percent=interest.high_percent,
        low_percent=interest.low_percent,
        past=past,
    )
    value.effective_from.FromDatetime(interest.effective_from)
    if interest.aligned_to is not AlignedTo.UTC:
        value.aligned_to = interests_pb.AlignedTo.Value(f"ALIGNED_TO_{interest.aligned_to.name}")
    return value


def encode_interest_removal(interest: Interest) -> OutboxMessage:
    """Return the tombstone of an interest that was removed."""
    return _build_interest_message(interest, None)


def _build_interest_message(interest: Interest, value: bytes | None) -> OutboxMessage:
    """Build the outbox message of an interest, keyed by airport and interest id, in the airport's partition.

    `value`: the serialized event; None: a tombstone.
    """
    partition = partition_of(interest.airport, INTERESTS_CHANGED)
    key = f"{interest.airport}/{interest.interest_id}".encode()
    return OutboxMessage(INTERESTS_CHANGED.name, partition, key, value)


def encode_flights_observed(
    airport: str,
    direction: Direction,
    begin: datetime,
    end: datetime,
    flights: Sequence[Flight],
    past: bool = False,
    covered_from: datetime | None = None,
    provenance: flights_pb.Provenance.ValueType = flights_pb.PROVENANCE_SETTLED,
    retracted: Sequence[PublishedFlight] = (),
    history: bool = False,
) -> Iterator[OutboxMessage]:
    """Yield the `FlightsObserved` events of one collected interval: batches of at most MAX_FLIGHTS_PER_MESSAGE flights.

    The order of the flights is kept. Only the last batch marks the interval as fully covered; without flights there is
    one empty batch, which marks it. `past`: True if they are published again for a lost log, and were told.
    `covered_from`: where the coverage began that reaches `begin` without a hole; None: not said. `provenance`: what the
    flights and the coverage come from. `retracted`: flights that are taken back; they are put into the batches by event
    time, as the flights then are, so that the changes of an hour come together: between two batches the counts must not
    seem to fall. `history`: True if the interval is told for what is usual alone, and its windows are not judged.
    """
    batches = _split_into_batches(direction, flights, retracted)
    for number, (batch, taken_back) in enumerate(batches, 1):
        coverage = flights_pb.COVERAGE_COMPLETE if number == len(batches) else flights_pb.COVERAGE_PARTIAL
        value = _build_observed_value(airport, direction, begin, end, coverage, batch, past, provenance)
        value.record_part = number < len(batches) and provenance == flights_pb.PROVENANCE_SETTLED
        value.history = history
        for each in taken_back:
            sent = value.retracted.add(icao24=each.icao24)
            sent.first_seen.FromDatetime(each.event_time)
            sent.last_seen.FromDatetime(each.event_time)
        if covered_from is not None:
            value.covered_from.FromDatetime(covered_from)
        yield _build_flights_message(value)


def _split_into_batches(
    direction: Direction, flights: Sequence[Flight], retracted: Sequence[PublishedFlight]
) -> list[tuple[Sequence[Flight], Sequence[PublishedFlight]]]:
    """Return the flights and the retracted flights of each batch: one at least, of MAX_FLIGHTS_PER_MESSAGE at most.

    Without retracted flights the order is kept; with them, both are ordered by event time.
    """
    if not retracted:
        starts = range(0, max(len(flights), 1), MAX_FLIGHTS_PER_MESSAGE)
        return [(flights[start : start + MAX_FLIGHTS_PER_MESSAGE], ()) for start in starts]
    changes: list[tuple[datetime, Flight | PublishedFlight]] = [(each.event_time(direction), each) for each in flights]
    changes += [(each.event_time, each) for each in retracted]
    changes.sort(key=lambda change: (change[0], change[1].icao24))
    batches: list[tuple[Sequence[Flight], Sequence[PublishedFlight]]] = []
    for start in range(0, len(changes), MAX_FLIGHTS_PER_MESSAGE):
        batch = [each for _, each in changes[start : start + MAX_FLIGHTS_PER_MESSAGE]]
        batches.append(
            (
                [each for each in batch if isinstance(each, Flight)],
                [each for each in batch if isinstance(each, PublishedFlight)],
            )
        )
    return batches


def encode_new_beginning(airport: str, direction: Direction, begin: datetime, end: datetime) -> OutboxMessage:
    """Return the `FlightsObserved` event after which nothing is known of an airport and direction: no flight, past."""
    value = _build_observation(airport, direction, begin, end, flights_pb.COVERAGE_PARTIAL)
    value.past = value.begins_anew = True
    return _build_flights_message(value)


def encode_partial_flights(
    interval: Interval,
    flights: Sequence[Flight],
    past: bool = False,
    provenance: flights_pb.Provenance.ValueType = flights_pb.PROVENANCE_SETTLED,
) -> Iterator[OutboxMessage]:
    """Yield `FlightsObserved` events of flights that cover nothing, with at most MAX_FLIGHTS_PER_MESSAGE in each.

    `past`: True if they are published again for a lost log, and were told. `provenance`: what the flights come from.
    """
    for start in range(0, len(flights), MAX_FLIGHTS_PER_MESSAGE):
        batch = flights[start : start + MAX_FLIGHTS_PER_MESSAGE]
        yield _build_flights_message(
            _build_observed_value(
                interval.airport,
                interval.direction,
                interval.begin,
                interval.end,
                flights_pb.COVERAGE_PARTIAL,
                batch,
                past,
                provenance,
            )
        )


def encode_coverage_gap(airport: str, direction: Direction, begin: datetime, end: datetime) -> OutboxMessage:
    """Return the `FlightsObserved` event of a gap: [begin, end) will never be collected."""
    return _build_flights_message(_build_observation(airport, direction, begin, end, flights_pb.COVERAGE_GAP))


def _build_observed_value(
    airport: str,
    direction: Direction,
    begin: datetime,
    end: datetime,
    coverage: flights_pb.Coverage.ValueType,
    flights: Sequence[Flight],
    past: bool,
    provenance: flights_pb.Provenance.ValueType,
) -> flights_pb.FlightsObserved:
    """Build the `FlightsObserved` value of one batch of flights of [begin, end)."""
    value = _build_observation(airport, direction, begin, end, coverage)
    value.past, value.provenance = past, provenance
    for flight in flights:
        sent = value.flights.add(
            icao24=flight.icao24, callsign=flight.callsign, other_airport=flight.other_airport(direction)
        )
        sent.first_seen.FromDatetime(flight.first_seen)
        sent.last_seen.FromDatetime(flight.last_seen)
    return value


def _build_observation(
    airport: str, direction: Direction, begin: datetime, end: datetime, coverage: flights_pb.Coverage.ValueType
) -> flights_pb.FlightsObserved:
    """Build a `FlightsObserved` value of [begin, end) by the settled record, without flights: the caller adds them."""
    value = flights_pb.FlightsObserved(
        airport=airport,
        direction=_encode_direction(direction),
        coverage=coverage,
        provenance=flights_pb.PROVENANCE_SETTLED,
    )
    value.begin.FromDatetime(begin)
    value.end.FromDatetime(end)
    return value


def _build_flights_message(value: flights_pb.FlightsObserved) -> OutboxMessage:
    """Build the outbox message of a `FlightsObserved` value, keyed and partitioned by its airport."""
    partition = partition_of(value.airport, FLIGHTS_OBSERVED)
    return OutboxMessage(FLIGHTS_OBSERVED.name, partition, value.airport.encode(), value.SerializeToString())


def encode_collection_request(airport: str) -> OutboxMessage:
    """Return the `CollectionRequested` event: collect one airport at once, or all airports if `airport` is empty."""
    value = collection_pb.CollectionRequested(airport=airport).SerializeToString()
    return OutboxMessage(COLLECTIONS_REQUESTED.name, 0, airport.encode(), value)


def encode_airport_unheard(user_id: UUID, airport: str, since: datetime) -> OutboxMessage:
    """Return the `AirportUnheard` event: the source has given no flight of an airport since the day that began `since`.

    `user_id`: the user to notify, who has an interest there. Equal arguments give the same notice id: a duplicate event
    is not mailed again.
    """
    value = notices_pb.AirportUnheard(
        notice_id=str(compute_unheard_notice_id(user_id, airport, since)), user_id=str(user_id), airport=airport
    )
    value.since.FromDatetime(since)
    return _build_notice_message(value)


def encode_code_retired(user_id: UUID, airport: str, successor: str) -> OutboxMessage:
    """Return the `AirportUnheard` event with `retired`: the code of an airport of the user's interests is gone.

    `successor`: the code that the airport has now; empty if none is known. Equal user and airport give the same notice
    id.
    """
    notice_id = str(compute_retired_notice_id(user_id, airport))
    value = notices_pb.AirportUnheard(notice_id=notice_id, user_id=str(user_id), airport=airport)
    value.retired.successor = successor
    value.retired.SetInParent()
    return _build_notice_message(value)


def _build_notice_message(value: notices_pb.AirportUnheard) -> OutboxMessage:
    """Build the outbox message of a notice, keyed and partitioned by its user."""
    partition = partition_of(value.user_id, NOTICES_RAISED)
    return OutboxMessage(NOTICES_RAISED.name, partition, value.user_id.encode(), value.SerializeToString())


def _encode_direction(direction: Direction) -> flights_pb.Direction.ValueType:
    return flights_pb.Direction.Value(f"DIRECTION_{direction.name}")
