"""The collector's REST interface: it parses, makes one call, and translates the answer."""

import hmac
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from flask import Blueprint, Response, jsonify, url_for
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from chassis.http import bearer_token, parsed_body
from collector.collection_requests import CollectionRequests
from collector.errors import NotAllowedError, NotConfirmedError
from collector.interests import Interests, Wish
from collector.users import Caller, Users
from domain.interests import MOST_WINDOWS, Direction, Interest
from domain.windows import Window

Icao = Annotated[str, StringConstraints(strip_whitespace=True, to_upper=True, pattern="^[A-Za-z0-9]{4}$")]


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Count = Annotated[int, BeforeValidator(_no_boolean), Field(strict=True, ge=0)]


class InterestBody(BaseModel):
    """The body of POST /interests."""

    model_config = ConfigDict(extra="forbid")

    airport_icao: Icao
    direction: Direction
    window: Window
    high_value: Count | None = None
    low_value: Count | None = None
    for_windows: Annotated[int, BeforeValidator(_no_boolean), Field(strict=True, ge=1, le=MOST_WINDOWS)] = 1
    repeat: Annotated[bool, Field(strict=True)] = False
    effective_from: Annotated[AwareDatetime, AfterValidator(lambda value: value.astimezone(UTC))] | None = None

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
    """The body of POST /collect/manual."""

    model_config = ConfigDict(extra="forbid")

    airport_icao: Icao | Literal[""] = ""


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
        body = parsed_body(ManualCollectionBody)
        requests.request(body.airport_icao)
        return jsonify(status="requested", airport_icao=body.airport_icao or None), 202

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
