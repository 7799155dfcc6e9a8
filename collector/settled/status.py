"""The state of the scheduler for operators, loaded from the database, so that any replica can show it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import select

from chassis.clock import Clock
from chassis.db.database import Database
from collector.model import CoverageRow
from collector.settled.evidence import NightlyRecord
from collector.settled.explain import build_progress, explain_credits, explain_waiting
from collector.settled.planner import (
    OLD_PRICE,
    CollectionTarget,
    QuotaBalance,
    build_plan,
    count_due_calls,
    list_due_calls,
)
from collector.settled.quota import QuotaStore
from collector.settled.schedule import (
    CollectionTiming,
    Schedule,
    list_retired_airports,
    load_earliest_begins,
    load_schedule,
)
from collector.settled.source_failure import SourceFailure, load_failure
from collector.settled.source_state import (
    ClockComparison,
    ForeignAnswers,
    load_clock_comparison,
    load_foreign_answers,
)
from collector.unheard import find_unheard_since
from domain.interests import Direction

MAX_SHOWN_CALLS: Final = 100
"""Maximum number of planned API calls that are shown."""
SHOWN_DAYS: Final = 10
"""Number of days whose evidence is shown."""


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """An API call that is due: the flights of [begin, end), half-open, UTC."""

    airport: str
    direction: Direction
    begin: datetime
    end: datetime
    price: int
    """Credits, if the call were made now."""
    correction: bool
    """True if the interval was collected before, and is collected a second time for late flights."""


@dataclass(frozen=True, slots=True)
class TargetCoverage:
    """The coverage of an airport and direction that has at least one interest, its next interval and its lag."""

    airport: str
    direction: Direction
    interests: int
    """Number of interests."""
    people: int
    """Number of people with such an interest, who pay for it together."""
    covered_from: datetime | None
    """None: nothing is collected yet."""
    covered_until: datetime | None
    """None: nothing is collected yet."""
    goes_on_at: datetime
    """Begin of the next interval to collect; the range from `covered_until` to here becomes a gap."""
    due_until: datetime
    """End of the days whose record at the source is proven to be whole."""
    asked_at: datetime | None
    """Time of the last API call for this target, successful or not. None: never polled."""
    lag_s: float
    """Seconds from the begin of the next interval to now."""
    waiting_for: str | None
    """The evidence that the next interval waits for, in words. None: it waits for none."""
    waits_for_credits: str | None
    """In words, if the next interval is due and waits for credits. None: it does not."""


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """A snapshot of the scheduler: the credit quota, the API calls that are due, and the coverage."""

    at: datetime
    """Time of the snapshot."""
    budget: int
    """Credits of the day (UTC)."""
    spent: int
    """Credits spent today by us, plus credits that the source reports as spent beyond that."""
    left: int
    """Credits left today."""
    due: int
    """Number of API calls that are due, corrections included."""
    plan: tuple[PlannedCall, ...]
    """The first of the API calls that are due, in order; at most MAX_SHOWN_CALLS."""
    deferred_until: datetime | None
    """End of the deferral of collection, for lack of credits or for a pause of the source. None: not deferred."""
    coverage: tuple[TargetCoverage, ...]
    """Ordered by airport and direction."""
    records: tuple[NightlyRecord, ...]
    """The evidence about the source's records of the last days that were asked for, newest day first."""
    clock: ClockComparison | None
    """The last comparison of our clock with the source's. None: there was none yet."""
    foreign_answers: tuple[ForeignAnswers, ...]
    """Answers that somebody else gave in the source's name, by kind; the kind of the last one first."""
    retired_airports: tuple[str, ...] = ()
    """Codes with interests that no airport has any more, in their order: nothing is collected there."""
    failure: SourceFailure | None = None
    """The last call of the source, if it failed. None: it did not, or none was made."""


@dataclass(frozen=True, slots=True)
class RecordState:
    """A snapshot of the collection of the source's record: its credits, its lag, and the source's pause."""

    at: datetime
    budget: int
    left: int
    lag_s: float
    """The largest `TargetCoverage.lag_s` of all airports and directions; 0 without any."""
    paused_until: datetime | None
    """The time until which the source wants no call; None: it wants calls."""
    error: str | None = None
    """Why the last call failed, and when, in words. None: it did not, or none was made."""


