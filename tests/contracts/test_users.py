"""The contract between notifier and user_manager: the real client against the real server."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chassis.db.database import Database
from chassis.rpc import GrpcServer
from notifier import contacts as contacts_module
from notifier.contacts import MAX_USERS_PER_REQUEST, ContactsClient
from notifier.delivery.interfaces import ConfirmationState as ReportedState
from tests.copied_tables import create_tables
from tests.ports import free_port
from tests.user_manager.conftest import Service
from towerwatch.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server
from user_manager import interest_links
from user_manager.accounts import MAX_CONTACTS_PER_CALL, AccountUpdate
from user_manager.model import SCHEMA, User
from user_manager.rpc import SERVICE_NAME, STATUSES, UserService

ClientTest = Callable[[ContactsClient], Awaitable[None]]
"""A coroutine function that uses the notifier's client."""

RunTest = Callable[[ClientTest], None]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Yield user_manager's use cases on an empty SQLite database."""
    database = Database(f"sqlite:///{tmp_path}/user_manager.db")
    create_tables(database, SCHEMA)
    yield Service(database)
    database.close()


@pytest.fixture
def run_with_client(service: Service) -> Iterator[RunTest]:
    """Yield a function that runs a coroutine with a client of the service; the client caches nothing."""
    port = free_port()
    add = partial(add_UserServiceServicer_to_server, UserService(service.accounts, service.bounces, service.sessions))
    server = GrpcServer("127.0.0.1", port, {SERVICE_NAME: add}, STATUSES, service.metrics)
    server.start()

    def run(test: ClientTest) -> None:
        async def run_and_close() -> None:
            contacts = ContactsClient(f"127.0.0.1:{port}", cache_s=0)
            try:
                await test(contacts)
            finally:
                await contacts.close()

        asyncio.run(run_and_close())

    yield run
    server.stop()


def test_both_sides_have_the_same_maximum_of_contacts() -> None:
    """The contract's maximum is a constant on each side, because no service imports another."""
    assert MAX_USERS_PER_REQUEST == MAX_CONTACTS_PER_CALL == 500
    assert contacts_module.MAX_INTERESTS_PER_USER == interest_links.MAX_INTERESTS_PER_USER == 200
    assert contacts_module.MAX_INTERESTS_PER_REQUEST == interest_links.MAX_INTERESTS_PER_CALL == 1_000


def test_the_largest_request_for_links_is_answered(service: Service, run_with_client: RunTest) -> None:
    """1,000 interests of five users in one call, with links as long as a mail can hold: the answer is below 4 MiB."""
    object.__setattr__(service.links, "public_url", "https://" + "x" * 700)
    users = [service.register_confirmed(f"ann{number}@example.org").account.user_id for number in range(5)]
    interests = {user_id: [uuid4() for _ in range(200)] for user_id in users}

    async def use_client(contacts: ContactsClient) -> None:
        found = await contacts.find_contacts(users, interests)
        for user_id, ids in interests.items():
            assert found[user_id].interest_links.keys() == {*ids}
            link = service.links.parse_alert_stop_link(
                found[user_id].interest_links[ids[0]].stop_url.rpartition("/")[2]
            )
            assert (link.user_id, link.interest_id) == (user_id, ids[0])

    run_with_client(use_client)


def test_the_notifier_gets_the_link_that_signs_in(service: Service, run_with_client: RunTest) -> None:
    """By the id in the event, which is no user's; and once the mail is reported as sent, no more."""
    service.register_confirmed("ann@example.org")
    link = service.request_sign_in_token("ann@example.org")
    event = service.load_outbox_events()[-1]

    async def use_client(contacts: ContactsClient) -> None:
        request_id = UUID(event.user_id)
        contact = await contacts.find_contact(request_id)
        assert contact is not None
        assert (contact.email, contact.name, contact.token_url, contact.confirm_url) == ("ann@example.org", "", "", "")
        assert contact.sign_in_url.startswith("https://towerwatch.example/sign-in/")
        assert contact.sign_in_url.rpartition("/")[2].split(".")[0] == link.split(".")[0]
        assert contact.stop_url
        await contacts.report_confirmation(request_id, event.registered.confirmation_id, ReportedState.SENT)
        assert await contacts.find_contact(request_id) is None

    run_with_client(use_client)
    service.sign_ins.sign_in(link, "curl")


