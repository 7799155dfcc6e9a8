"""The topic catalogue: each Kafka topic's name, partition count and cleanup policy, defined once.

`chassis.topics` creates the topics from it, producers compute a record's partition with it, and the stream takes the
partition counts of its tables from it.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

DAY_MS: Final = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """The description of one topic, from which it is created. `config` holds Kafka's own topic settings."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def _deleted_after(days: int) -> dict[str, str]:
    """Return the settings of a topic whose records Kafka deletes after `days` days."""
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


LONGEST_ABSENCE_DAYS: Final = 45
"""Days for which a service, or all of them, may be away, and lose nothing of what it has to read (docs/adr/0033)."""

COMPACTED: Final = {"cleanup.policy": "compact", "delete.retention.ms": str(LONGEST_ABSENCE_DAYS * DAY_MS)}
"""The settings of a compacted topic. Tombstones outlive an absence: who does not see one, keeps what was removed."""

JOIN_PARTITIONS: Final = 12
"""The partition count of the topics of flights and of interests, which are joined partition by partition."""

FLIGHTS_OBSERVED: Final = Topic("flights.observed.v1", JOIN_PARTITIONS, _deleted_after(LONGEST_ABSENCE_DAYS))
INTERESTS_CHANGED: Final = Topic("interests.changed.v1", JOIN_PARTITIONS, COMPACTED)
ALERTS_RAISED: Final = Topic("alerts.raised.v1", 12, _deleted_after(LONGEST_ABSENCE_DAYS))
ALERTS_RETRY: Final = Topic("alerts.retry.v1", 12, _deleted_after(LONGEST_ABSENCE_DAYS))
ALERTS_WAITING: Final = Topic(
    "alerts.waiting.v1",
    12,
    {**_deleted_after(LONGEST_ABSENCE_DAYS), "cleanup.policy": "compact,delete", "segment.bytes": str(1 << 24)},
)
"""What waits is written again each hour: of one alert only the last record is kept (docs/adr/0044)."""
ALERTS_DEAD_LETTER: Final = Topic("alerts.dead-letter.v1", 12, _deleted_after(30))
NOTICES_RAISED: Final = Topic("notices.raised.v1", 12, _deleted_after(LONGEST_ABSENCE_DAYS))
USERS_CHANGED: Final = Topic("users.changed.v1", 12, COMPACTED)
COLLECTIONS_REQUESTED: Final = Topic("collections.requested.v1", 1, _deleted_after(1))
"""A topic with one partition on purpose: the replica that is assigned the partition is the collector's leader."""

CATALOGUE: Final = (
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    ALERTS_RAISED,
    ALERTS_RETRY,
    ALERTS_WAITING,
    ALERTS_DEAD_LETTER,
    NOTICES_RAISED,
    USERS_CHANGED,
    COLLECTIONS_REQUESTED,
)

STREAM_GROUP: Final = "streams"
"""Consumer group of the stream's workers."""
NOTIFIER_GROUP: Final = "notifier"
"""Consumer group of the notifier's workers."""
INTERESTS_CHANGELOG: Final = "streams-interests-changelog"
"""Changelog of the stream's table of interests: what the stream itself knows; its values are `InterestEntry`."""
STREAM_CHANGELOGS: Final = ("streams-airports-changelog", INTERESTS_CHANGELOG, "streams-history-changelog")
"""Changelogs of the stream's tables, which Faust names; the stream's workers create them."""


@lru_cache(maxsize=16_384)  # each batch asks for its airport, each alert for its user; the hash is Python's own
def partition_of(routing_key: str, topic: Topic) -> int:
    """Return the partition of `topic` for a routing key: an airport or a user id, *not* the message key.

    This is Kafka's default partitioner (murmur2 of the UTF-8 bytes, sign bit cleared, modulo the count), so that any
    client that uses the routing key as its key computes the same partition.
    """
    return int(murmur2(routing_key.encode()) & 0x7FFFFFFF) % topic.partitions
