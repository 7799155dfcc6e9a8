"""Tests of the collector: coverage has no gaps and flights no duplicates, whatever fails."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings, strategies as st
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from chassis.db.database import Database
from chassis.metrics import Metrics, ServiceIdentity
from collector.errors import (
    BreakerOpenError,
    SourceLimitedError,
    SourceRefusedError,
    SourceUnavailableError,
    SupersededError,
)
from collector.interests import InterestStore
from collector.intervals import DAY, FARTHEST_BACK, day_of
from collector.leadership.terms import Term
from collector.messages import MAX_FLIGHTS_PER_MESSAGE
from collector.model import SCHEMA, CoverageRow, FlightRow, UnheardRow
from collector.settled.collection import FlightCollector
from collector.settled.coverage_report import CoverageReports
from collector.settled.duplicates import SAME_EVENT_WITHIN
from collector.settled.evidence import RecordTiming
from collector.settled.quota import QuotaStore
from collector.settled.schedule import CollectionTiming
from collector.sources.flight import Flight
from domain.interests import Direction
from domain.traffic import Coverage, DirectionTraffic, Observation
from domain.windows import Window
from tests.collector.conftest import ANN, BOB, NOON, NOWHERE, Service, outbox, prove_past_days, wish
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from tests.fakes.nightly_source import NightlySource, build_flight
from towerwatch.flights.v1 import events_pb2 as flights_pb
from towerwatch.topics import FLIGHTS_OBSERVED

HOUR = timedelta(hours=1)
RECORD_TIMING = RecordTiming(asked_after=HOUR, settle_time=3 * HOUR)
TIMING = CollectionTiming(RECORD_TIMING, poll_interval=HOUR, corrections_after=timedelta(days=2))
PLENTY = 1_000_000
"""Credits per day: the quota is never the limit."""
YESTERDAY = day_of(NOON) - DAY
DIRECTIONS = (Direction.ARRIVALS, Direction.DEPARTURES)
JFK_DEPARTURES = ("KJFK", Direction.DEPARTURES)


@dataclass(frozen=True, slots=True)
class Published:
    """The events of one airport and direction: completely covered intervals, and flights by key."""

    covered: list[tuple[datetime, datetime]] = field(default_factory=list)
    flights: list[tuple[str, datetime]] = field(default_factory=list)


def load_published(database: Database) -> dict[tuple[str, Direction], Published]:
    """Return by airport and direction what is in the outbox."""
    found: dict[tuple[str, Direction], Published] = {}
    for message in outbox(database, FLIGHTS_OBSERVED.name):
        value = flights_pb.FlightsObserved.FromString(message.value or b"")
        direction = Direction(flights_pb.Direction.Name(value.direction).removeprefix("DIRECTION_").lower())
        entry = found.setdefault((value.airport, direction), Published())
        entry.flights.extend((each.icao24, each.first_seen.ToDatetime(UTC)) for each in value.flights)
        if value.coverage == flights_pb.COVERAGE_COMPLETE:
            entry.covered.append((value.begin.ToDatetime(UTC), value.end.ToDatetime(UTC)))
    return found


def assert_consistent(database: Database, known: Iterable[Flight]) -> None:
    """Assert that coverage has no gap, and that events, rows and source have the same flights, each once."""
    published = load_published(database)
    with database.transaction() as session:
        cursors = {(row.airport, Direction(row.direction)): row for row in session.scalars(select(CoverageRow))}
        stored = [(row.airport, Direction(row.direction), row.icao24, row.first_seen) for row in _load_flights(session)]
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
        assert sorted(entry.flights) == sorted(due), "covered is not complete, or a flight was published twice"
        assert sorted(entry.flights) == sorted(row[2:] for row in stored if row[:2] == (airport, direction))


def _load_flights(session: Session) -> Iterable[FlightRow]:
    """Return all rows of the flights table."""
    return session.scalars(select(FlightRow))


def build_collector(service: Service, source: NightlySource, metrics: Metrics | None = None) -> FlightCollector:
    """Return a collector on the service's database, with plenty of credits."""
    return build_collector_on(service.database, source, service.clock, metrics=metrics)


def build_collector_on(
    database: Database,
    source: NightlySource,
    clock: FakeClock,
    timing: CollectionTiming = TIMING,
    budget: int = PLENTY,
    metrics: Metrics | None = None,
) -> FlightCollector:
    """Return a collector on a database, by default with plenty of credits."""
    return FlightCollector(
        database, source, clock, timing, QuotaStore(budget), metrics or Metrics(ServiceIdentity("collector", "local"))
    )


