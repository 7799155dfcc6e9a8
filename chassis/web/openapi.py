"""The OpenAPI 3.1 document of a service, generated from its routes, and a page that shows it.

The input and output of a route are defined once, in `describe` beside the route. The same models parse the request and
build the answer, so that the document cannot differ from the code. See docs/adr/0009.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final, Literal

from flask import (
    Blueprint,
    Flask,
    Response,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template,
    send_from_directory,
    url_for,
)
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from chassis.web.compression import compress_answer
from chassis.web.http import (
    HeaderField,
    ProblemDetails,
    Reply,
    format_path_template,
    require_known_parameters,
)

_REFERENCE: Final = "#/components/schemas/{model}"

_PROBLEM_HEADERS: Final = {
    401: ("WWW-Authenticate", "How to identify yourself (RFC 6750)."),
    429: ("Retry-After", "Seconds to wait."),
    503: ("Retry-After", "Seconds to wait."),
}
"""For each status, the header that its problem details always have, and the header's description."""


@dataclass(frozen=True, slots=True)
class ResponseDescription:
    """The description of a route's answer with one status: its body and headers."""

    body: type[BaseModel] | Literal["text/html"] | None = None
    """The model of a JSON body, or the type of a page; None: no body."""
    description: str = ""
    """The answer's description; empty: the phrase of the status."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """The description of each header of the answer, by name."""


@dataclass(frozen=True, slots=True)
class Operation:
    """The description of a route, as passed to `describe`; one operation of the OpenAPI document."""

    summary: str
    answers: Mapping[int, ResponseDescription]
    """The successful answers, by status."""
    problems: frozenset[int]
    """The statuses that are answered with problem details."""
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    headers: tuple[HeaderField, ...]
    path: Mapping[str, Mapping[str, object]]
    """The JSON schema of path parameters, by name."""
    auth: Literal["user", "operator", "session"] | None
    """Whose bearer token is required (a user's session is accepted, too), or that a session is; None: nothing."""
    is_compressed: bool
    """True if answers are compressed for clients that take that; False if never."""


def describe(
    summary: str,
    *,
    answers: Mapping[int, ResponseDescription],
    problems: tuple[int, ...] = (),
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    headers: tuple[HeaderField, ...] = (),
    path: Mapping[str, Mapping[str, object]] | None = None,
    auth: Literal["user", "operator", "session"] | None = None,
    is_compressed: bool = False,
) -> Callable[[Callable[..., Reply | Response]], Callable[..., Response]]:
    """Attach the OpenAPI description to a route's function; apply this decorator below the route's own decorator.

    The function's name becomes the operation's id. The function returns a Reply, whose status and model must be
    described here, or, for a page, a Response. `problems` are further statuses with problem details, besides those that
    follow from the other parameters: 401 and 403 for `auth`; 400, 413, 415 and 422 for a `body`; 400 for `headers`; and
    422 for parameters in the query that are not known. (A page ignores these: mail servers and others add some to
    links.) `path` gives the schema of a path parameter where Flask's converter does not suffice. With `is_compressed`
    replies are compressed as `compress_answer` says: only for routes whose answers hold no secret. The decorated
    function raises TypeError if the reply's model is not the one described, KeyError if its status is not described.
    """
    is_page = any(each.body == "text/html" for each in answers.values())
    statuses = {
        *problems,
        *((401, 403) if auth else ()),
        *((400, 413, 415, 422) if body else ()),
        *(() if is_page else (422,)),
        *((400,) if headers else ()),
    }
    operation = Operation(summary, answers, frozenset(statuses), body, query, headers, path or {}, auth, is_compressed)

    def decorate(view: Callable[..., Reply | Response]) -> Callable[..., Response]:
        @wraps(view)
        def answer(**values: object) -> Response:
            """Call the route's function, and return its reply as a response if its model is the one described."""
            if query is None and not is_page:
                require_known_parameters(None)
            reply = view(**values)
            if isinstance(reply, Response):
                return reply
            described = answers[reply.status].body
            if (None if reply.body is None else type(reply.body)) is not described:
                raise TypeError(f"{view.__name__} answers {reply.status} with another body than it describes")
            response = reply.to_response()
            return compress_answer(response) if is_compressed else response

        answer.operation = operation  # type: ignore[attr-defined]
        return answer

    return decorate


def build_document(
    app: Flask, title: str, version: str, description: str, session_cookie: str | None = None
) -> dict[str, object]:
    """Return the OpenAPI document of all routes of the app that are described, with the schemas of their models.

    `title`, `version` and `description` are those of the service. `session_cookie` is the name of the cookie that
    routes for users accept beside a bearer token; None: they accept none.
    """
    found = list(_iter_operations(app))
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [(ProblemDetails, "serialization")]
    for _, _, operation in found:
        if operation.body:
            models.append((operation.body, "validation"))
        models += [
            (answer.body, "serialization")
            for answer in operation.answers.values()
            if isinstance(answer.body, type) and (answer.body, "serialization") not in models
        ]
    _, definitions = models_json_schema(models, ref_template=_REFERENCE)
    paths: dict[str, dict[str, object]] = {}
    for rule, method, operation in found:
        shown = _build_operation(rule, operation, session_cookie)
        paths.setdefault(format_path_template(rule), {})[method.lower()] = shown
    schemes: dict[str, object] = {"bearer": {"type": "http", "scheme": "bearer"}}
    if session_cookie is not None:
        schemes["session"] = {"type": "apiKey", "in": "cookie", "name": session_cookie}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": schemes,
        },
    }


