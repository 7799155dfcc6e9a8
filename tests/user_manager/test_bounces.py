"""Bounces: a bounced address gets no more mail until its owner has confirmed it again."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import event

from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from tests.user_manager.apps import build_app
from tests.user_manager.bounces import (
    ANN,
    DAY,
    SECOND,
    get_report_count,
    load_account,
    load_confirmation_token,
    load_contact,
    register_confirmed_ann,
    report_bounce,
)
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.accounts import AccountUpdate
from user_manager.errors import AlreadyConfirmedError, LinkExpiredError, TooSoonError
from user_manager.idempotency import IdempotentRequest


def test_a_bounce_suppresses_the_address(service: Service) -> None:
    """The owner and the notifier see the suppression; everything else about the account stays unchanged."""
    ann, bob = register_confirmed_ann(service), service.register("bob@example.org")
    before, bobs = load_account(service, ann), load_account(service, bob)
    report_bounce(service, ann)
    after = load_account(service, ann)
    assert after.suppressed
    assert after.version == before.version + 1
    assert load_contact(service, ann).account == after
    assert service.accounts.authenticate(ann.token).confirmed
    assert load_account(service, bob) == bobs
    assert service.load_event_kinds() == ["registered", "confirmed", "registered"]


@pytest.mark.parametrize("reported", [(0, 0), (0, 1), (1, 0)], ids=["the same", "in order", "the later one first"])
def test_a_second_bounce_changes_nothing_visible(service: Service, reported: tuple[int, int]) -> None:
    """The notifier retries reports without a response, and several mails to one address may be in flight."""
    ann = register_confirmed_ann(service)
    bounced_at = [service.clock.now(), service.clock.now() + SECOND]
    service.clock.advance(DAY)
    report_bounce(service, ann, bounced_at[reported[0]])
    after_one = load_account(service, ann)
    report_bounce(service, ann, bounced_at[reported[1]])
    assert load_account(service, ann) == after_one
    assert (get_report_count(service, "suppressed"), get_report_count(service, "repeated")) == (1, 1)


def test_reports_are_counted_by_result(service: Service) -> None:
    """Each result has a series from the start, so that the first report is an increase."""
    outcomes = ("suppressed", "repeated", "outdated", "nobody")
    assert [get_report_count(service, outcome) for outcome in outcomes] == [0, 0, 0, 0]
    ann = register_confirmed_ann(service)
    report_bounce(service, ann, service.clock.now() - 2 * DAY)
    report_bounce(service, ann)
    report_bounce(service, ann)
    for user_id in (str(uuid4()), "nonsense", "", "\x00", "\ud800"):
        service.bounces.report(user_id, service.clock.now())
    assert [get_report_count(service, outcome) for outcome in outcomes] == [1, 1, 1, 5]


def test_a_new_confirmation_ends_the_suppression(service: Service) -> None:
    """The owner requests a mail, whose link works although the address is suppressed; confirming ends that."""
    ann = register_confirmed_ann(service)
    service.accounts.update(ann.token, ANN, None, AccountUpdate(paused=True))
    before = load_account(service, ann)
    report_bounce(service, ann)
    assert load_confirmation_token(service, ann) == ""
    service.registrations.request_confirmation_mail(ann.token, ANN)
    assert load_account(service, ann).suppressed
    link = load_confirmation_token(service, ann)
    service.registrations.check_confirmation_link(link)
    assert load_account(service, ann).suppressed
    for _ in range(2):
        service.registrations.confirm(link)
    after = load_account(service, ann)
    assert (after.suppressed, after.confirmed, after.paused) == (False, True, True)
    assert after.version == before.version + 2
    assert load_confirmation_token(service, ann) == ""
    assert service.load_event_kinds() == ["registered", "confirmed", "registered", "confirmed"]
    with pytest.raises(AlreadyConfirmedError):
        service.registrations.request_confirmation_mail(ann.token, ANN)


def test_an_unconfirmed_account_can_end_its_suppression_too(service: Service) -> None:
    """The first mail bounced, as happens if the mailbox is created after the account."""
    ann = service.register(ANN)
    service.clock.advance(SECOND)
    report_bounce(service, ann)
    assert load_confirmation_token(service, ann) == ""
    with pytest.raises(TooSoonError):
        service.registrations.request_confirmation_mail(ann.token, ANN)
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    service.registrations.confirm(load_confirmation_token(service, ann), ann.token)
    account = load_account(service, ann)
    assert (account.confirmed, account.suppressed) == (True, False)


def test_a_bounce_from_before_the_confirmation_changes_nothing(service: Service) -> None:
    """A late report, as after an outage, has no effect, because the owner has confirmed since the bounce."""
    ann = service.register(ANN)
    service.clock.advance(DAY)
    bounced_at = service.clock.now()
    service.clock.advance(DAY)
    service.confirm(ann)
    before = load_account(service, ann)
    for late in (bounced_at, service.clock.now()):
        report_bounce(service, ann, late)
        assert load_account(service, ann) == before
    service.clock.advance(timedelta(microseconds=1))
    report_bounce(service, ann)
    assert load_account(service, ann).suppressed


def test_a_confirmation_cancels_all_earlier_bounces(service: Service) -> None:
    """A bounce from before the confirmation has no effect even if it is reported later."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann)
    service.clock.advance(DAY)
    between = service.clock.now()
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    service.registrations.confirm(load_confirmation_token(service, ann), ann.token)
    report_bounce(service, ann, between)
    assert not load_account(service, ann).suppressed
    assert get_report_count(service, "outdated") == 1


