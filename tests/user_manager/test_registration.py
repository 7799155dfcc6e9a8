"""Registration creates an account at most once, together with its event; owners confirm their addresses."""

import threading
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.user_manager.conftest import OPERATOR_TOKEN, Service
from towerwatch.topics import USERS_CHANGED, partition_of
from user_manager.accounts import AuthenticatedUser
from user_manager.addresses import Address
from user_manager.errors import (
    AccountUnknownError,
    AlreadyConfirmedError,
    IdempotencyKeyReusedError,
    LinkOrphanedError,
    NotYoursError,
    StillInFlightError,
    TokenUnknownError,
    TooSoonError,
)
from user_manager.idempotency import ANSWER_LIFETIME
from user_manager.model import OUTBOX, IdempotencyRecord, User
from user_manager.registration import Registration

KEY = UUID("8e03978e-40d5-43e8-bc93-6894a57f9324")


def test_a_registration_commits_the_account_with_its_event(service: Service) -> None:
    """The event requests one confirmation mail, in the user's partition, and holds no address and no name."""
    service.clock.advance(timedelta(hours=5))
    account = service.register().account
    assert account.created_at == service.clock.now()
    assert (account.confirmed, account.paused) == (False, False)
    with service.database.transaction() as session:
        (row,) = session.execute(OUTBOX.rows.select()).all()
    user_id = str(account.user_id)
    assert (row.topic, row.key) == (USERS_CHANGED.name, user_id.encode())
    assert row.partition == partition_of(user_id, USERS_CHANGED)
    (registered,) = service.load_outbox_events()
    assert registered.user_id == user_id
    assert registered.registered.confirmation_id
    assert b"ann" not in row.value.lower()


def test_a_registration_that_fails_leaves_nothing(service: Service) -> None:
    """If the event cannot be stored, neither the account nor the answer is stored."""
    with service.database.engine.begin() as connection:
        connection.execute(text("DROP TABLE outbox"))
    with pytest.raises(DatabaseUnavailableError):
        service.register()
    with service.database.transaction() as session:
        assert session.scalars(select(User)).all() == []
        assert session.scalars(select(IdempotencyRecord)).all() == []


def test_a_failed_commit_is_no_registration(service: Service) -> None:
    """If the commit fails, nothing of the transaction is stored."""

    def refuse(_connection: object) -> None:
        raise RuntimeError("the disk is full")

    event.listen(service.database.engine, "commit", refuse)
    with pytest.raises(RuntimeError):
        service.register()
    event.remove(service.database.engine, "commit", refuse)
    assert service.load_event_kinds() == []
    with pytest.raises(AccountUnknownError):
        service.accounts.get(OPERATOR_TOKEN, "ann@example.org")


def test_the_token_is_never_stored_in_clear(service: Service) -> None:
    """A reader of the whole database learns no valid token, also while the answer is stored."""
    token = service.register(key=KEY).token
    with service.database.transaction() as session:
        rows = [
            *session.execute(select(User.__table__)).all(),
            *session.execute(select(IdempotencyRecord.__table__)).all(),
        ]
    assert len(rows) == 2
    for value in (value for row in rows for value in row):
        assert token.encode() not in (value if isinstance(value, bytes) else str(value).encode())
        assert str(KEY).encode() not in (value if isinstance(value, bytes) else str(value).encode())


def test_the_same_request_gets_the_same_answer_again(service: Service) -> None:
    """A duplicate returns the first answer with its token, also after the account has changed, and has no effect."""
    first = service.register(key=KEY)
    service.confirm(first)
    service.clock.advance(ANSWER_LIFETIME - timedelta(seconds=1))
    assert service.register(key=KEY) == first
    assert service.accounts.authenticate(first.token).user_id == first.account.user_id
    assert service.load_event_kinds() == ["registered", "confirmed"]


def test_a_repeat_without_a_key_gets_the_answer_without_the_token(service: Service) -> None:
    """Anybody can repeat a body, so the duplicate gets no token; it has no effect, and the first token stays valid."""
    first = service.register()
    for _ in range(2):
        again = service.register()
        assert (again.account, again.token) == (first.account, None)
    assert service.accounts.get(first.token, "ann@example.org") == first.account
    assert service.load_event_kinds() == ["registered"]


@pytest.mark.parametrize("key", [KEY, None], ids=["a key", "no key"])
def test_a_stored_answer_expires(service: Service, key: UUID | None) -> None:
    """After that the same request is a new one, which replaces the account, whether the answer was deleted or not."""
    ids = {service.register(key=key).account.user_id}
    for _ in range(2):
        service.clock.advance(ANSWER_LIFETIME)
        ids.add(service.register(key=key).account.user_id)
        with service.database.transaction() as session:
            service.answers.delete_expired(session, service.clock.now())
    assert len(ids) == 3


