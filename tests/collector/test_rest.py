"""Interests over HTTP: what is parsed, which answers there are, and what they do not tell."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

import grpc
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.database import Database
from chassis.http import create_app
from chassis.metrics import Identity, Metrics
from collector.collection_requests import CollectionRequests
from collector.interests import Interests
from collector.model import CoverageRow
from collector.rest import PROBLEMS, blueprint
from collector.users import Users
from domain.interests import MOST_WINDOWS
from tests.collector.conftest import NOWHERE, OPERATOR_TOKEN, Service, outbox
from tests.fakes.authority import FakeAuthority
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED, INTERESTS_CHANGED

ANN = {"Authorization": "Bearer anns"}
BOB = {"Authorization": "Bearer bobs"}
UNCONFIRMED = {"Authorization": "Bearer unconfirmed"}
OPERATOR = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
WISH = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}


@pytest.fixture
def authority() -> Iterator[FakeAuthority]:
    with FakeAuthority().running() as running:
        running.users = {"anns": (UUID(int=1), True), "bobs": (UUID(int=2), True), "unconfirmed": (UUID(int=3), False)}
        yield running


def client_of(interests: Interests, requests: CollectionRequests, users: Users) -> FlaskClient:
    app = create_app("collector", Metrics(Identity("collector", "local")), PROBLEMS, ready=lambda: True)
    app.register_blueprint(blueprint(interests, requests, users, OPERATOR_TOKEN))
    return app.test_client()


@pytest.fixture
def users(authority: FakeAuthority) -> Iterator[Users]:
    made = Users(authority.target, cache_s=0)
    yield made
    made.close()


@pytest.fixture
def client(service: Service, users: Users) -> FlaskClient:
    return client_of(service.interests, service.requests, users)


def status_of(response: TestResponse) -> int:
    """The status of a problem (RFC 9457), which its body repeats."""
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert response.json["status"] == response.status_code
    return response.status_code


def json_of(response: TestResponse) -> dict[str, object]:
    assert response.status_code < 300, response.text
    assert response.json is not None
    return dict(response.json)


def test_an_interest_is_made_then_changed(client: FlaskClient) -> None:
    """201 with where it is, then 200; what is asked for again is the same version."""
    made = client.post("/interests", json=WISH, headers=ANN)
    assert made.status_code == 201
    shown = json_of(made)
    assert shown == {
        "interest_id": shown["interest_id"], **WISH, "low_value": None, "for_windows": 1, "repeat": False,
        "effective_from": "2013-02-12T00:00:00Z", "version": 1,
    }  # fmt: skip
    assert made.headers["Location"] == f"/interests/{shown['interest_id']}"
    assert json_of(client.get(made.headers["Location"], headers=ANN)) == shown
    again = client.post("/interests", json=WISH, headers=ANN)
    assert (again.status_code, again.json) == (200, shown)
    changed = client.post("/interests", json=WISH | {"high_value": None, "low_value": 2}, headers=ANN)
    assert (changed.status_code, json_of(changed)["version"]) == (200, 2)
    assert changed.headers["Location"] == made.headers["Location"]


def test_everything_may_be_said(client: FlaskClient) -> None:
    """In any case and with blanks around the airport; instants in any zone."""
    said = {
        "airport_icao": " licc ", "direction": "both", "window": "1d", "high_value": 1, "low_value": 0,
        "for_windows": MOST_WINDOWS, "repeat": True, "effective_from": "2013-02-10T02:00:00+02:00",
    }  # fmt: skip
    shown = json_of(client.post("/interests", json=said, headers=ANN))
    assert {name: shown[name] for name in said} == said | {
        "airport_icao": "LICC",
        "effective_from": "2013-02-10T00:00:00Z",
    }


NO_COUNTS = (True, False, "5", 5.0, 5.5, -1, [], {}, 10**30)


@pytest.mark.parametrize(
    "fault",
    [
        *({name: value} for name in ("high_value", "low_value", "for_windows") for value in NO_COUNTS),
        {"for_windows": 0},
        {"for_windows": MOST_WINDOWS + 1},
        {"for_windows": None},
        {"high_value": None},
        {"low_value": 30},
        {"high_value": 3, "low_value": 4},
        {"repeat": "yes"},
        {"repeat": 1},
        {"repeat": None},
        {"airport_icao": "XXXX"},
        {"airport_icao": "JFK"},
        {"airport_icao": "'; DROP TABLE interests; --"},
        {"airport_icao": "ßßß"},
        {"airport_icao": "\ud800KJF"},
        {"airport_icao": 7},
        {"airport_icao": None},
        {"direction": "up"},
        {"direction": 1},
        {"window": "2h"},
        {"window": None},
        {"effective_from": "yesterday"},
        {"effective_from": "2013-02-12T00:00:00"},
        {"effective_from": "2013-02-12"},
        {"effective_from": 1360627200},
        {"effective_from": "1360627200"},
        {"effective_from": True},
        {"effective_from": "0001-01-01T00:00:00+14:00"},
        {"effective_from": "9999-12-31T23:59:59-12:00"},
        {"effective_from": "2012-01-01T00:00:00Z"},
        {"effective_from": "2015-01-01T00:00:00Z"},
        {"user_id": str(UUID(int=2))},
        {"version": 7},
        {"high": 3},
    ],
    ids=repr,
)
def test_what_is_wrong_is_refused(client: FlaskClient, service: Service, fault: dict[str, object]) -> None:
    """422, and nothing is set."""
    assert status_of(client.post("/interests", json=WISH | fault, headers=ANN)) == 422
    assert outbox(service.database, INTERESTS_CHANGED.name) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'"KJFK"', b"\xff", b"[" * 50_000, b'{"high_value": ' + b"9" * 5000 + b"}"]
)
def test_garbage_is_a_bad_request(client: FlaskClient, body: bytes) -> None:
    """400; what is not even called JSON is 415."""
    headers = {**ANN, "Content-Type": "application/json"}
    assert status_of(client.post("/interests", data=body, headers=headers)) == 400
    assert status_of(client.post("/interests", data=body, headers=ANN)) == 415


def test_all_faults_are_said_at_once(client: FlaskClient) -> None:
    """By field."""
    response = client.post("/interests", json={"high_value": True, "colour": "red"}, headers=ANN)
    assert status_of(response) == 422
    assert response.json is not None
    assert {fault["field"] for fault in response.json["errors"]} == {
        "airport_icao", "direction", "window", "high_value", "colour"
    }  # fmt: skip


def test_an_address_must_be_confirmed_before_interests_are_set(client: FlaskClient, authority: FakeAuthority) -> None:
    """403, and the moment it is, it works."""
    assert status_of(client.post("/interests", json=WISH, headers=UNCONFIRMED)) == 403
    authority.users["unconfirmed"] = (UUID(int=3), True)
    assert client.post("/interests", json=WISH, headers=UNCONFIRMED).status_code == 201


def test_people_see_and_remove_their_own_interests_only(client: FlaskClient) -> None:
    """Somebody else's is answered as one that does not exist, to the letter."""
    location = client.post("/interests", json=WISH, headers=ANN).headers["Location"]
    anns = json_of(client.get("/interests", headers=ANN))["interests"]
    assert anns == [json_of(client.get(location, headers=ANN))]
    assert json_of(client.get("/interests", headers=BOB)) == {"interests": []}
    for method in ("GET", "DELETE"):
        others = client.open(location, method=method, headers=BOB)
        nobodys = client.open(f"/interests/{uuid4()}", method=method, headers=BOB)
        assert status_of(others) == 404
        assert others.data == nobodys.data
    removed = client.delete(location, headers=ANN)
    assert (removed.status_code, removed.data) == (204, b"")
    assert status_of(client.delete(location, headers=ANN)) == 404
    assert json_of(client.get("/interests", headers=ANN)) == {"interests": []}


