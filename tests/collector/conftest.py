"""A collector on a database of its own, with a clock that the test moves."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from chassis.database import Database
from chassis.outbox import Message
from collector.collection_requests import CollectionRequests
from collector.interests import Interests, Wish
from collector.model import OUTBOX, SCHEMA
from domain.interests import Direction, Interest
from domain.windows import Window
from tests.fakes.clock import FakeClock

NOON = datetime(2013, 2, 13, 12, tzinfo=UTC)
OPERATOR_TOKEN = "the-operators-own-token"
NOWHERE = "sqlite:////nowhere/at/all.db"
"""A database that is away."""


def wish(airport: str = "KJFK", direction: Direction = Direction.DEPARTURES, **changes: object) -> Wish:
    """More than 5 flights in an hour, unless changed."""
    fields: dict[str, object] = {
        "window": Window.ONE_HOUR,
        "high": 5,
        "low": None,
        "for_windows": 1,
        "repeat": False,
        "effective_from": None,
    }
    return Wish(airport, direction, **(fields | changes))  # type: ignore[arg-type]


def outbox(database: Database, topic: str) -> list[Message]:
    """What waits in the outbox for a topic, oldest first."""
    with database.transaction() as session:
        rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
    return [Message(row.topic, row.partition, row.key, row.value) for row in rows if row.topic == topic]


@dataclass(frozen=True, slots=True)
class Service:
    """The use cases and what they stand on."""

    interests: Interests
    requests: CollectionRequests
    database: Database
    clock: FakeClock

    def set(self, wanted: Wish | None = None, user_id: UUID | None = None) -> Interest:
        return self.interests.set(user_id or uuid4(), wanted or wish())[0]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    database = Database(database_url)
    SCHEMA.create_all(database.engine)
    clock = FakeClock(NOON)
    yield Service(Interests(database, clock), CollectionRequests(database), database, clock)
    database.close()
