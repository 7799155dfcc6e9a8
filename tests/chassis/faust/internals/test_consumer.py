"""What a fetch of Faust's consumer takes, and what it leaves: with a real broker, for it is aiokafka that gives.

And how what was taken is delivered.
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

FETCH_S = 10.0
"""Long enough for whatever a test does in the middle of one; none that succeeds waits for its end."""


@dataclass(frozen=True, slots=True)
class Wanted:
    name: str = field(default_factory=lambda: f"fetched.{uuid4()}")
    partitions: int = 2
    config: dict[str, str] = field(default_factory=dict)


class Fetching(ConsumerRebalanceListener):
    """A Faust consumer that fetches from a topic of two partitions, of which the first is open."""

    def __init__(self, faust_consumer: StreamConsumer, kafka_consumer: AIOKafkaConsumer, topic: str, producer) -> None:
        self.first, self.second = TP(topic, 0), TP(topic, 1)
        self.open = {self.first}
        self.faust = faust_consumer
        self.kafka = kafka_consumer
        self.rebalances = False
        self._producer = producer

    async def begin(self) -> asyncio.Task[Any]:
        """A fetch that has begun, and waits for records."""
        thread: Any = self.faust._thread
        waiters = self.kafka._fetcher._fetch_waiters
        while waiters:  # of the fetch before
            await asyncio.sleep(0)
        fetch = asyncio.create_task(thread._fetch_records(self.kafka, self.open, timeout=FETCH_S))
        while not waiters:
            await asyncio.sleep(0)
        return fetch

    async def publish(self, *partitions: TP) -> None:
        for topic, partition in partitions:
            await self._producer.send_and_wait(topic, b"record", partition=partition)

    async def rebalance(self) -> None:
        """A rebalance as Faust goes through it, with a record that comes before it has stopped its flow."""
        before = self.kafka._subscription.subscription.assignment
        self.rebalances = True
        self.kafka._coordinator.request_rejoin()
        while self.kafka._subscription.subscription.assignment is before:
            await asyncio.sleep(0.01)

    async def on_partitions_revoked(self, _revoked: object) -> None:
        if self.rebalances:
            await self.publish(self.first)
            while self.first not in self.kafka._fetcher._records:
                await asyncio.sleep(0.01)
            self.faust.stop_flow()

    async def on_partitions_assigned(self, _assigned: object) -> None:
        pass

    async def left(self) -> list[TP]:
        """Where the records that no fetch took are; waits for one."""
        taken = await self.kafka.getmany(timeout_ms=int(FETCH_S * 1000))
        return sorted(TP(*partition) for partition in taken)


async def unused(*_args: object) -> None:
    raise AssertionError("nothing is delivered here")


def faust_consumer(tmp_path: Path, brokers: str = "a:1", on_assigned: Callable[..., Any] = unused) -> StreamConsumer:
    settings = StreamSettings(kafka_bootstrap_servers=brokers, web_port=1, data_dir=tmp_path)
    app = create_stream_app("example", settings, 2)
    return StreamConsumer(app.transport, unused, unused, on_assigned, loop=asyncio.get_running_loop())


@asynccontextmanager
async def a_consumer(kafka: Broker, tmp_path: Path) -> AsyncIterator[Fetching]:
    topic = Wanted()
    await ensure_topics(kafka.bootstrap_servers, [topic])
    consumer = faust_consumer(tmp_path, kafka.bootstrap_servers)
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
        fetching = Fetching(consumer, client, topic.name, producer)
        client.subscribe([topic.name], listener=fetching)
        while len(client.assignment()) < topic.partitions:
            await client.getmany(timeout_ms=20)
        consumer.resume_flow()
        yield fetching


def run(kafka: Broker, tmp_path: Path, story: Callable[[Fetching], Awaitable[None]]) -> None:
    async def telling() -> None:
        async with a_consumer(kafka, tmp_path) as consumer:
            await story(consumer)

    asyncio.run(telling())


def test_a_fetch_takes_from_open_partitions(kafka: Broker, tmp_path: Path) -> None:
    """Those that were open when it began, and those that were opened since; what comes to others does not end it."""

    async def story(consumer: Fetching) -> None:
        fetch = await consumer.begin()
        await consumer.publish(consumer.second, consumer.first)
        assert sorted(await fetch) == [consumer.first]
        fetch = await consumer.begin()
        consumer.open.add(consumer.second)
        await consumer.publish(consumer.first)
        assert consumer.second in await fetch

    run(kafka, tmp_path, story)


def test_a_fetch_ends_by_itself(kafka: Broker, tmp_path: Path) -> None:
    """With nothing, when nothing came."""

    async def story(consumer: Fetching) -> None:
        thread: Any = consumer.faust._thread
        assert await thread._fetch_records(consumer.kafka, consumer.open, timeout=0.1) == {}

    run(kafka, tmp_path, story)


def test_a_fetch_whose_partitions_were_all_paused_takes_nothing(kafka: Broker, tmp_path: Path) -> None:
    """To aiokafka no partitions are all partitions: those too that nobody wants yet, and that nobody seeks back to."""

    async def story(consumer: Fetching) -> None:
        fetch = await consumer.begin()
        consumer.open.clear()
        await consumer.publish(consumer.first, consumer.second)
        assert await fetch == {}
        assert await consumer.left()

    run(kafka, tmp_path, story)


def test_a_fetch_takes_nothing_once_the_flow_is_stopped(kafka: Broker, tmp_path: Path) -> None:
    """Faust throws away what comes then."""

    async def story(consumer: Fetching) -> None:
        fetch = await consumer.begin()
        consumer.faust.stop_flow()
        await consumer.publish(consumer.first)
        assert await fetch == {}
        assert await consumer.left() == [consumer.first]

    run(kafka, tmp_path, story)


def test_a_fetch_that_a_rebalance_interrupts_takes_nothing_of_the_next_assignment(
    kafka: Broker, tmp_path: Path
) -> None:
    """The partition is the same and stays open, but its records are for when the tables are recovered."""

    async def story(consumer: Fetching) -> None:
        fetch = await consumer.begin()
        await consumer.rebalance()
        assert await fetch == {}
        assert await consumer.left() == [consumer.first]

    run(kafka, tmp_path, story)


def test_what_is_assigned_is_paused_before_anything_of_it_can_come(tmp_path: Path, monkeypatch) -> None:
    """Nothing but what tables are recovered from may be open until they are recovered."""
    opened = []

    async def story() -> None:
        async def look(*_args: object) -> None:
            opened.append(set(consumer._active_partitions))

        async def in_the_main_thread(_loop: object, assigned: set[TP], generation_id: int) -> None:
            await consumer.on_partitions_assigned(assigned, generation_id)

        consumer = faust_consumer(tmp_path, on_assigned=look)
        monkeypatch.setattr(consumer, "threadsafe_partitions_assigned", in_the_main_thread)
        await consumer._thread.on_partitions_assigned({TP("flights", 0), TP("flights", 1)}, 1)

    asyncio.run(story())
    assert opened == [set()]


def delivering(tmp_path: Path, story: Callable[[StreamConsumer], Awaitable[None]]) -> None:
    """With a consumer that delivers, and does not fetch."""

    async def telling() -> None:
        await story(faust_consumer(tmp_path))

    asyncio.run(telling())


def test_a_message_that_need_not_wait_is_delivered_without_a_task(tmp_path: Path) -> None:
    """Three tasks are most of what a message costs Faust."""
    by: list[object] = []

    async def deliver() -> str:
        by.append(asyncio.current_task())
        return "delivered"

    async def story(consumer: StreamConsumer) -> None:
        message = deliver()
        assert await consumer.wait_first(message, consumer.suspend_flow.wait()) == ([message], ["delivered"], False)
        assert by == [asyncio.current_task()]

    delivering(tmp_path, story)


def test_a_message_that_waits_is_waited_for(tmp_path: Path) -> None:
    """As for a full buffer; not one message is taken from the fetch meanwhile."""

    async def story(consumer: StreamConsumer) -> None:
        room = asyncio.Event()
        delivery = asyncio.create_task(consumer.wait_first(room.wait(), consumer.suspend_flow.wait()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not delivery.done()
        room.set()
        assert (await delivery).results == [True]

    delivering(tmp_path, story)


def test_a_message_that_waits_is_given_up_when_the_flow_stops(tmp_path: Path) -> None:
    """Else a rebalance would wait for a buffer that nobody empties."""
    given_up = []

    async def deliver() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    async def story(consumer: StreamConsumer) -> None:
        delivery = asyncio.create_task(consumer.wait_first(deliver(), consumer.suspend_flow.wait()))
        await asyncio.sleep(0)
        consumer.stop_flow()
        assert (await asyncio.wait_for(delivery, 5)).results == [True]
        await asyncio.sleep(0)
        assert given_up

    delivering(tmp_path, story)


def test_a_delivery_that_fails_fails_the_fetch(tmp_path: Path) -> None:
    """At once, or after it has waited: the consumer ends, and its worker with it."""

    async def at_once() -> None:
        raise LookupError

    async def later() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def story(consumer: StreamConsumer) -> None:
        for deliver in (at_once, later):
            with pytest.raises(LookupError):
                await consumer.wait_first(deliver(), consumer.suspend_flow.wait())

    delivering(tmp_path, story)


def test_a_consumer_that_stopped_has_no_results(tmp_path: Path) -> None:
    """As of any service."""

    async def deliver() -> None:
        pass

    async def story(consumer: StreamConsumer) -> None:
        consumer._stopped.set()
        assert (await consumer.wait_first(deliver(), consumer.suspend_flow.wait())).stopped
        assert (await consumer.wait_first(consumer.can_resume_flow, timeout=5)).stopped

    delivering(tmp_path, story)


def test_nothing_is_committed_past_an_event_that_is_not_acknowledged(kafka: Broker, tmp_path: Path) -> None:
    """Whichever it is: the first of a partition, the first after what is committed, or one in the middle."""

    async def story(consumer: Fetching) -> None:
        faust, tp = consumer.faust, consumer.first
        faust.app.topics.acking_topics.add(tp.topic)

        async def delivered(*, to: int) -> list[Any]:
            found: list[Any] = []
            while len(found) < to:
                records = await consumer.kafka.getmany(timeout_ms=1_000)
                found += [faust._to_message(tp, record) for some in records.values() for record in some]
            return found

        await consumer.publish(*[tp] * 4)
        first, second, third, fourth = await delivered(to=4)
        faust.ack(second)
        faust.ack(third)
        assert faust._new_offset(tp) is None
        faust.ack(first)
        assert faust._new_offset(tp) == 3
        faust._committed_offset[tp] = 3
        await consumer.publish(tp)
        (fifth,) = await delivered(to=1)
        faust.ack(fifth)
        assert faust._new_offset(tp) is None
        faust.ack(fourth)
        assert faust._new_offset(tp) == 5

    run(kafka, tmp_path, story)


def test_what_the_broker_refused_to_commit_can_be_acknowledged_again(tmp_path: Path, monkeypatch) -> None:
    """Its events are read once more, and stood still for ever if they counted as committed."""

    async def refused(*_args: object) -> bool:
        return False

    async def story(consumer: StreamConsumer) -> None:
        tp = TP("flights", 0)
        monkeypatch.setattr(consumer, "assignment", lambda: {tp})
        monkeypatch.setattr(consumer, "_commit", refused)
        monkeypatch.setattr(consumer.app, "_producer", SimpleNamespace(flush=refused))
        assert not await consumer._commit_offsets({tp: 4})
        consumer.app.topics.acking_topics.add(tp.topic)
        again = consumer._to_message(tp, record_at(tp, 0))
        assert consumer.ack(again)
        assert consumer._filter_committable_offsets([tp]) == {tp: 1}

    delivering(tmp_path, story)


def test_a_seek_forgets_what_was_taken_for_committed(tmp_path: Path, monkeypatch) -> None:
    """Where the broker has no offset Faust would go on with what it had."""

    async def nothing_committed() -> dict[TP, int | None]:
        return {TP("flights", 0): None}

    async def story(consumer: StreamConsumer) -> None:
        tp = TP("flights", 0)
        consumer.app.topics.acking_topics.add(tp.topic)
        consumer._committed_offset[tp] = 4
        monkeypatch.setattr(consumer, "seek_to_committed", nothing_committed)
        await consumer.perform_seek()
        assert consumer.ack(consumer._to_message(tp, record_at(tp, 0)))

    delivering(tmp_path, story)


def record_at(tp: TP, offset: int) -> SimpleNamespace:
    """As aiokafka gives it."""
    return SimpleNamespace(
        topic=tp.topic, partition=tp.partition, offset=offset, timestamp=1, timestamp_type=0, headers=(), key=b"",
        value=b"", checksum=None, serialized_key_size=0, serialized_value_size=0,
    )  # fmt: skip
