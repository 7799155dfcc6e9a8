"""The pages that links in mails open: for people, safe from mail scanners, and without a Referer header."""

import json
import re
import shlex
from datetime import timedelta
from html import unescape

import pytest
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner
from werkzeug.test import TestResponse

from chassis.credentials import SessionSecret
from chassis.db.database import Database
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.accounts import AccountUpdate
from user_manager.errors import TokenUnknownError
from user_manager.links import CONFIRMATION_LINK_LIFETIME
from user_manager.registration import Registration

pytestmark = ON_SQLITE

PURPOSES = ["confirm", "unsubscribe"]
MULTIPART = b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--'


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


def build_path(service: Service, registration: Registration, purpose: str) -> str:
    """Build the path of the account's link for a purpose, "confirm" or "unsubscribe"."""
    links = {"confirm": service.build_confirmation_token, "unsubscribe": service.build_unsubscription_token}
    return f"/{purpose}/{links[purpose](registration)}"


def assert_page(response: TestResponse, status: int, says: str) -> None:
    """Assert status and text of a page, and the headers that forbid loading, leaking and framing."""
    assert response.status_code == status
    assert response.content_type == "text/html; charset=utf-8"
    assert says in response.text
    policy = response.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert response.headers["Referrer-Policy"] in ("no-referrer", "same-origin")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    assert "http" not in response.text.replace(
        "https://towerwatch.example/interests", ""
    )  # of the command for programs
    assert "<script" not in response.text


@pytest.mark.parametrize(
    ("purpose", "button"), [("confirm", "Confirm my address"), ("unsubscribe", "Pause all alerts")]
)
def test_opening_a_link_shows_a_button_and_changes_nothing(
    client: FlaskClient, service: Service, purpose: str, button: str
) -> None:
    """Mail scanners and previews send GET and HEAD, which change nothing."""
    registration = service.register()
    path = build_path(service, registration, purpose)
    client.head(path)
    response = client.get(path)
    assert_page(response, 200, f">{button}</button>")
    assert '<form method="post">' in response.text
    assert service.accounts.get(registration.token, "ann@example.org") == registration.account


def test_the_button_confirms(client: FlaskClient, service: Service) -> None:
    """The button confirms the address and shows a new token, the old one is void. Whoever uses the link again changes
    nothing, and is told how to get a new token if that one is lost."""
    registration = service.register()
    confirmed = client.post(build_path(service, registration, "confirm"))
    assert_page(confirmed, 200, "Your address is confirmed")
    token = find_token(confirmed)
    assert "curl -X POST https://towerwatch.example/interests" in confirmed.text, "the page says what to do next"
    assert service.accounts.authenticate(token).confirmed
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(registration.token)
    again = client.post(build_path(service, registration, "confirm"))
    assert_page(again, 200, "Your address is confirmed")
    assert "Your token" not in again.text
    assert "POST to /users/token" in again.text
    opened = client.get(build_path(service, registration, "confirm"))
    assert_page(opened, 200, "Your address is confirmed")
    assert "POST to /users/token" in opened.text
    assert "<form" not in opened.text
    assert service.accounts.authenticate(token).confirmed
    assert service.load_event_kinds() == ["registered", "confirmed"]


def test_whoever_confirms_by_our_own_page_is_signed_in(client: FlaskClient, service: Service) -> None:
    """The session opens the account that was confirmed, once; the name that was typed is the person's from now on."""
    path = build_path(service, service.register(name="Somebody"), "confirm")
    opened = client.get(path)
    assert opened.headers["Referrer-Policy"] == "same-origin", "else the form would not say where it comes from"
    assert 'value="Somebody"' in opened.text
    assert "ann@example.org" in opened.text, "whoever follows another's link sees whose account it opens"
    own = {"Sec-Fetch-Site": "same-origin"}
    confirmed = client.post(path, headers=own, data={"name": " Zoë "})
    assert (confirmed.status_code, confirmed.text.count("Zoë")) == (200, 1)
    secret = re.match("__Host-towerwatch-session=([^;]+);", confirmed.headers.getlist("Set-Cookie")[0])
    assert secret is not None
    account, _ = service.sessions.load_current(SessionSecret(secret[1]))
    assert (account.email, account.name, account.confirmed) == ("ann@example.org", "Zoë", True)
    again = client.post(path, headers=own, data={"name": "Mallory"})
    assert "Set-Cookie" not in again.headers
    assert "Mallory" not in again.text


