"""The use cases: state and event commit together, and everybody reaches their own account only."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event, select, text

from chassis.database import Database
from chassis.errors import DatabaseAwayError
from tests.fakes.collector import FakeInterests
from tests.user_manager.conftest import OPERATOR_TOKEN, PUBLIC_URL, SIGNING_KEY, Service
from towerwatch.topics import USERS_CHANGED, partition_of
from user_manager.accounts import MOST_CONTACTS, Accounts
from user_manager.addresses import Address
from user_manager.errors import (
    AccountUnknownError,
    AddressTakenError,
    CollectorAwayError,
    LinkOrphanedError,
    NotYoursError,
    TokenUnknownError,
    TooManyUsersError,
)
from user_manager.links import Links
from user_manager.model import OUTBOX, User


def test_a_registration_commits_the_account_with_its_event(service: Service) -> None:
    """The event asks for one confirmation mail, in the partition of the user, and holds no address and no name."""
    service.clock.advance(timedelta(hours=5))
    account = service.register().account
    assert account.created_at == service.clock.now()
    assert (account.confirmed, account.paused) == (False, False)
    with service.database.transaction() as session:
        (row,) = session.execute(OUTBOX.rows.select()).all()
    user_id = str(account.user_id)
    assert (row.topic, row.key) == (USERS_CHANGED.name, user_id.encode())
    assert row.partition == partition_of(user_id, USERS_CHANGED)
    (registered,) = service.events()
    assert registered.user_id == user_id
    assert registered.registered.confirmation_id
    assert b"ann" not in row.value.lower()


def test_a_registration_that_fails_leaves_neither_account_nor_event(service: Service) -> None:
    """The outbox refuses the event: the account is not there either."""
    with service.database.engine.begin() as connection:
        connection.execute(text("DROP TABLE outbox"))
    with pytest.raises(DatabaseAwayError):
        service.register()
    with service.database.transaction() as session:
        assert session.scalars(select(User)).all() == []


def test_only_a_digest_of_the_token_is_stored(service: Service) -> None:
    """Who reads the database can act for nobody."""
    token = service.register().token
    with service.database.transaction() as session:
        user = session.scalars(select(User)).one()
        row = session.execute(text("SELECT * FROM users")).one()
    assert len(user.token_sha256) == 64
    assert all(token not in str(value) for value in row)


def test_an_address_registers_once_in_whatever_case(service: Service) -> None:
    """The second gets no account and makes no event."""
    service.register("ann@example.org")
    with pytest.raises(AddressTakenError):
        service.register("ANN@example.org")
    assert service.changes() == ["registered"]


def test_of_registrations_at_the_same_time_one_wins(service: Service) -> None:
    """The database's unique key decides the race, and the others are told why."""
    start = threading.Barrier(4)
    outcomes: list[str] = []

    def register() -> None:
        start.wait()
        try:
            service.register()
            outcomes.append("registered")
        except AddressTakenError:
            outcomes.append("taken")

    threads = [threading.Thread(target=register) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["registered", "taken", "taken", "taken"]
    assert service.changes() == ["registered"]


def test_another_constraint_is_not_taken_for_a_taken_address(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is free, so "taken" would be a lie."""
    monkeypatch.setattr("user_manager.tokens.new_token", lambda: "the-same-token-twice")
    service.register("ann@example.org")
    with pytest.raises(DatabaseAwayError):
        service.register("bob@example.org")


def test_confirming_is_idempotent_and_announced_once(service: Service) -> None:
    """People click twice."""
    registration = service.register()
    for _ in range(2):
        service.accounts.confirm(service.link_token(registration))
    assert service.accounts.get(registration.token, "ann@example.org").confirmed
    assert service.changes() == ["registered", "confirmed"]


def test_looking_at_a_link_confirms_nothing(service: Service) -> None:
    """Mail scanners open links."""
    registration = service.register()
    service.accounts.check_link(service.link_token(registration))
    assert not service.accounts.authenticate(registration.token).confirmed
    assert service.changes() == ["registered"]


def test_the_link_of_an_account_that_is_gone_confirms_nothing(service: Service) -> None:
    """Also when the same address registered again since: that account has a link of its own."""
    registration = service.register()
    service.accounts.delete(registration.token, "ann@example.org")
    again = service.register()
    for use in (service.accounts.check_link, service.accounts.confirm):
        with pytest.raises(LinkOrphanedError):
            use(service.link_token(registration))
    assert not service.accounts.authenticate(again.token).confirmed


def test_people_reach_their_own_account_only(service: Service) -> None:
    """Another's address, a free one and nonsense are answered alike: nobody learns who has an account."""
    token = service.register("ann@example.org").token
    service.register("bob@example.org")
    assert service.accounts.get(token, "ANN@Example.org").email == "ann@example.org"
    said = set()
    for email in ("bob@example.org", "nobody@example.org", "nonsense"):
        for use in (service.accounts.get, service.accounts.delete):
            with pytest.raises(NotYoursError) as caught:
                use(token, email)
            said.add(str(caught.value))
    assert len(said) == 1
    assert service.interests.deleted == []


def test_the_operator_reaches_every_account(service: Service) -> None:
    """And is told which does not exist."""
    service.register("ann@example.org")
    assert service.accounts.get(OPERATOR_TOKEN, "ann@example.org").name == "Ann"
    for email in ("nobody@example.org", "nonsense"):
        with pytest.raises(AccountUnknownError):
            service.accounts.get(OPERATOR_TOKEN, email)


def test_a_token_that_was_never_given_is_nobodys(service: Service) -> None:
    """Neither the operator's for gRPC: it is no user's."""
    service.register()
    with pytest.raises(TokenUnknownError):
        service.accounts.get("guessed", "ann@example.org")
    for token in ("", "guessed", OPERATOR_TOKEN):
        with pytest.raises(TokenUnknownError):
            service.accounts.authenticate(token)


def test_a_deletion_begins_with_the_interests(service: Service) -> None:
    """Then the account and its event go in one transaction, and the address is free again."""
    registration = service.register()
    service.accounts.delete(registration.token, "ann@example.org")
    assert service.interests.deleted == [registration.account.user_id]
    assert service.changes() == ["registered", "deleted"]
    with pytest.raises(TokenUnknownError):
        service.accounts.delete(registration.token, "ann@example.org")
    with pytest.raises(AccountUnknownError):
        service.accounts.delete(OPERATOR_TOKEN, "ann@example.org")
    assert service.register().account.user_id != registration.account.user_id


def test_a_pivot_that_fails_leaves_everything_as_it_was(service: Service) -> None:
    """The account stays usable, and the same deletion succeeds once the collector is back."""
    registration = service.register()
    service.interests.failure = CollectorAwayError("away")
    with pytest.raises(CollectorAwayError):
        service.accounts.delete(registration.token, "ann@example.org")
    assert service.accounts.get(registration.token, "ann@example.org") == registration.account
    assert service.changes() == ["registered"]
    service.interests.failure = None
    service.accounts.delete(registration.token, "ann@example.org")
    assert service.changes() == ["registered", "deleted"]


def test_a_deletion_that_was_overtaken_announces_nothing_again(service: Service) -> None:
    """Two requests may be between pivot and local delete at once."""
    registration = service.register()

    class Overtaken(FakeInterests):
        """While the first request asks the collector, a second one completes."""

        def delete_interests(self, user_id: object) -> None:
            service.accounts.delete(OPERATOR_TOKEN, "ann@example.org")

    slow = Accounts(service.database, Overtaken(), service.links, service.clock, OPERATOR_TOKEN)
    slow.delete(registration.token, "ann@example.org")
    assert service.changes() == ["registered", "deleted"]


def test_no_lock_is_held_while_the_collector_is_asked(service: Service) -> None:
    """A slow collector must not stop the others' registrations."""
    registration = service.register()

    class Slow(FakeInterests):
        """Meanwhile somebody else writes."""

        def delete_interests(self, user_id: object) -> None:
            service.register("bob@example.org")

    Accounts(service.database, Slow(), service.links, service.clock, OPERATOR_TOKEN).delete(
        registration.token, "ann@example.org"
    )
    assert service.accounts.get(OPERATOR_TOKEN, "bob@example.org")


def test_contacts_are_of_those_who_exist(service: Service) -> None:
    """Unknown ids and what is no id are left out; only who has not confirmed gets a link."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    service.accounts.confirm(service.link_token(ann))
    wanted = [str(ann.account.user_id), str(bob.account.user_id), str(uuid4()), "nonsense", str(bob.account.user_id)]
    contacts = {contact.account.email: contact for contact in service.accounts.contacts(wanted)}
    assert set(contacts) == {"ann@example.org", "bob@example.org"}
    assert contacts["ann@example.org"].confirm_url == ""
    assert contacts["ann@example.org"].account.confirmed
    url = contacts["bob@example.org"].confirm_url
    assert url.startswith(f"{PUBLIC_URL}/confirm/")
    service.accounts.confirm(url.rpartition("/")[2])
    assert service.accounts.authenticate(bob.token).confirmed


def test_contacts_are_bounded(service: Service) -> None:
    """As many as one call may ask for, and not one more."""
    assert service.accounts.contacts(["x"] * MOST_CONTACTS) == []
    with pytest.raises(TooManyUsersError):
        service.accounts.contacts(["x"] * (MOST_CONTACTS + 1))


def test_a_database_that_is_away_is_said_without_its_text(service: Service) -> None:
    """The error is transient and ours; it shows neither SQL nor a path."""
    away = Database("sqlite:////nowhere/at/all.db")
    accounts = Accounts(away, service.interests, Links(SIGNING_KEY, PUBLIC_URL), service.clock, OPERATOR_TOKEN)
    with pytest.raises(DatabaseAwayError) as caught:
        accounts.register(Address("ann@example.org"), "Ann", "UTC")
    assert caught.value.transient
    assert "nowhere" not in str(caught.value)


def test_a_failed_commit_is_no_registration(service: Service) -> None:
    """The last step of the transaction fails: nothing of it stays."""

    def refuse(_connection: object) -> None:
        raise RuntimeError("the disk is full")

    event.listen(service.database.engine, "commit", refuse)
    with pytest.raises(RuntimeError):
        service.register()
    event.remove(service.database.engine, "commit", refuse)
    assert service.changes() == []
    with pytest.raises(AccountUnknownError):
        service.accounts.get(OPERATOR_TOKEN, "ann@example.org")
