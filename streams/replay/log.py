"""Reading the stream's two input topics from their beginning, and folding their events again without Faust.

The rule is the stream's own (`streams.join_state`), but nothing around it is: here are no tables on disk, no
changelogs, no rebalances and no recovery. So an error in these parts of the stream shows as a difference.
"""

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from chassis.kafka import parse_sequence, stop_consumer
from chassis.kafka_options import load_client_options
from chassis.topics import wait_for_broker
from domain.alerts import Alert
from domain.intervals import Intervals
from streams.entries import AirportState
from streams.errors import LogUnreadableError, MisroutedError, UnsequencedError, UnusableEventError
from streams.join_state import FoldResult, JoinState
from streams.messages import ObservedFlights, decode_flights, decode_interest_key
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, JOIN_PARTITIONS, Topic, partition_of

log = structlog.get_logger()

INPUTS: Final = (FLIGHTS_OBSERVED, INTERESTS_CHANGED)
UNREACHABLE_AFTER_S: Final = 15.0
"""Seconds after which a broker that does not respond counts as unreachable."""
_POLL_MS: Final = 1_000
_MAX_SILENT_POLLS: Final = 60
"""Polls without a record after which reading is given up."""


Offsets = Mapping[TopicPartition, int]
"""Offsets by partition."""


@dataclass(frozen=True, slots=True)
class OffsetRanges:
    """The first offset and the end offset of some partitions at one moment."""

    begins: Offsets
    ends: Offsets
    """By partition, the offset after the last record."""


class EventStatus(StrEnum):
    """The result of an event: folded, a duplicate, or unusable (the stream dead-letters it)."""

    FOLDED = "folded"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "put aside"


@dataclass(frozen=True, slots=True)
class FoldedEvent:
    """One record that was read, its status, and the result of its fold, which may not be written yet."""

    record: ConsumerRecord
    status: EventStatus
    result: FoldResult | None = None
    """None: a duplicate, or unusable."""
    batch: ObservedFlights | None = None
    """The decoded batch of flights. None: not folded, or the event is of an interest."""
    watermark: int | None = None
    """The watermark of the batch's airport and direction before the batch (seconds since 1970). None: not covered."""
    filled: Intervals = ()
    """The intervals before the watermark of which more is known after the batch, because it filled gaps in them."""


class PartitionReplay:
    """A fold of the events of one partition number of both input topics, from an empty state in memory.

    For each record in order: `fold_event`, then `build_alerts` if they are needed, then `write_result`. Publishes
    nothing. Keeps the history of closed days for the default number of days.
    """

    def __init__(self) -> None:
        """Begin with empty tables: plain dicts in place of Faust's."""
        self._tables: dict[str, dict[bytes, bytes]] = {topic.name: {} for topic in INPUTS}
        self._history: dict[bytes, bytes] = {}
        self._join_state = JoinState(
            self._tables[FLIGHTS_OBSERVED.name], self._tables[INTERESTS_CHANGED.name], self._history
        )

    def fold_event(self, record: ConsumerRecord) -> FoldedEvent:
        """Fold the next event and write nothing: the caller may call `build_alerts`, and then must call `write_result`.

        Never raises: an unusable event gets the status DEAD_LETTERED, and so does (with a log entry) an event that hits
        a bug.
        """
        try:
            return self._decode_and_fold(record)
        except UnusableEventError:
            return FoldedEvent(record, EventStatus.DEAD_LETTERED)
        except Exception as error:  # as the stream does
            log.error("replay.failed", error=type(error).__name__, exc_info=error)
            return FoldedEvent(record, EventStatus.DEAD_LETTERED)

    def _decode_and_fold(self, record: ConsumerRecord) -> FoldedEvent:
        """Decode a record of either input topic and fold its event: the status is FOLDED or DUPLICATE.

        A folded batch also gets its decoded flights, the watermark before it and what it filled. Raises
        UnusableEventError for an event without a sequence, in the wrong partition, or that cannot be decoded.
        """
        sequence = parse_sequence(record.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        batch = watermark = None
        filled: Intervals = ()
        if record.topic == INTERESTS_CHANGED.name:
            key = record.key or b""
            _require_partition(record, decode_interest_key(key)[0])
            result = self._join_state.fold_interest(sequence, key, record.value)
        else:
            batch = decode_flights(record.value)
            _require_partition(record, batch.airport)
            (flow,) = self._join_state.read_traffic(batch.airport)[1].select_directions(batch.observation.direction)
            watermark = flow.watermark
            result = self._join_state.fold_flights(sequence, batch)
            if result is not None and isinstance(result.state, AirportState):
                (flow_after,) = result.state.traffic.select_directions(batch.observation.direction)
                filled = flow_after.list_filled(flow)
        if result is None:
            return FoldedEvent(record, EventStatus.DUPLICATE)
        return FoldedEvent(record, EventStatus.FOLDED, result, batch, watermark, filled)

    def build_alerts(self, event: FoldedEvent) -> Iterator[Alert]:
        """Build the alerts of an event whose result is not written yet, one at a time; none if it was not folded.

        To be iterated before `write_result`.
        """
        return self._join_state.build_alerts(event.result) if event.result is not None else iter(())

    def write_result(self, event: FoldedEvent) -> None:
        """Write the event's result into the tables in memory, so that the next event is folded upon that state.

        Does nothing for an event that was not folded.
        """
        if event.result is None:
            return
        for key, entry in event.result.history_entries.items():
            if entry is None:
                self._history.pop(key, None)
            else:
                self._history[key] = entry
        self._tables[event.record.topic][event.result.key] = event.result.entry
        self._join_state.apply_after_write(event.result)


def _require_partition(record: ConsumerRecord, airport: str) -> None:
    """Raise MisroutedError unless the record is in the partition to which the airport's key belongs."""
    if partition_of(airport, FLIGHTS_OBSERVED) != record.partition:
        raise MisroutedError("not in the partition of its airport")


def list_partitions(*topics: Topic) -> tuple[TopicPartition, ...]:
    """Return all partitions of some topics by the catalogue's numbers, topic by topic; the broker is not queried."""
    return tuple(TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions))


