"""The pages that delete an account without JavaScript: a form, its outcome, and how far the deletion is."""

from datetime import timedelta
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.errors import DatabaseUnavailableError
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from tests.user_manager.rest.test_sign_in import ANN, BOB, FOREIGN, NAME, OWN, SAME, cookie
from user_manager.deletion.records import build_due_deletion
from user_manager.errors import CollectorRefusedError, CollectorUnavailableError

pytestmark = ON_SQLITE

PAGE = "/account/delete"


@pytest.fixture
def client(service: Service) -> FlaskClient:
    """A browser that keeps no cookie by itself: each request of a test says which it sends."""
    service.register_confirmed(ANN)
    service.register_confirmed(BOB, "<b>Bob</b>")
    return build_app(service).test_client(use_cookies=False)


def assert_page(response: TestResponse, status: int, says: str) -> None:
    """Assert status and text of a page, and the headers against framing, caching, scripts and foreign referrers."""
    assert response.status_code == status, response.text
    assert response.content_type == "text/html; charset=utf-8"
    assert says in response.text
    policy = response.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert "<script" not in response.text
    assert response.headers["Referrer-Policy"] == "same-origin", "else no form would say where it comes from"
    assert response.headers["Cache-Control"] == "no-store"


def is_there(service: Service, email: str = ANN) -> bool:
    """Return True if an account has the address."""
    return service.accounts.is_registered(email)


def test_the_form_deletes_the_account(client: FlaskClient, service: Service) -> None:
    """Once the address was typed; the browser forgets its session, and nobody else's account is touched."""
    anns = cookie(service.sign_in(ANN).text)
    shown = client.get(PAGE, headers=anns | SAME)
    assert_page(shown, 200, ">Delete my account</button>")
    assert f'href="/users/{ANN}/export"' in shown.text
    done = client.post(PAGE, data={"email": " Ann@Example.ORG "}, headers=anns | OWN)
    assert_page(done, 200, "Your account is deleted")
    assert any(each.startswith(f"{NAME}=;") for each in done.headers.getlist("Set-Cookie"))
    assert (is_there(service), is_there(service, BOB)) == (False, True)
    for again in (client.get(PAGE, headers=anns | SAME), client.post(PAGE, data={"email": ANN}, headers=anns | OWN)):
        assert_page(again, 401, "Sign in first")


@pytest.mark.parametrize("typed", [{}, {"email": ""}, {"email": BOB}, {"email": "<b>x</b>"}, {"email": "x" * 5000}])
def test_another_address_deletes_nothing(client: FlaskClient, service: Service, typed: dict[str, str]) -> None:
    """Neither the account nor that of the address; the form comes again, says what to type, and repeats no markup."""
    anns = cookie(service.sign_in(ANN).text)
    response = client.post(PAGE, data=typed, headers=anns | OWN)
    assert_page(response, 422, "This is not the address of this account")
    assert 'aria-invalid="true"' in response.text
    assert "<b>" not in response.text
    assert "Set-Cookie" not in response.headers
    assert (is_there(service), is_there(service, BOB)) == (True, True)


@pytest.mark.parametrize("headers", [*FOREIGN, {}, {"Sec-Fetch-Site": "none"}], ids=str)
def test_no_other_page_deletes_an_account(client: FlaskClient, service: Service, headers: dict[str, str]) -> None:
    """Of another site, of a sibling, or of nobody who says so."""
    anns = cookie(service.sign_in(ANN).text)
    response = client.post(PAGE, data={"email": ANN}, headers=anns | headers)
    assert_page(response, 403, "did not come from this page")
    assert "Set-Cookie" not in response.headers
    assert is_there(service)


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_no_other_page_reads_the_form(client: FlaskClient, service: Service, headers: dict[str, str]) -> None:
    """It holds the address."""
    response = client.get(PAGE, headers=cookie(service.sign_in(ANN).text) | headers)
    assert_page(response, 403, "did not come from this page")
    assert ANN not in response.text


