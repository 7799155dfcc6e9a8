"""The relay of the outbox, which publishes its events to Kafka and then deletes them.

A relay has no request in flight when its lease ends: it checks the time before it sends, and stops waiting for what is
not acknowledged in time. One case remains: if the process is frozen at that moment, or a request is in the queue of a
frozen broker, a record may be published once more after another relay has published it. Readers drop the duplicate by
its sequence; but compaction keeps the last value of a key, even if it is a late duplicate.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from enum import Enum, auto
from typing import assert_never

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from sqlalchemy.exc import IntegrityError

from chassis.db.database import Database
from chassis.db.outbox import LEASE_S, LeaseWatch, Outbox, SequencedMessage
from chassis.errors import ChassisError, DatabaseUnavailableError
from chassis.kafka import SEQUENCE_HEADER
from chassis.kafka_options import load_client_options
from chassis.metrics import Metrics
from chassis.periodic import run_periodically

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 4.0
"""Seconds until a request to the broker counts as failed, and is sent again if there is time."""

ROUND_TIMEOUT_S = LEASE_S - REQUEST_TIMEOUT_S - 1.0
"""Seconds from its beginning until a round is aborted; a request in flight then ends before the lease does."""

LAST_SEND_AFTER_S = ROUND_TIMEOUT_S - REQUEST_TIMEOUT_S
"""Seconds from its beginning after which a round sends no more batches, and leaves the rest to the next round."""

MEASURE_EVERY_S = 5.0
"""Seconds between measurements of the backlog; counting reads the whole index."""

IDLE_LOOK_S = 2.0
"""Seconds after which the relay polls an empty outbox: a process that ended may have left events in it.

