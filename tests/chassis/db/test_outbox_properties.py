"""The outbox under any order of writes, claims, publications and crashes: readers see exactly what was written."""

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete

from chassis.db.outbox import LEASE_S, SequencedMessage
from tests.chassis.db.outbox_service import NOW, Service, values


class OutboxMachine(RuleBasedStateMachine):
    """A state machine of writers, and of relays that publish, crash and stall in any order.

    `read` is what a reader processes, which drops each record whose sequence is not above the last one: it must equal
    what was written.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.service = Service(url)
        with self.service.database.transaction() as session:
            session.execute(delete(self.service.outbox.rows))
            session.execute(delete(self.service.outbox.relay))
        self.now = NOW
        self.wall_off = dict.fromkeys("ab", 0.0)
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
        self.in_flight[owner] = self.service.relay(owner).claim(self.now, self.now + self.wall_off[owner])

    @rule(owner=st.sampled_from("ab"), acknowledged=st.booleans())
    def publish(self, owner: str, acknowledged: bool) -> None:
        """Publish a relay's claimed messages; not `acknowledged`: the relay crashed before it deleted the rows."""
        published = self.in_flight.pop(owner, [])
        for each in published:
            if each.sequence > self.last_read:
                self.read.append(values([each])[0])
                self.last_read = each.sequence
        if acknowledged:
            self.service.relay(owner).delete(published)

    @rule(owner=st.sampled_from("ab"))
    def crash(self, owner: str) -> None:
        self.in_flight.pop(owner, None)

    @rule(owner=st.sampled_from("ab"), seconds=st.sampled_from([-8 * 3600.0, 0.0, 400 * 86_400.0]))
    def set_wall_clock(self, owner: str, seconds: float) -> None:
        """Set the wall clock of a relay's machine to a time that is this many seconds off."""
        self.wall_off[owner] = seconds

    @rule(seconds=st.sampled_from([1.0, LEASE_S + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_was_read_is_a_prefix_of_what_was_written(self) -> None:
        assert self.read == self.written[: len(self.read)]

    def teardown(self) -> None:
        """Publish the rest, and check that readers have read everything."""
        for _ in range(3):  # first the other's lease is observed, then a crashed round is repeated, then the rest
            self.wait(LEASE_S + 1)
            self.claim("a")
            self.publish("a", acknowledged=True)
        assert self.read == self.written
        self.service.database.close()


def test_readers_see_what_was_written_whatever_happens_to_relays() -> None:
    """SQLite is in memory here, because thousands of transactions on a file take minutes."""
    run_state_machine_as_test(
        lambda: OutboxMachine("sqlite://"), settings=settings(max_examples=60, stateful_step_count=30)
    )


@pytest.mark.mariadb
def test_readers_see_what_was_written_whatever_happens_to_relays_on_mariadb(mariadb_url: str) -> None:
    """MariaDB assigns ids, locks and deletes in other ways than SQLite."""
    run_state_machine_as_test(
        lambda: OutboxMachine(mariadb_url), settings=settings(max_examples=20, stateful_step_count=30)
    )
