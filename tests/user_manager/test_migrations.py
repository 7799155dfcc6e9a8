"""The revisions of user_manager's schema: they make the models' tables from any earlier state, and keep all rows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    Boolean,
    Column,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    insert,
    select,
    text,
)

from chassis.db.database import Database, UtcDateTime
from chassis.db.migrations import upgrade
from tests.chassis.db.migration_checks import (
    KilledError,
    MigrationTests,
    add_earlier_outbox_tables,
    differences,
    killed_after_change,
)
from user_manager.accounts import Account
from user_manager.addresses import compute_address_digest
from user_manager.model import OUTBOX, SCHEMA, User

MIGRATIONS: Final = "user_manager:migrations"

EARLIER: Final = MetaData()
"""The tables as they were created before revisions existed; never to be changed."""

Table(
    "users",
    EARLIER,
    Column("user_id", Uuid, primary_key=True),
    Column("email", String(254), nullable=False),
    Column("address_key", String(254), nullable=False),
    Column("name", String(100), nullable=False),
    Column("time_zone", String(64), nullable=False),
    Column("confirmed", Boolean, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("token_sha256", String(64), nullable=False),
    UniqueConstraint("address_key", name="uq_users_address_key"),
    UniqueConstraint("token_sha256", name="uq_users_token_sha256"),
)
add_earlier_outbox_tables(EARLIER)

ANN: Final = {
    "user_id": UUID(int=1),
    "email": "Ann@example.org",
    "address_key": "ann@example.org",
    "name": "Ánn",
    "time_zone": "Europe/Rome",
    "confirmed": True,
    "paused": False,
    "created_at": datetime(2026, 2, 13, 12, 30, 15, 123456, tzinfo=UTC),
    "token_sha256": "a" * 64,
}
WAITING: Final = {
    "sequence": 7,
    "topic": "users.changed.v1",
    "partition": 3,
    "key": b"\xff\x00key",
    "value": b"v" * 70_000,
}
RELAY: Final = {"id": 1, "next_sequence": 8, "owner": None, "leased_until": 0.25}


class TestUserManagerMigrations(MigrationTests):
    """The revisions of user_manager's schema."""

    migrations = MIGRATIONS
    schema = SCHEMA
    min_changes = 10

    def make_earlier_database(self, database: Database) -> None:
        """Create the earlier tables with a user, an unpublished event, and the relay's row."""
        EARLIER.create_all(database.engine)
        with database.engine.begin() as connection:
            for table, row in (("users", ANN), ("outbox", WAITING), ("outbox_relay", RELAY)):
                connection.execute(insert(EARLIER.tables[table]), row)

    def assert_rows_kept(self, database: Database) -> None:
        """Assert that the rows of `make_earlier_database` are there, and that new columns have values."""
        with database.transaction() as session:
            user = session.scalars(select(User)).one()
            assert {name: getattr(user, name) for name in ANN} == ANN
            assert (user.version, user.confirmations_asked) == (1, 1)
            assert (user.confirmed_at, user.bounced_at, user.corrections) == (None, None, None)
            assert Account.from_user(user).corrections, "who was asked nothing gets corrections"
            assert (user.language, Account.from_user(user).language) == (None, "en")
            assert user.address_digest == compute_address_digest("ann@example.org")
            assert (user.suppressed, user.can_get_confirmation_mail) == (False, False)
            assert user.confirmation_asked_at == ANN["created_at"]
            assert session.execute(select(OUTBOX.rows)).one()._asdict() == {"id": 1, "added_at": None} | WAITING
            assert session.execute(select(OUTBOX.relay)).one()._asdict() == RELAY

    def test_accounts_from_before_bounces_existed_are_kept(self, database: Database) -> None:
        """A confirmed account of revision 0003 is kept, and a row that only that version's code writes can be read."""
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        with database.ddl_connection() as connection, connection.begin():
            config.attributes["connection"] = connection
            command.upgrade(config, "0003")
        users_0003 = Table("users", MetaData(), autoload_with=database.engine)
        assert "bounced_at" not in users_0003.columns
        row = ANN | {"version": 1, "confirmation_asked_at": ANN["created_at"], "confirmations_asked": 1}
        with database.engine.begin() as connection:
            connection.execute(insert(_with_model_types(users_0003)), row)
            connection.execute(insert(EARLIER.tables["outbox"]), WAITING)
            connection.execute(insert(EARLIER.tables["outbox_relay"]), RELAY)
        upgrade(database, MIGRATIONS)
        assert differences(database, SCHEMA) == []
        self.assert_rows_kept(database)
        later = row | {"user_id": UUID(int=2), "address_key": "bob@example.org", "token_sha256": "b" * 64}
        with database.engine.begin() as connection:
            connection.execute(insert(_with_model_types(users_0003)), later)
        with database.transaction() as session:
            assert not session.get_one(User, UUID(int=2)).suppressed

    def test_on_sqlite_an_upgrade_that_is_killed_changes_nothing(self, tmp_path: Path) -> None:
        """On SQLite the whole upgrade is one transaction."""
        database = Database(f"sqlite:///{tmp_path}/service.db")
        self.make_earlier_database(database)
        with pytest.raises(KilledError), killed_after_change(6):
            upgrade(database, MIGRATIONS)
        assert differences(database, EARLIER) == []
        upgrade(database, MIGRATIONS)
        self.assert_rows_kept(database)
        database.close()

    def test_addresses_and_digests_are_compared_letter_by_letter(self, database: Database) -> None:
        """Two addresses that a collation considers equal are two accounts."""
        upgrade(database, MIGRATIONS)
        keys = ["jose@example.org", "josé@example.org", "JOSE@example.org", "strasse@example.org", "straße@example.org"]
        with database.transaction() as session:
            for number, key in enumerate(keys):
                row = ANN | {"user_id": UUID(int=number), "address_key": key, "token_sha256": key}
                session.add(User(**row, version=1, confirmation_asked_at=ANN["created_at"], confirmations_asked=1))
        with database.transaction() as session:
            for key in keys:
                assert session.scalars(select(User.address_key).where(User.token_sha256 == key)).all() == [key]

    @pytest.mark.mariadb
    def test_the_types_on_mysql_are_wide_enough(self, mariadb: Database) -> None:
        """The column types hold microseconds, events of more than 64 KiB, and counters of more than 32 bits."""
        upgrade(mariadb, MIGRATIONS)
        query = text(
            "SELECT table_name, column_name, column_type FROM information_schema.columns"
            " WHERE table_schema = DATABASE()"
        )
        with mariadb.engine.connect() as connection:
            types = {(table, column): kind for table, column, kind in connection.execute(query)}
        assert types["users", "created_at"] == "datetime(6)"
        assert types["outbox", "id"].startswith("bigint")
        assert types["outbox_relay", "leased_until"] == "double"
        assert types["outbox", "value"] == "longblob"
        assert types["idempotency_records", "sealed_answer"] == "mediumblob"


def _with_model_types(users: Table) -> Table:
    """Copy the table as the database describes it, with the column types of the models."""
    types = {column.name: column.type for column in User.__table__.columns}
    return Table(users.name, MetaData(), *(Column(column.name, types[column.name]) for column in users.columns))
