"""The collector of the settled record: one API call after another, and one transaction that stores each answer."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from collector.errors import BreakerOpenError, ConcurrentCollectionError, SourceError, SourceLimitedError
from collector.intervals import Interval, advance_corrected_until
from collector.leadership.terms import Term, begin_term, require_term
from collector.messages import encode_coverage_gap, encode_flights_observed
from collector.model import OUTBOX, CoverageRow, LastPollRow
from collector.settled.differences import compare_with_stored, find_missing
from collector.settled.duplicates import ToldFlight, merge_duplicates
from collector.settled.planner import ApiCall, build_plan, can_afford, compute_price, list_due_calls
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming, load_targets
from collector.settled.stored_flights import (
    insert_flights,
    load_flights_of_interval,
    load_stored_flights,
    update_flights,
)
from collector.sources.flight import Flight
from domain.interests import Direction

log = structlog.get_logger()


class FlightSource(Protocol):
    """A client of the source of flights, which also holds the credits that the source last reported.

    The collector sets `remaining_credits` to None before each fetch, so that an older report is not taken for new.
    """

    remaining_credits: int | None
    """Credits left today, as the source last reported; None: not reported since a caller last set None."""

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return all flights with an event time in [begin, end), possibly with duplicates. Raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class _Charge:
    """The credits that were charged to the quota for one API call, and the time of the charge."""

    credits: int
    at: datetime


class FlightCollector:
    """Collector of the intervals that are due: calls the source within the credit quota, stores and publishes flights.

    A leader begins a term, then collects in it any number of times. Of several collectors at once, only the one with
    the newest term can charge credits and store flights.
    """

    def __init__(
        self,
        database: Database,
        source: FlightSource,
        clock: Clock,
        timing: CollectionTiming,
        quota: QuotaStore,
        metrics: Metrics,
    ) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._timing = timing
        self._quota = quota
        self._stored = metrics.counter("flights_stored_total", "Flights stored and published", "direction")
        self._changed = metrics.counter("flights_changed_total", "Stored flights that the source changed", "direction")
        self._seconds = metrics.histogram("flight_data_processing_seconds", "Time to store one interval").labels()

    async def begin_term(self) -> Term:
        """Begin a new leader term; a collector with an earlier term can store nothing more.

        Raises DatabaseUnavailableError.
        """
        return await asyncio.to_thread(begin_term, self._database)

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Collect all intervals that are due and that the credits allow, of one airport or of all (None).

        If the source or the database is unavailable, that is logged, and the missing intervals stay due. If one
        interval fails, later intervals of the same airport and direction are skipped, other ones are not. If the
        credits are used up for now, the source requires a pause, or the circuit breaker is open, the remaining
        intervals stay due. Raises SupersededError.
        """
        try:
            await self._make_calls(term, await asyncio.to_thread(self._load_due_calls, airport))
        except DatabaseUnavailableError:
            log.warning("collection.without_database")

    async def _make_calls(self, term: Term, calls: list[ApiCall]) -> None:
        """Make the API calls in order, and stop at the first that the quota, the source or the breaker defers.

        Each call is charged first; a call that the source fails is refunded. After a failure (SourceError,
        ConcurrentCollectionError), which is logged, the target's later calls are skipped. If the quota defers a call
        that is no correction, the number of remaining calls is logged. Raises SupersededError,
        DatabaseUnavailableError.
        """
        failed: set[tuple[str, Direction]] = set()
        for number, call in enumerate(calls):
            target = call.interval.airport, call.interval.direction
            if target in failed:
                continue
            charge = await asyncio.to_thread(self._charge_and_record_poll, term, call)
            if charge is None:
                if not call.correction:
                    await asyncio.to_thread(self._log_deferred, calls[number:])
                return
            try:
                await self._collect_interval(term, call, charge)
            except SourceError as error:
                await asyncio.to_thread(self._refund_failed_call, charge, error)
                log.warning("collection.failed", airport=target[0], direction=target[1], reason=str(error))
                if isinstance(error, SourceLimitedError | BreakerOpenError):
                    return  # the next call would fail too
                failed.add(target)  # coverage has no holes
            except ConcurrentCollectionError as error:
                failed.add(target)
                log.warning("collection.failed", airport=target[0], direction=target[1], reason=str(error))

    def _load_due_calls(self, airport: str | None) -> list[ApiCall]:
        """Return the API calls that are due now for one airport or for all (None), in the order to make them in.

        Raises DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            return list_due_calls(load_targets(session, self._timing, now, airport), now, self._timing.poll_interval)

    def _charge_and_record_poll(self, term: Term, call: ApiCall) -> _Charge | None:
        """Charge the quota for one API call and record the time of the poll, before the call is made.

        Return None, and change nothing, if the credits or a pause of the source do not allow the call now. A crash
        after the charge may lose credits that were not used, but never spends a credit twice. Raises SupersededError,
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            balance = self._quota.load_balance(session, now)
            if balance.is_paused(now) or not can_afford(call, balance, now):
                return None
            charge = _Charge(compute_price(call.interval.begin, now), now)
            self._quota.charge(session, charge.credits, now)
            session.merge(
                LastPollRow(airport=call.interval.airport, direction=call.interval.direction.value, asked_at=now)
            )
        return charge

    def _refund_failed_call(self, charge: _Charge, error: SourceError) -> None:
        """Refund the charge of an API call that failed, and store the pause or the credits that the source reported.

        After a SourceLimitedError the pause is stored, after any other error the reported credits, if there are any. A
        charge of an earlier UTC day is not refunded. Raises DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            self._quota.refund(session, charge.credits, charge.at, now)
            if isinstance(error, SourceLimitedError):
                self._quota.store_pause(session, now + timedelta(seconds=error.retry_after_s), now)
            else:
                self._quota.reconcile_with_source(session, self._source.remaining_credits, charge.at, now)

    def _log_deferred(self, calls: list[ApiCall]) -> None:
        """Log how many API calls are deferred, how many credits are left, and the end of the pause or of the deferral.

        Raises DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            balance = self._quota.load_balance(session, now)
        until = balance.paused_until if balance.is_paused(now) else build_plan(calls, balance, now).deferred_until
        log.warning("collection.deferred", calls=len(calls), credits_left=balance.left, until=str(until))

    async def _collect_interval(self, term: Term, call: ApiCall, charge: _Charge) -> None:
        """Fetch the flights of one interval from the source, store and publish them, and count them in the metrics.

        Sets `remaining_credits` of the source to None first. The call is charged already. Raises SourceError,
        SupersededError, ConcurrentCollectionError, DatabaseUnavailableError.
        """
        interval = call.interval
        self._source.remaining_credits = None
        flights = await self._source.fetch_flights(interval.airport, interval.direction, interval.begin, interval.end)
        with self._seconds.time():
            stored, changed = await asyncio.to_thread(self._store_answer, term, call, flights, charge)
        self._stored.labels(direction=interval.direction.value).inc(stored)
        self._changed.labels(direction=interval.direction.value).inc(changed)

    def _store_answer(self, term: Term, call: ApiCall, flights: list[Flight], charge: _Charge) -> tuple[int, int]:
        """Store new and changed flights, advance the cursor and add the events to the outbox, in one transaction.

        Return the numbers of new and of changed flights. Only new flights are published; if there are none, a
        call that is no correction still publishes that its interval is covered. A correction whose answer lacks stored
        flights does not advance the cursor but marks the interval, for one more correction. The same transaction
        stores the credits that the source reported. Raises SupersededError, ConcurrentCollectionError,
        DatabaseUnavailableError.
        """
        interval, now = call.interval, self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            self._quota.reconcile_with_source(session, self._source.remaining_credits, charge.at, now)
            lock_cursor = _lock_cursor_for_correction if call.correction else _lock_cursor_for_collection
            cursor = lock_cursor(session, call)
            told = merge_duplicates(interval.direction, flights)
            diff = compare_with_stored(interval.direction, told, load_stored_flights(session, interval, told))
            insert_flights(session, interval, diff.new)
            update_flights(session, diff.changed)
            if diff.new or not call.correction:
                OUTBOX.add(
                    session,
                    encode_flights_observed(
                        interval.airport, interval.direction, interval.begin, interval.end, diff.new
                    ),
                )
            if call.correction and _should_repeat_correction(session, cursor, interval, told):
                cursor.incomplete_correction = interval.begin
            else:
                _advance_cursor(cursor, call, now, self._timing.corrections_after)
        return len(diff.new), len(diff.changed)


