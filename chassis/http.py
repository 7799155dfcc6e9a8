"""HTTP as every service speaks it: problem details for each error, health, metrics, bearer tokens."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import structlog
from flask import Flask, Response, g, jsonify, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import HTTPException

from chassis.metrics import Metrics

log = structlog.get_logger()

B = TypeVar("B", bound=BaseModel)

BODY_LIMIT = 64 * 1024
"""Bytes of the largest request body that is read."""


class Problem(Exception):
    """An answer that says what is wrong and what to do (RFC 9457). `detail` must hold nothing secret."""

    def __init__(self, status: int, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members
        """Further members of the answer, by name."""

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        body = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail, **self.members}
        response = jsonify(body)
        response.status_code = self.status
        response.content_type = "application/problem+json"
        if self.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Bearer"  # RFC 9110, 15.5.2: not without a challenge
        response.headers.update(headers or {})
        return response


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """How one class of a service's errors is answered; the error's own text is the detail."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


def create_app(
    name: str, metrics: Metrics, problems: Mapping[type[Exception], ProblemKind], ready: Callable[[], bool]
) -> Flask:
    """A Flask app with health, metrics and error answers; the service adds its own blueprints.

    `problems` is the service's one table of errors; `ready` may block briefly and must not raise.
    """
    app = Flask(name)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]
    _answer_errors(app, problems)
    _count_requests(app, metrics)

    @app.get("/health/live")
    def live() -> Response:
        return jsonify(status="alive")

    @app.get("/health/ready")
    def readiness() -> Response:
        if not ready():
            raise Problem(503, "The database does not answer; try again shortly.")
        return jsonify(status="ready")

    @app.get("/metrics")
    def exposition() -> Response:
        body, content_type = metrics.exposition()
        return Response(body, content_type=content_type)

    return app


def _answer_errors(app: Flask, problems: Mapping[type[Exception], ProblemKind]) -> None:
    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return error.response()

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        answer = Problem(error.code or 500, error.description or "").response()
        for header, value in error.get_headers():
            if header in ("Allow", "Retry-After"):
                answer.headers[header] = value
        return answer

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("http.unexpected_error", endpoint=_route(), error=type(error).__name__, exc_info=error)
        return Problem(500, "Something went wrong on our side; it has been logged.").response()

    for kind, answer in problems.items():

        def known(error: Exception, answer: ProblemKind = answer) -> Response:
            return Problem(answer.status, str(error)).response(answer.headers)

        app.register_error_handler(kind, known)


def _route() -> str:
    """The route's template: never the path, which may hold an address."""
    return request.url_rule.rule if request.url_rule else "unmatched"


def _count_requests(app: Flask, metrics: Metrics) -> None:
    total = metrics.counter("http_requests_total", "HTTP requests answered", "method", "endpoint", "status")
    seconds = metrics.histogram("http_request_duration_seconds", "Time to answer a request", "method", "endpoint")

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        # An unknown method is a stranger's text; it must not become a label.
        method = request.method if request.method in _METHODS else "other"
        total.labels(method=method, endpoint=_route(), status=str(response.status_code)).inc()
        if "started" in g:
            seconds.labels(method=method, endpoint=_route()).observe(time.perf_counter() - g.started)
        return response


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def bearer_token() -> str:
    """The request's bearer token (RFC 6750). Raises Problem 401."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "Send your token in the header: Authorization: Bearer <token>.")
    return token.strip()


def parsed_body(model: type[B]) -> B:
    """The request's JSON body as `model`. Raises Problem 415, 400, or 422 with one entry for each fault."""
    if not request.is_json:
        raise Problem(415, "Send JSON, with the header Content-Type: application/json.")
    try:
        body: Any = request.get_json(silent=True)
    except RecursionError:  # nested deeper than Python's own limit
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "The body must be one JSON object.")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = [{"field": ".".join(map(str, e["loc"])) or "body", "message": e["msg"]} for e in error.errors()]
        said = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults)
        raise Problem(422, said, errors=faults) from None
