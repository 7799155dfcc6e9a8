"""The contacts client: requests are batched, contacts are cached briefly, and no response is older than its call."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, strategies as st
from structlog.testing import capture_logs

from notifier import contacts as module
from notifier.contacts import (
    MAX_INTERESTS_PER_REQUEST,
    MAX_INTERESTS_PER_USER,
    MAX_USERS_PER_REQUEST,
    ContactsClient,
)
from notifier.errors import UserManagerUnavailable
from notifier.mail import Contact, InterestLinks
from tests.notifier.users import USER, UserService, add_users, build_contact, run_with_contacts, wait_until
from towerwatch.users.v1.user_service_pb2 import Contact as ContactMessage


@pytest.fixture
def users() -> Iterator[UserService]:
    with UserService().running() as service:
        assert isinstance(service, UserService)
        yield service
        service.open.set()


def find_contacts_in_turn(target: str, *user_ids: UUID, cache_s: float = 60) -> list[Contact | None]:
    """Return what `find_contact` returns for each user, one after the other."""
    answers: list[Contact | None] = []

    async def asking(contacts: ContactsClient) -> None:
        for user_id in user_ids:
            answers.append(await contacts.find_contact(user_id))

    run_with_contacts(target, asking, cache_s)
    return answers


def test_a_cached_contact_is_requested_once(users: UserService) -> None:
    """Several alerts for one user cause one request."""
    users.add(build_contact(unsubscribe_url="https://example.org/u"))
    ada = Contact(USER, "ada@example.net", "Ada", "UTC", True, False, "", "https://example.org/u")
    assert find_contacts_in_turn(users.target, USER, USER) == [ada] * 2
    assert users.asked == [str(USER)]


def test_a_contact_is_requested_again_after_the_cache_time(users: UserService) -> None:
    """Deletions and pauses take effect."""
    users.add(build_contact())
    find_contacts_in_turn(users.target, USER, USER, cache_s=0)
    assert len(users.asked) == 2


@pytest.mark.parametrize(
    "contact", [None, build_contact(confirmed=False), build_contact(paused=True), build_contact(suppressed=True)]
)
def test_a_user_who_cannot_be_mailed_is_not_cached(users: UserService, contact: ContactMessage | None) -> None:
    """An alert right after the confirmation must not find the state before it."""
    if contact is not None:
        users.add(contact)
    find_contacts_in_turn(users.target, USER, USER)
    assert len(users.asked) == 2


def test_a_suppressed_contact_is_returned_as_suppressed(users: UserService) -> None:
    """The contact has the confirmation link if the user requested one."""
    users.add(build_contact(suppressed=True, confirm_url="https://example.org/c"))
    (contact,) = find_contacts_in_turn(users.target, USER)
    assert contact is not None
    assert (contact.suppressed, contact.confirm_url) == (True, "https://example.org/c")


def test_an_unavailable_user_manager_raises_a_transient_error(users: UserService) -> None:
    """An error and a closed port raise the same error."""
    users.away.set()
    with pytest.raises(UserManagerUnavailable):
        find_contacts_in_turn(users.target, USER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(UserManagerUnavailable):
            find_contacts_in_turn(f"127.0.0.1:{free.getsockname()[1]}", USER)


def test_many_users_are_requested_in_requests_of_the_allowed_size(users: UserService) -> None:
    """A request has 500 users at most, no user is requested twice, users who do not exist are left out, and no users
    cause no request."""
    known, unknown = add_users(users, 2 * MAX_USERS_PER_REQUEST + 1), [uuid4() for _ in range(3)]

    async def asking(contacts: ContactsClient) -> None:
        assert await contacts.find_contacts([]) == {}
        found = await contacts.find_contacts([*known, *unknown, *known])
        assert set(found) == set(known)
        assert all(contact.user_id == user_id for user_id, contact in found.items())
        assert await contacts.find_contacts(known) == found

    run_with_contacts(users.target, asking)
    assert sorted(map(len, users.requests)) == [4, MAX_USERS_PER_REQUEST, MAX_USERS_PER_REQUEST]
    assert sorted(users.asked) == sorted(map(str, [*known, *unknown]))


def test_calls_in_one_loop_iteration_share_a_request(users: UserService) -> None:
    """300 concurrent calls cause one request."""
    ids = add_users(users, 300)

    async def asking(contacts: ContactsClient) -> None:
        found = await asyncio.gather(*(contacts.find_contact(user_id) for user_id in ids))
        assert [contact.user_id for contact in found if contact is not None] == ids

    run_with_contacts(users.target, asking)
    assert list(map(len, users.requests)) == [300]


def test_calls_during_a_request_share_the_next(users: UserService) -> None:
    """301 calls, spread over the time of the first request, cause two requests."""
    first, *others = add_users(users, 301)

    async def asking(contacts: ContactsClient) -> None:
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


def test_calls_right_after_a_response_share_the_next_request(users: UserService) -> None:
    """Callers that shared a response share the next request, also if another call has waited for it."""
    first, second, late = add_users(users, 50), add_users(users, 50), add_users(users, 1)

    async def asking(contacts: ContactsClient) -> None:
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


def test_no_response_is_older_than_its_call(users: UserService) -> None:
    """A user who confirms during a request gets the alert that comes after the confirmation."""
    users.add(build_contact(confirmed=False))

    async def asking(contacts: ContactsClient) -> None:
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


def test_a_user_cached_meanwhile_is_not_requested_again(users: UserService) -> None:
    """Several alerts for one user cause one request, also if they arrive during the request."""
    users.add(build_contact())

    async def asking(contacts: ContactsClient) -> None:
        users.open.clear()
        asked = [asyncio.create_task(contacts.find_contact(USER))]
        await wait_until(lambda: len(users.asked) == 1, "the request is under way")
        asked += [asyncio.create_task(contacts.find_contact(USER)) for _ in range(20)]
        await asyncio.sleep(0)
        users.open.set()
        assert all(contact is not None for contact in await asyncio.gather(*asked))

    run_with_contacts(users.target, asking)
    assert users.asked == [str(USER)]


def test_a_failed_request_fails_exactly_its_own_calls(users: UserService) -> None:
    """Later calls cause another request."""
    first, second, third = add_users(users, 3)

    async def asking(contacts: ContactsClient) -> None:
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
    """Calls whose users were in another request get their contacts."""
    ids = add_users(users, MAX_USERS_PER_REQUEST + 1)
    users.refused = {str(ids[0])}

    async def asking(contacts: ContactsClient) -> None:
        answers = await asyncio.gather(*(contacts.find_contact(user_id) for user_id in ids), return_exceptions=True)
        failed = {str(user_id) for user_id, answer in zip(ids, answers, strict=True) if not isinstance(answer, Contact)}
        (refused,) = (request for request in users.requests if str(ids[0]) in request)
        assert failed == set(refused)
        assert all(isinstance(answer, Contact | UserManagerUnavailable) for answer in answers)
        with pytest.raises(UserManagerUnavailable):
            await contacts.find_contacts(ids)

    run_with_contacts(users.target, asking)


def test_a_cancelled_call_does_not_affect_other_calls(users: UserService) -> None:
    """The request continues, also if the cancelled call started it, and even if no call is left."""
    first, second = add_users(users, 2)

    async def asking(contacts: ContactsClient) -> None:
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


def test_a_request_fails_at_its_deadline(users: UserService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call waits for its own request, and for the rest of the request before it."""
    monkeypatch.setattr(module, "DEADLINE_S", 0.2)
    users.open.clear()
    first, second = add_users(users, 2)

    async def asking(contacts: ContactsClient) -> None:
        asked = [asyncio.create_task(contacts.find_contact(first))]
        await wait_until(lambda: len(users.requests) == 1, "the first request is under way")
        asked.append(asyncio.create_task(contacts.find_contact(second)))
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(error) for error in errors] == ["user_manager answered DEADLINE_EXCEEDED"] * 2

    run_with_contacts(users.target, asking)


