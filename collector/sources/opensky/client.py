"""A client of the OpenSky Network's REST API (its documentation of July 2026): flights of an airport in an interval.

Status 404 with an empty body means no flights; 429 has the header `X-Rate-Limit-Retry-After-Seconds`.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import stamina

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import SourceRefusedError, SourceUnavailableError
from collector.intervals import Interval
from collector.sources.breaker_guard import BreakerGuard
from collector.sources.flight import Flight
from collector.sources.opensky.answers import classify_foreign_answer, is_without_body, parse_age
from collector.sources.opensky.connection import (
    PROXY_WANTS_LOGIN,
    Exchange,
    OpenSkyConnection,
    Token,
    TokenRefusedError,
)
from collector.sources.opensky.flight_reader import FlightReader
from collector.sources.required_pause import RequiredPause
from domain.interests import Direction

_ATTEMPTS: Final = 3
"""Maximum number of HTTP requests for one API call."""
_LONGEST_BACKOFF_S: Final = 2.0
"""Longest pause between two attempts."""
_LARGEST_ANSWER: Final = 8 * 1024 * 1024
"""Bytes of the largest answer; a day of the largest airport has less than one million."""
_OLDEST_ANSWER: Final = timedelta(minutes=5)
"""An answer that a cache has kept for longer is none: it cannot prove that the source still says the same."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY_S: Final = 86_400


