"""The collector's REST interface: it parses, makes one call, and translates the answer."""

import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from chassis.errors import DatabaseAwayError
from chassis.http import ProblemKind, bearer_token, parsed_body
from collector.collection_requests import CollectionRequests
from collector.errors import (
    NoSuchAirportError,
    NoSuchInterestError,
    NotAllowedError,
    NotAuthenticatedError,
    NotConfirmedError,
    UserManagerAwayError,
)
from collector.interests import Interests, Wish
from collector.users import Caller, Users
from domain.interests import MOST_WINDOWS, Direction, Interest, InterestError
from domain.windows import Window

_SOON: Final = {"Retry-After": "5"}

PROBLEMS: Final[Mapping[type[Exception], ProblemKind]] = {
    NotAuthenticatedError: ProblemKind(401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}),
    NotConfirmedError: ProblemKind(403),
    NotAllowedError: ProblemKind(403),
    NoSuchInterestError: ProblemKind(404),
    NoSuchAirportError: ProblemKind(422),
    InterestError: ProblemKind(422),
    UserManagerAwayError: ProblemKind(503, _SOON),
    DatabaseAwayError: ProblemKind(503, _SOON),
}


def _text(value: object) -> object:
    if not isinstance(value, str) or value.strip("0123456789.-+ ") == "":  # pydantic takes a number for Unix seconds
        raise ValueError("must be an instant like 2026-07-01T00:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be an instant of this era") from None


Icao = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^[A-Za-z0-9]{4}$")]
Count = Annotated[int, Field(strict=True, ge=0)]
Instant = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_in_utc)]


class InterestBody(BaseModel):
    """The body of POST /interests."""

    model_config = ConfigDict(extra="forbid")

    airport_icao: Icao
    direction: Direction
    window: Window
    high_value: Count | None = None
    low_value: Count | None = None
    for_windows: Annotated[int, Field(strict=True, ge=1, le=MOST_WINDOWS)] = 1
    repeat: Annotated[bool, Field(strict=True)] = False
    effective_from: Instant | None = None

    def wish(self) -> Wish:
        return Wish(
            self.airport_icao,
            self.direction,
            self.window,
            self.high_value,
            self.low_value,
            self.for_windows,
            self.repeat,
            self.effective_from,
        )


class ManualCollectionBody(BaseModel):
    """The body of POST /collect/manual; may be left out, as may the airport: all of them."""

    model_config = ConfigDict(extra="forbid")

    airport_icao: Icao | None = None


def blueprint(interests: Interests, requests: CollectionRequests, users: Users, operator_token: str) -> Blueprint:
    """The routes of the collector."""
    routes = Blueprint("collector", __name__)

    def confirmed_caller() -> Caller:
        caller = users.authenticate(bearer_token())
        if not caller.confirmed:
            raise NotConfirmedError("Confirm your address first: follow the link in the mail that was sent to it.")
        return caller

    @routes.post("/interests")
    def set_interest() -> tuple[Response, int, dict[str, str]]:
        caller = confirmed_caller()
        interest, is_new = interests.set(caller.user_id, parsed_body(InterestBody).wish())
        location = url_for("collector.one_interest", interest_id=interest.interest_id)
        return jsonify(_shown(interest)), 201 if is_new else 200, {"Location": location}

    @routes.get("/interests")
    def list_interests() -> Response:
        caller = users.authenticate(bearer_token())
        return jsonify(interests=[_shown(interest) for interest in interests.of_user(caller.user_id)])

    @routes.get("/interests/<uuid:interest_id>")
    def one_interest(interest_id: UUID) -> Response:
        return jsonify(_shown(interests.one(users.authenticate(bearer_token()).user_id, interest_id)))

    @routes.delete("/interests/<uuid:interest_id>")
    def remove_interest(interest_id: UUID) -> tuple[str, int]:
        interests.remove(users.authenticate(bearer_token()).user_id, interest_id)
        return "", 204

    @routes.get("/flights/<icao>/coverage")
    def coverage(icao: str) -> Response:
        caller = users.authenticate(bearer_token())
        covered = interests.coverage(caller.user_id, icao.upper())
        return jsonify(
            {
                direction.value: {"covered_from": _instant(begin), "covered_until": _instant(end)}
                for direction, (begin, end) in covered.items()
            }
        )

    @routes.post("/collect/manual")
    def collect() -> tuple[Response, int]:
        if not hmac.compare_digest(bearer_token().encode(), operator_token.encode()):
            raise NotAllowedError("Only the operator may ask for a collection.")
        body = parsed_body(ManualCollectionBody) if request.content_length else ManualCollectionBody()
        requests.request(body.airport_icao)
        return jsonify(status="requested", airport_icao=body.airport_icao), 202

    return routes


def _shown(interest: Interest) -> dict[str, object]:
    return {
        "interest_id": str(interest.interest_id),
        "airport_icao": interest.airport,
        "direction": interest.direction.value,
        "window": interest.window.value,
        "high_value": interest.high,
        "low_value": interest.low,
        "for_windows": interest.for_windows,
        "repeat": interest.repeat,
        "effective_from": _instant(interest.effective_from),
        "version": interest.version,
    }


def _instant(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")
