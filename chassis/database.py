"""The database: one engine, transactions as a `with` block, SQLite and MySQL alike."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import structlog
from sqlalchemy import DateTime, Dialect, MetaData, create_engine, event, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    TimeoutError as PoolExhaustedError,
)
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from chassis.errors import DatabaseAwayError, SettingsError

log = structlog.get_logger()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime to the microsecond; stored without a zone, since neither database keeps one."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect):  # type: ignore[no-untyped-def]
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone must not reach the database")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None else None


class Database:
    """A service's own database. Nothing connects before the first use."""

    def __init__(self, url: str) -> None:
        """`url` as SQLAlchemy has it: `sqlite:///path` or `mysql+pymysql://…`. Raises SettingsError."""
        try:
            parsed = make_url(url)
            # Hidden: the text of an error, which is logged, would show the values of the statement's parameters.
            self.engine = create_engine(parsed, hide_parameters=True, **_engine_options(parsed))
        except (ArgumentError, ImportError):  # ImportError: of a driver that is not installed
            raise SettingsError("DATABASE_URL: is no database URL; give sqlite:///path or mysql+pymysql://…") from None
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_immediately)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that commits when the block ends, and rolls back when it raises.

        Raises DatabaseAwayError in place of the driver's errors of that kind, whose text holds SQL.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except (OperationalError, InterfaceError, PoolExhaustedError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            log.warning("database.away", error=type(cause).__name__)
            raise DatabaseAwayError("The database does not answer; try again shortly.") from None

    def ready(self) -> bool:
        """Whether the database answers now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except (DBAPIError, PoolExhaustedError):
            return False
        return True

    def prepare(self, schema: MetaData, stopping: threading.Event) -> None:
        """Wait until the database answers, then make the tables that are missing.

        Blocks until that is done or `stopping` is set. Safe when replicas start together: who comes second
        finds the tables made. Logs the waiting with growing pauses, so an outage makes no flood.
        """
        pause = 0.2
        while not stopping.is_set():
            try:
                schema.create_all(self.engine)
                return
            except (OperationalError, ProgrammingError) as error:
                # Also a race with another replica ("already exists"): the next round finds its tables.
                log.warning("database.waiting", error=type(error.orig).__name__, again_in_s=pause)
                stopping.wait(pause)
                pause = min(pause * 2, 10.0)

    def close(self) -> None:
        self.engine.dispose()


def _engine_options(url: URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": 30}}
    return {
        "pool_pre_ping": True,
        "pool_recycle": 1800,  # below MySQL's wait_timeout of any sane server
        "pool_size": 10,
        "max_overflow": 20,
        "isolation_level": "READ COMMITTED",  # no gap locks; every rule here rests on row locks and unique keys
        "connect_args": {"connect_timeout": 5, "read_timeout": 30, "write_timeout": 30},
    }


def _configure_sqlite(connection, _record) -> None:  # type: ignore[no-untyped-def]
    connection.isolation_level = None  # the driver shall not begin transactions by itself: _begin_immediately does
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_immediately(connection: Connection) -> None:
    """Take the write lock first: a read that later turns into a write would fail instead of waiting."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
