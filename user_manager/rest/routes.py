"""REST routes of accounts: each parses the request, makes one call and translates the result."""

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, urlencode
from uuid import UUID

from flask import Blueprint, Response, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from chassis.clients import identify_client
from chassis.credentials import Credential
from chassis.errors import DatabaseUnavailableError
from chassis.web.http import (
    IDEMPOTENCY_KEY,
    ProblemKind,
    Reply,
    parse_body,
    parse_query,
    read_idempotency_key,
)
from chassis.web.limits import ClientRateLimit
from chassis.web.numbers import WHOLE_NUMBERS
from chassis.web.openapi import ResponseDescription, describe
from chassis.web.preconditions import IF_MATCH, format_entity_tag, read_if_match
from user_manager.account_mails import AccountMails
from user_manager.accounts import Account, Accounts
from user_manager.addresses import Address, parse_address
from user_manager.deletion.saga import Deletions, DeletionStatus
from user_manager.errors import (
    AccountUnknownError,
    AddressInvalidError,
    AlreadyConfirmedError,
    BadCursorError,
    CollectorRefusedError,
    CollectorUnavailableError,
    DeletionUnknownError,
    IdempotencyKeyReusedError,
    LinkExpiredError,
    LinkForgedError,
    LinkOrphanedError,
    NoSuchSessionError,
    NotOperatorError,
    NotYoursError,
    SessionUnknownError,
    StillInFlightError,
    TokenUnknownError,
    TooManyMailsError,
    TooSoonError,
    VersionMismatchError,
)
from user_manager.registration import Registrations
from user_manager.rest.models import (
    AddressOfAccount,
    ChangedUser,
    ConfirmationProgress,
    DeletionState,
    Existence,
    NewToken,
    NewUser,
    OneUser,
    PageQuery,
    Registered,
    User,
    Users,
)

_SOON: Final = {"Retry-After": "5"}

