"""The transactional outbox: an event commits with the change that it tells of, and is published after.

Three steps, each safe to repeat (a crash between them repeats a record, with the same sequence; none is skipped):

1. A use case calls `Outbox.add` inside its own transaction.
2. The relay gives the oldest rows their sequence, in a transaction of its own. The sequence is not the row's id:
   ids are handed out in another order than transactions commit, and the late one would look like a duplicate.
3. The relay publishes in the order of the sequence, waits for the broker, and deletes the rows.

Replicas share the outbox: a lease in the counter's row lets one relay work at a time.
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

from chassis.database import TABLE_OPTIONS, Database
from chassis.errors import DatabaseAwayError
from chassis.kafka import SEQUENCE_HEADER, started_producer
from chassis.metrics import Metrics

log = structlog.get_logger()

Sequence = NewType("Sequence", int)

CHUNK = 500
"""Rows that one round of the relay publishes."""

LEASE_S = 15.0
"""A relay that has not renewed for so long is taken for dead."""

IDLE_S = 0.05
"""How long the relay rests when the outbox is empty: what an event waits at most before it is seen."""

FAILED_S = 1.0
"""How long the relay rests after a failure."""

_ID = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
_BYTES = LargeBinary(1 << 24)  # LONGBLOB on MySQL, whose plain BLOB ends at 64 KiB


@dataclass(frozen=True, slots=True)
class Message:
    """One event to publish. `value` None is a tombstone."""

    topic: str
    partition: int
    key: bytes
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Sequenced:
    """A message that has its place: the relay publishes in this order and never changes the number."""

    sequence: Sequence
    message: Message


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

    def add(self, session: Session, messages: Iterable[Message]) -> None:
        """Record events in the caller's transaction; they are published once it has committed."""
        rows = [{"topic": m.topic, "partition": m.partition, "key": m.key, "value": m.value} for m in messages]
        if rows:
            session.execute(insert(self.rows), rows)

    def backlog(self, session: Session) -> int:
        """Events that wait to be published."""
        return session.scalar(select(func.count()).select_from(self.rows)) or 0

    def claim(self, session: Session, owner: str, now: float) -> list[Sequenced]:
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
        numbered = self._numbered(session)
        next_sequence = relay.next_sequence
        if not numbered:
            ids = session.scalars(
                select(self.rows.c.id).where(self.rows.c.sequence.is_(None)).order_by(self.rows.c.id).limit(CHUNK)
            ).all()
            if ids:
                session.connection().execute(
                    update(self.rows).where(self.rows.c.id == bindparam("row")).values(sequence=bindparam("number")),
                    [{"row": row, "number": next_sequence + index} for index, row in enumerate(ids)],
                )
            next_sequence += len(ids)
            numbered = self._numbered(session)
        session.execute(update(self.relay).values(owner=owner, leased_until=now + LEASE_S, next_sequence=next_sequence))
        return numbered

    def _numbered(self, session: Session) -> list[Sequenced]:
        rows = session.execute(
            select(self.rows).where(self.rows.c.sequence.is_not(None)).order_by(self.rows.c.sequence).limit(CHUNK)
        )
        return [Sequenced(Sequence(r.sequence), Message(r.topic, r.partition, r.key, r.value)) for r in rows]

    def forget(self, session: Session, published: Iterable[Sequenced]) -> None:
        """Delete what the broker has acknowledged.

        By sequence, which is never given twice: SQLite gives the ids of deleted rows to new ones, and a relay that
        stalled and was overtaken would delete events that nobody has published.
        """
        session.execute(delete(self.rows).where(self.rows.c.sequence.in_([each.sequence for each in published])))

    def release(self, session: Session, owner: str) -> None:
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
        self._published = metrics.counter("outbox_published_total", "Events published", "topic")

    async def run(self) -> None:
        """Publish until cancelled. Database or broker away: waits, loses nothing."""
        try:
            while True:
                # An idempotent producer that met an error it cannot get over refuses all that follows: take a new one.
                producer = await started_producer(self._bootstrap_servers)
                try:
                    await self._publish_until_refused(producer)
                finally:
                    await producer.stop()
                await asyncio.sleep(FAILED_S)
        finally:
            await asyncio.to_thread(self._release)

    async def _publish_until_refused(self, producer: AIOKafkaProducer) -> None:
        while True:
            try:
                busy = await self._round(producer)
            except KafkaError as error:
                log.warning("outbox.not_published", error=type(error).__name__, again_in_s=FAILED_S)
                return
            except DatabaseAwayError:
                await asyncio.sleep(FAILED_S)
            else:
                if not busy:
                    await asyncio.sleep(IDLE_S)

    async def _round(self, producer: AIOKafkaProducer) -> bool:
        claimed = await asyncio.to_thread(self._claim)
        if not claimed:
            return False
        await publish(producer, claimed)
        await asyncio.to_thread(self._forget, claimed)
        for each in claimed:
            self._published.labels(topic=each.message.topic).inc()
        return True

    def _claim(self) -> list[Sequenced]:
        try:
            with self._database.transaction() as session:
                claimed = self._outbox.claim(session, self._owner, time.time())
                self._backlog.set(self._outbox.backlog(session))
        except IntegrityError:
            return []  # another replica made the relay's row in the same instant; the next round finds it
        return claimed

    def _forget(self, published: list[Sequenced]) -> None:
        with self._database.transaction() as session:
            self._outbox.forget(session, published)

    def _release(self) -> None:
        try:
            with self._database.transaction() as session:
                self._outbox.release(session, self._owner)
        except DatabaseAwayError:
            log.warning("outbox.lease_not_released", ends_in_s=LEASE_S)


async def publish(producer: AIOKafkaProducer, rows: Iterable[Sequenced]) -> None:
    """Publish in order within each partition, and return once the broker has acknowledged all of it.

    Batches are built here, and a partition's next batch is sent only after the one before was acknowledged:
    with the producer's own buffer, a batch that times out could be overtaken by the one behind it, and readers,
    who drop what is not greater than the last sequence, would lose it. Raises KafkaError.
    """
    partitions: dict[tuple[str, int], list[Sequenced]] = defaultdict(list)
    for each in rows:
        partitions[each.message.topic, each.message.partition].append(each)
    await asyncio.gather(
        *(_publish_partition(producer, topic, number, queue) for (topic, number), queue in partitions.items())
    )


async def _publish_partition(producer: AIOKafkaProducer, topic: str, partition: int, queue: list[Sequenced]) -> None:
    batch = producer.create_batch()
    for each in queue:
        headers = [(SEQUENCE_HEADER, str(each.sequence).encode("ascii"))]
        record = {"key": each.message.key, "value": each.message.value, "timestamp": None, "headers": headers}
        if batch.append(**record) is None:  # full
            await (await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(**record)
    if batch.record_count():
        await (await producer.send_batch(batch, topic, partition=partition))
