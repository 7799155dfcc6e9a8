"""An airport whose code an update of the table retires: people keep hold of their interests, which cost nothing."""

from datetime import timedelta

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from collector.settled.quota import QuotaStore
from collector.settled.schedule import list_due_evidence, load_schedule
from collector.settled.status import SchedulerStatus
from domain import airports
from domain.airports import Airport, find_airport
from domain.interests import Direction
from tests.collector.conftest import ANN, ANNS, BOBS, NOON, ON_SQLITE, Service, json_of, outbox, status_of, wish
from tests.collector.settled.polling import TIMING, build_collector, poll
from tests.fakes.nightly_source import NightlySource
from towerwatch.interests.v1.events_pb2 import InterestSet
from towerwatch.topics import INTERESTS_CHANGED

RENAMED, CLOSED = "UAFM", "ZQZQ"
of_each_code = pytest.mark.parametrize("code", [RENAMED, CLOSED])


def set_before_update(service: Service, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    """Set Ann's interest at an airport while the table has its code, and return its id; afterwards the code is gone."""
    known = {code: Airport(code, "Old Field", "Oldtown", "UTC"), "KJFK": find_airport("KJFK")}
    with monkeypatch.context() as patched:
        patched.setattr(airports, "_load_airports", lambda: known)
        interest = service.set(wish(code), ANN)
    assert find_airport(code) is None
    return str(interest.interest_id)


def request_with(client: FlaskClient, action: str, code: str, interest_id: str) -> TestResponse:
    """Send one of Ann's requests about her interest: its method and path, with {code} and {id} in it."""
    method, _, path = action.format(code=code, id=interest_id).partition(" ")
    wanted = {"airport_icao": code, "direction": "departures", "window": "1h", "high_value": 77}
    body = {"POST": wanted, "PATCH": {"high_value": 77}}.get(method)
    return client.open(path, method=method, json=body, headers=ANNS | {"If-Match": "*"})


@of_each_code
@pytest.mark.parametrize(
    ("action", "status"),
    [
        ("GET /interests", 200),
        ("GET /interests/{id}", 200),
        ("PATCH /interests/{id}", 200),
        ("POST /interests", 200),
        ("DELETE /interests/{id}", 204),
        ("DELETE /interests?airport_icao={code}", 204),
        ("DELETE /interests?airport_icao=%20{code}%20", 204),
        ("GET /flights/{code}", 200),
        ("GET /flights/{code}/latest", 200),
        ("GET /flights/{code}/average", 200),
        ("GET /flights/{code}/usual", 200),
        ("GET /flights/{code}/stats/airlines", 200),
        ("GET /flights/{code}/coverage", 200),
        ("POST /interests/preview", 422),
    ],
)
def test_an_interest_can_be_read_changed_and_removed(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, code: str, action: str, status: int
) -> None:
    """By id and by airport, with the event of each change; only something new cannot be asked for there."""
    interest_id = set_before_update(service, monkeypatch, code)
    assert request_with(client, action, code, interest_id).status_code == status
    events = [each.value for each in outbox(service.database, INTERESTS_CHANGED.name)]
    if action.startswith("DELETE"):
        assert events[1:] == [None]
        assert json_of(client.get("/interests", headers=ANNS)) == {"interests": []}
    elif status == 200 and action.startswith(("PATCH", "POST")):
        changed = InterestSet.FromString(events[-1] or b"")
        assert (changed.airport, changed.high, changed.version) == (code, 77, 2)
    else:
        assert len(events) == 1


@ON_SQLITE
@of_each_code
@pytest.mark.parametrize("action", ["GET /interests/{id}", "PATCH /interests/{id}", "POST /interests"])
def test_its_owner_is_told(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, code: str, action: str
) -> None:
    """Each answer that shows the interest says that no alert will come, and where to go if that is known."""
    interest_id = set_before_update(service, monkeypatch, code)
    notice = str(json_of(request_with(client, action, code, interest_id))["notice"])
    assert notice.startswith(f"No airport has the code {code} any more: no flight is collected there")
    assert ("Its place has UCFM (Bishkek) now" in notice) is (code == RENAMED)
    listed = json_of(client.get("/interests", headers=ANNS))["interests"]
    assert isinstance(listed, list)
    assert listed[0]["notice"] == notice
    assert json_of(client.get(f"/flights/{code}/coverage", headers=ANNS))["notice"] == notice


@ON_SQLITE
def test_an_airport_in_use_has_no_notice(client: FlaskClient) -> None:
    """The member is left out where there is nothing to say."""
    wanted = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 77}
    shown = json_of(client.post("/interests", json=wanted, headers=ANNS))
    assert "notice" not in json_of(client.get(f"/interests/{shown['interest_id']}", headers=ANNS))


@ON_SQLITE
@of_each_code
@pytest.mark.parametrize("path", ["POST /interests", "DELETE /interests?airport_icao={code}", "GET /flights/{code}"])
def test_others_cannot_begin_there(
    client: FlaskClient, service: Service, monkeypatch: pytest.MonkeyPatch, code: str, path: str
) -> None:
    """Who has no interest there gets the error of an unknown code, which leads a former code to the new one."""
    set_before_update(service, monkeypatch, code)
    method, _, target = path.format(code=code).partition(" ")
    wanted = {"airport_icao": code, "direction": "departures", "window": "1h", "high_value": 7}
    response = client.open(target, method=method, json=wanted if method == "POST" else None, headers=BOBS)
    assert status_of(response) == 422
    assert response.json is not None
    detail = response.json["detail"]
    assert detail.startswith(f"{code}: no airport has this ICAO code")
    assert ("any more; use UCFM (Bishkek)" in detail) is (code == RENAMED)
    assert len(outbox(service.database, INTERESTS_CHANGED.name)) == 1


@of_each_code
def test_it_is_not_polled(service: Service, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """No credit is spent on it, neither for flights nor for evidence; the operator sees the code."""
    set_before_update(service, monkeypatch, code)
    source = NightlySource(service.clock)
    poll(build_collector(service, source))
    with service.database.reading() as session:
        schedule = load_schedule(session, TIMING, NOON)
    assert schedule.targets == []
    calls = list_due_evidence(schedule, ["EDDF"], NOON + timedelta(days=1), TIMING)
    assert code not in str(calls)
    state = SchedulerStatus(service.database, service.clock, TIMING, QuotaStore(400)).load_state()
    assert (state.due, state.retired_airports) == (0, (code,))


def test_an_interest_in_an_airport_in_use_is_still_polled(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retired code takes nothing from the others."""
    set_before_update(service, monkeypatch, CLOSED)
    service.set(wish(direction=Direction.BOTH))
    with service.database.reading() as session:
        schedule = load_schedule(session, TIMING, NOON)
    assert {each.airport for each in schedule.targets} == {"KJFK"}


def test_airports_of_evidence_that_are_retired_are_not_asked(service: Service) -> None:
    """Neither the beacons, which an update may retire, nor the last airport with evidence cost credits in vain."""
    service.set(wish(direction=Direction.BOTH))
    with service.database.reading() as session:
        schedule = load_schedule(session, TIMING, NOON)
    calls = list_due_evidence(schedule, [CLOSED, "EDDF"], NOON + timedelta(days=1), TIMING)
    assert calls
    assert CLOSED not in str(calls)