class OpenSkyClient:
    """A client of OpenSky's REST API, to be shared by all tasks of one event loop.

    The tasks share the pause that the source required, and the circuit breaker; with the client of positions they share
    the connection. Nothing connects before the first call.
    """

    remaining_credits: int | None = None
    """Credits left today, as the source last reported; None: not reported since the start or a caller's reset."""
    clock_error: timedelta | None = None
    """How far the service's clock is ahead of the source's (negative: behind it), by the last answer of the source.

    None: that answer had no readable date, or there was none since the start or a caller's reset. Answers that are
    foreign, a rejection or a failure do not change it. See `measure_clock_error`.
    """

    def __init__(self, url: str, connection: OpenSkyConnection, clock: Clock, metrics: Metrics) -> None:
        """`url` is one of the connection's.

        Pauses and the breaker use the elapsed time of the service's `clock`, so that a wall clock that is set does not
        change them; only the connection's timeouts are real seconds.
        """
        self._url = url.rstrip("/")
        self._connection = connection
        self._deadline_s = _ATTEMPTS * (connection.timeouts.total_s + _LONGEST_BACKOFF_S)
        self._pause = RequiredPause(clock)
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=_ATTEMPTS, timeout=self._deadline_s, wait_initial=0.2, wait_max=_LONGEST_BACKOFF_S, wait_jitter=1
        ).on(SourceUnavailableError)
        self._calls = metrics.counter("opensky_api_calls_total", "Calls of the OpenSky API", "status")
        self._reader = FlightReader(clock, metrics, connection.foreign_answers)
        self._breaker = BreakerGuard(
            clock, metrics.gauge("opensky_breaker_state", "1 for the state that the breaker is in, else 0", "state")
        )

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the airport's flights with an event time in [begin, end). Raises SourceError.

        A malformed flight is counted, logged and left out; a malformed answer is an error, never "no flights", as is
        one with many malformed flights, or with many of other airports.
        Transient failures are retried, up to three attempts (up to three more with a new token, if the source rejected
        the token). An interval without a whole second needs no request: it has no flights. During a pause that a 429
        required, for whichever task, raises SourceLimitedError, and while the circuit breaker is open BreakerOpenError,
        both without an HTTP request. Raises ValueError for an interval that the source would reject: one that touches
        more than two UTC days.
        """
        # The source takes whole seconds, both ends included.
        first, last = _round_up_to_seconds(begin), _round_up_to_seconds(end) - 1
        if first > last:
            return []
        if last // _DAY_S - first // _DAY_S > 1:
            raise ValueError(f"[{begin.isoformat()}, {end.isoformat()}) touches more than two UTC days")
        path = "departure" if direction is Direction.DEPARTURES else "arrival"
        request = self._connection.http.build_request(
            "GET", f"{self._url}/flights/{path}", params={"airport": airport, "begin": first, "end": last}
        )
        self._require_no_pause()
        with self._breaker.guard_call():
            flights = await self._fetch_with_retries(request, Interval(airport, direction, begin, end))
        return [flight for flight in flights if begin <= flight.event_time(direction) < end]

    async def _fetch_with_retries(self, request: httpx.Request, interval: Interval) -> list[Flight]:
        """Send the request until it succeeds, at most three times, and return the flights.

        Only a SourceUnavailableError leads to another attempt. A rejected token is discarded once, and the attempts
        begin anew with a new token. Raises SourceError, also when the deadline for all attempts has passed.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._retrying(self._fetch_once, request, interval)
                except TokenRefusedError as error:
                    self._connection.discard_token(error.token)
                # Revoked, or issued by a server that has lost it: one new token. After a second rejection, give up.
                return await self._retrying(self._fetch_once, request, interval)
        except TimeoutError:
            raise SourceUnavailableError(f"the source gave no whole answer within {self._deadline_s:g} s") from None

    async def _fetch_once(self, request: httpx.Request, interval: Interval) -> list[Flight]:
        """Send the request once, with a token unless access is anonymous, and return the flights of the answer.

        Counts the attempt and its success or failure in the metrics. Raises SourceError; during a pause
        SourceLimitedError, and then neither sends nor counts the request.
        """
        token = await self._connection.get_token()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.text}"
        self._require_no_pause()  # another task may have met a rate limit while this one waited for its next attempt
        self._calls.labels(status="attempt").inc()
        outcome = "failure"
        try:
            exchange = await self._connection.send(request, most_bytes=_LARGEST_ANSWER)
            if exchange.remaining_credits is not None:
                self.remaining_credits = exchange.remaining_credits
            exchange.require_in_order()
            flights = await self._parse_answer(exchange, token, interval)
            outcome = "success"
        finally:
            self._calls.labels(status=outcome).inc()
        return flights

    def _require_no_pause(self) -> None:
        """Raise SourceLimitedError during a pause that the source, or its authorization server, required."""
        self._pause.require_over()
        self._connection.token_pause.require_over()

    async def _parse_answer(self, exchange: Exchange, token: Token | None, interval: Interval) -> list[Flight]:
        """Return the flights of an answer to a request with this token (None: without a token).

        Bodies are parsed in a thread: a large one takes a while, in which other tasks must go on. Only a 404
        with an empty body, or an empty list, means no flights. Any other 404 or 200 without flights, and any redirect,
        is a foreign answer (of a proxy, a portal, a wrong path), and an error. The source's own answers, a 429 among
        them, set `clock_error`. Raises ForeignAnswerError, IncompleteAnswerError, SourceLimitedError for a 429,
        TokenRefusedError for 401 with a token, SourceRefusedError for any other status, for too many rows, and for an
        old answer of a cache: it would prove what it has proven before.
        """
        answer = exchange.answer
        match answer.status_code:
            case httpx.codes.OK | httpx.codes.NOT_FOUND if (age := parse_age(answer.headers)) > _OLDEST_ANSWER:
                raise SourceRefusedError(
                    f"a cache on the way to the source gives an answer of {age} ago, though the request says "
                    "Cache-Control: no-cache: correct the cache, or set another way in OPENSKY_PROXY"
                )
            case httpx.codes.OK:
                flights = await asyncio.to_thread(self._reader.read_flights, answer, interval)
                self.clock_error = self._connection.compare_clocks(exchange)
                return flights
            case httpx.codes.NOT_FOUND if is_without_body(answer):
                self.clock_error = self._connection.compare_clocks(exchange)
                return []
            case httpx.codes.TOO_MANY_REQUESTS:
                self.clock_error = self._connection.compare_clocks(exchange)
                raise self._pause.begin(answer.headers)
            case status if status == httpx.codes.NOT_FOUND or answer.is_redirect:
                kind = await asyncio.to_thread(classify_foreign_answer, answer)
                raise self._connection.foreign_answers.count(answer, kind)
            case httpx.codes.UNAUTHORIZED if token is not None:
                raise TokenRefusedError(token)
            case httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
                raise SourceRefusedError(PROXY_WANTS_LOGIN)
            case status:
                raise SourceRefusedError(f"the source refuses the request (status {status})")


def _round_up_to_seconds(instant: datetime) -> int:
    """Return the instant in Unix seconds, rounded up: the first whole second, as event times are, not before it."""
    return -((_EPOCH - instant) // _SECOND)
