"""The recovery of tables: how changelog records are applied, and when a recovery ends.

`tests.chassis.faust.test_store` tests it with a broker, and `tests.faults` with workers that are killed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from chassis.faust.app import StreamSettings, create_stream_app
from chassis.faust.internals import recovery as stream_recovery
from chassis.faust.internals.consumer import StreamConsumer
from chassis.faust.internals.recovery import StreamRecovery

CHANGELOG = "example-counts-changelog"
FIRST, SECOND = TP(CHANGELOG, 0), TP(CHANGELOG, 1)


def records(tp: TP, *offsets: int, value: bytes | None = b"1") -> list[ConsumerMessage]:
    """Return messages with these offsets, each with its offset as key."""
    return [
        ConsumerMessage(
            tp.topic, tp.partition, offset, 1.0, 1, {}, b"%d" % offset, value, None, 1, 1, tp, generation_id=1
        )
        for offset in offsets
    ]


class RecoveryFixture:
    """An app whose table has two partitions, which are recovered from their beginnings."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        settings = StreamSettings(kafka_bootstrap_servers="a:1", web_port=1, data_dir=data_dir)
        self.app = create_stream_app("example", settings, 2)
        self.read: list[int] = []

        async def record_offset(event: Any) -> None:
            self.read.append(event.message.offset)

        types = {"key_type": bytes, "value_type": bytes}
        self.table = self.app.Table("counts", partitions=2, on_changelog_event=record_offset, **(types | options))
        self.app.finalize()
        self.recovery: StreamRecovery = self.app.tables.recovery  # type: ignore[attr-defined]
        for tp in (FIRST, SECOND):
            self.recovery.active_tps.add(tp)
            self.recovery.tp_to_table[tp] = self.table
            self.recovery.active_offsets[tp] = -1

    def begin(self, last: dict[TP, int]) -> None:
        """Begin a recovery up to the last offset of each partition."""
        self.recovery.active_highwaters.update(last)
        self.recovery._set_recovery_started()

    @property
    def is_over(self) -> bool:
        """True if the recovery has ended, False if not; checks that signal, service and app agree."""
        signalled = self.recovery.signal_recovery_end.is_set()
        assert signalled != self.recovery.in_recovery
        assert self.app.in_recovery == self.recovery.in_recovery
        return signalled


def run(data_dir: Path, scenario: Callable[[RecoveryFixture], Awaitable[None]], **options: Any) -> None:
    """Run a scenario with a new recovery in an event loop of its own."""

    async def run_scenario() -> None:
        await scenario(RecoveryFixture(data_dir, **options))

    asyncio.run(run_scenario())


def test_a_recovery_ends_with_the_last_record_of_the_last_partition(tmp_path: Path) -> None:
    """The recovery ends at once after the last record, not earlier, and all records are in the table."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 5, SECOND: 1})
        await it.recovery.apply_records(FIRST, records(FIRST, 0, 3))
        await it.recovery.apply_records(SECOND, records(SECOND, 0, 1))
        assert not it.is_over
        await it.recovery.apply_records(FIRST, records(FIRST, 5))  # compaction leaves gaps, but never takes the last
        assert it.is_over
        assert set(it.table.data) == {b"0", b"1", b"3", b"5"}
        assert it.read == [0, 3, 0, 1, 5]

    run(tmp_path, scenario)


def test_records_that_are_read_again_are_not_applied_again(tmp_path: Path) -> None:
    """After a rebalance a fetch may begin with records that are already applied."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 9})
        await it.recovery.apply_records(FIRST, records(FIRST, 1, 2))
        await it.recovery.apply_records(FIRST, records(FIRST, 1, 2, 3))
        assert it.read == [1, 2, 3]
        assert it.recovery.active_offsets[FIRST] == 3

    run(tmp_path, scenario)


def test_a_full_buffer_is_applied_before_the_recovery_ends(tmp_path: Path) -> None:
    """Otherwise a large table would be in memory twice."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 99})
        await it.recovery.apply_records(FIRST, records(FIRST, *range(9)))
        assert not it.table.data
        await it.recovery.apply_records(FIRST, records(FIRST, *range(9, 12)))
        assert len(it.table.data) == 12
        assert not any(it.recovery.buffers.values())

    run(tmp_path, scenario, recovery_buffer_size=10)


def test_records_of_a_revoked_partition_are_not_applied(tmp_path: Path) -> None:
    """Faust itself would apply them to the table of the record before."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 5})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        it.recovery.active_tps.discard(SECOND)
        await it.recovery.apply_records(SECOND, records(SECOND, 7))
        assert it.read == [0]
        assert it.recovery.active_offsets[SECOND] == -1

    run(tmp_path, scenario)


