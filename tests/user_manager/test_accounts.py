"""What can be done with accounts that exist; everybody reaches their own only."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.user_manager.conftest import OPERATOR_TOKEN, PUBLIC_URL, Service
from user_manager.accounts import MAX_CONTACTS_PER_CALL, Account, AccountUpdate
from user_manager.errors import (
    AccountUnknownError,
    BadCursorError,
    LinkForgedError,
    LinkOrphanedError,
    NotOperatorError,
    NotYoursError,
    TokenUnknownError,
    TooManyUsersError,
    VersionMismatchError,
)

USES: dict[str, Callable[[Service, str, str], object]] = {
    "get": lambda service, token, email: service.accounts.get(token, email),
    "change": lambda service, token, email: service.accounts.update(token, email, None, AccountUpdate(paused=True)),
    "rotate": lambda service, token, email: service.accounts.rotate_token(token, email),
    "delete": lambda service, token, email: service.deletions.delete(token, email),
    "resend": lambda service, token, email: service.registrations.request_confirmation_mail(token, email),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_people_reach_their_own_account_only(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """Another's address, a free one and nonsense are answered alike: nobody learns who has an account."""
    token = service.register("ann@example.org").token
    bob = service.register("bob@example.org")
    said = set()
    for email in ("bob@example.org", "nobody@example.org", "nonsense"):
        with pytest.raises(NotYoursError) as caught:
            use(service, token, email)
        said.add(str(caught.value))
    assert len(said) == 1
    assert service.accounts.get(bob.token, "BOB@Example.org") == bob.account
    assert service.interests.deleted == []


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_token_that_was_never_given_is_nobodys(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """Whether the account exists or not."""
    service.register()
    for email in ("ann@example.org", "nobody@example.org"):
        with pytest.raises(TokenUnknownError):
            use(service, "guessed", email)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_the_operator_reaches_every_account(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """And is told which does not exist."""
    service.register("ann@example.org")
    service.clock.advance(timedelta(days=1))
    use(service, OPERATOR_TOKEN, "ANN@example.org")
    for email in ("nobody@example.org", "nonsense"):
        with pytest.raises(AccountUnknownError):
            use(service, OPERATOR_TOKEN, email)


def test_the_operators_token_is_no_users(service: Service) -> None:
    """The other services learn whose a token is; the operator is nobody of whom there are interests."""
    for token in ("", "guessed", OPERATOR_TOKEN):
        with pytest.raises(TokenUnknownError):
            service.accounts.authenticate(token)


def test_a_change_is_seen_and_counted(service: Service) -> None:
    """What is not named stays; the version grows by one."""
    registration = service.register()
    before = registration.account
    after = service.accounts.update(
        registration.token, before.email, before.version, AccountUpdate("Anna", "UTC", True)
    )
    assert after == Account(
        before.user_id,
        before.email,
        "Anna",
        "UTC",
        before.confirmed,
        True,
        False,
        before.created_at,
        before.version + 1,
    )
    resumed = service.accounts.update(registration.token, before.email, None, AccountUpdate(paused=False))
    assert (resumed.name, resumed.paused, resumed.version) == ("Anna", False, after.version + 1)
    assert service.accounts.get(registration.token, before.email) == resumed


def test_a_change_to_what_is_already_so_is_none(service: Service) -> None:
    """The version stays, so that nobody's next change is refused for it."""
    registration = service.register()
    same = service.accounts.update(
        registration.token, "ann@example.org", None, AccountUpdate("Ann", "Europe/Rome", False)
    )
    assert same == registration.account


def test_of_two_changes_to_the_same_version_one_is_refused(service: Service) -> None:
    """Nobody's change is overwritten unseen."""
    registration = service.register()
    version = registration.account.version
    service.accounts.update(registration.token, "ann@example.org", version, AccountUpdate(name="Anna"))
    with pytest.raises(VersionMismatchError):
        service.accounts.update(registration.token, "ann@example.org", version, AccountUpdate(name="Annie"))
    assert service.accounts.get(registration.token, "ann@example.org").name == "Anna"


def test_a_new_token_voids_the_one_before(service: Service) -> None:
    """At once, for the account and for the other services; the account is the same."""
    registration = service.register()
    new = service.accounts.rotate_token(registration.token, "ann@example.org")
    assert new != registration.token
    with pytest.raises(TokenUnknownError):
        service.accounts.get(registration.token, "ann@example.org")
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(registration.token)
    assert service.accounts.get(new, "ann@example.org") == registration.account


def test_pages_show_every_account_once(service: Service) -> None:
    """Oldest first, whatever the size of a page, also for accounts of one instant and with changes in between."""
    emails = [f"user{number}@example.org" for number in range(7)]
    for number, email in enumerate(emails):
        service.register(email)
        if number % 3 == 0:
            service.clock.advance(timedelta(seconds=1))
    for limit in (1, 2, 3, 7, 50):
        seen: list[str] = []
        cursor = None
        pages = 0
        while pages == 0 or cursor is not None:
            page = service.accounts.list_page(OPERATOR_TOKEN, cursor, limit)
            assert 1 <= len(page.accounts) <= limit
            seen += [account.email for account in page.accounts]
            cursor = page.next_cursor
            pages += 1
        assert sorted(seen) == emails
        assert pages == -(-len(emails) // limit)


def test_an_account_that_is_gone_ends_no_list(service: Service) -> None:
    """The cursor points between accounts, not at one."""
    for email in ("a@example.org", "b@example.org", "c@example.org"):
        service.register(email)
        service.clock.advance(timedelta(seconds=1))
    first = service.accounts.list_page(OPERATOR_TOKEN, None, 1)
    service.deletions.delete(OPERATOR_TOKEN, "a@example.org")
    service.deletions.delete(OPERATOR_TOKEN, "b@example.org")
    rest = service.accounts.list_page(OPERATOR_TOKEN, first.next_cursor, 10)
    assert [account.email for account in rest.accounts] == ["c@example.org"]
    assert rest.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "????", "Zm9v", "MjAyNi0wMS0wMSB4", "ü"])
def test_a_cursor_that_is_none_of_ours_is_said(service: Service, cursor: str) -> None:
    """It is the caller's mistake, not ours."""
    with pytest.raises(BadCursorError):
        service.accounts.list_page(OPERATOR_TOKEN, cursor, 10)


def test_only_the_operator_lists_and_verifies(service: Service) -> None:
    """A user's token is known, and not enough."""
    token = service.register().token
    assert service.accounts.is_registered_for_operator(OPERATOR_TOKEN, "ANN@example.org")
    assert not service.accounts.is_registered_for_operator(OPERATOR_TOKEN, "nobody@example.org")
    assert not service.accounts.is_registered_for_operator(OPERATOR_TOKEN, "nonsense")
    with pytest.raises(NotOperatorError):
        service.accounts.list_page(token, None, 10)
    with pytest.raises(NotOperatorError):
        service.accounts.is_registered_for_operator(token, "ann@example.org")
    with pytest.raises(TokenUnknownError):
        service.accounts.list_page("guessed", None, 10)
    with pytest.raises(TokenUnknownError):
        service.accounts.is_registered_for_operator("guessed", "ann@example.org")


def test_unsubscribing_pauses_all_alerts(service: Service) -> None:
    """With the link alone, however often; looking at it changes nothing."""
    registration = service.register()
    link_token = service.build_unsubscription_token(registration)
    service.accounts.check_unsubscription_link(link_token)
    assert not service.accounts.get(registration.token, "ann@example.org").paused
    for _ in range(2):
        service.accounts.unsubscribe(link_token)
    account = service.accounts.get(registration.token, "ann@example.org")
    assert account.paused
    assert account.version == registration.account.version + 1
    (contact,) = service.accounts.load_contacts([str(account.user_id)])
    assert contact.account.paused


def test_links_do_one_thing_each(service: Service) -> None:
    """The link that confirms does not unsubscribe, nor the other way round; one of nobody does nothing."""
    registration = service.register()
    confirmation, unsubscription = (
        service.build_confirmation_token(registration),
        service.build_unsubscription_token(registration),
    )
    for use in (service.accounts.check_unsubscription_link, service.accounts.unsubscribe):
        with pytest.raises(LinkForgedError):
            use(confirmation)
    for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
        with pytest.raises(LinkForgedError):
            use(unsubscription)
    service.deletions.delete(registration.token, "ann@example.org")
    for use in (service.accounts.check_unsubscription_link, service.accounts.unsubscribe):
        with pytest.raises(LinkOrphanedError):
            use(unsubscription)


def test_contacts_are_of_those_who_exist(service: Service) -> None:
    """Unknown ids and what is no id are left out; only who has not confirmed gets a link to do so."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    service.registrations.confirm(service.build_confirmation_token(ann))
    wanted = [str(ann.account.user_id), str(bob.account.user_id), str(uuid4()), "nonsense", str(bob.account.user_id)]
    contacts = {contact.account.email: contact for contact in service.accounts.load_contacts(wanted)}
    assert set(contacts) == {"ann@example.org", "bob@example.org"}
    assert contacts["ann@example.org"].confirm_url == ""
    assert contacts["ann@example.org"].account.confirmed
    url = contacts["bob@example.org"].confirm_url
    assert url.startswith(f"{PUBLIC_URL}/confirm/")
    service.registrations.confirm(url.rpartition("/")[2])
    assert service.accounts.authenticate(bob.token).confirmed
    url = contacts["bob@example.org"].unsubscribe_url
    assert url.startswith(f"{PUBLIC_URL}/unsubscribe/")
    service.accounts.unsubscribe(url.rpartition("/")[2])
    assert service.accounts.get(bob.token, "bob@example.org").paused


def test_contacts_are_bounded(service: Service) -> None:
    """As many as one call may ask for, and not one more."""
    assert service.accounts.load_contacts(["x"] * MAX_CONTACTS_PER_CALL) == []
    with pytest.raises(TooManyUsersError):
        service.accounts.load_contacts(["x"] * (MAX_CONTACTS_PER_CALL + 1))
