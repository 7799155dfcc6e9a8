"""Flights as people see them: of the airports that they have an interest in. Reads only."""

import base64
import binascii
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import repeat
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, String, case, cast, func, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.airlines import name_of, operator_of
from collector.errors import BadCursorError, NoSuchInterestError
from collector.interests import Wish, check_effective_from, require_airport
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import CoverageRow, FlightRow, InterestRow
from domain.interests import Direction, Interest, check_thresholds
from domain.preview import FlightHistory, Preview, preview
from domain.windows import EPOCH, seconds

_COLUMNS: Final = (
    FlightRow.id,
    FlightRow.icao24,
    FlightRow.callsign,
    FlightRow.first_seen,
    FlightRow.last_seen,
    FlightRow.event_time,
    FlightRow.other_airport,
)
_Place = tuple[datetime, int]
"""Where a flight stands in the order of time: its event time, and its id among those of the same instant."""

_US: Final = timedelta(microseconds=1)
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class SeenFlight:
    """A flight as one airport sees it."""

    direction: Direction
    """Arrivals or departures."""
    icao24: str
    callsign: str
    """Empty where the source has none."""
    first_seen: datetime
    last_seen: datetime
    event_time: datetime
    """When it counts: first_seen of a departure, last_seen of an arrival, as the source first gave it."""
    other_airport: str
    """The airport at the other end (ICAO), empty where unknown."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some flights, oldest first."""

    flights: list[SeenFlight]
    next_cursor: str | None
    """Where the next page begins, opaque and URL-safe; None on the last page."""


@dataclass(frozen=True, slots=True)
class Average:
    """Flights a day of one direction, on days that are covered from midnight to midnight."""

    flights: int
    days: tuple[date, ...]
    """The days that counted, in order (UTC)."""

    @property
    def a_day(self) -> float | None:
        """None where no day counted."""
        return self.flights / len(self.days) if self.days else None


@dataclass(frozen=True, slots=True)
class Operator:
    """How many flights an operator had."""

    code: str
    """ICAO airline designator, such as DLH."""
    name: str | None
    """None where we do not know it."""
    flights: int


@dataclass(frozen=True, slots=True)
class Operators:
    """Who flies how much."""

    top: list[Operator]
    """Most flights first."""
    flights: int
    """All, also those of other operators and those whose callsign names none."""
    without_operator: int
    """Flights whose callsign names no operator, such as private ones."""


@dataclass(frozen=True, slots=True)
class Covered:
    """The stretch [begin, end) of one direction in which all flights that the source will give are stored."""

    begin: datetime
    end: datetime

    def has_day(self, day: datetime) -> bool:
        """Whether the day that begins then is covered from midnight to midnight."""
        return self.begin <= day and day + DAY <= self.end


