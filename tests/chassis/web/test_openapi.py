"""A service's description: made from its routes, true to them, and shown by a page that needs no network."""

import re
from uuid import UUID

import pytest
from flask import Blueprint, Flask, Response
from flask.testing import FlaskClient
from pydantic import BaseModel, ConfigDict, Field

from chassis.metrics import Metrics, ServiceIdentity
from chassis.web import openapi
from chassis.web.http import IF_MATCH, ProblemKind, Reply, create_app, parse_body, parse_query, read_bearer_token
from chassis.web.openapi import ResponseDescription, describe


class NewThing(BaseModel):
    """What is to be made."""

    model_config = ConfigDict(extra="forbid")

    size: int = Field(ge=1)


class Thing(BaseModel):
    """What there is."""

    thing_id: UUID
    size: int


class Which(BaseModel):
    """A query."""

    colour: str
    most: int = 10


def blueprint() -> Blueprint:
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
    app = create_app("example", Metrics(ServiceIdentity("example", "node-1")), problems, lambda: True)
    app.register_blueprint(blueprint())
    app.register_blueprint(openapi.create_blueprint("Things", "7", "What there is."))
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def operation(client: FlaskClient, path: str, method: str) -> dict[str, object]:
    document = client.get("/openapi.json").json
    assert document is not None
    return dict(document["paths"][path][method])


def test_the_document_says_what_it_is_about(client: FlaskClient) -> None:
    """OpenAPI 3.1 with what the service says of itself, and no route that is not described."""
    document = client.get("/openapi.json").json
    assert document is not None
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "Things", "version": "7", "description": "What there is."}
    assert set(document["paths"]) == {
        "/things", "/things/{thing_id}", "/pages/{name}", "/lies/status", "/lies/body"
    }  # fmt: skip
    assert document["components"]["securitySchemes"] == {"bearer": {"type": "http", "scheme": "bearer"}}


def test_an_operation_is_named_for_its_function(client: FlaskClient) -> None:
    """And grouped by its blueprint."""
    described = operation(client, "/things/{thing_id}", "put")
    assert described["operationId"] == "change_thing"
    assert described["tags"] == ["things"]
    assert described["summary"] == "Change a thing"


def test_bodies_are_shown_by_the_models_that_read_and_make_them(client: FlaskClient) -> None:
    """As JSON Schema 2020-12, by reference."""
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


def test_problems_follow_from_what_a_route_takes(client: FlaskClient) -> None:
    """Each is problem details, with the header that such an answer has."""
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


def test_parameters_follow_from_the_path_and_from_what_is_read(client: FlaskClient) -> None:
    """The path's by its converters, unless the route says more."""
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


def test_what_needs_which_token_is_said(client: FlaskClient) -> None:
    """The operator's role stands beside the scheme."""
    assert operation(client, "/things/{thing_id}", "put")["security"] == [{"bearer": []}]
    assert operation(client, "/things", "get")["security"] == [{"bearer": ["operator"]}]
    assert "security" not in operation(client, "/pages/{name}", "get")


def test_routes_answer_what_their_functions_return(client: FlaskClient) -> None:
    """Models as JSON, nothing as nothing, pages as they are."""
    path = f"/things/{UUID(int=7)}"
    changed = client.put(path, json={"size": 3}, headers={"Authorization": "Bearer x"})
    assert changed.json == {"thing_id": str(UUID(int=7)), "size": 3}
    assert changed.headers["ETag"] == '"1"'
    deleted = client.delete("/things")
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert client.get("/pages/x").text == "<p>"


@pytest.mark.parametrize("path", ["/lies/status", "/lies/body"])
def test_a_route_cannot_answer_what_it_does_not_describe(client: FlaskClient, path: str) -> None:
    """It is a bug of ours, and found by whoever runs it once."""
    assert client.get(path).status_code == 500


FILES = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "start.js"]


def test_the_page_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    """Each of its files is served here, no script stands in the page, and its policy forbids the rest."""
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


def test_the_page_shows_this_services_document_to_nobody(client: FlaskClient) -> None:
    """Swagger UI would have validator.swagger.io judge it."""
    start = client.get("/docs/start.js").text
    assert 'url: "openapi.json"' in start
    assert 'validatorUrl: "none"' in start


def test_the_page_can_show_this_version_of_openapi(client: FlaskClient) -> None:
    """Swagger UI does since 5.0."""
    found = re.search(rb'PACKAGE_VERSION:"(\d+)\.', client.get("/docs/swagger-ui-bundle.js").data)
    assert found
    assert int(found[1]) >= 5


@pytest.mark.parametrize("name", ["index.html", "../openapi.py", "..%2Fopenapi.py", "docs.html", "swagger-ui.js", ""])
def test_no_other_file_is_served(client: FlaskClient, name: str) -> None:
    """404."""
    assert client.get(f"/docs/{name}").status_code == 404
