"""The check of the log by several replicas: what one has read is never compared with what another has read later."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping

import pytest
from aiokafka import TopicPartition

from chassis.db.database import Database
from chassis.log_identity import LogClients, LogIdentity
from chassis.metrics import Metrics, ServiceIdentity
from collector.event_log import watch as watch_module
from collector.event_log.comparison import find_differences, load_interests
from collector.event_log.watch import EventLogWatch
from collector.messages import encode_interest_set
from collector.model import OUTBOX, SCHEMA, EventLogRow
from tests.collector.conftest import ANN, Service, wish
from towerwatch.topics import CATALOGUE

TOPICS = {topic.name: "1" for topic in CATALOGUE}


@pytest.fixture(autouse=True)
def confirm_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loss be confirmed at once: no broker is just starting here."""
    monkeypatch.setattr("collector.event_log.watch._CONFIRM_AFTER_S", 0.0)


class ScriptedClients(LogClients):
    """Clients whose answers a test gives; it may do something while an answer is on its way."""

    def __init__(
        self, end: int, topics: Mapping[str, str] = TOPICS, meanwhile: Callable[[], None] | None = None
    ) -> None:
        """`end`: of the only partition that has records. `meanwhile`: called after the first answer was made."""
        super().__init__("nowhere:1")
        self.end = end
        self._topics = topics
        self._meanwhile = meanwhile

    async def fetch_identity(self, names: Iterable[str]) -> LogIdentity:
        return LogIdentity("cluster", self._topics)

    async def fetch_identity_with_ends(self, names: Iterable[str]) -> LogIdentity:
        found = LogIdentity("cluster", self._topics, {"alerts.raised.v1/10": self.end})
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            await asyncio.to_thread(meanwhile)
        return found

    async def fetch_ends(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 1)

    async def fetch_begins(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def fetch_committed(self, group: str, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}  # nobody has read anything, so nothing is noted as told


def check(database: Database, clients: LogClients) -> None:
    """Check the log once, as a replica of its own."""
    metrics = Metrics(ServiceIdentity("collector", "local"))
    watch = EventLogWatch(database, "nowhere:1", 1, 30.0, metrics)
    watch._clients = clients
    asyncio.run(watch._check())


def read_note(database: Database) -> tuple[bool, str]:
    """Return whether the log is being written anew, and the ends that are noted."""
    with database.reading() as session:
        row = session.get(EventLogRow, 1)
        assert row is not None
        return row.republishing, row.ends


def count_waiting(service: Service) -> int:
    """Return how many events wait in the outbox."""
    with service.database.reading() as session:
        return OUTBOX.count_unpublished(session)


def test_a_reading_that_another_replica_has_overtaken_is_no_loss(service: Service) -> None:
    """A replica that is slow, or was stopped, after it read how far the log reaches, does not take it for lost."""
    service.set(wish(), ANN)
    waiting = count_waiting(service)
    check(service.database, ScriptedClients(end=5))
    check(service.database, ScriptedClients(end=6, meanwhile=lambda: check(service.database, ScriptedClients(end=9))))
    assert read_note(service.database) == (False, '{"alerts.raised.v1/10": 9}')
    assert count_waiting(service) == waiting, "nothing is published again"


def test_a_reading_of_the_log_before_it_was_lost_undoes_nothing(service: Service) -> None:
    """Another replica has found the log lost meanwhile: the log that this one read is not taken for the next one."""
    check(service.database, ScriptedClients(end=5))
    anew = {**TOPICS, "alerts.raised.v1": "2"}
    check(
        service.database,
        ScriptedClients(end=5, meanwhile=lambda: check(service.database, ScriptedClients(end=0, topics=anew))),
    )
    assert read_note(service.database) == (True, '{"alerts.raised.v1/10": 0}')
    with service.database.reading() as session:
        row = session.get(EventLogRow, 1)
        assert row is not None
        assert '"alerts.raised.v1": "2"' in row.topics


def test_a_log_that_ends_before_what_was_noted_is_lost(service: Service) -> None:
    """The replica that has noted the end, and any other, finds the loss, also with a note of theirs in between."""
    check(service.database, ScriptedClients(end=5))
    check(service.database, ScriptedClients(end=9))
    check(service.database, ScriptedClients(end=7))
    assert read_note(service.database) == (True, '{"alerts.raised.v1/10": 7}')


@pytest.mark.parametrize("lost", [False, True])
def test_an_interest_that_is_changed_during_the_comparison_is_not_out_of_step(
    lost: bool, service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the look at the database and at the stream somebody changes an interest: its own event is published.

    An interest that the stream has lost is out of step, whatever else is changed meanwhile.
    """
    changed, other = service.set(wish("KJFK"), ANN), service.set(wish("LICC"), ANN)
    check(service.database, ScriptedClients(end=5))
    with service.database.reading() as session:
        stored = load_interests(session)
    service.interests.change(ANN, changed.interest_id, None, {"high": 9})
    with service.database.reading() as session:
        now = load_interests(session)
    known = {key: encode_interest_set(each).value or b"" for key, each in now.items()}
    if lost:
        del known[encode_interest_set(other).key]
    watch = EventLogWatch(service.database, "nowhere:1", 1, 30.0, Metrics(ServiceIdentity("collector", "local")))
    watch._note_comparison(find_differences(stored, known))
    with service.database.reading() as session:
        row = session.get(EventLogRow, 1)
        assert row is not None
        assert row.out_of_step == int(lost)
    assert ("interests.out_of_step" in capsys.readouterr().out) == lost


@pytest.mark.mariadb
def test_two_replicas_that_make_the_first_note_at_once(mariadb_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them makes it; the other goes on without an error, as it does if it comes later."""
    database = Database(mariadb_url)
    SCHEMA.create_all(database.engine)
    encode = watch_module._encode_identity

    def encode_after_the_other(row: EventLogRow, identity: LogIdentity) -> None:
        """Let the other replica make its note between this one's look at the table and its insertion."""
        monkeypatch.setattr(watch_module, "_encode_identity", encode)
        thread = threading.Thread(target=lambda: check(database, ScriptedClients(end=9)))
        thread.start()
        thread.join()
        encode(row, identity)

    monkeypatch.setattr(watch_module, "_encode_identity", encode_after_the_other)
    check(database, ScriptedClients(end=5))
    assert read_note(database) == (False, '{"alerts.raised.v1/10": 9}')
    database.close()
