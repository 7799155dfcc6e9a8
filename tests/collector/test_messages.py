"""Tests of the encoding of events."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from collector.intervals import Interval
from collector.messages import (
    MAX_FLIGHTS_PER_MESSAGE,
    encode_airport_unheard,
    encode_collection_request,
    encode_coverage_gap,
    encode_flights_observed,
    encode_interest_removal,
    encode_interest_set,
    encode_partial_flights,
)
from collector.sources.flight import Flight, PublishedFlight
from domain.interests import Direction
from domain.notices import compute_unheard_notice_id
from tests.collector.conftest import Service, wish
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.notices.v1.events_pb2 import AirportUnheard
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, NOTICES_RAISED, partition_of

BEGIN = datetime(2013, 2, 12, tzinfo=UTC)
END = BEGIN + timedelta(days=1)


def flight(number: int) -> Flight:
    """Return a departure to LICC, seen `number` seconds after BEGIN."""
    at = int(BEGIN.timestamp()) + number
    return Flight.model_validate(
        {
            "icao24": f"{number:06x}",
            "firstSeen": at,
            "lastSeen": at + 60,
            "callsign": "TW1",
            "estArrivalAirport": "LICC",
        }
    )


@pytest.mark.parametrize(
    "count",
    [
        0,
        1,
        MAX_FLIGHTS_PER_MESSAGE,
        MAX_FLIGHTS_PER_MESSAGE + 1,
        2 * MAX_FLIGHTS_PER_MESSAGE,
        2 * MAX_FLIGHTS_PER_MESSAGE + 1,
    ],
)
def test_an_interval_is_published_in_batches_and_the_last_marks_it_as_covered(count: int) -> None:
    """An interval without flights is published too: without an event no reader knows that it had none."""
    flights = [flight(number) for number in range(count)]
    messages = list(encode_flights_observed("KJFK", Direction.DEPARTURES, BEGIN, END, flights))
    values = [flights_pb.FlightsObserved.FromString(message.value or b"") for message in messages]
    assert [sent.icao24 for value in values for sent in value.flights] == [each.icao24 for each in flights]
    assert all(len(value.flights) <= MAX_FLIGHTS_PER_MESSAGE for value in values)
    assert [value.coverage for value in values] == [
        *[flights_pb.COVERAGE_PARTIAL] * (len(values) - 1),
        flights_pb.COVERAGE_COMPLETE,
    ]
    assert [value.record_part for value in values] == [*[True] * (len(values) - 1), False]
    for message, value in zip(messages, values, strict=True):
        assert (message.topic, message.key) == (FLIGHTS_OBSERVED.name, b"KJFK")
        assert message.partition == partition_of("KJFK", FLIGHTS_OBSERVED)
        assert (value.airport, value.direction) == ("KJFK", flights_pb.DIRECTION_DEPARTURES)
        assert (value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)) == (BEGIN, END)


def test_what_is_no_record_says_so() -> None:
    """Departures of today, and all that is live, are no part of a record, however many batches they are."""
    flights, day = [flight(number) for number in range(MAX_FLIGHTS_PER_MESSAGE + 1)], (BEGIN, END)
    today = encode_partial_flights(Interval("KJFK", Direction.DEPARTURES, *day), flights)
    live = encode_flights_observed("KJFK", Direction.DEPARTURES, *day, flights, provenance=flights_pb.PROVENANCE_LIVE)
    assert not any(flights_pb.FlightsObserved.FromString(each.value or b"").record_part for each in (*today, *live))


def test_a_gap_has_no_flights() -> None:
    """A gap's event has the begin and the end of the range that will never be collected."""
    message = encode_coverage_gap("KJFK", Direction.ARRIVALS, BEGIN, END)
    assert (message.topic, message.key) == (FLIGHTS_OBSERVED.name, b"KJFK")
    assert message.partition == partition_of("KJFK", FLIGHTS_OBSERVED)
    value = flights_pb.FlightsObserved.FromString(message.value or b"")
    assert (value.airport, value.direction) == ("KJFK", flights_pb.DIRECTION_ARRIVALS)
    assert (value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)) == (BEGIN, END)
    assert (value.coverage, list(value.flights)) == (flights_pb.COVERAGE_GAP, [])


def test_a_flight_has_its_times_and_the_other_airport() -> None:
    """The other airport is the origin of an arrival, and the destination of a departure."""
    for direction, other in ((Direction.DEPARTURES, "LICC"), (Direction.ARRIVALS, "")):
        (message,) = encode_flights_observed("KJFK", direction, BEGIN, END, [flight(7)])
        (sent,) = flights_pb.FlightsObserved.FromString(message.value or b"").flights
        assert (sent.icao24, sent.callsign, sent.other_airport) == ("000007", "TW1", other)
        assert sent.first_seen.ToDatetime(UTC) == BEGIN + timedelta(seconds=7)
        assert sent.last_seen.ToDatetime(UTC) == BEGIN + timedelta(seconds=67)


