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

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import BreakerOpenError, DeposedError, SourceAwayError, SourceLimitedError, SourceRefusedError
from collector.interests import InterestStore
from collector.intervals import DAY, Lags, day_of, known_until
from collector.leadership.terms import Term
from collector.messages import BATCH
from collector.model import SCHEMA, CoverageRow, FlightRow
from collector.settled.collection import Collection
from collector.settled.quota import Ledger
from collector.settled.schedule import Timing
from collector.sources.opensky.client import Flight
from domain.interests import Direction
from domain.traffic import Coverage, DirectionTraffic, Observation
from tests.collector.conftest import NOON, NOWHERE, Service, outbox, wish
from tests.fakes.clock import FakeClock
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

LAGS = Lags(departures=timedelta(minutes=30), arrivals=timedelta(hours=2))
TIMING = Timing(LAGS, poll_interval=timedelta(hours=1), corrections_after=timedelta(days=2))
PLENTY = 1_000_000
"""Credits a day."""
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
        self.remaining_credits: int | None = None
        self.says_left: int | None = None
        """What it says is left of the day's credits."""
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
        self.remaining_credits = self.says_left
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
    return a_collection(service.database, source, service.clock, metrics=metrics)


def a_collection(
    database: Database,
    source: FakeSource,
    clock: FakeClock,
    timing: Timing = TIMING,
    budget: int = PLENTY,
    metrics: Metrics | None = None,
) -> Collection:
    return Collection(
        database, source, clock, timing, Ledger(budget), metrics or Metrics(ServiceIdentity("collector", "local"))
    )


def run(collection: Collection, airport: str | None = None) -> None:
    """A term, with one collection in it."""

    async def lead() -> None:
        await collection.collect(await collection.begin_term(), airport)

    asyncio.run(lead())


def test_without_interests_nothing_is_asked(service: Service) -> None:
    """Credits are for what somebody wants."""
    source = FakeSource(service.clock)
    run(collection_of(service, source))
    assert source.asked == []


def test_what_is_wanted_is_collected_up_to_what_the_source_knows(service: Service) -> None:
    """Departures from yesterday's midnight to half an hour ago, by days; arrivals of yesterday; then nothing is due."""
    service.set(wish(direction=Direction.BOTH))
    source = FakeSource(service.clock, [flight(YESTERDAY + timedelta(hours=hour)) for hour in range(48)])
    collection = collection_of(service, source)
    for _ in range(2):
        run(collection)
    today, lagged = YESTERDAY + DAY, NOON - LAGS.departures
    assert source.asked == [
        ("KJFK", Direction.ARRIVALS, YESTERDAY, today),
        ("KJFK", Direction.DEPARTURES, YESTERDAY, today),
        ("KJFK", Direction.DEPARTURES, today, lagged),
    ]
    assert_consistent(service.database, source.known)
    service.clock.advance(timedelta(hours=1))
    run(collection)
    assert source.asked[3:] == [("KJFK", Direction.DEPARTURES, lagged, lagged + timedelta(hours=1))]


def test_of_one_airport_only_that_is_collected(service: Service) -> None:
    """As a request names it."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = FakeSource(service.clock)
    run(collection_of(service, source), "LICC")
    assert {airport for airport, *_ in source.asked} == {"LICC"}


def test_an_interest_in_the_past_is_collected_from_its_day_on(service: Service) -> None:
    """The earliest that somebody wants."""
    for days in (3, 5, 2):
        service.set(wish(effective_from=NOON - timedelta(days=days)))
    source = FakeSource(service.clock)
    run(collection_of(service, source))
    assert source.asked[0][2] == day_of(NOON) - timedelta(days=5)
    assert_consistent(service.database, [])


def test_who_waits_longest_comes_first(service: Service) -> None:
    """A new airport has never been asked for; and then it is the turn of the others, before its second day."""
    source = FakeSource(service.clock)
    collection = collection_of(service, source)
    service.set(wish("KJFK"))
    run(collection)
    service.set(wish("LICC"))
    service.clock.advance(timedelta(hours=1))
    source.asked.clear()
    run(collection)
    assert [airport for airport, *_ in source.asked] == ["LICC", "KJFK", "LICC"]


def test_an_empty_interval_is_told_too(service: Service) -> None:
    """Zero flights under full coverage is zero."""
    service.set()
    run(collection_of(service, FakeSource(service.clock)))
    assert told(service.database)[JFK_DEPARTURES].covered == [
        (YESTERDAY, YESTERDAY + DAY), (YESTERDAY + DAY, NOON - LAGS.departures)
    ]  # fmt: skip


def test_many_flights_are_all_told(service: Service) -> None:
    """More than a batch holds, in the order of their event times."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY, number=number) for number in range(2 * BATCH + 1)])
    run(collection_of(service, source))
    assert len(told(service.database)[JFK_DEPARTURES].flights) == 2 * BATCH + 1
    assert_consistent(service.database, source.known)


