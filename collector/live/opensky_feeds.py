"""The feeds of an OpenSky account: regions by the planner, within the credits, and the account's own receivers."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from chassis.clock import Clock
from chassis.db.database import Database
from collector.errors import BreakerOpenError, SourceLimitedError, SourceRefusedError
from collector.intervals import DAY, day_of
from collector.leadership.terms import Term, require_term
from collector.live.clock_trust import update_comparison
from collector.live.feeds import (
    RECEIVERS_INTERVAL_S,
    PastStates,
    Request,
    RoundPlan,
    RoundResult,
    Wait,
    make_round,
)
from collector.live.missed_polls import list_missed_times
from collector.live.region_planner import LONGEST_INTERVAL_S, LiveCredits, PositionPlan, plan_positions
from collector.live.wanted import ROOM_KM, WantedAirports
from collector.settled.quota import QuotaStore
from collector.sources.opensky.states_client import OpenSkyStatesClient
from collector.sources.regions import OWN_RECEIVERS

log = structlog.get_logger()

WITHIN_S: Final = 30.0
"""Real seconds for one request."""
PLAN_AGAIN_S: Final = 60.0
"""Seconds after which the plan is made again when no region can be paid, or nothing is wanted."""
REFUSED_PAUSE: Final = timedelta(minutes=10)
"""Time without a request after the source refused one: an operator must set the account right."""
OWN_REFUSED_PAUSE: Final = timedelta(hours=6)
"""Time after which an account without receivers is asked for its own once more."""
_EMPTY_POLLS: Final = 6
"""Polls of the account's own receivers without any aircraft after which they are asked seldom."""
_SELDOM_S: Final = 600.0


