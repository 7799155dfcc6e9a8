"""Signing in by a link in a mail: which link works, once, for whom, and what strangers cannot do."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from itsdangerous import TimestampSigner
from itsdangerous.encoding import base64_decode, bytes_to_int
from sqlalchemy import select

from chassis.credentials import SessionSecret
from tests.user_manager.conftest import ON_SQLITE, Service
from user_manager.addresses import Address
from user_manager.errors import LinkExpiredError, LinkForgedError, LinkOrphanedError, SessionUnknownError
from user_manager.links import SIGN_IN_LINK_LIFETIME, SIGN_IN_RENEWAL_LIFETIME
from user_manager.mail_requests import SIGN_IN_REQUEST_LIFETIME, MailKind, delete_expired_requests
from user_manager.mailbox_limits import DEFAULT_PAUSES
from user_manager.model import MailRequest, SignInLink, WebSession

ANN = "ann@example.org"
TAGGED = "ann+news@example.org"


def is_open(service: Service, secret: SessionSecret) -> bool:
    """Return True if the secret opens a session."""
    try:
        service.sessions.load_current(secret)
    except SessionUnknownError:
        return False
    return True


def list_mails(service: Service, email: str = ANN) -> list[MailRequest]:
    """Return the requests for mails to an address that are not sent yet, of the kind that signs in."""
    with service.database.transaction() as session:
        query = select(MailRequest).where(MailRequest.email == email, MailRequest.kind == MailKind.SIGN_IN.value)
        return list(session.scalars(query).all())


def make_link_old(monkeypatch: pytest.MonkeyPatch, age: timedelta, link: str = "") -> None:
    """Let a link that is parsed from now on have this age, or any other one at least; links expire by the machine's own
    clock."""
    signed_at = bytes_to_int(base64_decode(link.split(".")[-2])) if link else time.time()
    later = int(signed_at + age.total_seconds())
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)


def test_a_link_signs_in_once(service: Service) -> None:
    """The session is of the link's account; the second use finds the link void, and starts no session."""
    ann = service.register_confirmed()
    service.register_confirmed("bob@example.org")
    link = service.request_sign_in_token()
    assert service.sign_ins.check_link(link).user_id == ann.account.user_id, "looking changes nothing"
    started = service.sign_ins.sign_in(link, "curl")
    assert started.account.user_id == ann.account.user_id
    assert service.sessions.load_current(started.secret)[0].email == ANN
    for again in (service.sign_ins.sign_in, service.sign_ins.check_link, service.sign_ins.request_link_again):
        with pytest.raises(LinkOrphanedError):
            again(link, *(["curl"] if again == service.sign_ins.sign_in else []))
    with service.database.transaction() as session:
        assert len(session.scalars(select(WebSession)).all()) == 1


def test_of_several_at_once_exactly_one_signs_in(service: Service) -> None:
    """The link is used up and the session stored in one transaction, for which the others wait."""
    service.register_confirmed()
    link = service.request_sign_in_token()
    people = 6
    together = Barrier(people)

    def attempt(_number: int) -> bool:
        """Sign in at the same instant as the others; return True if it worked."""
        together.wait(timeout=60)
        try:
            service.sign_ins.sign_in(link, "curl")
        except LinkOrphanedError:
            return False
        return True

    with ThreadPoolExecutor(people) as threads:
        assert sorted(threads.map(attempt, range(people))) == [False] * (people - 1) + [True]
    with service.database.transaction() as session:
        assert len(session.scalars(select(WebSession)).all()) == 1


def test_another_mail_voids_the_link_before(service: Service) -> None:
    """Only the link of the last mail signs in; a request that a pause refuses voids nothing. The mail with the void
    link is not sent any more, if it waits."""
    service.register_confirmed()
    first = service.request_sign_in_token()
    service.sign_ins.request_link(Address(ANN))
    assert service.sign_ins.check_link(first).email == ANN, "no other mail goes out during the pause"
    service.clock.advance(DEFAULT_PAUSES[0])
    second = service.request_sign_in_token()
    with pytest.raises(LinkOrphanedError):
        service.sign_ins.sign_in(first, "curl")
    assert len(list_mails(service)) == 1
    service.sign_ins.sign_in(second, "curl")


