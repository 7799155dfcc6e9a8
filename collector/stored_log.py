"""Queries on what is stored of an airport's log, and the messages that are rebuilt from it. Nothing here writes."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, String, and_, case, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from collector.flight_lists import filter_by_airport, filter_by_event_time
from collector.intervals import DAY
from collector.model import CoverageRow, FlightRow, LiveCoverageRow, LiveMovementRow, LiveOutcome, NightlyRecordRow
from collector.rebuilt_log import (
    UNDECIDED_S,
    LateFlight,
    MovementGroup,
    StoredDirection,
    rebuild_messages,
)
from collector.record_order import DAY_S, FlightGroup
from collector.settled.history_days import HistoryDayRow
from domain.interests import Direction
from domain.window_history import KnownMessage
from domain.windows import HOUR_S, instant, seconds

LIVE_WITHIN: Final = timedelta(minutes=30)
"""Age of the end of live coverage up to which an airport is live."""
_MINUTE_S: Final = 60
_UNDECIDED_FROM: Final = f"{(DAY_S - UNDECIDED_S) // HOUR_S:02}:{(DAY_S - UNDECIDED_S) % HOUR_S // _MINUTE_S:02}"
"""The time of day (UTC) from which the next day's record decides about live movements."""


@dataclass(frozen=True, slots=True)
class KnownEnds:
    """The ends of the settled and the live coverage of one airport and direction."""

    recorded: datetime | None
    """The end of the settled coverage; None: there is none."""
    live: datetime | None
    """The end of the live coverage that was published; None: there is none."""

    @property
    def known_until(self) -> datetime | None:
        """The later of both; None: nothing is known."""
        return max([end for end in (self.recorded, self.live) if end is not None], default=None)

    def is_live(self, now: datetime) -> bool:
        """Return True if positions go beyond the record, and ended less than half an hour ago; False if not."""
        if self.live is None or self.live + LIVE_WITHIN <= now:
            return False
        return self.recorded is None or self.live > self.recorded


def load_known_ends(session: Session, icao: str, direction: Direction) -> dict[Direction, KnownEnds]:
    """Return where what is known of each part of a direction ends."""
    rows = session.execute(select(CoverageRow.direction, CoverageRow.covered_until).where(CoverageRow.airport == icao))
    recorded = {row.direction: row.covered_until for row in rows}
    found = {}
    for part in direction.parts:
        live = session.scalar(
            select(LiveCoverageRow.end_at)
            .where(LiveCoverageRow.airport == icao, LiveCoverageRow.direction == part.value, LiveCoverageRow.published)
            .order_by(LiveCoverageRow.end_at.desc())
            .limit(1)
        )
        found[part] = KnownEnds(recorded.get(part.value), live)
    return found


