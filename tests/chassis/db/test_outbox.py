"""The outbox: no event is skipped, whatever crashes and in whatever order transactions commit."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import delete, event, update

from chassis.db.outbox import (
    LEASE_S,
    MAX_ROUND_ROWS,
    Backlog,
    OutboxMessage,
    Sequence,
    SequencedMessage,
)
from chassis.db.outbox_relay import LeaseEndingError, publish
from tests.chassis.db.outbox_service import NOW, Service, message, values


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    made = Service(database_url)
    yield made
    made.database.close()


def test_events_are_claimed_in_the_order_in_which_they_were_written(service: Service) -> None:
    """Each event gets the next sequence once, and is deleted after it was published."""
    service.write("a", "b")
    service.write("c")
    relay = service.relay()
    claimed = relay.claim()
    assert values(claimed) == ["a", "b", "c"]
    first = claimed[0].sequence
    assert [each.sequence for each in claimed] == [first, first + 1, first + 2]
    relay.delete(claimed)
    assert relay.claim() == []
    service.write("d")
    assert [each.sequence for each in relay.claim()] == [first + 3]


def test_a_transaction_that_fails_adds_no_event(service: Service) -> None:
    """An event is committed together with the change that it reports."""

    def change() -> None:
        with service.database.transaction() as session:
            service.outbox.add(session, [message("never")])
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        change()
    assert service.backlog() == 0


def test_listeners_are_called_after_a_commit_that_gives_work_and_only_then(service: Service) -> None:
    """A listener can read the events that it is called for; a rollback, a read and an empty addition call none."""
    seen: list[int] = []

    def count() -> None:
        """Note how many events another transaction sees at the moment of the call."""
        with service.database.reading() as session:
            seen.append(service.outbox.count_unpublished(session))

    def add_and_fail() -> None:
        """Add an event in a transaction that is rolled back."""
        with service.database.transaction() as session:
            service.outbox.add(session, [message("never")])
            raise ZeroDivisionError

    with service.outbox.listening(count):
        with pytest.raises(ZeroDivisionError):
            add_and_fail()
        with service.database.transaction() as session:
            service.outbox.add(session, [])
        with service.database.reading() as session:
            service.outbox.count_unpublished(session)
        assert seen == []
        with service.database.transaction() as session:
            service.outbox.add_barrier(session)
            service.outbox.add(session, [message("a")])
            assert seen == []
        assert seen == [2]
        with service.database.transaction() as session:
            service.outbox.remove_barriers(session)
        assert seen == [2, 1]
    service.write("b")
    assert seen == [2, 1]


def test_a_round_that_leaves_nothing_ends_the_lease_of_its_owner_alone(service: Service) -> None:
    """While events remain the relay keeps its lease; after the last, and before a barrier, the next takes it at once.

    A relay that has lost its lease ends nobody's.
    """
    service.write(*map(str, range(MAX_ROUND_ROWS + 1)))
    first = service.relay("one").claim()
    service.relay("one").end(first)
    assert not service.relay("two").claim()
    service.relay("one").end(service.relay("one").claim())
    service.write("a")
    with service.database.transaction() as session:
        service.outbox.add_barrier(session)
    mine = service.relay("two").claim()
    assert values(mine) == ["a"]
    service.relay("one").end(first)
    service.write("b")
    assert not service.relay("one").claim()
    service.relay("two").end(mine)
    with service.database.transaction() as session:
        service.outbox.remove_barriers(session)
    assert values(service.relay("one").claim()) == ["b"]


def test_a_round_that_is_repeated_after_a_crash_has_the_same_sequences(service: Service) -> None:
    """Messages with a sequence are published again unchanged, before later messages and in a round of their own."""
    service.write("a", "b")
    crashed = service.relay("crashed").claim()
    service.write("c")
    successor = service.relay("successor")
    assert successor.claim(NOW) == []
    repeated = successor.claim(NOW + LEASE_S + 1)
    assert repeated == crashed
    successor.delete(repeated)
    assert values(successor.claim(NOW + LEASE_S + 2)) == ["c"]


def test_an_event_that_commits_late_is_published_late_and_not_lost(service: Service) -> None:
    """Ids are assigned before the commit, so a smaller id may become visible after a greater one was published."""
    relay = service.relay()
    service.commit_with_id(2, "fast")
    fast = relay.claim()
    relay.delete(fast)
    service.commit_with_id(1, "slow")
    slow = relay.claim()
    assert (values(fast), values(slow)) == (["fast"], ["slow"])
    assert slow[0].sequence > fast[0].sequence


def test_a_second_relay_claims_nothing_while_the_lease_holds(service: Service) -> None:
    """Each claim renews the lease; a relay that does not renew it in time has lost it."""
    service.write("a")
    one, two = service.relay("one"), service.relay("two")
    assert values(one.claim(NOW)) == ["a"]
    assert two.claim(NOW + LEASE_S - 1) == []
    assert values(one.claim(NOW + LEASE_S - 1)) == ["a"]
    assert two.claim(NOW + LEASE_S + 1) == []
    assert two.claim(NOW + 2 * LEASE_S) == []
    assert values(two.claim(NOW + 2 * LEASE_S + 1)) == ["a"]


@pytest.mark.parametrize("off_s", [-400 * 86_400.0, -8 * 3600.0, 8 * 3600.0, 400 * 86_400.0])
def test_a_wrong_wall_clock_neither_takes_a_lease_nor_waits_for_one(service: Service, off_s: float) -> None:
    """A lease lapses after the observer's own 15 seconds without a renewal, whatever the two wall clocks show.

    By the stored instant, a relay with a clock ahead took a lease that was being renewed, and one whose clock was set
    back by 8 h after a crash published nothing for 8 h.
    """
    service.write("a")
    holder, other = service.relay("holder"), service.relay("other")
    assert values(holder.claim(NOW)) == ["a"]
    for second in range(1, 40):
        assert other.claim(NOW + second, NOW + second + off_s) == []
        assert values(holder.claim(NOW + second, NOW)) == ["a"], "its own clock stands"
    crashed_at = NOW + 40
    assert other.claim(crashed_at, crashed_at + off_s) == []
    assert other.claim(crashed_at + LEASE_S - 1, crashed_at + off_s) == []
    assert values(other.claim(crashed_at + LEASE_S, crashed_at + off_s)) == ["a"]
    assert holder.claim(crashed_at + LEASE_S + 1) == []


def test_a_released_lease_is_free_at_once(service: Service) -> None:
    """After an orderly stop no relay waits; a relay cannot release another relay's lease."""
    service.write("first")
    service.relay("one").claim()
    service.relay("two").release()
    assert service.relay("two").claim() == []
    service.relay("one").release()
    assert values(service.relay("two").claim()) == ["first"]


