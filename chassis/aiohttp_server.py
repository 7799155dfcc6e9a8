"""aiohttp's server with bounds on its connections, and the check of `Host` for its apps.

aiohttp itself waits without end for a request that never ends.
"""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp import web, web_response
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web import AppRunner
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.clients import identify_client, is_trusted_peer
from chassis.connections import IDLE_WITHIN_S, TransferDeadlines, TransferState, make_room
from chassis.hosts import AllowedHosts, is_exempt

UNREADABLE: Final = "This is not a request that can be read."

# The header Server of each answer, also of those to requests that cannot be read: aiohttp has no setting for it, and
# its own value tells strangers its version and Python's.
vars(web_response)["SERVER_SOFTWARE"] = "towerwatch"

_CHECK_EVERY_S: Final = 5.0
"""Seconds between two checks of a connection's deadlines."""


class BoundedAppRunner(AppRunner):
    """An `AppRunner` whose connections have deadlines and are bounded by client (`chassis/connections.py`)."""

    def __init__(
        self, *args: Any, trusted_proxy: str | None = None, answers_after_end: bool = True, **options: Any
    ) -> None:
        """`trusted_proxy`: the proxy (`is_trusted_peer`) whose connections are of many clients.

        `answers_after_end`: True if a client that has closed its sending direction is still answered; False if it
        counts as disconnected, because a server cannot distinguish the two. The other arguments are those of
        `AppRunner`.

        Compressed bodies stay as they are: aiohttp would decompress them, so that their headers are no longer true of
        them, and a small body may cost much memory and time.
        """
        super().__init__(*args, keepalive_timeout=IDLE_WITHIN_S, auto_decompress=False, **options)
        self._open: set[_LimitedConnection] = set()
        self._trusted_proxy = trusted_proxy
        self._answers_after_end = answers_after_end

    @property
    def server(self) -> Any:
        """The function from which the sites get the protocol of each new connection; None before `setup`."""
        return None if super().server is None else self._build_handler

    def _build_handler(self) -> "_LimitedConnection":
        server = cast(Any, super().server)
        loop = asyncio.get_running_loop()
        made = _LimitedConnection(self._open, server, loop=loop, **server._kwargs)
        made.trusted_proxy, made.answers_after_end = self._trusted_proxy, self._answers_after_end
        return made


class _LimitedConnection(RequestHandler):
    """aiohttp's connection to a client, aborted if the client misses a deadline or has too many connections.

    Malformed requests are not logged.
    """

    __slots__ = (
        "_check_timer",
        "_deadlines",
        "_has_part",
        "_last_body",
        "_open",
        "_received",
        "_socket",
        "answers_after_end",
        "client",
        "opened_at",
        "trusted_proxy",
    )

    def __init__(self, open_connections: "set[_LimitedConnection]", server: Any, **options: Any) -> None:
        """`open_connections`: all of the server, to which this one is added while it is open."""
        super().__init__(server, **options)
        self._open = open_connections
        self.trusted_proxy: str | None = None
        self.answers_after_end = True
        self._received = 0
        """The number of whole requests that were received."""
        self._has_part = True
        """True if a part of a request may be received: a new connection counts as one."""
        self._last_body: StreamReader = EMPTY_PAYLOAD
        """The body of the last request, which may be incomplete."""
        self._socket: asyncio.Transport | None = None
        self._check_timer: asyncio.Handle | None = None
        self.client: str | None = None
        self.opened_at = self._loop.time()
        self._deadlines = TransferDeadlines(self.opened_at)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the connection, or close it if its client has too many; asyncio calls this."""
        super().connection_made(transport)
        self._socket = cast(asyncio.Transport, transport)
        peer = str((transport.get_extra_info("peername") or ("",))[0])
        self.client = None if is_trusted_peer(peer, self.trusted_proxy) else identify_client(peer)
        if make_room(self.client, self._open, lambda other: other.abort()):
            self._open.add(self)
            self._check_timer = self._loop.call_later(_CHECK_EVERY_S, self._check_deadlines)
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Receive bytes, and count the request that they complete; asyncio calls this."""
        super().data_received(data)
        self._received += bool(self._messages)
        if self._messages:
            self._last_body = self._messages[-1][1]
        self._has_part = not self._messages

    def eof_received(self) -> bool:  # type: ignore[override]
        """Return True, to keep the connection open, if answers are owed to a client that will send no more.

        The client may still read (RFC 9112, 9.6). Afterwards the connection is closed.
        """
        is_idle = self._waiter is not None and not self._waiter.done()
        if is_idle or self._has_part or not self._last_body.is_eof() or not self.answers_after_end:
            return False
        self.close()
        return True

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log an error, unless a malformed request is its only cause: a stranger can send any number of those.

        aiohttp calls this, also with the bytes of such a request.
        """
        if not isinstance(options.get("exc_info"), HttpProcessingError | RequestPayloadError):
            super().log_exception(*args, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that failed, with problem details if it cannot be read; aiohttp calls this.

        aiohttp's own answer would repeat parts of the request.
        """
        answer = super().handle_error(request, status, exc, message)
        if not isinstance(exc, HttpProcessingError):
            return answer
        body = {"title": HTTPStatus(status).phrase, "status": status, "detail": UNREADABLE}
        problem = web.json_response(body, status=status, content_type="application/problem+json")
        problem.force_close()
        return problem

    def connection_lost(self, exc: BaseException | None) -> None:
        """End the connection; asyncio calls this."""
        self._open.discard(self)
        if self._check_timer is not None:
            self._check_timer.cancel()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close the connection at once, without sending what is unsent."""
        self._open.discard(self)
        if self._socket is not None:
            self._socket.abort()

    @property
    def is_waiting_for_client(self) -> bool:
        """True if there is no request to answer and no answer to send."""
        return self._get_state() in (TransferState.IDLE, TransferState.RECEIVING)

    def _get_state(self) -> TransferState:
        """Return what the connection waits for: the client (IDLE, RECEIVING, ANSWERING) or the service (HANDLING)."""
        if self._socket is not None and self._socket.get_write_buffer_size():
            return TransferState.ANSWERING
        if self._current_request is not None and not self._current_request.content.is_eof():
            return TransferState.RECEIVING  # its handler reads the body piece by piece, or not at all
        if self._current_request is not None or self._messages:
            return TransferState.HANDLING
        return TransferState.RECEIVING if self._has_part else TransferState.IDLE

    def _check_deadlines(self) -> None:
        """Abort the connection if the client has missed a deadline; else check again later."""
        if self._deadlines.detect_missed_deadline(self._loop.time(), self._get_state(), self._received):
            self.abort()
        else:
            self._check_timer = self._loop.call_later(_CHECK_EVERY_S, self._check_deadlines)


def read_host(request: web.Request) -> str | None:
    """Return the host that an aiohttp request names: that of an absolute target, else the header; None without one.

    Two headers are returned as one text, which names no host.
    """
    target = request._message.url
    if target.absolute:  # RFC 9112, 3.2.2: the header is ignored
        return target.raw_authority
    given = request.headers.getall("Host", [])
    return ", ".join(given) if given else None


def create_host_check(hosts: AllowedHosts) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Return a middleware for aiohttp that refuses requests for other hosts with problem details."""

    @web.middleware
    async def check_host(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer 400 or 421 if the host is not allowed, else pass the request on."""
        fault = None if is_exempt(request.path) else hosts.find_fault(read_host(request))
        if fault is None:
            return await handler(request)
        status, detail = fault
        body = {"title": status.phrase, "status": status.value, "detail": detail}
        return web.json_response(body, status=status, content_type="application/problem+json")

    return check_host