def test_a_flight_whose_times_the_source_changed_is_told_once(service: Service) -> None:
    """Its last contact moves behind midnight: it would be an arrival of either day."""
    service.set(wish(direction=Direction.ARRIVALS))
    took_off = YESTERDAY + timedelta(hours=23)
    source = FakeSource(service.clock, [flight(took_off, minutes=30)])
    collection = collection_of(service, source)
    run(collection)
    source.known = [flight(took_off, minutes=90)]
    service.clock.advance(DAY)
    run(collection)
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
    run(collection)
    assert [airport for airport, *_ in source.asked] == ["KJFK", "LICC", "LICC"]
    source.failing = {}
    run(collection)
    assert told(service.database)[JFK_DEPARTURES].covered[0][0] == day_of(NOON) - timedelta(days=9)
    assert_consistent(service.database, [])


def test_after_a_limit_nobody_asks_until_it_is_over(service: Service) -> None:
    """Neither for other airports nor on request; then it goes on where it was."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = FakeSource(service.clock)
    source.failures = [None, SourceLimitedError(3600)]
    collection = collection_of(service, source)
    run(collection)
    service.clock.advance(timedelta(minutes=59))
    run(collection)
    run(collection, "LICC")
    assert len(source.asked) == 2
    service.clock.advance(timedelta(minutes=1))
    run(collection)
    assert len(source.asked) == 2 + 3
    assert_consistent(service.database, [])


def test_without_a_database_a_collection_ends_in_peace(service: Service) -> None:
    """At its beginning and in its midst: nothing is raised that could end the leader's work."""
    away = a_collection(Database(NOWHERE), FakeSource(service.clock), service.clock)
    asyncio.run(away.collect(Term(1)))
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    source.meanwhile = lambda: _execute(service.database, "ALTER TABLE outbox RENAME TO elsewhere")
    collection = collection_of(service, source)
    run(collection)
    assert len(source.asked) == 1
    source.meanwhile = lambda: None
    _execute(service.database, "ALTER TABLE elsewhere RENAME TO outbox")
    assert told(service.database) == {}
    run(collection)
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
        run(collection)
    event.remove(service.database.engine, "commit", refuse)
    assert told(service.database) == {}
    with service.database.transaction() as session:
        assert session.scalars(select(CoverageRow)).all() == []
        assert list(_flights(session)) == []


def test_of_two_collectors_one_stores(service: Service) -> None:
    """The one whose term is the newer; the other's store is refused whole, and it asks for nothing more."""
    service.set(wish(effective_from=NOON - timedelta(days=5)))
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    rival = FakeSource(service.clock, source.known)

    def collect_elsewhere() -> None:
        source.meanwhile = lambda: None
        run(collection_of(service, rival))

    source.meanwhile = collect_elsewhere
    with pytest.raises(DeposedError):
        run(collection_of(service, source))
    assert len(source.asked) == 1
    assert len(rival.asked) == 6
    assert_consistent(service.database, source.known)


