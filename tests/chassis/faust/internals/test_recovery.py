"""What a recovery does with records of changelogs, and how it ends.

With a broker it is in `test_stream_store`, and where workers die, in `tests.faults`.
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
    """Each has the key of its offset."""
    return [
        ConsumerMessage(
            tp.topic, tp.partition, offset, 1.0, 1, {}, b"%d" % offset, value, None, 1, 1, tp, generation_id=1
        )
        for offset in offsets
    ]


class Recovering:
    """A recovery of two partitions of a table, which are read from their beginnings."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        settings = StreamSettings(kafka_bootstrap_servers="a:1", web_port=1, data_dir=data_dir)
        self.app = create_stream_app("example", settings, 2)
        self.read: list[int] = []

        async def take_down(event: Any) -> None:
            self.read.append(event.message.offset)

        types = {"key_type": bytes, "value_type": bytes}
        self.table = self.app.Table("counts", partitions=2, on_changelog_event=take_down, **(types | options))
        self.app.finalize()
        self.recovery: StreamRecovery = self.app.tables.recovery  # type: ignore[attr-defined]
        for tp in (FIRST, SECOND):
            self.recovery.active_tps.add(tp)
            self.recovery.tp_to_table[tp] = self.table
            self.recovery.active_offsets[tp] = -1

    def begin(self, last: dict[TP, int]) -> None:
        self.recovery.active_highwaters.update(last)
        self.recovery._set_recovery_started()

    @property
    def is_over(self) -> bool:
        signalled = self.recovery.signal_recovery_end.is_set()
        assert signalled != self.recovery.in_recovery
        assert self.app.in_recovery == self.recovery.in_recovery
        return signalled


def run(data_dir: Path, story: Callable[[Recovering], Awaitable[None]], **options: Any) -> None:
    async def telling() -> None:
        await story(Recovering(data_dir, **options))

    asyncio.run(telling())


def test_a_recovery_is_over_with_the_last_record_of_the_last_partition(tmp_path: Path) -> None:
    """At once, with all that was read in the table; and not before."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 5, SECOND: 1})
        await it.recovery.apply_records(FIRST, records(FIRST, 0, 3))
        await it.recovery.apply_records(SECOND, records(SECOND, 0, 1))
        assert not it.is_over
        await it.recovery.apply_records(FIRST, records(FIRST, 5))  # compaction leaves gaps, but never takes the last
        assert it.is_over
        assert set(it.table.data) == {b"0", b"1", b"3", b"5"}
        assert it.read == [0, 3, 0, 1, 5]

    run(tmp_path, story)


def test_records_that_come_again_are_left_out(tmp_path: Path) -> None:
    """After a rebalance a fetch begins where the last one was applied, or before it."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 9})
        await it.recovery.apply_records(FIRST, records(FIRST, 1, 2))
        await it.recovery.apply_records(FIRST, records(FIRST, 1, 2, 3))
        assert it.read == [1, 2, 3]
        assert it.recovery.active_offsets[FIRST] == 3

    run(tmp_path, story)


def test_full_buffers_are_applied_before_the_end(tmp_path: Path) -> None:
    """Else all of a large table would lie in memory twice."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 99})
        await it.recovery.apply_records(FIRST, records(FIRST, *range(9)))
        assert not it.table.data
        await it.recovery.apply_records(FIRST, records(FIRST, *range(9, 12)))
        assert len(it.table.data) == 12
        assert not any(it.recovery.buffers.values())

    run(tmp_path, story, recovery_buffer_size=10)


def test_records_of_a_partition_that_was_taken_away_are_nobodys(tmp_path: Path) -> None:
    """Faust gives them to the table whose record came before."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 5})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        it.recovery.active_tps.discard(SECOND)
        await it.recovery.apply_records(SECOND, records(SECOND, 7))
        assert it.read == [0]
        assert it.recovery.active_offsets[SECOND] == -1

    run(tmp_path, story)


