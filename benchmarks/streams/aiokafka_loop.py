"""The stream's work in a bare aiokafka loop: fetch, fold, send alerts and state, commit.

The loop commits the offsets of a fetch once the broker has acknowledged all alerts and states of the fetch.
"""

import asyncio
import time
from asyncio import Future
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.streams.work import Stopwatch, Task, build_folding, parse_task
from chassis.kafka import parse_sequence
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED


async def run(task: Task) -> None:
    """Fold the task's messages with aiokafka, publish alerts and states, and print the times.

    The offsets of a fetch are committed once the broker has acknowledged all records of the fetch.
    """
    folding = build_folding(task)
    consumer = AIOKafkaConsumer(
        FLIGHTS_OBSERVED.name,
        bootstrap_servers=task.bootstrap_servers,
        group_id=task.group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=task.bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        linger_ms=20,
        max_batch_size=128 * 1024,
    )
    watch = Stopwatch(task)
    async with consumer, producer:
        while watch.done < task.messages:
            sent: list[Future[Any]] = []
            for messages in (await consumer.getmany(timeout_ms=1000, max_records=500)).values():
                for message in messages:
                    watch.count_message()
                    result = folding.compute_result(parse_sequence(message.headers) or 0, message.value)
                    if result is None:
                        continue
                    for key, value, partition in folding.encode_alerts(result, message.timestamp):
                        sent.append(await producer.send(ALERTS_RAISED.name, value, key, partition))
                    state = await producer.send(task.changelog, result.entry, result.key, message.partition)
                    sent.append(state)
                    folding.write_result(result)
            if sent:
                await asyncio.gather(*sent)
                await consumer.commit()
        watch.ended = time.time()
    watch.print_times()


if __name__ == "__main__":
    import uvloop

    uvloop.run(run(parse_task()))
