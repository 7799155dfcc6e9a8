"""HTML pages that the links in mails open. Mail scanners open links, so only a page's button changes anything."""

import shlex
from collections.abc import Sequence
from typing import Final

from flask import Blueprint, Response, make_response, render_template, request

from chassis.texts import DEFAULT_LANGUAGE
from chassis.web.http import Problem, ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.session_cookie import SessionCookie
from user_manager.account_mails import AccountMails
from user_manager.accounts import Account, Accounts
from user_manager.devices import describe_device
from user_manager.registration import Registrations
from user_manager.rest.models import parse_person_name
from user_manager.rest.routes import PROBLEMS
from user_manager.rest.texts import choose_language, keep_chosen_language, load_texts, translate
from user_manager.web_sessions import SessionLifetimes

PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the URL of this page alone authorizes its action
    "X-Content-Type-Options": "nosniff",
}

_ANSWERS: Final = {
    200: ResponseDescription("text/html"),
    400: ResponseDescription("text/html", "The link is not one of ours, or a part of it is missing."),
    410: ResponseDescription("text/html", "The link has expired or was used, or its account is gone."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}
_LASTING_ANSWERS: Final = {status: answer for status, answer in _ANSWERS.items() if status != 410}

_TITLES_OF_PROBLEMS: Final = {
    "unsubscribe": "link.problem.unsubscribe",
    "token": "link.problem.token",
    "not-me": "link.problem.not_me",
}
"""The title of an error's page, by the first segment of its path; of any other path: the address is not confirmed."""

_INTEREST: Final = '{"airport_icao": "LICC", "direction": "departures", "window": "1d", "low_value": 5}'
"""An example of what programs send to set an interest."""
_LOST: Final = '{"email": "…"}'


def build_pages_blueprint(
    registrations: Registrations,
    accounts: Accounts,
    account_mails: AccountMails,
    cookie: SessionCookie,
    lifetimes: SessionLifetimes,
) -> Blueprint:
    """Build the routes /confirm, /unsubscribe, /token and /not-me, each with a link's token; errors are pages too.

    GET checks the link and shows a button; the button's POST confirms the address, pauses all alerts, replaces the
    token, or stops account mails. Whoever confirms by the button of our own page is signed in, too. Every page has
    headers against caching, framing, scripts and referrers.
    """
    blueprint = Blueprint("pages", __name__, template_folder="templates")

    @blueprint.get("/confirm/<token>")
    @describe("Ask whether to confirm the address", answers=_ANSWERS)
    def confirmation_page(token: str) -> Response:
        account = registrations.check_confirmation_link(token)
        if account.confirmed and not account.suppressed:
            return _render_confirmed_before(account)
        return render_page(
            translate("link.confirm.title"),
            translate("link.confirm.text"),
            # Whoever presses the button of another's link would be signed in to an account that is not theirs.
            facts=[
                (translate("link.fact.address"), account.email),
                *(list_facts(account) if account.confirmed else [_label_time_zone(account)]),  # the field has the name
            ],
            button=translate("link.confirm.button"),
            name=None if account.confirmed else account.name,
        )

    @blueprint.post("/confirm/<token>")
    @describe(
        "Confirm the address; the account's token is replaced, unless this request carries it as bearer token",
        answers=_ANSWERS | {422: ResponseDescription("text/html", "The name in the form is none.")},
    )
    def confirm(token: str) -> Response:
        proof = _read_proof()
        is_ours = proof is None and cookie.is_own_origin()
        confirmed = registrations.confirm(
            token,
            proof,
            name=_read_name(),
            language=choose_language() if is_ours else None,
            device=describe_device(request.headers.get("User-Agent", "")) if is_ours else None,
            replaced=cookie.find_replaced_secret() if is_ours else None,
        )
        if confirmed.new_token is None:
            return _render_confirmed_before(confirmed.account)
        is_signed_in = confirmed.secret is not None
        page = render_page(
            translate("link.confirmed.title"),
            translate("link.confirmed.signed_in" if is_signed_in else "link.confirmed.text"),
            facts=list_facts(confirmed.account),
            has_menu=is_signed_in,
            onward=("/watch", translate("link.confirmed.onward")) if is_signed_in else ("/", translate("link.onward")),
            for_programs=[
                (translate("link.fact.token"), confirmed.new_token),
                ("", translate("link.copy_token")),
                (
                    translate("link.fact.next"),
                    translate("link.next", command=_build_command(cookie, confirmed.new_token)),
                ),
            ],
        )
        if confirmed.secret is not None:
            cookie.set_on(page, confirmed.secret, lifetimes.whole)
        return page

    @blueprint.get("/token/<token>")
    @describe("Ask whether to replace the token", answers=_ANSWERS)
    def token_page(token: str) -> Response:
        account_mails.check_token_link(token)
        return render_page(
            translate("link.token.title"), translate("link.token.text"), button=translate("link.token.button")
        )

    @blueprint.post("/token/<token>")
    @describe("Replace the token, and show the new one", answers=_ANSWERS)
    def replace_token(token: str) -> Response:
        new = account_mails.replace_token(token)
        facts = [(translate("link.fact.token"), new)]
        return render_page(translate("link.token.replaced_title"), translate("link.copy_token"), facts=facts)

    @blueprint.get("/not-me/<token>")
    @describe("Ask whether to stop mails about accounts", answers=_LASTING_ANSWERS)
    def not_me_page(token: str) -> Response:
        if account_mails.are_mails_stopped(token):
            return _render_mails_stopped()
        return render_page(
            translate("link.not_me.title"), translate("link.not_me.text"), button=translate("link.not_me.button")
        )

    # RFC 8058, 3.2, as below. Only the page's own button says `mails=allow`.
    @blueprint.post("/not-me/<token>")
    @describe("Stop mails about accounts (RFC 8058), or allow them again", answers=_LASTING_ANSWERS)
    def stop_mails(token: str) -> Response:
        if request.form.get("mails") == "allow":
            account_mails.allow_mails(token)
            return render_page(translate("link.not_me.allowed_title"), translate("link.not_me.allowed"))
        account_mails.stop_mails(token)
        return _render_mails_stopped()

    @blueprint.get("/unsubscribe/<token>")
    @describe("Ask whether to pause all alerts", answers=_ANSWERS)
    def unsubscription_page(token: str) -> Response:
        accounts.check_unsubscription_link(token)
        return render_page(
            translate("link.unsubscribe.title"),
            translate("link.unsubscribe.text"),
            button=translate("link.unsubscribe.button"),
        )

    # RFC 8058, 3.2: one POST without login, cookie or redirect. Its body is ignored: the link suffices.
    @blueprint.post("/unsubscribe/<token>")
    @describe("Pause all alerts (RFC 8058)", answers=_ANSWERS)
    def unsubscribe(token: str) -> Response:
        accounts.unsubscribe(token)
        return render_page(
            translate("link.unsubscribe.done_title"),
            translate("link.unsubscribe.done"),
            onward=("/account", translate("link.unsubscribe.onward")),
        )

    def render_problem_page(problem: Problem) -> Response:
        """Render the page for a problem, with its status and headers; the title names the failed action."""
        key = _TITLES_OF_PROBLEMS.get(request.path.split("/")[1], "link.problem.confirm")
        return render_problem(translate(key), problem)

    for error_class, kind in PROBLEMS.items():

        def render_error_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error."""
            return render_problem_page(kind.build_problem(error))

        blueprint.register_error_handler(error_class, render_error_page)
    blueprint.register_error_handler(Problem, render_problem_page)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(PAGE_HEADERS)
        keep_chosen_language(response)
        if request.path.startswith("/confirm/"):
            # It signs in, so its form says where it comes from: with no-referrer browsers would send `Origin: null`.
            response.headers["Referrer-Policy"] = "same-origin"
        return response

    return blueprint


def _read_proof() -> str | None:
    """Return the bearer token of the request, which shows that it comes from whoever registered; None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _read_name() -> str | None:
    """Return the name in the request's form; None if there is no such field. Raises Problem 422 if it is none."""
    name = request.form.get("name")
    if name is None:
        return None
    try:
        return parse_person_name(name)
    except ValueError as error:
        raise Problem(422, f"The name {error}.") from None


def _render_confirmed_before(account: Account) -> Response:
    """Render the page for whoever gets no new token: the link was used before, or they have shown the token."""
    return render_page(
        translate("link.confirmed.title"),
        translate("link.confirmed.before", example=_LOST),
        facts=list_facts(account),
        onward=("/", translate("link.onward")),
    )


def list_facts(account: Account) -> list[tuple[str, str]]:
    """Return the name and time zone of an account, each with its label: a stranger may have typed them."""
    return [(translate("link.fact.name"), account.name), _label_time_zone(account)]


def _label_time_zone(account: Account) -> tuple[str, str]:
    """Return the time zone of an account with its label."""
    return translate("link.fact.time_zone"), account.time_zone


def _build_command(cookie: SessionCookie, token: str) -> str:
    """Return the shell command that sets an interest with this token."""
    address = (cookie.public_url or request.host_url).rstrip("/")
    headers = [f"Authorization: Bearer {token}", "Content-Type: application/json"]
    named = [part for each in headers for part in ("-H", each)]
    return shlex.join(["curl", "-X", "POST", f"{address}/interests", *named, "-d", _INTEREST])


def _render_mails_stopped() -> Response:
    """Render the page that says that account mails are stopped, with a button that allows them again."""
    return render_page(
        translate("link.not_me.stopped_title"),
        translate("link.not_me.stopped"),
        button=translate("link.not_me.allow_button"),
        field=("mails", "allow"),
    )


def render_page(
    title: str,
    text: str,
    *,
    hint: str = "",
    facts: Sequence[tuple[str, str]] = (),
    button: str = "",
    field: tuple[str, str] | None = None,
    asks_email: bool = False,
    name: str | None = None,
    onward: tuple[str, str] | None = None,
    has_menu: bool = False,
    for_programs: Sequence[tuple[str, str]] = (),
) -> Response:
    """Render a page with a title, a text, a list of names and values, and a button that posts to the page's own URL.

    `hint` is a second text, after the facts. No button if `button` is empty; `field` is the name and value of a hidden
    field that the button posts, too. If `asks_email`, an address is typed beside the button, and posted as `email`; if
    `name` is not None, a person's name, which it proposes. `onward` is the path and text of a link to another page of
    ours; `has_menu`: the page has the menu of the other pages, for somebody who is signed in; `for_programs` are
    names and values that few people need.
    """
    values = {"title": title, "text": text, "hint": hint, "facts": facts, "button": button, "field": field}
    more = {
        "asks_email": asks_email,
        "name": name,
        "onward": onward,
        "has_menu": has_menu,
        "for_programs": for_programs,
    }
    return make_response(render_template("page.html", **values, **more))


def render_problem(title: str, problem: Problem, *, key: str = "", button: str = "") -> Response:
    """Render the page for a problem, with its status and headers; a button repeats the request if `button` has a text.

    In English it says what the problem says; in other languages, the text of `key` or, without one, what its status
    means.
    """
    text = problem.detail
    if choose_language() != DEFAULT_LANGUAGE:
        key = key or f"problem.{problem.status}"
        text = translate(key if key in load_texts()[DEFAULT_LANGUAGE].entries else "problem.other")
    page = render_page(title, text, button=button)
    page.status_code = problem.status
    page.headers.update(problem.headers)
    return page
