"""The doubt about empty answers: an answer without flights for a busy airport is stored only if it comes twice.

An empty answer for a day with stored flights, to a correction, is never stored: it is asked for on the next days.
"""

from collections.abc import Sequence
from datetime import datetime
from statistics import median
from typing import Final

from sqlalchemy import String, cast, func, select
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval
from collector.model import CoverageRow, FlightRow
from collector.settled.evidence import JITTER
from collector.settled.schedule import ASK_AGAIN_AFTER
from collector.settled.stored_flights import load_flights_of_interval
from collector.settled.stored_movements import load_movements

BUSY_FLIGHTS_PER_DAY: Final = 5
"""An airport is usually busy if the median of its flights per day, over the last days, is this number or more."""
_DAYS_COMPARED: Final = 7
"""Number of days before the empty one of which the flights are counted."""


def is_usually_busy(flights_per_day: Sequence[int]) -> bool:
    """Return True if the median is BUSY_FLIGHTS_PER_DAY or more, False if it is less or there is no day."""
    return bool(flights_per_day) and median(flights_per_day) >= BUSY_FLIGHTS_PER_DAY


def doubt_empty_day(session: Session, cursor: CoverageRow, interval: Interval, now: datetime) -> bool:
    """Decide whether an answer without flights is doubted, and store the time of the first doubt in the cursor.

    Return True if the interval must be asked for again before the answer is stored, False if the answer is accepted. It
    is doubted if it is about a whole day and the airport is usually busy in this direction, or was busy on that day, as
    far as it was seen live; it is accepted if the first empty answer for that day came ASK_AGAIN_AFTER or more before
    `now`.
    """
    if cursor.doubted_day == interval.begin and cursor.doubted_at is not None:
        return now < cursor.doubted_at + ASK_AGAIN_AFTER - JITTER
    if interval.end - interval.begin < DAY:
        return False
    seen_live = len(load_movements(session, interval.airport, interval.direction, interval.begin, interval.end))
    if seen_live < BUSY_FLIGHTS_PER_DAY and not is_usually_busy(_count_flights_per_day(session, cursor, interval)):
        return False
    cursor.doubted_day, cursor.doubted_at = interval.begin, now
    return True


def doubt_empty_correction(session: Session, cursor: CoverageRow, interval: Interval, now: datetime) -> bool:
    """Decide whether a correction's answer without flights is doubted, and store the time of the doubt in the cursor.

    Return True if flights of the interval are stored: it is asked for again a day later, as long as corrections of that
    day are made at all (`CORRECTION_EXPIRES_AFTER`), because an outage may last longer than any fixed number of
    answers. Return False if the day had no flights.
    """
    if not load_flights_of_interval(session, interval):
        return False
    cursor.doubted_day, cursor.doubted_at = interval.begin, now
    return True


def _count_flights_per_day(session: Session, cursor: CoverageRow, interval: Interval) -> list[int]:
    """Return the number of flights on each of the last days before the interval, at most _DAYS_COMPARED.

    The newest day comes first. Days that are not covered from midnight to midnight are left out; if that leaves none,
    because a gap is behind the cursor, the days on which there were flights are returned.
    """
    days = [interval.begin - back * DAY for back in range(1, 2 * _DAYS_COMPARED + 1)]
    # SQLite stores a text, and MySQL's cast gives the same form: 2013-02-13 10:00:00.000000
    date = func.substr(cast(FlightRow.event_time, String(26)), 1, 10)
    query = (
        select(date, func.count())
        .where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.event_time >= min(days),
            FlightRow.event_time < interval.begin,
        )
        .group_by(date)
    )
    counted = {row[0]: row[1] for row in session.execute(query)}
    flights = {day: counted.get(f"{day:%Y-%m-%d}", 0) for day in days}
    covered = [day for day in days if cursor.covered_from <= day and day + DAY <= cursor.covered_until]
    return [flights[day] for day in covered or days if covered or flights[day]][:_DAYS_COMPARED]
