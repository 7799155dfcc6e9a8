"""The headers that the gateway forwards: all but those of one connection ("hop-by-hop", RFC 9110, 7.6.1)."""

from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict, MultiMapping

_OF_ONE_CONNECTION: Final = frozenset(
    {
        "connection", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authentication-info",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_SET_BY_US: Final = frozenset({"expect", "forwarded", "host", "x-real-ip"})
"""Headers that a request may come with and that say nothing here: the gateway has met the expectation, and knows host
and address itself."""
_NEEDED: Final = frozenset({"content-length", "content-type", "host"})
"""Headers that `Connection` cannot remove: without them the other end would read another message."""


class UnreadableHeadersError(Exception):
    """A header has bytes that are no UTF-8, and cannot be passed on as it is."""


def select_request_headers(headers: MultiMapping[str], *, host: str, client: str, scheme: str) -> CIMultiDict[str]:
    """Return a request's headers for the service: with the gateway's values for host, client's address and scheme.

    The client's own headers about these are dropped, and so is every name with an underscore, which WSGI takes for the
    same name with a hyphen. Raises UnreadableHeadersError.
    """
    kept = _drop_hop_by_hop(headers)
    for name in list(kept.keys()):
        lower = name.lower()
        if lower in _SET_BY_US or lower.startswith("x-forwarded-") or "_" in lower:
            kept.popall(name, None)
    return CIMultiDict(
        [
            ("Host", host),
            ("X-Forwarded-For", client),
            ("X-Forwarded-Proto", scheme),
            ("X-Forwarded-Host", host),
            *kept.items(),
        ]
    )


def select_answer_headers(headers: MultiMapping[str], ours: Mapping[str, str]) -> CIMultiDict[str]:
    """Return a service's headers for the client, with `ours` in place of its own. Raises UnreadableHeadersError."""
    kept = _drop_hop_by_hop(headers)
    kept.update(ours)
    return kept


def _drop_hop_by_hop(headers: MultiMapping[str]) -> CIMultiDict[str]:
    """Return the end-to-end headers: without those of one connection, which `Connection` may name.

    Raises UnreadableHeadersError.
    """
    named = {
        option.strip().lower() for value in headers.getall("Connection", ()) for option in value.split(",")
    } - _NEEDED
    kept = CIMultiDict(
        (name, value) for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION | named
    )
    try:
        for value in kept.values():
            value.encode()
    except UnicodeEncodeError:
        raise UnreadableHeadersError("Send headers in ASCII or UTF-8.") from None
    return kept
