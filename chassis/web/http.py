"""The Flask app of every service: problem details for each error, health, metrics, bearer tokens."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, Final, TypeVar
from uuid import UUID

import structlog
from flask import Flask, Response, g, jsonify, request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule

from chassis.faults import describe_fault
from chassis.hosts import AllowedHosts, is_exempt
from chassis.metrics import Metrics
from chassis.web.numbers import load_json

log = structlog.get_logger()

B = TypeVar("B", bound=BaseModel)

BODY_LIMIT = 64 * 1024
"""Bytes of the largest request body that is read."""

_MOST_FAULTS: Final = 20


class Fault(BaseModel):
    """A fault of one member of a body, or of one parameter."""

    field: str
    message: str


class ProblemDetails(BaseModel):
    """What is wrong and what to do (RFC 9457). There is no `type`: the title is the one of the status."""

    title: str
    status: int
    detail: str
    errors: list[Fault] | None = None


class Problem(Exception):
    """An error that is answered with problem details; `detail` is shown to the client, and holds nothing secret.

    A 401 always gets the header `WWW-Authenticate: Bearer`.
    """

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str] | None = None, errors: Sequence[Fault] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        # RFC 9110, 15.5.2: no 401 without a challenge
        self.headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
        self.headers.update(headers or {})
        self.errors = errors

    def build_details(self) -> dict[str, object]:
        """Return the members of the answer's JSON object: title (the status' phrase), status, detail, errors if any."""
        details = ProblemDetails(
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=_replace_surrogates(self.detail),
            errors=None if self.errors is None else list(self.errors),
        )
        return details.model_dump(exclude_none=True)

    def to_response(self) -> Response:
        """Return the problem as a response (`application/problem+json`) with its status and headers."""
        response = jsonify(self.build_details())
        response.status_code = self.status
        response.content_type = "application/problem+json"
        response.headers.update(self.headers)
        return response


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """The status and headers with which one class of a service's errors is answered; the error's text is the detail."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)
    """The member of the request for each field of the error that is named otherwise there."""

    def build_problem(self, error: Exception) -> Problem:
        """Return the problem that answers an error.

        An error with an attribute `retry_after_s` gets a `Retry-After`; one with an attribute `field` that is not None,
        or with `fields`, is listed in `errors`, too, as the fault of these members of the request.
        """
        wait, only = getattr(error, "retry_after_s", None), getattr(error, "field", None)
        fields = getattr(error, "fields", ()) if only is None else (only,)
        message = _replace_surrogates(str(error))
        return Problem(
            self.status,
            str(error),
            dict(self.headers) | ({} if wait is None else {"Retry-After": str(wait)}),
            [Fault(field=self.members.get(each, each), message=message) for each in fields] or None,
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer of a route, whose body is the model that the OpenAPI document describes; None: no body."""

    body: BaseModel | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_response(self) -> Response:
        """Return the reply as a Flask response: its status and headers, and its body as JSON or no body at all."""
        response = Response() if self.body is None else jsonify(self.body.model_dump(mode="json"))
        if self.body is None:
            del response.headers["Content-Type"]
        response.status_code = self.status
        response.headers.update(self.headers)
        return response


def create_app(
    name: str,
    metrics: Metrics,
    problems: Mapping[type[Exception], ProblemKind],
    explain_unready: Callable[[], str | None],
    hosts: AllowedHosts | None = None,
) -> Flask:
    """Create a Flask app with health, metrics and error answers, to which the service adds its own blueprints.

    It answers GET /health/live, /health/ready (503 if `explain_unready` returns a sentence) and /metrics, limits bodies
    to 64 KiB, and measures its requests. `problems` is the service's table of errors. `explain_unready` returns the
    sentence that says why the service cannot work, or None if it can; it may block briefly and must not raise.
    Requests for other hosts than `hosts` (None: localhost and IP addresses) are refused, but for health checks.
    """
    allowed_hosts = hosts or AllowedHosts()
    app = Flask(name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # a path may contain a value with two slashes in a row
    _register_error_handlers(app, problems)
    _register_request_metrics(app, metrics)

    @app.before_request
    def check_host() -> None:
        fault = None if is_exempt(request.path) else allowed_hosts.find_fault(request.environ.get("HTTP_HOST"))
        if fault is not None:
            raise Problem(*fault)

    @app.get("/health/live")
    def live() -> Response:
        return jsonify(status="alive")

    @app.get("/health/ready")
    def readiness() -> Response:
        reason = explain_unready()
        if reason is not None:
            raise Problem(503, reason)
        return jsonify(status="ready")

    @app.get("/metrics")
    def exposition() -> Response:
        body, content_type = metrics.format_exposition()
        return Response(body, content_type=content_type)

    return app


def _register_error_handlers(app: Flask, problems: Mapping[type[Exception], ProblemKind]) -> None:
    """Make the app answer every error with problem details.

    A Problem is answered as it is, and an error of the service by its table `problems`. Errors of Flask keep their
    status and the headers `Allow` and `Retry-After`, and get a text of ours. Any other error is logged and answered
    with 500.
    """

    @app.errorhandler(Problem)
    def problem(error: Problem) -> Response:
        return error.to_response()

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        headers = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
        status = error.code or 500
        return Problem(status, _HTTP_ERRORS.get(status, _describe_status(status)), headers).to_response()

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        log.error("http.unexpected_error", endpoint=_get_route_template(), error=type(error).__name__, exc_info=error)
        return Problem(500, "Something went wrong on our side; it has been logged.").to_response()

    for kind, answer in problems.items():

        def known(error: Exception, answer: ProblemKind = answer) -> Response:
            return answer.build_problem(error).to_response()

        app.register_error_handler(kind, known)


_HTTP_ERRORS: Final[Mapping[int, str]] = {
    400: "This is not a request that can be read.",
    404: "There is nothing at this path; /openapi.json lists all paths.",
    405: "This path does not take this method; the header Allow lists those that it takes.",
    413: f"The body is larger than the {BODY_LIMIT // 1024} KiB that are read.",
    415: "Send JSON, with the header Content-Type: application/json.",
    500: "Something went wrong on our side; it has been logged.",
}
"""The texts of Flask's own errors, by status: its descriptions are written for browsers."""


def _describe_status(status: int) -> str:
    """Return a sentence about a status that has no text of its own here."""
    return f"This request cannot be answered ({HTTPStatus(status).phrase.lower()})."


def format_path_template(rule: Rule) -> str:
    """Return the path template of a route in OpenAPI's form: `/things/{name}`, without Flask's converters."""
    return re.sub(r"<(?:[^<>:]*:)?([^<>]+)>", r"{\1}", rule.rule)


def _get_route_template() -> str:
    """Return the path template of the request's route, or "unmatched"; the path itself may contain an address."""
    return format_path_template(request.url_rule) if request.url_rule else "unmatched"


def _register_request_metrics(app: Flask, metrics: Metrics) -> None:
    """Make the app count its requests by method, path template and status, and observe their durations in seconds.

    An unknown method counts as "other".
    """
    total = metrics.counter("http_requests_total", "HTTP requests answered", "method", "endpoint", "status")
    seconds = metrics.histogram("http_request_duration_seconds", "Time to answer a request", "method", "endpoint")

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        """Count the answered request and observe its duration; return the response unchanged."""
        # An unknown method is any text from a client, and must not become a label.
        method = request.method if request.method in _METHODS else "other"
        total.labels(method=method, endpoint=_get_route_template(), status=str(response.status_code)).inc()
        if "started" in g:
            seconds.labels(method=method, endpoint=_get_route_template()).observe(time.perf_counter() - g.started)
        return response


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def read_bearer_token() -> str:
    """Return the bearer token of the header `Authorization` (RFC 6750), unverified. Raises Problem 401 without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(401, "Send your token in the header: Authorization: Bearer <token>.")
    return token.strip()


def parse_body(model: type[B]) -> B:
    """Return the request's JSON body, validated, as a `model`.

    Raises Problem 415 if its type is not JSON, 400 if it is not one JSON object, and 422 with one entry for each fault
    of its members, up to 20.
    """
    if not request.is_json:
        raise Problem(415, "Send JSON, with the header Content-Type: application/json.")
    try:
        body: Any = load_json(request.get_data())
    except JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Problem(400, f"The body must be one JSON object, and cannot be read from {place} on.") from None
    except (ValueError, RecursionError):  # not UTF-8, or nested deeper than Python's own limit
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "The body must be one JSON object.")
    return _validate(model, body, "body")


def parse_query(model: type[B]) -> B:
    """Return the request's query, validated, as a `model`. Raises Problem 422 with one entry for each fault.

    The model gets each value as a text. Parameters that the model does not have are faults, and so is one that is given
    more than once.
    """
    require_known_parameters(model)
    given = dict(request.args.lists())
    twice = [Fault(field=name, message="is given more than once") for name, values in given.items() if len(values) > 1]
    if twice:
        raise _build_validation_problem(twice)
    return _validate(model, {name: value for name, (value,) in given.items()}, "query")


def require_known_parameters(model: type[BaseModel] | None) -> None:
    """Raise Problem 422 if the request's query has parameters that `model` does not have; None: it may have none.

    Each entry names one of them, and the known ones; up to 20.
    """
    known = list(model.model_fields) if model is not None else []
    unknown = sorted(request.args.keys() - set(known))[:_MOST_FAULTS]
    if unknown:
        listed = f"the parameters are {', '.join(known)}" if known else "this address has no parameters"
        raise _build_validation_problem(
            [Fault(field=_replace_surrogates(name), message=f"is not known here: {listed}") for name in unknown]
        )


def _validate(model: type[B], given: Mapping[str, object], whole: str) -> B:
    """Validate values as a `model`, and return it. Raises Problem 422 with one entry for each fault, up to 20.

    `whole` is the name of a fault that concerns no single member: "body" or "query".
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _build_validation_problem(
            [
                Fault(
                    field=_replace_surrogates(".".join(map(str, e["loc"]))) or whole,
                    message=_replace_surrogates(_describe_fault_of(model, e)),
                )
                for e in error.errors(include_url=False, include_input=False)[:_MOST_FAULTS]
            ]
        ) from None


def _describe_fault_of(model: type[BaseModel], fault: ErrorDetails) -> str:
    """Return what is wrong with a member of a body or query; of an unknown one, which member may be meant.

    A model may say more of members that it does not take, in `REFUSED_MEMBERS`: sentences by the member's name.
    """
    if fault["type"] != "extra_forbidden" or len(fault["loc"]) != 1:
        return describe_fault(fault)
    name = str(fault["loc"][0])
    refused: Mapping[str, str] = getattr(model, "REFUSED_MEMBERS", {})
    if name in refused:
        return refused[name]
    known = list(model.model_fields)
    longer = [each for each in known if len(name) > 2 and each.startswith(f"{name.lower()}_")]
    near = longer or get_close_matches(name.lower(), known, n=1, cutoff=0.75)
    return f"is not known here; did you mean {' or '.join(near)}?" if 1 <= len(near) <= 3 else describe_fault(fault)


def _build_validation_problem(faults: Sequence[Fault]) -> Problem:
    """Return a Problem 422 with these faults, which its detail lists in one text."""
    return Problem(422, "; ".join(f"{fault.field}: {fault.message}" for fault in faults), errors=faults)


def _replace_surrogates(text: str) -> str:
    """Return `text` with each single half of a surrogate pair replaced by "?": JSON can contain them, UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """A header field of requests: the form that `read_value` requires, and its description in the OpenAPI document."""

    name: str
    description: str
    pattern: str
    """A regular expression that ECMA 262 and Python read alike, from `^` to `$`."""
    example: str
    required: bool = False
    """True if the OpenAPI document shows the header as required."""

    def read_value(self) -> str | None:
        """Return the request's value of this header, or None if it is missing, even if it is `required`.

        Raises Problem 400 if the value does not match `pattern`.
        """
        given = request.headers.get(self.name)
        if given is not None and not re.fullmatch(self.pattern, given):
            raise Problem(400, f"The header {self.name} must be like this: {self.name}: {self.example}")
        return given


_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
IDEMPOTENCY_KEY: Final = HeaderField(
    "Idempotency-Key",
    "A UUID in double quotes, new for each thing that you want done: what is sent again with it is done once "
    "(draft-ietf-httpapi-idempotency-key-header). Accepted without the quotes, too.",
    f'^("{_UUID}"|{_UUID})$',
    '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
)


def read_idempotency_key() -> UUID | None:
    """Return the request's idempotency key, or None if it has none. Raises Problem 400 if the key is not a UUID."""
    given = IDEMPOTENCY_KEY.read_value()
    return None if given is None else UUID(given.strip('"'))
