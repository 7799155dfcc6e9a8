"""The bodies that `rest` answers with: they are made here from what the use cases give, and described by it."""

from collections.abc import Mapping
from datetime import date, datetime
from uuid import UUID

from pydantic import BaseModel, Field

from collector import flights as queries
from collector.rest.requests import SAYS_FOR_WINDOWS, SAYS_HIGH, SAYS_LOW, SAYS_REPEAT
from collector.settled import status
from domain import interests as domain, preview as domain_preview
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.windows import Window


class Interest(BaseModel):
    """What a person wants to be told. Airport, direction and window never change."""

    interest_id: UUID
    airport_icao: str
    direction: Direction
    window: Window
    high_value: int | None = Field(description=SAYS_HIGH)
    low_value: int | None = Field(description=SAYS_LOW)
    for_windows: int = Field(description=SAYS_FOR_WINDOWS)
    repeat: bool = Field(description=SAYS_REPEAT)
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
    state: AlertState
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
        percents = {
            f"p{percent}": domain_preview.compute_percentile(counts, percent) for percent in (50, 75, 90, 95, 99)
        }
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
    def of(cls, question: status.PlannedCall) -> "PlannedQuestion":
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
    def of(cls, flow: status.TargetCoverage) -> "FlowCoverage":
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
