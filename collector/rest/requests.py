"""The bodies and query parameters of the REST requests, with their validation and its error texts."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, TypeVar, cast

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

from chassis.web.numbers import FROM_JSON, FROM_QUERY
from collector.interest_requests import InterestRequest, InterestUpdate
from domain.airports import describe_unknown_code, find_airport, is_icao
from domain.interests import (
    HIGH_PERCENTS,
    HIGHEST_THRESHOLD,
    LOW_PERCENTS,
    LOW_TOO_LOW,
    LOWEST_LOW,
    MAX_FOR_WINDOWS,
    Direction,
)
from domain.windows import AlignedTo, Window

MAX_PAGE_SIZE: Final = 1_000
"""Flights on one page at most."""

MAX_DAYS: Final = 90
"""Days over which an average is computed at most."""

MAX_OPERATORS: Final = 100
"""Operators in one reply at most."""

M = TypeVar("M", bound=BaseModel)


def _require_airport_code(code: str) -> str:
    """Return the code unchanged. Raises ValueError, with suggestions, unless it is an airport's ICAO code."""
    if find_airport(code) is None:
        raise ValueError(describe_unknown_code(code))
    return code


def _require_code_form(code: str) -> str:
    """Return the code unchanged. Raises ValueError, with suggestions, unless it has the form of an ICAO code."""
    return code if is_icao(code) else _require_airport_code(code)


def _require_low(value: int) -> int:
    """Return the low threshold unchanged. Raises ValueError if no count can be below it."""
    if value < LOWEST_LOW:
        raise ValueError(LOW_TOO_LOW)
    return value


def _require_instant_text(value: object) -> object:
    """Return the value unchanged. Raises ValueError for anything but a text, and for a text that is a mere number."""
    if not isinstance(value, str) or value.strip("0123456789.-+ ") == "":  # pydantic takes a number for Unix seconds
        raise ValueError("must be an instant like 2026-07-01T00:00:00Z")
    return value


def _convert_to_utc(value: datetime) -> datetime:
    """Return the same instant in UTC. Raises ValueError where the year would leave the range of datetime."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be an instant in the years 1 to 9999") from None


def _remove_null_defaults(schema: dict[str, Any]) -> None:
    """Remove `"default": null` from the members of a JSON schema: these members may be omitted, but not be null."""
    for member in schema["properties"].values():
        if member.get("default", ...) is None:
            del member["default"]


def _require_one_threshold(schema: dict[str, Any]) -> None:
    """Add to a JSON schema that a threshold must be present and an integer."""
    schema["anyOf"] = [
        {"required": [name], "properties": {name: {"type": "integer"}}}
        for name in ("high_value", "low_value", "high_percent", "low_percent")
    ]


def _require_one_member(schema: dict[str, Any]) -> None:
    """Add to a JSON schema that at least one member must be present, and remove defaults of null."""
    _remove_null_defaults(schema)
    schema["minProperties"] = 1


AIRPORT: Final[Mapping[str, object]] = {"format": "icao-airport", "examples": ["KJFK"]}
Icao = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True),
    AfterValidator(_require_airport_code),
    Field(json_schema_extra=dict(AIRPORT), description="The ICAO code of an airport, in any case."),
]
StoredIcao = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_upper=True),
    AfterValidator(_require_code_form),
    Field(
        json_schema_extra=dict(AIRPORT),
        description="The ICAO code of an airport, in any case; of an interest that you have also a retired code.",
    ),
]
"""A code that an interest may have: it is looked up where the user's interests are known."""
Threshold = Annotated[int, Field(strict=True, ge=0, le=HIGHEST_THRESHOLD), FROM_JSON]
LowThreshold = Annotated[
    int,
    Field(strict=True, le=HIGHEST_THRESHOLD, json_schema_extra={"minimum": LOWEST_LOW}),
    AfterValidator(_require_low),
    FROM_JSON,
]
HighPercent = Annotated[int, Field(strict=True, ge=HIGH_PERCENTS.start, le=HIGH_PERCENTS.stop - 1), FROM_JSON]
LowPercent = Annotated[int, Field(strict=True, ge=LOW_PERCENTS.start, le=LOW_PERCENTS.stop - 1), FROM_JSON]
ForWindows = Annotated[int, Field(strict=True, ge=1, le=MAX_FOR_WINDOWS), FROM_JSON]
StrictBool = Annotated[bool, Field(strict=True)]
Instant = Annotated[AwareDatetime, BeforeValidator(_require_instant_text), AfterValidator(_convert_to_utc)]
DirectionParameter = Annotated[
    Direction, WithJsonSchema({"type": "string", "enum": [each.value for each in Direction]})
]
"""The direction as a query parameter: its schema is written out, for a parameter's schema may refer to no other."""

