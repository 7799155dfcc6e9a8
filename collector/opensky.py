"""The OpenSky Network's REST API (its documentation of July 2026), as this service needs it.

Flights of an airport in an interval: 404 with an empty body means none; 429 carries
`X-Rate-Limit-Retry-After-Seconds`; a bearer token from OAuth2 client credentials lives for 30 minutes.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import httpx
import stamina
import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from chassis.clock import Clock
from chassis.metrics import Metrics
from collector.errors import SourceLimitedError, SourceRefusedError, SourceUnavailableError
from domain.interests import Direction

log = structlog.get_logger()

_RENEW_BEFORE = timedelta(minutes=1)
_ATTEMPTS = 3
_UnixSeconds = Annotated[
    datetime, BeforeValidator(lambda value: datetime.fromtimestamp(value, UTC) if type(value) is int else value)
]
_OrEmpty = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


class Flight(BaseModel):
    """A flight as the source gives it, checked."""

    model_config = ConfigDict(frozen=True, strict=True)

    icao24: str = Field(pattern="^[0-9a-f]{6}$")
    first_seen: _UnixSeconds = Field(alias="firstSeen")
    last_seen: _UnixSeconds = Field(alias="lastSeen")
    callsign: Annotated[_OrEmpty, BeforeValidator(lambda value: value.strip() if isinstance(value, str) else value)] = (
        Field(default="", max_length=8)
    )
    departure_airport: _OrEmpty = Field(default="", alias="estDepartureAirport", max_length=4)
    arrival_airport: _OrEmpty = Field(default="", alias="estArrivalAirport", max_length=4)

    def event_time(self, direction: Direction) -> datetime:
        """When it counts: a departure when first seen, an arrival when last seen."""
        return self.first_seen if direction is Direction.DEPARTURES else self.last_seen

    def other_airport(self, direction: Direction) -> str:
        """The airport at the other end, empty where unknown."""
        return self.arrival_airport if direction is Direction.DEPARTURES else self.departure_airport


class OpenSkyClient:
    """One client for all requests; connections are kept. Errors are SourceUnavailableError and its kinds."""

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
        """The airport's flights with an event time in [begin, end); at most two UTC days.

        A malformed flight is counted, logged and left out; a malformed answer is an error, never "no flights".
        """
        path = "departure" if direction is Direction.DEPARTURES else "arrival"
        # The source takes whole seconds, both ends included.
        params = {"airport": airport, "begin": int(begin.timestamp()), "end": int(end.timestamp()) - 1}
        self._calls.labels(status="attempt").inc()
        try:
            answer = await self._get(f"{self._url}/flights/{path}", params)
            flights = self._parsed(answer)
        except SourceUnavailableError:
            self._calls.labels(status="failure").inc()
            raise
        self._calls.labels(status="success").inc()
        return [flight for flight in flights if begin <= flight.event_time(direction) < end]

    async def _get(self, url: str, params: dict[str, Any]) -> httpx.Response:
        transient = (httpx.TransportError, _ServerFault)
        try:
            async for attempt in stamina.retry_context(on=transient, attempts=_ATTEMPTS, wait_initial=0.2, wait_max=2):
                with attempt:
                    answer = await self._http.get(url, params=params, headers=await self._authorization())
                    if answer.status_code == httpx.codes.UNAUTHORIZED and self._credentials:
                        self._token = None  # expired or revoked: one new token, one more try
                        answer = await self._http.get(url, params=params, headers=await self._authorization())
                    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                        raise _ServerFault
        except httpx.TransportError as error:
            raise SourceUnavailableError(f"the source cannot be reached ({type(error).__name__})") from None
        except _ServerFault:
            raise SourceUnavailableError("the source is out of order") from None
        return answer

    async def _authorization(self) -> dict[str, str]:
        if self._credentials is None:
            return {}
        now = self._clock.now()
        if self._token is None or self._token[1] <= now:
            client_id, client_secret = self._credentials
            form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
            answer = await self._http.post(self._token_url, data=form)
            if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
                raise _ServerFault
            try:
                granted = answer.raise_for_status().json()
                lifetime = timedelta(seconds=int(granted["expires_in"]))
                self._token = (str(granted["access_token"]), now + max(lifetime - _RENEW_BEFORE, timedelta(0)))
            except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
                raise SourceRefusedError("the source gives no token for OPENSKY_CLIENT_ID and its secret") from None
        return {"Authorization": f"Bearer {self._token[0]}"}

    def _parsed(self, answer: httpx.Response) -> list[Flight]:
        match answer.status_code:
            case httpx.codes.NOT_FOUND:
                return []
            case httpx.codes.TOO_MANY_REQUESTS:
                raise SourceLimitedError(_seconds(answer.headers.get("X-Rate-Limit-Retry-After-Seconds")))
            case httpx.codes.OK:
                pass
            case status:
                raise SourceRefusedError(f"the source answers {status}")
        try:
            rows = answer.json()
        except ValueError:
            rows = None
        if not isinstance(rows, list):
            raise SourceUnavailableError("the source's answer is no list of flights")
        return [flight for row in rows if (flight := self._flight(row)) is not None]

    def _flight(self, row: object) -> Flight | None:
        try:
            return Flight.model_validate(row)
        except ValidationError as error:
            self._malformed.inc()
            log.warning("opensky.malformed_flight", fields=[".".join(map(str, e["loc"])) for e in error.errors()])
            return None


class _ServerFault(Exception):
    """A 5xx answer: worth another try."""


def _seconds(header: str | None) -> float:
    """What the source asks to wait; a minute where it does not say."""
    try:
        return max(float(header or ""), 1.0)
    except ValueError:
        return 60.0