def test_if_the_new_confirmation_mail_bounces_too_another_request_is_needed(service: Service) -> None:
    """Each request sends one mail to a dead address, and the link of a bounced mail is invalid."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    first = load_confirmation_token(service, ann)
    service.clock.advance(SECOND)
    report_bounce(service, ann)
    assert load_confirmation_token(service, ann) == ""
    for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
        with pytest.raises(LinkExpiredError):
            use(first)
    assert load_account(service, ann).suppressed
    service.clock.advance(DAY)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    service.registrations.confirm(load_confirmation_token(service, ann), ann.token)
    assert not load_account(service, ann).suppressed


def test_a_link_from_before_the_bounce_is_expired(service: Service) -> None:
    """An old mail proves only that the address existed once; a new request does not make the old link valid."""
    ann = service.register(ANN)
    old = service.build_confirmation_token(ann)
    service.registrations.confirm(old, ann.token)
    service.clock.advance(SECOND)
    report_bounce(service, ann)
    service.clock.advance(DAY)
    for _ in range(2):
        for use in (service.registrations.check_confirmation_link, service.registrations.confirm):
            with pytest.raises(LinkExpiredError):
                use(old)
        assert load_account(service, ann).suppressed
        service.registrations.request_confirmation_mail(ann.token, ANN)
        service.clock.advance(DAY)


def test_after_a_new_confirmation_old_links_are_accepted(service: Service) -> None:
    """People click on any mail they find; an old link then changes nothing and publishes no event."""
    ann = service.register(ANN)
    old = service.build_confirmation_token(ann)
    service.registrations.confirm(old, ann.token)
    service.clock.advance(DAY)
    report_bounce(service, ann)
    service.registrations.request_confirmation_mail(ann.token, ANN)
    service.registrations.confirm(load_confirmation_token(service, ann), ann.token)
    account, changes = load_account(service, ann), service.load_event_kinds()
    service.registrations.check_confirmation_link(old)
    service.registrations.confirm(old, ann.token)
    assert load_account(service, ann) == account
    assert service.load_event_kinds() == changes


def test_each_mail_requested_since_the_bounce_has_a_valid_link(service: Service) -> None:
    """People request again when a mail is slow, and follow the link that comes first; bounces may be reported late."""
    ann = register_confirmed_ann(service)
    bounced_at = service.clock.now()
    report_bounce(service, ann)
    links = []
    for _ in range(2):
        service.clock.advance(DAY)
        service.registrations.request_confirmation_mail(ann.token, ANN)
        links.append(load_confirmation_token(service, ann))
    report_bounce(service, ann, bounced_at + SECOND)
    assert load_confirmation_token(service, ann) == links[1]
    service.registrations.confirm(links[0], ann.token)
    assert not load_account(service, ann).suppressed


def test_requests_for_a_suppressed_address_are_limited_too(service: Service) -> None:
    """A dead address does not get more mail than one that works."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann)
    service.clock.advance(SECOND)
    for pause in (10, 60, 24 * 60):
        service.registrations.request_confirmation_mail(ann.token, ANN)
        service.clock.advance(timedelta(minutes=pause) - SECOND)
        with pytest.raises(TooSoonError):
            service.registrations.request_confirmation_mail(ann.token, ANN)
        service.clock.advance(SECOND)


