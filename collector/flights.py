"""Queries on the stored flights of the airports that a person has an interest in. Nothing here writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import repeat
from typing import Final
from uuid import UUID

from sqlalchemy import String, case, cast, func, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.airlines import find_airline_name, parse_operator
from collector.airport_checks import require_airport, require_interest
from collector.flight_lists import (
    AirportFlight,
    FlightPage,
    decode_cursor,
    filter_by_airport,
    filter_by_event_time,
    find_latest_flight,
    load_page,
)
from collector.interest_begins import check_effective_from
from collector.interest_requests import InterestRequest
from collector.intervals import DAY, day_of
from collector.model import CoverageRow, FlightRow
from collector.unheard import find_unheard_since
from domain.alerts import Bound
from domain.calendar import WEEKS_BACK, find_calendar, find_grid
from domain.interests import Direction, Interest, check_alignment, check_low
from domain.measures import Measure
from domain.past_windows import PastWindow, list_past_windows
from domain.preview import FlightHistory, Preview, explain_unknown, fold_histories, preview_traffic
from domain.rule import find_interest_grid
from domain.suggestions import Frequency, Suggestion, build_level_history, suggest_levels
from domain.traffic import Traffic
from domain.usual_week import UsualWindow, list_usual_week
from domain.windows import AlignedTo, Window, instant, seconds

_LONGEST_BASE: Final = timedelta(weeks=WEEKS_BACK, days=1)
"""Longest time from a window back to the weeks that its usual follows from; clocks are moved by a day at most."""

PREVIEWED: Final = timedelta(days=35)
"""A preview without `effective_from` judges the windows of this time before today, and thresholds are suggested from
them: so a suggested level has the mails in the preview that were said of it."""

_NO_USER: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class DailyAverage:
    """The average number of flights per day in one direction, over days that are covered from midnight to midnight."""

    flights: int
    """All flights on those days."""
    days: tuple[date, ...]
    """The covered days, in order (UTC)."""

    @property
    def flights_per_day(self) -> float | None:
        """The average; None if no day is covered."""
        return self.flights / len(self.days) if self.days else None


@dataclass(frozen=True, slots=True)
class OperatorFlights:
    """The number of flights of one operator (airline)."""

    code: str
    """ICAO airline designator, such as DLH."""
    name: str | None
    """None: the airline is not in our list."""
    flights: int


@dataclass(frozen=True, slots=True)
class OperatorRanking:
    """The operators with the most flights at an airport, and the number of all flights that were counted."""

    top: list[OperatorFlights]
    """The operator with the most flights first."""
    flights: int
    """All flights, also those of operators outside `top` and those whose callsign names no operator."""
    without_operator: int
    """Flights whose callsign names no operator, such as private ones."""


@dataclass(frozen=True, slots=True)
class CoveredInterval:
    """The interval [begin, end) of one direction in which all flights that the source will ever give are stored."""

    begin: datetime
    end: datetime

    def has_day(self, day: datetime) -> bool:
        """Return True if the whole day that begins at `day` is covered, False if any part of it is not."""
        return self.begin <= day and day + DAY <= self.end


@dataclass(frozen=True, slots=True)
class InterestPreview:
    """The alerts that an interest would have raised, and the coverage on which the preview is based."""

    preview: Preview
    covered: dict[Direction, CoveredInterval]
    """The covered interval of each of the interest's directions; one that was never collected is left out."""
    unheard_since: datetime | None
    """Begin of the first day that was asked for, if the airport is unheard; None: it is heard, or not asked for."""
    unknown: str | None
    """In a sentence, why no window could be judged: then no alerts mean nothing. None: at least one was judged."""
    suggestions: dict[tuple[Bound, Measure], dict[Frequency, Suggestion]]
    """Thresholds that would have brought about one mail a month, a week, a day, of all that may be set."""
    history: list[PastWindow] | None
    """All windows of the days that are previewed, in order; None unless they were asked for."""


