"""Tests of a database that takes no writes: its connections are discarded, and it is not ready until it takes them."""

import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import Column, MetaData, String, Table, event, insert, make_url, text

from chassis.db.database import TABLE_OPTIONS, Database
from chassis.db.write_refusals import refuses_writes
from chassis.errors import DatabaseUnavailableError
from tests.mariadb_fixture import DatabaseServer, MariaDbProcess, require_installed
from tests.ports import HOST

SCHEMA = MetaData()
NOTES = Table("notes", SCHEMA, Column("name", String(20), primary_key=True), **TABLE_OPTIONS)
VERSION = Table("alembic_version", SCHEMA, Column("version_num", String(32), primary_key=True), **TABLE_OPTIONS)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.OperationalError(1290, "The MySQL server is running with the --read-only option so it cannot …"),
        pymysql.err.OperationalError(1290, "The MariaDB server is running with the --super-read-only option so …"),
        pymysql.err.OperationalError(1792, "Cannot execute statement in a READ ONLY transaction."),
        pymysql.err.OperationalError(1836, "Running in read-only mode"),
        pymysql.err.OperationalError(1874, "InnoDB is in read only mode."),
        pymysql.err.OperationalError(1036, "Table 'notes' is read only"),
        pymysql.err.OperationalError(1047, "WSREP has not yet prepared node for application use"),
        pymysql.err.OperationalError(1053, "Server shutdown in progress"),
        pymysql.err.OperationalError(1927, "Connection was killed"),
        pymysql.err.OperationalError(
            3024, "Query execution was interrupted, maximum statement execution time exceeded"
        ),
        pymysql.err.OperationalError(3032, "The server is currently in offline mode"),
        pymysql.err.OperationalError(3100, "Error on observer while running replication hook 'before_commit'."),
        pymysql.err.OperationalError(3101, "Plugin instructed the server to rollback the current transaction."),
        pymysql.err.OperationalError(3169, "The session was killed"),
        pymysql.err.OperationalError(9001, "Max connect timeout reached while reaching hostgroup 0 after 10000ms"),
        pymysql.err.InternalError(1105, "target: ks.0.primary: vttablet: tablet is in read-only mode"),
        pymysql.err.OperationalError(8255, "the cluster is READ_ONLY"),
    ],
    ids=lambda error: str(error.args[0]),
)
def test_every_code_of_a_server_that_takes_no_writes_is_known(error: Exception) -> None:
    """Also codes of managed servers and proxies, by their text."""
    assert refuses_writes(error)


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.IntegrityError(1062, "Duplicate entry 'KJFK' for key 'PRIMARY'"),
        pymysql.err.OperationalError(1205, "Lock wait timeout exceeded; try restarting transaction"),
        pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock"),
        pymysql.err.ProgrammingError(1146, "Table 'notes' doesn't exist"),
        pymysql.err.OperationalError(1045, "Access denied for user"),
        pymysql.err.DataError(1406, "Data too long for column"),
        pymysql.err.OperationalError(2003, "Can't connect to MySQL server"),
        pymysql.err.OperationalError("read-only"),
        sqlite3.OperationalError("attempt to write a readonly database"),
        None,
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error: Exception | None) -> None:
    """Among them errors that pass by themselves, permanent ones, and errors without a number."""
    assert not refuses_writes(error)


def write(database: Database, name: str) -> None:
    """Insert one row."""
    with database.transaction() as session:
        session.execute(insert(NOTES), [{"name": name}])


def prepare(database: Database) -> None:
    """Create the tables, with a revision of the schema."""
    SCHEMA.create_all(database.engine)
    with database.transaction() as session:
        session.execute(insert(VERSION), [{"version_num": "0001"}])


def create_user_without_privileges(server: DatabaseServer, url: str) -> str:
    """Create a user who may not write to a read-only server, and return the URL for that user."""
    name = make_url(url).database
    server.execute("CREATE USER IF NOT EXISTS 'service'@'%' IDENTIFIED BY 'secret'")
    server.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP ON {name}.* TO 'service'@'%'")
    return make_url(url).set(username="service", password="secret").render_as_string(hide_password=False)


