"""Tests of the command `verify`: with a correct stream, with a faulty one, and with records deleted from the topics."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import ConsumerRecord

from local.kafka import Broker, running_broker
from streams.replay.log import INPUTS, list_partitions
from streams.replay.replay import build_group_name, build_output_topic, replay
from streams.replay.verify import MAX_SHOWN_DIFFERENCES, compare
from tests.domain.logs import BASE, an_interest
from tests.domain.test_rule import seen
from tests.streams.commands import run_command
from tests.streams.events import interest_set, observed
from tests.streams.process import GROUP, publish, read_records
from tests.streams.traffic import GeneratedTraffic, generate_traffic
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_RAISED, FLIGHTS_OBSERVED, Topic


@pytest.fixture
def broker(tmp_path) -> Iterable[Broker]:
    """Run a broker for one test, because `verify` reads all of its records."""
    with running_broker(tmp_path / "kafka") as broker:
        yield broker


def acknowledge(broker: Broker, offsets: Mapping[TopicPartition, int] | None = None) -> None:
    """Commit offsets for the workers' group, by default the ends of all partitions."""

    async def committing() -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap_servers, group_id=GROUP)
        await consumer.start()
        try:
            everything = list_partitions(*INPUTS)
            consumer.assign(list(everything))
            await consumer.commit(await consumer.end_offsets(everything) if offsets is None else dict(offsets))
        finally:
            await consumer.stop()

    asyncio.run(committing())


def publish_alerts(broker: Broker, alerts: Iterable[ConsumerRecord]) -> None:
    """Publish alerts as the stream does."""

    async def sending() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            for each in alerts:
                await producer.send(ALERTS_RAISED.name, each.value, each.key, each.partition)

    asyncio.run(sending())


def run_verify(broker: Broker, against: str | None = None) -> dict[str, Any]:
    """Run the comparison and return it as `verify --json` prints it."""
    topic = build_output_topic(against) if against else None
    return asyncio.run(compare(broker.bootstrap_servers, topic)).as_json()


def run_replay(broker: Broker, name: str) -> list[ConsumerRecord]:
    """Run a replay to a topic of this name, and return the records that it sent."""
    asyncio.run(replay(broker.bootstrap_servers, build_output_topic(name), build_group_name(name), 1))
    return read_records(broker.bootstrap_servers, build_output_topic(name))


def delete_before(broker: Broker, topic: Topic, offsets: Mapping[int, int]) -> None:
    """Delete the records of partitions before some offsets, as retention does."""

    async def deleting() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_records(
                {TopicPartition(topic.name, number): RecordsToDelete(before) for number, before in offsets.items()}
            )
        finally:
            await admin.close()

    asyncio.run(deleting())


def compute_alerts(broker: Broker, traffic: GeneratedTraffic) -> list[ConsumerRecord]:
    """Publish traffic and return its alerts, none of which is on alerts.raised.v1 yet."""
    publish(broker.bootstrap_servers, traffic.events)
    return run_replay(broker, "computed")


def test_missing_extra_and_duplicate_alerts_are_shown_and_pending_ones_are_no_difference(broker: Broker) -> None:
    """The cases are: no alert, all alerts, one lost and one invented; against the log and against an earlier replay."""
    traffic = generate_traffic(seed=4, airports=2)
    alerts = compute_alerts(broker, traffic)
    pending = run_verify(broker)
    assert pending["equal"]
    assert pending["not_comparable"]["pending"] == pending["computed"] == len(traffic.alert_ids)

    acknowledge(broker)
    silent = run_verify(broker)
    assert (silent["equal"], silent["missing"], silent["same"]) == (False, len(traffic.alert_ids), 0)
    assert len(silent["differences"]) == MAX_SHOWN_DIFFERENCES

    invented = AlertRaised.FromString(alerts[0].value)
    invented.alert_id = str(uuid4())
    extra = ConsumerRecord(**{**vars_of(alerts[0]), "value": invented.SerializeToString()})
    publish_alerts(broker, [*alerts[1:], *alerts[5:8], extra])
    for against in (None, "computed"):
        found = run_verify(broker, against)
        assert (found["missing"], found["extra"], found["repeats"]) == (1, 1, 3)
        assert found["same"] == len(alerts) - 1
        lost = AlertRaised.FromString(alerts[0].value)
        kinds = {each["kind"]: each for each in found["differences"]}
        assert kinds["missing"]["alert_id"] == lost.alert_id
        assert kinds["extra"]["alert_id"] == invented.alert_id
        assert kinds["missing"]["airport"] == lost.airport
        assert kinds["missing"]["window_start"] == f"{lost.window_start.ToDatetime():%Y-%m-%dT%H:%MZ}"

    shown = run_command(broker.bootstrap_servers, "verify")
    assert shown.returncode == 1
    assert shown.stdout.rstrip().endswith("DIFFERENT")
    for text in (lost.alert_id, lost.airport, invented.alert_id, "missing", "extra"):
        assert text in shown.stdout
    users = {AlertRaised.FromString(each.value).user_id for each in alerts}
    assert not [each for each in users if each in shown.stdout], "no user is named"

    # Alerts of events after the earlier replay are no fault of the stream.
    more = generate_traffic(seed=5, airports=1)
    publish(broker.bootstrap_servers, more.events)
    ids = {str(each) for each in more.alert_ids}
    publish_alerts(
        broker, [each for each in run_replay(broker, "later") if AlertRaised.FromString(each.value).alert_id in ids]
    )
    publish_alerts(broker, alerts[:1])
    found = run_verify(broker, "computed")
    assert (found["missing"], found["extra"]) == (0, 1)
    assert found["not_comparable"]["after_replay"] == len(ids) > 0


