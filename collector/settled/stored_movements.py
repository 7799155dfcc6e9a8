"""The table of live movements as the settled record uses it: load them, and store what becomes of them.

Each function runs in the caller's transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from collector.intervals import DAY, Interval
from collector.model import CoverageRow, LiveMovementRow, LiveOutcome
from collector.settled.reconciliation import MATCHED_WITHIN, LiveMovement, Reconciliation, Scope, reconcile
from collector.settled.stored_flights import load_published_flights
from collector.sources.flight import Flight
from domain.interests import Direction


def reconcile_record(
    session: Session,
    interval: Interval,
    cursor: CoverageRow,
    new: Sequence[Flight],
    *,
    decided: tuple[datetime, datetime] | None = None,
) -> Reconciliation:
    """Match the record's new flights of an interval with live movements, and store what becomes of the movements.

    The cursor is that of the interval, before or after it advanced. Nothing is decided about movements from before the
    settled coverage: there the record says nothing, and live stands. The new flights are not inserted yet. To be called
    in the transaction that publishes what is returned: what stands in the rows is what the stream knows.

    `decided`: the time about which is decided, of a day of history (`history_days.find_decided_time`); None: from the
    begin of the coverage to near its end.
    """
    decided_from, decided_until = decided or (
        cursor.covered_from,
        max(cursor.covered_until, interval.end) - MATCHED_WITHIN,
    )
    scope = Scope(decided_from=decided_from, decided_until=decided_until, end=interval.end)
    # A day earlier: movements that the last record left, and any that were published after it.
    movements = load_movements(
        session, interval.airport, interval.direction, interval.begin - DAY, interval.end + MATCHED_WITHIN
    )
    if not movements:
        return Reconciliation(added=tuple(new))
    published = load_published_flights(
        session,
        interval.airport,
        interval.direction,
        interval.begin - DAY - MATCHED_WITHIN,
        interval.end + MATCHED_WITHIN,
    )
    result = reconcile(interval.direction, new, published, movements, scope)
    store_outcomes(session, result)
    return result


def match_departures_of_today(session: Session, interval: Interval, new: Sequence[Flight]) -> Reconciliation:
    """Match new flights that come before the record with live movements, and mark these as matched.

    Nothing is retracted, because the source does not give all flights of today.
    """
    movements = load_movements(
        session,
        interval.airport,
        interval.direction,
        interval.begin - MATCHED_WITHIN,
        interval.end + MATCHED_WITHIN,
    )
    is_open = [each for each in movements if each.outcome is LiveOutcome.PUBLISHED]
    nothing = Scope(decided_from=interval.begin, decided_until=interval.begin, end=interval.begin)
    result = reconcile(interval.direction, new, (), is_open, nothing)
    store_outcomes(session, result)
    return result


def load_movements(
    session: Session, airport: str, direction: Direction, begin: datetime, end: datetime
) -> list[LiveMovement]:
    """Load the movements of an airport and direction with an event time in [begin, end), in their order."""
    rows = session.execute(
        select(LiveMovementRow.id, LiveMovementRow.icao24, LiveMovementRow.event_time, LiveMovementRow.outcome)
        .where(
            LiveMovementRow.airport == airport,
            LiveMovementRow.direction == direction.value,
            LiveMovementRow.event_time >= begin,
            LiveMovementRow.event_time < end,
        )
        .order_by(LiveMovementRow.event_time, LiveMovementRow.id)
    )
    return [LiveMovement(row.id, row.icao24, row.event_time, LiveOutcome(row.outcome)) for row in rows]


def store_outcomes(session: Session, result: Reconciliation) -> None:
    """Store what became of the movements: matched, also with a flight that was published by itself, or retracted."""
    found = [movement for _, movement in (*result.matched, *result.restored)]
    _store_outcome(session, LiveOutcome.MATCHED, [*found, *result.duplicates])
    _store_outcome(session, LiveOutcome.RETRACTED, result.retracted)


def _store_outcome(session: Session, outcome: LiveOutcome, movements: Iterable[LiveMovement]) -> None:
    """Store one outcome of several movements."""
    if changed := [{"id": movement.id, "outcome": outcome.value} for movement in movements]:
        session.execute(update(LiveMovementRow), changed)
