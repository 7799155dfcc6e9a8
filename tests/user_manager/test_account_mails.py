"""Mails about accounts: what each offers, a lost token is replaced, the owner stops them, a squatter gets nothing."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner
from sqlalchemy import select

from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, Service
from towerwatch.topics import LONGEST_ABSENCE_DAYS
from user_manager.accounts import AuthenticatedUser, Contact
from user_manager.addresses import Address
from user_manager.deletion.purge import UNCONFIRMED_LIFETIME, start_due_purges
from user_manager.errors import LinkForgedError, LinkOrphanedError, TokenUnknownError
from user_manager.mail_requests import REQUEST_LIFETIME, delete_expired_requests
from user_manager.mailbox_limits import DEFAULT_PAUSES
from user_manager.model import ConfirmationState, Deletion, MailRequest, User

ANN = "ann@example.org"


def get_link_token(url: str) -> str:
    """Return the last path segment of a link."""
    return url.rpartition("/")[2]


def is_valid(service: Service, token: str | None) -> bool:
    """Return True if the token opens an account with a confirmed address."""
    assert token is not None
    try:
        return service.accounts.authenticate(token).confirmed
    except TokenUnknownError:
        return False


def find_new_contact(service: Service, act: Callable[[], object]) -> Contact | None:
    """Return the contact for the one mail that `act` requests; None if its address gets none."""
    before = len(service.load_outbox_events())
    act()
    (event,) = [each for each in service.load_outbox_events()[before:] if each.WhichOneof("change") == "registered"]
    contacts = service.accounts.load_contacts([event.user_id])
    return contacts[0] if contacts else None


def test_the_owners_confirmation_arms_nobody_elses_token(service: Service) -> None:
    """A stranger registers first; the owner follows the link of that mail, and the account is the owner's alone."""
    squatter = service.register(ANN, "Squatter")
    confirmed = service.registrations.confirm(get_link_token(service.load_contact(ANN).confirm_url))
    assert not is_valid(service, squatter.token)
    assert is_valid(service, confirmed.new_token)


def test_a_token_from_before_a_replacement_proves_nothing(service: Service) -> None:
    """Who confirms with the token of a registration that was replaced gets a new one: the other one's is void, too."""
    mine = service.register(ANN, "Ann")
    link = get_link_token(service.load_contact(ANN).confirm_url)
    strangers = service.register(ANN, "Stranger")
    confirmed = service.registrations.confirm(link, mine.token)
    assert [is_valid(service, token) for token in (mine.token, strangers.token)] == [False, False]
    assert is_valid(service, confirmed.new_token)


def test_nobody_keeps_an_owner_out(service: Service) -> None:
    """A stranger who registers and deletes at once uses up the pause: the mail goes out nevertheless, and its link
    confirms what the owner registers."""
    stranger = service.register(ANN, "Stranger")
    service.deletions.delete(stranger.token, ANN)
    contact = service.load_contact(ANN)
    assert (contact.account.email, contact.account.name) == (ANN, "")
    mine = service.register(ANN, "Ann")
    assert service.load_event_kinds() == ["registered", "deleted"]
    service.registrations.confirm(get_link_token(contact.confirm_url), mine.token)
    assert is_valid(service, mine.token)


def test_a_registration_of_a_confirmed_address_mails_its_owner(service: Service) -> None:
    """The mail has a link to a new token and none that confirms; the owner's account is as before."""
    ann = service.register_confirmed(ANN)
    before = service.accounts.get(ann.token, ANN)
    service.clock.advance(timedelta(days=1))
    contact = find_new_contact(service, lambda: service.register(ANN, "Stranger"))
    assert contact is not None
    assert contact.confirm_url == ""
    assert contact.token_url
    assert service.accounts.get(ann.token, ANN) == before
    new = service.account_mails.replace_token(get_link_token(contact.token_url))
    assert service.accounts.authenticate(new) == AuthenticatedUser(ann.account.user_id, confirmed=True)
    assert not is_valid(service, ann.token)


def test_an_account_beside_a_confirmed_one_is_never_confirmed(service: Service) -> None:
    """Not by the old link, nor by one that was built in the instant before the other was confirmed."""
    ann = service.register_confirmed(ANN)
    stranger = service.register(ANN, "Stranger")
    with pytest.raises(LinkOrphanedError, match="confirmed account already"):
        service.registrations.confirm(service.build_confirmation_token(stranger))
    service.registrations.confirm(service.build_confirmation_token(ann))
    assert [is_valid(service, token) for token in (ann.token, stranger.token)] == [True, False]


