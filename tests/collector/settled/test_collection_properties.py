"""Property tests of the collector: any sequence of actions and faults is compared with a simple model.

The model reads the published events, as a stream does, and the source's flights; it shares no code with the collector.
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
from chassis.db.outbox import LEASE_S, LeaseWatch, SequencedMessage
from chassis.errors import DatabaseUnavailableError
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SourceUnavailableError, SupersededError
from collector.interests import InterestStore
from collector.intervals import day_of
from collector.leadership.terms import Term
from collector.model import OUTBOX, SCHEMA, CoverageRow, CreditsRow, FlightRow
from collector.retention import FlightRetention
from collector.settled.collection import FlightCollector
from collector.settled.evidence import DEFAULT_BEACONS, RecordTiming
from collector.settled.planner import list_due_calls
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming, list_due_evidence, load_schedule
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import NOON, wish
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_database import DatabaseFault, FaultyDatabase, Killed
from tests.fakes.nightly_source import RECORD_AFTER, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
RETENTION = 40 * DAY
TIMING = CollectionTiming(
    RecordTiming(asked_after=HOUR, settle_time=3 * HOUR), poll_interval=HOUR, corrections_after=2 * DAY
)
AIRPORTS = ("KJFK", "LICC")
BUDGETS = (120, 400, 100_000)

Key = tuple[str, datetime]
Target = tuple[str, str]
"""Airport and direction."""


@dataclass
class SourceFlight:
    """A flight as the source has it, and the time from which the source has it."""

    icao24: str
    first_seen: datetime
    last_seen: datetime
    known_from: datetime
    steady: bool = True
    """True if the source has the flight in time and never changes it: it must be published once its time is covered."""

    @property
    def key(self) -> Key:
        return self.icao24, self.first_seen

    def at(self, direction: str) -> datetime:
        return self.first_seen if direction == "departures" else self.last_seen


class Source:
    """A source in which every flight departs from and arrives at every airport.

    It gives the flights of a day from RECORD_AFTER the day's end on; the beacons have flights on each evening.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.all_flights: list[SourceFlight] = []
        self.failing: Iterator[bool] = iter(())
        self.remaining_credits: int | None = None
        self.clock_error: timedelta | None = None
        self._clock = clock

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the available flights of the interval, the first one twice; fail as planned."""
        if next(self.failing, False):
            raise SourceUnavailableError("as planned")
        now = self._clock.now()
        if airport in DEFAULT_BEACONS:
            evening = [build_flight(begin + number * HOUR, 10, number) for number in range(5)]
            return evening if day_of(begin) + DAY + RECORD_AFTER <= now else []
        found = [
            Flight.model_validate(
                {
                    "icao24": flight.icao24,
                    "firstSeen": int(flight.first_seen.timestamp()),
                    "lastSeen": int(flight.last_seen.timestamp()),
                }
            )
            for flight in self.all_flights
            if flight.known_from <= now and begin <= (at := flight.at(direction.value)) < end
            if day_of(at) + DAY + RECORD_AFTER <= now
        ]
        return found + found[:1]


@dataclass
class Reader:
    """A reader of the published events, as the stream is: in the order of their sequence, each once."""

    last: int | None = None
    covered_until: dict[Target, datetime] = field(default_factory=dict)
    """End of the coverage by airport and direction."""
    covered_from: dict[Target, datetime] = field(default_factory=dict)
    """Begin of the coverage without a gap, by airport and direction."""
    published: defaultdict[Target, dict[Key, datetime]] = field(default_factory=lambda: defaultdict(dict))
    """Event time of each published flight."""
    seen: dict[int, Any] = field(default_factory=dict)

    def read(self, relayed: list[SequencedMessage]) -> None:
        """Read relayed messages, and assert that no sequence is skipped or used twice."""
        for each in relayed:
            assert self.seen.setdefault(each.sequence, each.message) == each.message, "a sequence was reused"
            if self.last is None or each.sequence > self.last:
                assert self.last is None or each.sequence == self.last + 1, "a sequence was skipped"
                self.last = each.sequence
                if each.message.topic == FLIGHTS_OBSERVED.name:
                    self._fold(flights_pb.FlightsObserved.FromString(each.message.value or b""))

    def _fold(self, value: flights_pb.FlightsObserved) -> None:
        """Fold an event into coverage and flights, and assert that coverage is end to end and no flight comes twice."""
        name = flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower()
        target = value.airport, name
        begin, end = value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)
        cursor_before = self.covered_until.get(target)
        if value.coverage == flights_pb.COVERAGE_GAP:
            assert (begin, list(value.flights)) == (cursor_before, [])
            assert begin < end
            self.covered_until[target] = self.covered_from[target] = end
            return
        assert value.coverage == flights_pb.COVERAGE_COMPLETE
        assert cursor_before is None or begin == cursor_before or end <= cursor_before, "coverage is not end to end"
        for flight in value.flights:
            key = flight.icao24, flight.first_seen.ToDatetime(UTC)
            at = (flight.first_seen if name == "departures" else flight.last_seen).ToDatetime(UTC)
            assert begin <= at < end
            assert key not in self.published[target], "a flight was published twice"
            self.published[target][key] = at
        self.covered_from.setdefault(target, begin)
        self.covered_until[target] = max(cursor_before or end, end)


class CollectionScenario:
    """A collector's database, its replicas, which start and die, and a reader of their events."""

    def __init__(self, folder: str, budget: int) -> None:
        self.clock = FakeClock(NOON)
        self.database = Database(f"sqlite:///{folder}/collector.db")
        event.listen(
            self.database.engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF") and None
        )
        create_tables(self.database, SCHEMA)
        self.interests = InterestStore(self.database, self.clock)
        self.users = {airport: uuid4() for airport in AIRPORTS}
        self.source = Source(self.clock)
        self.reader = Reader()
        self.budget = budget
        self.terms: list[Term] = []
        self.relay_now = 1_360_713_600.0
        self.lease_watches: dict[str, LeaseWatch] = defaultdict(LeaseWatch)

    def collect(self, faults: list[DatabaseFault | None], failing: list[bool]) -> None:
        """Collect as a new leader, and again after the settle time; transactions and API calls fail as planned."""
        self.source.failing = iter(failing)
        collector = self.build_collector(FaultyDatabase(self.database, iter(faults)), self.source, self.budget)

        async def lead() -> None:
            term = await collector.begin_term()
            self.terms.append(term)
            await collector.collect(term)
            self.clock.advance(TIMING.record.settle_time)
            await collector.collect(term)

        with suppress(Killed, DatabaseUnavailableError):
            asyncio.run(lead())

    def build_collector(self, database: Database, source: Source, budget: int) -> FlightCollector:
        """Return a collector, a replica, on this database."""
        metrics = Metrics(ServiceIdentity("collector", "local"))
        return FlightCollector(database, source, self.clock, TIMING, QuotaStore(budget), metrics)

    def collect_superseded(self) -> None:
        """Collect with the term of an earlier leader, if any; it must fail, store nothing and spend nothing."""
        if len(self.terms) < 2:
            return
        before = self.load_spent_credits()
        self.source.failing = iter(())
        with suppress(SupersededError):
            asyncio.run(self.build_collector(self.database, self.source, 100_000_000).collect(self.terms[-2]))
            assert self.has_nothing_due(), "the superseded leader got no error"
        assert self.load_spent_credits() == before

    def load_spent_credits(self) -> tuple[datetime, int] | None:
        """Return the day of the credits' row and the credits spent on it."""
        with self.database.reading() as session:
            row = session.get(CreditsRow, 1)
        return row and (row.day, row.spent)

    def has_nothing_due(self) -> bool:
        """Return True if no API call is due, False if a collection would make one."""
        now = self.clock.now()
        with self.database.reading() as session:
            schedule = load_schedule(session, TIMING, now)
        due = list_due_evidence(schedule, DEFAULT_BEACONS, now, TIMING)
        return list_due_calls(schedule.targets, now) == due == []

    def relay(self, owner: str, dies: bool) -> None:
        """Relay a batch of the outbox; a relay that dies has published the batch, and deleted nothing."""
        with self.database.transaction() as session:
            watch = self.lease_watches[owner]
            claimed = OUTBOX.claim_messages(session, owner, self.relay_now, watch, self.relay_now)
        self.reader.read(claimed)
        if dies:
            self.relay_now += LEASE_S + 1
        else:
            with self.database.transaction() as session:
                OUTBOX.delete_published(session, claimed)
                OUTBOX.release_lease(session, owner)

    def drain_outbox(self) -> None:
        """Relay until the outbox is empty."""
        self.relay_now += LEASE_S + 1
        while self.backlog():
            self.relay("last", dies=False)
            self.relay_now += LEASE_S + 1

    def backlog(self) -> int:
        with self.database.transaction() as session:
            return OUTBOX.count_unpublished(session)

    def check(self) -> None:
        """Assert that covered ranges are complete, and that database, events and source agree."""
        self.drain_outbox()
        with self.database.reading() as session:
            cursors = {(row.airport, row.direction): row for row in session.scalars(select(CoverageRow))}
            rows = session.scalars(select(FlightRow)).all()
        stored: defaultdict[Target, dict[Key, datetime]] = defaultdict(dict)
        for row in rows:
            stored[row.airport, row.direction][row.icao24, row.first_seen] = row.event_time
        assert {target: row.covered_until for target, row in cursors.items()} == self.reader.covered_until
        for target, cursor in cursors.items():
            published = self.reader.published[target]
            assert cursor.covered_from >= self.reader.covered_from[target]
            for flight in self.source.all_flights:
                if flight.steady and self.reader.covered_from[target] <= flight.at(target[1]) < cursor.covered_until:
                    assert flight.key in published, "what is covered is not complete"
            assert stored[target].items() <= published.items()
            for key, at in published.items():
                assert key in stored[target] or at < cursor.covered_from or at < self.clock.now() - RETENTION


