"""The instant from which an interest is judged: the limits of what a request may set, and the default."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from collector.interest_requests import InterestRequest
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.model import CoverageRow
from domain.calendar import find_grid
from domain.interests import InterestError
from domain.windows import AlignedTo, Window, instant, seconds

OLDEST_LAST_DAY: Final = 2 * DAY
"""Age of the oldest day that a new interest begins with by default: just after midnight the last day whose arrivals
are known is the one before yesterday."""

FARTHEST_AHEAD: Final = timedelta(days=366)
"""The latest `effective_from` that is accepted, counted from the present."""


def check_effective_from(request: InterestRequest, now: datetime) -> None:
    """Raise InterestError if `effective_from` is before the day (UTC) 30 days ago or more than 366 days ahead.

    The limits are FARTHEST_BACK and FARTHEST_AHEAD. None (left out) is valid.
    """
    oldest = day_of(now - FARTHEST_BACK)
    if request.effective_from is not None and not oldest <= request.effective_from <= now + FARTHEST_AHEAD:
        raise InterestError(f"effective_from must be from {oldest:%Y-%m-%d} to a year ahead", "effective_from")


def find_last_collected_day(session: Session, request: InterestRequest, now: datetime) -> datetime:
    """Return the start (UTC) of the last day that is collected, at least in part, in every direction of the request.

    It is yesterday's if any of these directions was never collected. Never earlier than `OLDEST_LAST_DAY` before today:
    days of an airport that nobody had an interest in for weeks are not worth their credits. For windows by the
    airport's clock it is the start of the last day by that clock that is collected from its begin to its end. If there
    is none, it is the start of the UTC day, too, and the first whole day by the airport's clock after it is judged.
    """
    parts = [part.value for part in request.direction.parts]
    query = select(CoverageRow).where(CoverageRow.airport == request.airport, CoverageRow.direction.in_(parts))
    covered = session.scalars(query).all()
    if len(covered) < len(parts):
        return day_of(now) - DAY
    begin, end = max(row.covered_from for row in covered), min(row.covered_until for row in covered)
    last = day_of(end - timedelta(seconds=1))
    if request.aligned_to is AlignedTo.AIRPORT:
        grid = find_grid(request.airport, Window.ONE_DAY, AlignedTo.AIRPORT)
        own = instant(grid.find_begin(grid.find_number(seconds(end)) - 1))
        last = own if own >= begin else last
    return max(last, day_of(now) - OLDEST_LAST_DAY)
