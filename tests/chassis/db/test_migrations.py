"""Schema upgrades: waiting for the database, the lock between replicas, and databases of a later version."""

import asyncio
import hashlib
import itertools
import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from chassis.db import migrations
from chassis.db.database import Database
from chassis.db.migrations import MAX_PAUSE_S, MAX_REFUSALS, upgrade, upgrade_when_reachable
from chassis.errors import RefusedStartError, SchemaBusyError, SchemaRefusedError, SchemaTooNewError
from tests.mariadb_fixture import DatabaseServer
from tests.waiting import eventually

ENV = """
from chassis.db import migrations
from sqlalchemy import MetaData

migrations.run_migrations(MetaData())
"""

REVISION = """
import threading
from pathlib import Path

from chassis.db.migrations import create_table
from sqlalchemy import Column, Integer

revision = "{number}"
down_revision = {before!r}


def upgrade() -> None:
    create_table("first_{number}", Column("id", Integer, primary_key=True))
    if (hanging := Path(__file__).with_suffix(".hang")).exists():
        hanging.write_text("I am in the middle")
        threading.Event().wait()
    create_table("second_{number}", Column("id", Integer, primary_key=True))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one revision; its name contains characters with a meaning in alembic's configuration."""
    made = tmp_path / "100%(here)s"
    (made / "versions").mkdir(parents=True)
    (made / "env.py").write_text(ENV)
    add_revision(made, "0001", None)
    return made


def add_revision(folder: Path, number: str, before: str | None) -> Path:
    """Add a revision that creates two tables, and return its file."""
    file = folder / "versions" / f"{number}_more.py"
    file.write_text(REVISION.format(number=number, before=before))
    return file


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    yield made
    made.close()


def tables(database: Database) -> list[str]:
    """Return the names of all tables except alembic's own."""
    return sorted(set(inspect(database.engine).get_table_names()) - {"alembic_version"})


class FakeStopEvent(threading.Event):
    """An event whose waits take no time, and which is set after so many waits."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self._waits = waits
        self.pauses: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.pauses.append(timeout)
        if len(self.pauses) == self._waits:
            self.set()
        return self.is_set()


def test_each_start_runs_the_missing_revisions_and_logs_once(database: Database, folder: Path) -> None:
    """This holds for an empty database, and for a database of the version before."""
    for newest, created in (("0001", 2), ("0001", 2), ("0002", 4)):
        if newest == "0002":
            add_revision(folder, "0002", "0001")
        with capture_logs() as logs:
            upgrade_when_reachable(database, str(folder), threading.Event())
        assert [(entry["event"], entry["after"]) for entry in logs] in ([], [("schema.upgraded", newest)])
        assert len(tables(database)) == created


def test_waiting_for_the_database_has_growing_pauses_and_can_be_stopped(tmp_path: Path, folder: Path) -> None:
    """Each pause is logged once, without the URL of the database, which may contain a password."""
    stopping = FakeStopEvent(9)
    with capture_logs() as logs:
        upgrade_when_reachable(Database(f"sqlite:///{tmp_path}/missing/service.db"), str(folder), stopping)
    assert stopping.pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S]
    assert [entry["again_in_s"] for entry in logs] == stopping.pauses
    assert {entry["event"] for entry in logs} == {"database.waiting"}
    assert "missing" not in str(logs)


def test_a_database_of_a_later_version_is_not_changed(database: Database, folder: Path) -> None:
    """The reason is logged with growing pauses, and the service keeps waiting."""
    newer = add_revision(folder, "0002", "0001")
    upgrade(database, str(folder))
    newer.unlink()
    with pytest.raises(SchemaTooNewError, match="0002"):
        upgrade(database, str(folder))
    stopping = FakeStopEvent(3)
    with capture_logs() as logs:
        upgrade_when_reachable(database, str(folder), stopping)
    assert [entry["event"] for entry in logs] == ["database.waiting"] * 3
    assert "0002" in logs[0]["reason"]
    assert len(tables(database)) == 4


def test_the_wait_ends_once_the_later_version_is_deployed(database: Database, folder: Path) -> None:
    """The waiting service needs no restart."""
    newer = add_revision(folder, "0002", "0001")
    upgrade(database, str(folder))
    newer.unlink()

    class DeployDuringWait(FakeStopEvent):
        def wait(self, timeout: float | None = None) -> bool:
            add_revision(folder, "0002", "0001")
            return super().wait(timeout)

    stopping = DeployDuringWait(2)
    upgrade_when_reachable(database, str(folder), stopping)
    assert len(stopping.pauses) == 1


REFUSED = """
from alembic import op

revision = "{number}"
down_revision = {before!r}


def upgrade() -> None:
    op.execute("SELECT no_such_function_of_any_server(1)")
