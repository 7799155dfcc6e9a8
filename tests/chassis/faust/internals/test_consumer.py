"""The corrected Faust consumer: which records a fetch returns, how they are delivered, and which offsets are committed.

The fetches use a real broker, because they depend on aiokafka.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener
from faust.types import TP

from chassis.faust.app import StreamSettings, create_stream_app
from chassis.faust.internals.consumer import StreamConsumer
from chassis.topics import ensure_topics
from local.kafka import Broker

FETCH_S = 60.0
"""Seconds of a fetch, longer than anything that a test does during one; no successful test waits for its end."""


@dataclass(frozen=True, slots=True)
class FetchedTopic:
    """A topic of one test's own, with two partitions."""

    name: str = field(default_factory=lambda: f"fetched.{uuid4()}")
    partitions: int = 2
    config: dict[str, str] = field(default_factory=dict)


class FetchFixture(ConsumerRebalanceListener):
    """A Faust consumer that fetches from a topic with two partitions, of which only the first is open (not paused)."""

    def __init__(self, faust_consumer: StreamConsumer, kafka_consumer: AIOKafkaConsumer, topic: str, producer) -> None:
        self.first, self.second = TP(topic, 0), TP(topic, 1)
        self.open = {self.first}
        self.faust = faust_consumer
        self.kafka = kafka_consumer
        self.rebalances = False
        self._producer = producer

    async def begin(self) -> asyncio.Task[Any]:
        """Start a fetch and return its task once it waits for records."""
        thread: Any = self.faust._thread
        waiters = self.kafka._fetcher._fetch_waiters
        while waiters:  # the previous fetch still waits
            await asyncio.sleep(0)
        fetch = asyncio.create_task(thread._fetch_records(self.kafka, self.open, timeout=FETCH_S))
        while not waiters:
            await asyncio.sleep(0)
        return fetch

    async def publish(self, *partitions: TP) -> None:
        """Publish one record to each of the partitions."""
        for topic, partition in partitions:
            await self._producer.send_and_wait(topic, b"record", partition=partition)

    async def rebalance(self) -> None:
        """Go through a rebalance as Faust does, with a record that arrives before Faust stops the flow."""
        before = self.kafka._subscription.subscription.assignment
        self.rebalances = True
        self.kafka._coordinator.request_rejoin()
        while self.kafka._subscription.subscription.assignment is before:
            await asyncio.sleep(0.01)

    async def on_partitions_revoked(self, _revoked: object) -> None:
        """Wait until a record has arrived, then stop the flow, as Faust does; aiokafka calls this."""
        if self.rebalances:
            await self.publish(self.first)
            while self.first not in self.kafka._fetcher._records:
                await asyncio.sleep(0.01)
            self.faust.stop_flow()

    async def on_partitions_assigned(self, _assigned: object) -> None:
        pass

    async def list_unfetched(self) -> list[TP]:
        """Wait for a record that no fetch returned, and return the partitions of such records."""
        records = await self.kafka.getmany(timeout_ms=int(FETCH_S * 1000))
        return sorted(TP(*partition) for partition in records)


async def unused(*_args: object) -> None:
    """Fail the test: a callback that must not be called."""
    raise AssertionError("no callback is expected here")


def create_consumer(tmp_path: Path, brokers: str = "a:1", on_assigned: Callable[..., Any] = unused) -> StreamConsumer:
    """Create a corrected Faust consumer of an app, which is not started."""
    settings = StreamSettings(kafka_bootstrap_servers=brokers, web_port=1, data_dir=tmp_path)
    app = create_stream_app("example", settings, 2)
    return StreamConsumer(app.transport, unused, unused, on_assigned, loop=asyncio.get_running_loop())


@asynccontextmanager
async def start_fixture(kafka: Broker, tmp_path: Path) -> AsyncIterator[FetchFixture]:
    """Run the block with a consumer that has both partitions of a new topic."""
    topic = FetchedTopic()
    await ensure_topics(kafka.bootstrap_servers, [topic])
    consumer = create_consumer(tmp_path, kafka.bootstrap_servers)
    async with (
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer,
        AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=topic.name,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            heartbeat_interval_ms=200,
        ) as client,
    ):
        fixture = FetchFixture(consumer, client, topic.name, producer)
        client.subscribe([topic.name], listener=fixture)
        while len(client.assignment()) < topic.partitions:
            await client.getmany(timeout_ms=20)
        consumer.resume_flow()
        yield fixture


def run(kafka: Broker, tmp_path: Path, scenario: Callable[[FetchFixture], Awaitable[None]]) -> None:
    """Run a scenario with a consumer of a new topic in an event loop of its own."""

    async def run_scenario() -> None:
        async with start_fixture(kafka, tmp_path) as consumer:
            await scenario(consumer)

    asyncio.run(run_scenario())


