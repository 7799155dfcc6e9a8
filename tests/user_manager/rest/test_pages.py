"""The pages behind the links in mails: for people, safe from scanners, telling their address to nobody."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner
from werkzeug.test import TestResponse

from chassis.db.database import Database
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, OPERATOR_TOKEN, Service
from user_manager.links import CONFIRMATION_LINK_LIFETIME
from user_manager.registration import Registration

pytestmark = ON_SQLITE

PURPOSES = ["confirm", "unsubscribe"]
MULTIPART = b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--'


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


def path_of(service: Service, registration: Registration, purpose: str) -> str:
    links = {"confirm": service.build_confirmation_token, "unsubscribe": service.build_unsubscription_token}
    return f"/{purpose}/{links[purpose](registration)}"


def assert_page(response: TestResponse, status: int, says: str) -> None:
    """A page of ours, with the headers that keep it from loading, leaking and being framed."""
    assert response.status_code == status
    assert response.content_type == "text/html; charset=utf-8"
    assert says in response.text
    policy = response.headers["Content-Security-Policy"]
    for part in ("default-src 'none'", "style-src 'unsafe-inline'", "form-action 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in response.headers
    assert "http" not in response.text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("purpose", "button"), [("confirm", "Confirm my address"), ("unsubscribe", "Pause all alerts")]
)
def test_opening_a_link_shows_a_button_and_changes_nothing(
    client: FlaskClient, service: Service, purpose: str, button: str
) -> None:
    """Mail scanners and previews send GET and HEAD."""
    registration = service.register()
    path = path_of(service, registration, purpose)
    client.head(path)
    response = client.get(path)
    assert_page(response, 200, f">{button}</button>")
    assert '<form method="post">' in response.text
    assert service.accounts.get(registration.token, "ann@example.org") == registration.account


def test_the_button_confirms(client: FlaskClient, service: Service) -> None:
    """Twice is once."""
    registration = service.register()
    for _ in range(2):
        assert_page(client.post(path_of(service, registration, "confirm")), 200, "Your address is confirmed")
    assert service.accounts.authenticate(registration.token).confirmed
    assert service.load_event_kinds() == ["registered", "confirmed"]


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
    """RFC 8058: no login, no cookie, no redirect, and the link suffices, whatever the body is. Twice is once."""
    registration = service.register()
    for _ in range(2):
        response = client.post(path_of(service, registration, "unsubscribe"), data=body, content_type=content_type)
        assert_page(response, 200, "Your alerts are paused")
        assert "Location" not in response.headers
    account = service.accounts.get(registration.token, "ann@example.org")
    assert account.paused
    assert account.version == registration.account.version + 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_does_what_it_was_made_for_only(client: FlaskClient, service: Service, method: str) -> None:
    """One that unsubscribes does not confirm, nor the other way round."""
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
def test_a_forged_link_is_a_page_that_says_so(client: FlaskClient, method: str, purpose: str, title: str) -> None:
    """400; what came in the path is not shown."""
    response = client.open(f"/{purpose}/<script>alert(1)<script>", method=method)
    assert_page(response, 400, "not one of ours")
    assert title in response.text
    assert "<button" not in response.text
    assert "alert(" not in response.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expired_confirmation_is_a_page_that_says_what_to_do(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """410. (The other link is good for ever.)"""
    registration = service.register()
    confirmation, unsubscription = (path_of(service, registration, purpose) for purpose in PURPOSES)
    later = TimestampSigner("any").get_timestamp() + int(
        (CONFIRMATION_LINK_LIFETIME + timedelta(minutes=1)).total_seconds()
    )
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)
    assert_page(client.open(confirmation, method=method), 410, "has expired")
    assert service.load_event_kinds() == ["registered"]
    assert client.open(unsubscription, method=method).status_code == 200


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_link_of_a_deleted_account_is_a_page_that_says_so(
    client: FlaskClient, service: Service, purpose: str, method: str
) -> None:
    """410."""
    registration = service.register()
    service.deletions.delete(OPERATOR_TOKEN, "ann@example.org")
    assert_page(client.open(path_of(service, registration, purpose), method=method), 410, "was deleted")


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_database_that_is_away_is_a_page_too(service: Service, purpose: str, method: str) -> None:
    """503 with a time to come back, for the mail program that unsubscribes."""
    path = path_of(service, service.register(), purpose)
    client = build_app(Service(Database("sqlite:////nowhere/at/all.db"))).test_client()
    response = client.open(path, method=method)
    assert_page(response, 503, "<h1>")
    assert int(response.headers["Retry-After"]) > 0
    assert "sqlite" not in response.text


def test_no_metric_tells_a_link(client: FlaskClient, service: Service) -> None:
    """A link is a right."""
    registration = service.register()
    for purpose in PURPOSES:
        client.post(path_of(service, registration, purpose))
    exposition = client.get("/metrics").text
    assert 'endpoint="/unsubscribe/{token}"' in exposition
    assert str(registration.account.user_id) not in exposition