def test_an_end_that_nobody_waits_for_yet_is_not_lost(tmp_path: Path) -> None:
    """A short changelog may be read before Faust waits for the end; the next recovery begins with none."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 0})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        await it.recovery.apply_records(FIRST, records(FIRST, 1))
        await asyncio.wait_for(it.recovery.signal_recovery_end.wait(), 1)
        it.begin({FIRST: 5})
        assert not it.is_over

    run(tmp_path, story)


def test_a_recovery_does_not_end_with_what_a_table_did_not_take(tmp_path: Path, monkeypatch) -> None:
    """It is tried again, although no record comes any more."""
    monkeypatch.setattr(stream_recovery, "_CHECK_INTERVAL_S", 0.01)

    async def story(it: Recovering) -> None:
        apply, failures = it.table.apply_changelog_batch, [OSError("disk"), OSError("disk")]

        def failing(batch: Iterable[Any]) -> None:
            if failures:
                raise failures.pop()
            apply(batch)

        monkeypatch.setattr(it.table, "apply_changelog_batch", failing)
        it.begin({FIRST: 0})
        await it.recovery.apply_records(FIRST, records(FIRST, 0))
        assert not it.is_over
        looking = asyncio.create_task(type(it.recovery)._slurp_changelogs.fun(it.recovery))
        await asyncio.wait_for(it.recovery.signal_recovery_end.wait(), 5)
        assert it.is_over
        assert set(it.table.data) == {b"0"}
        looking.cancel()

    run(tmp_path, story)


def test_a_watcher_that_fails_costs_no_record(tmp_path: Path) -> None:
    """It is told of records; the table has them all the same."""

    async def story(it: Recovering) -> None:
        async def failing(_event: object) -> None:
            raise LookupError

        it.begin({FIRST: 3})
        it.table._on_changelog_event = failing
        await it.recovery.apply_records(FIRST, records(FIRST, 0, 1))
        it.table._on_changelog_event = None
        await it.recovery.apply_records(FIRST, records(FIRST, 2, 3))
        assert it.is_over
        assert set(it.table.data) == {b"0", b"1", b"2", b"3"}

    run(tmp_path, story)


def test_other_serializers_are_decoded(tmp_path: Path) -> None:
    """As Faust decodes what it delivers; of what cannot be decoded the rest does not suffer."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 2})
        good, bad = b'{"count": 3}', b"{"
        three = [records(FIRST, offset, value=value)[0] for offset, value in enumerate((good, bad, good))]
        await it.recovery.apply_records(FIRST, three)
        assert it.is_over
        assert dict(it.table.data) == {0: {"count": 3}, 2: {"count": 3}}

    run(tmp_path, story, key_type=int, value_type=None)


def test_faust_can_tell_how_long_it_will_take(tmp_path: Path) -> None:
    """It does so in its log once it has a thousand samples, and remembers no more than that."""

    async def story(it: Recovering) -> None:
        it.begin({FIRST: 9_999})
        for begin in range(0, 3_000, 500):
            await it.recovery.apply_records(FIRST, records(FIRST, *range(begin, begin + 500)))
        assert len(it.recovery._processing_times) == it.recovery.num_samples_required_for_estimate
        assert 0 < it.recovery._estimated_active_remaining_secs(7_000) < 60

    run(tmp_path, story)


class Delivering:
    """A consumer with these fetches, in a recovery that takes down what it is given."""

    def __init__(self, app: faust.App, fetches: list[dict[TP, list[Any]]]) -> None:
        async def unused(*_args: object) -> None:
            raise AssertionError("nothing is delivered here")

        self.consumer = StreamConsumer(app.transport, unused, unused, unused, loop=asyncio.get_running_loop())
        self.taken: list[tuple[TP, int]] = []
        self.while_taking: Callable[[], None] = lambda: None
        app.tables.recovery.take = self._take  # type: ignore[attr-defined]
        source: Any = self.consumer
        source.highwater = lambda _tp: 1_000

        async def fetched(**_options: object) -> dict[TP, list[Any]]:
            return fetches.pop(0)

        source._getmany = fetched

    async def _take(self, tp: TP, messages: list[ConsumerMessage]) -> None:
        self.taken += [(tp, each.offset) for each in messages]
        self.while_taking()


def fetched(tp: TP, count: int) -> list[Any]:
    """Records as aiokafka gives them."""
    values = {"timestamp": 1, "timestamp_type": 1, "headers": (), "key": b"k", "value": b"v", "checksum": None}
    sizes = {"serialized_key_size": 1, "serialized_value_size": 1}
    return [
        SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=offset, **values, **sizes)
        for offset in range(count)
    ]


def test_changelogs_are_recovered_and_all_else_is_delivered(tmp_path: Path) -> None:
    """From the same fetch; of a changelog only partitions that are open."""

    async def story(it: Recovering) -> None:
        events = TP("flights", 0)
        fetch = {FIRST: fetched(FIRST, 1_200), events: fetched(events, 1), SECOND: fetched(SECOND, 1)}
        delivering = Delivering(it.app, [fetch])
        delivering.consumer.resume_partitions({FIRST, events})
        delivering.consumer.resume_flow()
        got = [(tp, message.offset) async for tp, message in delivering.consumer.getmany(1.0)]
        assert got == [(events, 0)]
        assert delivering.taken == [(FIRST, offset) for offset in range(1_200)]

    run(tmp_path, story)


@pytest.mark.parametrize("change", ["the flow stops", "the next generation"])
def test_a_rebalance_ends_the_reading_of_a_changelog(tmp_path: Path, change: str) -> None:
    """What is left of the fetch is read again, from where the next recovery begins."""

    async def story(it: Recovering) -> None:
        delivering = Delivering(it.app, [{FIRST: fetched(FIRST, 1_200)}])
        consumer = delivering.consumer
        consumer.resume_partitions({FIRST})
        consumer.resume_flow()

        def rebalance() -> None:
            if change == "the flow stops":
                consumer.stop_flow()
            else:
                it.app.consumer_generation_id += 1

        delivering.while_taking = rebalance
        await consumer._wait_next_records(1.0)
        assert len(delivering.taken) == 500

    run(tmp_path, story)
