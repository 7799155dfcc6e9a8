"""Lists of an airport's flights: the settled ones, and among them the live movements that are not settled yet.

The functions with a session only read, in the caller's transaction.
"""

import base64
import binascii
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.orm import Session

from collector.errors import BadCursorError
from collector.model import FlightRow, LiveMovementRow, LiveOutcome
from domain.interests import Direction
from domain.windows import EPOCH

_COLUMNS: Final = (
    FlightRow.id,
    FlightRow.icao24,
    FlightRow.callsign,
    FlightRow.first_seen,
    FlightRow.last_seen,
    FlightRow.event_time,
    FlightRow.other_airport,
)
_LIVE_COLUMNS: Final = (
    LiveMovementRow.id,
    LiveMovementRow.icao24,
    LiveMovementRow.callsign,
    LiveMovementRow.event_time,
)
FlightPosition = tuple[datetime, int]
"""A flight's position in the order of pages: its event time, then a number among flights of the same instant.

The number is the id of the row; of a live movement, which is of another table, the id with a minus.
"""

_US: Final = timedelta(microseconds=1)


class Provenance(StrEnum):
    """The source of a flight of a list."""

    SETTLED = "settled"
    """The source's record of finished flights."""
    LIVE = "live"
    """Inferred from positions; the record of its day is not known yet."""


@dataclass(frozen=True, slots=True)
class AirportFlight:
    """A flight as a departure from, or an arrival at, one airport."""

    direction: Direction
    """Arrivals or departures, never both."""
    icao24: str
    callsign: str
    """Empty where the source has none."""
    first_seen: datetime
    """Of a live movement this and `last_seen` are its event time: no more is known."""
    last_seen: datetime
    event_time: datetime
    """The instant that counts: first_seen of a departure, last_seen of an arrival, as it was first published.

    Of a flight that was seen live, the time of its movement.
    """
    other_airport: str
    """The airport at the other end (ICAO), empty where unknown."""
    provenance: Provenance = Provenance.SETTLED


@dataclass(frozen=True, slots=True)
class FlightPage:
    """One page of a list of flights, oldest first."""

    flights: list[AirportFlight]
    next_cursor: str | None
    """The position of the next page, opaque and URL-safe; None on the last page."""


def filter_by_airport(icao: str, part: Direction) -> tuple[ColumnElement[bool], ...]:
    """Return the SQL conditions for the settled flights of an airport in one direction."""
    return (FlightRow.airport == icao, FlightRow.direction == part.value)


def filter_by_event_time(begin: datetime | None, end: datetime | None) -> Iterator[ColumnElement[bool]]:
    """Yield the SQL conditions for settled flights with an event time in [begin, end); None: no limit on that side."""
    if begin is not None:
        yield FlightRow.event_time >= begin
    if end is not None:
        yield FlightRow.event_time < end


def load_page(
    session: Session,
    icao: str,
    direction: Direction,
    begin: datetime | None,
    end: datetime | None,
    after: FlightPosition | None,
    limit: int,
) -> FlightPage:
    """Return at most `limit` flights with an event time in [begin, end), oldest first, after a position.

    `direction` BOTH: departures and arrivals in one order. `after` None: from the first.
    """
    parts = []
    for part in direction.parts:  # so each is a range of an index, in its order
        settled = list(_select_flights(session, icao, part, begin, end, after, limit + 1))
        # Movements behind the last of these are of another page: the many that are settled long since are not read.
        latest = settled[-1][0][0] if len(settled) > limit else None
        parts += [settled, list(_select_movements(session, icao, part, begin, end, latest, after, limit + 1))]
    found = list(heapq.merge(*parts, key=itemgetter(0)))
    shown = found[:limit]
    return FlightPage([flight for _, flight in shown], encode_cursor(shown[-1][0]) if len(found) > limit else None)


def find_latest_flight(session: Session, icao: str, part: Direction) -> AirportFlight | None:
    """Return the flight of one direction with the latest event time, of several the one stored last; None without any.

    Of a settled flight and a live movement of the same instant, the flight.
    """
    query = select(*_COLUMNS).where(*filter_by_airport(icao, part))
    row = session.execute(query.order_by(FlightRow.event_time.desc(), FlightRow.id.desc()).limit(1)).one_or_none()
    live_query = select(*_LIVE_COLUMNS).where(*_filter_open(icao, part))
    if row is not None:
        live_query = live_query.where(LiveMovementRow.event_time > row.event_time)
    newest_first = live_query.order_by(LiveMovementRow.event_time.desc(), LiveMovementRow.id.desc())
    live_row = session.execute(newest_first.limit(1)).one_or_none()
    if live_row is not None:
        return _build_movement(part, live_row)
    return None if row is None else _build_flight(part, row)


