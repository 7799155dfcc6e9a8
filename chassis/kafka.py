"""Kafka clients: start a producer, stop a consumer, parse the sequence header, create topics without a timeout."""

import asyncio
from collections.abc import Iterable, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from chassis.kafka_options import load_client_options
from chassis.topics import BrokerUnreachableError, TopicLike, ensure_topics

log = structlog.get_logger()

SEQUENCE_HEADER = "sequence"
"""The header of every event from an outbox: a decimal number that only grows within a partition."""

_LARGEST = 2**63 - 1


def parse_sequence(headers: Mapping[str, bytes | None] | Iterable[tuple[str, bytes | None]] | None) -> int | None:
    """Return the sequence from a record's headers, or None if it is missing or not a decimal number of 63 bits.

    If several headers have its name, the first one counts.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    for name, value in pairs:
        if name == SEQUENCE_HEADER:
            if value is None or not value.isdigit() or len(value) > len(str(_LARGEST)):
                return None
            sequence = int(value)
            return sequence if sequence <= _LARGEST else None
    return None


async def start_producer(bootstrap_servers: str) -> AIOKafkaProducer:
    """Wait without timeout for the broker, and return a started, idempotent producer with acks=all.

    Each failure is logged; the pauses between the attempts double from 0.2 s to 10 s. The caller stops the producer.
    """
    pause = 0.2
    while True:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers,
            enable_idempotence=True,
            acks="all",
            max_batch_size=256 * 1024,
            **load_client_options(),
        )
        try:
            await producer.start()
        except (KafkaError, OSError, UnicodeError) as error:
            await producer.stop()
            log.warning("kafka.waiting", error=type(error).__name__, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)
        else:
            return producer


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a command's consumer, without an error if the broker is unavailable.

    In that case aiokafka raises the CancelledError of a task of its own, which would hide why the command ends, and is
    dropped here. CancelledError is raised only if the present task itself is cancelled.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise


async def ensure_topics_without_timeout(
    bootstrap_servers: str, topics: Iterable[TopicLike], replication_factor: int
) -> None:
    """Create missing topics, and wait for the broker and for the topics' leaders without timeout.

    Each minute without success is logged. Raises TopicMismatchError if a topic has another partition count,
    TopicRefusedError if the broker refuses to create a topic.
    """
    wanted = tuple(topics)
    while True:
        try:
            await ensure_topics(bootstrap_servers, wanted, replication_factor)
            return
        except BrokerUnreachableError:
            log.warning("kafka.waiting", wanted="topics")
