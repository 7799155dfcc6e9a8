"""The table of days of history: days before an airport's coverage about which the source is not asked again.

Each function runs in the caller's transaction. A day is a UTC midnight. The rules are in
docs/adr/0051-history-for-what-is-usual.md.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import String, delete, func, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from chassis.db.database import TABLE_OPTIONS, UtcDateTime
from collector.intervals import DAY, Interval, day_of
from collector.model import Base, CoverageRow, LiveCoverageRow
from collector.settled.evidence import JITTER
from collector.settled.reconciliation import MATCHED_WITHIN
from domain.interests import Direction

ASK_AGAIN_AFTER: Final = timedelta(hours=6)
"""Time after which a day whose answer is doubted is asked for again."""

KEPT_DAYS: Final = 42
"""Days before the end of the coverage of which rows are kept: no day that is farther back is asked for, or
published again to a new log."""


class HistoryDayRow(Base):
    """A UTC day of an airport and direction that need not be asked for as history.

    A day from `CoverageRow.covered_from` on needs no such row.
    """

    __tablename__ = "history_days"
    __table_args__ = TABLE_OPTIONS

    airport: Mapped[str] = mapped_column(String(4), primary_key=True)
    direction: Mapped[str] = mapped_column(String(10), primary_key=True)
    day: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    covered: Mapped[bool]
    """True: all its flights are stored and published. False: the source has no answer that can be counted."""
    doubted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """Time of a first answer without flights, at an airport that usually has some: some time later the day is asked for
    again. None: no answer is doubted."""
    known_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The end of the airport's coverage, settled or live, when the day was published as history. None: it was not, or
    by a version that did not note it."""
    judged_from: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """The time of the day from which on it was covered, and judged, before it was published as history. None: no part
    of it was."""


def load_history_days(
    session: Session, airports: Collection[str], now: datetime
) -> Mapping[tuple[str, Direction], dict[datetime, bool]]:
    """Return the days of some airports that need not be asked for now, by airport and direction: True if covered."""
    found: dict[tuple[str, Direction], dict[datetime, bool]] = {}
    for row in session.scalars(select(HistoryDayRow).where(HistoryDayRow.airport.in_(airports))):
        if row.doubted_at is None or now < row.doubted_at + ASK_AGAIN_AFTER - JITTER:
            found.setdefault((row.airport, Direction(row.direction)), {})[row.day] = row.covered
    return found


def doubt_history_day(session: Session, interval: Interval, now: datetime) -> bool:
    """Decide whether an answer without flights for a day is doubted, and store the time of the first doubt.

    Return True if it is the first such answer: the day is asked for again. Return False for the second one.
    """
    key = interval.airport, interval.direction.value, interval.begin
    row = session.get(HistoryDayRow, key, with_for_update=True)
    if row is not None and row.doubted_at is not None:
        return False
    session.merge(HistoryDayRow(airport=key[0], direction=key[1], day=interval.begin, covered=False, doubted_at=now))
    return True


def store_history_day(session: Session, airport: str, direction: str, day: datetime, *, covered: bool) -> None:
    """Store that a day need not be asked for: it is covered, or the source has no answer that can be counted."""
    session.merge(HistoryDayRow(airport=airport, direction=direction, day=day, covered=covered, doubted_at=None))


def store_published_day(session: Session, cursor: CoverageRow, day: datetime) -> None:
    """Store that a day is published as history, how far all coverage reached then, and from where on it held the day.

    To be called before the coverage is extended back to the day; the cursor is locked by the caller.
    """
    live_until = session.scalar(
        select(func.max(LiveCoverageRow.end_at)).where(
            LiveCoverageRow.published,
            LiveCoverageRow.airport == cursor.airport,
            LiveCoverageRow.direction == cursor.direction,
        )
    )
    session.merge(
        HistoryDayRow(
            airport=cursor.airport,
            direction=cursor.direction,
            day=day,
            covered=True,
            doubted_at=None,
            known_at=max(cursor.covered_until, live_until or cursor.covered_until),
            judged_from=cursor.covered_from if day < cursor.covered_from < day + DAY else None,
        )
    )


