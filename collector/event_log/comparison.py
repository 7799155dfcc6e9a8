"""Reconciliation: compare the interests with those that the stream has, and publish again those that differ.

What the stream has is read from the changelog of its table of interests, from which it recovers: so the comparison
finds what the log never had, what the stream lost, and what it has and should not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import DecodeError
from sqlalchemy import select
from sqlalchemy.orm import Session

from chassis.db.outbox import OutboxMessage
from chassis.log_reading import read_topic
from collector.messages import encode_interest_set
from collector.model import OUTBOX, InterestRow
from domain.interests import Interest
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.streams.v1.state_pb2 import InterestEntry
from towerwatch.topics import INTERESTS_CHANGED, INTERESTS_CHANGELOG, partition_of


@dataclass(frozen=True, slots=True)
class InterestDifference:
    """An interest that differs between the stream and the database: missing in one of them, or with another value."""

    key: bytes
    """As in interests.changed.v1."""
    interest: Interest | None
    """As it is in the database. None: it is not there, and the stream has it."""
    is_known: bool
    """True if the stream has an interest under this key."""


def load_interests(session: Session) -> dict[bytes, Interest]:
    """Load all interests, by the key of their events."""
    found = {}
    for row in session.scalars(select(InterestRow)):
        interest = row.value()
        found[encode_interest_set(interest).key] = interest
    return found


async def read_stream_interests(bootstrap_servers: str) -> Mapping[bytes, bytes]:
    """Read the interests that the stream has from its changelog: by key, the serialized `InterestSet`, never past.

    Removed interests are left out. Of each key the entry with the highest sequence counts, as at the stream's own
    recovery. Raises KafkaError or OSError, also if the changelog does not exist.
    """
    newest: dict[bytes, InterestEntry] = {}
    async for record in read_topic(bootstrap_servers, INTERESTS_CHANGELOG, INTERESTS_CHANGED.partitions):
        _add_entry(newest, record.key, record.value)
    return {key: _encode_without_past(entry.interest) for key, entry in newest.items() if entry.HasField("interest")}


def _add_entry(newest: dict[bytes, InterestEntry], key: bytes, value: bytes | None) -> None:
    """Put an entry of the changelog into `newest` if its sequence is the highest of its key; remove a deleted one."""
    if value is None:
        newest.pop(key, None)
        return
    try:
        entry = InterestEntry.FromString(value)
    except DecodeError:
        return
    if key not in newest or newest[key].sequence <= entry.sequence:
        newest[key] = entry


def _encode_without_past(message: InterestSet) -> bytes:
    """Serialize an interest without the mark that it was published again."""
    message.past = False
    return message.SerializeToString(deterministic=True)


def find_differences(stored: Mapping[bytes, Interest], known: Mapping[bytes, bytes]) -> list[InterestDifference]:
    """Return the interests that differ, by their keys in order; `known`: what `read_stream_interests` returns."""
    return [
        InterestDifference(key, stored.get(key), key in known)
        for key in sorted(stored.keys() | known.keys())
        if key not in stored or key not in known or not _is_equal(stored[key], known[key])
    ]


def _is_equal(interest: Interest, known: bytes) -> bool:
    """Return True if the stream's value of an interest is the stored interest, False if anything differs."""
    expected = InterestSet.FromString(encode_interest_set(interest).value or b"")
    return _encode_without_past(expected) == known


def repair(session: Session, differences: list[InterestDifference]) -> int:
    """Add the events to the outbox that end the differences, and return the number of differences that they end.

    What the stream has is removed first, because it ignores a version that is not newer; its alerts come once more,
    with their ids. An interest that was changed since the comparison is left out: its own event is in the outbox.
    """
    repaired = 0
    for each in differences:
        interest_id = UUID(each.key.decode().partition("/")[2])
        row = session.get(InterestRow, interest_id, with_for_update=True)
        if (row.value() if row is not None else None) != each.interest:
            continue
        repaired += 1
        if each.is_known:
            OUTBOX.add(session, [_build_removal(each.key)])
        if each.interest is not None:
            OUTBOX.add(session, [encode_interest_set(each.interest)])
    return repaired


def _build_removal(key: bytes) -> OutboxMessage:
    """Build the tombstone of a key, in the partition of its airport."""
    return OutboxMessage(
        INTERESTS_CHANGED.name, partition_of(key.decode().partition("/")[0], INTERESTS_CHANGED), key, None
    )
