"""The JSON bodies of the REST answers: built here from the use cases' results; they also are the API's schemas."""

from collections.abc import Mapping
from datetime import date, datetime

from pydantic import BaseModel, Field

from collector import flight_lists, flights as queries
from collector.rest.live_answers import Live
from collector.rest.usual_answers import Suggestions
from collector.settled import evidence
from collector.settled.coverage_report import CoverageReport
from collector.unheard import explain_unheard
from domain import preview as domain_preview
from domain.alerts import Alert, AlertState, Bound
from domain.interests import Direction
from domain.past_windows import PastWindow


class Stretch(BaseModel):
    """A covered interval: all its flights that the source will ever give are known; the end is not part of it."""

    covered_from: datetime
    covered_until: datetime


class Coverage(BaseModel):
    """The covered interval of an airport by direction; null where nothing is covered yet."""

    arrivals: Stretch | None
    departures: Stretch | None

    @classmethod
    def build(cls, covered: Mapping[Direction, queries.CoveredInterval]) -> "Coverage":
        """Build the body from the covered interval of each direction; a missing direction becomes null."""
        intervals = {
            direction: Stretch(covered_from=interval.begin, covered_until=interval.end)
            for direction, interval in covered.items()
        }
        return cls(arrivals=intervals.get(Direction.ARRIVALS), departures=intervals.get(Direction.DEPARTURES))


class Evidence(BaseModel):
    """The evidence about the source's record of one day (UTC), which it makes in the night after."""

    day: date
    direction: Direction
    airport_icao: str | None = Field(description="The airport whose flights are the evidence; null: none yet.")
    flights: int = Field(description="The number of its flights in the last hours of the day.")
    there_since: datetime | None = Field(description="When the source first gave these flights; null: not yet.")
    whole_since: datetime | None = Field(description="When it gave the same again: all is there; null: not yet.")
    asked_at: datetime | None = Field(description="When the source was last asked about this record.")

    @classmethod
    def build(cls, record: evidence.NightlyRecord) -> "Evidence":
        """Build the body from the evidence about one record."""
        return cls(
            day=record.day.date(),
            direction=record.direction,
            airport_icao=record.airport,
            flights=record.flights,
            there_since=record.there_since,
            whole_since=record.whole_since,
            asked_at=record.asked_at,
        )


class Waiting(BaseModel):
    """The evidence that the next day of each direction waits for, in words; null where it waits for none."""

    arrivals: str | None
    departures: str | None


class Gaps(BaseModel):
    """Per direction a sentence that names the days which will never be collected; null if there are none."""

    arrivals: str | None
    departures: str | None


class CoverageWithEvidence(Coverage):
    """The covered interval of an airport by direction, the evidence for it, and what the next day waits for."""

    waiting_for: Waiting
    gaps: Gaps
    notice: str | None = Field(
        description="In words, if the airport's code was retired, or if the source has given no flight of it so far; "
        "else null."
    )
    evidence: list[Evidence] = Field(description="Of the last days, newest first; the same for all airports.")
    live: Live

    @classmethod
    def build_report(cls, report: CoverageReport) -> "CoverageWithEvidence":
        """Build the body from the coverage report of an airport."""
        waiting = {direction.value: report.waiting_for.get(direction) for direction in Direction.BOTH.parts}
        covered = Coverage.build(report.covered)
        return cls(
            arrivals=covered.arrivals,
            departures=covered.departures,
            waiting_for=Waiting(**waiting),
            gaps=Gaps(**{direction.value: report.gaps.get(direction) for direction in Direction.BOTH.parts}),
            notice=report.notice,
            evidence=[Evidence.build(record) for record in report.records],
            live=Live.build(report.live, report.heard),
        )


class Flight(BaseModel):
    """A departure from, or an arrival at, the airport, with the time at which it counts; null where unknown.

    A live movement has this time as first_seen and last_seen, too.
    """

    direction: Direction
    icao24: str = Field(description="24-bit transponder address, in lower-case hex.")
    callsign: str | None
    first_seen: datetime
    last_seen: datetime
    event_time: datetime = Field(
        description="When it counts: first_seen of a departure, last_seen of an arrival, as it was first published; "
        "of a flight that was seen live, the time of its movement."
    )
    other_airport: str | None = Field(description="The ICAO code of the airport at the other end.")
    provenance: flight_lists.Provenance = Field(
        description="settled: from the source's record. live: inferred from positions; the record may correct it."
    )

    @classmethod
    def build(cls, flight: flight_lists.AirportFlight) -> "Flight":
        """Build the body from a flight of a query; an empty callsign or other airport becomes null."""
        return cls(
            direction=flight.direction,
            icao24=flight.icao24,
            callsign=flight.callsign or None,
            first_seen=flight.first_seen,
            last_seen=flight.last_seen,
            event_time=flight.event_time,
            other_airport=flight.other_airport or None,
            provenance=flight.provenance,
        )


class Flights(BaseModel):
    """A page of flights, ordered by event time; live movements are among them until their day is settled."""

    flights: list[Flight]


class LatestFlights(BaseModel):
    """The flight with the latest event time by direction, settled or live; null where no flight is known."""

    arrivals: Flight | None
    departures: Flight | None

    @classmethod
    def build(cls, found: Mapping[Direction, flight_lists.AirportFlight]) -> "LatestFlights":
        """Build the body from the latest flight of each direction; a missing direction becomes null."""
        shown = {direction: Flight.build(flight) for direction, flight in found.items()}
        return cls(arrivals=shown.get(Direction.ARRIVALS), departures=shown.get(Direction.DEPARTURES))


