"""The properties of the topic catalogue that all services rely on."""

from pathlib import Path

from google.protobuf.descriptor import Descriptor
from hypothesis import given, strategies as st

from chassis.faust.app import iter_changelog_topics
from notifier.app import SERVICE as NOTIFIER_SERVICE
from streams.app import create_app as create_streams_app
from streams.settings import JoinSettings
from towerwatch.alerts.v1 import events_pb2 as alerts_pb
from towerwatch.collection.v1 import events_pb2 as collection_pb
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.interests.v1 import events_pb2 as interests_pb
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    ALERTS_WAITING,
    CATALOGUE,
    COLLECTIONS_REQUESTED,
    DAY_MS,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    INTERESTS_CHANGELOG,
    NOTICES_RAISED,
    NOTIFIER_GROUP,
    STREAM_CHANGELOGS,
    STREAM_GROUP,
    USERS_CHANGED,
    partition_of,
)
from towerwatch.users.v1 import events_pb2 as users_pb

EVENTS = (
    flights_pb.FlightsObserved,
    interests_pb.InterestSet,
    alerts_pb.AlertRaised,
    alerts_pb.AlertRetry,
    notices_pb.AirportUnheard,
    users_pb.UserChanged,
    collection_pb.CollectionRequested,
)


def test_the_catalogue_matches_the_design():
    """Names, partition counts and cleanup are those of the table in `docs/design.md` ("Data flow")."""
    days = {
        "flights.observed.v1": 45,
        "alerts.raised.v1": 45,
        "alerts.retry.v1": 45,
        "alerts.dead-letter.v1": 30,
        "notices.raised.v1": 45,
        "collections.requested.v1": 1,
    }
    for topic in CATALOGUE:
        if topic.name in days:
            assert topic.config == {"cleanup.policy": "delete", "retention.ms": str(days[topic.name] * DAY_MS)}
        elif topic.name == "alerts.waiting.v1":
            assert topic.config["cleanup.policy"] == "compact,delete"
            assert topic.config["retention.ms"] == str(45 * DAY_MS)
        else:
            assert topic.name in ("interests.changed.v1", "users.changed.v1")
            assert topic.config == {"cleanup.policy": "compact", "delete.retention.ms": str(45 * DAY_MS)}
    assert len(CATALOGUE) == 9


@given(st.text(min_size=1, max_size=10))
def test_flights_and_interests_of_an_airport_share_a_partition(airport):
    """The join requires the same partition number for an airport in both topics."""
    assert FLIGHTS_OBSERVED.partitions == INTERESTS_CHANGED.partitions
    assert partition_of(airport, FLIGHTS_OBSERVED) == partition_of(airport, INTERESTS_CHANGED)


def test_an_alert_or_a_notice_and_its_retry_share_a_partition():
    """The notifier's table of sent mails is partitioned by user, so these topics need the same partition."""
    retries = ALERTS_RETRY.partitions
    assert ALERTS_RAISED.partitions == NOTICES_RAISED.partitions == USERS_CHANGED.partitions == retries
    assert ALERTS_WAITING.partitions == retries


def test_the_topic_that_elects_the_collector_has_one_partition():
    """With more than one partition two replicas would lead."""
    assert COLLECTIONS_REQUESTED.partitions == 1


def test_the_partitioner_is_kafkas_own():
    """The partition of a key is that of Kafka's murmur2 (values of its own unit test), so that all clients agree."""
    murmur2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536}
    for key, hashed in murmur2.items():
        assert partition_of(key, FLIGHTS_OBSERVED) == (hashed & 0x7FFFFFFF) % 12


def test_no_event_has_a_field_for_an_address_or_a_name():
    """Only user_manager holds personal data, so that erasing a person is one delete."""

    def collect_field_names(message: Descriptor) -> set[str]:
        inner = [collect_field_names(field.message_type) for field in message.fields if field.message_type]
        return {field.name for field in message.fields}.union(*inner)

    for event in EVENTS:
        names = collect_field_names(event.DESCRIPTOR)
        assert not {name for name in names if "mail" in name or name in ("name", "address")}


def test_groups_and_changelogs_have_the_names_of_the_apps(tmp_path: Path) -> None:
    """The collector asks the broker by these names how far stream and notifier are, and what the stream knows."""
    common = {"kafka_bootstrap_servers": "a:1", "web_port": 1, "data_dir": tmp_path}
    streams = create_streams_app(JoinSettings(**common))  # type: ignore[arg-type]
    streams.finalize()
    assert streams.conf.id == STREAM_GROUP
    assert {each.name for each in iter_changelog_topics(streams)} == set(STREAM_CHANGELOGS)
    assert INTERESTS_CHANGELOG in STREAM_CHANGELOGS
    assert NOTIFIER_SERVICE == NOTIFIER_GROUP
