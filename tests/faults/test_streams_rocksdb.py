"""The stream with its tables on disk: whatever is killed, kept or lost, the alerts are those of the brute-force model.

How often the last story is told, each time with another seed, says TOWERWATCH_STREAMS_FAULT_ROUNDS (default 1).
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
from tests.faults.test_streams import assert_exact, parts, paused, wait_until_done
from tests.streams.commands import run_verify
from tests.streams.disk_workers import DiskWorkers, running_disk_workers
from tests.streams.events import interest_set, observed
from tests.streams.process import is_everything_acknowledged, publish, read_alert_ids, read_records
from tests.streams.traffic import generate_traffic
from tests.waiting import eventually
from towerwatch.topics import JOIN_PARTITIONS, Topic

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("TOWERWATCH_STREAMS_FAULT_ROUNDS", "1"))


def killed(crew: DiskWorkers, name: str, _chance: random.Random) -> None:
    """kill -9; what it had on disk is there when it is begun again."""
    crew.kill(name)
    crew.begin(name)


def killed_and_wiped(crew: DiskWorkers, name: str, _chance: random.Random) -> None:
    """kill -9, and its disk is lost; it is begun again on an empty one."""
    crew.kill(name)
    crew.wipe(name)
    crew.begin(name)


def gone_and_come(crew: DiskWorkers, name: str, chance: random.Random) -> None:
    """It leaves in an orderly way, and comes back later: two rebalances."""
    crew.let_go(name)
    crew.work_on(chance, 5)
    crew.begin(name)


def stood_still(crew: DiskWorkers, name: str, chance: random.Random) -> None:
    """It stands still, for less or more than its session lasts, and goes on with what it takes for its own."""
    with paused(crew.running[name].process.pid):
        crew.work_on(chance, 12)


Fault = Callable[[DiskWorkers, str, random.Random], None]
EVERY_FAULT: tuple[Fault, ...] = (killed, killed_and_wiped, gone_and_come, stood_still)


def assert_exact_under(faults: tuple[Fault, ...], seed: int, broker: Broker, folder: Path) -> None:
    """Publish a scene in pieces, with a fault at a random moment after each; then nothing is missing or too much."""
    chance = random.Random(seed)
    scene = generate_traffic(seed)
    with running_disk_workers(folder, broker, "left", "right") as crew:
        eventually(lambda: all(each.is_ready() for each in crew.running.values()))
        for piece in parts(scene, 3):
            publish(broker.bootstrap_servers, piece)
            crew.work_on(chance, 5)
            chance.choice(faults)(crew, chance.choice(("left", "right")), chance)
        assert_exact(broker, scene)
    found = run_verify(broker.bootstrap_servers)
    assert (found["missing"], found["extra"], sum(found["not_comparable"].values())) == (0, 0, 0), found
    assert found["same"] == found["computed"] == found["raised"] >= len(scene.alert_ids)


@pytest.mark.parametrize("fault", [killed, killed_and_wiped])
def test_two_workers_of_which_now_this_one_and_now_that_one_is(fault: Fault, kafka: Broker, tmp_path: Path) -> None:
    """Each fault again and again: the ids on the topic are the model's, and `verify` says the same."""
    assert_exact_under((fault,), 20 + EVERY_FAULT.index(fault), kafka, tmp_path)


@pytest.mark.parametrize("seed", range(30, 30 + ROUNDS))
def test_faults_of_all_kinds(seed: int, kafka: Broker, tmp_path: Path) -> None:
    """Whatever comes after whatever."""
    assert_exact_under(EVERY_FAULT, seed, kafka, tmp_path)


AIRPORT = "ZZZ1"
CHANGELOGS = tuple(f"streams-{table}-changelog" for table in ("airports", "history", "interests"))


@contextmanager
def without_changelogs(broker: Broker) -> Iterator[None]:
    """The broker takes no record of a changelog, for each is too large for it; all else it does."""
    _configure(broker, {"max.message.bytes": "1"})
    try:
        yield
    finally:
        _configure(broker, {})


def _configure(broker: Broker, config: dict[str, str]) -> None:
    config = {"cleanup.policy": "compact", **config}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, config) for name in CHANGELOGS]

    async def asking() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            answers = await admin.alter_configs(resources)
        finally:
            await admin.close()
        assert [code for answer in answers for code, *_ in answer.resources] == [0] * len(CHANGELOGS)

    asyncio.run(asking())


def in_changelogs(broker: Broker) -> int:
    return sum(len(read_records(broker.bootstrap_servers, Topic(name, JOIN_PARTITIONS))) for name in CHANGELOGS)


def test_what_a_worker_wrote_to_its_disk_alone_is_not_lost_with_that_disk(tmp_path: Path) -> None:
    """A worker ends between the write to its disk and the record in the changelog; then the event comes again.

    It is a repeat for who begins with that disk. If it acknowledges it as such and no more, then nobody ever sends what
    the changelog lacks, and who begins after it with an empty disk knows nothing of the event.
    """
    wish = an_interest(interest_id=uuid4(), user_id=uuid4(), airport=AIRPORT, window=Window.ONE_DAY, high=20)
    morning = seen(0, 18, [hour + 0.5 for hour in range(18)])
    log = [morning, *(seen(hour, hour + 1, [hour + 0.5]) for hour in range(18, 72))]
    expected = expected_ids(wish, log)
    assert len(expected) == 1, "the first day has more than 20, with the morning's"
    with running_broker(tmp_path / "kafka") as broker, running_disk_workers(tmp_path, broker, "only") as crew:
        for event in (interest_set(wish, 1), observed(AIRPORT, 1, morning)):
            eventually(crew.running["only"].is_ready)
            before = in_changelogs(broker)
            with without_changelogs(broker):
                publish(broker.bootstrap_servers, [event])
                crew.await_crash("only")
            assert in_changelogs(broker) == before
            assert not is_everything_acknowledged(broker.bootstrap_servers)
            crew.begin("only")
            wait_until_done(broker)
        assert read_alert_ids(broker.bootstrap_servers, [wish.interest_id]) == set()
        crew.kill("only")
        crew.wipe("only")
        crew.begin("only")
        publish(broker.bootstrap_servers, [observed(AIRPORT, n + 2, each) for n, each in enumerate(log[1:])])
        wait_until_done(broker)
        assert read_alert_ids(broker.bootstrap_servers, [wish.interest_id]) == expected
        assert run_verify(broker.bootstrap_servers)["same"] == len(expected)
