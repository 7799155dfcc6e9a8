"""OpenSky's REST API over a timetable: questions in, JSON out.

Faithful to OpenSky's REST documentation of July 2026, to its official Python client and to what its maintainers said in
forum and issues:

- bounds are inclusive; nothing found is a 404 with an empty body; spent credits are a 429 with the header
  `X-Rate-Limit-Retry-After-Seconds`, in seconds of the server's clock;
- departures are known at once, while the flight is in the air as last seen now and without an arrival airport;
- arrivals, and the questions for all flights and for one aircraft, are answered from a nightly batch: nothing of today.
  Those two know only flights that began and ended in the interval;
- the order of a flight's keys is part of the contract: the official client reads the values by position.

Invented are the distances and the counts of candidate airports: always the same for the same flight, and meaningless.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from zlib import crc32

from aiohttp import web

from chassis.clock import Clock
from local.opensky.access import TOKEN_SECONDS, Access, Credentials
from local.opensky.credits import DAY, PRICE_OF_STATES, Ledger, partitions, price
from local.opensky.errors import BadQuestion, OutOfCredits, Unauthorised
from local.opensky.faults import Faults
from local.opensky.flights import Flight, Timetable

_TOKEN_PATH = "/auth/realms/opensky-network/protocol/openid-connect/token"  # noqa: S105 - a path

Query = Mapping[str, str]
Json = dict[str, object]
Find = Callable[[Query, int], tuple[int, list[Json] | Json]]
"""From a question's parameters and the present second: what it costs, and the answer."""


def make_app(timetable: Timetable, clock: Clock, access: Access, faults: Faults | None = None) -> web.Application:
    """The whole API. `access`, the credits that are spent and `faults` are state of this one application."""
    clock = clock if faults is None else faults.skewed(clock)
    replay = _Replay(timetable, clock, access)
    app = web.Application(middlewares=[] if faults is None else [faults.between(clock, access.forget)])
    app.router.add_post(_TOKEN_PATH, replay.token)
    app.router.add_get("/api/flights/departure", replay.answering(replay.departures))
    app.router.add_get("/api/flights/arrival", replay.answering(replay.arrivals))
    app.router.add_get("/api/flights/all", replay.answering(replay.flights))
    app.router.add_get("/api/flights/aircraft", replay.answering(replay.of_aircraft))
    app.router.add_get("/api/states/all", replay.answering(replay.states))
    return app


