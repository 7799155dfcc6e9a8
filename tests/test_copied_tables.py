"""Copied tables are those of `create_all`, and hold nothing of an earlier test."""

import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, insert, inspect, select, text

import collector.model
import user_manager.model
from chassis.db.database import Database
from tests.chassis.db.migration_checks import differences
from tests.copied_tables import create_tables
from tests.mariadb_fixture import DatabaseServer

BOTH_SERVICES = pytest.mark.parametrize("schema", [collector.model.SCHEMA, user_manager.model.SCHEMA])

Open = Callable[[], Database]
"""A function that opens a new, empty database."""


@pytest.fixture(params=["file", "memory", pytest.param("mariadb", marks=pytest.mark.mariadb)])
def open_new(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """A function that opens a new database, each on SQLite in a file, in memory, and on MariaDB."""
    if request.param == "file":
        return lambda: Database(f"sqlite:///{tmp_path}/{uuid.uuid4()}.db")
    if request.param == "memory":
        return lambda: Database("sqlite://")
    server: DatabaseServer = request.getfixturevalue("mariadb_server")

    def open_on_server() -> Database:
        stack = server.database()
        url = stack.__enter__()
        request.addfinalizer(lambda: stack.__exit__(None, None, None))
        return Database(url)

    return open_on_server


@BOTH_SERVICES
def test_each_copy_has_the_tables_of_the_models(open_new: Open, schema: MetaData) -> None:
    """The first database and later ones are described alike, down to indexes, keys and collations."""
    described = []
    for is_copied in (False, True, True):
        with closing(open_new()) as database:
            if is_copied:
                create_tables(database, schema)
            else:
                schema.create_all(database.engine)
            assert differences(database, schema) == []
            described.append(_describe(database, schema))
    assert described[1] == described[0]
    assert described[2] == described[0]


def _describe(database: Database, schema: MetaData) -> list[str]:
    """Return the database's own description of each table."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            return list(connection.scalars(text("SELECT sql FROM sqlite_master ORDER BY type, name")))
        names = sorted(inspect(connection).get_table_names())
        assert names == sorted(schema.tables)
        return [connection.execute(text(f"SHOW CREATE TABLE `{name}`")).one()[1] for name in names]


def test_what_one_test_writes_is_in_no_other_copy(open_new: Open) -> None:
    """Rows of one database are neither in the next one nor in what is copied."""
    schema = collector.model.SCHEMA
    table = schema.tables["coverage"]
    range_ = {"covered_from": datetime(2013, 2, 13, tzinfo=UTC), "covered_until": datetime(2013, 2, 14, tzinfo=UTC)}
    for _ in range(3):
        with closing(open_new()) as database:
            create_tables(database, schema)
            with database.transaction() as session:
                assert session.execute(select(table)).all() == []
                session.execute(insert(table).values(airport="KJFK", direction="arrivals", **range_))


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """Whoever gives a database that is in use has made a mistake, and loses nothing."""
    (tmp_path / "service.db").write_text("kept")
    with closing(Database(f"sqlite:///{tmp_path}/service.db")) as database, pytest.raises(FileExistsError):
        create_tables(database, collector.model.SCHEMA)
    assert (tmp_path / "service.db").read_text() == "kept"
