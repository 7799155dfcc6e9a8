"""HTML pages that the links in mails open. Mail scanners open links, so only a page's button changes anything."""

from collections.abc import Sequence
from typing import Final

from flask import Blueprint, Response, make_response, render_template, request

from chassis.web.http import ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from user_manager.account_mails import AccountMails
from user_manager.accounts import Account, Accounts
from user_manager.registration import Registrations
from user_manager.rest.routes import PROBLEMS

PAGE_HEADERS: Final = {
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
    410: ResponseDescription("text/html", "The link has expired or was used, or its account is gone."),
    503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."}),
}
_LASTING_ANSWERS: Final = {status: answer for status, answer in _ANSWERS.items() if status != 410}

_TITLES_OF_PROBLEMS: Final = {
    "unsubscribe": "Your alerts are not paused",
    "token": "Your token is not replaced",
    "not-me": "Nothing was changed",
}
"""The title of an error's page, by the first segment of its path; of any other path: the address is not confirmed."""

_TOKEN: Final = "Your token"  # noqa: S105 - a label
_COPY_IT: Final = (
    "This is your token from now on; the one before is void. It is not shown again, so copy it: programs send it in "
    "the header “Authorization: Bearer …”."
)

_NEXT: Final = (
    "Say what you want to be told: send POST /interests to the address of this page (README.md has the whole command) "
    "with the token, and with JSON like this: "
    '{"airport_icao": "LICC", "direction": "departures", "window": "1d", "low_value": 5}'
)
"""What to do once the address is confirmed: people reach all services at one address."""

_CONFIRMED_BEFORE: Final = (
    "Towerwatch may send you mail. You can close this page. The account keeps its token; if that is lost, send a "
    'POST to /users/token with the JSON {"email": "your address"}, and a link to a new one is mailed to you.'
)
"""The text for whoever gets no new token, because the link was used before, or because they have shown the token."""


