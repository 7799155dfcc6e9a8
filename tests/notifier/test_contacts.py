"""Contacts are asked for together, remembered for a short while, and never older than they may be."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest

from notifier import contacts as module
from notifier.contacts import MAX_USERS_PER_REQUEST, Contacts
from notifier.errors import UserManagerUnavailable
from notifier.mail import Contact
from tests.notifier.users import USER, UserService, add_users, build_contact, run_with_contacts, wait_until
from towerwatch.users.v1.user_service_pb2 import Contact as ContactMessage


@pytest.fixture
def users() -> Iterator[UserService]:
    with UserService().running() as service:
        assert isinstance(service, UserService)
        yield service
        service.open.set()


def ask(target: str, *user_ids: UUID, cache_s: float = 60) -> list[Contact | None]:
    """What `of` says of each, one after the other."""
    answers: list[Contact | None] = []

    async def asking(contacts: Contacts) -> None:
        for user_id in user_ids:
            answers.append(await contacts.find_contact(user_id))

    run_with_contacts(target, asking, cache_s)
    return answers


def test_a_contact_is_asked_for_once_while_it_is_remembered(users: UserService) -> None:
    """A burst of alerts to one person is one question."""
    users.add(build_contact(unsubscribe_url="https://example.org/u"))
    ada = Contact(USER, "ada@example.net", "Ada", "UTC", True, False, "", "https://example.org/u")
    assert ask(users.target, USER, USER) == [ada] * 2
    assert users.asked == [str(USER)]


def test_nothing_is_remembered_beyond_its_time(users: UserService) -> None:
    """Deletions and pauses bite."""
    users.add(build_contact())
    ask(users.target, USER, USER, cache_s=0)
    assert len(users.asked) == 2


@pytest.mark.parametrize(
    "contact", [None, build_contact(confirmed=False), build_contact(paused=True), build_contact(suppressed=True)]
)
def test_who_cannot_be_mailed_is_asked_for_again(users: UserService, contact: ContactMessage | None) -> None:
    """The alert that comes right after the confirmation must not meet the remembered state before it."""
    if contact is not None:
        users.add(contact)
    ask(users.target, USER, USER)
    assert len(users.asked) == 2


def test_a_suppressed_contact_says_so(users: UserService) -> None:
    """With the link, if its owner asked for one."""
    users.add(build_contact(suppressed=True, confirm_url="https://example.org/c"))
    (contact,) = ask(users.target, USER)
    assert contact is not None
    assert (contact.suppressed, contact.confirm_url) == (True, "https://example.org/c")


def test_a_user_manager_that_is_away_is_transient(users: UserService) -> None:
    """An error and a port where nobody listens are the same to the mails."""
    users.away.set()
    with pytest.raises(UserManagerUnavailable):
        ask(users.target, USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(UserManagerUnavailable):
            ask(f"127.0.0.1:{free.getsockname()[1]}", USER)


def test_many_are_asked_for_in_requests_that_the_contract_allows(users: UserService) -> None:
    """500 each, nobody twice; whoever does not exist is left out; nobody is asked for when nobody is wanted."""
    known, unknown = add_users(users, 2 * MAX_USERS_PER_REQUEST + 1), [uuid4() for _ in range(3)]

    async def asking(contacts: Contacts) -> None:
        assert await contacts.find_contacts([]) == {}
        found = await contacts.find_contacts([*known, *unknown, *known])
        assert set(found) == set(known)
        assert all(contact.user_id == user_id for user_id, contact in found.items())
        assert await contacts.find_contacts(known) == found

    run_with_contacts(users.target, asking)
    assert sorted(map(len, users.requests)) == [4, MAX_USERS_PER_REQUEST, MAX_USERS_PER_REQUEST]
    assert sorted(users.asked) == sorted(map(str, [*known, *unknown]))


def test_mails_of_one_turn_share_a_request(users: UserService) -> None:
    """300 mails that begin together are one question, though each asks for its own person."""
    ids = add_users(users, 300)

    async def asking(contacts: Contacts) -> None:
        found = await asyncio.gather(*(contacts.find_contact(user_id) for user_id in ids))
        assert [contact.user_id for contact in found if contact is not None] == ids

    run_with_contacts(users.target, asking)
    assert list(map(len, users.requests)) == [300]


def test_mails_that_begin_while_a_request_is_under_way_share_the_next(users: UserService) -> None:
    """However they are spread over its time: 301 mails are two requests."""
    first, *others = add_users(users, 301)

    async def asking(contacts: Contacts) -> None:
        users.open.clear()
        asked = [asyncio.create_task(contacts.find_contact(first))]
        await wait_until(lambda: len(users.requests) == 1, "the first request is under way")
        for user_id in others:
            asked.append(asyncio.create_task(contacts.find_contact(user_id)))
            await asyncio.sleep(0)
        assert len(users.requests) == 1
        users.open.set()
        assert [contact.user_id for contact in await asyncio.gather(*asked) if contact is not None] == [first, *others]

    run_with_contacts(users.target, asking)
    assert [len(request) for request in users.requests] == [1, 300]


def test_who_asks_again_right_after_an_answer_shares_the_next_request(users: UserService) -> None:
    """Those who were answered together go on together, also where somebody else has waited for the next request."""
    first, second, late = add_users(users, 50), add_users(users, 50), add_users(users, 1)

    async def asking(contacts: Contacts) -> None:
        async def two_mails(one: UUID, other: UUID) -> None:
            assert await contacts.find_contact(one) is not None
            assert await contacts.find_contact(other) is not None

        users.open.clear()
        mails = [asyncio.create_task(two_mails(*pair)) for pair in zip(first, second, strict=True)]
        await wait_until(lambda: len(users.requests) == 1, "the first request is under way")
        another = asyncio.create_task(contacts.find_contacts(late))
        await asyncio.sleep(0)
        users.open.set()
        await asyncio.gather(another, *mails)

    run_with_contacts(users.target, asking)
    assert [len(request) for request in users.requests] == [50, 51]


def test_no_answer_is_older_than_the_question(users: UserService) -> None:
    """Who confirms while a request for them is under way gets the alert that comes after that."""
    users.add(build_contact(confirmed=False))

    async def asking(contacts: Contacts) -> None:
        users.open.clear()
        before = asyncio.create_task(contacts.find_contact(USER))
        await wait_until(lambda: len(users.asked) == 1, "the answer is looked up")
        users.add(build_contact(confirmed=True))
        after = asyncio.create_task(contacts.find_contact(USER))
        await asyncio.sleep(0)
        users.open.set()
        old, new = await asyncio.gather(before, after)
        assert old is not None
        assert new is not None
        assert (old.confirmed, new.confirmed) == (False, True)

    run_with_contacts(users.target, asking)


def test_who_was_answered_meanwhile_is_not_asked_for_again(users: UserService) -> None:
    """Whoever can be mailed may be remembered, so a burst to one person is one question also while it is open."""
    users.add(build_contact())

    async def asking(contacts: Contacts) -> None:
        users.open.clear()
        asked = [asyncio.create_task(contacts.find_contact(USER))]
        await wait_until(lambda: len(users.asked) == 1, "the request is under way")
        asked += [asyncio.create_task(contacts.find_contact(USER)) for _ in range(20)]
        await asyncio.sleep(0)
        users.open.set()
        assert all(contact is not None for contact in await asyncio.gather(*asked))

    run_with_contacts(users.target, asking)
    assert users.asked == [str(USER)]


def test_a_request_that_fails_fails_all_who_waited_for_it_and_no_others(users: UserService) -> None:
    """Those who come later ask again."""
    first, second, third = add_users(users, 3)

    async def asking(contacts: Contacts) -> None:
        users.refused = {str(first)}
        failed = await asyncio.gather(
            contacts.find_contact(first), contacts.find_contact(second), return_exceptions=True
        )
        assert [type(error) for error in failed] == [UserManagerUnavailable] * 2
        users.refused = set()
        found = await contacts.find_contacts([first, second, third])
        assert len(found) == 3

    run_with_contacts(users.target, asking)
    assert len(users.requests) == 2


def test_of_several_requests_one_may_fail(users: UserService) -> None:
    """Whoever needs nothing of it gets their answer."""
    ids = add_users(users, MAX_USERS_PER_REQUEST + 1)
    users.refused = {str(ids[0])}

    async def asking(contacts: Contacts) -> None:
        answers = await asyncio.gather(*(contacts.find_contact(user_id) for user_id in ids), return_exceptions=True)
        failed = {str(user_id) for user_id, answer in zip(ids, answers, strict=True) if not isinstance(answer, Contact)}
        (refused,) = (request for request in users.requests if str(ids[0]) in request)
        assert failed == set(refused)
        assert all(isinstance(answer, Contact | UserManagerUnavailable) for answer in answers)
        with pytest.raises(UserManagerUnavailable):
            await contacts.find_contacts(ids)

    run_with_contacts(users.target, asking)


def test_who_is_cancelled_leaves_the_question_to_the_others(users: UserService) -> None:
    """Whoever asked first, and even when nobody is left to hear the answer."""
    first, second = add_users(users, 2)

    async def asking(contacts: Contacts) -> None:
        users.open.clear()
        leaving, staying = (
            asyncio.create_task(contacts.find_contact(first)),
            asyncio.create_task(contacts.find_contact(second)),
        )
        await wait_until(lambda: len(users.requests) == 1, "the request is under way")
        alone = asyncio.create_task(contacts.find_contact(uuid4()))
        await asyncio.sleep(0)
        leaving.cancel()
        alone.cancel()
        users.open.set()
        assert (await staying) is not None
        assert await contacts.find_contact(first) is not None
        assert leaving.cancelled()
        assert alone.cancelled()

    run_with_contacts(users.target, asking)


def test_a_user_manager_that_says_nothing_is_away(users: UserService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has its deadline: whoever came first waits for one, whoever came meanwhile for two."""
    monkeypatch.setattr(module, "DEADLINE_S", 0.2)
    users.open.clear()
    first, second = add_users(users, 2)

    async def asking(contacts: Contacts) -> None:
        asked = [asyncio.create_task(contacts.find_contact(first))]
        await wait_until(lambda: len(users.requests) == 1, "the first request is under way")
        asked.append(asyncio.create_task(contacts.find_contact(second)))
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(error) for error in errors] == ["user_manager answered DEADLINE_EXCEEDED"] * 2

    run_with_contacts(users.target, asking)


