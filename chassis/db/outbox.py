"""The transactional outbox: an event is committed together with the change that it reports, and published afterwards.

There are three steps, each safe to repeat (a crash between them duplicates a record, with the same sequence; no record
is skipped):

1. A use case calls `Outbox.add` inside its own transaction.
2. The relay assigns a sequence to the oldest rows, in a transaction of its own. The sequence is not the row's id: ids
   are assigned in another order than transactions commit, and a row that commits late would look like a duplicate.
3. The relay publishes in the order of the sequence, waits for the broker's acknowledgement, and deletes the rows.

Replicas share the outbox: a lease in the counter's row lets one relay work at a time. A relay has no request in flight
when its lease ends: it checks the time before it sends, and stops waiting for what is not acknowledged in time.

One case remains: if the process is frozen at that moment, or a request is in the queue of a frozen broker, a record may
be published once more after another relay has published it. Readers drop the duplicate by its sequence; but compaction
keeps the last value of a key, even if it is a late duplicate. The lease uses wall-clock time: if the clocks of replicas
differ by some seconds, the lease is shorter by so much.
"""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NewType

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.db.database import TABLE_OPTIONS, Database
from chassis.errors import ChassisError, DatabaseUnavailableError
from chassis.kafka import SEQUENCE_HEADER
from chassis.metrics import Metrics
from chassis.periodic import run_periodically

log = structlog.get_logger()

Sequence = NewType("Sequence", int)

MAX_ROUND_ROWS = 500
"""The most rows that one round of the relay publishes."""

LEASE_S = 15.0
"""Seconds until the lease of a relay ends that does not renew it."""

REQUEST_TIMEOUT_S = 4.0
"""Seconds until a request to the broker counts as failed, and is sent again if there is time."""

ROUND_TIMEOUT_S = LEASE_S - REQUEST_TIMEOUT_S - 1.0
"""Seconds from its beginning until a round is aborted; a request in flight then ends before the lease does."""

LAST_SEND_AFTER_S = ROUND_TIMEOUT_S - REQUEST_TIMEOUT_S
"""Seconds from its beginning after which a round sends no more batches, and leaves the rest to the next round."""

MEASURE_EVERY_S = 2.0
"""Seconds between measurements of the backlog; counting reads the whole index."""

IDLE_PAUSE_S = 0.05
"""Seconds that the relay pauses when the outbox is empty: the longest time until a new event is found."""

FAILURE_PAUSE_S = 1.0
"""Seconds that the relay pauses after a failure; doubled each time that the broker is unavailable."""

