"""Collection: one question after the other, and for each answer the one transaction that stores it and says so."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from collector.errors import BreakerOpenError, CollectedMeanwhileError, SourceError, SourceLimitedError
from collector.intervals import DAY, Interval, corrected_by
from collector.leadership.terms import Term, begin_term, require_term
from collector.messages import coverage_gap, flights_observed
from collector.model import OUTBOX, CoverageRow, FlightRow, TurnRow
from collector.settled.differences import FlightKey, Known, known_of, newest_versions, novelties
from collector.settled.planner import Call, calls_in_order, may_ask, planned, price
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing, flows_wanted
from collector.sources.opensky.client import Flight
from domain.interests import Direction

log = structlog.get_logger()


class Source(Protocol):
    """What a collection needs of the source of flights."""

    remaining_credits: int | None
    """What the source last said is left of the day's credits. Whoever asks may set it to None, to see who said it."""

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """All flights with an event time in [begin, end), perhaps more than once. Raises SourceError."""
        ...


@dataclass(frozen=True, slots=True)
class _Payment:
    """What was spent for one question, and when."""

    credits: int
    at: datetime


class Collection:
    """Collects what is due and what the credits allow. Of several at once, only the newest term's stores."""

    def __init__(
        self, database: Database, source: Source, clock: Clock, timing: Timing, ledger: Ledger, metrics: Metrics
    ) -> None:
        self._database = database
        self._source = source
        self._clock = clock
        self._timing = timing
        self._ledger = ledger
        self._stored = metrics.counter("flights_stored_total", "Flights stored and published", "direction")
        self._changed = metrics.counter("flights_changed_total", "Stored flights that the source changed", "direction")
        self._seconds = metrics.histogram("flight_data_processing_seconds", "Time to store one interval").labels()

    async def begin_term(self) -> Term:
        """Depose whoever collected before: nothing of theirs is stored from now on. Raises DatabaseAwayError."""
        return await asyncio.to_thread(begin_term, self._database)

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Collect all that is due and that the credits allow, of one airport or of all.

        Source or database away: it is logged, and what is missing stays due. Where one interval fails, the airport's
        later ones in this direction wait for it, but the other airports do not. Where the credits are at their end for
        now, or the source wants a pause, the rest stays due. Raises DeposedError.
        """
        try:
            await self._collect_in_order(term, await asyncio.to_thread(self._calls, airport))
        except DatabaseUnavailableError:
            log.warning("collection.without_database")

    async def _collect_in_order(self, term: Term, calls: list[Call]) -> None:
        failed: set[tuple[str, Direction]] = set()
        for number, call in enumerate(calls):
            flow = call.interval.airport, call.interval.direction
            if flow in failed:
                continue
            payment = await asyncio.to_thread(self._pay, term, call)
            if payment is None:
                if not call.correction:
                    await asyncio.to_thread(self._say_deferred, calls[number:])
                return
            try:
                await self._collect(term, call, payment)
            except SourceError as error:
                await asyncio.to_thread(self._take_back, payment, error)
                log.warning("collection.failed", airport=flow[0], direction=flow[1], reason=str(error))
                if isinstance(error, SourceLimitedError | BreakerOpenError):
                    return  # whoever is next would not be answered either
                failed.add(flow)  # coverage has no holes
            except CollectedMeanwhileError as error:
                failed.add(flow)
                log.warning("collection.failed", airport=flow[0], direction=flow[1], reason=str(error))

    def _calls(self, airport: str | None) -> list[Call]:
        now = self._clock.now()
        with self._database.reading() as session:
            return calls_in_order(flows_wanted(session, self._timing, now, airport), now, self._timing.poll_interval)

    def _pay(self, term: Term, call: Call) -> _Payment | None:
        """Spend the call's credits before the question is asked; None where the account does not allow it.

        So a crash may cost credits that were not used, and never spends one twice. Raises DeposedError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            account = self._ledger.account(session, now)
            if account.paused(now) or not may_ask(call, account, now):
                return None
            payment = _Payment(price(call.interval.begin, now), now)
            self._ledger.take(session, payment.credits, now)
            session.merge(TurnRow(airport=call.interval.airport, direction=call.interval.direction.value, asked_at=now))
        return payment

    def _take_back(self, payment: _Payment, error: SourceError) -> None:
        """A question without an answer costs nothing, unless the source says so; and it may want a pause."""
        now = self._clock.now()
        with self._database.transaction() as session:
            self._ledger.take_back(session, payment.credits, payment.at, now)
            if isinstance(error, SourceLimitedError):
                self._ledger.pause(session, now + timedelta(seconds=error.retry_after_s), now)
            else:
                self._ledger.learn(session, self._source.remaining_credits, payment.at, now)

    def _say_deferred(self, waiting: list[Call]) -> None:
        now = self._clock.now()
        with self._database.reading() as session:
            account = self._ledger.account(session, now)
        until = account.paused_until if account.paused(now) else planned(waiting, account, now).deferred_until
        log.warning("collection.deferred", calls=len(waiting), credits_left=account.left, until=str(until))

    async def _collect(self, term: Term, call: Call, payment: _Payment) -> None:
        interval = call.interval
        self._source.remaining_credits = None
        flights = await self._source.flights(interval.airport, interval.direction, interval.begin, interval.end)
        with self._seconds.time():
            stored, changed = await asyncio.to_thread(self._store, term, call, flights, payment)
        self._stored.labels(direction=interval.direction.value).inc(stored)
        self._changed.labels(direction=interval.direction.value).inc(changed)

    def _store(self, term: Term, call: Call, flights: list[Flight], payment: _Payment) -> tuple[int, int]:
        """Store what is new or changed, move the cursor and write the events, all or nothing. Returns how many of each.

        Raises DeposedError, CollectedMeanwhileError, DatabaseAwayError.
        """
        interval, now = call.interval, self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            self._ledger.learn(session, self._source.remaining_credits, payment.at, now)
            cursor = _at_correction(session, interval) if call.correction else _at_cursor(session, call)
            versions = newest_versions(flights)
            rows = _stored(session, interval, versions)
            found = novelties(interval.direction, versions, {key: known for key, (_, known) in rows.items()})
            if found.new:
                session.execute(insert(FlightRow), [_row(interval, flight) for flight in found.new])
            if found.changed:
                ids = [rows[flight.icao24, flight.first_seen][0] for flight in found.changed]
                session.execute(update(FlightRow), _changes(interval, ids, found.changed))
            if found.new or not call.correction:
                OUTBOX.add(
                    session,
                    flights_observed(interval.airport, interval.direction, interval.begin, interval.end, found.new),
                )
            if call.correction and _is_to_be_repeated(session, cursor, interval, versions):
                cursor.incomplete_correction = interval.begin
            else:
                _move(cursor, call, now, self._timing.corrections_after)
        return len(found.new), len(found.changed)