@pytest.mark.parametrize("begun", [True, False], ids=["under way", "not begun"])
def test_nobody_waits_for_a_client_that_is_closed(users: UserService, begun: bool) -> None:
    """They hear that user_manager is away, so that their mails are put off."""
    users.open.clear()
    first, second = add_users(users, 2)

    async def asking(contacts: Contacts) -> None:
        asked = [asyncio.create_task(contacts.find_contact(first))]
        if begun:
            await wait_until(lambda: len(users.requests) == 1, "the request is under way")
        asked.append(asyncio.create_task(contacts.find_contact(second)))
        await asyncio.sleep(0)
        await contacts.close()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [UserManagerUnavailable] * 2

    run_with_contacts(users.target, asking)


def test_what_is_remembered_is_bounded(users: UserService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was remembered first is forgotten first."""
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    ids = add_users(users, 4)
    ask(users.target, *ids, *reversed(ids[1:]), ids[0])
    assert users.asked == [str(user_id) for user_id in (*ids, ids[0])]


def test_a_bounce_is_told_with_its_time(users: UserService) -> None:
    """In UTC, whatever zone the caller's datetime has, to the microsecond."""
    at = datetime(2026, 2, 13, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))

    async def reporting(contacts: Contacts) -> None:
        await contacts.report_bounce(USER, at)

    run_with_contacts(users.target, reporting)
    (bounce,) = users.bounces
    assert bounce.user_id == str(USER)
    assert bounce.bounced_at.ToDatetime(tzinfo=UTC) == at


