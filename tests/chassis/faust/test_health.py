"""The detection of stuck workers: its rules, with injected time, and real worker processes."""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from faust.types import TP

from chassis.faust import health as stream_health
from chassis.faust.health import Health, ProgressSample, StallDetector
from local.kafka import Broker
from tests.chassis.faust.example_app import ExampleSettings, create_app, publish, read_counts, start_worker
from tests.streams.process import StreamsProcess
from tests.waiting import eventually

FIRST, SECOND = TP("flights", 0), TP("flights", 1)
STUCK_AFTER_S = 10.0


@pytest.fixture
def detector() -> StallDetector:
    return StallDetector(STUCK_AFTER_S)


def backlog(**offsets: int) -> ProgressSample:
    """Return a sample in which unacknowledged events follow these offsets: `p0=5` is partition 0."""
    return ProgressSample(backlog={TP("flights", int(name[1:])): offset for name, offset in offsets.items()})


def recovering(position: int) -> ProgressSample:
    """Return a sample of a recovery at this position."""
    return ProgressSample("recovery", STUCK_AFTER_S, position)


def test_a_worker_that_acknowledges_no_events_for_so_long_is_stuck(detector: StallDetector) -> None:
    """A worker is stuck exactly from the timeout on; the reason contains the partition, the offset and the duration."""
    assert detector.observe(0, backlog(p0=5)) is None
    assert detector.observe(9.9, backlog(p0=5)) is None
    reason = detector.observe(12, backlog(p0=5))
    assert reason == "events of flights partition 0 wait at offset 5: none was acknowledged for 12 s"
    assert detector.observe(13, backlog(p0=6)) is None, "it goes on"
    assert detector.observe(24, backlog(p0=6)) is not None


def test_a_backlog_that_shrinks_is_no_stall(detector: StallDetector) -> None:
    """A worker may take any time for its backlog, as long as each partition's offset moves within the timeout."""
    for turn in range(100):
        assert detector.observe(turn * 8.0, backlog(p0=turn, p1=50 + turn)) is None


def test_one_partition_without_progress_is_a_stall(detector: StallDetector) -> None:
    """The progress of other partitions does not matter; the reason contains how many partitions have none."""
    detector.observe(0, backlog(p0=1, p1=1, p2=1))
    reason = detector.observe(11, backlog(p0=1, p1=1, p2=9))
    assert reason is not None
    assert reason.startswith("events of flights partition 0 wait at offset 1, and 1 more:")


def test_the_timeout_of_a_partition_starts_again_after_it_had_no_backlog(detector: StallDetector) -> None:
    """A partition that was idle for an hour is not stuck when its next event arrives."""
    detector.observe(0, backlog(p0=5))
    assert detector.observe(5, ProgressSample()) is None
    assert detector.observe(3600, backlog(p0=5)) is None
    assert detector.observe(3609, backlog(p0=5)) is None
    assert detector.observe(3610, backlog(p0=5)) is not None


def test_a_worker_is_not_stuck_while_the_broker_is_unavailable(detector: StallDetector) -> None:
    """A restart would not help; all timeouts start again when the broker answers again."""
    for sample in (backlog(p0=5), recovering(7)):
        detector.observe(0, sample)
        assert detector.observe(100, None) is None
        assert detector.observe(101, sample) is None
        assert detector.observe(110, sample) is None
        assert detector.observe(111, sample) is not None
        detector.observe(112, None)


def test_a_recovery_without_progress_is_a_stall(detector: StallDetector) -> None:
    """A slow recovery is no stall. The timeout of events starts at the end of the recovery."""
    for turn in range(20):
        assert detector.observe(turn * 9.0, recovering(turn)) is None
    reason = detector.observe(19 * 9.0 + 10, recovering(19))
    assert reason == "recovery has not got on for 10 s"
    assert detector.observe(200, backlog(p0=5)) is None, "it is done"


def test_a_rebalance_has_a_longer_timeout(detector: StallDetector) -> None:
    """The group waits for members that do not answer; the timeout starts again with the next generation."""
    joining = ProgressSample("a rebalance", 55.0, 3)
    detector.observe(0, joining)
    assert detector.observe(54, joining) is None
    assert detector.observe(55, joining) == "a rebalance has not got on for 55 s"
    assert detector.observe(56, ProgressSample("a rebalance", 55.0, 4)) is None, "the next generation"


