"""The page behind the link in the mail: for people, safe from scanners, telling its address to nobody."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from itsdangerous import TimestampSigner
from werkzeug.test import TestResponse

from chassis.http import create_app
from chassis.metrics import Identity, Metrics
from tests.user_manager.conftest import Service
from user_manager import links
from user_manager.confirmation import pages
from user_manager.rest import PROBLEMS


@pytest.fixture
def client(service: Service) -> FlaskClient:
    app = create_app("user_manager", Metrics(Identity("user_manager", "local")), PROBLEMS, ready=lambda: True)
    app.register_blueprint(pages(service.accounts))
    return app.test_client()


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
    assert "http" not in response.text.replace("http-equiv", "")


def test_opening_the_link_shows_a_button_and_confirms_nothing(client: FlaskClient, service: Service) -> None:
    """Mail scanners and previews send GET and HEAD."""
    registration = service.register()
    path = f"/confirm/{service.link_token(registration)}"
    client.head(path)
    response = client.get(path)
    assert_page(response, 200, "<button")
    assert '<form method="post">' in response.text
    assert not service.accounts.authenticate(registration.token).confirmed


def test_the_button_confirms(client: FlaskClient, service: Service) -> None:
    """Twice is once."""
    registration = service.register()
    path = f"/confirm/{service.link_token(registration)}"
    for _ in range(2):
        assert_page(client.post(path), 200, "Your address is confirmed")
    assert service.accounts.authenticate(registration.token).confirmed
    assert service.changes() == ["registered", "confirmed"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_forged_link_is_a_page_that_says_so(client: FlaskClient, method: str) -> None:
    """400; what came in the path is not shown."""
    response = client.open("/confirm/<script>alert(1)<script>", method=method)
    assert_page(response, 400, "not one of ours")
    assert "<button" not in response.text
    assert "alert" not in response.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_expired_link_is_a_page_that_says_what_to_do(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """410."""
    path = f"/confirm/{service.link_token(service.register())}"
    made_at = TimestampSigner("any").get_timestamp()
    later = made_at + int((links.LIFE + timedelta(minutes=1)).total_seconds())
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: later)
    assert_page(client.open(path, method=method), 410, "has expired")
    assert service.changes() == ["registered"]


def test_the_link_of_a_deleted_account_is_a_page_that_says_so(client: FlaskClient, service: Service) -> None:
    """410."""
    registration = service.register()
    service.accounts.delete(registration.token, "ann@example.org")
    assert_page(client.get(f"/confirm/{service.link_token(registration)}"), 410, "was deleted")
