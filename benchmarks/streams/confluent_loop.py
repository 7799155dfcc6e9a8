"""The stream's work in a bare confluent-kafka loop: fetch, fold, send alerts and state, commit."""

import time

from confluent_kafka import Consumer, Producer

from benchmarks.streams.work import Stopwatch, Task, folding_of, task_from_command_line
from chassis.kafka import parse_sequence
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED


def run(task: Task) -> None:
    folding = folding_of(task)
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
            watch.one_more()
            outcome = folding.outcome(parse_sequence(message.headers()) or 0, message.value())
            if outcome is None:
                continue
            for key, value, partition in folding.alerts(outcome, message.timestamp()[1]):
                producer.produce(ALERTS_RAISED.name, value, key, partition)
            producer.produce(task.changelog, outcome.entry, outcome.key, message.partition())
            folding.write(outcome)
        if messages:
            producer.flush()
            consumer.commit(asynchronous=False)
    watch.ended = time.time()
    consumer.close()
    watch.tell()


if __name__ == "__main__":
    run(task_from_command_line())
