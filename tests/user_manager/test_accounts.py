"""Use cases on existing accounts; each user reaches only their own account."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from tests.user_manager.conftest import OPERATOR_TOKEN, PUBLIC_URL, Service
from user_manager.accounts import MAX_CONTACTS_PER_CALL, AccountUpdate
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

USE_CASES: dict[str, Callable[[Service, str, str], object]] = {
    "get": lambda service, token, email: service.accounts.get(token, email),
    "change": lambda service, token, email: service.accounts.update(token, email, None, AccountUpdate(paused=True)),
    "rotate": lambda service, token, email: service.accounts.rotate_token(token, email),
    "delete": lambda service, token, email: service.deletions.delete(token, email),
    "resend": lambda service, token, email: service.registrations.request_confirmation_mail(token, email),
}


@pytest.mark.parametrize("use", USE_CASES.values(), ids=USE_CASES)
def test_people_reach_their_own_account_only(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """A user gets the same error for another's address, a free one and nonsense: the error reveals no account."""
    token = service.register("ann@example.org").token
    bob = service.register("bob@example.org")
    texts = set()
    for email in ("bob@example.org", "nobody@example.org", "nonsense"):
        with pytest.raises(NotYoursError) as caught:
            use(service, token, email)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert service.accounts.get(bob.token, "BOB@Example.org") == bob.account
    assert service.interests.deleted == []


@pytest.mark.parametrize("use", USE_CASES.values(), ids=USE_CASES)
def test_an_unknown_token_is_rejected(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """An unknown token gets the same error, whether the account exists or not."""
    service.register()
    for email in ("ann@example.org", "nobody@example.org"):
        with pytest.raises(TokenUnknownError):
            use(service, "guessed", email)


@pytest.mark.parametrize("use", USE_CASES.values(), ids=USE_CASES)
def test_the_operator_reaches_every_account(service: Service, use: Callable[[Service, str, str], object]) -> None:
    """The operator's token opens every account, and gets an error for an unknown one."""
    service.register("ann@example.org")
    service.clock.advance(timedelta(days=1))
    use(service, OPERATOR_TOKEN, "ANN@example.org")
    for email in ("nobody@example.org", "nonsense"):
        with pytest.raises(AccountUnknownError):
            use(service, OPERATOR_TOKEN, email)


def test_the_operators_token_is_no_users(service: Service) -> None:
    """The operator's token authenticates no user, because the operator has no interests."""
    for token in ("", "guessed", OPERATOR_TOKEN):
        with pytest.raises(TokenUnknownError):
            service.accounts.authenticate(token)


def test_an_update_changes_fields_and_increases_the_version(service: Service) -> None:
    """An update leaves absent fields unchanged, and increases the version by one."""
    registration = service.register()
    before = registration.account
    after = service.accounts.update(
        registration.token,
        before.email,
        before.version,
        AccountUpdate("Anna", "UTC", paused=True, corrections=False, language="it"),
    )
    changes = {"name": "Anna", "time_zone": "UTC", "paused": True, "corrections": False, "language": "it"}
    assert after == replace(before, version=before.version + 1, **changes)  # type: ignore[arg-type]
    resumed = service.accounts.update(registration.token, before.email, None, AccountUpdate(paused=False))
    assert (resumed.name, resumed.paused, resumed.version) == ("Anna", False, after.version + 1)
    assert service.accounts.get(registration.token, before.email) == resumed


def test_an_update_with_equal_values_keeps_the_version(service: Service) -> None:
    """The version stays, so that no concurrent update is refused for it."""
    registration = service.register()
    same = service.accounts.update(
        registration.token, "ann@example.org", None, AccountUpdate("Ann", "Europe/Rome", paused=False)
    )
    assert same == registration.account


def test_of_two_changes_to_the_same_version_one_is_refused(service: Service) -> None:
    """The second of two updates of the same version is refused, so that no change is overwritten unseen."""
    registration = service.register()
    version = registration.account.version
    service.accounts.update(registration.token, "ann@example.org", version, AccountUpdate(name="Anna"))
    with pytest.raises(VersionMismatchError):
        service.accounts.update(registration.token, "ann@example.org", version, AccountUpdate(name="Annie"))
    assert service.accounts.get(registration.token, "ann@example.org").name == "Anna"


def test_a_new_token_replaces_the_old_one(service: Service) -> None:
    """The old token is invalid at once, here and for the other services; the account is unchanged."""
    registration = service.register()
    new = service.accounts.rotate_token(registration.token, "ann@example.org")
    assert new != registration.token
    with pytest.raises(TokenUnknownError):
        service.accounts.get(registration.token, "ann@example.org")
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(registration.token)
    assert service.accounts.get(new, "ann@example.org") == registration.account


def test_pages_show_every_account_once(service: Service) -> None:
    """Every page size lists each account once, oldest first, also accounts of the same instant."""
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


def test_a_deleted_account_does_not_break_the_cursor(service: Service) -> None:
    """The cursor is a position between accounts, so its account may be deleted."""
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
def test_an_invalid_cursor_is_rejected(service: Service, cursor: str) -> None:
    """A cursor that this service did not issue is the caller's error."""
    with pytest.raises(BadCursorError):
        service.accounts.list_page(OPERATOR_TOKEN, cursor, 10)


def test_only_the_operator_lists_and_verifies(service: Service) -> None:
    """Only the operator may list accounts and look up addresses; a user's token is not enough."""
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
    """An unsubscription link pauses all alerts, however often it is used; checking the link changes nothing."""
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


def test_each_kind_of_link_has_one_purpose(service: Service) -> None:
    """A confirmation link does not unsubscribe, nor the other way round, and links of deleted users fail."""
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


def test_contacts_are_returned_for_existing_users(service: Service) -> None:
    """Unknown and invalid ids are left out; only an unconfirmed user's contact has a confirmation link."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    service.confirm(ann)
    wanted = [str(ann.account.user_id), str(bob.account.user_id), str(uuid4()), "nonsense", str(bob.account.user_id)]
    contacts = {contact.account.email: contact for contact in service.accounts.load_contacts(wanted)}
    assert set(contacts) == {"ann@example.org", "bob@example.org"}
    assert contacts["ann@example.org"].confirm_url == ""
    assert contacts["ann@example.org"].account.confirmed
    url = contacts["bob@example.org"].confirm_url
    assert url.startswith(f"{PUBLIC_URL}/confirm/")
    service.registrations.confirm(url.rpartition("/")[2], bob.token)
    assert service.accounts.authenticate(bob.token).confirmed
    url = contacts["bob@example.org"].unsubscribe_url
    assert url.startswith(f"{PUBLIC_URL}/unsubscribe/")
    service.accounts.unsubscribe(url.rpartition("/")[2])
    assert service.accounts.get(bob.token, "bob@example.org").paused


def test_the_number_of_contacts_in_a_call_is_limited(service: Service) -> None:
    """One call may request the maximum number of contacts, and not one more."""
    assert service.accounts.load_contacts(["x"] * MAX_CONTACTS_PER_CALL) == []
    with pytest.raises(TooManyUsersError):
        service.accounts.load_contacts(["x"] * (MAX_CONTACTS_PER_CALL + 1))
