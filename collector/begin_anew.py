"""`python -m collector --begin-anew`: make the log of interests equal to the database, which lacks what the log has."""

import time
from dataclasses import dataclass

from sqlalchemy import select

from chassis.db.database import Database
from chassis.db.log_check import LogContent, read_content
from chassis.db.outbox import OutboxMessage
from collector.messages import encode_interest_set
from collector.model import OUTBOX, InterestRow
from towerwatch.topics import INTERESTS_CHANGED


@dataclass(frozen=True, slots=True)
class LogDifference:
    """The events that make the log of interests equal to the database."""

    removals: tuple[OutboxMessage, ...]
    """Tombstones of interests that only the log has."""
    sets: tuple[OutboxMessage, ...]
    """Events of interests that the log lacks, or has in another version."""


async def begin_anew(database: Database, bootstrap_servers: str) -> LogDifference:
    """Store events that remove from the log the interests that the database lacks, and add those that the log lacks.

    They are in the outbox; the service publishes them when it runs, with sequences above all of the log's.
    Repeating this is harmless. The schema must be upgraded. Returns what differed. Raises KafkaError, OSError and
    DatabaseUnavailableError.
    """
    content = await read_content(bootstrap_servers, INTERESTS_CHANGED)
    with database.transaction() as session:
        OUTBOX.continue_above(session, content.last_sequence, time.time())
        wanted = [encode_interest_set(row.value()) for row in session.scalars(select(InterestRow))]
        difference = compare_interests(content, wanted)
        OUTBOX.add(session, (*difference.removals, *difference.sets))
    return difference


def compare_interests(content: LogContent, wanted: list[OutboxMessage]) -> LogDifference:
    """Return the events that make the log hold exactly the `wanted` events of interests. Pure."""
    keys = {message.key for message in wanted}
    removals = [
        OutboxMessage(INTERESTS_CHANGED.name, logged.partition, key, None)
        for key, logged in content.values.items()
        if logged.value is not None and key not in keys
    ]
    sets = [each for each in wanted if (found := content.values.get(each.key)) is None or found.value != each.value]
    return LogDifference(tuple(removals), tuple(sets))
