"""The OpenSky Network's REST API (its documentation of July 2026), as this service needs it.

Flights of an airport in an interval: 404 with an empty body means none; 429 carries
`X-Rate-Limit-Retry-After-Seconds`; a bearer token from OAuth2 client credentials lives for 30 minutes.
"""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Self

import httpx
import stamina
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import SourceAwayError, SourceLimitedError, SourceRefusedError
from domain.interests import Direction

log = structlog.get_logger()

Params = dict[str, str | int]

_RENEW_BEFORE: Final = timedelta(minutes=1)
_DEADLINE_S: Final = 90.0
"""Real seconds that one question may take, with all its attempts: a trickle of bytes never ends by itself."""
_RETRYING: Final = stamina.AsyncRetryingCaller(attempts=3, timeout=_DEADLINE_S, wait_initial=0.2, wait_max=2)
_LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp())
_PAUSE_UNSAID_S: Final = 60.0
_LONGEST_PAUSE_S: Final = 86_400.0
"""Credits are given anew each day."""


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


class _TokenRefusedError(SourceRefusedError):
    """The token is not accepted (any more)."""


class OpenSkyClient:
    """One client for all requests; connections are kept. For one task at a time."""

    def __init__(
        self,
        url: str,
        token_url: str,
        credentials: tuple[str, str] | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """`credentials`: client id and secret, or None for anonymous access."""
        self._url = url.rstrip("/")
        self._token_url = token_url
        self._credentials = credentials
        self._clock = clock
        self._token: tuple[str, datetime] | None = None
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=5), headers={"User-Agent": "towerwatch"})
        self._calls = metrics.counter("opensky_api_calls_total", "Calls of the OpenSky API", "status")
        self._malformed = metrics.counter("opensky_malformed_flights_total", "Flights left out as malformed").labels()

    async def close(self) -> None:
        await self._http.aclose()

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """The airport's flights with an event time in [begin, end); at most two UTC days. Raises SourceError.

        A malformed flight is counted, logged and left out; a malformed answer is an error, never "no flights".
        What may succeed in a moment is tried three times.
        """
        path = "departure" if direction is Direction.DEPARTURES else "arrival"
        # The source takes whole seconds, both ends included.
        params: Params = {"airport": airport, "begin": int(begin.timestamp()), "end": int(end.timestamp()) - 1}
        try:
            async with asyncio.timeout(_DEADLINE_S):
                flights = await _RETRYING(SourceAwayError, self._ask, f"{self._url}/flights/{path}", params)
        except TimeoutError:
            raise SourceAwayError(f"the source gave no whole answer within {_DEADLINE_S:.0f} s") from None
        return [flight for flight in flights if begin <= flight.event_time(direction) < end]

    async def _ask(self, url: str, params: Params) -> list[Flight]:
        try:
            return await self._call(url, params)
        except _TokenRefusedError:
            self._token = None  # revoked, or issued by a server that has forgotten it: one new token, one more try
            return await self._call(url, params)

    async def _call(self, url: str, params: Params) -> list[Flight]:
        headers = await self._authorization()
        self._calls.labels(status="attempt").inc()
        outcome = "failure"
        try:
            flights = self._flights_in(await self._answer("GET", url, params=params, headers=headers))
            outcome = "success"
        finally:
            self._calls.labels(status=outcome).inc()
        return flights

    async def _authorization(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        now = self._clock.now()
        if self._token is None or self._token[1] <= now:
            grant = await self._grant(*self._credentials)
            lifetime = timedelta(seconds=grant.expires_in)
            self._token = grant.access_token, now + max(lifetime - _RENEW_BEFORE, timedelta(0))
        return {"Authorization": f"Bearer {self._token[0]}"}

    async def _grant(self, client_id: str, client_secret: str) -> _Grant:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        answer = await self._answer("POST", self._token_url, data=form)
        if answer.status_code != httpx.codes.OK:
            raise SourceRefusedError(
                f"the source gives no token for OPENSKY_CLIENT_ID and its secret (status {answer.status_code})"
            )
        try:
            return _Grant.model_validate_json(answer.content)
        except ValidationError:
            raise SourceAwayError("the source's token cannot be read") from None

    async def _answer(self, method: str, url: str, **content: object) -> httpx.Response:
        """Any answer that is neither a fault of the server (5xx) nor a wish for a pause (429)."""
        try:
            answer = await self._http.request(method, url, **content)  # type: ignore[arg-type]
        except httpx.RequestError as error:  # its text may show what was sent
            raise SourceAwayError(f"the source cannot be reached ({type(error).__name__})") from None
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise SourceLimitedError(_pause_s(answer.headers.get("X-Rate-Limit-Retry-After-Seconds")))
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise SourceAwayError(f"the source is out of order (status {answer.status_code})")
        return answer

    def _flights_in(self, answer: httpx.Response) -> list[Flight]:
        match answer.status_code:
            case httpx.codes.OK:
                return self._checked(_rows_in(answer))
            case httpx.codes.NOT_FOUND:
                return []
            case httpx.codes.UNAUTHORIZED if self._credentials is not None:
                raise _TokenRefusedError("the source does not accept the token that it gave")
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