def test_a_fetch_returns_records_of_open_partitions(kafka: Broker, tmp_path: Path) -> None:
    """Partitions that are opened during the fetch count too; records of paused partitions do not end the fetch."""

    async def scenario(consumer: FetchFixture) -> None:
        fetch = await consumer.begin()
        await consumer.publish(consumer.second, consumer.first)
        assert sorted(await fetch) == [consumer.first]
        fetch = await consumer.begin()
        consumer.open.add(consumer.second)
        await consumer.publish(consumer.first)
        assert consumer.second in await fetch

    run(kafka, tmp_path, scenario)


def test_a_fetch_without_records_ends_at_its_timeout(kafka: Broker, tmp_path: Path) -> None:
    """The fetch then returns nothing."""

    async def scenario(consumer: FetchFixture) -> None:
        thread: Any = consumer.faust._thread
        assert await thread._fetch_records(consumer.kafka, consumer.open, timeout=0.1) == {}

    run(kafka, tmp_path, scenario)


def test_a_fetch_returns_nothing_if_all_partitions_are_paused_meanwhile(kafka: Broker, tmp_path: Path) -> None:
    """aiokafka takes an empty list of partitions to mean all of them, also those that Faust does not seek back."""

    async def scenario(consumer: FetchFixture) -> None:
        fetch = await consumer.begin()
        consumer.open.clear()
        await consumer.publish(consumer.first, consumer.second)
        assert await fetch == {}
        assert await consumer.list_unfetched()

    run(kafka, tmp_path, scenario)


def test_a_fetch_returns_nothing_once_the_flow_is_stopped(kafka: Broker, tmp_path: Path) -> None:
    """Faust would discard the records."""

    async def scenario(consumer: FetchFixture) -> None:
        fetch = await consumer.begin()
        consumer.faust.stop_flow()
        await consumer.publish(consumer.first)
        assert await fetch == {}
        assert await consumer.list_unfetched() == [consumer.first]

    run(kafka, tmp_path, scenario)


def test_a_fetch_that_a_rebalance_interrupts_returns_nothing_of_the_next_assignment(
    kafka: Broker, tmp_path: Path
) -> None:
    """The same partition stays open, but its records must wait until the tables are recovered."""

    async def scenario(consumer: FetchFixture) -> None:
        fetch = await consumer.begin()
        await consumer.rebalance()
        assert await fetch == {}
        assert await consumer.list_unfetched() == [consumer.first]

    run(kafka, tmp_path, scenario)


def test_assigned_partitions_are_paused_before_any_record_is_fetched(tmp_path: Path, monkeypatch) -> None:
    """Until the tables are recovered, only changelog partitions may be open."""
    opened = []

    async def scenario() -> None:
        async def record_open(*_args: object) -> None:
            opened.append(set(consumer._active_partitions))

        async def in_the_main_thread(_loop: object, assigned: set[TP], generation_id: int) -> None:
            await consumer.on_partitions_assigned(assigned, generation_id)

        consumer = create_consumer(tmp_path, on_assigned=record_open)
        monkeypatch.setattr(consumer, "threadsafe_partitions_assigned", in_the_main_thread)
        await consumer._thread.on_partitions_assigned({TP("flights", 0), TP("flights", 1)}, 1)

    asyncio.run(scenario())
    assert opened == [set()]


def run_without_broker(tmp_path: Path, scenario: Callable[[StreamConsumer], Awaitable[None]]) -> None:
    """Run a scenario with a consumer that is not connected to a broker."""

    async def run_scenario() -> None:
        await scenario(create_consumer(tmp_path))

    asyncio.run(run_scenario())


def test_a_message_that_need_not_wait_is_delivered_without_a_task(tmp_path: Path) -> None:
    """Faust's three tasks per message are most of what a message costs."""
    tasks: list[object] = []

    async def deliver() -> str:
        tasks.append(asyncio.current_task())
        return "delivered"

    async def scenario(consumer: StreamConsumer) -> None:
        message = deliver()
        assert await consumer.wait_first(message, consumer.suspend_flow.wait()) == ([message], ["delivered"], False)
        assert tasks == [asyncio.current_task()]

    run_without_broker(tmp_path, scenario)


