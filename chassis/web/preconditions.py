"""Preconditions of requests (RFC 9110, 13): the entity tag of a version, and the header If-Match."""

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

_VERSION: Final = re.compile(
    r'"(?P<version>[1-9][0-9]{0,18})(?:(?:--?|[;:])(?:x-)?(?:gzip|br|brotli|zstd|deflate|compress))?"'
)
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