class _Replay:
    def __init__(self, timetable: Timetable, clock: Clock, access: Access) -> None:
        self._timetable = timetable
        self._clock = clock
        self._access = access
        self._ledger = Ledger()

    def answering(self, find: Find) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Identify, find, charge, translate. A refused question costs nothing."""

        async def answer(request: web.Request) -> web.Response:
            now = self._now()
            try:
                caller = self._access.identify(request.headers.get("Authorization"), request.remote or "", now)
                cost, found = find(request.query, now)
                left = self._ledger.charge(*caller, cost, now)
            except Unauthorised as error:
                return web.json_response(
                    {"message": str(error)}, status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
                )
            except BadQuestion as error:
                return web.json_response({"message": str(error)}, status=400)
            except OutOfCredits as error:
                headers = {"X-Rate-Limit-Retry-After-Seconds": str(error.retry_after)}
                return web.Response(status=429, text="Too many requests", headers=headers)
            headers = {"X-Rate-Limit-Remaining": str(left)}
            return web.json_response(found, headers=headers) if found else web.Response(status=404, headers=headers)

        return answer

    async def token(self, request: web.Request) -> web.Response:
        """Client credentials for a bearer token, as Keycloak gives it (RFC 6749, sections 4.4 and 5)."""
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return _token_error(400, "unsupported_grant_type", "Unsupported grant_type")
        credentials = Credentials(str(form.get("client_id", "")), str(form.get("client_secret", "")))
        try:
            token = self._access.issue(credentials, self._now())
        except Unauthorised as error:
            return _token_error(401, "invalid_client", str(error))
        return web.json_response(
            {
                "access_token": token,
                "expires_in": TOKEN_SECONDS,
                "refresh_expires_in": 0,
                "token_type": "Bearer",
                "not-before-policy": 0,
                "scope": "profile email",
            },
            headers={"Cache-Control": "no-store"},
        )

    def departures(self, query: Query, now: int) -> tuple[int, list[Json]]:
        airport, (begin, end) = _airport(query), _at_most_two_partitions(query)
        return price(begin, end, now), _objects(self._timetable.departures(airport, begin, min(end, now)), now)

    def arrivals(self, query: Query, now: int) -> tuple[int, list[Json]]:
        airport, (begin, end) = _airport(query), _at_most_two_partitions(query)
        return price(begin, end, now), _objects(self._timetable.arrivals(airport, begin, _batched(end, now)), now)

    def flights(self, query: Query, now: int) -> tuple[int, list[Json]]:
        begin, end = _at_most(query, hours=2)
        return price(begin, end, now), _objects(self._timetable.between(begin, _batched(end, now)), now)

    def of_aircraft(self, query: Query, now: int) -> tuple[int, list[Json]]:
        icao24, (begin, end) = _matching(query, "icao24", r"[0-9a-f]{6}"), _at_most(query, hours=48)
        found = self._timetable.of_aircraft(icao24, begin, _batched(end, now))
        return price(begin, end, now), _objects(found, now)

    def states(self, _: Query, now: int) -> tuple[int, Json]:
        """Nobody is in the sky: the data knows when flights began and ended, not where they were."""
        return PRICE_OF_STATES, {"time": now, "states": None}

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _batched(end: int, now: int) -> int:
    """`end`, or the last second of yesterday if that comes first: the batch of last night knows no later flight."""
    return min(end, now - now % DAY - 1)


def _matching(query: Query, name: str, pattern: str) -> str:
    value = query.get(name, "")
    if not re.fullmatch(pattern, value, re.ASCII):
        raise BadQuestion(f"the parameter {name} is missing or malformed")
    return value


def _airport(query: Query) -> str:
    return _matching(query, "airport", r"[A-Za-z0-9]{4}").upper()


def _interval(query: Query) -> tuple[int, int]:
    begin, end = (int(_matching(query, name, r"\d{1,10}")) for name in ("begin", "end"))
    if begin > end:
        raise BadQuestion("the interval ends before it begins")
    return begin, end


def _at_most(query: Query, *, hours: int) -> tuple[int, int]:
    begin, end = _interval(query)
    if end - begin > hours * 3600:
        raise BadQuestion(f"the interval must not be longer than {hours} hours")
    return begin, end


def _at_most_two_partitions(query: Query) -> tuple[int, int]:
    begin, end = _interval(query)
    if partitions(begin, end) > 2:
        raise BadQuestion("the interval must not touch more than two days of UTC")
    return begin, end


def _objects(flights: list[Flight], now: int) -> list[Json]:
    return [_object(flight.as_seen_at(now)) for flight in flights]


def _object(flight: Flight) -> Json:
    departure = _invented(flight, flight.departure_airport)
    arrival = _invented(flight, flight.arrival_airport)
    return {
        "icao24": flight.icao24,
        "firstSeen": flight.first_seen,
        "estDepartureAirport": flight.departure_airport,
        "lastSeen": flight.last_seen,
        "estArrivalAirport": flight.arrival_airport,
        "callsign": f"{flight.callsign:<8}",
        "estDepartureAirportHorizDistance": departure[0],
        "estDepartureAirportVertDistance": departure[1],
        "estArrivalAirportHorizDistance": arrival[0],
        "estArrivalAirportVertDistance": arrival[1],
        "departureAirportCandidatesCount": departure[2],
        "arrivalAirportCandidatesCount": arrival[2],
    }


def _invented(flight: Flight, airport: str | None) -> tuple[int | None, int | None, int]:
    """Distances in metres from where the flight was seen to the airport, and how many others it may have been."""
    if airport is None:
        return None, None, 0
    noise = crc32(f"{flight.icao24} {flight.first_seen} {airport}".encode())
    return noise % 4_000, noise % 170, noise % 5


def _token_error(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
