"""Whether a worker is stuck: the rule, with time handed in, and real workers that are, or only look as if they were."""

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
from tests.chassis.faust.example_app import ExampleSettings, begun, counted, create_app, publish
from tests.streams.process import Worker
from tests.waiting import eventually

FIRST, SECOND = TP("flights", 0), TP("flights", 1)
STUCK_AFTER_S = 10.0


@pytest.fixture
def progress() -> StallDetector:
    return StallDetector(STUCK_AFTER_S)


def behind(**offsets: int) -> ProgressSample:
    """Events wait after these offsets."""
    return ProgressSample(backlog={TP("flights", int(name[1:])): offset for name, offset in offsets.items()})


def recovering(position: int) -> ProgressSample:
    return ProgressSample("recovery", STUCK_AFTER_S, position)


def test_events_that_wait_and_are_not_acknowledged_are_a_stall(progress: StallDetector) -> None:
    """As soon as it lasted for so long, not before; and the reason says where and for how long."""
    assert progress.observe(0, behind(p0=5)) is None
    assert progress.observe(9.9, behind(p0=5)) is None
    reason = progress.observe(12, behind(p0=5))
    assert reason == "events of flights partition 0 wait at offset 5: none was acknowledged for 12 s"
    assert progress.observe(13, behind(p0=6)) is None, "it goes on"
    assert progress.observe(24, behind(p0=6)) is not None


def test_a_backlog_that_is_worked_off_is_none(progress: StallDetector) -> None:
    """However long it takes, and however many partitions take turns, as long as each moves now and then."""
    for turn in range(100):
        assert progress.observe(turn * 8.0, behind(p0=turn, p1=50 + turn)) is None


def test_one_partition_that_stands_still_is_enough(progress: StallDetector) -> None:
    """Others that move do not make up for it; the reason counts how many stand."""
    progress.observe(0, behind(p0=1, p1=1, p2=1))
    reason = progress.observe(11, behind(p0=1, p1=1, p2=9))
    assert reason is not None
    assert reason.startswith("events of flights partition 0 wait at offset 1, and 1 more:")


def test_a_partition_without_a_backlog_begins_anew(progress: StallDetector) -> None:
    """What was idle for an hour has not been stuck for an hour when the next event comes; nor has what came back."""
    progress.observe(0, behind(p0=5))
    assert progress.observe(5, ProgressSample()) is None
    assert progress.observe(3600, behind(p0=5)) is None
    assert progress.observe(3609, behind(p0=5)) is None
    assert progress.observe(3610, behind(p0=5)) is not None


def test_while_the_broker_is_away_nothing_is_held_against_a_worker(progress: StallDetector) -> None:
    """To end it would not help; and when the broker is back, the worker has its time anew."""
    for look in (behind(p0=5), recovering(7)):
        progress.observe(0, look)
        assert progress.observe(100, None) is None
        assert progress.observe(101, look) is None
        assert progress.observe(110, look) is None
        assert progress.observe(111, look) is not None
        progress.observe(112, None)


def test_a_recovery_has_to_get_on(progress: StallDetector) -> None:
    """Whatever its pace; and the events that wait for its end wait for nothing else."""
    for turn in range(20):
        assert progress.observe(turn * 9.0, recovering(turn)) is None
    reason = progress.observe(19 * 9.0 + 10, recovering(19))
    assert reason == "recovery has not got on for 10 s"
    assert progress.observe(200, behind(p0=5)) is None, "it is done"


def test_a_rebalance_may_take_its_own_time(progress: StallDetector) -> None:
    """As the group does for members that do not answer; but it does not last for ever."""
    joining = ProgressSample("a rebalance", 55.0, 3)
    progress.observe(0, joining)
    assert progress.observe(54, joining) is None
    assert progress.observe(55, joining) == "a rebalance has not got on for 55 s"
    assert progress.observe(56, ProgressSample("a rebalance", 55.0, 4)) is None, "the next generation"


def test_while_others_are_away_nothing_is_held_against_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new worker could not get on either. When they are back, it has its time anew."""
    settings = ExampleSettings(
        kafka_bootstrap_servers="127.0.0.1:1", web_port=1, data_dir=tmp_path, service="example", stuck_after_s=10
    )
    now = [1000.0]
    monkeypatch.setattr(stream_health, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def found() -> ProgressSample:
        return behind(p0=5)

    async def looks() -> None:
        health = Health(create_app(settings), settings)
        monkeypatch.setattr(health, "_take_sample", found)

        async def stuck_after(seconds: float) -> bool:
            now[0] += seconds
            await health._check_progress()
            return health.stuck_reason is not None

        assert [await stuck_after(each) for each in (0, 11)] == [False, True]
        health.are_dependencies_unavailable = lambda: True
        assert [await stuck_after(each) for each in (0, 100)] == [False, False]
        health.are_dependencies_unavailable = lambda: False
        assert [await stuck_after(each) for each in (0, 9, 1)] == [False, False, True]

    asyncio.run(looks())


@contextmanager
def paused(broker: Broker) -> Iterator[None]:
    """The broker stands still: connections stay, and nothing is answered."""
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


def watched(worker: Worker) -> Callable[[], list[int]]:
    """Asks a worker whether it is live, and tells all answers so far."""
    answers: list[int] = []

    def look() -> list[int]:
        answers.append(worker.get("/health/live")[0])
        return answers

    return look


@pytest.mark.timeout(180)
def test_only_the_worker_that_is_stuck_is_not_live(kafka: Broker, tmp_path: Path) -> None:
    """Three real workers: one whose agent never comes back, one with a backlog for longer than a stall may last, one
    with nothing to do. And none, while the broker is away. The lag of events and of the event loop is told."""
    servers = kafka.bootstrap_servers
    # As short as it may be; and the backlog lasts longer.
    fast = {"STUCK_AFTER_S": "6"}
    with (
        begun(tmp_path, servers, "stalls", STALLS="1", **fast) as stalls,
        begun(tmp_path, servers, "busy", PACE_S="0.1", **fast) as busy,
        begun(tmp_path, servers, "idle", **fast) as idle,
    ):
        for worker in (stalls, busy, idle):
            eventually(worker.is_ready)
        answers = [watched(busy), watched(idle)]
        publish(servers, "stalls", 10)
        publish(servers, "busy", 100)

        def is_stuck() -> bool:
            for look in answers:
                look()
            return stalls.get("/health/live")[0] == 503

        eventually(is_stuck)
        status, content_type, body = stalls.get("/health/live")
        assert (status, content_type) == (503, "application/json; charset=utf-8")
        told = json.loads(body)
        assert told["status"] == "stuck"
        assert "events of stalls.events partition 0 wait at offset 0, and 2 more" in told["reason"]
        assert "worker.stuck" in stalls.log()
        metrics = stalls.get("/metrics")[2]
        assert (
            'faust_consumer_lag_messages{node="here",partition="0",service="stalls",topic="stalls.events"} 4.0'
            in metrics
        )
        lags = {of: float(lag) for of, lag in re.findall(r'loop_lag_seconds{.*of="(\w+)".*} (\S+)', metrics)}
        assert 0 <= lags["last"] <= lags["worst"] < 5

        eventually(lambda: [look() for look in answers] and sum(counted(busy).values()) == 100)
        assert set(answers[0]()) == set(answers[1]()) == {200}

        with paused(kafka):
            eventually(lambda: stalls.get("/health/live")[0] == 200)
        assert set(answers[0]()) == set(answers[1]()) == {200}
        assert stalls.terminate() == 0, "the event that it never comes back from is not waited for"
