"""Any sequence of collections, corrections, interests that come and go, sweeps and crashes, against a simple model.

The model reads what was published, as a stream does, and knows the source: it shares no code with the collection.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any
from uuid import uuid4

from hypothesis import Phase, given, note, settings, strategies as st
from sqlalchemy import event, select

from chassis.db.database import Database
from chassis.db.outbox import LEASE_S, SequencedMessage
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import DeposedError, SourceAwayError
from collector.interests import Interests
from collector.intervals import Lags
from collector.leadership.terms import Term
from collector.model import OUTBOX, SCHEMA, CoverageRow, CreditsRow, FlightRow
from collector.retention import Sweep
from collector.settled.collection import Collection
from collector.settled.planner import calls_in_order
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing, flows_wanted
from collector.sources.opensky.client import Flight
from domain.interests import Direction
from tests.collector.conftest import NOON, wish
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_database import Fault, FaultyDatabase, Killed
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RETENTION = 40 * DAY
TIMING = Timing(
    Lags(departures=timedelta(minutes=30), arrivals=2 * HOUR), poll_interval=HOUR, corrections_after=2 * DAY
)
AIRPORTS = ("KJFK", "LICC")
BUDGETS = (120, 400, 100_000)

Key = tuple[str, datetime]
Line = tuple[str, str]
"""Airport and direction."""


@dataclass
class Fact:
    """A flight, as the source knows it."""

    icao24: str
    first_seen: datetime
    last_seen: datetime
    known_from: datetime
    steady: bool = True
    """Known in time and never changed: it must be told as soon as its time is covered."""

    @property
    def key(self) -> Key:
        return self.icao24, self.first_seen

    def at(self, direction: str) -> datetime:
        return self.first_seen if direction == "departures" else self.last_seen


class Source:
    """Every flight leaves from and lands at each airport."""

    def __init__(self, clock: FakeClock) -> None:
        self.facts: list[Fact] = []
        self.failing: Iterator[bool] = iter(())
        self.remaining_credits: int | None = None
        self._clock = clock

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        if next(self.failing, False):
            raise SourceAwayError("as planned")
        now = self._clock.now()
        found = [
            Flight.model_validate(
                {
                    "icao24": fact.icao24,
                    "firstSeen": int(fact.first_seen.timestamp()),
                    "lastSeen": int(fact.last_seen.timestamp()),
                }
            )
            for fact in self.facts
            if fact.known_from <= now and begin <= fact.at(direction.value) < end
        ]
        return found + found[:1]


@dataclass
class Reader:
    """What a stream reads: the events in the order of their sequence, each once."""

    last: int | None = None
    marks: dict[Line, datetime] = field(default_factory=dict)
    """Up to where each airport and direction is covered."""
    begun: dict[Line, datetime] = field(default_factory=dict)
    """From where on, without a gap."""
    told: defaultdict[Line, dict[Key, datetime]] = field(default_factory=lambda: defaultdict(dict))
    """The flights, with the times that they count at."""
    seen: dict[int, Any] = field(default_factory=dict)

    def read(self, published: list[SequencedMessage]) -> None:
        for each in published:
            assert self.seen.setdefault(each.sequence, each.message) == each.message, "a sequence was reused"
            if self.last is None or each.sequence > self.last:
                assert self.last is None or each.sequence == self.last + 1, "a sequence was skipped"
                self.last = each.sequence
                if each.message.topic == FLIGHTS_OBSERVED.name:
                    self._fold(flights_pb.FlightsObserved.FromString(each.message.value or b""))

    def _fold(self, value: flights_pb.FlightsObserved) -> None:
        name = flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower()
        line = value.airport, name
        begin, end = value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)
        mark = self.marks.get(line)
        if value.coverage == flights_pb.COVERAGE_GAP:
            assert (begin, list(value.flights)) == (mark, [])
            assert begin < end
            self.marks[line] = self.begun[line] = end
            return
        assert value.coverage == flights_pb.COVERAGE_COMPLETE
        assert mark is None or begin == mark or end <= mark, "coverage is not end to end"
        for flight in value.flights:
            key = flight.icao24, flight.first_seen.ToDatetime(UTC)
            at = (flight.first_seen if name == "departures" else flight.last_seen).ToDatetime(UTC)
            assert begin <= at < end
            assert key not in self.told[line], "a flight was told twice"
            self.told[line][key] = at
        self.begun.setdefault(line, begin)
        self.marks[line] = max(mark or end, end)


class World:
    """A collector's database, its replicas that live and die, and who reads what they publish."""

    def __init__(self, folder: str, budget: int) -> None:
        self.clock = FakeClock(NOON)
        self.database = Database(f"sqlite:///{folder}/collector.db")
        event.listen(
            self.database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF") and None
        )
        SCHEMA.create_all(self.database.engine)
        self.interests = Interests(self.database, self.clock)
        self.users = {airport: uuid4() for airport in AIRPORTS}
        self.source = Source(self.clock)
        self.reader = Reader()
        self.budget = budget
        self.terms: list[Term] = []
        self.relay_now = 1_360_713_600.0

    def collect(self, faults: list[Fault | None], failing: list[bool]) -> None:
        """A new leader, whose transactions and questions go wrong as planned."""
        self.source.failing = iter(failing)
        collection = self.collection(FaultyDatabase(self.database, iter(faults)), self.source, self.budget)

        async def lead() -> None:
            term = await collection.begin_term()
            self.terms.append(term)
            await collection.collect(term)

        with suppress(Killed, DatabaseUnavailableError):
            asyncio.run(lead())

    def collection(self, database: Database, source: Source, budget: int) -> Collection:
        metrics = Metrics(ServiceIdentity("collector", "local"))
        return Collection(database, source, self.clock, TIMING, Ledger(budget), metrics)

    def collect_deposed(self) -> None:
        """A leader of long ago wakes up, where there is one: it neither stores nor spends, and is told so."""
        if len(self.terms) < 2:
            return
        before = self.spent()
        self.source.failing = iter(())
        with suppress(DeposedError):
            asyncio.run(self.collection(self.database, self.source, 100_000_000).collect(self.terms[-2]))
            assert self.nothing_due(), "nobody told it"
        assert self.spent() == before

    def spent(self) -> tuple[datetime, int] | None:
        with self.database.reading() as session:
            row = session.get(CreditsRow, 1)
        return row and (row.day, row.spent)

    def nothing_due(self) -> bool:
        """Whether a collection finds nothing to ask for."""
        now = self.clock.now()
        with self.database.reading() as session:
            return calls_in_order(flows_wanted(session, TIMING, now), now, HOUR) == []

    def relay(self, owner: str, dies: bool) -> None:
        """A round of the outbox; a relay that dies has published, and forgotten nothing."""
        with self.database.transaction() as session:
            claimed = OUTBOX.claim_messages(session, owner, self.relay_now)
        self.reader.read(claimed)
        if dies:
            self.relay_now += LEASE_S + 1
        else:
            with self.database.transaction() as session:
                OUTBOX.delete_published(session, claimed)
                OUTBOX.release_lease(session, owner)

    def drain(self) -> None:
        self.relay_now += LEASE_S + 1
        while self.backlog():
            self.relay("last", dies=False)

    def backlog(self) -> int:
        with self.database.transaction() as session:
            return OUTBOX.count_unpublished(session)

    def check(self) -> None:
        """Covered implies complete; and the database, the events and the source agree."""
        self.drain()
        with self.database.reading() as session:
            cursors = {(row.airport, row.direction): row for row in session.scalars(select(CoverageRow))}
            rows = session.scalars(select(FlightRow)).all()
        stored: defaultdict[Line, dict[Key, datetime]] = defaultdict(dict)
        for row in rows:
            stored[row.airport, row.direction][row.icao24, row.first_seen] = row.event_time
        assert {line: row.covered_until for line, row in cursors.items()} == self.reader.marks
        for line, cursor in cursors.items():
            told = self.reader.told[line]
            assert cursor.covered_from >= self.reader.begun[line]
            for fact in self.source.facts:
                if fact.steady and self.reader.begun[line] <= fact.at(line[1]) < cursor.covered_until:
                    assert fact.key in told, "what is covered is not complete"
            assert stored[line].items() <= told.items()
            for key, at in told.items():
                assert key in stored[line] or at < cursor.covered_from or at < self.clock.now() - RETENTION


