"""`python -m streams replay`: every alert computed once more from the log, to a topic of the operator's choice."""

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
    NUMBERS,
    Fate,
    Offsets,
    Reach,
    Refold,
    Step,
    administration,
    committed,
    join_partitions,
    partitions,
    reach,
    reader,
    records,
    require_topics,
)
from towerwatch.topics import ALERTS_RAISED, CATALOGUE, FLIGHTS_OBSERVED, Topic, partition_of

_NAME: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}", re.ASCII)
_OF_SERVICES: Final = ("streams-", "notifier-", "__")
"""What the topics begin with that Faust makes for its tables, and Kafka for itself."""
_GROUPS_OF_SERVICES: Final = ("streams", "notifier", "collector")
"""Or what begins so, with a dash after it."""
_UNACKNOWLEDGED: Final = 5_000
"""Alerts that may be on their way to the broker at once."""


@dataclass(slots=True)
class Tally:
    """What a replay has read and computed."""

    fates: Counter[Fate] = field(default_factory=Counter)
    flights: int = 0
    batches: int = 0
    alerts: int = 0
    took_s: float = 0.0

    def count(self, step: Step) -> None:
        self.fates[step.fate] += 1
        if step.outcome is not None:
            self.flights += step.outcome.flights
            self.batches += step.record.topic == FLIGHTS_OBSERVED.name

    @property
    def events(self) -> int:
        return self.fates.total()

    def __str__(self) -> str:
        return (
            f"{self.events:,} events read: {self.flights:,} flights in {self.batches:,} batches, "
            f"{self.fates[Fate.FOLDED] - self.batches:,} changes of interests, "
            f"{self.fates[Fate.DUPLICATE]:,} repeats, {self.fates[Fate.PUT_ASIDE]:,} unusable"
        )


def default_group(output: str) -> str:
    """The consumer group of the replay that fills a topic."""
    return f"replay-of-{output}"


def output_topic(name: str) -> Topic:
    """The topic that a replay fills, as it shall be. Raises ReplayRefusedError for one that is somebody's already."""
    if _NAME.fullmatch(name) is None:
        raise ReplayRefusedError(
            f"{name!r} is no topic's name: take up to 249 of letters, digits, dot, dash, underscore"
        )
    if name in {topic.name for topic in CATALOGUE} or name.startswith(_OF_SERVICES):
        raise ReplayRefusedError(f"{name} is one of Towerwatch's own topics: choose another name for the output")
    return Topic(name, ALERTS_RAISED.partitions, ALERTS_RAISED.config)


async def replay(bootstrap_servers: str, output: Topic, group: str, replication_factor: int) -> Tally:
    """Compute every alert from the beginning of the log to its end as of now, and send it to `output`.

    When the broker has all alerts of a partition, `group` commits how far the partition was read: a group that has
    committed nothing of some of them belongs to a replay that was interrupted. Raises ReplayRefusedError where the
    group or the topic is in use, LogUnreadableError, or BrokerUnreachableError.
    """
    begun_at = time.monotonic()
    async with administration(bootstrap_servers) as admin:
        await require_topics(admin, INPUTS)
        await _require_new(admin, group)
    await ensure_topics(bootstrap_servers, [output], replication_factor)
    tally = Tally()
    async with reader(bootstrap_servers, group) as consumer:
        await _require_empty(consumer, output)
        within = await reach(consumer, partitions(*INPUTS))
        producer = await start_producer(bootstrap_servers)
        try:
            for number in NUMBERS:
                await _replay_partition(consumer, producer, number, within, output, tally)
        finally:
            await producer.stop()
    tally.took_s = time.monotonic() - begun_at
    return tally


async def _require_new(admin: AIOKafkaAdminClient, group: str) -> None:
    if group.startswith(tuple(f"{name}-" for name in _GROUPS_OF_SERVICES)) or group in _GROUPS_OF_SERVICES:
        raise ReplayRefusedError(f"{group} is a consumer group of Towerwatch's own: name another by --group")
    (answer,) = await admin.describe_consumer_groups([group])
    states = [described[2] for described in answer.groups]
    if any(state not in ("Dead", "Empty") for state in states) or await committed(admin, group):
        raise ReplayRefusedError(
            f"the consumer group {group} is in use, or was: name another by --group, "
            "for a replay begins from nothing and leaves the others' offsets alone"
        )


async def _require_empty(consumer: AIOKafkaConsumer, output: Topic) -> None:
    there = await reach(consumer, partitions(output))
    if there.begins != there.ends:
        raise ReplayRefusedError(
            f"{output.name} holds records already, and a replay must not be mixed with anything: "
            "delete the topic, or choose another"
        )


async def _replay_partition(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, number: int, within: Reach, output: Topic, tally: Tally
) -> None:
    inputs = join_partitions(number)
    refold = Refold()
    sent: list[asyncio.Future[ConsumerRecord]] = []
    async for record in records(consumer, inputs, within):
        step = refold.step(record)
        published_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        for alert in refold.alerts(step):
            user_id = str(alert.user_id)
            sent.append(
                await producer.send(
                    output.name,
                    key=user_id.encode(),
                    value=encode_alert(alert, published_at),
                    partition=partition_of(user_id, output),
                )
            )
            tally.alerts += 1
            if len(sent) == _UNACKNOWLEDGED:
                await asyncio.gather(*sent)
                sent.clear()
        refold.write(step)
        tally.count(step)
    await asyncio.gather(*sent)
    consumer.assign(list(inputs))  # there may have been nothing to read
    await consumer.commit({each: within.ends[each] for each in inputs})


def is_complete(offsets: Offsets) -> bool:
    """Whether the replay whose group has committed these has come to its end."""
    return set(offsets) >= set(partitions(*INPUTS))
