"""The topic catalogue: each Kafka topic's name, key, partition count and cleanup, said once.

Brokers are set up from it (`chassis.topics`), producers ask it for the partition, and the stream
asks it for the counts that its tables must match.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

DAY_MS: Final = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """One topic as the brokers shall have it. `config` holds Kafka's own topic settings."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def _deleted_after(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS)}


_COMPACTED: Final = {"cleanup.policy": "compact"}

JOIN_PARTITIONS: Final = 12
"""Flights and interests are joined partition by partition, so both topics have this many."""

FLIGHTS_OBSERVED: Final = Topic("flights.observed.v1", JOIN_PARTITIONS, _deleted_after(30))
INTERESTS_CHANGED: Final = Topic("interests.changed.v1", JOIN_PARTITIONS, _COMPACTED)
ALERTS_RAISED: Final = Topic("alerts.raised.v1", 12, _deleted_after(7))
ALERTS_RETRY: Final = Topic("alerts.retry.v1", 12, _deleted_after(7))
ALERTS_DEAD_LETTER: Final = Topic("alerts.dead-letter.v1", 12, _deleted_after(30))
USERS_CHANGED: Final = Topic("users.changed.v1", 12, _COMPACTED)
COLLECTIONS_REQUESTED: Final = Topic("collections.requested.v1", 1, _deleted_after(1))
"""One partition on purpose: whoever is assigned it is the collector's leader."""

CATALOGUE: Final = (
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    ALERTS_RAISED,
    ALERTS_RETRY,
    ALERTS_DEAD_LETTER,
    USERS_CHANGED,
    COLLECTIONS_REQUESTED,
)


@lru_cache(maxsize=16_384)  # each batch asks for its airport, each alert for its user; the hash is Python's own
def partition_of(routing_key: str, topic: Topic) -> int:
    """The partition of `topic` for a routing key: an airport or a user id, *not* the message key.

    Kafka's own default partitioner (murmur2 of the UTF-8 bytes, sign bit cleared, modulo the count),
    so any client that keys by the routing key agrees.
    """
    return int(murmur2(routing_key.encode()) & 0x7FFFFFFF) % topic.partitions
