"""The topics of a benchmark: made, filled, emptied, and read for what the broker's clock says of them.

All are stamped by the broker when it appends a record, so that one clock measures every contender from outside.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.streams.progress import Appended
from benchmarks.streams.traffic import Record
from chassis.faust.app import iter_changelog_topics
from chassis.kafka import SEQUENCE_HEADER
from chassis.topics import TopicLike
from streams.app import SERVICE, create_app
from streams.settings import StreamsSettings
from towerwatch.topics import CATALOGUE

_QUIET: Final = {"log_level": 0}
"""A broker that stops is told to the screen otherwise, line after line."""


@dataclass(frozen=True, slots=True)
class StampedTopic:
    """A topic whose records bear the time at which the broker appended them."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def stamped(topics: Iterable[TopicLike]) -> list[StampedTopic]:
    """The same topics, stamped by the broker; a compacted one may be emptied too."""
    found = []
    for topic in topics:
        policy = {"compact": "compact,delete"}.get(cleanup := topic.config.get("cleanup.policy", "delete"), cleanup)
        config = {**topic.config, "cleanup.policy": policy, "message.timestamp.type": "LogAppendTime"}
        found.append(StampedTopic(topic.name, topic.partitions, config))
    return found


def stream_topics() -> list[StampedTopic]:
    """The catalogue, and the changelogs of the stream's tables."""
    return stamped((*CATALOGUE, *_changelogs()))


def changelog_of(table: str) -> str:
    """The name of the topic that one of the stream's tables is recovered from."""
    (name,) = (topic.name for topic in _changelogs() if topic.name == f"{SERVICE}-{table}-changelog")
    return name


def _changelogs() -> list[TopicLike]:
    settings = StreamsSettings(kafka_bootstrap_servers="localhost:1", data_dir=Path("nowhere"), web_port=1)
    app = create_app(settings)
    app.finalize()
    return list(iter_changelog_topics(app))


class Cluster:
    """The benchmark's own broker, as an administrator sees it. For one thread; its methods wait for the broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, **_QUIET})

    def fill(self, topic: str, records: Iterable[Record], per_second: float | None = None) -> float:
        """Publish in order, as quickly as can be or evenly at a rate; returns once the broker has all.

        Returns how many seconds it took.
        """
        producer = Producer(
            {
                **_QUIET,
                "bootstrap.servers": self.bootstrap_servers,
                "enable.idempotence": True,
                "linger.ms": 20 if per_second is None else 0,
                "batch.size": 512 * 1024,
                "queue.buffering.max.messages": 200_000,
            }
        )
        began = time.monotonic()
        for number, record in enumerate(records):
            if per_second is not None and (early := began + number / per_second - time.monotonic()) > 0:
                time.sleep(early)
            headers = [(SEQUENCE_HEADER, str(record.sequence).encode())]
            while True:
                try:
                    producer.produce(topic, record.value, record.key, record.partition, headers=headers)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(120):
            raise SystemExit(f"the broker did not take what {topic} was to be filled with")
        return time.monotonic() - began

    def empty(self, *topics: str) -> None:
        """Delete all records of the topics; their offsets go on."""
        for topic in topics:
            ends = self._offsets(topic, OffsetSpec.latest())
            places = [TopicPartition(topic, number, end) for number, end in ends.items() if end > 0]
            if places:
                for future in self._admin.delete_records(places).values():
                    future.result()

    def forget_group(self, group: str) -> None:
        """Delete what a consumer group has committed. Nobody may be in it any more."""
        for future in self._admin.delete_consumer_groups([group]).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].name() != "GROUP_ID_NOT_FOUND":
                    raise

    def count(self, topic: str) -> int:
        """How many records a topic has, where none was compacted away."""
        begins, ends = self._offsets(topic, OffsetSpec.earliest()), self._offsets(topic, OffsetSpec.latest())
        return sum(ends.values()) - sum(begins.values())

    def appended_at(self, topic: str) -> list[float]:
        """When each record of a topic was appended, by the broker's clock (seconds since 1970), in that order."""
        return sorted(record.at for record in self.records(topic))

    def records(self, topic: str) -> list[Appended]:
        """All that is in a topic; of each partition in order."""
        begins, ends = self._offsets(topic, OffsetSpec.earliest()), self._offsets(topic, OffsetSpec.latest())
        left = {number: end for number, end in ends.items() if end > begins[number]}
        found: list[Appended] = []
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "nobody", **_QUIET})
        try:
            consumer.assign([TopicPartition(topic, number, begins[number]) for number in left])
            while left:
                for message in consumer.consume(10_000, timeout=1.0):
                    if message.error():
                        raise SystemExit(f"{topic} could not be read: {message.error()}")
                    found.append(Appended(message.timestamp()[1] / 1000, message.key() or b"", message.value() or b""))
                    if message.offset() + 1 >= left[message.partition()]:
                        del left[message.partition()]
        finally:
            consumer.close()
        return found

    def _offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        partitions = self._admin.list_topics(topic, timeout=30).topics[topic].partitions
        asked = self._admin.list_offsets({TopicPartition(topic, number): which for number in partitions})
        return {place.partition: future.result().offset for place, future in asked.items()}