@pytest.mark.parametrize("away", [False, True])
def test_who_bounced_is_not_remembered(users: UserService, away: bool) -> None:
    """The next alert asks again; also when the report failed, since then nobody knows whether it arrived."""
    users.add(build_contact())

    async def reporting(contacts: Contacts) -> None:
        await contacts.find_contact(USER)
        if away:
            users.away.set()
            with pytest.raises(UserManagerUnavailable):
                await contacts.report_bounce(USER, datetime.now(UTC))
            users.away.clear()
        else:
            await contacts.report_bounce(USER, datetime.now(UTC))
        users.add(build_contact(suppressed=True))
        contact = await contacts.find_contact(USER)
        assert contact is not None
        assert contact.suppressed

    run_with_contacts(users.target, reporting)


def test_an_answer_from_before_the_bounce_is_not_remembered(users: UserService) -> None:
    """It was looked up before the report, and comes after it."""
    users.add(build_contact())

    async def reporting(contacts: Contacts) -> None:
        users.open.clear()
        before = asyncio.create_task(contacts.find_contact(USER))
        await wait_until(lambda: len(users.asked) == 1, "the answer is looked up")
        await contacts.report_bounce(USER, datetime.now(UTC))
        users.add(build_contact(suppressed=True))
        users.open.set()
        old, new = await before, await contacts.find_contact(USER)
        assert old is not None
        assert new is not None
        assert (old.suppressed, new.suppressed) == (False, True)

    run_with_contacts(users.target, reporting)
