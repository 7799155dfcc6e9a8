"""The `service` fixture: user_manager's use cases on an empty database, with a fake collector and a fake clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy import select

from chassis.credentials import SessionSecret
from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.fakes.collector import FakeCollectorClient
from towerwatch.users.v1.events_pb2 import UserChanged
from user_manager.access import AccountAuthorizer
from user_manager.account_mails import AccountMails
from user_manager.accounts import Accounts, Contact
from user_manager.addresses import Address, compute_address_digest
from user_manager.alert_stops import AlertStops
from user_manager.bounces import Bounces
from user_manager.deletion.saga import Deletions
from user_manager.idempotency import IdempotencyStore
from user_manager.links import LinkSigner
from user_manager.mail_requests import MailKind
from user_manager.mailbox_limits import MailboxLimits, MailRates
from user_manager.model import OUTBOX, SCHEMA, MailRequest
from user_manager.person_export import PersonExports
from user_manager.registration import Registration, Registrations
from user_manager.sessions import Sessions
from user_manager.sign_in import SignIns
from user_manager.web_sessions import SessionLifetimes

OPERATOR_TOKEN = "the-operators-own-token"
SIGNING_KEY = "the-signing-key-of-tests"
PUBLIC_URL = "https://towerwatch.example"

ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Mark of tests that run on SQLite only, because they do not test the database."""


@dataclass
class Service:
    """All use cases of one replica of user_manager, with their database, fake collector, clock and metrics."""

    database: Database
    interests: FakeCollectorClient = field(default_factory=FakeCollectorClient)
    clock: FakeClock = field(default_factory=FakeClock)
    rates: MailRates = field(default_factory=lambda: MailRates(per_client=1_000_000, in_all=1_000_000))
    """All requests of a test come from one client."""
    lifetimes: SessionLifetimes = field(default_factory=SessionLifetimes)

    def __post_init__(self) -> None:
        self.metrics = Metrics(ServiceIdentity("user_manager", "local"))
        self.links = LinkSigner(SIGNING_KEY, PUBLIC_URL)
        self.answers = IdempotencyStore(SIGNING_KEY)
        authorizer = AccountAuthorizer(OPERATOR_TOKEN, self.clock, self.lifetimes)
        self.limits = MailboxLimits(SIGNING_KEY, self.rates, self.metrics)
        self.accounts = Accounts(self.database, self.links, authorizer, self.limits)
        self.registrations = Registrations(
            self.database, self.links, authorizer, self.answers, self.limits, self.clock, self.lifetimes
        )
        self.account_mails = AccountMails(self.database, self.links, self.limits, self.clock)
        self.deletions = Deletions(self.database, self.interests, authorizer, self.clock, self.metrics)
        self.alert_stops = AlertStops(self.links, self.interests)
        self.bounces = Bounces(self.database, self.clock, self.metrics)
        self.sessions = Sessions(self.database, authorizer, self.clock, self.lifetimes)
        self.exports = PersonExports(self.database, authorizer, self.sessions, self.limits, self.interests, self.clock)
        self.sign_ins = SignIns(self.database, self.links, self.limits, self.clock, self.lifetimes, self.metrics)

    def register(self, email: str = "ann@example.org", name: str = "Ann", key: UUID | None = None) -> Registration:
        """Register an account; `key` is the Idempotency-Key."""
        return self.registrations.register(Address(email), name, "Europe/Rome", key)

    def register_confirmed(self, email: str = "ann@example.org", name: str = "Ann") -> Registration:
        """Register an account and confirm its address with the account's token, which stays valid."""
        registration = self.register(email, name)
        self.confirm(registration)
        return registration

    def confirm(self, registration: Registration) -> None:
        """Confirm the address by its link, with the account's token."""
        self.registrations.confirm(self.build_confirmation_token(registration), registration.token)

    def load_contact(self, email: str) -> Contact:
        """Return what the notifier is told of the last mail that was requested to an address."""
        with self.database.transaction() as session:
            query = select(MailRequest).where(MailRequest.email == email).order_by(MailRequest.requested_at.desc())
            request_id = session.scalars(query).first().request_id  # type: ignore[union-attr]
        (contact,) = self.accounts.load_contacts([str(request_id)])
        return contact

    def request_sign_in_token(self, email: str = "ann@example.org") -> str:
        """Ask to sign in, and return the last path segment of the link that the mail holds."""
        self.sign_ins.request_link(Address(email))
        return self.load_sign_in_token(email)

    def load_sign_in_token(self, email: str = "ann@example.org") -> str:
        """Return the last path segment of the link in the mail that was asked for last by signing in."""
        with self.database.transaction() as session:
            is_it = (MailRequest.email == email, MailRequest.kind == MailKind.SIGN_IN.value)
            request_id = session.scalars(select(MailRequest.request_id).where(*is_it)).one()
        (contact,) = self.accounts.load_contacts([str(request_id)])
        return contact.sign_in_url.rpartition("/")[2]

    def sign_in(self, email: str = "ann@example.org", device: str = "Firefox on Linux") -> SessionSecret:
        """Ask for a link and follow it; return the secret of the new session."""
        return self.sign_ins.sign_in(self.request_sign_in_token(email), device).secret

    def build_confirmation_token(self, registration: Registration) -> str:
        """Return the last path segment of the confirmation link that the registration's mail holds."""
        account = registration.account
        digest = compute_address_digest(Address(account.email).key)
        return self.links.build_confirmation_url(account.user_id, account.created_at, digest).rpartition("/")[2]

    def build_unsubscription_token(self, registration: Registration) -> str:
        """Return the last path segment of the account's unsubscription link."""
        return self.links.build_unsubscription_url(registration.account.user_id).rpartition("/")[2]

    def load_outbox_events(self) -> list[UserChanged]:
        """Return the unpublished events in the outbox, oldest first."""
        with self.database.transaction() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        return [UserChanged.FromString(row.value) for row in rows]

    def load_event_kinds(self) -> list[str | None]:
        """Return the kind of each unpublished event ("registered", "confirmed", "deleted"), oldest first."""
        return [event.WhichOneof("change") for event in self.load_outbox_events()]


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    """Yield a service on an empty database; the test runs on SQLite and on MariaDB, except with `ON_SQLITE`."""
    database = Database(database_url)
    create_tables(database, SCHEMA)
    yield Service(database)
    database.close()
