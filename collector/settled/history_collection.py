"""The collector of history: one API call after another for days before an airport's coverage, and their storage."""

import asyncio
from collections.abc import Sequence
from statistics import median

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import ConcurrentCollectionError, SourceError
from collector.intervals import DAY, Interval, day_of, split_by_days
from collector.leadership.terms import Term, require_term
from collector.messages import encode_flights_observed
from collector.model import OUTBOX, CoverageRow, FlightRow, LastPollRow
from collector.settled.differences import compare_with_stored
from collector.settled.doubts import BUSY_FLIGHTS_PER_DAY
from collector.settled.duplicates import ReportedFlight, merge_duplicates
from collector.settled.history import HistoryCall, is_proven_by, list_history_calls
from collector.settled.history_days import (
    HistoryDayRow,
    doubt_history_day,
    extend_coverage_back,
    find_decided_time,
    give_up_days,
    store_published_day,
)
from collector.settled.history_schedule import load_history
from collector.settled.record_watch import RecordWatch
from collector.settled.schedule import CollectionTiming, load_schedule
from collector.settled.source_calls import Answer, CallConditions, SourceCalls, is_useless_answer, stops_collection
from collector.settled.stored_flights import insert_flights, load_stored_flights, update_flights
from collector.settled.stored_movements import reconcile_record
from domain.interests import Direction

log = structlog.get_logger()

_DAYS_COMPARED = 7
"""Days after a day without flights whose flights are counted, to decide if that day is doubtful."""