@pytest.mark.parametrize("begun", [True, False], ids=["under way", "not begun"])
def test_closing_the_client_fails_waiting_calls(users: UserService, begun: bool) -> None:
    """The calls raise UserManagerUnavailable, so that their mails are deferred."""
    users.open.clear()
    first, second = add_users(users, 2)

    async def asking(contacts: ContactsClient) -> None:
        asked = [asyncio.create_task(contacts.find_contact(first))]
        if begun:
            await wait_until(lambda: len(users.requests) == 1, "the request is under way")
        asked.append(asyncio.create_task(contacts.find_contact(second)))
        await asyncio.sleep(0)
        await contacts.close()
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [UserManagerUnavailable] * 2

    run_with_contacts(users.target, asking)


def test_a_contact_has_links_to_the_interests_of_its_mail(users: UserService) -> None:
    """They come with the contact, in one request. A cached contact serves mails about the same interests, or none."""
    users.add(build_contact())
    one, other = uuid4(), uuid4()

    async def asking(contacts: ContactsClient) -> None:
        for interests in ([one, other], [other], [one], []):
            contact = await contacts.find_contact(USER, interests)
            assert contact is not None
            assert contact.interest_links == {
                each: InterestLinks(f"https://example.org/watch?interest={each}", f"https://example.org/stop/{each}")
                for each in (one, other)
            }
        assert len(users.requests) == 1
        contact = await contacts.find_contact(USER, [one, third := uuid4()])
        assert contact is not None
        assert contact.interest_links.keys() == {one, third}

    run_with_contacts(users.target, asking)
    assert len(users.requests) == 2


def test_calls_for_one_user_share_a_request_for_all_their_interests(users: UserService) -> None:
    """Each call finds its own interests in the answer."""
    users.add(build_contact())
    ids = [uuid4() for _ in range(20)]

    async def asking(contacts: ContactsClient) -> None:
        found = await asyncio.gather(*(contacts.find_contact(USER, [each]) for each in ids))
        for each, contact in zip(ids, found, strict=True):
            assert contact is not None
            assert each in contact.interest_links

    run_with_contacts(users.target, asking)
    assert len(users.requests) == 1


