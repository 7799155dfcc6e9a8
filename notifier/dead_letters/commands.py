"""The commands of `python -m notifier dead-letters`: list dead letters, show one, requeue their alerts and notices."""

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
from chassis.kafka_options import load_client_options
from chassis.topics import BrokerUnreachableError, wait_for_broker
from notifier.dead_letters.counts import count_dead_letters
from notifier.dead_letters.dead_letter import (
    DeadLetterEntry,
    DeadLetterFilter,
    DeadLetterIndex,
    RecordId,
    build_note_headers,
    extract_events,
)
from notifier.dead_letters.decoding import escape_unprintable
from notifier.dead_letters.formatting import format_details, format_entry_json, format_line
from notifier.errors import DeadLettersUnreadableError, NotRequeuable
from notifier.messages import REQUEUED_FROM, RaisedAlert, RaisedNotice
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, NOTICES_RAISED, partition_of

UNREACHABLE_AFTER_S: Final = 15.0
"""Seconds to wait for the broker before the command fails."""
_POLL_MS: Final = 1_000
_MAX_EMPTY_POLLS: Final = 30
_BATCH_SIZE: Final = 500
"""Dead letters whose alerts may be unacknowledged by the broker at the same time."""

Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class _DeadLetterTopic:
    """A snapshot of the dead-letter topic, and the consumer that reads it: later records are not read.

    The offsets were queried once, when the command opened the topic (`_open_dead_letters`).
    """

    consumer: AIOKafkaConsumer
    """Without a consumer group: it assigns partitions and positions itself, and commits nothing."""
    begins: Offsets
    """The offset of each partition's first record."""
    ends: Offsets
    """The offset after each partition's last record."""

    async def read_all(self) -> list[DeadLetterEntry]:
        """Read the snapshot from begin to end, and return all its dead letters, the oldest first.

        The entries hold no event's bytes. Notes are no entries: they mark their dead letters as requeued. Raises
        DeadLettersUnreadableError.
        """
        index = DeadLetterIndex()
        async for record in self._read_range(self.begins, self.ends):
            index.add(record)
        return index.build_entries()

    async def read_records(self, record_ids: Collection[RecordId]) -> AsyncIterator[ConsumerRecord]:
        """Read the records with these ids again, and yield them, those of one partition by offset.

        Skips other records between them; an id whose record the topic no longer has is left out. Raises
        DeadLettersUnreadableError.
        """
        offsets: dict[TopicPartition, set[int]] = {}
        for record_id in record_ids:
            partition = TopicPartition(ALERTS_DEAD_LETTER.name, record_id.partition)
            offsets.setdefault(partition, set()).add(record_id.offset)
        begins = {partition: min(found) for partition, found in offsets.items()}
        ends = {partition: max(found) + 1 for partition, found in offsets.items()}
        async for record in self._read_range(begins, ends):
            if RecordId(record.partition, record.offset) in record_ids:
                yield record

    async def _read_range(self, begins: Offsets, ends: Offsets) -> AsyncIterator[ConsumerRecord]:
        """Yield the records of each partition with begin <= offset < end; the partitions in any order, mixed.

        Raises DeadLettersUnreadableError after 30 polls in a row, of one second each, without a record.
        """
        unread = {partition for partition in ends if begins[partition] < ends[partition]}
        if not unread:
            return
        self.consumer.assign(list(unread))
        for partition in unread:
            self.consumer.seek(partition, begins[partition])
        empty_polls = 0
        while unread:
            fetched = await self.consumer.getmany(*unread, timeout_ms=_POLL_MS)
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
            unread = {partition for partition in unread if await self.consumer.position(partition) < ends[partition]}
            empty_polls = 0 if fetched else empty_polls + 1
            if empty_polls == _MAX_EMPTY_POLLS:
                raise DeadLettersUnreadableError(
                    "the broker gives no more letters, though there are more: try again when it is well"
                )