def build_pages_blueprint(registrations: Registrations, accounts: Accounts, account_mails: AccountMails) -> Blueprint:
    """Build the routes /confirm, /unsubscribe, /token and /not-me, each with a link's token; errors are pages too.

    GET checks the link and shows a button; the button's POST confirms the address, pauses all alerts, replaces the
    token, or stops account mails. Every page has headers against caching, framing, scripts and referrers.
    """
    blueprint = Blueprint("pages", __name__, template_folder="templates")

    @blueprint.get("/confirm/<token>")
    @describe("Ask whether to confirm the address", answers=_ANSWERS)
    def confirmation_page(token: str) -> Response:
        account = registrations.check_confirmation_link(token)
        if account.confirmed and not account.suppressed:
            return render_page("Your address is confirmed", _CONFIRMED_BEFORE, facts=list_facts(account))
        return render_page(
            "Confirm your address",
            "Press the button, and Towerwatch may send you mail. If this is not what you entered, you can change it "
            "afterwards: whoever confirms gets the account, and nobody else's token opens it any more.",
            facts=list_facts(account),
            button="Confirm my address",
        )

    @blueprint.post("/confirm/<token>")
    @describe(
        "Confirm the address; the account's token is replaced, unless this request carries it as bearer token",
        answers=_ANSWERS,
    )
    def confirm(token: str) -> Response:
        confirmed = registrations.confirm(token, _read_proof())
        facts = list_facts(confirmed.account)
        if confirmed.new_token is None:
            return render_page("Your address is confirmed", _CONFIRMED_BEFORE, facts=facts)
        return render_page(
            "Your address is confirmed",
            f"Towerwatch may send you mail now. {_COPY_IT}",
            facts=[*facts, (_TOKEN, confirmed.new_token), ("Next", _NEXT)],
        )

    @blueprint.get("/token/<token>")
    @describe("Ask whether to replace the token", answers=_ANSWERS)
    def token_page(token: str) -> Response:
        account_mails.check_token_link(token)
        return render_page(
            "Get a new token",
            "Press the button, and you get a new token. The one before is void from then on.",
            button="Replace my token",
        )

    @blueprint.post("/token/<token>")
    @describe("Replace the token, and show the new one", answers=_ANSWERS)
    def replace_token(token: str) -> Response:
        return render_page("Your token is replaced", _COPY_IT, facts=[(_TOKEN, account_mails.replace_token(token))])

    @blueprint.get("/not-me/<token>")
    @describe("Ask whether to stop mails about accounts", answers=_LASTING_ANSWERS)
    def not_me_page(token: str) -> Response:
        if account_mails.are_mails_stopped(token):
            return _render_mails_stopped()
        return render_page(
            "This was not you?",
            "Press the button, and what was registered with your address without your confirmation is deleted, and "
            "Towerwatch sends no more mails about registrations, tokens or signing in there. Alerts that you asked for "
            "go on.",
            button="Stop these mails",
        )

    # RFC 8058, 3.2, as below. Only the page's own button says `mails=allow`.
    @blueprint.post("/not-me/<token>")
    @describe("Stop mails about accounts (RFC 8058), or allow them again", answers=_LASTING_ANSWERS)
    def stop_mails(token: str) -> Response:
        if request.form.get("mails") == "allow":
            account_mails.allow_mails(token)
            return render_page(
                "These mails are allowed",
                "Towerwatch sends mails about registrations, tokens or signing in to you again.",
            )
        account_mails.stop_mails(token)
        return _render_mails_stopped()

    @blueprint.get("/unsubscribe/<token>")
    @describe("Ask whether to pause all alerts", answers=_ANSWERS)
    def unsubscription_page(token: str) -> Response:
        accounts.check_unsubscription_link(token)
        return render_page(
            "Pause all alerts",
            "Press the button, and Towerwatch sends you no more alerts until you want them again.",
            button="Pause all alerts",
        )

    # RFC 8058, 3.2: one POST without login, cookie or redirect. Its body is ignored: the link suffices.
    @blueprint.post("/unsubscribe/<token>")
    @describe("Pause all alerts (RFC 8058)", answers=_ANSWERS)
    def unsubscribe(token: str) -> Response:
        accounts.unsubscribe(token)
        return render_page(
            "Your alerts are paused",
            "Towerwatch sends you no more alerts until you want them again. You can close this page.",
        )

    for error_class, kind in PROBLEMS.items():

        def render_problem_page(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page for an error, with the error's status and headers; the title names the failed action."""
            title = _TITLES_OF_PROBLEMS.get(request.path.split("/")[1], "Your address is not confirmed")
            problem = kind.build_problem(error)
            page = render_page(title, problem.detail)
            page.status_code = problem.status
            page.headers.update(problem.headers)
            return page

        blueprint.register_error_handler(error_class, render_problem_page)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(PAGE_HEADERS)
        return response

    return blueprint


def _read_proof() -> str | None:
    """Return the bearer token of the request, which shows that it comes from whoever registered; None without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def list_facts(account: Account) -> list[tuple[str, str]]:
    """Return the name and time zone of an account, each with its label: a stranger may have typed them."""
    return [("Name", account.name), ("Time zone", account.time_zone)]


def _render_mails_stopped() -> Response:
    """Render the page that says that account mails are stopped, with a button that allows them again."""
    return render_page(
        "These mails are stopped",
        "Towerwatch sends no more mails about registrations, tokens or signing in to you. Should you want to register "
        "or sign in yourself, allow them again first.",
        button="Allow these mails again",
        field=("mails", "allow"),
    )


def render_page(
    title: str,
    text: str,
    *,
    facts: Sequence[tuple[str, str]] = (),
    button: str = "",
    field: tuple[str, str] | None = None,
    asks_email: bool = False,
) -> Response:
    """Render a page with a title, a text, a list of names and values, and a button that posts to the page's own URL.

    No button if `button` is empty; `field` is the name and value of a hidden field that the button posts, too. If
    `asks_email`, an address is typed beside the button, and posted as `email`.
    """
    values = {"title": title, "text": text, "facts": facts, "button": button, "field": field}
    return make_response(render_template("page.html", **values, asks_email=asks_email))
