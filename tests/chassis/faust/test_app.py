"""The Faust app of a service: its settings, readiness, ownership of events, and dead letters."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.stores.memory import Store as MemoryStore
from faust.types import TP
from pydantic import ValidationError

from chassis.faust.app import (
    StreamSettings,
    create_stream_app,
    is_from_current_assignment,
    is_partition_assigned,
    is_ready,
    iter_changelog_topics,
    publish_dead_letter,
)
from chassis.faust.store import TableStore

PARTITIONS = 12


def settings(tmp_path: Path, **changes: Any) -> StreamSettings:
    """Return valid settings with some changes."""
    values = {"kafka_bootstrap_servers": "a:1,b:2", "web_port": 1, "data_dir": tmp_path}
    return StreamSettings(**(values | changes))


@pytest.fixture
def app(tmp_path: Path) -> faust.App:
    return create_stream_app("example", settings(tmp_path), PARTITIONS)


def test_faust_has_the_settings_that_avoid_its_known_faults(app: faust.App, tmp_path: Path) -> None:
    """Each other value has lost events, stalled a worker or shown data to anybody."""
    conf = app.conf
    assert conf.processing_guarantee.value == "at_least_once"  # exactly-once leaves out topics that are only written
    assert not conf.producer_threaded  # commits do not wait for it
    assert conf.consumer_auto_offset_reset == "earliest"  # recovery hangs with any other
    assert conf.topic_partitions == PARTITIONS  # else PartitionsMismatch at the first write
    assert not conf.stream_wait_empty  # else a stop waits for all events in flight
    assert not conf.web_tables_enabled  # these pages show the content of tables
    assert conf.producer_acks == -1
    assert conf.producer_request_timeout == 30
    assert conf.table_standby_replicas == 0  # a standby is useless for tables in memory, and not safe for those on disk
    assert conf.topic_disable_leader
    assert not conf.topic_allow_declare  # a start whose broker ends just then would end with a stack trace
    assert Path(conf.datadir) == tmp_path
    assert [str(url) for url in conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert str(conf.canonical_url) == "http://127.0.0.1:1"  # else the machine's name, which others may not resolve


def test_tables_are_in_memory_or_in_the_bounded_store(app: faust.App, tmp_path: Path) -> None:
    """The setting `store` selects Faust's memory store, or the RocksDB store with bounded memory."""
    on_disk = create_stream_app("example", settings(tmp_path, store="rocksdb"), PARTITIONS)
    stores = {}
    for each in (app, on_disk):
        each.finalize()
        stores[str(each.conf.store)] = type(each.Table("counts", partitions=PARTITIONS).data)
    assert stores == {"memory:": MemoryStore, "rocksdict:": TableStore}


@pytest.mark.parametrize("timeout", [6, 15, 25])
def test_timeouts_fit_together(tmp_path: Path, timeout: float) -> None:
    """A session has time for three heartbeats, as Kafka advises, and request timeouts are longer than the session."""
    conf = create_stream_app("example", settings(tmp_path, session_timeout_s=timeout), 1).conf
    assert conf.broker_session_timeout == timeout
    assert conf.broker_heartbeat_interval <= timeout / 3
    assert conf.broker_request_timeout > timeout
    assert conf.broker_rebalance_timeout >= timeout


@pytest.mark.parametrize("timeout", [5.9, 25.1])
def test_a_session_timeout_that_brokers_or_requests_do_not_allow_is_invalid(tmp_path: Path, timeout: float) -> None:
    """Brokers refuse less than six seconds at every join."""
    with pytest.raises(ValidationError):
        settings(tmp_path, session_timeout_s=timeout)


def test_changelog_topics_have_the_settings_that_faust_gives_them(app: faust.App) -> None:
    """A changelog has the partitions of its table, and is compacted unless the table has other settings."""
    app.Table("plain", partitions=PARTITIONS)
    app.Table("short", partitions=3, extra_topic_configs={"cleanup.policy": "compact,delete", "retention.ms": 5})
    app.finalize()
    assert {topic.name: (topic.partitions, topic.config) for topic in iter_changelog_topics(app)} == {
        "example-plain-changelog": (PARTITIONS, {"cleanup.policy": "compact"}),
        "example-short-changelog": (3, {"cleanup.policy": "compact,delete", "retention.ms": "5"}),
    }


