"""The transaction that publishes: what other feeds and the record know already, distrusted airports, and the state."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from sqlalchemy import select

from chassis.db.database import Database
from collector.errors import SupersededError
from collector.leadership.terms import Term, begin_term
from collector.live.feed_state import FeedState, FoundMovement, build_rules
from collector.live.live_store import READ_DISTRUSTED_EVERY, Expectation, LiveStore
from collector.live.movements import Evidence, Movement
from collector.live.reports import FeedReport, encode_report, load_reports
from collector.live.snapshots import Stretch
from collector.live.wanted import Target
from collector.model import OUTBOX, SCHEMA, CoverageRow, LiveCoverageRow, LiveMovementRow, LiveStateRow
from domain.interests import Direction
from tests.collector.conftest import ON_SQLITE
from tests.collector.live.test_movements import AIRFIELDS
from tests.copied_tables import create_tables
from tests.fakes.clock import FakeClock
from towerwatch.flights.v1 import events_pb2 as flights_pb

NOW: Final = datetime(2023, 11, 14, 12, tzinfo=UTC)
S: Final = int(NOW.timestamp())
TARGET: Final = ("EDLA", Direction.ARRIVALS)


def find(at: int, icao24: str = "abcdef", target: Target = TARGET) -> FoundMovement:
    """Return a movement at a time after NOW."""
    event_time = NOW + timedelta(seconds=at)
    return FoundMovement(Movement(*target, icao24, "DLH1", event_time, Evidence.SURFACE), S + at + 60.0)


class StoreUnderTest:
    """A store, the states of its feeds, and what is in the database after it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.distrusted: set[Target] = set()
        self.clock = FakeClock(NOW)
        self.readings = 0
        """How often it was read who is distrusted."""
        self.store = LiveStore(database, self.clock, self.read_distrusted)
        self.term = begin_term(database)
        self.states: dict[str, FeedState] = {}

    def read_distrusted(self, _session: object) -> set[Target]:
        """Return who is distrusted, and count that it was read."""
        self.readings += 1
        return set(self.distrusted)

    def get_state(self, feed: str) -> FeedState:
        """Return the state of a feed, a new one at first."""
        return self.states.setdefault(feed, FeedState(AIRFIELDS, build_rules(10.0)))

    def put(
        self, feed: str, *found: FoundMovement, covered: tuple[Stretch, ...] = (), term: Term | None = None
    ) -> list[int]:
        """Store movements and what is covered, in seconds after NOW; return the times that were published."""
        state = self.get_state(feed)
        state.unpublished += found
        if covered:
            state.stretches[TARGET] = tuple((S + begin, S + end) for begin, end in covered)
        known = Expectation(dict(state.stretches), {})
        stored = self.store.store(term or self.term, feed, state, known, encode_report(FeedReport(feed)))
        return [int(each.movement.event_time.timestamp()) - S for each in stored.movements]

    def list_messages(self) -> list[tuple[str, int, int, list[int]]]:
        """Return the messages: coverage, begin, end and event times, in seconds after NOW."""
        with self.database.reading() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        values = [flights_pb.FlightsObserved.FromString(row.value) for row in rows]
        assert all(each.provenance == flights_pb.PROVENANCE_LIVE for each in values)
        return [
            (
                flights_pb.Coverage.Name(each.coverage).removeprefix("COVERAGE_").lower(),
                each.begin.seconds - S,
                each.end.seconds - S,
                [flight.last_seen.seconds - S for flight in each.flights],
            )
            for each in values
        ]

    def list_coverage_begins(self) -> list[int]:
        """Return where the coverage began that each message goes on with, in seconds after NOW."""
        with self.database.reading() as session:
            rows = session.execute(OUTBOX.rows.select().order_by(OUTBOX.rows.c.id)).all()
        values = [flights_pb.FlightsObserved.FromString(row.value) for row in rows]
        return [each.covered_from.seconds - S for each in values if each.coverage == flights_pb.COVERAGE_COMPLETE]

    def list_stretches(self) -> list[tuple[int, int, bool]]:
        """Return the rows of live coverage, in seconds after NOW."""
        with self.database.reading() as session:
            rows = session.scalars(select(LiveCoverageRow).order_by(LiveCoverageRow.begin_at)).all()
            return [(int(r.begin_at.timestamp()) - S, int(r.end_at.timestamp()) - S, r.published) for r in rows]

    def settle(self, until: int) -> None:
        """Store that the record is published up to a time after NOW."""
        with self.database.transaction() as session:
            airport, direction = TARGET
            row = CoverageRow(airport=airport, direction=direction.value)
            row.covered_from, row.covered_until = NOW - timedelta(days=2), NOW + timedelta(seconds=until)
            session.merge(row)


@pytest.fixture
def stored(database_url: str) -> Iterator[StoreUnderTest]:
    """Yield a store on an empty database."""
    database = Database(database_url)
    create_tables(database, SCHEMA)
    yield StoreUnderTest(database)
    database.close()


def test_a_movement_that_another_feed_has_found_is_not_published(stored: StoreUnderTest) -> None:
    """The same aircraft within three minutes; the same feed may find a touch-and-go in that time, but once each."""
    assert stored.put("opensky", find(100)) == [100]
    assert stored.put("opensky", find(200), find(100)) == [200]
    assert stored.put("receivers", find(-80), find(380), find(381), find(100, "fedcba")) == [381, 100]
    assert stored.put("receivers", find(100, target=("EDLA", Direction.DEPARTURES))) == [100]
    with stored.database.reading() as session:
        rows = session.scalars(select(LiveMovementRow)).all()
        assert {(row.feed, row.outcome, row.evidence) for row in rows} == {
            ("opensky", "published", "surface"),
            ("receivers", "published", "surface"),
        }
    published = sorted(at for _, _, _, times in stored.list_messages() for at in times)
    assert published == [100, 100, 100, 200, 381]


