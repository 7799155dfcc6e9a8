"""The REST route that says what an interest would have said of the flights that are known."""

from collections.abc import Callable

from flask import Blueprint

from chassis.web.http import Reply, parse_body, parse_query
from chassis.web.openapi import ResponseDescription, describe
from collector.flights import FlightQueries
from collector.rest.answers import Preview
from collector.rest.requests import PreviewQuery, WantedInterest
from collector.rest.users import Caller


def add_preview_route(routes: Blueprint, flights: FlightQueries, authenticate: Callable[[], Caller]) -> None:
    """Add to the collector's routes the one that previews an interest.

    `authenticate` returns the user of the request, with a confirmed address, and counts the costly read.
    """

    @routes.post("/interests/preview")
    @describe(
        "Say what an interest would have said of the flights that are known; nothing is set",
        auth="user",
        query=PreviewQuery,
        body=WantedInterest,
        answers={200: ResponseDescription(Preview)},
        problems=(429, 503),
        is_compressed=True,
    )
    def preview_interest() -> Reply:
        """Reply with the alerts that an interest would have raised; store nothing."""
        authenticate()
        query = parse_query(PreviewQuery)
        wanted = parse_body(WantedInterest).to_request()
        return Reply(Preview.build(wanted.airport, flights.preview_interest(wanted, with_history=query.history)))
