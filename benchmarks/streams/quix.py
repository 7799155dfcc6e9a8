"""The stream's work as a user of Quix Streams writes it: a stateful function, its state in RocksDB with a changelog.

Quix writes state and commits by checkpoints, every five seconds by default: only an airport's last state within a
checkpoint goes to the changelog.
"""

import logging
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from quixstreams import Application, State
from quixstreams.models import SerializationContext, Serializer

from benchmarks.streams.work import Stopwatch, Task, build_folding, parse_task
from chassis.kafka import parse_sequence
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED

Keyed = tuple[str, bytes]


class _ValueSerializer(Serializer):
    """A serializer of pairs of key and value that writes the value alone."""

    def __call__(self, value: Keyed, ctx: SerializationContext) -> bytes:
        return value[1]


def run(task: Task) -> None:
    """Fold the task's messages with Quix Streams, publish alerts and states, and print the times.

    Only the end of the warm-up is timed; the benchmark finds the end of the run in Quix' changelog.
    """
    folding = build_folding(task)
    watch = Stopwatch(task)

    def count(_topic: str, _partition: int, _offset: int) -> None:
        if watch.count_message():
            application.stop()

    def fold(value: bytes, key: bytes, timestamp: int, headers: Any, state: State[Any, Any]) -> Iterable[Keyed]:
        """Restore the airport's state if it is missing, fold a message, write the state, and return the alerts."""
        if not folding.has_airport(key):
            folding.restore_airport(key, state.get_bytes("traffic"))
        result = folding.compute_result(parse_sequence(headers) or 0, value)
        if result is None:
            return []
        alerts = [(key.decode(), value) for key, value, _ in folding.encode_alerts(result, timestamp)]
        state.set_bytes("traffic", result.entry)
        folding.write_result(result)
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
    alerts = application.topic(ALERTS_RAISED.name, value_serializer=_ValueSerializer(), key_serializer="str")
    frame = application.dataframe(flights)
    frame = frame.apply(fold, stateful=True, expand=True, metadata=True)
    frame.to_topic(alerts, key=itemgetter(0))
    application.run()
    watch.print_times()


if __name__ == "__main__":
    run(parse_task())
