"""The outbox: nothing is skipped, whatever crashes and in whatever order transactions commit."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import MetaData, delete, event, insert, update

from chassis.db.database import Database
from chassis.db.outbox import (
    LEASE_S,
    MAX_ROUND_ROWS,
    Backlog,
    LeaseEndingError,
    Outbox,
    OutboxMessage,
    Sequence,
    SequencedMessage,
    publish,
)

NOW = 1_360_713_600.0
"""Some instant, in seconds since the epoch."""


def message(text: str) -> OutboxMessage:
    """A message that is recognised by its value."""
    return OutboxMessage("events.v1", 0, b"key", text.encode())


def values(claimed: list[SequencedMessage]) -> list[str]:
    return [(each.message.value or b"").decode() for each in claimed]


class Relay:
    """One relay's view of an outbox, each step in a transaction of its own."""

    def __init__(self, database: Database, outbox: Outbox, owner: str) -> None:
        self._database = database
        self._outbox = outbox
        self._owner = owner

    def claim(self, now: float = NOW) -> list[SequencedMessage]:
        with self._database.transaction() as session:
            return self._outbox.claim_messages(session, self._owner, now)

    def release(self) -> None:
        with self._database.transaction() as session:
            self._outbox.release_lease(session, self._owner)

    def forget(self, published: list[SequencedMessage]) -> None:
        with self._database.transaction() as session:
            self._outbox.delete_published(session, published)


class Service:
    """A service that writes events, and its relays."""

    def __init__(self, url: str) -> None:
        schema = MetaData()
        self.outbox = Outbox(schema)
        self.database = Database(url)
        schema.create_all(self.database.engine)

    def write(self, *texts: str) -> None:
        with self.database.transaction() as session:
            self.outbox.add(session, [message(text) for text in texts])

    def commit_with_id(self, row: int, text: str) -> None:
        """A transaction that got this id commits now, as where the database hands ids out before the commit."""
        with self.database.transaction() as session:
            made = message(text)
            session.execute(
                insert(self.outbox.rows).values(
                    id=row, topic=made.topic, partition=made.partition, key=made.key, value=made.value
                )
            )

    def relay(self, owner: str = "one") -> Relay:
        return Relay(self.database, self.outbox, owner)

    def backlog(self) -> int:
        with self.database.transaction() as session:
            return self.outbox.count_unpublished(session)


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    made = Service(database_url)
    yield made
    made.database.close()


def test_events_are_claimed_in_the_order_in_which_they_were_written(service: Service) -> None:
    """Each gets the next number, once, and is gone after it was published."""
    service.write("a", "b")
    service.write("c")
    relay = service.relay()
    claimed = relay.claim()
    assert values(claimed) == ["a", "b", "c"]
    first = claimed[0].sequence
    assert [each.sequence for each in claimed] == [first, first + 1, first + 2]
    relay.forget(claimed)
    assert relay.claim() == []
    service.write("d")
    assert [each.sequence for each in relay.claim()] == [first + 3]


def test_a_transaction_that_fails_leaves_no_event(service: Service) -> None:
    """The event and the change it tells of are one transaction."""

    def change() -> None:
        with service.database.transaction() as session:
            service.outbox.add(session, [message("never")])
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        change()
    assert service.backlog() == 0


def test_a_repeat_after_a_crash_bears_the_same_numbers(service: Service) -> None:
    """Published or not, what was numbered is published again as it was, before and apart from what came later."""
    service.write("a", "b")
    crashed = service.relay("crashed").claim()
    service.write("c")
    successor = service.relay("successor")
    repeated = successor.claim(NOW + LEASE_S + 1)
    assert repeated == crashed
    successor.forget(repeated)
    assert values(successor.claim(NOW + LEASE_S + 2)) == ["c"]


def test_a_transaction_that_commits_late_is_published_late_and_not_lost(service: Service) -> None:
    """Ids are handed out before the commit: the smaller one may turn up after the greater one was published."""
    relay = service.relay()
    service.commit_with_id(2, "fast")
    fast = relay.claim()
    relay.forget(fast)
    service.commit_with_id(1, "slow")
    slow = relay.claim()
    assert (values(fast), values(slow)) == (["fast"], ["slow"])
    assert slow[0].sequence > fast[0].sequence


def test_a_second_relay_claims_nothing_while_the_lease_holds(service: Service) -> None:
    """One at a time: the lease is renewed by each claim, and a relay that is silent for too long has lost it."""
    service.write("a")
    one, two = service.relay("one"), service.relay("two")
    assert values(one.claim(NOW)) == ["a"]
    assert two.claim(NOW + LEASE_S - 1) == []
    assert values(one.claim(NOW + LEASE_S - 1)) == ["a"]
    assert two.claim(NOW + LEASE_S + 1) == []
    assert values(two.claim(NOW + 2 * LEASE_S)) == ["a"]


