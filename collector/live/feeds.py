"""Feeds of positions: groups of sources that are polled at one pace and merged by aircraft into one poll.

A feed has one detector, because an aircraft that only a slow source hears would look silent in the rounds of a fast
one. Each round needs an answer of every source that had a part in the last one: else aircraft that only the missing one
hears would look as if they had landed. See docs/adr/0034-live-collection.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol

from collector.errors import SourceError
from collector.leadership.terms import Term
from collector.live.feed_state import LONGEST_LAG_S, LONGEST_LEAD_S
from collector.live.movements import BRIDGED_PAUSE_S
from collector.live.poll_summaries import OLDEST_FRESH_S
from collector.live.wanted import WantedAirports
from collector.sources.merging import merge_polls
from collector.sources.state_vector import MAX_CLOCK_LEAD_S, Poll

RECEIVERS_INTERVAL_S: Final = 10.0
"""Seconds between two polls of a receiver: it costs nothing, and its `aircraft.json` is written once a second."""

FEWEST_ROUNDS_TO_JOIN: Final = 3
"""Good answers in a row after which a source takes part beside others."""
MOST_ROUNDS_TO_JOIN: Final = 360
"""The most that a source which was given up again and again must give: an hour of a receiver's."""

FORGET_TIMES_S: Final = 3_600.0
"""The time of a request's last answer is forgotten after an hour: regions come and go, and an answer as old is none."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a round."""

    source: str
    """The source's name: without an answer to each of its requests it has no part in the round."""
    name: str
    """The request's name among those of the feed; the same region has the same name in each round."""
    fetch: Callable[[], Awaitable[Poll]]
    """Raises SourceError."""


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """The regions that are requested in one round, and the airports that are polled by it."""

    requests: Sequence[Request]
    interval_s: float
    """Seconds (of the service's clock) from this round to the next."""
    polled: frozenset[str]
    """The ICAO codes of the airports whose sky is asked for."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """By ICAO code: why another wanted airport is not polled, in a sentence for its people."""
    one_after_another: bool = False
    """True: a request is sent once the one before was answered, and none after one that failed."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The answer that no round is due yet: the seconds until one may be, and the reason."""

    seconds: float
    """Of the service's clock."""
    reason: str = ""
    """In a sentence, if a source requires it, or nothing can be asked; empty: it is just not time yet."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """As `RoundPlan.settled`."""


@dataclass(frozen=True, slots=True)
class RoundResult:
    """The answers and failures of one round."""

    polls: Mapping[str, Mapping[str, Poll]]
    """By source, and by the request's name: the polls of the sources that answered every request."""
    failures: Mapping[str, SourceError]
    """By source: its first failure."""
    unsent: int = 0
    """The number of requests that were not sent, after a failure."""


class PastStates(Protocol):
    """The past states of a feed whose source also gives those of the last hour."""

    async def list_missed_times(self, heard_until: float, until: float) -> Sequence[int]:
        """Return the instants of the polls that are missing between two times, by the source's clock, in their order.

        The result is empty if the detector bridges the pause, or if the credits do not last for all of them. Raises
        DatabaseUnavailableError.
        """
        ...

    async def fetch_missed_poll(self, term: Term, at: int) -> RoundResult:
        """Ask for the states of an instant, in the regions of the last round, and return the answers.

        Raises SupersededError, DatabaseUnavailableError.
        """
        ...


