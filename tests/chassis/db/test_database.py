"""The database, on SQLite and on MariaDB: stored values are unchanged, and errors are translated correctly."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.pool import QueuePool
from structlog.testing import capture_logs

from chassis.db.database import LOCK_WAIT_S, TABLE_OPTIONS, Database, DatabaseSettings, PoolConfig, UtcDateTime
from chassis.errors import ContendedError, DatabaseUnavailableError, SettingsError
from chassis.settings import load_settings
from tests.ports import free_port

SCHEMA = MetaData()
NOTES = Table(
    "notes",
    SCHEMA,
    Column("name", String(20), primary_key=True),
    Column("number", Integer, nullable=False, default=0),
    Column("at", UtcDateTime, nullable=True),
    **TABLE_OPTIONS,
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    SCHEMA.create_all(made.engine)
    yield made
    made.close()


@pytest.fixture
def mariadb(mariadb_url: str) -> Iterator[Database]:
    made = Database(mariadb_url)
    SCHEMA.create_all(made.engine)
    yield made
    made.close()


def write(database: Database, *names: str) -> None:
    """Insert one row for each name."""
    with database.transaction() as session:
        session.execute(insert(NOTES), [{"name": name} for name in names])


def numbers(database: Database) -> dict[str, int]:
    """Return the number of each row, by name."""
    with database.transaction() as session:
        return {row.name: row.number for row in session.execute(select(NOTES))}


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 7, 1, 12, 30, 15, 123456, tzinfo=UTC),
        datetime(2026, 7, 1, 12, 30, 15, 999999, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
    ids=str,
)
def test_an_instant_is_stored_to_the_microsecond(database: Database, instant: datetime) -> None:
    """An instant is read in UTC, whatever its zone was, and a query for the instant finds its row."""
    with database.transaction() as session:
        session.execute(insert(NOTES).values(name="when", at=instant))
    with database.transaction() as session:
        found = session.scalars(select(NOTES.c.at).where(NOTES.c.at == instant)).one()
    assert found == instant
    assert found is not None
    assert found.utcoffset() == timedelta(0)


def test_a_naive_datetime_raises(database: Database) -> None:
    """The instant of a datetime without a zone is unknown."""
    with pytest.raises(StatementError, match="without a zone"), database.transaction() as session:
        session.execute(insert(NOTES).values(name="when", at=datetime(2026, 7, 1)))


def test_text_is_compared_character_by_character(database: Database) -> None:
    """Keys that differ only in case, accents or ligatures are different keys."""
    names = ["e", "é", "E", "e\u0301", "ss", "ß", "ae", "æ", "🙂", "🙃"]
    write(database, *names)
    with database.transaction() as session:
        for name in names:
            assert session.scalars(select(NOTES.c.name).where(NOTES.c.name == name)).all() == [name]


def test_a_transaction_commits_or_changes_nothing(database: Database) -> None:
    """Errors of the block pass through, the block's own as well as violations of the tables' constraints."""
    write(database, "kept")

    def fail() -> None:
        with database.transaction() as session:
            session.execute(insert(NOTES).values(name="never"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.execute(insert(NOTES), [{"name": "never"}, {"name": "kept"}])
    assert numbers(database) == {"kept": 0}


@pytest.mark.parametrize("place", ["sqlite:////nowhere/at/all.db", "mysql+pymysql://ann:hunter2@127.0.0.1:{port}/x"])
def test_an_unavailable_database_raises_without_the_drivers_text(place: str) -> None:
    """The error is transient; neither the error nor the log contains SQL, an address or a password."""
    database = Database(place.format(port=free_port()))
    assert not database.is_answering()
    with capture_logs() as logs, pytest.raises(DatabaseUnavailableError) as caught:
        numbers(database)
    assert caught.value.transient
    assert not isinstance(caught.value, ContendedError)
    assert logs[0]["event"] == "database.away"
    for unwanted in ("SELECT", "nowhere", "hunter2", "127.0.0.1"):
        assert unwanted not in f"{caught.value}{logs}"


def test_a_missing_table_counts_as_an_unavailable_database(database: Database) -> None:
    """The servers start before the schema is upgraded; MySQL's driver raises ProgrammingError."""
    SCHEMA.drop_all(database.engine)
    with pytest.raises(DatabaseUnavailableError):
        numbers(database)
    assert database.is_answering()


@pytest.mark.mariadb
def test_a_connection_that_the_server_has_closed_is_not_used(mariadb: Database) -> None:
    """The pool tests its connections before they are used, which helps after a restart of the server."""
    with mariadb.transaction() as session:
        mine = session.scalar(text("SELECT CONNECTION_ID()"))
    other = Database(mariadb.engine.url.render_as_string(hide_password=False))
    with other.transaction() as session:
        session.execute(text(f"KILL {mine}"))
    other.close()
    with mariadb.transaction() as session:
        assert session.scalar(text("SELECT CONNECTION_ID()")) != mine


@pytest.mark.mariadb
def test_a_connection_lost_in_a_transaction_counts_as_an_unavailable_database(mariadb: Database) -> None:
    """The transaction changes nothing, and the next transaction gets a new connection."""
    other = Database(mariadb.engine.url.render_as_string(hide_password=False))

    def change() -> None:
        with mariadb.transaction() as session:
            session.execute(insert(NOTES).values(name="never"))
            with other.transaction() as killing:
                killing.execute(text(f"KILL {session.scalar(text('SELECT CONNECTION_ID()'))}"))
            session.execute(insert(NOTES).values(name="never either"))

    with pytest.raises(DatabaseUnavailableError):
        change()
    other.close()
    assert numbers(mariadb) == {}