def test_a_lease_that_is_given_up_is_free_at_once(service: Service) -> None:
    """After an orderly stop nobody waits; and nobody gives up what is another's."""
    service.write("first")
    service.relay("one").claim()
    service.relay("two").release()
    assert service.relay("two").claim() == []
    service.relay("one").release()
    assert values(service.relay("two").claim()) == ["first"]


def test_a_relay_that_was_overtaken_deletes_nothing_of_its_successor(service: Service) -> None:
    """A relay may stall for longer than its lease; ids may be used again meanwhile, sequences never are."""
    service.write("a")
    stalled = service.relay("stalled")
    late = stalled.claim(NOW)
    successor = service.relay("successor")
    successor.forget(successor.claim(NOW + LEASE_S + 1))
    service.write("b")
    stalled.forget(late)
    assert values(successor.claim(NOW + LEASE_S + 2)) == ["b"]


def test_a_new_database_numbers_above_the_one_before_it(service: Service) -> None:
    """Readers drop what is not above the last sequence, and the topics outlive a database that was lost."""
    relay = service.relay()
    service.write("a")
    before = relay.claim(NOW)
    relay.forget(before)
    with service.database.transaction() as session:
        session.execute(delete(service.outbox.relay))
    service.write("b")
    assert relay.claim(NOW + 1)[0].sequence > before[-1].sequence


def test_a_round_is_bounded(service: Service) -> None:
    """A backlog of any size is published in rounds, each in order."""
    service.write(*(str(number) for number in range(MAX_ROUND_ROWS + 3)))
    relay = service.relay()
    first = relay.claim()
    relay.forget(first)
    assert len(first) == MAX_ROUND_ROWS
    assert values(relay.claim()) == [str(MAX_ROUND_ROWS + number) for number in range(3)]


def test_a_tombstone_is_no_empty_value(service: Service) -> None:
    """Compaction removes a key on a null value only."""
    with service.database.transaction() as session:
        service.outbox.add(
            session, [OutboxMessage("events.v1", 3, b"key", None), OutboxMessage("events.v1", 3, b"key", b"")]
        )
    assert [each.message.value for each in service.relay().claim()] == [None, b""]


@pytest.mark.parametrize("size", [1 << 10, 1 << 20], ids=["1 KiB", "1 MiB"])
def test_a_value_comes_back_as_it_was(service: Service, size: int) -> None:
    """Any bytes, and more than the 64 KiB that MySQL's plain BLOB takes."""
    value = bytes(range(256)) * (size // 256)
    with service.database.transaction() as session:
        service.outbox.add(session, [OutboxMessage("events.v1", 0, value[:512], value)])
    (claimed,) = service.relay().claim()
    assert (claimed.message.key, claimed.message.value) == (value[:512], value)


def test_the_age_of_the_oldest_event_is_measured(service: Service) -> None:
    """With the backlog; an event from before ages were recorded has none."""
    with service.database.transaction() as session:
        assert service.outbox.measure_backlog(session, NOW) == Backlog(0, 0.0)
    before = time.time()
    service.write("a", "b")
    with service.database.transaction() as session:
        measured = service.outbox.measure_backlog(session, time.time() + 60)
    assert measured.events == 2
    assert 60 <= measured.oldest_age_s <= 61 + time.time() - before
    with service.database.transaction() as session:
        session.execute(update(service.outbox.rows).values(added_at=None))
        assert service.outbox.measure_backlog(session, time.time()) == Backlog(2, 0.0)


def test_no_step_of_the_relay_reads_the_whole_backlog(service: Service) -> None:
    """A million events wait after an hour: what is numbered, published and deleted is found by its key."""
    relay = service.relay()
    service.write(*map(str, range(MAX_ROUND_ROWS)))
    claimed = relay.claim()
    for _ in range(10):
        service.write(*map(str, range(MAX_ROUND_ROWS)))
    statements: list[tuple[str, object]] = []

    def remember(_connection, _cursor, statement, parameters, *_):  # type: ignore[no-untyped-def]
        if statement.split()[0] in ("SELECT", "DELETE") and "outbox_relay" not in statement:
            statements.append((statement, parameters))

    event.listen(service.database.engine, "before_cursor_execute", remember)
    relay.forget(claimed)
    relay.claim()
    event.remove(service.database.engine, "before_cursor_execute", remember)
    assert len(statements) >= 4
    with service.database.engine.connect() as connection:
        if not service.database.is_sqlite:
            connection.exec_driver_sql("ANALYZE TABLE outbox").close()
        for statement, parameters in statements:
            if service.database.is_sqlite:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                # A scan along an index that ends with its limit reads no more than that.
                assert all("SEARCH" in row[-1] or ("SCAN" in row[-1] and "LIMIT" in statement) for row in plan), plan
                assert not any("TEMP B-TREE" in row[-1] for row in plan), plan
            else:
                (row,) = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).mappings()
                assert row["type"] in ("range", "ref", "index"), (statement, dict(row))
                assert "filesort" not in (row["Extra"] or "")
                assert row["type"] != "index" or "LIMIT" in statement