def test_a_relay_that_lost_its_lease_deletes_no_unpublished_event(service: Service) -> None:
    """While a relay stalls for longer than its lease, row ids may be reused; sequences never are."""
    service.write("a")
    stalled = service.relay("stalled")
    late = stalled.claim(NOW)
    successor = service.relay("successor")
    assert successor.claim(NOW) == []
    successor.delete(successor.claim(NOW + LEASE_S + 1))
    service.write("b")
    stalled.delete(late)
    assert values(successor.claim(NOW + LEASE_S + 2)) == ["b"]


def test_the_sequences_of_a_new_database_are_above_those_of_the_one_before(service: Service) -> None:
    """The topics outlive a lost database, and readers drop records that are not above the last sequence."""
    relay = service.relay()
    service.write("a")
    before = relay.claim(NOW)
    relay.delete(before)
    with service.database.transaction() as session:
        session.execute(delete(service.outbox.relay))
    service.write("b")
    assert relay.claim(NOW + 1)[0].sequence > before[-1].sequence


def test_a_round_has_a_maximum_of_rows(service: Service) -> None:
    """A backlog of any size is published in several rounds, in order."""
    service.write(*(str(number) for number in range(MAX_ROUND_ROWS + 3)))
    relay = service.relay()
    first = relay.claim()
    relay.delete(first)
    assert len(first) == MAX_ROUND_ROWS
    assert values(relay.claim()) == [str(MAX_ROUND_ROWS + number) for number in range(3)]


def test_a_tombstone_differs_from_an_empty_value(service: Service) -> None:
    """Compaction removes a key only because of a null value."""
    with service.database.transaction() as session:
        service.outbox.add(
            session, [OutboxMessage("events.v1", 3, b"key", None), OutboxMessage("events.v1", 3, b"key", b"")]
        )
    assert [each.message.value for each in service.relay().claim()] == [None, b""]


