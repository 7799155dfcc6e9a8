"""The database: what is stored comes back the same, and what goes wrong is said as what it is; on every database."""

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
    with database.transaction() as session:
        session.execute(insert(NOTES), [{"name": name} for name in names])


def numbers(database: Database) -> dict[str, int]:
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
def test_an_instant_comes_back_to_the_microsecond(database: Database, instant: datetime) -> None:
    """In UTC, from whatever zone; and it is found by itself."""
    with database.transaction() as session:
        session.execute(insert(NOTES).values(name="when", at=instant))
    with database.transaction() as session:
        found = session.scalars(select(NOTES.c.at).where(NOTES.c.at == instant)).one()
    assert found == instant
    assert found is not None
    assert found.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    """Nobody could say which instant it is."""
    with pytest.raises(StatementError, match="without a zone"), database.transaction() as session:
        session.execute(insert(NOTES).values(name="when", at=datetime(2026, 7, 1)))


def test_text_is_compared_letter_by_letter(database: Database) -> None:
    """Neither case nor accents nor ligatures make two keys one."""
    names = ["e", "é", "E", "e\u0301", "ss", "ß", "ae", "æ", "🙂", "🙃"]
    write(database, *names)
    with database.transaction() as session:
        for name in names:
            assert session.scalars(select(NOTES.c.name).where(NOTES.c.name == name)).all() == [name]


def test_a_transaction_commits_or_changes_nothing(database: Database) -> None:
    """What raises in it passes on, whether ours or a broken rule of the tables."""
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
def test_a_database_that_is_away_is_said_without_its_text(place: str) -> None:
    """Transient, and without SQL, address or password; also in the log."""
    database = Database(place.format(port=free_port()))
    assert not database.is_answering()
    with capture_logs() as logs, pytest.raises(DatabaseUnavailableError) as caught:
        numbers(database)
    assert caught.value.transient
    assert not isinstance(caught.value, ContendedError)
    assert logs[0]["event"] == "database.away"
    for unwanted in ("SELECT", "nowhere", "hunter2", "127.0.0.1"):
        assert unwanted not in f"{caught.value}{logs}"


def test_tables_that_are_not_made_yet_are_a_database_that_is_away(database: Database) -> None:
    """The servers do not wait for the schema; MySQL's driver calls it our programming error."""
    SCHEMA.drop_all(database.engine)
    with pytest.raises(DatabaseUnavailableError):
        numbers(database)
    assert database.is_answering()


@pytest.mark.mariadb
def test_a_connection_that_the_server_has_closed_is_not_used(mariadb: Database) -> None:
    """As after a restart of the server: those in the pool are looked at before they are used."""
    with mariadb.transaction() as session:
        mine = session.scalar(text("SELECT CONNECTION_ID()"))
    other = Database(mariadb.engine.url.render_as_string(hide_password=False))
    with other.transaction() as session:
        session.execute(text(f"KILL {mine}"))
    other.close()
    with mariadb.transaction() as session:
        assert session.scalar(text("SELECT CONNECTION_ID()")) != mine


@pytest.mark.mariadb
def test_a_connection_lost_in_a_transaction_is_a_database_that_is_away(mariadb: Database) -> None:
    """Nothing of it was changed, and the next transaction has a connection."""
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


def impatient(url: str) -> Database:
    """One that does not wait long for what others have locked."""

    def shorten(connection, _record):  # type: ignore[no-untyped-def]
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 10" if made.is_sqlite else "SET SESSION innodb_lock_wait_timeout = 1")
        cursor.close()

    made = Database(url)
    event.listen(made.engine, "connect", shorten)
    return made


def test_who_waits_too_long_for_anothers_row_is_told_so(database: Database, database_url: str) -> None:
    """That is no database that is away, though it may be handled like one: the same may succeed later."""
    write(database, "wanted")
    other = impatient(database_url)
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
def test_of_two_that_wait_for_each_other_one_gives_way_at_once(mariadb: Database) -> None:
    """A deadlock: the other one commits."""
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
def test_a_session_waits_for_locks_for_seconds_and_takes_none_of_gaps(mariadb: Database) -> None:
    """So that who asked gets an answer, and only rows that exist are locked."""
    with mariadb.transaction() as session:
        waits = session.execute(text("SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout")).one()
        assert session.connection().get_isolation_level() == "READ COMMITTED"
    assert tuple(waits) == (LOCK_WAIT_S, LOCK_WAIT_S)


class Example(DatabaseSettings):
    """A service's settings."""


def test_the_pool_is_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable each."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("DATABASE_URL", "mysql+pymysql://localhost/x")
    for name, value in (("POOL_SIZE", "3"), ("MAX_OVERFLOW", "0"), ("POOL_TIMEOUT", "1.5"), ("POOL_RECYCLE", "600")):
        monkeypatch.setenv(f"DATABASE_{name}", value)
    pool = load_settings(Example).build_database().engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool.timeout(), pool._recycle, pool._pre_ping) == (3, 0, 1.5, 600, True)


def test_a_pool_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fault at once, by its variable."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "localhost:9092")
    monkeypatch.setenv("DATABASE_URL", "sqlite://")
    wrong = {"POOL_SIZE": "0", "MAX_OVERFLOW": "-1", "POOL_TIMEOUT": "0", "POOL_RECYCLE": "never"}
    for name, value in wrong.items():
        monkeypatch.setenv(f"DATABASE_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings(Example)
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [f"DATABASE_{name}" for name in wrong]


@pytest.mark.mariadb
def test_an_exhausted_pool_is_a_database_that_is_away(mariadb_url: str) -> None:
    """After the time that the settings give; it is no reason to wait for ever."""
    database = Database(mariadb_url, PoolConfig(size=1, max_overflow=0, timeout_s=0.05))
    with database.transaction() as session:
        session.execute(text("SELECT 1"))
        assert not database.is_answering()
        with pytest.raises(DatabaseUnavailableError), database.transaction() as other:
            other.execute(text("SELECT 1"))
    assert database.is_answering()
    database.close()


@pytest.mark.parametrize("url", ["nonsense", "oracle9://ann:hunter2@db/x", "mysql+pymysql://ann:hunter2@db"])
def test_a_url_that_is_none_is_said_without_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)


def test_who_only_reads_waits_for_no_writer(database: Database) -> None:
    """And sees what was committed, not what is being written; nor does the writer wait for who still reads."""
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


def test_reading_says_what_goes_wrong_as_a_transaction_does() -> None:
    """An error of ours, without the driver's text."""
    away = Database("sqlite:////nowhere/at/all.db")
    with pytest.raises(DatabaseUnavailableError) as caught, away.reading() as session:
        session.execute(select(NOTES))
    assert "nowhere" not in str(caught.value)


def test_all_threads_get_their_turn_to_write(database: Database) -> None:
    """However many write at once, none is refused and no change is lost."""
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