class FakeBatch:
    """Holds three records."""

    def __init__(self) -> None:
        self._records = 0

    def append(self, **_record: object) -> object | None:
        if self._records == 3:
            return None
        self._records += 1
        return self

    def record_count(self) -> int:
        return self._records


class FakeProducer:
    """Acknowledges what is sent, each batch after three seconds."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.batches = 0

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.batches += 1
        self.clock[0] += 3.0
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def test_no_batch_is_sent_when_the_lease_may_end_before_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each looks at the clock before it is sent; what is left is for the next round."""
    clock = [100.0]
    monkeypatch.setattr("chassis.db.outbox.time.monotonic", lambda: clock[0])
    rows = [SequencedMessage(Sequence(number), OutboxMessage("events.v1", 0, b"", b"")) for number in range(20)]
    producer = FakeProducer(clock)
    with pytest.raises(LeaseEndingError):
        asyncio.run(publish(producer, rows, send_before=106.0))  # type: ignore[arg-type]
    assert producer.batches == 3


def test_writers_and_relays_at_the_same_time_lose_nothing(service: Service) -> None:
    """Neither wait for ever nor give way to each other (a deadlock would raise): each writer's events, in its order."""
    service.write("first")  # the row of the relays is there
    service.relay("one").claim()
    published: list[SequencedMessage] = []
    failures: list[BaseException] = []
    writing = threading.Event()

    def write(writer: str) -> None:
        for number in range(25):
            service.write(f"{writer}{number:02}")

    def publish(owner: str) -> None:
        relay = service.relay(owner)
        while writing.is_set() or service.backlog():
            claimed = relay.claim()
            published.extend(claimed)
            relay.forget(claimed)
            relay.release()

    def kept(act: Callable[[str], None], name: str) -> None:
        try:
            act(name)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    writing.set()
    writers = [threading.Thread(target=kept, args=(write, name)) for name in "abc"]
    relays = [threading.Thread(target=kept, args=(publish, name)) for name in ("one", "two")]
    for thread in writers + relays:
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in relays:
        thread.join()
    assert failures == []
    in_order = values(sorted(published, key=lambda each: each.sequence))
    assert len(set(in_order)) == len(in_order) == 1 + 3 * 25
    for name in "abc":
        assert [text for text in in_order if text[0] == name and text != "first"] == [
            f"{name}{n:02}" for n in range(25)
        ]


class OutboxMachine(RuleBasedStateMachine):
    """Writers, and relays that publish, crash, stall and overtake each other, in any order.

    The topic is what a reader keeps who drops all that is not above the last sequence: it must be what was written.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.service = Service(url)
        with self.service.database.transaction() as session:
            session.execute(delete(self.service.outbox.rows))
            session.execute(delete(self.service.outbox.relay))
        self.now = NOW
        self.written: list[str] = []
        self.read: list[str] = []
        self.last_read = 0
        self.in_flight: dict[str, list[SequencedMessage]] = {}

    @rule(count=st.integers(1, 3))
    def write(self, count: int) -> None:
        texts = [str(len(self.written) + index) for index in range(count)]
        self.service.write(*texts)
        self.written += texts

    @rule(owner=st.sampled_from("ab"))
    def claim(self, owner: str) -> None:
        self.in_flight[owner] = self.service.relay(owner).claim(self.now)

    @rule(owner=st.sampled_from("ab"), acknowledged=st.booleans())
    def publish(self, owner: str, acknowledged: bool) -> None:
        """Without an acknowledgement the relay died in between: the broker has it, the outbox too."""
        published = self.in_flight.pop(owner, [])
        for each in published:
            if each.sequence > self.last_read:
                self.read.append(values([each])[0])
                self.last_read = each.sequence
        if acknowledged:
            self.service.relay(owner).forget(published)

    @rule(owner=st.sampled_from("ab"))
    def crash(self, owner: str) -> None:
        self.in_flight.pop(owner, None)

    @rule(seconds=st.sampled_from([1.0, LEASE_S + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_was_read_is_a_beginning_of_what_was_written(self) -> None:
        assert self.read == self.written[: len(self.read)]

    def teardown(self) -> None:
        for _ in range(2):  # a crashed round, then the rest
            self.wait(LEASE_S + 1)
            self.claim("a")
            self.publish("a", acknowledged=True)
        assert self.read == self.written
        self.service.database.close()


def test_readers_see_what_was_written_whatever_happens_to_relays() -> None:
    """In memory: thousands of transactions on a file take minutes."""
    run_state_machine_as_test(
        lambda: OutboxMachine("sqlite://"), settings=settings(max_examples=60, stateful_step_count=30)
    )


@pytest.mark.mariadb
def test_readers_see_what_was_written_whatever_happens_to_relays_on_mariadb(mariadb_url: str) -> None:
    """Ids, locks and deletions are others there."""
    run_state_machine_as_test(
        lambda: OutboxMachine(mariadb_url), settings=settings(max_examples=20, stateful_step_count=30)
    )
