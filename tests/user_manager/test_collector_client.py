"""The client of the collector, against a real gRPC server that is up, down, slow or returns errors."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from domain.interests import Direction
from domain.windows import AlignedTo, Window
from tests.fakes.collector import FakeCollector
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.interests.v1.interest_service_pb2 import (
    ExportPersonResponse,
    FormerInterest,
    PersonRecord,
    StoredInterest,
)
from user_manager.collector_client import CollectorClient
from user_manager.collector_record import WriteRecord
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

CALLS: dict[str, Callable[[CollectorClient, UUID], object]] = {
    "all": lambda client, user_id: client.delete_interests(user_id),
    "one": lambda client, user_id: client.delete_interest(user_id, uuid4()),
    "read": lambda client, user_id: client.load_interest(user_id, uuid4()),
    "export": lambda client, user_id: client.export_person(user_id),
}
of_each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    fake = FakeCollector()
    yield fake
    fake.stop()


@pytest.fixture
def client(collector: FakeCollector) -> Iterator[CollectorClient]:
    made = CollectorClient(collector.target, deadline_s=1.0)
    yield made
    made.close()


def test_the_user_id_reaches_the_collector(collector: FakeCollector, client: CollectorClient) -> None:
    """A second call for the same user is no error."""
    collector.start()
    user_id = uuid4()
    client.delete_interests(user_id)
    client.delete_interests(user_id)
    assert collector.deleted == [str(user_id)] * 2


def test_the_ids_of_an_interest_reach_the_collector(collector: FakeCollector, client: CollectorClient) -> None:
    """An answer without an interest says that the user has none with this id."""
    collector.start()
    user_id, interest_id = uuid4(), uuid4()
    assert client.delete_interest(user_id, interest_id) is None
    assert client.load_interest(user_id, interest_id) is None
    assert collector.deleted == [f"{user_id}/{interest_id}"]


def test_an_interest_that_this_version_cannot_read_is_refused(
    collector: FakeCollector, client: CollectorClient
) -> None:
    """A newer collector may know windows that this version does not: an error of ours, not a stack trace."""
    collector.start()
    collector.interest = InterestSet(interest_id=str(uuid4()), user_id=str(uuid4()), airport="KJFK")
    for unknown in ({}, {"direction": 2, "window": 77}, {"direction": 77, "window": 1}):
        collector.interest.MergeFrom(InterestSet(**unknown))
        with pytest.raises(CollectorRefusedError):
            client.load_interest(uuid4(), uuid4())


@of_each_call
def test_a_collector_that_is_down_is_unavailable(
    client: CollectorClient, call: Callable[[CollectorClient, UUID], object]
) -> None:
    """The error is transient, and says that nothing was changed, or that nothing can be read."""
    with pytest.raises(CollectorUnavailableError, match=r"(?i)nothing was changed|cannot be read") as caught:
        call(client, uuid4())
    assert caught.value.transient


def test_a_collector_that_comes_back_is_found_again(collector: FakeCollector, client: CollectorClient) -> None:
    """The channel reconnects by itself, without a restart."""
    with pytest.raises(CollectorUnavailableError):
        client.delete_interests(uuid4())
    collector.start()
    deadline = time.monotonic() + 60
    while not collector.deleted:
        try:
            client.delete_interests(uuid4())
        except CollectorUnavailableError:
            assert time.monotonic() < deadline


@of_each_call
def test_a_slow_collector_is_unavailable_after_the_deadline(
    collector: FakeCollector, client: CollectorClient, call: Callable[[CollectorClient, UUID], object]
) -> None:
    """A person waits for the response, so the call ends at the deadline."""
    collector.start()
    collector.prompt.clear()
    began = time.monotonic()
    with pytest.raises(CollectorUnavailableError):  # without a deadline the collector would answer after half a minute
        call(client, uuid4())
    assert time.monotonic() - began > 0.9


@of_each_call
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, CollectorUnavailableError),
        (grpc.StatusCode.INTERNAL, CollectorUnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, CollectorUnavailableError),
        (grpc.StatusCode.INVALID_ARGUMENT, CollectorRefusedError),
        (grpc.StatusCode.UNIMPLEMENTED, CollectorRefusedError),
    ],
)
def test_an_error_is_transient_or_permanent(
    collector: FakeCollector,
    client: CollectorClient,
    answer: grpc.StatusCode,
    error: type[CollectorUnavailableError | CollectorRefusedError],
    call: Callable[[CollectorClient, UUID], object],
) -> None:
    """Each gRPC status becomes a transient or a permanent error of ours, never gRPC's own exception."""
    collector.start()
    collector.answer = answer
    with pytest.raises(error) as caught:
        call(client, uuid4())
    assert caught.value.transient is (error is CollectorUnavailableError)


