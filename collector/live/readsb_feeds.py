"""The feeds of sources that speak readsb's JSON: receivers, and services that are asked by region."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from chassis.clock import Clock
from collector.errors import SourceLimitedError, SourceRefusedError
from collector.leadership.terms import Term
from collector.live.feeds import RECEIVERS_INTERVAL_S, Request, RoundPlan, RoundResult, Wait
from collector.live.opensky_feeds import PLAN_AGAIN_S
from collector.live.region_planner import LONGEST_INTERVAL_S, CirclePlan, plan_circles
from collector.live.wanted import ROOM_KM, WantedAirports
from collector.sources.readsb.client import ReadsbClient

RECEIVER_WITHIN_S: Final = 8.0
"""Real seconds for one request to a receiver."""
SERVICE_WITHIN_S: Final = 20.0
"""Real seconds for one request to a service, beside the wait for its turn: one request a second."""
REFUSED_PAUSE: Final = timedelta(minutes=5)
"""Time without a request to a source that refused one."""


class _Pauses:
    """The time until which each source is not asked, because it refused a request or required a pause."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[str, timedelta] = {}

    def is_over(self, source: str) -> bool:
        """Return True if a source may be asked."""
        return self._clock.elapsed() >= self._until.get(source, timedelta(0))

    def note_result(self, result: RoundResult) -> None:
        """Begin a pause of each source that refused a request (REFUSED_PAUSE), or required a pause (as long as that).

        After any other failure there is none.
        """
        for source, error in result.failures.items():
            if isinstance(error, SourceRefusedError):
                self._until[source] = self._clock.elapsed() + REFUSED_PAUSE
            elif isinstance(error, SourceLimitedError):
                self._until[source] = self._clock.elapsed() + timedelta(seconds=error.retry_after_s)

    def describe_wait(self, sources: Sequence[str]) -> Wait:
        """Return the wait until the first of the sources may be asked, all of which have a pause."""
        left = min(self._until[source] for source in sources) - self._clock.elapsed()
        return Wait(max(left.total_seconds(), 1.0), "the source has refused a request, and is asked again later")


class ReceiversFeed:
    """The feed "receivers": each `aircraft.json`, by URL or file, every 10 s."""

    name: Final = "receivers"
    longest_interval_s: Final = RECEIVERS_INTERVAL_S
    empty_counts: Final = True
    compares_clock: Final = False
    past_states: Final = None

    def __init__(self, clients: Sequence[ReadsbClient], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._pauses = _Pauses(clock)
        self._asked_at: timedelta | None = None

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Plan the next requests once their time has come; see `Feed`."""
        if not wanted.airports:
            return Wait(PLAN_AGAIN_S)
        since = None if self._asked_at is None else (self._clock.elapsed() - self._asked_at).total_seconds()
        if since is not None and since < RECEIVERS_INTERVAL_S:
            return Wait(RECEIVERS_INTERVAL_S - since)
        clients = [each for each in self._clients if self._pauses.is_over(each.name)]
        if not clients:
            return self._pauses.describe_wait([each.name for each in self._clients])
        self._asked_at = self._clock.elapsed()
        requests = [
            Request(each.name, each.name, partial(each.fetch_poll, None, RECEIVER_WITHIN_S)) for each in clients
        ]
        return RoundPlan(requests, RECEIVERS_INTERVAL_S, wanted.codes)

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Begin the pauses of the receivers that refused the request."""
        self._pauses.note_result(result)


class ServicesFeed:
    """The feed "services": regions around points, one request a second to each service."""

    name: Final = "services"
    longest_interval_s: Final = float(LONGEST_INTERVAL_S)
    empty_counts: Final = False
    compares_clock: Final = False
    past_states: Final = None

    def __init__(self, clients: Sequence[ReadsbClient], clock: Clock) -> None:
        self._clients = clients
        self._clock = clock
        self._pauses = _Pauses(clock)
        self._asked_at: timedelta | None = None
        self._planned: tuple[WantedAirports, CirclePlan] | None = None

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Plan the next requests once their time has come; see `Feed`."""
        if not wanted.airports:
            return Wait(PLAN_AGAIN_S)
        if self._planned is None or self._planned[0] is not wanted:
            self._planned = wanted, plan_circles(wanted.airports, ROOM_KM)
        plan = self._planned[1]
        since = None if self._asked_at is None else (self._clock.elapsed() - self._asked_at).total_seconds()
        if since is not None and since < plan.interval_s:
            return Wait(plan.interval_s - since, settled=plan.settled)
        clients = [each for each in self._clients if self._pauses.is_over(each.name)]
        if not clients:
            return self._pauses.describe_wait([each.name for each in self._clients])
        self._asked_at = self._clock.elapsed()
        within_s = SERVICE_WITHIN_S + len(plan.regions)
        requests = [
            Request(each.name, f"{each.name} {region}", partial(each.fetch_poll, region, within_s))
            for each in clients
            for region in plan.regions
        ]
        return RoundPlan(requests, plan.interval_s, plan.live, plan.settled)

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Begin the pauses of the services that refused a request; if none has answered, ask again soon.

        A round takes up to 90 s, so that the detector bridges no second one that is missing.
        """
        self._pauses.note_result(result)
        if not result.polls:
            self._asked_at = None
