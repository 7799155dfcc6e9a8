"""HTML pages for signing in, which work without JavaScript: ask for a mail, and follow its link.

Mail scanners open links, so only a page's button signs in. Only a page of this origin may: else a foreign page could
sign a visitor in to an account that is not theirs (login CSRF), or let visitors ask for mails to others.
"""

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, make_response, redirect, request, url_for

from chassis.web.http import Problem, ProblemKind
from chassis.web.limits import ClientRateLimit
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.session_cookie import SessionCookie
from user_manager.addresses import parse_address
from user_manager.devices import describe_device
from user_manager.errors import LinkExpiredError
from user_manager.newcomers import Newcomer
from user_manager.rest.models import is_time_zone
from user_manager.rest.pages import PAGE_HEADERS, list_facts, render_page, render_problem
from user_manager.rest.routes import PROBLEMS, identify_sender
from user_manager.rest.texts import choose_language, keep_chosen_language, translate
from user_manager.sign_in import SignIns
from user_manager.web_sessions import SessionLifetimes

_HEADERS: Final = PAGE_HEADERS | {
    # With no-referrer browsers would send `Origin: null` with the form, and old ones nothing else that tells who sends.
    "Referrer-Policy": "same-origin"
}

_COOKIE: Final = {"Set-Cookie": "The session, which no script can read."}
_ANSWERS: Final = {
    200: ResponseDescription("text/html"),
    400: ResponseDescription("text/html", "The link is not one of ours, or a part of it is missing."),
    410: ResponseDescription("text/html", "The link is too old, was used, or its account is gone."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}
_FOREIGN: Final = {403: ResponseDescription("text/html", "A page of another origin has caused the request.")}
_TOO_MANY: Final = {429: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."})}


def build_sign_in_pages_blueprint(
    sign_ins: SignIns,
    cookie: SessionCookie,
    lifetimes: SessionLifetimes,
    *,
    allow_test_addresses: bool,
    limit: ClientRateLimit,
) -> Blueprint:
    """Build the pages /sign-in/mail, which asks for a mail, and /sign-in/… with a link's token; errors are pages too.

    GET of a link shows a button, whose POST signs in, or asks for another mail if the link is too old. `limit` is the
    rate of one client at this replica. Every page has headers against caching, framing, scripts and foreign referrers.
    """
    blueprint = Blueprint("sign_in_pages", __name__, template_folder="templates")

    @blueprint.get("/sign-in/mail")
    @describe("Ask for an address to sign in with", answers={200: ResponseDescription("text/html")})
    def sign_in_mail_page() -> Response:
        return render_page(
            translate("link.sign_in.title"),
            translate("link.sign_in.mail_text"),
            button=translate("link.sign_in.mail_button"),
            asks_email=True,
        )

    @blueprint.post("/sign-in/mail")
    @describe(
        "Ask for a mail with a link that signs in or, to an address without an account, registers it; by a form with "
        "the field `email`",
        answers={
            202: ResponseDescription("text/html", "As POST /sign-in."),
            422: ResponseDescription("text/html", "The form has no address that can get mail."),
            503: _ANSWERS[503],
        }
        | _FOREIGN
        | _TOO_MANY,
    )
    def ask_sign_in_by_form() -> Response:
        cookie.require_own_origin()
        limit.count_request()
        address = parse_address(request.form.get("email", ""), allow_test=allow_test_addresses)
        newcomer = _read_newcomer()
        sign_ins.request_link(address, identify_sender(), newcomer)
        # The address is asked for once more and not repeated: so this page is the same for each of them.
        page = render_page(
            translate("link.sign_in.asked_title"),
            translate("link.sign_in.asked"),
            hint=translate("link.sign_in.asked_nothing"),
            button=translate("link.sign_in.asked_again"),
            asks_email=True,
            field=("time_zone", newcomer.time_zone),
        )
        return _set_status(page, 202)

    @blueprint.get("/sign-in/<token>")
    @describe("Ask whether to sign in", answers=_ANSWERS)
    def sign_in_page(token: str) -> Response:
        try:
            account = sign_ins.check_link(token)
        except LinkExpiredError:
            sign_ins.check_expired_link(token)
            return _render_expired()
        return render_page(
            translate("link.sign_in.title"),
            translate("link.sign_in.text"),
            facts=[(translate("link.fact.address"), account.email), *list_facts(account)],
            button=translate("link.sign_in.button"),
        )

    @blueprint.post("/sign-in/<token>")
    @describe(
        "Sign in; with the field `again`, ask for another mail in place of a link that is too old",
        answers=_ANSWERS
        | {
            303: ResponseDescription("text/html", "Signed in.", _COOKIE | {"Location": "The first page."}),
            202: ResponseDescription("text/html", "Another mail is on its way."),
        }
        | _FOREIGN
        | _TOO_MANY,
    )
    def sign_in(token: str) -> Response:
        cookie.require_own_origin()
        if "again" in request.form:
            limit.count_request()
            sign_ins.request_link_again(token, identify_sender())
            return _set_status(
                render_page(
                    translate("link.sign_in.asked_title"),
                    translate("link.sign_in.again_text"),
                    hint=translate("link.sign_in.asked_nothing"),
                    onward=("/sign-in/mail", translate("link.sign_in.asked_again")),
                ),
                202,
            )
        try:
            device = describe_device(request.headers.get("User-Agent", ""))
            started = sign_ins.sign_in(token, device, cookie.find_replaced_secret())
        except LinkExpiredError:
            sign_ins.check_expired_link(token)
            return _render_expired()
        onward = make_response(redirect(url_for("web.index"), HTTPStatus.SEE_OTHER))
        cookie.set_on(onward, started.secret, lifetimes.whole)
        return onward

    for error_class, kind in PROBLEMS.items():

        def render_error_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error, with the error's status and headers."""
            return _render_problem(kind.build_problem(error))

        blueprint.register_error_handler(error_class, render_error_page)
    blueprint.register_error_handler(Problem, _render_problem)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        keep_chosen_language(response)
        return response

    return blueprint


def _read_newcomer() -> Newcomer:
    """Return what the form and the browser say of somebody who may have no account yet."""
    zone = request.form.get("time_zone", "")
    return Newcomer(zone if is_time_zone(zone) else "UTC", choose_language())


def _render_expired() -> Response:
    """Render the page of a link that is too old to sign in, with a button that asks for another mail."""
    page = render_page(
        translate("link.sign_in.old_title"),
        translate("link.sign_in.old_text"),
        button=translate("link.sign_in.again_button"),
        field=("again", "yes"),
    )
    return _set_status(page, 410)


def _render_problem(problem: Problem) -> Response:
    """Render the page that says what is wrong, with the problem's status and headers."""
    return render_problem(translate("link.problem.sign_in"), problem)


def _set_status(page: Response, status: int) -> Response:
    """Return the page with this status."""
    page.status_code = status
    return page
