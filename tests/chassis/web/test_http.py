"""The Flask app: problem details for all errors, preconditions, metrics by route template, health."""

import json
from uuid import UUID

import pytest
from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict
from werkzeug.routing import Map, Rule
from werkzeug.test import TestResponse

from chassis.metrics import Metrics, ServiceIdentity
from chassis.web.http import (
    BODY_LIMIT,
    Problem,
    ProblemKind,
    Reply,
    create_app,
    format_path_template,
    parse_body,
    parse_query,
    read_bearer_token,
    read_idempotency_key,
)


class Level(BaseModel):
    """A body with two fields."""

    airport: str
    high: int


class Strict(BaseModel):
    """A body that allows no other members."""

    model_config = ConfigDict(extra="forbid")

    airport: str


class Range(BaseModel):
    """A query with two parameters."""

    first: str = "none"
    last: int = 7


class NoSuchThingError(Exception):
    """A service's own error."""


class BusyError(Exception):
    """A service's own error with the time after which to retry."""

    retry_after_s = 42


class Readiness:
    """A readiness check whose answer the test sets."""

    def __init__(self) -> None:
        self.ready = True

    def __call__(self) -> str | None:
        return None if self.ready else "The database does not answer; try again shortly."


@pytest.fixture
def readiness() -> Readiness:
    return Readiness()


@pytest.fixture
def app(readiness: Readiness) -> Flask:
    """Return an app with one route for each feature."""
    problems: dict[type[Exception], ProblemKind] = {
        NoSuchThingError: ProblemKind(404, {"Retry-After": "7"}),
        BusyError: ProblemKind(429),
    }
    app = create_app("example", Metrics(ServiceIdentity("example", "node-1")), problems, readiness)

    @app.post("/levels")
    def levels() -> Response:
        return jsonify(high=parse_body(Level).high)

    @app.post("/strict")
    def strict() -> Response:
        return jsonify(airport=parse_body(Strict).airport)

    @app.get("/range")
    def in_range() -> Response:
        return Reply(parse_query(Range)).to_response()

    @app.get("/things/<name>")
    def things(name: str) -> Response:
        raise NoSuchThingError("There is no such thing.")

    @app.get("/paths/<path:name>")
    def paths(name: str) -> Response:
        return jsonify(name=name)

    @app.delete("/things/<name>")
    def nothing(name: str) -> Response:
        return Reply(status=204).to_response()

    @app.get("/busy")
    def busy() -> Response:
        raise BusyError("Not now.")

    @app.post("/once")
    def once() -> Response:
        return jsonify(key=read_idempotency_key())

    @app.get("/surrogate")
    def surrogate() -> Response:
        raise Problem(400, "half of a pair: \ud800")

    @app.get("/whoami")
    def whoami() -> Response:
        return jsonify(token=read_bearer_token())

    @app.get("/broken")
    def broken() -> Response:
        raise RuntimeError("the password is hunter2")

    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def assert_problem(response: TestResponse, status: int) -> dict[str, object]:
    """Check that a response is problem details (RFC 9457) of this status, and return its members."""
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body = json.loads(response.text)
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    return dict(body)


def test_an_unknown_path_is_a_problem(client: FlaskClient) -> None:
    """The answer is 404 with problem details, not HTML."""
    assert_problem(client.get("/nowhere"), 404)


def test_a_wrong_method_is_a_problem_with_the_allowed_methods(client: FlaskClient) -> None:
    """The answer is 405 with the header Allow (RFC 9110, 15.5.6)."""
    response = client.get("/levels")
    assert_problem(response, 405)
    assert "POST" in response.headers["Allow"]


def test_a_body_above_the_limit_is_not_read(client: FlaskClient) -> None:
    """The answer is 413, whatever the body contains."""
    assert_problem(client.post("/levels", data=b"x" * (BODY_LIMIT + 1), content_type="application/json"), 413)


def test_a_body_of_another_type_than_json_is_rejected(client: FlaskClient) -> None:
    """The answer is 415."""
    assert_problem(client.post("/levels", data="high=3"), 415)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"null", b"\xff\xfe"], ids=repr)
def test_a_body_that_is_no_json_object_is_rejected(client: FlaskClient, body: bytes) -> None:
    """The answer is 400."""
    assert_problem(client.post("/levels", data=body, content_type="application/json"), 400)


def test_it_is_said_where_a_body_is_no_json(client: FlaskClient) -> None:
    """Line and column of the first fault, and nothing of the body itself."""
    body = b'{"airport": "KJFK",\n "high" 3}'
    detail = assert_problem(client.post("/levels", data=body, content_type="application/json"), 400)["detail"]
    assert detail == "The body must be one JSON object, and cannot be read from line 2, column 9 on."


