"""The collector's REST routes: each parses the request, makes one call, and translates the result and the errors."""

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from flask import Blueprint, Response, request, url_for

from chassis.credentials import Credential
from chassis.errors import DatabaseUnavailableError
from chassis.web.http import ProblemKind, Reply, parse_body, parse_query, read_bearer_token
from chassis.web.numbers import WHOLE_NUMBERS
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.preconditions import IF_MATCH, format_entity_tag, read_if_match
from collector.collection_requests import CollectionRequests
from collector.errors import (
    BadCursorError,
    BadRangeError,
    NoSuchAirportError,
    NoSuchInterestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotConfirmedError,
    TooManyAirportsError,
    TooManyInterestsError,
    TooManyPastWindowsError,
    TooManyReadsError,
    TooManyWritesError,
    UserManagerUnavailableError,
    VersionMismatchError,
)
from collector.flights import FlightQueries
from collector.interests import InterestStore
from collector.read_limits import ReadLimit
from collector.rest.answers import (
    Averages,
    CoverageWithEvidence,
    Flight,
    Flights as FlightsPage,
    LatestFlights,
    Operators,
    RequestedCollection,
)
from collector.rest.interest_answers import Interest, Interests as InterestsList, SetInterest
from collector.rest.preview_routes import add_preview_route
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
from collector.rest.scheduler_answers import Scheduler
from collector.rest.users import Authenticator, Caller, require_confirmed
from collector.rest.usual_routes import add_usual_route
from collector.settled.coverage_report import CoverageReport
from collector.settled.learning import LearningEnds
from collector.write_limits import WriteLimit
from domain import interests as domain

_RETRY_AFTER: Final = {"Retry-After": "5"}

