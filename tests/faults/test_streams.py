"""The stream under faults: whatever dies, is cut off or comes back, the alerts are those of the brute-force model."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from local.kafka import Broker, running_broker
from tests.streams.commands import run_verify
from tests.streams.events import Event
from tests.streams.process import Worker, is_everything_acknowledged, publish, read_alert_ids, running_worker
from tests.streams.traffic import GeneratedTraffic, generate_traffic
from tests.waiting import eventually

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """A process stands still, as on a machine that swaps or migrates."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def parts(scene: GeneratedTraffic, count: int) -> list[tuple[Event, ...]]:
    """The scene's events in so many pieces, in their order."""
    size = len(scene.events) // count + 1
    return [scene.events[begin : begin + size] for begin in range(0, len(scene.events), size)]


def thirds(scene: GeneratedTraffic) -> tuple[Callable[[Broker], object], ...]:
    """What publishes the scene, a third at a time."""
    return tuple(lambda broker, part=part: publish(broker.bootstrap_servers, part) for part in parts(scene, 3))  # type: ignore[misc]


def said_so_far(broker: Broker, scene: GeneratedTraffic) -> int:
    return len(read_alert_ids(broker.bootstrap_servers, scene.interest_ids))


def wait_until_done(broker: Broker) -> None:
    def done() -> bool:
        try:
            return is_everything_acknowledged(broker.bootstrap_servers)
        except KafkaError as error:
            # A broker that stood still is fenced for a moment when it goes on, and names no broker, not even itself.
            if not error.retriable:
                raise
            return False

    eventually(done, "the acknowledgement of everything", within_s=150)


def assert_exact(broker: Broker, scene: GeneratedTraffic) -> None:
    """Every alert that there is to raise, and no other."""
    wait_until_done(broker)
    said = read_alert_ids(broker.bootstrap_servers, scene.interest_ids)
    assert (len(scene.alert_ids - said), len(said - scene.alert_ids)) == (0, 0)


def share(*workers: Worker) -> bool:
    """Whether each of the workers owns some of the airports, and none two of them."""
    shown = [set(worker.airports()) for worker in workers]
    return all(shown) and sum(map(len, shown)) == len(set().union(*shown))


def test_partitions_go_and_come_back(kafka: Broker, tmp_path: Path) -> None:
    """A worker joins in the middle and leaves again: the first one goes on from what its guest wrote."""
    scene = generate_traffic(seed=12, airports=16)
    first, second, last = thirds(scene)
    with running_worker(tmp_path, kafka.bootstrap_servers, STORE="rocksdb") as stays:
        first(kafka)
        eventually(lambda: said_so_far(kafka, scene) > 20)
        with running_worker(tmp_path, kafka.bootstrap_servers, STORE="rocksdb") as guest:
            second(kafka)
            eventually(lambda: share(stays, guest))
            wait_until_done(kafka)
            last(kafka)
            eventually(lambda: said_so_far(kafka, scene) > len(scene.alert_ids) * 2 // 3)
            assert guest.terminate() == 0, guest.log()
        assert_exact(kafka, scene)
        eventually(lambda: set(scene.airports) <= stays.airports().keys())
    assert run_verify(kafka.bootstrap_servers)["same"] == len(scene.alert_ids)


def test_a_worker_that_was_paused_does_not_know_that_it_was_replaced(kafka: Broker, tmp_path: Path) -> None:
    """What it still writes when it wakes up is older than what its successor wrote, and undoes nothing of that."""
    scene = generate_traffic(seed=13, airports=16)
    first, second, last = thirds(scene)
    with running_worker(tmp_path, kafka.bootstrap_servers) as sleeper:
        first(kafka)
        second(kafka)
        eventually(lambda: said_so_far(kafka, scene) > 20)
        with paused(sleeper.process.pid), running_worker(tmp_path, kafka.bootstrap_servers) as successor:
            wait_until_done(kafka)
        # The successor was killed at the end of its block, and what it wrote is in the changelog alone.
        assert successor.process.returncode == -signal.SIGKILL
        eventually(sleeper.is_ready)
        wait_until_done(kafka)
        sleeper.kill()
    with running_worker(tmp_path, kafka.bootstrap_servers):
        last(kafka)
        assert_exact(kafka, scene)


def test_the_broker_stands_still_and_then_the_worker_is_killed(tmp_path: Path) -> None:
    """No changelog record is given up while the broker is away, however long: the next worker would miss it."""
    scene = generate_traffic(seed=14)
    first, second, last = thirds(scene)
    with running_broker(tmp_path / "kafka") as broker:
        with running_worker(tmp_path, broker.bootstrap_servers) as worker:
            first(broker)
            second(broker)
            eventually(lambda: said_so_far(broker, scene) > 20)
            # As long as Faust's producer waits for a request, and some more.
            with paused(broker.pid), pytest.raises(subprocess.TimeoutExpired):
                worker.process.wait(40)
            eventually(worker.is_ready)
            wait_until_done(broker)
            worker.kill()
        with running_worker(tmp_path, broker.bootstrap_servers):
            last(broker)
            assert_exact(broker, scene)
