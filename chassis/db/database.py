"""The database: one engine, transactions as a `with` block, SQLite and MySQL alike."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import Field, SecretStr
from sqlalchemy import DateTime, Dialect, NullPool, create_engine, event, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    TimeoutError as PoolExhaustedError,
)
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from chassis.errors import ContendedError, DatabaseUnavailableError, SettingsError
from chassis.settings import Settings

log = structlog.get_logger()

TABLE_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
"""What every table of ours is given: `Table(…, **TABLE_OPTIONS)`, or last in `__table_args__`.

MySQL's own collations take e for é and K for k. Our keys are compared letter by letter, as SQLite does it. (But for
spaces at the end, which no collation that both MySQL and MariaDB have can see: no key may end with one.)
"""

LOCK_WAIT_S: Final = 5
"""How long a statement on MySQL waits for what another transaction has locked, so that who asked gets an answer."""

_ANSWER_WITHIN_S: Final = 10
"""A server that hangs holds a thread of ours for so long. More than LOCK_WAIT_S, in which it rightly says nothing."""
_DDL_ANSWER_WITHIN_S: Final = 3600

_SQLITE_BUSY_WITHIN_S: Final = 30
"""Longer than on MySQL: all writers of a file wait for one lock, and not in the order of their coming."""

_READS_ONLY: Final = "reads_only"
"""The execution option of connections that only read."""

_CONTENDED: Final = frozenset({1205, 1213})  # MySQL: ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK
_NO_SUCH_TABLE: Final = 1146  # MySQL: ER_NO_SUCH_TABLE; the driver thinks that this is our programming error


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


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """How many connections a service keeps to its MySQL server. SQLite has no use for it."""

    size: int = 10
    max_overflow: int = 20
    """Connections beyond `size`, closed again when they are given back."""
    timeout_s: float = 10.0
    """How long a transaction waits for a free connection."""
    recycle_s: int = 1800
    """The age at which a connection is replaced: below the `wait_timeout` of the server."""


DEFAULT_POOL: Final = PoolConfig()


class DatabaseSettings(Settings):
    """What a service with a database needs."""

    database_url: SecretStr = Field(min_length=1)
    database_pool_size: int = Field(default=DEFAULT_POOL.size, ge=1, le=100)
    database_max_overflow: int = Field(default=DEFAULT_POOL.max_overflow, ge=0, le=100)
    database_pool_timeout: float = Field(default=DEFAULT_POOL.timeout_s, gt=0, le=60, description="seconds")
    database_pool_recycle: int = Field(default=DEFAULT_POOL.recycle_s, ge=10, le=28_800, description="seconds")

    def build_database(self) -> "Database":
        """The database that these settings describe; nothing connects yet. Raises SettingsError."""
        pool = PoolConfig(
            size=self.database_pool_size,
            max_overflow=self.database_max_overflow,
            timeout_s=self.database_pool_timeout,
            recycle_s=self.database_pool_recycle,
        )
        return Database(self.database_url.get_secret_value(), pool)


class Database:
    """A service's own database. Nothing connects before the first use."""

    def __init__(self, url: str, pool: PoolConfig = DEFAULT_POOL) -> None:
        """`url` as SQLAlchemy has it: `sqlite:///path` or `mysql+pymysql://…`. Raises SettingsError."""
        try:
            self._url = make_url(url)
            self.is_sqlite = self._url.get_backend_name() == "sqlite"
            self.engine = self._create_engine(**_build_pool_options(pool, sqlite=self.is_sqlite))
        except (ArgumentError, ImportError):  # ImportError: of a driver that is not installed
            raise SettingsError("DATABASE_URL: is no database URL; give sqlite:///path or mysql+pymysql://…") from None
        if not self.is_sqlite and not self._url.database:
            raise SettingsError("DATABASE_URL: names a server and no database; add /name")
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._read_sessions = sessionmaker(self.engine.execution_options(**{_READS_ONLY: True}), expire_on_commit=False)
        self._writer_lock = threading.Lock() if self.is_sqlite else nullcontext()

    def _create_engine(self, answer_within_s: int = _ANSWER_WITHIN_S, **options: Any) -> Engine:
        connect_args = (
            {"timeout": _SQLITE_BUSY_WITHIN_S} if self.is_sqlite else _build_server_arguments(answer_within_s)
        )
        # Hidden: the text of an error, which is logged, would show the values of the statement's parameters.
        engine = create_engine(self._url, hide_parameters=True, connect_args=connect_args, **options)
        if self.is_sqlite:
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite_transaction)
        else:
            event.listen(engine, "connect", _configure_mysql)
        return engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction that commits when the block ends, and rolls back when it raises.

        Raises DatabaseAwayError in place of the driver's errors of that kind, whose text holds SQL; ContendedError
        when it waited too long for another transaction, or gave way to one (a deadlock). Others' errors pass.
        """
        # SQLite lets a second writer sleep and look again, and never learn that it is its turn: so our threads queue.
        with self._writer_lock, _translate_errors(), self._sessions.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """As `transaction`, for what only reads: on SQLite it waits for no writer, and no writer waits for it."""
        with _translate_errors(), self._read_sessions.begin() as session:
            yield session

    def is_answering(self) -> bool:
        """Whether the database answers now."""
        try:
            with self._read_sessions() as session:
                session.execute(text("SELECT 1"))
        except (DBAPIError, PoolExhaustedError):
            return False
        return True

    @contextmanager
    def ddl_connection(self) -> Iterator[Connection]:
        """A connection for changes of the schema, whose session ends with the block. Raises the driver's errors.

        On MySQL it has patience, for a large table may be copied to alter it; and each statement commits by itself,
        as those that change the schema do anyway.
        """
        if self.is_sqlite:
            with self.engine.connect() as connection:
                yield connection
            return
        engine = self._create_engine(_DDL_ANSWER_WITHIN_S, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, PoolExhaustedError) as error:
        away = _translate_driver_error(error)
        if away is None:
            raise
        log.warning(
            "database.contended" if isinstance(away, ContendedError) else "database.away",
            **describe_driver_error(error),
        )
        raise away from None


def describe_driver_error(error: DBAPIError | PoolExhaustedError) -> dict[str, object]:
    """What may be logged of an error: the driver's class and number, never its text, which may hold values."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return {"error": type(cause).__name__, "number": _get_mysql_error_number(error)}