@pytest.mark.parametrize("state", ["unknown", "unconfirmed", "confirmed"])
def test_a_request_for_a_token_does_the_same_for_every_address(service: Service, state: str) -> None:
    """One event, one row and one mail, whoever is registered: with a link to a token, or one that confirms.

    Before, an address without an account got no mail, and the request counted for its pauses.
    """
    if state != "unknown":
        registration = service.register(ANN)
        if state == "confirmed":
            service.confirm(registration)
    service.clock.advance(timedelta(days=1))
    contact = find_new_contact(service, lambda: service.account_mails.request_token_mail(Address(ANN)))
    assert contact is not None
    is_confirmed = state == "confirmed"
    assert (bool(contact.confirm_url), bool(contact.token_url)) == (not is_confirmed, is_confirmed)


@pytest.mark.parametrize("asked", ["ann@example.org", "ann+x@example.org"])
@pytest.mark.parametrize("tag", ["", "+own"])
def test_a_strangers_wishes_leave_the_owner_a_link(service: Service, asked: str, tag: str) -> None:
    """A stranger asked for a token a moment ago, for the address or another spelling of its mailbox, again and again:
    who registers the plain address, and who has a confirmed one and lost its token, has a mail with a link at once.

    Before, the mailbox was in its pause, and the owner had no mail, or one whose link was for the other spelling.
    """
    mine = f"ann{tag}@example.org"
    if tag:
        service.register_confirmed(mine)
        service.clock.advance(timedelta(days=1))
    for _ in range(5):
        service.account_mails.request_token_mail(Address(asked), "stranger")
        service.clock.advance(timedelta(hours=1))
    service.account_mails.request_token_mail(Address(asked), "stranger")
    if tag:
        service.account_mails.request_token_mail(Address(mine), "owner")
        new = service.account_mails.replace_token(get_link_token(service.load_contact(mine).token_url))
        assert is_valid(service, new)
    else:
        registered = service.register(mine)
        link = get_link_token(service.load_contact(mine).confirm_url)
        assert service.registrations.confirm(link, registered.token).account.email == mine
        assert is_valid(service, registered.token)


def test_nobody_learns_that_a_tagged_address_has_an_account(service: Service) -> None:
    """During the pause of a mailbox's other spellings the confirmed one among them gets its mail all the same; what the
    stranger sees of their own registrations is the same for both, before and after the mail was sent."""
    service.register_confirmed("ann+own@example.org")
    shown = []
    for email in ("ann+own@example.org", "ann+none@example.org"):
        before = len(service.load_outbox_events())
        stranger = service.register(email, "Stranger")
        requested = [event.registered for event in service.load_outbox_events()[before:]]
        seen = [service.accounts.get_confirmation(str(stranger.token), email).state]
        for each in requested:
            user_id = str(stranger.account.user_id)
            service.accounts.record_confirmation_state(user_id, each.confirmation_id, ConfirmationState.WAITING)
            seen.append(service.accounts.get_confirmation(str(stranger.token), email).state)
        shown.append((len(requested), set(seen)))
    assert shown == [(1, {ConfirmationState.SENT}), (0, {ConfirmationState.SENT})]


def test_a_link_to_a_token_works_once(service: Service) -> None:
    """After its use, and after the token was replaced otherwise, it is void; opening it changes nothing."""
    ann = service.register_confirmed(ANN)
    service.clock.advance(timedelta(days=1))
    service.account_mails.request_token_mail(Address(ANN))
    link = get_link_token(service.load_contact(ANN).token_url)
    service.account_mails.check_token_link(link)
    assert is_valid(service, ann.token)
    assert is_valid(service, service.account_mails.replace_token(link))
    for use in (service.account_mails.check_token_link, service.account_mails.replace_token):
        with pytest.raises(LinkOrphanedError, match="used already"):
            use(link)
        with pytest.raises(LinkForgedError):
            use(service.build_confirmation_token(ann))


