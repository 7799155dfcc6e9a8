"""Interests over HTTP: parsing, status codes, and what answers must not reveal."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import grpc
import pytest
from flask.testing import FlaskClient

from chassis.db.database import Database
from collector.live.live_store import REPORT_FORMAT, name_report, write_state
from collector.live.reports import FeedReport, encode_report
from collector.rest.users import Authenticator
from collector.settled.quota import Bucket, QuotaStore
from domain.interests import HIGHEST_THRESHOLD, MAX_FOR_WINDOWS, Direction
from tests.chassis.web.test_preconditions import MALFORMED, NOT_PRESENT, PRESENT
from tests.collector.conftest import (
    ANNS,
    BOBS,
    BUDGET,
    CARL,
    NOON,
    NOWHERE,
    ON_SQLITE,
    OPERATOR,
    UNCONFIRMED,
    Service,
    app_of,
    json_of,
    outbox,
    prove_days,
    status_of,
)
from tests.fakes.authority import FakeAuthority
from towerwatch.collection.v1.events_pb2 import CollectionRequested
from towerwatch.topics import COLLECTIONS_REQUESTED, INTERESTS_CHANGED

pytestmark = ON_SQLITE

WISH = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}
ROUTES = [
    ("POST", "/interests"),
    ("GET", "/interests"),
    ("GET", f"/interests/{UUID(int=9)}"),
    ("PATCH", f"/interests/{UUID(int=9)}"),
    ("DELETE", f"/interests/{UUID(int=9)}"),
    ("DELETE", "/interests?airport_icao=KJFK"),
    ("POST", "/interests/preview"),
    ("GET", "/flights/KJFK"),
    ("GET", "/flights/KJFK/latest"),
    ("GET", "/flights/KJFK/average"),
    ("GET", "/flights/KJFK/usual"),
    ("GET", "/flights/KJFK/stats/airlines"),
    ("GET", "/flights/KJFK/coverage"),
]
OPERATORS = [("POST", "/collect/manual"), ("GET", "/scheduler/status")]
OPEN_TO_UNCONFIRMED = {("GET", "/interests"), ("GET", f"/interests/{UUID(int=9)}")}
READS = [route for route in ROUTES if route[0] == "GET" or route[1].endswith("preview")]
WRITES = [route for route in ROUTES if route not in READS]


def without_notice(shown: dict[str, object]) -> dict[str, object]:
    """Return an interest that was just set as it is shown later: without the notice about its airport."""
    return {name: value for name, value in shown.items() if name != "notice"}


def test_an_interest_is_created_then_changed(client: FlaskClient) -> None:
    """Creation is a 201 with a Location, a change is a 200; an equal request changes no version."""
    made = client.post("/interests", json=WISH, headers=ANNS)
    assert made.status_code == 201
    shown = json_of(made)
    assert shown == {
        "interest_id": shown["interest_id"], **WISH, "low_value": None, "high_percent": None, "low_percent": None,
        "learning": None, "learning_until": None,
        "aligned_to": "utc",
        "for_windows": 1, "repeat": False,
        "effective_from": "2013-02-12T00:00:00Z", "version": 1, "notice": None,
    }  # fmt: skip
    assert made.headers["Location"] == f"/interests/{shown['interest_id']}"
    assert made.headers["ETag"] == '"1"'
    assert json_of(client.get(made.headers["Location"], headers=ANNS)) == without_notice(shown)
    again = client.post("/interests", json=WISH, headers=ANNS)
    assert (again.status_code, without_notice(json_of(again))) == (200, without_notice(shown))
    changed = client.post("/interests", json=WISH | {"high_value": None, "low_value": 2}, headers=ANNS)
    assert (changed.status_code, json_of(changed)["version"], changed.headers["ETag"]) == (200, 2, '"2"')
    assert changed.headers["Location"] == made.headers["Location"]


def test_all_members_and_spellings_are_accepted(client: FlaskClient) -> None:
    """All members are accepted; airport codes in any case and with blanks around, instants in any time zone."""
    said = {
        "airport_icao": " licc ", "direction": "both", "window": "1d", "high_value": 2, "low_value": 1,
        "for_windows": MAX_FOR_WINDOWS, "repeat": True, "effective_from": "2013-02-10T02:00:00+02:00",
    }  # fmt: skip
    shown = json_of(client.post("/interests", json=said, headers=ANNS))
    assert {name: shown[name] for name in said} == said | {
        "airport_icao": "LICC",
        "effective_from": "2013-02-10T00:00:00Z",
    }


def test_windows_may_be_aligned_to_the_airports_clock(client: FlaskClient) -> None:
    """Such an interest is another one than that of the same windows by UTC, and its preview has the airport's days."""
    body = WISH | {"window": "1d"}
    by_utc = json_of(client.post("/interests", json=body, headers=ANNS))
    local = client.post("/interests", json=body | {"aligned_to": "airport"}, headers=ANNS)
    assert (local.status_code, json_of(local)["aligned_to"]) == (201, "airport")
    assert by_utc["interest_id"] != json_of(local)["interest_id"]
    assert json_of(client.get(local.headers["Location"], headers=ANNS)) == without_notice(json_of(local))
    changed = client.post("/interests", json=body | {"aligned_to": "airport", "high_value": 31}, headers=ANNS)
    assert (changed.status_code, json_of(changed)["version"]) == (200, 2)
    percent = client.patch(local.headers["Location"], json={"low_percent": 50}, headers={**ANNS, "If-Match": "*"})
    assert (percent.status_code, json_of(percent)["low_percent"]) == (200, 50)
    assert json_of(percent)["learning_until"] is not None
    shown = client.get("/interests", headers=ANNS).json
    assert shown is not None
    assert sorted(each["aligned_to"] for each in shown["interests"]) == ["airport", "utc"]
    assert client.post("/interests/preview", json=body | {"aligned_to": "airport"}, headers=ANNS).status_code == 200


