"""Request targets (RFC 9112, 3.2): their host, path and query, in the one form that routes and services understand."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

_ABSOLUTE: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_BROKEN_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ASCII: Final = "".join(chr(code) for code in range(0x21, 0x7F))
_SEPARATOR: Final = re.compile(rb"[/\\]")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")


class UnreadableTargetError(Exception):
    """The request's target is none that the gateway passes on; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RequestTarget:
    """A request's target in ASCII, without dot segments, and with no unreserved character escaped."""

    path: str
    query: str
    """Empty, or with its question mark."""
    host: str | None = None
    """The host and port of a target in absolute form, which count in place of the header `Host`; None: another form."""


def parse_target(text: str) -> RequestTarget:
    """Parse the target of a request that is in origin form or absolute form.

    Escapes of unreserved characters are decoded (RFC 3986, 6.2.2.2), and what is not ASCII is escaped, so that a path
    has one spelling. Dot segments are refused and not resolved: a browser has resolved its own, and the services, which
    decode the path once more, must not see another path than the routes. Raises UnreadableTargetError.
    """
    host = None
    if absolute := _ABSOLUTE.fullmatch(text):
        host, text = absolute[1], absolute[2]
        text = text if text.startswith("/") else f"/{text}"
    if not text.startswith("/"):
        raise UnreadableTargetError("Ask for a path that begins with a slash.")
    if "#" in text:
        raise UnreadableTargetError("Leave out the fragment (the part from # on): it is the browser's alone.")
    path, mark, query = text.partition("?")
    return RequestTarget(_normalize_path(path), mark + _escape(query), host)


def _normalize_path(path: str) -> str:
    """Return a path in its one spelling; see `parse_target`. Raises UnreadableTargetError."""
    if _BROKEN_ESCAPE.search(path):
        raise UnreadableTargetError("Write two hexadecimal digits after each % of the path, and % itself as %25.")
    path = _ESCAPE.sub(_decode_unreserved, _escape(path))
    decoded = unquote_to_bytes(path)
    if any(segment in (b".", b"..") for segment in _SEPARATOR.split(decoded)):
        raise UnreadableTargetError("Leave out the segments . and .. of the path.")
    if _CONTROL.search(decoded):
        raise UnreadableTargetError("Leave out the control characters of the path.")
    return path


def _decode_unreserved(escape: re.Match[str]) -> str:
    """Return the character of an escape if it is unreserved, else the escape unchanged."""
    code = int(escape[1], 16)
    return chr(code) if code in _UNRESERVED else escape[0]


def _escape(text: str) -> str:
    """Return a text in which every byte that is not printable ASCII is escaped; escapes in it are kept."""
    return quote(text.encode("utf-8", "surrogateescape"), safe=_ASCII)
