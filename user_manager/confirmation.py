"""The page behind the link in the confirmation mail. Mail scanners open links, so only its button confirms."""

from flask import Blueprint, Response, make_response, render_template

from user_manager.accounts import Accounts
from user_manager.errors import UserManagerError
from user_manager.rest import PROBLEMS

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address of this page is the right to confirm
    "X-Content-Type-Options": "nosniff",
}


def pages(accounts: Accounts) -> Blueprint:
    """GET and POST /confirm/{token}, for browsers: errors are pages too."""
    blueprint = Blueprint("confirmation", __name__, template_folder="templates")

    @blueprint.get("/confirm/<token>")
    def ask(token: str) -> Response:
        accounts.check_link(token)
        return _page("Confirm your address", "Press the button, and Towerwatch may send you mail.", button=True)

    @blueprint.post("/confirm/<token>")
    def confirm(token: str) -> Response:
        accounts.confirm(token)
        return _page("Your address is confirmed", "Towerwatch may send you mail now. You can close this page.")

    @blueprint.errorhandler(UserManagerError)
    def failed(error: UserManagerError) -> Response:
        kind = PROBLEMS[type(error)]
        page = _page("Your address is not confirmed", str(error))
        page.status_code = kind.status
        page.headers.update(kind.headers)
        return page

    @blueprint.after_request
    def secure(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return blueprint


def _page(title: str, text: str, *, button: bool = False) -> Response:
    return make_response(render_template("confirmation.html", title=title, text=text, button=button))