def test_json_that_is_nested_too_deep_is_rejected(client: FlaskClient) -> None:
    """The answer is 400 and not 500, although the parser raises for some bodies below the limit of size."""
    body = b'{"high": ' + b"[" * 30_000
    assert_problem(client.post("/levels", data=body, content_type="application/json"), 400)


def test_all_faults_of_a_body_are_reported_together(client: FlaskClient) -> None:
    """The answer is 422 with one entry for each field."""
    body = assert_problem(client.post("/levels", json={"airport": 7, "high": "many"}), 422)
    errors = body["errors"]
    assert isinstance(errors, list)
    assert {fault["field"] for fault in errors} == {"airport", "high"}


def test_the_number_of_reported_faults_is_bounded(client: FlaskClient) -> None:
    """A body with thousands of faults gets a short answer."""
    body = assert_problem(client.post("/strict", json={f"member-{number}": 1 for number in range(3000)}), 422)
    assert isinstance(body["errors"], list)
    assert len(body["errors"]) == 20


def test_halves_of_surrogate_pairs_do_not_break_the_answer(client: FlaskClient) -> None:
    """JSON can contain them as values and names, UTF-8 cannot; the answer replaces them."""
    headers = {"Content-Type": "application/json"}
    assert_problem(client.post("/strict", data=rb'{"airport": "KJFK", "\ud800": 1}', headers=headers), 422)
    assert_problem(client.post("/strict", data=rb'{"\ud800\udc00": 1}', headers=headers), 422)
    assert_problem(client.get("/surrogate"), 400)


@given(st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: (
    st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["airport", "high"]), inner)
)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_body_causes_an_internal_error(body: bytes) -> None:
    """Every body is accepted or rejected."""
    app = create_app("example", Metrics(ServiceIdentity("example", "node-1")), {}, lambda: None)
    app.post("/levels")(lambda: jsonify(high=parse_body(Level).high))
    response = app.test_client().post("/levels", data=body, content_type="application/json")
    assert response.status_code in (200, 400, 422)


@pytest.mark.parametrize(
    ("query", "seen"),
    [("", ["none", 7]), ("first=a&last=8", ["a", 8]), ("first=", ["", 7])],
)
def test_a_query_is_parsed_into_its_model(client: FlaskClient, query: str, seen: list[object]) -> None:
    """Parameters that are left out have their defaults."""
    assert client.get(f"/range?{query}").json == dict(zip(("first", "last"), seen, strict=True))


@pytest.mark.parametrize("query", ["last=x", "last=", "first=1&first=2", "last=%00", "last=%F0%28"])
def test_an_invalid_or_repeated_parameter_is_rejected(client: FlaskClient, query: str) -> None:
    """The answer is 422 with the parameter's name."""
    body = assert_problem(client.get(f"/range?{query}"), 422)
    assert isinstance(body["errors"], list)
    assert [fault["field"] for fault in body["errors"]] == [query.partition("=")[0]]


def test_unknown_parameters_are_named_with_the_known_ones(client: FlaskClient) -> None:
    """Whoever misspells a filter is told so, and gets no list that is not filtered; 20 names at most."""
    body = assert_problem(client.get("/range?lasst=8&first=a&other=1&other=2"), 422)
    told = "is not known here: the parameters are first, last"
    assert body["errors"] == [{"field": name, "message": told} for name in ("lasst", "other")]
    many = assert_problem(client.get("/range?" + "&".join(f"p{number}=1" for number in range(50))), 422)
    assert isinstance(many["errors"], list)
    assert len(many["errors"]) == 20
    assert assert_problem(client.get("/range?%ED%A0%80=1"), 422)


def test_an_unexpected_error_is_answered_without_its_text(client: FlaskClient) -> None:
    """The answer is 500, without the error's text and class."""
    response = client.get("/broken")
    assert_problem(response, 500)
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text


def test_a_services_own_error_is_answered_by_its_table(client: FlaskClient) -> None:
    """Status and headers come from the table, the detail from the error."""
    response = client.get("/things/7")
    assert assert_problem(response, 404)["detail"] == "There is no such thing."
    assert response.headers["Retry-After"] == "7"


def test_an_error_with_a_retry_time_is_answered_with_retry_after(client: FlaskClient) -> None:
    """The value comes from the error's attribute `retry_after_s`."""
    response = client.get("/busy")
    assert_problem(response, 429)
    assert response.headers["Retry-After"] == "42"


