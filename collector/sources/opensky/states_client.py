"""A client of OpenSky's `/states/all` and `/states/own`: all aircraft of a region, now."""

import asyncio
import json
from datetime import timedelta
from typing import Final, assert_never

import httpx

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import ForeignAnswer, SourceError, SourceRefusedError
from collector.sources.bounded_answers import build_timeout_error
from collector.sources.breaker_guard import POSITIONS_POLICY, BreakerGuard
from collector.sources.opensky.answers import classify_foreign_answer
from collector.sources.opensky.connection import (
    PROXY_WANTS_LOGIN,
    Exchange,
    OpenSkyConnection,
    Token,
    TokenRefusedError,
)
from collector.sources.opensky.states import parse_states
from collector.sources.position_metrics import PositionMetrics
from collector.sources.regions import Box, OwnReceivers, StatesRegion, World
from collector.sources.required_pause import RequiredPause
from collector.sources.state_vector import Poll, UnreadablePollError

NAME: Final = "opensky"
"""The source's name in logs and metrics."""
_MOST_BYTES: Final = 32_000_000
"""Of a body, decompressed: the whole world is about 2 MB."""


class OpenSkyStatesClient:
    """A client for positions, which shares the connection and token of an account with the client for flights.

    It has its own pauses, circuit breaker and credits: the source has a bucket for `/states` alone, and `/states` may
    fail while `/flights` works, or the other way round.
    """

    remaining_credits: int | None = None
    """Credits left today for positions, as the source last reported; None: not reported since a caller's reset."""

    clock_error: timedelta | None = None
    """How far the clock is ahead of the source's, by its last answer; None: not known since a caller's reset."""

    def __init__(
        self,
        url: str,
        connection: OpenSkyConnection,
        clock: Clock,
        metrics: Metrics,
        shared: PositionMetrics,
        name: str = NAME,
    ) -> None:
        """`url` is one of the connection's; `shared` are the metrics of all sources of positions.

        `name`: the source's name in logs and metrics.
        """
        self.name: Final = name
        self._url = url.rstrip("/")
        self._connection = connection
        self._shared = shared
        self._pause = RequiredPause(clock)
        self._breaker = BreakerGuard(clock, shared.breaker, POSITIONS_POLICY, "positions", source=name)

    async def fetch_poll(self, region: StatesRegion, within_s: float, at: int | None = None) -> Poll:
        """Send one request for a region without retries, and return the poll, within `within_s` real seconds.

        `at`: the instant whose states are requested, in Unix seconds, at most an hour ago; None: now. The source may
        answer about another instant.

        The next poll is the next attempt. Only a rejected token is replaced, and the request repeated, which costs
        nothing. Raises SourceLimitedError during a pause that the source required, and BreakerOpenError while the
        breaker is open, both without a request; SourceRefusedError if the account has no receivers of its own or no
        permission; SourceUnavailableError for every answer that is no poll.
        """
        request = self._build_request(region, at)
        self._pause.require_over()
        self._connection.token_pause.require_over()
        with self._breaker.guard_call(), self._shared.count_poll(self.name):
            try:
                async with asyncio.timeout(within_s):
                    try:
                        return await self._fetch_once(request, within_s)
                    except TokenRefusedError as error:
                        self._connection.discard_token(error.token)
                    return await self._fetch_once(request, within_s)
            except TimeoutError:
                raise build_timeout_error(within_s) from None

    def _build_request(self, region: StatesRegion, at: int | None) -> httpx.Request:
        """Return the request for a region; it asks for categories, too, which tell helicopters from airplanes."""
        params: dict[str, str] = {"extended": "1"} | ({} if at is None else {"time": str(at)})
        path = "all"
        match region:
            case Box():
                edges = {"lamin": region.south, "lomin": region.west, "lamax": region.north, "lomax": region.east}
                params |= {name: f"{edge / 100:.2f}" for name, edge in edges.items()}
            case World():
                pass
            case OwnReceivers():
                path = "own"
            case _:
                assert_never(region)
        return self._connection.http.build_request("GET", f"{self._url}/states/{path}", params=params)

    async def _fetch_once(self, request: httpx.Request, within_s: float) -> Poll:
        """Send the request once, with a token unless access is anonymous, and return the poll. Raises SourceError."""
        try:
            token = await self._connection.get_token()
        except SourceError as error:
            error.is_unasked = True
            raise
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.text}"
        self._pause.require_over()  # another region's answer may have been a 429 meanwhile
        exchange = await self._connection.send(request, within_s, _MOST_BYTES)
        if exchange.remaining_credits is not None:
            self.remaining_credits = exchange.remaining_credits
        exchange.require_in_order()
        return await self._parse_answer(exchange, token)

    async def _parse_answer(self, exchange: Exchange, token: Token | None) -> Poll:
        """Return the poll of an answer to a request with this token (None: without a token).

        A `null` in place of the states is a poll without aircraft. An empty body, a 404, a redirect, or rows of which
        none can be read are foreign answers, as with flights. Raises SourceError.
        """
        answer = exchange.answer
        match answer.status_code:
            case httpx.codes.OK:
                poll = await self._parse_poll(answer)
                self.clock_error = self._connection.compare_clocks(exchange)
                return poll
            case httpx.codes.TOO_MANY_REQUESTS:
                self.clock_error = self._connection.compare_clocks(exchange)
                raise self._pause.begin(answer.headers)
            case status if status == httpx.codes.NOT_FOUND or answer.is_redirect:
                raise self._connection.foreign_answers.count(answer, classify_foreign_answer(answer))
            case httpx.codes.UNAUTHORIZED if token is not None:
                raise TokenRefusedError(token)
            case httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
                raise SourceRefusedError(PROXY_WANTS_LOGIN)
            case status:
                raise SourceRefusedError(f"the source refuses the request for positions (status {status})")

    async def _parse_poll(self, answer: httpx.Response) -> Poll:
        """Return the poll of an answer with status 200; parse it in a thread, because the whole world takes a while."""
        try:
            poll = await asyncio.to_thread(lambda: parse_states(json.loads(answer.content)))
        except (UnreadablePollError, ValueError, RecursionError):
            raise self._connection.foreign_answers.count(answer, classify_foreign_answer(answer)) from None
        if poll.dropped and not poll.states:
            raise self._connection.foreign_answers.count(answer, ForeignAnswer.NO_IDENTITY)
        self._shared.count_poll_content(self.name, poll)
        return poll
