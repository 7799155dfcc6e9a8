"""Tests of the schema revisions: they make the schema of the models from any earlier schema, and lose no data."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    insert,
    inspect,
    select,
)

from chassis.db.database import Database, UtcDateTime
from chassis.db.migrations import upgrade
from collector.model import OUTBOX, SCHEMA, CoverageRow, FlightRow, InterestRow
from tests.chassis.db.migration_checks import (
    KilledError,
    differences,
    killed_after_change,
    prepare_at_once,
    upgrade_killed_after_every_change,
)

MIGRATIONS: Final = "collector:migrations"

EARLIER: Final = MetaData()
"""The tables as they were before the first revision; never to be changed."""

Table(
    "interests",
    EARLIER,
    Column("interest_id", Uuid, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    Column("airport", String(4), nullable=False),
    Column("direction", String(10), nullable=False),
    Column("window_length", String(2), nullable=False),
    Column("high", Integer),
    Column("low", Integer),
    Column("for_windows", Integer, nullable=False),
    Column("repeat", Boolean, nullable=False),
    Column("effective_from", UtcDateTime, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("user_id", "airport", "direction", "window_length", name="uq_interests_what_of_whom"),
    Index("ix_interests_airport", "airport", "direction"),
)
Table(
    "coverage",
    EARLIER,
    Column("airport", String(4), primary_key=True),
    Column("direction", String(10), primary_key=True),
    Column("covered_from", UtcDateTime, nullable=False),
    Column("covered_until", UtcDateTime, nullable=False),
)
Table(
    "flights",
    EARLIER,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("airport", String(4), nullable=False),
    Column("direction", String(10), nullable=False),
    Column("icao24", String(6), nullable=False),
    Column("callsign", String(8), nullable=False),
    Column("first_seen", UtcDateTime, nullable=False),
    Column("last_seen", UtcDateTime, nullable=False),
    Column("event_time", UtcDateTime, nullable=False),
    Column("other_airport", String(4), nullable=False),
    UniqueConstraint("airport", "direction", "icao24", "first_seen", name="uq_flights_seen_once"),
    Index("ix_flights_event_time", "airport", "direction", "event_time"),
    ForeignKeyConstraint(("airport", "direction"), ("coverage.airport", "coverage.direction")),
)
Table(
    "outbox",
    EARLIER,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("sequence", BigInteger, unique=True, nullable=True),
    Column("topic", String(249), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("key", LargeBinary(512), nullable=False),
    Column("value", LargeBinary(1 << 24), nullable=True),
)
Table(
    "outbox_relay",
    EARLIER,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("next_sequence", BigInteger, nullable=False),
    Column("owner", String(36), nullable=True),
    Column("leased_until", Float(53), nullable=False),
)

THEN: Final = datetime(2026, 2, 13, 12, 30, 15, 123456, tzinfo=UTC)
INTEREST: Final = {
    "interest_id": UUID(int=1),
    "user_id": UUID(int=2),
    "airport": "KJFK",
    "direction": "departures",
    "window_length": "1h",
    "high": 5,
    "low": None,
    "for_windows": 1,
    "repeat": False,
    "effective_from": THEN,
    "version": 1 << 40,
    "created_at": THEN,
    "updated_at": THEN,
}
COVERAGE: Final = {
    "airport": "KJFK",
    "direction": "departures",
    "covered_from": THEN,
    "covered_until": THEN + timedelta(1),
}
FLIGHT: Final = {
    "airport": "KJFK",
    "direction": "departures",
    "icao24": "abc123",
    "callsign": "BAW1",
    "first_seen": THEN,
    "last_seen": THEN,
    "event_time": THEN,
    "other_airport": "EGLL",
}
WAITING: Final = {
    "sequence": None,
    "topic": "flights.observed.v1",
    "partition": 3,
    "key": b"KJFK",
    "value": b"v" * 70_000,
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[Database]:
    made = Database(mariadb_url)
    yield made
    made.close()


def make_earlier_database(database: Database) -> None:
    """Make the tables from before the first revision, with an interest, a flight and an event in the outbox."""
    EARLIER.create_all(database.engine)
    with database.engine.begin() as connection:
        for table, row in (("interests", INTEREST), ("coverage", COVERAGE), ("flights", FLIGHT), ("outbox", WAITING)):
            connection.execute(insert(EARLIER.tables[table]), row)


def assert_kept(database: Database) -> None:
    """Assert that the rows of `make_earlier_database` are still there."""
    with database.transaction() as session:
        for model, row in ((InterestRow, INTEREST), (CoverageRow, COVERAGE), (FlightRow, FLIGHT)):
            stored = session.scalars(select(model)).one()
            assert {name: getattr(stored, name) for name in row} == row
        assert session.execute(select(OUTBOX.rows)).one()._asdict() == {"id": 1, "added_at": None} | WAITING


def test_an_empty_database_gets_the_schema_of_the_models(database: Database) -> None:
    """A second upgrade changes nothing."""
    for _ in range(2):
        upgrade(database, MIGRATIONS)
        assert differences(database, SCHEMA) == []


def test_create_all_makes_the_schema_of_the_models(database: Database) -> None:
    """`create_all`, which tests use, makes the same tables as the revisions."""
    SCHEMA.create_all(database.engine)
    assert differences(database, SCHEMA) == []


def test_a_database_from_before_there_were_revisions_loses_nothing(database: Database) -> None:
    """The upgrade accepts tables without a record of revisions, and makes comparison case-sensitive on MySQL."""
    make_earlier_database(database)
    upgrade(database, MIGRATIONS)
    assert differences(database, SCHEMA) == []
    assert len(inspect(database.engine).get_foreign_keys("flights")) == 1
    assert_kept(database)


def test_replicas_that_start_together_make_one_schema(database_url: str, database: Database) -> None:
    """Four processes that upgrade at the same time all succeed."""
    assert prepare_at_once(database_url, MIGRATIONS) == [0, 0, 0, 0]
    assert differences(database, SCHEMA) == []


@pytest.mark.mariadb
@pytest.mark.parametrize("earlier", [False, True])
def test_a_killed_upgrade_is_completed_by_the_next_run(mariadb: Database, earlier: bool) -> None:
    """MySQL commits each change by itself; after a kill between any two changes the next run makes the rest."""
    if earlier:
        make_earlier_database(mariadb)
    runs = upgrade_killed_after_every_change(mariadb, MIGRATIONS)
    assert runs > 5
    assert differences(mariadb, SCHEMA) == []
    if earlier:
        assert_kept(mariadb)


def test_on_sqlite_a_killed_upgrade_changes_nothing(tmp_path: Path) -> None:
    """On SQLite the whole upgrade is one transaction."""
    database = Database(f"sqlite:///{tmp_path}/service.db")
    with pytest.raises(KilledError), killed_after_change(4):
        upgrade(database, MIGRATIONS)
    assert inspect(database.engine).get_table_names() == []
    database.close()


def test_codes_are_compared_byte_by_byte(database: Database) -> None:
    """Codes that a collation treats as equal are different aircraft, and none replaces another."""
    upgrade(database, MIGRATIONS)
    with database.transaction() as session:
        session.add(CoverageRow(**COVERAGE))
        session.flush()
        for icao24 in ("abc123", "ABC123", "äbc123"):
            session.add(FlightRow(**(FLIGHT | {"icao24": icao24})))
    with database.transaction() as session:
        found = session.scalars(select(FlightRow.icao24).where(FlightRow.icao24 == "ABC123")).all()
    assert found == ["ABC123"]