def test_erasing_the_account_erases_the_bounce(service: Service) -> None:
    """A new account with the same address is not suppressed, and late reports about the old one have no effect."""
    ann = register_confirmed_ann(service)
    report_bounce(service, ann)
    service.deletions.delete(ann.token, ANN)
    report_bounce(service, ann)
    assert get_report_count(service, "nobody") == 1
    again = service.register(ANN)
    report_bounce(service, ann)
    assert not load_account(service, again).suppressed
    assert load_confirmation_token(service, again) != ""


def test_a_bounce_of_an_account_past_the_pivot_has_no_effect(service: Service) -> None:
    """Past the pivot the account no longer exists for any use case."""
    ann = register_confirmed_ann(service)

    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("DELETE FROM users"):
            raise RuntimeError("killed")

    event.listen(service.database.engine, "before_cursor_execute", refuse)
    with pytest.raises(RuntimeError):
        service.deletions.delete(ann.token, ANN)
    report_bounce(service, ann)
    assert get_report_count(service, "nobody") == 1
    event.remove(service.database.engine, "before_cursor_execute", refuse)


def test_stored_answers_have_the_format_of_the_version_before(service: Service) -> None:
    """Replicas of both versions read each other's stored answers: the format is unchanged."""
    given_before = service.register(ANN, key=(key := uuid4()))
    request = IdempotentRequest.from_key_and_body(key, b'["ann@example.org", "ann@example.org", "Ann", "Europe/Rome"]')
    with service.database.reading() as session:
        packed = service.answers.load_answer(session, request, service.clock.now())
    assert packed is not None
    assert b"suppressed" not in packed
    assert service.register(ANN, key=key) == given_before


@ON_SQLITE
def test_over_http_the_owner_sees_and_ends_the_suppression(service: Service) -> None:
    """The suppression ends only by a request and the link in the mail; a PATCH cannot change it."""
    client = build_app(service).test_client()
    ann = register_confirmed_ann(service)
    bearer = {"Authorization": f"Bearer {ann.token}"}
    report_bounce(service, ann)
    shown = client.get(f"/users/{ANN}", headers=bearer)
    assert shown.json is not None
    assert shown.json["user"]["suppressed"] is True
    assert shown.headers["ETag"] == '"3"'
    changing = client.patch(f"/users/{ANN}", headers=bearer | {"If-Match": '"3"'}, json={"suppressed": False})
    assert changing.status_code == 422
    listed = client.get("/users", headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"})
    assert listed.json is not None
    assert [user["suppressed"] for user in listed.json["users"]] == [True]
    old = f"/confirm/{service.build_confirmation_token(ann)}"
    for method in ("GET", "POST"):
        page = client.open(old, method=method)
        assert page.status_code == 410
        assert "ask for another mail" in page.text
        assert "<button" not in page.text
    assert client.post(f"/users/{ANN}/confirmation", headers=bearer).status_code == 202
    path = f"/confirm/{load_confirmation_token(service, ann)}"
    assert client.get(path).status_code == 200
    assert "is confirmed" in client.post(path).text
    shown = client.get(f"/users/{ANN}", headers=bearer)
    assert shown.json is not None
    assert shown.json["user"]["suppressed"] is False
    assert client.post(f"/users/{ANN}/confirmation", headers=bearer).status_code == 409


@ON_SQLITE
def test_an_unavailable_database_is_reported(service: Service) -> None:
    """The error is transient, so the notifier retries the report."""
    away = Service(Database("sqlite:////nowhere/at/all.db"))
    with pytest.raises(DatabaseUnavailableError):
        away.bounces.report(str(uuid4()), away.clock.now())
