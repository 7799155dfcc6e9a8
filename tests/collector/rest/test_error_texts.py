"""Error texts of the collector's answers: what is wrong and what to do, in words of ours."""

import pytest
from flask.testing import FlaskClient

from tests.collector.conftest import ANN, ANNS, ON_SQLITE, OPERATOR, UNCONFIRMED, Service, status_of, wish
from tests.error_texts import FOREIGN_WORDS

pytestmark = ON_SQLITE

WISH = {"airport_icao": "KJFK", "direction": "departures", "window": "1h", "high_value": 30}
MISSING = "00000000-0000-0000-0000-000000000009"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"airport_icao": "XXXX"}, "XXXX: no airport has this ICAO code"),
        ({"airport_icao": "JFK"}, "airport_icao: no airport has this ICAO code; did you mean KJFK (New York)?"),
        ({"airport_icao": "UAFM"}, "UAFM: no airport has this ICAO code any more; use UCFM (Bishkek)"),
        ({"airport_icao": 7}, "airport_icao: must be a text"),
        ({"direction": "up"}, "direction: must be 'arrivals', 'departures' or 'both'"),
        ({"window": "2h"}, "window: must be '1h', '6h' or '1d'"),
        ({"high_value": "many"}, "high_value: must be a whole number"),
        ({"high_value": -1}, "high_value: must be 0 or more"),
        ({"high_value": None}, "give a high or a low threshold, or both"),
        ({"high_value": 3, "low_value": 4}, "high must be above low"),
        ({"low_value": 0}, "low_value: must be 1 or more, because no count is below 0"),
        ({"low_value": -1, "high_value": None}, "low_value: must be 1 or more, because no count is below 0"),
        ({"high_percent": 100}, "high_percent: must be 101 or more"),
        ({"low_percent": 100}, "low_percent: must be 99 or less"),
        ({"high_percent": 150}, "give high (flights) or high_percent (percent of what is usual), not both"),
        ({"aligned_to": "airport"}, "an hour is not aligned to the airport's clock: leave aligned_to out"),
        ({"aligned_to": "kjfk"}, "aligned_to: must be 'utc' or 'airport'"),
        ({"for_windows": 0}, "for_windows: must be 1 or more"),
        ({"repeat": "yes"}, "repeat: must be true or false"),
        ({"effective_from": 7}, "effective_from: must be an instant like 2026-07-01T00:00:00Z"),
        ({"effective_from": "tomorrow"}, "effective_from: must be an instant like 2026-07-01T00:00:00Z"),
        ({"effective_from": "2013-02-10T00:00:00"}, "effective_from: must name its offset from UTC"),
        ({"effective_from": "1999-02-10T00:00:00Z"}, "effective_from must be from 2013-01-14 to a year ahead"),
        ({"colour": "red"}, "colour: is not known here; leave it out"),
        ({"low": 3}, "low: is not known here; did you mean low_value or low_percent?"),
        ({"Airport": "KJFK"}, "Airport: is not known here; did you mean airport_icao?"),
        ({"high_vlaue": 3}, "high_vlaue: is not known here; did you mean high_value?"),
    ],
)
def test_a_fault_of_an_interest_is_told_in_our_words(client: FlaskClient, fault: dict[str, object], text: str) -> None:
    """The detail and the list of errors say what the member must be; the codes of airports come with suggestions."""
    response = client.post("/interests", json=WISH | fault, headers=ANNS)
    assert status_of(response) == 422
    assert response.json is not None
    assert response.json["detail"].startswith(text)
    assert not FOREIGN_WORDS.search(response.text)


@pytest.mark.parametrize("member", ["airport_icao", "direction", "window", "aligned_to"])
def test_what_an_interest_is_about_cannot_be_changed(client: FlaskClient, service: Service, member: str) -> None:
    """The answer says what to do in its place."""
    interest = service.set(wish(), ANN)
    path = f"/interests/{interest.interest_id}"
    response = client.patch(path, json={member: "x"}, headers=ANNS | {"If-Match": "*"})
    assert status_of(response) == 422
    assert response.json is not None
    assert response.json["detail"] == f"{member}: cannot be changed: set a new interest, and remove this one"


