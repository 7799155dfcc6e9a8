"""A service on a database of its own, with a collector that the test controls."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from tests.fakes.clock import FakeClock
from tests.fakes.collector import FakeInterests
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.access import Access
from user_manager.accounts import Accounts
from user_manager.addresses import Address
from user_manager.bounces import Bounces
from user_manager.deletion.saga import Deletions
from user_manager.idempotency import IdempotentAnswers
from user_manager.links import Links
from user_manager.model import OUTBOX, SCHEMA
from user_manager.registration import Registration, Registrations

OPERATOR_TOKEN = "the-operators-own-token"
SIGNING_KEY = "the-signing-key-of-tests"
PUBLIC_URL = "https://towerwatch.example"


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@dataclass
class Service:
    """The use cases and what they stand on, as one replica has them."""

    database: Database
    interests: FakeInterests = field(default_factory=FakeInterests)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.metrics = Metrics(ServiceIdentity("user_manager", "local"))
        self.links = Links(SIGNING_KEY, PUBLIC_URL)
        self.answers = IdempotentAnswers(SIGNING_KEY)
        access = Access(OPERATOR_TOKEN)
        self.accounts = Accounts(self.database, self.links, access)
        self.registrations = Registrations(self.database, self.links, access, self.answers, self.clock)
        self.deletions = Deletions(self.database, self.interests, access, self.clock, self.metrics)
        self.bounces = Bounces(self.database, self.clock, self.metrics)

    def register(self, email: str = "ann@example.org", name: str = "Ann", key: UUID | None = None) -> Registration:
        return self.registrations.register(Address(email), name, "Europe/Rome", key)

    def confirmation_token(self, registration: Registration) -> str:
        """The last part of the registration's confirmation link."""
        account = registration.account
        return self.links.confirmation_url(account.user_id, account.created_at).rpartition("/")[2]

    def unsubscription_token(self, registration: Registration) -> str:
        """The last part of the registration's unsubscription link."""
        return self.links.unsubscription_url(registration.account.user_id).rpartition("/")[2]

    def events(self) -> list[UserChanged]:
        """What waits in the outbox, oldest first."""
        with self.database.transaction() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        return [UserChanged.FromString(row.value) for row in rows]

    def changes(self) -> list[str | None]:
        """What each event in the outbox says, oldest first."""
        return [event.WhichOneof("change") for event in self.events()]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    """On SQLite and on MariaDB; `ON_SQLITE` is for tests that are not about what a database does."""
    database = Database(database_url)
    SCHEMA.create_all(database.engine)
    yield Service(database)
    database.close()
