"""Notices of retired codes: each user with an interest is told once, whatever is repeated, killed or run twice."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from chassis.db.database import Database
from chassis.db.migrations import upgrade
from chassis.errors import ContendedError
from collector import retired_codes
from collector.model import InterestRow, RetiredNoticeRow
from collector.retired_codes import RetirementNotices
from domain import airports
from domain.airports import Airport, find_airport
from domain.interests import Direction
from tests.collector.conftest import ANN, BOB, CARL, NOON, Service, outbox, wish
from tests.collector.process import CollectorProcess
from tests.waiting import eventually
from towerwatch.notices.v1 import events_pb2 as notices_pb
from towerwatch.topics import NOTICES_RAISED, partition_of

RENAMED, CLOSED = "UAFM", "ZQZQ"


def add_interest(database: Database, airport: str, user_id: UUID, direction: str = "arrivals") -> UUID:
    """Store an interest as it was set while the table had its airport's code; return its id."""
    interest_id = uuid4()
    row = {"direction": direction, "window_length": "1h", "high": 5, "low": None, "for_windows": 1, "repeat": False}
    times = {"effective_from": NOON, "created_at": NOON, "updated_at": NOON}
    with database.transaction() as session:
        session.add(InterestRow(interest_id=interest_id, user_id=user_id, airport=airport, version=1, **row, **times))
    return interest_id


def list_told(database: Database) -> list[tuple[UUID, str, str]]:
    """Return user, code and successor of each notice in the outbox, sorted; all of them are of retired codes."""
    found = []
    for message in outbox(database, NOTICES_RAISED.name):
        notice = notices_pb.AirportUnheard.FromString(message.value or b"")
        assert notice.HasField("retired")
        assert not notice.HasField("since")
        assert (message.key, message.partition) == (
            notice.user_id.encode(),
            partition_of(notice.user_id, NOTICES_RAISED),
        )
        found.append((UUID(notice.user_id), notice.airport, notice.retired.successor))
    return sorted(found, key=str)


def test_each_user_is_told_once_for_each_code(service: Service) -> None:
    """With the code that leads on where it is known; several interests of a user are one notice; others get none."""
    database = service.database
    add_interest(database, RENAMED, ANN)
    add_interest(database, RENAMED, ANN, "departures")
    add_interest(database, CLOSED, ANN)
    add_interest(database, RENAMED, BOB)
    service.set(wish("KJFK", direction=Direction.BOTH), CARL)
    notices = RetirementNotices(database)
    assert notices.notify_users() == 3
    told = [(ANN, RENAMED, "UCFM"), (ANN, CLOSED, ""), (BOB, RENAMED, "UCFM")]
    assert list_told(database) == told
    assert [notices.notify_users() for _ in range(3)] == [0, 0, 0]
    add_interest(database, RENAMED, CARL)  # by a replica with the older table
    add_interest(database, RENAMED, BOB, "departures")
    assert notices.notify_users() == 1
    assert list_told(database) == [*told, (CARL, RENAMED, "UCFM")]


def test_many_users_are_told_in_several_transactions(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is left out and none is told twice."""
    monkeypatch.setattr(retired_codes, "_NOTIFY_AT_ONCE", 3)
    users = [uuid4() for _ in range(10)]
    for user_id in users:
        add_interest(service.database, RENAMED, user_id)
    assert RetirementNotices(service.database).notify_users() == 10
    assert sorted(user for user, _, _ in list_told(service.database)) == sorted(users)


def test_an_older_table_beside_the_new_one_repeats_no_notice(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an update rolls out, or after it was taken back, replicas have different tables."""
    add_interest(service.database, RENAMED, ANN)
    notices = RetirementNotices(service.database)
    known = {RENAMED: Airport(RENAMED, "Manas", "Bishkek", "UTC"), "KJFK": find_airport("KJFK")}
    for _ in range(3):
        notices.notify_users()
        with monkeypatch.context() as older:
            older.setattr(airports, "_load_airports", lambda: known)
            assert notices.notify_users() == 0
    assert list_told(service.database) == [(ANN, RENAMED, "UCFM")]


def test_a_mark_ends_with_the_interest(service: Service) -> None:
    """Who has removed it, and somehow has one again, is told again: that is another interest."""
    interest_id = add_interest(service.database, RENAMED, ANN)
    notices = RetirementNotices(service.database)
    assert notices.notify_users() == 1
    service.interests.remove(ANN, interest_id)
    assert notices.notify_users() == 0
    add_interest(service.database, RENAMED, ANN)
    assert notices.notify_users() == 1


def test_a_deleted_user_leaves_no_mark(service: Service) -> None:
    """The deletion of an account removes the marks in its own transaction."""
    add_interest(service.database, RENAMED, ANN)
    RetirementNotices(service.database).notify_users()
    service.interests.remove_all(ANN)
    with service.database.reading() as session:
        assert session.query(RetiredNoticeRow).count() == 0


def test_replicas_at_the_same_time_tell_each_user_once(service: Service) -> None:
    """Whoever stores the mark first has told; the other's transaction is rolled back with its notice."""
    users = [uuid4() for _ in range(20)]
    for user_id in users:
        add_interest(service.database, CLOSED, user_id)
    notices = RetirementNotices(service.database)

    def notify_until_done(_: int) -> None:
        for _ in range(5):
            with suppress(ContendedError):
                notices.notify_users()

    with ThreadPoolExecutor(4) as replicas:
        list(replicas.map(notify_until_done, range(4)))
    eventually(lambda: notices.notify_users() == 0)
    assert sorted(user for user, _, _ in list_told(service.database)) == sorted(users)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., CollectorProcess]]:
    """Return a function that starts a collector on a database; all are killed at the end of the test."""
    processes: list[CollectorProcess] = []

    def begin(url: str) -> CollectorProcess:
        processes.append(CollectorProcess(tmp_path, {"DATABASE_URL": url}))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()


def test_a_real_process_tells_at_its_start_and_not_again_after_kill_9(
    start: Callable[..., CollectorProcess], database_url: str
) -> None:
    """The first start after the update tells; later starts tell only whom nobody has told."""
    database = Database(database_url)
    upgrade(database, "collector:migrations")
    add_interest(database, RENAMED, ANN)
    for user_id in (ANN, BOB, CARL):
        if user_id != ANN:
            add_interest(database, CLOSED, user_id)
        process = start(database_url)
        eventually(lambda who=user_id: who in {user for user, _, _ in list_told(database)})
        process.kill()
    assert list_told(database) == [(ANN, RENAMED, "UCFM"), (BOB, CLOSED, ""), (CARL, CLOSED, "")]
    database.close()
