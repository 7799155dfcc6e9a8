"""Leadership on a real Kafka: one replica collects, and another goes on where it ended."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from chassis.clock import ScaledClock
from chassis.kafka import sequence_in
from chassis.metrics import Identity, Metrics
from collector.leadership import Leadership
from local.kafka import Broker
from local.opensky.flights import Flight
from tests.collector.process import Process
from tests.fakes.authority import FakeAuthority
from tests.fakes.opensky import replay
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import COLLECTIONS_REQUESTED, FLIGHTS_OBSERVED, partition_of

A_LONG_TIME_S = 3600.0


class FakeCollection:
    """Remembers what it was asked to collect, and lets the test hold it."""

    def __init__(self) -> None:
        self.collected: list[str | None] = []
        self.free = asyncio.Event()
        self.free.set()
        self.cancelled = 0
        self.failure: Exception | None = None

    async def collect(self, airport: str | None = None) -> None:
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
        self._metrics = Metrics(Identity("collector", "local"))
        self._leadership = Leadership(self.collection, kafka.bootstrap_servers, poll_interval_s, self._metrics)

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


async def until(holds: Callable[[], bool], within_s: float = 30) -> None:
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
        async with asyncio.timeout(30):
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


AIRPORT = "KTEB"
RATE = 14_400
"""Four hours a second."""
START = datetime(2013, 2, 13, tzinfo=UTC)
USERS_TOKEN = {"Authorization": "Bearer anns"}


def timetable() -> list[Flight]:
    """Twenty minutes between departures and between arrivals, for forty days."""
    first = int((START - timedelta(days=2)).timestamp())
    moments = range(first, first + 40 * 86_400, 1200)
    departures = [Flight(at, at + 3000, f"{number:06x}", "TW", AIRPORT, "LICC") for number, at in enumerate(moments)]
    arrivals = [Flight(at - 3000, at, f"{number:06x}", "TW", "LICC", AIRPORT) for number, at in enumerate(moments)]
    return departures + arrivals


@pytest.fixture
def late_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, not started yet."""
    broker = Broker(tmp_path / "kafka", port=free_port())
    yield broker
    broker.stop()


def test_when_the_leader_is_killed_another_goes_on_without_gap_or_double(tmp_path: Path, late_broker: Broker) -> None:
    """Two processes on one database, begun before the broker; the leader is killed in the midst of its work."""
    port = late_broker.bootstrap_servers
    anchor = datetime.now(UTC)
    flights = timetable()
    clock = ScaledClock(START, RATE, anchor)
    with FakeAuthority().running() as authority, replay(flights, clock) as url:
        authority.users["anns"] = (UUID(int=1), True)
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": port,
            "USER_MANAGER_GRPC_TARGET": authority.target,
            "OPENSKY_URL": f"{url}/api",
            "POLL_INTERVAL": "PT30M",
            "CLOCK_START": START.isoformat(),
            "CLOCK_RATE": str(RATE),
            "CLOCK_ANCHOR": anchor.isoformat(),
        }
        replicas = [Process(tmp_path, settings) for _ in range(2)]
        try:
            for replica in replicas:
                eventually(lambda replica=replica: replica.answers("/health/ready"))  # type: ignore[misc]
                wish = {"airport_icao": AIRPORT, "direction": "both", "window": "1h", "high_value": 1}
                answer = httpx.post(f"{replica.base_url}/interests", json=wish, headers=USERS_TOKEN, timeout=10)
                assert answer.status_code in (200, 201)
            late_broker.start()
            eventually(lambda: len(covered(replicas[0])) == 2)
            eventually(lambda: sum(replica.metric("collector_leader") or 0 for replica in replicas) == 1)
            leader, other = sorted(replicas, key=lambda replica: replica.metric("collector_leader") == 0)
            killed_at, began = clock.now(), time.monotonic()
            leader.kill()
            eventually(lambda: other.metric("collector_leader") == 1)
            assert time.monotonic() - began < 10 + 5, "the session timeout and a little"
            eventually(lambda: min(covered(other).values()) > killed_at)
            until = covered(other)
            published = asyncio.run(observed(late_broker, until))
            assert other.end() == 0
            for replica in replicas:
                assert "Traceback" not in replica.log()
                assert "Group Coordinator Request failed" not in replica.log()
        finally:
            for replica in replicas:
                replica.kill()
    for direction, name in (
        (flights_pb.DIRECTION_DEPARTURES, "departures"),
        (flights_pb.DIRECTION_ARRIVALS, "arrivals"),
    ):
        assert_end_to_end([each for each in published if each.direction == direction], name, flights)


def covered(replica: Process) -> dict[str, datetime]:
    """By direction, up to where the airport is covered."""
    answer = replica.get(f"/flights/{AIRPORT}/coverage", **USERS_TOKEN)
    shown: dict[str, Any] = answer.json() if answer is not None and answer.status_code == 200 else {}
    return {direction: datetime.fromisoformat(each["covered_until"]) for direction, each in shown.items()}


async def observed(kafka: Broker, until: dict[str, datetime]) -> list[flights_pb.FlightsObserved]:
    """What was published of the airport until it is covered so far; repeats are dropped by their sequence."""
    partition = TopicPartition(FLIGHTS_OBSERVED.name, partition_of(AIRPORT, FLIGHTS_OBSERVED))
    found: list[flights_pb.FlightsObserved] = []
    waited_for = set(until)
    last = 0
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as consumer, asyncio.timeout(60):
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        while waited_for:
            record = await consumer.getone()
            sequence = sequence_in(record.headers)
            assert sequence is not None
            if sequence <= last:
                continue
            last = sequence
            value = flights_pb.FlightsObserved.FromString(record.value)
            found.append(value)
            name = flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower()
            if value.end.ToDatetime(UTC) >= until[name]:
                waited_for.discard(name)
    return found


def assert_end_to_end(published: list[flights_pb.FlightsObserved], name: str, flights: list[Flight]) -> None:
    """Each batch begins where the one before ended, and together they hold each flight of the timetable once."""
    assert all(each.coverage == flights_pb.COVERAGE_COMPLETE for each in published)
    assert [each.begin.seconds for each in published[1:]] == [each.end.seconds for each in published[:-1]]
    begin, end = published[0].begin.seconds, published[-1].end.seconds
    if name == "departures":
        due = [
            (each.icao24, each.first_seen)
            for each in flights
            if each.departure_airport == AIRPORT and begin <= each.first_seen < end
        ]
    else:
        due = [
            (each.icao24, each.first_seen)
            for each in flights
            if each.arrival_airport == AIRPORT and begin <= each.last_seen < end
        ]
    assert sorted((each.icao24, each.first_seen.seconds) for batch in published for each in batch.flights) == sorted(
        due
    )
