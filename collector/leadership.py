"""Leadership: whoever holds the single partition of `collections.requested.v1` schedules and collects.

Kafka's group protocol is the election; when the leader dies, its partition moves to another replica within the
session timeout. Should two collect at once all the same, the cursor in the database lets only one of them store.
"""

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from google.protobuf.message import DecodeError
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import CATALOGUE, COLLECTIONS_REQUESTED

from chassis.kafka import topics_made
from chassis.metrics import Metrics
from collector.collection import Collection

log = structlog.get_logger()

GROUP = "collector"


class Leadership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Takes part in the election, and while leading collects on schedule and on request."""

    def __init__(
        self,
        collection: Collection,
        bootstrap_servers: str,
        replication_factor: int,
        poll_interval_s: float,
        metrics: Metrics,
    ) -> None:
        """`poll_interval_s`: real seconds between scheduled collections."""
        self._collection = collection
        self._bootstrap_servers = bootstrap_servers
        self._replication_factor = replication_factor
        self._poll_interval_s = poll_interval_s
        self._leader = metrics.gauge("collector_leader", "1 while this replica collects").labels()
        self._scheduler: AsyncIOScheduler | None = None

    async def run(self) -> None:
        """Take part until cancelled."""
        await topics_made(self._bootstrap_servers, CATALOGUE, self._replication_factor)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=GROUP,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        try:
            consumer.subscribe([COLLECTIONS_REQUESTED.name], listener=self)
            async for message in consumer:
                try:
                    airport = CollectionRequested.FromString(message.value or b"").airport
                except DecodeError:
                    log.warning("collection.undecodable_request", offset=message.offset)
                    continue
                await self._collection.collect(airport or None)
        finally:
            self._step_down()
            await consumer.stop()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        if assigned and self._scheduler is None:
            log.info("leadership.taken")
            self._leader.set(1)
            self._scheduler = AsyncIOScheduler(timezone="UTC")
            self._scheduler.add_job(
                self._collection.collect,
                "interval",
                seconds=self._poll_interval_s,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
            self._scheduler.start()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        if revoked:
            self._step_down()

    def _step_down(self) -> None:
        self._leader.set(0)
        if self._scheduler is not None:
            log.info("leadership.given_up")
            self._scheduler.shutdown(wait=False)
            self._scheduler = None
