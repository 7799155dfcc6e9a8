"""Whether the stream and the notifier have read the log to its end, by their consumer groups' committed offsets."""

from collections.abc import Iterable
from typing import Final

from aiokafka import TopicPartition

from chassis.log_identity import LogClients
from towerwatch.topics import (
    ALERTS_RAISED,
    ALERTS_RETRY,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
    NOTIFIER_GROUP,
    STREAM_GROUP,
    Topic,
)

STREAM_INPUTS: Final = (FLIGHTS_OBSERVED, INTERESTS_CHANGED)
NOTIFIER_INPUTS: Final = (ALERTS_RAISED, ALERTS_RETRY, NOTICES_RAISED)


async def has_stream_read_everything(clients: LogClients) -> bool:
    """Return True if the stream has acknowledged everything in its inputs, False if not. Raises KafkaError, OSError.

    Its alerts are in the log then, and its tables in their changelogs.
    """
    return await _has_read_everything(clients, STREAM_GROUP, STREAM_INPUTS)


async def has_notifier_read_everything(clients: LogClients) -> bool:
    """Return True if the notifier has acknowledged everything in its inputs, False if not. Raises KafkaError, OSError.

    Every mail was sent, or given up, then: what waits to be tried again is not acknowledged.
    """
    return await _has_read_everything(clients, NOTIFIER_GROUP, NOTIFIER_INPUTS)


async def _has_read_everything(clients: LogClients, group: str, topics: Iterable[Topic]) -> bool:
    """Return True if a group has committed the end of every partition that has records now, else False.

    A commit beyond the end is of an earlier log, and proves nothing.
    """
    partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    ends = await clients.fetch_ends(partitions)
    begins = await clients.fetch_begins(partitions)
    committed = await clients.fetch_committed(group, partitions)
    latest = await clients.fetch_ends(partitions)
    return all(
        begins[each] == ends[each] or ends[each] <= committed.get(each, -1) <= latest[each] for each in partitions
    )
