"""Accounts over HTTP: what is parsed, which answers there are, and what they do not tell."""

from collections.abc import Mapping
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.database import Database
from chassis.http import create_app
from chassis.metrics import Identity, Metrics
from tests.user_manager.conftest import OPERATOR_TOKEN, Service
from user_manager.accounts import Accounts
from user_manager.errors import CollectorAwayError, CollectorRefusedError
from user_manager.rest import PROBLEMS, users

ANN = {"email": "ann@example.org", "name": "Ann", "time_zone": "Europe/Rome"}


def client_of(accounts: Accounts, *, allow_test_addresses: bool = False) -> FlaskClient:
    app = create_app("user_manager", Metrics(Identity("user_manager", "local")), PROBLEMS, ready=lambda: True)
    app.register_blueprint(users(accounts, allow_test_addresses=allow_test_addresses))
    return app.test_client()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return client_of(service.accounts)


def bearer(token: str) -> Mapping[str, str]:
    return {"Authorization": f"Bearer {token}"}


def status_of(response: TestResponse) -> int:
    """The status of a problem (RFC 9457), which its body repeats."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["status"] == response.status_code
    return response.status_code


def test_registering_answers_with_the_account_and_its_token(client: FlaskClient, service: Service) -> None:
    """201; the token is shown this once, and no cache may keep it."""
    response = client.post("/users", json=ANN)
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json is not None
    user = response.json["user"]
    assert user == {
        "user_id": user["user_id"],
        **ANN,
        "confirmed": False,
        "paused": False,
        "created_at": service.clock.now().isoformat(),
    }
    seen = client.get("/users/ann@example.org", headers=bearer(response.json["token"]))
    assert (seen.status_code, seen.json) == (200, {"user": user})


def test_the_time_zone_is_utc_unless_given(client: FlaskClient) -> None:
    """Nobody has to know what an IANA name is."""
    response = client.post("/users", json={"email": "ann@example.org", "name": "Ann"})
    assert response.json is not None
    assert response.json["user"]["time_zone"] == "UTC"


@pytest.mark.parametrize("name", ["Ann", "  Ann  ", "Zoë O'Neil-Łęcka", "王小明", "x" * 100])
def test_names_are_what_people_are_called(client: FlaskClient, name: str) -> None:
    """Any letters, up to 100, without the blanks around them."""
    response = client.post("/users", json=ANN | {"name": name})
    assert response.json is not None
    assert response.json["user"]["name"] == name.strip()


@pytest.mark.parametrize(
    "fault",
    [
        {"name": ""},
        {"name": "   "},
        {"name": "x" * 101},
        {"name": "Ann\r\nBcc: everybody@example.org"},
        {"name": "Ann\n"},
        {"name": "Ann\x00"},
        {"name": "Ann\x85Bcc: x"},
        {"name": "Ann\u2028Bcc: x"},
        {"name": "\ud800"},
        {"name": 7},
        {"name": None},
        {"time_zone": "Europe/Nowhere"},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": ""},
        {"email": "ann"},
        {"email": "ann@tower.test"},
        {"email": "ann@example.org\nBcc: x@example.org"},
        {"email": None},
        {"e_mail": "ann@example.org"},
    ],
    ids=repr,
)
def test_what_is_wrong_is_refused(client: FlaskClient, service: Service, fault: dict[str, object]) -> None:
    """422, and nothing is registered; a line break in a name or an address would be a mail header of its own."""
    assert status_of(client.post("/users", json=ANN | fault)) == 422
    assert service.events() == []


def test_test_addresses_register_where_the_setting_allows_it(service: Service) -> None:
    """As the demo needs it."""
    client = client_of(service.accounts, allow_test_addresses=True)
    assert client.post("/users", json=ANN | {"email": "ann@tower.test"}).status_code == 201


def test_a_taken_address_is_a_conflict(client: FlaskClient) -> None:
    """409, in whatever case it is written."""
    client.post("/users", json=ANN)
    assert status_of(client.post("/users", json=ANN | {"email": "ANN@EXAMPLE.ORG", "name": "Other"})) == 409


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_others_accounts_and_those_of_nobody_are_answered_alike(client: FlaskClient, method: str) -> None:
    """403 to the letter, so that nobody learns who has an account."""
    token = client.post("/users", json=ANN).json["token"]  # type: ignore[index]
    client.post("/users", json=ANN | {"email": "bob@example.org"})
    others = client.open("/users/bob@example.org", method=method, headers=bearer(token))
    nobodys = client.open("/users/nobody@example.org", method=method, headers=bearer(token))
    assert status_of(others) == 403
    assert (others.status_code, others.data) == (nobodys.status_code, nobodys.data)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_without_a_token_that_we_gave_nothing_is_answered(client: FlaskClient, method: str) -> None:
    """401 with a challenge, whether the account exists or not."""
    client.post("/users", json=ANN)
    for email in ("ann@example.org", "nobody@example.org"):
        for headers in ({}, bearer("guessed"), {"Authorization": "Basic YTpi"}, bearer("gu\xe9ss")):
            response = client.open(f"/users/{email}", method=method, headers=headers)
            assert status_of(response) == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_deleting_is_safe_to_repeat(client: FlaskClient) -> None:
    """204; then the user's token is gone with the account, and the operator finds none."""
    token = client.post("/users", json=ANN).json["token"]  # type: ignore[index]
    deleted = client.delete("/users/ann@example.org", headers=bearer(token))
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert status_of(client.delete("/users/ann@example.org", headers=bearer(token))) == 401
    assert status_of(client.delete("/users/ann@example.org", headers=bearer(OPERATOR_TOKEN))) == 404