def test_an_interest_and_its_removal_share_key_and_partition(service: Service) -> None:
    """The key is airport and interest, the partition the airport's, as the join needs; a removal is a tombstone."""
    interest = service.set(wish(low=2, for_windows=3, repeat=True))
    message = encode_interest_set(interest)
    assert (message.topic, message.key) == (INTERESTS_CHANGED.name, f"KJFK/{interest.interest_id}".encode())
    assert message.partition == partition_of("KJFK", FLIGHTS_OBSERVED)
    value = interests_pb.InterestSet.FromString(message.value or b"")
    assert (value.interest_id, value.user_id) == (str(interest.interest_id), str(interest.user_id))
    assert (value.airport, value.direction, value.window) == (
        "KJFK", flights_pb.DIRECTION_DEPARTURES, interests_pb.WINDOW_ONE_HOUR
    )  # fmt: skip
    assert (value.high, value.low, value.for_windows, value.repeat, value.version) == (5, 2, 3, True, 1)
    assert value.effective_from.ToDatetime(UTC) == interest.effective_from
    removal = encode_interest_removal(interest)
    assert (removal.topic, removal.key, removal.partition) == (message.topic, message.key, message.partition)
    assert removal.value is None


def test_a_threshold_that_is_not_given_is_not_zero(service: Service) -> None:
    """A threshold of 0 is a valid threshold, so a missing one must stay missing."""
    value = interests_pb.InterestSet.FromString(encode_interest_set(service.set(wish(high=0))).value or b"")
    assert value.HasField("high")
    assert not value.HasField("low")


def test_a_collection_request_goes_to_the_single_partition() -> None:
    """The owner of that partition is the leader, which collects."""
    message = encode_collection_request("KJFK")
    assert message.partition == 0
    assert CollectionRequested.FromString(message.value or b"").airport == "KJFK"


def test_the_notice_of_an_unheard_airport_goes_to_its_users_partition() -> None:
    """A repeat has the same id, so that the notifier mails it once; another user's notice has another."""
    user = UUID(int=7)
    message = encode_airport_unheard(user, "KPWM", BEGIN)
    assert (message.topic, message.key) == (NOTICES_RAISED.name, str(user).encode())
    assert message.partition == partition_of(str(user), NOTICES_RAISED)
    value = AirportUnheard.FromString(message.value or b"")
    assert (value.user_id, value.airport, value.since.ToDatetime(UTC)) == (str(user), "KPWM", BEGIN)
    assert value.notice_id == str(compute_unheard_notice_id(user, "KPWM", BEGIN))
    assert encode_airport_unheard(user, "KPWM", BEGIN) == message
    other = AirportUnheard.FromString(encode_airport_unheard(UUID(int=8), "KPWM", BEGIN).value or b"")
    assert other.notice_id != value.notice_id


@pytest.mark.parametrize(("new", "taken"), [(0, 1), (1, 1), (999, 1), (1000, 1), (1, 1000), (700, 900), (0, 2000)])
def test_batches_with_retracted_flights_hold_a_thousand_changes(new: int, taken: int) -> None:
    """New and retracted flights together are 1,000 at most; each is in one batch, and the last covers."""
    flights = [flight(2 * number) for number in range(new)]
    retracted = [PublishedFlight(f"{number:06x}", BEGIN + timedelta(seconds=2 * number + 1)) for number in range(taken)]
    day = BEGIN, BEGIN + timedelta(days=1)
    messages = encode_flights_observed("KJFK", Direction.DEPARTURES, *day, flights, retracted=retracted)
    batches = [flights_pb.FlightsObserved.FromString(each.value or b"") for each in messages]
    assert all(len(each.flights) + len(each.retracted) <= MAX_FLIGHTS_PER_MESSAGE for each in batches)
    assert [each.coverage for each in batches] == [
        *[flights_pb.COVERAGE_PARTIAL] * (len(batches) - 1),
        flights_pb.COVERAGE_COMPLETE,
    ]
    assert len(batches) == max(1, -(-(new + taken) // MAX_FLIGHTS_PER_MESSAGE))
    assert [each.icao24 for batch in batches for each in batch.flights] == [each.icao24 for each in flights]
    assert [
        PublishedFlight(each.icao24, each.first_seen.ToDatetime(UTC)) for batch in batches for each in batch.retracted
    ] == retracted
    times = [[each.first_seen.seconds for each in (*batch.flights, *batch.retracted)] for batch in batches]
    assert all(max(before) < min(after) for before, after in pairwise(times))
