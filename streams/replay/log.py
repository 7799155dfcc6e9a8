"""The log of the stream's two inputs, read from its beginning and folded once more, without Faust.

The rule is the stream's own (`streams.join_state`); all that surrounds it there is not here: no tables on disk, no
changelogs, no rebalances, no recovery. So where the two say the same, it is not because both are wrong alike.
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
from chassis.topics import wait_for_broker
from domain.alerts import Alert
from streams.errors import LogUnreadableError, MisroutedError, UnsequencedError, UnusableEventError
from streams.join_state import Desk, Outcome
from streams.messages import ObservedFlights, decode_flights, decode_interest_key
from towerwatch.topics import FLIGHTS_OBSERVED, INTERESTS_CHANGED, JOIN_PARTITIONS, Topic, partition_of

log = structlog.get_logger()

INPUTS: Final = (FLIGHTS_OBSERVED, INTERESTS_CHANGED)
UNREACHABLE_AFTER_S: Final = 15.0
_POLL_MS: Final = 1_000
_SILENT_POLLS: Final = 60


Offsets = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Reach:
    """From where to where records are in partitions, as of one moment."""

    begins: Offsets
    ends: Offsets
    """The offset after the last one."""


class Fate(StrEnum):
    """What becomes of an event."""

    FOLDED = "folded"
    DUPLICATE = "duplicate"
    PUT_ASIDE = "put aside"


@dataclass(frozen=True, slots=True)
class Step:
    """One event and what follows from it."""

    record: ConsumerRecord
    fate: Fate
    outcome: Outcome | None = None
    """Of one that is folded."""
    batch: ObservedFlights | None = None
    """Of one that is folded and is of flights."""
    watermark: int | None = None
    """Up to where the batch's flow was covered before it (seconds since 1970)."""


class Refold:
    """The events of one partition of the inputs, folded from nothing. Its state is in memory and ends with it."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[bytes, bytes]] = {topic.name: {} for topic in INPUTS}
        self._history: dict[bytes, bytes] = {}
        self._desk = Desk(self._tables[FLIGHTS_OBSERVED.name], self._tables[INTERESTS_CHANGED.name], self._history)

    def step(self, record: ConsumerRecord) -> Step:
        """What follows from the next event. `alerts` may be asked, and then `write` must be called."""
        try:
            return self._folded(record)
        except UnusableEventError:
            return Step(record, Fate.PUT_ASIDE)
        except Exception as error:  # the stream puts aside what the rule has a bug for, and so must its replay
            log.error("replay.failed", error=type(error).__name__, exc_info=error)
            return Step(record, Fate.PUT_ASIDE)

    def _folded(self, record: ConsumerRecord) -> Step:
        sequence = parse_sequence(record.headers)
        if sequence is None:
            raise UnsequencedError("no sequence among the headers")
        batch = watermark = None
        if record.topic == INTERESTS_CHANGED.name:
            key = record.key or b""
            _require_partition(record, decode_interest_key(key)[0])
            outcome = self._desk.interest_changed(sequence, key, record.value)
        else:
            batch = decode_flights(record.value)
            _require_partition(record, batch.airport)
            (flow,) = self._desk.traffic(batch.airport)[1].flows(batch.observation.direction)
            watermark = flow.watermark
            outcome = self._desk.flights_observed(sequence, batch)
        if outcome is None:
            return Step(record, Fate.DUPLICATE)
        return Step(record, Fate.FOLDED, outcome, batch, watermark)

    def alerts(self, step: Step) -> Iterator[Alert]:
        """What is to be said because of a step that is not written yet."""
        return self._desk.alerts(step.outcome) if step.outcome is not None else iter(())

    def write(self, step: Step) -> None:
        """Make the step's outcome the state that the next one begins from."""
        if step.outcome is None:
            return
        for key, row in step.outcome.past.items():
            if row is None:
                self._history.pop(key, None)
            else:
                self._history[key] = row
        self._tables[step.record.topic][step.outcome.key] = step.outcome.entry
        self._desk.written(step.outcome)