def open_with_short_lock_timeout(url: str) -> Database:
    """Open a database whose transactions wait at most a second for locks."""

    def shorten(connection, _record):  # type: ignore[no-untyped-def]
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10" if made.is_sqlite else "SET SESSION innodb_lock_wait_timeout = 1")
        cursor.close()

    made = Database(url)
    event.listen(made.engine, "connect", shorten)
    return made


def test_a_lock_that_is_not_granted_in_time_raises_contended_error(database: Database, database_url: str) -> None:
    """ContendedError is a DatabaseUnavailableError too, because the same may succeed later."""
    write(database, "wanted")
    other = open_with_short_lock_timeout(database_url)
    with database.transaction() as session:
        session.execute(update(NOTES).values(number=1))
        with capture_logs() as logs, pytest.raises(ContendedError) as caught, other.transaction() as waiting:
            waiting.execute(update(NOTES).values(number=2))
    other.close()
    assert caught.value.transient
    assert isinstance(caught.value, DatabaseUnavailableError)
    assert logs[0]["event"] == "database.contended"
    assert numbers(database) == {"wanted": 1}


@pytest.mark.mariadb
def test_a_deadlock_raises_contended_error_in_one_transaction(mariadb: Database) -> None:
    """MariaDB rolls one transaction back at once, and the other one commits."""
    write(mariadb, "a", "b")
    both_hold_one = threading.Barrier(2, timeout=60)
    outcomes: list[object] = []

    def change(first: str, second: str, number: int) -> None:
        try:
            with mariadb.transaction() as session:
                session.execute(update(NOTES).where(NOTES.c.name == first).values(number=number))
                both_hold_one.wait()
                session.execute(update(NOTES).where(NOTES.c.name == second).values(number=number))
        except ContendedError as error:
            outcomes.append(type(error))
        else:
            outcomes.append(number)

    threads = [threading.Thread(target=change, args=args) for args in (("a", "b", 1), ("b", "a", 2))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(outcomes) == 2
    assert ContendedError in outcomes
    (winner,) = (outcome for outcome in outcomes if outcome is not ContendedError)
    assert numbers(mariadb) == {"a": winner, "b": winner}


@pytest.mark.mariadb
def test_a_session_has_short_lock_timeouts_and_no_gap_locks(mariadb: Database) -> None:
    """Clients get an answer in time, and only existing rows are locked."""
    with mariadb.transaction() as session:
        waits = session.execute(text("SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout")).one()
        assert session.connection().get_isolation_level() == "READ COMMITTED"
    assert tuple(waits) == (LOCK_WAIT_S, LOCK_WAIT_S)


class Example(DatabaseSettings):
    """A service's settings."""


def test_the_pool_is_configured_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each option of the pool has a variable of its own."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://localhost/x")
    for name, value in (("POOL_SIZE", "3"), ("MAX_OVERFLOW", "0"), ("POOL_TIMEOUT", "1.5"), ("POOL_RECYCLE", "600")):
        monkeypatch.setenv(f"DATABASE_{name}", value)
    pool = load_settings(Example).build_database().engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool.timeout(), pool._recycle, pool._pre_ping) == (3, 0, 1.5, 600, True)


def test_invalid_options_of_the_pool_raise_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists every fault by its variable."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    wrong = {"POOL_SIZE": "0", "MAX_OVERFLOW": "-1", "POOL_TIMEOUT": "0", "POOL_RECYCLE": "never"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"DATABASE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(Example)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [f"DATABASE_{name}" for name in wrong]


@pytest.mark.mariadb
def test_an_exhausted_pool_counts_as_an_unavailable_database(mariadb_url: str) -> None:
    """A transaction waits for a free connection only as long as the settings allow."""
    database = Database(mariadb_url, PoolConfig(size=1, max_overflow=0, timeout_s=0.05))
    with database.transaction() as session:
        session.execute(text("SELECT 1"))
        assert not database.is_answering()
        with pytest.raises(DatabaseUnavailableError), database.transaction() as other:
            other.execute(text("SELECT 1"))
    assert database.is_answering()
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "oracle9://ann:hunter2@db/x", "mysql+pymysql://ann:hunter2@db"])
def test_an_invalid_url_raises_without_the_url(url: str) -> None:
    """The URL may contain a password."""
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


def test_a_reading_transaction_waits_for_no_writer(database: Database) -> None:
    """A reader sees only committed rows, and a writer does not wait for a reader either."""
    write(database, "before")
    with database.transaction() as writer:
        writer.execute(insert(NOTES), {"name": "meanwhile"})
        with database.reading() as reader:
            assert set(reader.scalars(select(NOTES.c.name))) == {"before"}
            assert database.is_answering()
    with database.reading() as reader:
        assert set(reader.scalars(select(NOTES.c.name))) == {"before", "meanwhile"}
        write(database, "after")
    assert set(numbers(database)) == {"before", "meanwhile", "after"}


def test_a_reading_transaction_translates_errors_too() -> None:
    """The error is the chassis' own, without the driver's text."""
    unavailable = Database("sqlite:////nowhere/at/all.db")
    with pytest.raises(DatabaseUnavailableError) as caught, unavailable.reading() as session:
        session.execute(select(NOTES))
    assert "nowhere" not in str(caught.value)


def test_many_threads_may_write_at_once(database: Database) -> None:
    """No thread gets an error, and no change is lost."""
    write(database, "shared")

    def add() -> None:
        for _ in range(10):
            with database.transaction() as session:
                session.execute(update(NOTES).values(number=NOTES.c.number + 1))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(database) == {"shared": 80}
