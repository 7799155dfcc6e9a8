"""Fault tests of the stream: after crashes, pauses and rebalances the alerts are those of the brute-force model."""

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
from tests.streams.process import StreamsProcess, is_everything_acknowledged, publish, read_alert_ids, running_worker
from tests.streams.traffic import GeneratedTraffic, generate_traffic
from tests.waiting import eventually

pytestmark = pytest.mark.faults


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """Pause a process (SIGSTOP) for the block, as on a machine that swaps or migrates."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def split_events(traffic: GeneratedTraffic, count: int) -> list[tuple[Event, ...]]:
    """Split the traffic's events into `count` pieces, in their order."""
    size = len(traffic.events) // count + 1
    return [traffic.events[begin : begin + size] for begin in range(0, len(traffic.events), size)]


def make_third_publishers(traffic: GeneratedTraffic) -> tuple[Callable[[Broker], object], ...]:
    """Return three functions, each of which publishes a third of the traffic to a broker."""
    return tuple(lambda broker, part=part: publish(broker.bootstrap_servers, part) for part in split_events(traffic, 3))  # type: ignore[misc]


def count_alerts_so_far(broker: Broker, traffic: GeneratedTraffic) -> int:
    """Return the number of the traffic's alerts that are published now."""
    return len(read_alert_ids(broker.bootstrap_servers, traffic.interest_ids))


def wait_until_done(broker: Broker) -> None:
    """Wait until the stream has acknowledged all events."""

    def is_done() -> bool:
        try:
            return is_everything_acknowledged(broker.bootstrap_servers)
        except KafkaError as error:
            # A broker that was paused is fenced for a moment after the pause, and its metadata name no broker.
            if not error.retriable:
                raise
            return False

    eventually(is_done, "the acknowledgement of everything", within_s=150)


def assert_exact(broker: Broker, traffic: GeneratedTraffic) -> None:
    """Require that exactly the traffic's alerts are published, no more and no fewer."""
    wait_until_done(broker)
    raised = read_alert_ids(broker.bootstrap_servers, traffic.interest_ids)
    assert (len(traffic.alert_ids - raised), len(raised - traffic.alert_ids)) == (0, 0)


def share_airports(*workers: StreamsProcess) -> bool:
    """Return True if each worker owns some of the airports, and no airport has two owners."""
    shown = [set(worker.airports()) for worker in workers]
    return all(shown) and sum(map(len, shown)) == len(set().union(*shown))


def test_partitions_move_to_another_worker_and_back(kafka: Broker, tmp_path: Path) -> None:
    """A second worker joins in the middle and leaves again: the first one continues from the second one's entries."""
    traffic = generate_traffic(seed=12, airports=16, weeks_before=5)
    first, second, last = make_third_publishers(traffic)
    with running_worker(tmp_path, kafka.bootstrap_servers, STORE="rocksdb") as stays:
        first(kafka)
        eventually(lambda: count_alerts_so_far(kafka, traffic) > 20)
        with running_worker(tmp_path, kafka.bootstrap_servers, STORE="rocksdb") as guest:
            second(kafka)
            eventually(lambda: share_airports(stays, guest))
            wait_until_done(kafka)
            last(kafka)
            eventually(lambda: count_alerts_so_far(kafka, traffic) > len(traffic.alert_ids) * 2 // 3)
            assert guest.terminate() == 0, guest.log()
        assert_exact(kafka, traffic)
        eventually(lambda: set(traffic.airports) <= stays.airports().keys())
    assert run_verify(kafka.bootstrap_servers)["same"] == len(traffic.alert_ids)


def test_late_writes_of_a_paused_worker_do_not_undo_its_successors(kafka: Broker, tmp_path: Path) -> None:
    """The paused worker continues to write after the pause, and its entries are older than its successor's."""
    traffic = generate_traffic(seed=13, airports=16)
    first, second, last = make_third_publishers(traffic)
    with running_worker(tmp_path, kafka.bootstrap_servers) as sleeper:
        first(kafka)
        second(kafka)
        eventually(lambda: count_alerts_so_far(kafka, traffic) > 20)
        with paused(sleeper.process.pid), running_worker(tmp_path, kafka.bootstrap_servers) as successor:
            wait_until_done(kafka)
        # The successor was killed at the end of its block, and what it wrote is in the changelog alone.
        assert successor.process.returncode == -signal.SIGKILL
        eventually(sleeper.is_ready)
        wait_until_done(kafka)
        sleeper.kill()
    with running_worker(tmp_path, kafka.bootstrap_servers):
        last(kafka)
        assert_exact(kafka, traffic)


def test_no_changelog_record_is_lost_while_the_broker_is_paused(tmp_path: Path) -> None:
    """The worker sends every record after a long pause of the broker, else the next worker would miss it."""
    traffic = generate_traffic(seed=14)
    first, second, last = make_third_publishers(traffic)
    with running_broker(tmp_path / "kafka") as broker:
        with running_worker(tmp_path, broker.bootstrap_servers) as worker:
            first(broker)
            second(broker)
            eventually(lambda: count_alerts_so_far(broker, traffic) > 20)
            # Longer than the request timeout of Faust's producer.
            with paused(broker.pid), pytest.raises(subprocess.TimeoutExpired):
                worker.process.wait(40)
            eventually(worker.is_ready)
            wait_until_done(broker)
            worker.kill()
        with running_worker(tmp_path, broker.bootstrap_servers):
            last(broker)
            assert_exact(broker, traffic)