Nothing else needs the poll: each commit wakes the relay of its own replica at once.
"""

LEASE_POLL_S = 0.05
"""Seconds that the relay pauses while there are events and another relay has the lease."""

FAILURE_PAUSE_S = 1.0
"""Seconds that the relay pauses after a failure; doubled each time that the broker is unavailable."""

MAX_FAILURE_PAUSE_S = 10.0


class LeaseEndingError(ChassisError):
    """The lease may end before the broker answers another batch; the next round renews the lease and sends the rest."""

    transient = True


class UnknownLogError(ChassisError):
    """The log is not the one that was published to before; nothing is published until it is written anew."""

    transient = True


class _Round(Enum):
    """The result of one round of the relay: the state of the outbox that it has found."""

    PUBLISHED = auto()
    """Events, which are published now; there may be more."""
    EMPTY = auto()
    """No event that may be published."""
    LEASED = auto()
    """Events, and the lease of another relay."""


class OutboxRelay:
    """The relay that publishes one service's outbox to Kafka and deletes the published rows.

    Every replica runs one, with an owner id of its own, and the lease lets one of them work at a time. Each commit of
    the replica wakes its relay. A relay gives the lease back as soon as the outbox is empty, so that the next one that
    is woken, on any replica, need not wait for the lease. Metrics show the backlog and the published events.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        bootstrap_servers: str,
        metrics: Metrics,
        is_log_known: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """`is_log_known`: asked before each round that publishes; while it returns False, nothing is published.

        It may raise KafkaError, OSError and DatabaseUnavailableError. None: any log is published to.
        """
        self._is_log_known = is_log_known
        self._database = database
        self._outbox = outbox
        self._bootstrap_servers = bootstrap_servers
        self._owner = str(uuid.uuid4())
        self._lease_watch = LeaseWatch()
        self._backlog = metrics.gauge("outbox_backlog", "Events that wait to be published").labels()
        self._age = metrics.gauge("outbox_oldest_age_seconds", "Age of the oldest event that waits").labels()
        self._published = metrics.counter("outbox_published_total", "Events published", "topic")

    async def run(self) -> None:
        """Publish the outbox, and measure its backlog every 5 s, until cancelled; then release the lease.

        While the database or the broker is unavailable the relay waits, and loses nothing. Other errors are raised in
        an ExceptionGroup.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_periodically(MEASURE_EVERY_S, self._update_backlog_metrics, "outbox.measure"))
            tasks.create_task(self._run_relay())

    async def _run_relay(self) -> None:
        """Publish until cancelled, with a new producer after each error of Kafka; then release the lease.

        Errors of Kafka and of the network are logged; the pauses between producers double from 1 s to 10 s. Other
        errors are raised.
        """
        pause = FAILURE_PAUSE_S
        loop, woken = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            """Wake the relay, from any thread; do nothing if its event loop has ended meanwhile."""
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(woken.set)

        try:
            while True:
                # After a fatal error an idempotent producer rejects all further records: create a new one.
                producer = _create_producer(self._bootstrap_servers)
                try:
                    await producer.start()
                    pause = FAILURE_PAUSE_S
                    with self._outbox.listening(wake):
                        await self._publish_until_error(producer, woken)
                except (KafkaError, OSError) as error:
                    log.warning("outbox.not_published", error=type(error).__name__, again_in_s=pause)
                finally:
                    await _stop_producer(producer)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_FAILURE_PAUSE_S)
        finally:
            await asyncio.to_thread(self._release_lease)

    async def _publish_until_error(self, producer: AIOKafkaProducer, woken: asyncio.Event) -> None:
        """Run rounds without end; wait for `woken`, but no more than 2 s, when there was nothing to publish.

        Pauses 50 ms while another relay has the lease, and 1 s without the database or while the log is not known. A
        round that its lease is too short for is logged and continued by the next one. Raises KafkaError when the broker
        fails, TimeoutError when a round takes too long.
        """
        while True:
            woken.clear()  # before the round: a commit that the round may not see any more sets it again
            try:
                found = await self._run_round(producer)
            except LeaseEndingError:
                log.warning("outbox.round_too_long", lease_s=LEASE_S)
            except DatabaseUnavailableError:
                await asyncio.sleep(FAILURE_PAUSE_S)
            except UnknownLogError:
                log.warning("outbox.unknown_log", again_in_s=FAILURE_PAUSE_S)
                await asyncio.sleep(FAILURE_PAUSE_S)
            else:
                match found:
                    case _Round.PUBLISHED:
                        pass
                    case _Round.EMPTY:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(woken.wait(), IDLE_LOOK_S)
                    case _Round.LEASED:
                        await asyncio.sleep(LEASE_POLL_S)
                    case _:
                        assert_never(found)

    async def _run_round(self, producer: AIOKafkaProducer) -> _Round:
        """Claim the next messages, publish them within the lease, then delete their rows and count them in the metric.

        Return the state of the outbox. Raises KafkaError, TimeoutError, LeaseEndingError, DatabaseUnavailableError, and
        UnknownLogError before anything is published.
        """
        began = time.monotonic()  # the lease that the claim renews begins later than this
        claimed, found = await asyncio.to_thread(self._claim_messages)
        if not claimed:
            return found
        if self._is_log_known is not None and not await self._is_log_known():
            raise UnknownLogError("the log is not the one that was published to before")
        async with asyncio.timeout(began + ROUND_TIMEOUT_S - time.monotonic()):
            await publish(producer, claimed, began + LAST_SEND_AFTER_S)
        await asyncio.to_thread(self._end_round, claimed)
        for sequenced in claimed:
            self._published.labels(topic=sequenced.message.topic).inc()
        return found

    def _claim_messages(self) -> tuple[list[SequencedMessage], _Round]:
        """Claim the next messages in a transaction of its own; return them, and what this round finds if they are sent.

        The list is empty if there are none to publish, if another relay has the lease, or if another replica inserts
        the lease's row at the same time. Raises DatabaseUnavailableError.
        """
        try:
            with self._database.transaction() as session:
                claimed = self._outbox.claim_messages(
                    session, self._owner, time.time(), self._lease_watch, time.monotonic()
                )
                if claimed:
                    return claimed, _Round.PUBLISHED
                return [], _Round.LEASED if self._outbox.has_messages(session) else _Round.EMPTY
        except IntegrityError:
            return [], _Round.LEASED  # another replica inserted the relay's row at the same time

    def _update_backlog_metrics(self) -> None:
        """Measure the backlog in the database, and set the gauges of its size and age."""
        with self._database.reading() as session:
            backlog = self._outbox.measure_backlog(session, time.time())
        self._backlog.set(backlog.events)
        self._age.set(backlog.oldest_age_s)

    def _end_round(self, published: list[SequencedMessage]) -> None:
        """Delete published messages in a transaction of its own, which also ends the lease if none remain.

        Raises DatabaseUnavailableError.
        """
        with self._database.transaction() as session:
            self._outbox.end_round(session, self._owner, published)

    def _release_lease(self) -> None:
        """Release this relay's lease in a transaction of its own, or log that the database was unavailable."""
        try:
            with self._database.transaction() as session:
                self._outbox.release_lease(session, self._owner)
        except DatabaseUnavailableError:
            log.warning("outbox.lease_not_released", ends_in_s=LEASE_S)


