"""The `kafka` fixture: one real broker for all test modules of a worker, on a free port, emptied before each module.

`tests/conftest.py` names this module among its `pytest_plugins`. A broker costs as much computing as hundreds of tests,
so it is not started anew for each module. Records stay until the end of the module: the tests of one module use
different keys, and never see the records of another module.
"""

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from chassis.topics import ensure_topics
from local.kafka import Broker, running_broker
from towerwatch.topics import CATALOGUE


@pytest.fixture(scope="session")
def kafka_of_all_modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield a broker that is ready, without a topic; killed with the test process, even on a crash."""
    with running_broker(tmp_path_factory.mktemp("kafka"), topics=()) as broker:
        yield broker


@pytest.fixture(scope="module")
def kafka(kafka_of_all_modules: Broker) -> Broker:
    """Return a broker that is ready and has the catalogue's topics, without a record or a consumer group."""
    asyncio.run(empty_broker(kafka_of_all_modules.bootstrap_servers))
    return kafka_of_all_modules


async def empty_broker(bootstrap_servers: str) -> None:
    """Delete all topics and all consumer groups, also those with members, and create the catalogue's topics anew."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        # With the internal topic of their offsets the groups go, even if a member was killed a moment ago.
        deleted = set(await admin.list_topics())
        await admin.delete_topics(sorted(deleted))
        # The broker learns of it a moment after the controller. It makes internal topics anew as soon as needed.
        while any(name in deleted and not name.startswith("__") for name in await admin.list_topics()):
            await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await ensure_topics(bootstrap_servers, CATALOGUE)
