"""The collector accepts the cookie of a session beside a bearer token, in requests of pages of the own origin only."""

from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from collector.rest.users import Authenticator
from tests.collector.conftest import ANN, BOB, CARL, COOKIE, ON_SQLITE, Service, app_of
from tests.fakes.authority import FakeAuthority
from tests.openapi.conformance import list_described_operations

pytestmark = ON_SQLITE

ANNS, BOBS, CARLS = "a" * 43, "b" * 43, "c" * 43
SAME = {"Sec-Fetch-Site": "same-origin"}
OWN = {"Origin": "https://towerwatch.example"}
FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "https://towerwatch.example"},
    {"Origin": "https://sub.towerwatch.example"},
    {"Origin": "null"},
)
WISH = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 5}


@pytest.fixture
def client(service: Service, users: Authenticator, authority: FakeAuthority) -> FlaskClient:
    """A browser that keeps no cookie by itself; user_manager knows three sessions, one of an unconfirmed user."""
    authority.sessions = {ANNS: (ANN, True), BOBS: (BOB, True), CARLS: (CARL, False)}
    return app_of(service.database, service.clock, users).test_client(use_cookies=False)


def cookie(secret: str) -> dict[str, str]:
    """Return the header with the cookie of a session's secret."""
    return {"Cookie": f"{COOKIE.name}={secret}"}


def assert_problem(response: TestResponse, status: int, says: str) -> None:
    """Assert that a response has problem details with this status, whose sentence says what to do."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    assert response.json is not None
    assert says in response.json["detail"]


def list_routes(client: FlaskClient, interest_id: str) -> list[tuple[str, str]]:
    """Return the method and path of each route for people, so that a new one is attacked, too."""
    found = list_described_operations(client.application)
    routes = [
        (method.upper(), path.format(icao="KJFK", interest_id=interest_id))
        for (path, method), each in found.items()
        if each.get("security") == [{"bearer": []}]
    ]
    assert len(routes) >= 10
    return routes


def set_anns(client: FlaskClient) -> str:
    """Set Ann's interest by her session; return its id."""
    response = client.post("/interests", json=WISH, headers=cookie(ANNS) | SAME)
    assert response.status_code == 201, response.text
    return response.headers["Location"].rpartition("/")[2]


def test_a_session_opens_what_a_token_opens(client: FlaskClient) -> None:
    """Set, list and change one's own interests; by either header of the own origin."""
    interest_id = set_anns(client)
    for own in (SAME, OWN, {"Origin": "http://localhost"}):
        listed = client.get("/interests", headers=cookie(ANNS) | own).json
        assert listed is not None
        assert [each["interest_id"] for each in listed["interests"]] == [interest_id]
        path = f"/interests/{interest_id}"
        changed = client.patch(path, json={"high_value": 9}, headers=cookie(ANNS) | own | {"If-Match": "*"})
        assert changed.status_code == 200
    assert_problem(client.post("/interests", json=WISH, headers=cookie(CARLS) | SAME), 403, "onfirm")


def test_a_session_opens_nobody_elses_interests(client: FlaskClient) -> None:
    """Another user's id is as unknown as any."""
    interest_id = set_anns(client)
    for unknown in (interest_id, str(uuid4())):
        for method, path in list_routes(client, unknown):
            if unknown in path:
                headers = cookie(BOBS) | SAME | {"If-Match": "*"}
                assert client.open(path, method=method, json={"high_value": 7}, headers=headers).status_code == 404
    removed = client.delete("/interests?airport_icao=KJFK", headers=cookie(BOBS) | SAME)
    assert removed.status_code == 204
    assert client.get(f"/interests/{interest_id}", headers=cookie(ANNS) | SAME).status_code == 200


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_another_origin_uses_no_cookie(
    client: FlaskClient, authority: FakeAuthority, headers: dict[str, str]
) -> None:
    """On every route, reading or writing; user_manager is not even asked."""
    interest_id = set_anns(client)
    asked = authority.asked
    for method, path in list_routes(client, interest_id):
        sent = cookie(ANNS) | headers | {"If-Match": "*"}
        assert_problem(client.open(path, method=method, json=WISH, headers=sent), 403, "a page of another origin")
    assert authority.asked == asked
    assert client.get(f"/interests/{interest_id}", headers=cookie(ANNS) | SAME).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}], ids=str)
def test_a_change_says_where_it_comes_from(client: FlaskClient, headers: dict[str, str]) -> None:
    """A request that says nothing of its page may read only."""
    interest_id = set_anns(client)
    for method, path in list_routes(client, interest_id):
        response = client.open(path, method=method, json=WISH, headers=cookie(ANNS) | headers | {"If-Match": "*"})
        if method == "GET":
            assert response.status_code != 403
        else:
            assert_problem(response, 403, "the session's cookie does not count")


def test_a_bearer_token_goes_before_a_cookie(client: FlaskClient) -> None:
    """Also a wrong one; and what only the operator may, no session may."""
    interest_id = set_anns(client)
    path = f"/interests/{interest_id}"
    for token, status in (("anns", 200), ("bobs", 404), ("nonsense", 401), (ANNS, 401)):
        headers = cookie(ANNS) | SAME | {"Authorization": f"Bearer {token}"}
        assert client.get(path, headers=headers).status_code == status
    assert_problem(client.get(path, headers=cookie("anns" * 6) | SAME), 401, "You are signed out")
    assert_problem(client.get("/scheduler/status", headers=cookie(ANNS) | SAME), 401, "Send your token")
