"""The transactional outbox: an event is committed together with the change that it reports, and published afterwards.

There are three steps, each safe to repeat (a crash between them duplicates a record, with the same sequence; no record
is skipped):

1. A use case calls `Outbox.add` inside its own transaction.
2. The relay (`chassis.db.outbox_relay`) assigns a sequence to the oldest rows, in a transaction of its own. The
   sequence is not the row's id: ids are assigned in another order than transactions commit, and a row that commits late
   would look like a duplicate.
3. The relay publishes in the order of the sequence, waits for the broker's acknowledgement, and deletes the rows.

Replicas share the outbox: a lease in the counter's row lets one relay work at a time. Whether it has lapsed is decided
by elapsed time (`LeaseWatch`), so the clocks of replicas may differ.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import NewType

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
from sqlalchemy.orm import Session

from chassis.db.database import TABLE_OPTIONS, call_after_commit

Sequence = NewType("Sequence", int)

MAX_ROUND_ROWS = 500
"""The most rows that one round of the relay publishes."""

LEASE_S = 15.0
"""Seconds until the lease of a relay ends that does not renew it."""

BARRIER = ""
"""Topic of a barrier's row: no topic of Kafka has this name."""

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


class LeaseWatch:
    """One relay's observation of the lease that another relay holds, by elapsed time instead of by the wall clock.

    A lease has lapsed once its row has not changed for `LEASE_S` of the observer's own time: every renewal changes the
    row, and its holder sends nothing later than `LEASE_S` after it. The stored instant decides nothing, because the
    holder's clock, or the observer's, may be hours or years off.
    """

    def __init__(self) -> None:
        self._seen: tuple[object, ...] | None = None
        self._since = 0.0

    def detect_lapse(self, lease: tuple[object, ...], elapsed: float) -> bool:
        """Note the present lease; return True if it has lapsed: it has been the same for `LEASE_S`. Else False.

        It counts anew if the lease differs from the one of the last call. `elapsed`: the present, in seconds of
        a monotonic clock.
        """
        if lease != self._seen:
            self._seen, self._since = lease, elapsed
        return elapsed - self._since >= LEASE_S