def test_what_a_deposed_collector_has_asked_for_is_not_stored(service: Service) -> None:
    """Also where nobody else has stored it yet: its question may be from long ago."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    source.meanwhile = lambda: asyncio.run(collection_of(service, source).begin_term()) and None
    with pytest.raises(DeposedError):
        run(collection_of(service, source))
    assert told(service.database) == {}
    with service.database.transaction() as session:
        assert list(_flights(session)) == []


def test_a_term_that_is_over_spends_nothing(service: Service) -> None:
    """A deposed leader does not even ask."""
    service.set()
    source = FakeSource(service.clock)
    collection = collection_of(service, source)
    old = asyncio.run(collection.begin_term())
    asyncio.run(collection.begin_term())
    with pytest.raises(DeposedError):
        asyncio.run(collection.collect(old))
    with pytest.raises(DeposedError):
        asyncio.run(collection.collect(Term(old - 1)))
    assert source.asked == []


def test_terms_that_begin_together_are_different(service: Service) -> None:
    """Also the very first ones, before there is a row to lock."""
    collection = collection_of(service, FakeSource(service.clock))

    async def begin_all() -> list[Term]:
        return list(await asyncio.gather(*(collection.begin_term() for _ in range(6))))

    assert sorted(asyncio.run(begin_all())) == [1, 2, 3, 4, 5, 6]


def test_a_list_of_what_is_due_that_is_old_is_not_followed(service: Service) -> None:
    """A collection that was cancelled may still be storing when the next one begins in the same term."""
    service.set(wish(effective_from=NOON - timedelta(days=5)))
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    collection = collection_of(service, source)
    term = asyncio.run(collection.begin_term())

    def collect_elsewhere() -> None:
        source.meanwhile = lambda: None
        asyncio.run(collection.collect(term))

    source.meanwhile = collect_elsewhere
    asyncio.run(collection.collect(term))
    assert len(source.asked) == 1 + 6
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
    run(collection)
    event.remove(service.database.engine, "before_cursor_execute", make_it_first)
    assert told(service.database) == {}
    run(collection)
    assert_consistent(service.database, source.known)


def test_the_metrics_tell_what_was_stored(service: Service) -> None:
    """How many flights, by direction, and how long it took."""
    service.set()
    metrics = Metrics(ServiceIdentity("collector", "local"))
    source = FakeSource(service.clock, [flight(YESTERDAY, number=number) for number in range(3)])
    run(collection_of(service, source, metrics))
    labels = {"service": "collector", "node": "local"}
    value = metrics.registry.get_sample_value
    assert value("flights_stored_total", {"direction": "departures", **labels}) == 3
    assert value("flight_data_processing_seconds_count", labels) == 2


def batches(database: Database, direction: Direction = Direction.DEPARTURES) -> list[flights_pb.FlightsObserved]:
    values = [
        flights_pb.FlightsObserved.FromString(message.value or b"")
        for message in outbox(database, FLIGHTS_OBSERVED.name)
    ]
    return [each for each in values if flights_pb.Direction.Name(each.direction).endswith(direction.name)]


def test_a_closed_day_is_collected_once_more_for_late_flights(service: Service) -> None:
    """Two days after its end: what is new is told for that old day, what was told is not, and then it is done."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY + timedelta(hours=1))])
    collection = collection_of(service, source)
    run(collection)
    late = flight(YESTERDAY + timedelta(hours=2), number=2)
    source.known.append(late)
    service.clock.advance(timedelta(days=1, hours=11))
    run(collection)
    assert not any(message.flights for message in batches(service.database)[1:])
    source.asked.clear()
    service.clock.advance(timedelta(hours=1))
    run(collection)
    assert source.asked[-1] == ("KJFK", Direction.DEPARTURES, YESTERDAY, YESTERDAY + DAY)
    correction = batches(service.database)[-1]
    assert [each.icao24 for each in correction.flights] == [late.icao24]
    assert (correction.begin.ToDatetime(UTC), correction.end.ToDatetime(UTC)) == (YESTERDAY, YESTERDAY + DAY)
    assert correction.coverage == flights_pb.COVERAGE_COMPLETE
    told_so_far = len(batches(service.database))
    source.asked.clear()
    run(collection)
    assert (source.asked, len(batches(service.database))) == ([], told_so_far)


def test_a_correction_without_news_tells_nothing(service: Service) -> None:
    """The stream need not hear again that the day is covered."""
    service.set()
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    collection = collection_of(service, source)
    run(collection)
    service.clock.advance(2 * DAY)
    run(collection)
    assert source.asked[-1][2:] == (YESTERDAY, YESTERDAY + DAY)
    assert_consistent(service.database, source.known)