def test_an_unknown_airport_is_in_the_list_of_errors(client: FlaskClient) -> None:
    """The error names the member, as every error of a member does."""
    answer = client.post("/interests", json=WISH | {"airport_icao": "XXXX"}, headers=ANNS).json
    assert answer is not None
    assert answer["errors"] == [{"field": "airport_icao", "message": answer["detail"]}]


@pytest.mark.parametrize(
    ("fault", "fields"),
    [
        ({"high_value": None}, ["high_value", "low_value"]),
        ({"high_value": 3, "low_value": 4}, ["high_value", "low_value"]),
        ({"low_value": 0}, ["low_value"]),
        ({"high_percent": 150}, ["high_value", "high_percent"]),
        ({"aligned_to": "airport"}, ["aligned_to"]),
        ({"effective_from": "1999-02-10T00:00:00Z"}, ["effective_from"]),
    ],
)
@pytest.mark.parametrize("path", ["/interests", "/interests/preview"])
def test_a_fault_of_several_members_names_them(
    client: FlaskClient, path: str, fault: dict[str, object], fields: list[str]
) -> None:
    """What members contradict each other in is listed for each of them, as every error of a member is."""
    answer = client.post(path, json=WISH | fault, headers=ANNS).json
    assert answer is not None
    assert [each["field"] for each in answer["errors"]] == fields
    assert all(each["message"] in answer["detail"] for each in answer["errors"])


def test_a_change_that_contradicts_what_stays_names_the_members(client: FlaskClient) -> None:
    """Also where only one of the members is sent."""
    made = client.post("/interests", json=WISH, headers=ANNS)
    headers = ANNS | {"If-Match": made.headers["ETag"]}
    answer = client.patch(made.headers["Location"], json={"low_value": 40}, headers=headers).json
    assert answer is not None
    assert [each["field"] for each in answer["errors"]] == ["high_value", "low_value"]


def test_a_foreign_cursor_is_named(client: FlaskClient) -> None:
    """A cursor that no page ended with is the fault of that parameter."""
    client.post("/interests", json=WISH, headers=ANNS)
    answer = client.get("/flights/KJFK?cursor=x", headers=ANNS).json
    assert answer is not None
    assert [each["field"] for each in answer["errors"]] == ["cursor"]


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/nowhere", ANNS, 404),
        ("GET", "/interests/7", ANNS, 404),
        ("GET", f"/interests/{MISSING}", ANNS, 404),
        ("PUT", "/interests", ANNS, 405),
        ("POST", "/interests", {}, 401),
        ("POST", "/interests", ANNS, 415),
        ("POST", "/interests", ANNS | {"Content-Type": "application/json"}, 400),
        ("POST", "/interests", UNCONFIRMED, 403),
        ("PATCH", f"/interests/{MISSING}", ANNS, 404),
        ("DELETE", "/interests", ANNS, 422),
        ("DELETE", "/interests?airport_icao=XXXX", ANNS, 422),
        ("DELETE", "/interests?airport_icao=JFK", ANNS, 422),
        ("GET", "/flights/XXXX", ANNS, 422),
        ("GET", "/flights/KJFK", ANNS, 404),
        ("GET", "/flights/KJFK?limit=x", ANNS, 422),
        ("GET", "/flights/KJFK?limit=0", ANNS, 422),
        ("GET", "/flights/KJFK?from=yesterday", ANNS, 422),
        ("GET", "/flights/KJFK?cursor=x", ANNS, 400),
        ("GET", "/flights/KJFK/average?days=1000", ANNS, 422),
        ("GET", "/flights/KJFK/usual?window=2h", ANNS, 422),
        ("POST", "/collect/manual", ANNS, 403),
        ("GET", "/scheduler/status", ANNS, 403),
        ("GET", "/interests", OPERATOR, 401),
    ],
)
def test_no_answer_has_a_text_of_a_library(
    client: FlaskClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Every error is a whole sentence of ours."""
    response = client.open(path, method=method, headers=headers)
    assert status_of(response) == status
    assert response.json is not None
    assert response.json["detail"]
    assert not FOREIGN_WORDS.search(response.text)
