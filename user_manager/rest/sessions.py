"""REST routes of signing in and of sessions: each parses the request, makes one call and translates the result."""

from typing import Final
from uuid import UUID

from flask import Blueprint, Response, make_response

from chassis.credentials import SessionSecret
from chassis.web.http import Problem, Reply, parse_body
from chassis.web.limits import ClientRateLimit
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.session_cookie import SessionCookie
from user_manager.addresses import parse_address
from user_manager.rest.models import AddressOfAccount, CurrentSession, Session, Sessions as SessionsList, User
from user_manager.rest.reading import CredentialReader
from user_manager.rest.routes import EMAIL, identify_sender
from user_manager.sessions import Sessions
from user_manager.sign_in import SignIns

_FORGOTTEN: Final = {"Set-Cookie": "The browser forgets the session."}


def build_sessions_blueprint(
    sign_ins: SignIns,
    sessions: Sessions,
    reader: CredentialReader,
    *,
    allow_test_addresses: bool,
    limit: ClientRateLimit,
) -> Blueprint:
    """Build the routes by which a browser asks to sign in, sees its account's sessions, and ends them.

    `limit` is the rate of one client at this replica; `allow_test_addresses` accepts addresses in .test. Every response
    forbids caching.
    """
    blueprint = Blueprint("sessions", __name__)

    def read_session() -> SessionSecret:
        """Return the secret of the session that has sent the present request. Raises Problem 401 without one."""
        secret = reader.read_secret()
        if secret is None:
            raise Problem(401, "You are not signed in; ask for a mail with a link: POST /sign-in.")
        return secret

    @blueprint.post("/sign-in")
    @describe(
        "Ask for a mail with a link that signs in",
        body=AddressOfAccount,
        answers={
            202: ResponseDescription(
                description="If the address has an account, it gets a mail; the answer is the same if not. The link in "
                "it works once, for 15 minutes, and makes those before it void. (No mail if the address got one a "
                "short time ago: the link in that one still signs in or, once it is too old, asks for a new one.)"
            )
        },
        problems=(429, 503),
    )
    def ask_sign_in() -> Reply:
        limit.count_request()
        address = parse_address(parse_body(AddressOfAccount).email, allow_test=allow_test_addresses)
        sign_ins.request_link(address, identify_sender())
        return Reply(status=202)

    @blueprint.get("/session")
    @describe(
        "Show who is signed in in this browser",
        auth="session",
        answers={200: ResponseDescription(CurrentSession)},
        problems=(503,),
    )
    def get_session() -> Reply:
        account, view = sessions.load_current(read_session())
        return Reply(CurrentSession(user=User.from_account(account), session=Session.from_view(view)))

    @blueprint.delete("/session")
    @describe(
        "Sign out in this browser",
        auth="session",
        answers={204: ResponseDescription(description="Signed out, now or before.", headers=_FORGOTTEN)},
        problems=(503,),
    )
    def sign_out() -> Response:
        sessions.sign_out(read_session())
        return forget_cookie(reader.cookie)

    @blueprint.get("/users/<address:email>/sessions")
    @describe(
        "List the browsers that are signed in",
        auth="user",
        path=EMAIL,
        answers={200: ResponseDescription(SessionsList)},
        problems=(404, 503),
    )
    def list_sessions(email: str) -> Reply:
        views = sessions.list_of_account(reader.read(), email)
        return Reply(SessionsList(sessions=[Session.from_view(view) for view in views]))

    @blueprint.delete("/users/<address:email>/sessions")
    @describe(
        "Sign out in all browsers, in this one, too",
        auth="user",
        path=EMAIL,
        answers={204: ResponseDescription(description="No browser is signed in.", headers=_FORGOTTEN)},
        problems=(404, 503),
    )
    def end_sessions(email: str) -> Response:
        sessions.end_all(reader.read(), email)
        return forget_cookie(reader.cookie)

    @blueprint.delete("/users/<address:email>/sessions/<uuid:session_id>")
    @describe(
        "Sign out in one browser",
        auth="user",
        path=EMAIL,
        answers={204: ResponseDescription(description="It is signed out; this one forgets its cookie, if it is it.")},
        problems=(404, 503),
    )
    def end_session(email: str, session_id: UUID) -> Response:
        is_current = sessions.end(reader.read(), email, session_id)
        return forget_cookie(reader.cookie) if is_current else make_empty_response()

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def make_empty_response() -> Response:
    """Return an answer with status 204, which has no body and no type."""
    response = make_response("", 204)
    del response.headers["Content-Type"]
    return response


def forget_cookie(cookie: SessionCookie) -> Response:
    """Return an answer with status 204 that makes the browser forget the session."""
    response = make_empty_response()
    cookie.delete_on(response)
    return response
