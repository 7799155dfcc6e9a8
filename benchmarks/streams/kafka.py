"""The topics of a benchmark, and a client that fills, empties and reads them.

The broker stamps each record when it appends the record, so that one clock measures every contender from outside.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.streams.progress import AppendedRecord
from benchmarks.streams.traffic import Record
from chassis.faust.app import iter_changelog_topics
from chassis.kafka import SEQUENCE_HEADER
from chassis.topics import TopicLike
from streams.app import SERVICE, create_app
from streams.settings import JoinSettings
from towerwatch.topics import CATALOGUE

_QUIET: Final = {"log_level": 0}
"""Client setting without which a stop of the broker prints line after line."""


@dataclass(frozen=True, slots=True)
class StampedTopic:
    """A topic whose records bear the time at which the broker appended them."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def with_append_times(topics: Iterable[TopicLike]) -> list[StampedTopic]:
    """Return descriptions of the same topics with append times as timestamps.

    Compacted topics also get the cleanup policy "delete", so that their records may be deleted.
    """
    found = []
    for topic in topics:
        policy = {"compact": "compact,delete"}.get(cleanup := topic.config.get("cleanup.policy", "delete"), cleanup)
        config = {**topic.config, "cleanup.policy": policy, "message.timestamp.type": "LogAppendTime"}
        found.append(StampedTopic(topic.name, topic.partitions, config))
    return found


def list_stream_topics() -> list[StampedTopic]:
    """List the topics of the catalogue and the changelogs of the stream's tables, all with append times."""
    return with_append_times((*CATALOGUE, *_list_changelogs()))


def find_changelog(table: str) -> str:
    """Return the name of the changelog topic of one of the stream's tables. Raises ValueError for another table."""
    (name,) = (topic.name for topic in _list_changelogs() if topic.name == f"{SERVICE}-{table}-changelog")
    return name


def _list_changelogs() -> list[TopicLike]:
    """List the changelog topics of the stream's tables, by a new app of the stream that connects to nothing."""
    settings = JoinSettings(kafka_bootstrap_servers="localhost:1", data_dir=Path("nowhere"), web_port=1)
    app = create_app(settings)
    app.finalize()
    return list(iter_changelog_topics(app))


class BenchmarkBroker:
    """A client of the benchmark's own broker that fills topics, reads them, and deletes records and consumer groups.

    For one thread; its methods wait for the broker.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, **_QUIET})

    def fill(self, topic: str, records: Iterable[Record], per_second: float | None = None) -> float:
        """Publish records in order, as fast as possible or evenly at a rate, and wait until the broker has all.

        Each record goes to its own partition, with its sequence as a header. Return the seconds that this took. Ends
        the benchmark if the broker does not have all records 120 s after the last one.
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

    def delete_records(self, *topics: str) -> None:
        """Delete all records of some topics, and wait until the broker has done so; the topics and offsets stay."""
        for topic in topics:
            ends = self._fetch_offsets(topic, OffsetSpec.latest())
            partitions = [TopicPartition(topic, number, end) for number, end in ends.items() if end > 0]
            if partitions:
                for future in self._admin.delete_records(partitions).values():
                    future.result()

    def delete_group(self, group: str) -> None:
        """Delete a consumer group and its committed offsets, if the group exists. The group must have no members."""
        for future in self._admin.delete_consumer_groups([group]).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].name() != "GROUP_ID_NOT_FOUND":
                    raise

    def count_records(self, topic: str) -> int:
        """Return the number of records that a topic holds: its end offsets minus its first ones.

        This is right only for a topic of which no record was compacted away.
        """
        begins, ends = (
            self._fetch_offsets(topic, OffsetSpec.earliest()),
            self._fetch_offsets(topic, OffsetSpec.latest()),
        )
        return sum(ends.values()) - sum(begins.values())

    def read_append_times(self, topic: str) -> list[float]:
        """Read the append time of each record of a topic, by the broker's clock (seconds since 1970), sorted."""
        return sorted(record.at for record in self.read_records(topic))

    def read_records(self, topic: str) -> list[AppendedRecord]:
        """Read all records that a topic holds now, those of each partition in order. Ends the benchmark on an error."""
        begins, ends = (
            self._fetch_offsets(topic, OffsetSpec.earliest()),
            self._fetch_offsets(topic, OffsetSpec.latest()),
        )
        remaining = {number: end for number, end in ends.items() if end > begins[number]}
        found: list[AppendedRecord] = []
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "nobody", **_QUIET})
        try:
            consumer.assign([TopicPartition(topic, number, begins[number]) for number in remaining])
            while remaining:
                for message in consumer.consume(10_000, timeout=1.0):
                    if message.error():
                        raise SystemExit(f"{topic} could not be read: {message.error()}")
                    if message.partition() not in remaining:
                        continue  # appended after the end offsets were fetched
                    found.append(
                        AppendedRecord(message.timestamp()[1] / 1000, message.key() or b"", message.value() or b"")
                    )
                    if message.offset() + 1 >= remaining[message.partition()]:
                        del remaining[message.partition()]
        finally:
            consumer.close()
        return found

    def _fetch_offsets(self, topic: str, which: OffsetSpec) -> dict[int, int]:
        """Fetch the first or the end offset of each partition of a topic."""
        partitions = self._admin.list_topics(topic, timeout=30).topics[topic].partitions
        futures = self._admin.list_offsets({TopicPartition(topic, number): which for number in partitions})
        return {each.partition: future.result().offset for each, future in futures.items()}