def run(collector: FlightCollector, airport: str | None = None) -> None:
    """Begin a term and collect once in it."""

    async def lead() -> None:
        await collector.collect(await collector.begin_term(), airport)

    asyncio.run(lead())


def run_recorded(service: Service, collector: FlightCollector, airport: str | None = None) -> None:
    """Collect once, with proof of all days whose record is there and whole: no evidence call is due."""
    prove_past_days(service.database, service.clock.now())
    run(collector, airport)


def run_hourly(service: Service, collector: FlightCollector, hours: int) -> None:
    """Collect every hour for so many hours, the first time in an hour."""
    for _ in range(hours):
        service.clock.advance(HOUR)
        run(collector)


def list_daily_flights(days: int = 30) -> list[Flight]:
    """Return one flight in the morning of each of the last days and of the next, so that no day is without a flight."""
    return [build_flight(YESTERDAY + day * DAY + 8 * HOUR) for day in range(1 - days, days)]


def test_without_interests_no_call_is_made(service: Service) -> None:
    """Credits are spent only on airports with an interest."""
    source = NightlySource(service.clock)
    run(build_collector(service, source))
    assert source.calls == []


def test_collection_reaches_as_far_as_the_source_has_flights(service: Service) -> None:
    """Both directions are collected up to the last midnight once the night's record is whole, and no further.

    A call has one day and one direction, and once all is collected nothing is due until the next record is whole.
    """
    service.set(wish(direction=Direction.BOTH))
    flights = [build_flight(YESTERDAY + timedelta(hours=hour)) for hour in range(72)]
    source = NightlySource(service.clock, flights)
    collector = build_collector(service, source)
    run(collector)
    run_hourly(service, collector, 2)
    assert source.collections == []
    run_hourly(service, collector, 1)
    today = YESTERDAY + DAY
    assert source.collections == [
        ("KJFK", Direction.ARRIVALS, YESTERDAY, today),
        ("KJFK", Direction.DEPARTURES, YESTERDAY, today),
    ]
    assert_consistent(service.database, source.available)
    run_hourly(service, collector, 14)  # until 05:00
    assert len(source.collections) == 2
    run_hourly(service, collector, 1)
    assert source.collections[2:] == [
        ("KJFK", Direction.ARRIVALS, today, today + DAY),
        ("KJFK", Direction.DEPARTURES, today, today + DAY),
    ]
    assert_consistent(service.database, source.available)
    calls = len(source.calls)
    run_hourly(service, collector, 6)
    assert len(source.calls) == calls


def test_a_request_for_one_airport_collects_only_that_one(service: Service) -> None:
    """The request names the airport."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = NightlySource(service.clock, list_daily_flights())
    run_recorded(service, build_collector(service, source), "LICC")
    assert {airport for airport, *_ in source.calls} == {"LICC"}


def test_an_interest_in_the_past_is_collected_from_its_day_on(service: Service) -> None:
    """The earliest `effective_from` of a person's interests counts."""
    for window, days in zip(Window, (3, 5, 2), strict=False):
        service.set(wish(window=window, effective_from=NOON - timedelta(days=days)), ANN)
    source = NightlySource(service.clock, list_daily_flights())
    run_recorded(service, build_collector(service, source))
    begins = [day_of(NOON) - timedelta(days=back) for back in (5, 4, 3, 2, 1)]
    assert [begin for _, _, begin, _ in source.calls] == begins
    assert_consistent(service.database, source.available)


@pytest.mark.parametrize(("stranger", "order"), [(ANN, ["LICC", "KJFK", "LICC"]), (BOB, ["KJFK", "LICC", "LICC"])])
def test_a_new_airport_comes_first_of_ones_own(service: Service, stranger: UUID, order: list[str]) -> None:
    """An airport that was never polled comes before its person's others, but not before another's, which waits longer.

    Its second day comes after the other airports.
    """
    source = NightlySource(service.clock, list_daily_flights())
    collector = build_collector(service, source)
    service.set(wish("KJFK"), ANN)
    run_recorded(service, collector)
    service.clock.advance(DAY)
    service.set(wish("LICC", effective_from=service.clock.now() - 2 * DAY), stranger)
    source.calls.clear()
    run_recorded(service, collector)
    assert [airport for airport, *_ in source.calls] == order


def test_an_interval_without_flights_is_published(service: Service) -> None:
    """Zero flights under full coverage is zero, at an airport that had a flight before."""
    service.set(wish(effective_from=NOON - 2 * DAY))
    source = NightlySource(service.clock, [build_flight(YESTERDAY - DAY)])
    run_recorded(service, build_collector(service, source))
    assert load_published(service.database)[JFK_DEPARTURES].covered == [
        (YESTERDAY - DAY, YESTERDAY), (YESTERDAY, YESTERDAY + DAY)
    ]  # fmt: skip
    assert_consistent(service.database, source.available)