class HistoryCollector:
    """Collector of the days before the coverage that interests in percent need, with the credits that are left over.

    Each call is about two days. They are stored and published newest first, so that the coverage grows back day by day.
    """

    def __init__(
        self, database: Database, calls: SourceCalls, watch: RecordWatch, clock: Clock, timing: CollectionTiming
    ) -> None:
        self._database = database
        self._calls = calls
        self._watch = watch
        self._clock = clock
        self._timing = timing

    async def collect(self, term: Term) -> None:
        """Make the calls for history that the credits of now allow, in the order of people's shares.

        Stops at the first call that the quota defers, or whose answer nothing proves. After a failure, which is logged,
        the target's later calls are skipped. Raises SourceError if the next call would fail as well, SupersededError,
        DatabaseUnavailableError.
        """
        skipped: set[tuple[str, Direction]] = set()
        for call in await asyncio.to_thread(self._load_calls):
            target = call.interval.airport, call.interval.direction
            if target in skipped:
                continue
            try:
                if not await self._make_call(term, call):
                    return
            except SourceError as error:
                log.warning("history.failed", airport=target[0], direction=target[1], reason=str(error))
                if stops_collection(error):
                    raise
                skipped.add(target)
                if is_useless_answer(error):
                    await asyncio.to_thread(self._defer_or_give_up, term, call.interval)
            except ConcurrentCollectionError as error:
                skipped.add(target)
                log.warning("history.failed", airport=target[0], direction=target[1], reason=str(error))

    def _load_calls(self) -> list[HistoryCall]:
        """Return the calls for history that may be made now, in their order. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            schedule = load_schedule(session, self._timing, now)
            history = load_history(session, schedule, now)
        return list_history_calls(history, schedule.targets, schedule.payments, now)

    async def _make_call(self, term: Term, call: HistoryCall) -> bool:
        """Make one call, have its days proven, and store them. Return False if no further call shall be made now.

        That is so if the quota defers the call, or if another airport must prove days or confirm an answer without
        flights, and does not: the source may have no flights for anybody now. Raises SourceError,
        ConcurrentCollectionError, SupersededError, DatabaseUnavailableError.
        """
        interval = call.interval
        conditions = CallConditions(call.reserved_credits, call.ahead_credits, call.bill)
        answer = await self._calls.fetch(term, interval, conditions)
        if answer is None:
            return False
        times = [flight.event_time(interval.direction) for flight in answer.flights]
        own = [day for day in call.unproven if is_proven_by(times, day)]
        left = [day for day in call.unproven if day not in own]
        days = list(split_by_days(interval.airport, interval.direction, interval.begin, interval.end))
        await asyncio.to_thread(self._watch.store_history_proof, term, interval, answer, own)
        is_fresh = False
        if left:
            proven = await self._watch.prove_history(term, interval, left, call.bill)
            is_fresh = bool(proven)
            left = [day for day in left if day not in proven]
        empty = [
            each.begin
            for each in days
            if each.begin not in left and not any(each.begin <= at < each.end for at in times)
        ]
        if empty and not is_fresh:
            is_fresh = bool(await self._watch.prove_history(term, interval, empty, call.bill))
            if not is_fresh:
                log.warning("history.zero_not_confirmed", airport=interval.airport, day=f"{empty[0]:%F}")
                await asyncio.to_thread(self._defer, term, interval)
                return False
        await asyncio.to_thread(
            self._store_answer, term, answer, [each for each in days[::-1] if each.begin not in left]
        )
        return bool(own) or is_fresh or not call.unproven

    def _store_answer(self, term: Term, answer: Answer, days: Sequence[Interval]) -> None:
        """Store and publish the flights of some days of an answer, newest day first, in one transaction.

        `days`: those that are proven. A day without flights at an airport that usually has some is doubted once, and
        asked for again some hours later. Raises ConcurrentCollectionError if a day is known by now, SupersededError,
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            if not days:
                return
            key = days[0].airport, days[0].direction.value
            cursor = session.get(CoverageRow, key, with_for_update=True)
            if cursor is None or any(_is_known(session, cursor, each) for each in days):
                raise ConcurrentCollectionError("another collector has stored these days of history meanwhile")
            reported = merge_duplicates(days[0].direction, answer.flights)
            for interval in days:
                at_day = [
                    each
                    for each in reported
                    if interval.begin <= each.flight.event_time(interval.direction) < interval.end
                ]
                if (
                    not at_day
                    and _is_busy_afterwards(session, cursor, interval)
                    and doubt_history_day(session, interval, now)
                ):
                    log.warning("history.empty_day_doubted", airport=key[0], day=f"{interval.begin:%F}")
                else:
                    _store_day(session, cursor, interval, at_day)
        log.info("history.stored", airport=key[0], direction=key[1], day=f"{days[-1].begin:%F}", days=len(days))

    def _defer_or_give_up(self, term: Term, interval: Interval) -> None:
        """Store that an answer could not be counted: the days are given up, or asked for again some hours later.

        They are given up only while other answers can be counted, because the source's format may have changed. Raises
        SupersededError, DatabaseUnavailableError.
        """
        if not self._watch.has_answer(self._clock.now()):
            self._defer(term, interval)
            return
        with self._database.transaction() as session:
            require_term(session, term)
            give_up_days(session, interval)
        log.warning("history.given_up", airport=interval.airport, day=f"{interval.begin:%F}")

    def _defer(self, term: Term, interval: Interval) -> None:
        """Store that history of the interval's airport and direction is asked for again some hours later.

        Raises SupersededError, DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            row = session.get(LastPollRow, (interval.airport, interval.direction.value), with_for_update=True)
            if row is not None:
                row.uncounted_begin, row.uncounted_at = interval.begin, now


def _is_known(session: Session, cursor: CoverageRow, interval: Interval) -> bool:
    """Return True if a day is within the coverage, or need not be asked for; else False."""
    row = session.get(HistoryDayRow, (cursor.airport, cursor.direction, interval.begin))
    return interval.begin >= cursor.covered_from or (row is not None and row.doubted_at is None)


def _is_busy_afterwards(session: Session, cursor: CoverageRow, interval: Interval) -> bool:
    """Return True if the airport usually has flights on the days after an interval: then a day without is doubtful.

    The next days that the coverage holds are counted; False if it holds none.
    """
    begin = max(interval.end, day_of(cursor.covered_from))
    days = [begin + number * DAY for number in range(_DAYS_COMPARED)]
    counts = [
        session.scalar(
            select(func.count())
            .select_from(FlightRow)
            .where(
                FlightRow.airport == cursor.airport,
                FlightRow.direction == cursor.direction,
                FlightRow.event_time >= day,
                FlightRow.event_time < day + DAY,
            )
        )
        or 0
        for day in days
        if day + DAY <= cursor.covered_until
    ]
    return bool(counts) and median(counts) >= BUSY_FLIGHTS_PER_DAY


def _store_day(session: Session, cursor: CoverageRow, interval: Interval, reported: Sequence[ReportedFlight]) -> None:
    """Store the flights of one day before the coverage, publish the day as covered, and extend the coverage if it can.

    As with a day that is collected when it is due, only new flights are published, and live movements that the record
    does not have are retracted. The cursor is locked by the caller.
    """
    direction = interval.direction
    diff = compare_with_stored(direction, reported, load_stored_flights(session, interval, reported))
    decided = find_decided_time(session, cursor, interval)
    result = reconcile_record(session, interval, cursor, diff.new, decided=decided)
    insert_flights(session, interval, diff.new, result.event_times)
    update_flights(session, diff.changed)
    OUTBOX.add(
        session,
        encode_flights_observed(
            interval.airport,
            direction,
            interval.begin,
            interval.end,
            result.list_published(direction),
            covered_from=interval.begin,
            retracted=result.taken_back,
            history=True,
        ),
    )
    store_published_day(session, cursor, interval.begin)
    extend_coverage_back(session, cursor)