class What(Enum):
    COLLECT = auto()
    DEPOSED = auto()
    WANT = auto()
    LEAVE = auto()
    RETURN = auto()
    """Nobody wants the airport for a while, then somebody wants it from now on: there is a gap."""
    SWEEP = auto()
    LATE = auto()
    CORRECT = auto()
    """Days that are collected get a late flight each, and are old enough to be corrected some days later."""
    CHANGE = auto()
    RELAY = auto()


@dataclass(frozen=True)
class Step:
    """Something that happens, after some time."""

    what: What
    hours: float
    faults: list[Fault | None]
    failing: list[bool]
    number: int


STEPS = st.builds(
    Step,
    what=st.sampled_from([*What, What.COLLECT, What.COLLECT, What.COLLECT, What.RETURN]),
    hours=st.one_of(st.floats(0.01, 30), st.sampled_from([24.0, 72.0, 80.0, 24.0 * 50])),
    # One fault, after any number of transactions; often none.
    faults=st.builds(lambda sound, *last: [None] * sound + list(last), st.integers(0, 30), st.sampled_from(Fault))
    | st.just([]),
    failing=st.builds(lambda sound: [False] * sound + [True], st.integers(0, 12)) | st.just([]),
    number=st.integers(0, 10_000),
)


# To shrink a story that fails takes minutes; it is short enough to be read.
@settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.sampled_from(BUDGETS), st.lists(STEPS, min_size=8, max_size=20))
def test_any_story_keeps_what_is_covered_complete(budget: int, steps: list[Step]) -> None:
    """At every moment: no gap that is not said, no flight lost or told twice, no sequence reused or skipped."""
    note(repr(steps))
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder, budget)
        for number in range(0, 24 * 80, 5):  # flights all along
            first_seen = NOON - 5 * DAY + number * HOUR
            world.source.facts.append(Fact(f"{number:06x}", first_seen, first_seen + 2 * HOUR, first_seen))
        world.interests.set(world.users["KJFK"], wish("KJFK", Direction.BOTH))
        for step in steps:
            world.clock.advance(timedelta(hours=step.hours))
            happens(world, step)
            world.check()
        world.database.close()