def test_what_a_stranger_has_chosen_for_an_address_ends_when_its_owner_confirms(
    client: FlaskClient, service: Service
) -> None:
    """Who registered the address may have paused its alerts; the owner, who reads the page in Italian, never knew."""
    registration = service.register()
    service.accounts.update(
        registration.token, "ann@example.org", None, AccountUpdate(paused=True, corrections=False, language="en")
    )
    headers = {"Sec-Fetch-Site": "same-origin", "Accept-Language": "it"}
    confirmed = client.post(build_path(service, registration, "confirm"), headers=headers)
    account = service.accounts.get(find_token(confirmed), "ann@example.org")
    assert (account.paused, account.corrections, account.language) == (False, True, "it")


@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}, {}], ids=repr
)
def test_no_other_page_signs_its_visitors_in_by_a_link_of_its_owner(
    client: FlaskClient, service: Service, headers: dict[str, str]
) -> None:
    """Login CSRF: the address is confirmed, as the link alone allows; but the visitor's browser gets no session."""
    registration = service.register()
    confirmed = client.post(build_path(service, registration, "confirm"), headers=headers)
    assert_page(confirmed, 200, "Your address is confirmed")


@pytest.mark.parametrize("name", ["", "  ", "a" * 101, "two\nlines"])
def test_a_name_that_is_none_confirms_nothing(client: FlaskClient, service: Service, name: str) -> None:
    """The page says what is wrong with it."""
    registration = service.register()
    path = build_path(service, registration, "confirm")
    assert_page(client.post(path, data={"name": name}), 422, "The name must")
    assert not service.accounts.get(registration.token, "ann@example.org").confirmed


def test_the_pages_are_in_the_visitors_language(client: FlaskClient, service: Service) -> None:
    """Italian, if the browser prefers it; errors, too. Any other language: English."""
    path = build_path(service, service.register(), "confirm")
    italian = client.get(path, headers={"Accept-Language": "it-IT,en;q=0.5"}).text
    assert "Conferma il tuo indirizzo" in italian
    assert '<html lang="it">' in italian
    for accepted in ("it", "it-CH", "IT-it;q=0.8,en;q=0.7", "fr,it;q=0.3", "en;q=0.2,it;q=0.3"):
        assert "Conferma" in client.get(path, headers={"Accept-Language": accepted}).text, accepted
    for accepted in ("", "xx", "*", "en-US,it;q=0.9", "it;q=0", "it;q=x,,;", "-"):
        assert "Confirm" in client.get(path, headers={"Accept-Language": accepted}).text, accepted
    assert "non è nostro" in client.get("/confirm/x", headers={"Accept-Language": "it"}).text
    assert "Confirm your address" in client.get(path, headers={"Accept-Language": "xx"}).text


def test_confirming_with_the_token_keeps_it(client: FlaskClient, service: Service) -> None:
    """Who has the mailbox's link and the token in one request is both; another account's token is no such proof."""
    ann, bob = service.register("ann@example.org"), service.register("bob@example.org")
    headers = {"Authorization": f"Bearer {ann.token}"}
    assert "Your token" not in client.post(build_path(service, ann, "confirm"), headers=headers).text
    assert service.accounts.authenticate(ann.token).confirmed
    assert "Your token" in client.post(build_path(service, bob, "confirm"), headers=headers).text
    with pytest.raises(TokenUnknownError):
        service.accounts.authenticate(bob.token)


def test_the_page_shows_what_is_confirmed_as_text(client: FlaskClient, service: Service) -> None:
    """Another person may have typed name and time zone, so the owner sees them before and after."""
    registration = service.register(name="<b>You won!</b>")
    path = build_path(service, registration, "confirm")
    for response in (client.get(path), client.post(path)):
        assert_page(response, 200, "&lt;b&gt;You won!&lt;/b&gt;")
        assert "Europe/Rome" in response.text


def test_the_page_asks_for_the_name_once_and_shows_a_whole_command(client: FlaskClient, service: Service) -> None:
    """The name stands in its field alone; afterwards there is the menu, and a command that can be run as it is."""
    path = build_path(service, service.register(name="Zoë"), "confirm")
    page = client.get(path).text
    assert page.count("Zoë") == 1
    assert "<nav" not in page
    confirmed = client.post(path, headers={"Sec-Fetch-Site": "same-origin"})
    menu = re.findall(r'<a href="([^"]*)">', confirmed.text[: confirmed.text.index("<main")])
    assert menu == ["/", "/told", "/account"]
    command = shlex.split(re.findall(r"curl [^<]*", unescape(confirmed.text))[0])
    assert command[:4] == ["curl", "-X", "POST", "https://towerwatch.example/interests"]
    assert command[4:8] == [
        "-H",
        f"Authorization: Bearer {find_token(confirmed)}",
        "-H",
        "Content-Type: application/json",
    ]
    assert command[8] == "-d"
    assert json.loads(command[9])["airport_icao"] == "LICC"