def test_nobody_keeps_an_owner_from_a_new_token(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger asks for a mail whenever the longest pause is over, so the owner's wishes cause none: the link in the
    stranger's mail works until the next one may go out."""
    service.register_confirmed(ANN)
    for _ in range(4):
        service.clock.advance(DEFAULT_PAUSES[-1])
        service.account_mails.request_token_mail(Address(ANN), "stranger")
        link = get_link_token(service.load_contact(ANN).token_url)
        service.clock.advance(DEFAULT_PAUSES[-1] - timedelta(seconds=1))
        sent = service.load_event_kinds()
        service.account_mails.request_token_mail(Address(ANN), "owner")
    later = int(time.time() + DEFAULT_PAUSES[-1].total_seconds() - 1)
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)
    assert is_valid(service, service.account_mails.replace_token(link))
    assert service.load_event_kinds() == sent


def test_the_owner_of_a_mailbox_stops_the_mails(service: Service) -> None:
    """The unconfirmed account and the mails that wait are gone; no later wish sends a mail, to no tagged address, until
    the same link allows it again."""
    squatter = service.register(ANN)
    contact = service.load_contact(ANN)
    stop = get_link_token(contact.stop_url)
    assert not service.account_mails.are_mails_stopped(stop)
    service.account_mails.stop_mails(stop)
    assert service.account_mails.are_mails_stopped(stop)
    assert service.accounts.load_contacts([str(squatter.account.user_id)]) == []
    with pytest.raises(TokenUnknownError):
        service.accounts.get(squatter.token, ANN)
    for _ in range(3):
        service.clock.advance(timedelta(days=2))
        service.register("Ann+x@example.org")
        service.account_mails.request_token_mail(Address(ANN))
    assert service.load_event_kinds().count("registered") == 1
    service.account_mails.allow_mails(stop)
    service.clock.advance(timedelta(days=2))
    assert find_new_contact(service, lambda: service.register(ANN)) is not None


def test_a_confirmation_ends_the_stop(service: Service) -> None:
    """The owner stopped the mails, then registers after all, and follows a link that was mailed before."""
    service.register(ANN)
    contact = service.load_contact(ANN)
    service.account_mails.stop_mails(get_link_token(contact.stop_url))
    service.register(ANN, "Ann")
    confirmed = service.registrations.confirm(get_link_token(contact.confirm_url))
    assert is_valid(service, confirmed.new_token)
    assert not service.account_mails.are_mails_stopped(get_link_token(contact.stop_url))


def test_a_stop_leaves_a_confirmed_account_as_it_is(service: Service) -> None:
    """Only mails that strangers can cause end; the account, its token and its unsubscription link stay."""
    ann = service.register_confirmed(ANN)
    before = service.accounts.get(ann.token, ANN)
    service.clock.advance(timedelta(days=1))
    service.account_mails.request_token_mail(Address(ANN))
    service.account_mails.stop_mails(get_link_token(service.load_contact(ANN).stop_url))
    assert service.accounts.get(ann.token, ANN) == before


@pytest.mark.parametrize("state", [ConfirmationState.SENT, ConfirmationState.FAILED])
def test_a_requested_mail_is_forgotten_once_it_is_done(service: Service, state: ConfirmationState) -> None:
    """The address is kept only until the notifier reports the mail as sent or given up, and a week at most."""
    registration = service.register(ANN)
    user_id = str(registration.account.user_id)
    with service.database.transaction() as session:
        mail_id = str(session.scalars(select(MailRequest.mail_id)).one())
    service.accounts.record_confirmation_state(user_id, mail_id, ConfirmationState.WAITING)
    with service.database.transaction() as session:
        delete_expired_requests(session, service.clock.now() + REQUEST_LIFETIME - timedelta(seconds=1))
        assert session.query(MailRequest).count() == 1
    service.accounts.record_confirmation_state(user_id, mail_id, state)
    service.register("bob@example.org")
    with service.database.transaction() as session:
        assert session.query(MailRequest).count() == 1
        delete_expired_requests(session, service.clock.now() + REQUEST_LIFETIME)
        assert session.query(MailRequest).count() == 0