class Flights:
    """The queries. Every one may raise DatabaseUnavailableError, and may be called by several threads at once.

    Those about one airport raise NoSuchAirportError, and NoSuchInterestError for one that the user has no interest in:
    nobody learns which airports others watch.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def coverage(self, user_id: UUID, icao: str) -> dict[Direction, Covered]:
        """By direction, what is covered; a direction that was never collected is left out."""
        require_airport(icao)
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            return _coverage(session, icao)

    def page(
        self,
        user_id: UUID,
        icao: str,
        direction: Direction,
        begin: datetime | None,
        end: datetime | None,
        cursor: str | None,
        limit: int,
    ) -> Page:
        """At most `limit` flights with an event time in [begin, end), from where the cursor points.

        A flight that becomes known later may be on a page that was read before. Raises BadCursorError.
        """
        require_airport(icao)
        after = None if cursor is None else _read_cursor(cursor)
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            # By direction: so each is a range of the index, in its order.
            parts = [list(_rows(session, icao, part, begin, end, after, limit + 1)) for part in direction.parts]
        found = list(heapq.merge(*parts, key=itemgetter(0)))
        shown = found[:limit]
        return Page([flight for _, flight in shown], _cursor(shown[-1][0]) if len(found) > limit else None)

    def latest(self, user_id: UUID, icao: str) -> dict[Direction, SeenFlight]:
        """By direction, the flight with the latest event time; a direction without flights is left out."""
        require_airport(icao)
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            found = {}
            for part in Direction.BOTH.parts:
                query = select(*_COLUMNS).where(*_of(icao, part))
                newest_first = query.order_by(FlightRow.event_time.desc(), FlightRow.id.desc())
                row = session.execute(newest_first.limit(1)).one_or_none()
                if row is not None:
                    found[part] = _seen(part, row)
        return found

    def average(self, user_id: UUID, icao: str, days: int) -> dict[Direction, Average]:
        """By direction, flights a day in the last `days` days (UTC) before today, those that are fully covered."""
        require_airport(icao)
        today = day_of(self._clock.now())
        asked = [today - back * DAY for back in range(days, 0, -1)]
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            coverage = _coverage(session, icao)
            averages = {}
            for part in Direction.BOTH.parts:
                counted = [day for day in asked if part in coverage and coverage[part].has_day(day)]
                flights = sum(_count(session, icao, part, begin, end) for begin, end in _runs(counted))
                averages[part] = Average(flights, tuple(day.date() for day in counted))
        return averages

    def operators(
        self, user_id: UUID, icao: str, direction: Direction, begin: datetime | None, end: datetime | None, top: int
    ) -> Operators:
        """Who had the most flights with an event time in [begin, end), by the callsigns."""
        require_airport(icao)
        # Letters are looked at here: databases differ in what they take for one.
        designated = func.substr(FlightRow.callsign, 4, 1).between("0", "9")
        prefix = case((designated, func.substr(FlightRow.callsign, 1, 4)), else_="")
        counted: dict[str | None, int] = {}
        with self._database.reading() as session:
            _require_interest(session, user_id, icao)
            for part in direction.parts:
                query = select(prefix, func.count()).where(*_of(icao, part), *_between(begin, end)).group_by(prefix)
                for start_of_callsign, flights in session.execute(query):
                    code = operator_of(start_of_callsign)
                    counted[code] = counted.get(code, 0) + flights
        without = counted.pop(None, 0)
        known = {code: flights for code, flights in counted.items() if code is not None}
        ordered = sorted(known.items(), key=lambda item: (-item[1], item[0]))
        return Operators(
            top=[Operator(code, name_of(code), flights) for code, flights in ordered[:top]],
            flights=sum(known.values()) + without,
            without_operator=without,
        )

    def preview(self, wish: Wish) -> tuple[Preview, dict[Direction, Covered]]:
        """What an interest would have said of what is covered, and what that is.

        Where it names no instant, of all that can be judged.
        For anybody: that is how one finds out whether to have an interest. Raises NoSuchAirportError, InterestError.
        """
        require_airport(wish.airport)
        check_thresholds(wish.high, wish.low, wish.for_windows)
        now = self._clock.now()
        check_effective_from(wish, now)
        effective_from = wish.effective_from or day_of(now - FARTHEST_BACK)
        interest = Interest(
            interest_id=_NOBODY,
            user_id=_NOBODY,
            airport=wish.airport,
            direction=wish.direction,
            window=wish.window,
            high=wish.high,
            low=wish.low,
            for_windows=wish.for_windows,
            repeat=wish.repeat,
            effective_from=effective_from,
            version=1,
        )
        with self._database.reading() as session:
            coverage = {
                part: covered
                for part, covered in _coverage(session, wish.airport).items()
                if part in wish.direction.parts
            }
            histories = [
                _history(session, wish.airport, part, covered, effective_from) for part, covered in coverage.items()
            ]
        return preview(interest, histories), coverage


def _require_interest(session: Session, user_id: UUID, icao: str) -> None:
    query = select(InterestRow.interest_id).where(InterestRow.user_id == user_id, InterestRow.airport == icao).limit(1)
    if session.scalar(query) is None:
        raise NoSuchInterestError(f"You have no interest in {icao}; set one first.")


def _coverage(session: Session, icao: str) -> dict[Direction, Covered]:
    rows = session.scalars(select(CoverageRow).where(CoverageRow.airport == icao).order_by(CoverageRow.direction))
    return {Direction(row.direction): Covered(row.covered_from, row.covered_until) for row in rows}


def _of(icao: str, part: Direction) -> tuple[ColumnElement[bool], ...]:
    return (FlightRow.airport == icao, FlightRow.direction == part.value)


def _between(begin: datetime | None, end: datetime | None) -> Iterator[ColumnElement[bool]]:
    if begin is not None:
        yield FlightRow.event_time >= begin
    if end is not None:
        yield FlightRow.event_time < end


def _rows(
    session: Session,
    icao: str,
    part: Direction,
    begin: datetime | None,
    end: datetime | None,
    after: _Place | None,
    limit: int,
) -> Iterator[tuple[_Place, SeenFlight]]:
    query = select(*_COLUMNS).where(*_of(icao, part), *_between(begin, end))
    if after is not None:
        instant, last_id = after
        query = query.where(
            FlightRow.event_time >= instant, (FlightRow.event_time > instant) | (FlightRow.id > last_id)
        )
    for row in session.execute(query.order_by(FlightRow.event_time, FlightRow.id).limit(limit)):
        yield (row.event_time, row.id), _seen(part, row)


def _count(session: Session, icao: str, part: Direction, begin: datetime, end: datetime) -> int:
    return (
        session.scalar(select(func.count()).select_from(FlightRow).where(*_of(icao, part), *_between(begin, end))) or 0
    )


def _runs(days: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The days as stretches [begin, end) without a hole."""
    begin = end = None
    for day in days:
        if begin is not None and end is not None and day != end:
            yield begin, end
            begin = None
        begin, end = begin or day, day + DAY
    if begin is not None and end is not None:
        yield begin, end


def _history(session: Session, icao: str, part: Direction, covered: Covered, effective_from: datetime) -> FlightHistory:
    # By the hour, as they are counted; SQLite keeps a text, to which MySQL's cast is alike: 2013-02-13 10:00:00.000000
    hour = func.substr(cast(FlightRow.event_time, String(26)), 1, 13)
    # What lies before effective_from is not judged, and what lies after the cursor was collected since it was read.
    query = select(hour, func.count()).where(*_of(icao, part), *_between(effective_from, covered.end)).group_by(hour)
    flights = ((seconds(datetime.fromisoformat(f"{text}:00+00:00")), count) for text, count in session.execute(query))
    begin = seconds(covered.begin)
    times = [at for hour_begin, count in sorted(flights) for at in repeat(max(hour_begin, begin), count)]
    return FlightHistory(part, begin, seconds(covered.end), times)


def _seen(part: Direction, row: Row[*tuple[Any, ...]]) -> SeenFlight:
    return SeenFlight(
        direction=part,
        icao24=row.icao24,
        callsign=row.callsign,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        event_time=row.event_time,
        other_airport=row.other_airport,
    )


def _cursor(place: _Place) -> str:
    event_time, last_id = place
    text = f"{(event_time - EPOCH) // _US} {last_id}"
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def _read_cursor(cursor: str) -> _Place:
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode("ascii")
        microseconds, last_id = (int(part) for part in text.split(" "))
        if abs(last_id) >= 1 << 63:  # more than a database can compare with
            raise ValueError
        return (EPOCH + microseconds * _US).astimezone(UTC), last_id
    except (binascii.Error, ValueError, OverflowError):
        raise BadCursorError("This cursor is not one of ours; begin without one.") from None
