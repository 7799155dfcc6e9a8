"""Interests and flights over HTTP: parses, makes one call, translates."""

import hmac
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, request, url_for

from chassis.errors import DatabaseUnavailableError
from chassis.web.http import (
    IF_MATCH,
    ProblemKind,
    Reply,
    format_entity_tag,
    parse_body,
    parse_query,
    read_bearer_token,
    read_if_match,
)
from chassis.web.openapi import ResponseDescription, describe
from collector.collection_requests import CollectionRequests
from collector.errors import (
    BadCursorError,
    NoSuchAirportError,
    NoSuchInterestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotConfirmedError,
    UserManagerAwayError,
    VersionMismatchError,
)
from collector.flights import Flights
from collector.interests import Interests
from collector.rest.answers import (
    Averages,
    Coverage,
    Flight,
    Flights as FlightsPage,
    Interest,
    Interests as InterestsList,
    LatestFlights,
    Operators,
    Preview,
    RequestedCollection,
    Scheduler,
)
from collector.rest.requests import (
    AIRPORT,
    AirportQuery,
    AverageQuery,
    ChangedInterest,
    FlightsQuery,
    OperatorsQuery,
    WantedCollection,
    WantedInterest,
)
from collector.rest.users import Caller, Users
from collector.settled.status import SchedulerState
from domain import interests as domain

_SOON: Final = {"Retry-After": "5"}