def test_a_threshold_may_be_a_percent_of_what_is_usual(client: FlaskClient) -> None:
    """For each bound flights or a percent; a percent takes the place of the flights when it is changed."""
    body = WISH | {"low_percent": 50}
    made = client.post("/interests", json=body, headers=ANNS)
    names = ("high_value", "low_value", "high_percent", "low_percent")
    assert [json_of(made)[name] for name in names] == [30, None, None, 50]
    changed = client.patch(made.headers["Location"], json={"high_percent": 150}, headers={**ANNS, "If-Match": "*"})
    assert [json_of(changed)[name] for name in names] == [None, None, 150, 50]
    assert client.post("/interests/preview", json=body, headers=ANNS).status_code == 200


MEMBERS = ("high_value", "low_value", "high_percent", "low_percent")
NO_COUNTS = (True, False, "5", "5.0", 5.5, -0.0, -1, [], {}, HIGHEST_THRESHOLD + 1, 2**32, 1e30, 10**30)


@pytest.mark.parametrize(
    "fault",
    [
        *({name: value} for name in (*MEMBERS, "for_windows") for value in NO_COUNTS),
        {"for_windows": 0},
        {"for_windows": MAX_FOR_WINDOWS + 1},
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
@pytest.mark.parametrize("path", ["/interests", "/interests/preview"])
def test_an_invalid_interest_is_rejected(
    client: FlaskClient, service: Service, path: str, fault: dict[str, object]
) -> None:
    """An invalid interest is a 422, and nothing is stored."""
    assert status_of(client.post(path, json=WISH | fault, headers=ANNS)) == 422
    assert outbox(service.database, INTERESTS_CHANGED.name) == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"KJFK"', b"\xff", b"[" * 50_000, b'{"high_value": NaN}'])
def test_a_body_that_is_no_json_is_rejected(client: FlaskClient, body: bytes) -> None:
    """Malformed JSON is a 400; another content type is a 415."""
    headers = {**ANNS, "Content-Type": "application/json"}
    assert status_of(client.post("/interests", data=body, headers=headers)) == 400
    assert status_of(client.post("/interests", data=body, headers=ANNS)) == 415


@pytest.mark.parametrize("spelled", ["20", "20.0", "2e1", "2E+1", "200e-1", "20.000", "0.2e2"])
def test_an_integer_may_be_spelled_as_json_allows(client: FlaskClient, spelled: str) -> None:
    """The document says integer, which 20.0 and 2e1 are; the answer says 20, in bodies of every route with integers."""
    headers = {**ANNS, "Content-Type": "application/json"}
    body = f'{{"airport_icao": "KJFK", "direction": "both", "window": "1h", "high_value": {spelled}, "low_value": 2.0, '
    body += '"for_windows": 2e0}'
    assert client.post("/interests/preview", data=body, headers=headers).status_code == 200
    made = client.post("/interests", data=body, headers=headers)
    shown = json_of(made)
    assert [repr(shown[name]) for name in ("high_value", "low_value", "for_windows")] == ["20", "2", "2"]
    change = f'{{"high_value": null, "low_value": {spelled}, "for_windows": 3.0}}'
    changed = client.patch(made.headers["Location"], data=change, headers={**headers, "If-Match": "*"})
    assert [json_of(changed)[name] for name in ("high_value", "low_value", "for_windows")] == [None, 20, 3]


@pytest.mark.parametrize("spelled", ["1e400", "-1e400", "1e999999999", "9" * 5000, "1e-400", "-0.0", "-0e1"])
@pytest.mark.parametrize("name", [*MEMBERS, "for_windows"])
def test_a_number_out_of_all_range_is_refused(client: FlaskClient, name: str, spelled: str) -> None:
    """The answer is a 422 that names the member, not a claim that the body is no JSON."""
    body = f'{{"airport_icao": "KJFK", "direction": "both", "window": "1h", "{name}": {spelled}}}'
    response = client.post("/interests", data=body, headers={**ANNS, "Content-Type": "application/json"})
    assert status_of(response) == 422
    assert response.json is not None
    assert name in [fault["field"] for fault in response.json["errors"]]


def test_all_errors_of_a_body_are_reported_at_once(client: FlaskClient) -> None:
    """One answer lists every invalid field."""
    response = client.post("/interests", json={"high_value": True, "colour": "red"}, headers=ANNS)
    assert status_of(response) == 422
    assert response.json is not None
    assert {fault["field"] for fault in response.json["errors"]} == {
        "airport_icao", "direction", "window", "high_value", "colour"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "meant"), [("JFK", "KJFK (New York)"), ("licx", "LICC (Catania)"), ("XXXXXXXXXXXX", "codes look like")]
)
def test_an_unknown_airport_code_is_answered_with_suggestions(client: FlaskClient, given: str, meant: str) -> None:
    """The answer suggests the airports that may be meant, in bodies, queries and paths."""
    body = {"json": WISH | {"airport_icao": given}}
    for method, path, headers, more in (
        ("POST", "/interests", ANNS, body),
        ("POST", "/interests/preview", ANNS, body),
        ("DELETE", f"/interests?airport_icao={given}", ANNS, {}),
        ("GET", f"/flights/{given}", ANNS, {}),
        ("GET", f"/flights/{given}/latest", ANNS, {}),
        ("GET", f"/flights/{given}/average", ANNS, {}),
        ("GET", f"/flights/{given}/stats/airlines", ANNS, {}),
        ("GET", f"/flights/{given}/coverage", ANNS, {}),
        ("POST", "/collect/manual", OPERATOR, {"json": {"airport_icao": given}}),
    ):
        response = client.open(path, method=method, headers=headers, **more)  # type: ignore[arg-type]
        assert status_of(response) == 422, path
        assert response.json is not None
        assert meant in response.json["detail"], path


def test_an_interest_is_changed_in_part(client: FlaskClient) -> None:
    """Members that are left out stay, and null removes a threshold."""
    location = client.post("/interests", json=WISH | {"low_value": 2}, headers=ANNS).headers["Location"]
    changed = client.patch(location, json={"high_value": None}, headers={**ANNS, "If-Match": '"1"'})
    shown = json_of(changed)
    assert (shown["high_value"], shown["low_value"], shown["version"]) == (None, 2, 2)
    assert changed.headers["ETag"] == '"2"'
    said = {
        "high_value": 9, "low_value": None, "for_windows": 2, "repeat": True, "effective_from": "2013-02-10T00:00:00Z"
    }  # fmt: skip
    shown = json_of(client.patch(location, json=said, headers={**ANNS, "If-Match": "*"}))
    assert shown == json_of(client.get(location, headers=ANNS))
    assert {name: shown[name] for name in said} == said
    assert shown["version"] == 3


def test_setting_an_interest_again_is_answered_with_that_it_was_there(client: FlaskClient) -> None:
    """Who wants two thresholds of one kind learns that the second took the place of the first."""
    assert json_of(client.post("/interests", json=WISH, headers=ANNS))["notice"] is None
    again = client.post("/interests", json=WISH | {"high_value": 32}, headers=ANNS)
    assert again.status_code == 200
    assert str(json_of(again)["notice"]).startswith("You had an interest in this airport, direction, window and clock")


def test_a_change_is_answered_with_when_it_takes_effect(client: FlaskClient) -> None:
    """A new interest is judged from yesterday on, a changed one from now on: an alert that was to come may not come."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    any_version = {**ANNS, "If-Match": "*"}
    shown = json_of(client.patch(location, json={"high_value": 31}, headers=any_version))
    assert str(shown["notice"]).startswith("Windows that start before 13 Feb 12:00 UTC are not judged any more")
    assert "notice" not in json_of(client.get(location, headers=ANNS))
    since = {"high_value": 32, "effective_from": "2013-02-12T00:00:00Z"}
    assert "notice" not in json_of(client.patch(location, json=since, headers=any_version))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_address_without_parameters_says_so_of_unknown_ones(client: FlaskClient, method: str) -> None:
    """A filter that does not exist filters nothing: the answer would be taken for another one."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    refused = client.open(f"{location}?colour=red", method=method, headers=ANNS)
    assert status_of(refused) == 422
    assert refused.json is not None
    assert refused.json["errors"] == [
        {"field": "colour", "message": "is not known here: this address has no parameters"}
    ]
    assert json_of(client.get(location, headers=ANNS))["version"] == 1


@pytest.mark.parametrize(
    ("set_as", "change", "told"),
    [
        ({"low_percent": 50}, {"low_value": 5}, "Low is 5 flights now, in place of 50 percent of what is usual."),
        ({"low_value": 5}, {"low_percent": 50}, "Low is 50 percent of what is usual now, in place of 5 flights."),
        (
            {"high_percent": 200},
            {"high_value": 30},
            "High is 30 flights now, in place of 200 percent of what is usual.",
        ),
        ({"low_percent": 50}, {"low_percent": 40}, None),
        ({"low_percent": 50, "high_value": 9}, {"low_percent": None}, None),
        ({"low_value": 1}, {"low_value": 2}, None),
    ],
)
def test_a_change_of_the_measure_is_told(
    client: FlaskClient, set_as: dict[str, int], change: dict[str, int], told: str | None
) -> None:
    """Flights take the place of the percent of their bound, and the other way round: the answer says so."""
    wish = {name: value for name, value in WISH.items() if name != "high_value"} | set_as
    location = client.post("/interests", json=wish, headers=ANNS).headers["Location"]
    any_version = {**ANNS, "If-Match": "*"}
    now = "2013-02-12T00:00:00Z"
    shown = json_of(client.patch(location, json=change | {"effective_from": now}, headers=any_version))
    assert shown.get("notice") == told


def test_a_change_requires_the_present_version(client: FlaskClient) -> None:
    """A change without If-Match is a 428, of another version a 412, with an invalid ETag a 400; nothing is changed."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    change = {"high_value": 31}
    assert status_of(client.patch(location, json=change, headers=ANNS)) == 428
    for tag in NOT_PRESENT:
        response = client.patch(location, json=change, headers={**ANNS, "If-Match": tag})
        assert status_of(response) == 412
        assert response.json is not None
        assert "has changed" not in response.json["detail"]
    for tag in MALFORMED:
        assert status_of(client.patch(location, json=change, headers={**ANNS, "If-Match": tag})) == 400
    assert json_of(client.get(location, headers=ANNS))["version"] == 1
    several = {**ANNS, "If-Match": '"7", "1"'}
    assert json_of(client.patch(location, json=change, headers=several))["version"] == 2
    outdated = client.patch(location, json={"high_value": 32}, headers={**ANNS, "If-Match": 'W/"1"'})
    assert status_of(outdated) == 412
    assert outdated.json is not None
    assert outdated.json["detail"] == "The interest has changed since; read it again."


@pytest.mark.parametrize("tags", PRESENT)
def test_a_tag_that_a_proxy_has_changed_is_still_the_present_one(client: FlaskClient, tags: str) -> None:
    """A proxy that compresses answers must not make every change fail."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    changed = client.patch(location, json={"high_value": 31}, headers={**ANNS, "If-Match": tags})
    assert json_of(changed)["version"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"high_value": None},
        {"low_value": 30},
        *({name: value} for name in ("high_value", "low_value", "for_windows") for value in NO_COUNTS),
        {"for_windows": None},
        {"repeat": None},
        {"repeat": 1},
        {"effective_from": None},
        {"effective_from": "2012-01-01T00:00:00Z"},
        {"airport_icao": "KJFK", "high_value": 31},
        {"direction": "both"},
        {"window": "1d"},
        {"version": 7},
        {"user_id": str(UUID(int=2))},
    ],
    ids=repr,
)
def test_an_invalid_change_is_rejected(client: FlaskClient, change: dict[str, object]) -> None:
    """An invalid change is a 422, and the interest stays as it is."""
    made = client.post("/interests", json=WISH, headers=ANNS)
    location = made.headers["Location"]
    assert status_of(client.patch(location, json=change, headers={**ANNS, "If-Match": "*"})) == 422
    assert json_of(client.get(location, headers=ANNS)) == without_notice(json_of(made))