@ON_SQLITE
def test_the_record_has_the_last_word(stored: StoreUnderTest) -> None:
    """A movement of a day that is settled is not published any more, and messages begin where the record ended."""
    stored.settle(50)
    assert stored.put("opensky", find(49), find(50)) == [50]
    assert stored.put("opensky", find(40, "fedcba")) == []
    assert stored.list_messages() == [("partial", 50, 51, [50])]


def test_coverage_is_published_behind_movements_and_extended(stored: StoreUnderTest) -> None:
    """A stretch that goes on extends its row; a hole begins another row. What was published is taken out."""
    stored.settle(0)
    stored.put("opensky", find(70), covered=((-20.5, 100.5),))
    stored.put("opensky", covered=((-20.5, 130.0),))
    stored.put("opensky", covered=((100.0, 520.0),))
    stored.put("opensky", covered=((600.0, 689.0),))
    stored.put("opensky", covered=((600.0, 700.9),))
    assert stored.list_messages() == [
        ("partial", 0, 71, [70]),
        ("complete", 0, 100, []),
        ("complete", 100, 520, []),
        ("complete", 600, 700, []),
    ]
    assert stored.list_stretches() == [(0, 520, True), (600, 700, True)]
    assert stored.list_coverage_begins() == [0, 0, 600]
    assert stored.get_state("opensky").stretches == {TARGET: ((S + 700, S + 700.9),)}


@ON_SQLITE
def test_an_airport_that_agrees_badly_is_covered_for_nobody(stored: StoreUnderTest) -> None:
    """Its movements are published, its stretches only stored; once it is trusted, what lies between is skipped."""
    stored.put("opensky", covered=((0.0, 400.0),))
    stored.distrusted.add(TARGET)
    stored.clock.advance(READ_DISTRUSTED_EVERY)
    assert stored.put("opensky", find(450), covered=((400.0, 700.0),)) == [450]
    stored.put("opensky", covered=((700.0, 1_000.0),))
    stored.distrusted.clear()
    assert stored.readings == 2, "it changes once a night, and is read now and then"
    stored.clock.advance(READ_DISTRUSTED_EVERY)
    stored.put("opensky", covered=((1_000.0, 1_050.0),))
    stored.put("opensky", covered=((1_000.0, 1_100.0),))
    assert stored.list_stretches() == [(0, 400, True), (400, 1_000, False), (1_000, 1_100, True)]
    assert stored.list_messages() == [
        ("complete", 0, 400, []),
        ("partial", 400, 451, [450]),
        ("complete", 1_000, 1_100, []),
    ]


def test_a_superseded_leader_stores_nothing(stored: StoreUnderTest) -> None:
    """And keeps what it has found, though nobody will ever ask it."""
    begin_term(stored.database)
    with pytest.raises(SupersededError):
        stored.put("opensky", find(10), covered=((0.0, 400.0),))
    assert stored.list_messages() == []
    assert stored.list_stretches() == []
    assert len(stored.get_state("opensky").unpublished) == 1


@ON_SQLITE
def test_the_next_leader_goes_on_from_what_is_stored(stored: StoreUnderTest) -> None:
    """The memory comes back with what is covered and not published; coverage goes on where it ended."""
    stored.put("opensky", covered=((0.0, 400.0),))
    stored.put("opensky", covered=((400.0, 450.0),))
    other = StoreUnderTest(stored.database)
    memory = other.store.load_memory("opensky", AIRFIELDS)
    assert memory is not None
    assert dict(memory.stretches) == {TARGET: ((S + 400, S + 450),)}
    assert other.store.load_memory("receivers", AIRFIELDS) is None
    other.put("opensky", covered=((400.0, 700.0),))
    assert other.list_stretches() == [(0, 700, True)]


@ON_SQLITE
@pytest.mark.parametrize("change", [{"format": "0-00000000"}, {"body": b"nonsense"}])
def test_a_state_that_cannot_be_read_is_worth_nothing(stored: StoreUnderTest, change: dict[str, object]) -> None:
    """Of another version, or damaged: the feed begins anew."""
    stored.put("opensky", find(10))
    with stored.database.transaction() as session:
        row = session.get(LiveStateRow, "opensky")
        assert row is not None
        for name, value in change.items():
            setattr(row, name, value)
    assert stored.store.load_memory("opensky", AIRFIELDS) is None


def test_a_transaction_that_fails_unexpectedly_leaves_no_trace(
    stored: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one stores a row of its own, instead of going on behind one that is not there."""
    with monkeypatch.context() as patched:
        patched.setattr("collector.live.live_store.dump_memory", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stored.put("receivers", covered=((0, 400),))
    assert stored.list_messages() == stored.list_stretches() == []
    stored.states.clear()  # as after the error the feed begins again from what is stored
    stored.put("receivers", covered=((400, 800),))
    stored.put("receivers", covered=((400, 1_200),))
    assert stored.list_messages() == [("complete", 400, 800, []), ("complete", 800, 1_200, [])]
    assert stored.list_stretches() == [(400, 1_200, True)]


def test_reports_come_back_in_the_order_of_the_feeds(stored: StoreUnderTest) -> None:
    """A feed without a report has had no poll."""
    report = FeedReport("own", 12.5, 11.0, 7, 10.0, ("EDLA",), {"EDNX": "why"}, "it fails")
    stored.store.store_report(stored.term, "own", 11.0, encode_report(report))
    stored.store.store_report(stored.term, "own", 11.0, encode_report(report))
    with stored.database.reading() as session:
        assert load_reports(session, ("opensky", "own")) == [FeedReport("opensky"), report]