MAX_FAILURE_PAUSE_S = 10.0

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite assigns ids only to INTEGER keys
_BYTES = LargeBinary(1 << 24)  # LONGBLOB on MySQL, whose plain BLOB ends at 64 KiB


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """An event to publish: a record's topic, partition, key and value. `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class SequencedMessage:
    """A message with its sequence, which never changes: the relay publishes in the order of the sequences."""

    sequence: Sequence
    message: OutboxMessage


@dataclass(frozen=True, slots=True)
class Backlog:
    """The size and age of the events that are not published yet."""

    events: int
    oldest_age_s: float
    """Seconds since the oldest event was added to the outbox; 0 if the outbox is empty."""


class LeaseEndingError(ChassisError):
    """The lease may end before the broker answers another batch; the next round renews the lease and sends the rest."""

    transient = True


class Outbox:
    """The outbox tables of one service's schema, and the statements on them, each in a transaction of its caller.

    Use cases call `add`; the relay calls `claim_messages`, `delete_published` and `release_lease`.
    """

    def __init__(self, schema: MetaData) -> None:
        """Add the two tables, `outbox` and `outbox_relay`, to the service's schema."""
        self.rows = Table(
            "outbox",
            schema,
            Column("id", _ID, primary_key=True, autoincrement=True),
            Column("sequence", BigInteger, unique=True, nullable=True),
            Column("topic", String(249), nullable=False),
            Column("partition", Integer, nullable=False),
            Column("key", LargeBinary(512), nullable=False),
            Column("value", _BYTES, nullable=True),
            Column("added_at", Float(53), nullable=True),  # seconds since the epoch; for the metric alone
            **TABLE_OPTIONS,
        )
        self.relay = Table(
            "outbox_relay",
            schema,
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("next_sequence", BigInteger, nullable=False),
            Column("owner", String(36), nullable=True),
            Column("leased_until", Float(53), nullable=False),
            **TABLE_OPTIONS,
        )

    def add(self, session: Session, messages: Iterable[OutboxMessage]) -> None:
        """Add events to the outbox in the caller's transaction; the relay publishes them after its commit.

        Events of one call are published in this order. They get no sequence yet. Nothing is done without events.
        """
        now = time.time()
        rows = [
            {"topic": m.topic, "partition": m.partition, "key": m.key, "value": m.value, "added_at": now}
            for m in messages
        ]
        if rows:
            session.execute(insert(self.rows), rows)

    def count_unpublished(self, session: Session) -> int:
        """Return how many events are not published yet."""
        return session.scalar(select(func.count()).select_from(self.rows)) or 0

    def measure_backlog(self, session: Session, now: float) -> Backlog:
        """Return how many events are not published yet, and the oldest one's age at `now` (seconds since the epoch)."""
        oldest = session.scalar(select(self.rows.c.added_at).order_by(self.rows.c.id).limit(1))
        return Backlog(self.count_unpublished(session), 0.0 if oldest is None else max(now - oldest, 0.0))

    def claim_messages(self, session: Session, owner: str, now: float) -> list[SequencedMessage]:
        """Take or renew the lease, assign sequences to the oldest rows, and return these messages in that order.

        At most 500 messages are returned. Rows that already have a sequence are returned alone: they are a round that
        did not end, to be repeated unchanged. Return an empty list, and do nothing, if the outbox is empty or another
        relay holds the lease. The lease's row is locked until the end of the transaction; in a new database it is
        inserted, with a first sequence made of the time. `now` is in seconds since the epoch.
        """
        if session.scalar(select(self.rows.c.id).limit(1)) is None:
            return []
        relay = session.execute(select(self.relay).with_for_update()).one_or_none()
        if relay is None:
            # A new database starts above any sequence that an earlier database, now lost, can have published.
            relay_row = {"id": 1, "next_sequence": int(now * 1_000_000), "owner": None, "leased_until": 0.0}
            session.execute(insert(self.relay), relay_row)
            relay = session.execute(select(self.relay).with_for_update()).one()
        if relay.owner != owner and relay.leased_until > now:
            return []
        numbered = self._load_sequenced(session)
        next_sequence = relay.next_sequence
        if not numbered:
            # No row has a sequence now. A condition "sequence is null" would make MySQL read and sort all rows.
            ids = session.scalars(select(self.rows.c.id).order_by(self.rows.c.id).limit(MAX_ROUND_ROWS)).all()
            if ids:
                session.connection().execute(
                    update(self.rows).where(self.rows.c.id == bindparam("row")).values(sequence=bindparam("number")),
                    [{"row": row, "number": next_sequence + index} for index, row in enumerate(ids)],
                )
            next_sequence += len(ids)
            numbered = self._load_sequenced(session)
        session.execute(update(self.relay).values(owner=owner, leased_until=now + LEASE_S, next_sequence=next_sequence))
        return numbered

    def _load_sequenced(self, session: Session) -> list[SequencedMessage]:
        """Return the rows that have a sequence as messages, in the order of their sequences; at most 500."""
        # The condition is a range, because for "is not null" SQLite would read all rows with null first.
        rows = session.execute(
            select(self.rows).where(self.rows.c.sequence >= 0).order_by(self.rows.c.sequence).limit(MAX_ROUND_ROWS)
        )
        return [
            SequencedMessage(Sequence(r.sequence), OutboxMessage(r.topic, r.partition, r.key, r.value)) for r in rows
        ]

    def delete_published(self, session: Session, published: Iterable[SequencedMessage]) -> None:
        """Delete the rows of messages that the broker has acknowledged, by their sequences; missing rows are ignored.

        A sequence is assigned only once, while SQLite reuses the ids of deleted rows: a relay that stalled and lost its
        lease would delete unpublished events by their ids.
        """
        sequences = [message.sequence for message in published]
        session.execute(delete(self.rows).where(self.rows.c.sequence.in_(sequences)))

    def release_lease(self, session: Session, owner: str) -> None:
        """End this owner's lease, so that the next relay need not wait for its end.

        Nothing changes if another owner has the lease.
        """
        session.execute(update(self.relay).where(self.relay.c.owner == owner).values(owner=None, leased_until=0.0))