def test_more_flights_than_a_message_holds_are_all_published(service: Service) -> None:
    """The flights are split into batches in the order of their event times."""
    service.set()
    source = NightlySource(
        service.clock, [build_flight(YESTERDAY, number=number) for number in range(2 * MAX_FLIGHTS_PER_MESSAGE + 1)]
    )
    run_recorded(service, build_collector(service, source))
    assert len(load_published(service.database)[JFK_DEPARTURES].flights) == 2 * MAX_FLIGHTS_PER_MESSAGE + 1
    assert_consistent(service.database, source.available)


def test_a_flight_whose_times_the_source_changed_is_published_once(service: Service) -> None:
    """Its last contact moves past midnight, so that it is an arrival of either day."""
    service.set(wish(direction=Direction.ARRIVALS))
    took_off = YESTERDAY + timedelta(hours=23)
    source = NightlySource(service.clock, [build_flight(took_off, minutes=30)])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    source.available = [build_flight(took_off, minutes=90)]
    service.clock.advance(DAY)
    run_recorded(service, collector)
    assert len(source.calls) == 2
    arrivals = load_published(service.database)["KJFK", Direction.ARRIVALS]
    assert arrivals.flights == [("000001", took_off)]
    assert arrivals.covered[-1] == (YESTERDAY + DAY, YESTERDAY + 2 * DAY)


@pytest.mark.parametrize("failure", [SourceUnavailableError("away"), SourceRefusedError("refused")])
def test_an_airport_that_fails_does_not_stop_the_others(service: Service, failure: Exception) -> None:
    """Later days of the failed airport are skipped until the failed day succeeds; otherwise there would be a gap."""
    service.set(wish("KJFK", effective_from=NOON - timedelta(days=9)))
    service.set(wish("LICC", effective_from=NOON - 2 * DAY))
    source = NightlySource(service.clock, list_daily_flights())
    source.failing = {"KJFK": failure}
    collector = build_collector(service, source)
    run_recorded(service, collector)
    assert [airport for airport, *_ in source.calls] == ["KJFK", "LICC", "LICC"]
    source.failing = {}
    run_recorded(service, collector)
    assert load_published(service.database)[JFK_DEPARTURES].covered[0][0] == day_of(NOON) - timedelta(days=9)
    assert_consistent(service.database, source.available)


def test_after_a_rate_limit_no_call_is_made_until_the_pause_ends(service: Service) -> None:
    """The pause holds for other airports and for requests too; afterwards collection continues at the cursor."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport, effective_from=NOON - 2 * DAY))
    source = NightlySource(service.clock, list_daily_flights())
    source.failures = [None, SourceLimitedError(3600)]
    collector = build_collector(service, source)
    run_recorded(service, collector)
    service.clock.advance(timedelta(minutes=59))
    run_recorded(service, collector)
    run_recorded(service, collector, "LICC")
    assert len(source.calls) == 2
    service.clock.advance(timedelta(minutes=1))
    run_recorded(service, collector)
    assert len(source.calls) == 2 + 3
    assert_consistent(service.database, source.available)


def test_an_unavailable_database_ends_a_collection_without_an_error(service: Service) -> None:
    """Neither at its begin nor in its middle does a collection raise an error that could end the leader's work."""
    away = build_collector_on(Database(NOWHERE), NightlySource(service.clock), service.clock)
    asyncio.run(away.collect(Term(1)))
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    source.meanwhile = lambda: _execute(service.database, "ALTER TABLE outbox RENAME TO elsewhere")
    collector = build_collector(service, source)
    run_recorded(service, collector)
    assert len(source.calls) == 1
    source.meanwhile = lambda: None
    _execute(service.database, "ALTER TABLE elsewhere RENAME TO outbox")
    assert load_published(service.database) == {}
    run_recorded(service, collector)
    assert_consistent(service.database, source.available)


def _execute(database: Database, statement: str) -> None:
    with database.transaction() as session:
        session.execute(text(statement))


def test_flights_cursor_and_events_commit_together(service: Service) -> None:
    """If the commit fails, no part of the transaction is stored."""
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    collector = build_collector(service, source)

    def refuse(_connection: object) -> None:
        raise RuntimeError("the disk is full")

    source.meanwhile = lambda: event.listen(service.database.engine, "commit", refuse)
    with pytest.raises(RuntimeError):
        run_recorded(service, collector)
    event.remove(service.database.engine, "commit", refuse)
    assert load_published(service.database) == {}
    with service.database.transaction() as session:
        assert session.scalars(select(CoverageRow)).all() == []
        assert list(_load_flights(session)) == []