def test_all_interests_in_an_airport_are_removed(client: FlaskClient) -> None:
    """The answer is 204 whatever their number; exactly one airport must be named."""
    for airport, direction in (("KJFK", "both"), ("KJFK", "arrivals"), ("LICC", "both")):
        client.post("/interests", json=WISH | {"airport_icao": airport, "direction": direction}, headers=ANNS)
    client.post("/interests", json=WISH, headers=BOBS)
    for query in ("", "?airport_icao=", "?airport_icao=KJFK&airport_icao=LICC", "?airport=KJFK"):
        assert status_of(client.delete(f"/interests{query}", headers=ANNS)) == 422
    for code in ("kjfk", "KJFK", "EGLL"):
        removed = client.delete(f"/interests?airport_icao={code}", headers=ANNS)
        assert (removed.status_code, removed.data) == (204, b"")
    kept = json_of(client.get("/interests", headers=ANNS))["interests"]
    assert [interest["airport_icao"] for interest in kept] == ["LICC"]  # type: ignore[attr-defined]
    assert json_of(client.get("/interests", headers=BOBS))["interests"] != []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_only_confirmed_people_write_and_see_flights(client: FlaskClient, method: str, path: str) -> None:
    """An unconfirmed user gets a 403, but may list the own interests, which are none."""
    response = client.open(path, method=method, headers=UNCONFIRMED, json=WISH)
    if (method, path) in OPEN_TO_UNCONFIRMED:
        assert response.status_code in (200, 404)
    else:
        assert status_of(response) == 403


