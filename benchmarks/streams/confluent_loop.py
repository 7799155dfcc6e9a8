"""The stream's work in a bare confluent-kafka loop: fetch, fold, send alerts and state, commit."""

import time

from confluent_kafka import Consumer, Producer

from benchmarks.streams.work import Stopwatch, Task, build_folding, parse_task
from chassis.kafka import parse_sequence
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED


def run(task: Task) -> None:
    """Fold the task's messages with confluent-kafka, publish alerts and states, and print the times.

    The offsets of a fetch are committed once the broker has acknowledged all records of the fetch.
    """
    folding = build_folding(task)
    consumer = Consumer(
        {
            "bootstrap.servers": task.bootstrap_servers,
            "group.id": task.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": task.bootstrap_servers,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 128 * 1024,
        }
    )
    consumer.subscribe([FLIGHTS_OBSERVED.name])
    watch = Stopwatch(task)
    while watch.done < task.messages:
        messages = consumer.consume(500, timeout=0.1)
        for message in messages:
            if message.error():
                raise SystemExit(str(message.error()))
            watch.count_message()
            result = folding.compute_result(parse_sequence(message.headers()) or 0, message.value())
            if result is None:
                continue
            for key, value, partition in folding.encode_alerts(result, message.timestamp()[1]):
                producer.produce(ALERTS_RAISED.name, value, key, partition)
            producer.produce(task.changelog, result.entry, result.key, message.partition())
            folding.write_result(result)
        if messages:
            producer.flush()
            consumer.commit(asynchronous=False)
    watch.ended = time.time()
    consumer.close()
    watch.print_times()


if __name__ == "__main__":
    run(parse_task())
