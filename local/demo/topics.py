"""Counts of the records on the topics of flights and alerts, read from the beginning."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from domain.windows import seconds
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.flights.v1.events_pb2 import FlightsObserved
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic


@dataclass(frozen=True, slots=True)
class TopicCounts:
    """The numbers of batches, flights and alerts that a demo run has published to Kafka."""

    batches: int
    """Without duplicates."""
    flights: int
    """Flights of the batches that begin in the demo's days."""
    alert_ids: frozenset[str]


def count_topics(bootstrap_servers: str, begin: datetime, end: datetime) -> TopicCounts:
    """Count the batches, the flights in [begin, end) and the alerts that the topics hold at present."""
    return asyncio.run(_count_topics(bootstrap_servers, seconds(begin), seconds(end)))


async def _count_topics(bootstrap_servers: str, begin: int, end: int) -> TopicCounts:
    """Do the work of `count_topics`; `begin` and `end` are Unix seconds."""
    batches = set(await _read_values(bootstrap_servers, FLIGHTS_OBSERVED))  # a duplicate has the same bytes
    flights = 0
    for value in batches:
        batch = FlightsObserved.FromString(value)
        if begin <= batch.begin.seconds < end:
            flights += len(batch.flights)
    alerts = frozenset(
        AlertRaised.FromString(value).alert_id for value in await _read_values(bootstrap_servers, ALERTS_RAISED)
    )
    return TopicCounts(len(batches), flights, alerts)


async def _read_values(bootstrap_servers: str, topic: Topic) -> list[bytes]:
    """Read the values of all records of a topic up to its present end."""
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
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