def test_of_two_collectors_one_stores(service: Service) -> None:
    """The collector with the newer term stores; the other's transaction is rejected, and it makes no more calls."""
    service.set(wish(effective_from=NOON - timedelta(days=5)))
    source = NightlySource(service.clock, list_daily_flights())
    rival = NightlySource(service.clock, source.available)

    def collect_elsewhere() -> None:
        source.meanwhile = lambda: None
        run_recorded(service, build_collector(service, rival))

    source.meanwhile = collect_elsewhere
    with pytest.raises(SupersededError):
        run_recorded(service, build_collector(service, source))
    assert len(source.calls) == 1
    assert len(rival.calls) == 5
    assert_consistent(service.database, source.available)


def test_the_answer_of_a_superseded_collector_is_not_stored(service: Service) -> None:
    """The answer may be of a call of long ago, even if no other collector has stored the interval yet."""
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    source.meanwhile = lambda: asyncio.run(build_collector(service, source).begin_term()) and None
    with pytest.raises(SupersededError):
        run_recorded(service, build_collector(service, source))
    assert load_published(service.database) == {}
    with service.database.transaction() as session:
        assert list(_load_flights(session)) == []


@pytest.mark.parametrize("proven", [True, False])
def test_a_superseded_term_spends_no_credits(service: Service, proven: bool) -> None:
    """A superseded leader makes no call, neither for flights nor about a record."""
    service.set()
    if proven:
        prove_past_days(service.database, NOON)
    source = NightlySource(service.clock)
    collector = build_collector(service, source)
    old = asyncio.run(collector.begin_term())
    asyncio.run(collector.begin_term())
    with pytest.raises(SupersededError):
        asyncio.run(collector.collect(old))
    with pytest.raises(SupersededError):
        asyncio.run(collector.collect(Term(old - 1)))
    assert source.calls == []


def test_terms_that_begin_together_are_different(service: Service) -> None:
    """This holds also for the very first terms, before there is a row to lock."""
    collector = build_collector(service, NightlySource(service.clock))

    async def begin_all() -> list[Term]:
        return list(await asyncio.gather(*(collector.begin_term() for _ in range(6))))

    assert sorted(asyncio.run(begin_all())) == [1, 2, 3, 4, 5, 6]


def test_an_outdated_list_of_due_calls_is_abandoned(service: Service) -> None:
    """A cancelled collection may still be storing when the next one begins in the same term."""
    service.set(wish(effective_from=NOON - timedelta(days=5)))
    source = NightlySource(service.clock, list_daily_flights())
    collector = build_collector(service, source)
    prove_past_days(service.database, NOON)
    term = asyncio.run(collector.begin_term())

    def collect_elsewhere() -> None:
        source.meanwhile = lambda: None
        asyncio.run(collector.collect(term))

    source.meanwhile = collect_elsewhere
    asyncio.run(collector.collect(term))
    assert len(source.calls) == 1 + 5
    assert_consistent(service.database, source.available)