@pytest.mark.parametrize("returns", [True, False])
def test_a_correction_that_lacks_what_is_known_is_repeated_once(service: Service, returns: bool) -> None:
    """What it holds is used; what the second one says stands, also when a flight was taken back for good."""
    service.set()
    there, missing = flight(YESTERDAY, number=1), flight(YESTERDAY + timedelta(hours=1), number=2)
    late = flight(YESTERDAY + timedelta(hours=2), number=3)
    source = FakeSource(service.clock, [there, missing])
    collection = collection_of(service, source)
    run(collection)
    source.known = [there, late]
    service.clock.advance(2 * DAY)
    run(collection)
    assert [each.icao24 for each in batches(service.database)[-1].flights] == [late.icao24]
    landed = flight(YESTERDAY + timedelta(hours=1), minutes=75, number=2)
    source.known = [there, landed, late] if returns else [there, late]
    source.asked.clear()
    run(collection)
    assert [asked[2:] for asked in source.asked] == [(YESTERDAY, YESTERDAY + DAY)]
    with service.database.transaction() as session:
        (row,) = [each for each in _flights(session) if each.icao24 == missing.icao24]
    assert row.last_seen == (landed if returns else missing).last_seen
    source.asked.clear()
    run(collection)
    assert source.asked == []
    told = [each.icao24 for batch in batches(service.database) for each in batch.flights]
    assert sorted(told) == [there.icao24, missing.icao24, late.icao24]


def test_what_is_collected_late_is_not_corrected(service: Service) -> None:
    """A day of last week is not asked for twice."""
    service.set(wish(effective_from=NOON - timedelta(days=6)))
    source = FakeSource(service.clock)
    collection = collection_of(service, source)
    run(collection)
    service.clock.advance(2 * DAY)
    source.asked.clear()
    run(collection)
    corrected = [begin for _, _, begin, _ in source.asked if begin < YESTERDAY + DAY]
    assert corrected == [YESTERDAY - DAY]
    run(collection)
    assert source.asked[-1][2] == YESTERDAY


def test_a_correction_updates_what_the_source_changed_and_no_count(service: Service) -> None:
    """A departure had no destination while it was in the air; its row learns it, and nothing is told again."""
    service.set(wish(direction=Direction.BOTH))
    took_off = YESTERDAY + timedelta(hours=23)
    source = FakeSource(service.clock, [flight(took_off, minutes=30)])
    collection = collection_of(service, source)
    run(collection)
    landed = {"icao24": "000001", "firstSeen": int(took_off.timestamp()), "lastSeen": int(took_off.timestamp()) + 2400}
    source.known = [Flight.model_validate(landed | {"estArrivalAirport": "LICC", "callsign": "TW7"})]
    service.clock.advance(2 * DAY)
    run(collection)
    with service.database.transaction() as session:
        rows = {row.direction: row for row in _flights(session)}
    departure, arrival = rows["departures"], rows["arrivals"]
    assert (departure.other_airport, departure.callsign) == ("LICC", "TW7")
    assert departure.last_seen == arrival.last_seen == took_off + timedelta(minutes=40)
    assert (departure.event_time, arrival.event_time) == (took_off, took_off + timedelta(minutes=30))
    for direction in FLOWS:
        assert sum(len(each.flights) for each in batches(service.database, direction)) == 1


def test_of_two_versions_in_one_answer_the_longer_is_taken(service: Service) -> None:
    """One flight, told once."""
    service.set(wish(direction=Direction.ARRIVALS))
    source = FakeSource(service.clock, [flight(YESTERDAY, minutes) for minutes in (90, 120, 60)])
    run(collection_of(service, source))
    (told_flight,) = [each for batch in batches(service.database, Direction.ARRIVALS) for each in batch.flights]
    assert told_flight.last_seen.ToDatetime(UTC) == YESTERDAY + timedelta(hours=2)


def test_covered_again_is_harmless_to_the_stream() -> None:
    """What corrections rest on: a batch of an old day moves no watermark, makes no gap and counts only its flights."""
    day = 86_400
    covered = DirectionTraffic().fold(Observation(Direction.DEPARTURES, 0, 4 * day, (10, 20), Coverage.COMPLETE))
    again = covered.fold(Observation(Direction.DEPARTURES, day, 2 * day, (), Coverage.COMPLETE))
    assert again == covered
    late = covered.fold(Observation(Direction.DEPARTURES, day, 2 * day, (day + 5,), Coverage.COMPLETE))
    assert (late.watermark, late.covered_from, late.gaps) == (4 * day, 0, ())
    assert late.counts.total(24, 24) == 1