def test_a_visitor_is_told_to_sign_in(client: FlaskClient, service: Service) -> None:
    """Also one with a token, an operator, or a session that is over: the pages are for browsers."""
    idle = cookie(service.sign_in(ANN).text)
    service.clock.advance(timedelta(days=30))
    token = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    for headers in ({}, idle, token, cookie("x" * 43), cookie("damaged.")):
        for response in (
            client.get(PAGE, headers=headers | SAME),
            client.post(PAGE, data={"email": ANN}, headers=headers | SAME),
        ):
            assert_page(response, 401, 'href="/sign-in/mail"')
    assert is_there(service)


@pytest.mark.parametrize(
    ("failure", "status"),
    [(CollectorUnavailableError("away"), 503), (CollectorRefusedError("no"), 502)],
)
def test_a_deletion_that_fails_is_said_and_nothing_is_changed(
    client: FlaskClient, service: Service, failure: Exception, status: int
) -> None:
    """The browser stays signed in, and the same form works afterwards."""
    anns = cookie(service.sign_in(ANN).text)
    service.interests.failure = failure
    response = client.post(PAGE, data={"email": ANN}, headers=anns | OWN)
    assert_page(response, status, "cannot be deleted at the moment")
    assert response.headers.get("Retry-After") == ("5" if status == 503 else None)
    assert "Set-Cookie" not in response.headers
    assert is_there(service)
    service.interests.failure = None
    assert_page(client.post(PAGE, data={"email": ANN}, headers=anns | OWN), 200, "Your account is deleted")


def test_a_deletion_that_takes_longer_has_a_page(client: FlaskClient, service: Service) -> None:
    """Step by step, without a session, until it is complete; a reload deletes nothing again."""
    anns = cookie(service.sign_in(ANN).text)
    with service.database.transaction() as session:
        session.add(build_due_deletion(service.accounts.get(OPERATOR_TOKEN, ANN).user_id, service.clock.now()))
    service.interests.failure = CollectorUnavailableError("away")
    begun = client.post(PAGE, data={"email": ANN}, headers=anns | OWN)
    assert begun.status_code == 303
    assert any(each.startswith(f"{NAME}=;") for each in begun.headers.getlist("Set-Cookie"))
    where = begun.headers["Location"]
    progress = client.get(where)
    assert_page(progress, 200, "Your account is being deleted")
    assert progress.text.count('class="done"') == 1
    state = client.get(f"/deletions/{where.rpartition('/')[2]}").json
    assert state is not None
    assert (state["status"], state["interests_deleted"]) == ("in_progress", False)
    service.interests.failure = None
    service.clock.advance(timedelta(minutes=5))
    service.deletions.resume_due_deletions()
    half = client.get(where)
    assert_page(half, 200, "Your account is being deleted")
    assert half.text.count('class="done"') == 2
    assert client.get(f"/deletions/{where.rpartition('/')[2]}").json["interests_deleted"]  # type: ignore[index]
    service.clock.advance(timedelta(minutes=5))
    service.deletions.resume_due_deletions()
    assert_page(client.get(where), 200, "Your account is deleted")
    assert not is_there(service)


def test_an_unknown_deletion_is_said(client: FlaskClient) -> None:
    """In the visitor's language."""
    assert_page(client.get(f"{PAGE}/{uuid4()}"), 404, "Nothing is known of this deletion")
    italian = client.get(f"{PAGE}/{uuid4()}", headers={"Accept-Language": "it"})
    assert_page(italian, 404, "non si sa nulla")
    assert '<html lang="it">' in italian.text


@pytest.mark.parametrize("damaged", ["null%2Cnull", "0", "7c06984e-a7d4-4c28-9e23-e0045a233a5f0", "%F0%9F%9B%AB"])
def test_a_damaged_link_to_a_deletion_is_a_page(client: FlaskClient, damaged: str) -> None:
    """A person follows it: what is no id is answered as an unknown one is, and not by JSON."""
    assert_page(client.get(f"{PAGE}/{damaged}"), 404, "Nothing is known of this deletion")


def test_a_lost_database_is_a_page(client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a trace of what failed."""
    anns = cookie(service.sign_in(ANN).text)

    def fail(*_arguments: object) -> None:
        raise DatabaseUnavailableError("SELECT secret FROM users")

    monkeypatch.setattr(service.deletions, "delete", fail)
    response = client.post(PAGE, data={"email": ANN}, headers=anns | OWN)
    assert_page(response, 503, "if it was deleted all the same")
    assert "SELECT" not in response.text