def test_reads_continue_while_user_manager_is_unavailable_and_writes_fail(
    service: Service, authority: FakeAuthority
) -> None:
    """Users with a cached reply may read; a write is a 503 with Retry-After, and changes nothing."""
    now = 1000.0
    users = Authenticator(authority.target, cache_s=5, monotonic=lambda: now)
    client = app_of(service.database, service.clock, users).test_client()
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    authority.answer = grpc.StatusCode.UNAVAILABLE
    now += 59
    for method, path in READS:
        shown = client.open(path.replace(f"/interests/{UUID(int=9)}", location), method=method, headers=ANNS, json=WISH)
        assert shown.status_code == 200, path
        assert status_of(client.open(path, method=method, headers=BOBS, json=WISH)) == 503
    for method, path in WRITES:
        refused = client.open(
            path.replace(f"/interests/{UUID(int=9)}", location), method=method, headers=ANNS, json=WISH
        )
        assert status_of(refused) == 503
        assert int(refused.headers["Retry-After"]) > 0
    now += 1
    assert status_of(client.get("/interests", headers=ANNS)) == 503
    assert len(outbox(service.database, INTERESTS_CHANGED.name)) == 1
    users.close()


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *OPERATORS])
def test_no_cache_may_store_an_answer(client: FlaskClient, method: str, path: str) -> None:
    """Every answer, errors included, forbids caches to store it."""
    for headers in (ANNS, {}):
        assert client.open(path, method=method, headers=headers, json=WISH).headers["Cache-Control"] == "no-store"