def find_decided_time(session: Session, cursor: CoverageRow, interval: Interval) -> tuple[datetime, datetime]:
    """Return the time [begin, end) about whose live movements the record of a day of history decides.

    A movement near midnight may be a flight of the day on the other side. Once the record of that day is known, too,
    the later of the two records decides; while it is not, nothing is decided there. The cursor is locked by the caller.
    """
    begin, end = interval.begin, interval.end
    is_after_known = cursor.covered_from <= end < cursor.covered_until or _is_covered_day(session, cursor, end)
    before = begin - MATCHED_WITHIN if _is_covered_day(session, cursor, begin - DAY) else begin
    return before, end if is_after_known else end - MATCHED_WITHIN


def _is_covered_day(session: Session, cursor: CoverageRow, day: datetime) -> bool:
    """Return True if a day of the cursor's airport and direction was published as history, or before a gap."""
    row = session.get(HistoryDayRow, (cursor.airport, cursor.direction, day))
    return row is not None and row.covered


def keep_days_before_gap(session: Session, cursor: CoverageRow) -> None:
    """Store the last whole days of a coverage that ends with a gap as covered, so that they are not asked for again.

    To be called before the coverage begins anew behind the gap. Rows that are too old to be needed are deleted.
    """
    oldest = day_of(cursor.covered_until) - KEPT_DAYS * DAY
    _delete_days(session, cursor, oldest)
    day = max(day_of(cursor.covered_from), oldest)
    while day + DAY <= cursor.covered_until:
        if day >= cursor.covered_from:
            store_history_day(session, cursor.airport, cursor.direction, day, covered=True)
        day += DAY


def give_up_days(session: Session, interval: Interval) -> None:
    """Store the days of an interval as days of which the source has no answer that can be counted."""
    day = day_of(interval.begin)
    while day < interval.end:
        store_history_day(session, interval.airport, interval.direction.value, day, covered=False)
        day += DAY


def extend_coverage_back(session: Session, cursor: CoverageRow) -> None:
    """Let a coverage begin with the earliest of the covered days right before it; a gap that is filled then ends.

    A coverage that begins amid a day is extended to the day's begin first, if the whole day was published as history.

    The cursor is locked by the caller. Days whose rows are too old to be needed are deleted.
    """
    _delete_days(session, cursor, day_of(cursor.covered_until) - KEPT_DAYS * DAY)
    session.flush()
    query = select(HistoryDayRow.day).where(
        HistoryDayRow.airport == cursor.airport, HistoryDayRow.direction == cursor.direction, HistoryDayRow.covered
    )
    covered, begin = set(session.scalars(query)), cursor.covered_from
    if day_of(begin) in covered:
        begin = day_of(begin)
    while begin - DAY in covered:
        begin -= DAY
    if begin == cursor.covered_from:
        return
    if cursor.corrected_until is None:
        cursor.corrected_until = cursor.covered_from
    cursor.covered_from = begin
    if cursor.gap_from is not None and cursor.gap_until is not None:
        cursor.gap_until = min(cursor.gap_until, begin)
        if cursor.gap_until <= cursor.gap_from:
            cursor.gap_from = cursor.gap_until = None


def give_up_deleted_days(session: Session, cursor: CoverageRow, end: datetime) -> None:
    """Store the covered days before `end`, whose flights are being deleted, as days that are not asked for again.

    The stream still counts their flights: if they were published again for a new interest, it would count them twice.
    To be called before the coverage is cut off at `end`. Rows that are too old to be needed are deleted.
    """
    oldest = day_of(cursor.covered_until) - KEPT_DAYS * DAY
    _delete_days(session, cursor, oldest)
    session.execute(
        update(HistoryDayRow)
        .where(
            HistoryDayRow.airport == cursor.airport,
            HistoryDayRow.direction == cursor.direction,
            HistoryDayRow.day < end,
        )
        .values(covered=False, doubted_at=None)
    )
    day = max(day_of(cursor.covered_from), oldest)
    while day < min(end, cursor.covered_until):
        store_history_day(session, cursor.airport, cursor.direction, day, covered=False)
        day += DAY


def _delete_days(session: Session, cursor: CoverageRow, end: datetime) -> None:
    """Delete the rows of the cursor's airport and direction of days before `end`."""
    session.execute(
        delete(HistoryDayRow).where(
            HistoryDayRow.airport == cursor.airport,
            HistoryDayRow.direction == cursor.direction,
            HistoryDayRow.day < end,
        )
    )
