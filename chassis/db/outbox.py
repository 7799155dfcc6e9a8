"""The transactional outbox: an event commits with the change that it tells of, and is published after.

Three steps, each safe to repeat (a crash between them repeats a record, with the same sequence; none is skipped):

1. A use case calls `Outbox.add` inside its own transaction.
2. The relay gives the oldest rows their sequence, in a transaction of its own. The sequence is not the row's id:
   ids are handed out in another order than transactions commit, and the late one would look like a duplicate.
3. The relay publishes in the order of the sequence, waits for the broker, and deletes the rows.

Replicas share the outbox: a lease in the counter's row lets one relay work at a time. A relay has nothing in flight
when its lease ends: it looks at the clock before it sends, and what is not acknowledged in time is given up.

What remains: a process that is frozen just then, or a request that lies unread at a frozen broker, may publish once
more what a successor has published. Readers drop that by its sequence; but compaction keeps the last value of a key,
also a late one. The lease is by wall time: replicas whose clocks differ by seconds have so much less of it.
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
"""Rows that one round of the relay publishes."""

LEASE_S = 15.0
"""A relay that has not renewed for so long is taken for dead."""

REQUEST_TIMEOUT_S = 4.0
"""A request to the broker that is not answered within this is given up, and sent again if there is time."""

ROUND_TIMEOUT_S = LEASE_S - REQUEST_TIMEOUT_S - 1.0
"""So long after its beginning a round is given up; the request that is in flight then ends before the lease does."""

LAST_SEND_AFTER_S = ROUND_TIMEOUT_S - REQUEST_TIMEOUT_S
"""So long after its beginning a round sends no other batch, but leaves the rest to the next round."""

MEASURE_EVERY_S = 2.0
"""How often the backlog is measured: counting reads the whole index."""

IDLE_PAUSE_S = 0.05
"""How long the relay rests when the outbox is empty: what an event waits at most before it is seen."""

FAILURE_PAUSE_S = 1.0
"""How long the relay rests after a failure; twice as long each time that the broker cannot be reached."""

MAX_FAILURE_PAUSE_S = 10.0

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
_BYTES = LargeBinary(1 << 24)  # LONGBLOB on MySQL, whose plain BLOB ends at 64 KiB


@dataclass(frozen=True, slots=True)
class OutboxMessage:
    """One event to publish. `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class SequencedMessage:
    """A message that has its place: the relay publishes in this order and never changes the number."""

    sequence: Sequence
    message: OutboxMessage


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits to be published."""

    events: int
    oldest_age_s: float
    """Since the oldest of them was recorded; 0 where none waits."""


class LeaseEndingError(ChassisError):
    """Another batch might not be answered before the lease ends: the rest is for the next round, which renews it."""

    transient = True


class Outbox:
    """The outbox tables of one service's schema."""

    def __init__(self, schema: MetaData) -> None:
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
        """Record events in the caller's transaction; they are published once it has committed."""
        now = time.time()
        rows = [
            {"topic": m.topic, "partition": m.partition, "key": m.key, "value": m.value, "added_at": now}
            for m in messages
        ]
        if rows:
            session.execute(insert(self.rows), rows)

    def count_unpublished(self, session: Session) -> int:
        """Events that wait to be published."""
        return session.scalar(select(func.count()).select_from(self.rows)) or 0

    def measure_backlog(self, session: Session, now: float) -> Backlog:
        """The backlog at `now`, in seconds since the epoch."""
        oldest = session.scalar(select(self.rows.c.added_at).order_by(self.rows.c.id).limit(1))
        return Backlog(self.count_unpublished(session), 0.0 if oldest is None else max(now - oldest, 0.0))

    def claim_messages(self, session: Session, owner: str, now: float) -> list[SequencedMessage]:
        """The next rows to publish, in order, each with its sequence; empty when another relay is at work.

        Rows that were numbered before come first and alone: they are a crashed round, to be repeated as it was.
        """
        if session.scalar(select(self.rows.c.id).limit(1)) is None:
            return []
        relay = session.execute(select(self.relay).with_for_update()).one_or_none()
        if relay is None:
            # A new database begins above any sequence that an earlier one, now gone, can have published.
            relay_row = {"id": 1, "next_sequence": int(now * 1_000_000), "owner": None, "leased_until": 0.0}
            session.execute(insert(self.relay), relay_row)
            relay = session.execute(select(self.relay).with_for_update()).one()
        if relay.owner != owner and relay.leased_until > now:
            return []
        numbered = self._load_sequenced(session)
        next_sequence = relay.next_sequence
        if not numbered:
            # None has a number now; to ask for those without would make MySQL read and sort all that wait.
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
        # A range, and not "is not null": for that, SQLite would walk through all that are null first.
        rows = session.execute(
            select(self.rows).where(self.rows.c.sequence >= 0).order_by(self.rows.c.sequence).limit(MAX_ROUND_ROWS)
        )
        return [
            SequencedMessage(Sequence(r.sequence), OutboxMessage(r.topic, r.partition, r.key, r.value)) for r in rows
        ]

    def delete_published(self, session: Session, published: Iterable[SequencedMessage]) -> None:
        """Delete what the broker has acknowledged.

        By sequence, which is never given twice: SQLite gives the ids of deleted rows to new ones, and a relay that
        stalled and was overtaken would delete events that nobody has published.
        """
        session.execute(delete(self.rows).where(self.rows.c.sequence.in_([each.sequence for each in published])))

    def release_lease(self, session: Session, owner: str) -> None:
        """Give up the lease, so that the next relay need not wait for its end."""
        session.execute(update(self.relay).where(self.relay.c.owner == owner).values(owner=None, leased_until=0.0))


class OutboxRelay:
    """Publishes one service's outbox; every replica runs one, and the lease lets one of them work."""

    def __init__(self, database: Database, outbox: Outbox, bootstrap_servers: str, metrics: Metrics) -> None:
        self._database = database
        self._outbox = outbox
        self._bootstrap_servers = bootstrap_servers
        self._owner = str(uuid.uuid4())
        self._backlog = metrics.gauge("outbox_backlog", "Events that wait to be published").labels()
        self._age = metrics.gauge("outbox_oldest_age_seconds", "Age of the oldest event that waits").labels()
        self._published = metrics.counter("outbox_published_total", "Events published", "topic")

    async def run(self) -> None:
        """Publish until cancelled. Database or broker away: waits, loses nothing, and measures on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_periodically(MEASURE_EVERY_S, self._update_backlog_metrics, "outbox.measure"))
            tasks.create_task(self._run_relay())

    async def _run_relay(self) -> None:
        rest = FAILURE_PAUSE_S
        try:
            while True:
                # An idempotent producer that met an error it cannot get over refuses all that follows: take a new one.
                producer = _create_producer(self._bootstrap_servers)
                try:
                    await producer.start()
                    rest = FAILURE_PAUSE_S
                    await self._publish_until_refused(producer)
                except (KafkaError, OSError) as error:
                    log.warning("outbox.not_published", error=type(error).__name__, again_in_s=rest)
                finally:
                    await _stop_producer(producer)
                await asyncio.sleep(rest)
                rest = min(rest * 2, MAX_FAILURE_PAUSE_S)
        finally:
            await asyncio.to_thread(self._release_lease)

    async def _publish_until_refused(self, producer: AIOKafkaProducer) -> None:
        """Raises KafkaError, TimeoutError."""
        while True:
            try:
                busy = await self._run_round(producer)
            except LeaseEndingError:
                log.warning("outbox.round_too_long", lease_s=LEASE_S)
            except DatabaseUnavailableError:
                await asyncio.sleep(FAILURE_PAUSE_S)
            else:
                if not busy:
                    await asyncio.sleep(IDLE_PAUSE_S)

    async def _run_round(self, producer: AIOKafkaProducer) -> bool:
        began = time.monotonic()  # the lease that the claim renews is not shorter than from here
        claimed = await asyncio.to_thread(self._claim_messages)
        if not claimed:
            return False
        async with asyncio.timeout(began + ROUND_TIMEOUT_S - time.monotonic()):
            await publish(producer, claimed, began + LAST_SEND_AFTER_S)
        await asyncio.to_thread(self._delete_published, claimed)
        for each in claimed:
            self._published.labels(topic=each.message.topic).inc()
        return True

    def _claim_messages(self) -> list[SequencedMessage]:
        try:
            with self._database.transaction() as session:
                return self._outbox.claim_messages(session, self._owner, time.time())
        except IntegrityError:
            return []  # another replica made the relay's row in the same instant; the next round finds it

    def _update_backlog_metrics(self) -> None:
        with self._database.reading() as session:
            measured = self._outbox.measure_backlog(session, time.time())
        self._backlog.set(measured.events)
        self._age.set(measured.oldest_age_s)

    def _delete_published(self, published: list[SequencedMessage]) -> None:
        with self._database.transaction() as session:
            self._outbox.delete_published(session, published)

    def _release_lease(self) -> None:
        try:
            with self._database.transaction() as session:
                self._outbox.release_lease(session, self._owner)
        except DatabaseUnavailableError:
            log.warning("outbox.lease_not_released", ends_in_s=LEASE_S)


def _create_producer(bootstrap_servers: str) -> AIOKafkaProducer:
    """Idempotent, with acks=all. Of itself it sends a batch again without end."""
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers,
        enable_idempotence=True,
        acks="all",
        max_batch_size=256 * 1024,
        request_timeout_ms=int(REQUEST_TIMEOUT_S * 1000),
    )


async def _stop_producer(producer: AIOKafkaProducer) -> None:
    """Stop without sending anything any more; what is in flight is answered, or given up within REQUEST_S.

    By itself a producer first sends all that it has been given, however long that takes, and so after its lease.
    """
    await producer._sender.close()
    await producer.stop()


async def publish(producer: AIOKafkaProducer, rows: Iterable[SequencedMessage], send_before: float) -> None:
    """Publish in order within each partition, and return once the broker has acknowledged all of it.

    Batches are built here, and a partition's next batch is sent only after the one before was acknowledged:
    with the producer's own buffer, a batch that times out could be overtaken by the one behind it, and readers,
    who drop what is not greater than the last sequence, would lose it.

    No batch is sent after `send_before`, an instant of `time.monotonic`. Raises KafkaError, LeaseEndingError.
    """
    partitions: dict[tuple[str, int], list[SequencedMessage]] = defaultdict(list)
    for each in rows:
        partitions[each.message.topic, each.message.partition].append(each)
    sent = await asyncio.gather(
        *(
            _publish_partition(producer, topic, number, queue, send_before)
            for (topic, number), queue in partitions.items()
        ),
        return_exceptions=True,  # none is left behind in flight
    )
    for failure in sent:
        if failure is not None:
            raise failure


async def _publish_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, queue: list[SequencedMessage], send_before: float
) -> None:
    async def send(batch: BatchBuilder) -> None:
        if time.monotonic() > send_before:
            raise LeaseEndingError("the lease of the outbox may end before the next batch is published")
        await (await producer.send_batch(batch, topic, partition=partition))

    batch = producer.create_batch()
    for each in queue:
        headers = [(SEQUENCE_HEADER, str(each.sequence).encode("ascii"))]
        record = {"key": each.message.key, "value": each.message.value, "timestamp": None, "headers": headers}
        if batch.append(**record) is None:  # full
            await send(batch)
            batch = producer.create_batch()
            batch.append(**record)
    if batch.record_count():
        await send(batch)