def build_interest(user_id: UUID, **changes: object) -> StoredInterest:
    """Return the message of an interest of a user."""
    values: dict[str, Any] = {
        "airport": "KJFK", "direction": flights_pb.DIRECTION_BOTH, "window": interests_pb.WINDOW_SIX_HOURS, "low": 3,
        "for_windows": 2, "version": 4,
    }  # fmt: skip
    interest = interests_pb.InterestSet(interest_id=str(uuid4()), user_id=str(user_id), **(values | changes))
    return StoredInterest(interest=interest, told_version=3)


def build_former(user_id: UUID) -> FormerInterest:
    """Return the message of a version of a user's interest that was in force for four seconds."""
    return FormerInterest(
        interest=build_interest(user_id).interest, since=Timestamp(seconds=5), until=Timestamp(seconds=9)
    )


def test_all_pages_of_an_export_are_read(collector: FakeCollector, client: CollectorClient) -> None:
    """In their order; what is absent is None and not 0."""
    collector.start()
    user_id = uuid4()
    collector.pages = [
        ExportPersonResponse(
            interests=[build_interest(user_id)], next_page_token="1", unheard_notices=["LICC"],
            person=PersonRecord(paid=5, writes=2, read_minute=Timestamp(seconds=60), reads=7),
            former_interests=[build_former(user_id)],
        ),
        ExportPersonResponse(interests=[build_interest(user_id, airport="EDDF", low=None)], next_page_token="2"),
        ExportPersonResponse(),
    ]  # fmt: skip
    record = client.export_person(user_id)
    assert [each.user_id for each in collector.exported] == [str(user_id)] * 3
    assert [each.page_token for each in collector.exported] == ["", "1", "2"]
    found = [each.interest for each in record.interests]
    assert [(each.airport, each.low, each.high, each.aligned_to) for each in found] == [
        ("KJFK", 3, None, AlignedTo.UTC),
        ("EDDF", None, None, AlignedTo.UTC),
    ]
    assert (found[0].direction, found[0].window) == (Direction.BOTH, Window.SIX_HOURS)
    assert record.writes == WriteRecord(5, None, 2, None, datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 7)
    (former,) = record.former_interests
    assert (former.interest.airport, former.until - former.since) == ("KJFK", timedelta(seconds=4))
    assert (record.unheard_notices, record.retired_notices) == (("LICC",), ())


@pytest.mark.parametrize("wrong", [{"window": 99}, {"direction": 0}, {"user_id": str(uuid4())}, {"interest_id": "x"}])
def test_an_export_that_cannot_be_read_is_refused(
    collector: FakeCollector, client: CollectorClient, wrong: dict[str, object]
) -> None:
    """Half of it would look like all; and nobody gets what is another's, whatever the collector says."""
    collector.start()
    user_id = uuid4()
    stored = build_interest(user_id)
    for name, value in wrong.items():
        setattr(stored.interest, name, value)
    for page in (
        ExportPersonResponse(interests=[build_interest(user_id), stored]),
        ExportPersonResponse(former_interests=[FormerInterest(interest=stored.interest)]),
    ):
        collector.pages = [page]
        with pytest.raises(CollectorRefusedError):
            client.export_person(user_id)


def test_an_export_without_end_is_given_up(collector: FakeCollector) -> None:
    """All pages share one deadline, however fast each of them comes."""
    collector.start()
    collector.pages = [ExportPersonResponse(next_page_token="0")]
    client = CollectorClient(collector.target, export_deadline_s=0.5)
    with pytest.raises(CollectorUnavailableError):
        client.export_person(uuid4())
    client.close()
    assert len(collector.exported) > 1