class Action(Enum):
    """The kind of a step."""

    COLLECT = auto()
    COLLECT_SUPERSEDED = auto()
    ADD_INTEREST = auto()
    REMOVE_INTERESTS = auto()
    RENEW_INTEREST = auto()
    """All interests are removed; days later there is a new one from then on: there is a gap."""
    DELETE_EXPIRED = auto()
    ADD_LATE_FLIGHT = auto()
    CORRECT = auto()
    """Two collected days get a late flight each, and are corrected some days later."""
    CHANGE_FLIGHTS = auto()
    RELAY = auto()


@dataclass(frozen=True)
class CollectionStep:
    """One action after some time, with planned faults."""

    action: Action
    hours: float
    faults: list[DatabaseFault | None]
    failing: list[bool]
    number: int


STEPS = st.builds(
    CollectionStep,
    action=st.sampled_from([*Action, Action.COLLECT, Action.COLLECT, Action.COLLECT, Action.RENEW_INTEREST]),
    hours=st.one_of(st.floats(0.01, 30), st.sampled_from([24.0, 72.0, 80.0, 24.0 * 50])),
    # One fault, after any number of transactions; often none.
    faults=st.builds(
        lambda sound, *last: [None] * sound + list(last), st.integers(0, 30), st.sampled_from(DatabaseFault)
    )
    | st.just([]),
    failing=st.builds(lambda sound: [False] * sound + [True], st.integers(0, 12)) | st.just([]),
    number=st.integers(0, 10_000),
)


