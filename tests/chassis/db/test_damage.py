"""A damaged database is never used further: real files of SQLite with damaged pages, and files that are taken away."""

import asyncio
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pymysql
import pytest
from sqlalchemy import text

from chassis.db import migrations
from chassis.db.damage import DAMAGED, FILE_REPLACED, reports_damage
from chassis.db.database import Database
from chassis.errors import DatabaseDamagedError, DatabaseUnavailableError
from tests.waiting import eventually

ROWS = 2_000


def write_file(path: Path) -> None:
    """Make a file of SQLite with two tables of many pages and an index, all in the file itself (no write-ahead log)."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('1')")
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, line TEXT)")
        connection.execute("CREATE INDEX by_line ON notes (line)")
        connection.executemany("INSERT INTO people (name) VALUES (?)", [(f"name {n}",) for n in range(ROWS)])
        connection.executemany("INSERT INTO notes (line) VALUES (?)", [(f"line {n}" * 9,) for n in range(ROWS)])
    connection.close()


def find_page(path: Path, name: str) -> tuple[int, int]:
    """Return where the root page of a table or index begins in the file, and the size of a page, in bytes."""
    with sqlite3.connect(path) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0]
    connection.close()
    return (root - 1) * size, size


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Overwrite bytes in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def damage_page(name: str, filler: bytes = b"\xff") -> Callable[[Path], None]:
    """Return a function that fills the root page of a table or index with one byte."""

    def damage(path: Path) -> None:
        at, size = find_page(path, name)
        overwrite(path, at, filler * size)

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a page of notes is noise": damage_page("notes"),
    "a page of notes is zero": damage_page("notes", b"\0"),
    "a page of people is noise": damage_page("people"),
    "a page of the index is noise": damage_page("by_line"),
    "the table of the schema is noise": lambda path: overwrite(path, 100, b"\xff" * 300),
    "the header is zero": lambda path: overwrite(path, 0, bytes(100)),
    "the header is noise": lambda path: overwrite(path, 0, b"\xaa" * 100),
    "another program's file": lambda path: path.write_bytes(b"PK\x03\x04" + b"zip" * 5_000),
    "a page of text": lambda path: path.write_text("<html>502 Bad Gateway</html>" * 300),
    "the second half is missing": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "the last page is missing": lambda path: path.write_bytes(path.read_bytes()[:-4096]),
    "one page is there twice": lambda path: overwrite(path, 8192, path.read_bytes()[4096:8192]),
    "the pages are shifted": lambda path: path.write_bytes(path.read_bytes()[:4096] + path.read_bytes()[5000:]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a whole file of SQLite."""
    write_file(tmp_path / "service.db")
    return tmp_path / "service.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    """Return a database on that file, which has read it whole once."""
    database = Database(f"sqlite:///{path}")
    database.check_pages()
    yield database
    database.close()


def count_rows(database: Database, table: str) -> int:
    """Return how many rows of a table can be read."""
    with database.reading() as session:
        return len(session.execute(text(f"SELECT * FROM {table}")).all())


def add_person(database: Database) -> None:
    """Insert a row."""
    with database.transaction() as session:
        session.execute(text("INSERT INTO people (name) VALUES ('Zoë')"))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_ready_and_says_why_until_it_is_restored(
    path: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """The service starts, never works on the file, and works as soon as a whole file is in its place."""
    shutil.copy(path, tmp_path / "backup.db")
    damage(path)
    folder = tmp_path / "migrations"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(
        "from sqlalchemy import MetaData\n"
        "from chassis.db.migrations import run_migrations\n"
        "run_migrations(MetaData())\n"
    )
    (folder / "versions" / "1.py").write_text('revision = "1"\ndown_revision = None\ndef upgrade() -> None: ...\n')
    database = Database(f"sqlite:///{path}")
    schema = migrations.SchemaUpgrade(database, str(folder))

    async def run() -> None:
        upgrade = asyncio.create_task(schema.run_upgrade())
        await asyncio.to_thread(eventually, lambda: schema.explain_unready() == DAMAGED, "it says why")
        for work in (add_person, lambda each: count_rows(each, "people")):
            with pytest.raises(DatabaseUnavailableError):
                await asyncio.to_thread(work, database)
        (tmp_path / "backup.db").replace(path)
        await upgrade
        assert schema.explain_unready() is None

    asyncio.run(run())
    add_person(database)
    assert count_rows(database, "people") == ROWS + 1
    database.close()


def test_damage_that_is_met_while_it_runs_ends_the_use_of_the_file(database: Database, path: Path) -> None:
    """Other tables could still be read and written, but what belongs together would be kept in part only."""
    assert count_rows(database, "people") == ROWS
    database.close()  # so that no page is in a cache, and the write-ahead log is empty
    damage_page("notes")(path)
    assert count_rows(database, "people") == ROWS
    assert database.is_answering(), "nobody has met the page"
    with pytest.raises(DatabaseDamagedError):
        count_rows(database, "notes")
    assert database.explain_outage() == DAMAGED
    for work in (add_person, lambda each: count_rows(each, "people")):
        with pytest.raises(DatabaseDamagedError, match="restore a backup"):
            work(database)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_taken_away_is_not_used_further(database: Database, path: Path, replaced: bool) -> None:
    """SQLite would go on with the file that no path leads to, and all that it answers with success would be lost."""
    add_person(database)
    path.rename(path.with_suffix(".away"))
    if replaced:
        write_file(path)
    with pytest.raises(DatabaseDamagedError, match="put the file back"):
        add_person(database)
    assert database.explain_outage() == FILE_REPLACED
    path.with_suffix(".away").rename(path)
    with pytest.raises(DatabaseDamagedError):
        add_person(database)
    database.check_pages()
    assert count_rows(database, "people") == ROWS + 1


def test_many_threads_are_all_refused_once_the_file_is_damaged(database: Database, path: Path) -> None:
    """None of them gets another error, whatever it was doing."""
    database.close()
    damage_page("people")(path)
    outcomes: list[object] = []

    def work() -> None:
        try:
            add_person(database)
            outcomes.append("written")
        except DatabaseUnavailableError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [DatabaseDamagedError] * 16


@pytest.mark.parametrize(
    ("error", "is_damage"),
    [
        (pymysql.OperationalError(1034, "Incorrect key file for table 'users'; try to repair it"), True),
        (pymysql.OperationalError(1035, "Old key file for table 'users'; repair it!"), True),
        (pymysql.OperationalError(1033, "Incorrect information in file: './app/users.frm'"), True),
        (pymysql.OperationalError(1194, "Table 'users' is marked as crashed and should be repaired"), True),
        (pymysql.OperationalError(1195, "Table 'users' is marked as crashed and last repair failed"), True),
        (pymysql.OperationalError(1712, "Index PRIMARY is corrupted"), True),
        (pymysql.OperationalError(1812, "Tablespace is missing for table app.users"), True),
        (pymysql.OperationalError(1814, "Tablespace has been discarded for table 'users'"), True),
        (pymysql.OperationalError(1877, "Table app.users is corrupted. Please drop the table and recreate."), True),
        (pymysql.ProgrammingError(1932, "Table 'app.users' doesn't exist in engine"), True),
        (pymysql.OperationalError(1030, 'Got error 127 "Record file is crashed" from storage engine MyISAM'), True),
        (pymysql.OperationalError(1030, "Got error 180 'Index corrupted' from storage engine InnoDB"), True),
        (pymysql.OperationalError(1030, 'Got error 194 "Tablespace is missing for a table" from InnoDB'), True),
        (pymysql.InternalError(145, "Table './app/users' is marked as crashed and should be repaired"), True),
        (pymysql.InternalError(130, "Incorrect file format 'users'"), True),
        (OSError(126, "Required key not available"), False),
        (pymysql.OperationalError(1030, "Got error 28 - 'No space left on device' from storage engine"), False),
        (pymysql.OperationalError(1030, "Got error 1270 from storage engine"), False),
        (pymysql.OperationalError(2013, "Lost connection to MySQL server during query"), False),
        (pymysql.OperationalError(1205, "Lock wait timeout exceeded"), False),
        (pymysql.ProgrammingError(1146, "Table 'app.users' doesn't exist"), False),
        (pymysql.IntegrityError(1062, "Duplicate entry '127' for key 'PRIMARY'"), False),
        (sqlite3.OperationalError("database disk image is malformed"), False),  # no code: not from SQLite itself
        (RuntimeError("malformed"), False),
        (None, False),
    ],
    ids=str,
)
def test_errors_about_damage_are_told_from_all_others(error: BaseException | None, is_damage: bool) -> None:
    """Only an operator can end damage; a lost connection or a full disk ends by itself."""
    assert reports_damage(error) is is_damage
