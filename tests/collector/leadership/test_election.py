"""Leadership on a real Kafka: one replica collects, and another goes on where it ended."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SupersededError
from collector.leadership.election import CONFIRMATION_VALID_S, SESSION_S, LeaderElection
from collector.leadership.terms import Term
from local.kafka import Broker
from tests.ports import free_port
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED

A_LONG_TIME_S = 3600.0
DEADLINE_S = 120.0
"""Seconds until a wait counts as failed: generous, for other processes may keep the machine busy."""


class FakeCollection:
    """Remembers what it was asked to collect, and lets the test hold it."""

    def __init__(self) -> None:
        self.collected: list[str | None] = []
        self.free = asyncio.Event()
        self.free.set()
        self.cancelled = 0
        self.failure: Exception | None = None
        self.terms: list[Term] = []
        self.database_away = 0
        """So many beginnings of a term fail."""

    async def begin_term(self) -> Term:
        if self.database_away:
            self.database_away -= 1
            raise DatabaseUnavailableError("as planned")
        self.terms.append(Term(len(self.terms) + 1))
        return self.terms[-1]

    async def collect(self, term: Term, airport: str | None = None) -> None:
        assert term == self.terms[-1]
        self.collected.append(airport)
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure


class Replica:
    """One member of the group."""

    def __init__(self, kafka: Broker, poll_interval_s: float = A_LONG_TIME_S) -> None:
        self.collection = FakeCollection()
        self._metrics = Metrics(ServiceIdentity("collector", "local"))
        self._leadership = LeaderElection(self.collection, kafka.bootstrap_servers, poll_interval_s, self._metrics)

    @property
    def leads(self) -> bool:
        labels = {"service": "collector", "node": "local"}
        return self._metrics.registry.get_sample_value("collector_leader", labels) == 1

    @asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]
        """Take part inside of the block."""
        task = asyncio.create_task(self._leadership.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not self.leads


async def until(holds: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Return once it holds, and fail when it does not in time."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)


async def request(kafka: Broker, *values: bytes | str) -> None:
    """Publish requests for airports, or bytes as they are."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in values:
            sent = value if isinstance(value, bytes) else CollectionRequested(airport=value).SerializeToString()
            await producer.send_and_wait(COLLECTIONS_REQUESTED.name, sent, partition=0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def test_who_leads_collects_everything_at_once_then_what_is_requested(kafka: Broker) -> None:
    """What cannot be read is skipped."""

    async def story() -> None:
        async with Replica(kafka).running() as replica:
            await until(lambda: replica.leads and replica.collection.collected == [None])
            await request(kafka, "KJFK")
            await until(lambda: replica.collection.collected == [None, "KJFK"])
            await request(kafka, b"\xff\xff", "LICC")
            await until(lambda: replica.collection.collected == [None, "KJFK", "LICC"])
            await request(kafka, b"")
            await until(lambda: replica.collection.collected == [None, "KJFK", "LICC", None])

    run(story)


def test_who_leads_collects_on_schedule(kafka: Broker) -> None:
    """Without being asked; one that failed is no end of it."""

    async def story() -> None:
        async with Replica(kafka, poll_interval_s=0.05).running() as replica:
            replica.collection.failure = RuntimeError("a bug")
            await until(lambda: len(replica.collection.collected) > 3)
            assert set(replica.collection.collected) == {None}

    run(story)


def test_a_long_collection_keeps_neither_the_partition_nor_the_requests_waiting(kafka: Broker) -> None:
    """The consumer reads on meanwhile; what was requested often is collected once, after it."""

    async def story() -> None:
        async with Replica(kafka).running() as replica:
            await until(lambda: replica.collection.collected == [None])
            replica.collection.free.clear()
            await request(kafka, "KJFK")
            await until(lambda: replica.collection.collected == [None, "KJFK"])
            await request(kafka, *["KJFK", "LICC"] * 20)
            await _all_read(kafka)
            replica.collection.free.set()
            await until(lambda: len(replica.collection.collected) == 4)
            assert replica.collection.collected == [None, "KJFK", "KJFK", "LICC"]

    run(story)


async def _all_read(kafka: Broker) -> None:
    """Return once the group has read, and committed, all that is in the topic."""
    partition = TopicPartition(COLLECTIONS_REQUESTED.name, 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id="collector") as watcher:
        watcher.assign([partition])
        end = (await watcher.end_offsets([partition]))[partition]
        async with asyncio.timeout(DEADLINE_S):
            while await watcher.committed(partition) != end:
                await asyncio.sleep(0.05)


def test_of_two_replicas_one_leads_and_the_other_takes_over(kafka: Broker) -> None:
    """A collection that runs when its leader steps down is ended there, and the next begins with everything."""

    async def story() -> None:
        async with Replica(kafka).running() as second:
            async with Replica(kafka).running() as first:
                for replica in (first, second):
                    replica.collection.free.clear()
                await until(lambda: first.leads != second.leads)
                await request(kafka, "KJFK")
                leader = first if first.leads else second
                await until(lambda: leader.collection.collected != [])
            await until(lambda: second.leads)
            await until(lambda: second.collection.collected[-1:] == [None])
            assert len(first.collection.collected) == first.collection.cancelled

    run(story)


@pytest.fixture
def late_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, not started yet."""
    broker = Broker(tmp_path / "kafka", port=free_port())
    yield broker
    broker.stop()


def test_a_term_begins_once_the_database_is_there(kafka: Broker) -> None:
    """Who holds the partition tries again until it can begin, and does not lead before."""

    async def story() -> None:
        replica = Replica(kafka)
        replica.collection.database_away = 2
        async with replica.running():
            await until(lambda: replica.leads and replica.collection.collected == [None])
            assert replica.collection.database_away == 0

    run(story)


def test_who_was_deposed_but_holds_the_partition_begins_another_term(kafka: Broker) -> None:
    """A replica that had lost the partition already may have been late to begin; nobody would collect otherwise."""

    async def story() -> None:
        async with Replica(kafka).running() as replica:
            replica.collection.failure = SupersededError("as planned")
            await until(lambda: len(replica.collection.terms) >= 3)
            replica.collection.failure = None
            # The next term that begins is the first that lasts; what is asked for before, its first collection covers.
            failed = len(replica.collection.collected)
            await until(lambda: replica.leads and len(replica.collection.collected) > failed)
            await request(kafka, "KJFK")
            await until(lambda: replica.leads and replica.collection.collected[-1] == "KJFK")

    run(story)


def is_stopped(pid: int) -> bool:
    """Return True while the process is stopped by SIGSTOP, so that it can send nothing."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_leader_that_is_cut_off_from_kafka_stops_by_itself(late_broker: Broker) -> None:
    """Before its session ends, so before another can begin; in the midst of its work; and goes on when it is back.

    The broker stands still until the leader has stopped: it cannot have told the leader anything. That the leader stops
    before its session ends is a matter of two constants; a stopwatch would measure the machine.
    """
    assert CONFIRMATION_VALID_S < SESSION_S
    late_broker.start()

    async def story() -> None:
        async with Replica(late_broker).running() as replica:
            await until(lambda: replica.leads and replica.collection.collected == [None])
            replica.collection.free.clear()
            await request(late_broker, "KJFK")
            await until(lambda: replica.collection.collected == [None, "KJFK"])
            os.kill(late_broker.pid, signal.SIGSTOP)
            try:
                await until(lambda: is_stopped(late_broker.pid))
                await until(lambda: not replica.leads)
                await until(lambda: replica.collection.cancelled == 1)  # a moment after it does not lead any more
                assert replica.collection.terms == [1]
                assert is_stopped(late_broker.pid)
            finally:
                os.kill(late_broker.pid, signal.SIGCONT)
            # A broker that stood still past the session may give the partition away once more: another term begins.
            await until(lambda: replica.leads and len(replica.collection.collected) > 2)
            assert replica.collection.collected[:3] == [None, "KJFK", None]
            assert len(replica.collection.terms) >= 2

    run(story)
