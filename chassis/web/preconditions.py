"""Preconditions of requests (RFC 9110, 13): entity tags, and the headers If-Match and If-None-Match."""

import re
from dataclasses import dataclass
from typing import Final

from chassis.web.http import HeaderField, Problem

_TAG: Final = '(W/)?"[!#-~]*"'
IF_MATCH: Final = HeaderField(
    "If-Match",
    "The ETag of what you want to change, so that nobody's change in between is lost, or `*` to change it whatever it "
    "is now (RFC 9110, 13.1.1). "
    'A tag that a proxy has changed when it compressed the answer (`W/"1"`, `"1-gzip"`) is accepted, too.',
    rf"^(\*|(,[ \t]*)*{_TAG}([ \t]*,([ \t]*{_TAG})?)*)$",
    '"1"',
    required=True,
)

IF_NONE_MATCH: Final = HeaderField(
    "If-None-Match",
    "The ETag of the answer that you have: if nothing has changed since, the answer is 304, without a body.",
    rf"^(\*|(,[ \t]*)*{_TAG}([ \t]*,([ \t]*{_TAG})?)*)$",
    '"5f0b9d4f2a1f6f5d"',
)

_COMPRESSED: Final = r"(?:--?|[;:])(?:x-)?(?:gzip|br|brotli|zstd|deflate|compress)"
_VERSION: Final = re.compile(rf'"(?P<version>[1-9][0-9]{{0,18}})(?:{_COMPRESSED})?"')
"""An entity tag of ours, also as Apache ("1-gzip", "1;gzip"), Caddy or Jetty write it when they compress an answer."""


@dataclass(frozen=True, slots=True)
class ExpectedVersions:
    """The versions of a resource that a request with If-Match may change."""

    is_any: bool
    """True if the header is `*`: every version may be changed."""
    versions: frozenset[int]

    def accepts(self, version: int) -> bool:
        """Return True if this version may be changed, False if not."""
        return self.is_any or version in self.versions

    def explain_mismatch(self, what: str, version: int) -> str:
        """Return a sentence that says why the present version of `what` ("account") may not be changed.

        It is said to have changed only if the request names an earlier version, which its client has read.
        """
        if any(earlier < version for earlier in self.versions):
            return f"The {what} has changed since; read it again."
        return f"If-Match names no version of this {what}; read it again, and send its ETag as you got it."


def format_entity_tag(version: int) -> str:
    """Return the strong ETag of a version: the number in double quotes."""
    return f'"{version}"'


def read_if_match() -> ExpectedVersions:
    """Return the versions that the request's If-Match names. Tags that are none of ours name no version.

    Tags are compared strongly (RFC 9110, 8.8.3.2), but first what a proxy has done to them is undone: it weakens a tag,
    or appends to it, because the compressed answer has other bytes. We send no such tags, and a version of ours stands
    for the whole content: if it is the present one, nothing has changed, and refusing would protect nobody.

    Raises Problem 428 if the header is missing, 400 if it is invalid.
    """
    given = IF_MATCH.read_value()
    if given is None:
        raise Problem(
            428,
            "Read it first, and send its ETag in the header If-Match; or send If-Match: * to change it whatever it is "
            "now.",
        )
    found = (_VERSION.fullmatch(tag) for tag in re.findall(r'"[^"]*"', given))
    return ExpectedVersions(given == "*", frozenset(int(each["version"]) for each in found if each is not None))


def format_weak_tag(text: str) -> str:
    """Return the weak ETag of an answer; `text` (letters and digits) is another one for another answer."""
    return f'W/"{text}"'


def is_known_to_client(text: str) -> bool:
    """Return True if the request's If-None-Match names the answer whose weak ETag has this text, or any; else False.

    Tags are compared weakly (RFC 9110, 8.8.3.2), and what a proxy has appended when it compressed the answer is left
    out. Raises Problem 400 if the header is invalid.
    """
    given = IF_NONE_MATCH.read_value()
    if given is None:
        return False
    tags = (re.sub(rf"{_COMPRESSED}$", "", tag[1:-1]) for tag in re.findall(r'"[^"]*"', given))
    return given == "*" or text in tags