# Shrinking a failing example takes minutes, and it is short enough to be read.
@settings(max_examples=40, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.sampled_from(BUDGETS), st.lists(STEPS, min_size=8, max_size=20))
def test_any_sequence_of_actions_keeps_covered_ranges_complete(budget: int, steps: list[CollectionStep]) -> None:
    """At every moment each gap is declared, each flight is published once, and sequences have no hole."""
    note(repr(steps))
    with tempfile.TemporaryDirectory() as folder:
        scenario = CollectionScenario(folder, budget)
        for number in range(0, 24 * 80, 5):  # flights all along
            first_seen = NOON - 5 * DAY + number * HOUR
            scenario.source.all_flights.append(
                SourceFlight(f"{number:06x}", first_seen, first_seen + 2 * HOUR, first_seen)
            )
        scenario.interests.set(scenario.users["KJFK"], wish("KJFK", Direction.BOTH))
        for step in steps:
            scenario.clock.advance(timedelta(hours=step.hours))
            apply_step(scenario, step)
            scenario.check()
        scenario.database.close()


def apply_step(scenario: CollectionScenario, step: CollectionStep) -> None:
    """Do the action of a step."""
    airport = AIRPORTS[step.number % 2]
    all_flights, now = scenario.source.all_flights, scenario.clock.now()
    match step.action:
        case Action.COLLECT:
            scenario.collect(step.faults, step.failing)
        case Action.COLLECT_SUPERSEDED:
            scenario.collect_superseded()
        case Action.ADD_INTEREST:
            direction = list(Direction)[step.number % 3]
            back = None if step.number % 5 else now - (step.number % 4) * DAY
            scenario.interests.set(scenario.users[airport], wish(airport, direction, effective_from=back))
        case Action.REMOVE_INTERESTS:
            scenario.interests.remove_all(scenario.users[airport])
        case Action.RENEW_INTEREST:
            for user in scenario.users.values():
                scenario.interests.remove_all(user)
            scenario.clock.advance(timedelta(days=2 + step.number % 9))
            wanted = wish(airport, Direction.BOTH, effective_from=scenario.clock.now())
            scenario.interests.set(scenario.users[airport], wanted)
            scenario.collect(step.faults, step.failing)
        case Action.DELETE_EXPIRED:
            FlightRetention(scenario.database, scenario.clock, RETENTION).delete_expired()
        case Action.ADD_LATE_FLIGHT:
            add_late_flight(scenario, now - (step.number % 70) * HOUR)
        case Action.CORRECT:
            scenario.collect([], [])
            for hours in (14, 38):
                add_late_flight(scenario, now - hours * HOUR)
            for _ in range(2):
                scenario.clock.advance(2 * DAY)
                scenario.collect(step.faults, step.failing)
        case Action.CHANGE_FLIGHTS:
            recent = [flight for flight in all_flights if now - 3 * DAY < flight.first_seen < now]
            for flight in recent[step.number % 7 :: 7]:
                flight.last_seen += timedelta(minutes=step.number % 600)
                flight.steady = False
        case Action.RELAY:
            scenario.relay("ab"[step.number % 2], dies=bool(step.number % 3))


def add_late_flight(scenario: CollectionScenario, first_seen: datetime) -> None:
    """Add a flight to the source that the source did not have until now."""
    first_seen = first_seen.replace(microsecond=0)
    icao24 = f"{0xA00000 + len(scenario.source.all_flights):06x}"
    scenario.source.all_flights.append(
        SourceFlight(icao24, first_seen, first_seen + HOUR, scenario.clock.now(), steady=False)
    )
