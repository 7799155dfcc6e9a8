"""`python -m notifier dead-letters`: what an operator can see of the dead letters, and have handled once more."""

import asyncio
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from chassis.kafka import start_producer, stop_consumer
from chassis.topics import BrokerUnreachableError, wait_for_broker
from notifier.dead_letters.dead_letter import Entry, Filter, Letters, Place, note, requeuable, shown, summary
from notifier.dead_letters.decoding import printable
from notifier.errors import DeadLettersUnreadableError, NotRequeuable
from notifier.messages import REQUEUED_FROM, RaisedAlert
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, partition_of

UNREACHABLE_AFTER_S: Final = 15.0
_POLL_MS: Final = 1_000
_SILENT_POLLS: Final = 30
_AT_ONCE: Final = 500
"""Letters whose alerts may be on their way to the broker at once."""

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class _Topic:
    """The dead letters, as far as they reach at one moment."""

    consumer: AIOKafkaConsumer
    begins: Offsets
    ends: Offsets
    """The offset after the last one."""

    async def all(self) -> list[Entry]:
        """The oldest first. Held without their bytes."""
        letters = Letters()
        async for record in self._records(self.begins, self.ends):
            letters.add(record)
        return letters.entries()

    async def at(self, places: Collection[Place]) -> AsyncIterator[ConsumerRecord]:
        """The records at these places, those of one partition in their order."""
        offsets: dict[TopicPartition, set[int]] = {}
        for place in places:
            offsets.setdefault(TopicPartition(ALERTS_DEAD_LETTER.name, place.partition), set()).add(place.offset)
        begins = {each: min(found) for each, found in offsets.items()}
        ends = {each: max(found) + 1 for each, found in offsets.items()}
        async for record in self._records(begins, ends):
            if Place(record.partition, record.offset) in places:
                yield record

    async def _records(self, begins: Offsets, ends: Offsets) -> AsyncIterator[ConsumerRecord]:
        """Raises DeadLettersUnreadableError when nothing comes for half a minute."""
        unread = {each for each in ends if begins[each] < ends[each]}
        if not unread:
            return
        self.consumer.assign(list(unread))
        for each in unread:
            self.consumer.seek(each, begins[each])
        silent = 0
        while unread:
            fetched = await self.consumer.getmany(*unread, timeout_ms=_POLL_MS)
            for each, found in fetched.items():
                for record in found:
                    if record.offset < ends[each]:
                        yield record
            unread = {each for each in unread if await self.consumer.position(each) < ends[each]}
            silent = 0 if fetched else silent + 1
            if silent == _SILENT_POLLS:
                raise DeadLettersUnreadableError(
                    "the broker gives no more letters, though there are more: try again when it is well"
                )


async def list_letters(
    bootstrap_servers: str, wanted: Filter, limit: int | None, *, only_summary: bool, as_json: bool
) -> int:
    """Print the letters that are wanted, the oldest first, up to `limit`, and how many there are for which reason.

    The exit status. Raises DeadLettersUnreadableError or BrokerUnreachableError.
    """
    async with _dead_letters(bootstrap_servers) as (topic, _):
        there = await topic.all()
    found = [each for each in there if wanted.takes(each.letter)]
    if not only_summary:
        for each in found[:limit]:
            print(each.as_json() if as_json else each.line())
        if limit is not None and len(found) > limit:
            print(f"and {len(found) - limit:,} more, which are newer", file=sys.stderr)
    if not there:
        print(f"{ALERTS_DEAD_LETTER.name} is empty", file=sys.stderr)
    if as_json and only_summary:
        print(summary(found).as_json())
    elif not as_json:
        print(summary(found))
    return 0


async def show_letter(bootstrap_servers: str, place: Place) -> int:
    """Print everything about a letter. The exit status: 1 where there is none."""
    async with _dead_letters(bootstrap_servers) as (topic, _):
        entries = [each for each in await topic.all() if each.letter.place == place]
        for entry in entries:
            async for record in topic.at({place}):
                print(shown(entry, record))
    return 0 if entries else _missing([place])


async def requeue_letters(
    bootstrap_servers: str, wanted: Sequence[Place] | Filter, now: datetime, *, dry_run: bool
) -> int:
    """Raise the alerts of some letters anew: those of these ids, or all that were not requeued before and are wanted.

    Says of each letter what became of it, and that it is done when the broker has its alerts. To repeat it mails
    nobody twice, because the notifier knows the ids of what it has mailed. The exit status: 1 where a letter is missing
    or cannot be requeued.
    """
    async with _dead_letters(bootstrap_servers) as (topic, partitions):
        if not dry_run and partitions.get(ALERTS_RAISED.name) != ALERTS_RAISED.partitions:
            raise DeadLettersUnreadableError(
                f"the broker has no topic {ALERTS_RAISED.name} of {ALERTS_RAISED.partitions} partitions: "
                "is KAFKA_BOOTSTRAP_SERVERS the broker that is meant?"
            )
        entries = {each.letter.place: each for each in await topic.all()}
        if named := not isinstance(wanted, Filter):
            chosen = {place for place in wanted if place in entries}
            missing = [place for place in dict.fromkeys(wanted) if place not in entries]
        else:
            open_ = (each for each in entries.values() if each.requeued_at is None)
            chosen = {each.letter.place for each in open_ if wanted.takes(each.letter)}
            missing = []
        producer = None if dry_run else await _producer(bootstrap_servers)
        requeue = _Requeue(producer, now)
        try:
            async for record in topic.at(chosen):
                entry = entries[Place(record.partition, record.offset)]
                try:
                    alerts = requeuable(entry.letter, record.value, now, named=named)
                except NotRequeuable as why:
                    requeue.refused += 1
                    print(f"{entry.letter.place}  not requeued: {printable(str(why))}", file=sys.stderr)
                else:
                    await requeue.add(entry, record.key, alerts)
            await requeue.flush()
        finally:
            if producer is not None:
                await producer.stop()
    print(requeue)
    return _missing(missing) if missing else int(requeue.refused > 0)


