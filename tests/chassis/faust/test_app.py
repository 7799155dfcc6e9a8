"""Faust as this house runs it: its settings, its readiness, and what is put aside."""

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
    values = {"kafka_bootstrap_servers": "a:1,b:2", "web_port": 1, "data_dir": tmp_path}
    return StreamSettings(**(values | changes))


@pytest.fixture
def app(tmp_path: Path) -> faust.App:
    return create_stream_app("example", settings(tmp_path), PARTITIONS)


def test_faust_is_set_as_its_traps_ask(app: faust.App, tmp_path: Path) -> None:
    """Each of these is a default, or a value, with which something was lost, stood still or was shown."""
    conf = app.conf
    assert conf.processing_guarantee.value == "at_least_once"  # exactly-once leaves out topics that are only written
    assert not conf.producer_threaded  # commits do not wait for it
    assert conf.consumer_auto_offset_reset == "earliest"  # recovery hangs with any other
    assert conf.topic_partitions == PARTITIONS  # else PartitionsMismatch at the first write
    assert not conf.stream_wait_empty  # else a stop waits for everything in flight
    assert not conf.web_tables_enabled  # they show what is in the tables
    assert conf.producer_acks == -1
    assert conf.producer_request_timeout == 30
    assert conf.table_standby_replicas == 0  # of tables in memory it is of no use, on disk it is not safe
    assert conf.topic_disable_leader
    assert Path(conf.datadir) == tmp_path
    assert [str(url) for url in conf.broker] == ["kafka://a:1", "kafka://b:2"]
    assert str(conf.canonical_url) == "http://127.0.0.1:1"  # else a machine's name, which may be nobody's


def test_tables_are_kept_where_they_shall_be(app: faust.App, tmp_path: Path) -> None:
    """In memory, or on disk by the store whose memory is bounded."""
    on_disk = create_stream_app("example", settings(tmp_path, store="rocksdb"), PARTITIONS)
    stores = {}
    for each in (app, on_disk):
        each.finalize()
        stores[str(each.conf.store)] = type(each.Table("counts", partitions=PARTITIONS).data)
    assert stores == {"memory:": MemoryStore, "rocksdict:": TableStore}


@pytest.mark.parametrize("timeout", [6, 15, 25])
def test_timeouts_fit_together(tmp_path: Path, timeout: float) -> None:
    """Three heartbeats within a session, as Kafka advises; and each request is given longer than the session."""
    conf = create_stream_app("example", settings(tmp_path, session_timeout_s=timeout), 1).conf
    assert conf.broker_session_timeout == timeout
    assert conf.broker_heartbeat_interval <= timeout / 3
    assert conf.broker_request_timeout > timeout
    assert conf.broker_rebalance_timeout >= timeout


@pytest.mark.parametrize("timeout", [5.9, 25.1])
def test_a_session_timeout_that_a_broker_or_a_request_would_not_bear_is_refused(tmp_path: Path, timeout: float) -> None:
    """Brokers refuse less than six seconds, at every join, for ever."""
    with pytest.raises(ValidationError):
        settings(tmp_path, session_timeout_s=timeout)


def test_changelogs_are_made_as_faust_would_make_them(app: faust.App) -> None:
    """With the partitions of their tables, compacted; or as the table says."""
    app.Table("plain", partitions=PARTITIONS)
    app.Table("short", partitions=3, extra_topic_configs={"cleanup.policy": "compact,delete", "retention.ms": 5})
    app.finalize()
    assert {each.name: (each.partitions, each.config) for each in iter_changelog_topics(app)} == {
        "example-plain-changelog": (PARTITIONS, {"cleanup.policy": "compact"}),
        "example-short-changelog": (3, {"cleanup.policy": "compact,delete", "retention.ms": "5"}),
    }


def a_worker(**changes: Any) -> Any:
    """A worker at work, with these changes."""
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


def test_a_worker_is_ready_once_its_tables_are_recovered_and_while_no_rebalance_goes_on() -> None:
    """Until then what it shows of its tables is not what they are."""
    assert is_ready(a_worker())
    for reason in (
        {"started": False},
        {"should_stop": True},
        {"rebalancing": True},
        {"in_recovery": True},
        {"recovered": False},
    ):
        assert not is_ready(a_worker(**reason)), reason


def test_an_event_is_ours_until_a_rebalance_begins() -> None:
    """Flow stops when partitions are revoked; the generation is another when they are assigned."""
    event: Any = SimpleNamespace(message=SimpleNamespace(generation_id=5))
    assert is_from_current_assignment(a_worker(), event)
    assert not is_from_current_assignment(a_worker(flows=False), event)
    assert not is_from_current_assignment(a_worker(consumer_generation_id=6), event)


def test_a_worker_owns_what_it_was_assigned() -> None:
    """And not what its tables remember of others."""
    flights: Any = SimpleNamespace(name="flights")
    assert is_partition_assigned(a_worker(), flights, 3)
    assert not is_partition_assigned(a_worker(), flights, 4)


def test_no_event_comes_between_recovery_and_the_seek_to_where_events_go_on(app: faust.App) -> None:
    """Faust opens the source partitions before it seeks, and throws away what came in between."""
    deeds: list[str] = []
    app.finalize()

    async def story() -> None:
        app.consumer = SimpleNamespace(stop_flow=lambda: deeds.append("consumer stopped"))
        app.flow_control.resume()
        await app.on_rebalance_complete.send()
        assert not app.flow_control.is_active()

    asyncio.run(story())
    assert deeds == ["consumer stopped"]


class FakeTopic:
    """Keeps what was sent; the sender must wait for the broker."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}
        self.acknowledged = False

    async def send(self, **record: Any) -> Any:
        self.sent = record

        async def acknowledge() -> None:
            self.acknowledged = True

        return acknowledge()


def put_aside(key: bytes | None, value: bytes | None) -> FakeTopic:
    topic: Any = FakeTopic()
    message = SimpleNamespace(topic="source.v1", partition=4, offset=17, key=key, value=value)
    event: Any = SimpleNamespace(message=message)
    asyncio.run(publish_dead_letter(topic, event, "why"))
    return topic  # type: ignore[no-any-return]


@pytest.mark.parametrize("value", [None, b"", b"\xff\x00"])
def test_a_dead_letter_is_the_event_as_it_was_and_where_from(value: bytes | None) -> None:
    """It is acknowledged by the broker before the event may be."""
    topic = put_aside(b"key", value)
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


def test_an_event_that_would_be_too_large_with_its_headers_is_put_aside_by_name() -> None:
    """The broker would refuse it for ever, and nothing behind it would be read."""
    topic = put_aside(b"key", b"x" * 1_000_000)
    assert (topic.sent["key"], topic.sent["value"]) == (None, b"")
    assert topic.sent["headers"]["left-out"] == b"1000003"
    assert topic.sent["headers"]["source-offset"] == b"17"
