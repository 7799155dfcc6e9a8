"""Leader election: the replica that owns the single partition of `collections.requested.v1` is the leader and collects.

Kafka's group protocol is the election: when the leader dies, its partition moves to another replica within the session
timeout. A leader that loses its connection stops by itself before that: it collects only while the broker's last
confirmation that it owns the partition is recent. A leader that was paused, and so could not even stop, is fenced by
the database: each leader begins a term there, and no transaction of an earlier term commits
(`collector.leadership.terms`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from apscheduler.executors.debug import DebugExecutor
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from google.protobuf.message import DecodeError
from prometheus_client import Gauge

from chassis.errors import DatabaseUnavailableError
from chassis.kafka_options import load_client_options
from chassis.metrics import Metrics
from collector.errors import SupersededError
from collector.leadership.terms import Term
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED

log = structlog.get_logger()

GROUP: Final = "collector"
"""Kafka consumer group of all replicas."""
EVERY_AIRPORT: Final = ""
"""Value of the airport, in a request, that means all airports; as in the contract."""

SESSION_S: Final = 10.0
"""Kafka's session timeout: after this time without a heartbeat the broker assigns the partition to another replica."""
CONFIRMATION_VALID_S: Final = 8.0
"""Time for which a leader collects after a confirmation; less than the session, which that confirmation renewed."""
CONFIRM_EVERY_S: Final = 2.0
"""Pause between two confirmations."""
RETRY_PAUSE_S: Final = 0.5
"""Pause before a retry after the broker or the database was unavailable, and before the next term."""

ConfirmOwnership = Callable[[], Awaitable[None]]
"""A request to the broker to confirm that this replica owns the partition.

Raises KafkaError if another replica owns it, or if the broker is unavailable.
"""


class Collector(Protocol):
    """The collector that the leader runs: it begins a term, then collects what is due again and again.

    Calls of `collect` never overlap, but may be cancelled.
    """

    async def begin_term(self) -> Term:
        """Begin a new term, which supersedes all earlier ones. Raises DatabaseUnavailableError."""
        ...

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Collect all intervals that are due, of one airport or of all (None). Raises SupersededError."""
        ...


class LiveWork(Protocol):
    """The part of a leader's work that goes on for the whole term, beside the collection of what is due."""

    async def collect_live(self, term: Term) -> None:
        """Work until cancelled. Raises SupersededError."""
        ...


