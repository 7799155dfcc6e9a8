"""`verify`: what it says of a stream that is right, of one that is not, and of topics that have forgotten."""

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

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def broker(tmp_path) -> Iterable[Broker]:
    """One for each test: `verify` looks at all that is on it."""
    with running_broker(tmp_path / "kafka") as broker:
        yield broker


def acknowledged(broker: Broker, offsets: Mapping[TopicPartition, int] | None = None) -> None:
    """What the workers' group would have committed; by default all that there is."""

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


def say(broker: Broker, alerts: Iterable[ConsumerRecord]) -> None:
    """Raise alerts as the stream does."""

    async def sending() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            for each in alerts:
                await producer.send(ALERTS_RAISED.name, each.value, each.key, each.partition)

    asyncio.run(sending())


def verified(broker: Broker, against: str | None = None) -> dict[str, Any]:
    """What `verify --json` says."""
    topic = build_output_topic(against) if against else None
    return asyncio.run(compare(broker.bootstrap_servers, topic)).as_json()


def replayed(broker: Broker, name: str) -> list[ConsumerRecord]:
    """What a replay sends to a topic of this name."""
    asyncio.run(replay(broker.bootstrap_servers, build_output_topic(name), build_group_name(name), 1))
    return read_records(broker.bootstrap_servers, build_output_topic(name))


def delete_before(broker: Broker, topic: Topic, offsets: Mapping[int, int]) -> None:
    """What retention does: the records of a partition before an offset are gone."""

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


def computed(broker: Broker, scene: GeneratedTraffic) -> list[ConsumerRecord]:
    """Publish a scene; the alerts that follow, of which none is raised yet."""
    publish(broker.bootstrap_servers, scene.events)
    return replayed(broker, "computed")


def test_what_is_missing_extra_or_repeated_is_told_and_what_is_pending_is_not_a_difference(broker: Broker) -> None:
    """From nothing raised to all of it, and one too many; against the log, and against an earlier replay."""
    scene = generate_traffic(seed=4, airports=2)
    alerts = computed(broker, scene)
    pending = verified(broker)
    assert pending["equal"]
    assert pending["not_comparable"]["pending"] == pending["computed"] == len(scene.alert_ids)

    acknowledged(broker)
    silent = verified(broker)
    assert (silent["equal"], silent["missing"], silent["same"]) == (False, len(scene.alert_ids), 0)
    assert len(silent["differences"]) == MAX_SHOWN_DIFFERENCES

    invented = AlertRaised.FromString(alerts[0].value)
    invented.alert_id = str(uuid4())
    extra = ConsumerRecord(**{**vars_of(alerts[0]), "value": invented.SerializeToString()})
    say(broker, [*alerts[1:], *alerts[5:8], extra])
    for against in (None, "computed"):
        found = verified(broker, against)
        assert (found["missing"], found["extra"], found["repeats"]) == (1, 1, 3)
        assert found["same"] == len(alerts) - 1
        lost = AlertRaised.FromString(alerts[0].value)
        kinds = {each["kind"]: each for each in found["differences"]}
        assert kinds["missing"]["alert_id"] == lost.alert_id
        assert kinds["extra"]["alert_id"] == invented.alert_id
        assert kinds["missing"]["airport"] == lost.airport
        assert kinds["missing"]["window_start"] == f"{lost.window_start.ToDatetime():%Y-%m-%dT%H:%MZ}"

    told = run_command(broker.bootstrap_servers, "verify")
    assert told.returncode == 1
    assert told.stdout.rstrip().endswith("DIFFERENT")
    for text in (lost.alert_id, lost.airport, invented.alert_id, "missing", "extra"):
        assert text in told.stdout
    users = {AlertRaised.FromString(each.value).user_id for each in alerts}
    assert not [each for each in users if each in told.stdout], "nobody is named"

    # What comes after a replay was not in it, and is no fault of the stream.
    more = generate_traffic(seed=5, airports=1)
    publish(broker.bootstrap_servers, more.events)
    ids = {str(each) for each in more.alert_ids}
    say(broker, [each for each in replayed(broker, "later") if AlertRaised.FromString(each.value).alert_id in ids])
    say(broker, alerts[:1])
    found = verified(broker, "computed")
    assert (found["missing"], found["extra"]) == (0, 1)
    assert found["not_comparable"]["after_replay"] == len(ids) > 0


