"""Property test: whatever the source does within what is not known of it, what is covered is complete as of its record.

The model decides for each day when its record appears, in which parts, and for which airports; it reads the published
events as the stream does, and shares no code with the collector. See "What nobody has said" in the shared facts: when
the nightly batch runs, whether in parts, late or not at all, whether departures are given before, and outages that
answer with errors or with nothing.
"""

import asyncio
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from hypothesis import Phase, given, note, settings, strategies as st
from sqlalchemy import event, select

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import SourceUnavailableError
from collector.interests import InterestStore
from collector.model import OUTBOX, SCHEMA
from collector.settled.collection import FlightCollector
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.sources.flight import Flight
from domain.alerts import AlertState, Bound
from domain.changes import NO_TRAFFIC
from domain.interest_alerts import compute_alerts
from domain.interests import Direction, Interest
from domain.traffic import Coverage, Observation, Traffic
from domain.windows import Window
from tests.collector.conftest import wish
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.fakes.nightly_source import build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

BEGIN = datetime(2013, 2, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SETTLE = 3 * HOUR
TIMING = CollectionTiming(RecordTiming(HOUR, SETTLE), poll_interval=HOUR, corrections_after=2 * DAY)
FLIGHTS_PER_DAY = {"KJFK": 30, "LICC": 2, "LIPB": 0, "EDDF": 60}
"""By airport: a busy one, a quiet one, one at which nobody listens, and a beacon."""
WATCHED = ("KJFK", "LICC", "LIPB")
PARTS = (Direction.ARRIVALS, Direction.DEPARTURES)
DAYS = 3


@dataclass(frozen=True)
class DayBehaviour:
    """What the source does with the record of one day."""

    appears_after: timedelta | None
    """Time from the day's end to the first part; None: the record never appears."""
    second_part_after: timedelta
    """Time from the first to the second part; at most the settle time, for more cannot be told from a whole record."""
    share_in_first_part: float
    empty_airports: frozenset[str]
    """Airports without any flight on the day."""


@dataclass(frozen=True)
class Outage:
    """A time in which the source answers no call as it should."""

    begin: timedelta
    """From BEGIN on."""
    length: timedelta
    answers_nothing: bool
    """True: every call is answered with no flights; False: every call fails."""


@dataclass(frozen=True)
class Behaviour:
    """All that the source does in the days of one example."""

    days: list[DayBehaviour]
    outages: list[Outage]
    departures_at_once: bool
    live_credits: int
    """Credits that the collector spends on departures of today."""
    seed: int


@dataclass
class Source:
    """A source that behaves as the example says."""

    behaviour: Behaviour
    clock: FakeClock
    flights: dict[tuple[str, Direction], list[tuple[Flight, datetime | None]]] = field(default_factory=dict)
    """By airport and direction: each flight, and the time from which the record has it (None: never)."""
    remaining_credits: int | None = None
    clock_error: timedelta | None = None

    def __post_init__(self) -> None:
        """Draw the flights and the parts of the record in which they are."""
        chance = Random(self.behaviour.seed)
        for airport, per_day in FLIGHTS_PER_DAY.items():
            for direction in PARTS:
                rows = self.flights.setdefault((airport, direction), [])
                for number, day in enumerate(self.behaviour.days):
                    count = 0 if airport in day.empty_airports else per_day
                    rows += [self._draw_flight(chance, airport, direction, number, row) for row in range(count)]

    def _draw_flight(
        self, chance: Random, airport: str, direction: Direction, number: int, row: int
    ) -> tuple[Flight, datetime | None]:
        """Draw a flight of one day, at a time of its own so that it is nobody's duplicate, and when it is recorded."""
        behaviour = self.behaviour.days[number]
        begin = BEGIN + number * DAY
        # A beacon has flights at all times of the day.
        offset = DAY * (row + chance.random()) / FLIGHTS_PER_DAY[airport]
        address = int.from_bytes(f"{airport}{direction}".encode()[-9:], "big") * 10_007 + number * 100 + row
        flight = build_flight((begin + offset).replace(microsecond=0), 0, address % 0xFFFFFF)
        if behaviour.appears_after is None:
            return flight, None
        appears = begin + DAY + behaviour.appears_after
        late = chance.random() >= behaviour.share_in_first_part
        return flight, appears + (behaviour.second_part_after if late else timedelta(0))

    async def fetch_flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        """Return the flights that are given now; fail, or return none, in an outage."""
        for outage in self.behaviour.outages:
            if outage.begin <= self.clock.now() - BEGIN < outage.begin + outage.length:
                if outage.answers_nothing:
                    return []
                raise SourceUnavailableError("as the example says")
        given_at_once = self.behaviour.departures_at_once and direction is Direction.DEPARTURES
        now = self.clock.now()
        return [
            flight
            for flight, recorded_at in self.flights.get((airport, direction), [])
            if begin <= flight.first_seen < end
            and ((recorded_at is not None and recorded_at <= now) or (given_at_once and flight.first_seen <= now))
        ]

    def list_record(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> set[str]:
        """Return the addresses of the flights that the night's record has now, whatever is answered."""
        return {
            flight.icao24
            for flight, recorded_at in self.flights[airport, direction]
            if begin <= flight.first_seen < end and recorded_at is not None and recorded_at <= self.clock.now()
        }


class Reader:
    """A reader of the published events: it checks each statement of coverage, and raises alerts as the stream does."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read = 0
        self._published: defaultdict[tuple[str, Direction], dict[str, datetime]] = defaultdict(dict)
        self._traffic: dict[str, Traffic] = defaultdict(lambda: NO_TRAFFIC)
        self.covered_until: dict[tuple[str, Direction], datetime] = {}
        self.gaps = 0

    def read(self, database: Database) -> None:
        """Read the new events of the outbox, as they were stored at the present time."""
        rows = OUTBOX.rows
        query = select(rows.c.id, rows.c.value).where(rows.c.topic == FLIGHTS_OBSERVED.name, rows.c.id > self._read)
        with database.reading() as session:
            found = session.execute(query.order_by(rows.c.id)).all()
        for row_id, value in found:
            self._fold(flights_pb.FlightsObserved.FromString(value))
            self._read = row_id

    def _fold(self, value: flights_pb.FlightsObserved) -> None:
        """Check one event against the source's record, and the alerts that follow against the counts of the record."""
        direction = Direction(flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower())
        begin, end = value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)
        key = value.airport, direction
        published = self._published[key]
        for flight in value.flights:
            assert flight.icao24 not in published, "a flight was published twice"
            published[flight.icao24] = flight.first_seen.ToDatetime(UTC)
        coverage = Coverage(flights_pb.Coverage.Name(value.coverage).removeprefix("COVERAGE_").lower())
        if coverage is Coverage.COMPLETE:
            known = {icao24 for icao24, at in published.items() if begin <= at < end}
            assert self._source.list_record(*key, begin, end) <= known, "what is covered is not complete"
            assert self._is_recorded(begin), "a day is covered without a record"
        if coverage is not Coverage.PARTIAL:
            self.covered_until[key] = max(end, self.covered_until.get(key, end))
            self.gaps += coverage is Coverage.GAP
        times = tuple(int(flight.first_seen.seconds) for flight in value.flights)
        observation = Observation(direction, int(begin.timestamp()), int(end.timestamp()), times, coverage)
        before = self._traffic[value.airport]
        self._traffic[value.airport] = after = before.fold(observation)
        for window in Window:
            self._check_lows(value.airport, direction, window, before, after)

    def _is_recorded(self, begin: datetime) -> bool:
        """Return True if all of the day's record has appeared, False if any of it is still to come or never comes."""
        day = self._source.behaviour.days[(begin - BEGIN) // DAY]
        if day.appears_after is None:
            return False
        complete_at = BEGIN + ((begin - BEGIN) // DAY + 1) * DAY + day.appears_after + day.second_part_after
        everything_in_first_part = day.share_in_first_part == 1
        return everything_in_first_part or complete_at <= self._source.clock.now()

    def _check_lows(self, airport: str, direction: Direction, window: Window, before: Traffic, after: Traffic) -> None:
        """Assert that no low alert that an interest in the airport would get says fewer than the record has."""
        interest = Interest(
            interest_id=UUID(int=1),
            user_id=UUID(int=1),
            airport=airport,
            direction=direction,
            window=window,
            high=None,
            low=1_000,
            for_windows=1,
            repeat=True,
            effective_from=BEGIN - DAY,
            version=1,
        )
        for alert in compute_alerts(interest, before, after):
            if alert.bound is Bound.LOW and alert.state in (AlertState.FIRING, AlertState.STILL):
                start = alert.window_start
                record = self._source.list_record(airport, direction, start, start + window.length)
                assert alert.count >= len(record), f"{airport}: {alert.count} {direction}, and the record has {record}"


def _list_behaviours() -> st.SearchStrategy[Behaviour]:
    """Return the strategy of all that the source may do."""
    day = st.builds(
        DayBehaviour,
        appears_after=st.one_of(
            st.timedeltas(timedelta(minutes=5), 20 * HOUR), st.timedeltas(DAY, 2 * DAY), st.sampled_from([None])
        ),
        second_part_after=st.timedeltas(timedelta(0), SETTLE),
        share_in_first_part=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0, 1.0]),
        empty_airports=st.frozensets(st.sampled_from(["KJFK", "LICC"]), max_size=1),
    )
    outage = st.builds(
        Outage,
        begin=st.timedeltas(timedelta(0), (DAYS + 2) * DAY),
        length=st.timedeltas(timedelta(minutes=30), 10 * HOUR),
        answers_nothing=st.booleans(),
    )
    return st.builds(
        Behaviour,
        days=st.lists(day, min_size=DAYS, max_size=DAYS),
        outages=st.lists(outage, max_size=4),
        departures_at_once=st.booleans(),
        live_credits=st.sampled_from([0, 1_000]),
        seed=st.integers(0, 1_000),
    )


# Shrinking a failing example takes minutes, and it is short enough to be read.
@settings(max_examples=15, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(_list_behaviours(), st.lists(st.floats(0.3, 6), min_size=12, max_size=12))
def test_whatever_the_source_does_covered_means_complete(behaviour: Behaviour, pauses: list[float]) -> None:
    """No low alert says fewer than the record has, at any moment; and what can be known is covered in the end."""
    note(repr(behaviour))
    clock = FakeClock(BEGIN + HOUR)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/collector.db")
        event.listen(database.engine, "connect", _disable_fsync)
        create_tables(database, SCHEMA)
        interests = InterestStore(database, clock)
        for airport in WATCHED:
            interests.set(UUID(int=1), wish(airport, Direction.BOTH, effective_from=BEGIN))
        source = Source(behaviour, clock)
        reader = Reader(source)
        collector = FlightCollector(
            database, source, clock, TIMING, QuotaStore(100_000), Metrics(ServiceIdentity("collector", "local")),
            beacons=("EDDF",), live_credits_per_day=behaviour.live_credits,
        )  # fmt: skip

        async def lead() -> None:
            term = await collector.begin_term()
            number = 0
            while clock.now() < BEGIN + (DAYS + 9) * DAY:
                await collector.collect(term)
                reader.read(database)
                eventful = clock.now() < BEGIN + (DAYS + 3) * DAY
                clock.advance(pauses[number % len(pauses)] * HOUR if eventful else 11 * HOUR)
                number += 1

        asyncio.run(lead())
        database.close()
    _check_progress(behaviour, reader)


def _check_progress(behaviour: Behaviour, reader: Reader) -> None:
    """Assert that the busy airport is covered to the end of the last recorded day, and that nobody covers silence."""
    recorded = [number for number, day in enumerate(behaviour.days) if day.appears_after is not None]
    heard = [number for number in recorded if "KJFK" not in behaviour.days[number].empty_airports]
    if heard:
        for direction in PARTS:
            assert reader.covered_until["KJFK", direction] >= BEGIN + (recorded[-1] + 1) * DAY
    assert not any(airport == "LIPB" for airport, _ in reader.covered_until)


def _disable_fsync(connection, _record) -> None:  # type: ignore[no-untyped-def]
    """Make SQLite faster: a power failure is not tested here."""
    connection.execute("PRAGMA synchronous=OFF")