@asynccontextmanager
async def open_consumer(bootstrap_servers: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """Start a consumer, and stop it at the end of the block; the caller must assign partitions, and commit.

    `group`: the consumer group for which the caller may commit offsets. None: no commit is possible. Without a position
    a partition is read from its beginning. Raises KafkaConnectionError if no broker responds.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **load_client_options(),
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await stop_consumer(consumer)


@asynccontextmanager
async def open_admin_client(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Wait for the broker, start an admin client for groups and topics, and close it at the end of the block.

    Raises BrokerUnreachableError if no broker responds within `UNREACHABLE_AFTER_S`.
    """
    await wait_for_broker(bootstrap_servers, UNREACHABLE_AFTER_S)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **load_client_options())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def require_topics(admin: AIOKafkaAdminClient, topics: Iterable[Topic]) -> None:
    """Raise LogUnreadableError, with the topic's name, if a topic is missing or has another number of partitions."""
    found = {described["topic"]: len(described["partitions"]) for described in await admin.describe_topics()}
    for topic in topics:
        if found.get(topic.name) != topic.partitions:
            raise LogUnreadableError(
                f"the broker has no topic {topic.name} of {topic.partitions} partitions: "
                "is KAFKA_BOOTSTRAP_SERVERS the broker that is meant?"
            )


async def fetch_committed_offsets(admin: AIOKafkaAdminClient, group: str) -> Offsets:
    """Fetch the committed offsets of a group in the input topics; partitions without a commit are left out."""
    offsets = await admin.list_consumer_group_offsets(group, partitions=list(list_partitions(*INPUTS)))
    return {partition: committed.offset for partition, committed in offsets.items() if committed.offset >= 0}


async def fetch_offset_ranges(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> OffsetRanges:
    """Fetch the present first and end offsets of some partitions; the consumer's assignment stays the same."""
    wanted = list(partitions)
    return OffsetRanges(await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted))


async def read_records(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition], within: OffsetRanges
) -> AsyncIterator[ConsumerRecord]:
    """Read all records of some partitions within their offset ranges, merged in the order of their timestamps.

    The records of one partition stay in the order of their offsets; at the same millisecond, interests come before
    flights. Replaces the consumer's assignment by the partitions that are not empty (none: stays the same), and commits
    nothing. Ends at the ranges' ends, also if compaction removed the last records. Raises LogUnreadableError when the
    broker gives no record for a minute.
    """
    queues: dict[TopicPartition, deque[ConsumerRecord]] = {
        partition: deque() for partition in partitions if within.begins[partition] < within.ends[partition]
    }
    if not queues:
        return
    consumer.assign(list(queues))
    for partition in queues:
        consumer.seek(partition, within.begins[partition])
    unread = set(queues)
    while queues:
        await _fill_queues(consumer, queues, unread, within.ends)
        for finished in [each for each, queue in queues.items() if not queue and each not in unread]:
            del queues[finished]
        while queues and all(queues.values()):
            first = min(queues, key=lambda each: (queues[each][0].timestamp, each.topic != INTERESTS_CHANGED.name))
            yield queues[first].popleft()


async def _fill_queues(
    consumer: AIOKafkaConsumer,
    queues: dict[TopicPartition, deque[ConsumerRecord]],
    unread: set[TopicPartition],
    ends: Offsets,
) -> None:
    """Poll until each queue has a record or its partition is read to its offset in `ends`.

    Only partitions with an empty queue are polled, so that the memory stays bounded. Records beyond `ends` are dropped.
    Partitions that are read to the end are removed from `unread`. Raises LogUnreadableError after 60 polls (a second
    each) without records.
    """
    for _ in range(_MAX_SILENT_POLLS):
        empty = [partition for partition in unread if not queues[partition]]
        while empty:
            fetched = await consumer.getmany(*empty, timeout_ms=_POLL_MS)
            for partition, found in fetched.items():
                queues[partition].extend(record for record in found if record.offset < ends[partition])
            for partition in empty:  # compaction may have removed the last records: the position passes them silently
                if await consumer.position(partition) >= ends[partition]:
                    unread.discard(partition)
            empty = [partition for partition in unread if not queues[partition]]
            if not fetched:
                break
        if not empty:
            return
    raise LogUnreadableError("the broker gives no more records, though there are more: try again when it is well")


def list_input_partitions(number: int) -> tuple[TopicPartition, ...]:
    """Return the partition with this number of each input topic: together they hold all events of their airports."""
    return tuple(TopicPartition(topic.name, number) for topic in INPUTS)


PARTITION_NUMBERS: Final = range(JOIN_PARTITIONS)
"""Numbers of the input topics' partitions."""
