"""The credentials of a request: a bearer token or a browser's session; and which requests may use a session.

A browser sends a cookie with each request to its host, also with those that a foreign page causes (cross-site request
forgery). A session's cookie therefore counts only in requests of pages of the service's own origin. ADR 53.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

_SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""The methods that change nothing (RFC 9110, 9.2.1)."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

FOREIGN: Final = (
    "This request was caused by a page of another origin, so the session's cookie does not count in it; use the pages "
    "of this service, or send a token in the header: Authorization: Bearer <token>."
)
UNPROVEN: Final = (
    "This request does not say which page caused it, so the session's cookie does not count in it; send the header "
    "Origin with the address of this service, or a token in the header: Authorization: Bearer <token>."
)


@dataclass(frozen=True, slots=True)
class SessionSecret:
    """The secret in the cookie of a browser's session, as it came: not verified yet."""

    text: str = field(repr=False)


Credential = str | SessionSecret
"""A bearer token as a plain text, or the secret of a session. Neither is ever accepted in place of the other."""


def parse_origin(url: str) -> tuple[str, str, int] | None:
    """Return the origin of an http(s) URL: scheme, host and port (RFC 6454, 4), in lower case; None if it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname.removesuffix("."), _DEFAULT_PORTS[parts.scheme] if port is None else port


def find_origin_fault(method: str, site: str | None, origin: str | None, own: Collection[str]) -> str | None:
    """Return the sentence that says why a request may not use a cookie; None if a page of an own origin has sent it.

    `site` is the header Sec-Fetch-Site (W3C Fetch Metadata), which no page can forge, `origin` the header Origin, `own`
    URLs of the own origins. If `site` is there, it alone decides: `same-origin` may do anything; `none` (the person has
    typed the address) may only read. A request with neither header comes from a program or an old browser, and may only
    read.
    """
    is_safe = method in _SAFE_METHODS
    if site is not None:
        return None if site == "same-origin" or (site == "none" and is_safe) else FOREIGN
    if origin is None:
        return None if is_safe else UNPROVEN
    sender = parse_origin(origin)
    return None if sender is not None and sender in map(parse_origin, own) else FOREIGN