def find_token(response: TestResponse) -> str:
    """Return the token that a page shows."""
    found = re.search("<dt>(?:Your token|Il tuo token)</dt><dd>([A-Za-z0-9_-]{43})</dd>", response.text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"List-Unsubscribe=One-Click", "application/x-www-form-urlencoded"),
        (b"", None),
        (MULTIPART, "multipart/form-data; boundary=b"),
        (b"{", "application/json"),
        (b"\xff", "nonsense"),
    ],
    ids=repr,
)  # fmt: skip
def test_a_mail_program_unsubscribes_with_one_post(
    client: FlaskClient, service: Service, body: bytes, content_type: str | None
) -> None:
    """RFC 8058: no login, no cookie, no redirect, and any body; a second POST changes nothing."""
    registration = service.register()
    for _ in range(2):
        response = client.post(build_path(service, registration, "unsubscribe"), data=body, content_type=content_type)
        assert_page(response, 200, "Your alerts are paused")
        assert "Location" not in response.headers
    account = service.accounts.get(registration.token, "ann@example.org")
    assert account.paused
    assert account.version == registration.account.version + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_link_has_one_purpose(client: FlaskClient, service: Service, method: str) -> None:
    """An unsubscription link does not confirm, and a confirmation link does not unsubscribe."""
    registration = service.register()
    for path in (
        f"/confirm/{service.build_unsubscription_token(registration)}",
        f"/unsubscribe/{service.build_confirmation_token(registration)}",
    ):
        assert_page(client.open(path, method=method), 400, "not one of ours")
    assert service.accounts.get(registration.token, "ann@example.org") == registration.account


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("purpose", "title"), [("confirm", "is not confirmed"), ("unsubscribe", "alerts are not paused")]
)
def test_a_forged_link_gets_an_error_page(client: FlaskClient, method: str, purpose: str, title: str) -> None:
    """The status is 400, and the page does not show the path."""
    response = client.open(f"/{purpose}/<script>alert(1)<script>", method=method)
    assert_page(response, 400, "not one of ours")
    assert title in response.text
    assert "<button" not in response.text
    assert "alert(" not in response.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expired_confirmation_link_gets_an_error_page(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The status is 410. (An unsubscription link never expires.)"""
    registration = service.register()
    confirmation, unsubscription = (build_path(service, registration, purpose) for purpose in PURPOSES)
    later = TimestampSigner("any").get_timestamp() + int(
        (CONFIRMATION_LINK_LIFETIME + timedelta(minutes=1)).total_seconds()
    )
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)
    assert_page(client.open(confirmation, method=method), 410, "has expired")
    assert service.load_event_kinds() == ["registered"]
    assert client.open(unsubscription, method=method).status_code == 200


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_link_of_a_deleted_account_gets_an_error_page(
    client: FlaskClient, service: Service, purpose: str, method: str
) -> None:
    """The status is 410."""
    registration = service.register()
    service.deletions.delete(OPERATOR_TOKEN, "ann@example.org")
    assert_page(client.open(build_path(service, registration, purpose), method=method), 410, "was deleted")


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unavailable_database_gets_an_error_page(service: Service, purpose: str, method: str) -> None:
    """The status is 503 with Retry-After, for the mail program that unsubscribes."""
    path = build_path(service, service.register(), purpose)
    client = build_app(Service(Database("sqlite:////nowhere/at/all.db"))).test_client()
    response = client.open(path, method=method)
    assert_page(response, 503, "<h1>")
    assert int(response.headers["Retry-After"]) > 0
    assert "sqlite" not in response.text


def test_no_metric_holds_a_link(client: FlaskClient, service: Service) -> None:
    """A link authorizes its holder, so no metric label may hold one."""
    registration = service.register()
    for purpose in PURPOSES:
        client.post(build_path(service, registration, purpose))
    exposition = client.get("/metrics").text
    assert 'endpoint="/unsubscribe/{token}"' in exposition
    assert str(registration.account.user_id) not in exposition
