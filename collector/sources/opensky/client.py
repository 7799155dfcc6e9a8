"""The OpenSky Network's REST API (its documentation of July 2026), as this service needs it.

Flights of an airport in an interval: 404 with an empty body means none; 429 carries
`X-Rate-Limit-Retry-After-Seconds`; a bearer token from OAuth2 client credentials lives for 30 minutes.
"""

import asyncio
import math
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self

import httpx
import stamina
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chassis.breaker import Breaker, BreakerPolicy, BreakerState
from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import BreakerOpenError, SourceAwayError, SourceError, SourceLimitedError, SourceRefusedError
from domain.interests import Direction

log = structlog.get_logger()

PATIENCE: Final = BreakerPolicy(first_opening=timedelta(seconds=30), longest_opening=timedelta(minutes=15))
"""With the source."""

_ATTEMPTS: Final = 3
_LONGEST_WAIT_S: Final = 2.0
"""Between two attempts."""
_RENEW_BEFORE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_SECOND: Final = timedelta(seconds=1)
_DAY_S: Final = 86_400
_LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp())
_PAUSE_UNSAID_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 86_400.0
"""Credits are given anew each day."""
_NUMBER_OF_CREDITS: Final = re.compile("[0-9]{1,9}")


def _instant(value: object) -> object:
    if type(value) is int and 0 <= value <= _LAST_SECOND:  # a boolean is an int too
        return datetime.fromtimestamp(value, UTC)
    raise ValueError("must be Unix seconds")


def _stripped(value: object) -> object:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else value


_UnixSeconds = Annotated[datetime, BeforeValidator(_instant)]
_Text = Annotated[str, BeforeValidator(_stripped), Field(pattern="^[ -~]*$")]


class Flight(BaseModel):
    """A flight as the source gives it, checked."""

    model_config = ConfigDict(frozen=True, strict=True)

    icao24: str = Field(pattern="^[0-9a-f]{6}$")
    first_seen: _UnixSeconds = Field(alias="firstSeen")
    last_seen: _UnixSeconds = Field(alias="lastSeen")
    callsign: _Text = Field(default="", max_length=8)
    departure_airport: _Text = Field(default="", alias="estDepartureAirport", max_length=4)
    arrival_airport: _Text = Field(default="", alias="estArrivalAirport", max_length=4)

    @model_validator(mode="after")
    def _runs_forward(self) -> Self:
        if self.last_seen < self.first_seen:
            raise ValueError("last seen before first seen")
        return self

    def event_time(self, direction: Direction) -> datetime:
        """When it counts: a departure when first seen, an arrival when last seen."""
        return self.first_seen if direction is Direction.DEPARTURES else self.last_seen

    def other_airport(self, direction: Direction) -> str:
        """The airport at the other end, empty where unknown."""
        return self.arrival_airport if direction is Direction.DEPARTURES else self.departure_airport


class _Grant(BaseModel):
    """A token as the authorization server gives it (RFC 6749, section 5.1; its alphabet: RFC 6750, section 2.1)."""

    access_token: str = Field(pattern=r"^[A-Za-z0-9._~+/-]+=*$")
    expires_in: int = Field(ge=0, le=31_536_000)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Real seconds that one request may take."""

    connect_s: float = 5.0
    total_s: float = 30.0
    """Until the last byte of the answer: a trickle of bytes never ends by itself."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at: datetime


class _TokenRefusedError(SourceRefusedError):
    """The token is not accepted (any more)."""

    def __init__(self, token: _Token) -> None:
        super().__init__("the source does not accept the token that it gave")
        self.token = token


