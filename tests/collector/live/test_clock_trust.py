"""No positions are covered while this machine's clock may be wrong: ahead, behind, or set meanwhile."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import example, given, settings, strategies as st

from chassis.clock import HeldClock, ScaledClock, SystemClock
from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.interests import InterestStore
from collector.leadership.terms import Term, begin_term
from collector.live.clock_trust import PROBE_EVERY, ClockTrust, update_comparison
from collector.live.collection import LiveCollector
from collector.live.feeds import Request, RoundPlan, RoundResult
from collector.live.live_store import LiveStore
from collector.live.metrics import LiveMetrics
from collector.live.reports import load_reports
from collector.live.wanted import WantedAirports
from collector.model import OUTBOX, SCHEMA
from collector.settled.source_state import store_clock_error
from collector.sources.state_vector import Poll, Position
from domain.interests import Direction
from tests.collector.conftest import wish
from tests.collector.live.test_feeds import build_state
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from towerwatch.topics import FLIGHTS_OBSERVED

HOUR = timedelta(hours=1)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the collector's tables."""
    found = Database(database_url)
    create_tables(found, SCHEMA)
    yield found
    found.close()


class World:
    """A machine whose clock may be wrong, and what the source's clock said of it."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, FakeClock()
        self.trust = ClockTrust(self.clock)
        InterestStore(database, self.clock).set(uuid4(), wish("KJFK", Direction.DEPARTURES))

    def compare(self, error: timedelta, *, live: bool = False) -> None:
        """Store a comparison: by an answer of the source of flights, or of a source of positions."""
        with self.database.transaction() as session:
            (update_comparison if live else store_clock_error)(session, error, self.clock.now())

    def is_trusted(self) -> bool:
        """Read what is stored, and return whether the clock is trusted."""
        with self.database.reading() as session:
            self.trust.read(session)
        if self.trust.must_keep():
            with self.database.transaction() as session:
                self.trust.keep(session)
        return self.trust.is_trusted

    def restart(self) -> None:
        """Begin a new process, which knows what is stored alone."""
        self.trust = ClockTrust(self.clock)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_clock_that_is_ahead_or_behind_is_not_trusted_until_it_agrees(database: Database, sign: int) -> None:
    """By the same limit as for the record, an hour; it stays trusted however long nobody compares it or sets it."""
    world = World(database)
    assert world.is_trusted(), "nobody has compared it yet"
    world.compare(sign * 2 * HOUR, live=True)
    assert world.is_trusted(), "positions alone begin no record of comparisons"
    world.compare(sign * 2 * HOUR)
    assert not world.is_trusted()
    world.compare(sign * 0.9 * HOUR, live=True)
    assert world.is_trusted()
    world.clock.advance(timedelta(days=30))
    assert world.is_trusted(), "the elapsed time shows that nobody has set it"
    world.clock.set_wall_clock(world.clock.now() + sign * 1.5 * HOUR)
    assert not world.is_trusted()
    world.compare(timedelta(0), live=True)
    assert world.is_trusted()


@pytest.mark.parametrize("age", [timedelta(days=3), -2 * HOUR])
def test_a_comparison_of_before_the_process_holds_for_two_days(database: Database, age: timedelta) -> None:
    """Whether the clock was set since is not known. One of the future shows that the clock is behind."""
    world = World(database)
    world.compare(timedelta(0))
    world.clock.set_wall_clock(world.clock.now() + age)
    assert not world.is_trusted()
    world.clock.set_wall_clock(world.clock.now() - age + HOUR)
    assert world.is_trusted()
    world.clock.advance(timedelta(days=3))
    assert world.is_trusted()
    world.clock.set_wall_clock(world.clock.now() + 2 * HOUR)
    assert not world.is_trusted()


def test_a_restart_while_the_source_is_away_for_days_keeps_the_trust(database: Database) -> None:
    """Two days count from when the process before ran last, not from the source's last answer."""
    world = World(database)
    world.compare(timedelta(0))
    for _ in range(30):
        assert world.is_trusted()
        world.clock.advance(12 * HOUR)
    world.restart()
    assert world.is_trusted(), "twelve hours after the process before has read its clock"
    world.clock.advance(timedelta(days=3))
    assert world.is_trusted()
    world.restart()
    world.clock.advance(timedelta(days=2, hours=1))
    assert not world.is_trusted(), "nobody knows what was done to the clock for two days"
    world.compare(timedelta(0), live=True)
    assert world.is_trusted()


def test_a_clock_that_was_set_is_not_noted_as_kept(database: Database) -> None:
    """Neither by the process that sees it, nor is a note of before a comparison believed after the next restart."""
    world = World(database)
    world.compare(timedelta(0))
    assert world.is_trusted()
    world.clock.advance(3 * timedelta(days=1))
    world.clock.set_wall_clock(world.clock.now() + 5 * HOUR)
    assert not world.is_trusted()
    world.restart()
    assert not world.is_trusted()
    world.compare(2 * HOUR)
    world.restart()
    assert not world.is_trusted(), "the comparison itself says that the clock is wrong"