WindowParameter = Annotated[Window, WithJsonSchema({"type": "string", "enum": [each.value for each in Window]})]
"""The length of windows as a query parameter, written out as `DirectionParameter`."""

AlignedToParameter = Annotated[
    AlignedTo, WithJsonSchema({"type": "string", "enum": [each.value for each in AlignedTo]})
]
"""The clock of windows as a query parameter, written out as `DirectionParameter`."""

_OMITTED: Final[Any] = None
HIGH_DESCRIPTION: Final = "Say when a window has more flights than this; above low_value."
LOW_DESCRIPTION: Final = "Say when a window has fewer flights than this; 1: when it has none."
HIGH_PERCENT_DESCRIPTION: Final = (
    "Say when a window has more flights than this percent of what is usual there: the median of the same window, by "
    "the airport's clock, of the five weeks before. Windows of which fewer than three of these weeks are known are not "
    "judged, and those with a usual below 5 flights are skipped. Instead of high_value."
)
LOW_PERCENT_DESCRIPTION: Final = (
    "Say when a window has fewer flights than this percent of what is usual there, as high_percent says. Instead of "
    "low_value."
)
ALIGNED_TO_DESCRIPTION: Final = (
    "The clock by which windows begin: at 0, 6, 12 and 18 o'clock, or at midnight, in UTC or at the airport. By the "
    "airport's clock a day has 23 or 25 hours when clocks change. Only windows of 6h and 1d can be aligned to the "
    "airport."
)
FOR_WINDOWS_DESCRIPTION: Final = "How many windows in a row must be past the threshold."
REPEAT_DESCRIPTION: Final = "Whether to say again, in each window, that it lasts."
_FROM_DESCRIPTION: Final = "Windows that start before are not judged. From 30 days ago to a year ahead."


class _Body(BaseModel):
    """The base of the JSON bodies; unknown members are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WantedInterest(_Body):
    """The interest to set. At least one threshold is required; a threshold that is left out is not watched."""

    model_config = ConfigDict(json_schema_extra=_require_one_threshold)

    airport_icao: StoredIcao
    direction: Direction
    window: Window
    aligned_to: AlignedTo = Field(default=AlignedTo.UTC, description=ALIGNED_TO_DESCRIPTION)
    high_value: Threshold | None = Field(default=None, description=HIGH_DESCRIPTION)
    low_value: LowThreshold | None = Field(default=None, description=LOW_DESCRIPTION)
    high_percent: HighPercent | None = Field(default=None, description=HIGH_PERCENT_DESCRIPTION)
    low_percent: LowPercent | None = Field(default=None, description=LOW_PERCENT_DESCRIPTION)
    for_windows: ForWindows = Field(default=1, description=FOR_WINDOWS_DESCRIPTION)
    repeat: StrictBool = Field(default=False, description=REPEAT_DESCRIPTION)
    effective_from: Instant | None = Field(
        default=None,
        description=f"{_FROM_DESCRIPTION} Without it: the start of the last collected day, by the clock of aligned_to, "
        "for a new interest, the present for a changed one; 35 days before today for a preview.",
    )

    def to_request(self) -> InterestRequest:
        """Build the use case's request from all members of this body; members left out have their defaults."""
        return InterestRequest(
            airport=self.airport_icao,
            direction=self.direction,
            window=self.window,
            high=self.high_value,
            low=self.low_value,
            for_windows=self.for_windows,
            repeat=self.repeat,
            effective_from=self.effective_from,
            high_percent=self.high_percent,
            low_percent=self.low_percent,
            aligned_to=self.aligned_to,
        )