async def list_dead_letters(
    bootstrap_servers: str, wanted: DeadLetterFilter, limit: int | None, *, only_summary: bool, as_json: bool
) -> int:
    """Print the dead letters that match a filter, a line for each, the oldest first, and then their counts by reason.

    Prints at most `limit` dead letters (None: all), but counts all that match. `only_summary`: prints the counts alone.
    `as_json`: prints each dead letter as a line of JSON and no counts; with `only_summary`, the counts as JSON. Notices
    about further dead letters and an empty topic go to stderr.

    Returns the exit status, always 0. Raises DeadLettersUnreadableError or BrokerUnreachableError.
    """
    async with _open_dead_letters(bootstrap_servers) as (topic, _):
        entries = await topic.read_all()
    found = [each for each in entries if wanted.matches(each.dead_letter)]
    if not only_summary:
        for each in found[:limit]:
            print(format_entry_json(each) if as_json else format_line(each))
        if limit is not None and len(found) > limit:
            print(f"and {len(found) - limit:,} more, which are newer", file=sys.stderr)
    if not entries:
        print(f"{ALERTS_DEAD_LETTER.name} is empty", file=sys.stderr)
    if as_json and only_summary:
        print(count_dead_letters(found).to_json())
    elif not as_json:
        print(count_dead_letters(found))
    return 0


async def show_dead_letter(bootstrap_servers: str, record_id: RecordId) -> int:
    """Print everything about one dead letter: its entry, the key and headers of its record, and its event.

    Returns the exit status: 0, or 1, after an error on stderr, if no dead letter has this id. Raises
    DeadLettersUnreadableError or BrokerUnreachableError.
    """
    async with _open_dead_letters(bootstrap_servers) as (topic, _):
        entries = [each for each in await topic.read_all() if each.dead_letter.record_id == record_id]
        for entry in entries:
            async for record in topic.read_records({record_id}):
                print(format_details(entry, record))
    return 0 if entries else _report_missing([record_id])


async def requeue_dead_letters(
    bootstrap_servers: str, wanted: Sequence[RecordId] | DeadLetterFilter, now: datetime, *, dry_run: bool
) -> int:
    """Publish the alerts of dead letters to alerts.raised.v1 again, and their notices to notices.raised.v1.

    Also publishes a note of each requeue to the dead-letter topic.

    `wanted`: ids of dead letters, also of those that were requeued before, or a filter, which matches only those that
    were not. Prints a line for each dead letter once the broker has its alerts and its note, then the totals; the
    reason why a dead letter cannot be requeued and ids without a dead letter go to stderr. `dry_run`: publishes
    nothing, and prints the same lines with "would be requeued".

    Repeating the command mails nothing twice, since the notifier stores the ids of mailed alerts and notices. Returns
    the exit status: 1 if a dead letter is missing or cannot be requeued, else 0. Raises DeadLettersUnreadableError,
    also if one of the two topics is missing or has another number of partitions than expected (not in a dry run),
    BrokerUnreachableError, and KafkaError if the broker refuses a record.
    """
    async with _open_dead_letters(bootstrap_servers) as (topic, partitions):
        for target in () if dry_run else (ALERTS_RAISED, NOTICES_RAISED):
            if partitions.get(target.name) != target.partitions:
                raise DeadLettersUnreadableError(
                    f"the broker has no topic {target.name} of {target.partitions} partitions: "
                    "is KAFKA_BOOTSTRAP_SERVERS the broker that is meant?"
                )
        entries = {each.dead_letter.record_id: each for each in await topic.read_all()}
        if named := not isinstance(wanted, DeadLetterFilter):
            chosen = {record_id for record_id in wanted if record_id in entries}
            missing = [record_id for record_id in dict.fromkeys(wanted) if record_id not in entries]
        else:
            not_requeued = (each for each in entries.values() if each.requeued_at is None)
            chosen = {each.dead_letter.record_id for each in not_requeued if wanted.matches(each.dead_letter)}
            missing = []
        producer = None if dry_run else await _connect_producer(bootstrap_servers)
        requeuer = _Requeuer(producer, now)
        try:
            async for record in topic.read_records(chosen):
                entry = entries[RecordId(record.partition, record.offset)]
                try:
                    raised = extract_events(entry.dead_letter, record.value, now, named=named)
                except NotRequeuable as why:
                    requeuer.rejected += 1
                    print(
                        f"{entry.dead_letter.record_id}  not requeued: {escape_unprintable(str(why))}", file=sys.stderr
                    )
                else:
                    await requeuer.add(entry, record.key, raised)
            await requeuer.flush()
        finally:
            if producer is not None:
                await producer.stop()
    print(requeuer)
    return _report_missing(missing) if missing else int(requeuer.rejected > 0)