@pytest.mark.parametrize("size", [1 << 10, 1 << 20], ids=["1 KiB", "1 MiB"])
def test_keys_and_values_are_stored_unchanged(service: Service, size: int) -> None:
    """Values may be any bytes, and longer than the 64 KiB of MySQL's plain BLOB."""
    value = bytes(range(256)) * (size // 256)
    with service.database.transaction() as session:
        service.outbox.add(session, [OutboxMessage("events.v1", 0, value[:512], value)])
    (claimed,) = service.relay().claim()
    assert (claimed.message.key, claimed.message.value) == (value[:512], value)


def test_the_age_of_the_oldest_event_is_measured(service: Service) -> None:
    """The age is measured together with the backlog; an event without a time counts as new."""
    with service.database.transaction() as session:
        assert service.outbox.measure_backlog(session, NOW) == Backlog(0, 0.0)
    before = time.time()
    service.write("a", "b")
    with service.database.transaction() as session:
        backlog = service.outbox.measure_backlog(session, time.time() + 60)
    assert backlog.events == 2
    assert 60 <= backlog.oldest_age_s <= 61 + time.time() - before
    with service.database.transaction() as session:
        session.execute(update(service.outbox.rows).values(added_at=None))
        assert service.outbox.measure_backlog(session, time.time()) == Backlog(2, 0.0)


def test_no_step_of_the_relay_reads_the_whole_backlog(service: Service) -> None:
    """After an outage a million rows may wait: the relay finds the rows of a round by an index."""
    relay = service.relay()
    service.write(*map(str, range(MAX_ROUND_ROWS)))
    claimed = relay.claim()
    for _ in range(10):
        service.write(*map(str, range(MAX_ROUND_ROWS)))
    statements: list[tuple[str, object]] = []

    def record_statement(_connection, _cursor, statement, parameters, *_):  # type: ignore[no-untyped-def]
        if statement.split()[0] in ("SELECT", "DELETE") and "outbox_relay" not in statement:
            statements.append((statement, parameters))

    event.listen(service.database.engine, "before_cursor_execute", record_statement)
    relay.delete(claimed)
    relay.claim()
    event.remove(service.database.engine, "before_cursor_execute", record_statement)
    assert len(statements) >= 4
    with service.database.engine.connect() as connection:
        if not service.database.is_sqlite:
            connection.exec_driver_sql("ANALYZE TABLE outbox").close()
        for statement, parameters in statements:
            if service.database.is_sqlite:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
                # A scan along an index with a limit reads no more rows than the limit.
                assert all("SEARCH" in row[-1] or ("SCAN" in row[-1] and "LIMIT" in statement) for row in plan), plan
                assert not any("TEMP B-TREE" in row[-1] for row in plan), plan
            else:
                (row,) = connection.exec_driver_sql(f"EXPLAIN FORMAT=TRADITIONAL {statement}", parameters).mappings()
                assert row["type"] in ("range", "ref", "index"), (statement, dict(row))
                assert "filesort" not in (row["Extra"] or "")
                assert row["type"] != "index" or "LIMIT" in statement


class FakeBatch:
    """A batch that holds at most three records."""

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
    """A producer that acknowledges each batch after three seconds of a fake clock."""

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.batches = 0

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, batch: FakeBatch, topic: str, *, partition: int) -> asyncio.Future[None]:
        """Count the batch and return its acknowledgement."""
        self.batches += 1
        self.clock[0] += 3.0
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def test_no_batch_is_sent_when_the_lease_may_end_before_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is checked before each batch; the remaining batches are left to the next round."""
    clock = [100.0]
    monkeypatch.setattr("chassis.db.outbox_relay.time.monotonic", lambda: clock[0])
    rows = [SequencedMessage(Sequence(number), OutboxMessage("events.v1", 0, b"", b"")) for number in range(20)]
    producer = FakeProducer(clock)
    with pytest.raises(LeaseEndingError):
        asyncio.run(publish(producer, rows, send_before=106.0))  # type: ignore[arg-type]
    assert producer.batches == 3


def test_concurrent_writers_and_relays_lose_no_event(service: Service) -> None:
    """No thread waits for ever or is in a deadlock (which would raise), and each writer's events keep their order."""
    service.write("first")  # the relays' row exists after the first claim
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
            relay.delete(claimed)
            relay.release()

    def record_failure(act: Callable[[str], None], name: str) -> None:
        try:
            act(name)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    writing.set()
    writers = [threading.Thread(target=record_failure, args=(write, name)) for name in "abc"]
    relays = [threading.Thread(target=record_failure, args=(publish, name)) for name in ("one", "two")]
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


def test_events_behind_a_barrier_wait_until_it_is_removed(service: Service) -> None:
    """What was added before the barrier is published, what was added after it is not, until the barrier is removed."""
    relay = service.relay()
    service.write("before")
    with service.database.transaction() as session:
        service.outbox.add_barrier(session)
    service.write("after")
    claimed = relay.claim()
    assert values(claimed) == ["before"]
    with service.database.reading() as session:
        assert not service.outbox.is_at_barrier(session)
    relay.delete(claimed)
    assert relay.claim() == []
    with service.database.transaction() as session:
        assert service.outbox.is_at_barrier(session)
        service.outbox.remove_barriers(session)
        assert not service.outbox.is_at_barrier(session)
    assert values(relay.claim()) == ["after"]


def test_withdrawn_events_are_not_published(service: Service) -> None:
    """Only events of the topic that is named are withdrawn, also those that a relay has claimed already."""
    relay = service.relay()
    service.write("events")
    assert values(relay.claim()) == ["events"]
    with service.database.transaction() as session:
        service.outbox.add(session, [OutboxMessage("others.v1", 0, b"key", b"others")])
        service.outbox.withdraw(session, message("").topic)
    assert values(relay.claim()) == ["others"]
