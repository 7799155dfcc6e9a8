"""The bodies and queries of `rest`: what is read is checked by them, what is answered is made from them."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, TypeVar, cast
from uuid import UUID

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

from collector import flights as queries, status
from collector.interests import Change, Wish
from domain import interests as domain, preview as domain_preview
from domain.airports import airport, unknown
from domain.alerts import Alert, Bound, State
from domain.interests import HIGHEST_THRESHOLD, MOST_WINDOWS, Direction
from domain.windows import Window

LONGEST_PAGE: Final = 1_000
"""Flights."""

MOST_DAYS: Final = 90
"""Over which an average is taken."""

MOST_OPERATORS: Final = 100

M = TypeVar("M", bound=BaseModel)


def _airport_code(code: str) -> str:
    if airport(code) is None:
        raise ValueError(unknown(code))
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
ForWindows = Annotated[int, Field(strict=True, ge=1, le=MOST_WINDOWS)]
Strictly = Annotated[bool, Field(strict=True)]
Instant = Annotated[AwareDatetime, BeforeValidator(_text), AfterValidator(_in_utc)]
AnyDirection = Annotated[Direction, WithJsonSchema({"type": "string", "enum": [each.value for each in Direction]})]
"""In a query: the schema of a parameter stands by itself, and refers to no other."""

_LEFT_OUT: Final[Any] = None
_HIGH: Final = "Say when a window has more flights than this; above low_value."
_LOW: Final = "Say when a window has fewer flights than this."
_FOR_WINDOWS: Final = "How many windows in a row must be past the threshold."
_REPEAT: Final = "Whether to say again, in each window, that it lasts."
_EFFECTIVE_FROM: Final = "Windows that start before are not judged. From 30 days ago to a year ahead."


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WantedInterest(_Body):
    """What a person wants to be told. One threshold at least; one that is left out is none."""

    model_config = ConfigDict(json_schema_extra=_one_threshold)

    airport_icao: Icao
    direction: Direction
    window: Window
    high_value: Count | None = Field(default=None, description=_HIGH)
    low_value: Count | None = Field(default=None, description=_LOW)
    for_windows: ForWindows = Field(default=1, description=_FOR_WINDOWS)
    repeat: Strictly = Field(default=False, description=_REPEAT)
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

    high_value: Count | None = Field(default=None, description=_HIGH)
    low_value: Count | None = Field(default=None, description=_LOW)
    for_windows: ForWindows = Field(default=_LEFT_OUT, description=_FOR_WINDOWS)
    repeat: Strictly = Field(default=_LEFT_OUT, description=_REPEAT)
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


class Interest(BaseModel):
    """What a person wants to be told. Airport, direction and window never change."""

    interest_id: UUID
    airport_icao: str
    direction: Direction
    window: Window
    high_value: int | None = Field(description=_HIGH)
    low_value: int | None = Field(description=_LOW)
    for_windows: int = Field(description=_FOR_WINDOWS)
    repeat: bool = Field(description=_REPEAT)
    effective_from: datetime = Field(description="Windows that start before are not judged.")
    version: int = Field(description="Grows with every change.")

    @classmethod
    def of(cls, interest: domain.Interest) -> "Interest":
        return cls(
            interest_id=interest.interest_id,
            airport_icao=interest.airport,
            direction=interest.direction,
            window=interest.window,
            high_value=interest.high,
            low_value=interest.low,
            for_windows=interest.for_windows,
            repeat=interest.repeat,
            effective_from=interest.effective_from,
            version=interest.version,
        )


class Interests(BaseModel):
    """All interests of a person, oldest first."""

    interests: list[Interest]


class Stretch(BaseModel):
    """A stretch in which all flights that the source will give are known; the end is not in it."""

    covered_from: datetime
    covered_until: datetime


class Coverage(BaseModel):
    """What is covered, by direction; null where nothing is yet."""

    arrivals: Stretch | None
    departures: Stretch | None

    @classmethod
    def of(cls, covered: Mapping[Direction, queries.Covered]) -> "Coverage":
        stretches = {
            direction: Stretch(covered_from=stretch.begin, covered_until=stretch.end)
            for direction, stretch in covered.items()
        }
        return cls(arrivals=stretches.get(Direction.ARRIVALS), departures=stretches.get(Direction.DEPARTURES))


class Flight(BaseModel):
    """A flight, as its departure or its arrival at the airport."""

    direction: Direction
    icao24: str = Field(description="24-bit transponder address, in lower-case hex.")
    callsign: str | None
    first_seen: datetime
    last_seen: datetime
    event_time: datetime = Field(
        description="When it counts: first_seen of a departure, last_seen of an arrival, as the source first gave it."
    )
    other_airport: str | None = Field(description="The ICAO code of the airport at the other end.")

    @classmethod
    def of(cls, flight: queries.SeenFlight) -> "Flight":
        return cls(
            direction=flight.direction,
            icao24=flight.icao24,
            callsign=flight.callsign or None,
            first_seen=flight.first_seen,
            last_seen=flight.last_seen,
            event_time=flight.event_time,
            other_airport=flight.other_airport or None,
        )


class Flights(BaseModel):
    """A page of flights, in the order of their event times."""

    flights: list[Flight]


class LatestFlights(BaseModel):
    """The flights with the latest event times, by direction; null where there is none."""

    arrivals: Flight | None
    departures: Flight | None

    @classmethod
    def of(cls, found: Mapping[Direction, queries.SeenFlight]) -> "LatestFlights":
        shown = {direction: Flight.of(flight) for direction, flight in found.items()}
        return cls(arrivals=shown.get(Direction.ARRIVALS), departures=shown.get(Direction.DEPARTURES))


class Average(BaseModel):
    """Flights a day, over the days that are covered from midnight to midnight (UTC), which are named."""

    flights_a_day: float | None = Field(description="Null where no day is covered.")
    flights: int = Field(description="On all days that counted.")
    days: list[date] = Field(description="The days that counted.")

    @classmethod
    def of(cls, average: queries.Average) -> "Average":
        return cls(flights_a_day=average.a_day, flights=average.flights, days=list(average.days))


class Averages(BaseModel):
    """Flights a day, by direction."""

    arrivals: Average
    departures: Average

    @classmethod
    def of(cls, averages: Mapping[Direction, queries.Average]) -> "Averages":
        return cls(
            arrivals=Average.of(averages[Direction.ARRIVALS]), departures=Average.of(averages[Direction.DEPARTURES])
        )


class Operator(BaseModel):
    """How many flights an operator had."""

    code: str = Field(description="The ICAO airline designator that the callsigns begin with.")
    name: str | None = Field(description="Null where it is not known here.")
    flights: int


class Operators(BaseModel):
    """Who flies how much, the most first."""

    airlines: list[Operator]
    flights: int = Field(description="All flights, also those of operators that are not named here.")
    without_operator: int = Field(description="Flights whose callsign begins with no designator, such as private ones.")

    @classmethod
    def of(cls, operators: queries.Operators) -> "Operators":
        return cls(
            airlines=[Operator(code=each.code, name=each.name, flights=each.flights) for each in operators.top],
            flights=operators.flights,
            without_operator=operators.without_operator,
        )


class PreviewedAlert(BaseModel):
    """A mail that would have been sent."""

    window_start: datetime
    bound: Bound
    state: State
    count: int = Field(
        description="Flights in the window; of one that has not ended, those with which the threshold was passed."
    )
    threshold: int

    @classmethod
    def of(cls, alert: Alert) -> "PreviewedAlert":
        return cls(
            window_start=alert.window_start,
            bound=alert.bound,
            state=alert.state,
            count=alert.count,
            threshold=alert.threshold,
        )


class Percentiles(BaseModel):
    """Of all windows, so many percent had at most so many flights."""

    p50: int
    p75: int
    p90: int
    p95: int
    p99: int
    max: int

    @classmethod
    def of(cls, counts: tuple[int, ...]) -> "Percentiles":
        percents = {f"p{percent}": domain_preview.percentile(counts, percent) for percent in (50, 75, 90, 95, 99)}
        return cls(**percents, max=max(counts))


class Preview(BaseModel):
    """What an interest would have said of what is covered, had it been set now."""

    covered: Coverage
    windows: int = Field(description="Windows that are covered from beginning to end, and so can be judged.")
    counts: Percentiles | None = Field(description="Of the flights in these windows; null where there are none.")
    mails_a_week: float | None = Field(description="As many as in these windows; null where there are none.")
    alerts: list[PreviewedAlert] = Field(description="Each is a mail, in the order of the windows.")

    @classmethod
    def of(cls, shown: domain_preview.Preview, covered: Mapping[Direction, queries.Covered]) -> "Preview":
        return cls(
            covered=Coverage.of(covered),
            windows=len(shown.counts),
            counts=Percentiles.of(shown.counts) if shown.counts else None,
            mails_a_week=None if shown.mails_a_week is None else round(shown.mails_a_week, 1),
            alerts=[PreviewedAlert.of(alert) for alert in shown.alerts],
        )


class RequestedCollection(BaseModel):
    """The wish is on its way to whoever collects."""

    status: str = "requested"
    airport_icao: str | None = Field(description="Null: all airports.")


class PlannedQuestion(BaseModel):
    """A question that the source will be asked: for the flights of [begin, end)."""

    airport_icao: str
    direction: Direction
    begin: datetime
    end: datetime
    credits: int = Field(description="Its price, if it were asked now.")
    correction: bool = Field(description="Whether it was collected before, and is again for late flights.")

    @classmethod
    def of(cls, question: status.PlannedQuestion) -> "PlannedQuestion":
        return cls(
            airport_icao=question.airport,
            direction=question.direction,
            begin=question.begin,
            end=question.end,
            credits=question.price,
            correction=question.correction,
        )


class FlowCoverage(BaseModel):
    """How far an airport and direction that somebody wants is collected."""

    airport_icao: str
    direction: Direction
    interests: int
    covered_from: datetime | None = Field(description="Null where nothing is collected yet.")
    covered_until: datetime | None = Field(description="Null where nothing is collected yet.")
    goes_on_at: datetime = Field(description="Where the next collection begins; what lies between is given up.")
    due_until: datetime = Field(description="Up to where the source knows.")
    asked_at: datetime | None = Field(description="When the source was last asked, whatever came of it.")
    lag_seconds: float = Field(description="From where it is covered up to now.")

    @classmethod
    def of(cls, flow: status.FlowCoverage) -> "FlowCoverage":
        return cls(
            airport_icao=flow.airport,
            direction=flow.direction,
            interests=flow.interests,
            covered_from=flow.covered_from,
            covered_until=flow.covered_until,
            goes_on_at=flow.goes_on_at,
            due_until=flow.due_until,
            asked_at=flow.asked_at,
            lag_seconds=flow.lag_s,
        )


class Scheduler(BaseModel):
    """What the scheduler has, has done and will do."""

    at: datetime
    budget: int = Field(description="Credits of the day (UTC).")
    spent: int
    left: int
    due: int = Field(description="Questions that are due.")
    plan: list[PlannedQuestion] = Field(description="The first of them, in their order.")
    deferred_until: datetime | None = Field(
        description="Collection waits until then, for credits or because the source wants a pause; null: it does not."
    )
    coverage: list[FlowCoverage]

    @classmethod
    def of(cls, state: status.SchedulerState) -> "Scheduler":
        return cls(
            at=state.at,
            budget=state.budget,
            spent=state.spent,
            left=state.left,
            due=state.due,
            plan=[PlannedQuestion.of(question) for question in state.plan],
            deferred_until=state.deferred_until,
            coverage=[FlowCoverage.of(flow) for flow in state.coverage],
        )