PROBLEMS: Final[Mapping[type[Exception], ProblemKind]] = {
    BadCursorError: ProblemKind(400),
    NotAuthenticatedError: ProblemKind(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    NotConfirmedError: ProblemKind(403),
    NotAllowedError: ProblemKind(403),
    NoSuchInterestError: ProblemKind(404),
    VersionMismatchError: ProblemKind(412),
    NoSuchAirportError: ProblemKind(422),
    domain.InterestError: ProblemKind(422),
    UserManagerAwayError: ProblemKind(503, _SOON),
    DatabaseUnavailableError: ProblemKind(503, _SOON),
}

DESCRIPTION: Final = (
    "Interests: what people want to be told about airports, and the flights that are known of these airports. Send the "
    "token that registering gave you with every request, in the header `Authorization: Bearer …`. Setting interests "
    "and seeing flights needs a confirmed address. All instants are UTC, all days and windows are aligned to it."
)

_ETAG: Final = {"ETag": "The version of the interest."}
_LOCATION: Final = {"Location": "Where the interest is."}
_NEXT: Final = "The next page has rel=next (RFC 8288). There is none on the last page."
_AIRPORT: Final = {
    "icao": {"type": "string", "description": "The ICAO code of an airport that you have an interest in.", **AIRPORT}
}


def blueprint(
    interests: Interests,
    requests: CollectionRequests,
    users: Users,
    operator_token: str,
    flights: Flights,
    status: Callable[[], SchedulerState],
) -> Blueprint:
    """The routes of the collector."""
    routes = Blueprint("collector", __name__)

    def reader() -> Caller:
        return users.authenticate(read_bearer_token(), reads_only=True)

    def flight_reader() -> Caller:
        return _confirmed(reader())

    def writer() -> Caller:
        return _confirmed(users.authenticate(read_bearer_token()))

    def require_operator() -> None:
        if not hmac.compare_digest(read_bearer_token().encode(), operator_token.encode()):
            raise NotAllowedError("Only the operator may do this.")

    @routes.post("/interests")
    @describe(
        "Set an interest, or change the one for the same airport, direction and window",
        auth="user",
        body=WantedInterest,
        answers={
            200: ResponseDescription(Interest, "It was there, and is now as you wish.", {**_LOCATION, **_ETAG}),
            201: ResponseDescription(Interest, "It is set.", {**_LOCATION, **_ETAG}),
        },
        problems=(503,),
    )
    def set_interest() -> Reply:
        caller = writer()
        interest, is_new = interests.set(caller.user_id, parse_body(WantedInterest).wish())
        location = url_for("collector.one_interest", interest_id=interest.interest_id)
        return _one(interest, 201 if is_new else 200, {"Location": location})

    @routes.get("/interests")
    @describe("List your interests", auth="user", answers={200: ResponseDescription(InterestsList)}, problems=(503,))
    def list_interests() -> Reply:
        found = interests.of_user(reader().user_id)
        return Reply(InterestsList(interests=[Interest.of(interest) for interest in found]))

    @routes.delete("/interests")
    @describe(
        "Remove your interests in an airport",
        auth="user",
        query=AirportQuery,
        answers={204: ResponseDescription(description="You have none there.")},
        problems=(503,),
    )
    def remove_interests_of_airport() -> Reply:
        caller = writer()
        interests.remove_of_airport(caller.user_id, parse_query(AirportQuery).airport_icao)
        return Reply(status=204)

    @routes.get("/interests/<uuid:interest_id>")
    @describe(
        "Show an interest",
        auth="user",
        answers={200: ResponseDescription(Interest, headers=_ETAG)},
        problems=(404, 503),
    )
    def one_interest(interest_id: UUID) -> Reply:
        return _one(interests.one(reader().user_id, interest_id))

    @routes.patch("/interests/<uuid:interest_id>")
    @describe(
        "Change an interest",
        auth="user",
        headers=(IF_MATCH,),
        body=ChangedInterest,
        answers={200: ResponseDescription(Interest, headers=_ETAG)},
        problems=(404, 412, 428, 503),
    )
    def change_interest(interest_id: UUID) -> Reply:
        # RFC 9110, 13.2.1: a precondition is looked at when the request would otherwise succeed.
        user_id = writer().user_id
        seen = interests.one(user_id, interest_id)
        change = parse_body(ChangedInterest).change()
        wanted = read_if_match()
        if str(seen.version) not in wanted:
            raise VersionMismatchError("The interest has changed since; read it again.")
        return _one(interests.change(user_id, interest_id, None if wanted.star_tag else seen.version, change))

    @routes.delete("/interests/<uuid:interest_id>")
    @describe(
        "Remove an interest",
        auth="user",
        answers={204: ResponseDescription(description="Removed.")},
        problems=(404, 503),
    )
    def remove_interest(interest_id: UUID) -> Reply:
        interests.remove(writer().user_id, interest_id)
        return Reply(status=204)

    @routes.post("/interests/preview")
    @describe(
        "Say what an interest would have said of the flights that are known; nothing is set",
        auth="user",
        body=WantedInterest,
        answers={200: ResponseDescription(Preview)},
        problems=(503,),
    )
    def preview_interest() -> Reply:
        flight_reader()
        return Reply(Preview.of(*flights.preview(parse_body(WantedInterest).wish())))

    @routes.get("/flights/<icao>")
    @describe(
        "List the flights of an airport, oldest first",
        auth="user",
        path=_AIRPORT,
        query=FlightsQuery,
        answers={200: ResponseDescription(FlightsPage, f"A page of flights. {_NEXT}")},
        problems=(400, 404, 503),
    )
    def list_flights(icao: str) -> Reply:
        caller = flight_reader()
        query = parse_query(FlightsQuery)
        page = flights.page(
            caller.user_id, _code(icao), query.direction, query.begin, query.end, query.cursor, query.limit
        )
        headers = {}
        if page.next_cursor is not None:
            same = {name: request.args[name] for name in FlightsQuery.model_fields if name in request.args}
            following = urlencode(same | {"cursor": page.next_cursor})
            headers["Link"] = f'<{url_for("collector.list_flights", icao=_code(icao))}?{following}>; rel="next"'
        return Reply(FlightsPage(flights=[Flight.of(flight) for flight in page.flights]), headers=headers)

    @routes.get("/flights/<icao>/latest")
    @describe(
        "Show the latest arrival and the latest departure",
        auth="user",
        path=_AIRPORT,
        answers={200: ResponseDescription(LatestFlights)},
        problems=(404, 422, 503),
    )
    def latest_flights(icao: str) -> Reply:
        return Reply(LatestFlights.of(flights.latest(flight_reader().user_id, _code(icao))))

    @routes.get("/flights/<icao>/average")
    @describe(
        "Say how many flights a day there are",
        auth="user",
        path=_AIRPORT,
        query=AverageQuery,
        answers={200: ResponseDescription(Averages)},
        problems=(404, 503),
    )
    def average_flights(icao: str) -> Reply:
        caller = flight_reader()
        query = parse_query(AverageQuery)
        return Reply(Averages.of(flights.average(caller.user_id, _code(icao), query.days)))

    @routes.get("/flights/<icao>/stats/airlines")
    @describe(
        "Say which airlines have the most flights",
        auth="user",
        path=_AIRPORT,
        query=OperatorsQuery,
        answers={200: ResponseDescription(Operators)},
        problems=(404, 503),
    )
    def airlines(icao: str) -> Reply:
        caller = flight_reader()
        query = parse_query(OperatorsQuery)
        found = flights.operators(caller.user_id, _code(icao), query.direction, query.begin, query.end, query.limit)
        return Reply(Operators.of(found))

    @routes.get("/flights/<icao>/coverage")
    @describe(
        "Say of which stretch all flights are known",
        auth="user",
        path=_AIRPORT,
        answers={200: ResponseDescription(Coverage)},
        problems=(404, 422, 503),
    )
    def coverage(icao: str) -> Reply:
        return Reply(Coverage.of(flights.coverage(flight_reader().user_id, _code(icao))))

    @routes.post("/collect/manual")
    @describe(
        "Collect what is due, at once",
        auth="operator",
        body=WantedCollection,
        answers={202: ResponseDescription(RequestedCollection)},
        problems=(503,),
    )
    def collect() -> Reply:
        require_operator()
        wanted = parse_body(WantedCollection) if request.content_length else WantedCollection()
        requests.request(wanted.airport_icao)
        return Reply(RequestedCollection(airport_icao=wanted.airport_icao), 202)

    @routes.get("/scheduler/status")
    @describe(
        "Show what the day's credits are, how far everything is collected, and what is asked next",
        auth="operator",
        answers={200: ResponseDescription(Scheduler)},
        problems=(503,),
    )
    def scheduler_status() -> Reply:
        require_operator()
        return Reply(Scheduler.of(status()))

    @routes.after_request
    def keep_out_of_caches(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def _confirmed(caller: Caller) -> Caller:
    if not caller.confirmed:
        raise NotConfirmedError("Confirm your address first: follow the link in the mail that was sent to it.")
    return caller


def _code(icao: str) -> str:
    """As in a body: with blanks around it, in any case."""
    return icao.strip().upper()


def _one(interest: domain.Interest, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(Interest.of(interest), status, {**(headers or {}), "ETag": format_entity_tag(interest.version)})
