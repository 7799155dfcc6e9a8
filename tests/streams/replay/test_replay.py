"""`replay`: every alert once more, to a topic of the operator's choice, and what it refuses."""

import asyncio
from collections.abc import Iterator, Mapping
from uuid import UUID

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.topics import ensure_topics
from local.kafka import Broker
from streams.__main__ import main
from streams.replay import log as inputs, replay
from tests.ports import free_port
from tests.streams.commands import run_command, run_replay
from tests.streams.events import Event
from tests.streams.process import GROUP, publish, read_records
from tests.streams.traffic import GeneratedTraffic, generate_traffic
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, INTERESTS_CHANGED, Topic, partition_of

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command logs to the standard error of its process, which here is pytest's, and of one test alone."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def scene(kafka: Broker) -> GeneratedTraffic:
    """All that is on the topics of the module's broker, but for one event that no stream can use."""
    scene = generate_traffic(seed=3, airports=6)
    publish(kafka.bootstrap_servers, [Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", b"\xff", 1), *scene.events])
    return scene


def output(name: str) -> Topic:
    return Topic(name, ALERTS_RAISED.partitions)


def committed(kafka: Broker, group: str) -> Mapping[TopicPartition, int]:
    async def asking() -> Mapping[TopicPartition, int]:
        async with inputs.open_admin_client(kafka.bootstrap_servers) as admin:
            return await inputs.fetch_committed_offsets(admin, group)

    return asyncio.run(asking())


def test_what_is_computed_again_is_the_brute_force_models(kafka: Broker, scene: GeneratedTraffic) -> None:
    """Each alert once, in the form of those that were raised, to the topic that was named and to no other."""
    done = run_replay(kafka.bootstrap_servers, "again.1")
    found = read_records(kafka.bootstrap_servers, output("again.1"))
    alerts = [AlertRaised.FromString(record.value) for record in found]
    assert {UUID(each.alert_id) for each in alerts} == scene.alert_ids
    assert len(alerts) == len(scene.alert_ids) > 200
    published = {each.timestamp for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED) for each in all_of(kafka, topic)}
    for record, alert in zip(found, alerts, strict=True):
        assert record.key == alert.user_id.encode()
        assert record.partition == partition_of(alert.user_id, ALERTS_RAISED)
        assert alert.cause_published_at.ToMilliseconds() in published
    assert all_of(kafka, ALERTS_RAISED) == []
    assert f"{len(alerts):,} alerts sent to again.1" in done.stdout
    assert f"{len(scene.events) + 1:,} events read" in done.stdout
    assert "1 unusable" in done.stdout


def all_of(kafka: Broker, topic: Topic) -> list:
    return read_records(kafka.bootstrap_servers, topic)


def test_its_group_is_new_and_has_committed_all_when_it_is_done(kafka: Broker, scene: GeneratedTraffic) -> None:
    """So that one that was interrupted can be told; the stream's own group is left alone."""
    run_replay(kafka.bootstrap_servers, "again.2", "--group", "somebodys")
    ends: dict[TopicPartition, int] = dict.fromkeys(inputs.list_partitions(FLIGHTS_OBSERVED, INTERESTS_CHANGED), 0)
    for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED):
        for record in all_of(kafka, topic):
            ends[TopicPartition(topic.name, record.partition)] = record.offset + 1
    assert committed(kafka, "somebodys") == ends
    assert 0 in ends.values(), "also of a partition that holds nothing"
    assert committed(kafka, GROUP) == {}
    again = run_command(
        kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "again.3", "--group", "somebodys"
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "the consumer group somebodys is in use, or was" in again.stderr
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize("group", [GROUP, "notifier", "collector", "collector-scheduler"])
def test_no_group_of_ours_is_committed_for(kafka: Broker, group: str, monkeypatch, capsys) -> None:
    """Not even before it has committed anything: what a replay has read, the service would never read."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    assert main(["replay", "--from-beginning", "--output", "x", "--group", group]) == 2
    assert f"{group} is a consumer group of Towerwatch's own" in capsys.readouterr().err
    assert committed(kafka, group) == {}


def test_a_group_that_is_at_work_is_not_joined(kafka: Broker, monkeypatch, capsys) -> None:
    """It may have committed nothing yet."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)

    async def beside() -> int:
        consumer = AIOKafkaConsumer(
            FLIGHTS_OBSERVED.name,
            bootstrap_servers=kafka.bootstrap_servers,
            group_id="at-work",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            return await asyncio.to_thread(main, ["replay", "--from-beginning", "--output", "x", "--group", "at-work"])
        finally:
            await consumer.stop()

    assert asyncio.run(beside()) == 2
    assert "the consumer group at-work is in use" in capsys.readouterr().err


def test_one_that_is_interrupted_is_told_by_what_its_group_has_committed(
    kafka: Broker, scene: GeneratedTraffic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is compared with it."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setattr(replay, "PARTITION_NUMBERS", range(5))
    assert main(["replay", "--from-beginning", "--output", "half"]) == 0
    assert {each.partition for each in committed(kafka, "replay-of-half")} == set(range(5))
    assert main(["verify", "--against", "half"]) == 2
    assert "the replay to half was interrupted" in capsys.readouterr().err


def test_a_topic_that_holds_something_is_not_mixed_with_a_replay(kafka: Broker, scene: GeneratedTraffic) -> None:
    """Not even with another replay's."""
    run_replay(kafka.bootstrap_servers, "again.4")
    done = run_command(
        kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "again.4", "--group", "another"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "again.4 holds records already" in done.stderr


def test_a_topic_of_another_partition_count_is_refused(kafka: Broker, scene: GeneratedTraffic) -> None:
    """Alerts would not lie where those that were raised lie."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [Topic("narrow", 3)]))
    done = run_command(kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "narrow")
    assert done.returncode == 2
    assert "narrow has 3 partitions where 12 are needed" in done.stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [
        *((topic.name, "one of Towerwatch's own topics") for topic in (ALERTS_RAISED, FLIGHTS_OBSERVED)),
        ("alerts.dead-letter.v1", "one of Towerwatch's own topics"),
        ("streams-airports-changelog", "one of Towerwatch's own topics"),
        ("__consumer_offsets", "one of Towerwatch's own topics"),
        ("two words", "no topic's name"),
        ("..", "no topic's name"),
        ("", "no topic's name"),
    ],
)
def test_no_topic_of_ours_is_written_to(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """People would be mailed once more; it is known before anything is asked of a broker."""
    assert main(["replay", "--from-beginning", "--output", name]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "--output", "x"],
        ["replay", "--from-beginning"],
        ["replay", "--from-beginning", "--output", "x", "--fast"],
        ["verify", "x"],
        ["undo"],
    ],
)
def test_what_is_not_understood_ends_with_2_and_the_usage(arguments: list[str], capsys) -> None:
    """And not with a worker."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: python -m streams" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["verify"], ["replay", "--from-beginning", "--output", "x"]])
def test_a_broker_that_is_not_there_is_one_sentence(arguments, monkeypatch, capsys) -> None:
    """Soon, and with 2."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(inputs, "UNREACHABLE_AFTER_S", 0.5)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("streams: no Kafka broker at 127.0.0.1")
    assert said.err.count("\n") == 1


def test_a_broker_without_the_inputs_is_not_mistaken_for_an_empty_log(kafka: Broker, monkeypatch, capsys) -> None:
    """It is another broker than the one that is meant."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setattr(replay, "INPUTS", (Topic("flights.observed.v9", 12),))
    assert main(["replay", "--from-beginning", "--output", "x"]) == 2
    assert "no topic flights.observed.v9 of 12 partitions" in capsys.readouterr().err


def test_a_setting_that_is_missing_is_named(monkeypatch, capsys) -> None:
    """And it is the only one that a command needs."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["verify"])
    assert end.value.code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