def test_an_address_must_be_confirmed_before_interests_are_set(client: FlaskClient, authority: FakeAuthority) -> None:
    """Setting an interest is a 403 until the address is confirmed, and succeeds immediately afterwards."""
    assert status_of(client.post("/interests", json=WISH, headers=UNCONFIRMED)) == 403
    authority.users["unconfirmed"] = (CARL, True)
    assert client.post("/interests", json=WISH, headers=UNCONFIRMED).status_code == 201


def test_people_see_and_remove_their_own_interests_only(client: FlaskClient) -> None:
    """Another user's interest is answered exactly like an interest that does not exist."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    anns = json_of(client.get("/interests", headers=ANNS))["interests"]
    assert anns == [json_of(client.get(location, headers=ANNS))]
    assert json_of(client.get("/interests", headers=BOBS)) == {"interests": []}
    for method in ("GET", "DELETE"):
        others = client.open(location, method=method, headers=BOBS)
        nobodys = client.open(f"/interests/{uuid4()}", method=method, headers=BOBS)
        assert status_of(others) == 404
        assert others.data == nobodys.data
    removed = client.delete(location, headers=ANNS)
    assert (removed.status_code, removed.data) == (204, b"")
    assert status_of(client.delete(location, headers=ANNS)) == 404
    assert json_of(client.get("/interests", headers=ANNS)) == {"interests": []}


@pytest.mark.parametrize("interest_id", ["7", "nonsense", "%00", "../users", "x" * 5000])
def test_an_invalid_id_is_not_found(client: FlaskClient, interest_id: str) -> None:
    """An invalid id is a 404 problem, without a call of user_manager."""
    for method in ("GET", "DELETE"):
        assert status_of(client.open(f"/interests/{interest_id}", method=method, headers=ANNS)) == 404


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_request_without_a_valid_token_is_rejected(client: FlaskClient, method: str, path: str) -> None:
    """The answer is a 401 with a challenge, also for the operator's token, which belongs to no user."""
    bad: list[Mapping[str, str]] = [
        {}, {"Authorization": "Bearer guessed"}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer gu\xe9ss"},
        OPERATOR,
    ]  # fmt: skip
    for headers in bad:
        response = client.open(path, method=method, headers=headers, json=WISH)
        assert status_of(response) == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_an_unavailable_user_manager_is_a_503(
    client: FlaskClient, authority: FakeAuthority, method: str, path: str
) -> None:
    """The answer has Retry-After and is no 401, for the token may be valid."""
    authority.answer = grpc.StatusCode.INTERNAL
    response = client.open(path, method=method, headers=ANNS, json=WISH)
    assert status_of(response) == 503
    assert int(response.headers["Retry-After"]) > 0


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *OPERATORS])
def test_an_unavailable_database_is_a_503(service: Service, users: Authenticator, method: str, path: str) -> None:
    """The answer is no 500, and shows no text of the database's error."""
    away = Database(NOWHERE)
    client = app_of(away, service.clock, users).test_client()
    operators = (method, path) in OPERATORS
    response = client.open(path, method=method, headers=OPERATOR if operators else ANNS, json={} if operators else WISH)
    assert status_of(response) == 503
    assert "Retry-After" in response.headers
    assert "sqlite" not in response.text
    assert "SELECT" not in response.text


