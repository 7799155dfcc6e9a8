"""A client of the OpenSky Network's REST API (its documentation of July 2026): flights of an airport in an interval.

Status 404 with an empty body means no flights; 429 has the header `X-Rate-Limit-Retry-After-Seconds`; a bearer token
from OAuth2 client credentials is valid for 30 minutes.
"""

import asyncio
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never

import httpx
import stamina
import structlog
from pydantic import ValidationError

from chassis.breaker import Breaker, BreakerPolicy, BreakerState
from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import (
    BreakerOpenError,
    SourceError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from collector.sources.flight import Flight
from collector.sources.opensky.answers import TokenResponse, parse_flight, parse_pause, parse_rows
from domain.interests import Direction

log = structlog.get_logger()

BREAKER_POLICY: Final = BreakerPolicy(first_opening=timedelta(seconds=30), longest_opening=timedelta(minutes=15))
"""Policy of the circuit breaker for the source."""

_ATTEMPTS: Final = 3
"""Maximum number of HTTP requests for one API call."""
_LONGEST_BACKOFF_S: Final = 2.0
"""Longest pause between two attempts."""
_RENEW_BEFORE: Final = timedelta(minutes=1)
"""A token is renewed this long before it expires."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY_S: Final = 86_400
_NUMBER_OF_CREDITS: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class OpenSkyTimeouts:
    """Timeouts of one HTTP request, in real seconds."""

    connect_s: float = 5.0
    total_s: float = 30.0
    """From the start to the last byte of the answer: a read timeout alone would not end a trickle of bytes."""


@dataclass(frozen=True, slots=True)
class _Token:
    """A bearer token and the time at which to renew the token."""

    text: str
    renew_at: timedelta


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

    def __init__(
        self,
        url: str,
        token_url: str,
        credentials: tuple[str, str] | None,
        clock: Clock,
        metrics: Metrics,
        timeouts: OpenSkyTimeouts = OpenSkyTimeouts(),
    ) -> None:
        """`credentials`: client id and secret, or None for anonymous access.

        Pauses, token expiry and the breaker use the service's `clock`; only the timeouts are real seconds.
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
        self._breaker = Breaker(BREAKER_POLICY)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeouts.total_s, connect=timeouts.connect_s), headers={"User-Agent": "towerwatch"}
        )
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=_ATTEMPTS, timeout=self._deadline_s, wait_initial=0.2, wait_max=_LONGEST_BACKOFF_S, wait_jitter=1
        ).on(SourceUnavailableError)
        self._calls = metrics.counter("opensky_api_calls_total", "Calls of the OpenSky API", "status")
        self._malformed = metrics.counter("opensky_malformed_flights_total", "Flights left out as malformed").labels()
        self._dropped = metrics.counter(
            "opensky_dropped_fields_total", "Unreadable fields dropped from flights that count all the same", "field"
        )
        self._dropped_logged_at: dict[str, timedelta] = {}
        self._breaker_gauge = metrics.gauge(
            "opensky_breaker_state", "1 for the state that the breaker is in, else 0", "state"
        )
        self._update_breaker_gauge()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the airport's flights with an event time in [begin, end). Raises SourceError.

        A malformed flight is counted, logged and left out; a malformed answer is an error, never "no flights".
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
        with self._guard_by_breaker():
            flights = await self._fetch_with_retries(request)
        return [flight for flight in flights if begin <= flight.event_time(direction) < end]

    @contextmanager
    def _guard_by_breaker(self) -> Iterator[None]:
        """Run the block, which makes one API call, and report its outcome to the circuit breaker.

        Only a SourceUnavailableError is a failure; any other SourceError is a success, for the source has answered. A
        block that is cancelled, or raises anything else, is an abandoned call. The block's error is raised on. Raises
        BreakerOpenError, without running the block, if the breaker does not admit a call.
        """
        admitted = self._breaker.admit_call(self._clock.elapsed())
        if admitted is None:
            wait = self._breaker.compute_wait(self._clock.elapsed())
            raise BreakerOpenError(max(wait.total_seconds(), 1.0))
        self._set_breaker(admitted)
        generation = admitted.generation
        try:
            yield
        except SourceUnavailableError:
            self._set_breaker(self._breaker.after_failure(generation, self._clock.elapsed(), random.random()))
            raise
        except SourceError:
            # A rate limit or a rejection is the answer of a server that works. An open breaker would mend nothing, and
            # hide from the operator that the credentials are wrong.
            self._set_breaker(self._breaker.after_success(generation))
            raise
        except BaseException:  # cancelled: the outcome is unknown
            self._set_breaker(self._breaker.after_abandoned_call(generation, self._clock.elapsed()))
            raise
        self._set_breaker(self._breaker.after_success(generation))

    def _set_breaker(self, breaker: Breaker) -> None:
        """Replace the breaker by its next value; if its state changed, update the gauge and log it."""
        before, self._breaker = self._breaker, breaker
        if breaker.state is before.state:
            return
        self._update_breaker_gauge()
        match breaker.state:
            case BreakerState.OPEN:
                log.warning("opensky.breaker_opened", for_s=breaker.compute_wait(self._clock.elapsed()).total_seconds())
            case BreakerState.CLOSED:
                log.info("opensky.breaker_closed")
            case BreakerState.HALF_OPEN:
                pass  # a probe is in flight: its outcome is logged
            case _:
                assert_never(breaker.state)

    def _update_breaker_gauge(self) -> None:
        """Set the gauge to 1 for the breaker's present state, and to 0 for each other state."""
        for state in BreakerState:
            self._breaker_gauge.labels(state=state.value).set(state is self._breaker.state)

    async def _fetch_with_retries(self, request: httpx.Request) -> list[Flight]:
        """Send the request until it succeeds, at most three times, and return the flights.

        Only a SourceUnavailableError leads to another attempt. A rejected token is discarded once, and the attempts
        begin anew with a new token. Raises SourceError, also when the deadline for all attempts has passed.
        """
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._retrying(self._fetch_once, request)
                except _TokenRefusedError as error:
                    if self._token is error.token:  # else another task has renewed the token already
                        self._token = None
                # Revoked, or issued by a server that has lost it: one new token. After a second rejection, give up.
                return await self._retrying(self._fetch_once, request)
        except TimeoutError:
            raise SourceUnavailableError(f"the source gave no whole answer within {self._deadline_s:g} s") from None

    async def _fetch_once(self, request: httpx.Request) -> list[Flight]:
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
            flights = self._parse_answer(await self._send(request), token)
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

        Raises SourceRefusedError if the server refuses a token, SourceUnavailableError if there is no readable answer,
        SourceLimitedError for a 429.
        """
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer = await self._send(self._http.build_request("POST", self._token_url, data=form))
        if answer.status_code != httpx.codes.OK:
            raise SourceRefusedError(
                "the source gives no token for OPENSKY_CLIENT_ID and its secret, or for those of "
                f"OPENSKY_CREDENTIALS_FILE (status {answer.status_code})"
            )
        try:
            return TokenResponse.model_validate_json(answer.content)
        except ValidationError:
            raise SourceUnavailableError("the source's token cannot be read") from None

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send one HTTP request and return the answer; store the credits or the pause that its headers report.

        Raises SourceUnavailableError if there is no answer in time, or a 5xx; SourceLimitedError for a 429.
        """
        try:
            async with asyncio.timeout(self._total_s):
                answer = await self._http.send(request)
        except TimeoutError:
            raise SourceUnavailableError(f"the source gave no whole answer within {self._total_s:g} s") from None
        except httpx.RequestError as error:  # its text may show secrets that were sent
            raise SourceUnavailableError(f"the source cannot be reached ({type(error).__name__})") from None
        remaining = answer.headers.get("X-Rate-Limit-Remaining", "")
        if _NUMBER_OF_CREDITS.fullmatch(remaining):
            self.remaining_credits = int(remaining)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            pause_s = parse_pause(answer.headers, datetime.now(UTC))  # real time: a date is by the source's own clock
            self._paused_until = max(self._paused_until, self._clock.elapsed() + timedelta(seconds=pause_s))
            raise SourceLimitedError(pause_s)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceUnavailableError(f"the source is out of order (status {answer.status_code})")
        return answer

    def _require_no_pause(self) -> None:
        """Raise SourceLimitedError during a pause that the source required."""
        left = self._paused_until - self._clock.elapsed()
        if left > timedelta(0):
            raise SourceLimitedError(left.total_seconds())

    def _parse_answer(self, answer: httpx.Response, token: _Token | None) -> list[Flight]:
        """Return the flights of an answer to a request with this token (None: without a token).

        Only a 404 with an empty body, or an empty list, means no flights: anything else that comes as a 404 or 200, and
        a redirect, is from somebody else (a proxy, a portal, a wrong path), and says nothing about flights. Raises
        SourceUnavailableError for it, _TokenRefusedError for 401 with a token, SourceRefusedError for any other status.
        """
        match answer.status_code:
            case httpx.codes.OK:
                return self._validate_rows(parse_rows(answer))
            case httpx.codes.NOT_FOUND if not answer.content:
                return []
            case httpx.codes.NOT_FOUND:
                raise SourceUnavailableError("a 404 with a body is not the source's answer: a proxy, or a wrong URL?")
            case status if answer.is_redirect:
                raise SourceUnavailableError(f"a redirect (status {status}) is not the source's answer: a proxy?")
            case httpx.codes.UNAUTHORIZED if token is not None:
                raise _TokenRefusedError(token)
            case status:
                raise SourceRefusedError(f"the source refuses the request (status {status})")

    def _validate_rows(self, rows: list[object]) -> list[Flight]:
        """Return the flights in the order of the rows. Rows without identity are left out, counted and logged.

        Unreadable fields that do not make a flight are dropped from it, counted by field, and logged once a day each.
        Raises SourceUnavailableError if there are rows and none has an identity: not a day without flights.
        """
        flights: list[Flight] = []
        faults: set[str] = set()
        for row in rows:
            try:
                flight, dropped = parse_flight(row)
            except ValidationError as error:
                self._malformed.inc()
                faults |= {".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors()}
                continue
            flights.append(flight)
            for field in dropped:
                self._count_dropped(field)
        if len(flights) < len(rows):
            log.warning("opensky.malformed_flights", left_out=len(rows) - len(flights), faults=sorted(faults))
        if rows and not flights:
            raise SourceUnavailableError("none of the flights in the source's answer can be read")
        return flights

    def _count_dropped(self, field: str) -> None:
        """Count a field that was dropped from a flight, and log the field if it was not logged in the last day."""
        self._dropped.labels(field=field).inc()
        elapsed = self._clock.elapsed()
        logged_at = self._dropped_logged_at.get(field)
        if logged_at is None or elapsed - logged_at >= timedelta(days=1):
            self._dropped_logged_at[field] = elapsed
            log.warning("opensky.field_dropped", field=field)


def _round_up_to_seconds(instant: datetime) -> int:
    """Return the instant in Unix seconds, rounded up: the first whole second, as event times are, not before it."""
    return -((_EPOCH - instant) // _SECOND)
