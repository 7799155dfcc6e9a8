"""Queries for the planner: which airports and directions have interests, and how far each is collected."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.intervals import SourceLags, compute_available_until, compute_next_begin, find_due_correction
from collector.model import CoverageRow, InterestRow, LastPollRow
from collector.settled.planner import CollectionTarget
from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class CollectionTiming:
    """The settings that decide when an interval is due."""

    lags: SourceLags
    poll_interval: timedelta
    """Time between two scheduled collections, on the service's clock."""
    corrections_after: timedelta
    """Time after the end of a day at which that day is collected a second time; 0: never."""


def load_targets(
    session: Session, timing: CollectionTiming, now: datetime, airport: str | None = None
) -> list[CollectionTarget]:
    """Return every airport and direction that has an interest, with what is due for it at `now`; in no order.

    Of one airport, or of all if `airport` is None. An interest in both directions makes two targets.
    """
    coverage = {(row.airport, row.direction): row for row in session.scalars(select(CoverageRow))}
    polls = {(row.airport, row.direction): row.asked_at for row in session.scalars(select(LastPollRow))}
    targets = []
    for (icao, direction), (interests, effective_from) in _load_interest_counts(session, airport).items():
        row = coverage.get((icao, direction.value))
        targets.append(
            CollectionTarget(
                airport=icao,
                direction=direction,
                interests=interests,
                next_begin=compute_next_begin(row.covered_until if row else None, effective_from, now),
                available_until=compute_available_until(direction, now, timing.lags),
                covered_until=row.covered_until if row else None,
                correction=_find_correction(row, timing, now) if row else None,
                polled_at=polls.get((icao, direction.value)),
            )
        )
    return targets


def _find_correction(row: CoverageRow, timing: CollectionTiming, now: datetime) -> tuple[datetime, datetime] | None:
    """Return the oldest interval (begin, end) of this coverage that is due for a correction, or None if none is due."""
    return find_due_correction(
        max(row.corrected_until or row.covered_from, row.covered_from), row.covered_until, now, timing.corrections_after
    )


def _load_interest_counts(session: Session, airport: str | None) -> dict[tuple[str, Direction], tuple[int, datetime]]:
    """Return, by airport and direction, the number of interests and their earliest `effective_from`.

    Of one airport, or of all (None); a direction without interests is left out. An interest in both directions
    counts for each of them.
    """
    query = select(
        InterestRow.airport, InterestRow.direction, func.count(), func.min(InterestRow.effective_from)
    ).group_by(InterestRow.airport, InterestRow.direction)
    if airport is not None:
        query = query.where(InterestRow.airport == airport)
    groups: defaultdict[tuple[str, Direction], list[tuple[int, datetime]]] = defaultdict(list)
    for icao, direction, interests, effective_from in session.execute(query):
        for part in Direction(direction).parts:
            groups[icao, part].append((interests, effective_from))
    return {
        key: (sum(interests for interests, _ in group), min(effective_from for _, effective_from in group))
        for key, group in groups.items()
    }
