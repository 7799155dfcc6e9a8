"""The cursors of airports and directions: where coverage begins, advances or has a gap, and unheard airports.

Each function runs in the caller's transaction. Only the collector with the newest leader term calls them, in one
transaction at a time.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from collector.errors import ConcurrentCollectionError
from collector.intervals import Interval, advance_corrected_until
from collector.messages import encode_coverage_gap, encode_flights_observed
from collector.model import OUTBOX, CoverageRow, UnheardRow
from collector.settled.agreement import store_agreement
from collector.settled.differences import find_missing
from collector.settled.duplicates import ReportedFlight
from collector.settled.history_days import give_up_days, keep_days_before_gap
from collector.settled.planner import ApiCall
from collector.settled.stored_flights import load_flights_of_interval
from collector.settled.stored_movements import reconcile_record
from collector.sources.flight import Flight
from collector.unheard import delete_notice_marks, notify_unheard
from domain.interests import Direction


def lock_cursor_for_collection(
    session: Session, call: ApiCall, flights: Sequence[Flight], now: datetime
) -> CoverageRow | None:
    """Return the locked cursor of the call's target, unchanged since the call was planned; insert it if missing.

    A new cursor covers nothing yet. If the interval begins after the cursor, the range between is published as a gap,
    and the cursor is moved to the interval's begin, where coverage begins anew. `flights`: those of the answer.

    Returns None if the airport is still unheard at the interval's end: nothing is covered, and its users are notified.
    Raises ConcurrentCollectionError if the cursor has changed.
    """
    interval = call.interval
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if cursor is None:
        return _begin_coverage(session, call, flights, now)
    if cursor.covered_until != call.expected_cursor:
        raise ConcurrentCollectionError("another collector has stored this interval meanwhile")
    if cursor.covered_until < interval.begin:
        _declare_gap(session, cursor, interval, interval.begin)
    return cursor


def give_up_interval(session: Session, call: ApiCall) -> None:
    """Move the cursor of the call's target to the interval's end: the source gives no answer that can be counted.

    Published as a gap if anything is covered before it. An airport that has no coverage yet stays without: the days
    asked for begin anew, and whatever was asked before says nothing of it any more. Raises ConcurrentCollectionError if
    the cursor has changed.
    """
    interval = call.interval
    key = interval.airport, interval.direction.value
    cursor = session.get(CoverageRow, key, with_for_update=True)
    unheard = None if cursor is not None else session.get(UnheardRow, key, with_for_update=True)
    present = cursor.covered_until if cursor is not None else unheard.asked_until if unheard is not None else None
    if present != call.expected_cursor:
        raise ConcurrentCollectionError("another collector has stored this interval meanwhile")
    if cursor is not None:
        _declare_gap(session, cursor, interval, interval.end)
        give_up_days(session, interval)
        return
    if unheard is None:
        unheard = UnheardRow(airport=interval.airport, direction=interval.direction.value)
        session.add(unheard)
    unheard.since = unheard.asked_until = interval.end


def _declare_gap(session: Session, cursor: CoverageRow, interval: Interval, end: datetime) -> None:
    """Publish the range from the end of the coverage to `end` as a gap, after which coverage begins anew."""
    OUTBOX.add(session, [encode_coverage_gap(interval.airport, interval.direction, cursor.covered_until, end)])
    keep_days_before_gap(session, cursor)
    cursor.gap_from, cursor.gap_until = cursor.covered_until, end
    cursor.covered_from = cursor.covered_until = cursor.corrected_until = end


def _begin_coverage(session: Session, call: ApiCall, flights: Sequence[Flight], now: datetime) -> CoverageRow | None:
    """Insert and return the first cursor of a target: empty coverage at the instant from which its airport is heard.

    That instant is the interval's begin if the answer has flights and no earlier interval was asked for. Otherwise it
    is the earliest flight of the answer or begin of coverage in the other direction, but not before the interval's
    begin. Returns None if there is no such instant before the interval's end: then the interval is stored as asked for
    at an unheard airport. Raises ConcurrentCollectionError if another collector has stored this interval or this
    cursor.
    """
    interval = call.interval
    unheard = session.get(UnheardRow, (interval.airport, interval.direction.value), with_for_update=True)
    if (unheard.asked_until if unheard else None) != call.expected_cursor:
        raise ConcurrentCollectionError("another collector has stored this interval meanwhile")
    times = [flight.event_time(interval.direction) for flight in flights]
    heard_elsewhere = session.scalars(
        select(CoverageRow.covered_from).where(CoverageRow.airport == interval.airport)
    ).all()
    heard_from = min([*times, *heard_elsewhere], default=None)
    if heard_from is None or heard_from >= interval.end:
        _store_unheard(session, interval, unheard, now)
        return None
    begin = interval.begin if times and unheard is None else max(interval.begin, heard_from)
    if unheard is not None:
        session.delete(unheard)
    cursor = _insert_cursor(session, interval.airport, interval.direction, begin)
    _cover_other_direction(session, interval, begin)
    return cursor


def _store_unheard(session: Session, interval: Interval, unheard: UnheardRow | None, now: datetime) -> None:
    """Store that an interval was asked for at an unheard airport, and notify its users who were not notified yet."""
    if unheard is None:
        unheard = UnheardRow(
            airport=interval.airport,
            direction=interval.direction.value,
            since=interval.begin,
            asked_until=interval.end,
        )
        session.add(unheard)
    if unheard.asked_until < interval.begin:  # the days between were not asked for: nothing is known of them
        unheard.since = interval.begin
    unheard.asked_until = interval.end
    session.flush()
    notify_unheard(session, interval.airport, now)


def _cover_other_direction(session: Session, interval: Interval, begin: datetime) -> None:
    """Cover the other direction of an airport that is heard from `begin` on, up to the last interval asked for.

    Its answers had no flights; from `begin` on this means that there were none: an empty coverage is published, and
    movements that were published live are retracted. The marks of notified users are deleted, because the airport is
    not unheard any more.
    """
    delete_notice_marks(session, airport=interval.airport)
    for part in Direction.BOTH.parts:
        row = session.get(UnheardRow, (interval.airport, part.value), with_for_update=True)
        if row is None or row.asked_until <= begin:
            continue
        covered_from = max(row.since, begin)
        cursor = _insert_cursor(session, interval.airport, part, covered_from)
        cursor.covered_until = row.asked_until
        covered = Interval(interval.airport, part, covered_from, row.asked_until)
        retracted = reconcile_record(session, covered, cursor, ()).taken_back
        OUTBOX.add(
            session,
            encode_flights_observed(interval.airport, part, covered_from, row.asked_until, (), retracted=retracted),
        )
        store_agreement(session, covered, cursor)
        session.delete(row)


def _insert_cursor(session: Session, airport: str, direction: Direction, begin: datetime) -> CoverageRow:
    """Insert and return a cursor: empty coverage at `begin`.

    Raises ConcurrentCollectionError if another collector has inserted one meanwhile.
    """
    cursor = CoverageRow(
        airport=airport, direction=direction.value, covered_from=begin, covered_until=begin, corrected_until=begin
    )
    session.add(cursor)
    try:
        session.flush()
    except IntegrityError:  # inserted by another collector at the same moment
        raise ConcurrentCollectionError("another collector has just begun with this airport") from None
    return cursor


def lock_cursor_for_correction(session: Session, call: ApiCall) -> CoverageRow:
    """Return the locked cursor of the call's target, whose coverage holds the interval.

    Raises ConcurrentCollectionError if the interval is not covered any more, or was corrected already.
    """
    interval = call.interval
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if (
        cursor is None
        or not cursor.covered_from <= interval.begin < interval.end <= cursor.covered_until
        or (cursor.corrected_until is not None and cursor.corrected_until > interval.begin)
    ):
        raise ConcurrentCollectionError(
            "another collector has corrected this interval, or declared it a gap, meanwhile"
        )
    return cursor


def should_repeat_correction(
    session: Session, cursor: CoverageRow, interval: Interval, reported: Sequence[ReportedFlight]
) -> bool:
    """Return True if this is a correction's first answer and stored flights are missing from it, else False.

    An incomplete answer is stored all the same, and the correction is made once more. The second answer (the cursor's
    `incomplete_correction` is the interval's begin) is final, complete or not: the source deletes some flights.
    """
    if cursor.incomplete_correction == interval.begin:
        return False
    return bool(find_missing(interval.direction, reported, load_flights_of_interval(session, interval)))


def advance_cursor(cursor: CoverageRow, call: ApiCall, now: datetime, corrections_after: timedelta) -> None:
    """Move the cursor to the end of the interval whose answer is stored: covered, or corrected if it is a correction.

    A call that is no correction sets `covered_until`; `corrected_until` follows only if the answer came
    `corrections_after` or more after the end of the day, late enough to need no correction, and no earlier interval
    needs one. A doubt about the interval ends.
    """
    interval = call.interval
    corrected_until = cursor.corrected_until or cursor.covered_from
    if call.correction:
        cursor.corrected_until = interval.end
    else:
        cursor.covered_until = interval.end
        cursor.corrected_until = advance_corrected_until(
            corrected_until, interval.begin, interval.end, now, corrections_after
        )
    if cursor.doubted_day is not None and interval.begin <= cursor.doubted_day < interval.end:
        cursor.doubted_day = cursor.doubted_at = None
