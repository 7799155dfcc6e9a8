"""The collector under faults of its leader: no flight is lost or published twice, and coverage has no gap."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web

from chassis.clock import Clock, ScaledClock
from local.kafka import Broker
from local.opensky.flights import TimetableFlight
from tests import plain_http
from tests.collector.process import CollectorProcess
from tests.collector.published import AIRPORT, START, assert_published_once, load_covered_until, timetable
from tests.fakes.authority import FakeAuthority
from tests.fakes.opensky import replay
from tests.ports import free_port
from tests.waiting import eventually

pytestmark = pytest.mark.faults

RATE = 14_400
"""Four hours a second."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """Yield a broker of the test's own, not started yet."""
    made = Broker(tmp_path / "kafka", port=free_port())
    yield made
    made.stop()


class SlowAnswers:
    """A fault plan of the replay in which every answer is late by some real seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting = 0
        """Number of requests without an answer yet."""

    def skew_clock(self, clock: Clock) -> Clock:
        return clock

    def make_middleware(self, _clock: Clock, _revoke_token: object) -> object:
        """Return a middleware that delays every answer, and counts the requests without an answer."""

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
class Cluster:
    """Two collector replicas on one database, one of which is the leader."""

    folder: Path
    clock: Clock
    slow_answers: SlowAnswers
    flights: list[TimetableFlight]
    leader: CollectorProcess
    other: CollectorProcess

    def wait_until_covered(self, instant: datetime) -> dict[str, datetime]:
        """Wait until both directions are covered past `instant`, and return the ends of their coverage."""

        def coverage_past_instant() -> dict[str, datetime] | None:
            until = load_covered_until(self.folder)
            return until if len(until) == 2 and min(until.values()) > instant else None

        found = eventually(coverage_past_instant, "coverage")
        assert found is not None
        return found


def leads(replica: CollectorProcess) -> bool:
    """Return True if the replica shows that it is the leader, False if it does not or does not answer."""
    return replica.metric("collector_leader") == 1


@contextmanager
def running_cluster(folder: Path, kafka: Broker) -> Iterator[Cluster]:
    """Yield two replicas that began before the broker did, with one interest and some flights collected."""
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
        replicas = [CollectorProcess(folder, settings) for _ in range(2)]
        try:
            for replica in replicas:
                eventually(lambda replica=replica: replica.answers("/health/ready"))  # type: ignore[misc]
            wish = {"airport_icao": AIRPORT, "direction": "both", "window": "1h", "high_value": 1}
            bearer = {"Authorization": "Bearer anns"}
            answer = plain_http.post(f"{replicas[0].base_url}/interests", json=wish, headers=bearer, timeout=60)
            assert answer.status_code == 201
            kafka.start()
            eventually(lambda: len(load_covered_until(folder)) == 2)
            eventually(lambda: sum(map(leads, replicas)) == 1)
            leader, other = sorted(replicas, key=leads, reverse=True)
            yield Cluster(folder, clock, slow, flights, leader, other)
        finally:
            for replica in replicas:
                replica.popen.send_signal(signal.SIGCONT)
                replica.kill()
    for replica in replicas:
        assert "Traceback" not in replica.log()
        assert "Group Coordinator Request failed" not in replica.log()


def test_another_replica_takes_over_from_a_killed_leader(tmp_path: Path, broker: Broker) -> None:
    """After kill -9 during an API call, another replica leads after the session timeout and collects all."""
    with running_cluster(tmp_path, broker) as cluster:
        eventually(lambda: cluster.slow_answers.waiting)
        killed_at = cluster.clock.now()
        cluster.leader.kill()
        eventually(lambda: leads(cluster.other))
        until = cluster.wait_until_covered(killed_at)
        assert_published_once(broker, until, cluster.flights)
        assert cluster.other.terminate() == 0


def test_a_leader_that_resumes_after_it_was_superseded_stores_nothing(tmp_path: Path, broker: Broker) -> None:
    """A leader stopped past its session, during an API call, cannot store the answer, and ends its session."""
    with running_cluster(tmp_path, broker) as cluster:
        eventually(lambda: cluster.slow_answers.waiting)
        os.kill(cluster.leader.popen.pid, signal.SIGSTOP)
        eventually(lambda: leads(cluster.other))
        cluster.wait_until_covered(cluster.clock.now())
        os.kill(cluster.leader.popen.pid, signal.SIGCONT)
        eventually(lambda: "leadership.given_up" in cluster.leader.log())
        eventually(lambda: leads(cluster.leader) != leads(cluster.other))
        until = cluster.wait_until_covered(cluster.clock.now())
        assert_published_once(broker, until, cluster.flights)
        assert [cluster.leader.terminate(), cluster.other.terminate()] == [0, 0]


def test_a_leader_ends_in_order_while_the_broker_is_gone(broker: Broker, tmp_path: Path) -> None:
    """SIGTERM ends the process, with status 0, although nobody answers for its consumer group any more."""
    broker.start()
    collector = CollectorProcess(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers})
    try:
        eventually(lambda: collector.metric("collector_leader") == 1, "leadership")
        os.kill(broker.pid, signal.SIGKILL)
        eventually(lambda: "leadership.given_up" in collector.log(), "the end of the term")
        assert collector.terminate() == 0
    finally:
        collector.kill()