@pytest.mark.parametrize(
    ("body", "airport"), [({}, ""), (None, ""), ({"airport_icao": None}, ""), ({"airport_icao": "licc"}, "LICC")]
)
def test_the_operator_requests_a_collection(
    client: FlaskClient, service: Service, body: dict[str, object] | None, airport: str
) -> None:
    """The answer is a 202, and the request is in the outbox: for one airport, or for all if none is named."""
    response = client.post("/collect/manual", headers=OPERATOR, **({} if body is None else {"json": body}))  # type: ignore[arg-type]
    assert response.status_code == 202
    assert response.json == {"status": "requested", "airport_icao": airport or None}
    (message,) = outbox(service.database, COLLECTIONS_REQUESTED.name)
    assert CollectionRequested.FromString(message.value or b"").airport == airport


def test_only_the_operator_may_request_a_collection(client: FlaskClient, service: Service) -> None:
    """Users get a 403, requests without a token a 401."""
    assert status_of(client.post("/collect/manual", json={}, headers=ANNS)) == 403
    assert status_of(client.post("/collect/manual", json={}, headers={"Authorization": "Bearer gu\xe9ss"})) == 403
    assert status_of(client.post("/collect/manual", json={})) == 401
    for body in ({"airport_icao": "XXXX"}, {"airport_icao": ""}, {"airport_icao": 7}, {"all": True}):
        assert status_of(client.post("/collect/manual", json=body, headers=OPERATOR)) == 422
    assert outbox(service.database, COLLECTIONS_REQUESTED.name) == []


