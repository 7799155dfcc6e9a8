"""Checks of a service's schema revisions: the tests that every service has, and what they are made of."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import ClassVar, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import BigInteger, Column, Float, Integer, LargeBinary, MetaData, String, Table, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.types import TypeEngine

from chassis.db.database import Database
from chassis.db.migrations import upgrade, upgrade_when_reachable

Type = TypeEngine[object]

_PROCESSES: Final = multiprocessing.get_context("forkserver")  # none has the threads or connections of the tests
_PROCESSES.set_forkserver_preload(["tests.chassis.db.migration_checks"])


class KilledError(BaseException):
    """A simulated kill of the process: no code catches this error."""


def differences(database: Database, schema: MetaData) -> list[object]:
    """Return the differences between the database and the models; empty if there are none."""
    with database.engine.connect() as connection:
        options = {} if database.is_sqlite else {"compare_type": _type_differs}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), schema)
        if not database.is_sqlite:
            # Alembic does not compare engines and collations.
            query = (
                "SELECT table_name, engine, table_collation, NULL FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name <> 'alembic_version'"
                " AND (engine <> 'InnoDB' OR table_collation <> 'utf8mb4_bin')"
                " UNION SELECT table_name, NULL, collation_name, column_name FROM information_schema.columns"
                " WHERE table_schema = DATABASE() AND table_name <> 'alembic_version'"
                " AND collation_name <> 'utf8mb4_bin'"
            )
            found += connection.execute(text(query)).all()
    return found


def _type_differs(_context: object, _column: object, _raw_type: object, found: Type, model: Type) -> bool | None:
    """Return True if a column's type differs from the model's, False if not, None to leave the decision to alembic.

    Alembic does not know that MySQL takes the smallest type that holds so many bytes, or so many bits of a float.
    """
    if isinstance(model, LargeBinary):
        capacity = {"BLOB": 1 << 16, "MEDIUMBLOB": 1 << 24, "LONGBLOB": 1 << 32}
        smallest = next(name for name, size in capacity.items() if (model.length or 0) < size)
        return type(found).__name__ != smallest
    if isinstance(model, Float):
        return type(found).__name__ != ("DOUBLE" if (model.precision or 0) > 24 else "FLOAT")
    return None


def prepare_at_once(url: str, migrations: str, replicas: int = 4) -> list[int | None]:
    """Prepare the database in several processes at the same instant; return their exit codes."""
    start = _PROCESSES.Barrier(replicas, timeout=120)
    processes = [_PROCESSES.Process(target=_prepare, args=(url, migrations, start)) for _ in range(replicas)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
    return [process.exitcode for process in processes]


def _prepare(url: str, migrations: str, start: Barrier) -> None:
    """Wait for the other processes, then prepare the database. Runs in a process of its own."""
    database = Database(url)
    start.wait()
    upgrade_when_reachable(database, migrations, threading.Event())


@contextmanager
def killed_after_change(number: int) -> Iterator[None]:
    """Raise KilledError inside of the block, once `number` changes of schema or data were made in any database."""
    changes = 0

    def count_change(_connection, cursor, statement, *_):  # type: ignore[no-untyped-def]
        nonlocal changes
        verb = statement.split()[0]
        changes += verb in ("CREATE", "ALTER", "DROP") or (verb in ("INSERT", "UPDATE") and cursor.rowcount > 0)
        if changes == number:
            raise KilledError

    event.listen(Engine, "after_cursor_execute", count_change)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", count_change)


def upgrade_killed_after_every_change(database: Database, migrations: str) -> int:
    """Upgrade the database in runs that are killed after one change each; return the number of runs."""
    for run in range(1, 200):
        try:
            with killed_after_change(1):
                upgrade(database, migrations)
        except KilledError:
            continue
        return run
    raise AssertionError("the upgrade makes no progress")


def add_earlier_outbox_tables(metadata: MetaData) -> None:
    """Add the outbox's tables as they were created before revisions existed; never to be changed."""
    Table(
        "outbox",
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("sequence", BigInteger, unique=True, nullable=True),
        Column("topic", String(249), nullable=False),
        Column("partition", Integer, nullable=False),
        Column("key", LargeBinary(512), nullable=False),
        Column("value", LargeBinary(1 << 24), nullable=True),
    )
    Table(
        "outbox_relay",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("next_sequence", BigInteger, nullable=False),
        Column("owner", String(36), nullable=True),
        Column("leased_until", Float(53), nullable=False),
    )


class MigrationTests:
    """The tests of a service's revisions that every service has. A subclass in the service's tests runs them."""

    migrations: ClassVar[str]
    """The folder of the revisions, as alembic names it."""
    schema: ClassVar[MetaData]
    """The tables of the service's models."""
    min_changes: ClassVar[int]
    """A number of changes that an upgrade exceeds."""

    def make_earlier_database(self, database: Database) -> None:
        """Create the tables as they were before revisions existed, with rows in them."""
        raise NotImplementedError

    def assert_rows_kept(self, database: Database) -> None:
        """Assert that the rows of `make_earlier_database` are there, and that new columns have values."""
        raise NotImplementedError

    @pytest.fixture
    def database(self, database_url: str) -> Iterator[Database]:
        """Yield an empty database; the test runs on SQLite and on MariaDB."""
        database = Database(database_url)
        yield database
        database.close()

    @pytest.fixture
    def mariadb(self, mariadb_url: str) -> Iterator[Database]:
        """Yield an empty database on MariaDB."""
        database = Database(mariadb_url)
        yield database
        database.close()

    def test_an_empty_database_gets_the_models_schema(self, database: Database) -> None:
        """The revisions create the models' tables; a second upgrade changes nothing."""
        for _ in range(2):
            upgrade(database, self.migrations)
            assert differences(database, self.schema) == []

    def test_create_all_makes_the_models_schema(self, database: Database) -> None:
        """`create_all`, which other tests use, makes the same tables as the revisions."""
        self.schema.create_all(database.engine)
        assert differences(database, self.schema) == []

    def test_a_database_from_before_revisions_keeps_its_rows(self, database: Database) -> None:
        """It has tables but no record of revisions; on MySQL its collation took é for e, and no longer does."""
        self.make_earlier_database(database)
        upgrade(database, self.migrations)
        assert differences(database, self.schema) == []
        self.assert_rows_kept(database)

    def test_replicas_that_start_together_make_one_schema(self, database_url: str, database: Database) -> None:
        """Four processes upgrade at the same instant: all succeed."""
        assert prepare_at_once(database_url, self.migrations) == [0, 0, 0, 0]
        assert differences(database, self.schema) == []

    @pytest.mark.mariadb
    @pytest.mark.parametrize("earlier", [False, True])
    def test_a_killed_upgrade_continues_on_mysql(self, mariadb: Database, earlier: bool) -> None:
        """MySQL commits each change by itself: after a kill between any two changes the next run makes the rest."""
        if earlier:
            self.make_earlier_database(mariadb)
        runs = upgrade_killed_after_every_change(mariadb, self.migrations)
        assert runs > self.min_changes
        assert differences(mariadb, self.schema) == []
        if earlier:
            self.assert_rows_kept(mariadb)
