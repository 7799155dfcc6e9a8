"""The command `python -m streams replay`, which computes every alert again from the log, to an output topic."""

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from chassis.kafka import start_producer
from chassis.topics import ensure_topics
from streams.errors import ReplayRefusedError
from streams.messages import encode_alert
from streams.replay.log import (
    INPUTS,
    PARTITION_NUMBERS,
    EventStatus,
    FoldedEvent,
    OffsetRanges,
    Offsets,
    PartitionReplay,
    fetch_committed_offsets,
    fetch_offset_ranges,
    list_input_partitions,
    list_partitions,
    open_admin_client,
    open_consumer,
    read_records,
    require_topics,
)
from towerwatch.topics import ALERTS_RAISED, CATALOGUE, FLIGHTS_OBSERVED, Topic, partition_of

_TOPIC_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", re.ASCII)
_SERVICE_TOPIC_PREFIXES: Final = ("streams-", "notifier-", "__")
"""Prefixes of the topics that Faust creates for its tables, and Kafka for itself."""
_SERVICE_GROUPS: Final = ("streams", "notifier", "collector")
"""Consumer groups of the services; names that begin with one of them and a dash are the services' too."""
_MAX_UNCONFIRMED_ALERTS: Final = 5_000
"""Alerts that may be in flight to the broker at once."""


@dataclass(slots=True)
class ReplayCounts:
    """The numbers of events read by a replay, by status, of flights and batches folded, and of alerts sent."""

    statuses: Counter[EventStatus] = field(default_factory=Counter)
    flights: int = 0
    batches: int = 0
    alerts: int = 0
    """Number of alerts sent; a comparison sends none."""
    took_s: float = 0.0
    """Duration of the whole replay."""

    def add_event(self, event: FoldedEvent) -> None:
        """Count an event by its status; of a folded batch, also the batch and its flights. Alerts are not counted."""
        self.statuses[event.status] += 1
        if event.result is not None:
            self.flights += event.result.flights
            self.batches += event.record.topic == FLIGHTS_OBSERVED.name

    @property
    def events(self) -> int:
        """Number of events read."""
        return self.statuses.total()

    def __str__(self) -> str:
        """Return one line with all numbers, except those of the alerts and of the duration."""
        return (
            f"{self.events:,} events read: {self.flights:,} flights in {self.batches:,} batches, "
            f"{self.statuses[EventStatus.FOLDED] - self.batches:,} changes of interests, "
            f"{self.statuses[EventStatus.DUPLICATE]:,} repeats, {self.statuses[EventStatus.DEAD_LETTERED]:,} unusable"
        )


def build_group_name(output: str) -> str:
    """Return the default name of the consumer group of a replay to the topic `output`."""
    return f"replay-of-{output}"


def build_output_topic(name: str) -> Topic:
    """Build the description of a replay's output topic, with the partitions and settings of alerts.raised.v1.

    Raises ReplayRefusedError for an invalid name, or a name of the services' own topics or Kafka's. Creates nothing.
    """
    if _TOPIC_NAME.fullmatch(name) is None:
        raise ReplayRefusedError(
            f"{name!r} is no topic's name: take up to 249 of letters, digits, dot, dash, underscore"
        )
    if name in {topic.name for topic in CATALOGUE} or name.startswith(_SERVICE_TOPIC_PREFIXES):
        raise ReplayRefusedError(f"{name} is one of Towerwatch's own topics: choose another name for the output")
    return Topic(name, ALERTS_RAISED.partitions, ALERTS_RAISED.config)


