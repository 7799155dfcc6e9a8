"""The doubt about an answer without flights at a busy airport: it is believed only once it is given again."""

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Final

from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval
from collector.model import CoverageRow, FlightRow
from collector.settled.schedule import ASK_AGAIN_AFTER

BUSY_FLIGHTS_PER_DAY: Final = 5
"""Median of the last known days from which on an airport usually has traffic."""
_LAST_DAYS: Final = 7
"""Number of days, before the one in question, that are looked at."""


def is_usually_busy(flights_per_day: Sequence[int]) -> bool:
    """Return True if the median of the days' flights is BUSY_FLIGHTS_PER_DAY or more, False if less or without days."""
    return bool(flights_per_day) and median(flights_per_day) >= BUSY_FLIGHTS_PER_DAY


def doubt_empty_day(session: Session, cursor: CoverageRow, interval: Interval, now: datetime) -> bool:
    """Return True if an answer without flights must be asked for again before it is believed, False if it stands.

    It is doubted if it is of a whole day, the airport is usually busy in this direction, and no equal answer came at
    least ASK_AGAIN_AFTER before. The first doubt is stored with its time.
    """
    if cursor.doubted_day == interval.begin and cursor.doubted_at is not None:
        return now < cursor.doubted_at + ASK_AGAIN_AFTER
    if interval.end - interval.begin < DAY or not is_usually_busy(_count_last_days(session, cursor, interval)):
        return False
    cursor.doubted_day, cursor.doubted_at = interval.begin, now
    return True


def _count_last_days(session: Session, cursor: CoverageRow, interval: Interval) -> list[int]:
    """Return the number of flights on each of the last days before the interval that are wholly covered."""
    days = [interval.begin - back * DAY for back in range(1, _LAST_DAYS + 1)]
    known = [day for day in days if cursor.covered_from <= day and day + DAY <= cursor.covered_until]
    if not known:
        return []
    # SQLite keeps a text, to which MySQL's cast is alike: 2013-02-13 10:00:00.000000
    date = func.substr(cast(FlightRow.event_time, String(26)), 1, 10)
    query = (
        select(date, func.count())
        .where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.event_time >= min(known),
            FlightRow.event_time < interval.begin,
        )
        .group_by(date)
    )
    counted = {row[0]: row[1] for row in session.execute(query)}
    return [counted.get(f"{day:%Y-%m-%d}", 0) for day in known]
