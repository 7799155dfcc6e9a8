"""The OpenAPI document: generated from the routes, and shown by a page that loads nothing from other hosts."""

import re
from uuid import UUID

import pytest
from flask import Blueprint, Flask, Response
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict, Field

from chassis.metrics import Metrics, ServiceIdentity
from chassis.web import openapi
from chassis.web.http import ProblemKind, Reply, create_app, parse_body, parse_query, read_bearer_token
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.preconditions import IF_MATCH


class NewThing(BaseModel):
    """The body of a request that creates a thing."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1)


class Thing(BaseModel):
    """The body of an answer."""

    thing_id: UUID
    size: int


class Which(BaseModel):
    """A query."""

    colour: str
    most: int = 10


def create_example_blueprint() -> Blueprint:
    """Create routes with all kinds of descriptions; two of them answer other than described."""
    routes = Blueprint("things", __name__)

    @routes.put("/things/<uuid:thing_id>")
    @describe(
        "Change a thing",
        auth="user",
        body=NewThing,
        headers=(IF_MATCH,),
        answers={200: ResponseDescription(Thing, "Changed.", {"ETag": "Its version."})},
        problems=(404, 412, 428, 503),
    )
    def change_thing(thing_id: UUID) -> Reply:
        read_bearer_token()
        return Reply(Thing(thing_id=thing_id, size=parse_body(NewThing).size), headers={"ETag": '"1"'})

    @routes.get("/things")
    @describe("List", auth="operator", query=Which, answers={200: ResponseDescription(Thing)})
    def list_things() -> Reply:
        return Reply(Thing(thing_id=UUID(int=1), size=parse_query(Which).most))

    @routes.get("/pages/<name>")
    @describe(
        "Show", path={"name": {"type": "string", "maxLength": 7}}, answers={200: ResponseDescription("text/html")}
    )
    def page(name: str) -> Response:
        return Response("<p>", content_type="text/html")

    @routes.delete("/things")
    @describe("Delete", answers={204: ResponseDescription()})
    def delete_things() -> Reply:
        return Reply(status=204)

    @routes.get("/lies/status")
    @describe("Lie", answers={200: ResponseDescription(Thing)})
    def lie_about_status() -> Reply:
        return Reply(Thing(thing_id=UUID(int=1), size=1), status=201)

    @routes.get("/lies/body")
    @describe("Lie", answers={200: ResponseDescription(Thing)})
    def lie_about_body() -> Reply:
        return Reply(NewThing(size=1))

    @routes.get("/secret")
    def not_described() -> Response:
        return Response("")

    return routes


@pytest.fixture
def app() -> Flask:
    problems: dict[type[Exception], ProblemKind] = {}
    app = create_app("example", Metrics(ServiceIdentity("example", "node-1")), problems, lambda: None)
    app.register_blueprint(create_example_blueprint())
    app.register_blueprint(openapi.create_blueprint("Things", "7", "What there is."))
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def operation(client: FlaskClient, path: str, method: str) -> dict[str, object]:
    """Return the OpenAPI object of a route."""
    document = client.get("/openapi.json").json
    assert document is not None
    return dict(document["paths"][path][method])


def test_the_document_contains_the_service_and_its_described_routes(client: FlaskClient) -> None:
    """The version is OpenAPI 3.1; routes without a description are left out."""
    document = client.get("/openapi.json").json
    assert document is not None
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Things", "version": "7", "description": "What there is."}
    assert set(document["paths"]) == {
        "/things", "/things/{thing_id}", "/pages/{name}", "/lies/status", "/lies/body"
    }  # fmt: skip
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_a_browser_without_a_path_is_sent_to_the_page(client: FlaskClient) -> None:
    """The address of a service alone leads to its documentation, wherever the service is reached."""
    response = client.get("/")
    assert (response.status_code, response.headers["Location"]) == (302, "/docs")


def test_an_operation_is_identified_by_its_functions_name(client: FlaskClient) -> None:
    """Operations are grouped by their blueprints."""
    described = operation(client, "/things/{thing_id}", "put")
    assert described["operationId"] == "change_thing"
    assert described["tags"] == ["things"]
    assert described["summary"] == "Change a thing"


def test_bodies_are_described_by_their_models(client: FlaskClient) -> None:
    """The models are JSON schemas (2020-12), which the operations reference."""
    document = client.get("/openapi.json").json
    assert document is not None
    described = document["paths"]["/things/{thing_id}"]["put"]
    body = described["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/NewThing"}
    answer = described["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert answer["headers"]["ETag"]["required"] is True
    schemas = document["components"]["schemas"]
    assert set(schemas) == {"NewThing", "Thing", "ProblemDetails", "Fault"}
    assert schemas["NewThing"]["additionalProperties"] is False
    assert schemas["NewThing"]["properties"]["size"]["minimum"] == 1


def test_the_problems_of_a_route_follow_from_its_input(client: FlaskClient) -> None:
    """Each of them is problem details, with the header that this status always has."""
    responses = operation(client, "/things/{thing_id}", "put")["responses"]
    assert isinstance(responses, dict)
    assert set(responses) == {"200", "400", "401", "403", "404", "412", "413", "415", "422", "428", "503"}
    for status in set(responses) - {"200"}:
        assert list(responses[status]["content"]) == ["application/problem+json"]
    assert list(responses["401"]["headers"]) == ["WWW-Authenticate"]
    assert list(responses["503"]["headers"]) == ["Retry-After"]
    listed = operation(client, "/things", "get")["responses"]
    assert isinstance(listed, dict)
    assert set(listed) == {"200", "401", "403", "422"}


def test_parameters_follow_from_the_path_the_headers_and_the_query(client: FlaskClient) -> None:
    """The schema of a path parameter follows from its converter, unless the route gives one."""
    parameters = operation(client, "/things/{thing_id}", "put")["parameters"]
    assert isinstance(parameters, list)
    path, header = parameters
    assert path == {
        "name": "thing_id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}
    }  # fmt: skip
    assert (header["name"], header["in"], header["required"]) == ("If-Match", "header", True)
    assert header["schema"]["pattern"] == IF_MATCH.pattern
    query = operation(client, "/things", "get")["parameters"]
    assert isinstance(query, list)
    assert [(each["name"], each["in"], each["required"]) for each in query] == [
        ("colour", "query", True), ("most", "query", False)
    ]  # fmt: skip
    assert query[1]["schema"]["default"] == 10
    page = operation(client, "/pages/{name}", "get")["parameters"]
    assert isinstance(page, list)
    assert page[0]["schema"] == {"type": "string", "maxLength": 7}


def test_the_required_token_is_described(client: FlaskClient) -> None:
    """The operator's role is listed beside the bearer scheme."""
    assert operation(client, "/things/{thing_id}", "put")["security"] == [{"bearer": []}]
    assert operation(client, "/things", "get")["security"] == [{"bearer": ["operator"]}]
    assert "security" not in operation(client, "/pages/{name}", "get")


