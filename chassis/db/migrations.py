"""Schema migrations: each service upgrades its own database to the newest revision when it starts, and loses no data.

A service has a folder of alembic revisions (`versions/0001_….py`, and an `env.py` that calls `run_migrations`). These
rules hold in whatever order the replicas start:

- Replicas that start together upgrade one after the other: on MySQL they take a named lock, which the server releases
  when the session of a dead replica ends; on SQLite they take the file's write lock. The second replica finds the
  database upgraded.
- On SQLite an upgrade is one transaction. MySQL commits every change of the schema by itself, so a revision may be
  killed in its middle, and is then run again from its beginning. Therefore a revision consists of steps that first
  check whether they are done (the functions below), and of statements that may be repeated.
- A database from before the first revision has the tables, and no record of revisions. This is the same state as after
  a first revision that was killed, so it needs no other treatment.
- A database that a later version of the code has upgraded is not changed.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, MetaData, func, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import SchemaItem

from chassis.db.database import TABLE_OPTIONS, Database, describe_driver_error
from chassis.errors import ChassisError, SchemaBusyError, SchemaTooNewError

log = structlog.get_logger()

MAX_PAUSE_S = 10.0

_LOCK_WAIT_S = 5
"""How long a replica waits for its turn before it says so and asks again: it may be told to stop meanwhile."""


class SchemaUpgrade:
    """A service's tables, brought up to date in the background: the servers do not wait for the database."""

    def __init__(self, database: Database, migrations: str) -> None:
        """`migrations` is the folder of revisions, as alembic has it: `package:folder`, or a path."""
        self._database = database
        self._migrations = migrations
        self._upgraded = asyncio.Event()
        self._stopping = threading.Event()

    async def run_upgrade(self) -> None:
        """Wait for the database, then bring it up to date."""
        try:
            await asyncio.to_thread(upgrade_when_reachable, self._database, self._migrations, self._stopping)
        except asyncio.CancelledError:
            self._stopping.set()  # a thread cannot be cancelled, and the process waits for it
            raise
        self._upgraded.set()

    async def wait_until_upgraded(self) -> None:
        """Wait until the tables are there."""
        await self._upgraded.wait()

    def is_ready(self) -> bool:
        """Whether the tables are there and the database answers now."""
        return self._upgraded.is_set() and self._database.is_answering()


def upgrade_when_reachable(database: Database, migrations: str, stopping: threading.Event) -> None:
    """Wait until the database answers, then bring it to the newest revision.

    Blocks until that is done or `stopping` is set. Logs the waiting with growing pauses, so an outage makes no flood.
    """
    pause = 0.2
    while not stopping.is_set():
        try:
            upgrade(database, migrations)
            return
        except DBAPIError as error:
            log.warning("database.waiting", **describe_driver_error(error), again_in_s=pause)
        except ChassisError as error:
            log.warning("database.waiting", reason=str(error), again_in_s=pause)
        stopping.wait(pause)
        pause = min(pause * 2, MAX_PAUSE_S)


def upgrade(database: Database, migrations: str) -> None:
    """Bring the database to the newest revision. Raises SchemaBusyError, SchemaTooNewError and the driver's errors."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # what it did is said below
    config = Config()
    config.set_main_option("script_location", migrations.replace("%", "%%"))
    with database.ddl_connection() as connection, _hold_migration_lock(connection):
        config.attributes["connection"] = connection
        before = _load_revision(connection, config)
        command.upgrade(config, "head")
        after = _load_revision(connection, config)
    if before != after:
        log.info("schema.upgraded", before=before, after=after)


@contextmanager
def _hold_migration_lock(connection: Connection) -> Iterator[None]:
    """Keep other replicas out until the block ends. Raises SchemaBusyError."""
    with connection.begin():
        if connection.dialect.name != "sqlite":
            # The lock is the server's, not the database's, hence the name. It goes with the session.
            name = func.concat("migrations:", func.sha1(func.database()))
            if connection.scalar(select(func.get_lock(name, _LOCK_WAIT_S))) != 1:
                raise SchemaBusyError("Another replica is bringing the schema up to date.")
        yield


def _load_revision(connection: Connection, config: Config) -> str | None:
    """The revision of the database; None of an empty one. Raises SchemaTooNewError."""
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNewError(
            f"The database is at revision {revision}, which this version does not know: run the version that it was "
            "upgraded by, or a later one."
        )
    return revision


def run_migrations(schema: MetaData) -> None:
    """What a service's `env.py` does."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=schema)
    with context.begin_transaction():
        context.run_migrations()


# The steps of a revision. Each looks whether it is done.


def create_table(name: str, *parts: SchemaItem) -> None:
    """Create a table; its indexes are steps of their own."""
    if not inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **TABLE_OPTIONS)


def create_index(name: str, table: str, *columns: str) -> None:
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column, which must be nullable: fill it, then `require_not_null` it."""
    if column.name not in _load_nullability(table):
        op.add_column(table, column)


def require_not_null(table: str, *columns: Column[Any]) -> None:
    """Let columns be null no longer. On SQLite this copies the table."""
    nullable = _load_nullability(table)
    with op.batch_alter_table(table) as batch:
        for column in columns:
            if nullable[column.name]:
                batch.alter_column(column.name, existing_type=column.type, nullable=False)


def _load_nullability(table: str) -> dict[str, bool]:
    """By column, whether it may be null."""
    return {column["name"]: column["nullable"] for column in inspect(op.get_bind()).get_columns(table)}


def require_foreign_key(table: str, columns: list[str], referred: str, referred_columns: list[str]) -> None:
    """Make a foreign key that `convert_to_binary_collation` may have dropped; on SQLite it is never dropped."""
    if columns not in [each["constrained_columns"] for each in inspect(op.get_bind()).get_foreign_keys(table)]:
        op.create_foreign_key(None, table, referred, columns, referred_columns)


def convert_to_binary_collation(*tables: str) -> None:
    """Give the collation of `TABLE_OPTIONS` to tables that MySQL made without.

    Tables that refer to each other go together, and lose their foreign keys: no column of one can be changed.
    """
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        return
    query = (
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_collation <> :ours"
    )
    found = connection.execute(text(query), {"ours": TABLE_OPTIONS["mysql_collate"]})
    to_change = sorted({name for (name,) in found}.intersection(tables))
    for name in to_change:
        for key in inspect(connection).get_foreign_keys(name):
            op.drop_constraint(str(key["name"]), name, type_="foreignkey")
    for name in to_change:
        op.execute(f"ALTER TABLE {name} CONVERT TO CHARACTER SET utf8mb4 COLLATE {TABLE_OPTIONS['mysql_collate']}")
