"""The outbox relay with a real broker: events are published in order, whatever happens to the broker."""

import asyncio
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from sqlalchemy import MetaData, select

from chassis.db import outbox_relay
from chassis.db.database import Database
from chassis.db.outbox import Outbox, OutboxMessage
from chassis.db.outbox_relay import OutboxRelay
from chassis.kafka import parse_sequence
from chassis.metrics import Metrics, ServiceIdentity
from chassis.topics import ensure_topics
from local.kafka import Broker
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.topics import Topic

PARTITIONS = 3


class Service:
    """A service with an outbox and a topic of its own."""

    def __init__(self, url: str) -> None:
        schema = MetaData()
        self.outbox = Outbox(schema)
        self.database = Database(url)
        schema.create_all(self.database.engine)
        self.topic = Topic(f"relayed.{uuid.uuid4()}", PARTITIONS, {})  # several tests share the broker
        self.metrics = [Metrics(ServiceIdentity("test", f"relay-{number}")) for number in range(2)]
        self._written = 0

    def write(self, count: int, outbox: Outbox | None = None) -> None:
        """Add so many events to the outbox; their values are consecutive numbers.

        `outbox`: that of another process, whose commits this one is not told of; None: that of this process.
        """
        with self.database.transaction() as session:
            numbers = range(self._written, self._written + count)
            (outbox or self.outbox).add(
                session, [OutboxMessage(self.topic.name, n % PARTITIONS, b"key", str(n).encode()) for n in numbers]
            )
        self._written += count

    def backlog(self) -> int:
        """Return how many events are not published yet."""
        with self.database.transaction() as session:
            return self.outbox.count_unpublished(session)

    def is_lease_held(self) -> bool:
        """Return True if the lease of a relay has not ended yet, False if it has."""
        with self.database.reading() as session:
            return bool(session.scalar(select(self.outbox.relay.c.leased_until)) > time.time())

    def relay(self, bootstrap_servers: str, number: int = 0, outbox: Outbox | None = None) -> OutboxRelay:
        """Create a relay of the outbox with metrics of its own; `outbox`: that of another process."""
        return OutboxRelay(self.database, outbox or self.outbox, bootstrap_servers, self.metrics[number])

    def metric(self, name: str) -> float:
        """Return the value of a metric of the first relay."""
        labels = {"service": "test", "node": "relay-0"}
        return self.metrics[0].registry.get_sample_value(name, labels) or 0.0


@contextmanager
def running(*relays: OutboxRelay) -> Iterator[None]:
    """Run relays in a thread of their own during the block.

    The test's thread starts the broker, because a broker ends with the thread that started it.
    """

    async def run() -> None:
        tasks = [asyncio.create_task(relay.run()) for relay in relays]
        await asyncio.to_thread(stopping.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stopping = threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(120)
    assert not thread.is_alive()


async def read(bootstrap_servers: str, topic: str) -> dict[int, list[ConsumerRecord]]:
    """Return all records of a topic, by partition."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[ConsumerRecord]] = {number: [] for number in range(PARTITIONS)}
        while [p for p in partitions if await consumer.position(p) < ends[p]]:
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition.partition] += records
        return found
    finally:
        await consumer.stop()


def drop_duplicates(records: list[ConsumerRecord]) -> list[int]:
    """Return the values that a reader processes, which drops every sequence that is not greater than the last."""
    values, last = [], 0
    for record in records:
        sequence = parse_sequence(record.headers)
        assert sequence is not None
        if sequence > last:
            values.append(int(record.value))
            last = sequence
    return values


def test_a_restart_of_the_broker_loses_and_reorders_no_event(tmp_path: Path, database_url: str) -> None:
    """The broker is killed with -9 and restarted: each partition's events arrive in their order, none is missing."""
    service = Service(database_url)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broker = Broker(tmp_path / "kafka", port, topics=(service.topic,))
    broker.start()

    try:
        with running(service.relay(broker.bootstrap_servers)):
            service.write(2_000)
            eventually(lambda: service.backlog() <= 1_500)
            os.kill(broker.pid, signal.SIGKILL)
            service.write(1_000)  # requests are still served
            broker.start()
            service.write(1)
            eventually(lambda: service.backlog() == 0)
        found = asyncio.run(read(broker.bootstrap_servers, service.topic.name))
    finally:
        broker.stop()
    for partition, records in found.items():
        assert drop_duplicates(records) == list(range(partition, 3_001, PARTITIONS))


def test_two_relays_publish_each_event_once_and_in_order(kafka: Broker, database_url: str) -> None:
    """Replicas share an outbox, and only the relay with the lease works."""
    service = Service(database_url)
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [service.topic]))

    with running(*(service.relay(kafka.bootstrap_servers, number) for number in range(2))):
        for _ in range(10):
            service.write(200)
            eventually(lambda: service.backlog() < 400)
        eventually(lambda: service.backlog() == 0)
    for partition, records in asyncio.run(read(kafka.bootstrap_servers, service.topic.name)).items():
        assert [int(record.value) for record in records] == list(range(partition, 2_000, PARTITIONS))