def test_an_expired_key_can_be_used_again(service: Service) -> None:
    """An expired record that was not deleted yet does not block the key."""
    ann = service.register("ann@example.org", key=KEY)
    service.clock.advance(ANSWER_LIFETIME)
    bob = service.register("bob@example.org", key=KEY)
    assert service.register("bob@example.org", key=KEY) == bob
    assert bob.account.user_id != ann.account.user_id


def test_a_key_is_for_one_body(service: Service) -> None:
    """A key with another address or another name is refused, and nothing is registered."""
    service.register("ann@example.org", "Ann", KEY)
    for email, name in (("bob@example.org", "Ann"), ("ann@example.org", "Anna")):
        with pytest.raises(IdempotencyKeyReusedError):
            service.register(email, name, KEY)
    assert service.load_event_kinds() == ["registered"]


@pytest.mark.parametrize("email", ["ann@example.org", "ANN@example.org"])
def test_registering_again_replaces_an_unconfirmed_account(service: Service, email: str) -> None:
    """The new account has another id and another token; the old token and the old stored answer are void."""
    first = service.register(key=KEY)
    second = service.register(email, "Other", uuid4())
    assert second.account.user_id != first.account.user_id
    with pytest.raises(TokenUnknownError):
        service.accounts.get(first.token, "ann@example.org")
    assert service.accounts.get(second.token, "ann@example.org") == second.account
    assert service.register(key=KEY).account.user_id not in (first.account.user_id, second.account.user_id)
    with service.database.transaction() as session:
        assert len(session.scalars(select(User)).all()) == 1


@pytest.mark.parametrize("same_key", [True, False])
def test_concurrent_registrations_leave_one_account(service: Service, same_key: bool) -> None:
    """With one key all get the same answer; with others each replaces the one before, and the last token is valid."""
    start = threading.Barrier(8)
    outcomes: list[Registration] = []

    def register() -> None:
        start.wait()
        outcomes.append(service.register(key=KEY if same_key else uuid4()))

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({outcome.token for outcome in outcomes}) == (1 if same_key else 8)
    with service.database.transaction() as session:
        (user,) = session.scalars(select(User)).all()
    assert [each.account.user_id for each in outcomes].count(user.user_id) == (8 if same_key else 1)
    assert service.load_event_kinds() == ["registered"] + ([] if same_key else ["deleted"] * 7)


