"""What the notifier asks of user_manager, and what it gets: the real client against the real server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from chassis.db.database import Database
from chassis.rpc import GrpcServer
from notifier.contacts import MOST_IN_A_REQUEST, Contacts
from tests.ports import free_port
from tests.user_manager.conftest import Service
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager.accounts import MAX_CONTACTS_PER_CALL, AccountUpdate
from user_manager.model import SCHEMA
from user_manager.rpc import SERVICE_NAME, STATUSES, UserService

Story = Callable[[Contacts], Awaitable[None]]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    database = Database(f"sqlite:///{tmp_path}/user_manager.db")
    SCHEMA.create_all(database.engine)
    yield Service(database)
    database.close()


@pytest.fixture
def tell(service: Service) -> Iterator[Callable[[Story], None]]:
    """Runs a story with a client of the service, which remembers nothing."""
    port = free_port()
    add = partial(add_UserServiceServicer_to_server, UserService(service.accounts, service.bounces))
    server = GrpcServer("127.0.0.1", port, {SERVICE_NAME: add}, STATUSES, service.metrics)
    server.start()

    def run(story: Story) -> None:
        async def telling() -> None:
            contacts = Contacts(f"127.0.0.1:{port}", cache_s=0)
            try:
                await story(contacts)
            finally:
                await contacts.close()

        asyncio.run(telling())

    yield run
    server.stop()


def test_the_notifier_asks_for_as_many_as_it_may() -> None:
    """The contract's bound stands once on each side, for no service imports another."""
    assert MOST_IN_A_REQUEST == MAX_CONTACTS_PER_CALL == 500


def test_a_contact_arrives_as_the_account_is(service: Service, tell: Callable[[Story], None]) -> None:
    """Field by field, also among more users than one request may ask for."""
    registration = service.register("ann@example.org", "Ánn")
    service.registrations.confirm(service.build_confirmation_token(registration))
    account = service.accounts.update(registration.token, "ann@example.org", None, AccountUpdate(paused=True))

    async def story(contacts: Contacts) -> None:
        found = await contacts.of_many([account.user_id, *(uuid4() for _ in range(MOST_IN_A_REQUEST))])
        assert set(found) == {account.user_id}
        contact = found[account.user_id]
        assert (contact.user_id, contact.email, contact.name) == (account.user_id, "ann@example.org", "Ánn")
        assert contact.time_zone == "Europe/Rome"
        assert (contact.confirmed, contact.paused, contact.suppressed) == (True, True, False)
        assert contact.confirm_url == ""
        assert contact.unsubscribe_url == service.links.build_unsubscription_url(account.user_id)

    tell(story)


def test_a_reported_bounce_suppresses_until_it_is_answered(service: Service, tell: Callable[[Story], None]) -> None:
    """The notifier sees no link, then one since the owner wished for it, then a contact as before."""
    registration = service.register("ann@example.org")
    user_id = registration.account.user_id
    service.registrations.confirm(service.build_confirmation_token(registration))
    service.clock.advance(timedelta(days=1))

    async def story(contacts: Contacts) -> None:
        before = await contacts.of(user_id)
        assert before is not None
        for _ in range(2):
            await contacts.report_bounce(user_id, service.clock.now())
            contact = await contacts.of(user_id)
            assert contact is not None
            assert (contact.suppressed, contact.confirmed, contact.confirm_url) == (True, True, "")
        service.registrations.request_confirmation_mail(registration.token, "ann@example.org")
        contact = await contacts.of(user_id)
        assert contact is not None
        assert contact.suppressed
        service.registrations.confirm(contact.confirm_url.rpartition("/")[2])
        assert await contacts.of(user_id) == before

    tell(story)


def test_a_bounce_of_an_account_that_is_gone_is_taken(service: Service, tell: Callable[[Story], None]) -> None:
    """The notifier would otherwise repeat it for as long as it lives."""

    async def story(contacts: Contacts) -> None:
        await contacts.report_bounce(uuid4(), service.clock.now())

    tell(story)