def _lock_cursor_for_collection(session: Session, call: ApiCall) -> CoverageRow:
    """Return the locked cursor of the call's target, unchanged since the call was planned; insert it if missing.

    A new cursor covers nothing yet. If the interval begins after the cursor, the range between is published as a gap,
    and the cursor is moved to the interval's begin, where coverage begins anew. Raises ConcurrentCollectionError if the
    cursor has changed.
    """
    interval = call.interval
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if cursor is None and call.expected_cursor is None:
        return _insert_cursor(session, interval)
    if cursor is None or cursor.covered_until != call.expected_cursor:
        raise ConcurrentCollectionError("another collector has stored this interval meanwhile")
    if cursor.covered_until < interval.begin:
        OUTBOX.add(
            session, [encode_coverage_gap(interval.airport, interval.direction, cursor.covered_until, interval.begin)]
        )
        cursor.covered_from = cursor.covered_until = cursor.corrected_until = interval.begin
    return cursor


def _insert_cursor(session: Session, interval: Interval) -> CoverageRow:
    """Insert and return the cursor of a target that was never collected: empty coverage at the interval's begin.

    Raises ConcurrentCollectionError if another collector has inserted one meanwhile.
    """
    cursor = CoverageRow(
        airport=interval.airport,
        direction=interval.direction.value,
        covered_from=interval.begin,
        covered_until=interval.begin,
        corrected_until=interval.begin,
    )
    session.add(cursor)
    try:
        session.flush()
    except IntegrityError:  # inserted by another collector at the same moment
        raise ConcurrentCollectionError("another collector has just begun with this airport") from None
    return cursor


def _lock_cursor_for_correction(session: Session, call: ApiCall) -> CoverageRow:
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


def _should_repeat_correction(
    session: Session, cursor: CoverageRow, interval: Interval, told: Sequence[ToldFlight]
) -> bool:
    """Return True if this is a correction's first answer and stored flights are missing from it, else False.

    An incomplete answer is stored all the same, and the correction is made once more. The second answer (the cursor's
    `incomplete_correction` is the interval's begin) stands, complete or not: the source removes some flights for good.
    """
    if cursor.incomplete_correction == interval.begin:
        return False
    return bool(find_missing(interval.direction, told, load_flights_of_interval(session, interval)))


def _advance_cursor(cursor: CoverageRow, call: ApiCall, now: datetime, corrections_after: timedelta) -> None:
    """Move the cursor to the end of the interval whose answer is stored: covered, or corrected if it is a correction.

    A call that is no correction sets `covered_until`; `corrected_until` follows only if the answer came
    `corrections_after` or more after the end of the day, late enough to need no correction, and no earlier interval
    needs one.
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
