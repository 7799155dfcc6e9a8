"""A client of the OpenSky Network's REST API (its documentation of July 2026): flights of an airport in an interval.

Status 404 with an empty body means no flights; 429 has the header `X-Rate-Limit-Retry-After-Seconds`; a bearer token
from OAuth2 client credentials is valid for 30 minutes.
"""

import asyncio
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import stamina
from pydantic import ValidationError

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import SourceLimitedError, SourceRefusedError, SourceUnavailableError
from collector.intervals import Interval
from collector.sources.flight import Flight
from collector.sources.opensky.answers import (
    TokenResponse,
    classify_foreign_answer,
    is_without_body,
    parse_age,
    parse_pause,
)
from collector.sources.opensky.breaker_guard import BreakerGuard
from collector.sources.opensky.clock_check import ClockCheck, ClockReading
from collector.sources.opensky.flight_reader import FlightReader
from collector.sources.opensky.proxy import find_proxy
from domain.interests import Direction

_ATTEMPTS: Final = 3
"""Maximum number of HTTP requests for one API call."""
_LONGEST_BACKOFF_S: Final = 2.0
"""Longest pause between two attempts."""
_LARGEST_ANSWER: Final = 32 * 1024 * 1024
"""Bytes of the largest answer; a day of the largest airport has less than one million."""
_ENCODING_HEADERS: Final = frozenset(("content-encoding", "content-length", "transfer-encoding"))
"""Headers that are not true any more of a body that was received and decompressed."""
_OLDEST_ANSWER: Final = timedelta(minutes=5)
"""An answer that a cache has kept for longer is none: it cannot prove that the source still says the same."""
_RENEW_BEFORE: Final = timedelta(minutes=1)
"""A token is renewed this long before it expires."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY_S: Final = 86_400
PROXY_WANTS_LOGIN: Final = (
    "a proxy on the way to the source wants a user name and a password (status 407): set them in OPENSKY_PROXY, like "
    "http://user:password@proxy.example.org:3128"
)
_NUMBER_OF_CREDITS: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class OpenSkyTimeouts:
    """Timeouts of one HTTP request, in real seconds."""

    connect_s: float = 5.0
    total_s: float = 30.0
    """From the start to the last byte of the answer: a read timeout alone would not end a trickle of bytes."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A bearer token, and the elapsed time of the service's clock at which to renew the token."""

    text: str
    renew_at: timedelta


@dataclass(frozen=True, slots=True)
class _Exchange:
    """An answer, and the service's clock just before the request was sent and just after the answer was received."""

    answer: httpx.Response
    sent: ClockReading
    received: ClockReading


class _TokenRefusedError(SourceRefusedError):
    """The source has rejected the token, which the error holds: the token expired or was revoked."""

    def __init__(self, token: _Token) -> None:
        super().__init__("the source does not accept the token that it gave")
        self.token = token