def test_the_loser_of_a_race_for_the_first_interval_publishes_nothing(service: Service) -> None:
    """The database may let both collectors look for the cursor before one inserts it."""
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    collector = build_collector(service, source)

    def make_it_first(connection, cursor, statement, parameters, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("INSERT INTO coverage"):
            cursor.execute(statement, parameters)

    event.listen(service.database.engine, "before_cursor_execute", make_it_first)
    run_recorded(service, collector)
    event.remove(service.database.engine, "before_cursor_execute", make_it_first)
    assert load_published(service.database) == {}
    run_recorded(service, collector)
    assert_consistent(service.database, source.available)


def test_the_metrics_count_stored_flights(service: Service) -> None:
    """The metrics have the number of flights by direction, and the time to store them."""
    service.set(wish(effective_from=NOON - 2 * DAY))
    metrics = Metrics(ServiceIdentity("collector", "local"))
    source = NightlySource(
        service.clock, [build_flight(YESTERDAY - DAY)] + [build_flight(YESTERDAY, number=number) for number in range(3)]
    )
    run_recorded(service, build_collector(service, source, metrics))
    labels = {"service": "collector", "node": "local"}
    value = metrics.registry.get_sample_value
    assert value("flights_stored_total", {"direction": "departures", **labels}) == 4
    assert value("flight_data_processing_seconds_count", labels) == 2


def load_batches(database: Database, direction: Direction = Direction.DEPARTURES) -> list[flights_pb.FlightsObserved]:
    """Return the events of a direction in the outbox, oldest first."""
    values = [
        flights_pb.FlightsObserved.FromString(message.value or b"")
        for message in outbox(database, FLIGHTS_OBSERVED.name)
    ]
    return [each for each in values if flights_pb.Direction.Name(each.direction).endswith(direction.name)]


def test_a_closed_day_is_collected_once_more_for_late_flights(service: Service) -> None:
    """Two days after its end the day is collected again: only new flights are published, and then it is done."""
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY + timedelta(hours=1))])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    late = build_flight(YESTERDAY + timedelta(hours=2), number=2)
    source.available.append(late)
    service.clock.advance(timedelta(days=1, hours=11))
    run_recorded(service, collector)
    assert not any(message.flights for message in load_batches(service.database)[1:])
    source.calls.clear()
    service.clock.advance(timedelta(hours=13))
    run_recorded(service, collector)
    assert source.calls[-1] == ("KJFK", Direction.DEPARTURES, YESTERDAY, YESTERDAY + DAY)
    correction = load_batches(service.database)[-1]
    assert [each.icao24 for each in correction.flights] == [late.icao24]
    assert (correction.begin.ToDatetime(UTC), correction.end.ToDatetime(UTC)) == (YESTERDAY, YESTERDAY + DAY)
    assert correction.coverage == flights_pb.COVERAGE_COMPLETE
    published_before = len(load_batches(service.database))
    source.calls.clear()
    run_recorded(service, collector)
    assert (source.calls, len(load_batches(service.database))) == ([], published_before)


def test_a_correction_without_new_flights_publishes_nothing(service: Service) -> None:
    """Readers have the day's coverage already."""
    service.set()
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    service.clock.advance(2 * DAY)
    run_recorded(service, collector)
    assert source.calls[-1][2:] == (YESTERDAY, YESTERDAY + DAY)
    assert_consistent(service.database, source.available)


@pytest.mark.parametrize("returns", [True, False])
def test_a_correction_that_lacks_stored_flights_is_repeated_once(service: Service, returns: bool) -> None:
    """Its flights are stored; the second answer stands, also if a flight is missing for good."""
    service.set()
    there, missing = build_flight(YESTERDAY, number=1), build_flight(YESTERDAY + timedelta(hours=1), number=2)
    late = build_flight(YESTERDAY + timedelta(hours=2), number=3)
    source = NightlySource(service.clock, [there, missing])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    source.available = [there, late]
    service.clock.advance(2 * DAY)
    run_recorded(service, collector)
    assert [each.icao24 for each in load_batches(service.database)[-1].flights] == [late.icao24]
    landed = build_flight(YESTERDAY + timedelta(hours=1), minutes=75, number=2)
    source.available = [there, landed, late] if returns else [there, late]
    source.calls.clear()
    run_recorded(service, collector)
    assert [call[2:] for call in source.calls] == [(YESTERDAY, YESTERDAY + DAY)]
    with service.database.transaction() as session:
        (row,) = [each for each in _load_flights(session) if each.icao24 == missing.icao24]
    assert row.last_seen == (landed if returns else missing).last_seen
    source.calls.clear()
    run_recorded(service, collector)
    assert source.calls == []
    sent = [each.icao24 for batch in load_batches(service.database) for each in batch.flights]
    assert sorted(sent) == [there.icao24, missing.icao24, late.icao24]


def test_what_is_collected_late_is_not_corrected(service: Service) -> None:
    """A day that is collected for the first time a week later is not collected again."""
    service.set(wish(effective_from=NOON - timedelta(days=6)))
    source = NightlySource(service.clock, list_daily_flights())
    collector = build_collector(service, source)
    run_recorded(service, collector)
    service.clock.advance(2 * DAY)
    source.calls.clear()
    run_recorded(service, collector)
    corrected = [begin for _, _, begin, _ in source.calls if begin < YESTERDAY + DAY]
    assert corrected == [YESTERDAY - DAY]
    run_recorded(service, collector)
    assert source.calls[-1][2] == YESTERDAY


