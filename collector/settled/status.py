"""The scheduler as an operator sees it, on any replica: all of it is read from the database."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select

from chassis.clock import Clock
from chassis.db.database import Database
from collector.model import CoverageRow
from collector.settled.planner import Account, Flow, calls_in_order, planned
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing, flows_wanted
from domain.interests import Direction

SHOWN: Final = 100
"""Questions of the plan that are shown at most."""


@dataclass(frozen=True, slots=True)
class PlannedQuestion:
    """A question that will be asked: flights of [begin, end), half-open, UTC."""

    airport: str
    direction: Direction
    begin: datetime
    end: datetime
    price: int
    """Credits, if it were asked now."""
    correction: bool
    """Whether the interval was collected before, and is to be collected once more for late flights."""


@dataclass(frozen=True, slots=True)
class FlowCoverage:
    """How far an airport and direction that somebody wants is collected."""

    airport: str
    direction: Direction
    interests: int
    covered_from: datetime | None
    """None: nothing is collected yet."""
    covered_until: datetime | None
    goes_on_at: datetime
    """Where the next collection begins; what lies between `covered_until` and this will be a gap."""
    due_until: datetime
    """Up to where the source knows."""
    asked_at: datetime | None
    """When the source was last asked for it, whatever came of it."""
    lag_s: float
    """Seconds from where it is covered up to now."""


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What the scheduler has, has done and will do."""

    at: datetime
    budget: int
    """Credits of the day (UTC)."""
    spent: int
    """Today, by us and, where the source says so, beyond that."""
    left: int
    due: int
    """Questions that are due, corrections included."""
    plan: tuple[PlannedQuestion, ...]
    """The first of them, in their order."""
    deferred_until: datetime | None
    """Collection is deferred until then: for a lack of credits, or since the source wants a pause. None: it is not."""
    coverage: tuple[FlowCoverage, ...]
    """By airport and direction."""


class SchedulerStatus:
    """Shows the state of the scheduler; may be asked by many threads at once."""

    def __init__(self, database: Database, clock: Clock, timing: Timing, ledger: Ledger) -> None:
        self._database = database
        self._clock = clock
        self._timing = timing
        self._ledger = ledger

    def show(self) -> SchedulerState:
        """The state now. Raises DatabaseAwayError."""
        now = self._clock.now()
        with self._database.reading() as session:
            flows = flows_wanted(session, self._timing, now)
            account = self._ledger.account(session, now)
            rows = session.scalars(select(CoverageRow)).all()
        plan = planned(calls_in_order(flows, now, self._timing.poll_interval), account, now)
        covered_from = {(row.airport, row.direction): row.covered_from for row in rows}
        return SchedulerState(
            at=now,
            budget=account.budget,
            spent=account.spent,
            left=account.left,
            due=len(plan.calls),
            plan=tuple(
                PlannedQuestion(
                    airport=each.call.interval.airport,
                    direction=each.call.interval.direction,
                    begin=each.call.interval.begin,
                    end=each.call.interval.end,
                    price=each.price,
                    correction=each.call.correction,
                )
                for each in plan.calls[:SHOWN]
            ),
            deferred_until=_later(plan.deferred_until, account, now),
            coverage=tuple(
                _coverage(flow, covered_from.get((flow.airport, flow.direction.value)), now)
                for flow in sorted(flows, key=lambda flow: (flow.airport, flow.direction))
            ),
        )


def _later(deferred_until: datetime | None, account: Account, now: datetime) -> datetime | None:
    paused_until = account.paused_until if account.paused(now) else None
    return max((each for each in (deferred_until, paused_until) if each), default=None)


def _coverage(flow: Flow, covered_from: datetime | None, now: datetime) -> FlowCoverage:
    return FlowCoverage(
        airport=flow.airport,
        direction=flow.direction,
        interests=flow.interests,
        covered_from=covered_from if flow.cursor else None,
        covered_until=flow.cursor,
        goes_on_at=flow.begin,
        due_until=flow.until,
        asked_at=flow.asked_at,
        lag_s=max((now - flow.begin).total_seconds(), 0.0),
    )
