"""The bodies and queries that `rest` reads: what is wrong with them is said by them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar, cast

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from collector.interests import Change, Wish
from domain.airports import describe_unknown_code, find_airport
from domain.interests import HIGHEST_THRESHOLD, MAX_FOR_WINDOWS, Direction
from domain.windows import Window

LONGEST_PAGE: Final = 1_000
"""Flights."""

MOST_DAYS: Final = 90
"""Over which an average is taken."""

MOST_OPERATORS: Final = 100

M = TypeVar("M", bound=BaseModel)


def _airport_code(code: str) -> str:
    if find_airport(code) is None:
        raise ValueError(describe_unknown_code(code))
    return code


def _text(value: object) -> object:
    if not isinstance(value, str) or value.strip("0123456789.-+ ") == "":  # pydantic takes a number for Unix seconds
        raise ValueError("must be an instant like 2026-07-01T00:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be an instant of this era") from None


def _digits(text: object) -> object:
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("must be a whole number")
    return text


def _without_defaults(schema: dict[str, Any]) -> None:
    """What may be left out and may not be null has no default that JSON could show."""
    for member in schema["properties"].values():
        if member.get("default", ...) is None:
            del member["default"]


def _one_threshold(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [
        {"required": [name], "properties": {name: {"type": "integer"}}} for name in ("high_value", "low_value")
    ]


def _at_least_one(schema: dict[str, Any]) -> None:
    _without_defaults(schema)
    schema["minProperties"] = 1


AIRPORT: Final[Mapping[str, object]] = {"format": "icao-airport", "examples": ["KJFK"]}
Icao = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True),
    AfterValidator(_airport_code),
    Field(json_schema_extra=dict(AIRPORT), description="The ICAO code of an airport, in any case."),
]
Count = Annotated[int, Field(strict=True, ge=0, le=HIGHEST_THRESHOLD)]
ForWindows = Annotated[int, Field(strict=True, ge=1, le=MAX_FOR_WINDOWS)]
Strictly = Annotated[bool, Field(strict=True)]
Instant = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_in_utc)]
AnyDirection = Annotated[Direction, WithJsonSchema({"type": "string", "enum": [each.value for each in Direction]})]
"""In a query: the schema of a parameter stands by itself, and refers to no other."""

_LEFT_OUT: Final[Any] = None
SAYS_HIGH: Final = "Say when a window has more flights than this; above low_value."
SAYS_LOW: Final = "Say when a window has fewer flights than this."
SAYS_FOR_WINDOWS: Final = "How many windows in a row must be past the threshold."
SAYS_REPEAT: Final = "Whether to say again, in each window, that it lasts."
_EFFECTIVE_FROM: Final = "Windows that start before are not judged. From 30 days ago to a year ahead."


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WantedInterest(_Body):
    """What a person wants to be told. One threshold at least; one that is left out is none."""

    model_config = ConfigDict(json_schema_extra=_one_threshold)

    airport_icao: Icao
    direction: Direction
    window: Window
    high_value: Count | None = Field(default=None, description=SAYS_HIGH)
    low_value: Count | None = Field(default=None, description=SAYS_LOW)
    for_windows: ForWindows = Field(default=1, description=SAYS_FOR_WINDOWS)
    repeat: Strictly = Field(default=False, description=SAYS_REPEAT)
    effective_from: Instant | None = Field(
        default=None,
        description=f"{_EFFECTIVE_FROM} Without it: the start of the last collected day for a new interest, the "
        "present for a changed one; for a preview, all that can be judged.",
    )

    def wish(self) -> Wish:
        return Wish(
            airport=self.airport_icao,
            direction=self.direction,
            window=self.window,
            high=self.high_value,
            low=self.low_value,
            for_windows=self.for_windows,
            repeat=self.repeat,
            effective_from=self.effective_from,
        )


class ChangedInterest(_Body):
    """What is to be otherwise: at least one of these. What is left out stays; a threshold that is null is removed."""

    model_config = ConfigDict(json_schema_extra=_at_least_one)

    high_value: Count | None = Field(default=None, description=SAYS_HIGH)
    low_value: Count | None = Field(default=None, description=SAYS_LOW)
    for_windows: ForWindows = Field(default=_LEFT_OUT, description=SAYS_FOR_WINDOWS)
    repeat: Strictly = Field(default=_LEFT_OUT, description=SAYS_REPEAT)
    effective_from: Instant = Field(default=_LEFT_OUT, description=f"{_EFFECTIVE_FROM} Without it: the present.")

    @model_validator(mode="after")
    def _something(self) -> "ChangedInterest":
        if not self.model_fields_set:
            raise ValueError(f"must say what to change: {', '.join(type(self).model_fields)}")
        return self

    def change(self) -> Change:
        names = {"high_value": "high", "low_value": "low"}
        given = self.model_dump(exclude_unset=True)
        return cast(Change, {names.get(name, name): value for name, value in given.items()})


class WantedCollection(_Body):
    """What to collect at once: one airport, or all where none is named."""

    airport_icao: Icao | None = None


class _Query(BaseModel):
    model_config = ConfigDict(json_schema_extra=_without_defaults)


class AirportQuery(_Query):
    """Which airport."""

    airport_icao: Icao


class _StretchQuery(_Query):
    """Which flights: those whose event time (first_seen of a departure, last_seen of an arrival) is in [from, to)."""

    direction: AnyDirection = Direction.BOTH
    to: Instant = Field(default=_LEFT_OUT, description="Flights before this instant.")

    @property
    def begin(self) -> datetime | None:
        begin: datetime | None = getattr(self, "from")
        return begin

    @property
    def end(self) -> datetime | None:
        return self.to


def _with_from(query: type[M]) -> type[M]:
    """The query with a parameter `from`, which is no name that a class could give."""
    begin = Field(default=_LEFT_OUT, description="Flights at or after this instant.")
    fields: dict[str, Any] = {"from": (Instant, begin)}
    return create_model(query.__name__, __base__=query, **fields)


class _FlightsQuery(_StretchQuery):
    cursor: str | SkipJsonSchema[None] = Field(default=None, description="From the link to the next page; opaque.")
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE), BeforeValidator(_digits)] = 100


class _OperatorsQuery(_StretchQuery):
    limit: Annotated[int, Field(ge=1, le=MOST_OPERATORS), BeforeValidator(_digits)] = Field(
        default=10, description="How many operators."
    )


FlightsQuery: Final = _with_from(_FlightsQuery)
OperatorsQuery: Final = _with_from(_OperatorsQuery)


class AverageQuery(_Query):
    """Over which days."""

    days: Annotated[int, Field(ge=1, le=MOST_DAYS), BeforeValidator(_digits)] = Field(
        default=7, description="How many days (UTC) before today."
    )
