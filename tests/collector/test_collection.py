"""Collection: coverage without gaps, flights without doubles, whatever fails in between."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from chassis.database import Database
from chassis.metrics import Identity, Metrics
from collector.collection import Collection
from collector.errors import SourceAwayError, SourceLimitedError, SourceRefusedError
from collector.interests import Interests
from collector.intervals import DAY, Lags, day_of, known_until
from collector.messages import BATCH
from collector.model import SCHEMA, CoverageRow, FlightRow
from collector.opensky import Flight
from domain.interests import Direction
from tests.collector.conftest import NOON, NOWHERE, Service, outbox, wish
from tests.fakes.clock import FakeClock
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

LAGS = Lags(departures=timedelta(minutes=30), arrivals=timedelta(hours=2))
YESTERDAY = day_of(NOON) - DAY
FLOWS = (Direction.ARRIVALS, Direction.DEPARTURES)
JFK_DEPARTURES = ("KJFK", Direction.DEPARTURES)


def flight(first_seen: datetime, minutes: float = 60, number: int = 1) -> Flight:
    begin = int(first_seen.timestamp())
    return Flight.model_validate({"icao24": f"{number:06x}", "firstSeen": begin, "lastSeen": begin + int(minutes * 60)})


Asked = tuple[str, Direction, datetime, datetime]


class FakeSource:
    """Knows the flights that the test gives it, each no sooner than the lags say; fails as the test tells it to."""

    def __init__(self, clock: FakeClock, flights: Iterable[Flight] = ()) -> None:
        self.known = list(flights)
        """At every airport both a departure and an arrival."""
        self.asked: list[Asked] = []
        self.failures: list[BaseException | None] = []
        """What to raise in turn; None: nothing."""
        self.failing: dict[str, Exception] = {}
        """What to raise for an airport, each time."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens elsewhere between a question and its answer."""
        self._clock = clock

    async def flights(self, airport: str, direction: Direction, begin: datetime, end: datetime) -> list[Flight]:
        self.asked.append((airport, direction, begin, end))
        if self.failures and (failure := self.failures.pop(0)):
            raise failure
        if airport in self.failing:
            raise self.failing[airport]
        known = known_until(direction, self._clock.now(), LAGS)
        answer = [each for each in self.known if begin <= each.event_time(direction) < min(end, known)]
        await asyncio.to_thread(self.meanwhile)
        return answer + answer[::2]  # some twice


@dataclass(frozen=True, slots=True)
class Told:
    """What the events tell of one airport and direction."""

    covered: list[tuple[datetime, datetime]] = field(default_factory=list)
    flights: list[tuple[str, datetime]] = field(default_factory=list)


def told(database: Database) -> dict[tuple[str, Direction], Told]:
    """By airport and direction, what was published."""
    found: dict[tuple[str, Direction], Told] = {}
    for message in outbox(database, FLIGHTS_OBSERVED.name):
        value = flights_pb.FlightsObserved.FromString(message.value or b"")
        direction = Direction(flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower())
        entry = found.setdefault((value.airport, direction), Told())
        entry.flights.extend((each.icao24, each.first_seen.ToDatetime(UTC)) for each in value.flights)
        if value.coverage == flights_pb.COVERAGE_COMPLETE:
            entry.covered.append((value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)))
    return found


def assert_consistent(database: Database, known: Iterable[Flight]) -> None:
    """No gap, no double, nothing missing of what is said to be covered; events and tables say the same."""
    published = told(database)
    with database.transaction() as session:
        cursors = {(row.airport, Direction(row.direction)): row for row in session.scalars(select(CoverageRow))}
        stored = [(row.airport, Direction(row.direction), row.icao24, row.first_seen) for row in _flights(session)]
    assert published.keys() == cursors.keys()
    for (airport, direction), entry in published.items():
        cursor = cursors[airport, direction]
        edges = [cursor.covered_from, *(end for _, end in entry.covered)]
        assert [begin for begin, _ in entry.covered] == edges[:-1], "coverage is not end to end"
        assert edges[-1] == cursor.covered_until
        due = {
            (each.icao24, each.first_seen)
            for each in known
            if cursor.covered_from <= each.event_time(direction) < cursor.covered_until
        }
        assert sorted(entry.flights) == sorted(due), "covered is not complete, or a flight was told of twice"
        assert sorted(entry.flights) == sorted(row[2:] for row in stored if row[:2] == (airport, direction))


