"""The REST route about what is usual at an airport."""

from collections.abc import Callable, Mapping

from flask import Blueprint

from chassis.web.http import Reply, parse_query
from chassis.web.openapi import ResponseDescription, describe
from collector.flights import FlightQueries
from collector.rest.requests import UsualQuery
from collector.rest.users import Caller
from collector.rest.usual_answers import UsualWeek


def add_usual_route(
    routes: Blueprint,
    flights: FlightQueries,
    authenticate: Callable[[], Caller],
    path: Mapping[str, Mapping[str, object]],
) -> None:
    """Add to the collector's routes the one that says what is usual at an airport in the windows of a week.

    `authenticate` returns the user of the request, with a confirmed address, and counts the costly read; `path`
    describes the airport in the path.
    """

    @routes.get("/flights/<icao>/usual")
    @describe(
        "Say what is usual in each hour, or longer window, of a week",
        auth="user",
        path=path,
        query=UsualQuery,
        answers={200: ResponseDescription(UsualWeek)},
        problems=(404, 429, 503),
        is_compressed=True,
    )
    def usual_week(icao: str) -> Reply:
        """Reply with what is usual at an airport in the windows of seven days from today on."""
        caller = authenticate()
        query = parse_query(UsualQuery)
        code = icao.strip().upper()
        week = flights.find_usual_week(caller.user_id, code, query.direction, query.window, query.aligned_to)
        return Reply(UsualWeek.build(week))
