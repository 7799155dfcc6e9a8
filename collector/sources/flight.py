"""The form in which every source gives a flight."""

from datetime import UTC, datetime
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from domain.interests import Direction

_LAST_SECOND: Final = int(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp())
"""The last instant of Python's datetime, in Unix seconds."""


def _parse_unix_seconds(value: object) -> object:
    """Return Unix seconds as an aware UTC datetime. Raises ValueError for any other value, also for a boolean."""
    if type(value) is int and 0 <= value <= _LAST_SECOND:  # a boolean is an int too
        return datetime.fromtimestamp(value, UTC)
    raise ValueError("must be Unix seconds")


def _strip_text(value: object) -> object:
    """Return a text without padding, None as an empty text, and any other value unchanged, for validation to reject."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else value


_UnixSeconds = Annotated[datetime, BeforeValidator(_parse_unix_seconds)]
_Text = Annotated[str, BeforeValidator(_strip_text), Field(pattern="^[ -~]*$")]


class Flight(BaseModel):
    """A flight as a source gives it, validated: UTC times in order, texts stripped, empty if unknown.

    It is read from Unix seconds and from keys that are named as in OpenSky's answers.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    icao24: str = Field(pattern="^[0-9a-f]{6}$")
    first_seen: _UnixSeconds = Field(alias="firstSeen")
    last_seen: _UnixSeconds = Field(alias="lastSeen")
    callsign: _Text = Field(default="", max_length=8)
    departure_airport: _Text = Field(default="", alias="estDepartureAirport", max_length=4)
    arrival_airport: _Text = Field(default="", alias="estArrivalAirport", max_length=4)

    @model_validator(mode="after")
    def _require_time_order(self) -> Self:
        """Return the flight unchanged. Raises ValueError if it ends before it begins."""
        if self.last_seen < self.first_seen:
            raise ValueError("last seen before first seen")
        return self

    def event_time(self, direction: Direction) -> datetime:
        """Return the time at which the flight counts: first_seen for a departure, last_seen for an arrival."""
        return self.first_seen if direction is Direction.DEPARTURES else self.last_seen

    def other_airport(self, direction: Direction) -> str:
        """Return the destination of a departure, or the origin of an arrival; empty if unknown."""
        return self.arrival_airport if direction is Direction.DEPARTURES else self.departure_airport