def _select_flights(
    session: Session,
    icao: str,
    part: Direction,
    begin: datetime | None,
    end: datetime | None,
    after: FlightPosition | None,
    limit: int,
) -> Iterator[tuple[FlightPosition, AirportFlight]]:
    """Yield at most `limit` settled flights of one direction, each with its position, in the order of positions.

    Only flights with an event time in [begin, end), and after the position `after` (None: from the first).
    """
    query = select(*_COLUMNS).where(*filter_by_airport(icao, part), *filter_by_event_time(begin, end))
    if after is not None:
        instant, last_number = after
        query = query.where(
            FlightRow.event_time >= instant, (FlightRow.event_time > instant) | (FlightRow.id > last_number)
        )
    for row in session.execute(query.order_by(FlightRow.event_time, FlightRow.id).limit(limit)):
        yield (row.event_time, row.id), _build_flight(part, row)


def _select_movements(
    session: Session,
    icao: str,
    part: Direction,
    begin: datetime | None,
    end: datetime | None,
    latest: datetime | None,
    after: FlightPosition | None,
    limit: int,
) -> Iterator[tuple[FlightPosition, AirportFlight]]:
    """Yield at most `limit` live movements of one direction that are not settled, as `_select_flights` does flights.

    `latest`: none with an event time after this one; None: no limit.
    """
    query = select(*_LIVE_COLUMNS).where(*_filter_open(icao, part))
    if begin is not None:
        query = query.where(LiveMovementRow.event_time >= begin)
    if end is not None:
        query = query.where(LiveMovementRow.event_time < end)
    if latest is not None:
        query = query.where(LiveMovementRow.event_time <= latest)
    if after is not None:
        instant, last_number = after
        query = query.where(
            LiveMovementRow.event_time >= instant,
            (LiveMovementRow.event_time > instant) | (LiveMovementRow.id < -last_number),
        )
    for row in session.execute(query.order_by(LiveMovementRow.event_time, LiveMovementRow.id.desc()).limit(limit)):
        yield (row.event_time, -row.id), _build_movement(part, row)


def _filter_open(icao: str, part: Direction) -> tuple[ColumnElement[bool], ...]:
    """Return the SQL conditions for the live movements of an airport and direction that are not settled."""
    return (
        LiveMovementRow.airport == icao,
        LiveMovementRow.direction == part.value,
        LiveMovementRow.outcome == LiveOutcome.PUBLISHED.value,
    )


def _build_flight(part: Direction, row: Row[*tuple[Any, ...]]) -> AirportFlight:
    """Build the departure or arrival (`part`) from a row of `_COLUMNS`."""
    return AirportFlight(
        direction=part,
        icao24=row.icao24,
        callsign=row.callsign,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        event_time=row.event_time,
        other_airport=row.other_airport,
    )


def _build_movement(part: Direction, row: Row[*tuple[Any, ...]]) -> AirportFlight:
    """Build the departure or arrival (`part`) from a row of `_LIVE_COLUMNS`."""
    return AirportFlight(
        direction=part,
        icao24=row.icao24,
        callsign=row.callsign,
        first_seen=row.event_time,
        last_seen=row.event_time,
        event_time=row.event_time,
        other_airport="",
        provenance=Provenance.LIVE,
    )


def encode_cursor(position: FlightPosition) -> str:
    """Encode the position of a page's last flight as an opaque, URL-safe text: the next page's cursor."""
    event_time, last_number = position
    text = f"{(event_time - EPOCH) // _US} {last_number}"
    return base64.urlsafe_b64encode(text.encode()).decode("ascii")


def decode_cursor(cursor: str) -> FlightPosition:
    """Decode a cursor that `encode_cursor` made into the position. Raises BadCursorError for any other text."""
    try:
        text = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True).decode("ascii")
        microseconds, last_number = (int(part) for part in text.split(" "))
        if abs(last_number) >= 1 << 63:  # more than a database can compare with
            raise ValueError
        return (EPOCH + microseconds * _US).astimezone(UTC), last_number
    except (binascii.Error, ValueError, OverflowError):
        raise BadCursorError("This cursor is not one of ours; begin without one.") from None
