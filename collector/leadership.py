"""Leadership: whoever holds the single partition of `collections.requested.v1` schedules and collects.

Kafka's group protocol is the election; when the leader dies, its partition moves to another replica within the
session timeout. Should two collect at once all the same, the cursor in the database lets only one of them store.
"""

import asyncio
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from google.protobuf.message import DecodeError

from chassis.metrics import Metrics
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED

log = structlog.get_logger()

GROUP: Final = "collector"
EVERY_AIRPORT: Final = ""
"""In place of an airport, as in the contract."""


class Collector(Protocol):
    """What a leader does. Calls never overlap, but may be cancelled."""

    async def collect(self, airport: str | None = None) -> None:
        """Collect all that is due, of one airport or of all."""
        ...


class _Term:
    """A term of office, from its making to `end`: collects everything at once, then on schedule and on request."""

    def __init__(self, collector: Collector, poll_interval_s: float) -> None:
        self._collector = collector
        self._requested = {EVERY_AIRPORT}  # what the leader before has left
        self._woken = asyncio.Event()
        self._woken.set()
        self._work = asyncio.create_task(self._collect_what_is_requested())
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._scheduler.add_job(
            self.request, "interval", args=[EVERY_AIRPORT], seconds=poll_interval_s, coalesce=True,
            misfire_grace_time=None,
        )  # fmt: skip
        self._scheduler.start()

    async def request(self, airport: str) -> None:
        """Note a wish, without waiting for it; wishes for the same airport that wait are one."""
        self._requested.add(airport)
        self._woken.set()

    async def _collect_what_is_requested(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            requested, self._requested = self._requested, set()
            for airport in [EVERY_AIRPORT] if EVERY_AIRPORT in requested else sorted(requested):
                try:
                    await self._collector.collect(airport or None)
                except Exception as error:  # whatever it was, the next collection must not miss its leader
                    log.error("collection.unexpected_error", error=type(error).__name__, exc_info=error)

    async def end(self) -> None:
        """Stop collecting, also in the midst of it: nothing that is half done has been stored."""
        self._scheduler.shutdown(wait=False)
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)


class Leadership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Takes part in the election, and while leading collects."""

    def __init__(self, collector: Collector, bootstrap_servers: str, poll_interval_s: float, metrics: Metrics) -> None:
        """`poll_interval_s`: real seconds between scheduled collections."""
        self._collector = collector
        self._bootstrap_servers = bootstrap_servers
        self._poll_interval_s = poll_interval_s
        self._leader = metrics.gauge("collector_leader", "1 while this replica collects").labels()
        self._term: _Term | None = None

    async def run(self) -> None:
        """Take part until cancelled. The topic must be there. Raises KafkaError when the broker goes away at the start.

        Collections run beside this loop, which reads on: a consumer that does not is expelled from its group.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=GROUP,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            consumer.subscribe([COLLECTIONS_REQUESTED.name], listener=self)
            async for message in consumer:
                try:
                    requested = CollectionRequested.FromString(message.value or b"")
                except DecodeError:
                    log.warning("collection.undecodable_request", offset=message.offset)
                    continue
                if self._term is not None:  # else the next leader begins with everything
                    await self._term.request(requested.airport)
        finally:
            await self._step_down()
            await consumer.stop()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        if assigned and self._term is None:
            log.info("leadership.taken")
            self._leader.set(1)
            self._term = _Term(self._collector, self._poll_interval_s)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        if revoked:
            await self._step_down()

    async def _step_down(self) -> None:
        self._leader.set(0)
        if self._term is not None:
            log.info("leadership.given_up")
            term, self._term = self._term, None
            await term.end()
