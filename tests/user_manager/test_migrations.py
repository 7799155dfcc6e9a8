"""The revisions of user_manager's schema: they make what the models say, from whatever was there, and lose nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
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
    differences,
    killed_after_change,
    prepare_at_once,
    upgrade_killed_after_every_change,
)
from user_manager.model import OUTBOX, SCHEMA, User

MIGRATIONS: Final = "user_manager:migrations"

EARLIER: Final = MetaData()
"""The tables as they were made before there were revisions; never to be changed."""

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
    """With a user, an event that waits, and a relay's row."""
    EARLIER.create_all(database.engine)
    with database.engine.begin() as connection:
        for table, row in (("users", ANN), ("outbox", WAITING), ("outbox_relay", RELAY)):
            connection.execute(insert(EARLIER.tables[table]), row)


def assert_kept(database: Database) -> None:
    """What `make_earlier_database` stored is there, and what was added since has a value."""
    with database.transaction() as session:
        user = session.scalars(select(User)).one()
        assert {name: getattr(user, name) for name in ANN} == ANN
        assert (user.version, user.confirmations_asked) == (1, 1)
        assert (user.confirmed_at, user.bounced_at, user.suppressed, user.can_get_confirmation_mail) == (
            None,
            None,
            False,
            False,
        )
        assert user.confirmation_asked_at == ANN["created_at"]
        assert session.execute(select(OUTBOX.rows)).one()._asdict() == {"id": 1, "added_at": None} | WAITING
        assert session.execute(select(OUTBOX.relay)).one()._asdict() == RELAY


def test_an_empty_database_becomes_what_the_models_say(database: Database) -> None:
    """Also the second time, when nothing is to be done."""
    for _ in range(2):
        upgrade(database, MIGRATIONS)
        assert differences(database, SCHEMA) == []


def test_what_tests_create_is_what_the_models_say(database: Database) -> None:
    """`create_all` makes the same tables as the revisions."""
    SCHEMA.create_all(database.engine)
    assert differences(database, SCHEMA) == []


def test_a_database_from_before_there_were_revisions_loses_nothing(database: Database) -> None:
    """It has the tables and no record of revisions; on MySQL it compared é like e, and does so no longer."""
    make_earlier_database(database)
    upgrade(database, MIGRATIONS)
    assert differences(database, SCHEMA) == []
    assert_kept(database)


def test_people_who_registered_before_bounces_were_known_lose_nothing(database: Database) -> None:
    """From the revision before, with an account that is confirmed; one that only that version's code writes is read."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with database.ddl_connection() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    of_that_version = Table("users", MetaData(), autoload_with=database.engine)
    assert "bounced_at" not in of_that_version.columns
    row = ANN | {"version": 1, "confirmation_asked_at": ANN["created_at"], "confirmations_asked": 1}
    with database.engine.begin() as connection:
        connection.execute(insert(_typed(of_that_version)), row)
        connection.execute(insert(EARLIER.tables["outbox"]), WAITING)
        connection.execute(insert(EARLIER.tables["outbox_relay"]), RELAY)
    upgrade(database, MIGRATIONS)
    assert differences(database, SCHEMA) == []
    assert_kept(database)
    later = row | {"user_id": UUID(int=2), "address_key": "bob@example.org", "token_sha256": "b" * 64}
    with database.engine.begin() as connection:
        connection.execute(insert(_typed(of_that_version)), later)
    with database.transaction() as session:
        assert not session.get_one(User, UUID(int=2)).suppressed


def _typed(users: Table) -> Table:
    """The columns of a table that was looked at, with the types of Python that the models give them."""
    types = {column.name: column.type for column in User.__table__.columns}
    return Table(users.name, MetaData(), *(Column(column.name, types[column.name]) for column in users.columns))


def test_replicas_that_start_together_make_one_schema(database_url: str, database: Database) -> None:
    """Four processes at the same instant: all succeed."""
    assert prepare_at_once(database_url, MIGRATIONS) == [0, 0, 0, 0]
    assert differences(database, SCHEMA) == []


@pytest.mark.mariadb
@pytest.mark.parametrize("earlier", [False, True])
def test_an_upgrade_that_is_killed_goes_on_where_it_was(mariadb: Database, earlier: bool) -> None:
    """MySQL commits each change by itself: after a death between any two of them the next run does the rest."""
    if earlier:
        make_earlier_database(mariadb)
    runs = upgrade_killed_after_every_change(mariadb, MIGRATIONS)
    assert runs > 10
    assert differences(mariadb, SCHEMA) == []
    if earlier:
        assert_kept(mariadb)


def test_on_sqlite_an_upgrade_that_is_killed_changes_nothing(tmp_path: Path) -> None:
    """All of it is one transaction."""
    database = Database(f"sqlite:///{tmp_path}/service.db")
    make_earlier_database(database)
    with pytest.raises(KilledError), killed_after_change(6):
        upgrade(database, MIGRATIONS)
    assert differences(database, EARLIER) == []
    upgrade(database, MIGRATIONS)
    assert_kept(database)
    database.close()


def test_addresses_and_digests_are_compared_letter_by_letter(database: Database) -> None:
    """Two addresses that a collation takes for the same are two accounts."""
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
def test_the_types_on_mysql_are_wide_enough(mariadb: Database) -> None:
    """Microseconds, events of more than 64 KiB, counters of more than 32 bits."""
    upgrade(mariadb, MIGRATIONS)
    query = text(
        "SELECT table_name, column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE()"
    )
    with mariadb.engine.connect() as connection:
        types = {(table, column): kind for table, column, kind in connection.execute(query)}
    assert types["users", "created_at"] == "datetime(6)"
    assert types["outbox", "id"].startswith("bigint")
    assert types["outbox_relay", "leased_until"] == "double"
    assert types["outbox", "value"] == "longblob"
    assert types["idempotency_records", "sealed_answer"] == "mediumblob"
