"""Tests of the tables: records sent to the changelog, and recovery after late writes of a replaced worker."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, ProducerClosed
from faust.streams import current_event
from faust.types import TP, FutureMessage
from faust.types.tuples import RecordMetadata
from hypothesis import given, strategies as st

from chassis.faust.app import iter_changelog_topics
from chassis.topics import ensure_topics
from local.kafka import Broker
from streams import app as streams_app
from streams.entries import encode_interest_entry
from streams.settings import JoinSettings
from streams.tables import SequencedTable
from tests.fakes.stream import FakeEvent


def make_table(data_dir: Path = Path("unused"), servers: str = "127.0.0.1:1", **settings: Any) -> SequencedTable:
    """Return the table of interests of a new app; its entries are small."""
    values = {"kafka_bootstrap_servers": servers, "web_port": 1, "data_dir": data_dir}
    app = streams_app.create_app(JoinSettings(**(values | settings)))
    app.finalize()
    table = app.tables["interests"]
    assert isinstance(table, SequencedTable)
    return table


def make_records(*pairs: tuple[bytes, int], partition: int = 0) -> list[Any]:
    """Return changelog records; `pairs`: key and sequence of each."""
    found = []
    for offset, (key, sequence) in enumerate(pairs):
        event: Any = an_event(partition, offset)
        event.key = event.message.key = key
        event.value = event.message.value = encode_interest_entry(sequence, None)
        found.append(event)
    return found


def an_event(partition: int, offset: int = 0) -> FakeEvent:
    tp = TP("interests.changed.v1", partition)
    return FakeEvent(SimpleNamespace(topic=tp.topic, partition=partition, offset=offset, tp=tp))


def test_a_deleted_entry_is_not_recovered() -> None:
    """A tombstone has no sequence, and is applied all the same."""
    table = make_table()
    events = make_records((b"a", 1), (b"b", 2), (b"a", 3))
    events[2].message.value = events[2].value = None
    table.apply_changelog_batch(events)
    assert set(table.data) == {b"b"}
    table.apply_changelog_batch(make_records((b"a", 4)))
    assert set(table.data) == {b"a", b"b"}


@given(
    log=st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(1, 9)), max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=3),
)
def test_the_entry_with_the_highest_sequence_is_recovered(log, cuts) -> None:
    """The position in the changelog and the batches in which Faust reads it do not matter."""
    table = make_table()
    events = make_records(*log)
    bounds = [0, *sorted(cuts), len(events)]
    for begin, end in pairwise(bounds):
        table.apply_changelog_batch(events[begin:end])
    highest = {key: max(sequence for other, sequence in log if other == key) for key, _ in log}
    assert dict(table.data) == {key: encode_interest_entry(sequence, None) for key, sequence in highest.items()}


def test_a_table_on_disk_recovers_the_highest_sequence_too(tmp_path: Path) -> None:
    """The table compares a record with the entry in the record's own partition only."""

    async def scenario() -> None:
        table = make_table(tmp_path, store="rocksdb")
        table.apply_changelog_batch(make_records((b"a", 5), (b"b", 2), partition=3))
        table.apply_changelog_batch(make_records((b"a", 4), (b"b", 3), partition=3))
        table.apply_changelog_batch(make_records((b"a", 1), partition=4))
        found = {number: dict(table.data._visible_items(db)) for number, db in table.data._dbs.items()}  # type: ignore[attr-defined]
        assert found == {
            3: {b"a": encode_interest_entry(5, None), b"b": encode_interest_entry(3, None)},
            4: {b"a": encode_interest_entry(1, None)},
        }
        assert current_event() is None

    asyncio.run(scenario())


