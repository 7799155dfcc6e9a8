"""The collector of the settled record: one API call after another, and one transaction that stores each answer."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

import structlog
from sqlalchemy.orm import Session

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics
from collector.errors import ConcurrentCollectionError, SourceError
from collector.intervals import Interval, day_of
from collector.leadership.terms import Term, begin_term, require_term
from collector.messages import encode_flights_observed, encode_partial_flights
from collector.model import OUTBOX, CoverageRow, LastPollRow, LiveOutcome
from collector.settled.agreement import store_agreement
from collector.settled.cursors import (
    advance_cursor,
    give_up_interval,
    lock_cursor_for_collection,
    lock_cursor_for_correction,
    should_repeat_correction,
)
from collector.settled.differences import compare_with_stored
from collector.settled.doubts import doubt_empty_correction, doubt_empty_day
from collector.settled.duplicates import merge_duplicates
from collector.settled.evidence import DEFAULT_BEACONS, GIVE_UP_AFTER, JITTER, EvidenceCall
from collector.settled.failing_airports import FailingTargets, RecordKey
from collector.settled.history_collection import HistoryCollector
from collector.settled.planner import (
    RECENT_AGE,
    RECENT_PRICE,
    ApiCall,
    CollectionTarget,
    build_plan,
    choose_calls_of_airport,
    list_due_calls,
)
from collector.settled.quota import QuotaStore
from collector.settled.reconciliation import Reconciliation
from collector.settled.record_watch import RecordWatch
from collector.settled.schedule import ASK_AGAIN_AFTER, CollectionTiming, load_schedule
from collector.settled.source_calls import (
    Answer,
    CallConditions,
    Charge,
    FlightSource,
    SourceCalls,
    is_useless_answer,
    stops_collection,
)
from collector.settled.stored_flights import insert_flights, load_stored_flights, update_flights
from collector.settled.stored_movements import match_departures_of_today, reconcile_record
from domain.interests import Direction

log = structlog.get_logger()


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
        beacons: Sequence[str] = DEFAULT_BEACONS,
        live_credits_per_day: int = 0,
    ) -> None:
        """`beacons`: ICAO codes of large airports that prove the record of a day if no watched airport does.

        `live_credits_per_day`: credits that may be spent a day (UTC) on departures of the day itself.
        """
        self._database = database
        self._clock = clock
        self._timing = timing
        self._quota = quota
        self._live_credits = live_credits_per_day
        self._calls = SourceCalls(database, source, clock, quota)
        self._watch = RecordWatch(database, self._calls, clock, timing, beacons)
        self._failing = FailingTargets()
        self._history = HistoryCollector(database, self._calls, self._watch, clock, timing)
        self._stored = metrics.counter("flights_stored_total", "Flights stored and published", "direction")
        self._changed = metrics.counter("flights_changed_total", "Stored flights that the source changed", "direction")
        self._settled = metrics.counter(
            "live_movements_settled_total",
            "Live movements that the record has (matched), and that were taken back (retracted)",
            "direction",
            "outcome",
        )
        self._seconds = metrics.histogram("flight_data_processing_seconds", "Time to store one interval").labels()

    async def begin_term(self) -> Term:
        """Begin a new leader term; a collector with an earlier term can store nothing more.

        Raises DatabaseUnavailableError.
        """
        return await asyncio.to_thread(begin_term, self._database)

    async def collect(self, term: Term, airport: str | None = None) -> None:
        """Collect all intervals that are due and that the credits allow, of one airport or of all (None).

        Also makes the evidence calls that are due: those at the price of recent flights first, the others in the order
        of people's shares; their answers may make more intervals due. Polls departures of today at the end, and of all
        airports asks for the history that interests in percent need. If the
        source or the database is unavailable, that is logged, and the missing intervals stay due. If one interval
        fails, later intervals of the same airport and direction are skipped, other ones are not. If the credits are
        used up for now, the source requires a pause, the circuit breaker is open, or our clock is wrong, the rest stays
        due. Raises SupersededError.
        """
        try:
            await self._watch.check_recent_records(term)
            asked: set[RecordKey] = set()
            while await self._collect_due(term, airport, asked):
                pass
            await self._poll_departures_of_today(term, airport)
            if airport is None:  # a request for one airport is about what is due there
                await self._history.collect(term)
        except DatabaseUnavailableError:
            log.warning("collection.without_database")
        except SourceError:
            return  # logged already; the next call would fail, too

    async def _collect_due(self, term: Term, airport: str | None, asked: set[RecordKey]) -> bool:
        """Make the API calls that are due in order, and stop at the first that the quota defers.

        Return True if the answer to an evidence call may have made more calls due. `asked`: the records that were asked
        for, each once at most; those of this run are added. Stops also at an empty answer that is not confirmed. After
        a failure (SourceError, ConcurrentCollectionError), which is logged, and after an answer that does not move the
        cursor, the target's later calls are skipped. If the quota defers a call, the number of remaining calls is
        logged. Raises SourceError if the next call would fail as well, SupersededError, DatabaseUnavailableError.
        """
        calls = await asyncio.to_thread(self._load_due_calls, airport, asked)
        is_answered = False
        skipped: set[tuple[str, Direction]] = set()
        for number, call in enumerate(calls):
            target = call.interval.airport, call.interval.direction
            if target in skipped:
                continue
            conditions = CallConditions(call.reserved_credits, call.ahead_credits, call.bill)
            try:
                if call.record is not None:
                    asked.add(call.record.key)
                    if not await self._watch.make_old_call(term, EvidenceCall(call.record, target[0]), conditions):
                        await asyncio.to_thread(self._log_deferred, calls[number:])
                        return False
                    is_answered = True
                    continue
                answer = await self._calls.fetch(term, call.interval, conditions, partial(_record_poll, call.interval))
                if answer is None:
                    await asyncio.to_thread(self._log_deferred, calls[number:])
                    return False
                self._failing.add_answer(target)
                if _needs_confirmation(call, answer) and not await self._watch.confirm_zero(
                    term, call.interval, call.bill
                ):
                    log.warning("collection.zero_not_confirmed", airport=target[0], day=f"{call.interval.begin:%F}")
                    return False  # the source may have no flights for anybody now
                if not await asyncio.to_thread(self._store_answer, term, call, answer):
                    skipped.add(target)
            except SourceError as error:
                log.warning("collection.failed", airport=target[0], direction=target[1], reason=str(error))
                if stops_collection(error):
                    raise
                if call.record is None:
                    skipped.add(target)  # coverage has no holes
                    is_useless = is_useless_answer(error)
                    now = self._clock.now()
                    is_outage = not self._watch.has_answer(now)
                    if self._failing.add_failure(target, now, is_outage=is_outage) or is_useless:
                        await asyncio.to_thread(self._defer_or_give_up, term, call, is_useless=is_useless)
            except ConcurrentCollectionError as error:
                skipped.add(target)
                log.warning("collection.failed", airport=target[0], direction=target[1], reason=str(error))
        return is_answered

    def _load_due_calls(self, airport: str | None, asked: set[RecordKey]) -> list[ApiCall]:
        """Return the API calls that are due now for one airport or for all (None), in the order to make them in.

        Not more than the credits of today may pay for. Evidence calls for a record of `asked` are left out, and targets
        whose last answer could not be counted, for some hours. Raises DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            schedule = load_schedule(session, self._timing, now)
            left = self._quota.load_balance(session, now).left
        evidence = [call for call in self._watch.list_old_calls(schedule, now) if call.record.key not in asked]
        targets = [target for target in schedule.targets if not _must_wait(target, now)]
        calls = list_due_calls(targets, now, schedule.payments, evidence, left)
        return calls if airport is None else choose_calls_of_airport(calls, airport)

    def _defer_or_give_up(self, term: Term, call: ApiCall, *, is_useless: bool) -> None:
        """Ask the call's target again some hours later if its answer cannot be counted (`is_useless`).

        If the interval is as old as a day whose record is given up, this is the source's last word, as is a failure
        that has lasted for days, and the interval becomes a gap: but only while other answers can be counted, because
        of an outage, or because the source's format may have changed. Raises SupersededError, DatabaseUnavailableError.
        """
        interval, now = call.interval, self._clock.now()
        is_old = not call.correction and now >= interval.end + GIVE_UP_AFTER
        with self._database.transaction() as session, suppress(ConcurrentCollectionError):
            require_term(session, term)
            key = {"airport": interval.airport, "direction": interval.direction.value}
            if is_useless:
                session.merge(LastPollRow(**key, asked_at=now, uncounted_begin=interval.begin, uncounted_at=now))
            if is_old and self._watch.has_answer(now):
                give_up_interval(session, call)
                log.warning("collection.given_up", airport=interval.airport, day=f"{interval.begin:%F}")

    def _load_targets(self, airport: str | None, now: datetime) -> list[CollectionTarget]:
        """Return the targets of one airport or of all (None). Raises DatabaseUnavailableError."""
        with self._database.reading() as session:
            targets = load_schedule(session, self._timing, now).targets
        return [target for target in targets if airport in (None, target.airport)]

    def _log_deferred(self, calls: list[ApiCall]) -> None:
        """Log how many API calls are deferred, how many credits are left, and the end of the pause or of the deferral.

        Nothing is logged if all of them are corrections, which use only credits that are left over. Raises
        DatabaseUnavailableError.
        """
        if all(call.correction for call in calls):
            return
        now = self._clock.now()
        with self._database.reading() as session:
            balance = self._quota.load_balance(session, now)
        until = balance.paused_until if balance.is_paused(now) else build_plan(calls, balance, now).deferred_until
        log.info("collection.deferred", calls=len(calls), credits_left=balance.left, until=str(until))

    def _store_answer(self, term: Term, call: ApiCall, answer: Answer) -> bool:
        """Store new and changed flights, advance the cursor and add the events to the outbox, in one transaction.

        Return False if nothing is stored but a doubt about the empty day; else True. At an airport that is still
        unheard, only that it was asked for is stored. Only new flights are published; if there are none, a call that is
        no correction still publishes that its interval is covered. Flights that were published live are stored and not
        published again, and live movements that the record does not have are retracted. A correction whose answer has
        flights but lacks stored ones does not advance the cursor but marks the interval, for one more correction. The
        same transaction stores the credits that the source reported. Counts the flights in the metrics. Raises
        SupersededError, ConcurrentCollectionError, DatabaseUnavailableError.
        """
        interval, now = call.interval, self._clock.now()
        direction = interval.direction
        with self._seconds.time(), self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            reported = merge_duplicates(direction, answer.flights)
            if call.correction:
                cursor: CoverageRow | None = lock_cursor_for_correction(session, call)
            else:
                cursor = lock_cursor_for_collection(session, call, [each.flight for each in reported], now)
            if cursor is None:
                return True
            doubt = doubt_empty_correction if call.correction else doubt_empty_day
            if not reported and doubt(session, cursor, interval, now):
                log.warning("collection.empty_day_doubted", airport=interval.airport, day=f"{interval.begin:%F}")
                return False
            diff = compare_with_stored(direction, reported, load_stored_flights(session, interval, reported))
            result = reconcile_record(session, interval, cursor, diff.new)
            insert_flights(session, interval, diff.new, result.event_times)
            update_flights(session, diff.changed)
            published, retracted = result.list_published(direction), result.taken_back
            if published or retracted or not call.correction:
                begin = interval.begin if call.correction else cursor.covered_until
                OUTBOX.add(
                    session,
                    encode_flights_observed(
                        interval.airport,
                        direction,
                        begin,
                        interval.end,
                        published,
                        covered_from=cursor.covered_from,
                        retracted=retracted,
                    ),
                )
            if call.correction and should_repeat_correction(session, cursor, interval, reported):
                cursor.incomplete_correction = interval.begin
            else:
                advance_cursor(cursor, call, now, self._timing.corrections_after)
            store_agreement(session, interval, cursor)
        self._stored.labels(direction=direction.value).inc(len(published))
        self._changed.labels(direction=direction.value).inc(len(diff.changed))
        self._count_live_outcomes(direction, result)
        return True

    def _count_live_outcomes(self, direction: Direction, result: Reconciliation) -> None:
        """Count in the metrics the live movements that the record confirmed, and those that were retracted.

        Confirmed are those that match a flight of the record, and retracted ones that were restored.
        """
        matched, retracted = len(result.matched) + len(result.restored), len(result.taken_back)
        self._settled.labels(direction=direction.value, outcome=LiveOutcome.MATCHED.value).inc(matched)
        self._settled.labels(direction=direction.value, outcome=LiveOutcome.RETRACTED.value).inc(retracted)

    async def _poll_departures_of_today(self, term: Term, airport: str | None) -> None:
        """Poll the departures of today, as far as the credits for that allow, and publish the new ones as partial.

        They add no coverage: that comes only from the record of the night. Only targets that are covered up to the
        begin of today are polled. Raises SourceError if the next call would fail as well, SupersededError,
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        if not self._live_credits:
            return
        targets = await asyncio.to_thread(self._load_targets, airport, now)
        if any(target.next_begin < day_of(now) for target in targets):
            return  # the days that have ended come first
        for target in sorted(targets, key=lambda target: (target.polled_at or now, target.airport)):
            begin, end = target.next_begin, now.replace(microsecond=0)
            if target.direction is not Direction.DEPARTURES or target.covered_until != begin:
                continue
            if not now - RECENT_AGE <= begin < end:
                continue
            if await asyncio.to_thread(self._load_live_spent, now) + RECENT_PRICE > self._live_credits:
                return
            interval = Interval(target.airport, target.direction, begin, end)
            try:
                answer = await self._calls.fetch(term, interval, on_charge=self._charge_live)
            except SourceError as error:
                log.warning("collection.failed", airport=target.airport, direction="today", reason=str(error))
                if stops_collection(error):
                    raise
                continue
            if answer is None:
                return
            await asyncio.to_thread(self._store_departures_of_today, term, interval, answer)

    def _load_live_spent(self, now: datetime) -> int:
        """Return the credits spent today on departures of today. Raises DatabaseUnavailableError."""
        with self._database.reading() as session:
            return self._quota.load_live_spent(session, now)

    def _charge_live(self, session: Session, charge: Charge) -> None:
        """Count the credits of a charge as spent on departures of today, in the transaction of the charge."""
        self._quota.charge_live(session, charge.credits, charge.at)

    def _store_departures_of_today(self, term: Term, interval: Interval, answer: Answer) -> None:
        """Store and publish the new departures of an answer, in one transaction; the coverage does not change.

        Those that were published live are stored, and not published again. Stores nothing if the coverage has advanced
        meanwhile. Raises SupersededError, DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            cursor = session.get(CoverageRow, (interval.airport, interval.direction.value), with_for_update=True)
            if cursor is None or cursor.covered_until != interval.begin:
                return
            reported = merge_duplicates(interval.direction, answer.flights)
            new = compare_with_stored(
                interval.direction, reported, load_stored_flights(session, interval, reported)
            ).new
            result = match_departures_of_today(session, interval, new)
            insert_flights(session, interval, new, result.event_times)
            if result.added:
                OUTBOX.add(session, encode_partial_flights(interval, result.added))
        self._stored.labels(direction=interval.direction.value).inc(len(result.added))
        self._count_live_outcomes(interval.direction, result)


def _must_wait(target: CollectionTarget, now: datetime) -> bool:
    """Return True if the target's last answer could not be counted, less than ASK_AGAIN_AFTER ago, else False.

    Such an answer costs credits as any other does.
    """
    answered_at = target.find_uncounted_time(now)
    return answered_at is not None and now < answered_at + ASK_AGAIN_AFTER - JITTER


def _needs_confirmation(call: ApiCall, answer: Answer) -> bool:
    """Return True if an answer is empty and must be confirmed by `RecordWatch.confirm_zero` before it is stored.

    False if it has flights, or belongs to a correction, which covers nothing new.
    """
    return not answer.flights and not call.correction


def _record_poll(interval: Interval, session: Session, charge: Charge) -> None:
    """Store the time of the charge as the time of the last poll of the interval's target."""
    session.merge(LastPollRow(airport=interval.airport, direction=interval.direction.value, asked_at=charge.at))
