"""OpenSky's REST API over a timetable: handlers that answer with JSON.

Faithful to OpenSky's REST documentation of July 2026, to its official Python client and to what its maintainers said in
forum and issues:

- bounds are inclusive; nothing found is a 404 with an empty body; spent credits are a 429 with the header
  `X-Rate-Limit-Retry-After-Seconds`, in seconds of the server's clock;
- all flights come from a nightly batch: nothing is known of a UTC day until its record appears in the night after it
  (`nightly_record`). It is not documented whether departures of today are given before that: by default they are not;
  with `RecordSchedule.departures_live` they are;
- the searches for all flights and for one aircraft find only flights that began and ended in the interval;
- every answer has a `Date` by the server's clock;
- positions are those of a synthetic sky over the timetable (`state_requests`, `sky`);
- the order of a flight's keys is part of the contract: the official client reads the values by position.

The distances and the counts of candidate airports are invented: always the same for the same flight, and meaningless.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import UTC
from email.utils import format_datetime
from zlib import crc32

from aiohttp import web
from multidict import MultiMapping

from chassis.clock import Clock
from local.opensky.access import TOKEN_SECONDS, AccessControl, Caller, Credentials
from local.opensky.credits import Bucket, CreditAccounts, compute_price, count_days
from local.opensky.errors import BadRequest, Forbidden, OutOfCredits, Unauthorised
from local.opensky.faults import FaultInjector
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.foreign_answers import OTHER_DATE
from local.opensky.nightly_record import NIGHTLY, RecordSchedule
from local.opensky.sky.settings import DEFAULT_SETTINGS, SkySettings
from local.opensky.sky.sky import Sky
from local.opensky.state_encoding import Json
from local.opensky.state_requests import AIRCRAFT_PATH, StateRequests

_TOKEN_PATH = "/auth/realms/opensky-network/protocol/openid-connect/token"  # noqa: S105 - a path

Query = MultiMapping[str]
Search = Callable[[Query, int, Caller], tuple[int, list[Json] | Json]]
"""A search: takes a request's parameters, the present second and the caller, returns the price in credits and the found
objects."""


def make_app(
    timetable: Timetable,
    clock: Clock,
    access: AccessControl,
    faults: FaultInjector | None = None,
    schedule: RecordSchedule = NIGHTLY,
    states: StateRequests | None = None,
) -> web.Application:
    """Make the application that serves the whole API: tokens, the four searches for flights, states and tracks.

    With `faults`, requests meet faults and the server's clock is skewed. `access`, the spent credits and `faults` are
    state of this one application. `schedule`: when the record of a day appears, and what it lacks. `states`: answers
    requests for positions; None: from the sky of `make_sky` with a seed of its own, without faults and receivers.
    """
    states = StateRequests(make_sky(timetable, schedule)) if states is None else states
    clock = clock if faults is None else faults.skew_clock(clock)
    replay = _Replay(timetable, clock, access, schedule, states)
    app = web.Application(middlewares=[] if faults is None else [faults.make_middleware(clock, access.revoke_token)])
    app.on_response_prepare.append(replay.set_date)
    app.router.add_post(_TOKEN_PATH, replay.issue_token)
    app.router.add_get("/api/flights/departure", replay.make_handler(Bucket.FLIGHTS, replay.find_departures))
    app.router.add_get("/api/flights/arrival", replay.make_handler(Bucket.FLIGHTS, replay.find_arrivals))
    app.router.add_get("/api/flights/all", replay.make_handler(Bucket.FLIGHTS, replay.find_flights))
    app.router.add_get("/api/flights/aircraft", replay.make_handler(Bucket.FLIGHTS, replay.find_by_aircraft))
    app.router.add_get("/api/states/all", replay.make_state_handler(states.find_states))
    app.router.add_get("/api/states/own", replay.make_state_handler(states.find_own_states))
    app.router.add_get(AIRCRAFT_PATH, replay.serve_aircraft)
    app.router.add_get("/api/tracks/all", replay.make_handler(Bucket.TRACKS, replay.find_track))
    return app


def make_sky(
    timetable: Timetable,
    schedule: RecordSchedule,
    settings: SkySettings = DEFAULT_SETTINGS,
    *,
    goes_on: bool = False,
) -> Sky:
    """Make the sky over a timetable, with the days of the record's schedule, and with its unheard airports.

    `goes_on`: True if aircraft also fly on the days before and after those.
    """
    unheard = settings.unheard_airports | schedule.unheard_airports
    days = (None, None) if goes_on else (schedule.first_day, schedule.last_day)
    return Sky(timetable, replace(settings, unheard_airports=unheard), first_day=days[0], last_day=days[1])


class _Replay:
    """The handlers of the API's requests, with the credit accounts of their callers.

    A `find_…` method is a search: it parses a request's parameters, and returns its price in credits and the objects
    found; it may raise BadRequest. `make_handler` makes a request handler of a search.
    """

    def __init__(
        self,
        timetable: Timetable,
        clock: Clock,
        access: AccessControl,
        schedule: RecordSchedule,
        states: StateRequests,
    ) -> None:
        self._timetable = timetable
        self._clock = clock
        self._access = access
        self._schedule = schedule
        self._states = states
        self._accounts = CreditAccounts()

    async def set_date(self, _: web.Request, response: web.StreamResponse) -> None:
        """Set the header `Date` of any answer to the time of the server's clock (RFC 9110, section 6.6.1).

        An answer whose date a fault has changed keeps the other one.
        """
        date = response.get(OTHER_DATE, self._clock.now())
        response.headers["Date"] = format_datetime(date.astimezone(UTC), usegmt=True)

    def make_state_handler(self, find: Search) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Make a request handler of a search for states, which first meets the fault of that time, if there is one."""
        search = self.make_handler(Bucket.STATES, find)

        async def answer(request: web.Request) -> web.Response:
            """Answer a request with states, or with what the fault sends in their place, which costs no credits."""
            broken = self._states.answer_fault(request, self._clock)
            return await search(request) if broken is None else broken

        return answer

    async def serve_aircraft(self, request: web.Request) -> web.Response:
        """Answer a request for the `aircraft.json` of the receiver, which knows no callers and no credits."""
        return self._states.answer_receiver(request, self._clock)

    def make_handler(self, bucket: Bucket, find: Search) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Make a request handler of a search: it identifies the caller, searches, charges the price, and encodes.

        The price is charged to the bucket. A rejected request costs nothing.
        """

        async def answer(request: web.Request) -> web.Response:
            """Answer a request with the found objects as JSON (200), or with 404 and no body if nothing was found.

            An error is answered with 400 (parameters), 401 (token), 403 (no token) or 429 (credits, with the seconds
            until midnight).
            """
            now = self._now()
            try:
                caller = self._access.identify_caller(request.headers.get("Authorization"), request.remote or "", now)
                cost, found = find(request.query, now, caller)
                remaining = self._accounts.charge(caller.name, bucket, caller.allowance, cost, now)
            except Unauthorised as error:
                return web.json_response(
                    {"message": str(error)}, status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
                )
            except Forbidden as error:
                return web.json_response({"message": str(error)}, status=403)
            except BadRequest as error:
                return web.json_response({"message": str(error)}, status=400)
            except OutOfCredits as error:
                headers = {"X-Rate-Limit-Retry-After-Seconds": str(error.retry_after)}
                return web.Response(status=429, text="Too many requests", headers=headers)
            headers = {"X-Rate-Limit-Remaining": str(remaining)}
            return web.json_response(found, headers=headers) if found else web.Response(status=404, headers=headers)

        return answer

    async def issue_token(self, request: web.Request) -> web.Response:
        """Exchange client credentials for a bearer token, as Keycloak does (RFC 6749, sections 4.4 and 5).

        An error is answered with 400 for another grant type, or 401 for unknown credentials.
        """
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return _build_token_error(400, "unsupported_grant_type", "Unsupported grant_type")
        credentials = Credentials(str(form.get("client_id", "")), str(form.get("client_secret", "")))
        try:
            token = self._access.issue_token(credentials, self._now())
        except Unauthorised as error:
            return _build_token_error(401, "invalid_client", str(error))
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

    def find_departures(self, query: Query, now: int, _: Caller) -> tuple[int, list[Json]]:
        """Find the flights that left an airport in the interval, as far as their departures are known now.

        The interval may touch two UTC days at most.
        """
        airport, (begin, end) = _parse_airport(query), _parse_interval_of_two_days(query)
        departures = self._timetable.find_departures(airport, begin, end)
        known = (self._schedule.describe_departure(flight, now) for flight in departures)
        return compute_price(begin, end, now), _encode_known_flights(known)

    def find_arrivals(self, query: Query, now: int, _: Caller) -> tuple[int, list[Json]]:
        """Find the flights that arrived at an airport in the interval, as far as the record has them now.

        The interval may touch two UTC days at most.
        """
        airport, (begin, end) = _parse_airport(query), _parse_interval_of_two_days(query)
        arrivals = self._timetable.find_arrivals(airport, begin, end)
        known = (self._schedule.describe_arrival(flight, now) for flight in arrivals)
        return compute_price(begin, end, now), _encode_known_flights(known)

    def find_flights(self, query: Query, now: int, _: Caller) -> tuple[int, list[Json]]:
        """Find all flights that began and ended in the interval, as far as the record has them now.

        The interval may be two hours long at most.
        """
        begin, end = _parse_interval_of_hours(query, hours=2)
        known = (self._schedule.describe_flight(flight, now) for flight in self._timetable.find_between(begin, end))
        return compute_price(begin, end, now), _encode_known_flights(known)

    def find_by_aircraft(self, query: Query, now: int, _: Caller) -> tuple[int, list[Json]]:
        """Find one aircraft's flights that began and ended in the interval, as far as the record has them now.

        The interval may be 48 hours long at most.
        """
        icao24 = _require_parameter(query, "icao24", r"[0-9a-f]{6}")
        begin, end = _parse_interval_of_hours(query, hours=48)
        flights = self._timetable.find_by_aircraft(icao24, begin, end)
        known = (self._schedule.describe_flight(flight, now) for flight in flights)
        return compute_price(begin, end, now), _encode_known_flights(known)

    def find_track(self, query: Query, now: int, _: Caller) -> tuple[int, list[Json]]:
        """Find no track, at the full price of its instant (0: of now): the replay keeps none of its sky."""
        _require_parameter(query, "icao24", r"[0-9a-f]{6}")
        instant = int(_require_parameter(query, "time", r"\d{1,10}")) or now
        return compute_price(instant, instant, now), []

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _require_parameter(query: Query, name: str, pattern: str) -> str:
    """Return the parameter's value. Raises BadRequest if it is missing or does not match the pattern as a whole."""
    value = query.get(name, "")
    if not re.fullmatch(pattern, value, re.ASCII):
        raise BadRequest(f"the parameter {name} is missing or malformed")
    return value