def _flights(session: Session) -> Iterable[FlightRow]:
    return session.scalars(select(FlightRow))


def collection_of(service: Service, source: FakeSource, metrics: Metrics | None = None) -> Collection:
    return Collection(service.database, source, service.clock, LAGS, metrics or Metrics(Identity("collector", "local")))


def test_without_interests_nothing_is_asked(service: Service) -> None:
    """Credits are for what somebody wants."""
    source = FakeSource(service.clock)
    asyncio.run(collection_of(service, source).collect())
    assert source.asked == []


def test_what_is_wanted_is_collected_up_to_what_the_source_knows(service: Service) -> None:
    """Departures from yesterday's midnight to half an hour ago, by days; arrivals of yesterday; then nothing is due."""
    service.set(wish(direction=Direction.BOTH))
    source = FakeSource(service.clock, [flight(YESTERDAY + timedelta(hours=hour)) for hour in range(48)])
    collection = collection_of(service, source)
    for _ in range(2):
        asyncio.run(collection.collect())
    today, lagged = YESTERDAY + DAY, NOON - LAGS.departures
    assert source.asked == [
        ("KJFK", Direction.ARRIVALS, YESTERDAY, today),
        ("KJFK", Direction.DEPARTURES, YESTERDAY, today),
        ("KJFK", Direction.DEPARTURES, today, lagged),
    ]
    assert_consistent(service.database, source.known)
    service.clock.advance(timedelta(hours=1))
    asyncio.run(collection.collect())
    assert source.asked[3:] == [("KJFK", Direction.DEPARTURES, lagged, lagged + timedelta(hours=1))]


def test_of_one_airport_only_that_is_collected(service: Service) -> None:
    """As a request names it."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = FakeSource(service.clock)
    asyncio.run(collection_of(service, source).collect("LICC"))
    assert {airport for airport, *_ in source.asked} == {"LICC"}


def test_an_interest_in_the_past_is_collected_from_its_day_on(service: Service) -> None:
    """The earliest that somebody wants."""
    for days in (3, 5, 2):
        service.set(wish(effective_from=NOON - timedelta(days=days)))
    source = FakeSource(service.clock)
    asyncio.run(collection_of(service, source).collect())
    assert source.asked[0][2] == day_of(NOON) - timedelta(days=5)
    assert_consistent(service.database, [])


def test_who_waits_longest_comes_first(service: Service) -> None:
    """By the end of what is covered."""
    source = FakeSource(service.clock)
    collection = collection_of(service, source)
    service.set(wish("KJFK"))
    asyncio.run(collection.collect())
    service.set(wish("LICC"))
    service.clock.advance(timedelta(hours=1))
    source.asked.clear()
    asyncio.run(collection.collect())
    assert [airport for airport, *_ in source.asked] == ["LICC", "LICC", "KJFK"]


def test_an_empty_interval_is_told_too(service: Service) -> None:
    """Zero flights under full coverage is zero."""
    service.set()
    asyncio.run(collection_of(service, FakeSource(service.clock)).collect())
    assert told(service.database)[JFK_DEPARTURES].covered == [
        (YESTERDAY, YESTERDAY + DAY), (YESTERDAY + DAY, NOON - LAGS.departures)
    ]  # fmt: skip


def test_many_flights_are_all_told(service: Service) -> None:
    """More than a batch holds, in the order of their event times."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY, number=number) for number in range(2 * BATCH + 1)])
    asyncio.run(collection_of(service, source).collect())
    assert len(told(service.database)[JFK_DEPARTURES].flights) == 2 * BATCH + 1
    assert_consistent(service.database, source.known)


