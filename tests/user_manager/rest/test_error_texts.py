"""Error texts of user_manager's answers: what is wrong and what to do, in words of ours."""

from uuid import UUID

import pytest
from flask.testing import FlaskClient

from tests.error_texts import FOREIGN_WORDS
from tests.user_manager.apps import build_app
from tests.user_manager.conftest import ON_SQLITE, Service

pytestmark = ON_SQLITE

ANN = {"email": "ann@example.org", "name": "Ann", "time_zone": "Europe/Rome"}
BEARER = {"Authorization": "Bearer nonsense"}


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return build_app(service).test_client()


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"email": None}, "email: must be a text"),
        ({"email": "a" * 300}, "email: must have at most 254 characters"),
        ({"email": "nobody"}, "This is not an e-mail address that can get mail"),
        ({"name": ""}, "name: must "),
        ({"name": 7}, "name: must be a text"),
        ({"name": "a" * 101}, "name: must "),
        ({"name": "\n"}, "name: must "),
        ({"time_zone": "Mars/Olympus"}, "time_zone: must "),
        ({"time_zone": 7}, "time_zone: must be a text"),
        ({"colour": "red"}, "colour: is not known here; leave it out"),
    ],
)
def test_a_fault_of_a_registration_is_told_in_our_words(
    client: FlaskClient, fault: dict[str, object], text: str
) -> None:
    """The detail says what the member must be, and the list of errors names it."""
    response = client.post("/users", json=ANN | fault)
    assert response.status_code == 422
    assert response.json is not None
    assert [each["field"] for each in response.json["errors"]] == list(fault)
    assert response.json["detail"].startswith(text)
    assert not FOREIGN_WORDS.search(response.text)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/users", {}, 405),
        ("POST", "/users", {}, 415),
        ("POST", "/users", {"Content-Type": "application/json"}, 400),
        ("GET", "/users", {}, 401),
        ("GET", "/users", BEARER, 401),
        ("GET", "/users?limit=x", BEARER, 422),
        ("GET", "/users/nobody", BEARER, 404),
        ("GET", "/users/ann@example.org", BEARER, 401),
        ("DELETE", "/users/ann@example.org", BEARER, 401),
        ("GET", f"/deletions/{UUID(int=1)}", {}, 404),
        ("GET", "/deletions/7", {}, 404),
        ("PATCH", "/confirm/x", {}, 405),
        ("GET", "/confirm/x", {}, 400),
        ("GET", "/unsubscribe/x", {}, 400),
        ("GET", "/stop/x", {}, 400),
        ("POST", "/stop/x", {}, 400),
    ],
)
def test_no_answer_has_a_text_of_a_library(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Every error is a sentence of ours, in JSON and on pages."""
    response = client.open(path, method=method, headers=headers)
    assert response.status_code == status
    assert not FOREIGN_WORDS.search(response.text)
    assert response.text