def test_the_signal_of_the_end_is_not_lost_if_faust_does_not_wait_for_it_yet(tmp_path: Path) -> None:
    """A short changelog may be read before Faust waits for the end; the next recovery clears the signal."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 0})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        await it.recovery.apply_records(FIRST, records(FIRST, 1))
        await asyncio.wait_for(it.recovery.signal_recovery_end.wait(), 60)
        it.begin({FIRST: 5})
        assert not it.is_over

    run(tmp_path, scenario)


def test_a_recovery_does_not_end_before_the_table_has_all_records(tmp_path: Path, monkeypatch) -> None:
    """Records that the table failed to apply are retried, even if no further record arrives."""
    monkeypatch.setattr(stream_recovery, "_CHECK_INTERVAL_S", 0.01)

    async def scenario(it: RecoveryFixture) -> None:
        apply, failures = it.table.apply_changelog_batch, [OSError("disk"), OSError("disk")]

        def failing(batch: Iterable[Any]) -> None:
            if failures:
                raise failures.pop()
            apply(batch)

        monkeypatch.setattr(it.table, "apply_changelog_batch", failing)
        it.begin({FIRST: 0})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        assert not it.is_over
        checking = asyncio.create_task(type(it.recovery)._slurp_changelogs.fun(it.recovery))
        await asyncio.wait_for(it.recovery.signal_recovery_end.wait(), 60)
        assert it.is_over
        assert set(it.table.data) == {b"0"}
        checking.cancel()

    run(tmp_path, scenario)


def test_a_failing_changelog_callback_loses_no_record(tmp_path: Path) -> None:
    """The table applies the records although the callback raises."""

    async def scenario(it: RecoveryFixture) -> None:
        async def failing(_event: object) -> None:
            raise LookupError

        it.begin({FIRST: 3})
        it.table._on_changelog_event = failing
        await it.recovery.apply_records(FIRST, records(FIRST, 0, 1))
        it.table._on_changelog_event = None
        await it.recovery.apply_records(FIRST, records(FIRST, 2, 3))
        assert it.is_over
        assert set(it.table.data) == {b"0", b"1", b"2", b"3"}

    run(tmp_path, scenario)


def test_records_of_tables_with_other_serializers_are_decoded(tmp_path: Path) -> None:
    """Records are decoded as Faust decodes events; a record that cannot be decoded is left out."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 2})
        good, bad = b'{"count": 3}', b"{"
        three = [records(FIRST, offset, value=value)[0] for offset, value in enumerate((good, bad, good))]
        await it.recovery.apply_records(FIRST, three)
        assert it.is_over
        assert dict(it.table.data) == {0: {"count": 3}, 2: {"count": 3}}

    run(tmp_path, scenario, key_type=int, value_type=None)


def test_faust_can_estimate_the_remaining_time_of_a_recovery(tmp_path: Path) -> None:
    """Faust logs an estimate once it has a thousand samples; no more samples are stored."""

    async def scenario(it: RecoveryFixture) -> None:
        it.begin({FIRST: 9_999})
        for begin in range(0, 3_000, 500):
            await it.recovery.apply_records(FIRST, records(FIRST, *range(begin, begin + 500)))
        assert len(it.recovery._processing_times) == it.recovery.num_samples_required_for_estimate
        assert 0 < it.recovery._estimated_active_remaining_secs(7_000) < 3_600

    run(tmp_path, scenario)


class ConsumerFixture:
    """A consumer with prepared fetches, and a recovery that only records the offsets that it receives."""

    def __init__(self, app: faust.App, fetches: list[dict[TP, list[Any]]]) -> None:
        async def unused(*_args: object) -> None:
            raise AssertionError("no callback is expected here")

        self.consumer = StreamConsumer(app.transport, unused, unused, unused, loop=asyncio.get_running_loop())
        self.taken: list[tuple[TP, int]] = []
        self.while_taking: Callable[[], None] = lambda: None
        app.tables.recovery.apply_records = self._record_offsets  # type: ignore[attr-defined]
        source: Any = self.consumer
        source.highwater = lambda _tp: 1_000

        async def fetched(**_options: object) -> dict[TP, list[Any]]:
            return fetches.pop(0)

        source._getmany = fetched

    async def _record_offsets(self, tp: TP, messages: list[ConsumerMessage]) -> None:
        """Record the messages' offsets in place of the recovery, then call `while_taking`."""
        self.taken += [(tp, message.offset) for message in messages]
        self.while_taking()


def fetched(tp: TP, count: int) -> list[Any]:
    """Return records as aiokafka returns them, with the offsets from 0."""
    values = {"timestamp": 1, "timestamp_type": 1, "headers": (), "key": b"k", "value": b"v", "checksum": None}
    sizes = {"serialized_key_size": 1, "serialized_value_size": 1}
    return [
        SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=offset, **values, **sizes)
        for offset in range(count)
    ]


def test_changelog_records_go_to_the_recovery_and_events_are_delivered(tmp_path: Path) -> None:
    """One fetch may contain both; records of paused changelog partitions are dropped."""

    async def scenario(it: RecoveryFixture) -> None:
        events = TP("flights", 0)
        fetch = {FIRST: fetched(FIRST, 1_200), events: fetched(events, 1), SECOND: fetched(SECOND, 1)}
        fixture = ConsumerFixture(it.app, [fetch])
        fixture.consumer.resume_partitions({FIRST, events})
        fixture.consumer.resume_flow()
        got = [(tp, message.offset) async for tp, message in fixture.consumer.getmany(1.0)]
        assert got == [(events, 0)]
        assert fixture.taken == [(FIRST, offset) for offset in range(1_200)]

    run(tmp_path, scenario)


@pytest.mark.parametrize("change", ["the flow stops", "the next generation"])
def test_a_rebalance_stops_the_application_of_fetched_changelog_records(tmp_path: Path, change: str) -> None:
    """The next recovery reads the rest of the fetch again."""

    async def scenario(it: RecoveryFixture) -> None:
        fixture = ConsumerFixture(it.app, [{FIRST: fetched(FIRST, 1_200)}])
        consumer = fixture.consumer
        consumer.resume_partitions({FIRST})
        consumer.resume_flow()

        def rebalance() -> None:
            if change == "the flow stops":
                consumer.stop_flow()
            else:
                it.app.consumer_generation_id += 1

        fixture.while_taking = rebalance
        await consumer._wait_next_records(1.0)
        assert len(fixture.taken) == 500

    run(tmp_path, scenario)