class ChangedInterest(_Body):
    """The members of an interest to change, at least one. Members left out stay; null removes a threshold.

    A percent takes the place of the flights of its bound, and flights take that of the percent.
    """

    model_config = ConfigDict(json_schema_extra=_require_one_member)
    REFUSED_MEMBERS: ClassVar = dict.fromkeys(
        ("airport_icao", "direction", "window", "aligned_to"),
        "cannot be changed: set a new interest, and remove this one",
    )

    high_value: Threshold | None = Field(default=None, description=HIGH_DESCRIPTION)
    low_value: LowThreshold | None = Field(default=None, description=LOW_DESCRIPTION)
    high_percent: HighPercent | None = Field(default=None, description=HIGH_PERCENT_DESCRIPTION)
    low_percent: LowPercent | None = Field(default=None, description=LOW_PERCENT_DESCRIPTION)
    for_windows: ForWindows = Field(default=_OMITTED, description=FOR_WINDOWS_DESCRIPTION)
    repeat: StrictBool = Field(default=_OMITTED, description=REPEAT_DESCRIPTION)
    effective_from: Instant = Field(default=_OMITTED, description=f"{_FROM_DESCRIPTION} Without it: the present.")

    @model_validator(mode="after")
    def _require_change(self) -> "ChangedInterest":
        """Return the body unchanged. Raises ValueError, which names the possible members, if it has none."""
        if not self.model_fields_set:
            raise ValueError(f"must say what to change: {', '.join(type(self).model_fields)}")
        return self

    def to_update(self) -> InterestUpdate:
        """Build the use case's update from the members that the body has; a member of null is kept as None."""
        names = {"high_value": "high", "low_value": "low"}
        given = self.model_dump(exclude_unset=True)
        return cast(InterestUpdate, {names.get(name, name): value for name, value in given.items()})


class WantedCollection(_Body):
    """The airport to collect flights of at once; all airports if none is named."""

    airport_icao: Icao | None = None


class _Query(BaseModel):
    """The base of the query parameters; those that may be omitted have no default of null in the schema."""

    model_config = ConfigDict(json_schema_extra=_remove_null_defaults)


class AirportQuery(_Query):
    """The query parameter that names an airport."""

    airport_icao: StoredIcao


class _IntervalQuery(_Query):
    """A filter for flights whose event time (first_seen of a departure, last_seen of an arrival) is in [from, to)."""

    direction: DirectionParameter = Direction.BOTH
    to: Instant = Field(default=_OMITTED, description="Flights before this instant.")

    @property
    def begin(self) -> datetime | None:
        """The parameter `from`; None: no limit."""
        begin: datetime | None = getattr(self, "from")
        return begin

    @property
    def end(self) -> datetime | None:
        """The parameter `to`; None: no limit."""
        return self.to


def _add_from_parameter(query: type[M]) -> type[M]:
    """Return a subclass of the query class, of the same name, with an optional parameter `from` added.

    `from` is a Python keyword, so no class can declare it.
    """
    begin = Field(default=_OMITTED, description="Flights at or after this instant.")
    fields: dict[str, Any] = {"from": (Instant, begin)}
    return create_model(query.__name__, __base__=query, **fields)


class _FlightsQuery(_IntervalQuery):
    """The filter, position and size of a page of flights."""

    cursor: str | SkipJsonSchema[None] = Field(default=None, description="From the link to the next page; opaque.")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_SIZE), FROM_QUERY] = 100


class _OperatorsQuery(_IntervalQuery):
    """The filter of the counted flights, and how many operators to return."""

    limit: Annotated[int, Field(ge=1, le=MAX_OPERATORS), FROM_QUERY] = Field(
        default=10, description="How many operators."
    )


FlightsQuery: Final = _add_from_parameter(_FlightsQuery)
OperatorsQuery: Final = _add_from_parameter(_OperatorsQuery)


class UsualQuery(_Query):
    """The query parameters for what is usual: the flights that are counted, and in what windows."""

    direction: DirectionParameter = Direction.BOTH
    window: WindowParameter = Window.ONE_HOUR
    aligned_to: AlignedToParameter = Field(default=AlignedTo.UTC, description=ALIGNED_TO_DESCRIPTION)


class PreviewQuery(_Query):
    """The query parameter for what a preview has beside its alerts."""

    history: bool = Field(default=False, description="Also list all windows of the last 35 days, for a chart.")


class WindowsQuery(_Query):
    """The query parameters for the range of windows: those that start in [begin, end)."""

    begin: Instant = Field(
        default=_OMITTED,
        description="Windows that start at or after this instant, at most 40 days before today. Without it: the last "
        "48 windows of 1h, 28 of 6h, or 35 of 1d.",
    )
    end: Instant = Field(
        default=_OMITTED,
        description="Windows that start before this instant. Without it, and at most: to the end of what is known, "
        "with the window that is open then.",
    )
    whole: bool = Field(
        default=False, description="All windows that can be shown: `begin` is the earliest one that may be asked for."
    )


class AverageQuery(_Query):
    """The query parameter for the days over which an average is computed."""

    days: Annotated[int, Field(ge=1, le=MAX_DAYS), FROM_QUERY] = Field(
        default=7, description="How many days (UTC) before today."
    )