def test_each_commit_wakes_the_relay_of_its_own_process(
    kafka: Broker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relay that never looks by itself publishes what its process commits, one event after the other."""
    monkeypatch.setattr(outbox_relay, "IDLE_LOOK_S", 3_600.0)
    service = Service(database_url)
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [service.topic]))
    with running(service.relay(kafka.bootstrap_servers)):
        for _ in range(20):
            service.write(1)
            eventually(lambda: service.backlog() == 0)
    for partition, records in asyncio.run(read(kafka.bootstrap_servers, service.topic.name)).items():
        assert [int(record.value) for record in records] == list(range(partition, 20, PARTITIONS))


def test_replicas_that_are_woken_in_turn_wait_for_no_lease(
    kafka: Broker, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two replicas, whose relays never look by themselves, each publishes its own commits, in the common order."""
    monkeypatch.setattr(outbox_relay, "IDLE_LOOK_S", 3_600.0)
    service, other = Service(database_url), Outbox(MetaData())
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [service.topic]))
    relays = (service.relay(kafka.bootstrap_servers), service.relay(kafka.bootstrap_servers, 1, other))
    with running(*relays):
        for count in range(20):
            service.write(1, other if count % 2 else None)
            eventually(lambda: service.backlog() == 0)
        for count in range(40):  # the one commits while the other publishes
            service.write(5, other if count % 2 else None)
        eventually(lambda: service.backlog() == 0)
    for partition, records in asyncio.run(read(kafka.bootstrap_servers, service.topic.name)).items():
        assert [int(record.value) for record in records] == list(range(partition, 220, PARTITIONS))


def test_a_relay_finds_by_itself_what_an_ended_process_has_committed(kafka: Broker, database_url: str) -> None:
    """Events that no commit of the relay's own process has told of are published, too, although nothing wakes it."""
    service = Service(database_url)
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [service.topic]))
    with running(service.relay(kafka.bootstrap_servers)):
        service.write(1)
        eventually(lambda: service.backlog() == 0)
        service.write(10, Outbox(MetaData()))
        eventually(lambda: service.backlog() == 0)
    for partition, records in asyncio.run(read(kafka.bootstrap_servers, service.topic.name)).items():
        assert [int(record.value) for record in records] == list(range(partition, 11, PARTITIONS))


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Return a broker of the test's own, not started yet."""
    made = Broker(tmp_path / "kafka", free_port())
    yield made
    made.stop()


def test_the_metrics_show_the_backlog_while_kafka_is_unavailable(broker: Broker, tmp_path: Path) -> None:
    """The backlog and the age of its oldest event are measured; afterwards all events are published in order."""
    service = Service(f"sqlite:///{tmp_path}/service.db")
    broker.start()
    asyncio.run(ensure_topics(broker.bootstrap_servers, [service.topic]))
    with running(service.relay(broker.bootstrap_servers)):
        service.write(10)
        eventually(lambda: service.backlog() == 0)
        broker.stop()
        service.write(1_500)
        eventually(lambda: service.metric("outbox_backlog") == 1_500)
        eventually(lambda: service.metric("outbox_oldest_age_seconds") > 3)
        service.write(500)
        eventually(lambda: service.metric("outbox_backlog") == 2_000)
        broker.start()
        eventually(lambda: service.backlog() == 0)
        eventually(lambda: service.metric("outbox_backlog") == service.metric("outbox_oldest_age_seconds") == 0)
    for partition, records in asyncio.run(read(broker.bootstrap_servers, service.topic.name)).items():
        assert drop_duplicates(records) == list(range(partition, 2_010, PARTITIONS))


def test_a_relay_has_no_request_in_flight_when_its_lease_ends(broker: Broker, tmp_path: Path) -> None:
    """While the broker is frozen, the round is aborted before the lease ends, and its producer does not send again."""
    service = Service(f"sqlite:///{tmp_path}/service.db")
    broker.start()
    asyncio.run(ensure_topics(broker.bootstrap_servers, [service.topic]))
    publishing = structlog.testing.capture_logs()
    with publishing as logged, running(service.relay(broker.bootstrap_servers)):
        service.write(10)
        eventually(lambda: service.backlog() == 0)
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            service.write(100)
            eventually(lambda: [entry for entry in logged if entry["event"] == "outbox.not_published"])
            assert service.is_lease_held()
        finally:
            os.kill(broker.pid, signal.SIGCONT)
        eventually(lambda: service.backlog() == 0)
    for partition, records in asyncio.run(read(broker.bootstrap_servers, service.topic.name)).items():
        assert drop_duplicates(records) == list(range(partition, 110, PARTITIONS))