def test_a_flight_whose_times_the_source_changed_is_told_once(service: Service) -> None:
    """Its last contact moves behind midnight: it would be an arrival of either day."""
    service.set(wish(direction=Direction.ARRIVALS))
    took_off = YESTERDAY + timedelta(hours=23)
    source = FakeSource(service.clock, [flight(took_off, minutes=30)])
    collection = collection_of(service, source)
    asyncio.run(collection.collect())
    source.known = [flight(took_off, minutes=90)]
    service.clock.advance(DAY)
    asyncio.run(collection.collect())
    assert len(source.asked) == 2
    arrivals = told(service.database)["KJFK", Direction.ARRIVALS]
    assert arrivals.flights == [("000001", took_off)]
    assert arrivals.covered[-1] == (YESTERDAY + DAY, YESTERDAY + 2 * DAY)


@pytest.mark.parametrize("failure", [SourceAwayError("away"), SourceRefusedError("refused")])
def test_an_airport_that_fails_does_not_stop_the_others(service: Service, failure: Exception) -> None:
    """Its later days wait for the failed one, or there would be a gap."""
    service.set(wish("KJFK", effective_from=NOON - timedelta(days=9)))
    service.set(wish("LICC"))
    source = FakeSource(service.clock)
    source.failing = {"KJFK": failure}
    collection = collection_of(service, source)
    asyncio.run(collection.collect())
    assert [airport for airport, *_ in source.asked] == ["KJFK", "LICC", "LICC"]
    source.failing = {}
    asyncio.run(collection.collect())
    assert told(service.database)[JFK_DEPARTURES].covered[0][0] == day_of(NOON) - timedelta(days=9)
    assert_consistent(service.database, [])


def test_after_a_limit_nobody_asks_until_it_is_over(service: Service) -> None:
    """Neither for other airports nor on request; then it goes on where it was."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = FakeSource(service.clock)
    source.failures = [None, SourceLimitedError(3600)]
    collection = collection_of(service, source)
    asyncio.run(collection.collect())
    service.clock.advance(timedelta(minutes=59))
    asyncio.run(collection.collect())
    asyncio.run(collection.collect("LICC"))
    assert len(source.asked) == 2
    service.clock.advance(timedelta(minutes=1))
    asyncio.run(collection.collect())
    assert len(source.asked) == 2 + 3
    assert_consistent(service.database, [])


def test_without_a_database_a_collection_ends_in_peace(service: Service) -> None:
    """At its beginning and in its midst: nothing is raised that could end the leader's work."""
    away = Collection(
        Database(NOWHERE), FakeSource(service.clock), service.clock, LAGS, Metrics(Identity("collector", "local"))
    )
    asyncio.run(away.collect())
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    source.meanwhile = lambda: _execute(service.database, "ALTER TABLE outbox RENAME TO elsewhere")
    collection = collection_of(service, source)
    asyncio.run(collection.collect())
    assert len(source.asked) == 1
    source.meanwhile = lambda: None
    _execute(service.database, "ALTER TABLE elsewhere RENAME TO outbox")
    assert told(service.database) == {}
    asyncio.run(collection.collect())
    assert_consistent(service.database, source.known)


