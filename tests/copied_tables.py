"""Tables for tests: `create_tables` gives an empty database those of a service, copied where they were made before.

Two thousand tests begin with an empty database of a service. To make its tables by SQLAlchemy each time took them
longer than what most of them test.
"""

import tempfile
from pathlib import Path
from typing import Final

from sqlalchemy import MetaData, text

from chassis.db.database import Database


def create_tables(database: Database, schema: MetaData) -> None:
    """Create all tables of the schema in an empty database to which nobody has connected yet.

    What comes out is what `schema.create_all` makes, which the first call in this process uses. Later ones copy it: a
    file of SQLite as a whole, else each table by the statement by which the database itself describes it. Raises
    FileExistsError if there is a file of SQLite already.
    """
    if database.is_sqlite and database.engine.url.database:
        if schema not in _files:
            _files[schema] = _make_file(schema)
        with Path(database.engine.url.database).open("xb") as file:
            file.write(_files[schema])
        return
    made = (schema, database.engine.dialect.name)
    if made not in _statements:
        schema.create_all(database.engine)
        _statements[made] = _read_statements(database, schema)
        return
    with database.engine.begin() as connection:
        for statement in _statements[made]:
            connection.exec_driver_sql(statement)


_files: Final[dict[MetaData, bytes]] = {}
"""The file of SQLite that holds the empty tables of a schema."""

_statements: Final[dict[tuple[MetaData, str], list[str]]] = {}
"""The statements that create the tables of a schema, by the name of the database's dialect."""


def _make_file(schema: MetaData) -> bytes:
    """Return a file of SQLite with the tables of the schema, closed in order: there is no write-ahead log beside it."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/made.db")
        schema.create_all(database.engine)
        database.close()
        assert [each.name for each in Path(folder).iterdir()] == ["made.db"]
        return Path(folder, "made.db").read_bytes()


def _read_statements(database: Database, schema: MetaData) -> list[str]:
    """Return the statements that create tables and indexes as the database has them, referenced tables first."""
    with database.engine.connect() as connection:
        if database.is_sqlite:
            query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite%' ORDER BY rowid"
            return list(connection.scalars(text(query)))
        tables = [table.name for table in schema.sorted_tables]
        return [connection.exec_driver_sql(f"SHOW CREATE TABLE `{name}`").one()[1] for name in tables]