def test_a_deletion_waits_for_the_collector(client: FlaskClient, service: Service) -> None:
    """503 that says when to come back, and nothing was touched."""
    token = client.post("/users", json=ANN).json["token"]  # type: ignore[index]
    service.interests.failure = CollectorAwayError("The collector is away.")
    response = client.delete("/users/ann@example.org", headers=bearer(token))
    assert status_of(response) == 503
    assert int(response.headers["Retry-After"]) > 0
    assert client.get("/users/ann@example.org", headers=bearer(token)).status_code == 200


def test_a_collector_that_refuses_is_no_matter_of_waiting(client: FlaskClient, service: Service) -> None:
    """502 without a time to come back: it needs the operator."""
    client.post("/users", json=ANN)
    service.interests.failure = CollectorRefusedError("The collector refuses.")
    response = client.delete("/users/ann@example.org", headers=bearer(OPERATOR_TOKEN))
    assert status_of(response) == 502
    assert "Retry-After" not in response.headers


@pytest.mark.parametrize("email", ["ann/smith@example.org", "ann+towers@example.org", "ann%smith@example.org"])
def test_every_legal_address_fits_into_a_path(client: FlaskClient, email: str) -> None:
    """Quoted as RFC 3986 has it."""
    client.post("/users", json=ANN | {"email": email})
    response = client.get(f"/users/{quote(email, safe='')}", headers=bearer(OPERATOR_TOKEN))
    assert response.json is not None
    assert response.json["user"]["email"] == email


def test_a_database_that_is_away_is_a_503(service: Service) -> None:
    """Not a 500, and without its text."""
    away = Accounts(
        Database("sqlite:////nowhere/at/all.db"), service.interests, service.links, service.clock, OPERATOR_TOKEN
    )
    response = client_of(away).post("/users", json=ANN)
    assert status_of(response) == 503
    assert "Retry-After" in response.headers
    assert "sqlite" not in response.text


def test_no_metric_tells_an_address(client: FlaskClient) -> None:
    """Labels are route templates."""
    client.post("/users", json=ANN)
    client.get("/users/ann@example.org", headers=bearer(OPERATOR_TOKEN))
    exposition = client.get("/metrics").text
    assert 'endpoint="/users/<path:email>"' in exposition
    assert "ann" not in exposition
