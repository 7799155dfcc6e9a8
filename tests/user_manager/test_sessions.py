"""Sessions of browsers: what they open, how long, who sees and ends them, and what ends all of them."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, update

from chassis.credentials import SessionSecret
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager import tokens
from user_manager.accounts import AccountUpdate
from user_manager.addresses import Address
from user_manager.deletion.records import build_due_deletion
from user_manager.deletion.steps import DeletionStep
from user_manager.errors import (
    NoSuchSessionError,
    NotOperatorError,
    NotYoursError,
    SessionUnknownError,
    TokenUnknownError,
)
from user_manager.model import Deletion, WebSession
from user_manager.web_sessions import DEFAULT_IDLE, DEFAULT_LIFETIME, MOST_SESSIONS, USE_RECORDED_EVERY

ANN = "ann@example.org"
BOB = "bob@example.org"
SECOND = timedelta(seconds=1)


def is_open(service: Service, secret: SessionSecret) -> bool:
    """Return True if the secret opens the account."""
    try:
        service.accounts.authenticate(secret)
    except SessionUnknownError:
        return False
    return True


def test_a_session_opens_its_own_account(service: Service) -> None:
    """Whatever the owner's token opens, the session does, too; not another's account, nor what the operator may."""
    ann = service.register_confirmed()
    service.register_confirmed(BOB)
    secret = service.sign_in()
    assert service.accounts.get(secret, ANN).user_id == ann.account.user_id
    assert service.accounts.update(secret, ANN, None, AccountUpdate(name="Anna")).name == "Anna"
    assert service.accounts.authenticate(secret).confirmed
    new = service.accounts.rotate_token(secret, ANN)
    assert is_open(service, secret), "replacing the programs' token signs nobody out"
    assert service.accounts.authenticate(new).user_id == ann.account.user_id
    for use in (
        lambda: service.accounts.get(secret, BOB),
        lambda: service.accounts.update(secret, BOB, None, AccountUpdate(paused=True)),
        lambda: service.accounts.rotate_token(secret, BOB),
        lambda: service.accounts.get_confirmation(secret, BOB),
        lambda: service.registrations.request_confirmation_mail(secret, BOB),
        lambda: service.deletions.delete(secret, BOB),
        lambda: service.sessions.list_of_account(secret, BOB),
        lambda: service.sessions.end_all(secret, BOB),
        lambda: service.sessions.end(secret, BOB, uuid4()),
        lambda: service.accounts.get(secret, "nobody@example.org"),
    ):
        with pytest.raises(NotYoursError):
            use()
    for use in (
        lambda: service.accounts.list_page(secret, None, 10),
        lambda: service.accounts.is_registered_for_operator(secret, BOB),
    ):
        with pytest.raises(NotOperatorError):
            use()


def test_a_secret_is_no_token_and_a_token_no_secret(service: Service) -> None:
    """Neither is accepted in place of the other, nor is the operator's token as a session."""
    ann = service.register_confirmed()
    secret = service.sign_in()
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(secret.text)
    for token in (ann.token or "", OPERATOR_TOKEN):
        with pytest.raises(SessionUnknownError):
            service.accounts.get(SessionSecret(token), ANN)


def test_only_a_digest_is_stored(service: Service) -> None:
    """Who reads the database cannot sign in."""
    service.register_confirmed()
    secret = service.sign_in()
    with service.database.transaction() as session:
        row = session.scalars(select(WebSession)).one()
    assert row.secret_sha256 == tokens.compute_digest(secret.text)
    assert secret.text not in str(vars(row))
    assert len(secret.text) == 43


def test_a_session_ends_when_it_is_not_used(service: Service) -> None:
    """Each use postpones the end; then it opens nothing, though the row is still there, and that is deleted later."""
    service.register_confirmed()
    secret = service.sign_in()
    for _ in range(3):
        service.clock.advance(DEFAULT_IDLE - SECOND)
        assert is_open(service, secret)
        service.sessions.record_use(secret)
    service.clock.advance(DEFAULT_IDLE)
    service.sessions.record_use(secret)
    assert not is_open(service, secret)
    service.sessions.delete_expired()
    with service.database.transaction() as session:
        assert session.scalars(select(WebSession)).all() == []


def test_a_session_ends_some_time_after_signing_in_however_much_it_is_used(service: Service) -> None:
    """Nobody is signed in for ever."""
    service.register_confirmed()
    secret = service.sign_in()
    began = service.clock.now()
    while service.clock.now() < began + DEFAULT_LIFETIME - timedelta(days=20):
        service.clock.advance(timedelta(days=20))
        service.sessions.record_use(secret)
        assert is_open(service, secret)
        service.sessions.delete_expired()
    assert service.sessions.load_current(secret)[1].ends_at == began + DEFAULT_LIFETIME
    service.clock.advance(began + DEFAULT_LIFETIME - service.clock.now())
    assert not is_open(service, secret)


def test_a_clock_that_was_ahead_prolongs_no_session(service: Service) -> None:
    """The next use after the clock was set back counts from then on."""
    service.register_confirmed()
    true = service.clock.now()
    service.clock.advance(timedelta(days=3000))
    secret = service.sign_in()
    service.clock.set_wall_clock(true)
    service.sessions.record_use(secret)
    now = service.clock.now()
    view = service.sessions.load_current(secret)[1]
    assert (view.created_at, view.last_used_at, view.ends_at) == (now, now, now + DEFAULT_IDLE)


