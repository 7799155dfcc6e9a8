"""The watch for the source's records: asks the due questions about them, and stores what the answers prove."""

import asyncio
from collections.abc import Sequence

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import SourceError
from collector.intervals import Interval, day_of
from collector.leadership.terms import Term, require_term
from collector.settled.evidence import EvidenceCall, NightlyRecord, RecordKey
from collector.settled.planner import RECENT_PRICE, compute_price
from collector.settled.record_store import load_records, store_record
from collector.settled.schedule import CollectionTiming, list_due_evidence, load_schedule
from collector.settled.source_calls import Answer, SourceCalls, stops_collection

log = structlog.get_logger()


class RecordWatch:
    """A watch that asks about the record of each day that some airport waits for, until it is proven to be whole."""

    def __init__(
        self, database: Database, calls: SourceCalls, clock: Clock, timing: CollectionTiming, beacons: Sequence[str]
    ) -> None:
        """`beacons`: ICAO codes of large airports, which are asked if no watched airport has flights."""
        self._database = database
        self._calls = calls
        self._clock = clock
        self._timing = timing
        self._beacons = tuple(beacons)

    async def ask_about_recent_days(self, term: Term) -> None:
        """Ask the due questions that have the price of recent flights.

        Raises SourceError if the next call would fail as well, SupersededError, DatabaseUnavailableError.
        """
        await self._ask(term, recent=True)

    async def ask_about_old_days(self, term: Term) -> bool:
        """Ask the due questions that have the price of old flights; return True if some were answered, else False.

        Raises SourceError if the next call would fail as well, SupersededError, DatabaseUnavailableError.
        """
        return await self._ask(term, recent=False)

    async def confirm_zero(self, term: Term, interval: Interval) -> bool:
        """Return True if an answer without flights for the interval may be believed, False if it must be asked again.

        An outage has answered with "no flights", too. So the evidence airport of the interval's day is asked at once:
        if it has no flights any more either, or is the interval's own airport, the answer is wrong. False, too, if the
        quota defers the question. Raises SourceError, SupersededError, DatabaseUnavailableError.
        """
        record = await asyncio.to_thread(self._load_record, interval)
        if record.airport is None or record.airport == interval.airport:
            return False
        answer = await self._calls.fetch(term, EvidenceCall(record, record.airport).interval)
        return answer is not None and bool(answer.flights)

    def _load_record(self, interval: Interval) -> NightlyRecord:
        """Return the evidence about the record of the interval's day and direction."""
        with self._database.reading() as session:
            return load_records(session, self._clock.now()).get(day_of(interval.begin), interval.direction)

    async def _ask(self, term: Term, *, recent: bool) -> bool:
        """Ask the due questions of one price until the quota defers one; return True if any was answered, else False.

        An answer may make another question due, which is asked as well. A question that fails is logged and stays due.
        Raises as `ask_about_recent_days` does.
        """
        answered: set[RecordKey] = set()
        tried: set[RecordKey] = set()
        while calls := [
            call
            for call in await asyncio.to_thread(self._load_due_calls)
            if call.record.key not in tried
            and (compute_price(call.interval.begin, self._clock.now()) == RECENT_PRICE) is recent
        ]:
            for call in calls:
                tried.add(call.record.key)
                try:
                    answer = await self._calls.fetch(term, call.interval)
                except SourceError as error:
                    log.warning("evidence.failed", airport=call.airport, day=f"{call.record.day:%F}", reason=str(error))
                    if stops_collection(error):
                        raise
                    continue
                if answer is None:
                    return bool(answered)
                await asyncio.to_thread(self._store_answer, term, call, answer)
                answered.add(call.record.key)
        return bool(answered)

    def _load_due_calls(self) -> list[EvidenceCall]:
        """Return the questions that are due now, the newest day first. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            return list_due_evidence(load_schedule(session, self._timing, now), self._beacons, now, self._timing)

    def _store_answer(self, term: Term, call: EvidenceCall, answer: Answer) -> None:
        """Store what an answer proves, and log each step. Raises SupersededError, DatabaseUnavailableError."""
        now, before = self._clock.now(), call.record
        after = before.after_answer(call.airport, answer.flights, now, self._timing.record.settle_time)
        with self._database.transaction() as session:
            require_term(session, term)
            self._calls.reconcile(session, answer, now)
            store_record(session, after, now)
        day, direction = f"{after.day:%F}", after.direction.value
        if after.whole_since is not None:
            log.info("evidence.whole", day=day, direction=direction, airport=after.airport, flights=after.flights)
        elif after.there_since != before.there_since and after.there_since is not None:
            log.info("evidence.there", day=day, direction=direction, airport=after.airport, flights=after.flights)
