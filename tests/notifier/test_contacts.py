import asyncio
import socket
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest

from notifier.contacts import Contacts
from notifier.errors import UserManagerAway
from notifier.mail import Contact
from tests.fakes.user_service import FakeUserService
from towerwatch.users.v1.user_service_pb2 import Contact as ContactMessage

USER = uuid4()


@pytest.fixture
def users() -> Iterator[FakeUserService]:
    with FakeUserService().running() as service:
        yield service


def a_contact(**changes: object) -> ContactMessage:
    fields: dict[str, object] = {
        "user_id": str(USER),
        "email": "ada@example.net",
        "name": "Ada",
        "time_zone": "UTC",
        "confirmed": True,
    }
    return ContactMessage(**(fields | changes))  # type: ignore[arg-type]


def ask(target: str, *user_ids: UUID, cache_s: float = 60) -> list[Contact | None]:
    async def asking() -> list[Contact | None]:
        contacts = Contacts(target, cache_s)
        try:
            return [await contacts.of(user_id) for user_id in user_ids]
        finally:
            await contacts.close()

    return asyncio.run(asking())


def test_a_contact_is_asked_for_once_while_it_is_remembered(users: FakeUserService) -> None:
    """A burst of alerts to one person is one question."""
    users.add(a_contact(unsubscribe_url="https://example.org/u"))
    ada = Contact(USER, "ada@example.net", "Ada", "UTC", True, False, "", "https://example.org/u")
    assert ask(users.target, USER, USER) == [ada] * 2
    assert users.asked == [str(USER)]


def test_nothing_is_remembered_beyond_its_time(users: FakeUserService) -> None:
    """Deletions and pauses bite."""
    users.add(a_contact())
    ask(users.target, USER, USER, cache_s=0)
    assert len(users.asked) == 2


@pytest.mark.parametrize("contact", [None, a_contact(confirmed=False), a_contact(paused=True)])
def test_who_cannot_be_mailed_is_asked_for_again(users: FakeUserService, contact: ContactMessage | None) -> None:
    """The alert that comes right after the confirmation must not meet the remembered state before it."""
    if contact is not None:
        users.add(contact)
    ask(users.target, USER, USER)
    assert len(users.asked) == 2


def test_a_user_manager_that_is_away_is_transient(users: FakeUserService) -> None:
    """An error and a port where nobody listens are the same to the mails."""
    users.away.set()
    with pytest.raises(UserManagerAway):
        ask(users.target, USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(UserManagerAway):
            ask(f"127.0.0.1:{free.getsockname()[1]}", USER)
