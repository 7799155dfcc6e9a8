"""What is on the topics, read from their beginning: what the story is measured by."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from aiokafka import AIOKafkaConsumer, TopicPartition

from domain.windows import seconds
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.flights.v1.events_pb2 import FlightsObserved
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic


@dataclass(frozen=True, slots=True)
class Measured:
    """What passed through Kafka."""

    batches: int
    flights: int
    """With an event time in the story's days."""
    alert_ids: frozenset[str]


def measure(bootstrap_servers: str, begin: datetime, end: datetime) -> Measured:
    """Read the topics of flights and alerts as far as they reach now."""
    return asyncio.run(_measure(bootstrap_servers, seconds(begin), seconds(end)))


async def _measure(bootstrap_servers: str, begin: int, end: int) -> Measured:
    batches = set(await _values(bootstrap_servers, FLIGHTS_OBSERVED))  # a repeat is the same bytes
    flights = 0
    for value in batches:
        batch = FlightsObserved.FromString(value)
        if begin <= batch.begin.seconds < end:
            flights += len(batch.flights)
    alerts = frozenset(
        AlertRaised.FromString(value).alert_id for value in await _values(bootstrap_servers, ALERTS_RAISED)
    )
    return Measured(len(batches), flights, alerts)


async def _values(bootstrap_servers: str, topic: Topic) -> list[bytes]:
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        values = []
        left = {partition for partition in partitions if ends[partition] > 0}
        while left:
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                values += [record.value for record in records if record.offset < ends[partition]]
            for partition in list(left):
                if await consumer.position(partition) >= ends[partition]:
                    left.discard(partition)
        return values
    finally:
        await consumer.stop()