class _Requeuer:
    """Publishes the events (alerts and notices) of dead letters, in batches of 500 dead letters, and a note for each.

    The caller adds dead letters and flushes after the last one. Prints each dead letter of a flushed batch, and counts
    dead letters and their events; `str` gives the numbers as a line for people.
    """

    def __init__(self, producer: AIOKafkaProducer | None, now: datetime) -> None:
        """`producer` None: a dry run, which only prints what would be requeued."""
        self._producer = producer
        self._now = now
        self._batch: list[tuple[DeadLetterEntry, bytes | None, list[RaisedAlert | RaisedNotice]]] = []
        """Dead letters to requeue next: the entry, its record's key, and the events to publish."""
        self._seen_ids: set[UUID] = set()
        """The ids of all events so far: an event that is in several dead letters is published once."""
        self._letters = 0
        self._events = 0
        self.rejected = 0
        """How many dead letters could not be requeued; counted by the caller."""

    async def add(
        self, entry: DeadLetterEntry, key: bytes | None, raised: Sequence[RaisedAlert | RaisedNotice]
    ) -> None:
        """Add a dead letter to the batch, without the events that are also in a dead letter that was added before.

        Flushes the batch when it holds 500 dead letters. `key`: of the dead letter's record, for its note.
        """
        new = [each for each in raised if each.event_id not in self._seen_ids]
        self._seen_ids |= {each.event_id for each in new}
        self._batch.append((entry, key, new))
        if len(self._batch) >= _BATCH_SIZE:
            await self.flush()

    async def flush(self) -> None:
        """Publish the batch, first all events, then all notes; print its dead letters, count and clear it.

        Waits for the broker's acknowledgement of the events before it sends the notes, and of the notes before it
        prints. In a dry run only prints and counts. Raises KafkaError if the broker refuses a record; the batch stays.
        """
        if self._producer is not None:
            producer = self._producer
            await _wait_for_acknowledgements(
                [await _send_event(producer, entry, each) for entry, _, new in self._batch for each in new]
            )
            await _wait_for_acknowledgements(
                [await _send_note(producer, entry, key, self._now) for entry, key, _ in self._batch]
            )
        for entry, _, new in self._batch:
            print(("would be requeued: " if self._producer is None else "requeued: ") + format_line(entry))
            self._letters += 1
            self._events += len(new)
        self._batch.clear()

    def __str__(self) -> str:
        verb = "would be requeued" if self._producer is None else "requeued"
        return (
            f"letters {verb}: {self._letters:,}; alerts and notices of them: {self._events:,}; "
            f"letters left: {self.rejected:,}"
        )


async def _send_event(
    producer: AIOKafkaProducer, entry: DeadLetterEntry, raised: RaisedAlert | RaisedNotice
) -> "asyncio.Future[object]":
    """Send an event of a dead letter to its topic again; return the future of the broker's acknowledgement.

    The record has the event's original bytes, goes to its user's partition, and names the dead letter in a header.
    """
    user_id, topic = str(raised.user_id), NOTICES_RAISED if isinstance(raised, RaisedNotice) else ALERTS_RAISED
    sent: asyncio.Future[object] = await producer.send(
        topic.name,
        key=user_id.encode(),
        value=raised.original,
        partition=partition_of(user_id, topic),
        headers=[(REQUEUED_FROM, str(entry.dead_letter.record_id).encode())],
    )
    return sent