def test_a_delivery_that_waits_is_waited_for(tmp_path: Path) -> None:
    """A full buffer makes a delivery wait; no other message is delivered meanwhile."""

    async def scenario(consumer: StreamConsumer) -> None:
        has_space = asyncio.Event()
        delivery = asyncio.create_task(consumer.wait_first(has_space.wait(), consumer.suspend_flow.wait()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not delivery.done()
        has_space.set()
        assert (await delivery).results == [True]

    run_without_broker(tmp_path, scenario)


def test_a_delivery_that_waits_is_cancelled_when_the_flow_stops(tmp_path: Path) -> None:
    """Otherwise a rebalance would wait for a full buffer that no agent empties."""
    cancelled = []

    async def deliver() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def scenario(consumer: StreamConsumer) -> None:
        delivery = asyncio.create_task(consumer.wait_first(deliver(), consumer.suspend_flow.wait()))
        await asyncio.sleep(0)
        consumer.stop_flow()
        assert (await asyncio.wait_for(delivery, 60)).results == [True]
        await asyncio.sleep(0)
        assert cancelled

    run_without_broker(tmp_path, scenario)


def test_an_error_of_a_delivery_is_raised_by_the_consumer(tmp_path: Path) -> None:
    """An error at once or after a wait ends the consumer, and its worker."""

    async def at_once() -> None:
        raise LookupError

    async def later() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def scenario(consumer: StreamConsumer) -> None:
        for deliver in (at_once, later):
            with pytest.raises(LookupError):
                await consumer.wait_first(deliver(), consumer.suspend_flow.wait())

    run_without_broker(tmp_path, scenario)


def test_a_stopped_consumer_returns_no_results(tmp_path: Path) -> None:
    """Faust's other services return the same when they are stopped."""

    async def deliver() -> None:
        pass

    async def scenario(consumer: StreamConsumer) -> None:
        consumer._stopped.set()
        assert (await consumer.wait_first(deliver(), consumer.suspend_flow.wait())).stopped
        assert (await consumer.wait_first(consumer.can_resume_flow, timeout=5)).stopped

    run_without_broker(tmp_path, scenario)


def test_no_offset_is_committed_past_an_unacknowledged_event(kafka: Broker, tmp_path: Path) -> None:
    """The event may be the first of a partition, the first after the committed offset, or one in the middle."""

    async def scenario(consumer: FetchFixture) -> None:
        faust, tp = consumer.faust, consumer.first
        faust.app.topics.acking_topics.add(tp.topic)

        async def deliver(count: int) -> list[Any]:
            messages: list[Any] = []
            while len(messages) < count:
                fetched = await consumer.kafka.getmany(timeout_ms=1_000)
                messages += [faust._to_message(tp, record) for records in fetched.values() for record in records]
            return messages

        await consumer.publish(*[tp] * 4)
        first, second, third, fourth = await deliver(4)
        faust.ack(second)
        faust.ack(third)
        assert faust._new_offset(tp) is None
        faust.ack(first)
        assert faust._new_offset(tp) == 3
        faust._committed_offset[tp] = 3
        await consumer.publish(tp)
        (fifth,) = await deliver(1)
        faust.ack(fifth)
        assert faust._new_offset(tp) is None
        faust.ack(fourth)
        assert faust._new_offset(tp) == 5

    run(kafka, tmp_path, scenario)


def test_events_whose_commit_the_broker_refused_can_be_acknowledged_again(tmp_path: Path, monkeypatch) -> None:
    """These events are read once more; if they counted as committed, their partition would stall for ever."""

    async def refuse(*_args: object) -> bool:
        return False

    async def scenario(consumer: StreamConsumer) -> None:
        tp = TP("flights", 0)
        monkeypatch.setattr(consumer, "assignment", lambda: {tp})
        monkeypatch.setattr(consumer, "_commit", refuse)
        monkeypatch.setattr(consumer.app, "_producer", SimpleNamespace(flush=refuse))
        assert not await consumer._commit_offsets({tp: 4})
        consumer.app.topics.acking_topics.add(tp.topic)
        message = consumer._to_message(tp, record_at(tp, 0))
        assert consumer.ack(message)
        assert consumer._filter_committable_offsets([tp]) == {tp: 1}

    run_without_broker(tmp_path, scenario)


def test_a_seek_discards_the_known_committed_offsets(tmp_path: Path, monkeypatch) -> None:
    """Faust would keep its old offset of a partition for which the broker has none."""

    async def seek_without_commits() -> dict[TP, int | None]:
        return {TP("flights", 0): None}

    async def scenario(consumer: StreamConsumer) -> None:
        tp = TP("flights", 0)
        consumer.app.topics.acking_topics.add(tp.topic)
        consumer._committed_offset[tp] = 4
        monkeypatch.setattr(consumer, "seek_to_committed", seek_without_commits)
        await consumer.perform_seek()
        assert consumer.ack(consumer._to_message(tp, record_at(tp, 0)))

    run_without_broker(tmp_path, scenario)


def record_at(tp: TP, offset: int) -> SimpleNamespace:
    """Return an empty record at this offset, as aiokafka returns it."""
    return SimpleNamespace(
        topic=tp.topic, partition=tp.partition, offset=offset, timestamp=1, timestamp_type=0, headers=(), key=b"",
        value=b"", checksum=None, serialized_key_size=0, serialized_value_size=0,
    )  # fmt: skip
