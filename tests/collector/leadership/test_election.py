"""Tests of the leader election on a real Kafka: one replica collects, and another takes over from it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import CommitFailedError

from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SupersededError
from collector.leadership.election import CONFIRMATION_VALID_S, GROUP, SESSION_S, LeaderElection, _LeaderSession
from collector.leadership.terms import Term
from local.kafka import Broker
from tests.ports import free_port
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED

A_LONG_TIME_S = 3600.0
DEADLINE_S = 120.0
"""Seconds until a wait counts as failed: generous, for other processes may keep the machine busy."""


class RecordingCollector:
    """A collector that records its calls; the test can block a collection or make it fail."""

    def __init__(self) -> None:
        self.collected: list[str | None] = []
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.cancelled = 0
        self.failure: Exception | None = None
        self.terms: list[Term] = []
        self.begin_failures = 0
        """Number of next calls of `begin_term` that fail."""

    async def begin_term(self) -> Term:
        """Return the next term, or raise DatabaseUnavailableError as often as the test planned."""
        if self.begin_failures:
            self.begin_failures -= 1
            raise DatabaseUnavailableError("as planned")
        self.terms.append(Term(len(self.terms) + 1))
        return self.terms[-1]

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Record the call, wait while the test blocks collections, and fail if planned."""
        assert term == self.terms[-1]
        self.collected.append(airport)
        try:
            await self.unblocked.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.failure is not None:
            raise self.failure