def _create_producer(bootstrap_servers: str) -> AIOKafkaProducer:
    """Create an idempotent producer with acks=all, not yet started.

    A request without an answer fails after 4 s, and is retried without end.
    """
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        enable_idempotence=True,
        acks="all",
        max_batch_size=256 * 1024,
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
        **load_client_options(),
    )


async def _stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop a producer without sending its buffered batches; wait for a request in flight, at most REQUEST_TIMEOUT_S.

    By itself a producer first sends all buffered batches, even after the relay's lease has ended.
    """
    await producer._sender.close()
    await producer.stop()


async def publish(producer: AIOKafkaProducer, rows: Iterable[SequencedMessage], send_before: float) -> None:
    """Publish messages in order within each partition, and return once the broker has acknowledged all of them.

    The batches are built here, and a partition's next batch is sent only after the one before was acknowledged. With
    the producer's own buffer, a batch could overtake an earlier batch that timed out; readers, which drop every record
    that is not greater than the last sequence, would then lose the earlier batch.

    Partitions are published concurrently. No batch is sent after `send_before`, an instant of `time.monotonic`. After
    an error in one partition the others are finished first; then the first error is raised: KafkaError,
    LeaseEndingError.
    """
    partitions: dict[tuple[str, int], list[SequencedMessage]] = defaultdict(list)
    for row in rows:
        partitions[row.message.topic, row.message.partition].append(row)
    failures = await asyncio.gather(
        *(
            _publish_partition(producer, topic, number, queue, send_before)
            for (topic, number), queue in partitions.items()
        ),
        return_exceptions=True,  # so that no request is still in flight at the return
    )
    for failure in failures:
        if failure is not None:
            raise failure


async def _publish_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, queue: list[SequencedMessage], send_before: float
) -> None:
    """Publish the messages of one partition in order, each batch after the acknowledgement of the one before.

    Each record gets its sequence as a header. Raises KafkaError, or LeaseEndingError before a batch that would be sent
    after `send_before`; earlier batches are then published.
    """

    async def send(batch: BatchBuilder) -> None:
        if time.monotonic() > send_before:
            raise LeaseEndingError("the lease of the outbox may end before the next batch is published")
        await (await producer.send_batch(batch, topic, partition=partition))

    batch = producer.create_batch()
    for sequenced in queue:
        message = sequenced.message
        headers = [(SEQUENCE_HEADER, str(sequenced.sequence).encode("ascii"))]
        record = {"key": message.key, "value": message.value, "timestamp": None, "headers": headers}
        if batch.append(**record) is None:  # full
            await send(batch)
            batch = producer.create_batch()
            batch.append(**record)
    if batch.record_count():
        await send(batch)
