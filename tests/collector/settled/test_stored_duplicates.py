"""Tests of duplicates in the database, and through the collector: what is stored is found again, and counted once."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import event, select

from collector.intervals import DAY, Interval, day_of
from collector.model import FlightRow
from collector.settled.differences import compare_with_stored
from collector.settled.duplicates import merge_duplicates
from collector.settled.stored_flights import insert_flights, load_stored_flights, update_flights
from collector.sources.flight import Flight
from domain.interests import Direction
from tests.collector.conftest import NOON, Service, wish
from tests.collector.settled.polling import HOUR, build_collector, list_complete, poll_hourly
from tests.collector.settled.test_differences import FlightTable
from tests.collector.settled.test_duplicates import ARRIVALS, BOTH, DAWN, DEPARTURES, row
from tests.fakes.nightly_source import NightlySource

TODAY = day_of(NOON)
YESTERDAY = TODAY - DAY


def store_answer(service: Service, direction: Direction, answer: Iterable[Flight]) -> int:
    """Store an answer for KJFK as the collector does, and return the number of new flights."""
    interval = Interval("KJFK", direction, day_of(DAWN), day_of(DAWN) + DAY)
    reported = merge_duplicates(direction, answer)
    with service.database.transaction() as session:
        diff = compare_with_stored(direction, reported, load_stored_flights(session, interval, reported))
        insert_flights(session, interval, diff.new, {})
        update_flights(session, diff.changed)
    return len(diff.new)


def load_rows(service: Service, direction: Direction) -> list[FlightRow]:
    """Return the stored flights of a direction, in the order of their ids."""
    with service.database.transaction() as session:
        rows = session.scalars(select(FlightRow).where(FlightRow.direction == direction.value).order_by(FlightRow.id))
        found = list(rows)
        session.expunge_all()
    return found


def draw_answer(chance: Random) -> list[Flight]:
    """Return rows of three aircraft within two days, few of them long, with one key at most once."""
    rows = {}
    for _ in range(chance.randrange(12)):
        begin = chance.randrange(0, 2 * 24 * 60, 4)
        length = chance.choice([0, 3, 12, 30, 90, 23 * 60])
        text = chance.choice(["", "TW1", "TW2"])
        flight = row(begin, begin + length, text, chance.choice(["", "LICC"]), chance.randrange(1, 4))
        rows[flight.icao24, flight.first_seen] = flight
    return list(rows.values())


@BOTH
def test_the_query_finds_every_stored_flight_that_is_told(service: Service, direction: Direction) -> None:
    """After many answers the rows are those of a table in memory, whose every flight is compared with every answer."""
    service.cover(direction, YESTERDAY, TODAY)
    chance = Random(20130213)
    table = FlightTable(direction)
    for _ in range(25):
        answer = draw_answer(chance)
        assert store_answer(service, direction, answer) == table.store_answer(answer)[0]
    published = {(flight.icao24, flight.first_seen): flight for flight in table.published}
    expected = {
        flight.key: (flight.last_seen, flight.callsign, flight.other_airport) for flight in table.stored.values()
    }
    rows = load_rows(service, direction)
    assert {(each.icao24, each.first_seen): (each.last_seen, each.callsign, each.other_airport) for each in rows} == (
        expected
    )
    for each in rows:
        assert each.event_time == published[each.icao24, each.first_seen].event_time(direction)


@BOTH
@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(row(0, 0), row(10, 10), id="the same event, ten minutes apart"),
        pytest.param(row(0, 24 * 60), row(24 * 60 - 1, 24 * 60 - 1), id="a position at the end of the longest flight"),
        pytest.param(row(0, 24 * 60), row(1, 1), id="a position at the begin of the longest flight"),
    ],
)
def test_the_query_reaches_as_far_as_the_rule(
    service: Service, direction: Direction, one: Flight, other: Flight
) -> None:
    """Either row is found by the other one, alone in its answer."""
    service.cover(direction, YESTERDAY, TODAY)
    swapped = [each.model_copy(update={"icao24": "000002"}) for each in (other, one)]
    for stored, told in ([one, other], swapped):
        assert (store_answer(service, direction, [stored]), store_answer(service, direction, [told])) == (1, 0)


@contextmanager
def recorded_queries(service: Service) -> Iterator[list[str]]:
    """Yield the list to which the SQL of each query on the database is appended in this context."""
    queries: list[str] = []

    def record(_connection, _cursor, statement: str, *_):  # type: ignore[no-untyped-def]
        if statement.startswith("SELECT"):
            queries.append(statement)

    event.listen(service.database.engine, "before_cursor_execute", record)
    yield queries
    event.remove(service.database.engine, "before_cursor_execute", record)


@BOTH
def test_one_query_compares_an_answer_of_a_thousand_flights(service: Service, direction: Direction) -> None:
    """Each comes again with another first_seen, and is found."""
    service.cover(direction, YESTERDAY, TODAY)
    answer = [row(number % 700, number % 700 + 60, "TW1", "LICC", aircraft=number) for number in range(1000)]
    assert store_answer(service, direction, answer) == 1000
    moved = [row(number % 700 + 0.25, number % 700 + 61, "TW1", "LICC", aircraft=number) for number in range(1000)]
    with recorded_queries(service) as queries:
        assert store_answer(service, direction, moved) == 0
    assert len(queries) == 1
    assert len(load_rows(service, direction)) == 1000


@BOTH
def test_rows_longer_than_any_flight_are_stored_once(service: Service, direction: Direction) -> None:
    """Their first_seen is absurd; the key is found all the same, also beside other flights of the aircraft."""
    service.cover(direction, YESTERDAY, TODAY)
    absurd = [row(-60 * 24 * 3000, 30), row(-60 * 24 * 2, 45, aircraft=2)]
    others = [row(number * 60, number * 60 + 30, aircraft=3) for number in range(5)]
    assert store_answer(service, direction, absurd + others) == 7
    assert store_answer(service, direction, absurd + others) == 0
    extended = [row(-60 * 24 * 3000, 31), row(-60 * 24 * 2, 46, aircraft=2)]
    assert store_answer(service, direction, extended + others) == 0


def build_row(
    first_seen: datetime, last_seen: datetime, callsign: str = "", arrival_airport: str | None = None
) -> Flight:
    """Return a departure as OpenSky gives it, with or without an arrival airport."""
    return Flight.model_validate(
        {
            "icao24": "4ca1fa",
            "firstSeen": int(first_seen.timestamp()),
            "lastSeen": int(last_seen.timestamp()),
            "callsign": callsign,
            "estDepartureAirport": "KJFK",
            "estArrivalAirport": arrival_airport,
        }
    )


def collect(service: Service, rows: Sequence[Flight], until: datetime = NOON + 5 * HOUR) -> NightlySource:
    """Collect the departures of KJFK from a source with these rows, hour by hour, and return the source."""
    service.set(wish(direction=DEPARTURES))
    source = NightlySource(service.clock, list(rows))
    poll_hourly(service, build_collector(service, source), until)
    return source


def count_published(service: Service) -> list[int]:
    """Return the numbers of departures that were published for each day, the first one yesterday."""
    return [count for _, _, count in list_complete(service.database, "KJFK", DEPARTURES)]


@pytest.mark.parametrize("seconds", [16, 145])
def test_one_departure_in_two_rows_counts_once(service: Service, seconds: int) -> None:
    """The second row begins seconds later and lacks the arrival airport: one departure is not above 1."""
    took_off = YESTERDAY + 20 * HOUR
    again = took_off + timedelta(seconds=seconds)
    collect(service, [build_row(again, again + HOUR), build_row(took_off, took_off + HOUR, "TW1", "LICC")])
    assert count_published(service) == [1]
    (stored,) = load_rows(service, DEPARTURES)
    assert (stored.first_seen, stored.event_time, stored.other_airport) == (took_off, took_off, "LICC")


def test_a_departure_in_rows_of_two_days_counts_on_the_first(service: Service) -> None:
    """One row begins before midnight, the other one after it."""
    before, after = TODAY - timedelta(seconds=8), TODAY + timedelta(seconds=8)
    late = TODAY + 22 * HOUR  # a flight of the last hours of the day
    collect(
        service,
        [
            build_row(before, before + HOUR, "TW1", "LICC"),
            build_row(after, after + HOUR, "TW1"),
            build_row(late, late + HOUR),
        ],
        until=NOON + DAY + 5 * HOUR,
    )
    assert count_published(service) == [1, 1]
    assert [each.event_time for each in load_rows(service, DEPARTURES)] == [before, late]


def test_a_correction_knows_a_flight_by_its_moved_row(service: Service) -> None:
    """first_seen has moved by 16 s, and the aircraft has landed: updated, neither new nor missing."""
    took_off = YESTERDAY + 20 * HOUR
    source = collect(service, [build_row(took_off, took_off + HOUR, "TW1")])
    moved = took_off + timedelta(seconds=16)
    source.available = [build_row(moved, took_off + 2 * HOUR, "TW1", "LICC")]
    source.calls.clear()
    poll_hourly(service, build_collector(service, source), TODAY + 2 * DAY + 13 * HOUR)
    corrections = [call for call in source.collections if call[2:] == (YESTERDAY, TODAY) and call[1] is DEPARTURES]
    assert len(corrections) == 1, "the flight was missing, and the correction was repeated"
    assert sum(count_published(service)) == 1
    (stored,) = load_rows(service, DEPARTURES)
    assert (stored.first_seen, stored.event_time) == (took_off, took_off)
    assert (stored.last_seen, stored.other_airport) == (took_off + 2 * HOUR, "LICC")


def test_two_departures_of_one_aircraft_count_twice(service: Service) -> None:
    """A circuit with a touch-and-go, then a rotation two hours later."""
    took_off = YESTERDAY + 18 * HOUR
    minutes = [(0, 14), (15, 30), (150, 200)]
    collect(
        service,
        [build_row(took_off + timedelta(minutes=begin), took_off + timedelta(minutes=end)) for begin, end in minutes],
    )
    assert count_published(service) == [3]


def test_an_arrival_counts_when_it_was_first_published(service: Service) -> None:
    """Another row of it, which lands nine minutes later, changes the row and not the event time."""
    service.cover(ARRIVALS, YESTERDAY, TODAY)
    first, second = row(0, 60), row(50, 69, "TW1", "LICC")
    assert (store_answer(service, ARRIVALS, [first]), store_answer(service, ARRIVALS, [second])) == (1, 0)
    (stored,) = load_rows(service, ARRIVALS)
    assert (stored.event_time, stored.first_seen) == (first.last_seen.astimezone(UTC), first.first_seen)
    assert (stored.last_seen, stored.callsign) == (second.last_seen, "TW1")
