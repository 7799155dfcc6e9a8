import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from chassis.topics import (
    BrokerUnreachableError,
    TopicMismatchError,
    TopicRefusedError,
    ensure_topics,
    wait_for_broker,
)
from local.kafka import Broker


@dataclass(frozen=True, slots=True)
class Wanted:
    name: str
    partitions: int = 3
    config: Mapping[str, str] = field(default_factory=dict)


async def partition_counts(bootstrap_servers: str) -> dict[str, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()


def test_missing_topics_are_created(kafka: Broker) -> None:
    """On return every topic is there with its partition count, those of before included."""
    first, second = Wanted("created.first"), Wanted("created.second", 5, {"cleanup.policy": "compact"})
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [first]))
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [first, second]))
    counts = asyncio.run(partition_counts(kafka.bootstrap_servers))
    assert (counts[first.name], counts[second.name]) == (3, 5)


def test_replicas_may_start_together(kafka: Broker) -> None:
    """Several processes that ensure the same topics at the same time all succeed."""
    wanted = [Wanted(f"together.{number}") for number in range(5)]

    async def together() -> None:
        await asyncio.gather(*(ensure_topics(kafka.bootstrap_servers, wanted) for _ in range(6)))

    asyncio.run(together())
    assert asyncio.run(partition_counts(kafka.bootstrap_servers)).keys() >= {topic.name for topic in wanted}


def test_other_partition_count_is_refused(kafka: Broker) -> None:
    """A topic with another count than wanted is an error that names both, for keys would land elsewhere."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [Wanted("counted", 3)]))
    with pytest.raises(TopicMismatchError, match="counted has 3 partitions where 4 are needed"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, [Wanted("counted", 4)]))


def test_wrong_setting_is_refused_at_once(kafka: Broker) -> None:
    """What no retry can mend is not retried: the broker's reason is in the error."""
    with pytest.raises(TopicRefusedError, match=r"refused: .*cleanup\.policy"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, [Wanted("refused", 1, {"cleanup.policy": "burn"})]))


def test_too_few_brokers_are_waited_for(kafka: Broker) -> None:
    """More replicas than brokers may be brokers still starting: waited for until the deadline, then said."""
    with pytest.raises(BrokerUnreachableError, match=r"(?i)replicat"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, [Wanted("replicated")], replication_factor=3, timeout_s=1.5))


def test_answer_of_a_broker_ends_the_wait(kafka: Broker) -> None:
    """A broker among the servers that answers is enough, whichever of them it is."""
    asyncio.run(wait_for_broker(f"127.0.0.1:1,{kafka.bootstrap_servers}"))


def test_wait_ends_at_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens: the wait ends in time, with the address in the error and silence in the log."""
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:1 .* within 0\.5 s"):
        asyncio.run(wait_for_broker("127.0.0.1:1", timeout_s=0.5))
    assert not caplog.records


def test_address_that_is_none_is_said_at_once() -> None:
    """A mistake in the list of servers is not waited out."""
    with pytest.raises(BrokerUnreachableError, match="is not a list of host:port"):
        asyncio.run(wait_for_broker("127.0.0.1:none"))


def test_mute_listener_is_no_broker() -> None:
    """An open port proves nothing: only an answered metadata request does."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(BrokerUnreachableError):
            asyncio.run(wait_for_broker(f"127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.5))