class Average(BaseModel):
    """The average number of flights per day over the days that are settled from midnight to midnight (UTC).

    Live movements count for nothing until the record has them.
    """

    flights_a_day: float | None = Field(description="Null where no day is covered.")
    flights: int = Field(description="On all days that counted.")
    days: list[date] = Field(description="The days that counted.")

    @classmethod
    def build(cls, average: queries.DailyAverage) -> "Average":
        """Build the body from a query's average of one direction."""
        return cls(flights_a_day=average.flights_per_day, flights=average.flights, days=list(average.days))


class Averages(BaseModel):
    """The average number of flights per day, by direction."""

    arrivals: Average
    departures: Average

    @classmethod
    def build(cls, averages: Mapping[Direction, queries.DailyAverage]) -> "Averages":
        """Build the body from the averages, which must hold both directions."""
        return cls(
            arrivals=Average.build(averages[Direction.ARRIVALS]),
            departures=Average.build(averages[Direction.DEPARTURES]),
        )


class Operator(BaseModel):
    """The number of flights of one operator (airline)."""

    code: str = Field(description="The ICAO airline designator that the callsigns begin with.")
    name: str | None = Field(description="Null where it is not known here.")
    flights: int


class Operators(BaseModel):
    """The operators with the most flights at an airport, ordered by their number of flights; only settled ones."""

    airlines: list[Operator]
    flights: int = Field(description="All flights, also those of operators that are not named here.")
    without_operator: int = Field(description="Flights whose callsign begins with no designator, such as private ones.")

    @classmethod
    def build(cls, operators: queries.OperatorRanking) -> "Operators":
        """Build the body from a query's ranking, in its order."""
        return cls(
            airlines=[Operator(code=each.code, name=each.name, flights=each.flights) for each in operators.top],
            flights=operators.flights,
            without_operator=operators.without_operator,
        )


class PreviewedAlert(BaseModel):
    """An alert that the previewed interest would have raised; each would have been one mail."""

    window_start: datetime
    bound: Bound
    state: AlertState
    count: int = Field(
        description="Flights in the window; of one that has not ended, those with which the threshold was passed."
    )
    threshold: int

    @classmethod
    def build(cls, alert: Alert) -> "PreviewedAlert":
        """Build the body from the domain's alert, without its ids."""
        return cls(
            window_start=alert.window_start,
            bound=alert.bound,
            state=alert.state,
            count=alert.count,
            threshold=alert.threshold,
        )


class Percentiles(BaseModel):
    """Percentiles of the windows' flight counts: p90 is the count that 90 percent of the windows do not exceed."""

    p50: int
    p75: int
    p90: int
    p95: int
    p99: int
    max: int

    @classmethod
    def build(cls, counts: tuple[int, ...]) -> "Percentiles":
        """Build the body: compute percentiles and maximum of the windows' flight counts, which must not be empty."""
        percents = {
            f"p{percent}": domain_preview.compute_percentile(counts, percent) for percent in (50, 75, 90, 95, 99)
        }
        return cls(**percents, max=max(counts))


class PreviewedWindow(BaseModel):
    """A window of the last 35 days that has ended, for a chart."""

    window_start: datetime
    window_end: datetime
    flights: int | None = Field(description="Null: not all of them are known.")
    usual: float | None = Field(
        description="The usual number of flights, by which thresholds in percent are judged; null: nothing is usual."
    )

    @classmethod
    def build(cls, window: PastWindow) -> "PreviewedWindow":
        """Build the body from the domain's window."""
        return cls(
            window_start=window.start,
            window_end=window.end,
            flights=window.flights,
            usual=None if window.doubled_usual is None else window.doubled_usual / 2,
        )


class Preview(BaseModel):
    """The alerts that an interest would have raised on the covered flights, if it had been set now.

    By the settled record alone: what is live is not in it yet.
    """

    covered: Coverage
    windows: int = Field(description="Windows that are covered from beginning to end, and so can be judged.")
    counts: Percentiles | None = Field(description="Of the flights in these windows; null where there are none.")
    mails_a_week: float | None = Field(description="As many as in these windows; null where there are none.")
    alerts: list[PreviewedAlert] = Field(
        description="Each is a mail, in the order of the windows. None of them means nothing if `unknown` is set."
    )
    unknown: str | None = Field(
        description="In words, that nothing is known of the airport yet, where `windows` is 0; else null."
    )
    notice: str | None = Field(
        description="In words, if the airport's code was retired, or if the source has given no flight of it so far; "
        "else null."
    )
    suggestions: Suggestions
    history: list[PreviewedWindow] | None = Field(
        default=None,
        exclude_if=lambda history: history is None,
        description="With `history=true`: all windows of the last 35 days that have ended, in order, whatever "
        "`effective_from` the request has; left out without it.",
    )

    @classmethod
    def build(cls, icao: str, found: queries.InterestPreview) -> "Preview":
        """Build the body from the preview of an interest at an airport; mails per week get one decimal place."""
        shown, since = found.preview, found.unheard_since
        return cls(
            covered=Coverage.build(found.covered),
            notice=None if since is None else explain_unheard(icao, since),
            unknown=found.unknown,
            windows=len(shown.counts),
            counts=Percentiles.build(shown.counts) if shown.counts else None,
            mails_a_week=None if shown.mails_a_week is None else round(shown.mails_a_week, 1),
            alerts=[PreviewedAlert.build(alert) for alert in shown.alerts],
            suggestions=Suggestions.build(found.suggestions),
            history=None if found.history is None else [PreviewedWindow.build(each) for each in found.history],
        )


class RequestedCollection(BaseModel):
    """The confirmation that a request for a collection was accepted; the collecting replica will act on it."""

    status: str = "requested"
    airport_icao: str | None = Field(description="Null: all airports.")
