"""The feeds of an OpenSky account: what a round costs, when the next one is due, and what the source may require."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from chassis.db.database import Database
from collector.errors import (
    SourceError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
    SupersededError,
)
from collector.leadership.terms import Term, begin_term
from collector.live.airfields import load_airfields
from collector.live.feeds import RoundPlan, RoundResult, Wait
from collector.live.opensky_feeds import OpenSkyFeed, OwnReceiversFeed
from collector.live.wanted import NOTHING_WANTED, WantedAirports, build_wanted
from collector.model import SCHEMA
from collector.settled.planner import QuotaBalance
from collector.settled.quota import Bucket, QuotaStore
from collector.sources.regions import StatesRegion
from collector.sources.state_vector import Poll
from domain.interests import Direction
from tests.collector.conftest import ON_SQLITE
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock

NOON: Final = datetime(2013, 2, 13, 12, tzinfo=UTC)
PER_DAY: Final = 4_000
POLL: Final = Poll(NOON.timestamp(), [])


class FakeStates:
    """A client that reports credits as the test plans, and is never really asked."""

    remaining_credits: int | None = None
    clock_error: timedelta | None = None

    def __init__(self) -> None:
        self.asked: list[int | None] = []
        """The instants that were asked for; None: now."""
        self.error: SourceError | None = None
        """The error that every request raises; None: none is raised."""

    async def fetch_poll(self, region: StatesRegion, within_s: float, at: int | None = None) -> Poll:
        """Return an empty poll."""
        self.asked.append(at)
        if self.error is not None:
            raise self.error
        return POLL


class FeedUnderTest:
    """The feed with its bucket in a database, in a term of its own."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.database, self.clock, self.states = database, clock, FakeStates()
        self.quota = QuotaStore(PER_DAY, Bucket.STATES)
        self.term = begin_term(database)
        self.feed = OpenSkyFeed(self.states, database, clock, self.quota, PER_DAY)  # type: ignore[arg-type]

    @property
    def balance(self) -> QuotaBalance:
        """The credits as the database has them."""
        with self.database.reading() as session:
            return self.quota.load_balance(session, self.clock.now())

    def plan(self, *airports: str) -> RoundPlan | Wait:
        """Plan a round for airports with one interest each."""
        return asyncio.run(self.feed.plan_round(self.term, want(*airports)))

    def make_round(self, *airports: str) -> RoundPlan:
        """Plan a round that is due."""
        planned = self.plan(*airports)
        assert isinstance(planned, RoundPlan)
        return planned

    def note(self, plan: RoundPlan, result: RoundResult, left: int | None = None) -> None:
        """Tell the feed how a round went, and what the source said of the credits."""
        self.states.remaining_credits = left
        asyncio.run(self.feed.note_result(self.term, plan, result))


def want(*airports: str) -> WantedAirports:
    """Return airports that one person each watches."""
    directions = [(each, Direction.BOTH) for each in airports]
    people = dict.fromkeys(airports, 1)
    return build_wanted(directions, people, load_airfields()) if airports else NOTHING_WANTED


SUCCESS: Final = RoundResult({"opensky": {"box": POLL}}, {})


@pytest.fixture
def tested(database_url: str) -> Iterator[FeedUnderTest]:
    """Yield a feed with a day's credits, at noon."""
    database = Database(database_url)
    create_tables(database, SCHEMA)
    yield FeedUnderTest(database, FakeClock(NOON))
    database.close()


def test_a_round_is_charged_before_it_is_asked(tested: FeedUnderTest) -> None:
    """And the next one is due once the credits that are left last until midnight, by elapsed time."""
    assert tested.plan() == Wait(60.0)
    planned = tested.make_round("KJFK")
    assert (tested.balance.spent, planned.polled) == (1, frozenset({"KJFK"}))
    tested.note(planned, SUCCESS, left=PER_DAY - 1)
    assert tested.plan("KJFK") == Wait(11.0)
    tested.clock.advance(timedelta(seconds=10))
    tested.clock.set_wall_clock(NOON + timedelta(seconds=7))
    assert isinstance(tested.plan("KJFK"), Wait)
    tested.clock.advance(timedelta(seconds=1))
    tested.make_round("KJFK")
    assert tested.balance.spent == 2


@ON_SQLITE
def test_what_the_source_says_is_believed_when_it_is_less(tested: FeedUnderTest) -> None:
    """Somebody else may use the same account; what is left then has to last until midnight."""
    planned = tested.make_round("KJFK")
    tested.note(planned, SUCCESS, left=2_000)
    assert tested.balance.left == 2_000
    assert tested.plan("KJFK") == Wait(22.0)
    tested.clock.advance(timedelta(seconds=22))
    planned = tested.make_round("KJFK")
    tested.note(planned, SUCCESS, left=3_999)
    assert tested.balance.left == PER_DAY - 2


