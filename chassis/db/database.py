"""A service's relational database: one engine, transactions as `with` blocks, the same for SQLite and MySQL."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy import DateTime, Dialect, NullPool, create_engine, event, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, TimeoutError as PoolExhaustedError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.types import TypeDecorator

from chassis.addresses import normalize_host
from chassis.db.damage import FileWatch
from chassis.db.driver_errors import NO_CHANGES, UNAVAILABLE, translate_errors
from chassis.db.table_damage import TableWatch, read_all_tables
from chassis.db.write_refusals import WriteRefusals
from chassis.errors import DatabaseDamagedError, SettingsError
from chassis.settings import Settings
from chassis.tls import create_trust

TABLE_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}
"""The MySQL options of every table of the services: `Table(…, **TABLE_OPTIONS)`, or last in `__table_args__`.

MySQL's default collations treat e and é as equal, and K and k. With this collation keys are compared character by
character, as in SQLite. (Except for spaces at the end, which every collation that both MySQL and MariaDB have ignores:
no key may end with a space.)
"""

LOCK_WAIT_S: Final = 5
"""Seconds that a statement on MySQL waits for another transaction's lock; then the client gets an error."""

_ANSWER_WITHIN_S: Final = 10
"""Seconds that a thread waits for a server that hangs. Longer than LOCK_WAIT_S, during which a server sends nothing."""
_DDL_ANSWER_WITHIN_S: Final = 3600
"""Seconds that a change of the schema may take: MySQL may copy a large table for it."""

_SQLITE_BUSY_WITHIN_S: Final = 30
"""Seconds that a writer of SQLite waits for the file's lock.

Longer than on MySQL: all writers wait for one lock, and do not get it in the order of their requests.
"""

_READS_ONLY: Final = "reads_only"
"""The execution option of connections that only read."""

_AFTER_COMMIT: Final = "after_commit"
"""The key of a session's `info` under which the functions are that `call_after_commit` was given."""

_HARMLESS_WRITE: Final = text("UPDATE alembic_version SET version_num = version_num")
"""A write that changes nothing, to the table in which the revision of the schema stands."""


class UtcDateTime(TypeDecorator[datetime]):
    """A column type for aware UTC datetimes to the microsecond; stored without a zone, as neither database has one."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect):  # type: ignore[no-untyped-def]
        """Return the database's type: DATETIME(6) on MySQL, else SQLAlchemy's DateTime. SQLAlchemy calls this."""
        return dialect.type_descriptor(mysql.DATETIME(fsp=6) if dialect.name == "mysql" else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the value to store, in UTC without zone; None stays None. Raises ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone must not reach the database")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return a stored value as an aware datetime in UTC; None stays None."""
        return value.replace(tzinfo=UTC) if value is not None else None


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The configuration of a service's pool of connections to its MySQL server. It does not apply to SQLite."""

    size: int = 10
    """Connections that stay open."""
    max_overflow: int = 20
    """Connections beyond `size`, closed when they are returned to the pool."""
    timeout_s: float = 10.0
    """Seconds that a transaction waits for a free connection."""
    recycle_s: int = 1800
    """The age in seconds at which a connection is replaced: below the `wait_timeout` of the server."""


DEFAULT_POOL: Final = PoolConfig()


class DatabaseSettings(Settings):
    """The settings of a service with a database: its URL, connection pool and TLS, besides those of every service."""

    database_url: SecretStr = Field(min_length=1)
    database_pool_size: int = Field(default=DEFAULT_POOL.size, ge=1, le=100)
    database_max_overflow: int = Field(default=DEFAULT_POOL.max_overflow, ge=0, le=100)
    database_pool_timeout: float = Field(default=DEFAULT_POOL.timeout_s, gt=0, le=60, description="seconds")
    database_pool_recycle: int = Field(default=DEFAULT_POOL.recycle_s, ge=10, le=28_800, description="seconds")
    database_tls: Literal["off", "verify"] = "off"
    """`verify`: connect to MySQL by TLS alone, and verify the server's certificate and name."""
    database_ca: str | None = Field(default=None, description="PEM; DATABASE_CA_FILE names a file")
    """The authorities that the server's certificate is signed by; None: those of the system."""

    @model_validator(mode="after")
    def _require_trust_is_used(self) -> Self:
        """Return the settings. Raises ValueError for authorities without certificates, or that TLS would not use."""
        if self.database_ca is None:
            return self
        if self.database_tls == "off":
            raise ValueError("DATABASE_CA: is not used without DATABASE_TLS=verify")
        try:
            create_trust(self.database_ca)
        except ValueError as error:
            raise ValueError(f"DATABASE_CA: {error}") from None
        return self

    @field_validator("database_url")
    @classmethod
    def _require_usable_server(cls, url: SecretStr) -> SecretStr:
        """Return the URL unchanged. Raises ValueError if its host or port can never be connected to.

        `build_database` reports what is no URL of a database at all.
        """
        try:
            server = make_url(url.get_secret_value())
        except (ArgumentError, ValueError):
            return url
        if server.port is not None and not 0 < server.port < 65_536:
            raise ValueError("its port must be from 1 to 65535")
        if server.host:
            try:
                normalize_host(server.host)
            except ValueError as error:
                raise ValueError(f"its host {error} (write @ / : of a password as %40 %2F %3A)") from None
        return url

    def build_database(self) -> "Database":
        """Return the database that these settings describe, not yet connected.

        Raises SettingsError if DATABASE_URL is not a URL of a database, or its driver is not installed.
        """
        pool = PoolConfig(
            size=self.database_pool_size,
            max_overflow=self.database_max_overflow,
            timeout_s=self.database_pool_timeout,
            recycle_s=self.database_pool_recycle,
        )
        trust = create_trust(self.database_ca) if self.database_tls == "verify" else None
        return Database(self.database_url.get_secret_value(), pool, trust)


