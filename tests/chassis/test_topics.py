"""The creation of topics, and waiting for a broker."""

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
class ExampleTopic:
    """The description of a topic."""

    name: str
    partitions: int = 3
    config: Mapping[str, str] = field(default_factory=dict)


async def read_partition_counts(bootstrap_servers: str) -> dict[str, int]:
    """Return the partition count of each topic of the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()


def test_missing_topics_are_created(kafka: Broker) -> None:
    """On return every topic exists with its partition count, also the topics that existed before."""
    first, second = ExampleTopic("created.first"), ExampleTopic("created.second", 5, {"cleanup.policy": "compact"})
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [first]))
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [first, second]))
    counts = asyncio.run(read_partition_counts(kafka.bootstrap_servers))
    assert (counts[first.name], counts[second.name]) == (3, 5)


def test_several_processes_may_create_the_same_topics_at_once(kafka: Broker) -> None:
    """All of them succeed, so that replicas may start together."""
    wanted = [ExampleTopic(f"together.{number}") for number in range(5)]

    async def together() -> None:
        await asyncio.gather(*(ensure_topics(kafka.bootstrap_servers, wanted) for _ in range(6)))

    asyncio.run(together())
    assert asyncio.run(read_partition_counts(kafka.bootstrap_servers)).keys() >= {topic.name for topic in wanted}


def test_another_partition_count_raises(kafka: Broker) -> None:
    """The error contains both counts; with another count, keys would be in other partitions."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [ExampleTopic("counted", 3)]))
    with pytest.raises(TopicMismatchError, match="counted has 3 partitions where 4 are needed"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, [ExampleTopic("counted", 4)]))


def test_an_invalid_topic_setting_raises_at_once(kafka: Broker) -> None:
    """A permanent error is not retried, and contains the broker's reason."""
    with pytest.raises(TopicRefusedError, match=r"refused: .*cleanup\.policy"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, [ExampleTopic("refused", 1, {"cleanup.policy": "burn"})]))


def test_too_few_brokers_for_the_replicas_are_waited_for(kafka: Broker) -> None:
    """Other brokers may still be starting: the creation is retried until the timeout, which raises with the reason."""
    topics = [ExampleTopic("replicated")]
    with pytest.raises(BrokerUnreachableError, match=r"(?i)replicat"):
        asyncio.run(ensure_topics(kafka.bootstrap_servers, topics, replication_factor=3, timeout_s=8))


def test_one_answering_broker_ends_the_wait(kafka: Broker) -> None:
    """The wait ends when any of the listed servers answers."""
    asyncio.run(wait_for_broker(f"127.0.0.1:1,{kafka.bootstrap_servers}"))


def test_the_wait_for_a_broker_ends_at_its_timeout(caplog: pytest.LogCaptureFixture) -> None:
    """The error contains the address, and nothing is logged."""
    with pytest.raises(BrokerUnreachableError, match=r"127\.0\.0\.1:1 .* within 0\.5 s"):
        asyncio.run(wait_for_broker("127.0.0.1:1", timeout_s=0.5))
    assert not caplog.records


def test_an_invalid_address_raises_at_once() -> None:
    """An error in the list of servers does not wait for the timeout."""
    with pytest.raises(BrokerUnreachableError, match="is not a list of host:port"):
        asyncio.run(wait_for_broker("127.0.0.1:none"))


def test_a_server_that_does_not_answer_is_no_broker() -> None:
    """The wait ends only with an answered metadata request, not with an open port."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(BrokerUnreachableError):
            asyncio.run(wait_for_broker(f"127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.5))


@pytest.mark.parametrize("servers", ["kafka..example:9092", ".kafka:9092", "a" * 64 + ":9092", "no-name.invalid:9092"])
def test_a_name_that_cannot_be_looked_up_is_an_unreachable_broker(servers: str) -> None:
    """Whatever the look-up raises, the broker is waited for until the timeout."""
    with pytest.raises(BrokerUnreachableError):
        asyncio.run(wait_for_broker(servers, 0.5))
