"""Reading a whole topic once, from its beginning to its end as of now."""

from collections.abc import AsyncIterator
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord

from chassis.kafka import stop_consumer
from chassis.kafka_options import load_client_options

_POLL_MS: Final = 1_000


async def read_topic(bootstrap_servers: str, topic: str, partitions: int) -> AsyncIterator[ConsumerRecord]:
    """Yield all records that a topic has now, in the order of each partition; nothing is committed.

    Waits for records that the broker does not give: cancel it after a timeout. Raises KafkaError or OSError, also if
    the topic does not exist.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **load_client_options(),
    )
    try:
        await consumer.start()
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        begins, ends = await consumer.beginning_offsets(wanted), await consumer.end_offsets(wanted)
        unread = {each for each in wanted if begins[each] < ends[each]}
        consumer.assign(sorted(unread))
        for partition in unread:
            consumer.seek(partition, begins[partition])
        while unread:
            for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    yield record
            # Compaction may have removed the last records: the position passes them silently.
            unread = {each for each in unread if await consumer.position(each) < ends[each]}
    finally:
        await stop_consumer(consumer)