class _LeaderSession:
    """A leader's session, from the assignment of the partition to its revocation: it serves one term after another.

    Its task starts at construction. In each term it collects all airports at once, then on schedule and on request.
    When a term ends because it was not confirmed or was superseded, the next begins once the broker confirms the
    ownership. The session ends with `stop`.
    """

    def __init__(
        self,
        collector: Collector,
        confirm_ownership: ConfirmOwnership,
        poll_interval_s: float,
        leading: Gauge,
        live: LiveWork | None = None,
    ) -> None:
        self._collector = collector
        self._live = live
        self._confirm_ownership = confirm_ownership
        self._poll_interval_s = poll_interval_s
        self._leading = leading
        self._requested: set[str] = set()
        self._has_requests = asyncio.Event()
        self._task = asyncio.create_task(self._serve_terms())

    def request_collection(self, airport: str) -> None:
        """Add a request for an airport (EVERY_AIRPORT: for all) to the waiting requests, and return at once.

        Duplicates are dropped. The requests are kept until a term serves them.
        """
        self._requested.add(airport)
        self._has_requests.set()

    async def stop(self) -> None:
        """Cancel the running collection, if any, and end the session.

        The interval in progress is stored as a whole or not at all.
        """
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _serve_terms(self) -> None:
        """Wait for a confirmation of ownership, begin a term and serve it to its end; repeat until cancelled.

        If the database is unavailable, that is logged. A pause of RETRY_PAUSE_S comes before each repetition.
        """
        while True:
            confirmed_at = await self._wait_for_confirmation(None)
            try:
                term = await self._collector.begin_term()
                await self._serve_term(term, confirmed_at)
            except DatabaseUnavailableError:
                log.warning("leadership.without_database")
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _wait_for_confirmation(self, deadline: float | None) -> float | None:
        """Retry until the broker confirms the ownership. Return the time at which that confirmation was requested.

        Return None if the deadline passes first; with `deadline` None it retries for ever. Each failure or timeout
        (CONFIRMATION_VALID_S) is logged. Times are of `time.monotonic`, which is also the time of the event loop.
        """
        while deadline is None or time.monotonic() < deadline:
            requested_at = time.monotonic()
            timeout_at = requested_at + CONFIRMATION_VALID_S
            try:
                async with asyncio.timeout_at(min(timeout_at, deadline or timeout_at)):
                    await self._confirm_ownership()
            except (KafkaError, TimeoutError) as error:
                log.warning("leadership.not_confirmed", error=type(error).__name__)
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return requested_at
        return None

    async def _serve_term(self, term: Term, confirmed_at: float | None) -> None:
        """Collect at once, then on schedule and on request, until the term ends; do the live work all the time.

        The term ends when the last confirmation of ownership has expired, or another collector has begun a newer term;
        a running collection and the live work are cancelled then. A confirmation is requested every CONFIRM_EVERY_S.
        The gauge of the leader is 1 during the term. `confirmed_at`: the time of the last confirmation, of
        `time.monotonic`.
        """
        log.info("leadership.taken", term=term)
        # Requests are added within the scheduler's own turn of the loop: as a task of its own, a request could be
        # cancelled by the end of the term, and would be logged as a job that failed.
        scheduler = AsyncIOScheduler(timezone="UTC", executors={"default": DebugExecutor()})
        scheduler.add_job(
            self.request_collection, "interval", args=[EVERY_AIRPORT], seconds=self._poll_interval_s, coalesce=True,
            misfire_grace_time=None,
        )  # fmt: skip
        self._leading.set(1)
        self.request_collection(EVERY_AIRPORT)  # what the leader before has left
        work = {asyncio.create_task(self._collect_requested(term))}
        if self._live is not None:
            work.add(asyncio.create_task(self._collect_live(self._live, term)))
        scheduler.start()
        try:
            while confirmed_at is not None and not any(task.done() for task in work):
                await asyncio.wait(work, timeout=CONFIRM_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                confirmed_at = await self._wait_for_confirmation(confirmed_at + CONFIRMATION_VALID_S)
        finally:
            log.info("leadership.given_up", term=term)
            self._leading.set(0)
            scheduler.shutdown(wait=False)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _collect_live(self, live: LiveWork, term: Term) -> None:
        """Do the live work; return once another collector has begun a newer term. Unexpected errors are logged."""
        while True:
            try:
                await live.collect_live(term)
            except SupersededError as error:
                log.warning("leadership.deposed", term=term, reason=str(error))
                return
            except Exception as error:  # whatever it was, the live work must go on
                log.error("live.unexpected_error", error=type(error).__name__, exc_info=error)
            await asyncio.sleep(RETRY_PAUSE_S)

    async def _collect_requested(self, term: Term) -> None:
        """Collect each requested airport, one after the other; return once another collector has begun a newer term.

        A request for all airports replaces the other waiting requests. Unexpected errors are logged, and the next
        airport follows.
        """
        while True:
            await self._has_requests.wait()
            self._has_requests.clear()
            requested, self._requested = self._requested, set()
            for airport in [EVERY_AIRPORT] if EVERY_AIRPORT in requested else sorted(requested):
                try:
                    await self._collector.collect(term, airport or None)
                except SupersededError as error:
                    log.warning("leadership.deposed", term=term, reason=str(error))
                    return
                except Exception as error:  # whatever it was, the next collection must not miss its leader
                    log.error("collection.unexpected_error", error=type(error).__name__, exc_info=error)


class LeaderElection(ConsumerRebalanceListener):  # type: ignore[misc]
    """One replica's part in the leader election: a Kafka consumer with a leader session while it owns the partition.

    The session collects. The records of the topic are the requests for a collection.
    """

    def __init__(
        self,
        collector: Collector,
        bootstrap_servers: str,
        poll_interval_s: float,
        metrics: Metrics,
        live: LiveWork | None = None,
    ) -> None:
        """`poll_interval_s`: real seconds between scheduled collections. `live`: what a term does beside them."""
        self._collector = collector
        self._live = live
        self._bootstrap_servers = bootstrap_servers
        self._poll_interval_s = poll_interval_s
        self._leading = metrics.gauge("collector_leader", "1 while this replica collects").labels()
        self._consumer: AIOKafkaConsumer | None = None
        self._session: _LeaderSession | None = None

    async def run(self) -> None:
        """Take part in the election until cancelled, and pass the topic's collection requests to the leader session.

        The topic must exist. Requests read while this replica is not the leader, and undecodable ones, are dropped. The
        session and the consumer are stopped at the end. Raises KafkaError if the broker becomes unavailable at the
        start. Collections run in another task than this loop, which continues to read: the broker
        expels a consumer that does not.
        """
        self._consumer = consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap_servers,
            group_id=GROUP,
            session_timeout_ms=int(SESSION_S * 1000),
            heartbeat_interval_ms=2_000,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=2_000,  # a request comes at once; without one, this is how often the broker is asked
            # The leader session commits, as its confirmation. aiokafka's own last commit would be repeated without end
            # while no broker answers, and `consumer.stop` would wait for it.
            enable_auto_commit=False,
            **load_client_options(),
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
                if self._session is not None:  # else the next leader begins with all airports
                    self._session.request_collection(requested.airport)
        finally:
            await self._stop_session()
            await consumer.stop()

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        """Begin a leader session if this replica now owns the partition and has no session yet."""
        if assigned and self._session is None:
            self._session = _LeaderSession(
                self._collector, self._commit_positions, self._poll_interval_s, self._leading, self._live
            )

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """End the leader session, and wait for its end, if this replica has lost the partition."""
        if revoked:
            await self._stop_session()

    async def _commit_positions(self) -> None:
        """Commit the offset of the owned partition, as a confirmation of its ownership.

        The broker accepts a commit only from a current member of the group, and the commit renews the member's session.
        The offset itself is the position up to which requests were read. Does nothing if no partition is owned. Raises
        KafkaError.
        """
        consumer = self._consumer
        if consumer is not None:
            for partition in consumer.assignment():
                await consumer.commit({partition: await consumer.position(partition)})

    async def _stop_session(self) -> None:
        """End the leader session, if there is one: cancel its collection, and wait until it has ended."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.stop()