def load_messages(
    session: Session,
    icao: str,
    direction: Direction,
    known_from: datetime,
    live_from: datetime,
    now: datetime,
    corrected_after: timedelta,
    divided_at: Collection[datetime],
    *,
    by_minute: bool,
) -> list[KnownMessage]:
    """Return the messages about the parts of a direction since `known_from`, in the order in which they were published.

    What was live is told apart from `live_from` on, which is midnight (UTC); before, the counts are those of the
    record, if it covers all of it. `divided_at`: instants before and after which there are messages of their own.
    `by_minute`: flights are counted by minutes and not by hours.
    """
    parts = [
        _load_direction(session, icao, part, known_from, live_from, by_minute=by_minute) for part in direction.parts
    ]
    divided = [seconds(each) for each in divided_at]
    messages = rebuild_messages(parts, corrected_after // timedelta(seconds=1), seconds(now), divided)
    return [KnownMessage(instant(each.at), each.observation) for each in messages]


def _load_direction(
    session: Session, icao: str, part: Direction, known_from: datetime, live_from: datetime, *, by_minute: bool
) -> StoredDirection:
    """Load what is stored of one airport and direction since an instant."""
    cursor = session.get(CoverageRow, (icao, part.value))
    earlier, history = _load_earlier_days(session, icao, part, known_from)
    covered = None
    if cursor is not None and cursor.covered_until > known_from:
        covered = seconds(max(cursor.covered_from, known_from)), seconds(cursor.covered_until)
    if cursor is None or cursor.covered_from > known_from or cursor.covered_until < live_from:
        live_from = known_from  # the record does not know all of the time before
    groups = _load_flights(session, icao, part, known_from, by_minute=by_minute)
    stored = StoredDirection(
        part,
        covered,
        earlier,
        history,
        groups,
        movements=_load_movements(session, icao, part, live_from, by_minute=by_minute),
        stretches=_load_stretches(session, icao, part, live_from),
        proven=_load_proven(session, part, known_from),
        unit=_MINUTE_S if by_minute else HOUR_S,
    )
    order = stored.build_order()
    late = order.find_late_range(groups)
    if late is None:
        return stored
    begin, end, lowest_id = late
    flights = _load_late_flights(session, icao, part, instant(begin), instant(end), lowest_id, by_minute=by_minute)
    is_told_apart = seconds(live_from)
    return replace(
        stored,
        late=[
            each._replace(was_live=each.was_live and each.at >= is_told_apart)
            for each in flights
            if order.is_late(each.at // DAY_S, each.row_id)
        ],
    )


def _load_earlier_days(
    session: Session, icao: str, part: Direction, known_from: datetime
) -> tuple[frozenset[int], dict[int, int]]:
    """Return the days (since 1970) that were collected as history or before a gap, since an instant.

    And, by day that was published with the mark of history, from when on it was covered before, or its end.
    """
    query = select(HistoryDayRow).where(
        HistoryDayRow.airport == icao,
        HistoryDayRow.direction == part.value,
        HistoryDayRow.covered,
        HistoryDayRow.day >= known_from,
    )
    rows = session.scalars(query).all()
    history = {
        seconds(row.day) // DAY_S: seconds(row.judged_from or row.day + DAY) for row in rows if row.known_at is not None
    }
    return frozenset(seconds(row.day) // DAY_S for row in rows), history


def _load_flights(
    session: Session, icao: str, part: Direction, known_from: datetime, *, by_minute: bool
) -> list[FlightGroup]:
    """Return the stored flights since an instant by hour or minute, in order."""
    group = _cut_text(FlightRow.event_time, by_minute=by_minute)
    rows = session.execute(
        select(group, func.count(), func.min(FlightRow.id), func.max(FlightRow.id))
        .where(*filter_by_airport(icao, part), *filter_by_event_time(known_from, None))
        .group_by(group)
    )
    begin = seconds(known_from)
    return sorted(FlightGroup(max(_read_text(text), begin), *numbers) for text, *numbers in rows)


def _load_late_flights(
    session: Session, icao: str, part: Direction, begin: datetime, end: datetime, lowest_id: int, *, by_minute: bool
) -> list[LateFlight]:
    """Return the flights in [begin, end) from a row id on."""
    rows = session.execute(
        select(
            _cut_text(FlightRow.event_time, by_minute=by_minute),
            FlightRow.id,
            LiveMovementRow.id.is_not(None),
            _is_undecided(FlightRow.event_time),
        )
        .outerjoin(LiveMovementRow, _is_same_flight())
        .where(*filter_by_airport(icao, part), *filter_by_event_time(begin, end), FlightRow.id >= lowest_id)
    )
    return [LateFlight(_read_text(text), row_id, bool(live), bool(late)) for text, row_id, live, late in rows]


def _load_movements(
    session: Session, icao: str, part: Direction, live_from: datetime, *, by_minute: bool
) -> list[MovementGroup]:
    """Return the live movements since an instant by hour or minute, and by what became of them."""
    group = _cut_text(LiveMovementRow.event_time, by_minute=by_minute)
    is_undecided = _is_undecided(LiveMovementRow.event_time)
    columns = group, is_undecided, LiveMovementRow.outcome
    query = (
        select(*columns, func.count(LiveMovementRow.id), func.count(FlightRow.id))
        .outerjoin(FlightRow, and_(_is_same_flight(), LiveMovementRow.outcome == LiveOutcome.MATCHED.value))
        .where(
            LiveMovementRow.airport == icao,
            LiveMovementRow.direction == part.value,
            LiveMovementRow.event_time >= live_from,
        )
        .group_by(*columns)
    )
    counted: defaultdict[tuple[int, bool], list[int]] = defaultdict(lambda: [0, 0, 0])
    for text, undecided, outcome, movements, recorded in session.execute(query):
        counts = counted[_read_text(text), bool(undecided)]
        match LiveOutcome(outcome):
            case LiveOutcome.MATCHED:
                counts[0] += recorded
                counts[1] += movements - recorded
            case LiveOutcome.RETRACTED:
                counts[1] += movements
            case LiveOutcome.PUBLISHED:
                counts[2] += movements
    return [MovementGroup(at, undecided, *counts) for (at, undecided), counts in sorted(counted.items())]


def _load_stretches(session: Session, icao: str, part: Direction, live_from: datetime) -> list[tuple[int, int]]:
    """Return the stretches of live coverage that were published and reach beyond an instant, cut there, in order."""
    query = (
        select(LiveCoverageRow.begin_at, LiveCoverageRow.end_at)
        .where(
            LiveCoverageRow.airport == icao,
            LiveCoverageRow.direction == part.value,
            LiveCoverageRow.end_at > live_from,
            LiveCoverageRow.published,
        )
        .order_by(LiveCoverageRow.end_at)
    )
    return [(seconds(max(begin, live_from)), seconds(end)) for begin, end in session.execute(query)]


def _load_proven(session: Session, part: Direction, known_from: datetime) -> dict[int, int]:
    """Return when the record of each day (since 1970) was proven to be whole, as far as that is stored."""
    query = select(NightlyRecordRow.day, NightlyRecordRow.whole_since).where(
        NightlyRecordRow.direction == part.value,
        NightlyRecordRow.day >= known_from - DAY,
        NightlyRecordRow.whole_since.is_not(None),
    )
    return {seconds(day) // DAY_S: seconds(at) for day, at in session.execute(query) if at is not None}


def _cut_text(column: InstrumentedAttribute[datetime], *, by_minute: bool) -> ColumnElement[str]:
    """Return an expression for the hour, or the minute, of an instant as a text."""
    # SQLite keeps a text, to which MySQL's cast is alike: 2013-02-13 10:00:00.000000
    return func.substr(cast(column, String(26)), 1, 16 if by_minute else 13)


def _read_text(text: str) -> int:
    """Return the begin of an hour or minute, in seconds since 1970, from the text of `_cut_text`."""
    return seconds(datetime.fromisoformat(f"{text}:00+00:00"))


def _is_undecided(column: InstrumentedAttribute[datetime]) -> ColumnElement[int]:
    """Return an expression that is 1 for an instant about which the next day's record decides, else 0."""
    return case((func.substr(cast(column, String(26)), 12, 5) >= _UNDECIDED_FROM, 1), else_=0)


def _is_same_flight() -> ColumnElement[bool]:
    """Return the condition that a stored flight has the aircraft and the event time of a live movement."""
    return and_(
        FlightRow.airport == LiveMovementRow.airport,
        FlightRow.direction == LiveMovementRow.direction,
        FlightRow.event_time == LiveMovementRow.event_time,
        FlightRow.icao24 == LiveMovementRow.icao24,
    )