class Outbox:
    """The outbox tables of one service's schema, and the statements on them, each in a transaction of its caller.

    Use cases call `add`; the relay calls `claim_messages`, `end_round` and `release_lease`.
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
        self._listeners: tuple[Callable[[], None], ...] = ()

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` during the block after each commit of this process that may have added an event to publish.

        It is called in the thread of the commit, and must not raise or block. Commits of other processes call nothing.
        """
        self._listeners = (*self._listeners, listener)
        try:
            yield
        finally:
            self._listeners = tuple(each for each in self._listeners if each is not listener)

    def _call_listeners(self) -> None:
        """Call all listeners that are registered now."""
        for listener in self._listeners:
            listener()

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
            call_after_commit(session, self._call_listeners)

    def add_barrier(self, session: Session) -> None:
        """Add a barrier: events that are added after it are not published before `remove_barriers` is called."""
        self.add(session, [OutboxMessage(BARRIER, 0, b"", None)])

    def is_at_barrier(self, session: Session) -> bool:
        """Return True if all events before the first barrier are published, False if not or if there is no barrier."""
        return session.scalar(select(self.rows.c.topic).order_by(self.rows.c.id).limit(1)) == BARRIER

    def remove_barriers(self, session: Session) -> None:
        """Remove all barriers, so that the relay publishes what was added after them."""
        session.execute(delete(self.rows).where(self.rows.c.topic == BARRIER))
        call_after_commit(session, self._call_listeners)

    def withdraw(self, session: Session, topic: str) -> None:
        """Delete the events of a topic that are not published yet. A relay may be publishing some of them now."""
        session.execute(delete(self.rows).where(self.rows.c.topic == topic))

    def count_unpublished(self, session: Session) -> int:
        """Return how many events are not published yet; a barrier counts as one."""
        return session.scalar(select(func.count()).select_from(self.rows)) or 0

    def measure_backlog(self, session: Session, now: float) -> Backlog:
        """Return how many events are not published yet, and the oldest one's age at `now` (seconds since the epoch)."""
        oldest = session.scalar(select(self.rows.c.added_at).order_by(self.rows.c.id).limit(1))
        return Backlog(self.count_unpublished(session), 0.0 if oldest is None else max(now - oldest, 0.0))

    def has_messages(self, session: Session) -> bool:
        """Return True if the oldest event can be published by whoever has the lease; False if there is none.

        False, too, if a barrier comes first.
        """
        return session.scalar(select(self.rows.c.topic).order_by(self.rows.c.id).limit(1)) not in (None, BARRIER)

    def claim_messages(
        self, session: Session, owner: str, now: float, watch: LeaseWatch, elapsed: float
    ) -> list[SequencedMessage]:
        """Take or renew the lease, assign sequences to the oldest rows, and return these messages in that order.

        At most 500 messages are returned, none from behind a barrier. Rows that already have a sequence are returned
        alone: they are a round that did not end, to be repeated unchanged. Return an empty list, and do nothing, if the
        outbox is empty, begins with a barrier, or another relay holds the lease. The lease's row is locked until the
        end of the transaction; in a new database it is inserted, with a first sequence made of the time. `now` is in
        seconds since the epoch; `watch` is the owner's, and `elapsed` is in seconds of its monotonic clock.
        """
        if not self.has_messages(session):
            return []
        relay = session.execute(select(self.relay).with_for_update()).one_or_none()
        if relay is None:
            # A new database starts above any sequence that an earlier database, now lost, can have published.
            relay_row = {"id": 1, "next_sequence": int(now * 1_000_000), "owner": None, "leased_until": 0.0}
            session.execute(insert(self.relay), relay_row)
            relay = session.execute(select(self.relay).with_for_update()).one()
        lease = (relay.owner, relay.leased_until, relay.next_sequence)
        if relay.owner not in (None, owner) and not watch.detect_lapse(lease, elapsed):
            return []
        numbered = self._load_sequenced(session)
        next_sequence = relay.next_sequence
        if not numbered:
            # No row has a sequence now. A condition "sequence is null" would make MySQL read and sort all rows.
            oldest = session.execute(
                select(self.rows.c.id, self.rows.c.topic).order_by(self.rows.c.id).limit(MAX_ROUND_ROWS)
            )
            ids = [row.id for row in takewhile(lambda row: row.topic != BARRIER, oldest)]
            if ids:
                session.connection().execute(
                    update(self.rows).where(self.rows.c.id == bindparam("row")).values(sequence=bindparam("number")),
                    [{"row": row, "number": next_sequence + index} for index, row in enumerate(ids)],
                )
            next_sequence += len(ids)
            numbered = self._load_sequenced(session)
        # Later than before even if the clock stands or was set back: a renewal must change the row (`LeaseWatch`).
        leased_until = max(now + LEASE_S, relay.leased_until + 0.001)
        session.execute(update(self.relay).values(owner=owner, leased_until=leased_until, next_sequence=next_sequence))
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

    def load_next_sequence(self, session: Session) -> int | None:
        """Return the sequence that the next event will get; None if the database has never published an event."""
        return session.scalar(select(self.relay.c.next_sequence))

    def continue_above(self, session: Session, sequence: int, now: float) -> None:
        """Make all events that are not published yet, and later ones, get sequences above `sequence`.

        `now` is in seconds since the epoch: a database that has never published begins above it, as always.
        """
        lowest = max(sequence + 1, int(now * 1_000_000))
        relay = session.execute(select(self.relay).with_for_update()).one_or_none()
        if relay is None:
            session.execute(insert(self.relay).values(id=1, next_sequence=lowest, owner=None, leased_until=0.0))
        else:
            session.execute(update(self.relay).values(next_sequence=max(relay.next_sequence, lowest)))
        session.execute(update(self.rows).where(self.rows.c.sequence >= 0).values(sequence=None))

    def delete_published(self, session: Session, published: Iterable[SequencedMessage]) -> None:
        """Delete the rows of messages that the broker has acknowledged, by their sequences; missing rows are ignored.

        A sequence is assigned only once, while SQLite reuses the ids of deleted rows: a relay that stalled and lost its
        lease would delete unpublished events by their ids.
        """
        sequences = [message.sequence for message in published]
        session.execute(delete(self.rows).where(self.rows.c.sequence.in_(sequences)))

    def end_round(self, session: Session, owner: str, published: Iterable[SequencedMessage]) -> None:
        """Delete the rows of published messages, and end this owner's lease if no event remains that can be published.

        An event that is committed later finds no lease; whoever is woken by that commit takes it at once.
        """
        session.execute(select(self.relay).with_for_update())  # before the rows, as `claim_messages`: else a deadlock
        self.delete_published(session, published)
        if not self.has_messages(session):
            self.release_lease(session, owner)

    def release_lease(self, session: Session, owner: str) -> None:
        """End this owner's lease, so that the next relay need not wait for its end.

        Nothing changes if another owner has the lease.
        """
        session.execute(update(self.relay).where(self.relay.c.owner == owner).values(owner=None, leased_until=0.0))
