"""The HTML page of the link "Stop this alert" in mails. Mail scanners open links, so only a POST changes anything."""

from typing import Final

from flask import Blueprint, Response, request

from chassis.web.http import ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from domain.interests import Interest
from user_manager.alert_stops import AlertStops
from user_manager.rest.interest_wording import describe_interest, format_request
from user_manager.rest.pages import PAGE_HEADERS, render_page, render_problem
from user_manager.rest.routes import PROBLEMS
from user_manager.rest.texts import choose_language, keep_chosen_language, load_texts, translate

_ANSWERS: Final = {
    200: ResponseDescription("text/html"),
    400: ResponseDescription("text/html", "The link is not one of ours, or a part of it is missing."),
    502: ResponseDescription("text/html", "The collector refuses the request; the operator must look at it."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}


def build_stop_pages_blueprint(stops: AlertStops) -> Blueprint:
    """Build the route /stop with a link's token; errors are pages too.

    GET says what the link stops, and shows a button, whose POST removes the interest. Every page is in the visitor's
    language, and has headers against caching, framing, scripts and referrers.
    """
    blueprint = Blueprint("stop_pages", __name__, template_folder="templates")

    @blueprint.get("/stop/<token>")
    @describe("Say what alert a link stops, and ask whether to stop it", answers=_ANSWERS)
    def stop_page(token: str) -> Response:
        interest = stops.load_interest(token)
        if interest is None:
            return _render_gone()
        return render_page(
            translate("link.stop.title"),
            translate("link.stop.text"),
            facts=_list_facts(interest),
            button=translate("link.stop.button"),
        )

    # RFC 8058, 3.2: one POST without login, cookie or redirect. Its body is ignored: the link suffices.
    @blueprint.post("/stop/<token>")
    @describe("Stop the alert that a link names: remove its interest (RFC 8058)", answers=_ANSWERS)
    def stop(token: str) -> Response:
        interest = stops.stop(token)
        if interest is None:
            return _render_gone()
        request_again = translate("link.stop.request", request=format_request(interest))
        return render_page(
            translate("link.stop.done_title"),
            translate("link.stop.done"),
            facts=_list_facts(interest),
            onward=("/watch", translate("link.stop.onward")),
            for_programs=[(translate("link.fact.again"), request_again)],
        )

    for error_class, kind in PROBLEMS.items():

        def render_error_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error, with the error's status and headers.

            Whoever has pressed the button may press it again if the error passes by itself.
            """
            problem = kind.build_problem(error)
            title = translate("link.problem.stop")
            if problem.status == 503 and request.method == "POST":
                return render_problem(title, problem, key="link.stop.unavailable", button=translate("error.again"))
            return render_problem(title, problem)

        blueprint.register_error_handler(error_class, render_error_page)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(PAGE_HEADERS)
        keep_chosen_language(response)
        return response

    return blueprint


def _list_facts(interest: Interest) -> list[tuple[str, str]]:
    """Return what the alert watches, in the visitor's language, with its label."""
    return [(translate("link.fact.interest"), describe_interest(interest, load_texts()[choose_language()]))]


def _render_gone() -> Response:
    """Render the page of a link whose interest does not exist: for whoever wants it stopped, that is a success."""
    return render_page(
        translate("link.stop.done_title"),
        translate("link.stop.gone"),
        onward=("/watch", translate("link.stop.onward")),
    )