def test_a_correction_updates_changed_flights_without_publishing_them(service: Service) -> None:
    """A departure had no destination while it was in the air; a correction stores it, and the count stays the same."""
    service.set(wish(direction=Direction.BOTH))
    took_off = YESTERDAY + timedelta(hours=23)
    source = NightlySource(service.clock, [build_flight(took_off, minutes=30)])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    landed = {"icao24": "000001", "firstSeen": int(took_off.timestamp()), "lastSeen": int(took_off.timestamp()) + 2400}
    source.available = [Flight.model_validate(landed | {"estArrivalAirport": "LICC", "callsign": "TW7"})]
    service.clock.advance(2 * DAY)
    run_recorded(service, collector)
    with service.database.transaction() as session:
        rows = {row.direction: row for row in _load_flights(session)}
    departure, arrival = rows["departures"], rows["arrivals"]
    assert (departure.other_airport, departure.callsign) == ("LICC", "TW7")
    assert departure.last_seen == arrival.last_seen == took_off + timedelta(minutes=40)
    assert (departure.event_time, arrival.event_time) == (took_off, took_off + timedelta(minutes=30))
    for direction in DIRECTIONS:
        assert sum(len(each.flights) for each in load_batches(service.database, direction)) == 1


def test_of_two_versions_in_one_answer_the_longer_is_taken(service: Service) -> None:
    """Two versions are one flight, which is published once."""
    service.set(wish(direction=Direction.ARRIVALS))
    source = NightlySource(service.clock, [build_flight(YESTERDAY, minutes) for minutes in (90, 120, 60)])
    run_recorded(service, build_collector(service, source))
    (sent_flight,) = [each for batch in load_batches(service.database, Direction.ARRIVALS) for each in batch.flights]
    assert sent_flight.last_seen.ToDatetime(UTC) == YESTERDAY + timedelta(hours=2)


def test_covered_again_is_harmless_to_the_stream() -> None:
    """A batch of a covered day moves no watermark and makes no gap; corrections rely on this."""
    day = 86_400
    covered = DirectionTraffic().fold(Observation(Direction.DEPARTURES, 0, 4 * day, (10, 20), Coverage.COMPLETE))
    again = covered.fold(Observation(Direction.DEPARTURES, day, 2 * day, (), Coverage.COMPLETE))
    assert again == covered
    late = covered.fold(Observation(Direction.DEPARTURES, day, 2 * day, (day + 5,), Coverage.COMPLETE))
    assert (late.watermark, late.covered_from, late.gaps) == (4 * day, 0, ())
    assert late.counts.total(24, 24) == 1


def test_months_without_an_interest_become_a_gap(service: Service) -> None:
    """After a new interest, collection continues with yesterday; no credits are spent on those months."""
    user = uuid4()
    service.set(user_id=user)
    source = NightlySource(service.clock, [build_flight(YESTERDAY)])
    collector = build_collector(service, source)
    run_recorded(service, collector)
    service.interests.remove_all(user)
    left_at = YESTERDAY + DAY
    service.clock.advance(timedelta(days=90))
    source.calls.clear()
    run_recorded(service, collector)
    assert source.calls == []
    yesterday = day_of(service.clock.now()) - DAY
    service.set(wish(effective_from=service.clock.now()))
    run_recorded(service, collector)
    assert [begin for _, _, begin, _ in source.collections] == [yesterday]
    gap = next(each for each in load_batches(service.database) if each.coverage == flights_pb.COVERAGE_GAP)
    assert (gap.begin.ToDatetime(UTC), gap.end.ToDatetime(UTC)) == (left_at, yesterday)
    assert list(gap.flights) == []
    with service.database.transaction() as session:
        cursor = session.get_one(CoverageRow, ("KJFK", "departures"))
    assert (cursor.covered_from, cursor.covered_until) == (yesterday, yesterday + DAY)


def test_an_outage_of_days_is_no_gap(service: Service) -> None:
    """The airport had an interest all along, so all missed days are collected."""
    service.set()
    source = NightlySource(
        service.clock, [build_flight(YESTERDAY + timedelta(hours=hour), number=hour) for hour in range(136)]
    )
    collector = build_collector(service, source)
    run_recorded(service, collector)
    service.clock.advance(5 * DAY)
    run_recorded(service, collector)
    assert not any(each.coverage == flights_pb.COVERAGE_GAP for each in load_batches(service.database))
    assert_consistent(service.database, source.available)
    with service.database.transaction() as session:
        assert session.get_one(CoverageRow, ("KJFK", "departures")).covered_until == day_of(NOON) + 5 * DAY