@pytest.mark.parametrize("state", ReportedState)
def test_the_owner_sees_what_the_notifier_reports_of_a_confirmation_mail(
    service: Service, run_with_client: RunTest, state: ReportedState
) -> None:
    """The id of the request is the one in the event; a report about another request changes nothing."""
    ann = service.register("ann@example.org")
    with service.database.reading() as session:
        confirmation_id = session.get_one(User, ann.account.user_id).confirmation_id

    async def use_client(contacts: ContactsClient) -> None:
        await contacts.report_confirmation(ann.account.user_id, str(uuid4()), state)
        assert service.accounts.get_confirmation(ann.token, "ann@example.org").state == "requested"
        await contacts.report_confirmation(ann.account.user_id, str(confirmation_id), state)
        assert service.accounts.get_confirmation(ann.token, "ann@example.org").state == str(state)

    run_with_client(use_client)


def test_a_contact_arrives_as_the_account_is(service: Service, run_with_client: RunTest) -> None:
    """Each field arrives unchanged, also among more users than one request may hold."""
    registration = service.register("ann@example.org", "Ánn")
    service.confirm(registration)
    account = service.accounts.update(
        registration.token, "ann@example.org", None, AccountUpdate(paused=True, corrections=False, language="it")
    )

    async def use_client(contacts: ContactsClient) -> None:
        found = await contacts.find_contacts([account.user_id, *(uuid4() for _ in range(MAX_USERS_PER_REQUEST))])
        assert set(found) == {account.user_id}
        contact = found[account.user_id]
        assert (contact.user_id, contact.email, contact.name) == (account.user_id, "ann@example.org", "Ánn")
        assert contact.time_zone == "Europe/Rome"
        assert (contact.confirmed, contact.paused, contact.suppressed) == (True, True, False)
        assert contact.without_corrections
        assert contact.confirm_url == ""
        assert contact.language == "it"
        assert contact.unsubscribe_url == f"{service.links.build_unsubscription_url(account.user_id)}?language=it"

    run_with_client(use_client)


def test_a_reported_bounce_suppresses_until_a_new_confirmation(service: Service, run_with_client: RunTest) -> None:
    """The notifier gets a contact without link, after the owner's request one with a link, then the first again."""
    registration = service.register("ann@example.org")
    user_id = registration.account.user_id
    service.confirm(registration)
    service.clock.advance(timedelta(days=1))

    async def use_client(contacts: ContactsClient) -> None:
        before = await contacts.find_contact(user_id)
        assert before is not None
        for _ in range(2):
            await contacts.report_bounce(user_id, service.clock.now())
            contact = await contacts.find_contact(user_id)
            assert contact is not None
            assert (contact.suppressed, contact.confirmed, contact.confirm_url) == (True, True, "")
        service.registrations.request_confirmation_mail(registration.token, "ann@example.org")
        contact = await contacts.find_contact(user_id)
        assert contact is not None
        assert contact.suppressed
        service.registrations.confirm(contact.confirm_url.rpartition("/")[2])
        assert await contacts.find_contact(user_id) == before

    run_with_client(use_client)


def test_a_bounce_of_a_deleted_account_is_accepted(service: Service, run_with_client: RunTest) -> None:
    """An error would make the notifier retry the report for ever."""

    async def use_client(contacts: ContactsClient) -> None:
        await contacts.report_bounce(uuid4(), service.clock.now())

    run_with_client(use_client)