def test_routes_answer_with_what_their_functions_return(client: FlaskClient) -> None:
    """Models become JSON, no body stays empty, and pages are unchanged."""
    path = f"/things/{UUID(int=7)}"
    changed = client.put(path, json={"size": 3}, headers={"Authorization": "Bearer x"})
    assert changed.json == {"thing_id": str(UUID(int=7)), "size": 3}
    assert changed.headers["ETag"] == '"1"'
    deleted = client.delete("/things")
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert client.get("/pages/x").text == "<p>"


@pytest.mark.parametrize("path", ["/lies/status", "/lies/body"])
def test_an_answer_that_is_not_described_is_an_internal_error(client: FlaskClient, path: str) -> None:
    """Such a route fails at its first request, so the mistake is found early."""
    assert client.get(path).status_code == 500


FILES = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "start.js"]


def test_the_page_loads_nothing_from_other_hosts(client: FlaskClient) -> None:
    """The service serves all files of the page; it has no inline script, and its policy forbids everything else."""
    page = client.get("/docs")
    assert page.status_code == 200
    assert re.findall(r'(?:src|href)="([^"]+)"', page.text) == [
        f"docs/{name}" for name in ("favicon-32x32.png", "swagger-ui.css", "swagger-ui-bundle.js", "start.js")
    ]
    assert not re.search(r"<script>|<style| on\w+=| style=|//", page.text.replace("<!doctype", ""))
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for name in FILES:
        file = client.get(f"/docs/{name}")
        assert file.status_code == 200
        assert file.headers["X-Content-Type-Options"] == "nosniff"
        file.close()


def test_the_page_does_not_send_the_document_to_a_validator(client: FlaskClient) -> None:
    """By default Swagger UI sends the document to validator.swagger.io."""
    start = client.get("/docs/start.js").text
    assert 'url: "openapi.json"' in start
    assert 'validatorUrl: "none"' in start


def test_the_page_supports_openapi_3_1(client: FlaskClient) -> None:
    """Swagger UI supports it since version 5.0."""
    found = re.search(rb'PACKAGE_VERSION:"(\d+)\.', client.get("/docs/swagger-ui-bundle.js").data)
    assert found
    assert int(found[1]) >= 5


@pytest.mark.parametrize("name", ["index.html", "../openapi.py", "..%2Fopenapi.py", "docs.html", "swagger-ui.js", ""])
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    """The answer is 404."""
    assert client.get(f"/docs/{name}").status_code == 404