class FakeFaustProducer:
    """A fake of aiokafka's producer: accepts records while it has room; tests decide when the broker has them."""

    def __init__(self, table: SequencedTable) -> None:
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.accepted: list[tuple[int, bytes, bytes | None]] = []
        self.error: Exception | None = None
        self._futures: list[asyncio.Future[RecordMetadata]] = []
        producer: Any = table.app.producer
        producer._producer = self

    async def send(
        self, topic: str, value: bytes | None, key: bytes, partition: int, timestamp_ms: None, headers: None
    ) -> "asyncio.Future[RecordMetadata]":
        """Accept a record, or wait for room; raises `error` if set."""
        assert topic == "streams-interests-changelog"
        await self.has_room.wait()
        if self.error is not None:
            raise self.error
        self.accepted.append((partition, key, value))
        self._futures.append(asyncio.get_running_loop().create_future())
        return self._futures[-1]

    async def acknowledge(self, error: Exception | None = None, first: int = 0) -> None:
        """Complete the accepted records: at offsets from `first` on, or with an error that the broker reports."""
        pending = [
            (future, each) for future, each in zip(self._futures, self.accepted, strict=True) if not future.done()
        ]
        for offset, (future, (partition, _, _)) in enumerate(pending, first):
            tp = TP("streams-interests-changelog", partition)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(RecordMetadata(tp.topic, partition, tp, offset))
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def run_with_table(
    scenario: Callable[[SequencedTable, FakeFaustProducer], Awaitable[None]],
    data_dir: Path = Path("unused"),
    **settings: Any,
) -> None:
    """Run a scenario with a table, its fake producer, and Faust's task that empties the producer's buffer."""

    async def run() -> None:
        table = make_table(data_dir, **settings)
        producer: Any = table.app.producer

        async def started() -> Any:
            return producer

        table.app.maybe_start_producer = started  # type: ignore[method-assign]
        fake_producer = FakeFaustProducer(table)
        table.app.sensors.add(table.app.monitor)  # as at the start of a worker
        emptying = asyncio.create_task(producer.buffer._handle_pending.fun(producer.buffer))
        await scenario(table, fake_producer)
        emptying.cancel()

    asyncio.run(run())


