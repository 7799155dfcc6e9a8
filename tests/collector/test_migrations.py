"""Tests of the schema revisions: they make the models' tables from any earlier state, and keep all rows."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
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
    MigrationTests,
    add_earlier_outbox_tables,
    killed_after_change,
)

MIGRATIONS: Final = "collector:migrations"

EARLIER: Final = MetaData()
"""The tables as they were created before revisions existed; never to be changed."""

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
add_earlier_outbox_tables(EARLIER)

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


class TestCollectorMigrations(MigrationTests):
    """The revisions of the collector's schema."""

    migrations = MIGRATIONS
    schema = SCHEMA
    min_changes = 5

    def make_earlier_database(self, database: Database) -> None:
        """Create the earlier tables with an interest, a flight and an unpublished event."""
        EARLIER.create_all(database.engine)
        with database.engine.begin() as connection:
            for table, row in (
                ("interests", INTEREST),
                ("coverage", COVERAGE),
                ("flights", FLIGHT),
                ("outbox", WAITING),
            ):
                connection.execute(insert(EARLIER.tables[table]), row)

    def assert_rows_kept(self, database: Database) -> None:
        """Assert that the rows of `make_earlier_database` are there, and the flights' foreign key too."""
        assert len(inspect(database.engine).get_foreign_keys("flights")) == 1
        with database.transaction() as session:
            for model, row in ((InterestRow, INTEREST), (CoverageRow, COVERAGE), (FlightRow, FLIGHT)):
                stored = session.scalars(select(model)).one()
                assert {name: getattr(stored, name) for name in row} == row
            assert session.execute(select(OUTBOX.rows)).one()._asdict() == {"id": 1, "added_at": None} | WAITING

    def test_on_sqlite_an_upgrade_that_is_killed_changes_nothing(self, tmp_path: Path) -> None:
        """On SQLite the whole upgrade is one transaction."""
        database = Database(f"sqlite:///{tmp_path}/service.db")
        with pytest.raises(KilledError), killed_after_change(4):
            upgrade(database, MIGRATIONS)
        assert inspect(database.engine).get_table_names() == []
        database.close()

    def test_what_collections_compare_is_compared_letter_by_letter(self, database: Database) -> None:
        """Two codes that a collation considers equal are two aircraft: neither is lost."""
        upgrade(database, MIGRATIONS)
        with database.transaction() as session:
            session.add(CoverageRow(**COVERAGE))
            session.flush()
            for icao24 in ("abc123", "ABC123", "äbc123"):
                session.add(FlightRow(**(FLIGHT | {"icao24": icao24})))
        with database.transaction() as session:
            found = session.scalars(select(FlightRow.icao24).where(FlightRow.icao24 == "ABC123")).all()
        assert found == ["ABC123"]