@pytest.mark.parametrize("days", [8, 40])
def test_an_absence_of_weeks_is_collected_in_order_as_far_back_as_the_source_is_asked(
    service: Service, days: int
) -> None:
    """The days that are asked for are covered, the oldest first; what lies farther back is one gap that is published.

    Each published interval begins where the one before ended: without a gap there is no hole in which low could fire.
    """
    service.set(user_id=ANN)
    source = NightlySource(
        service.clock, [build_flight(YESTERDAY + timedelta(hours=hour), number=hour) for hour in range(48 * 24)]
    )
    collector = build_collector(service, source)
    run_recorded(service, collector)
    left_at = YESTERDAY + DAY
    service.clock.advance(days * DAY)
    source.calls.clear()
    upcoming = CoverageReports(service.database, service.clock, TIMING).load_report(ANN, "KJFK").gaps
    assert ("collection goes on with 23 Feb" in upcoming.get(Direction.DEPARTURES, "")) is (days == 40)
    run_recorded(service, collector)
    today = day_of(service.clock.now())
    resumed_at = max(left_at, today - FARTHEST_BACK)
    departures = [begin for _, direction, begin, _ in source.collections if direction is Direction.DEPARTURES]
    expected = [resumed_at + number * DAY for number in range((today - resumed_at) // DAY)]
    assert departures[: len(expected)] == expected
    assert set(departures[len(expected) :]) <= {YESTERDAY}, "a correction"
    batches = load_batches(service.database)
    gaps = [
        (each.begin.ToDatetime(UTC), each.end.ToDatetime(UTC))
        for each in batches
        if each.coverage == flights_pb.COVERAGE_GAP
    ]
    assert gaps == ([(left_at, resumed_at)] if resumed_at > left_at else [])
    ends = [each.end.ToDatetime(UTC) for each in batches]
    assert [each.begin.ToDatetime(UTC) for each in batches[1:]] == ends[:-1]
    assert ends[-1] == today
    reports = CoverageReports(service.database, service.clock, TIMING)
    words = reports.load_report(ANN, "KJFK").gaps.get(Direction.DEPARTURES)
    if not gaps:
        assert words is None
        assert_consistent(service.database, source.available)
    else:
        assert words is not None
        assert words.startswith(
            "13 Feb – 22 Feb: not collected, and never will be; windows in this time are not judged"
        )


def collect_with_budget(service: Service, source: NightlySource, budget: int) -> None:
    """Collect once as a new leader, with so many credits per day."""
    run_recorded(service, build_collector_on(service.database, source, service.clock, budget=budget))


def test_the_credits_of_a_day_survive_their_leader(service: Service) -> None:
    """The next leader continues with the credits left; the rest is deferred to the next day."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    source = NightlySource(service.clock, list_daily_flights())
    for _ in range(3):
        collect_with_budget(service, source, budget=200)
    assert len(source.calls) == 125 // 30  # a quarter at once, and half of the rest by noon
    service.clock.advance(DAY)
    collect_with_budget(service, source, budget=200)
    assert len(source.calls) == 2 * (125 // 30)
    assert_consistent(service.database, source.available)


def test_a_failed_call_costs_no_credits(service: Service) -> None:
    """An outage of hours must not cost the credits of the day, unless the source reports that it did."""
    service.set(wish(effective_from=NOON - 2 * DAY))
    source = NightlySource(service.clock, list_daily_flights())
    for _ in range(30):
        source.failures = [SourceUnavailableError("away")]
        collect_with_budget(service, source, budget=400)
    assert load_spent_credits(service) == 0
    source.calls.clear()
    collect_with_budget(service, source, budget=400)
    assert len(source.calls) == 2
    assert load_spent_credits(service) == 30 + 30


def load_spent_credits(service: Service) -> int:
    """Return the credits spent today."""
    with service.database.transaction() as session:
        return QuotaStore(400).load_balance(session, service.clock.now()).spent


def test_the_source_is_trusted_when_it_reports_fewer_credits_left(service: Service) -> None:
    """Another program spends from the same account."""
    service.set(wish(effective_from=NOON - timedelta(days=9)))
    source = NightlySource(service.clock, list_daily_flights())
    source.reported_left = 160
    collect_with_budget(service, source, budget=400)
    assert len(source.calls) == 1  # 250 may be spent by noon, and 240 are
    assert load_spent_credits(service) == 240


def test_an_open_breaker_ends_the_collection(service: Service) -> None:
    """Calls for other airports would fail too, and no credits are spent."""
    for airport in ("KJFK", "LICC"):
        service.set(wish(airport))
    source = NightlySource(service.clock, list_daily_flights())
    source.failures = [BreakerOpenError(30)]
    collect_with_budget(service, source, budget=400)
    assert (len(source.calls), load_spent_credits(service)) == (1, 0)


class CollectionKilledError(BaseException):
    """The process is killed here: no code catches this error."""


FAILURES = st.sampled_from(
    [
        None,
        None,
        SourceUnavailableError("away"),
        SourceRefusedError("refused"),
        SourceLimitedError(7200),
        CollectionKilledError(),
    ]
)


@dataclass(frozen=True, slots=True)
class Step:
    """One collection, after some time, and the faults in it."""

    hours: float
    failures: list[BaseException | None]
    rival: bool
    """True if another collector works in the middle of it."""
    one_airport: bool
    proven: bool
    """True if the records that evidence calls could have proven by then are proven before."""


def keep_possible(flights: Iterable[Flight]) -> list[Flight]:
    """Return the flights that an aircraft can have flown one after the other: the source has no flight in two rows."""
    kept: dict[str, list[Flight]] = {}
    for each in sorted(flights, key=lambda each: each.first_seen):
        before = kept.setdefault(each.icao24, [])
        if not before or before[-1].last_seen + 2 * SAME_EVENT_WITHIN < each.first_seen:
            before.append(each)
    return [each for of_aircraft in kept.values() for each in of_aircraft]


STEPS = st.builds(
    Step,
    hours=st.floats(0.01, 40),
    failures=st.lists(FAILURES, max_size=4),
    rival=st.booleans(),
    one_airport=st.booleans(),
    proven=st.booleans(),
)
FLIGHTS = st.lists(
    st.builds(
        lambda hours, minutes, number: build_flight(YESTERDAY + timedelta(hours=hours), minutes, number),
        hours=st.floats(0, 150),
        minutes=st.floats(0, 900),
        number=st.integers(0, 5),
    ),
    max_size=40,
).map(keep_possible)


@settings(max_examples=25, deadline=None)
@given(FLIGHTS, st.lists(STEPS, min_size=1, max_size=6))
def test_any_sequence_of_faults_leaves_neither_gap_nor_duplicate(flights: list[Flight], steps: list[Step]) -> None:
    """Failures, limits, kills, duplicates in answers and a second collector may come in any order.

    At every moment the covered ranges are complete; and within eight days without faults, in the end, every flight is
    covered, also by the evidence calls about the records alone.
    """
    clock = FakeClock(NOON)
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/collector.db")
        event.listen(database.engine, "connect", _disable_fsync)
        create_tables(database, SCHEMA)
        for airport in ("KJFK", "LICC"):
            InterestStore(database, clock).set(uuid4(), wish(airport, Direction.BOTH))
        source = NightlySource(clock, flights)

        def new_collector() -> FlightCollector:
            return build_collector_on(database, source, clock)

        collector = new_collector()
        for step in steps:
            clock.advance(timedelta(hours=step.hours))
            if step.proven:
                prove_past_days(database, clock.now())
            source.failures = list(step.failures)
            source.meanwhile = _once(lambda: run(new_collector())) if step.rival else lambda: None
            try:
                run(collector, "KJFK" if step.one_airport else None)
            except CollectionKilledError:
                collector = new_collector()
            except SupersededError:
                assert step.rival
            assert_consistent(database, flights)
        source.failures, source.meanwhile = [], lambda: None
        until, deadline = day_of(clock.now()), clock.now() + 8 * DAY
        while min(load_asked_until(database), default=YESTERDAY) < until and clock.now() < deadline:
            clock.advance(6 * HOUR)
            run(collector)
        assert_all_is_heard(database, flights, until)
        assert_consistent(database, flights)
        database.close()


def load_asked_until(database: Database) -> list[datetime]:
    """Return up to where each direction of both airports is collected: covered, or asked for in vain; once all are."""
    with database.transaction() as session:
        covered = [row.covered_until for row in session.scalars(select(CoverageRow))]
        in_vain = [row.asked_until for row in session.scalars(select(UnheardRow))]
    return covered + in_vain if len(covered + in_vain) == 4 else []


def assert_all_is_heard(database: Database, flights: list[Flight], until: datetime) -> None:
    """Assert that both airports are collected until then, and each of the flights since the day of NOON is covered."""
    assert min(load_asked_until(database)) >= until
    published = load_published(database)
    for airport in ("KJFK", "LICC"):
        for direction in DIRECTIONS:
            due = {
                (each.icao24, each.first_seen) for each in flights if day_of(NOON) <= each.event_time(direction) < until
            }
            assert due <= set(published.get((airport, direction), Published()).flights)


def _once(act: Callable[[], None]) -> Callable[[], None]:
    """Return a function that does `act` at its first call, and nothing later."""
    todo = [act]

    def once() -> None:
        if todo:
            with suppress(CollectionKilledError):
                todo.pop()()

    return once


def _disable_fsync(connection, _record) -> None:  # type: ignore[no-untyped-def]
    """Make SQLite faster: a power failure is not tested here."""
    connection.execute("PRAGMA synchronous=OFF")