class Feed(Protocol):
    """A group of sources with a pace."""

    @property
    def name(self) -> str:
        """The feed's name in tables, logs and metrics."""
        ...

    @property
    def longest_interval_s(self) -> float:
        """Seconds between two rounds, at most, while all goes well."""
        ...

    @property
    def compares_clock(self) -> bool:
        """True if its answers compare this machine's clock with another; False if nothing shows that it is wrong."""
        ...

    @property
    def past_states(self) -> PastStates | None:
        """The feed itself if its source gives the states of the last hour; None if it only knows those of now."""
        ...

    @property
    def empty_counts(self) -> bool:
        """True if an answer without aircraft may be true; False if it shows that the source is disturbed."""
        ...

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan | Wait:
        """Return the round to make now, whose price is charged, or the time to wait.

        Raises SupersededError, DatabaseUnavailableError.
        """
        ...

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Take note of how a round went. Raises SupersededError, DatabaseUnavailableError."""
        ...


class OutdatedAnswerError(SourceError):
    """A source answers, but with a poll that counts for nothing."""


async def make_round(plan: RoundPlan) -> RoundResult:
    """Send the requests of a round, and return the answers."""
    failures: dict[str, SourceError] = {}
    polls: dict[str, dict[str, Poll]] = {}
    unsent = 0
    if plan.one_after_another:
        outcomes: list[Poll | SourceError] = []
        for each in plan.requests:
            outcomes.append(await _send(each))
            if isinstance(outcomes[-1], SourceError):
                break
        unsent = len(plan.requests) - len(outcomes)
    else:
        outcomes = await asyncio.gather(*(_send(each) for each in plan.requests))
    for request, outcome in zip(plan.requests, outcomes, strict=False):
        if isinstance(outcome, SourceError):
            failures.setdefault(request.source, outcome)
        else:
            polls.setdefault(request.source, {})[request.name] = outcome
    return RoundResult({source: each for source, each in polls.items() if source not in failures}, failures, unsent)


async def _send(request: Request) -> Poll | SourceError:
    """Send a request; return its poll, or the error of the source."""
    try:
        return await request.fetch()
    except SourceError as error:
        return error


@dataclass(frozen=True, slots=True)
class CountedRound:
    """A round that counts: the merged poll, and which sources had a part in it."""

    poll: Poll
    members: frozenset[str]
    begins_anew: bool
    """True: a source that had a part before was given up."""


class RoundCounter:
    """The rule which rounds count: it knows the times of the last polls, and the sources that had a part."""

    def __init__(self, empty_counts: bool, members: frozenset[str] = frozenset()) -> None:
        """`empty_counts`: True if a source that is alone may hear no aircraft, as a receiver at night; False for
        regions. `members`: the sources that had a part in the last round that counted, also of the leader before.
        """
        self._empty_counts = empty_counts
        self._members = members
        self._good_rounds: dict[str, int] = {}
        """By source that is not a member: its good answers in a row."""
        self._rounds_to_join: dict[str, int] = {}
        """By source that was given up: how many such answers make it a member again."""
        self._hearing: set[str] = set()
        self._counted_at: float | None = None
        self._begun_at: float | None = None
        self._times: dict[str, float] = {}

    def judge(
        self, result: RoundResult, now: datetime, elapsed_s: float
    ) -> tuple[CountedRound | None, dict[str, SourceError]]:
        """Return the round as one poll, None if it does not count, and by source why it had no part.

        A source has no part if it failed, if the time that it states stands still or differs from `now` by more than
        clocks and answers may, or if it heard aircraft before and hears none now. The round counts if all sources have
        a part that had one in the last that counted, or once that is longer ago than the detector bridges: the missing
        sources are given up then. Beside others a new source takes part from its third good answer in a row on, and
        from twice as many each time that it was given up: one that answers now and then must not stop the rest.
        `elapsed_s` is of a monotonic clock.
        """
        if self._begun_at is None:
            self._begun_at = elapsed_s
        failures = dict(result.failures)
        present: set[str] = set()
        is_alone = len(result.polls) + len(failures) == 1
        latest_known = now.timestamp() + LONGEST_LEAD_S  # a later time is from before the clocks were set back
        earliest_known = now.timestamp() - FORGET_TIMES_S
        self._times = {name: time for name, time in self._times.items() if earliest_known <= time <= latest_known}
        for source, polls in result.polls.items():
            longest_lead_s = LONGEST_LEAD_S if is_alone else MAX_CLOCK_LEAD_S
            fault = self._find_fault(polls, now.timestamp(), longest_lead_s)
            is_deaf = not any(map(has_fresh_position, polls.values()))
            if fault is None and is_deaf and not self._may_be_deaf(source, is_alone):
                fault = OutdatedAnswerError("no aircraft in its answer has a fresh position: nothing is covered by it")
            if fault is not None:
                failures[source] = fault
            else:
                (self._hearing.discard if is_deaf else self._hearing.add)(source)
                present.add(source)
        for polls in result.polls.values():
            self._times |= {name: max(poll.time, self._times.get(name, 0.0)) for name, poll in polls.items()}
        self._good_rounds = {source: self._good_rounds.get(source, 0) + 1 for source in sorted(present - self._members)}
        if not present:
            return None, failures
        since = self._counted_at if self._counted_at is not None else self._begun_at
        is_complete = present >= self._members
        if not is_complete and elapsed_s - since <= BRIDGED_PAUSE_S:
            return None, failures
        self._give_up(self._members - present)
        members = frozenset(filter(self._may_join, present) if present & self._members else present)
        self._hearing &= members
        self._members, self._counted_at = members, elapsed_s
        good = {name: poll for source in sorted(members) for name, poll in result.polls[source].items()}
        latest = max(poll.time for poll in good.values())
        merged = merge_polls(good, latest if is_alone else now.timestamp())
        return CountedRound(merged.poll, self._members, not is_complete), failures

    def _give_up(self, sources: Iterable[str]) -> None:
        """Note that sources have no part any more, and need twice as many good answers to have one again."""
        for source in sources:
            needed = self._rounds_to_join.get(source, FEWEST_ROUNDS_TO_JOIN)
            self._rounds_to_join[source] = min(2 * needed, MOST_ROUNDS_TO_JOIN)

    def _may_join(self, source: str) -> bool:
        """Return True if a source with a good answer is a member, or has given enough good answers to become one."""
        needed = self._rounds_to_join.get(source, FEWEST_ROUNDS_TO_JOIN)
        return source in self._members or self._good_rounds.get(source, 0) >= needed

    def _may_be_deaf(self, source: str, is_alone: bool) -> bool:
        """Return True if an answer counts in which no aircraft has a fresh position.

        Beside others a receiver that falls silent must not let them speak for it.
        """
        return self._empty_counts and (is_alone or source not in self._hearing)

    def _find_fault(self, polls: Mapping[str, Poll], now: float, longest_lead_s: float) -> SourceError | None:
        """Return why a source's answers count for nothing; None if they count."""
        latest, earliest = max(poll.time for poll in polls.values()), min(poll.time for poll in polls.values())
        if any(poll.time <= self._times.get(name, 0.0) for name, poll in polls.items()):
            return OutdatedAnswerError(
                f"the time of its answer stands still at {datetime.fromtimestamp(latest, UTC):%H:%M:%SZ}: "
                "look whether the receiver still runs"
            )
        if latest - now > longest_lead_s:
            return OutdatedAnswerError(
                f"the time of its answer is {latest - now:.0f} s ahead of this machine's: set the clocks right"
            )
        if now - earliest > LONGEST_LAG_S:
            return OutdatedAnswerError(
                f"the time of its answer is {now - earliest:.0f} s behind this machine's: set the clocks right, or "
                "look whether the receiver still runs"
            )
        return None


def has_fresh_position(poll: Poll) -> bool:
    """Return True if an aircraft of a poll has a fresh position."""
    earliest = poll.time - OLDEST_FRESH_S
    return any(state.position is not None and state.position.time >= earliest for state in poll.states)