class OpenSkyClient:
    """One client for all requests, for any number of tasks of one event loop.

    They share the connections, the token, the pause that the source asked for, and the breaker.
    """

    remaining_credits: int | None = None
    """Credits of this day, as the source last said; None where it has said nothing yet."""

    def __init__(
        self,
        url: str,
        token_url: str,
        credentials: tuple[str, str] | None,
        clock: Clock,
        metrics: Metrics,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        """`credentials`: client id and secret, or None for anonymous access.

        The source's times, and the breaker's, are the service's `clock`'s; only the timeouts are real.
        """
        self._url = url.rstrip("/")
        self._token_url = token_url
        self._credentials = credentials
        self._clock = clock
        self._total_s = timeouts.total_s
        self._deadline_s = _ATTEMPTS * (timeouts.total_s + _LONGEST_WAIT_S)
        self._token: _Token | None = None
        self._renewal = asyncio.Lock()
        self._paused_until = _EPOCH
        self._breaker = Breaker(PATIENCE)
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeouts.total_s, connect=timeouts.connect_s), headers={"User-Agent": "towerwatch"}
        )
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=_ATTEMPTS, timeout=self._deadline_s, wait_initial=0.2, wait_max=_LONGEST_WAIT_S, wait_jitter=1
        ).on(SourceAwayError)
        self._calls = metrics.counter("opensky_api_calls_total", "Calls of the OpenSky API", "status")
        self._malformed = metrics.counter("opensky_malformed_flights_total", "Flights left out as malformed").labels()
        self._state = metrics.gauge("opensky_breaker_state", "1 for the state that the breaker is in, else 0", "state")
        self._show_state()

    async def close(self) -> None:
        await self._http.aclose()

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """The airport's flights with an event time in [begin, end). Raises SourceError.

        A malformed flight is counted, logged and left out; a malformed answer is an error, never "no flights".
        What may succeed in a moment is tried three times. Without a request, raises SourceLimitedError during a
        pause that the source asked for, whoever it was told to, and BreakerOpenError after too many failures.
        Raises ValueError for an interval that the source would refuse: one that touches more than two UTC days.
        """
        # The source takes whole seconds, both ends included.
        first, last = _whole_seconds(begin), _whole_seconds(end) - 1
        if first > last:
            return []
        if last // _DAY_S - first // _DAY_S > 1:
            raise ValueError(f"[{begin.isoformat()}, {end.isoformat()}) touches more than two UTC days")
        path = "departure" if direction is Direction.DEPARTURES else "arrival"
        request = self._http.build_request(
            "GET", f"{self._url}/flights/{path}", params={"airport": airport, "begin": first, "end": last}
        )
        self._keep_the_pause()
        with self._breaking():
            flights = await self._asked(request)
        return [flight for flight in flights if begin <= flight.event_time(direction) < end]

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Inside, a question is asked, if the breaker lets it; it learns how that ended. Raises BreakerOpenError."""
        admitted = self._breaker.admit_call(self._clock.now())
        if admitted is None:
            wait = self._breaker.compute_wait(self._clock.now())
            raise BreakerOpenError(max(wait.total_seconds(), 1.0))
        self._pass_to(admitted)
        generation = admitted.generation
        try:
            yield
        except SourceAwayError:
            self._pass_to(self._breaker.after_failure(generation, self._clock.now(), random.random()))
            raise
        except SourceError:
            # A limit or a refusal is the answer of a server that works. To leave it alone would mend nothing, and
            # hide from the operator that the credentials are wrong.
            self._pass_to(self._breaker.after_success(generation))
            raise
        except BaseException:  # cancelled: the outcome is not known
            self._pass_to(self._breaker.after_abandoned_call(generation, self._clock.now()))
            raise
        self._pass_to(self._breaker.after_success(generation))

    def _pass_to(self, breaker: Breaker) -> None:
        before, self._breaker = self._breaker, breaker
        if breaker.state is before.state:
            return
        self._show_state()
        if breaker.state is BreakerState.OPEN:
            log.warning("opensky.breaker_opened", for_s=breaker.compute_wait(self._clock.now()).total_seconds())
        elif breaker.state is BreakerState.CLOSED:
            log.info("opensky.breaker_closed")

    def _show_state(self) -> None:
        for state in BreakerState:
            self._state.labels(state=state.value).set(state is self._breaker.state)

    async def _asked(self, request: httpx.Request) -> list[Flight]:
        """The answer to a question, within the deadline: with retries, and with a new token if that is refused."""
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    return await self._retrying(self._call, request)
                except _TokenRefusedError as error:
                    if self._token is error.token:  # else another task has renewed it already
                        self._token = None
                # Revoked, or issued by a server that has forgotten it: one new token. A second refusal is the end.
                return await self._retrying(self._call, request)
        except TimeoutError:
            raise SourceAwayError(f"the source gave no whole answer within {self._deadline_s:g} s") from None

    async def _call(self, request: httpx.Request) -> list[Flight]:
        token = await self._current_token()
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token.text}"
        self._keep_the_pause()  # another task may have been told, while this one waited for its next attempt
        self._calls.labels(status="attempt").inc()
        outcome = "failure"
        try:
            flights = self._flights_in(await self._answer(request), token)
            outcome = "success"
        finally:
            self._calls.labels(status=outcome).inc()
        return flights

    async def _current_token(self) -> _Token | None:
        """None for anonymous access. Tasks that need a new one wait for the first of them to get it."""
        if self._credentials is None:
            return None
        async with self._renewal:
            now = self._clock.now()
            if self._token is None or self._token.renew_at <= now:
                grant = await self._grant(*self._credentials)
                lifetime = timedelta(seconds=grant.expires_in)
                self._token = _Token(grant.access_token, now + max(lifetime - _RENEW_BEFORE, timedelta(0)))
            return self._token

    async def _grant(self, client_id: str, client_secret: str) -> _Grant:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer = await self._answer(self._http.build_request("POST", self._token_url, data=form))
        if answer.status_code != httpx.codes.OK:
            raise SourceRefusedError(
                "the source gives no token for OPENSKY_CLIENT_ID and its secret, or for those of "
                f"OPENSKY_CREDENTIALS_FILE (status {answer.status_code})"
            )
        try:
            return _Grant.model_validate_json(answer.content)
        except ValidationError:
            raise SourceAwayError("the source's token cannot be read") from None

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        """Any answer that is neither a fault of the server (5xx) nor a wish for a pause (429)."""
        try:
            async with asyncio.timeout(self._total_s):
                answer = await self._http.send(request)
        except TimeoutError:
            raise SourceAwayError(f"the source gave no whole answer within {self._total_s:g} s") from None
        except httpx.RequestError as error:  # its text may show what was sent
            raise SourceAwayError(f"the source cannot be reached ({type(error).__name__})") from None
        remaining = answer.headers.get("X-Rate-Limit-Remaining", "")
        if _NUMBER_OF_CREDITS.fullmatch(remaining):
            self.remaining_credits = int(remaining)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            pause_s = _pause_s(answer.headers.get("X-Rate-Limit-Retry-After-Seconds"))
            self._paused_until = max(self._paused_until, self._clock.now() + timedelta(seconds=pause_s))
            raise SourceLimitedError(pause_s)
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceAwayError(f"the source is out of order (status {answer.status_code})")
        return answer

    def _keep_the_pause(self) -> None:
        """Raises SourceLimitedError until what the source asked for is over."""
        left = self._paused_until - self._clock.now()
        if left > timedelta(0):
            raise SourceLimitedError(left.total_seconds())

    def _flights_in(self, answer: httpx.Response, token: _Token | None) -> list[Flight]:
        match answer.status_code:
            case httpx.codes.OK:
                return self._checked(_rows_in(answer))
            case httpx.codes.NOT_FOUND:
                return []
            case httpx.codes.UNAUTHORIZED if token is not None:
                raise _TokenRefusedError(token)
            case status:
                raise SourceRefusedError(f"the source refuses the request (status {status})")

    def _checked(self, rows: list[object]) -> list[Flight]:
        flights: list[Flight] = []
        faults: set[str] = set()
        for row in rows:
            try:
                flights.append(Flight.model_validate(row))
            except ValidationError as error:
                self._malformed.inc()
                faults |= {".".join(map(str, fault["loc"])) or fault["msg"] for fault in error.errors()}
        if len(flights) < len(rows):
            log.warning("opensky.malformed_flights", left_out=len(rows) - len(flights), faults=sorted(faults))
        if not flights and len(rows) > 1:
            # One may be odd. All of several are a format that we do not know, and not a day without flights.
            raise SourceAwayError("none of the flights in the source's answer can be read")
        return flights


def _whole_seconds(instant: datetime) -> int:
    """Unix seconds, rounded up: event times are whole seconds, so the first of them that is not before the instant."""
    return -((_EPOCH - instant) // _SECOND)


def _rows_in(answer: httpx.Response) -> list[object]:
    try:
        rows = answer.json()
    except (ValueError, RecursionError):  # the latter: nested deeper than Python's own limit
        rows = None
    if not isinstance(rows, list):
        raise SourceAwayError("the source's answer is no list of flights")
    return rows


def _pause_s(header: str | None) -> float:
    """What the source asks to wait, from a second to a day; a minute where it does not say."""
    try:
        asked = float(header or "")
    except ValueError:
        return _PAUSE_UNSAID_S
    return min(max(asked, 1.0), _LONGEST_PAUSE_S) if math.isfinite(asked) else _PAUSE_UNSAID_S