@pytest.mark.parametrize("jump", [timedelta(hours=30), timedelta(hours=-5), timedelta(hours=2)])
def test_a_comparison_soon_after_the_clock_was_set_is_believed(database: Database, jump: timedelta) -> None:
    """Also if both happened between two readings: its own time tells that it was made by the present clock."""
    world = World(database)
    world.compare(timedelta(0))
    assert world.is_trusted()
    world.clock.advance(timedelta(seconds=10))
    world.clock.set_wall_clock(world.clock.now() + jump)
    world.clock.advance(timedelta(seconds=10))
    world.compare(timedelta(0))
    world.clock.advance(timedelta(seconds=10))
    assert world.is_trusted()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 72 * 60)),
        st.tuples(st.just("set"), st.integers(-72 * 60, 72 * 60)),
        st.just(("compare", 0)),
    ),
    max_size=4,
)


@given(rounds=st.lists(STEPS, max_size=8), error=st.integers(-600, 600))
@settings(max_examples=25, deadline=None)
@example(rounds=[[("set", -300), ("compare", 0)], [("advance", 60)]], error=0)
@example(rounds=[[("compare", 0), ("set", 300)], [("advance", 3 * 24 * 60)]], error=0)
@example(rounds=[[("set", 300), ("compare", 0), ("set", -300)]], error=300)
def test_what_is_trusted_is_right(rounds: list[list[tuple[str, int]]], error: int) -> None:
    """In whatever order the clock is set, compared and read: a clock that is hours off is not trusted.

    And one that is right is, once it was compared and read with nothing between. Hours and more pass between readings
    only outside of rounds, as in the product, where it reads each half minute: within a round at most five minutes.
    """
    database = Database("sqlite://")
    create_tables(database, SCHEMA)
    world, off = World(database), timedelta(minutes=error)
    world.compare(off)
    world.is_trusted()
    for steps in rounds:
        for what, minutes in steps:
            if what == "advance":
                world.clock.advance(timedelta(seconds=minutes % 60))
            elif what == "set":
                world.clock.set_wall_clock(world.clock.now() + timedelta(minutes=minutes))
                off += timedelta(minutes=minutes)
            else:
                world.compare(off)
        is_right = abs(off) <= HOUR
        is_trusted = world.is_trusted()
        if abs(abs(off) - HOUR) > timedelta(minutes=25):
            assert not is_trusted or is_right
        world.clock.advance(timedelta(days=3))
        world.compare(off)
        assert world.is_trusted() == is_right
    database.close()


def test_a_clock_that_was_held_was_not_set(database: Database, tmp_path: Path) -> None:
    """A demo's clock stands still until all is ready, is released, and halts at its end."""
    real = FakeClock()
    start = real.now()
    clock = HeldClock(start, 960.0, tmp_path / "anchor", start + timedelta(days=1), real)
    world, trust = World(database), ClockTrust(clock)
    world.compare(timedelta(0))
    for seconds in (1, 300, None, 1, 50, 100, 3_600):
        if seconds is None:
            clock.release()
        else:
            real.advance(timedelta(seconds=seconds))
        with database.reading() as session:
            trust.read(session)
        assert trust.is_trusted
        with database.transaction() as session:
            store_clock_error(session, timedelta(0), clock.now())
    assert clock.is_halted()


def test_a_clock_that_has_stopped_was_not_set(database: Database) -> None:
    """A demo's clock halts at its end, while the time goes on: the pages that are open then keep their green lights."""
    real = FakeClock()
    start = real.now()
    clock = ScaledClock(start, 960.0, start, start + timedelta(days=1), real)
    world, trust = World(database), ClockTrust(clock)

    def is_trusted() -> bool:
        """Read what is stored, and return whether the scaled clock is trusted."""
        with database.reading() as session:
            trust.read(session)
        return trust.is_trusted

    world.compare(timedelta(0))
    for seconds in (1, 30, 50, 20, 100, 3_600):
        assert is_trusted()
        real.advance(timedelta(seconds=seconds))
        with database.transaction() as session:
            store_clock_error(session, timedelta(0), clock.now())
    assert clock.is_halted()
    assert is_trusted()


@pytest.mark.parametrize("jump", [timedelta(hours=30), timedelta(hours=-5), timedelta(hours=2)])
def test_a_clock_that_is_set_is_not_trusted_until_it_is_compared_again(database: Database, jump: timedelta) -> None:
    """Also by less than two days, which the stored comparison alone does not show; or until it is set back."""
    world = World(database)
    world.compare(timedelta(0))
    assert world.is_trusted()
    world.clock.set_wall_clock(world.clock.now() + jump)
    assert not world.is_trusted()
    world.clock.advance(HOUR)
    assert not world.is_trusted()
    world.clock.set_wall_clock(world.clock.now() - jump)
    assert world.is_trusted()
    world.clock.set_wall_clock(world.clock.now() + jump)
    assert not world.is_trusted()
    world.compare(timedelta(0), live=True)
    assert world.is_trusted(), "it was wrong before, and was set right"
    world.clock.set_wall_clock(world.clock.now() + timedelta(minutes=5))
    assert world.is_trusted()