async def run_pending_tasks(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_write_is_sent_at_once_and_done_when_the_broker_has_it() -> None:
    """The agent acknowledges an event only after its write is done."""

    async def scenario(table: SequencedTable, producer: FakeFaustProducer) -> None:
        assert table.last_write(3) is None
        table.write(an_event(3), b"a", b"1")
        table.write(an_event(4), b"b", b"2")
        first = table.last_write(3)
        table.write(an_event(3), b"a", None)
        assert producer.accepted == [(3, b"a", b"1"), (4, b"b", b"2"), (3, b"a", None)]
        assert dict(table.data) == {b"b": b"2"}
        last = table.last_write(3)
        assert first is not None
        assert last is not None
        assert first is not last
        assert not last.done()
        await producer.acknowledge()
        assert last.done()
        assert last.exception() is None
        changelog = "streams-interests-changelog"
        counts = table.app.monitor.tables["interests"]
        assert (counts.keys_updated, counts.keys_deleted) == (2, 1)
        assert table.app.monitor.messages_sent_by_topic[changelog] == 3

    run_with_table(scenario)


def test_records_without_room_keep_their_place_in_the_order() -> None:
    """A partition's records have the order of its writes, because at recovery the last deletion counts."""

    async def scenario(table: SequencedTable, producer: FakeFaustProducer) -> None:
        table.write(an_event(3), b"a", b"1")
        producer.has_room.clear()
        table.write(an_event(3), b"a", b"2")
        table.write(an_event(3), b"a", b"3")
        await run_pending_tasks()
        producer.has_room.set()
        table.write(an_event(3), b"a", b"4")  # the producer has room, but earlier records still wait
        table.write(an_event(4), b"b", b"1")  # of another partition
        await run_pending_tasks()
        assert [value for partition, _, value in producer.accepted if partition == 3] == [b"1", b"2", b"3", b"4"]
        waited = table.last_write(3)
        assert isinstance(waited, FutureMessage)
        await producer.acknowledge()
        assert waited.done()
        table.write(an_event(3), b"a", b"5")
        assert producer.accepted[-1] == (3, b"a", b"5")
        assert not isinstance(table.last_write(3), FutureMessage)

    run_with_table(scenario)


def test_a_record_that_the_broker_refused_makes_the_write_fail() -> None:
    """The agent then crashes the worker, because the table has an entry that its changelog lacks."""

    async def scenario(table: SequencedTable, producer: FakeFaustProducer) -> None:
        table.write(an_event(3), b"a", b"1")
        await producer.acknowledge(KafkaConnectionError())
        last = table.last_write(3)
        assert last is not None
        assert isinstance(last.exception(), KafkaConnectionError)
        assert table.app.monitor.send_errors == 1

    run_with_table(scenario)


def test_a_closed_producer_leaves_the_write_undone() -> None:
    """At a stop of the worker the event is not acknowledged, and the next worker reads the event again."""

    async def scenario(table: SequencedTable, producer: FakeFaustProducer) -> None:
        producer.error = ProducerClosed()
        table.write(an_event(3), b"a", b"1")
        last = table.last_write(3)
        assert last is not None
        assert not last.done()
        assert table.app.producer.buffer.size == 1

    run_with_table(scenario)


@pytest.mark.parametrize("has_room", [True, False])
def test_a_table_on_disk_stores_the_offset_from_which_to_recover(tmp_path: Path, has_room: bool) -> None:
    """The offset stops before the first record of another worker, which this table has never read."""

    async def scenario(table: SequencedTable, producer: FakeFaustProducer) -> None:
        changelog = TP("streams-interests-changelog", 3)

        async def written(offset: int, error: Exception | None = None) -> int | None:
            if not has_room:
                producer.has_room.clear()
            table.write(an_event(3), b"a", b"1")
            producer.has_room.set()
            await run_pending_tasks()
            await producer.acknowledge(error, offset)
            return table.persisted_offset(changelog)

        assert await written(0, KafkaConnectionError()) is None
        assert await written(0) == 0
        assert await written(1) == 1
        assert await written(4) == 1  # offsets 2 and 3 are of another worker
        assert await written(5) == 1
        table.apply_changelog_batch([make_changelog_record(changelog, offset) for offset in range(2, 7)])
        assert await written(7) == 7

    run_with_table(scenario, tmp_path, store="rocksdb")


def make_changelog_record(tp: TP, offset: int) -> Any:
    """Return a record of a changelog partition, with its offset as its sequence."""
    event: Any = an_event(tp.partition, offset)
    event.message.tp, event.message.key, event.message.value = tp, b"a", encode_interest_entry(offset, None)
    return event


def test_a_broker_gets_all_records_in_the_order_of_the_writes(kafka: Broker, tmp_path: Path, monkeypatch) -> None:
    """The order holds also for more records at once than one producer batch holds."""
    monkeypatch.setattr(streams_app, "SERVICE", f"streams-{uuid4()}")
    entries = [b"%d " % number + b"x" * 1_000 for number in range(1_000)]

    async def scenario() -> list[bytes]:
        table = make_table(tmp_path, kafka.bootstrap_servers, store="rocksdb")
        await ensure_topics(kafka.bootstrap_servers, list(iter_changelog_topics(table.app)))
        await table.app.producer.start()
        for entry in entries:
            table.write(an_event(3), b"a", entry)
        last = table.last_write(3)
        assert isinstance(last, FutureMessage), "a batch held them all"
        await asyncio.wait_for(last, 60)
        for entry in entries:
            table.write(an_event(3), b"a", entry)
            await asyncio.sleep(0)
        last = table.last_write(3)
        assert last is not None
        await asyncio.wait_for(last, 60)
        tp = TP(table.changelog_topic.get_topic_name(), 3)
        await run_pending_tasks()
        assert table.persisted_offset(tp) == 2 * len(entries) - 1
        await table.app.producer.stop()
        return await read_all(kafka, TopicPartition(*tp))

    assert asyncio.run(scenario()) == entries * 2


async def read_all(kafka: Broker, tp: TopicPartition) -> list[bytes]:
    """Read the values of all records of a partition."""
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, enable_auto_commit=False) as consumer:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        found: list[bytes] = []
        while len(found) < end:
            for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                found += [record.value for record in batch]
        return found