def _iter_operations(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Yield the rule, method and description of each described route of the app, without HEAD and OPTIONS."""
    for rule in app.url_map.iter_rules():
        operation = getattr(app.view_functions[rule.endpoint], "operation", None)
        if operation is not None:
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
                yield rule, method, operation


def _build_operation(rule: Rule, operation: Operation, session_cookie: str | None) -> dict[str, object]:
    """Return the OpenAPI object of a route: parameters, body, security, and its responses in the order of their status.

    Its id is the name of the route's function, its tag the name of the blueprint.
    """
    group, _, name = rule.endpoint.rpartition(".")
    responses = {status: _build_response(status, answer) for status, answer in operation.answers.items()}
    responses |= {status: _build_problem_response(status) for status in operation.problems if status not in responses}
    shown: dict[str, object] = {
        "operationId": name,
        "summary": operation.summary,
        "tags": [group],
        "parameters": list(_build_parameters(rule, operation)),
        "responses": {str(status): responses[status] for status in sorted(responses)},
    }
    if operation.body:
        schema = {"$ref": _REFERENCE.format(model=operation.body.__name__)}
        shown["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.auth:
        # OpenAPI 3.1, 4.8.30: the list beside a scheme that is not OAuth holds the roles that are required
        bearer = {"bearer": ["operator"] if operation.auth == "operator" else []}
        session: dict[str, list[str]] = {"session": []}
        if operation.auth == "session":
            shown["security"] = [session]
        else:
            shown["security"] = [bearer, session] if operation.auth == "user" and session_cookie else [bearer]
    return shown


def _build_parameters(rule: Rule, operation: Operation) -> Iterator[dict[str, object]]:
    """Yield the OpenAPI objects of a route's parameters: first those in the path, then headers, then the query.

    A path parameter without a schema in `path` is a string, or a UUID if Flask's converter is `uuid`.
    """
    for converter, name in re.findall(r"<(?:(\w+)[^<>:]*:)?([^<>]+)>", rule.rule):
        schema = operation.path.get(name) or {"type": "string"} | ({"format": "uuid"} if converter == "uuid" else {})
        yield {"name": name, "in": "path", "required": True, "schema": schema}
    for header in operation.headers:
        schema = {"type": "string", "pattern": header.pattern, "examples": [header.example]}
        yield {
            "name": header.name, "in": "header", "required": header.required, "description": header.description,
            "schema": schema,
        }  # fmt: skip
    if operation.query:
        described = operation.query.model_json_schema()
        for name, schema in described["properties"].items():
            yield {"name": name, "in": "query", "required": name in described.get("required", ()), "schema": schema}


def _build_response(status: int, answer: ResponseDescription) -> dict[str, object]:
    """Return the OpenAPI object of an answer with this status: its description, headers and content, if any."""
    shown: dict[str, object] = {"description": answer.description or HTTPStatus(status).phrase}
    if answer.headers:
        shown["headers"] = {
            name: {"description": description, "required": True, "schema": {"type": "string"}}
            for name, description in answer.headers.items()
        }
    if isinstance(answer.body, str):
        shown["content"] = {answer.body: {"schema": {"type": "string"}}}
    elif answer.body is not None:
        schema = {"$ref": _REFERENCE.format(model=answer.body.__name__)}
        shown["content"] = {"application/json": {"schema": schema}}
    return shown


def _build_problem_response(status: int) -> dict[str, object]:
    """Return the OpenAPI object of an answer with problem details, with the header that this status always has."""
    headers = dict([_PROBLEM_HEADERS[status]]) if status in _PROBLEM_HEADERS else {}
    schema = {"$ref": _REFERENCE.format(model=ProblemDetails.__name__)}
    return _build_response(status, ResponseDescription(headers=headers)) | {
        "content": {"application/problem+json": {"schema": schema}}
    }


_SWAGGER_UI: Final = Path(str(distribution("swagger-ui-py").locate_file("swagger_ui/static")))
_OUR_FILES: Final = Path(__file__).parent / "docs"
_FILES: Final = {
    "swagger-ui.css": _SWAGGER_UI,
    "swagger-ui-bundle.js": _SWAGGER_UI,
    "favicon-32x32.png": _SWAGGER_UI,
    "start.js": _OUR_FILES,
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_blueprint(
    title: str, version: str, description: str, session_cookie: str | None = None, *, has_start: bool = True
) -> Blueprint:
    """Create the routes GET /openapi.json and GET /docs, a page with Swagger UI that loads nothing from other hosts.

    A browser that asks for / is sent to /docs, unless `has_start` is False: the service has a page of its own there.
    The page's files are below /docs. The document is built at the first request, and kept; `build_document` says what
    `session_cookie` is. All answers have headers that restrict what browsers may load.
    """
    blueprint = Blueprint("openapi", __name__, template_folder="docs")

    @cache
    def described() -> dict[str, Any]:
        return build_document(current_app, title, version, description, session_cookie)

    @blueprint.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(described())

    if has_start:

        @blueprint.get("/")
        def start() -> Response:
            return make_response(redirect(url_for("openapi.page")))

    @blueprint.get("/docs")
    def page() -> Response:
        return make_response(render_template("docs.html", title=title))

    @blueprint.get("/docs/<any({}):name>".format(", ".join(f'"{name}"' for name in _FILES)))
    def file(name: str) -> Response:
        return send_from_directory(_FILES[name], name)

    @blueprint.after_request
    def secure(response: Response) -> Response:
        """Add the headers that restrict what browsers may load, and return the response."""
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    return blueprint
