"""Tests of the command `replay`: the alerts in its output topic, and the arguments that it refuses."""

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


@pytest.fixture(autouse=True)
def reset_logging() -> Iterator[None]:
    """Reset the logging after each test: a command configures it for the standard error of one test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def traffic(kafka: Broker) -> GeneratedTraffic:
    """Publish the traffic of all tests, and one unusable event."""
    traffic = generate_traffic(seed=3, airports=6)
    publish(kafka.bootstrap_servers, [Event(FLIGHTS_OBSERVED, "ZZZ1", b"ZZZ1", b"\xff", 1), *traffic.events])
    return traffic


def output(name: str) -> Topic:
    """Return the output topic of this name."""
    return Topic(name, ALERTS_RAISED.partitions)


def fetch_committed(kafka: Broker, group: str) -> Mapping[TopicPartition, int]:
    """Fetch the committed offsets of a group in the input topics."""

    async def fetch() -> Mapping[TopicPartition, int]:
        async with inputs.open_admin_client(kafka.bootstrap_servers) as admin:
            return await inputs.fetch_committed_offsets(admin, group)

    return asyncio.run(fetch())


def test_a_replay_sends_the_alerts_of_the_brute_force_model(kafka: Broker, traffic: GeneratedTraffic) -> None:
    """Each alert is sent once, in the form of published alerts, to the named topic and to no other."""
    done = run_replay(kafka.bootstrap_servers, "again.1")
    found = read_records(kafka.bootstrap_servers, output("again.1"))
    alerts = [AlertRaised.FromString(record.value) for record in found]
    assert {UUID(each.alert_id) for each in alerts} == traffic.alert_ids
    assert len(alerts) == len(traffic.alert_ids) > 200
    published = {each.timestamp for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED) for each in read_all(kafka, topic)}
    for record, alert in zip(found, alerts, strict=True):
        assert record.key == alert.user_id.encode()
        assert record.partition == partition_of(alert.user_id, ALERTS_RAISED)
        assert alert.cause_published_at.ToMilliseconds() in published
    assert read_all(kafka, ALERTS_RAISED) == []
    assert f"{len(alerts):,} alerts sent to again.1" in done.stdout
    assert f"{len(traffic.events) + 1:,} events read" in done.stdout
    assert "1 unusable" in done.stdout


def read_all(kafka: Broker, topic: Topic) -> list:
    return read_records(kafka.bootstrap_servers, topic)


def test_the_group_of_a_replay_has_committed_all_partitions_at_the_end(
    kafka: Broker, traffic: GeneratedTraffic
) -> None:
    """Missing commits identify an interrupted replay. The stream's group stays unchanged; a used group is refused."""
    run_replay(kafka.bootstrap_servers, "again.2", "--group", "somebodys")
    ends: dict[TopicPartition, int] = dict.fromkeys(inputs.list_partitions(FLIGHTS_OBSERVED, INTERESTS_CHANGED), 0)
    for topic in (FLIGHTS_OBSERVED, INTERESTS_CHANGED):
        for record in read_all(kafka, topic):
            ends[TopicPartition(topic.name, record.partition)] = record.offset + 1
    assert fetch_committed(kafka, "somebodys") == ends
    assert 0 in ends.values(), "also of an empty partition"
    assert fetch_committed(kafka, GROUP) == {}
    again = run_command(
        kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "again.3", "--group", "somebodys"
    )
    assert (again.returncode, again.stdout) == (2, "")
    assert "the consumer group somebodys is in use, or was" in again.stderr
    assert again.stderr.count("\n") == 1


@pytest.mark.parametrize("group", [GROUP, "notifier", "collector", "collector-scheduler"])
def test_a_group_of_a_service_is_refused(kafka: Broker, group: str, monkeypatch, capsys) -> None:
    """The group is refused even without commits: the service would never read the records that a replay committed."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    assert main(["replay", "--from-beginning", "--output", "x", "--group", group]) == 2
    assert f"{group} is a consumer group of Towerwatch's own" in capsys.readouterr().err
    assert fetch_committed(kafka, group) == {}


def test_a_group_with_members_is_refused(kafka: Broker, monkeypatch, capsys) -> None:
    """Such a group may have committed no offset yet."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)

    async def run_beside_a_consumer() -> int:
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

    assert asyncio.run(run_beside_a_consumer()) == 2
    assert "the consumer group at-work is in use" in capsys.readouterr().err


def test_an_interrupted_replay_is_recognised_by_its_commits(
    kafka: Broker, traffic: GeneratedTraffic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command `verify` refuses to compare with an interrupted replay."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setattr(replay, "PARTITION_NUMBERS", range(5))
    assert main(["replay", "--from-beginning", "--output", "half"]) == 0
    assert {each.partition for each in fetch_committed(kafka, "replay-of-half")} == set(range(5))
    assert main(["verify", "--against", "half"]) == 2
    assert "the replay to half was interrupted" in capsys.readouterr().err


def test_an_output_topic_with_records_is_refused(kafka: Broker, traffic: GeneratedTraffic) -> None:
    """The topic is refused even if its records are of another replay."""
    run_replay(kafka.bootstrap_servers, "again.4")
    done = run_command(
        kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "again.4", "--group", "another"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "again.4 holds records already" in done.stderr


def test_a_topic_of_another_partition_count_is_refused(kafka: Broker, traffic: GeneratedTraffic) -> None:
    """The alerts would lie in other partitions than the published ones."""
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [Topic("narrow", 3)]))
    done = run_command(kafka.bootstrap_servers, "replay", "--from-beginning", "--output", "narrow")
    assert done.returncode == 2
    assert "narrow has 3 partitions where 12 are needed" in done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
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
def test_a_topic_of_a_service_is_refused_as_output(
    name: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Users would get their mails again; the refusal comes before any request to a broker."""
    assert main(["replay", "--from-beginning", "--output", name]) == 2
    assert expected in capsys.readouterr().err


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
def test_invalid_arguments_end_with_2_and_the_usage(arguments: list[str], capsys) -> None:
    """Invalid arguments must not start a worker."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: python -m streams" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["verify"], ["replay", "--from-beginning", "--output", "x"]])
def test_an_unreachable_broker_ends_with_2_and_one_sentence(arguments, monkeypatch, capsys) -> None:
    """The command ends soon."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setattr(inputs, "UNREACHABLE_AFTER_S", 0.5)
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("streams: no Kafka broker at 127.0.0.1")
    assert printed.err.count("\n") == 1


def test_a_broker_without_the_inputs_is_not_mistaken_for_an_empty_log(kafka: Broker, monkeypatch, capsys) -> None:
    """A broker without the input topics is probably the wrong broker."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    monkeypatch.setattr(replay, "INPUTS", (Topic("flights.observed.v9", 12),))
    assert main(["replay", "--from-beginning", "--output", "x"]) == 2
    assert "no topic flights.observed.v9 of 12 partitions" in capsys.readouterr().err


def test_a_missing_setting_is_named(monkeypatch, capsys) -> None:
    """KAFKA_BOOTSTRAP_SERVERS is the only setting that a command needs."""
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    with pytest.raises(SystemExit) as end:
        main(["verify"])
    assert end.value.code == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in capsys.readouterr().err
