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
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
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

from chassis.db.database import TABLE_OPTIONS, Database
from chassis.db.driver_errors import UNAVAILABLE, blames_statement, describe_driver_error
from chassis.errors import ChassisError, SchemaBusyError, SchemaRefusedError, SchemaTooNewError

log = structlog.get_logger()

MAX_PAUSE_S = 10.0
MAX_REFUSALS = 8
"""Attempts in a row that a database may refuse while it answers, some 45 s, before the service ends with the reason."""

_LOCK_WAIT_S = 5
"""Seconds that a replica waits for the migration lock before it logs this and retries; it may be stopped in between."""


class SchemaUpgrade:
    """The upgrade of a service's database to the newest revision, in the background while the servers already run.

    `run_upgrade` is a background task; other tasks first call `wait_until_upgraded`; readiness checks call
    `explain_unready`.
    """

    def __init__(self, database: Database, migrations: str) -> None:
        """`migrations` is alembic's folder of revisions: `package:folder`, or a path."""
        self._database = database
        self._migrations = migrations
        self._upgraded = asyncio.Event()
        self._stopping = threading.Event()
        self._waiting_for = UNAVAILABLE

    async def run_upgrade(self) -> None:
        """Wait for the database without timeout, upgrade it to the newest revision, and wake `wait_until_upgraded`.

        The work is done in a thread. A cancellation ends the retries, but not an upgrade that has begun.
        """
        try:
            await asyncio.to_thread(
                upgrade_when_reachable, self._database, self._migrations, self._stopping, self._note_failure
            )
        except asyncio.CancelledError:
            self._stopping.set()  # the thread cannot be cancelled, and the process waits for its end
            raise
        self._upgraded.set()

    async def wait_until_upgraded(self) -> None:
        """Wait until `run_upgrade` has upgraded the database; return at once if it has."""
        await self._upgraded.wait()

    def _note_failure(self, reason: str) -> None:
        """Keep the sentence that says why the last attempt to upgrade failed, for `explain_unready`."""
        self._waiting_for = reason

    def explain_unready(self) -> str | None:
        """Return the sentence that says why the service cannot work, or None if it can.

        It can if the database is upgraded and does its work now.
        """
        return self._database.explain_outage() if self._upgraded.is_set() else self._waiting_for


def upgrade_when_reachable(
    database: Database,
    migrations: str,
    stopping: threading.Event,
    note_failure: Callable[[str], None] = lambda reason: None,
) -> None:
    """Upgrade the database to the newest revision, and retry after each failure until `stopping` is set.

    An SQLite file is read whole before. Each error of the driver or of the chassis (also SchemaTooNewError) is logged,
    and `note_failure` gets a sentence about it; others are raised. The pauses between the attempts double from 0.2 s to
    10 s, so that an outage does not flood the log. Raises SchemaRefusedError when the database has refused a statement
    MAX_REFUSALS times in a row although it answers: waiting does not mend that, and an operator must see it. A
    connection that is lost or not given, a lock, and a database without writes are no refusals, and end a row of them.
    """
    pause, refusals = 0.2, 0
    while not stopping.is_set():
        try:
            database.check_pages()
            upgrade(database, migrations)
            return
        except DBAPIError as error:
            log.warning("database.waiting", **describe_driver_error(error), again_in_s=pause)
            outage = database.explain_outage()
            refusals = refusals + 1 if outage is None and blames_statement(error) else 0
            if refusals == MAX_REFUSALS:
                raise SchemaRefusedError(_explain_refusal(error)) from None
            note_failure(outage or (_explain_refusal(error) if refusals else UNAVAILABLE))
        except ChassisError as error:
            refusals = 0
            log.warning("database.waiting", reason=str(error), again_in_s=pause)
            note_failure(str(error))
        stopping.wait(pause)
        pause = min(pause * 2, MAX_PAUSE_S)


def _explain_refusal(error: DBAPIError) -> str:
    """Return a sentence about a statement of an upgrade that the database refuses, without the error's own text."""
    described = describe_driver_error(error)
    number = "" if described["number"] is None else f" {described['number']}"
    return (
        "The database answers, but refuses a statement that brings the schema up to date "
        f"({described['error']}{number}): look that error up in the database's manual, and see that its version is "
        "supported and that the account may create and alter tables."
    )