def test_a_token_that_was_asked_for_is_mailed_after_weeks_too(service: Service) -> None:
    """The notifier may be away for 45 days, and tries for a week then; the request is all that its mail is made of."""
    service.register_confirmed(ANN)
    service.clock.advance(timedelta(days=1))
    service.account_mails.request_token_mail(Address(ANN))
    request_id = service.load_outbox_events()[-1].user_id
    service.clock.advance(timedelta(days=LONGEST_ABSENCE_DAYS + 6))
    with service.database.transaction() as session:
        delete_expired_requests(session, service.clock.now())
    (contact,) = service.accounts.load_contacts([request_id])
    assert is_valid(service, service.account_mails.replace_token(get_link_token(contact.token_url)))
    service.clock.advance(timedelta(days=1))
    with service.database.transaction() as session:
        delete_expired_requests(session, service.clock.now())
    assert service.accounts.load_contacts([request_id]) == []


def test_unconfirmed_accounts_go_after_a_week(service: Service) -> None:
    """Each goes through the ordinary deletion, interests at the collector included; confirmed accounts stay."""
    ann = service.register(ANN)
    service.register_confirmed("bob@example.org")
    service.clock.advance(UNCONFIRMED_LIFETIME - timedelta(seconds=1))
    assert start_due_purges(service.database, service.clock) == 0
    late = service.register("late@example.org")
    service.clock.advance(timedelta(seconds=1))
    assert start_due_purges(service.database, service.clock) == 1
    assert start_due_purges(service.database, service.clock) == 0
    with pytest.raises(LinkOrphanedError):
        service.registrations.confirm(service.build_confirmation_token(ann))
    for _ in range(2):
        service.deletions.resume_due_deletions()
        service.clock.advance(timedelta(seconds=2))
    with service.database.transaction() as session:
        assert set(session.scalars(select(User.email))) == {"bob@example.org", "late@example.org"}
        assert session.query(Deletion).count() == 1
    assert ann.account.user_id in service.interests.deleted
    assert service.accounts.get(late.token, "late@example.org") == late.account


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


@ON_SQLITE
def test_the_answer_to_a_lost_token_does_not_tell_who_is_registered(client: FlaskClient, service: Service) -> None:
    """202 without a body for every address, during a pause, too; what is no address gets 422."""
    service.register_confirmed(ANN)
    service.register("bob@example.org")
    for email in (ANN, "bob@example.org", "nobody@example.org") * 2:
        answer = client.post("/users/token", json={"email": email})
        assert (answer.status_code, answer.data) == (202, b"")
    assert client.post("/users/token", json={"email": "nonsense"}).status_code == 422


@ON_SQLITE
def test_the_page_of_a_lost_token_shows_the_new_one(client: FlaskClient, service: Service) -> None:
    """GET asks, POST replaces the token and shows it; a second click gets an error page."""
    ann = service.register_confirmed(ANN)
    service.clock.advance(timedelta(days=1))
    client.post("/users/token", json={"email": ANN})
    path = service.load_contact(ANN).token_url.removeprefix("https://towerwatch.example")
    assert ">Replace my token</button>" in client.get(path).text
    assert is_valid(service, ann.token)
    assert "<dt>Your token</dt>" in client.post(path).text
    assert not is_valid(service, ann.token)
    again = client.post(path)
    assert (again.status_code, "Your token is not replaced" in again.text) == (410, True)


@ON_SQLITE
@pytest.mark.parametrize("body", [b"List-Unsubscribe=One-Click", b"", b"\xff", b"mails=%ff"], ids=repr)
def test_the_page_of_the_stop_asks_and_stops_and_allows(client: FlaskClient, service: Service, body: bytes) -> None:
    """GET changes nothing; one POST with any body stops (RFC 8058); the button on the page then allows again."""
    service.register(ANN)
    url = service.load_contact(ANN).stop_url
    path, link = url.removeprefix("https://towerwatch.example"), get_link_token(url)
    assert ">Stop these mails</button>" in client.get(path).text
    assert not service.account_mails.are_mails_stopped(link)
    stopped = client.post(path, data=body, content_type="application/x-www-form-urlencoded")
    assert (stopped.status_code, ">Allow these mails again</button>" in stopped.text) == (200, True)
    assert service.account_mails.are_mails_stopped(link)
    assert client.get(path).text == stopped.text
    assert "are allowed" in client.post(path, data={"mails": "allow"}).text
    assert not service.account_mails.are_mails_stopped(link)
    for method in ("GET", "POST"):
        forged = client.open("/not-me/x.y", method=method)
        assert (forged.status_code, "Nothing was changed" in forged.text) == (400, True)
