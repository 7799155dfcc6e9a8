"""Forwarding of requests to the services, and of their answers, piece by piece, to the clients."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ConnectionTimeoutError,
    ServerTimeoutError,
    hdrs,
    web,
)
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http import HttpVersion11
from multidict import CIMultiDict

from chassis.clients import find_client_address, find_client_scheme, is_trusted_peer
from chassis.hosts import AllowedHosts
from local.gateway import problems
from local.gateway.headers import UnreadableHeadersError, select_answer_headers, select_request_headers
from local.gateway.metrics import RequestMetrics, RequestOutcome
from local.gateway.problems import build_problem, build_unavailable
from local.gateway.routes import ANSWER_HEADERS, find_destination
from local.gateway.targets import RequestTarget, UnreadableTargetError, parse_target
from local.gateway.upstreams import Upstream

LARGEST_BODY: Final = 1 << 20
"""Bytes of the largest request body that is passed on: more than any service reads, as the gateway on Kubernetes."""


class _RefusedError(Exception):
    """The gateway rejects the request itself: no service gets it."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        outcome: RequestOutcome = RequestOutcome.REFUSED,
        home: str = "/",
    ) -> None:
        """`status` and `detail` are those of the answer, `outcome` the label under which it is counted.

        `home`: the path to which the page of an address that does not exist links.
        """
        super().__init__(detail)
        self.status, self.detail, self.outcome, self.home = status, detail, outcome, home

    def build_answer(self, request: web.Request) -> web.Response:
        """Build the answer to a request; it closes the connection if the request has a body, which nobody reads."""
        answer = build_problem(request, self.status, self.detail, home=self.home)
        if request.can_read_body or hdrs.UPGRADE in request.headers:
            answer.force_close()
        return answer


class Gateway:
    """The handler of requests: it forwards each to the service of its route, and answers the others itself."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        metrics: RequestMetrics,
        hosts: AllowedHosts,
        *,
        trusted_proxy: str | None = None,
        prefix: str = "",
    ) -> None:
        """`trusted_proxy`: a proxy in front that names the client's address (`is_trusted_peer`); None: there is none.

        `prefix`: the path of the address under which people reach the gateway. A request may begin with it or not; the
        services get it without.
        """
        self._upstreams = upstreams
        self._metrics = metrics
        self._hosts = hosts
        self._trusted_proxy = trusted_proxy
        self._prefix = prefix

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request: by its route's service, by a redirect, or with problem details."""
        try:
            _require_plain_coding(request)
            target, host = self._read_target(request)
            destination = find_destination(target.path)
            if destination is None:
                raise _RefusedError(
                    HTTPStatus.NOT_FOUND, problems.NO_ROUTE, RequestOutcome.NO_ROUTE, f"{self._prefix}/"
                )
            if destination.service is None:
                self._metrics.count(None, RequestOutcome.REDIRECTED)
                location = self._prefix + destination.path + target.query
                return web.Response(status=HTTPStatus.FOUND, headers={"Location": location, **ANSWER_HEADERS})
            if (request.content_length or 0) > LARGEST_BODY:
                raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problems.TOO_LARGE)
            client, scheme = self._find_client(request)
            try:
                headers = select_request_headers(request.headers, host=host, client=client, scheme=scheme)
            except UnreadableHeadersError as error:
                raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        except _RefusedError as refused:
            self._metrics.count(None, refused.outcome)
            return refused.build_answer(request)
        exchange = _Exchange(
            request, destination.service, self._upstreams[destination.service], destination.build_headers()
        )
        try:
            answer = await exchange.run(destination.path, target.query, headers)
        except (asyncio.CancelledError, ConnectionError):
            self._metrics.count(destination.service, RequestOutcome.CLIENT_GONE)
            raise
        self._metrics.count(destination.service, exchange.outcome)
        return answer

    def _read_target(self, request: web.Request) -> tuple[RequestTarget, str]:
        """Return a request's target without the gateway's prefix, and the host that it is for. Raises _RefusedError."""
        if request.method == "CONNECT":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, problems.NO_PROXY)
        try:
            target = parse_target(request._message.path)
        except UnreadableTargetError as error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from None
        given = request.headers.getall("Host", [])
        host = ", ".join(given) if target.host is None else target.host  # two names are none
        if (fault := self._hosts.find_fault(host)) is not None:
            raise _RefusedError(*fault)
        if self._prefix and (target.path + "/").startswith(self._prefix + "/"):
            target = RequestTarget(target.path.removeprefix(self._prefix) or "/", target.query, target.host)
        return target, host.strip(" \t")

    def _find_client(self, request: web.Request) -> tuple[str, str]:
        """Return the client's address and scheme: those of the peer, or those that the trusted proxy's headers name."""
        peer = request.remote or ""
        if not is_trusted_peer(peer, self._trusted_proxy):
            return peer, "http"
        headers = {
            f"HTTP_{name.upper().replace('-', '_')}": ",".join(request.headers.getall(name))
            for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded")
            if name in request.headers
        }
        return find_client_address(headers) or peer, find_client_scheme(headers) or "http"