def _execute(database: Database, statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


def test_flights_cursor_and_events_commit_together(service: Service) -> None:
    """The last step of the transaction fails: nothing of it stays."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    collection = collection_of(service, source)

    def refuse(_connection: object) -> None:
        raise RuntimeError("the disk is full")

    source.meanwhile = lambda: event.listen(service.database.engine, "commit", refuse)
    with pytest.raises(RuntimeError):
        asyncio.run(collection.collect())
    event.remove(service.database.engine, "commit", refuse)
    assert told(service.database) == {}
    with service.database.transaction() as session:
        assert session.scalars(select(CoverageRow)).all() == []
        assert list(_flights(session)) == []


def test_of_two_collectors_one_stores(service: Service) -> None:
    """The other stores and tells nothing, and asks for no more of this airport: its list of what is due is old."""
    service.set(wish(effective_from=NOON - timedelta(days=5)))
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    rival = FakeSource(service.clock, source.known)

    def collect_elsewhere() -> None:
        source.meanwhile = lambda: None
        asyncio.run(collection_of(service, rival).collect())

    source.meanwhile = collect_elsewhere
    asyncio.run(collection_of(service, source).collect())
    assert len(source.asked) == 1
    assert len(rival.asked) == 6
    assert_consistent(service.database, source.known)


def test_who_loses_the_race_for_the_first_interval_tells_nothing(service: Service) -> None:
    """On a database that lets both look for the cursor before one makes it."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    collection = collection_of(service, source)

    def make_it_first(connection, cursor, statement, parameters, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("INSERT INTO coverage"):
            cursor.execute(statement, parameters)

    event.listen(service.database.engine, "before_cursor_execute", make_it_first)
    asyncio.run(collection.collect())
    event.remove(service.database.engine, "before_cursor_execute", make_it_first)
    assert told(service.database) == {}
    asyncio.run(collection.collect())
    assert_consistent(service.database, source.known)


def test_the_metrics_tell_what_was_stored(service: Service) -> None:
    """How many flights, by direction, and how long it took."""
    service.set()
    metrics = Metrics(Identity("collector", "local"))
    source = FakeSource(service.clock, [flight(YESTERDAY, number=number) for number in range(3)])
    asyncio.run(collection_of(service, source, metrics).collect())
    labels = {"service": "collector", "node": "local"}
    value = metrics.registry.get_sample_value
    assert value("flights_stored_total", {"direction": "departures", **labels}) == 3
    assert value("flight_data_processing_seconds_count", labels) == 2


class KilledError(BaseException):
    """The process ends here: nobody catches it."""


FAILURES = st.sampled_from(
    [None, None, SourceAwayError("away"), SourceRefusedError("refused"), SourceLimitedError(7200), KilledError()]
)


@dataclass(frozen=True, slots=True)
class Step:
    """One collection, after some time, and what happens in it."""

    hours: float
    failures: list[BaseException | None]
    rival: bool
    """Whether another collector is at work in the midst of it."""
    one_airport: bool


STEPS = st.builds(
    Step,
    hours=st.floats(0.01, 40),
    failures=st.lists(FAILURES, max_size=4),
    rival=st.booleans(),
    one_airport=st.booleans(),
)
FLIGHTS = st.lists(
    st.builds(
        lambda hours, minutes, number: flight(YESTERDAY + timedelta(hours=hours), minutes, number),
        hours=st.floats(0, 150),
        minutes=st.floats(0, 900),
        number=st.integers(0, 5),
    ),
    max_size=40,
    unique_by=lambda each: (each.icao24, each.first_seen),
)


@settings(max_examples=25, deadline=None)
@given(FLIGHTS, st.lists(STEPS, min_size=1, max_size=6))
def test_any_course_of_events_leaves_neither_gap_nor_double(flights: list[Flight], steps: list[Step]) -> None:
    """Failures, limits, kills between question and store, repeats in answers, a second collector, in any order.

    At every moment what is covered is complete; and once all is well again, everything is covered.
    """
    clock = FakeClock(NOON)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/collector.db")
        event.listen(database.engine, "connect", _without_waiting_for_the_disk)
        SCHEMA.create_all(database.engine)
        for airport in ("KJFK", "LICC"):
            Interests(database, clock).set(uuid4(), wish(airport, Direction.BOTH))
        source = FakeSource(clock, flights)

        def begun() -> Collection:
            return Collection(database, source, clock, LAGS, Metrics(Identity("collector", "local")))

        collection = begun()
        for step in steps:
            clock.advance(timedelta(hours=step.hours))
            source.failures = list(step.failures)
            source.meanwhile = _once(lambda: asyncio.run(begun().collect())) if step.rival else lambda: None
            try:
                asyncio.run(collection.collect("KJFK" if step.one_airport else None))
            except KilledError:
                collection = begun()
            assert_consistent(database, flights)
        clock.advance(timedelta(days=1))
        source.failures = []
        asyncio.run(collection.collect())
        assert_consistent(database, flights)
        with database.transaction() as session:
            covered = {
                row.covered_until for row in session.scalars(select(CoverageRow)) if row.direction == "departures"
            }
        assert covered == {known_until(Direction.DEPARTURES, clock.now(), LAGS)}
        database.close()


def _once(act: Callable[[], None]) -> Callable[[], None]:
    todo = [act]

    def once() -> None:
        if todo:
            with suppress(KilledError):
                todo.pop()()

    return once


def _without_waiting_for_the_disk(connection, _record) -> None:  # type: ignore[no-untyped-def]
    connection.execute("PRAGMA synchronous=OFF")