PROBLEMS: Final[Mapping[type[Exception], ProblemKind]] = {
    BadCursorError: ProblemKind(400),
    NotAuthenticatedError: ProblemKind(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    NotConfirmedError: ProblemKind(403),
    NotAllowedError: ProblemKind(403),
    NoSuchInterestError: ProblemKind(404),
    VersionMismatchError: ProblemKind(412),
    NoSuchAirportError: ProblemKind(422),
    TooManyInterestsError: ProblemKind(422),
    TooManyAirportsError: ProblemKind(422),
    TooManyWritesError: ProblemKind(429),
    TooManyReadsError: ProblemKind(429),
    TooManyPastWindowsError: ProblemKind(429),
    BadRangeError: ProblemKind(422),
    domain.InterestError: ProblemKind(422, members={"high": "high_value", "low": "low_value"}),
    UserManagerUnavailableError: ProblemKind(503, _RETRY_AFTER),
    DatabaseUnavailableError: ProblemKind(503, _RETRY_AFTER),
}

DESCRIPTION: Final = (
    "Interests: what people want to be told about airports, and the flights that are known of these airports. Send the "
    "token that registering gave you with every request, in the header `Authorization: Bearer …`; a browser that is "
    "signed in sends its session's cookie instead, which counts in requests of pages of this origin. Setting interests "
    "and seeing flights needs a confirmed address. All instants are UTC, all days and windows are aligned to it. "
    f"{WHOLE_NUMBERS}"
)

_ETAG: Final = {"ETag": "The version of the interest."}
_LOCATION: Final = {"Location": "Where the interest is."}
_LINK_DESCRIPTION: Final = "The next page has rel=next (RFC 8288). There is none on the last page."
_ICAO_PATH: Final = {
    "icao": {"type": "string", "description": "The ICAO code of an airport that you have an interest in.", **AIRPORT}
}


def blueprint(
    interests: InterestStore,
    requests: CollectionRequests,
    users: Authenticator,
    operator_token: str,
    flights: FlightQueries,
    coverage_of: Callable[[UUID, str], CoverageReport],
    status: Callable[[], Scheduler],
    write_limit: WriteLimit,
    read_limit: ReadLimit,
    learning_ends_of: Callable[[Sequence[domain.Interest]], LearningEnds],
    read_credential: Callable[[], Credential] = read_bearer_token,
) -> Blueprint:
    """Build the collector's routes, with authentication: of users by what `read_credential` returns of the present
    request, of the operator by `operator_token`.

    Every response forbids caches to store it. `coverage_of` returns the coverage report of an airport for a user,
    `status` the scheduler's state, `learning_ends_of` until when interests in percent are not judged.
    """
    routes = Blueprint("collector", __name__)

    def authenticate_reader() -> Caller:
        """Return the user whose token or session the request bears, for a request that only reads.

        While user_manager is unavailable, an older cached reply is used. Raises NotAuthenticatedError,
        UserManagerUnavailableError.
        """
        return users.authenticate(read_credential(), reads_only=True)

    def authenticate_confirmed_reader() -> Caller:
        """Return the user as `authenticate_reader` does, if the user's e-mail address is confirmed.

        Raises NotConfirmedError for an unconfirmed address, NotAuthenticatedError, UserManagerUnavailableError.
        """
        return require_confirmed(authenticate_reader())

    def authenticate_costly_reader() -> Caller:
        """Return the user as `authenticate_confirmed_reader` does; count the read. Raises TooManyReadsError, too."""
        caller = authenticate_confirmed_reader()
        read_limit.count_read(caller.user_id)
        return caller

    def authenticate_writer() -> Caller:
        """Return the user whose token the request bears, for a request that writes: a cached reply only while fresh.

        Counts the write. Raises NotAuthenticatedError, UserManagerUnavailableError, NotConfirmedError for an
        unconfirmed address, and TooManyWritesError.
        """
        caller = require_confirmed(users.authenticate(read_credential()))
        with write_limit.counting_refusals():
            write_limit.count_write(caller.user_id)
        return caller

    def require_operator() -> None:
        """Raise NotAllowedError unless the request bears the operator's token, compared in constant time."""
        if not hmac.compare_digest(read_bearer_token().encode(), operator_token.encode()):
            raise NotAllowedError("Only the operator may do this.")

    @routes.post("/interests")
    @describe(
        "Set an interest, or change the one for the same airport, direction and window",
        auth="user",
        body=WantedInterest,
        answers={
            200: ResponseDescription(SetInterest, "It was there, and is now as you wish.", {**_LOCATION, **_ETAG}),
            201: ResponseDescription(SetInterest, "It is set.", {**_LOCATION, **_ETAG}),
        },
        problems=(429, 503),
    )
    def set_interest() -> Reply:
        """Create or change the caller's interest, and reply with it: 201 if it was created, 200 if it existed."""
        caller = authenticate_writer()
        wanted = parse_body(WantedInterest).to_request()
        with write_limit.counting_refusals():
            interest, is_new = interests.set(caller.user_id, wanted)
        location = url_for("collector.one_interest", interest_id=interest.interest_id)
        notice = interests.find_notice(interest.airport)
        body = SetInterest.build_with_notice(interest, notice, learning_ends_of([interest]), is_new)
        headers = {"Location": location, "ETag": format_entity_tag(interest.version)}
        return Reply(body, 201 if is_new else 200, headers)

    @routes.get("/interests")
    @describe(
        "List your interests",
        auth="user",
        answers={200: ResponseDescription(InterestsList)},
        problems=(503,),
        is_compressed=True,
    )
    def list_interests() -> Reply:
        """Reply with all interests of the caller, oldest first."""
        found = interests.list_of_user(authenticate_reader().user_id)
        ends = learning_ends_of(found)
        return Reply(InterestsList(interests=[Interest.build(interest, ends) for interest in found]))

    @routes.delete("/interests")
    @describe(
        "Remove your interests in an airport",
        auth="user",
        query=AirportQuery,
        answers={204: ResponseDescription(description="You have none there.")},
        problems=(429, 503),
    )
    def remove_interests_of_airport() -> Reply:
        """Delete the caller's interests in one airport, and reply 204, also if there were none."""
        caller = authenticate_writer()
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
        """Reply with one of the caller's interests and its entity tag."""
        found = interests.get(authenticate_reader().user_id, interest_id)
        return _reply_with_interest(found, learning_ends_of([found]))

    @routes.patch("/interests/<uuid:interest_id>")
    @describe(
        "Change an interest",
        auth="user",
        headers=(IF_MATCH,),
        body=ChangedInterest,
        answers={200: ResponseDescription(Interest, headers=_ETAG)},
        problems=(404, 412, 428, 429, 503),
    )
    def change_interest(interest_id: UUID) -> Reply:
        """Change some members of an interest if If-Match accepts its version, and reply with the changed interest.

        With `If-Match: *` any version is accepted. Raises NoSuchInterestError, VersionMismatchError, InterestError,
        and a LimitError.
        """
        # RFC 9110, 13.2.1: a precondition is looked at when the request would otherwise succeed.
        user_id = authenticate_writer().user_id
        present = interests.get(user_id, interest_id)
        update = parse_body(ChangedInterest).to_update()
        expected = read_if_match()
        if not expected.accepts(present.version):
            raise VersionMismatchError(expected.explain_mismatch("interest", present.version))
        version = None if expected.is_any else present.version
        with write_limit.counting_refusals():
            changed = interests.change(user_id, interest_id, version, update)
        ends, is_timed = learning_ends_of([changed]), "effective_from" in update
        body = Interest.build_changed(changed, present, ends, is_timed=is_timed)
        return Reply(body, headers={"ETag": format_entity_tag(changed.version)})

    @routes.delete("/interests/<uuid:interest_id>")
    @describe(
        "Remove an interest",
        auth="user",
        answers={204: ResponseDescription(description="Removed.")},
        problems=(404, 429, 503),
    )
    def remove_interest(interest_id: UUID) -> Reply:
        """Delete one of the caller's interests, and reply 204."""
        interests.remove(authenticate_writer().user_id, interest_id)
        return Reply(status=204)

    @routes.get("/flights/<icao>")
    @describe(
        "List the flights of an airport, oldest first",
        auth="user",
        path=_ICAO_PATH,
        query=FlightsQuery,
        answers={200: ResponseDescription(FlightsPage, f"A page of flights. {_LINK_DESCRIPTION}")},
        problems=(400, 404, 503),
        is_compressed=True,
    )
    def list_flights(icao: str) -> Reply:
        """Reply with a page of an airport's flights, with a link to the next page if there is one."""
        caller = authenticate_confirmed_reader()
        query = parse_query(FlightsQuery)
        page = flights.load_page(
            caller.user_id, _normalize_code(icao), query.direction, query.begin, query.end, query.cursor, query.limit
        )
        headers = {}
        if page.next_cursor is not None:
            same = {name: request.args[name] for name in FlightsQuery.model_fields if name in request.args}
            following = urlencode(same | {"cursor": page.next_cursor})
            headers["Link"] = (
                f'<{url_for("collector.list_flights", icao=_normalize_code(icao))}?{following}>; rel="next"'
            )
        return Reply(FlightsPage(flights=[Flight.build(flight) for flight in page.flights]), headers=headers)

    @routes.get("/flights/<icao>/latest")
    @describe(
        "Show the latest arrival and the latest departure",
        auth="user",
        path=_ICAO_PATH,
        answers={200: ResponseDescription(LatestFlights)},
        problems=(404, 422, 503),
    )
    def latest_flights(icao: str) -> Reply:
        """Reply with the latest arrival and the latest departure of an airport."""
        return Reply(
            LatestFlights.build(flights.find_latest(authenticate_confirmed_reader().user_id, _normalize_code(icao)))
        )

    @routes.get("/flights/<icao>/average")
    @describe(
        "Say how many flights a day there are",
        auth="user",
        path=_ICAO_PATH,
        query=AverageQuery,
        answers={200: ResponseDescription(Averages)},
        problems=(404, 503),
    )
    def average_flights(icao: str) -> Reply:
        """Reply with the average arrivals and departures per day at an airport, over the covered days."""
        caller = authenticate_confirmed_reader()
        query = parse_query(AverageQuery)
        return Reply(Averages.build(flights.compute_averages(caller.user_id, _normalize_code(icao), query.days)))

    @routes.get("/flights/<icao>/stats/airlines")
    @describe(
        "Say which airlines have the most flights",
        auth="user",
        path=_ICAO_PATH,
        query=OperatorsQuery,
        answers={200: ResponseDescription(Operators)},
        problems=(404, 503),
    )
    def airlines(icao: str) -> Reply:
        """Reply with the airlines that have the most flights at an airport."""
        caller = authenticate_confirmed_reader()
        query = parse_query(OperatorsQuery)
        found = flights.rank_operators(
            caller.user_id, _normalize_code(icao), query.direction, query.begin, query.end, query.limit
        )
        return Reply(Operators.build(found))

    @routes.get("/flights/<icao>/coverage")
    @describe(
        "Say of which stretch all flights are known",
        auth="user",
        path=_ICAO_PATH,
        answers={200: ResponseDescription(CoverageWithEvidence)},
        problems=(404, 422, 503),
    )
    def coverage(icao: str) -> Reply:
        """Reply with the covered interval of each direction of an airport, with its evidence."""
        caller = authenticate_confirmed_reader()
        return Reply(CoverageWithEvidence.build_report(coverage_of(caller.user_id, _normalize_code(icao))))

    @routes.post("/collect/manual")
    @describe(
        "Collect what is due, at once",
        auth="operator",
        body=WantedCollection,
        answers={202: ResponseDescription(RequestedCollection)},
        problems=(503,),
    )
    def collect() -> Reply:
        """Request a collection of one airport, or of all airports if the request names none, and reply 202 at once."""
        require_operator()
        body = parse_body(WantedCollection) if request.content_length else WantedCollection()
        requests.request(body.airport_icao)
        return Reply(RequestedCollection(airport_icao=body.airport_icao), 202)

    @routes.get("/scheduler/status")
    @describe(
        "Show what the day's credits are, how far everything is collected, and what is asked next",
        auth="operator",
        answers={200: ResponseDescription(Scheduler)},
        problems=(503,),
    )
    def scheduler_status() -> Reply:
        """Reply to the operator with the scheduler's state."""
        require_operator()
        return Reply(status())

    add_preview_route(routes, flights, authenticate_costly_reader)
    add_usual_route(routes, flights, authenticate_costly_reader, _ICAO_PATH)

    @routes.after_request
    def keep_out_of_caches(response: Response) -> Response:
        """Forbid caches to store the response."""
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def _normalize_code(icao: str) -> str:
    """Return an airport code of the path as one of a body is read: without blanks around it, in upper case."""
    return icao.strip().upper()


def _reply_with_interest(interest: domain.Interest, ends: LearningEnds) -> Reply:
    """Build the reply that shows an interest, with its version as the entity tag."""
    return Reply(Interest.build(interest, ends), headers={"ETag": format_entity_tag(interest.version)})
