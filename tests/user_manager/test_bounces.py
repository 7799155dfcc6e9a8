"""Mail that came back: nothing more goes to the address, until its owner has confirmed it once more."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.user_manager.apps import app_of
from tests.user_manager.bounces import (
    ANN,
    DAY,
    SECOND,
    account_of,
    bounce,
    confirmed_ann,
    contact_of,
    link_of,
    reports,
)
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.accounts import Change
from user_manager.errors import AlreadyConfirmedError, LinkExpiredError, TooSoonError
from user_manager.idempotency import IdempotentRequest


def test_an_address_that_mail_came_back_from_is_suppressed(service: Service) -> None:
    """The owner sees it, the notifier sees it; everything else about the account stays as it was."""
    ann, bob = confirmed_ann(service), service.register("bob@example.org")
    before, bobs = account_of(service, ann), account_of(service, bob)
    bounce(service, ann)
    after = account_of(service, ann)
    assert after.suppressed
    assert after.version == before.version + 1
    assert contact_of(service, ann).account == after
    assert service.accounts.authenticate(ann.token).confirmed
    assert account_of(service, bob) == bobs
    assert service.changes() == ["registered", "confirmed", "registered"]


@pytest.mark.parametrize("reported", [(0, 0), (0, 1), (1, 0)], ids=["the same", "in order", "the later one first"])
def test_a_second_bounce_changes_nothing_that_is_seen(service: Service, reported: tuple[int, int]) -> None:
    """The notifier repeats what it got no answer to, and several mails may be under way to one address."""
    ann = confirmed_ann(service)
    bounced_at = [service.clock.now(), service.clock.now() + SECOND]
    service.clock.advance(DAY)
    bounce(service, ann, bounced_at[reported[0]])
    after_one = account_of(service, ann)
    bounce(service, ann, bounced_at[reported[1]])
    assert account_of(service, ann) == after_one
    assert (reports(service, "suppressed"), reports(service, "repeated")) == (1, 1)


def test_each_report_is_counted_by_what_it_changed(service: Service) -> None:
    """Each outcome is there from the start, so that a first one can be seen as an increase."""
    outcomes = ("suppressed", "repeated", "outdated", "nobody")
    assert [reports(service, outcome) for outcome in outcomes] == [0, 0, 0, 0]
    ann = confirmed_ann(service)
    bounce(service, ann, service.clock.now() - 2 * DAY)
    bounce(service, ann)
    bounce(service, ann)
    for user_id in (str(uuid4()), "nonsense", "", "\x00", "\ud800"):
        service.bounces.report(user_id, service.clock.now())
    assert [reports(service, outcome) for outcome in outcomes] == [1, 1, 1, 5]


def test_the_owner_asks_for_a_mail_and_lifts_the_suppression(service: Service) -> None:
    """The way out: a wish like every other, a link although the address is suppressed, and then all is as before."""
    ann = confirmed_ann(service)
    service.accounts.change(ann.token, ANN, None, Change(paused=True))
    before = account_of(service, ann)
    bounce(service, ann)
    assert link_of(service, ann) == ""
    service.registrations.ask_confirmation(ann.token, ANN)
    assert account_of(service, ann).suppressed
    link = link_of(service, ann)
    service.registrations.check_link(link)
    assert account_of(service, ann).suppressed
    for _ in range(2):
        service.registrations.confirm(link)
    after = account_of(service, ann)
    assert (after.suppressed, after.confirmed, after.paused) == (False, True, True)
    assert after.version == before.version + 2
    assert link_of(service, ann) == ""
    assert service.changes() == ["registered", "confirmed", "registered", "confirmed"]
    with pytest.raises(AlreadyConfirmedError):
        service.registrations.ask_confirmation(ann.token, ANN)


def test_whoever_never_confirmed_has_the_same_way_out(service: Service) -> None:
    """The first mail came back, as it does when the mailbox is made after the account."""
    ann = service.register(ANN)
    service.clock.advance(SECOND)
    bounce(service, ann)
    assert link_of(service, ann) == ""
    with pytest.raises(TooSoonError):
        service.registrations.ask_confirmation(ann.token, ANN)
    service.clock.advance(DAY)
    service.registrations.ask_confirmation(ann.token, ANN)
    service.registrations.confirm(link_of(service, ann))
    account = account_of(service, ann)
    assert (account.confirmed, account.suppressed) == (True, False)


def test_a_bounce_from_before_the_confirmation_changes_nothing(service: Service) -> None:
    """Reported late, as after an outage of ours: the owner has answered it already."""
    ann = service.register(ANN)
    service.clock.advance(DAY)
    bounced_at = service.clock.now()
    service.clock.advance(DAY)
    service.registrations.confirm(service.confirmation_token(ann))
    before = account_of(service, ann)
    for late in (bounced_at, service.clock.now()):
        bounce(service, ann, late)
        assert account_of(service, ann) == before
    service.clock.advance(timedelta(microseconds=1))
    bounce(service, ann)
    assert account_of(service, ann).suppressed


def test_a_confirmation_lifts_whichever_bounces_were_before_it(service: Service) -> None:
    """Also one that is reported after the suppression was lifted, whose mail went out before."""
    ann = confirmed_ann(service)
    bounce(service, ann)
    service.clock.advance(DAY)
    between = service.clock.now()
    service.clock.advance(DAY)
    service.registrations.ask_confirmation(ann.token, ANN)
    service.registrations.confirm(link_of(service, ann))
    bounce(service, ann, between)
    assert not account_of(service, ann).suppressed
    assert reports(service, "outdated") == 1


def test_when_the_wished_for_mail_comes_back_too_another_wish_is_needed(service: Service) -> None:
    """No mail goes to a dead address twice for one wish; and the link of that mail reached nobody."""
    ann = confirmed_ann(service)
    bounce(service, ann)
    service.registrations.ask_confirmation(ann.token, ANN)
    first = link_of(service, ann)
    service.clock.advance(SECOND)
    bounce(service, ann)
    assert link_of(service, ann) == ""
    for use in (service.registrations.check_link, service.registrations.confirm):
        with pytest.raises(LinkExpiredError):
            use(first)
    assert account_of(service, ann).suppressed
    service.clock.advance(DAY)
    service.registrations.ask_confirmation(ann.token, ANN)
    service.registrations.confirm(link_of(service, ann))
    assert not account_of(service, ann).suppressed


def test_a_link_from_before_the_bounce_lifts_nothing(service: Service) -> None:
    """Who has an old mail shows that the address was there once. After another wish the old link is still old."""
    ann = service.register(ANN)
    old = service.confirmation_token(ann)
    service.registrations.confirm(old)
    service.clock.advance(SECOND)
    bounce(service, ann)
    service.clock.advance(DAY)
    for _ in range(2):
        for use in (service.registrations.check_link, service.registrations.confirm):
            with pytest.raises(LinkExpiredError):
                use(old)
        assert account_of(service, ann).suppressed
        service.registrations.ask_confirmation(ann.token, ANN)
        service.clock.advance(DAY)


def test_once_the_address_is_confirmed_again_every_link_is_welcome(service: Service) -> None:
    """People click on what they find; there is nothing left to do, and nothing is announced."""
    ann = service.register(ANN)
    old = service.confirmation_token(ann)
    service.registrations.confirm(old)
    service.clock.advance(DAY)
    bounce(service, ann)
    service.registrations.ask_confirmation(ann.token, ANN)
    service.registrations.confirm(link_of(service, ann))
    account, changes = account_of(service, ann), service.changes()
    service.registrations.check_link(old)
    service.registrations.confirm(old)
    assert account_of(service, ann) == account
    assert service.changes() == changes


def test_each_mail_that_was_asked_for_since_the_bounce_has_a_good_link(service: Service) -> None:
    """People ask again when a mail is slow, and then follow the link in whichever comes first; bounces may be late."""
    ann = confirmed_ann(service)
    bounced_at = service.clock.now()
    bounce(service, ann)
    links = []
    for _ in range(2):
        service.clock.advance(DAY)
        service.registrations.ask_confirmation(ann.token, ANN)
        links.append(link_of(service, ann))
    bounce(service, ann, bounced_at + SECOND)
    assert link_of(service, ann) == links[1]
    service.registrations.confirm(links[0])
    assert not account_of(service, ann).suppressed


def test_a_wish_is_as_rare_for_a_suppressed_address_as_for_others(service: Service) -> None:
    """A dead address does not get more mail from us than one that is alive."""
    ann = confirmed_ann(service)
    bounce(service, ann)
    service.clock.advance(SECOND)
    for pause in (2, 4, 8):
        service.registrations.ask_confirmation(ann.token, ANN)
        service.clock.advance(timedelta(minutes=pause) - SECOND)
        with pytest.raises(TooSoonError):
            service.registrations.ask_confirmation(ann.token, ANN)
        service.clock.advance(SECOND)


def test_erasing_the_account_erases_the_bounce(service: Service) -> None:
    """Whoever registers the address again begins anew; late reports concern nobody."""
    ann = confirmed_ann(service)
    bounce(service, ann)
    service.deletions.delete(ann.token, ANN)
    bounce(service, ann)
    assert reports(service, "nobody") == 1
    again = service.register(ANN)
    bounce(service, ann)
    assert not account_of(service, again).suppressed
    assert link_of(service, again) != ""


def test_an_account_on_its_way_out_is_nobodys(service: Service) -> None:
    """Past the pivot the account is gone for everybody, whatever is left of it."""
    ann = confirmed_ann(service)

    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM users"):
            raise RuntimeError("killed")

    event.listen(service.database.engine, "before_cursor_execute", refuse)
    with pytest.raises(RuntimeError):
        service.deletions.delete(ann.token, ANN)
    bounce(service, ann)
    assert reports(service, "nobody") == 1
    event.remove(service.database.engine, "before_cursor_execute", refuse)


def test_a_remembered_answer_of_the_version_before_is_read(service: Service) -> None:
    """And that version reads ours: the answer to a registration is the same bytes in both."""
    given_before = service.register(ANN, key=(key := uuid4()))
    request = IdempotentRequest.of(key, b'["ann@example.org", "ann@example.org", "Ann", "Europe/Rome"]')
    with service.database.reading() as session:
        packed = service.answers.given(session, request, service.clock.now())
    assert packed is not None
    assert b"suppressed" not in packed
    assert service.register(ANN, key=key) == given_before


@ON_SQLITE
def test_over_http_the_owner_sees_it_and_finds_the_way_out(service: Service) -> None:
    """Nobody but the owner's wish and the link in the mail lifts it: it cannot be changed away."""
    client = app_of(service).test_client()
    ann = confirmed_ann(service)
    bearer = {"Authorization": f"Bearer {ann.token}"}
    bounce(service, ann)
    shown = client.get(f"/users/{ANN}", headers=bearer)
    assert shown.json is not None
    assert shown.json["user"]["suppressed"] is True
    assert shown.headers["ETag"] == '"3"'
    changing = client.patch(f"/users/{ANN}", headers=bearer | {"If-Match": '"3"'}, json={"suppressed": False})
    assert changing.status_code == 422
    listed = client.get("/users", headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
    assert listed.json is not None
    assert [user["suppressed"] for user in listed.json["users"]] == [True]
    old = f"/confirm/{service.confirmation_token(ann)}"
    for method in ("GET", "POST"):
        page = client.open(old, method=method)
        assert page.status_code == 410
        assert "ask for another mail" in page.text
        assert "<button" not in page.text
    assert client.post(f"/users/{ANN}/confirmation", headers=bearer).status_code == 202
    path = f"/confirm/{link_of(service, ann)}"
    assert client.get(path).status_code == 200
    assert "is confirmed" in client.post(path).text
    shown = client.get(f"/users/{ANN}", headers=bearer)
    assert shown.json is not None
    assert shown.json["user"]["suppressed"] is False
    assert client.post(f"/users/{ANN}/confirmation", headers=bearer).status_code == 409


@ON_SQLITE
def test_a_database_that_is_away_is_said(service: Service) -> None:
    """Transient: the notifier reports it again."""
    away = Service(Database("sqlite:////nowhere/at/all.db"))
    with pytest.raises(DatabaseUnavailableError):
        away.bounces.report(str(uuid4()), away.clock.now())