def _require_plain_coding(request: web.Request) -> None:
    """Raise _RefusedError for a body in another transfer coding than `chunked`, or in a content coding.

    The gateway passes bodies on undecoded, and no service decodes them.
    """
    codings = [value.strip(" \t").lower() for value in request.headers.getall("Transfer-Encoding", [])]
    if codings and (codings != ["chunked"] or request.version < HttpVersion11):
        raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED, problems.UNKNOWN_CODING)
    if any(value.strip(" \t").lower() != "identity" for value in request.headers.getall("Content-Encoding", [])):
        raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, problems.COMPRESSED)


class _Exchange:
    """One request to a service, and its answer."""

    def __init__(self, request: web.Request, service: str, upstream: Upstream, ours: dict[str, str]) -> None:
        self._request = request
        self._service = service
        self._upstream = upstream
        self._ours = ours
        """The headers that its answer gets in place of the service's own."""
        self._body_fault: _RefusedError | None = None
        """The fault for which the request's body is refused; None: none in the part that is read so far."""
        self.outcome = RequestOutcome.ANSWERED

    async def run(self, path: str, query: str, headers: CIMultiDict[str]) -> web.StreamResponse:
        """Send the request to the service, and its answer to the client; return what the client got.

        Raises ConnectionError if the client is gone; the request to the service is cancelled then, as it is when this
        is cancelled.
        """
        try:
            answer = await self._upstream.session.request(
                self._request.method,
                self._upstream.build_url(path, query),
                headers=headers,
                data=self._read_body() if self._request.can_read_body else None,
                allow_redirects=False,
            )
        except (ClientError, OSError) as error:
            return self._explain_failure(error)
        try:
            return await self._pass_answer(answer)
        finally:
            answer.close()

    async def _read_body(self) -> AsyncIterator[bytes]:
        """Yield the request's body piece by piece. Raises _RefusedError for one that is broken or too large."""
        received = 0
        try:
            async for piece in self._request.content.iter_any():
                received += len(piece)
                if received > LARGEST_BODY:
                    self._body_fault = _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, problems.TOO_LARGE)
                    raise self._body_fault
                yield piece
        except (ClientPayloadError, web.RequestPayloadError):
            self._body_fault = _RefusedError(HTTPStatus.BAD_REQUEST, problems.UNREADABLE_BODY)
            raise self._body_fault from None

    def _explain_failure(self, error: Exception) -> web.Response:
        """Build the answer to a request of which the service gave no answer."""
        if self._body_fault is not None:
            self.outcome = self._body_fault.outcome
            return self._body_fault.build_answer(self._request)
        self.outcome = RequestOutcome.UNAVAILABLE
        match error:
            case ClientConnectorError() | ConnectionTimeoutError():
                return build_unavailable(
                    self._request, HTTPStatus.SERVICE_UNAVAILABLE, self._service, "takes no connections"
                )
            case ServerTimeoutError() | TimeoutError():
                return build_unavailable(self._request, HTTPStatus.GATEWAY_TIMEOUT, self._service, "does not answer")
            case _:
                return build_unavailable(
                    self._request, HTTPStatus.BAD_GATEWAY, self._service, "ended before it answered"
                )

    async def _pass_answer(self, answer: ClientResponse) -> web.StreamResponse:
        """Send the service's answer to the client as it comes, and return it.

        If the service ends within it, the client's connection is closed: so the client knows that a part is missing.
        """
        try:
            headers = select_answer_headers(answer.headers, self._ours)
        except UnreadableHeadersError:
            self.outcome = RequestOutcome.UNAVAILABLE
            return build_unavailable(
                self._request, HTTPStatus.BAD_GATEWAY, self._service, "gave an answer that cannot be read"
            )
        passed = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
        if hdrs.UPGRADE in self._request.headers:
            passed.force_close()  # the client may go on in another protocol
        await passed.prepare(self._request)
        pieces = answer.content.iter_any().__aiter__()
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                return passed
            except (ClientError, OSError):
                self.outcome = RequestOutcome.CUT_OFF
                self._request.protocol.force_close()
                return passed
            await passed.write(piece)