def call_after_commit(session: Session, call: Callable[[], None]) -> None:
    """Have `call` called once after the commit of the `Database.transaction` of this session; never if it rolls back.

    It runs in the transaction's thread, must not raise or block, and may be given several times. After an error of the
    commit itself it is not called, although the database may have committed.
    """
    session.info.setdefault(_AFTER_COMMIT, {})[call] = None


class Database:
    """A service's own database on SQLite or MySQL, with a pool of connections. It connects at the first use.

    All work is done in blocks: `transaction` for writes, `reading` for reads, `ddl_connection` for changes of the
    schema. Any thread may use it.
    """

    def __init__(self, url: str, pool: PoolConfig = DEFAULT_POOL, trust: ssl.SSLContext | None = None) -> None:
        """Prepare the engine without connecting. Raises SettingsError if `url` is invalid.

        `url` is a URL of SQLAlchemy: `sqlite:///path` or `mysql+pymysql://…`. `trust`: connect to a server by TLS
        alone, verified by this context; None: as the URL says, which is plainly unless it names options of TLS.
        """
        self._trust = trust
        self._refusals = WriteRefusals()
        self._tables = TableWatch(self._read_all_tables)
        try:
            self._url = make_url(url)
            self.is_sqlite = self._url.get_backend_name() == "sqlite"
            self._file = FileWatch(self._url.database if self.is_sqlite else None)
            self.engine = self._create_engine(**_build_pool_options(pool, sqlite=self.is_sqlite))
        except (ArgumentError, ImportError):  # ImportError: the driver is not installed
            raise SettingsError("DATABASE_URL: is no database URL; give sqlite:///path or mysql+pymysql://…") from None
        if not self.is_sqlite and not self._url.database:
            raise SettingsError("DATABASE_URL: names a server and no database; add /name")
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)
        self._read_sessions = sessionmaker(self.engine.execution_options(**{_READS_ONLY: True}), expire_on_commit=False)
        self._writer_lock = threading.Lock() if self.is_sqlite else nullcontext()

    def _create_engine(self, answer_within_s: int = _ANSWER_WITHIN_S, **options: Any) -> Engine:
        """Create an engine, not yet connected, that sets timeouts and the database's own options of each connection.

        On SQLite it also begins each transaction itself, with the write lock unless the connection only reads.

        `answer_within_s` is the read timeout of a MySQL connection, in seconds.
        """
        connect_args = (
            {"timeout": _SQLITE_BUSY_WITHIN_S}
            if self.is_sqlite
            else _build_server_arguments(answer_within_s, self._trust)
        )
        # hide_parameters: else the texts of errors, which are logged, contain the values of statements' parameters.
        engine = create_engine(self._url, hide_parameters=True, connect_args=connect_args, **options)
        if self.is_sqlite:
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite_transaction)
        else:
            if self._trust is not None:
                event.listen(engine, "connect", _require_tls)
            event.listen(engine, "connect", _configure_mysql)
        self._refusals.watch(engine)
        self._file.watch(engine)
        if not self.is_sqlite:
            self._tables.watch(engine)
        return engine

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Run the block in a transaction, which commits when the block ends and rolls back when it raises.

        On SQLite only one such block of the process runs at a time. Raises DatabaseUnavailableError in place of the
        driver's own errors of that kind, whose texts contain SQL, and ContendedError if a lock was not granted in time,
        or if this transaction was rolled back to end a deadlock; both are logged. DatabaseDamagedError, a kind of the
        first, is raised for data that cannot be read, and at once for a file of SQLite that was found damaged before or
        was removed or replaced. Other errors pass through.
        """
        # A second writer of SQLite sleeps and retries, and may never find the lock free: so the threads queue here.
        with self._writer_lock, translate_errors():
            self._file.require_intact()
            with self._sessions.begin() as session:
                yield session
            for call in session.info.get(_AFTER_COMMIT, ()):
                call()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Run the block in a transaction that only reads: on SQLite it waits for no writer, and no writer waits for it.

        The block must not write. Raises DatabaseUnavailableError and ContendedError as `transaction` does.
        """
        with translate_errors():
            self._file.require_intact()
            with self._read_sessions.begin() as session:
                yield session

    def is_answering(self) -> bool:
        """Return True if the database does its work now, False if `explain_outage` gives a reason why not."""
        return self.explain_outage() is None

    def explain_outage(self) -> str | None:
        """Return the sentence that says why the database does not do its work now, or None if it does.

        It must answer a query; after a write that was refused, because the server became a replica or the disk is full,
        it must also take a write again, which changes nothing. A file of SQLite must be the one that was opened first,
        and without damage; of a server, all tables must be readable again after an error that reported damage.
        """
        if (damage := self._tables.explain_damage()) is not None:
            return damage
        try:
            self._file.require_intact()
            with self._read_sessions() as session:
                session.execute(text("SELECT 1"))
        except DatabaseDamagedError as error:
            return str(error)
        except (DBAPIError, PoolExhaustedError):
            return self._file.fault or UNAVAILABLE
        try:
            if self._refusals.is_refusing:
                with self._sessions.begin() as session:
                    session.execute(_HARMLESS_WRITE)
                self._refusals.is_refusing = False
        except (DBAPIError, PoolExhaustedError):
            return self._file.fault or NO_CHANGES
        return None

    def check_pages(self) -> None:
        """Read each page of an SQLite file, also of one that was damaged or removed before and is restored now.

        Closes the pool's idle connections first. Does nothing with a server. Raises DatabaseDamagedError if a page is
        damaged, and the driver's errors.
        """
        if not self.is_sqlite:
            return
        self.close()
        self._file.forget()
        with self.engine.connect() as connection:
            self._file.check_pages(connection)

    def _read_all_tables(self) -> None:
        """Read all tables of a server's database, however long it takes. Raises SQLAlchemyError if one is damaged."""
        with self.ddl_connection() as connection:
            read_all_tables(connection)

    @contextmanager
    def ddl_connection(self) -> Iterator[Connection]:
        """Run the block with a connection for changes of the schema, whose session ends with the block.

        On MySQL its read timeout is one hour, because MySQL may copy a large table to alter it; and each statement
        commits by itself, as statements that change the schema do anyway. Raises the driver's errors.
        """
        if self.is_sqlite:
            with self.engine.connect() as connection:
                yield connection
            return
        engine = self._create_engine(_DDL_ANSWER_WITHIN_S, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close all idle connections of the pool; a later use would connect again."""
        self.engine.dispose()


def _build_pool_options(pool: PoolConfig, *, sqlite: bool) -> dict[str, Any]:
    """Return SQLAlchemy's engine options for a pool of MySQL connections; none for SQLite."""
    if sqlite:
        return {}
    return {
        "isolation_level": "READ COMMITTED",  # no gap locks; all rules here rely on row locks and unique keys
        "pool_pre_ping": True,
        "pool_size": pool.size,
        "max_overflow": pool.max_overflow,
        "pool_timeout": pool.timeout_s,
        "pool_recycle": pool.recycle_s,
    }


def _build_server_arguments(answer_within_s: int, trust: ssl.SSLContext | None) -> dict[str, Any]:
    """Return the MySQL driver's timeouts, in seconds, and its context for TLS, if it has one."""
    timeouts = {"connect_timeout": 5, "read_timeout": answer_within_s, "write_timeout": 30}
    return timeouts if trust is None else timeouts | {"ssl": trust}


def _require_tls(connection, _record) -> None:  # type: ignore[no-untyped-def]
    """Close a new MySQL connection that is not encrypted. Raises OperationalError then.

    Where the server, or somebody between, says that it has no TLS, the driver goes on without it.
    """
    if not connection._secure:
        connection.close()
        raise connection.OperationalError(2026, "the server offers no TLS")  # CR_SSL_CONNECTION_ERROR


def _configure_sqlite(connection, _record) -> None:  # type: ignore[no-untyped-def]
    """Set up a new SQLite connection: write-ahead log, foreign keys enforced, no transactions begun by the driver."""
    connection.isolation_level = None  # `_begin_sqlite_transaction` begins them
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _configure_mysql(connection, _record) -> None:  # type: ignore[no-untyped-def]
    """Set the lock timeouts of a new MySQL connection: for rows, and for tables that another session alters."""
    cursor = connection.cursor()
    cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_WAIT_S}, lock_wait_timeout = {LOCK_WAIT_S}")
    cursor.close()


def _begin_sqlite_transaction(connection: Connection) -> None:
    """Begin a transaction of SQLite, and take the write lock at once unless the connection only reads.

    A transaction that has read and writes later would fail, instead of waiting for the lock.
    """
    reads_only = connection.get_execution_options().get(_READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
