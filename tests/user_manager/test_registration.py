"""Registration creates an account at most once, together with its event; owners confirm their addresses."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, strategies as st
from sqlalchemy import event, select, text

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.user_manager.conftest import OPERATOR_TOKEN, Service
from towerwatch.topics import USERS_CHANGED, partition_of
from user_manager.addresses import Address
from user_manager.errors import (
    AccountUnknownError,
    AddressTakenError,
    AlreadyConfirmedError,
    IdempotencyKeyReusedError,
    LinkOrphanedError,
    NotYoursError,
    StillInFlightError,
    TooSoonError,
)
from user_manager.idempotency import ANSWER_LIFETIME
from user_manager.model import OUTBOX, IdempotencyRecord, User
from user_manager.registration import MAX_CONFIRMATION_DELAY, Registration, compute_next_confirmation_time

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


@pytest.mark.parametrize("key", [KEY, None], ids=["a key", "no key"])
def test_the_same_request_gets_the_same_answer_again(service: Service, key: UUID | None) -> None:
    """A duplicate returns the first answer with its token, also after the account has changed, and has no effect."""
    first = service.register(key=key)
    service.registrations.confirm(service.build_confirmation_token(first))
    service.clock.advance(ANSWER_LIFETIME - timedelta(seconds=1))
    assert service.register(key=key) == first
    assert service.accounts.authenticate(first.token).user_id == first.account.user_id
    assert service.load_event_kinds() == ["registered", "confirmed"]


@pytest.mark.parametrize("key", [KEY, None], ids=["a key", "no key"])
def test_a_stored_answer_expires(service: Service, key: UUID | None) -> None:
    """After that the same request is a new one, whose address is taken, whether the answer was deleted or not."""
    service.register(key=key)
    service.clock.advance(ANSWER_LIFETIME)
    for _ in range(2):
        with pytest.raises(AddressTakenError):
            service.register(key=key)
        with service.database.transaction() as session:
            service.answers.delete_expired(session, service.clock.now())
    assert service.load_event_kinds() == ["registered"]


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


def test_another_key_is_another_request(service: Service) -> None:
    """A request with another key for the same address gets "address taken"."""
    service.register(key=KEY)
    for key in (uuid4(), None):
        with pytest.raises(AddressTakenError):
            service.register(key=key)


def test_an_address_registers_once_in_any_case(service: Service) -> None:
    """The second registration creates no account and no event."""
    service.register("ann@example.org", key=KEY)
    with pytest.raises(AddressTakenError):
        service.register("ANN@example.org", key=uuid4())
    assert service.load_event_kinds() == ["registered"]


@pytest.mark.parametrize("same_key", [True, False])
def test_of_concurrent_registrations_one_wins(service: Service, same_key: bool) -> None:
    """The database's unique keys decide: the others get the same answer, or "address taken"."""
    start = threading.Barrier(8)
    outcomes: list[Registration | str] = []

    def register() -> None:
        start.wait()
        try:
            outcomes.append(service.register(key=KEY if same_key else uuid4()))
        except AddressTakenError:
            outcomes.append("taken")

    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    if same_key:
        assert all(outcome == outcomes[0] for outcome in outcomes)
    else:
        assert sum(outcome == "taken" for outcome in outcomes) == 7
    assert service.load_event_kinds() == ["registered"]


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
        service.registrations.confirm(service.build_confirmation_token(registration))
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


def test_the_link_of_a_deleted_account_confirms_nothing(service: Service) -> None:
    """The old link does not confirm a new account with the same address either."""
    registration = service.register()
    service.deletions.delete(registration.token, "ann@example.org")
    again = service.register()
    for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
        with pytest.raises(LinkOrphanedError):
            use(service.build_confirmation_token(registration))
    assert not service.accounts.authenticate(again.token).confirmed


def test_another_confirmation_mail_has_another_id(service: Service) -> None:
    """Each request has an id of its own, so that its mail is sent once."""
    token = service.register().token
    service.clock.advance(timedelta(minutes=1))
    service.registrations.request_confirmation_mail(token, "ann@example.org")
    first, second = service.load_outbox_events()
    assert second.WhichOneof("change") == "registered"
    assert first.registered.confirmation_id != second.registered.confirmation_id


def test_requests_for_confirmation_mails_are_limited(service: Service) -> None:
    """Each delay is longer; an early request gets the wait in seconds, and sends nothing."""
    token = service.register().token
    for pause in (60, 120, 240):
        with pytest.raises(TooSoonError) as caught:
            service.registrations.request_confirmation_mail(token, "ann@example.org")
        assert caught.value.retry_after_s == pause
        service.clock.advance(timedelta(seconds=pause) - timedelta(microseconds=1))
        with pytest.raises(TooSoonError) as caught:
            service.registrations.request_confirmation_mail(token, "ann@example.org")
        assert caught.value.retry_after_s == 1
        service.clock.advance(timedelta(microseconds=1))
        service.registrations.request_confirmation_mail(token, "ann@example.org")
    assert len(service.load_event_kinds()) == 4


def test_a_confirmed_account_gets_no_other_confirmation_mail(service: Service) -> None:
    """Only owner and operator may request one, and only for an unconfirmed address."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    service.clock.advance(timedelta(days=1))
    with pytest.raises(NotYoursError):
        service.registrations.request_confirmation_mail(bob.token, "ann@example.org")
    service.registrations.confirm(service.build_confirmation_token(ann))
    for token in (ann.token, OPERATOR_TOKEN):
        with pytest.raises(AlreadyConfirmedError):
            service.registrations.request_confirmation_mail(token, "ann@example.org")


@given(requests=st.integers(1, 10_000))
def test_delays_between_confirmation_mails_grow_up_to_a_day(requests: int) -> None:
    """For any number of mails a delay is never shorter than the one before, and a day at most."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    delay, following = (compute_next_confirmation_time(now, count) - now for count in (requests, requests + 1))
    assert timedelta(minutes=1) <= delay <= following <= MAX_CONFIRMATION_DELAY
    assert following == min(2 * delay, MAX_CONFIRMATION_DELAY)


def test_an_unavailable_database_is_reported_without_its_text(service: Service) -> None:
    """The error is transient and ours; its text holds neither SQL nor a path."""
    away = Service(Database("sqlite:////nowhere/at/all.db"))
    with pytest.raises(DatabaseUnavailableError) as caught:
        away.registrations.register(Address("ann@example.org"), "Ann", "UTC")
    assert caught.value.transient
    assert "nowhere" not in str(caught.value)