def upgrade(database: Database, migrations: str) -> None:
    """Upgrade the database to the newest revision, while other replicas are kept from doing so; log it if it changed.

    Raises SchemaBusyError if another replica upgrades, SchemaTooNewError if the database's revision is unknown (then
    nothing is changed), and the driver's errors.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the result is logged below
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
    """Prevent other replicas from upgrading while the block runs.

    On SQLite the block is one transaction, which has the write lock. On MySQL a named lock is taken, which is released
    only when the connection's session ends; raises SchemaBusyError if another replica holds the lock for 5 s.
    """
    with connection.begin():
        if connection.dialect.name != "sqlite":
            name = _name_lock(connection.scalar(select(func.database())) or "")
            if connection.scalar(select(func.get_lock(name, _LOCK_WAIT_S))) != 1:
                raise SchemaBusyError("Another replica is bringing the schema up to date.")
        yield


def _name_lock(database: str) -> str:
    """Return the name of a database's migration lock: different for each database, for a server shares its locks.

    It is hashed here, because the database's own name may be too long (64 characters are allowed) and because servers
    differ in their functions: MySQL 9 has no `sha1()`. It must stay what it is, so that replicas of two versions of the
    code keep each other from upgrading.
    """
    return f"migrations:{hashlib.sha1(database.encode(), usedforsecurity=False).hexdigest()}"


def _load_revision(connection: Connection, config: Config) -> str | None:
    """Return the revision that the database is at, or None if it has none.

    Raises SchemaTooNewError if the service's folder of revisions does not contain it.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise SchemaTooNewError(
            f"The database is at revision {revision}, which this version does not know: run the version that it was "
            "upgraded by, or a later one."
        )
    return revision


def run_migrations(schema: MetaData) -> None:
    """Run the pending revisions on the connection of `upgrade`; each service's `env.py` calls this with its tables."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=schema)
    with context.begin_transaction():
        context.run_migrations()


# The steps of a revision. Each step changes nothing if it is already done.


def create_table(name: str, *parts: SchemaItem) -> None:
    """Create a table unless one of this name exists. Indexes do not belong in `parts`: call `create_index` for each."""
    if not inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **TABLE_OPTIONS)


def create_index(name: str, table: str, *columns: str) -> None:
    """Create an index that is not unique, unless one of its name exists."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a nullable column unless the table has one of this name.

    If it must be NOT NULL, fill it, then call `require_not_null`.
    """
    if column.name not in _load_nullability(table):
        op.add_column(table, column)


def require_not_null(table: str, *columns: Column[Any]) -> None:
    """Make columns NOT NULL that are not so yet; no row may hold a null there. On SQLite this copies the table."""
    nullable = _load_nullability(table)
    with op.batch_alter_table(table) as batch:
        for column in columns:
            if nullable[column.name]:
                batch.alter_column(column.name, existing_type=column.type, nullable=False)


def replace_unique_constraint(table: str, old: str, new: str, *columns: str) -> None:
    """Create the unique constraint `new` on these columns, and drop the one that is named `old`; both where needed.

    On SQLite this copies the table.
    """
    names = {constraint["name"] for constraint in inspect(op.get_bind()).get_unique_constraints(table)}
    if new in names and old not in names:
        return
    with op.batch_alter_table(table) as batch:
        if new not in names:
            batch.create_unique_constraint(new, list(columns))
        if old in names:
            batch.drop_constraint(old, type_="unique")


def _load_nullability(table: str) -> dict[str, bool]:
    """Return for each column's name True if the column may be null, False if not."""
    return {column["name"]: column["nullable"] for column in inspect(op.get_bind()).get_columns(table)}


def require_foreign_key(table: str, columns: list[str], referred: str, referred_columns: list[str]) -> None:
    """Create a foreign key unless these columns have one; `convert_to_binary_collation` may have dropped it (MySQL)."""
    if columns not in [key["constrained_columns"] for key in inspect(op.get_bind()).get_foreign_keys(table)]:
        op.create_foreign_key(None, table, referred, columns, referred_columns)


def convert_to_binary_collation(*tables: str) -> None:
    """Convert tables to the collation of `TABLE_OPTIONS` where MySQL created them with another one.

    Other tables, and tables on SQLite, do not change. Tables that refer to each other must be converted by one call.
    Converted tables lose their foreign keys, because MySQL cannot change a column of a foreign key: call
    `require_foreign_key` afterwards.
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