def test_what_nobody_wanted_for_months_is_a_gap(service: Service) -> None:
    """The airport is wanted again: it goes on with yesterday, and nobody pays for the months in between."""
    user = uuid4()
    service.set(user_id=user)
    source = FakeSource(service.clock, [flight(YESTERDAY)])
    collection = collection_of(service, source)
    run(collection)
    service.interests.remove_all(user)
    left_at = NOON - LAGS.departures
    service.clock.advance(timedelta(days=90))
    source.asked.clear()
    run(collection)
    assert source.asked == []
    yesterday = day_of(service.clock.now()) - DAY
    service.set(wish(effective_from=service.clock.now()))
    run(collection)
    assert [begin for _, _, begin, _ in source.asked] == [yesterday, yesterday + DAY]
    gap = next(each for each in batches(service.database) if each.coverage == flights_pb.COVERAGE_GAP)
    assert (gap.begin.ToDatetime(UTC), gap.end.ToDatetime(UTC)) == (left_at, yesterday)
    assert list(gap.flights) == []
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert (cursor.covered_from, cursor.covered_until) == (yesterday, service.clock.now() - LAGS.departures)


def test_an_outage_of_days_is_no_gap(service: Service) -> None:
    """It was wanted all along: what was missed is made up for."""
    service.set()
    source = FakeSource(service.clock, [flight(NOON + timedelta(hours=hour), number=hour) for hour in range(100)])
    collection = collection_of(service, source)
    run(collection)
    service.clock.advance(5 * DAY)
    run(collection)
    assert not any(each.coverage == flights_pb.COVERAGE_GAP for each in batches(service.database))
    assert_consistent(service.database, source.known)


def collect_on(service: Service, source: FakeSource, budget: int) -> None:
    run(a_collection(service.database, source, service.clock, budget=budget))


def test_the_credits_of_a_day_survive_their_leader(service: Service) -> None:
    """The next leader goes on with what is left; the rest is deferred, and collected on the next day."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    source = FakeSource(service.clock)
    for _ in range(3):
        collect_on(service, source, budget=200)
    assert len(source.asked) == 125 // 30  # a quarter at once, and half of the rest by noon
    service.clock.advance(DAY)
    collect_on(service, source, budget=200)
    assert len(source.asked) == 2 * (125 // 30)
    assert_consistent(service.database, [])


def test_a_question_without_an_answer_costs_nothing(service: Service) -> None:
    """An outage of hours must not cost the credits of the day; unless the source says that it did."""
    service.set()
    source = FakeSource(service.clock)
    for _ in range(30):
        source.failures = [SourceAwayError("away")]
        collect_on(service, source, budget=400)
    assert spent(service) == 0
    source.asked.clear()
    collect_on(service, source, budget=400)
    assert len(source.asked) == 2
    assert spent(service) == 30 + 4


def spent(service: Service) -> int:
    with service.database.transaction() as session:
        return Ledger(400).account(session, service.clock.now()).spent


def test_the_source_is_believed_when_it_says_that_less_is_left(service: Service) -> None:
    """Somebody else spends from the same account."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    source = FakeSource(service.clock)
    source.says_left = 160
    collect_on(service, source, budget=400)
    assert len(source.asked) == 1  # 250 may be spent by noon, and 240 are
    assert spent(service) == 240


def test_behind_an_open_breaker_nobody_is_asked_for(service: Service) -> None:
    """The others would not be answered either, and it costs nothing."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = FakeSource(service.clock)
    source.failures = [BreakerOpenError(30)]
    collect_on(service, source, budget=400)
    assert (len(source.asked), spent(service)) == (1, 0)


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
            InterestStore(database, clock).set(uuid4(), wish(airport, Direction.BOTH))
        source = FakeSource(clock, flights)

        def begun() -> Collection:
            return a_collection(database, source, clock)

        collection = begun()
        for step in steps:
            clock.advance(timedelta(hours=step.hours))
            source.failures = list(step.failures)
            source.meanwhile = _once(lambda: run(begun())) if step.rival else lambda: None
            try:
                run(collection, "KJFK" if step.one_airport else None)
            except KilledError:
                collection = begun()
            except DeposedError:
                assert step.rival
            assert_consistent(database, flights)
        clock.advance(timedelta(days=1))
        source.failures, source.meanwhile = [], lambda: None
        run(collection)
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