@ON_SQLITE
def test_a_new_leader_goes_on_with_the_credits_that_are_left(tested: FeedUnderTest) -> None:
    """Nothing is granted twice; and a leader that was superseded spends nothing."""
    tested.make_round("KJFK")
    other = FeedUnderTest(tested.database, tested.clock)
    other.make_round("KJFK")
    assert other.balance.spent == 2
    tested.clock.advance(timedelta(minutes=2))
    with pytest.raises(SupersededError):
        tested.plan("KJFK")
    assert other.balance.spent == 2


def test_a_pause_that_the_source_requires_is_stored(tested: FeedUnderTest) -> None:
    """The next leader respects it, too; what was not asked costs nothing."""
    planned = tested.make_round("KJFK", "LFPG", "RJTT")
    assert tested.balance.spent == 3
    tested.note(planned, RoundResult({}, {"opensky": SourceLimitedError(120.0)}, unsent=1))
    assert tested.balance.spent == 1  # the first box was answered
    other = FeedUnderTest(tested.database, tested.clock)
    for each in (tested, other):
        each.term = begin_term(tested.database)
        waiting = each.plan("KJFK")
        assert isinstance(waiting, Wait)
        assert waiting.seconds == 120.0
        assert "120 s" in waiting.reason
    tested.clock.advance(timedelta(seconds=120))
    assert isinstance(other.plan("KJFK"), RoundPlan)


@ON_SQLITE
def test_a_round_that_failed_is_made_again_at_once(tested: FeedUnderTest) -> None:
    """It shows nothing, and the detector bridges but two minutes. It was paid for, unless the source says otherwise."""
    planned = tested.make_round("KJFK")
    tested.note(planned, RoundResult({}, {"opensky": SourceUnavailableError("it is down")}))
    tested.make_round("KJFK")
    assert tested.balance.spent == 2


def test_a_server_of_tokens_that_fails_costs_no_credit(tested: FeedUnderTest) -> None:
    """The source was not asked: what was charged is given back, whatever kind the failure is."""
    for number, error in enumerate((SourceUnavailableError("no token"), SourceRefusedError("no token")), 1):
        planned = tested.make_round("KJFK")
        error.is_unasked = True
        tested.note(planned, RoundResult({}, {"opensky": error}))
        assert tested.balance.spent == 0, number


@ON_SQLITE
def test_an_account_that_is_refused_is_left_alone_for_a_while(tested: FeedUnderTest) -> None:
    """An operator must set it right; until then each request would be a credit."""
    planned = tested.make_round("KJFK")
    tested.note(planned, RoundResult({}, {"opensky": SourceRefusedError("the key is wrong")}))
    tested.clock.advance(timedelta(minutes=9))
    assert isinstance(tested.plan("KJFK"), Wait)
    tested.clock.advance(timedelta(minutes=1))
    tested.make_round("KJFK")


@ON_SQLITE
def test_airports_beyond_the_credits_are_told_why(tested: FeedUnderTest) -> None:
    """They are settled; without credits at all there is no round, and the plan is made again later."""
    with tested.database.transaction() as session:
        tested.quota.charge(session, PER_DAY - 500, NOON)
    planned = tested.make_round("KJFK", "LFPG", "RJTT")
    assert len(planned.polled) == 1
    assert len(planned.settled) == 2
    with tested.database.transaction() as session:
        tested.quota.charge(session, 400, NOON)
    tested.clock.advance(timedelta(minutes=2))
    waiting = tested.plan("KJFK")
    assert isinstance(waiting, Wait)
    assert (waiting.seconds, list(waiting.settled)) == (60.0, ["KJFK"])


def test_an_account_without_receivers_is_asked_seldom() -> None:
    """Every ten seconds at first, every ten minutes after some empty polls, and six hours after a refusal."""
    clock = FakeClock(NOON)
    feed = OwnReceiversFeed(FakeStates(), clock)  # type: ignore[arg-type]
    wanted, term = want("KJFK"), Term(1)

    async def plan() -> RoundPlan | Wait:
        """Plan a round."""
        return await feed.plan_round(term, wanted)

    async def scenario() -> None:
        """Poll until it is asked seldom, and then get a refusal."""
        for _ in range(6):
            planned = await plan()
            assert isinstance(planned, RoundPlan)
            assert await plan() == Wait(10.0)
            await feed.note_result(term, planned, RoundResult({"own": {"own": POLL}}, {}))
            clock.advance(timedelta(seconds=10))
        assert await plan() == Wait(590.0)
        clock.advance(timedelta(seconds=590))
        planned = await plan()
        assert isinstance(planned, RoundPlan)
        await feed.note_result(term, planned, RoundResult({}, {"own": SourceRefusedError("no receivers")}))
        clock.advance(timedelta(hours=5, minutes=59))
        assert isinstance(await plan(), Wait)
        clock.advance(timedelta(minutes=1))
        assert isinstance(await plan(), RoundPlan)

    asyncio.run(scenario())
