"""Fault tests of the stream with its tables on disk: after any fault the alerts are those of the brute-force model.

TOWERWATCH_STREAMS_FAULT_ROUNDS (default 1) is the number of rounds of the random test, each with another seed.
"""

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from domain.windows import Window
from local.kafka import Broker, running_broker
from tests.domain.logs import an_interest, expected_ids
from tests.domain.test_rule import seen
from tests.faults.test_streams import assert_exact, paused, split_events, wait_until_done
from tests.streams.commands import run_verify
from tests.streams.disk_workers import DiskWorkers, running_disk_workers
from tests.streams.events import interest_set, observed
from tests.streams.process import is_everything_acknowledged, publish, read_alert_ids, read_records
from tests.streams.traffic import generate_traffic
from tests.waiting import eventually
from towerwatch.topics import JOIN_PARTITIONS, Topic

pytestmark = pytest.mark.faults

ROUNDS = int(os.environ.get("TOWERWATCH_STREAMS_FAULT_ROUNDS", "1"))


def kill_and_restart(workers: DiskWorkers, name: str, _chance: random.Random) -> None:
    """Kill a worker with SIGKILL and start it again with its disk."""
    workers.kill(name)
    workers.start(name)


def kill_and_restart_without_disk(workers: DiskWorkers, name: str, _chance: random.Random) -> None:
    """Kill a worker with SIGKILL and start it again with an empty disk."""
    workers.kill(name)
    workers.delete_directory(name)
    workers.start(name)


def stop_and_restart(workers: DiskWorkers, name: str, chance: random.Random) -> None:
    """Stop a worker with SIGTERM and start it again later: two rebalances."""
    workers.terminate(name)
    workers.wait_random_time(chance, 5)
    workers.start(name)


def pause(workers: DiskWorkers, name: str, chance: random.Random) -> None:
    """Pause a worker for less or more than its session timeout; it then continues with the partitions it had."""
    with paused(workers.running[name].process.pid):
        workers.wait_random_time(chance, 12)


Fault = Callable[[DiskWorkers, str, random.Random], None]
EVERY_FAULT: tuple[Fault, ...] = (kill_and_restart, kill_and_restart_without_disk, stop_and_restart, pause)


def assert_exact_under(faults: tuple[Fault, ...], seed: int, broker: Broker, folder: Path) -> None:
    """Publish traffic in pieces, with a fault at a random moment after each, and require exactly its alerts."""
    chance = random.Random(seed)
    traffic = generate_traffic(seed)
    with running_disk_workers(folder, broker, "left", "right") as workers:
        eventually(lambda: all(each.is_ready() for each in workers.running.values()))
        for piece in split_events(traffic, 3):
            publish(broker.bootstrap_servers, piece)
            workers.wait_random_time(chance, 5)
            chance.choice(faults)(workers, chance.choice(("left", "right")), chance)
        assert_exact(broker, traffic)
    found = run_verify(broker.bootstrap_servers)
    assert (found["missing"], found["extra"], sum(found["not_comparable"].values())) == (0, 0, 0), found
    assert found["same"] == found["computed"] == found["raised"] >= len(traffic.alert_ids)


@pytest.mark.parametrize("fault", [kill_and_restart, kill_and_restart_without_disk])
def test_repeated_kills_of_one_of_two_workers(fault: Fault, kafka: Broker, tmp_path: Path) -> None:
    """After several faults of one kind the ids on the topic are the model's, and `verify` finds no difference."""
    assert_exact_under((fault,), 20 + EVERY_FAULT.index(fault), kafka, tmp_path)


@pytest.mark.parametrize("seed", range(30, 30 + ROUNDS))
def test_faults_of_all_kinds(seed: int, kafka: Broker, tmp_path: Path) -> None:
    """After faults of all kinds in a random order the alerts are still exact."""
    assert_exact_under(EVERY_FAULT, seed, kafka, tmp_path)


AIRPORT = "ZZZ1"
CHANGELOGS = tuple(f"streams-{table}-changelog" for table in ("airports", "history", "interests"))


@contextmanager
def without_changelogs(broker: Broker) -> Iterator[None]:
    """Make the broker refuse all changelog records (as too large) for the block, and accept all others."""
    _configure_changelogs(broker, {"max.message.bytes": "1"})
    try:
        yield
    finally:
        _configure_changelogs(broker, {})


def _configure_changelogs(broker: Broker, config: dict[str, str]) -> None:
    """Set the configuration of the changelog topics."""
    config = {"cleanup.policy": "compact", **config}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, config) for name in CHANGELOGS]

    async def alter() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            responses = await admin.alter_configs(resources)
        finally:
            await admin.close()
        assert [code for response in responses for code, *_ in response.resources] == [0] * len(CHANGELOGS)

    asyncio.run(alter())


def count_changelog_records(broker: Broker) -> int:
    """Return the number of records in all changelogs."""
    return sum(len(read_records(broker.bootstrap_servers, Topic(name, JOIN_PARTITIONS))) for name in CHANGELOGS)


def test_an_entry_written_to_disk_alone_reaches_the_changelog_after_a_restart(tmp_path: Path) -> None:
    """A worker ends between the write to its disk and the record in the changelog; then the event comes again.

    The event is a duplicate for a worker that starts with that disk. If the worker only acknowledged the duplicate,
    nobody would ever send the missing changelog record, and a later worker with an empty disk would lack the event.
    """
    interest = an_interest(interest_id=uuid4(), user_id=uuid4(), airport=AIRPORT, window=Window.ONE_DAY, high=20)
    morning = seen(0, 18, [hour + 0.5 for hour in range(18)])
    log = [morning, *(seen(hour, hour + 1, [hour + 0.5]) for hour in range(18, 72))]
    expected = expected_ids(interest, log)
    assert len(expected) == 1, "the first day has more than 20, with the morning's"
    with running_broker(tmp_path / "kafka") as broker, running_disk_workers(tmp_path, broker, "only") as workers:
        for event in (interest_set(interest, 1), observed(AIRPORT, 1, morning)):
            eventually(workers.running["only"].is_ready)
            before = count_changelog_records(broker)
            with without_changelogs(broker):
                publish(broker.bootstrap_servers, [event])
                workers.wait_for_crash("only")
            assert count_changelog_records(broker) == before
            assert not is_everything_acknowledged(broker.bootstrap_servers)
            workers.start("only")
            wait_until_done(broker)
        assert read_alert_ids(broker.bootstrap_servers, [interest.interest_id]) == set()
        workers.kill("only")
        workers.delete_directory("only")
        workers.start("only")
        publish(broker.bootstrap_servers, [observed(AIRPORT, n + 2, each) for n, each in enumerate(log[1:])])
        wait_until_done(broker)
        assert read_alert_ids(broker.bootstrap_servers, [interest.interest_id]) == expected
        assert run_verify(broker.bootstrap_servers)["same"] == len(expected)