class SchedulerStatus:
    """A reader that loads quota, targets and coverage from the database and plans as the leader would; thread-safe."""

    def __init__(self, database: Database, clock: Clock, timing: CollectionTiming, quota: QuotaStore) -> None:
        self._database = database
        self._clock = clock
        self._timing = timing
        self._quota = quota

    def load_state(self) -> SchedulerState:
        """Load the state and return it as a snapshot of now; nothing is written or called.

        The plan holds the first MAX_SHOWN_CALLS calls, `due` counts all. Raises DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            schedule = load_schedule(session, self._timing, now)
            balance = self._quota.load_balance(session, now)
            rows = {(row.airport, row.direction): row for row in session.scalars(select(CoverageRow))}
            unheard = {
                target.airport: find_unheard_since(session, target.airport, now)
                for target in schedule.targets
                if target.covered_until is None
            }
            clock, foreign = load_clock_comparison(session), load_foreign_answers(session)
            failure = load_failure(session)
            retired = list_retired_airports(session)
        most = max(balance.left, MAX_SHOWN_CALLS * OLD_PRICE)
        calls = list_due_calls(schedule.targets, now, schedule.payments, credits_left=most)
        plan = build_plan(calls, balance, now)
        firsts: dict[tuple[str, Direction], int] = {}
        for number, call in enumerate(calls):
            firsts.setdefault((call.interval.airport, call.interval.direction), number)
        return SchedulerState(
            at=now,
            budget=balance.budget,
            spent=balance.spent,
            left=balance.left,
            due=count_due_calls(schedule.targets),
            plan=tuple(
                PlannedCall(
                    airport=priced.call.interval.airport,
                    direction=priced.call.interval.direction,
                    begin=priced.call.interval.begin,
                    end=priced.call.interval.end,
                    price=priced.price,
                    correction=priced.call.correction,
                )
                for priced in plan.calls[:MAX_SHOWN_CALLS]
            ),
            deferred_until=_find_end_of_deferral(plan.deferred_until, balance, now),
            coverage=tuple(
                replace(
                    self._build_coverage(
                        target, schedule, rows.get((target.airport, target.direction.value)), unheard, failure, now
                    ),
                    waits_for_credits=explain_credits(
                        target, firsts.get((target.airport, target.direction)), plan.deferred_until
                    ),
                )
                for target in sorted(schedule.targets, key=lambda target: (target.airport, target.direction))
            ),
            records=tuple(schedule.records.list_newest(SHOWN_DAYS)),
            clock=clock,
            foreign_answers=tuple(foreign),
            retired_airports=tuple(retired),
            failure=failure,
        )

    def load_lags(self) -> tuple[int, dict[Direction, float]]:
        """Load the credits left today, and the largest `lag_s` of each direction; 0 for one without targets.

        They are those of `load_state`, without its plan: cheap enough for every few seconds. Raises
        DatabaseUnavailableError.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            begins = load_earliest_begins(session, now)
            left = self._quota.load_balance(session, now).left
        return left, {part: max((now - begins.get(part, now)).total_seconds(), 0.0) for part in Direction.BOTH.parts}

    def load_record_state(self) -> RecordState:
        """Load the state of the record's source; as cheap as `load_lags`. Raises DatabaseUnavailableError."""
        now = self._clock.now()
        with self._database.reading() as session:
            begins = load_earliest_begins(session, now)
            balance = self._quota.load_balance(session, now)
            failure = load_failure(session)
        return RecordState(
            at=now,
            budget=balance.budget,
            left=balance.left,
            lag_s=max((now - min(begins.values(), default=now)).total_seconds(), 0.0),
            paused_until=balance.paused_until if balance.is_paused(now) else None,
            error=None if failure is None else failure.explain(now),
        )

    def _build_coverage(
        self,
        target: CollectionTarget,
        schedule: Schedule,
        row: CoverageRow | None,
        unheard: Mapping[str, datetime | None],
        failure: SourceFailure | None,
        now: datetime,
    ) -> TargetCoverage:
        """Return a target's coverage, the evidence it waits for, and its lag at `now`, which is never negative."""
        progress = build_progress(target, row, unheard.get(target.airport))
        return TargetCoverage(
            airport=target.airport,
            direction=target.direction,
            interests=target.interests,
            people=len(target.people),
            covered_from=row.covered_from if row is not None else None,
            covered_until=target.covered_until,
            goes_on_at=target.next_begin,
            due_until=target.available_until,
            asked_at=target.polled_at,
            lag_s=max((now - target.next_begin).total_seconds(), 0.0),
            waiting_for=explain_waiting(progress, schedule.records, self._timing.record, now, failure),
            waits_for_credits=None,
        )


def _find_end_of_deferral(deferred_until: datetime | None, balance: QuotaBalance, now: datetime) -> datetime | None:
    """Return the later of the credits' deferral and the source's pause; None if neither defers collection now."""
    paused_until = balance.paused_until if balance.is_paused(now) else None
    return max((until for until in (deferred_until, paused_until) if until), default=None)