def vars_of(record: ConsumerRecord) -> dict[str, object]:
    """Return the fields of a record."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_alerts_whose_flights_left_the_log_are_exempt_and_the_others_are_compared(broker: Broker) -> None:
    """Half of the flights are deleted; a lost alert is still found among the others."""
    hours = 60
    given_interests = [an_interest(interest_id=uuid4(), user_id=uuid4(), airport="ZZZ1") for _ in range(20)]
    log = [seen(hour, hour + 1, (hour + 0.1, hour + 0.2, hour + 0.3) if hour % 2 else ()) for hour in range(hours)]
    publish(broker.bootstrap_servers, [interest_set(each, n + 1) for n, each in enumerate(given_interests)])
    record_ids = publish(broker.bootstrap_servers, [observed("ZZZ1", n + 1, each) for n, each in enumerate(log)])
    alerts = run_replay(broker, "computed")
    assert len(alerts) == len(given_interests) * (hours - 1)
    acknowledge(broker)
    last = f"{BASE + timedelta(hours=hours - 2):%Y-%m-%dT%H:%MZ}"
    lost = next(
        each
        for each in alerts
        if f"{AlertRaised.FromString(each.value).window_start.ToDatetime():%Y-%m-%dT%H:%MZ}" == last
    )
    publish_alerts(broker, [each for each in alerts if each is not lost])
    assert run_verify(broker)["missing"] == 1

    delete_before(broker, FLIGHTS_OBSERVED, {record_ids[0].partition: record_ids[hours // 2].offset})
    found = run_verify(broker)
    # The first remaining interval is of hour 30. The alerts of hour 31 follow from the remaining flights.
    assert found["not_comparable"]["flights_gone"] == len(given_interests) * 30
    assert (found["missing"], found["extra"], found["same"]) == (1, 0, len(alerts) - len(given_interests) * 30 - 1)
    assert found["differences"][0]["window_start"] == last

    shown = run_command(broker.bootstrap_servers, "verify")
    assert "flights of its windows have left the log" in shown.stdout


def test_an_alert_that_was_deleted_by_retention_is_not_missing(broker: Broker) -> None:
    """Alerts older than the oldest remaining one may have been deleted as well."""
    traffic = generate_traffic(seed=6, airports=2)
    alerts = compute_alerts(broker, traffic)
    acknowledge(broker)
    publish_alerts(broker, alerts)
    assert run_verify(broker)["same"] == len(alerts)
    (some, _), (other, all_of_other), *_ = Counter(each.partition for each in alerts).most_common()
    delete_before(broker, ALERTS_RAISED, {some: 1, other: all_of_other})
    found = run_verify(broker)
    gone = 1 + all_of_other
    assert (found["missing"], found["extra"], found["same"]) == (0, 0, len(alerts) - gone)
    assert found["not_comparable"]["alert_gone"] == gone


def test_a_log_without_interests_is_not_called_equal(broker: Broker) -> None:
    """Kafka may have lost them: there is nothing to compare, which is no success."""
    publish(broker.bootstrap_servers, [observed("KJFK", 1, seen(0, 1, (0.1, 0.2, 0.3)))])
    acknowledge(broker)
    done = run_command(broker.bootstrap_servers, "verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert "the log has no interest, so there is nothing to compare" in done.stderr


def test_an_alert_of_an_unknown_interest_is_exempt(broker: Broker) -> None:
    """Compaction may have removed the interest from the log."""
    traffic = generate_traffic(seed=7, airports=2)
    alerts = compute_alerts(broker, traffic)
    acknowledge(broker)
    unknown = AlertRaised.FromString(alerts[0].value)
    unknown.alert_id, unknown.interest_id = str(uuid4()), str(uuid4())
    publish_alerts(broker, [*alerts, ConsumerRecord(**{**vars_of(alerts[0]), "value": unknown.SerializeToString()})])
    found = run_verify(broker)
    assert found["equal"]
    assert found["not_comparable"]["interest_gone"] == 1
    shown = run_command(broker.bootstrap_servers, "verify")
    assert shown.returncode == 0
    assert shown.stdout.rstrip().endswith("equal as far as it can be compared")


def test_a_record_that_is_not_an_alert_is_named(broker: Broker) -> None:
    """The comparison stops there: the same writer may have written more invalid records."""
    traffic = generate_traffic(seed=8, airports=1)
    alerts = compute_alerts(broker, traffic)
    publish_alerts(broker, [ConsumerRecord(**{**vars_of(alerts[0]), "value": b"\xff\xff"})])
    done = run_command(broker.bootstrap_servers, "verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"alerts.raised.v1, partition {alerts[0].partition}, offset 0: this is no alert" in done.stderr