class ElectionMember:
    """One replica in the election, with a fake collector."""

    def __init__(self, kafka: Broker, poll_interval_s: float = A_LONG_TIME_S) -> None:
        self.collector = RecordingCollector()
        self._metrics = Metrics(ServiceIdentity("collector", "local"))
        self._election = LeaderElection(self.collector, kafka.bootstrap_servers, poll_interval_s, self._metrics)

    @property
    def leads(self) -> bool:
        labels = {"service": "collector", "node": "local"}
        return self._metrics.registry.get_sample_value("collector_leader", labels) == 1

    @asynccontextmanager
    async def running(self):  # type: ignore[no-untyped-def]
        """Take part in the election inside the block."""
        task = asyncio.create_task(self._election.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not self.leads


async def wait_until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> None:
    """Return once the condition holds. Raises TimeoutError after `within_s` seconds."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


async def publish_requests(kafka: Broker, *values: bytes | str) -> None:
    """Publish requests for airports; bytes are published as they are."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for value in values:
            sent = value if isinstance(value, bytes) else CollectionRequested(airport=value).SerializeToString()
            await producer.send_and_wait(COLLECTIONS_REQUESTED.name, sent, partition=0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


@pytest.fixture
def kafka(kafka: Broker) -> Broker:
    """Return the broker once the group of the election is empty, and has read all requests of earlier tests.

    A leader commits what it has read every two seconds, so that the last requests of a test are often not committed:
    the next test's leader would collect for them.
    """
    asyncio.run(_commit_the_end(kafka))
    return kafka


async def _commit_the_end(kafka: Broker) -> None:
    """Commit the end of the topic of requests for the group of the election; wait until the group has no member."""
    partition = TopicPartition(COLLECTIONS_REQUESTED.name, 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=GROUP) as watcher:
        watcher.assign([partition])
        end = (await watcher.end_offsets([partition]))[partition]
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    await watcher.commit({partition: end})
                    return
                except CommitFailedError:  # a member that was killed has not expired
                    await asyncio.sleep(0.1)


def test_a_leader_collects_all_airports_at_once_then_the_requested_ones(kafka: Broker) -> None:
    """Undecodable requests are skipped."""

    async def scenario() -> None:
        async with ElectionMember(kafka).running() as replica:
            await wait_until(lambda: replica.leads and replica.collector.collected == [None])
            await publish_requests(kafka, "KJFK")
            await wait_until(lambda: replica.collector.collected == [None, "KJFK"])
            await publish_requests(kafka, b"\xff\xff", "LICC")
            await wait_until(lambda: replica.collector.collected == [None, "KJFK", "LICC"])
            await publish_requests(kafka, b"")
            await wait_until(lambda: replica.collector.collected == [None, "KJFK", "LICC", None])

    run(scenario)


def test_a_leader_collects_on_schedule(kafka: Broker) -> None:
    """The schedule needs no request, and a failed collection does not end the schedule."""

    async def scenario() -> None:
        async with ElectionMember(kafka, poll_interval_s=0.05).running() as replica:
            replica.collector.failure = RuntimeError("a bug")
            await wait_until(lambda: len(replica.collector.collected) > 3)
            assert set(replica.collector.collected) == {None}

    run(scenario)


def test_the_consumer_reads_on_during_a_long_collection(kafka: Broker) -> None:
    """Requests for the same airport during a collection are collected once, after it."""

    async def scenario() -> None:
        async with ElectionMember(kafka).running() as replica:
            await wait_until(lambda: replica.collector.collected == [None])
            replica.collector.unblocked.clear()
            await publish_requests(kafka, "KJFK")
            await wait_until(lambda: replica.collector.collected == [None, "KJFK"])
            await publish_requests(kafka, *["KJFK", "LICC"] * 20)
            await _wait_until_all_committed(kafka)
            replica.collector.unblocked.set()
            await wait_until(lambda: len(replica.collector.collected) == 4)
            assert replica.collector.collected == [None, "KJFK", "KJFK", "LICC"]

    run(scenario)


async def _wait_until_all_committed(kafka: Broker) -> None:
    """Return once the group has read, and committed, all messages of the topic."""
    partition = TopicPartition(COLLECTIONS_REQUESTED.name, 0)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=GROUP) as watcher:
        watcher.assign([partition])
        end = (await watcher.end_offsets([partition]))[partition]
        async with asyncio.timeout(DEADLINE_S):
            while await watcher.committed(partition) != end:
                await asyncio.sleep(0.05)


def test_of_two_replicas_one_leads_and_the_other_takes_over(kafka: Broker) -> None:
    """A running collection is cancelled when its leader steps down, and the next leader begins with all airports."""

    async def scenario() -> None:
        async with ElectionMember(kafka).running() as second:
            async with ElectionMember(kafka).running() as first:
                for replica in (first, second):
                    replica.collector.unblocked.clear()
                await wait_until(lambda: first.leads != second.leads)
                await publish_requests(kafka, "KJFK")
                leader = first if first.leads else second
                await wait_until(lambda: leader.collector.collected != [])
            await wait_until(lambda: second.leads)
            await wait_until(lambda: second.collector.collected[-1:] == [None])
            assert len(first.collector.collected) == first.collector.cancelled

    run(scenario)


@pytest.fixture
def late_broker(tmp_path: Path) -> Iterator[Broker]:
    """Yield a broker of the test's own, not started yet."""
    broker = Broker(tmp_path / "kafka", port=free_port())
    yield broker
    broker.stop()


def test_a_term_begins_once_the_database_is_available(kafka: Broker) -> None:
    """The partition's owner retries until it can begin a term, and is no leader before."""

    async def scenario() -> None:
        replica = ElectionMember(kafka)
        replica.collector.begin_failures = 2
        async with replica.running():
            await wait_until(lambda: replica.leads and replica.collector.collected == [None])
            assert replica.collector.begin_failures == 0

    run(scenario)


def test_a_superseded_owner_of_the_partition_begins_another_term(kafka: Broker) -> None:
    """The superseding replica may have lost the partition already; without a new term no replica would collect."""

    async def scenario() -> None:
        async with ElectionMember(kafka).running() as replica:
            replica.collector.failure = SupersededError("as planned")
            await wait_until(lambda: len(replica.collector.terms) >= 3)
            replica.collector.failure = None
            # The next term that begins is the first that lasts; its first collection covers all earlier requests.
            failed = len(replica.collector.collected)
            await wait_until(lambda: replica.leads and len(replica.collector.collected) > failed)
            await publish_requests(kafka, "KJFK")
            await wait_until(lambda: replica.leads and replica.collector.collected[-1] == "KJFK")

    run(scenario)


def is_stopped(pid: int) -> bool:
    """Return True while the process is stopped by SIGSTOP, False while it can run."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_leader_that_is_cut_off_from_kafka_stops_by_itself(late_broker: Broker) -> None:
    """The leader stops before its session ends, so before another replica can lead, and leads again later.

    The broker is stopped until the leader has stopped: the broker cannot have notified the leader. The rule that the
    leader stops before its session ends is checked on the two constants; a stopwatch would measure the machine.
    """
    assert CONFIRMATION_VALID_S < SESSION_S
    late_broker.start()

    async def scenario() -> None:
        async with ElectionMember(late_broker).running() as replica:
            await wait_until(lambda: replica.leads and replica.collector.collected == [None])
            replica.collector.unblocked.clear()
            await publish_requests(late_broker, "KJFK")
            await wait_until(lambda: replica.collector.collected == [None, "KJFK"])
            os.kill(late_broker.pid, signal.SIGSTOP)
            try:
                await wait_until(lambda: is_stopped(late_broker.pid))
                await wait_until(lambda: not replica.leads)
                await wait_until(lambda: replica.collector.cancelled == 1)  # a moment after it does not lead any more
                assert replica.collector.terms == [1]
                assert is_stopped(late_broker.pid)
            finally:
                os.kill(late_broker.pid, signal.SIGCONT)
            # A broker that stood still past the session may give the partition away once more: another term begins.
            await wait_until(lambda: replica.leads and len(replica.collector.collected) > 2)
            assert replica.collector.collected[:3] == [None, "KJFK", None]
            assert len(replica.collector.terms) >= 2

    run(scenario)


def test_a_leader_that_gives_up_logs_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A term may end at the moment at which its schedule requests a collection: that is no error, and has no traceback.

    It was one: the scheduler logged "Error running job … CancelledError" for the request that it cancelled.
    """

    async def confirm() -> None:
        await asyncio.sleep(0)

    async def scenario() -> None:
        gauge = Metrics(ServiceIdentity("collector", "local")).gauge("leader", "Leads").labels()
        for turns in range(60):
            session = _LeaderSession(RecordingCollector(), confirm, 0.0005, gauge)
            for _ in range(20 + turns):
                await asyncio.sleep(0)
            await session.stop()

    with caplog.at_level("WARNING", "apscheduler"):
        run(scenario)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


class RecordingLive:
    """Live work that records its terms; it ends as the test plans, else only when it is cancelled."""

    def __init__(self, *outcomes: Exception) -> None:
        self.terms: list[Term] = []
        self.stopped = 0
        self._outcomes = list(outcomes)

    async def collect_live(self, term: Term) -> None:
        """Record the term, and raise the next planned error or wait."""
        self.terms.append(term)
        if self._outcomes:
            raise self._outcomes.pop(0)
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped += 1


def test_live_work_goes_on_for_the_whole_term() -> None:
    """An unexpected error does not end it; a newer term of another leader ends the term, and the next one begins."""
    collector = RecordingCollector()
    live = RecordingLive(ValueError("as planned"), SupersededError("as planned"))

    async def confirm() -> None:
        """Confirm the ownership."""

    async def scenario() -> None:
        gauge = Metrics(ServiceIdentity("collector", "local")).gauge("leading", "1").labels()
        session = _LeaderSession(collector, confirm, A_LONG_TIME_S, gauge, live)
        await wait_until(lambda: live.terms == [1, 1, 2] and len(collector.collected) == 2)
        await session.stop()
        assert live.stopped == 1

    run(scenario)


def test_live_work_stops_with_its_term() -> None:
    """Another collector has begun a newer term: the live work must not publish in the old one any more."""
    collector, live = RecordingCollector(), RecordingLive()
    collector.failure = SupersededError("as planned")

    async def confirm() -> None:
        """Confirm the ownership."""

    async def scenario() -> None:
        gauge = Metrics(ServiceIdentity("collector", "local")).gauge("leading", "1").labels()
        session = _LeaderSession(collector, confirm, A_LONG_TIME_S, gauge, live)
        await wait_until(lambda: live.stopped == 1 or live.terms[-1:] == [2])
        collector.failure = None
        await wait_until(lambda: len(live.terms) > live.stopped)
        await session.stop()
        assert live.stopped == len(live.terms)

    run(scenario)