def vars_of(record: ConsumerRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_what_has_left_the_topics_is_counted_with_its_reason_and_the_rest_is_still_compared(broker: Broker) -> None:
    """Half of the flights are gone; an alert that was never raised is found among the others."""
    hours = 60
    wishes = [an_interest(interest_id=uuid4(), user_id=uuid4(), airport="ZZZ1") for _ in range(20)]
    log = [seen(hour, hour + 1, (hour + 0.1, hour + 0.2, hour + 0.3) if hour % 2 else ()) for hour in range(hours)]
    publish(broker.bootstrap_servers, [interest_set(each, n + 1) for n, each in enumerate(wishes)])
    places = publish(broker.bootstrap_servers, [observed("ZZZ1", n + 1, each) for n, each in enumerate(log)])
    alerts = replayed(broker, "computed")
    assert len(alerts) == len(wishes) * (hours - 1)
    acknowledged(broker)
    last = f"{BASE + timedelta(hours=hours - 2):%Y-%m-%dT%H:%MZ}"
    lost = next(
        each
        for each in alerts
        if f"{AlertRaised.FromString(each.value).window_start.ToDatetime():%Y-%m-%dT%H:%MZ}" == last
    )
    say(broker, [each for each in alerts if each is not lost])
    assert verified(broker)["missing"] == 1

    delete_before(broker, FLIGHTS_OBSERVED, {places[0].partition: places[hours // 2].offset})
    found = verified(broker)
    # The first interval that is left is of hour 30. What is said of hour 31 follows from what is left.
    assert found["not_comparable"]["flights_gone"] == len(wishes) * 30
    assert (found["missing"], found["extra"], found["same"]) == (1, 0, len(alerts) - len(wishes) * 30 - 1)
    assert found["differences"][0]["window_start"] == last

    told = run_command(broker.bootstrap_servers, "verify")
    assert "flights of its windows have left the log" in told.stdout


def test_an_alert_that_was_deleted_by_retention_is_not_missing(broker: Broker) -> None:
    """Those that were raised before the oldest one that is left may have been deleted as well."""
    scene = generate_traffic(seed=6, airports=2)
    alerts = computed(broker, scene)
    acknowledged(broker)
    say(broker, alerts)
    assert verified(broker)["same"] == len(alerts)
    (some, _), (other, all_of_other), *_ = Counter(each.partition for each in alerts).most_common()
    delete_before(broker, ALERTS_RAISED, {some: 1, other: all_of_other})
    found = verified(broker)
    gone = 1 + all_of_other
    assert (found["missing"], found["extra"], found["same"]) == (0, 0, len(alerts) - gone)
    assert found["not_comparable"]["alert_gone"] == gone


def test_interests_that_are_no_longer_what_they_were_are_counted(broker: Broker) -> None:
    """An alert of an interest that the log does not know, which compaction may have taken."""
    scene = generate_traffic(seed=7, airports=2)
    alerts = computed(broker, scene)
    acknowledged(broker)
    stranger = AlertRaised.FromString(alerts[0].value)
    stranger.alert_id, stranger.interest_id = str(uuid4()), str(uuid4())
    say(broker, [*alerts, ConsumerRecord(**{**vars_of(alerts[0]), "value": stranger.SerializeToString()})])
    found = verified(broker)
    assert found["equal"]
    assert found["not_comparable"]["interest_gone"] == 1
    told = run_command(broker.bootstrap_servers, "verify")
    assert told.returncode == 0
    assert told.stdout.rstrip().endswith("equal as far as it can be compared")


def test_a_record_that_is_no_alert_is_named(broker: Broker) -> None:
    """Nothing is said about the rest: who wrote that may have written more."""
    scene = generate_traffic(seed=8, airports=1)
    alerts = computed(broker, scene)
    say(broker, [ConsumerRecord(**{**vars_of(alerts[0]), "value": b"\xff\xff"})])
    done = run_command(broker.bootstrap_servers, "verify")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"alerts.raised.v1, partition {alerts[0].partition}, offset 0: this is no alert" in done.stderr
