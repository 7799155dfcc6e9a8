"""The topic catalogue: what others rely on, pinned."""

from google.protobuf.descriptor import Descriptor
from hypothesis import given, strategies as st

from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.collection.v1 import events_pb2 as collection_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    CATALOGUE,
    COLLECTIONS_REQUESTED,
    DAY_MS,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    USERS_CHANGED,
    partition_of,
)
from towerwatch.users.v1 import events_pb2 as users_pb

EVENTS = (
    flights_pb.FlightsObserved,
    interests_pb.InterestSet,
    alerts_pb.AlertRaised,
    alerts_pb.AlertRetry,
    users_pb.UserChanged,
    collection_pb.CollectionRequested,
)


def test_the_catalogue_is_the_designs():
    """Names, partition counts and cleanup are those of the table in `docs/design.md` ("Data flow")."""
    days = {
        "flights.observed.v1": 30,
        "alerts.raised.v1": 7,
        "alerts.retry.v1": 7,
        "alerts.dead-letter.v1": 30,
        "collections.requested.v1": 1,
    }
    for topic in CATALOGUE:
        if topic.name in days:
            assert topic.config == {"cleanup.policy": "delete", "retention.ms": str(days[topic.name] * DAY_MS)}
        else:
            assert topic.name in ("interests.changed.v1", "users.changed.v1")
            assert topic.config == {"cleanup.policy": "compact"}
    assert len(CATALOGUE) == 7


@given(st.text(min_size=1, max_size=10))
def test_flights_and_interests_of_an_airport_meet(airport):
    """The join depends on it: same airport, same partition number, in both topics."""
    assert FLIGHTS_OBSERVED.partitions == INTERESTS_CHANGED.partitions
    assert partition_of(airport, FLIGHTS_OBSERVED) == partition_of(airport, INTERESTS_CHANGED)


def test_an_alert_and_its_retry_meet_in_the_table_of_what_was_sent():
    """The notifier knows by its table what was mailed, so both ways to it must lead to one partition."""
    assert ALERTS_RAISED.partitions == ALERTS_RETRY.partitions == USERS_CHANGED.partitions


def test_one_partition_elects_the_collector():
    """More than one, and two replicas would lead."""
    assert COLLECTIONS_REQUESTED.partitions == 1


def test_the_partitioner_is_kafkas_own():
    """Values of org.apache.kafka.common.utils.Utils.murmur2 (its own unit test), so that any client agrees."""
    murmur2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    for key, hashed in murmur2.items():
        assert partition_of(key, FLIGHTS_OBSERVED) == (hashed & 0x7FFFFFFF) % 12


def test_no_event_can_carry_an_address_or_a_name():
    """user_manager alone holds them; erasing a person is one delete."""

    def fields(message: Descriptor) -> set[str]:
        inner = [fields(field.message_type) for field in message.fields if field.message_type]
        return {field.name for field in message.fields}.union(*inner)

    for event in EVENTS:
        assert not {name for name in fields(event.DESCRIPTOR) if "mail" in name or name in ("name", "address")}
