"""The stream's work as a user of Quix Streams writes it: a stateful function, its state in RocksDB with a changelog.

Quix writes state and commits by checkpoints, every five seconds by default: of the states of an airport within one only
the last one goes to the changelog.
"""

import logging
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from quixstreams import Application, State
from quixstreams.models import SerializationContext, Serializer

from benchmarks.streams.work import Stopwatch, Task, folding_of, task_from_command_line
from chassis.kafka import parse_sequence
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED

Keyed = tuple[str, bytes]


class _Value(Serializer):
    """Of a pair of key and value the value."""

    def __call__(self, value: Keyed, ctx: SerializationContext) -> bytes:
        return value[1]


def run(task: Task) -> None:
    folding = folding_of(task)
    watch = Stopwatch(task)

    def count(_topic: str, _partition: int, _offset: int) -> None:
        if watch.one_more():
            application.stop()

    def fold(value: bytes, key: bytes, timestamp: int, headers: Any, state: State[Any, Any]) -> Iterable[Keyed]:
        if not folding.knows(key):
            folding.restore(key, state.get_bytes("traffic"))
        outcome = folding.outcome(parse_sequence(headers) or 0, value)
        if outcome is None:
            return []
        alerts = [(key.decode(), value) for key, value, _ in folding.alerts(outcome, timestamp)]
        state.set_bytes("traffic", outcome.entry)
        folding.write(outcome)
        return alerts

    application = Application(
        broker_address=task.bootstrap_servers,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=task.data,
        producer_extra_config={"partitioner": "murmur2", "enable.idempotence": True, "linger.ms": 20},
        on_message_processed=count,
        loglevel=logging.WARNING,
    )
    flights = application.topic(FLIGHTS_OBSERVED.name, value_deserializer="bytes", key_deserializer="bytes")
    alerts = application.topic(ALERTS_RAISED.name, value_serializer=_Value(), key_serializer="str")
    frame = application.dataframe(flights)
    frame = frame.apply(fold, stateful=True, expand=True, metadata=True)
    frame.to_topic(alerts, key=itemgetter(0))
    application.run()
    watch.tell()


if __name__ == "__main__":
    run(task_from_command_line())