def test_a_link_works_for_fifteen_minutes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then it signs in; afterwards it does not, and is not used up by trying."""
    service.register_confirmed()
    link = service.request_sign_in_token()
    make_link_old(monkeypatch, SIGN_IN_LINK_LIFETIME + timedelta(seconds=1), link)
    for use in (lambda: service.sign_ins.sign_in(link, "curl"), lambda: service.sign_ins.check_link(link)):
        with pytest.raises(LinkExpiredError):
            use()
    make_link_old(monkeypatch, SIGN_IN_LINK_LIFETIME, link)
    assert is_open(service, service.sign_ins.sign_in(link, "curl").secret)


def test_nobody_keeps_an_owner_out(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers use up all pauses at night; in the morning no further mail goes out, but the link of the last one,
    though too old to sign in, asks for a new mail at once: whoever has it reads the mailbox."""
    service.register_confirmed()
    for pause in (*DEFAULT_PAUSES, timedelta(0)):
        service.sign_ins.request_link(Address(ANN))
        service.clock.advance(pause)
    (last,) = list_mails(service)
    link = service.load_sign_in_token()
    service.sign_ins.request_link(Address(ANN))
    assert [each.mail_id for each in list_mails(service)] == [last.mail_id], "a pause"
    make_link_old(monkeypatch, timedelta(hours=9))
    with pytest.raises(LinkExpiredError):
        service.sign_ins.sign_in(link, "curl")
    service.sign_ins.check_expired_link(link)
    service.sign_ins.request_link_again(link)
    with pytest.raises(LinkOrphanedError):
        service.sign_ins.request_link_again(link)  # each asks for one mail
    (new,) = list_mails(service)
    assert new.mail_id != last.mail_id
    assert is_open(service, service.sign_ins.sign_in(service.load_sign_in_token(), "x").secret)


