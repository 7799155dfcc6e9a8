"""The connections from the gateway to the services."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiohttp import BaseConnector, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, UnixConnector
from yarl import URL

from chassis.addresses import UNIX_SCHEME

CONNECT_WITHIN_S: Final = 5.0
READ_WITHIN_S: Final = 60.0
"""Seconds that a service may be silent, before its answer and within it."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service behind the gateway: its authority (host and port), and the HTTP session for requests to it."""

    authority: str
    """Its host and port, or any name for a socket: each request has a header `Host` of its own."""
    session: ClientSession

    def build_url(self, path: str, query: str) -> URL:
        """Build the URL of a path and query (empty, or with its question mark), which stay as they are."""
        return URL.build(
            scheme="http",
            authority=self.authority,
            path=path,
            query_string=query.removeprefix("?"),
            encoded=True,
        )


@asynccontextmanager
async def open_upstreams(targets: Mapping[str, str]) -> AsyncIterator[Mapping[str, Upstream]]:
    """Open a session for each service, by its name, and close all at the end.

    `targets`: by the service's name, its `host:port` or `unix:/path`. Each request has a connection of its own, since a
    service may close an idle one just as a request goes out on it, and such a request cannot always be repeated.
    """
    sessions = {
        service: ClientSession(
            connector=_build_connector(target),
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=ClientTimeout(total=None, connect=CONNECT_WITHIN_S, sock_read=READ_WITHIN_S),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        for service, target in targets.items()
    }
    try:
        yield {
            service: Upstream("localhost" if target.startswith(UNIX_SCHEME) else target, sessions[service])
            for service, target in targets.items()
        }
    finally:
        for session in sessions.values():
            await session.close()


def _build_connector(target: str) -> BaseConnector:
    """Build what connects to a target, as often as there are requests: the clients' connections are bounded."""
    if target.startswith(UNIX_SCHEME):
        return UnixConnector(target.removeprefix(UNIX_SCHEME), force_close=True, limit=0)
    return TCPConnector(force_close=True, limit=0)