class OpenSkyClient:
    """A client of OpenSky's REST API, to be shared by all tasks of one event loop.

    The tasks share the connections, the token, the pause that the source required, and the circuit breaker. Nothing
    connects before the first call.
    """

    remaining_credits: int | None = None
    """Credits left today, as the source last reported; None: not reported since the start or a caller's reset."""
    clock_error: timedelta | None = None
    """How far the service's clock is ahead of the source's (negative: behind it), by the last answer of the source.

    None: that answer had no readable date, or there was none since the start or a caller's reset. Answers that are
    foreign, a rejection or a failure do not change it. See `measure_clock_error`.
    """

    def __init__(
        self,
        url: str,
        token_url: str,
        credentials: tuple[str, str] | None,
        clock: Clock,
        metrics: Metrics,
        timeouts: OpenSkyTimeouts = OpenSkyTimeouts(),
        proxy: str | None = None,
    ) -> None:
        """`credentials`: client id and secret, or None for anonymous access. `proxy`: see `find_proxy`.

        Pauses, token expiry and the breaker use the elapsed time of the service's `clock`, so that a wall clock that is
        set does not change them; only the timeouts are real seconds. Raises ValueError for a proxy that cannot be used.
        """
        self._url = url.rstrip("/")
        self._token_url = token_url
        self._credentials = credentials
        self._clock = clock
        self._total_s = timeouts.total_s
        self._deadline_s = _ATTEMPTS * (timeouts.total_s + _LONGEST_BACKOFF_S)
        self._token: _Token | None = None
        self._renewal_lock = asyncio.Lock()
        self._paused_until = timedelta(0)
        """The end of the pause that the source required, in elapsed time."""
        trust = httpx.create_ssl_context()
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeouts.total_s, connect=timeouts.connect_s),
            headers={"User-Agent": "towerwatch", "Cache-Control": "no-cache"},  # RFC 9111, section 5.2.1.4
            verify=trust,
            trust_env=False,  # httpx would take proxies for a source on this machine, and ends on those it cannot read
            mounts={
                each: httpx.AsyncHTTPTransport(verify=trust, proxy=chosen)
                for each in ((url,) if credentials is None else (url, token_url))
                if (chosen := find_proxy(each, proxy)) is not None
            },
        )
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=_ATTEMPTS, timeout=self._deadline_s, wait_initial=0.2, wait_max=_LONGEST_BACKOFF_S, wait_jitter=1
        ).on(SourceUnavailableError)
        self._calls = metrics.counter("opensky_api_calls_total", "Calls of the OpenSky API", "status")
        self._reader = FlightReader(clock, metrics)
        self._breaker = BreakerGuard(clock, metrics)
        self._clock_check = ClockCheck(clock, metrics)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

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
        request = self._http.build_request(
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
                except _TokenRefusedError as error:
                    if self._token is error.token:  # else another task has renewed the token already
                        self._token = None
                # Revoked, or issued by a server that has lost it: one new token. After a second rejection, give up.
                return await self._retrying(self._fetch_once, request, interval)
        except TimeoutError:
            raise SourceUnavailableError(f"the source gave no whole answer within {self._deadline_s:g} s") from None

    async def _fetch_once(self, request: httpx.Request, interval: Interval) -> list[Flight]:
        """Send the request once, with a token unless access is anonymous, and return the flights of the answer.

        Counts the attempt and its success or failure in the metrics. Raises SourceError; during a pause
        SourceLimitedError, and then neither sends nor counts the request.
        """
        token = await self._get_token()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.text}"
        self._require_no_pause()  # another task may have met a rate limit while this one waited for its next attempt
        self._calls.labels(status="attempt").inc()
        outcome = "failure"
        try:
            flights = self._parse_answer(await self._send(request), token, interval)
            outcome = "success"
        finally:
            self._calls.labels(status=outcome).inc()
        return flights

    async def _get_token(self) -> _Token | None:
        """Return the held token, or request a new one if there is none or it is about to expire. Raises SourceError.

        Returns None for anonymous access. A token is renewed one minute (`_RENEW_BEFORE`) before it expires. Of several
        tasks that need a new token, the first renews it and the others wait.
        """
        if self._credentials is None:
            return None
        async with self._renewal_lock:
            elapsed = self._clock.elapsed()
            if self._token is None or self._token.renew_at <= elapsed:
                response = await self._request_token(*self._credentials)
                lifetime = timedelta(seconds=response.expires_in)
                self._token = _Token(response.access_token, elapsed + max(lifetime - _RENEW_BEFORE, timedelta(0)))
            return self._token

    async def _request_token(self, client_id: str, client_secret: str) -> TokenResponse:
        """Request a new token from the authorization server, once, and return its answer.

        Raises SourceRefusedError if the server refuses a token, SourceUnavailableError if there is no answer,
        ForeignAnswerError for a redirect and for a 200 without a token, SourceLimitedError for a 429.
        """
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer = (await self._send(self._http.build_request("POST", self._token_url, data=form))).answer
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise self._begin_pause(answer)
        if answer.is_redirect:
            raise self._reader.count_foreign_answer(answer, classify_foreign_answer(answer))
        if answer.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            raise SourceRefusedError(PROXY_WANTS_LOGIN)
        if answer.status_code != httpx.codes.OK:
            raise SourceRefusedError(
                "the source gives no token for OPENSKY_CLIENT_ID and its secret, or for those of "
                f"OPENSKY_CREDENTIALS_FILE (status {answer.status_code})"
            )
        try:
            return TokenResponse.model_validate_json(answer.content)
        except ValidationError:
            raise self._reader.count_foreign_answer(answer, classify_foreign_answer(answer)) from None

    async def _send(self, request: httpx.Request) -> _Exchange:
        """Send one HTTP request and return the answer with the clock readings, if its status is below 500.

        Stores the credits that an answer of any status reports.

        Raises SourceUnavailableError if there is no answer in time, or a 5xx; SourceRefusedError for an answer that is
        too large.
        """
        sent = self._clock_check.read_clock()
        try:
            async with asyncio.timeout(self._total_s):
                answer = await self._receive_bounded(await self._http.send(request, stream=True))
        except TimeoutError:
            raise SourceUnavailableError(f"the source gave no whole answer within {self._total_s:g} s") from None
        except httpx.ProxyError as error:  # its text is the status by which the proxy refuses to connect
            if str(error).startswith(str(int(httpx.codes.PROXY_AUTHENTICATION_REQUIRED))):
                raise SourceUnavailableError(PROXY_WANTS_LOGIN) from None
            raise SourceUnavailableError("the proxy does not connect to the source: check OPENSKY_PROXY") from None
        except httpx.DecodingError:
            raise SourceUnavailableError(
                "the answer cannot be decompressed: look for a proxy that changes answers"
            ) from None
        except (httpx.RequestError, UnicodeError) as error:  # its text may show secrets that were sent
            # UnicodeError: of `getaddrinfo`, for a name that cannot be encoded
            raise SourceUnavailableError(f"the source cannot be reached ({type(error).__name__})") from None
        received = self._clock_check.read_clock()
        remaining = answer.headers.get("X-Rate-Limit-Remaining", "")
        if _NUMBER_OF_CREDITS.fullmatch(remaining):
            self.remaining_credits = int(remaining)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceUnavailableError(f"the source is out of order (status {answer.status_code})")
        return _Exchange(answer, sent, received)

    async def _receive_bounded(self, answer: httpx.Response) -> httpx.Response:
        """Receive the body of an answer, decompressed, and return the whole answer.

        Raises SourceRefusedError if it is larger than _LARGEST_ANSWER: it would fill the memory; httpx's errors.
        """
        body = bytearray()
        try:
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > _LARGEST_ANSWER:
                    raise SourceRefusedError(
                        f"the answer has more than {_LARGEST_ANSWER} bytes, too many for a day: check OPENSKY_URL"
                    )
        finally:
            await answer.aclose()
        headers = [pair for pair in answer.headers.multi_items() if pair[0] not in _ENCODING_HEADERS]
        received = {"received_bytes": answer.num_bytes_downloaded}
        return httpx.Response(answer.status_code, headers=headers, content=bytes(body), extensions=received)

    def _begin_pause(self, answer: httpx.Response) -> SourceLimitedError:
        """Begin the pause that a 429 requires, or extend a running one; return the error for the caller to raise."""
        pause_s = parse_pause(answer.headers, self._clock.now())
        self._paused_until = max(self._paused_until, self._clock.elapsed() + timedelta(seconds=pause_s))
        return SourceLimitedError(pause_s)

    def _require_no_pause(self) -> None:
        """Raise SourceLimitedError during a pause that the source required."""
        left = self._paused_until - self._clock.elapsed()
        if left > timedelta(0):
            raise SourceLimitedError(left.total_seconds())

    def _parse_answer(self, exchange: _Exchange, token: _Token | None, interval: Interval) -> list[Flight]:
        """Return the flights of an answer to a request with this token (None: without a token).

        Only a 404 with an empty body, or an empty list, means no flights. Any other 404 or 200 without flights, and any
        redirect, is a foreign answer (of a proxy, a portal, a wrong path), and an error. The source's own answers, a
        429 among them, set `clock_error`. Raises ForeignAnswerError, IncompleteAnswerError, SourceLimitedError for a
        429, _TokenRefusedError for 401 with a token, SourceRefusedError for any other status, and for an old answer of
        a cache: it would prove what it has proven before.
        """
        answer = exchange.answer
        match answer.status_code:
            case httpx.codes.OK | httpx.codes.NOT_FOUND if (age := parse_age(answer.headers)) > _OLDEST_ANSWER:
                raise SourceRefusedError(
                    f"a cache on the way to the source gives an answer of {age} ago, though the request says "
                    "Cache-Control: no-cache: correct the cache, or set another way in OPENSKY_PROXY"
                )
            case httpx.codes.OK:
                flights = self._reader.read_flights(answer, interval)
                self._compare_clocks(exchange)
                return flights
            case httpx.codes.NOT_FOUND if is_without_body(answer):
                self._compare_clocks(exchange)
                return []
            case httpx.codes.TOO_MANY_REQUESTS:
                self._compare_clocks(exchange)
                raise self._begin_pause(answer)
            case status if status == httpx.codes.NOT_FOUND or answer.is_redirect:
                raise self._reader.count_foreign_answer(answer, classify_foreign_answer(answer))
            case httpx.codes.UNAUTHORIZED if token is not None:
                raise _TokenRefusedError(token)
            case httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
                raise SourceRefusedError(PROXY_WANTS_LOGIN)
            case status:
                raise SourceRefusedError(f"the source refuses the request (status {status})")

    def _compare_clocks(self, exchange: _Exchange) -> None:
        """Compare the service's clock with the date of an answer of the source, and set `clock_error`."""
        self.clock_error = self._clock_check.compare_with_answer(
            exchange.answer.headers, exchange.sent, exchange.received
        )


def _round_up_to_seconds(instant: datetime) -> int:
    """Return the instant in Unix seconds, rounded up: the first whole second, as event times are, not before it."""
    return -((_EPOCH - instant) // _SECOND)
