"""Leadership: whoever holds the single partition of `collections.requested.v1` schedules and collects.

Kafka's group protocol is the election; when the leader dies, its partition moves to another replica within the
session timeout. A leader that is cut off stops by itself before that: it collects only while the broker has confirmed
not long ago that the partition is its own. And one that stood still, and so could not even stop, is fenced by the
database: each leader begins a term there, and nothing of an earlier one is stored (`collector.leadership.terms`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from google.protobuf.message import DecodeError
from prometheus_client import Gauge

from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from collector.errors import DeposedError
from collector.leadership.terms import Term
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED

log = structlog.get_logger()

GROUP: Final = "collector"
EVERY_AIRPORT: Final = ""
"""In place of an airport, as in the contract."""

SESSION_S: Final = 10.0
"""After so long without a sign of life the broker gives the partition to another replica."""
OFFICE_S: Final = 8.0
"""So long after a confirmation a leader still collects; less than the session, which that confirmation renewed."""
CONFIRM_EVERY_S: Final = 2.0
AGAIN_S: Final = 0.5
"""The pause before a broker or a database that is away is asked again, or another term begins."""

Confirm = Callable[[], Awaitable[None]]
"""Asks the broker to confirm that the partition is held. Raises KafkaError where it is not, or cannot be asked."""


class Collector(Protocol):
    """What a leader does. Calls never overlap, but may be cancelled."""

    async def begin_term(self) -> Term:
        """Depose whoever collected before. Raises DatabaseAwayError."""
        ...

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Collect all that is due, of one airport or of all. Raises DeposedError."""
        ...


class _Office:
    """The time from the assignment of the partition to its revocation: of one term, or of several or none.

    In a term everything is collected at once, then on schedule and on request.
    """

    def __init__(self, collector: Collector, confirm: Confirm, poll_interval_s: float, leading: Gauge) -> None:
        self._collector = collector
        self._confirm = confirm
        self._poll_interval_s = poll_interval_s
        self._leading = leading
        self._requested: set[str] = set()
        self._woken = asyncio.Event()
        self._task = asyncio.create_task(self._lead())

    async def request(self, airport: str) -> None:
        """Note a wish, without waiting for it; wishes for the same airport that wait are one."""
        self._requested.add(airport)
        self._woken.set()

    async def end(self) -> None:
        """Stop collecting, also in the midst of it: nothing that is half done has been stored."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _lead(self) -> None:
        while True:
            confirmed_at = await self._confirmed_before(None)
            try:
                term = await self._collector.begin_term()
                await self._serve(term, confirmed_at)
            except DatabaseUnavailableError:
                log.warning("leadership.without_database")
            await asyncio.sleep(AGAIN_S)

    async def _confirmed_before(self, deadline: float | None) -> float | None:
        """Ask for a confirmation until there is one, or the deadline has passed (None). Returns when it was asked for.

        Instants are of `time.monotonic`, which is also the time of the event loop.
        """
        while deadline is None or time.monotonic() < deadline:
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout_at(min(asked_at + OFFICE_S, deadline or asked_at + OFFICE_S)):
                    await self._confirm()
            except (KafkaError, TimeoutError) as error:
                log.warning("leadership.not_confirmed", error=type(error).__name__)
                await asyncio.sleep(AGAIN_S)
            else:
                return asked_at
        return None

    async def _serve(self, term: Term, confirmed_at: float | None) -> None:
        """Serve a term until it is not confirmed any more, or another collector has begun one."""
        log.info("leadership.taken", term=term)
        scheduler = AsyncIOScheduler(timezone="UTC")
        scheduler.add_job(
            self.request, "interval", args=[EVERY_AIRPORT], seconds=self._poll_interval_s, coalesce=True,
            misfire_grace_time=None,
        )  # fmt: skip
        self._leading.set(1)
        await self.request(EVERY_AIRPORT)  # what the leader before has left
        work = asyncio.create_task(self._collect_what_is_requested(term))
        scheduler.start()
        try:
            while confirmed_at is not None and not work.done():
                await asyncio.wait({work}, timeout=CONFIRM_EVERY_S)
                confirmed_at = await self._confirmed_before(confirmed_at + OFFICE_S)
        finally:
            log.info("leadership.given_up", term=term)
            self._leading.set(0)
            scheduler.shutdown(wait=False)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _collect_what_is_requested(self, term: Term) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            requested, self._requested = self._requested, set()
            for airport in [EVERY_AIRPORT] if EVERY_AIRPORT in requested else sorted(requested):
                try:
                    await self._collector.collect(term, airport or None)
                except DeposedError as error:
                    log.warning("leadership.deposed", term=term, reason=str(error))
                    return
                except Exception as error:  # whatever it was, the next collection must not miss its leader
                    log.error("collection.unexpected_error", error=type(error).__name__, exc_info=error)


class Leadership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Takes part in the election, and while leading collects."""

    def __init__(self, collector: Collector, bootstrap_servers: str, poll_interval_s: float, metrics: Metrics) -> None:
        """`poll_interval_s`: real seconds between scheduled collections."""
        self._collector = collector
        self._bootstrap_servers = bootstrap_servers
        self._poll_interval_s = poll_interval_s
        self._leading = metrics.gauge("collector_leader", "1 while this replica collects").labels()
        self._consumer: AIOKafkaConsumer | None = None
        self._office: _Office | None = None

    async def run(self) -> None:
        """Take part until cancelled. The topic must be there. Raises KafkaError when the broker goes away at the start.

        Collections run beside this loop, which reads on: a consumer that does not is expelled from its group.
        """
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=GROUP,
            session_timeout_ms=int(SESSION_S * 1000),
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
                if self._office is not None:  # else the next leader begins with everything
                    await self._office.request(requested.airport)
        finally:
            await self._step_down()
            await consumer.stop()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        if assigned and self._office is None:
            self._office = _Office(self._collector, self._confirm, self._poll_interval_s, self._leading)

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        if revoked:
            await self._step_down()

    async def _confirm(self) -> None:
        """Commit the position: the broker accepts that of the group's present member alone, and renews its session."""
        consumer = self._consumer
        if consumer is not None:
            for partition in consumer.assignment():
                await consumer.commit({partition: await consumer.position(partition)})

    async def _step_down(self) -> None:
        if self._office is not None:
            office, self._office = self._office, None
            await office.end()