class _Requeue:
    """Sends the alerts of letters, some letters at a time, and notes which letters are done."""

    def __init__(self, producer: AIOKafkaProducer | None, now: datetime) -> None:
        """Without a producer it only says what it would do."""
        self._producer = producer
        self._now = now
        self._waiting: list[tuple[Entry, bytes | None, list[RaisedAlert]]] = []
        self._known: set[UUID] = set()
        self._letters = 0
        self._alerts = 0
        self.refused = 0

    async def add(self, entry: Entry, key: bytes | None, alerts: Sequence[RaisedAlert]) -> None:
        """Have a letter's alerts sent, but for those that another letter had, too."""
        new = [each for each in alerts if each.alert.alert_id not in self._known]
        self._known |= {each.alert.alert_id for each in new}
        self._waiting.append((entry, key, new))
        if len(self._waiting) >= _AT_ONCE:
            await self.flush()

    async def flush(self) -> None:
        """Return once the broker has all alerts so far, and a note of each letter."""
        if self._producer is not None:
            producer = self._producer
            await _acknowledged([await _sent(producer, entry, each) for entry, _, new in self._waiting for each in new])
            await _acknowledged([await _noted(producer, entry, key, self._now) for entry, key, _ in self._waiting])
        for entry, _, new in self._waiting:
            print(("would be requeued: " if self._producer is None else "requeued: ") + entry.line())
            self._letters += 1
            self._alerts += len(new)
        self._waiting.clear()

    def __str__(self) -> str:
        verb = "would be requeued" if self._producer is None else "requeued"
        return f"letters {verb}: {self._letters:,}; alerts of them: {self._alerts:,}; letters left: {self.refused:,}"


async def _sent(producer: AIOKafkaProducer, entry: Entry, raised: RaisedAlert) -> "asyncio.Future[object]":
    user_id = str(raised.alert.user_id)
    sent: asyncio.Future[object] = await producer.send(
        ALERTS_RAISED.name,
        key=user_id.encode(),
        value=raised.original,
        partition=partition_of(user_id, ALERTS_RAISED),
        headers=[(REQUEUED_FROM, str(entry.letter.place).encode())],
    )
    return sent


async def _noted(
    producer: AIOKafkaProducer, entry: Entry, key: bytes | None, now: datetime
) -> "asyncio.Future[object]":
    """In the letter's partition, and so kept as long as the letter or longer."""
    place = entry.letter.place
    noted: asyncio.Future[object] = await producer.send(
        ALERTS_DEAD_LETTER.name, key=key, value=b"", partition=place.partition, headers=note(place, now)
    )
    return noted


async def _acknowledged(sent: Sequence["asyncio.Future[object]"]) -> None:
    """Return once the broker has all; raises KafkaError when it is known of all, and not of one."""
    for outcome in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _producer(bootstrap_servers: str) -> AIOKafkaProducer:
    try:
        async with asyncio.timeout(UNREACHABLE_AFTER_S):
            return await start_producer(bootstrap_servers)
    except TimeoutError:
        raise BrokerUnreachableError(f"no Kafka broker at {bootstrap_servers} takes anything") from None


@asynccontextmanager
async def _dead_letters(bootstrap_servers: str) -> AsyncIterator[tuple[_Topic, Mapping[str, int]]]:
    """The dead letters, read without a group; and how many partitions each topic of the broker has."""
    partitions = await _partitions(bootstrap_servers)
    if ALERTS_DEAD_LETTER.name not in partitions:
        raise DeadLettersUnreadableError(
            f"the broker has no topic {ALERTS_DEAD_LETTER.name}: no service made it yet, or KAFKA_BOOTSTRAP_SERVERS is "
            "another broker than the one that is meant"
        )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        # As many partitions as the broker says: letters may be older than a change of the catalogue.
        there = [TopicPartition(ALERTS_DEAD_LETTER.name, each) for each in range(partitions[ALERTS_DEAD_LETTER.name])]
        yield _Topic(consumer, await consumer.beginning_offsets(there), await consumer.end_offsets(there)), partitions
    finally:
        await stop_consumer(consumer)


async def _partitions(bootstrap_servers: str) -> dict[str, int]:
    await wait_for_broker(bootstrap_servers, UNREACHABLE_AFTER_S)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
    finally:
        await admin.close()


def _missing(places: Sequence[Place]) -> int:
    for place in places:
        print(f"{place}  there is no such letter: `list` shows the ids", file=sys.stderr)
    return 1