def test_an_answer_without_a_body_has_no_type(client: FlaskClient) -> None:
    """RFC 9110, 8.3: Content-Type describes a body."""
    response = client.delete("/things/7")
    assert (response.status_code, response.data) == (204, b"")
    assert "Content-Type" not in response.headers


@pytest.mark.parametrize("path", ["/paths/a//b", "/paths/a%2F%2Fb"])
def test_slashes_in_a_value_are_kept(client: FlaskClient, path: str) -> None:
    """A path with two slashes in a row is not answered with a redirect."""
    assert client.get(path).json == {"name": "a//b"}


@pytest.mark.parametrize("path", ["/%", "/%zz", "/%ff", "/things/%00/x", "/\x7f", "/static/x", "//nowhere"])
def test_an_invalid_path_is_not_found(client: FlaskClient, path: str) -> None:
    """The answer is 404."""
    # The client takes what follows two slashes for the host.
    assert_problem(client.get(path, headers={"Host": "localhost"}), 404)


def test_routes_have_head_and_options_by_themselves(client: FlaskClient) -> None:
    """HEAD is allowed where GET is, OPTIONS everywhere, with the allowed methods (RFC 9110, 9.3.7)."""
    assert client.head("/health/live").data == b""
    assert set(client.options("/things/7").headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "DELETE"}


KEY = "8e03978e-40d5-43e8-bc93-6894a57f9324"


@pytest.mark.parametrize(("header", "key"), [(None, None), (f'"{KEY}"', KEY), (KEY, KEY), (f'"{KEY.upper()}"', KEY)])
def test_an_idempotency_key_is_a_uuid(client: FlaskClient, header: str | None, key: str | None) -> None:
    """The key may be in double quotes, as the draft requires, or without quotes."""
    assert client.post("/once", headers={} if header is None else {"Idempotency-Key": header}).json == {"key": key}


@pytest.mark.parametrize(
    "header",
    ["", '""', "7", f'"{KEY}', f'{KEY}"', f"'{KEY}'", f"{{{KEY}}}", UUID(KEY).hex, f'"{KEY}", "{KEY}"', f'"{KEY}";a'],
)
def test_an_idempotency_key_that_is_no_uuid_is_rejected(client: FlaskClient, header: str) -> None:
    """The answer is 400."""
    assert_problem(client.post("/once", headers={"Idempotency-Key": header}), 400)


@pytest.mark.parametrize(
    ("rule", "template"),
    [
        ("/", "/"),
        ("/things/<name>", "/things/{name}"),
        ("/things/<path:name>/parts", "/things/{name}/parts"),
        ("/<uuid:one>/<string(length=2):two>", "/{one}/{two}"),
        ('/<any("a.b", "c"):file>', "/{file}"),
    ],
)
def test_a_path_template_has_openapis_form(rule: str, template: str) -> None:
    """The template does not contain Flask's converters."""
    made = Rule(rule)
    Map([made])
    assert format_path_template(made) == template


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz"])
def test_a_request_without_a_bearer_token_gets_a_challenge(client: FlaskClient, header: str | None) -> None:
    """The answer is 401 with the challenge that RFC 9110, 15.5.2, requires."""
    response = client.get("/whoami", headers={} if header is None else {"Authorization": header})
    assert_problem(response, 401)
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc", "BEARER  abc "])
def test_the_authentication_scheme_is_case_insensitive(client: FlaskClient, header: str) -> None:
    """Authentication schemes are case-insensitive (RFC 9110, 11.1)."""
    assert client.get("/whoami", headers={"Authorization": header}).json == {"token": "abc"}


def test_metrics_are_labelled_by_the_routes_template(client: FlaskClient) -> None:
    """A path may contain an address; neither a path nor an unknown method becomes a label."""
    client.get("/things/ann@example.org")
    client.get("/nowhere/ann@example.org")
    client.open("/things/7", method="ANN@EXAMPLE.ORG")
    exposition = client.get("/metrics").text
    assert 'endpoint="/things/{name}"' in exposition
    assert 'endpoint="unmatched"' in exposition
    assert 'method="other"' in exposition
    assert 'service="example"' in exposition
    assert 'node="node-1"' in exposition
    assert "ann" not in exposition.lower()


def test_readiness_depends_on_the_services_check_and_liveness_does_not(
    client: FlaskClient, readiness: Readiness
) -> None:
    """With an unavailable database a service is not ready, but still alive."""
    assert client.get("/health/ready").status_code == 200
    readiness.ready = False
    assert_problem(client.get("/health/ready"), 503)
    assert client.get("/health/live").status_code == 200
