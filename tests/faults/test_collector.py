"""The collector under faults: whatever happens to its leader, no flight is lost or told twice, and there is no gap."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from aiohttp import web

from chassis.clock import Clock, ScaledClock
from collector.leadership.election import SESSION_S
from local.kafka import Broker
from local.opensky.flights import TimetableFlight
from tests.collector.process import Process
from tests.collector.published import AIRPORT, START, assert_published_once, covered, timetable
from tests.fakes.authority import FakeAuthority
from tests.fakes.opensky import replay
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

RATE = 14_400
"""Four hours a second."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker of the test's own, not started yet."""
    made = Broker(tmp_path / "kafka", port=free_port())
    yield made
    made.stop()


class SlowAnswers:
    """The source knows at once, and takes its time to say it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting = 0
        """Questions that have no answer yet."""

    def skew_clock(self, clock: Clock) -> Clock:
        return clock

    def make_middleware(self, _clock: Clock, _revoke_token: object) -> object:
        @web.middleware
        async def slowly(request: web.Request, handler: Handler) -> web.StreamResponse:
            answer = await handler(request)
            self.waiting += 1
            try:
                await asyncio.sleep(self.seconds)
            finally:
                self.waiting -= 1
            return answer

        return slowly


@dataclass(frozen=True, slots=True)
class Stage:
    """Two replicas at work on one database, one of which leads."""

    folder: Path
    clock: Clock
    slow: SlowAnswers
    flights: list[TimetableFlight]
    leader: Process
    other: Process

    def wait_until_covered(self, instant: datetime) -> dict[str, datetime]:
        def past_it() -> dict[str, datetime] | None:
            until = covered(self.folder)
            return until if len(until) == 2 and min(until.values()) > instant else None

        found = eventually(past_it, "coverage")
        assert found is not None
        return found


def leads(replica: Process) -> bool:
    return replica.metric("collector_leader") == 1


@contextmanager
def stage(folder: Path, kafka: Broker) -> Iterator[Stage]:
    """The replicas begin before the broker does."""
    anchor = datetime.now(UTC)
    clock = ScaledClock(START, RATE, anchor)
    slow, flights = SlowAnswers(0.3), timetable()
    with FakeAuthority().running() as authority, replay(flights, clock, faults=slow) as url:  # type: ignore[arg-type]
        authority.users["anns"] = (UUID(int=1), True)
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "USER_MANAGER_GRPC_TARGET": authority.target,
            "OPENSKY_URL": f"{url}/api",
            "CREDITS_PER_DAY": "1000000",
            "POLL_INTERVAL": "PT30M",
            "CLOCK_START": START.isoformat(),
            "CLOCK_RATE": str(RATE),
            "CLOCK_ANCHOR": anchor.isoformat(),
        }
        replicas = [Process(folder, settings) for _ in range(2)]
        try:
            for replica in replicas:
                eventually(lambda replica=replica: replica.answers("/health/ready"))  # type: ignore[misc]
            wish = {"airport_icao": AIRPORT, "direction": "both", "window": "1h", "high_value": 1}
            bearer = {"Authorization": "Bearer anns"}
            answer = httpx.post(f"{replicas[0].base_url}/interests", json=wish, headers=bearer, timeout=10)
            assert answer.status_code == 201
            kafka.start()
            eventually(lambda: len(covered(folder)) == 2)
            eventually(lambda: sum(map(leads, replicas)) == 1)
            leader, other = sorted(replicas, key=leads, reverse=True)
            yield Stage(folder, clock, slow, flights, leader, other)
        finally:
            for replica in replicas:
                replica.popen.send_signal(signal.SIGCONT)
                replica.kill()
    for replica in replicas:
        assert "Traceback" not in replica.log()
        assert "Group Coordinator Request failed" not in replica.log()


def test_the_leader_is_killed_in_the_midst_of_a_collection(tmp_path: Path, broker: Broker) -> None:
    """kill -9 between question and answer: another takes over within the session, and makes up for all of it."""
    with stage(tmp_path, broker) as scene:
        eventually(lambda: scene.slow.waiting)
        killed_at, began = scene.clock.now(), time.monotonic()
        scene.leader.kill()
        eventually(lambda: leads(scene.other))
        assert time.monotonic() - began < SESSION_S + 5, "the session timeout and a little"
        until = scene.wait_until_covered(killed_at)
        assert_published_once(broker, until, scene.flights)
        assert scene.other.end() == 0


def test_the_leader_stands_still_and_goes_on_where_another_leads(tmp_path: Path, broker: Broker) -> None:
    """SIGSTOP past the session, in the midst of a question: what it still does is refused, and it gives up."""
    with stage(tmp_path, broker) as scene:
        eventually(lambda: scene.slow.waiting)
        os.kill(scene.leader.popen.pid, signal.SIGSTOP)
        eventually(lambda: leads(scene.other))
        scene.wait_until_covered(scene.clock.now())
        os.kill(scene.leader.popen.pid, signal.SIGCONT)
        eventually(lambda: "leadership.given_up" in scene.leader.log())
        eventually(lambda: leads(scene.leader) != leads(scene.other))
        until = scene.wait_until_covered(scene.clock.now())
        assert_published_once(broker, until, scene.flights)
        assert [scene.leader.end(), scene.other.end()] == [0, 0]