def happens(world: World, step: Step) -> None:
    airport = AIRPORTS[step.number % 2]
    facts, now = world.source.facts, world.clock.now()
    match step.what:
        case What.COLLECT:
            world.collect(step.faults, step.failing)
        case What.DEPOSED:
            world.collect_deposed()
        case What.WANT:
            direction = list(Direction)[step.number % 3]
            back = None if step.number % 5 else now - (step.number % 4) * DAY
            world.interests.set(world.users[airport], wish(airport, direction, effective_from=back))
        case What.LEAVE:
            world.interests.remove_all(world.users[airport])
        case What.RETURN:
            for user in world.users.values():
                world.interests.remove_all(user)
            world.clock.advance(timedelta(days=2 + step.number % 9))
            wanted = wish(airport, Direction.BOTH, effective_from=world.clock.now())
            world.interests.set(world.users[airport], wanted)
            world.collect(step.faults, step.failing)
        case What.SWEEP:
            Sweep(world.database, world.clock, RETENTION).run()
        case What.LATE:
            become_known(world, now - (step.number % 70) * HOUR)
        case What.CORRECT:
            world.collect([], [])
            for hours in (14, 38):
                become_known(world, now - hours * HOUR)
            for _ in range(2):
                world.clock.advance(2 * DAY)
                world.collect(step.faults, step.failing)
        case What.CHANGE:
            recent = [fact for fact in facts if now - 3 * DAY < fact.first_seen < now]
            for fact in recent[step.number % 7 :: 7]:
                fact.last_seen += timedelta(minutes=step.number % 600)
                fact.steady = False
        case What.RELAY:
            world.relay("ab"[step.number % 2], dies=bool(step.number % 3))


def become_known(world: World, first_seen: datetime) -> None:
    """A flight that the source did not know until now."""
    first_seen = first_seen.replace(microsecond=0)
    icao24 = f"{0xA00000 + len(world.source.facts):06x}"
    world.source.facts.append(Fact(icao24, first_seen, first_seen + HOUR, world.clock.now(), steady=False))