def _parse_airport(query: Query) -> str:
    return _require_parameter(query, "airport", r"[A-Za-z0-9]{4}").upper()


def _parse_interval(query: Query) -> tuple[int, int]:
    """Return the parameters begin and end (Unix seconds).

    Raises BadRequest if one is missing or malformed, or if the interval ends before it begins.
    """
    begin, end = (int(_require_parameter(query, name, r"\d{1,10}")) for name in ("begin", "end"))
    if begin > end:
        raise BadRequest("the interval ends before it begins")
    return begin, end


def _parse_interval_of_hours(query: Query, *, hours: int) -> tuple[int, int]:
    """Return the parameters begin and end (Unix seconds). Raises BadRequest, also if they are over `hours` apart."""
    begin, end = _parse_interval(query)
    if end - begin > hours * 3600:
        raise BadRequest(f"the interval must not be longer than {hours} hours")
    return begin, end


def _parse_interval_of_two_days(query: Query) -> tuple[int, int]:
    """Return the parameters begin and end (Unix seconds). Raises BadRequest, also for over two touched UTC days."""
    begin, end = _parse_interval(query)
    if count_days(begin, end) > 2:
        raise BadRequest("the interval must not touch more than two days of UTC")
    return begin, end


def _encode_known_flights(flights: Iterable[TimetableFlight | None]) -> list[Json]:
    """Encode the flights as JSON objects; leave out each None, a flight that is not known."""
    return [_encode_flight(flight) for flight in flights if flight is not None]


def _encode_flight(flight: TimetableFlight) -> Json:
    """Encode a flight as OpenSky's JSON object; the order of the keys is part of the contract.

    The callsign is padded to eight characters; distances and counts of candidates are invented.
    """
    departure = _invent_distances(flight, flight.departure_airport)
    arrival = _invent_distances(flight, flight.arrival_airport)
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


def _invent_distances(flight: TimetableFlight, airport: str | None) -> tuple[int | None, int | None, int]:
    """Invent the horizontal and vertical distance to the airport (metres), and the count of other candidate airports.

    Always the same values for the same flight and airport; None, None and 0 without an airport.
    """
    if airport is None:
        return None, None, 0
    noise = crc32(f"{flight.icao24} {flight.first_seen} {airport}".encode())
    return noise % 4_000, noise % 170, noise % 5


def _build_token_error(status: int, error: str, description: str) -> web.Response:
    """Build the error answer to a token request, a JSON object (RFC 6749, section 5.2)."""
    return web.json_response({"error": error, "error_description": description}, status=status)
