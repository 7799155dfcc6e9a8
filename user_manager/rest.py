"""Accounts over HTTP: parses, makes one call, translates."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Final
from unicodedata import category
from zoneinfo import available_timezones

from flask import Blueprint, Response, jsonify
from pydantic import AfterValidator, BaseModel, ConfigDict

from chassis.errors import DatabaseAwayError
from chassis.http import ProblemKind, bearer_token, parsed_body
from user_manager.accounts import Account, Accounts
from user_manager.addresses import parse_address
from user_manager.errors import (
    AccountUnknownError,
    AddressInvalidError,
    AddressTakenError,
    CollectorAwayError,
    CollectorRefusedError,
    LinkExpiredError,
    LinkForgedError,
    LinkOrphanedError,
    NotYoursError,
    TokenUnknownError,
)

LONGEST_NAME = 100
"""Characters."""

_SOON: Final = {"Retry-After": "5"}

PROBLEMS: Final[Mapping[type[Exception], ProblemKind]] = {
    LinkForgedError: ProblemKind(400),
    TokenUnknownError: ProblemKind(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    NotYoursError: ProblemKind(403),
    AccountUnknownError: ProblemKind(404),
    AddressTakenError: ProblemKind(409),
    LinkExpiredError: ProblemKind(410),
    LinkOrphanedError: ProblemKind(410),
    AddressInvalidError: ProblemKind(422),
    CollectorRefusedError: ProblemKind(502),
    CollectorAwayError: ProblemKind(503, _SOON),
    DatabaseAwayError: ProblemKind(503, _SOON),
}


def _person_name(name: str) -> str:
    # The name becomes a part of mail headers. A control character (Cc) or a separator of lines or paragraphs
    # (Zl, Zp) could end one and begin another; half a surrogate pair (Cs) is no text at all.
    if any(category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise ValueError("must not hold control characters")
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise ValueError(f"must have from 1 to {LONGEST_NAME} characters")
    return name


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _time_zone(name: str) -> str:
    if name not in _time_zones():
        raise ValueError("must be the IANA name of a time zone, such as Europe/Rome")
    return name


class NewUser(BaseModel):
    """The body of POST /users."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str
    name: Annotated[str, AfterValidator(_person_name)]
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"


def users(accounts: Accounts, *, allow_test_addresses: bool) -> Blueprint:
    """POST /users; GET and DELETE /users/{email}, with the user's own token or the operator's."""
    blueprint = Blueprint("users", __name__)

    @blueprint.post("/users")
    def register() -> tuple[Response, int]:
        body = parsed_body(NewUser)
        address = parse_address(body.email, allow_test=allow_test_addresses)
        registration = accounts.register(address, body.name, body.time_zone)
        return jsonify(user=_shown(registration.account), token=registration.token), 201

    # `path`, because a slash is a legal character of an address
    @blueprint.get("/users/<path:email>")
    def get(email: str) -> Response:
        return jsonify(user=_shown(accounts.get(bearer_token(), email)))

    @blueprint.delete("/users/<path:email>")
    def delete(email: str) -> tuple[str, int]:
        accounts.delete(bearer_token(), email)
        return "", 204

    @blueprint.after_request
    def keep_out_of_caches(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def _shown(account: Account) -> dict[str, object]:
    return {
        "user_id": str(account.user_id),
        "email": account.email,
        "name": account.name,
        "time_zone": account.time_zone,
        "confirmed": account.confirmed,
        "paused": account.paused,
        "created_at": account.created_at.isoformat(),
    }