def test_a_user_manager_of_the_version_before_gives_no_links(users: UserService) -> None:
    """The mails go all the same, without them; each asks again, so that the upgrade is noticed."""
    users.add(build_contact())
    users.knows_interests = False
    interest = uuid4()

    async def asking(contacts: ContactsClient) -> None:
        for expected in (1, 2):
            contact = await contacts.find_contact(USER, [interest])
            assert contact is not None
            assert contact.interest_links == {}
            assert len(users.requests) == expected

    run_with_contacts(users.target, asking)


def test_requests_name_few_interests(users: UserService) -> None:
    """200 of a user at most, always the same ones, and 1,000 in all: more users are asked for in further requests."""
    ids = add_users(users, 7)
    interests = {user_id: [uuid4() for _ in range(MAX_INTERESTS_PER_USER + 1)] for user_id in ids}

    async def asking(contacts: ContactsClient) -> None:
        found = await contacts.find_contacts(ids, interests)
        for user_id, contact in found.items():
            assert list(contact.interest_links) == sorted(interests[user_id])[:MAX_INTERESTS_PER_USER]
        assert await contacts.find_contacts(ids, interests) == found  # from the cache

    run_with_contacts(users.target, asking)
    in_one = MAX_INTERESTS_PER_REQUEST // MAX_INTERESTS_PER_USER
    assert sorted(map(len, users.requests)) == [len(ids) - in_one, in_one]


@given(st.dictionaries(st.uuids(), st.sets(st.integers(0, 300).map(lambda each: UUID(int=each)), max_size=300)))
@example({UUID(int=number): {UUID(int=each) for each in range(300)} for number in range(12)})
@example({UUID(int=number): set() for number in range(1_200)})
def test_each_user_is_in_one_request_within_its_limits(wanted: dict[UUID, set[UUID]]) -> None:
    """No user is left out or asked for twice, and no request is above the contract's limits, or empty."""
    parts = list(module._split_into_requests(wanted))
    assert [user_id for part in parts for user_id in part] == list(wanted)
    for part in parts:
        assert 0 < len(part) <= MAX_USERS_PER_REQUEST
        assert sum(map(len, part.values())) <= MAX_INTERESTS_PER_REQUEST
        for user_id, interests in part.items():
            assert len(interests) == min(len(wanted[user_id]), MAX_INTERESTS_PER_USER)
            assert set(interests) <= wanted[user_id]


def test_the_cache_is_bounded(users: UserService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contact that was cached first is removed first."""
    monkeypatch.setattr(module, "_MAX_CACHED", 3)
    ids = add_users(users, 4)
    find_contacts_in_turn(users.target, *ids, *reversed(ids[1:]), ids[0])
    assert users.asked == [str(user_id) for user_id in (*ids, ids[0])]


def test_a_bounce_is_reported_with_its_time(users: UserService) -> None:
    """The time is reported in UTC to the microsecond, whatever time zone the caller's datetime has."""
    at = datetime(2026, 2, 13, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))

    async def reporting(contacts: ContactsClient) -> None:
        await contacts.report_bounce(USER, at)

    run_with_contacts(users.target, reporting)
    (bounce,) = users.bounces
    assert bounce.user_id == str(USER)
    assert bounce.bounced_at.ToDatetime(tzinfo=UTC) == at


@pytest.mark.parametrize("away", [False, True])
def test_a_bounced_contact_is_not_cached(users: UserService, away: bool) -> None:
    """The next alert requests the contact again, also if the report failed, because it may have arrived
    nevertheless."""
    users.add(build_contact())

    async def reporting(contacts: ContactsClient) -> None:
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


def test_a_response_from_before_the_bounce_is_not_cached(users: UserService) -> None:
    """The response was looked up before the report, and arrives after it."""
    users.add(build_contact())

    async def reporting(contacts: ContactsClient) -> None:
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


@pytest.mark.parametrize(
    ("url", "is_reported"),
    [
        ("https://flüge.example.org/unsubscribe/t", True),
        ("https://example.org/a b/unsubscribe/t", True),
        ("https://example.org/unsubscribe/t", False),
        ("", False),
    ],
)
def test_a_link_that_mails_have_to_leave_out_is_an_error_in_the_log(
    users: UserService, url: str, is_reported: bool
) -> None:
    """Alerts go out without a link that cannot be printed, but the operator reads so, without anybody's link."""
    users.add(build_contact(unsubscribe_url=url))
    with capture_logs() as logged:
        find_contacts_in_turn(users.target, USER, USER)
    errors = [each for each in logged if each["log_level"] == "error"]
    assert [each["event"] for each in errors] == ["contacts.link_unprintable"] * is_reported
    assert "unsubscribe" not in str(errors)