def test_the_operator_sees_the_scheduler(client: FlaskClient, service: Service) -> None:
    """The status shows the credits, the coverage, the planned calls, and the evidence of the source's records."""
    service.set()
    service.cover(Direction.DEPARTURES, NOON - timedelta(days=2), NOON - timedelta(hours=36))
    prove_days(service.database, datetime(2013, 2, 12, tzinfo=UTC))
    shown = json_of(client.get("/scheduler/status", headers=OPERATOR))
    assert (shown["at"], shown["budget"], shown["spent"], shown["left"]) == ("2013-02-13T12:00:00Z", BUDGET, 0, BUDGET)
    assert shown["deferred_until"] is None
    assert shown["due"] == 1
    assert shown["plan"] == [
        {
            "airport_icao": "KJFK", "direction": "departures", "begin": "2013-02-12T00:00:00Z",
            "end": "2013-02-13T00:00:00Z", "credits": 30, "correction": False,
        }
    ]  # fmt: skip
    assert shown["coverage"] == [
        {
            "airport_icao": "KJFK", "direction": "departures", "interests": 1, "people": 1,
            "waits_for_credits": None, "covered_from": "2013-02-11T12:00:00Z",
            "covered_until": "2013-02-12T00:00:00Z", "goes_on_at": "2013-02-12T00:00:00Z",
            "due_until": "2013-02-13T00:00:00Z", "asked_at": None, "lag_seconds": 36 * 3600.0, "waiting_for": None,
        }
    ]  # fmt: skip
    assert shown["evidence"] == [
        {
            "day": "2013-02-12", "direction": direction, "airport_icao": "EDDF", "flights": 12,
            "there_since": "2013-02-13T03:00:00Z", "whole_since": "2013-02-13T06:00:00Z",
            "asked_at": "2013-02-13T06:00:00Z",
        }
        for direction in ("arrivals", "departures")
    ]  # fmt: skip
    assert (shown["clock_error_seconds"], shown["clock_compared_at"], shown["foreign_answers"]) == (None, None, [])
    idle = {
        "last_poll_at": None, "aircraft": 0, "interval_seconds": 0.0, "live_airports": [], "settled_airports": {},
        "error": None,
    }  # fmt: skip
    assert shown["live"] == {
        "feeds": [{"name": "opensky", **idle}, {"name": "receivers", **idle}], "budget": BUDGET, "left": BUDGET,
    }  # fmt: skip


def test_the_operator_sees_what_is_live(client: FlaskClient, service: Service) -> None:
    """Each feed of this replica with its last report, and the credits for positions."""
    report = FeedReport(
        "receivers", NOON.timestamp(), NOON.timestamp() - 1, 17, 10.0, ("KJFK",), {"KLGA": "no runway"}, "it is down"
    )
    with service.database.transaction() as session:
        QuotaStore(BUDGET, Bucket.STATES).charge(session, 7, NOON)
        write_state(session, name_report("receivers"), REPORT_FORMAT, 0.0, encode_report(report))
    live = json_of(client.get("/scheduler/status", headers=OPERATOR))["live"]
    assert isinstance(live, dict)
    assert (live["budget"], live["left"]) == (BUDGET, BUDGET - 7)
    assert live["feeds"][1] == {
        "name": "receivers", "last_poll_at": "2013-02-13T12:00:00Z", "aircraft": 17, "interval_seconds": 10.0,
        "live_airports": ["KJFK"], "settled_airports": {"KLGA": "no runway"}, "error": "it is down",
    }  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OPERATORS)
def test_only_the_operator_may_see_the_scheduler(client: FlaskClient, method: str, path: str) -> None:
    """Users get a 403, requests without a token a 401."""
    assert status_of(client.open(path, method=method, headers=ANNS, json={})) == 403
    assert status_of(client.open(path, method=method, json={})) == 401


def test_requests_are_counted_by_route(client: FlaskClient) -> None:
    """The metrics' labels are route templates, without ids and airports."""
    location = client.post("/interests", json=WISH, headers=ANNS).headers["Location"]
    client.get(location, headers=ANNS)
    exposition = client.get("/metrics").text
    assert "http_requests_total{" in exposition
    assert 'endpoint="/interests/{interest_id}"' in exposition
    assert location not in exposition
