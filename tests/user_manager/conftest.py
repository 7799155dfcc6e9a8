"""A service on a database of its own, with a collector that the test controls."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chassis.database import Database
from tests.fakes.clock import FakeClock
from tests.fakes.collector import FakeInterests
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.accounts import Accounts, Registration
from user_manager.addresses import Address
from user_manager.links import Links
from user_manager.model import OUTBOX, SCHEMA

OPERATOR_TOKEN = "the-operators-own-token"
SIGNING_KEY = "the-signing-key-of-tests"
PUBLIC_URL = "https://towerwatch.example"


@dataclass(frozen=True, slots=True)
class Service:
    """The use cases and what they stand on."""

    accounts: Accounts
    database: Database
    interests: FakeInterests
    links: Links
    clock: FakeClock

    def register(self, email: str = "ann@example.org", name: str = "Ann") -> Registration:
        return self.accounts.register(Address(email), name, "Europe/Rome")

    def link_token(self, registration: Registration) -> str:
        """The last part of the registration's confirmation link."""
        return self.links.url(registration.account.user_id).rpartition("/")[2]

    def events(self) -> list[UserChanged]:
        """What waits in the outbox, oldest first."""
        with self.database.transaction() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        return [UserChanged.FromString(row.value) for row in rows]

    def changes(self) -> list[str | None]:
        """What each event in the outbox says, oldest first."""
        return [event.WhichOneof("change") for event in self.events()]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    database = Database(f"sqlite:///{tmp_path}/user_manager.db")
    SCHEMA.create_all(database.engine)
    interests, links, clock = FakeInterests(), Links(SIGNING_KEY, PUBLIC_URL), FakeClock()
    yield Service(Accounts(database, interests, links, clock, OPERATOR_TOKEN), database, interests, links, clock)
    database.close()