PROBLEMS: Final[Mapping[type[Exception], ProblemKind]] = {
    BadCursorError: ProblemKind(400),
    LinkForgedError: ProblemKind(400),
    TokenUnknownError: ProblemKind(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    SessionUnknownError: ProblemKind(401),
    NotOperatorError: ProblemKind(403),
    NotYoursError: ProblemKind(403),
    AccountUnknownError: ProblemKind(404),
    DeletionUnknownError: ProblemKind(404),
    NoSuchSessionError: ProblemKind(404),
    AlreadyConfirmedError: ProblemKind(409),
    StillInFlightError: ProblemKind(409, {"Retry-After": "1"}),
    LinkExpiredError: ProblemKind(410),
    LinkOrphanedError: ProblemKind(410),
    VersionMismatchError: ProblemKind(412),
    AddressInvalidError: ProblemKind(422),
    IdempotencyKeyReusedError: ProblemKind(422),
    TooManyMailsError: ProblemKind(429),
    TooSoonError: ProblemKind(429),
    CollectorRefusedError: ProblemKind(502),
    CollectorUnavailableError: ProblemKind(503, _SOON),
    DatabaseUnavailableError: ProblemKind(503, _SOON),
}

DESCRIPTION: Final = (
    "Accounts: who wants to be told about airports. Registering gives a token; send it with every other request in the "
    "header `Authorization: Bearer …`. A user's token opens that user's account, the operator's token opens all. A "
    "browser may sign in by a link in a mail instead (`POST /sign-in`): the session's cookie counts in requests of "
    "pages of this origin only (`Sec-Fetch-Site` or `Origin`), and a bearer token goes before it. "
    f"{WHOLE_NUMBERS}"
)

_VERIFY: Final = "verify/"
"""Prefix that no address may have: GET /users/verify/{email} would be GET /users/{email} of such an address."""

_ETAG: Final = {"ETag": "The version of the account."}
_NEXT: Final = "The next page has rel=next (RFC 8288). There is none on the last page."
EMAIL: Final = {
    "email": {
        "type": "string",
        "format": "email",
        "examples": ["ann@example.org"],
        "description": "The address of the account, with percent-encoding.",
    }
}
_EMAIL_OR_OTHER_TEXT: Final = {"email": {name: value for name, value in EMAIL["email"].items() if name != "format"}}
"""The path parameter of a route that also answers for a text that is no address: no account has it."""


class _AddressConverter(BaseConverter):
    """A URL converter for e-mail addresses: the local part may hold slashes (RFC 5322, 3.2.3), the domain may not.

    No address that begins with "verify/" matches.
    """

    regex = f"(?!{_VERIFY}).+@[^/@]+"
    part_isolating = False

    def to_url(self, value: str) -> str:
        return quote(value, safe="!$&'()*+,;=:@")  # the characters that RFC 3986, 3.3 allows within one segment


def build_users_blueprint(
    accounts: Accounts,
    registrations: Registrations,
    account_mails: AccountMails,
    deletions: Deletions,
    *,
    allow_test_addresses: bool,
    limit: ClientRateLimit,
    read_credential: Callable[[], Credential],
) -> Blueprint:
    """Build the routes of accounts and deletions.

    `limit` is the rate of one client at this replica, for registrations and lost tokens together. `read_credential`
    returns who sends the present request. `allow_test_addresses` lets addresses in .test register. Every response
    forbids caching.
    """
    blueprint = Blueprint("users", __name__)

    @blueprint.record
    def register_address_converter(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["address"] = _AddressConverter

    @blueprint.post("/users")
    @describe(
        "Register",
        body=NewUser,
        headers=(IDEMPOTENCY_KEY,),
        answers={
            201: ResponseDescription(
                Registered,
                "The answer is the same whether the address has an account or not. It gets a mail: with a link that "
                "confirms it or, if it has a confirmed account, to its owner. (None if it got one a short time ago: "
                "the link in that one confirms this account, too. Addresses of one mailbox that differ in a +tag "
                "share their pauses: if no mail came to one of them, register without the tag.) Whoever registers "
                "an unconfirmed address again replaces what was registered before. GET /users/{email}/confirmation "
                "says how far the mail is.",
                {"Location": "Where the account is.", **_ETAG},
            )
        },
        problems=(409, 429, 503),
    )
    def register_user() -> Reply:
        limit.count_request()
        body = parse_body(NewUser)
        address = parse_address(body.email, allow_test=allow_test_addresses)
        _require_registrable(address)
        registration = registrations.register(
            address, body.name, body.time_zone, read_idempotency_key(), identify_sender(), body.language
        )
        account = registration.account
        location = url_for("users.get_user", email=account.email)
        headers = {"Location": location} | _build_etag_header(account)
        return Reply(Registered(user=User.from_account(account), token=registration.token), 201, headers)

    @blueprint.post("/users/token")
    @describe(
        "Ask for a mail with a link to a new token, when the token is lost",
        body=AddressOfAccount,
        answers={
            202: ResponseDescription(
                description="If the address has an account, it gets a mail; the answer is the same if not. (None if it "
                "got one a short time ago.)"
            )
        },
        problems=(429, 503),
    )
    def ask_new_token() -> Reply:
        limit.count_request()
        address = parse_address(parse_body(AddressOfAccount).email, allow_test=allow_test_addresses)
        account_mails.request_token_mail(address, identify_sender())
        return Reply(status=202)

    @blueprint.get("/users")
    @describe(
        "List all accounts",
        auth="operator",
        query=PageQuery,
        answers={200: ResponseDescription(Users, f"A page of accounts. {_NEXT}")},
        problems=(400, 503),
    )
    def list_users() -> Reply:
        credential = read_credential()
        query = parse_query(PageQuery)
        page = accounts.list_page(credential, query.cursor, query.limit)
        headers = {}
        if page.next_cursor is not None:
            following = urlencode({"cursor": page.next_cursor, "limit": query.limit})
            headers["Link"] = f'<{url_for("users.list_users")}?{following}>; rel="next"'
        return Reply(Users(users=[User.from_account(account) for account in page.accounts]), headers=headers)

    @blueprint.get("/users/<address:email>")
    @describe(
        "Show an account",
        auth="user",
        path=EMAIL,
        answers={200: ResponseDescription(OneUser, headers=_ETAG)},
        problems=(404, 503),
    )
    def get_user(email: str) -> Reply:
        return _build_account_reply(accounts.get(read_credential(), email))

    @blueprint.patch("/users/<address:email>")
    @describe(
        "Change an account",
        auth="user",
        path=EMAIL,
        headers=(IF_MATCH,),
        body=ChangedUser,
        answers={200: ResponseDescription(OneUser, headers=_ETAG)},
        problems=(404, 412, 428, 503),
    )
    def change_user(email: str) -> Reply:
        # RFC 9110, 13.2.1: a precondition is checked only if the request would otherwise succeed.
        credential = read_credential()
        seen = accounts.get(credential, email)
        changes = parse_body(ChangedUser).to_update()
        expected = read_if_match()
        if not expected.accepts(seen.version):
            raise VersionMismatchError(expected.explain_mismatch("account", seen.version))
        version = None if expected.is_any else seen.version
        return _build_account_reply(accounts.update(credential, email, version, changes))

    @blueprint.delete("/users/<address:email>")
    @describe(
        "Delete an account, its interests, and everything else about it",
        auth="user",
        path=EMAIL,
        answers={
            204: ResponseDescription(description="Deleted."),
            202: ResponseDescription(
                DeletionState,
                "It will be deleted, and its token is void; not everything could be done at once.",
                {"Location": "Where to see how far it is."},
            ),
        },
        problems=(404, 502, 503),
    )
    def delete_user(email: str) -> Reply:
        deletion_id = deletions.delete(read_credential(), email)
        if deletion_id is None:
            return Reply(status=204)
        location = url_for("users.get_deletion", deletion_id=deletion_id)
        state = DeletionState(deletion_id=deletion_id, status=DeletionStatus.IN_PROGRESS)
        return Reply(state, 202, {"Location": location})

    @blueprint.get("/deletions/<uuid:deletion_id>")
    @describe("Show how far a deletion is", answers={200: ResponseDescription(DeletionState)}, problems=(404, 503))
    def get_deletion(deletion_id: UUID) -> Reply:
        # No token: the account's token is invalid by now. The id cannot be guessed, and the response names no person.
        return Reply(DeletionState(deletion_id=deletion_id, status=deletions.load_status(deletion_id)))

    @blueprint.post("/users/<address:email>/token")
    @describe(
        "Replace the token; the one before is void from now on",
        auth="user",
        path=EMAIL,
        answers={200: ResponseDescription(NewToken)},
        problems=(404, 503),
    )
    def rotate_token(email: str) -> Reply:
        return Reply(NewToken(token=accounts.rotate_token(read_credential(), email)))

    @blueprint.get(f"/users/{_VERIFY}<address:email>")
    @describe(
        "Say whether an account has this address",
        auth="operator",
        path=_EMAIL_OR_OTHER_TEXT,
        answers={200: ResponseDescription(Existence)},
        problems=(404, 503),
    )
    def verify_user(email: str) -> Reply:
        return Reply(Existence(exists=accounts.is_registered_for_operator(read_credential(), email)))

    @blueprint.post("/users/<address:email>/confirmation")
    @describe(
        "Ask for another confirmation mail",
        auth="user",
        path=EMAIL,
        answers={
            202: ResponseDescription(
                description="It will be sent, also to an address that mail came back from. (Not if the address got "
                "one for another registration a short time ago: the link in that one confirms this account, too. Nor "
                "if mails went to other +tags of its mailbox a short time ago: register without the tag, then.)"
            )
        },
        problems=(404, 409, 429, 503),
    )
    def ask_confirmation(email: str) -> Reply:
        registrations.request_confirmation_mail(read_credential(), email, identify_sender())
        return Reply(status=202)

    @blueprint.get("/users/<address:email>/confirmation")
    @describe(
        "Show how far the confirmation of the address is",
        auth="user",
        path=EMAIL,
        answers={200: ResponseDescription(ConfirmationProgress)},
        problems=(404, 503),
    )
    def get_confirmation(email: str) -> Reply:
        confirmation = accounts.get_confirmation(read_credential(), email)
        return Reply(ConfirmationProgress.from_confirmation(confirmation))

    @blueprint.after_request
    def forbid_caching(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def identify_sender() -> str:
    """Return the client of the present request, under which the mails that it causes are counted."""
    return identify_client(request.remote_addr or "")


def _require_registrable(address: Address) -> None:
    """Raise AddressInvalidError if the address begins with "verify/", so that its routes would be ambiguous."""
    if address.key.startswith(_VERIFY):
        raise AddressInvalidError(f"An address that begins with {_VERIFY} cannot be registered here.")


def _build_account_reply(account: Account) -> Reply:
    """Build the response that shows one account with its ETag."""
    return Reply(OneUser(user=User.from_account(account)), headers=_build_etag_header(account))


def _build_etag_header(account: Account) -> dict[str, str]:
    return {"ETag": format_entity_tag(account.version)}
