"""HTTP answers: problem details for whatever goes wrong, metrics by route template, health."""

import json

import pytest
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from pydantic import BaseModel
from werkzeug.test import TestResponse

from chassis.http import BODY_LIMIT, ProblemKind, bearer_token, create_app, parsed_body
from chassis.metrics import Identity, Metrics


class Level(BaseModel):
    """A body with two fields."""

    airport: str
    high: int


class NoSuchThingError(Exception):
    """A service's own error."""


class Readiness:
    """Ready until told otherwise."""

    def __init__(self) -> None:
        self.ready = True

    def __call__(self) -> bool:
        return self.ready


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def app(readiness: Readiness) -> Flask:
    problems: dict[type[Exception], ProblemKind] = {NoSuchThingError: ProblemKind(404, {"Retry-After": "7"})}
    app = create_app("example", Metrics(Identity("example", "node-1")), problems, readiness)

    @app.post("/levels")
    def levels() -> Response:
        return jsonify(high=parsed_body(Level).high)

    @app.get("/things/<name>")
    def things(name: str) -> Response:
        raise NoSuchThingError("There is no such thing.")

    @app.get("/whoami")
    def whoami() -> Response:
        return jsonify(token=bearer_token())

    @app.get("/broken")
    def broken() -> Response:
        raise RuntimeError("the password is hunter2")

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def assert_problem(response: TestResponse, status: int) -> dict[str, object]:
    """It is problem details (RFC 9457) of this status, and says something."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body = json.loads(response.text)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return dict(body)


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    """404, as problem details and not as HTML."""
    assert_problem(client.get("/nowhere"), 404)


def test_a_wrong_method_is_a_problem_that_names_the_right_ones(client: FlaskClient) -> None:
    """405 keeps the Allow header (RFC 9110, 15.5.6)."""
    response = client.get("/levels")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_a_body_above_the_limit_is_not_read(client: FlaskClient) -> None:
    """413, whatever is in it."""
    assert_problem(client.post("/levels", data=b"x" * (BODY_LIMIT + 1), content_type="application/json"), 413)


def test_a_body_that_is_not_json_is_refused_by_its_type(client: FlaskClient) -> None:
    """415."""
    assert_problem(client.post("/levels", data="high=3"), 415)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"null", b"\xff\xfe"], ids=repr)
def test_a_body_that_is_no_json_object_is_refused(client: FlaskClient, body: bytes) -> None:
    """400 for each."""
    assert_problem(client.post("/levels", data=body, content_type="application/json"), 400)


def test_json_that_is_nested_too_deep_is_the_senders_fault(client: FlaskClient) -> None:
    """400 and not 500: the parser gives up on some bodies that are below the limit."""
    body = b'{"high": ' + b"[" * 30_000
    assert_problem(client.post("/levels", data=body, content_type="application/json"), 400)


def test_every_fault_of_a_body_is_said_at_once(client: FlaskClient) -> None:
    """422 with one entry for each field."""
    body = assert_problem(client.post("/levels", json={"airport": 7, "high": "many"}), 422)
    errors = body["errors"]
    assert isinstance(errors, list)
    assert {fault["field"] for fault in errors} == {"airport", "high"}


def test_a_bug_is_answered_without_its_text(client: FlaskClient) -> None:
    """500 tells nothing of what went wrong."""
    response = client.get("/broken")
    assert_problem(response, 500)
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text


def test_a_services_own_error_is_answered_by_its_table(client: FlaskClient) -> None:
    """The table gives status and headers, the error its text."""
    response = client.get("/things/7")
    assert assert_problem(response, 404)["detail"] == "There is no such thing."
    assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"])
def test_without_a_bearer_token_the_answer_says_how_to_send_one(client: FlaskClient, header: str | None) -> None:
    """401 carries the challenge that RFC 9110, 15.5.2 demands."""
    response = client.get("/whoami", headers={} if header is None else {"Authorization": header})
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_the_scheme_is_read_without_case(client: FlaskClient, header: str) -> None:
    """Authentication schemes are case-insensitive (RFC 9110, 11.1)."""
    assert client.get("/whoami", headers={"Authorization": header}).json == {"token": "abc"}


def test_metrics_are_labelled_by_the_routes_template(client: FlaskClient) -> None:
    """A path may hold an address; no part of it and no invented method becomes a label."""
    client.get("/things/ann@example.org")
    client.get("/nowhere/ann@example.org")
    client.open("/things/7", method="ANN@EXAMPLE.ORG")
    exposition = client.get("/metrics").text
    assert 'endpoint="/things/<name>"' in exposition
    assert 'endpoint="unmatched"' in exposition
    assert 'method="other"' in exposition
    assert 'service="example"' in exposition
    assert 'node="node-1"' in exposition
    assert "ann" not in exposition.lower()


def test_readiness_follows_what_the_service_says_and_liveness_does_not(
    client: FlaskClient, readiness: Readiness
) -> None:
    """A database that is away makes a service not ready; it stays alive."""
    assert client.get("/health/ready").status_code == 200
    readiness.ready = False
    assert_problem(client.get("/health/ready"), 503)
    assert client.get("/health/live").status_code == 200