async def replay(bootstrap_servers: str, output: Topic, group: str, replication_factor: int) -> ReplayCounts:
    """Compute every alert from the beginning of the log to its present end, send them to `output`, return the counts.

    Creates `output` (with `replication_factor`) if it is missing; else it must be empty. The partitions are replayed
    one after the other. When the broker has all alerts of a partition, `group` commits the offsets up to which the
    partition was read: a group without a commit for some partition belongs to a replay that was interrupted. Raises
    ReplayRefusedError if the group is a service's, has members or committed offsets, or if `output` holds records;
    LogUnreadableError, BrokerUnreachableError, TopicMismatchError, TopicRefusedError, or KafkaError.
    """
    begun_at = time.monotonic()
    async with open_admin_client(bootstrap_servers) as admin:
        await require_topics(admin, INPUTS)
        await _require_new_group(admin, group)
    await ensure_topics(bootstrap_servers, [output], replication_factor)
    counts = ReplayCounts()
    async with open_consumer(bootstrap_servers, group) as consumer:
        await _require_empty_topic(consumer, output)
        within = await fetch_offset_ranges(consumer, list_partitions(*INPUTS))
        producer = await start_producer(bootstrap_servers)
        try:
            for number in PARTITION_NUMBERS:
                await _replay_partition(consumer, producer, number, within, output, counts)
        finally:
            await producer.stop()
    counts.took_s = time.monotonic() - begun_at
    return counts


async def _require_new_group(admin: AIOKafkaAdminClient, group: str) -> None:
    """Raise ReplayRefusedError if the group belongs to a service, has members, or has committed offsets.

    A service's groups are its own name, and names that begin with it and a dash. Only commits in the input topics
    count.
    """
    if group.startswith(tuple(f"{name}-" for name in _SERVICE_GROUPS)) or group in _SERVICE_GROUPS:
        raise ReplayRefusedError(f"{group} is a consumer group of Towerwatch's own: name another by --group")
    (response,) = await admin.describe_consumer_groups([group])
    states = [described[2] for described in response.groups]
    if any(state not in ("Dead", "Empty") for state in states) or await fetch_committed_offsets(admin, group):
        raise ReplayRefusedError(
            f"the consumer group {group} is in use, or was: name another by --group, "
            "for a replay begins from nothing and leaves the others' offsets alone"
        )


async def _require_empty_topic(consumer: AIOKafkaConsumer, output: Topic) -> None:
    """Raise ReplayRefusedError if a partition's first and end offsets differ, which is so while it holds records.

    A topic whose records were all deleted by retention passes.
    """
    found = await fetch_offset_ranges(consumer, list_partitions(output))
    if found.begins != found.ends:
        raise ReplayRefusedError(
            f"{output.name} holds records already, and a replay must not be mixed with anything: "
            "delete the topic, or choose another"
        )


async def _replay_partition(
    consumer: AIOKafkaConsumer,
    producer: AIOKafkaProducer,
    number: int,
    within: OffsetRanges,
    output: Topic,
    counts: ReplayCounts,
) -> None:
    """Fold the input partitions of one number, send their alerts to `output`, wait, then commit their end offsets.

    Up to `_MAX_UNCONFIRMED_ALERTS` alerts are in flight. Commits only when the broker has all of them, also for an
    empty partition. Adds the events and the alerts to `counts`. Changes the consumer's assignment.
    """
    inputs = list_input_partitions(number)
    partition_replay = PartitionReplay()
    sent: list[asyncio.Future[ConsumerRecord]] = []
    async for record in read_records(consumer, inputs, within):
        event = partition_replay.fold_event(record)
        published_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        for alert in partition_replay.build_alerts(event):
            user_id = str(alert.user_id)
            sent.append(
                await producer.send(
                    output.name,
                    key=user_id.encode(),
                    value=encode_alert(alert, published_at),
                    partition=partition_of(user_id, output),
                )
            )
            counts.alerts += 1
            if len(sent) == _MAX_UNCONFIRMED_ALERTS:
                await asyncio.gather(*sent)
                sent.clear()
        partition_replay.write_result(event)
        counts.add_event(event)
    await asyncio.gather(*sent)
    consumer.assign(list(inputs))  # read_records assigns no empty partition
    await consumer.commit({partition: within.ends[partition] for partition in inputs})


def is_replay_complete(offsets: Offsets) -> bool:
    """Return True if the replay that committed these offsets is complete, False if it was interrupted or still runs."""
    return set(offsets) >= set(list_partitions(*INPUTS))
