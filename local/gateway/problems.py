"""The gateway's own answers to requests that no service answers: problem details (RFC 9457), as services give them."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from aiohttp import web

from local.gateway.routes import ANSWER_HEADERS

RETRY_AFTER_S: Final = 5
"""Seconds after which a request may be repeated that a service did not answer: most restarts take no longer."""

NO_ROUTE: Final = "There is nothing at this address; what there is can be read at /docs."
NO_PROXY: Final = "This address is no proxy: ask it for its own paths alone."
TOO_LARGE: Final = "The body is larger than anything that Towerwatch reads."
UNKNOWN_CODING: Final = "Send the body with a Content-Length, or by HTTP/1.1 in the transfer coding chunked alone."
COMPRESSED: Final = "Send the body as it is: a body in a content coding, such as gzip, is not read."
UNREADABLE_BODY: Final = "The body of the request cannot be read: its transfer coding is broken."


def build_problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] = MappingProxyType({})) -> web.Response:
    """Build the answer with a problem's details; no cache may store it."""
    return web.json_response(
        {"title": status.phrase, "status": status.value, "detail": detail},
        status=status.value,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **ANSWER_HEADERS, **headers},
    )


def build_unavailable(status: HTTPStatus, service: str, event: str) -> web.Response:
    """Build the answer to a request that a service did not answer. `event`: what it did instead, as "does not run"."""
    detail = (
        f"The service {service} {event}. Repeat the request after {RETRY_AFTER_S} seconds; if it still fails, whoever "
        f"runs Towerwatch finds the reason in {service}.log."
    )
    return build_problem(status, detail, {"Retry-After": str(RETRY_AFTER_S)})
