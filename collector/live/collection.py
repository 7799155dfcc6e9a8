"""Live collection: the leader polls each feed at its own pace, and publishes the movements and the coverage of them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from chassis.errors import DatabaseUnavailableError
from collector.errors import BreakerOpenError, SourceError, SupersededError
from collector.leadership.terms import Term
from collector.live.airfields import AirfieldIndex, load_airfields
from collector.live.clock_trust import NOT_TRUSTED, ClockTrust
from collector.live.failures import LONGEST_SLEEP_S, RETRY_AFTER_S, compute_retry_s, describe_failures, strip_numbers
from collector.live.feed_state import FeedState, build_rules
from collector.live.feeds import CountedRound, Feed, RoundCounter, RoundPlan, Wait, make_round
from collector.live.live_store import Expectation, LiveStore
from collector.live.metrics import LiveMetrics
from collector.live.missed_polls import merge_missed_poll
from collector.live.reports import FeedReport, encode_report
from collector.live.shared_state import READ_WANTED_EVERY, SharedState
from collector.live.snapshots import FeedMemory
from collector.sources.state_vector import Poll

log = structlog.get_logger()

T = TypeVar("T")

STORE_EVERY: Final = timedelta(seconds=30)
"""Age of the last stored memory of a feed at which it is stored again: what a leader that is killed loses."""
PAUSE_AFTER_MISSED_S: Final = 1.0
"""Seconds between two requests for missed polls, so that the source does not get them all at once."""
MOST_UNPUBLISHED: Final = 20_000
"""Movements that are kept while the database is unavailable; after that the feed begins anew."""
RESTART_AFTER_S: Final = 30.0
"""Seconds after an unexpected error until its feed begins again, from its stored memory."""

_UNHEARD: Final = (
    "{} is not covered by this feed now: for three days no aircraft was heard near its ground, or none is around it."
)
"""Why an airport that is polled is not live."""

Sleep = Callable[[float], Awaitable[None]]
"""Waits for so many real seconds."""


class LiveCollector:
    """The live part of a leader's work. Each feed is a task of its own: one that fails stops no other."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        feeds: Sequence[Feed],
        store: LiveStore,
        metrics: LiveMetrics,
        load_index: Callable[[], AirfieldIndex] = load_airfields,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`load_index` loads the airfields, which takes a second; it is called only if there is a feed."""
        self._database = database
        self._clock = clock
        self._feeds = feeds
        self._store = store
        self._metrics = metrics
        self._load_index = load_index
        self._sleep = sleep
        self._trust = ClockTrust(clock)
        """It outlasts a term: what this process has compared holds while its clock is not set."""

    async def collect_live(self, term: Term) -> None:
        """Poll all feeds until cancelled; without feeds, only wait. Raises SupersededError.

        When it is cancelled, each feed's memory is stored once more, so that the next leader goes on from there.
        """
        if not self._feeds:
            await asyncio.Event().wait()
        self._store.begin_term()
        index = await asyncio.to_thread(self._load_index)
        shared = SharedState(self._database, self._clock, self._store, index, self._trust)
        runners = [_FeedRunner(feed, shared, self._clock, self._metrics, self._sleep) for feed in self._feeds]
        tasks = [asyncio.create_task(each.run(term)) for each in runners]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _FeedRunner:
    """The loop of one feed in one term."""

    def __init__(self, feed: Feed, shared: SharedState, clock: Clock, metrics: LiveMetrics, sleep: Sleep) -> None:
        self._feed = feed
        self._shared = shared
        self._clock = clock
        self._metrics = metrics
        self._sleep_real = sleep
        self._report = FeedReport(feed.name)
        self._faults: dict[str, str] = {}
        """By source: its last failure, without numbers, as it was logged."""
        self._is_changed = False
        """True if the state has changed since it was stored."""
        self._stored_at: timedelta | None = None
        self._reported: tuple[tuple[str | None, bool], timedelta] | None = None
        """What the last stored report said (`_summarize_report`), and when it was stored."""
        self._lacks_database = False
        """True since the database was found unavailable, until something is stored again."""

    async def run(self, term: Term) -> None:
        """Poll until cancelled; after an unexpected error, begin again from what is stored. Raises SupersededError."""
        try:
            while True:
                try:
                    await self._poll_for_ever(term)
                except SupersededError:
                    raise
                except Exception as error:  # whatever it was, the feed must not end
                    log.error("live.unexpected_error", feed=self._feed.name, error=type(error).__name__, exc_info=error)
                    await self._sleep(RESTART_AFTER_S)
        finally:
            self._metrics.end_term(self._feed.name)

    async def _poll_for_ever(self, term: Term) -> None:
        """Load the memory of the leader before, and poll until cancelled; then store the memory once more."""
        memory = await self._load_memory()
        state = FeedState(self._shared.index, build_rules(self._feed.longest_interval_s), memory)
        counter = RoundCounter(self._feed.empty_counts, state.members)
        self._shared.states[self._feed.name] = state
        self._is_changed, self._stored_at = False, None
        self._metrics.begin(self._feed.name)
        try:
            while True:
                await self._take_step(term, state, counter)
        except asyncio.CancelledError:
            await self._store_at_end(term, state)
            raise

    async def _load_memory(self) -> FeedMemory | None:
        """Return the stored memory of the feed, None if there is none; wait while the database is unavailable."""
        while True:
            try:
                return await asyncio.to_thread(self._shared.store.load_memory, self._feed.name, self._shared.index)
            except DatabaseUnavailableError:
                await self._sleep(RETRY_AFTER_S)

    async def _take_step(self, term: Term, state: FeedState, counter: RoundCounter) -> None:
        """Make one round if it is due, or wait a while; store what is due. Raises SupersededError."""
        wanted = await self._shared.refresh_wanted()
        self._metrics.set_clock_trust(self._shared.trust.is_trusted)
        if not self._shared.trust.begin_poll(self._feed.compares_clock):
            async with self._shared.lock:
                if not self._feed.compares_clock:
                    state.give_up()  # its positions are dated by a clock that may be as wrong
            await self._wait(term, state, Wait(READ_WANTED_EVERY.total_seconds(), NOT_TRUSTED))
            return
        try:
            planned = await self._feed.plan_round(term, wanted)
        except DatabaseUnavailableError:
            self._note_error("the database is unavailable")
            self._log_missing_database()
            await self._sleep(RETRY_AFTER_S)
            return
        if isinstance(planned, Wait):
            await self._wait(term, state, planned)
            return
        result = await make_round(planned)
        try:
            await self._feed.note_result(term, planned, result)
        except DatabaseUnavailableError:
            self._log_missing_database()
        now, elapsed = self._clock.now(), self._clock.elapsed()
        # In a thread: merging thousands of aircraft would block the event loop.
        counted, failures = await _run_to_end(partial(counter.judge, result, now, elapsed.total_seconds()))
        self._log_failures(failures, [each.source for each in planned.requests])
        self._metrics.count_round(self._feed.name, counts=counted is not None)
        if counted is None:
            self._note_error(describe_failures(failures))
            await self._store_if_due(term, state)
            await self._sleep(compute_retry_s(failures))
            return
        await self._fold_missed_polls(term, state, counted, planned, now.timestamp())
        await self._fold(state, counted, planned, now.timestamp(), describe_failures(failures) if failures else None)
        await self._store_if_due(term, state)

    async def _fold_missed_polls(
        self, term: Term, state: FeedState, counted: CountedRound, plan: RoundPlan, answered_at: float
    ) -> None:
        """Ask for the polls that are missing before one that counts, and fold them, if the source still has them.

        After the second failure in a row the rest is left to the night's record. Raises SupersededError.
        """
        past_states, poll = self._feed.past_states, counted.poll
        if past_states is None or not state.stated_at or counted.begins_anew:
            return
        since, folded, failed = state.stated_at, 0, 0
        try:
            for at in await past_states.list_missed_times(since, poll.time):
                try:
                    missed = merge_missed_poll(await past_states.fetch_missed_poll(term, at), at)
                except SourceError as error:
                    failed += 1
                    log.warning("live.missed_poll_failed", feed=self._feed.name, reason=str(error))
                    if failed > 1:
                        break
                else:
                    failed, folded = 0, folded + 1
                    await self._fold_poll(state, missed, plan, missed.time + answered_at - poll.time)
                    await self._store_if_due(term, state)
                await self._sleep(PAUSE_AFTER_MISSED_S)
        except DatabaseUnavailableError:
            self._log_missing_database()
        if folded:
            log.info("live.missed_polls_folded", feed=self._feed.name, polls=folded, pause_s=round(poll.time - since))

    async def _wait(self, term: Term, state: FeedState, wait: Wait) -> None:
        """Wait for a feed that is not due; report why, if there is a reason."""
        settled = {**self._shared.wanted.settled, **wait.settled}
        if wait.reason:
            self._note_error(wait.reason)
        if not self._shared.wanted.airports:
            self._metrics.begin(self._feed.name)
            self._report = FeedReport(self._feed.name, error=wait.reason or None)
        if settled != self._report.settled and (wait.settled or not self._report.settled):
            self._report = replace(self._report, settled=settled)
        await self._store_if_due(term, state)
        await self._sleep(min(max(wait.seconds, 0.0), LONGEST_SLEEP_S))

    async def _fold(
        self, state: FeedState, counted: CountedRound, plan: RoundPlan, answered_at: float, fault: str | None
    ) -> None:
        """Fold a poll that counts, and note it in the report. `fault`: of a source that had no part."""
        shared = self._shared
        async with shared.lock:
            if counted.begins_anew:
                state.begin_anew()
            state.members = counted.members
        polled = await self._fold_poll(state, counted.poll, plan, answered_at)
        async with shared.lock:
            if len(state.unpublished) > MOST_UNPUBLISHED:
                log.error("live.given_up", feed=self._feed.name, reason="the database was unavailable for too long")
                state.give_up()
        heard_since = state.find_heard_since(answered_at)
        live = tuple(heard_since)
        aircraft = len(counted.poll.states)
        self._metrics.set_poll(self._feed.name, aircraft, len(live), plan.interval_s)
        unheard = {icao: _UNHEARD.format(icao) for icao in sorted(polled.difference(live))}
        self._report = FeedReport(
            self._feed.name, answered_at, counted.poll.time, aircraft, plan.interval_s, live,
            {**shared.wanted.settled, **plan.settled, **unheard}, fault, heard_since,
        )  # fmt: skip

    async def _fold_poll(self, state: FeedState, poll: Poll, plan: RoundPlan, answered_at: float) -> frozenset[str]:
        """Fold a poll in a thread, and return those wanted airports that it polled."""
        shared = self._shared
        async with shared.lock:
            polled = plan.polled & shared.wanted.codes
            await _run_to_end(partial(state.fold, poll, answered_at, shared.grid, polled, shared.wanted.targets))
            self._is_changed = True
        return polled

    async def _store_if_due(self, term: Term, state: FeedState) -> None:
        """Store movements at once, the memory every half minute, and a report that says something new.

        While the database is unavailable everything is kept, and stored later. Raises SupersededError.
        """
        elapsed = self._clock.elapsed()
        is_old = self._stored_at is None or elapsed - self._stored_at >= STORE_EVERY
        try:
            if state.unpublished or (self._is_changed and is_old):
                await self._store(term, state)
            elif self._is_report_due(elapsed):
                body = encode_report(self._report)
                await _run_to_end(
                    partial(self._shared.store.store_report, term, self._feed.name, state.stated_at, body)
                )
                self._reported, self._lacks_database = (self._summarize_report(), elapsed), False
        except DatabaseUnavailableError:
            self._log_missing_database()

    def _is_report_due(self, elapsed: timedelta) -> bool:
        """Return True if no report was stored yet, or the stored one is 5 s old and differs from the present one.

        Else False.
        """
        if self._reported is None:
            return True
        told, at = self._reported
        return told != self._summarize_report() and elapsed - at >= timedelta(seconds=5)

    def _summarize_report(self) -> tuple[str | None, bool]:
        """Return what of the report is stored before the next memory is: the error, and whether any airport is live."""
        return strip_numbers(self._report.error), bool(self._report.live)

    def _log_missing_database(self) -> None:
        """Log that the database is unavailable, once until something is stored again."""
        if not self._lacks_database:
            log.warning("live.without_database", feed=self._feed.name)
        self._lacks_database = True

    async def _store(self, term: Term, state: FeedState) -> None:
        """Store what a feed has found, and its memory. Raises SupersededError, DatabaseUnavailableError."""
        async with self._shared.lock:
            known, body = self._shared.gather_expectation(), encode_report(self._report)
            await _run_to_end(partial(self._commit, term, state, known, body))

    def _commit(self, term: Term, state: FeedState, known: Expectation, body: bytes) -> None:
        """Store in a thread, and note there that it is done: the task may be cancelled meanwhile."""
        stored = self._shared.store.store(term, self._feed.name, state, known, body)
        self._is_changed, self._stored_at = False, self._clock.elapsed()
        self._reported, self._lacks_database = (self._summarize_report(), self._stored_at), False
        for each in stored.movements:
            self._metrics.count_movement(self._feed.name, each)

    async def _store_at_end(self, term: Term, state: FeedState) -> None:
        """Store the memory for the next leader; a term that is over already, or a missing database, is no matter."""
        if not self._is_changed:
            return
        try:
            await self._store(term, state)
        except (DatabaseUnavailableError, SupersededError):
            log.warning("live.last_state_not_stored", feed=self._feed.name)

    def _note_error(self, sentence: str) -> None:
        """Note in the report why there is no poll now."""
        state = self._shared.states.get(self._feed.name)
        live = tuple(state.list_live(self._clock.now().timestamp())) if state is not None else ()
        self._report = replace(self._report, error=sentence, live=live)
        self._metrics.set_airports(self._feed.name, len(live))

    def _log_failures(self, failures: Mapping[str, SourceError], asked: Sequence[str]) -> None:
        """Log each source that fails in another way than before, and each that answers again.

        That it is not asked because of its failures is none of these ways: its circuit breaker logs that.
        """
        for source in dict.fromkeys(asked):
            error = failures.get(source)
            if isinstance(error, BreakerOpenError):
                continue
            now = strip_numbers(str(error)) if error is not None else None
            if now is not None and now != self._faults.get(source):
                log.warning("live.poll_failed", feed=self._feed.name, source=source, reason=str(error))
                self._faults[source] = now
            elif now is None and self._faults.pop(source, None) is not None:
                log.info("live.poll_succeeds_again", feed=self._feed.name, source=source)

    async def _sleep(self, seconds: float) -> None:
        """Wait for so many seconds of the service's clock."""
        await self._sleep_real(self._clock.real_seconds(timedelta(seconds=seconds)))


async def _run_to_end(work: Callable[[], T]) -> T:
    """Run work in a thread, and wait for its end even if the task is cancelled meanwhile.

    A transaction would commit anyway: whoever goes on beside it would store the same once more.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            log.warning("live.last_state_not_stored", error=type(task.exception()).__name__)
        raise
