"""The shape that this project was made to replace: one JSON message for each airport and interest.

Each tells the count and the thresholds; the consumer compares, tells what it finds, flushes and
commits: each by itself.
"""

import json
import time
from collections.abc import Iterator

from kafka import KafkaConsumer, KafkaProducer

from benchmarks.streams.traffic import Record
from benchmarks.streams.work import Stopwatch, Task, task_from_command_line
from towerwatch.topics import Topic

COUNTED = Topic("original-counted", 12)
CROSSED = Topic("original-crossed", 12)
_CROSSES_EVERY = 100


def messages(number: int) -> Iterator[Record]:
    """So many messages as its collector would publish them after a poll."""
    for each in range(number):
        value = {
            "user": f"user{each}@bench.test",
            "airport": "KJFK",
            "direction": "departures",
            "count": 41 if each % _CROSSES_EVERY == 0 else 39,
            "high": 40,
            "low": 5,
        }
        yield Record(each % COUNTED.partitions, b"KJFK", json.dumps(value).encode(), each + 1)


def run(task: Task) -> None:
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
        told = message.value
        if told["count"] > told["high"] or told["count"] < told["low"]:
            producer.send(CROSSED.name, {"user": told["user"], "airport": told["airport"], "count": told["count"]})
        producer.flush()
        consumer.commit()
        if watch.one_more():
            break
    watch.ended = time.time()
    consumer.close()
    producer.close()
    watch.tell()


if __name__ == "__main__":
    run(task_from_command_line())
