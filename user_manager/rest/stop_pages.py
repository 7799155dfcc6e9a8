"""The HTML page of the link "Stop this alert" in mails. Mail scanners open links, so only a POST changes anything."""

from typing import Final

from flask import Blueprint, Response, request

from chassis.web.http import ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from user_manager.alert_stops import AlertStops
from user_manager.interest_wording import describe_interest, format_request
from user_manager.rest.pages import PAGE_HEADERS, render_page
from user_manager.rest.routes import PROBLEMS

_ANSWERS: Final = {
    200: ResponseDescription("text/html"),
    400: ResponseDescription("text/html", "The link is not one of ours, or a part of it is missing."),
    502: ResponseDescription("text/html", "The collector refuses the request; the operator must look at it."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}

_BUTTON: Final = "Stop this alert"


def build_stop_pages_blueprint(stops: AlertStops, public_url: str) -> Blueprint:
    """Build the route /stop with a link's token; errors are pages too.

    GET says what the link stops, and shows a button, whose POST removes the interest. `public_url`: base URL of the
    pages on which an airport is watched again, without a trailing slash. Every page has headers against caching,
    framing, scripts and referrers.
    """
    blueprint = Blueprint("stop_pages", __name__, template_folder="templates")

    @blueprint.get("/stop/<token>")
    @describe("Say what alert a link stops, and ask whether to stop it", answers=_ANSWERS)
    def stop_page(token: str) -> Response:
        interest = stops.load_interest(token)
        if interest is None:
            return _render_gone(public_url)
        return render_page(
            "Stop this alert",
            "Press the button, and Towerwatch watches this for you no more. Your other alerts go on.",
            facts=[("What is stopped", describe_interest(interest))],
            button=_BUTTON,
        )

    # RFC 8058, 3.2: one POST without login, cookie or redirect. Its body is ignored: the link suffices.
    @blueprint.post("/stop/<token>")
    @describe("Stop the alert that a link names: remove its interest (RFC 8058)", answers=_ANSWERS)
    def stop(token: str) -> Response:
        interest = stops.stop(token)
        if interest is None:
            return _render_gone(public_url)
        return render_page(
            "This alert is stopped",
            "Towerwatch watches this for you no more. Your other alerts go on. You can close this page.",
            facts=[
                ("What is stopped", describe_interest(interest)),
                (
                    "To have it again",
                    f"Watch the airport once more at {public_url}/watch; programs send POST /interests with this JSON: "
                    f"{format_request(interest)}",
                ),
            ],
        )

    for error_class, kind in PROBLEMS.items():

        def render_problem_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error, with the error's status and headers.

            Whoever has pressed the button may press it again if the error passes by itself.
            """
            problem = kind.build_problem(error)
            is_worth_repeating = problem.status == 503 and request.method == "POST"
            page = render_page(
                "This alert is not stopped", problem.detail, button="Try again" if is_worth_repeating else ""
            )
            page.status_code = problem.status
            page.headers.update(problem.headers)
            return page

        blueprint.register_error_handler(error_class, render_problem_page)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(PAGE_HEADERS)
        return response

    return blueprint


def _render_gone(public_url: str) -> Response:
    """Render the page of a link whose interest does not exist: for whoever wants it stopped, that is a success."""
    return render_page(
        "This alert is stopped",
        "Towerwatch does not watch this for you any more: it was stopped before, or its account is gone. You can close "
        "this page.",
        facts=[("To have it again", f"Watch the airport once more at {public_url}/watch.")],
    )