class OpenSkyFeed:
    """The feed "opensky": boxes or the whole world, as often as the credits for positions last.

    The price of a round is charged in the database before it is asked, so that a leader that is killed spends no credit
    twice. What was not asked, or was refused with a pause, is refunded.
    """

    name: Final = "opensky"
    longest_interval_s: Final = float(LONGEST_INTERVAL_S)
    empty_counts: Final = False
    compares_clock: Final = True

    def __init__(
        self, client: OpenSkyStatesClient, database: Database, clock: Clock, quota: QuotaStore, per_day: int
    ) -> None:
        """`quota`: of the bucket for positions; `per_day`: its credits."""
        self._client = client
        self._database = database
        self._clock = clock
        self._quota = quota
        self._per_day = per_day
        self._plan: PositionPlan | None = None
        self._asked_at: timedelta | None = None
        self._charged_at = clock.now()
        self._refused_until = timedelta(0)

    @property
    def past_states(self) -> PastStates:
        """The feed itself: an account is given the states of the last hour."""
        return self

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Plan the next round and charge its price if it is due; else return how long to wait, and why; see `Feed`."""
        left = self._refused_until - self._clock.elapsed()
        if left > timedelta(0):
            return Wait(left.total_seconds(), "the source has refused a request, and is asked again later")
        if not wanted.airports:
            self._plan = None
            return Wait(PLAN_AGAIN_S)
        return await asyncio.to_thread(self._plan_and_charge, term, wanted)

    def _plan_and_charge(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Return the round whose price was charged now, or the time to wait."""
        now = self._clock.now()
        with self._database.reading() as session:
            balance = self._quota.load_balance(session, now)
        if balance.paused_until is not None and balance.is_paused(now):
            seconds = (balance.paused_until - now).total_seconds()
            return Wait(seconds, f"the source wants no request for {seconds:.0f} s", self._find_settled())
        since = None if self._asked_at is None else (self._clock.elapsed() - self._asked_at).total_seconds()
        seconds_left = (day_of(now) + DAY - now).total_seconds()
        credits_ = LiveCredits(self._per_day, balance.left, seconds_left, since)
        plan = self._plan = plan_positions(wanted.airports, credits_, ROOM_KM, self._plan)
        if not plan.regions:
            return Wait(min(PLAN_AGAIN_S, seconds_left + 1.0), "no region can be paid", plan.settled)
        if since is not None and since < plan.interval_s:
            return Wait(plan.interval_s - since, settled=plan.settled)
        self._charge(term, plan, now)
        self._asked_at = self._clock.elapsed()
        return self._build_round(plan)

    def _charge(self, term: Term, plan: PositionPlan, now: datetime) -> None:
        """Charge the price of one round of a plan. Raises SupersededError, DatabaseUnavailableError."""
        with self._database.transaction() as session:
            require_term(session, term)
            self._quota.charge(session, plan.price, now)
        self._charged_at = now
        self._client.remaining_credits = self._client.clock_error = None

    def _build_round(self, plan: PositionPlan, *at: int) -> RoundPlan:
        """Build the requests for the regions of a plan. `at`: the instant whose states are requested; left out: now."""
        requests = [
            Request(self.name, str(region), partial(self._client.fetch_poll, region, WITHIN_S, *at))
            for region in plan.regions
        ]
        return RoundPlan(requests, plan.interval_s, plan.live, plan.settled, one_after_another=True)

    async def list_missed_times(self, heard_until: float, until: float) -> Sequence[int]:
        """Return the instants of missed polls, as far as the credits last; see `PastStates`."""
        if self._plan is None or not self._plan.regions:
            return ()
        times = list_missed_times(heard_until, until, self._plan.interval_s)
        lasts = bool(times) and await asyncio.to_thread(self._can_afford, len(times) * self._plan.price)
        return times if lasts else ()

    def _can_afford(self, credits_: int) -> bool:
        """Return True if so many credits can be spent, and the plan's regions still be polled until midnight.

        False if the credits do not last, or during a pause that the source required.
        """
        now = self._clock.now()
        with self._database.reading() as session:
            balance = self._quota.load_balance(session, now)
        seconds_left = (day_of(now) + DAY - now).total_seconds()
        left = LiveCredits(self._per_day, balance.left - credits_, seconds_left, since_poll_s=0.0)
        lasts = self._plan is not None and left.find_interval(self._plan.price) is not None
        return lasts and balance.left >= credits_ and not balance.is_paused(now)

    async def fetch_missed_poll(self, term: Term, at: int) -> RoundResult:
        """Charge and make one round for the states of an instant; see `PastStates`. Its failure pauses no other."""
        plan = self._plan
        if plan is None:
            return RoundResult({}, {})
        await asyncio.to_thread(self._charge, term, plan, self._clock.now())
        result = await make_round(self._build_round(plan, at))
        await asyncio.to_thread(self._refund_and_store_result, term, result)
        return result

    def _find_settled(self) -> dict[str, str]:
        """Return why airports are not polled by the last plan."""
        return dict(self._plan.settled) if self._plan is not None else {}

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Store the pause that the source requires, and what it says of the credits; refund what was not asked."""
        error = result.failures.get(self.name)
        if error is not None:
            self._asked_at = None  # the next round is due at once: what failed shows nothing
        if isinstance(error, SourceRefusedError):
            self._refused_until = self._clock.elapsed() + REFUSED_PAUSE
        if error is None and self._client.remaining_credits is None and self._client.clock_error is None:
            return
        await asyncio.to_thread(self._refund_and_store_result, term, result)

    def _refund_and_store_result(self, term: Term, result: RoundResult) -> None:
        """Refund the credits of requests that were not sent, and store what the source told in a round.

        That is the pause that it requires, the credits that are left, and the comparison of the clocks. Raises
        SupersededError, DatabaseUnavailableError.
        """
        error, now, position_plan = result.failures.get(self.name), self._clock.now(), self._plan
        is_unasked = error is not None and (
            error.is_unasked or isinstance(error, SourceLimitedError | BreakerOpenError)
        )
        unasked = result.unsent + is_unasked
        refund = 0
        if position_plan is not None and unasked:
            refund = sum(region.compute_price() for region in position_plan.regions[-unasked:])
        with self._database.transaction() as session:
            require_term(session, term)
            if refund:
                self._quota.refund(session, refund, self._charged_at, now)
            if isinstance(error, SourceLimitedError):
                self._quota.store_pause(session, now + timedelta(seconds=error.retry_after_s), now)
            self._quota.reconcile_with_source(session, self._client.remaining_credits, self._charged_at, now)
            if self._client.clock_error is not None:
                update_comparison(session, self._client.clock_error, now)


class OwnReceiversFeed:
    """The feed "own": what the receivers of the account hear, every 10 s, at no cost.

    An account without receivers is asked seldom.
    """

    name: Final = "own"
    longest_interval_s: Final = RECEIVERS_INTERVAL_S
    empty_counts: Final = True
    compares_clock: Final = False
    past_states: Final = None

    def __init__(self, client: OpenSkyStatesClient, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._asked_at: timedelta | None = None
        self._empty_polls = 0
        self._refused_until = timedelta(0)

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Plan the next request once its time has come; see `Feed`."""
        elapsed = self._clock.elapsed()
        if elapsed < self._refused_until:
            seconds = (self._refused_until - elapsed).total_seconds()
            return Wait(seconds, "the account has no receivers, as the source says; it is asked again later")
        if not wanted.airports:
            return Wait(PLAN_AGAIN_S)
        interval_s = _SELDOM_S if self._empty_polls >= _EMPTY_POLLS else RECEIVERS_INTERVAL_S
        since = None if self._asked_at is None else (elapsed - self._asked_at).total_seconds()
        if since is not None and since < interval_s:
            return Wait(interval_s - since)
        self._asked_at = elapsed
        request = Request(self.name, self.name, partial(self._client.fetch_poll, OWN_RECEIVERS, WITHIN_S))
        return RoundPlan([request], interval_s, wanted.codes)

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Count polls without aircraft, and pause for hours after a refusal."""
        error = result.failures.get(self.name)
        if isinstance(error, SourceRefusedError):
            self._refused_until = self._clock.elapsed() + OWN_REFUSED_PAUSE
        elif error is None:
            is_empty = not any(poll.states for polls in result.polls.values() for poll in polls.values())
            self._empty_polls = self._empty_polls + 1 if is_empty else 0