def _at_cursor(session: Session, call: Call) -> CoverageRow:
    """The locked cursor, which stands where it stood when the call was planned; new where there was none.

    Where the interval begins behind the cursor, what lies between is declared a gap, and coverage begins anew. Raises
    CollectedMeanwhileError.
    """
    interval = call.interval
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if cursor is None and call.cursor is None:
        return _new_cursor(session, interval)
    if cursor is None or cursor.covered_until != call.cursor:
        raise CollectedMeanwhileError("another collector has stored this interval meanwhile")
    if cursor.covered_until < interval.begin:
        OUTBOX.add(session, [coverage_gap(interval.airport, interval.direction, cursor.covered_until, interval.begin)])
        cursor.covered_from = cursor.covered_until = cursor.corrected_until = interval.begin
    return cursor


def _new_cursor(session: Session, interval: Interval) -> CoverageRow:
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
    except IntegrityError:  # made in the same instant
        raise CollectedMeanwhileError("another collector has just begun with this airport") from None
    return cursor


def _at_correction(session: Session, interval: Interval) -> CoverageRow:
    """The locked cursor, behind which the interval lies. Raises CollectedMeanwhileError."""
    cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
    if (
        cursor is None
        or not cursor.covered_from <= interval.begin < interval.end <= cursor.covered_until
        or (cursor.corrected_until is not None and cursor.corrected_until > interval.begin)
    ):
        raise CollectedMeanwhileError("another collector has corrected this interval, or declared it a gap, meanwhile")
    return cursor


def _is_to_be_repeated(
    session: Session, cursor: CoverageRow, interval: Interval, flights: Mapping[FlightKey, Flight]
) -> bool:
    """Whether the answer lacks flights that the source gave before, and is the first to do so.

    What it holds is stored all the same. A second answer stands as it is: some flights are taken back for good.
    """
    if cursor.incomplete_correction == interval.begin:
        return False
    present = FlightRow.first_seen if interval.direction is Direction.DEPARTURES else FlightRow.last_seen
    known = session.execute(
        select(FlightRow.icao24, FlightRow.first_seen).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.event_time.between(interval.begin - DAY, interval.end + DAY),  # for the index's sake
            present >= interval.begin,
            present < interval.end,
        )
    )
    return any((icao24, first_seen) not in flights for icao24, first_seen in known)


def _move(cursor: CoverageRow, call: Call, now: datetime, corrections_after: timedelta) -> None:
    interval = call.interval
    corrected_until = cursor.corrected_until or cursor.covered_from
    if call.correction:
        cursor.corrected_until = interval.end
    else:
        cursor.covered_until = interval.end
        cursor.corrected_until = corrected_by(corrected_until, interval.begin, interval.end, now, corrections_after)


def _stored(
    session: Session, interval: Interval, flights: Mapping[FlightKey, Flight]
) -> dict[FlightKey, tuple[int, Known]]:
    """Which of the flights are stored, with their rows' ids, and what is known of them."""
    if not flights:
        return {}
    begins = [first_seen for _, first_seen in flights]
    rows = session.execute(
        select(
            FlightRow.id,
            FlightRow.icao24,
            FlightRow.first_seen,
            FlightRow.last_seen,
            FlightRow.callsign,
            FlightRow.other_airport,
        ).where(
            FlightRow.airport == interval.airport,
            FlightRow.direction == interval.direction.value,
            FlightRow.icao24.in_({icao24 for icao24, _ in flights}),
            FlightRow.first_seen.between(min(begins), max(begins)),
        )
    )
    return {
        (row.icao24, row.first_seen): (row.id, Known(row.last_seen, row.callsign, row.other_airport))
        for row in rows
        if (row.icao24, row.first_seen) in flights
    }


def _row(interval: Interval, flight: Flight) -> dict[str, object]:
    return {
        "airport": interval.airport,
        "direction": interval.direction.value,
        "icao24": flight.icao24,
        "callsign": flight.callsign,
        "first_seen": flight.first_seen,
        "last_seen": flight.last_seen,
        "event_time": flight.event_time(interval.direction),
        "other_airport": flight.other_airport(interval.direction),
    }


def _changes(interval: Interval, ids: list[int], flights: tuple[Flight, ...]) -> list[dict[str, object]]:
    """By row; not the event time, which stays what was first published."""
    changes = []
    for row, flight in zip(ids, flights, strict=True):
        now_known = known_of(interval.direction, flight)
        changes.append(
            {
                "id": row,
                "last_seen": now_known.last_seen,
                "callsign": now_known.callsign,
                "other_airport": now_known.other_airport,
            }
        )
    return changes
