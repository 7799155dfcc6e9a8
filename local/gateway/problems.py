"""The gateway's own answers to requests that no service answers.

Programs get problem details (RFC 9457), as services give them; a browser that opens an address gets a page with a
link.
"""

import json
from collections.abc import Mapping
from functools import cache
from html import escape
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType
from typing import Final

from aiohttp import web

from local.gateway.routes import ANSWER_HEADERS

_TEXTS: Final = Path(__file__).parents[2] / "web" / "texts"
_LANGUAGES: Final = ("en", "it")
_PAGE_HEADERS: Final = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"}
_PAGE: Final = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · Towerwatch</title>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{text}</p>
<p><a href="{link_path}">{onward}</a></p>
</main>
</body>
</html>
"""

RETRY_AFTER_S: Final = 5
"""Seconds after which a request may be repeated that a service did not answer: most restarts take no longer."""

NO_ROUTE: Final = "There is nothing at this address; what there is can be read at /docs."
NO_PROXY: Final = "This address is no proxy: ask it for its own paths alone."
TOO_LARGE: Final = "The body is larger than anything that Towerwatch reads."
UNKNOWN_CODING: Final = "Send the body with a Content-Length, or by HTTP/1.1 in the transfer coding chunked alone."
COMPRESSED: Final = "Send the body as it is: a body in a content coding, such as gzip, is not read."
UNREADABLE_BODY: Final = "The body of the request cannot be read: its transfer coding is broken."


def build_problem(
    request: web.Request,
    status: HTTPStatus,
    detail: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    home: str = "/",
) -> web.Response:
    """Build the answer with a problem's details, or for a browser a page instead; no cache may store it.

    `home`: the path of the page to which the page of an address that does not exist links. The page of a service that
    does not answer links to itself.
    """
    if _is_opened_by_browser(request) and (status is HTTPStatus.NOT_FOUND or status >= HTTPStatus.BAD_GATEWAY):
        return web.Response(
            text=_render_page(_choose_language(request), home if status is HTTPStatus.NOT_FOUND else None),
            status=status.value,
            content_type="text/html",
            headers={"Cache-Control": "no-store", **ANSWER_HEADERS, **_PAGE_HEADERS, **headers},
        )
    return web.json_response(
        {"title": status.phrase, "status": status.value, "detail": detail},
        status=status.value,
        content_type="application/problem+json",
        headers={"Cache-Control": "no-store", **ANSWER_HEADERS, **headers},
    )


def _is_opened_by_browser(request: web.Request) -> bool:
    """Return True if a browser opens the address; False for a program or a script, which do not ask for HTML."""
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", "")


def _choose_language(request: web.Request) -> str:
    """Return the tag of the language that the visitor chose on the pages, or else the first that the browser names."""
    chosen = request.cookies.get("language")
    named = [
        each.partition(";")[0].strip()[:2].lower() for each in request.headers.get("Accept-Language", "").split(",")
    ]
    return next((tag for tag in (chosen, *named) if tag in _LANGUAGES), _LANGUAGES[0])


@cache
def _render_page(language: str, home: str | None) -> str:
    """Render the page of an address that does not exist, with a link to `home`.

    `home` None: the page of a service that does not answer now, with a link to itself. Cached: neither value is a
    visitor's own.
    """
    texts = json.loads((_TEXTS / f"{language}.json").read_text(encoding="utf-8"))
    title, text = (
        (texts["gateway.missing.title"], texts["gateway.missing.text"])
        if home is not None
        else (texts["gateway.unavailable.title"], texts["gateway.unavailable.text"])
    )
    onward = texts["gateway.again" if home is None else "gateway.onward"]
    # An empty reference is the present address, with its query (RFC 3986, 4.4): nothing of the request is written.
    values = {"title": title, "text": text, "onward": onward, "link_path": home or ""}
    return _PAGE.format(language=language, **{name: escape(value) for name, value in values.items()})


def build_unavailable(request: web.Request, status: HTTPStatus, service: str, event: str) -> web.Response:
    """Build the answer to a request that a service did not answer. `event`: what it did instead, as "does not run"."""
    detail = (
        f"The service {service} {event}. Repeat the request after {RETRY_AFTER_S} seconds; if it still fails, whoever "
        f"runs Towerwatch finds the reason in {service}.log."
    )
    return build_problem(request, status, detail, {"Retry-After": str(RETRY_AFTER_S)})
