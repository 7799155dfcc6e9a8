"""The message shape that this project replaces: one JSON message for each airport and interest.

Each message holds the count and the thresholds. The consumer compares, publishes a crossed threshold, flushes and
commits, message by message.
"""

import json
import time
from collections.abc import Iterator

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.streams.traffic import Record
from benchmarks.streams.work import Stopwatch, Task, parse_task
from towerwatch.topics import Topic

COUNTED = Topic("original-counted", 12)
CROSSED = Topic("original-crossed", 12)
_CROSSES_EVERY = 100


def build_messages(number: int) -> Iterator[Record]:
    """Build `number` messages as the original's collector would publish them after a poll: one for each interest.

    One in a hundred crosses its high threshold. The partitions take turns.
    """
    for index in range(number):
        value = {
            "user": f"user{index}@bench.test",
            "airport": "KJFK",
            "direction": "departures",
            "count": 41 if index % _CROSSES_EVERY == 0 else 39,
            "high": 40,
            "low": 5,
        }
        yield Record(index % COUNTED.partitions, b"KJFK", json.dumps(value).encode(), index + 1)


def run(task: Task) -> None:
    """Compare the task's messages with their thresholds as the original does, and print the times.

    A crossed threshold is published; the producer is flushed and the offset committed after each message.
    """
    consumer = KafkaConsumer(
        COUNTED.name,
        bootstrap_servers=task.bootstrap_servers,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        value_deserializer=lambda value: json.loads(value.decode()),
    )
    producer = KafkaProducer(
        bootstrap_servers=task.bootstrap_servers, value_serializer=lambda value: json.dumps(value).encode()
    )
    watch = Stopwatch(task)
    for message in consumer:
        fields = message.value
        if fields["count"] > fields["high"] or fields["count"] < fields["low"]:
            producer.send(
                CROSSED.name, {"user": fields["user"], "airport": fields["airport"], "count": fields["count"]}
            )
        producer.flush()
        consumer.commit()
        if watch.count_message():
            break
    watch.ended = time.time()
    consumer.close()
    producer.close()
    watch.print_times()


if __name__ == "__main__":
    run(parse_task())