def test_a_worker_is_not_stuck_while_its_dependencies_are_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would not help; all timeouts start again when the dependencies answer again."""
    settings = ExampleSettings(
        kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path, service="example", stuck_after_s=10
    )
    now = [1000.0]
    monkeypatch.setattr(stream_health, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def take_sample() -> ProgressSample:
        return backlog(p0=5)

    async def scenario() -> None:
        health = Health(create_app(settings), settings)
        monkeypatch.setattr(health, "_take_sample", take_sample)

        async def stuck_after(seconds: float) -> bool:
            now[0] += seconds
            await health._check_progress()
            return health.stuck_reason is not None

        assert [await stuck_after(each) for each in (0, 11)] == [False, True]
        health.are_dependencies_unavailable = lambda: True
        assert [await stuck_after(each) for each in (0, 100)] == [False, False]
        health.are_dependencies_unavailable = lambda: False
        assert [await stuck_after(each) for each in (0, 9, 1)] == [False, False, True]

    asyncio.run(scenario())


def test_events_that_wait_on_purpose_do_not_make_a_worker_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog of a patient topic is none; one of another topic is reported beside it."""
    settings = ExampleSettings(
        kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path, service="example", stuck_after_s=10
    )
    now = [1000.0]
    monkeypatch.setattr(stream_health, "time", SimpleNamespace(monotonic=lambda: now[0]))
    waiting = {TP("waiting", 0): 5}

    async def scenario() -> None:
        health = Health(create_app(settings), settings)
        health.delayed_topics = frozenset({"waiting"})
        for others, is_stuck in (({}, False), ({TP("flights", 0): 5}, True)):

            async def take_sample(others: dict[TP, int] = others) -> ProgressSample:
                return ProgressSample(backlog=waiting | others)

            monkeypatch.setattr(health, "_take_sample", take_sample)
            for _ in range(3):
                await health._check_progress()
                now[0] += 20
            assert (health.stuck_reason is not None) is is_stuck

    asyncio.run(scenario())


@contextmanager
def paused(broker: Broker) -> Iterator[None]:
    """Freeze the broker during the block: its connections stay open, and it answers nothing."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def build_liveness_probe(worker: StreamsProcess) -> Callable[[], list[int]]:
    """Return a function that requests a worker's /health/live, and returns all statuses so far."""
    statuses: list[int] = []

    def probe() -> list[int]:
        statuses.append(worker.get("/health/live")[0])
        return statuses

    return probe


def test_only_the_worker_that_is_stuck_is_not_live(kafka: Broker, tmp_path: Path) -> None:
    """A worker whose agent never returns is not live while the broker answers; two other workers are always live.

    One of the other workers has a backlog for longer than `stuck_after_s`, the other one is idle. The metrics contain
    the consumer lag and the lag of the event loop.
    """
    servers = kafka.bootstrap_servers
    # Long enough that the busy worker commits in time even on an overloaded machine; its backlog lasts longer.
    fast = {"STUCK_AFTER_S": "15"}
    with (
        start_worker(tmp_path, servers, "stalls", STALLS="1", **fast) as stalls,
        start_worker(tmp_path, servers, "busy", PACE_S="0.2", **fast) as busy,
        start_worker(tmp_path, servers, "idle", **fast) as idle,
    ):
        for worker in (stalls, busy, idle):
            eventually(worker.is_ready, within_s=180)
        probes = [build_liveness_probe(busy), build_liveness_probe(idle)]
        publish(servers, "stalls", 10)
        publish(servers, "busy", 100)

        def is_stuck() -> bool:
            for probe in probes:
                probe()
            return stalls.get("/health/live")[0] == 503

        eventually(is_stuck, within_s=180)
        status, content_type, body = stalls.get("/health/live")
        assert (status, content_type) == (503, "application/json; charset=utf-8")
        answer = json.loads(body)
        assert answer["status"] == "stuck"
        assert "events of stalls.events partition 0 wait at offset 0, and 2 more" in answer["reason"]
        assert "worker.stuck" in stalls.log()
        metrics = stalls.get("/metrics")[2]
        assert (
            'faust_consumer_lag_messages{node="here",partition="0",service="stalls",topic="stalls.events"} 4.0'
            in metrics
        )
        lags = {of: float(lag) for of, lag in re.findall(r'loop_lag_seconds{.*of="(\w+)".*} (\S+)', metrics)}
        assert 0 <= lags["last"] <= lags["worst"] < 60

        eventually(lambda: [probe() for probe in probes] and sum(read_counts(busy).values()) == 100, within_s=180)
        assert set(probes[0]()) == set(probes[1]()) == {200}

        with paused(kafka):
            eventually(lambda: stalls.get("/health/live")[0] == 200)
        assert set(probes[0]()) == set(probes[1]()) == {200}
        assert stalls.terminate() == 0, "a stop does not wait for the event that is never finished"
