"""What the tests of each service's revisions have in common."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Final

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Float, LargeBinary, MetaData, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.types import TypeEngine

from chassis.db.database import Database
from chassis.db.migrations import upgrade, upgrade_when_reachable

Type = TypeEngine[object]

_PROCESSES: Final = multiprocessing.get_context("forkserver")  # none has the threads or connections of the tests
_PROCESSES.set_forkserver_preload(["tests.chassis.db.migration_checks"])


class KilledError(BaseException):
    """The process ends here: nobody catches it."""


def differences(database: Database, schema: MetaData) -> list[object]:
    """In what the database is not as the models say."""
    with database.engine.connect() as connection:
        options = {} if database.is_sqlite else {"compare_type": _type_differs}
        found: list[object] = compare_metadata(MigrationContext.configure(connection, opts=options), schema)
        if not database.is_sqlite:
            # What alembic does not compare.
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


def _type_differs(_context: object, _column: object, _said: object, found: Type, said: Type) -> bool | None:
    """Whether a type is another than the model says; None: alembic may judge.

    It does not know that MySQL takes the smallest type that holds so many bytes, or so many bits of a float.
    """
    if isinstance(said, LargeBinary):
        room = {"BLOB": 1 << 16, "MEDIUMBLOB": 1 << 24, "LONGBLOB": 1 << 32}
        smallest = next(name for name, size in room.items() if (said.length or 0) < size)
        return type(found).__name__ != smallest
    if isinstance(said, Float):
        return type(found).__name__ != ("DOUBLE" if (said.precision or 0) > 24 else "FLOAT")
    return None


def prepare_at_once(url: str, migrations: str, replicas: int = 4) -> list[int | None]:
    """Prepare the database in that many processes at the same instant; their exit codes."""
    start = _PROCESSES.Barrier(replicas, timeout=120)
    processes = [_PROCESSES.Process(target=_prepare, args=(url, migrations, start)) for _ in range(replicas)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(150)
    return [process.exitcode for process in processes]


def _prepare(url: str, migrations: str, start: Barrier) -> None:
    database = Database(url)
    start.wait()
    upgrade_when_reachable(database, migrations, threading.Event())


@contextmanager
def killed_after_change(number: int) -> Iterator[None]:
    """Who works on a database in the block dies once it has made so many changes, of the schema or of data."""
    changes = 0

    def look(_connection, cursor, statement, *_):  # type: ignore[no-untyped-def]
        nonlocal changes
        verb = statement.split()[0]
        changes += verb in ("CREATE", "ALTER", "DROP") or (verb in ("INSERT", "UPDATE") and cursor.rowcount > 0)
        if changes == number:
            raise KilledError

    event.listen(Engine, "after_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(Engine, "after_cursor_execute", look)


def upgrade_killed_after_every_change(database: Database, migrations: str) -> int:
    """Upgrade in runs that make one change each and die. Returns how many runs that took."""
    for run in range(1, 200):
        try:
            with killed_after_change(1):
                upgrade(database, migrations)
        except KilledError:
            continue
        return run
    raise AssertionError("it makes no progress")
