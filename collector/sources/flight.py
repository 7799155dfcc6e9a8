"""The form in which every source gives a flight."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from domain.interests import Direction

_LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp())
"""The last instant of Python's datetime, in Unix seconds."""


def _parse_unix_seconds(value: object) -> object:
    """Return Unix seconds as an aware UTC datetime. Raises ValueError for any other value, also for a boolean.

    A float without a fraction is accepted: JSON does not distinguish 7 from 7.0.
    """
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= _LAST_SECOND:  # a boolean is an int too
        return datetime.fromtimestamp(value, UTC)
    raise ValueError("must be Unix seconds")


def _strip_text(value: object) -> object:
    """Return a text without padding, None as an empty text, and any other value unchanged, for validation to reject.

    Padding is white space and NUL: transponders pad callsigns with either.
    """
    if value is None:
        return ""
    return value.strip(" \t\0") if isinstance(value, str) else value


def _normalize_icao24(value: object) -> object:
    """Return a transponder address in lower case without padding, and any other value unchanged."""
    return value.strip(" ").lower() if isinstance(value, str) else value


def _normalize_airport(value: object) -> object:
    """Return an airport's code in upper case without padding, None as an empty text, and any other value unchanged."""
    text = _strip_text(value)
    return text.upper() if isinstance(text, str) else text


_UnixSeconds = Annotated[datetime, BeforeValidator(_parse_unix_seconds)]
_Callsign = Annotated[str, BeforeValidator(_strip_text), Field(pattern="^[ -~]*$", max_length=8)]
_IcaoCode = Annotated[str, BeforeValidator(_normalize_airport), Field(pattern="^([A-Z0-9]{4})?$")]


class Flight(BaseModel):
    """A flight as a source gives it, validated: UTC times in order, texts stripped, empty if unknown.

    It is read from Unix seconds and from keys that are named as in OpenSky's answers.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    icao24: Annotated[str, BeforeValidator(_normalize_icao24)] = Field(pattern="^[0-9a-f]{6}$")
    first_seen: _UnixSeconds = Field(alias="firstSeen")
    last_seen: _UnixSeconds = Field(alias="lastSeen")
    callsign: _Callsign = ""
    departure_airport: _IcaoCode = Field(default="", alias="estDepartureAirport")
    arrival_airport: _IcaoCode = Field(default="", alias="estArrivalAirport")

    @model_validator(mode="after")
    def _require_time_order(self) -> Self:
        """Return the flight unchanged. Raises ValueError if it ends before it begins."""
        if self.last_seen < self.first_seen:
            raise ValueError("last seen before first seen")
        return self

    def event_time(self, direction: Direction) -> datetime:
        """Return the time at which the flight counts: first_seen for a departure, last_seen for an arrival."""
        return self.first_seen if direction is Direction.DEPARTURES else self.last_seen

    def own_airport(self, direction: Direction) -> str:
        """Return the origin of a departure, or the destination of an arrival; empty if unknown."""
        return self.departure_airport if direction is Direction.DEPARTURES else self.arrival_airport

    def other_airport(self, direction: Direction) -> str:
        """Return the destination of a departure, or the origin of an arrival; empty if unknown."""
        return self.arrival_airport if direction is Direction.DEPARTURES else self.departure_airport

    def with_event_time(self, direction: Direction, event_time: datetime) -> "Flight":
        """Return a copy that takes off (a departure) or lands (an arrival) at another time; it is not validated again.

        For a flight that counts at the time that was published first, whatever the source says now.
        """
        name = "first_seen" if direction is Direction.DEPARTURES else "last_seen"
        return self.model_copy(update={name: event_time})


@dataclass(frozen=True, slots=True)
class PublishedFlight:
    """That by which the stream knows a flight of an airport and direction: aircraft, and event time as published."""

    icao24: str
    event_time: datetime
