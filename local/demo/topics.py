"""The summary of the topics of flights and alerts, read from the beginning: numbers of records, and alerts' ids."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka_options import load_client_options
from domain.windows import seconds
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.flights.v1.events_pb2 import FlightsObserved
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic


@dataclass(frozen=True, slots=True)
class DemoTopicContents:
    """The numbers of batches and flights, and the ids of the alerts, that a demo run has published to Kafka."""

    batches: int
    """Number of different batches on the topic of flights."""
    flights: int
    """Number of flights in the batches whose intervals begin in the demo's days."""
    alert_ids: frozenset[str]
    """Ids of the alerts on the topic of raised alerts; an alert that was published twice counts once."""


def read_topic_contents(bootstrap_servers: str, begin: datetime, end: datetime) -> DemoTopicContents:
    """Read the topics of flights and alerts from their beginning to their present ends, and summarize their records.

    Flights are counted of the batches whose interval begins in [begin, end); duplicate batches count once. Waits until
    all records are read. Must not be called from an event loop.
    """
    return asyncio.run(_read_topic_contents(bootstrap_servers, seconds(begin), seconds(end)))


async def _read_topic_contents(bootstrap_servers: str, begin: int, end: int) -> DemoTopicContents:
    """Read and summarize the topics, as `read_topic_contents` describes; `begin` and `end` are Unix seconds."""
    batches = set(await read_values(bootstrap_servers, FLIGHTS_OBSERVED))  # a duplicate has the same bytes
    flights = 0
    for value in batches:
        batch = FlightsObserved.FromString(value)
        if begin <= batch.begin.seconds < end:
            flights += len(batch.flights)
    alerts = frozenset(
        AlertRaised.FromString(value).alert_id for value in await read_values(bootstrap_servers, ALERTS_RAISED)
    )
    return DemoTopicContents(len(batches), flights, alerts)


async def read_values(bootstrap_servers: str, topic: Topic) -> list[bytes]:
    """Read the values of all records of a topic up to its present end, in order within each partition.

    Records that are published meanwhile are left out. No consumer group is joined and no offset is committed.
    """
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **load_client_options(),
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        values = []
        unread = {partition for partition in partitions if ends[partition] > 0}
        while unread:
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                values += [record.value for record in records if record.offset < ends[partition]]
            for partition in list(unread):
                if await consumer.position(partition) >= ends[partition]:
                    unread.discard(partition)
        return values
    finally:
        await consumer.stop()
