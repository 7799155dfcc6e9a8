"""A damaged table of a real MariaDB: the service is not ready from the first error on, until the table is repaired."""

import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from chassis.db.database import Database
from chassis.db.table_damage import DAMAGED_TABLES, TableWatch
from chassis.errors import DatabaseDamagedError, DatabaseUnavailableError
from tests.mariadb_fixture import MariaDbProcess, require_installed
from tests.waiting import eventually

PAGE = 16 * 1024


@pytest.fixture(scope="module")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDbProcess]:
    """Yield a running server of its own, whose files may be damaged."""
    require_installed()
    process = MariaDbProcess(tmp_path_factory.mktemp("damaged"))
    try:
        process.start()
        yield process
    finally:
        process.kill()


def remove(file: Path) -> None:
    """Remove a table's file."""
    file.unlink()


def overwrite_pages(file: Path) -> None:
    """Overwrite all pages of a table after the first ones, which the server reads when it opens the table."""
    size = file.stat().st_size
    assert size > 6 * PAGE
    with file.open("r+b") as opened:
        opened.seek(3 * PAGE)
        opened.write(b"\xa5" * (size - 3 * PAGE))


def overwrite_index(file: Path) -> None:
    """Overwrite the head of an index file of Aria."""
    with file.open("r+b") as opened:
        opened.write(b"\xa5" * PAGE)


@pytest.mark.mariadb
@pytest.mark.parametrize(
    ("engine", "suffix", "damage"),
    [("InnoDB", "ibd", remove), ("InnoDB", "ibd", overwrite_pages), ("Aria", "MAI", overwrite_index)],
)
def test_a_damaged_table_is_not_ready_until_it_is_repaired(
    mariadb: MariaDbProcess, tmp_path: Path, engine: str, suffix: str, damage: Callable[[Path], None]
) -> None:
    """Readiness gives the reason, also while requests for other tables are answered; after the repair it is ready.

    The damage is found while the service runs: its server was started again on files that are damaged.
    """
    with mariadb.server.database() as url:
        name = url.partition("?")[0].rpartition("/")[2]
        database = Database(url)
        database._tables._read_every_s = 0.1
        with database.engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE people (id INT PRIMARY KEY, name VARCHAR(200)) ENGINE={engine}"))
            connection.execute(text("CREATE TABLE others (id INT PRIMARY KEY)"))
            connection.execute(text("INSERT INTO people SELECT seq, REPEAT('x', 200) FROM seq_1_to_2000"))
        assert database.explain_outage() is None
        mariadb.stop()
        file = next(mariadb.folder.rglob(f"{name}/people.{suffix}"))
        shutil.copy2(file, tmp_path / "kept")
        damage(file)
        mariadb.start()

        def read(table: str) -> int | None:
            with database.reading() as session:
                return session.execute(text(f"SELECT MAX(LENGTH(CONCAT(id))) FROM {table}")).scalar()

        eventually(database.is_answering, "the connection to the server that was started again")
        with pytest.raises(DatabaseDamagedError, match="A table of the database is damaged"):
            read("people")
        assert database.explain_outage() == DAMAGED_TABLES
        assert read("others") is None
        assert database.explain_outage() == DAMAGED_TABLES

        mariadb.stop()
        assert database.explain_outage() is not None
        shutil.copy2(tmp_path / "kept", file)
        mariadb.start()
        eventually(database.is_answering, "the readiness after the repair")
        assert read("people") == 4
        database.close()


def test_an_error_during_the_reading_is_not_forgotten() -> None:
    """A table that is found damaged while others are read keeps the service unready; what cannot be read does, too."""
    begun, go_on = threading.Event(), threading.Event()
    outcomes: list[Exception | None] = [OperationalError("", None, Exception()), None, None]
    damaged = type("Context", (), {"original_exception": pymysql.err.InternalError(130, "Incorrect file format")})()

    def read_tables() -> None:
        begun.set()
        assert go_on.wait(60)
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    def has_ended(left: int) -> bool:
        return len(outcomes) <= left and not watch._is_reading

    watch = TableWatch(read_tables, read_every_s=0)
    assert watch.explain_damage() is None
    watch._handle_error(damaged)
    for left in (2, 1):
        begun.clear()
        eventually(lambda: watch.explain_damage() is not None and begun.is_set(), "the reading of all tables")
        if left == 1:
            watch._handle_error(damaged)
        go_on.set()
        eventually(partial(has_ended, left), "the end of the reading")
        go_on.clear()
        assert watch._is_damaged
    go_on.set()
    eventually(lambda: watch.explain_damage() is None, "the reading without an error")


def test_a_server_that_is_away_is_no_damage() -> None:
    """Nothing is remembered of an error that reports no damage: only damage needs all tables to be read."""
    database = Database("mysql+pymysql://root@127.0.0.1:1/none")
    with pytest.raises(DatabaseUnavailableError), database.reading() as session:
        session.execute(text("SELECT 1"))
    assert database._tables.explain_damage() is None