def create_fake_app(**changes: Any) -> Any:
    """Return a fake app of a ready worker, with some attributes changed."""
    completed = asyncio.Event()
    if changes.pop("recovered", True):
        completed.set()
    values = {
        "started": True,
        "should_stop": False,
        "rebalancing": False,
        "in_recovery": False,
        "tables": SimpleNamespace(recovery=SimpleNamespace(completed=completed)),
        "assignor": SimpleNamespace(assigned_actives=lambda: {TP("flights", 3)}),
        "flow_control": SimpleNamespace(is_active=lambda: changes.get("flows", True)),
        "consumer_generation_id": 5,
    }
    return SimpleNamespace(**(values | changes))


def test_a_worker_is_ready_once_its_tables_are_recovered_and_outside_of_rebalances() -> None:
    """Before that its pages would show incomplete tables."""
    assert is_ready(create_fake_app())
    for reason in (
        {"started": False},
        {"should_stop": True},
        {"rebalancing": True},
        {"in_recovery": True},
        {"recovered": False},
    ):
        assert not is_ready(create_fake_app(**reason)), reason


def test_an_event_is_from_the_current_assignment_until_a_rebalance_begins() -> None:
    """The flow stops when partitions are revoked; the generation changes when they are assigned."""
    event: Any = SimpleNamespace(message=SimpleNamespace(generation_id=5))
    assert is_from_current_assignment(create_fake_app(), event)
    assert not is_from_current_assignment(create_fake_app(flows=False), event)
    assert not is_from_current_assignment(create_fake_app(consumer_generation_id=6), event)


def test_a_worker_owns_the_partitions_of_its_last_assignment() -> None:
    """Other partitions that its tables still contain do not count."""
    flights: Any = SimpleNamespace(name="flights")
    assert is_partition_assigned(create_fake_app(), flights, 3)
    assert not is_partition_assigned(create_fake_app(), flights, 4)


def test_no_event_is_delivered_between_the_recovery_and_the_seek(app: faust.App) -> None:
    """Faust resumes the source partitions before it seeks, and discards the events that it fetches in between."""
    calls: list[str] = []
    app.finalize()

    async def scenario() -> None:
        app.consumer = SimpleNamespace(stop_flow=lambda: calls.append("consumer stopped"))
        app.flow_control.resume()
        await app.on_rebalance_complete.send()
        assert not app.flow_control.is_active()

    asyncio.run(scenario())
    assert calls == ["consumer stopped"]


class FakeFaustTopic:
    """A topic that records what was sent, and whether the sender awaited the acknowledgement."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.acknowledged = False

    async def send(self, **record: Any) -> Any:
        """Record what is sent, and return an awaitable of the acknowledgement."""
        self.sent = record

        async def acknowledge() -> None:
            self.acknowledged = True

        return acknowledge()


def publish_to_fake(key: bytes | None, value: bytes | None) -> FakeFaustTopic:
    """Publish the dead letter of an event to a fake topic, and return the topic."""
    topic: Any = FakeFaustTopic()
    message = SimpleNamespace(topic="source.v1", partition=4, offset=17, key=key, value=value)
    event: Any = SimpleNamespace(message=message)
    asyncio.run(publish_dead_letter(topic, event, "why"))
    return topic  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00"])
def test_a_dead_letter_holds_the_events_bytes_and_its_origin(value: bytes | None) -> None:
    """The broker acknowledges the dead letter before the event may be acknowledged."""
    topic = publish_to_fake(b"key", value)
    assert topic.acknowledged
    assert (topic.sent["key"], topic.sent["value"]) == (b"key", value)
    headers = topic.sent["headers"]
    assert headers.pop("dead-lettered-at")
    assert headers == {
        "source-topic": b"source.v1",
        "source-partition": b"4",
        "source-offset": b"17",
        "reason": b"why",
    }


def test_the_dead_letter_of_a_large_event_holds_only_its_origin() -> None:
    """The broker would reject a larger record for ever, and block the events behind it."""
    topic = publish_to_fake(b"key", b"x" * 1_000_000)
    assert (topic.sent["key"], topic.sent["value"]) == (None, b"")
    assert topic.sent["headers"]["left-out"] == b"1000003"
    assert topic.sent["headers"]["source-offset"] == b"17"
