"""What is wanted and how far it is collected, read from the database for the planner."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from collector.intervals import Lags, correction_due, known_until, resumption
from collector.model import CoverageRow, InterestRow, TurnRow
from collector.settled.planner import Flow
from domain.interests import Direction


@dataclass(frozen=True, slots=True)
class Timing:
    """When to collect what."""

    lags: Lags
    poll_interval: timedelta
    """Between two scheduled collections, on the service's clock."""
    corrections_after: timedelta
    """So long after its end a day is collected once more; 0: never."""


def flows_wanted(session: Session, timing: Timing, now: datetime, airport: str | None = None) -> list[Flow]:
    """Every airport and direction that somebody wants, of one airport or of all."""
    covered = {(row.airport, row.direction): row for row in session.scalars(select(CoverageRow))}
    turns = {(row.airport, row.direction): row.asked_at for row in session.scalars(select(TurnRow))}
    flows = []
    for (icao, direction), (interests, wanted_from) in _wanted(session, airport).items():
        row = covered.get((icao, direction.value))
        flows.append(
            Flow(
                airport=icao,
                direction=direction,
                interests=interests,
                begin=resumption(row.covered_until if row else None, wanted_from, now),
                until=known_until(direction, now, timing.lags),
                cursor=row.covered_until if row else None,
                correction=_correction(row, timing, now) if row else None,
                asked_at=turns.get((icao, direction.value)),
            )
        )
    return flows


def _correction(row: CoverageRow, timing: Timing, now: datetime) -> tuple[datetime, datetime] | None:
    return correction_due(
        max(row.corrected_until or row.covered_from, row.covered_from), row.covered_until, now, timing.corrections_after
    )


def _wanted(session: Session, airport: str | None) -> dict[tuple[str, Direction], tuple[int, datetime]]:
    """By airport and collected direction: how many interests, and the earliest instant that one is effective from."""
    query = select(
        InterestRow.airport, InterestRow.direction, func.count(), func.min(InterestRow.effective_from)
    ).group_by(InterestRow.airport, InterestRow.direction)
    if airport is not None:
        query = query.where(InterestRow.airport == airport)
    wanted: defaultdict[tuple[str, Direction], list[tuple[int, datetime]]] = defaultdict(list)
    for icao, direction, interests, effective_from in session.execute(query):
        for part in Direction(direction).parts:
            wanted[icao, part].append((interests, effective_from))
    return {
        key: (sum(interests for interests, _ in each), min(instant for _, instant in each))
        for key, each in wanted.items()
    }