class OutboxRelay:
    """The relay that publishes one service's outbox to Kafka and deletes the published rows.

    Every replica runs one, with an owner id of its own, and the lease lets one of them work at a time. Metrics show the
    backlog and the published events.
    """

    def __init__(self, database: Database, outbox: Outbox, bootstrap_servers: str, metrics: Metrics) -> None:
        self._database = database
        self._outbox = outbox
        self._bootstrap_servers = bootstrap_servers
        self._owner = str(uuid.uuid4())
        self._backlog = metrics.gauge("outbox_backlog", "Events that wait to be published").labels()
        self._age = metrics.gauge("outbox_oldest_age_seconds", "Age of the oldest event that waits").labels()
        self._published = metrics.counter("outbox_published_total", "Events published", "topic")

    async def run(self) -> None:
        """Publish the outbox, and measure its backlog every 2 s, until cancelled; then release the lease.

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
        try:
            while True:
                # After a fatal error an idempotent producer rejects all further records: create a new one.
                producer = _create_producer(self._bootstrap_servers)
                try:
                    await producer.start()
                    pause = FAILURE_PAUSE_S
                    await self._publish_until_error(producer)
                except (KafkaError, OSError) as error:
                    log.warning("outbox.not_published", error=type(error).__name__, again_in_s=pause)
                finally:
                    await _stop_producer(producer)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_FAILURE_PAUSE_S)
        finally:
            await asyncio.to_thread(self._release_lease)

    async def _publish_until_error(self, producer: AIOKafkaProducer) -> None:
        """Run rounds without end, with pauses of 50 ms when there was nothing to publish and 1 s without the database.

        A round that its lease is too short for is logged and continued by the next one. Raises KafkaError when the
        broker fails, TimeoutError when a round takes too long.
        """
        while True:
            try:
                had_messages = await self._run_round(producer)
            except LeaseEndingError:
                log.warning("outbox.round_too_long", lease_s=LEASE_S)
            except DatabaseUnavailableError:
                await asyncio.sleep(FAILURE_PAUSE_S)
            else:
                if not had_messages:
                    await asyncio.sleep(IDLE_PAUSE_S)

    async def _run_round(self, producer: AIOKafkaProducer) -> bool:
        """Claim the next messages, publish them within the lease, then delete their rows and count them in the metric.

        Return True if there were messages, False if the outbox is empty or another relay holds the lease. Raises
        KafkaError, TimeoutError, LeaseEndingError, DatabaseUnavailableError.
        """
        began = time.monotonic()  # the lease that the claim renews begins later than this
        claimed = await asyncio.to_thread(self._claim_messages)
        if not claimed:
            return False
        async with asyncio.timeout(began + ROUND_TIMEOUT_S - time.monotonic()):
            await publish(producer, claimed, began + LAST_SEND_AFTER_S)
        await asyncio.to_thread(self._delete_published, claimed)
        for sequenced in claimed:
            self._published.labels(topic=sequenced.message.topic).inc()
        return True

    def _claim_messages(self) -> list[SequencedMessage]:
        """Claim the next messages in a transaction of its own. Return an empty list if there are none to publish.

        The list is empty, too, if another replica inserts the lease's row at the same time. Raises
        DatabaseUnavailableError.
        """
        try:
            with self._database.transaction() as session:
                return self._outbox.claim_messages(session, self._owner, time.time())
        except IntegrityError:
            return []  # another replica inserted the relay's row at the same time; the next round finds the row

    def _update_backlog_metrics(self) -> None:
        """Measure the backlog in the database, and set the gauges of its size and age."""
        with self._database.reading() as session:
            backlog = self._outbox.measure_backlog(session, time.time())
        self._backlog.set(backlog.events)
        self._age.set(backlog.oldest_age_s)

    def _delete_published(self, published: list[SequencedMessage]) -> None:
        """Delete published messages in a transaction of its own. Raises DatabaseUnavailableError."""
        with self._database.transaction() as session:
            self._outbox.delete_published(session, published)

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