@dataclass(frozen=True, slots=True)
class UsualWeek:
    """The usual counts of an airport in the windows of a week, and the coverage that they follow from."""

    airport: str
    direction: Direction
    time_zone: str
    """IANA name of the zone by whose clock the weeks before are found."""
    windows: list[UsualWindow]
    covered: dict[Direction, CoveredInterval]
    """The covered interval of each of the directions; one that was never collected is left out."""

    def explain_unknown(self) -> str | None:
        """Return a sentence that says why no window has a usual count; None if at least one has."""
        if any(each.doubled_usual is not None for each in self.windows):
            return None
        missing = [part for part in self.direction.parts if part not in self.covered]
        if missing:
            flights = "flights" if len(missing) == len(Direction.BOTH.parts) else missing[0].value
            return f"Nothing is usual at {self.airport} yet: no {flights} there have been collected."
        begin = max(covered.begin for covered in self.covered.values())
        end = min(covered.end for covered in self.covered.values())
        return (
            f"Nothing is usual at {self.airport} yet: its flights are known from {begin:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} (UTC), and a window needs three of the five weeks before."
        )


class FlightQueries:
    """Read-only queries on an airport's flights (pages, averages, operators), and the preview of an interest.

    Every method may raise DatabaseUnavailableError, and is thread-safe.

    Methods that take a user raise NoSuchAirportError, and NoSuchInterestError for an airport that the user has no
    interest in: no user learns which airports others watch.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def load_page(
        self,
        user_id: UUID,
        icao: str,
        direction: Direction,
        begin: datetime | None,
        end: datetime | None,
        cursor: str | None,
        limit: int,
    ) -> FlightPage:
        """Return at most `limit` flights with an event time in [begin, end), oldest first, after the cursor's position.

        Live movements whose day is not settled yet are among them. `direction` BOTH: departures and arrivals in one
        order. `begin` or `end` None: no limit on that side; `cursor` None: the first page. A flight that the source
        gives later may belong to a page that was read before. Raises BadCursorError.
        """
        after = None if cursor is None else decode_cursor(cursor)
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            return load_page(session, icao, direction, begin, end, after, limit)

    def find_latest(self, user_id: UUID, icao: str) -> dict[Direction, AirportFlight]:
        """Return the flight with the latest event time by direction; a direction without flights is left out.

        It may be a live movement. Of several flights at that instant, the one stored last.
        """
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            found = {part: find_latest_flight(session, icao, part) for part in Direction.BOTH.parts}
        return {part: flight for part, flight in found.items() if flight is not None}

    def compute_averages(self, user_id: UUID, icao: str, days: int) -> dict[Direction, DailyAverage]:
        """Return the average flights per day of both directions, over the fully covered of the last `days` days (UTC).

        By the settled record alone. Today is not one of the days. Each direction has its own covered days, and an
        average of None if it has no such day.
        """
        today = day_of(self._clock.now())
        requested_days = [today - back * DAY for back in range(days, 0, -1)]
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            coverage = load_covered_intervals(session, icao)
            averages = {}
            for part in Direction.BOTH.parts:
                covered_days = [day for day in requested_days if part in coverage and coverage[part].has_day(day)]
                intervals = _join_adjacent_days(covered_days)
                flights = sum(_count_flights(session, icao, part, begin, end) for begin, end in intervals)
                averages[part] = DailyAverage(flights, tuple(day.date() for day in covered_days))
        return averages

    def rank_operators(
        self, user_id: UUID, icao: str, direction: Direction, begin: datetime | None, end: datetime | None, top: int
    ) -> OperatorRanking:
        """Return the `top` operators with the most flights with an event time in [begin, end), read from callsigns.

        The operator with the most flights first; of equal ones, ordered by designator. Flights without a designator in
        their callsign are counted apart. `begin` or `end` None: no limit on that side.
        """
        # The letters are checked here in Python: databases differ in what they take for a letter.
        designated = func.substr(FlightRow.callsign, 4, 1).between("0", "9")
        prefix = case((designated, func.substr(FlightRow.callsign, 1, 4)), else_="")
        counted: dict[str | None, int] = {}
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            for part in direction.parts:
                query = (
                    select(prefix, func.count())
                    .where(*filter_by_airport(icao, part), *filter_by_event_time(begin, end))
                    .group_by(prefix)
                )
                for start_of_callsign, flights in session.execute(query):
                    code = parse_operator(start_of_callsign)
                    counted[code] = counted.get(code, 0) + flights
        without = counted.pop(None, 0)
        known = {code: flights for code, flights in counted.items() if code is not None}
        ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
        return OperatorRanking(
            top=[OperatorFlights(code, find_airline_name(code), flights) for code, flights in ordered[:top]],
            flights=sum(known.values()) + without,
            without_operator=without,
        )

    def preview_interest(self, request: InterestRequest, *, with_history: bool = False) -> InterestPreview:
        """Return the alerts that an interest would have raised on the stored flights, and the covered intervals.

        Stores nothing. The intervals are those of the request's directions; a direction never collected is left out.
        Without `effective_from`, all covered windows of the days of PREVIEWED are judged. `with_history`: also return
        all windows of these days. Needs no interest in the airport: a preview helps to decide whether to set one.
        Raises NoSuchAirportError, InterestError.
        """
        require_airport(request.airport)
        request.check()
        check_low(request.low)
        now = self._clock.now()
        check_effective_from(request, now)
        previewed_from = day_of(now) - PREVIEWED
        effective_from = request.effective_from or previewed_from
        interest = Interest(
            interest_id=_NO_USER,
            user_id=_NO_USER,
            airport=request.airport,
            direction=request.direction,
            window=request.window,
            high=request.high,
            low=request.low,
            for_windows=request.for_windows,
            repeat=request.repeat,
            effective_from=effective_from,
            version=1,
            high_percent=request.high_percent,
            low_percent=request.low_percent,
            aligned_to=request.aligned_to,
        )
        known_from = min(effective_from, previewed_from) - _LONGEST_BASE
        with self._database.reading() as session:
            coverage, traffic = _load_traffic(
                session, request.airport, request.direction, known_from, request.aligned_to
            )
            unheard_since = find_unheard_since(session, request.airport, now)
        shown = preview_traffic(interest, traffic)
        unknown = None if shown.counts else explain_unknown(interest, coverage)
        return InterestPreview(
            shown,
            coverage,
            unheard_since,
            unknown,
            _suggest_thresholds(interest, traffic, previewed_from),
            list_past_windows(interest, traffic, previewed_from, now) if with_history else None,
        )

    def find_usual_week(
        self, user_id: UUID, icao: str, direction: Direction, window: Window, aligned_to: AlignedTo = AlignedTo.UTC
    ) -> UsualWeek:
        """Return what is usual in the windows of seven days from the beginning of today on, by what is known now.

        `aligned_to`: the clock by which days and windows begin. Only the settled record counts, not live movements.
        Raises NoSuchInterestError if the user has no interest there, NoSuchAirportError, and InterestError for windows
        that cannot begin by this clock.
        """
        check_alignment(aligned_to, window)
        now = self._clock.now()
        with self._database.reading() as session:
            require_interest(session, user_id, icao)
            days = find_grid(icao, Window.ONE_DAY, aligned_to)
            today = instant(days.find_begin(days.find_number(seconds(now))))
            coverage, traffic = _load_traffic(session, icao, direction, today - _LONGEST_BASE, aligned_to)
        windows = list_usual_week(traffic, icao, direction, find_grid(icao, window, aligned_to), today)
        return UsualWeek(icao, direction, find_calendar(icao).time_zone, windows, coverage)


def _suggest_thresholds(
    interest: Interest, traffic: Traffic, since: datetime
) -> dict[tuple[Bound, Measure], dict[Frequency, Suggestion]]:
    """Return suggestions of both bounds and measures, for the closed windows from `since` (midnight UTC) on."""
    suggestions: dict[tuple[Bound, Measure], dict[Frequency, Suggestion]] = {}
    grid = find_interest_grid(interest)
    first = grid.find_first_from(seconds(since))
    for measure in Measure:
        history = build_level_history(traffic, interest.direction, grid, measure, first)
        for bound in Bound:
            found = suggest_levels(history, bound, interest.for_windows, repeat=interest.repeat)
            suggestions[bound, measure] = found
    return suggestions


def _load_traffic(
    session: Session, icao: str, direction: Direction, known_from: datetime, aligned_to: AlignedTo = AlignedTo.UTC
) -> tuple[dict[Direction, CoveredInterval], Traffic]:
    """Load the covered intervals of a direction's parts, and the traffic that follows from the flights since then.

    Flights before `known_from` are left out, though they may be covered. `aligned_to`: the clock of the windows in
    which they are to be counted.
    """
    intervals = load_covered_intervals(session, icao)
    coverage = {part: covered for part, covered in intervals.items() if part in direction.parts}
    histories = [
        _load_history(session, icao, part, covered, known_from, aligned_to) for part, covered in coverage.items()
    ]
    return coverage, fold_histories(icao, histories)


def load_covered_intervals(session: Session, icao: str) -> dict[Direction, CoveredInterval]:
    """Return the covered interval of an airport by direction; a direction that was never collected is left out."""
    rows = session.scalars(select(CoverageRow).where(CoverageRow.airport == icao).order_by(CoverageRow.direction))
    return {Direction(row.direction): CoveredInterval(row.covered_from, row.covered_until) for row in rows}


def _count_flights(session: Session, icao: str, part: Direction, begin: datetime, end: datetime) -> int:
    """Return the number of flights of an airport and direction with an event time in [begin, end)."""
    return (
        session.scalar(
            select(func.count())
            .select_from(FlightRow)
            .where(*filter_by_airport(icao, part), *filter_by_event_time(begin, end))
        )
        or 0
    )


def _join_adjacent_days(days: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Yield intervals [begin, end) that cover exactly these ordered days; adjacent days share an interval."""
    begin = end = None
    for day in days:
        if begin is not None and end is not None and day != end:
            yield begin, end
            begin = None
        begin, end = begin or day, day + DAY
    if begin is not None and end is not None:
        yield begin, end