@pytest.mark.parametrize("interest_id", ["7", "nonsense", "%00", "../users", "x" * 5000])
def test_what_is_no_id_is_not_found(client: FlaskClient, interest_id: str) -> None:
    """404 as a problem, before anybody is asked."""
    for method in ("GET", "DELETE"):
        assert status_of(client.open(f"/interests/{interest_id}", method=method, headers=ANN)) == 404


ROUTES = [
    ("POST", "/interests"),
    ("GET", "/interests"),
    ("GET", f"/interests/{UUID(int=9)}"),
    ("DELETE", f"/interests/{UUID(int=9)}"),
    ("GET", "/flights/KJFK/coverage"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_valid_token_nothing_is_answered(client: FlaskClient, method: str, path: str) -> None:
    """401 with a challenge; the operator is no user."""
    bad: list[Mapping[str, str]] = [
        {}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer gu\xe9ss"},
        OPERATOR,
    ]  # fmt: skip
    for headers in bad:
        response = client.open(path, method=method, headers=headers, json=WISH)
        assert status_of(response) == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_user_manager_that_is_away_is_a_503(
    client: FlaskClient, authority: FakeAuthority, method: str, path: str
) -> None:
    """With a time to come back: the token may well be valid."""
    authority.answer = grpc.StatusCode.INTERNAL
    response = client.open(path, method=method, headers=ANN, json=WISH)
    assert status_of(response) == 503
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("method", "path"), [*ROUTES, ("POST", "/collect/manual")])
def test_a_database_that_is_away_is_a_503(service: Service, users: Users, method: str, path: str) -> None:
    """Not a 500, and without its text."""
    away = Database(NOWHERE)
    client = client_of(Interests(away, service.clock), CollectionRequests(away), users)
    manual = path == "/collect/manual"
    response = client.open(path, method=method, headers=OPERATOR if manual else ANN, json={} if manual else WISH)
    assert status_of(response) == 503
    assert "Retry-After" in response.headers
    assert "sqlite" not in response.text
    assert "SELECT" not in response.text


def test_coverage_is_shown_by_direction(client: FlaskClient, service: Service) -> None:
    """To whoever has an interest in the airport; nothing was covered at first."""
    assert status_of(client.get("/flights/KJFK/coverage", headers=ANN)) == 404
    client.post("/interests", json=WISH, headers=ANN)
    assert json_of(client.get("/flights/kjfk/coverage", headers=ANN)) == {}
    begin, end = datetime(2013, 2, 12, tzinfo=UTC), datetime(2013, 2, 13, 11, 30, tzinfo=UTC)
    with service.database.transaction() as session:
        session.add(CoverageRow(airport="KJFK", direction="departures", covered_from=begin, covered_until=end))
    assert json_of(client.get("/flights/KJFK/coverage", headers=ANN)) == {
        "departures": {"covered_from": "2013-02-12T00:00:00Z", "covered_until": "2013-02-13T11:30:00Z"}
    }


@pytest.mark.parametrize(
    ("body", "airport"), [({}, ""), (None, ""), ({"airport_icao": None}, ""), ({"airport_icao": "licc"}, "LICC")]
)
def test_the_operator_asks_for_a_collection(
    client: FlaskClient, service: Service, body: dict[str, object] | None, airport: str
) -> None:
    """202: the wish is on its way to whoever collects; of all airports unless one is named."""
    response = client.post("/collect/manual", headers=OPERATOR, **({} if body is None else {"json": body}))  # type: ignore[arg-type]
    assert response.status_code == 202
    assert response.json == {"status": "requested", "airport_icao": airport or None}
    (message,) = outbox(service.database, COLLECTIONS_REQUESTED.name)
    assert CollectionRequested.FromString(message.value or b"").airport == airport


def test_nobody_else_asks_for_a_collection(client: FlaskClient, service: Service) -> None:
    """403 for people, 401 without a token."""
    assert status_of(client.post("/collect/manual", json={}, headers=ANN)) == 403
    assert status_of(client.post("/collect/manual", json={}, headers={"Authorization": "Bearer gu\xe9ss"})) == 403
    assert status_of(client.post("/collect/manual", json={})) == 401
    for body in ({"airport_icao": "XXXX"}, {"airport_icao": ""}, {"airport_icao": 7}, {"all": True}):
        assert status_of(client.post("/collect/manual", json=body, headers=OPERATOR)) == 422
    assert outbox(service.database, COLLECTIONS_REQUESTED.name) == []


def test_requests_are_counted_by_route(client: FlaskClient) -> None:
    """Labels are route templates: no id and no airport."""
    location = client.post("/interests", json=WISH, headers=ANN).headers["Location"]
    client.get(location, headers=ANN)
    exposition = client.get("/metrics").text
    assert "http_requests_total{" in exposition
    assert 'endpoint="/interests/{interest_id}"' in exposition
    assert location not in exposition
