"""HTML pages that the links in mails open. Mail scanners open links, so only a page's button changes anything."""

from typing import Final

from flask import Blueprint, Response, make_response, render_template, request

from chassis.web.http import ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from user_manager.accounts import Accounts
from user_manager.registration import Registrations
from user_manager.rest.routes import PROBLEMS

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the URL of this page alone authorizes its action
    "X-Content-Type-Options": "nosniff",
}

_ANSWERS: Final = {
    200: ResponseDescription("text/html"),
    400: ResponseDescription("text/html", "The link is not one of ours, or a part of it is missing."),
    410: ResponseDescription("text/html", "The link has expired, or its account is gone."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}


def build_pages_blueprint(registrations: Registrations, accounts: Accounts) -> Blueprint:
    """Build the routes /confirm/{token} and /unsubscribe/{token} for browsers; errors are pages too.

    GET checks the link and shows a button; the button's POST confirms the address or pauses all alerts. Every page has
    headers against caching, framing, scripts and referrers.
    """
    blueprint = Blueprint("pages", __name__, template_folder="templates")

    @blueprint.get("/confirm/<token>")
    @describe("Ask whether to confirm the address", answers=_ANSWERS)
    def confirmation_page(token: str) -> Response:
        registrations.check_confirmation_link(token)
        return _render_page(
            "Confirm your address",
            "Press the button, and Towerwatch may send you mail.",
            button="Confirm my address",
        )

    @blueprint.post("/confirm/<token>")
    @describe("Confirm the address", answers=_ANSWERS)
    def confirm(token: str) -> Response:
        registrations.confirm(token)
        return _render_page("Your address is confirmed", "Towerwatch may send you mail now. You can close this page.")

    @blueprint.get("/unsubscribe/<token>")
    @describe("Ask whether to pause all alerts", answers=_ANSWERS)
    def unsubscription_page(token: str) -> Response:
        accounts.check_unsubscription_link(token)
        return _render_page(
            "Pause all alerts",
            "Press the button, and Towerwatch sends you no more alerts until you want them again.",
            button="Pause all alerts",
        )

    # RFC 8058, 3.2: one POST without login, cookie or redirect. Its body is ignored: the link suffices.
    @blueprint.post("/unsubscribe/<token>")
    @describe("Pause all alerts (RFC 8058)", answers=_ANSWERS)
    def unsubscribe(token: str) -> Response:
        accounts.unsubscribe(token)
        return _render_page(
            "Your alerts are paused",
            "Towerwatch sends you no more alerts until you want them again. You can close this page.",
        )

    for error_class, kind in PROBLEMS.items():

        def render_problem_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error, with the error's status and headers; the title names the failed action."""
            is_unsubscription = request.path.startswith("/unsubscribe/")
            title = "Your alerts are not paused" if is_unsubscription else "Your address is not confirmed"
            problem = kind.build_problem(error)
            page = _render_page(title, problem.detail)
            page.status_code = problem.status
            page.headers.update(problem.headers)
            return page

        blueprint.register_error_handler(error_class, render_problem_page)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return blueprint


def _render_page(title: str, text: str, *, button: str = "") -> Response:
    """Render a page with a title, a text, and a button that posts to the page's own URL (none if `button` is empty)."""
    return make_response(render_template("page.html", title=title, text=text, button=button))