def _translate_driver_error(error: DBAPIError | PoolExhaustedError) -> DatabaseUnavailableError | None:
    """The error of ours for what may succeed later; None for the rest."""
    number = _get_mysql_error_number(error)
    if number in _CONTENDED or _is_sqlite_busy(error):
        return ContendedError("Another request is changing the same; try again shortly.")
    # No table: it is not made yet. SQLite and MySQL call that by different names.
    if isinstance(error, OperationalError | InterfaceError | PoolExhaustedError) or number == _NO_SUCH_TABLE:
        return DatabaseUnavailableError("The database does not answer; try again shortly.")
    return None


def _get_mysql_error_number(error: DBAPIError | PoolExhaustedError) -> int | None:
    arguments = error.orig.args if isinstance(error, DBAPIError) and error.orig else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else None


def _is_sqlite_busy(error: DBAPIError | PoolExhaustedError) -> bool:
    """Whether another connection holds the file's lock."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if not isinstance(cause, sqlite3.Error):
        return False
    code = getattr(cause, "sqlite_errorcode", None)  # not of what the Python module itself found wrong
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY  # the upper bits say more about the same


def _build_pool_options(pool: PoolConfig, *, sqlite: bool) -> dict[str, Any]:
    if sqlite:
        return {}
    return {
        "isolation_level": "READ COMMITTED",  # no gap locks; every rule here rests on row locks and unique keys
        "pool_pre_ping": True,
        "pool_size": pool.size,
        "max_overflow": pool.max_overflow,
        "pool_timeout": pool.timeout_s,
        "pool_recycle": pool.recycle_s,
    }


def _build_server_arguments(answer_within_s: int) -> dict[str, int]:
    return {"connect_timeout": 5, "read_timeout": answer_within_s, "write_timeout": 30}


def _configure_sqlite(connection, _record) -> None:  # type: ignore[no-untyped-def]
    connection.isolation_level = None  # the driver shall not begin transactions by itself: _begin does
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _configure_mysql(connection, _record) -> None:  # type: ignore[no-untyped-def]
    cursor = connection.cursor()
    # For rows, and for tables that another session alters.
    cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_S}, lock_wait_timeout = {LOCK_WAIT_S}")
    cursor.close()


def _begin_sqlite_transaction(connection: Connection) -> None:
    """Take the write lock first, if there is anything to write: a read that turns into a write would fail, not wait."""
    reads_only = connection.get_execution_options().get(_READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