def test_another_violated_constraint_is_not_reported_as_a_taken_address(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is free, so the error must not be "address taken"."""
    monkeypatch.setattr("user_manager.tokens.generate_token", lambda: "the-same-token-twice")
    service.register("ann@example.org")
    with pytest.raises(StillInFlightError):
        service.register("bob@example.org")


def test_erasing_an_account_erases_the_answer_too(service: Service) -> None:
    """After the deletion the same request registers a new account at once."""
    first = service.register(key=KEY)
    assert service.deletions.delete(first.token, "ann@example.org") is None
    assert service.register(key=KEY).account.user_id != first.account.user_id


def test_confirming_is_idempotent_and_published_once(service: Service) -> None:
    """A second click on the link changes nothing and publishes no event."""
    registration = service.register()
    for _ in range(2):
        service.confirm(registration)
    account = service.accounts.get(registration.token, "ann@example.org")
    assert account.confirmed
    assert account.version == registration.account.version + 1
    assert service.load_event_kinds() == ["registered", "confirmed"]


def test_checking_a_link_confirms_nothing(service: Service) -> None:
    """Mail scanners open links, so opening one must not confirm."""
    registration = service.register()
    service.registrations.check_confirmation_link(service.build_confirmation_token(registration))
    assert not service.accounts.authenticate(registration.token).confirmed
    assert service.load_event_kinds() == ["registered"]


def test_the_link_of_a_deleted_account_confirms_nothing_unless_it_is_registered_again(service: Service) -> None:
    """The link proves the address; the token of the new account is void then, since another may have asked for it."""
    registration = service.register()
    link = service.build_confirmation_token(registration)
    service.deletions.delete(registration.token, "ann@example.org")
    for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
        with pytest.raises(LinkOrphanedError):
            use(link)
    again = service.register()
    new_token = service.registrations.confirm(link).new_token
    assert new_token is not None
    assert service.accounts.authenticate(new_token) == AuthenticatedUser(again.account.user_id, confirmed=True)
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(again.token)


def test_a_link_that_has_confirmed_confirms_no_later_account(service: Service) -> None:
    """Once used, a link in an old mail is no key to what is registered after the account was deleted."""
    registration = service.register_confirmed()
    service.deletions.delete(registration.token, "ann@example.org")
    service.clock.advance(timedelta(days=1))
    again = service.register()
    for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
        with pytest.raises(LinkOrphanedError, match="used already"):
            use(service.build_confirmation_token(registration))
    assert not service.accounts.authenticate(again.token).confirmed


@pytest.mark.parametrize(
    ("mine", "other"), [("ann@example.org", "ann+x@example.org"), ("ann+x@example.org", "ann+y@example.org")]
)
def test_the_link_of_one_spelling_is_not_used_by_confirming_another(service: Service, mine: str, other: str) -> None:
    """During a pause no second mail goes out: so the link of the first must confirm what is registered again, also if
    another `+tag` of the mailbox was confirmed after that mail was asked for. Once used, it is used."""
    link = service.build_confirmation_token(service.register(mine, "Stranger"))
    service.clock.advance(timedelta(minutes=5))
    service.register_confirmed(other)
    service.clock.advance(timedelta(minutes=5))
    again = service.register(mine)
    service.registrations.check_confirmation_link(link)
    assert service.registrations.confirm(link, again.token).new_token is None
    service.deletions.delete(again.token, mine)
    service.clock.advance(timedelta(days=1))
    service.register(mine)
    with pytest.raises(LinkOrphanedError, match="used already"):
        service.registrations.confirm(link)


def test_a_used_link_of_a_replaced_account_still_says_that_the_address_is_confirmed(service: Service) -> None:
    """Who follows it a second time is told the truth, and gets no token and no change."""
    replaced = service.register()
    registration = service.register("ann@example.org", "Anna")
    link = service.build_confirmation_token(replaced)
    assert service.registrations.confirm(link, registration.token).new_token is None
    version = service.registrations.check_confirmation_link(link).version
    again = service.registrations.confirm(link)
    assert (again.account.confirmed, again.account.version, again.new_token) == (True, version, None)
    assert service.accounts.authenticate(registration.token).confirmed


def test_another_confirmation_mail_has_another_id(service: Service) -> None:
    """Each request has an id of its own, so that its mail is sent once."""
    token = service.register().token
    service.clock.advance(timedelta(minutes=1))
    service.registrations.request_confirmation_mail(token, "ann@example.org")
    first, second = service.load_outbox_events()
    assert second.WhichOneof("change") == "registered"
    assert first.registered.confirmation_id != second.registered.confirmation_id


def test_requests_for_confirmation_mails_are_limited(service: Service) -> None:
    """The pauses are those of the mailbox; an early request gets the wait in seconds, and sends nothing."""
    token = service.register().token
    for pause in (60, 600, 3600, 86400, 86400):
        with pytest.raises(TooSoonError) as caught:
            service.registrations.request_confirmation_mail(token, "ann@example.org")
        assert caught.value.retry_after_s == pause
        service.clock.advance(timedelta(seconds=pause) - timedelta(microseconds=1))
        with pytest.raises(TooSoonError) as caught:
            service.registrations.request_confirmation_mail(token, "ann@example.org")
        assert caught.value.retry_after_s == 1
        service.clock.advance(timedelta(microseconds=1))
        service.registrations.request_confirmation_mail(token, "ann@example.org")
    assert len(service.load_event_kinds()) == 6


def test_a_confirmed_account_gets_no_other_confirmation_mail(service: Service) -> None:
    """Only owner and operator may request one, and only for an unconfirmed address."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    service.clock.advance(timedelta(days=1))
    with pytest.raises(NotYoursError):
        service.registrations.request_confirmation_mail(bob.token, "ann@example.org")
    service.confirm(ann)
    for token in (ann.token, OPERATOR_TOKEN):
        with pytest.raises(AlreadyConfirmedError):
            service.registrations.request_confirmation_mail(token, "ann@example.org")


def test_an_unavailable_database_is_reported_without_its_text(service: Service) -> None:
    """The error is transient and ours; its text holds neither SQL nor a path."""
    away = Service(Database("sqlite:////nowhere/at/all.db"))
    with pytest.raises(DatabaseUnavailableError) as caught:
        away.registrations.register(Address("ann@example.org"), "Ann", "UTC")
    assert caught.value.transient
    assert "nowhere" not in str(caught.value)