async def _send_note(
    producer: AIOKafkaProducer, entry: DeadLetterEntry, key: bytes | None, now: datetime
) -> "asyncio.Future[object]":
    """Send the note that a dead letter was requeued at `now`; return the future of the broker's acknowledgement.

    The note is a record with an empty value, the id and the time in headers, and the dead letter's key. The note goes
    to the dead letter's partition, so that the topic retains it as long as the dead letter, or longer.
    """
    record_id = entry.dead_letter.record_id
    sent: asyncio.Future[object] = await producer.send(
        ALERTS_DEAD_LETTER.name,
        key=key,
        value=b"",
        partition=record_id.partition,
        headers=build_note_headers(record_id, now),
    )
    return sent


async def _wait_for_acknowledgements(sent: Sequence["asyncio.Future[object]"]) -> None:
    """Wait until the broker has acknowledged or refused every record; then raise the first KafkaError, if any."""
    for outcome in await asyncio.gather(*sent, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _connect_producer(bootstrap_servers: str) -> AIOKafkaProducer:
    """Return a started producer, which the caller must stop. Raises BrokerUnreachableError after 15 seconds."""
    try:
        async with asyncio.timeout(UNREACHABLE_AFTER_S):
            return await start_producer(bootstrap_servers)
    except TimeoutError:
        raise BrokerUnreachableError(
            f"no Kafka broker at {bootstrap_servers} takes anything: start it, or correct KAFKA_BOOTSTRAP_SERVERS"
        ) from None


@asynccontextmanager
async def _open_dead_letters(bootstrap_servers: str) -> AsyncIterator[tuple[_DeadLetterTopic, Mapping[str, int]]]:
    """Provide a snapshot of the dead-letter topic, and the number of partitions of each topic on the broker.

    The begin and end offsets are queried now and stay fixed: what is published later is not read. The consumer belongs
    to no consumer group, so it commits no offsets and disturbs no other reader; it is stopped after the block. Raises
    DeadLettersUnreadableError if the broker has no such topic, and BrokerUnreachableError.
    """
    partitions = await _count_partitions(bootstrap_servers)
    if ALERTS_DEAD_LETTER.name not in partitions:
        raise DeadLettersUnreadableError(
            f"the broker has no topic {ALERTS_DEAD_LETTER.name}: no service made it yet, or KAFKA_BOOTSTRAP_SERVERS is "
            "another broker than the one that is meant"
        )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **load_client_options(),
    )
    await consumer.start()
    try:
        # As many partitions as the broker reports: dead letters may be older than a change of the catalogue.
        there = [TopicPartition(ALERTS_DEAD_LETTER.name, each) for each in range(partitions[ALERTS_DEAD_LETTER.name])]
        begins, ends = await consumer.beginning_offsets(there), await consumer.end_offsets(there)
        yield _DeadLetterTopic(consumer, begins, ends), partitions
    finally:
        await stop_consumer(consumer)


async def _count_partitions(bootstrap_servers: str) -> dict[str, int]:
    """Wait for the broker, and return the number of partitions of each topic, by the topic's name.

    Raises BrokerUnreachableError after 15 seconds without a broker.
    """
    await wait_for_broker(bootstrap_servers, UNREACHABLE_AFTER_S)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **load_client_options())
    await admin.start()
    try:
        return {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
    finally:
        await admin.close()


def _report_missing(record_ids: Sequence[RecordId]) -> int:
    """Print an error to stderr for each of these ids, which no dead letter has; return the exit status, always 1."""
    for record_id in record_ids:
        print(f"{record_id}  there is no such letter: `list` shows the ids", file=sys.stderr)
    return 1
