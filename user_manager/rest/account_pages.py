"""HTML pages that delete the account without JavaScript: a form, what became of it, and how far the deletion is.

They need the session's cookie, and change something for a page of this origin only, as everything that it opens.
"""

from http import HTTPStatus
from typing import Final
from urllib.parse import quote
from uuid import UUID

from flask import Blueprint, Response, make_response, redirect, render_template, request

from chassis.credentials import SessionSecret
from chassis.texts import Texts
from chassis.web.http import Problem, ProblemKind
from chassis.web.openapi import ResponseDescription, describe
from user_manager.accounts import Account
from user_manager.addresses import compute_lookup_key
from user_manager.deletion.saga import DeletionProgress, Deletions, DeletionStatus
from user_manager.errors import DeletionUnknownError
from user_manager.rest.reading import CredentialReader
from user_manager.rest.routes import PROBLEMS
from user_manager.rest.texts import choose_language
from user_manager.rest.web_files import WebFiles
from user_manager.rest.web_pages import CONTENT_POLICY
from user_manager.sessions import Sessions

_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with no-referrer browsers would send `Origin: null` with the form, ADR 53
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_SIGNED_OUT: Final = {401: ResponseDescription("text/html", "Nobody is signed in in this browser.")}
_FOREIGN: Final = {403: ResponseDescription("text/html", "A page of another origin has caused the request.")}
_AWAY: Final = {503: ResponseDescription("text/html", headers={"Retry-After": "Seconds to wait."})}


def build_account_pages_blueprint(
    files: WebFiles, deletions: Deletions, sessions: Sessions, reader: CredentialReader
) -> Blueprint:
    """Build the pages /account/delete, whose form deletes the account, and /account/delete/… with a deletion's id.

    Every error is a page, too, in the visitor's language.
    """
    blueprint = Blueprint("account_pages", __name__, template_folder="templates")

    def render(title: str, text: str, status: int = 200, **values: object) -> Response:
        """Render the page in the visitor's language; `title` and `text` are keys of its texts."""
        texts = get_texts()
        values = files.build_template_values(texts) | {
            "title": texts.get(title), "text": texts.get(text), "account": None, "steps": (), "link": None,
        } | values  # fmt: skip
        response = make_response(render_template("delete_account.html", **values))
        response.status_code = status
        return response

    def get_texts() -> Texts:
        return files.texts[choose_language()]

    def load_account() -> tuple[SessionSecret, Account]:
        """Return the session that has sent the request, and its account. Raises Problem and SessionUnknownError."""
        secret = reader.read_secret()
        if secret is None:
            raise Problem(401, "Nobody is signed in.")
        return secret, sessions.load_current(secret)[0]

    def render_form(account: Account, status: int = 200, typed: str = "", fault: str = "") -> Response:
        """Render the form; `fault` says what is wrong with the address that was typed."""
        path = f"{files.base}/users/{quote(account.email, safe='@')}/export"
        values = {"account": account, "export_path": path, "typed": typed, "fault": fault}
        return render("account.delete.title", "account.delete.about", status, **values)

    @blueprint.get("/account/delete")
    @describe(
        "Ask whether to delete the account, without JavaScript",
        answers={200: ResponseDescription("text/html"), **_SIGNED_OUT, **_FOREIGN, **_AWAY},
    )
    def delete_account_page() -> Response:
        return render_form(load_account()[1])

    @blueprint.post("/account/delete")
    @describe(
        "Delete the account by a form, whose field `email` repeats its address",
        answers={
            200: ResponseDescription("text/html", "Deleted.", {"Set-Cookie": "The browser forgets the session."}),
            303: ResponseDescription(
                description="It will be deleted.",
                headers={
                    "Location": "The page that says how far it is.",
                    "Set-Cookie": "The browser forgets the session.",
                },
            ),
            422: ResponseDescription("text/html", "The form has another address."),
            502: ResponseDescription("text/html", "The collector refuses."),
            **_SIGNED_OUT,
            **_FOREIGN,
            **_AWAY,
        },
    )
    def delete_account() -> Response:
        secret, account = load_account()
        typed = request.form.get("email", "")
        if compute_lookup_key(typed.strip()) != compute_lookup_key(account.email):
            fault = get_texts().get("account.delete.other", email=account.email)
            return render_form(account, 422, typed[:254], fault)
        deletion_id = deletions.delete(secret, account.email)
        if deletion_id is None:
            response = render_done()
        else:
            response = make_response(redirect(f"{files.base}/account/delete/{deletion_id}", HTTPStatus.SEE_OTHER))
        reader.cookie.delete_on(response)
        return response

    # Any text, not <uuid:…>: else Flask would answer a damaged link by JSON, where a person reads a page.
    @blueprint.get("/account/delete/<deletion_id>")
    @describe(
        "Show how far a deletion is, as a page",
        answers={
            200: ResponseDescription("text/html"),
            404: ResponseDescription("text/html", "Nothing is known of it."),
            **_AWAY,
        },
    )
    def deletion_page(deletion_id: str) -> Response:
        try:
            known_id = UUID(deletion_id)
        except ValueError:
            raise DeletionUnknownError from None
        progress = deletions.load_progress(known_id)
        if progress.status is DeletionStatus.COMPLETED:
            return render_done()
        texts = get_texts()
        link = (f"{files.base}/account/delete/{known_id}", texts.get("account.deleting.again"))
        steps = list_steps(progress, texts)
        return render("account.deleting.title", "account.deleting.text", steps=steps, link=link)

    def render_done() -> Response:
        """Render the page that says that the account is deleted."""
        link = (f"{files.base}/", get_texts().get("account.deleted.home"))
        return render("account.deleted.title", "account.deleted.text", link=link)

    def render_problem(problem: Problem) -> Response:
        """Render the page that says what is wrong, with the problem's status and headers."""
        text, link = "account.delete.not_now", None
        if problem.status == HTTPStatus.UNAUTHORIZED:
            text = "account.delete.sign_in"
            link = (f"{files.base}/sign-in/mail", get_texts().get("account.delete.sign_in_link"))
        elif problem.status == HTTPStatus.FORBIDDEN:
            text = "account.delete.foreign"
        page = render("account.delete.refused", text, problem.status, link=link)
        page.headers.update(problem.headers)
        return page

    @blueprint.errorhandler(DeletionUnknownError)
    def render_unknown(_error: DeletionUnknownError) -> Response:
        return render("account.delete.title", "account.delete.unknown", 404)

    for error_class, kind in PROBLEMS.items():

        def render_error(error: Exception, kind: ProblemKind = kind) -> Response:
            """Render the page of an error of a use case."""
            return render_problem(kind.build_problem(error))

        if error_class is not DeletionUnknownError:
            blueprint.register_error_handler(error_class, render_error)
    blueprint.register_error_handler(Problem, render_problem)

    @blueprint.after_request
    def add_security_headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        return response

    return blueprint


def list_steps(progress: DeletionProgress, texts: Texts) -> list[tuple[str, bool]]:
    """Return the steps of a deletion in words, each with True if it is done."""
    steps = (("asked", True), ("interests", progress.are_interests_deleted), ("account", progress.is_account_deleted))
    return [(texts.get(f"account.deleting.{name}"), is_done) for name, is_done in steps]