@pytest.mark.mariadb
def test_a_read_only_server_is_not_ready_until_it_takes_writes(tmp_path: Path) -> None:
    """Of twelve writes at once each fails as "unavailable"; once the mode ends it is ready, and writes succeed."""
    require_installed()
    process = MariaDbProcess(tmp_path)
    try:
        process.start()
        with process.server.database() as url:
            database = Database(create_user_without_privileges(process.server, url))
            prepare(database)
            process.server.execute("SET GLOBAL read_only = 1")
            assert database.is_answering(), "nothing was written yet"
            assert write_at_once(database, 12) == 0
            assert not database.is_answering()
            process.server.execute("SET GLOBAL read_only = 0")
            assert database.is_answering()
            assert write_at_once(database, 12) == 12
            database.close()
    finally:
        process.kill()


def write_at_once(database: Database, count: int) -> int:
    """Insert rows in as many threads, and return how many inserts succeeded."""

    def succeeds(number: int) -> bool:
        try:
            write(database, f"{threading.get_ident()}"[-6:] + f"-{number}")
        except DatabaseUnavailableError:
            return False
        return True

    with ThreadPoolExecutor(count) as threads:
        return sum(threads.map(succeeds, range(count)))


class MovableName:
    """A TCP port that leads to a server, as a name does: connections that stand stay where they are when it moves."""

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        """Connect each caller to the present server, until the listener is closed."""
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                server = socket.create_connection((HOST, self.leads_to))
                for source, sink in ((caller, server), (server, caller)):
                    threading.Thread(target=_copy, args=(source, sink), daemon=True).start()

    def close(self) -> None:
        """Accept no more callers."""
        self._listener.close()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copy bytes until one side closes, then close both."""
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for each in (source, sink):
        each.close()


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[tuple[MariaDbProcess, MariaDbProcess]]:
    """Start two servers, each with the tables and a user who may not write to a read-only server."""
    require_installed()
    processes = []
    try:
        for name in ("old", "new"):
            (tmp_path / name).mkdir()
            process = MariaDbProcess(tmp_path / name)
            processes.append(process)
            process.start()
            process.server.execute("CREATE DATABASE app")
            url = make_url(process.server.url).set(database="app").render_as_string(hide_password=False)
            owner = Database(create_user_without_privileges(process.server, url))
            prepare(owner)
            owner.close()
        yield processes[0], processes[1]
    finally:
        for process in processes:
            process.kill()


@pytest.mark.mariadb
def test_when_the_name_moves_on_the_next_write_goes_to_the_new_primary(
    two_servers: tuple[MariaDbProcess, MariaDbProcess],
) -> None:
    """The pool's connections lead to the old primary, which is a replica now; one failed write ends them all."""
    old, new = two_servers
    name = MovableName(make_url(old.server.url).port or 0)
    url = make_url(old.server.url).set(database="app", username="service", password="secret", port=name.port)
    database = Database(url.render_as_string(hide_password=False))
    assert write_at_once(database, 8) == 8
    old.server.execute("SET GLOBAL read_only = 1")
    name.leads_to = make_url(new.server.url).port or 0
    with pytest.raises(DatabaseUnavailableError):
        write(database, "lost")
    write(database, "kept")
    assert database.is_answering()
    assert write_at_once(database, 8) == 8
    with database.reading() as session:
        assert session.scalar(text("SELECT COUNT(*) FROM notes")) == 9
    database.close()
    name.close()


def test_a_full_or_read_only_file_of_sqlite_is_not_ready_until_it_takes_writes(tmp_path: Path) -> None:
    """The same rule holds for the embedded database."""
    database = Database(f"sqlite:///{tmp_path}/service.db")
    prepare(database)
    with database.reading() as session:
        pages = session.scalar(text("PRAGMA page_count"))
    database.close()
    full = Database(f"sqlite:///{tmp_path}/service.db")
    limit = [pages]

    def bound(connection, _record) -> None:  # type: ignore[no-untyped-def]
        connection.execute(f"PRAGMA max_page_count = {limit[0]}")

    event.listen(full.engine, "connect", bound)
    with pytest.raises(DatabaseUnavailableError):
        _fill(full)
    assert full._refusals.is_refusing
    limit[0] = 1 << 20
    assert full.is_answering()
    write(full, "fits")
    full.close()


def _fill(database: Database) -> None:
    """Insert rows until the file is full."""
    for number in range(10_000):
        write(database, f"row {number}")