"""


def test_a_statement_that_the_database_always_refuses_ends_the_service(database: Database, folder: Path) -> None:
    """The error says that the database answers, and names the driver's error; retrying for ever would hide it.

    It is a refused start: the process ends with exit code 2, so that an orchestrator shows it.
    """
    (folder / "versions" / "0002_refused.py").write_text(REFUSED.format(number="0002", before="0001"))
    stopping, reasons = FakeStopEvent(100), list[str]()
    with pytest.raises(SchemaRefusedError, match="refuses a statement") as refused:
        upgrade_when_reachable(database, str(folder), stopping, reasons.append)
    assert isinstance(refused.value, RefusedStartError)
    assert len(stopping.pauses) == MAX_REFUSALS - 1
    assert set(reasons) == {str(refused.value)}, "readiness gave the reason before"
    assert "no_such_function" not in str(refused.value)


def test_refusals_count_only_in_a_row(database: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer in between, such as one that is restarted, is waited for without end."""
    (folder / "versions" / "0002_refused.py").write_text(REFUSED.format(number="0002", before="0001"))
    answers = itertools.cycle([None] * (MAX_REFUSALS - 1) + ["The database does not answer."])
    monkeypatch.setattr(database, "explain_outage", lambda: next(answers))
    stopping = FakeStopEvent(3 * MAX_REFUSALS)
    upgrade_when_reachable(database, str(folder), stopping)
    assert len(stopping.pauses) == 3 * MAX_REFUSALS


PASSING: tuple[Exception, ...] = (
    *(pymysql.OperationalError(number, "passes") for number in (1040, 1053, 1203, 1205, 1213, 2003, 2006, 2013, 3024)),
    pymysql.InternalError(1114, "the table is full"),
    pymysql.InterfaceError(0, ""),
    sqlite3.OperationalError("the connection is closed"),
)


@pytest.mark.parametrize("cause", PASSING, ids=lambda each: f"{type(each).__module__}-{each.args[0]}")
def test_a_connection_that_is_lost_in_an_upgrade_is_no_refusal(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    """Another connection of the pool may answer meanwhile; a long ALTER is tried again for as long as it takes."""
    database, attempts = Database(f"sqlite:///{tmp_path}/database"), itertools.count(1)

    def upgrade_at_last(database: Database, migrations: str) -> None:
        """Fail as the driver does when the connection is lost, but succeed after three rows of refusals."""
        if next(attempts) <= 3 * MAX_REFUSALS:
            is_lost = isinstance(cause, sqlite3.Error)
            raise DBAPIError("ALTER TABLE", None, cause, connection_invalidated=is_lost)

    monkeypatch.setattr(migrations, "upgrade", upgrade_at_last)
    stopping = FakeStopEvent(1_000)
    upgrade_when_reachable(database, str(folder), stopping)
    assert len(stopping.pauses) == 3 * MAX_REFUSALS
    database.close()


@pytest.mark.mariadb
def test_the_lock_needs_no_function_that_some_servers_lack(mariadb_url: str, folder: Path) -> None:
    """MySQL 9 has no `sha1()`. The name is the one that earlier versions asked MySQL 8 and MariaDB to compute."""
    database = Database(mariadb_url)
    statements: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    upgrade(database, str(folder))
    assert not [each for each in statements if "sha" in each.lower()]
    database.close()
    assert migrations._name_lock("collector") == "migrations:" + hashlib.sha1(b"collector").hexdigest()


def _upgrade(url: str, folder: str) -> None:
    upgrade(Database(url), folder)


@pytest.mark.mariadb
def test_the_next_replica_completes_the_upgrade_of_a_replica_that_was_killed(
    mariadb_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first replica runs the others wait; its death releases the lock, and the revision is completed."""
    monkeypatch.setattr(migrations, "_LOCK_WAIT_S", 0)
    hanging = folder / "versions" / "0001_more.hang"
    hanging.touch()
    database = Database(mariadb_url)
    process = multiprocessing.get_context("forkserver").Process(target=_upgrade, args=(mariadb_url, str(folder)))
    process.start()
    try:
        eventually(hanging.read_text, "the middle of the upgrade")
        hanging.unlink()
        with pytest.raises(SchemaBusyError):
            upgrade(database, str(folder))
        assert tables(database) == ["first_0001"]
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
    upgrade_when_reachable(database, str(folder), threading.Event())
    assert tables(database) == ["first_0001", "second_0001"]
    database.close()


@pytest.mark.mariadb
def test_databases_of_one_server_do_not_wait_for_each_other(
    mariadb_server: DatabaseServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All databases of a server share its named locks, so the lock's name must contain the database's name."""
    monkeypatch.setattr(migrations, "_LOCK_WAIT_S", 0)
    with mariadb_server.database() as one_url, mariadb_server.database() as other_url:
        one, other = Database(one_url), Database(other_url)
        _while_one_is_upgraded(one, other, str(folder))
        one.close()
        other.close()


def _while_one_is_upgraded(one: Database, other: Database, folder: str) -> None:
    """Check that during an upgrade of one database the other one can be upgraded, and the same one cannot."""
    with one.ddl_connection() as connection, migrations._hold_migration_lock(connection):
        upgrade(other, folder)
        with pytest.raises(SchemaBusyError):
            upgrade(one, folder)
    upgrade(one, folder)
    assert len(tables(one)) == len(tables(other)) == 2


def test_a_service_is_ready_once_its_database_is_upgraded(database: Database, folder: Path) -> None:
    """Before that it is not ready, although the database answers."""

    async def run() -> None:
        schema = migrations.SchemaUpgrade(database, str(folder))
        assert schema.explain_unready() is not None
        assert database.is_answering()
        await asyncio.gather(schema.wait_until_upgraded(), schema.run_upgrade())
        assert schema.explain_unready() is None

    asyncio.run(run())
    with database.transaction() as session:
        session.execute(text("SELECT * FROM second_0001"))