def test_a_use_is_recorded_to_a_minute(service: Service) -> None:
    """Not every request writes."""
    service.register_confirmed()
    secret = service.sign_in()
    began = service.clock.now()
    for after, recorded in ((USE_RECORDED_EVERY - SECOND, timedelta(0)), (USE_RECORDED_EVERY, USE_RECORDED_EVERY)):
        service.clock.advance(began + after - service.clock.now())
        service.sessions.record_use(secret)
        assert service.sessions.load_current(secret)[1].last_used_at == began + recorded


def test_the_owner_sees_all_sessions_and_ends_one(service: Service) -> None:
    """The latest used one first, with what the browser called itself; ids open nothing, and another's are unknown."""
    ann = service.register_confirmed()
    service.register_confirmed(BOB)
    phone = service.sign_in(device="Safari on iPhone")
    service.clock.advance(timedelta(minutes=2))
    desk = service.sign_in(device="Firefox on Linux")
    bobs = service.sign_in(BOB)
    views = service.sessions.list_of_account(desk, ANN)
    assert [(view.device, view.is_current) for view in views] == [
        ("Firefox on Linux", True),
        ("Safari on iPhone", False),
    ]
    for credential in (ann.token or "", OPERATOR_TOKEN):
        assert [view.is_current for view in service.sessions.list_of_account(credential, ANN)] == [False, False]
    (other,) = service.sessions.list_of_account(bobs, BOB)
    for unknown in (other.session_id, uuid4()):
        with pytest.raises(NoSuchSessionError):
            service.sessions.end(desk, ANN, unknown)
    with pytest.raises(SessionUnknownError):
        service.accounts.authenticate(SessionSecret(str(views[0].session_id)))
    assert not service.sessions.end(desk, ANN, views[1].session_id)
    assert [is_open(service, each) for each in (phone, desk, bobs)] == [False, True, True]
    assert service.sessions.end(desk, ANN, views[0].session_id), "its own"
    assert [is_open(service, each) for each in (phone, desk, bobs)] == [False, False, True]


def test_an_account_has_few_sessions(service: Service) -> None:
    """A further one ends the one that was not used for longest."""
    service.register_confirmed()
    secrets = []
    for _ in range(MOST_SESSIONS + 2):
        secrets.append(service.sign_in())
        service.clock.advance(SECOND)
    assert [is_open(service, each) for each in secrets] == [False, False, *[True] * MOST_SESSIONS]


def sign_out(service: Service, secret: SessionSecret) -> None:
    """Sign out with the session, twice."""
    service.sessions.sign_out(secret)
    service.sessions.sign_out(secret)  # idempotent


def end_all(service: Service, secret: SessionSecret) -> None:
    """End all sessions of the account."""
    service.sessions.end_all(secret, ANN)


def delete_account(service: Service, secret: SessionSecret) -> None:
    """Delete the account."""
    assert service.deletions.delete(secret, ANN) is None


def register_anew(service: Service, secret: SessionSecret) -> None:
    """Delete the account, then register and confirm the address again."""
    delete_account(service, secret)
    service.register_confirmed()


def lose_token(service: Service, _secret: SessionSecret) -> None:
    """The owner gets a new token by mail: whoever had access before has none any more."""
    service.clock.advance(timedelta(minutes=1))
    service.account_mails.request_token_mail(Address(ANN))
    service.account_mails.replace_token(service.load_contact(ANN).token_url.rpartition("/")[2])


def lose_address(service: Service, secret: SessionSecret) -> None:
    """Report that mail to the address came back for good."""
    service.bounces.report(str(service.accounts.authenticate(secret).user_id), service.clock.now())


@pytest.mark.parametrize("act", [sign_out, end_all, delete_account, register_anew, lose_token, lose_address])
def test_a_session_that_was_ended_opens_nothing(
    service: Service, act: Callable[[Service, SessionSecret], None]
) -> None:
    """Signing out ends one, the rest all; nobody else's end. Neither does the session open an account that is there
    later."""
    service.register_confirmed()
    service.register_confirmed(BOB)
    secret, other, bobs = service.sign_in(), service.sign_in(), service.sign_in(BOB)
    service.clock.advance(timedelta(days=1))
    act(service, secret)
    assert [is_open(service, each) for each in (secret, other, bobs)] == [False, act is sign_out, True]


@ON_SQLITE
def test_a_deletion_that_passed_the_pivot_ends_the_session(service: Service) -> None:
    """The account does not exist any more, though its rows do."""
    service.register_confirmed()
    secret = service.sign_in()
    with service.database.transaction() as session:
        session.add(build_due_deletion(service.accounts.authenticate(secret).user_id, service.clock.now()))
    assert is_open(service, secret)
    with service.database.transaction() as session:
        session.execute(update(Deletion).values(step=DeletionStep.ERASE_ACCOUNT))
    assert not is_open(service, secret)
    with pytest.raises(SessionUnknownError):
        service.sessions.load_current(secret)