def test_a_link_of_last_week_asks_for_nothing(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may find an old mail."""
    service.register_confirmed()
    link = service.request_sign_in_token()
    make_link_old(monkeypatch, SIGN_IN_RENEWAL_LIFETIME + timedelta(seconds=2))
    for use in (service.sign_ins.check_expired_link, service.sign_ins.request_link_again):
        with pytest.raises(LinkExpiredError):
            use(link)


@pytest.mark.parametrize("email", [ANN, TAGGED])
def test_signing_in_ends_the_pauses(service: Service, email: str) -> None:
    """Whoever signs in again and again, on one device after the other, waits for no pause."""
    service.register_confirmed(email)
    for _ in range(6):
        assert is_open(service, service.sign_in(email))


@pytest.mark.parametrize("email", [ANN, TAGGED])
def test_signing_in_and_account_mails_use_up_no_pause_of_each_other(service: Service, email: str) -> None:
    """Else mails by which a stranger would sign in kept the owner from a new token, and a stranger who registers could
    see by the pauses whether the address has an account."""
    service.register_confirmed(email)
    service.clock.advance(timedelta(days=1))
    for _ in range(4):
        service.sign_ins.request_link(Address(email))
    service.account_mails.request_token_mail(Address(email))
    with service.database.transaction() as session:
        kinds = sorted(session.scalars(select(MailRequest.kind)).all())
    assert kinds[-2:] == ["sign_in", "token"]


def test_strangers_cause_few_mails_also_by_inventing_addresses(service: Service) -> None:
    """All spellings of a mailbox that no account has share their pauses."""
    for number in range(30):
        service.sign_ins.request_link(Address(f"ann+{number}@example.org"))
    with service.database.transaction() as session:
        assert len(session.scalars(select(MailRequest)).all()) == 1


@pytest.mark.parametrize("registered", [False, True])
def test_an_address_without_a_confirmed_account_gets_the_link_that_confirms(service: Service, registered: bool) -> None:
    """What is asked for and stored is the same as for an account, but for what the mail offers; no link signs in."""
    if registered:
        service.register()
        service.clock.advance(timedelta(minutes=1))
    service.sign_ins.request_link(Address(ANN))
    contact = service.load_contact(ANN)
    assert contact.confirm_url
    assert contact.stop_url
    assert (contact.sign_in_url, contact.token_url) == ("", "")
    with service.database.transaction() as session:
        assert len(session.scalars(select(SignInLink)).all()) == 1


def test_the_mail_holds_nothing_but_links(service: Service) -> None:
    """The event names no account and no address, and the contact no name that somebody typed."""
    ann = service.register_confirmed(name="Ann Typed")
    service.clock.advance(timedelta(minutes=1))
    service.sign_ins.request_link(Address(ANN))
    contact = service.load_contact(ANN)
    assert contact.account.name == ""
    assert contact.sign_in_url.startswith("https://towerwatch.example/sign-in/")
    event = service.load_outbox_events()[-1]
    assert event.registered.without_account
    assert event.user_id != str(ann.account.user_id)
    assert ANN not in str(event)


def test_forged_links_are_refused(service: Service) -> None:
    """A link counts only if it is, character for character, one of ours for signing in."""
    ann = service.register_confirmed()
    link = service.request_sign_in_token()
    others = [service.build_unsubscription_token(ann), service.build_confirmation_token(ann), "", ".", "~~", "é" * 9]
    others += [link[:at] + ("A" if link[at] != "A" else "B") + link[at + 1 :] for at in range(len(link))]
    others += [link + "=", link + "A", link[:-1], link.replace(".", "..", 1), link.upper(), " " + link]
    for forged in others:
        with pytest.raises(LinkForgedError):
            service.sign_ins.sign_in(forged, "curl")
    service.sign_ins.sign_in(link, "curl")


def test_a_link_names_its_mail_and_account(service: Service) -> None:
    """A genuine link of another mail, or of another account, is void."""
    ann, bob = service.register_confirmed(), service.register_confirmed("bob@example.org")
    service.request_sign_in_token()
    (mail,) = list_mails(service)
    now = service.clock.now()
    for user_id, mail_id in (
        (ann.account.user_id, uuid4()),
        (bob.account.user_id, mail.mail_id),
        (uuid4(), mail.mail_id),
    ):
        link = service.links.build_sign_in_url(user_id, mail_id, now).rpartition("/")[2]
        with pytest.raises(LinkOrphanedError):
            service.sign_ins.sign_in(link, "curl")


def test_a_cookie_from_before_is_never_taken_over(service: Service) -> None:
    """Session fixation: the new session has a new secret, and what was there before, known or not, opens nothing."""
    service.register_confirmed()
    known, planted = service.sign_in(), SessionSecret("x" * 43)
    for before in (known, planted):
        secret = service.sign_ins.sign_in(service.request_sign_in_token(), "curl", before).secret
        assert secret != before
        assert is_open(service, secret)
        assert not is_open(service, before)


def test_not_me_voids_the_link(service: Service) -> None:
    """The owner says that somebody else has asked: that mail's link signs in no more, and no further mail goes out."""
    service.register_confirmed()
    service.clock.advance(timedelta(minutes=1))
    link = service.request_sign_in_token()
    service.account_mails.stop_mails(service.load_contact(ANN).stop_url.rpartition("/")[2])
    with pytest.raises(LinkOrphanedError):
        service.sign_ins.sign_in(link, "curl")
    service.clock.advance(timedelta(days=2))
    service.sign_ins.request_link(Address(ANN))
    assert list_mails(service) == []


def test_a_mailbox_that_was_lost_signs_nobody_in_by_an_old_mail(service: Service) -> None:
    """A link that was mailed before the address bounced is void; one that was asked for since works, if its mail
    arrives, and proves that the mailbox is read again."""
    ann = service.register_confirmed()
    link = service.request_sign_in_token()
    service.clock.advance(timedelta(hours=1))
    service.bounces.report(str(ann.account.user_id), service.clock.now())
    for use in (lambda: service.sign_ins.sign_in(link, "x"), lambda: service.sign_ins.request_link_again(link)):
        with pytest.raises(LinkOrphanedError):
            use()
    service.clock.advance(timedelta(hours=1))
    assert is_open(service, service.sign_in())
    assert not service.accounts.get(ann.token or "", ANN).suppressed


@ON_SQLITE
def test_the_record_of_a_request_is_deleted_in_time(service: Service) -> None:
    """A mail that could not be sent for a day is not sent later, when nobody waits for it any more."""
    service.register_confirmed()
    service.sign_ins.request_link(Address(ANN))
    for age, kept in ((timedelta(seconds=-1), 1), (timedelta(0), 0)):
        with service.database.transaction() as session:
            delete_expired_requests(session, service.clock.now() + SIGN_IN_REQUEST_LIFETIME + age)
        assert len(list_mails(service)) == kept


@ON_SQLITE
def test_attempts_are_counted(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what became of them; nothing in the exposition opens or names anything."""
    service.register_confirmed()
    link = service.request_sign_in_token()
    make_link_old(monkeypatch, timedelta(hours=1))
    with pytest.raises(LinkExpiredError):
        service.sign_ins.sign_in(link, "curl")
    monkeypatch.undo()
    secret = service.sign_ins.sign_in(link, "curl").secret
    for forged in (link, "x"):
        with pytest.raises((LinkOrphanedError, LinkForgedError)):
            service.sign_ins.sign_in(forged, "curl")
    text = service.metrics.format_exposition()[0].decode()
    for outcome in ("signed_in", "expired", "void", "forged"):
        assert f'outcome="{outcome}"' in text
    assert secret.text not in text
    assert link not in text
    assert "ann" not in text
