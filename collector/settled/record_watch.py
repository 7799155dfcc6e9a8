"""The evidence calls: makes those that are due, and stores what their answers prove about the source's records."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import BreakerOpenError, SourceError, SourceLimitedError
from collector.intervals import Interval, day_of
from collector.leadership.terms import Term, require_term
from collector.settled.evidence import EvidenceCall, NightlyRecord, is_proof, list_airports_to_ask
from collector.settled.failing_airports import FailingAirports, RecordKey
from collector.settled.history import is_proven_by
from collector.settled.planner import RECENT_PRICE, compute_price
from collector.settled.record_store import load_records, store_record
from collector.settled.schedule import CollectionTiming, Schedule, list_candidates, list_due_evidence, load_schedule
from collector.settled.shares import Bill
from collector.settled.source_calls import (
    FOR_ALL,
    Answer,
    CallConditions,
    SourceCalls,
    is_useless_answer,
    stops_collection,
)

log = structlog.get_logger()

_PROVING_AIRPORTS = 2
"""Airports that are asked in one attempt to prove days of history."""


class RecordWatch:
    """Makes evidence calls for the record of each day that some airport waits for, until the record is whole."""

    def __init__(
        self, database: Database, calls: SourceCalls, clock: Clock, timing: CollectionTiming, beacons: Sequence[str]
    ) -> None:
        """`beacons`: ICAO codes of large airports to call for if no airport with interests has flights."""
        self._database = database
        self._calls = calls
        self._clock = clock
        self._timing = timing
        self._beacons = tuple(beacons)
        self._failing = FailingAirports()

    async def check_recent_records(self, term: Term) -> None:
        """Make the evidence calls that are due at the price of recent flights, until the quota defers one.

        Nobody pays for them: there are as many, whatever the number of airports. An answer may make a call about
        another record due, which is made as well; about each record there is one answer at most. A failed call is
        logged, and the next airport is asked in its place at once. Raises SourceError if the next call would fail as
        well, SupersededError, DatabaseUnavailableError.
        """
        answered: set[RecordKey] = set()
        failed: set[tuple[RecordKey, str]] = set()
        while calls := [
            call
            for call in await asyncio.to_thread(self._load_due_calls)
            if call.record.key not in answered
            and (call.record.key, call.airport) not in failed
            and compute_price(call.interval.begin, self._clock.now()) == RECENT_PRICE
        ]:
            for call in calls:
                try:
                    answer = await self._fetch(term, call)
                except SourceError as error:
                    failed.add((call.record.key, call.airport))
                    if stops_collection(error):
                        raise
                    continue
                if answer is None:
                    return
                answered.add(call.record.key)
                await asyncio.to_thread(self._store_answer, term, call, answer)

    def list_old_calls(self, schedule: Schedule, now: datetime) -> list[EvidenceCall]:
        """Return the evidence calls that are due at the price of old flights: people pay for them.

        They are about days that most airports do not wait for any more.
        """
        due = list_due_evidence(schedule, self._beacons, now, self._timing, self._failing)
        return [call for call in due if compute_price(call.interval.begin, now) != RECENT_PRICE]

    async def make_old_call(self, term: Term, call: EvidenceCall, conditions: CallConditions) -> bool:
        """Make one evidence call for which people pay, and store what its answer proves.

        If it fails without cost, the next airport is asked in its place at once. If the calls fail at every airport,
        that is stored, because such a day must be given up in the end. Return False if the quota defers the call.
        Raises SourceError if no airport is left to ask, SupersededError, DatabaseUnavailableError.
        """
        failed: set[str] = set()
        while True:
            try:
                answer = await self._fetch(term, call, conditions)
                break
            except SourceError as error:
                failed.add(call.airport)
                if stops_collection(error):
                    raise
                following = await asyncio.to_thread(self._find_due_call, call.record)
                if following is None or following.airport in failed:
                    await asyncio.to_thread(self._store_failure, term, call.record)
                    raise
                call = following
        if answer is not None:
            await asyncio.to_thread(self._store_answer, term, call, answer)
        return answer is not None

    def has_answer(self, now: datetime) -> bool:
        """Return True if an evidence call was answered in the last day or so, False if all failed, or none was made."""
        return self._failing.has_answer(now)

    async def confirm_zero(self, term: Term, interval: Interval, bill: Bill | None) -> bool:
        """Return True if an answer without flights for the interval may be stored, False if it may be wrong.

        In an outage the source has returned "no flights" for every airport, or a few for some. So an evidence call is
        made at once for the evidence airport of the interval's day: if it has as many flights as a proof needs, the
        answer is confirmed. If it has fewer, or is the interval's own airport, the answers contradict the evidence,
        which is deleted: the day must be proven anew. False, too, if there is no evidence, or if the quota defers the
        call. If the call fails, as many flights of another candidate confirm the answer as well; if none has so many,
        the call's error is raised. `bill`: who pays for the calls, namely those who paid for the answer. Raises
        SourceError, SupersededError, DatabaseUnavailableError.
        """
        record = await asyncio.to_thread(self._load_record, interval)
        if record.airport is None:
            return False
        conditions = CallConditions(bill=bill)
        try:
            answer = await self._fetch(term, EvidenceCall(record, record.airport), conditions)
        except SourceError as error:
            if stops_collection(error) or record.airport == interval.airport:
                raise
            if await self._confirm_elsewhere(term, interval, record, conditions):
                return True
            raise
        if answer is None:
            return False
        if is_proof(record.direction, answer.flights) and record.airport != interval.airport:
            return True
        await asyncio.to_thread(self._store_contradiction, term, record, answer)
        return False

    async def prove_history(
        self, term: Term, interval: Interval, days: Sequence[datetime], bill: Bill
    ) -> set[datetime]:
        """Return those of some days of an interval of history of which another airport proves that they are recorded.

        The day's evidence airport is asked for the whole interval first, then another one, at the next attempt yet
        another. Days that none proves are asked for again after a pause, and are given up in the end
        (`NightlyRecord.is_given_up`). None is returned if no airport can be asked, or the quota defers a call. Raises
        SourceError, SupersededError, DatabaseUnavailableError.
        """
        record = await asyncio.to_thread(self._load_record, replace(interval, begin=days[0]))
        usable = await asyncio.to_thread(self._load_candidates, record)
        others = [each for each in usable if each not in (interval.airport, record.airport)]
        start = 2 * record.attempts % len(others) if others else 0
        answer = None
        known = [record.airport] if record.airport not in (None, interval.airport) else []
        for airport in [*known, *others[start:], *others[:start]][:_PROVING_AIRPORTS]:
            elsewhere = replace(interval, airport=airport)
            answer = await self._calls.fetch(term, elsewhere, CallConditions(bill=bill))
            if answer is None:
                return set()
            times = [flight.event_time(interval.direction) for flight in answer.flights]
            proven = {day for day in days if is_proven_by(times, day)}
            if proven:
                await asyncio.to_thread(self.store_history_proof, term, elsewhere, answer, days)
                return proven
        if answer is not None:
            await asyncio.to_thread(self.store_history_proof, term, elsewhere, answer, days)
        return set()

    def store_history_proof(self, term: Term, interval: Interval, answer: Answer, days: Sequence[datetime]) -> None:
        """Store of some days what an answer for history proves: that they are recorded, or one attempt in vain.

        Raises SupersededError, DatabaseUnavailableError.
        """
        if not days:
            return
        now = self._clock.now()
        times = [flight.event_time(interval.direction) for flight in answer.flights]
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            records = load_records(session, now)
            for day in days:
                airport = interval.airport if is_proven_by(times, day) else None
                record = records.get(day, interval.direction).after_history(airport, len(times), now)
                store_record(session, record, now)

    async def _confirm_elsewhere(
        self, term: Term, interval: Interval, record: NightlyRecord, conditions: CallConditions
    ) -> bool:
        """Return True if a candidate other than the evidence airport proves that the record is there.

        False if none does, or if the quota defers a call. No airport with too few flights contradicts the evidence,
        which is of another one. Raises SourceError if the next call would fail as well, SupersededError,
        DatabaseUnavailableError.
        """
        for airport in await asyncio.to_thread(self._load_candidates, record):
            if airport in (record.airport, interval.airport):
                continue
            try:
                answer = await self._fetch(term, EvidenceCall(record, airport), conditions)
            except SourceError as error:
                if stops_collection(error):
                    raise
                continue
            if answer is None or is_proof(record.direction, answer.flights):
                return answer is not None
        return False

    async def _fetch(self, term: Term, call: EvidenceCall, conditions: CallConditions = FOR_ALL) -> Answer | None:
        """Make an evidence call; if it fails, log that, and pass over its airport for some hours.

        Return None if the quota defers the call. Raises SourceError, SupersededError, DatabaseUnavailableError.
        """
        try:
            answer = await self._calls.fetch(term, call.interval, conditions)
        except BreakerOpenError as error:  # the call was not made
            self._log_failure(call, error)
            raise
        except SourceError as error:
            self._log_failure(call, error)
            if not isinstance(error, SourceLimitedError):  # says nothing of the airport
                now = self._clock.now()
                self._failing.add_failure(
                    call.record.key,
                    call.airport,
                    now,
                    is_charged=is_useless_answer(error),
                    is_old=compute_price(call.interval.begin, now) != RECENT_PRICE,
                )
            raise
        if answer is not None:
            self._failing.add_answer(call.record.key, call.airport, self._clock.now())
        return answer

    def _log_failure(self, call: EvidenceCall, error: SourceError) -> None:
        """Log that an evidence call failed."""
        log.warning("evidence.failed", airport=call.airport, day=f"{call.record.day:%F}", reason=str(error))

    def _store_contradiction(self, term: Term, record: NightlyRecord, answer: Answer) -> None:
        """Delete a record's evidence, and log that. Raises SupersededError, DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            store_record(session, record.without_evidence(answer.charge.at), now)
        log.warning("evidence.contradicted", day=f"{record.day:%F}", direction=record.direction.value)

    def _store_failure(self, term: Term, record: NightlyRecord) -> None:
        """Store that the calls for a record failed, if they did at every airport that may be asked, and log that.

        Raises SupersededError, DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.transaction() as session:
            require_term(session, term)
            schedule = load_schedule(session, self._timing, now)
            record = schedule.records.get(*record.key)
            airports = list_airports_to_ask(
                record, schedule.records, list_candidates(schedule, self._beacons, record.direction)
            )
            after = record.after_failure(now)
            if after == record or not self._failing.is_refused_everywhere(record.key, airports, now):
                return
            store_record(session, after, now)
        log.warning("evidence.refused", day=f"{after.day:%F}", direction=after.direction.value, attempts=after.attempts)

    def _load_record(self, interval: Interval) -> NightlyRecord:
        """Return the evidence about the record of the interval's day and direction. Raises DatabaseUnavailableError."""
        with self._database.reading() as session:
            return load_records(session, self._clock.now()).get(day_of(interval.begin), interval.direction)

    def _load_candidates(self, record: NightlyRecord) -> list[str]:
        """Return the airports that may prove a record now and are not passed over. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            candidates = list_candidates(load_schedule(session, self._timing, now), self._beacons, record.direction)
        return self._failing.choose_usable(record.key, candidates, now)

    def _load_due_calls(self) -> list[EvidenceCall]:
        """Return the evidence calls that are due now, in the order to make them in. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            return list_due_evidence(
                load_schedule(session, self._timing, now), self._beacons, now, self._timing, self._failing
            )

    def _find_due_call(self, record: NightlyRecord) -> EvidenceCall | None:
        """Return the call that is due now about a record; None if none is. Raises DatabaseUnavailableError."""
        return next((call for call in self._load_due_calls() if call.record.key == record.key), None)

    def _store_answer(self, term: Term, call: EvidenceCall, answer: Answer) -> None:
        """Store what an answer proves, and log it if the record is now there or whole.

        Raises SupersededError, DatabaseUnavailableError.
        """
        now, before = self._clock.now(), call.record
        after = before.after_answer(call.airport, answer.flights, answer.charge.at, self._timing.record.settle_time)
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            store_record(session, after, now)
        day, direction = f"{after.day:%F}", after.direction.value
        if after.whole_since is not None:
            log.info("evidence.whole", day=day, direction=direction, airport=after.airport, flights=after.flights)
        elif after.there_since != before.there_since and after.there_since is not None:
            log.info("evidence.there", day=day, direction=direction, airport=after.airport, flights=after.flights)