def _require_partition(record: ConsumerRecord, airport: str) -> None:
    if partition_of(airport, FLIGHTS_OBSERVED) != record.partition:
        raise MisroutedError("not in the partition of its airport")


def partitions(*topics: Topic) -> tuple[TopicPartition, ...]:
    return tuple(TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions))


@asynccontextmanager
async def reader(bootstrap_servers: str, group: str | None = None) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer that is given its partitions by hand and commits by hand, to `group` if any."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await stop_consumer(consumer)


@asynccontextmanager
async def administration(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for questions about groups and topics. Raises BrokerUnreachableError where no broker answers soon."""
    await wait_for_broker(bootstrap_servers, UNREACHABLE_AFTER_S)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def require_topics(admin: AIOKafkaAdminClient, topics: Iterable[Topic]) -> None:
    """Raises LogUnreadableError, naming it, where one is not there or has another number of partitions."""
    there = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics()}
    for topic in topics:
        if there.get(topic.name) != topic.partitions:
            raise LogUnreadableError(
                f"the broker has no topic {topic.name} of {topic.partitions} partitions: "
                "is KAFKA_BOOTSTRAP_SERVERS the broker that is meant?"
            )


async def committed(admin: AIOKafkaAdminClient, group: str) -> Offsets:
    """How far a group has come in the inputs; partitions that it has committed nothing of are left out."""
    offsets = await admin.list_consumer_group_offsets(group, partitions=list(partitions(*INPUTS)))
    return {partition: each.offset for partition, each in offsets.items() if each.offset >= 0}


async def reach(consumer: AIOKafkaConsumer, of: Iterable[TopicPartition]) -> Reach:
    wanted = list(of)
    return Reach(await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted))


async def records(
    consumer: AIOKafkaConsumer, of: Iterable[TopicPartition], within: Reach
) -> AsyncIterator[ConsumerRecord]:
    """All records of these partitions in the order of their timestamps; those of one partition in their own order.

    Raises LogUnreadableError when nothing comes for a minute.
    """
    queues: dict[TopicPartition, deque[ConsumerRecord]] = {
        each: deque() for each in of if within.begins[each] < within.ends[each]
    }
    if not queues:
        return
    consumer.assign(list(queues))
    for each in queues:
        consumer.seek(each, within.begins[each])
    unread = set(queues)
    while queues:
        await _fill(consumer, queues, unread, within.ends)
        for each in [each for each, queue in queues.items() if not queue and each not in unread]:
            del queues[each]
        while queues and all(queues.values()):
            # At one and the same millisecond, an interest before the flights.
            first = min(queues, key=lambda each: (queues[each][0].timestamp, each.topic != INTERESTS_CHANGED.name))
            yield queues[first].popleft()


async def _fill(
    consumer: AIOKafkaConsumer,
    queues: dict[TopicPartition, deque[ConsumerRecord]],
    unread: set[TopicPartition],
    ends: Offsets,
) -> None:
    """Return when each queue that is empty has a record, or its partition is read to the end."""
    for _ in range(_SILENT_POLLS):
        hungry = [each for each in unread if not queues[each]]
        while hungry:
            fetched = await consumer.getmany(*hungry, timeout_ms=_POLL_MS)
            for each, found in fetched.items():
                queues[each].extend(record for record in found if record.offset < ends[each])
            for each in hungry:  # what compaction took away at the end is passed over without a record
                if await consumer.position(each) >= ends[each]:
                    unread.discard(each)
            hungry = [each for each in unread if not queues[each]]
            if not fetched:
                break
        if not hungry:
            return
    raise LogUnreadableError("the broker gives no more records, though there are more: try again when it is well")


def join_partitions(number: int) -> tuple[TopicPartition, ...]:
    """The partitions of the inputs with this number: all that is known of their airports."""
    return tuple(TopicPartition(topic.name, number) for topic in INPUTS)


NUMBERS: Final = range(JOIN_PARTITIONS)