def test_a_source_that_compares_clocks_is_asked_seldom_while_they_differ(database: Database) -> None:
    """Its answer may be the one that shows that all is well again; a receiver's shows nothing."""
    world = World(database)
    world.compare(2 * HOUR)
    assert not world.is_trusted()
    assert not world.trust.begin_poll(compares_clock=False)
    assert world.trust.begin_poll(compares_clock=True)
    assert not world.trust.begin_poll(compares_clock=True)
    world.clock.advance(PROBE_EVERY)
    assert world.trust.begin_poll(compares_clock=True)
    assert not world.trust.begin_poll(compares_clock=False)


class ReceiverOnTheSameMachine:
    """A feed whose positions are dated by the very clock that may be wrong: near KJFK's ground, every ten seconds."""

    name, longest_interval_s, empty_counts, compares_clock, past_states = "receivers", 10.0, True, False, None

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.polls = clock, 0

    async def plan_round(self, term: Term, wanted: WantedAirports) -> RoundPlan:
        """Plan one request."""
        return RoundPlan([Request(self.name, self.name, self.fetch)], 10.0, wanted.codes)

    async def fetch(self) -> Poll:
        """Return a poll of now, by the machine's clock."""
        self.clock.advance(timedelta(seconds=10))
        self.polls += 1
        now = self.clock.now().timestamp()
        state = build_state("abcdef", now)
        return Poll(now, [state._replace(position=Position(now, 40.64, -73.78), on_ground=True)])

    async def note_result(self, term: Term, plan: RoundPlan, result: RoundResult) -> None:
        """Take no note."""


def test_a_receiver_beside_a_wrong_clock_covers_nothing(database: Database) -> None:
    """It agrees with the clock, because it is the same: only the source's word shows that both are wrong.

    Told are status and metric; once the clocks agree, it is polled and covered again, and nothing of before is told.
    """
    world = World(database)
    world.compare(timedelta(days=1))
    feed = ReceiverOnTheSameMachine(world.clock)
    metrics = Metrics(ServiceIdentity("collector", "local"))
    covered: list[int] = []

    def count_covered() -> int:
        """Return the number of messages of flights in the outbox."""
        with database.reading() as session:
            rows = session.execute(OUTBOX.rows.select()).all()
        return sum(row.topic == FLIGHTS_OBSERVED.name for row in rows)

    async def story() -> None:
        waits = 0

        async def sleep(seconds: float) -> None:
            """Advance the clock; in the thirtieth wait, check that nothing was polled, and set the clock right."""
            nonlocal waits
            waits += 1
            if waits == 30:
                covered.append(count_covered())
                with database.reading() as session:
                    [report] = load_reports(session, ("receivers",))
                assert "clock" in (report.error or "")
                gauge = {"service": "collector", "node": "local"}
                assert metrics.registry.get_sample_value("live_clock_trusted", gauge) == 0
                assert feed.polls == 0
                world.clock.set_wall_clock(world.clock.now() - timedelta(days=1))
                world.compare(timedelta(0))
            world.clock.advance(timedelta(seconds=seconds))
            await asyncio.sleep(0)

        store = LiveStore(database, world.clock)
        collector = LiveCollector(database, world.clock, [feed], store, LiveMetrics(metrics, world.clock), sleep=sleep)
        work = asyncio.create_task(collector.collect_live(begin_term(database)))
        async with asyncio.timeout(120):
            while not (covered and count_covered()):
                await asyncio.sleep(0.01)
                if work.done():
                    await work
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(story())
    assert covered == [0]
    assert feed.polls > 10


def test_a_restart_keeps_the_trust_on_a_clock_that_moves_between_two_readings(database: Database) -> None:
    """A real clock: wall and elapsed time are read one after the other, so their difference varies by microseconds."""
    world = World(database)
    late = [timedelta(0)]
    elapsed = world.clock.elapsed

    def read_later() -> timedelta:
        late[0] = timedelta(microseconds=(late[0].microseconds * 7 + 3) % 11)
        return elapsed() + late[0]

    world.clock.elapsed = read_later  # type: ignore[method-assign]
    world.restart()
    world.compare(timedelta(0))
    for _ in range(30):
        assert world.is_trusted()
        world.clock.advance(12 * HOUR)
    world.restart()
    assert world.is_trusted(), "twelve hours after the process before has read its clock"


def test_keep_is_due_each_hour_by_the_machines_own_clock(database: Database) -> None:
    """With the product's clock: after two readings in a row it is still known that nobody has set it."""
    clock = SystemClock()
    world = World(database)
    world.clock = clock  # type: ignore[assignment]
    world.restart()
    world.compare(timedelta(0))
    due = []
    for _ in range(20):
        with database.reading() as session:
            world.trust.read(session)
        due.append(world.trust.must_keep())
    assert all(due), due