def _load_history(
    session: Session,
    icao: str,
    part: Direction,
    covered: CoveredInterval,
    known_from: datetime,
    aligned_to: AlignedTo,
) -> FlightHistory:
    """Load the covered flights since `known_from` as a history that begins there, one event time for each flight.

    Each event time is rounded down to its hour (for windows by the airport's clock, which may begin within one: to its
    minute); if that lies before the history's begin, it is that. What is covered before concerns no window that is
    asked for, and years of it would take long.
    """
    # By the hour, as they are counted; SQLite keeps a text, to which MySQL's cast is alike: 2013-02-13 10:00:00.000000
    hour = func.substr(cast(FlightRow.event_time, String(26)), 1, 13 if aligned_to is AlignedTo.UTC else 16)
    # Flights before the coverage lie before a gap; flights after its end were stored since it was read.
    known_from = min(max(known_from, covered.begin), covered.end)
    query = (
        select(hour, func.count())
        .where(*filter_by_airport(icao, part), *filter_by_event_time(known_from, covered.end))
        .group_by(hour)
    )
    flights = ((seconds(datetime.fromisoformat(f"{text}:00+00:00")), count) for text, count in session.execute(query))
    begin = seconds(known_from)
    times = [at for hour_begin, count in sorted(flights) for at in repeat(max(hour_begin, begin), count)]
    return FlightHistory(part, begin, seconds(covered.end), times)
