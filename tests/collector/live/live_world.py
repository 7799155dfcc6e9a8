"""A leader's live collection on a real database, from the replay's sky over HTTP, in simulated time."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final
from uuid import uuid4

from sqlalchemy import select

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.interests import InterestStore
from collector.leadership.terms import Term, begin_term
from collector.live.airfields import load_airfields
from collector.live.collection import LiveCollector
from collector.live.feeds import Feed
from collector.live.live_store import LiveStore
from collector.live.metrics import LiveMetrics
from collector.live.movements import MovementDetector
from collector.live.opensky_feeds import OpenSkyFeed
from collector.live.readsb_feeds import ReceiversFeed
from collector.model import OUTBOX, SCHEMA, LiveMovementRow
from collector.settled.quota import Bucket, QuotaStore
from collector.sources.merging import merge_polls
from collector.sources.opensky.connection import OpenSkyConnection
from collector.sources.opensky.states_client import OpenSkyStatesClient
from collector.sources.position_metrics import PositionMetrics
from collector.sources.readsb.addresses import parse_addresses
from collector.sources.readsb.client import ReadsbClient
from collector.sources.readsb.pace import HostPaces
from collector.sources.regions import StatesRegion
from collector.sources.state_vector import Poll
from domain.interests import Direction
from local.opensky.access import AccessControl
from local.opensky.flights import Timetable, TimetableFlight
from local.opensky.nightly_record import NIGHTLY
from local.opensky.server import make_app, make_sky
from local.opensky.sky.geometry import Point
from local.opensky.sky.receiver import Receiver
from local.opensky.sky.settings import SkySettings
from local.opensky.state_faults import StateFaultPlan
from local.opensky.state_requests import AIRCRAFT_PATH, StateRequests
from tests.collector.conftest import wish
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.fakes.faulty_database import DatabaseFault, FaultyDatabase, Killed
from tests.local.opensky.conftest import CREDENTIALS, serve_app
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

BEGIN: Final = datetime(2013, 2, 13, 12, tzinfo=UTC)
AIRPORTS: Final = ("KJFK", "KEWR")
CREDITS_PER_DAY: Final = 1_500
"""A poll every half minute."""
RECEIVER: Final = Receiver(Point(40.68, -74.0))
NO_FAULTS: Final = StateFaultPlan()
SKY: Final = SkySettings(seed=7, floors_m={"KJFK": 0.0, "KEWR": 150.0}, other_traffic=False)
FOUND: Final = {
    Direction.ARRIVALS: flights_pb.DIRECTION_ARRIVALS,
    Direction.DEPARTURES: flights_pb.DIRECTION_DEPARTURES,
}

Movement = tuple[str, int, str, int]
"""Airport, direction as in the contract, address and event time in Unix seconds."""


def make_flights(hours: float) -> list[TimetableFlight]:
    """Return flights to and from the airports for so many hours from BEGIN on, one of each kind each twelve minutes."""
    begin, found = int(BEGIN.timestamp()), []
    for number, at in enumerate(range(begin - 3_600, begin + int(hours * 3_600), 360)):
        here, there = AIRPORTS[number % 2], ("KBOS", "KDCA")[number // 2 % 2]
        found.append(TimetableFlight(at, at + 4_500, f"a{number:05x}", f"D{number}", here, there))
        found.append(TimetableFlight(at - 3_000, at + 1_500, f"b{number:05x}", f"A{number}", there, here))
    return found


@dataclass
class LiveWorld:
    """The clock, the database and the source of leaders that follow each other."""

    url: str
    clock: FakeClock
    database: Database
    polls: list[Poll] = field(default_factory=list)
    """All polls that the source gave, in their order."""
    metrics: Metrics = field(default_factory=lambda: Metrics(ServiceIdentity("collector", "local")))
    has_receiver: bool = False
    """True if the leaders have a feed of a receiver's aircraft.json, too."""
    ignores_time: bool = False
    """True if the source answers about now, whatever time it is asked for."""

    def lead(self, until: datetime, faults: Iterable[DatabaseFault | None] = ()) -> None:
        """Be the leader until a time, or until a planned fault kills it. A stop at the time stores the last memory."""
        term = begin_term(self.database)
        with suppress(Killed):
            asyncio.run(self._lead(term, until, FaultyDatabase(self.database, iter(faults))))

    async def _lead(self, term: Term, until: datetime, database: Database) -> None:
        """Collect live until a time, with a clock that passes only while all wait."""
        done = asyncio.Event()
        metrics = Metrics(ServiceIdentity("collector", "local"))
        token_url = f"{self.url}/auth/realms/opensky-network/protocol/openid-connect/token"
        account = (CREDENTIALS.client_id, CREDENTIALS.client_secret)
        connection = OpenSkyConnection([self.url], token_url, account, self.clock, metrics)
        client = RecordingClient(f"{self.url}/api", connection, self.clock, metrics, PositionMetrics(metrics))
        client.polls, client.ignores_time = self.polls, self.ignores_time

        waiting: list[tuple[timedelta, int, asyncio.Future[None]]] = []
        numbers = itertools.count()
        feeds: list[Feed] = []

        async def sleep(seconds: float) -> None:
            """Wait until all feeds do and this one is the next; for ever once the leader has to stop."""
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(waiting, (self.clock.elapsed() + timedelta(seconds=seconds), next(numbers), turn))
            if len(waiting) == len(feeds):
                due, _, following = heapq.heappop(waiting)
                self.clock.advance(due - self.clock.elapsed())
                if self.clock.now() >= until:
                    done.set()
                else:
                    following.set_result(None)
            await turn

        quota = QuotaStore(CREDITS_PER_DAY, Bucket.STATES)
        feeds.append(OpenSkyFeed(client, database, self.clock, quota, CREDITS_PER_DAY))
        if self.has_receiver:
            addresses = parse_addresses(f"{self.url}{AIRCRAFT_PATH}")
            shared = PositionMetrics(Metrics(ServiceIdentity("collector", "local")))
            receivers = [ReadsbClient(each, self.clock, HostPaces(self.clock), shared) for each in addresses]
            feeds.append(ReceiversFeed(receivers, self.clock))
        collector = LiveCollector(
            database,
            self.clock,
            feeds,
            LiveStore(database, self.clock),
            LiveMetrics(metrics, self.clock),
            sleep=sleep,
        )
        work = asyncio.create_task(collector.collect_live(term))
        stopper = asyncio.create_task(done.wait())
        try:
            await asyncio.wait({work, stopper}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopper.cancel()
            work.cancel()
            outcome, _ = await asyncio.gather(work, stopper, return_exceptions=True)
            await connection.close()
            self.metrics = metrics
        if not isinstance(outcome, asyncio.CancelledError):
            raise outcome if isinstance(outcome, BaseException) else AssertionError("it ended by itself")

    def list_observed(self) -> list[flights_pb.FlightsObserved]:
        """Return the published messages of flights, in their order."""
        with self.database.reading() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        return [flights_pb.FlightsObserved.FromString(row.value) for row in rows if row.topic == FLIGHTS_OBSERVED.name]

    def list_published(self) -> list[Movement]:
        """Return the published movements, in their order, after a check that they are what is stored."""
        found = [
            (each.airport, each.direction, flight.icao24, flight.first_seen.seconds)
            for each in self.list_observed()
            for flight in each.flights
        ]
        with self.database.reading() as session:
            rows = session.scalars(select(LiveMovementRow)).all()
            stored = [(r.airport, FOUND[Direction(r.direction)], r.icao24, int(r.event_time.timestamp())) for r in rows]
        assert sorted(found) == sorted(stored)
        return found

    def list_covered(self) -> dict[tuple[str, int], list[tuple[int, int]]]:
        """Return the published stretches that are covered, by airport and direction, in their order."""
        found: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for each in self.list_observed():
            if each.coverage == flights_pb.COVERAGE_COMPLETE:
                found.setdefault((each.airport, each.direction), []).append((each.begin.seconds, each.end.seconds))
        return found


class RecordingClient(OpenSkyStatesClient):
    """A client that keeps what it got."""

    polls: list[Poll]
    ignores_time: bool

    async def fetch_poll(self, region: StatesRegion, within_s: float, at: int | None = None) -> Poll:
        """Fetch a poll, and keep it."""
        poll = await super().fetch_poll(region, within_s, None if self.ignores_time else at)
        self.polls.append(poll)
        return poll


def detect_in(polls: Iterable[Poll]) -> set[Movement]:
    """Return the movements at the airports that a detector finds when it is fed with the polls directly."""
    detector, found = MovementDetector(load_airfields()), set()
    for poll in polls:
        for each in detector.observe(merge_polls({"one": poll}, poll.time).poll):
            if each.airport in AIRPORTS:
                found.add((each.airport, FOUND[each.direction], each.icao24, int(each.event_time.timestamp())))
    return found


@contextmanager
def running_world(
    database_url: str,
    hours: float,
    faults: StateFaultPlan = NO_FAULTS,
    receiver_faults: StateFaultPlan | None = None,
) -> Iterator[LiveWorld]:
    """Yield a world with interests at the airports, and with flights for so many hours.

    `receiver_faults`: those of a receiver near the airports; None: there is none.
    """
    database = Database(database_url)
    create_tables(database, SCHEMA)
    clock = FakeClock(BEGIN)
    interests = InterestStore(database, clock)
    for airport in AIRPORTS:
        interests.set(uuid4(), wish(airport, Direction.BOTH))
    timetable = Timetable(make_flights(hours))
    sky = make_sky(timetable, NIGHTLY, SKY)
    states = StateRequests(sky, RECEIVER, faults, receiver_faults or NO_FAULTS)
    app = make_app(timetable, clock, AccessControl(CREDENTIALS, 1_000_000), states=states)
    with serve_app(app) as url:
        yield LiveWorld(url, clock, database, has_receiver=receiver_faults is not None)
    database.close()


def draw_faults(chance: Random, kinds: Callable[[], DatabaseFault | None]) -> Iterator[DatabaseFault | None]:
    """Yield faults for ever: of ten transactions some one fails, in a way that `kinds` draws."""
    while True:
        yield kinds() if chance.random() < 0.1 else None
