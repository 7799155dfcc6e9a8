"""The commands of `python -m notifier dead-letters` on a real broker."""

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from chassis.topics import ensure_topics
from domain.alerts import Alert
from local.kafka import Broker, running_broker
from notifier.__main__ import main
from notifier.dead_letters import commands
from streams.messages import encode_alert
from tests.notifier.alerts import CAUSE, NOTICE, build_unheard_notice, new_alert
from tests.notifier.dead_letter_records import (
    DeadLetteredEvent,
    dead_lettered_alert,
    dead_lettered_notice,
    dead_lettered_notice_retry,
    dead_lettered_retry,
    publish_dead_letters,
)
from tests.streams.process import read_records as records
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    ALERTS_RETRY,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    NOTICES_RAISED,
    USERS_CHANGED,
    Topic,
    partition_of,
)
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

_NUMBERS = count(1)


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo the command's logging configuration, which writes to the standard error of one test alone."""
    of_kafka = logging.getLogger("aiokafka")
    level = of_kafka.level
    yield
    of_kafka.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def only_what_a_command_needs(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the broker's address, the only setting that the commands need."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)


@pytest.fixture
def dead_letters(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Create topics of dead letters, alerts and notices for one test alone, and return the first."""
    number = next(_NUMBERS)
    dead_letters, alerts = Topic(f"letters.{number}", 12), Topic(f"alerts.{number}", ALERTS_RAISED.partitions)
    notices = Topic(f"notices.{number}", NOTICES_RAISED.partitions)
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [dead_letters, alerts, notices]))
    monkeypatch.setattr(commands, "ALERTS_DEAD_LETTER", dead_letters)
    monkeypatch.setattr(commands, "ALERTS_RAISED", alerts)
    monkeypatch.setattr(commands, "NOTICES_RAISED", notices)
    return dead_letters


class Shell:
    """Runs the commands in this process, and captures what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str], list[str]]:
        """Run a command; return its exit status, and the lines of standard output and standard error."""
        self._capsys.readouterr()
        status = main(["dead-letters", *arguments])
        printed = self._capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    def list_as_json(self, *arguments: str) -> list[dict]:
        """Return the dead letters that `list --json` prints."""
        status, out, _ = self("list", "--json", *arguments)
        assert status == 0
        return [json.loads(line) for line in out]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def read_requeued_alerts(kafka: Broker) -> list[ConsumerRecord]:
    """Return the records of the test's topic of alerts."""
    return records(kafka.bootstrap_servers, commands.ALERTS_RAISED)


REGISTERED = UserChanged(user_id=str(uuid4()), registered=UserRegistered(confirmation_id="c1")).SerializeToString()


def test_all_dead_letters_are_listed_whatever_they_hold(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """Dead letters of both services and all partitions are listed by time, also undecodable, empty and huge ones."""
    alerts = [new_alert() for _ in range(40)]
    asides = [
        *(dead_lettered_alert(each) for each in alerts),
        dead_lettered_retry(new_alert(), new_alert()),
        DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xffnonsense", "undecodable: no AlertRaised"),
        DeadLetteredEvent(ALERTS_RAISED, b"v", None, "undecodable: no value"),
        DeadLetteredEvent(ALERTS_RAISED, b"w", b"x" * 1_000_000, "undecodable: \x1b[2Jno AlertRaised"),
        DeadLetteredEvent(ALERTS_RAISED, b"w", b"x" * 890_000),
        DeadLetteredEvent(USERS_CHANGED, b"w", REGISTERED, "gave up after 5 tries: no"),
        DeadLetteredEvent(FLIGHTS_OBSERVED, b"KJFK", b"\xff", "no FlightsObserved"),
        DeadLetteredEvent(INTERESTS_CHANGED, f"KJFK/{uuid4()}".encode(), None, "no sequence among the headers"),
    ]
    ids = publish_dead_letters(kafka.bootstrap_servers, dead_letters, asides)
    assert len({each.partition(":")[0] for each in ids}) > 6
    status, out, err = shell("list")
    assert (status, err) == (0, [])
    lines = [line.split("  ") for line in out[: len(asides)]]
    assert [each[0] for each in sorted(lines, key=lambda each: ids.index(each[0]))] == ids
    assert [each[1] for each in lines] == sorted(each[1] for each in lines)
    assert [each[2] for each in sorted(lines, key=lambda each: ids.index(each[0]))] == [a.topic.name for a in asides]
    assert out[len(asides)] == "dead letters: 48; requeued: 0; again in a later one: 0"
    assert "      41  alerts.raised.v1  the server refused the recipient: 550" in out
    assert "\x1b" not in "".join(out)
    found = {each["id"]: each for each in shell.list_as_json()}
    assert found[ids[0]]["alert_ids"] == [str(alerts[0].alert_id)]
    assert found[ids[43]]["left_out"] == 1_000_001
    assert all(datetime.fromisoformat(each["dead_lettered_at"]).tzinfo is not None for each in found.values())


def test_a_list_is_cut_and_summarised_as_asked(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """The summary counts all dead letters that match the filter, also those beyond the limit."""
    publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [
            *(dead_lettered_alert(new_alert(), f"gave up after {each} tries: no answer") for each in range(7)),
            dead_lettered_retry(new_alert(), reason="the server refused the content: 554"),
        ],
    )
    status, out, err = shell("list", "--limit", "2", "--reason", "GAVE UP")
    assert (status, len(out)) == (0, 4)
    assert err == ["and 5 more, which are newer"]
    assert out[2:] == [
        "dead letters: 7; requeued: 0; again in a later one: 0",
        "       7  alerts.raised.v1  gave up after N tries: no answer",
    ]
    assert shell("list", "--summary")[1][0].startswith("dead letters: 8;")
    (only,) = shell("list", "--summary", "--json", "--topic", ALERTS_RETRY.name)[1]
    assert json.loads(only)["letters"] == 1
    assert len(shell.list_as_json("--since", "1h")) == 8
    assert shell.list_as_json("--until", "1h") == []
    assert shell("list", "--until", "1h")[1] == ["no dead letters"]


def test_one_dead_letter_is_shown_completely(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """`show` prints the headers and the event; for an unknown id an error, with exit status 1."""
    alert = new_alert()
    first, second = publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [dead_lettered_alert(alert), DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff\x00", "undecodable: no")],
    )
    status, out, _ = shell("show", first)
    assert status == 0
    assert json.loads("\n".join(out[out.index("{") :]))["alert_id"] == str(alert.alert_id)
    assert "header   reason: the server refused the recipient: 550" in out
    assert shell("show", second)[1][-1] == "ff 00"
    for nobody in (f"{first.partition(':')[0]}:99", "77:0"):
        assert shell("show", nobody) == (1, [], [f"{nobody}  there is no such letter: `list` shows the ids"])


def test_alerts_are_published_again_to_the_catalogues_topic(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """The bytes are unchanged, the key is the user's id, and a header names the dead letter."""
    fresh, user_id = new_alert(), uuid4()
    several = [new_alert(user_id=user_id) for _ in range(3)]
    unknown_field = b"\xa2\x06\x01x"
    aside = DeadLetteredEvent(ALERTS_RAISED, str(fresh.user_id).encode(), unknown_field + encode_alert(fresh, CAUSE))
    ids = publish_dead_letters(kafka.bootstrap_servers, dead_letters, [aside, dead_lettered_retry(*several)])
    status, out, err = shell("requeue", *ids)
    assert (status, err) == (0, [])
    assert out[-1] == "letters requeued: 2; alerts and notices of them: 4; letters left: 0"
    found = read_requeued_alerts(kafka)
    assert len(found) == 4
    for record in found:
        assert record.partition == partition_of(record.key.decode(), ALERTS_RAISED)
    of_first = [each for each in found if each.headers == (("requeued-from", ids[0].encode()),)]
    assert [(each.key, each.value) for each in of_first] == [(aside.key, aside.value)]
    of_second = [each for each in found if each.headers == (("requeued-from", ids[1].encode()),)]
    assert [each.value for each in of_second] == [encode_alert(each, CAUSE) for each in several]
    assert {each.key for each in of_second} == {str(user_id).encode()}


def test_a_notice_is_published_again_to_its_own_topic(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """The notice of a retry, too; a notice in two dead letters is published once, and no alert is."""
    other = build_unheard_notice(uuid4(), "KBOS", NOTICE.since)
    ids = publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [dead_lettered_notice(), dead_lettered_notice_retry(), dead_lettered_notice_retry(other)],
    )
    status, out, err = shell("requeue", "--all")
    assert (status, err) == (0, [])
    assert out[-1] == "letters requeued: 3; alerts and notices of them: 2; letters left: 0"
    found = records(kafka.bootstrap_servers, commands.NOTICES_RAISED)
    expected = {each.user_id: dead_lettered_notice(each).value for each in (NOTICE, other)}
    assert {UUID(each.key.decode()): each.value for each in found} == expected
    assert len(found) == 2
    for record in found:
        assert record.partition == partition_of(record.key.decode(), NOTICES_RAISED)
        assert dict(record.headers)["requeued-from"].decode() in ids
    assert read_requeued_alerts(kafka) == []


def test_a_requeued_dead_letter_is_requeued_again_only_by_its_id(
    kafka: Broker, dead_letters: Topic, shell: Shell
) -> None:
    """`--all` skips requeued dead letters, but not a later dead letter of the same alert."""
    alert, other = new_alert(), new_alert()
    (first,) = publish_dead_letters(kafka.bootstrap_servers, dead_letters, [dead_lettered_alert(alert)])
    assert shell("requeue", "--all")[0] == 0
    (found,) = shell.list_as_json()
    assert datetime.now(UTC) - datetime.fromisoformat(found["requeued_at"]) < timedelta(minutes=5)
    assert any(line.startswith("requeued ") for line in shell("show", first)[1])
    assert shell("requeue", "--all")[1] == ["letters requeued: 0; alerts and notices of them: 0; letters left: 0"]
    assert len(read_requeued_alerts(kafka)) == 1
    assert shell("requeue", first)[0] == 0
    assert len(read_requeued_alerts(kafka)) == 2

    again, another = publish_dead_letters(
        kafka.bootstrap_servers, dead_letters, [dead_lettered_alert(alert, "refused again"), dead_lettered_alert(other)]
    )
    by_id = {each["id"]: each for each in shell.list_as_json()}
    assert (by_id[first]["again_in"], by_id[again]["again_in"]) == (again, None)
    assert [bool(by_id[each]["requeued_at"]) for each in (first, again, another)] == [True, False, False]
    assert shell("list", "--summary")[1][0] == "dead letters: 3; requeued: 1; again in a later one: 0"
    assert shell("requeue", "--all")[1][-1] == "letters requeued: 2; alerts and notices of them: 2; letters left: 0"


def test_an_alert_of_several_dead_letters_is_requeued_once(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """All dead letters that hold the alert are then marked as requeued."""
    twice = new_alert()
    once = new_alert(user_id=twice.user_id)
    publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [dead_lettered_alert(twice), dead_lettered_retry(once, twice), dead_lettered_alert(twice)],
    )
    assert shell("requeue", "--all")[1][-1] == "letters requeued: 3; alerts and notices of them: 2; letters left: 0"
    assert sorted(each.value for each in read_requeued_alerts(kafka)) == sorted(
        encode_alert(a, CAUSE) for a in (twice, once)
    )
    assert all(each["requeued_at"] for each in shell.list_as_json())


def test_a_dry_run_reports_all_and_publishes_nothing(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """A dry run publishes no alert and no note."""
    (first, _) = publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [dead_lettered_alert(new_alert()), DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED)],
    )
    before = len(records(kafka.bootstrap_servers, dead_letters))
    status, out, err = shell("requeue", "--all", "--dry-run")
    assert status == 1
    assert out[0].startswith(f"would be requeued: {first}  ")
    assert out[-1] == "letters would be requeued: 1; alerts and notices of them: 1; letters left: 1"
    assert "another confirmation mail" in err[0]
    assert read_requeued_alerts(kafka) == []
    assert len(records(kafka.bootstrap_servers, dead_letters)) == before == 2


def test_a_dead_letter_that_cannot_be_requeued_is_reported_and_skipped(
    kafka: Broker, dead_letters: Topic, shell: Shell
) -> None:
    """The others are requeued; the exit status is 1; no event of another kind is published."""
    good: list[Alert] = [new_alert() for _ in range(3)]
    asides = [
        dead_lettered_alert(good[0]),
        DeadLetteredEvent(ALERTS_RAISED, b"u", b"\xff"),
        DeadLetteredEvent(USERS_CHANGED, b"u", REGISTERED),
        dead_lettered_alert(good[1]),
        DeadLetteredEvent(FLIGHTS_OBSERVED, b"KJFK", b"\xff"),
        DeadLetteredEvent(INTERESTS_CHANGED, f"KJFK/{uuid4()}".encode(), None),
        DeadLetteredEvent(ALERTS_RAISED, b"w", b"x" * 1_000_000),
        dead_lettered_retry(new_alert(), sealed=True),
        dead_lettered_alert(good[2]),
    ]
    ids = publish_dead_letters(kafka.bootstrap_servers, dead_letters, asides)
    before = {topic.name: len(records(kafka.bootstrap_servers, topic)) for topic in (USERS_CHANGED, FLIGHTS_OBSERVED)}
    status, out, err = shell("requeue", "--all")
    assert status == 1
    assert out[-1] == "letters requeued: 3; alerts and notices of them: 3; letters left: 6"
    assert {line.partition("  ")[0] for line in err} == {ids[each] for each in (1, 2, 4, 5, 6, 7)}
    (too_large,) = (line for line in err if line.startswith(f"{ids[6]}  "))
    assert re.search(r"the event itself is at alerts\.raised\.v1, partition \d+, offset 6,", too_large)
    assert {each.value for each in read_requeued_alerts(kafka)} == {encode_alert(each, CAUSE) for each in good}
    after = {topic.name: len(records(kafka.bootstrap_servers, topic)) for topic in (USERS_CHANGED, FLIGHTS_OBSERVED)}
    assert before == after
    status, out, err = shell("requeue", ids[0], "11:999")
    assert (status, err) == (1, ["11:999  there is no such letter: `list` shows the ids"])
    assert out[-1] == "letters requeued: 1; alerts and notices of them: 1; letters left: 0"


def test_only_matching_dead_letters_are_requeued(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """The options filter by reason, topic and time."""
    fresh, later, refused = new_alert(), new_alert(), new_alert()
    publish_dead_letters(
        kafka.bootstrap_servers,
        dead_letters,
        [
            dead_lettered_alert(fresh, "no answer"),
            dead_lettered_retry(later, reason="no answer"),
            dead_lettered_alert(refused, "refused: 550"),
        ],
    )
    assert shell("requeue", "--all", "--until", "1h")[1][-1].startswith("letters requeued: 0;")
    assert shell("requeue", "--all", "--reason", "no answer", "--topic", ALERTS_RETRY.name, "--since", "1h")[0] == 0
    assert [each.value for each in read_requeued_alerts(kafka)] == [encode_alert(later, CAUSE)]


def test_a_users_alerts_are_requeued_in_their_order(kafka: Broker, dead_letters: Topic, shell: Shell) -> None:
    """Alerts of one user among 1,200 dead letters keep their order: RESOLVED must not come before its FIRING."""
    people = [uuid4() for _ in range(5)]
    alerts = [new_alert(user_id=people[each % 5]) for each in range(1_200)]
    publish_dead_letters(kafka.bootstrap_servers, dead_letters, [dead_lettered_alert(each) for each in alerts])
    status, out, _ = shell("requeue", "--all")
    assert (status, out[-1]) == (0, "letters requeued: 1,200; alerts and notices of them: 1,200; letters left: 0")
    found = read_requeued_alerts(kafka)
    assert len(found) == 1_200
    for person in people:
        of_person = [each.value for each in found if each.key == str(person).encode()]
        assert of_person == [encode_alert(each, CAUSE) for each in alerts if each.user_id == person]


def test_an_empty_or_absent_topic_is_reported(kafka: Broker, dead_letters: Topic, shell: Shell, monkeypatch) -> None:
    """An absent topic is an error, since the broker may be the wrong one; the commands do not create the topic."""
    assert shell("list") == (0, ["no dead letters"], [f"{dead_letters.name} is empty"])
    assert shell("list", "--json") == (0, [], [f"{dead_letters.name} is empty"])
    monkeypatch.setattr(commands, "ALERTS_DEAD_LETTER", Topic("nowhere.v1", 12))
    for arguments in (["list"], ["show", "0:0"], ["requeue", "--all"]) * 2:
        status, out, err = shell(*arguments)
        assert (status, out, len(err)) == (1, [], 1)
        assert err[0].startswith("notifier: the broker has no topic nowhere.v1: ")


def test_alerts_are_not_sent_to_a_broker_without_their_topic(
    kafka: Broker, dead_letters: Topic, shell: Shell, monkeypatch
) -> None:
    """The broker would create the topic with its default number of partitions."""
    publish_dead_letters(kafka.bootstrap_servers, dead_letters, [dead_lettered_alert(new_alert())])
    monkeypatch.setattr(commands, "ALERTS_RAISED", Topic("nowhere.v1", 12))
    status, out, err = shell("requeue", "--all")
    assert (status, out) == (1, [])
    assert err[0].startswith("notifier: the broker has no topic nowhere.v1 of 12 partitions")


def test_a_broker_that_stops_meanwhile_is_reported_in_one_sentence(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line, and an alert that is not acknowledged is not reported as requeued."""
    connect = commands._connect_producer
    with running_broker(tmp_path) as broker:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        monkeypatch.setattr(commands, "_MAX_EMPTY_POLLS", 3)
        publish_dead_letters(
            broker.bootstrap_servers, ALERTS_DEAD_LETTER, [dead_lettered_alert(new_alert()) for _ in range(3)]
        )

        async def connect_and_stop_broker(bootstrap_servers: str) -> AIOKafkaProducer:
            producer = await connect(bootstrap_servers)
            broker.stop()
            return producer

        monkeypatch.setattr(commands, "_connect_producer", connect_and_stop_broker)
        status, out, err = shell("requeue", "--all")
    assert (status, out) == (1, [])
    assert err == ["notifier: the broker gives no more letters, though there are more: try again when it is well"]


def test_the_commands_run_in_a_process_of_their_own(kafka: Broker) -> None:
    """They need the broker's setting alone, and end without a traceback when standard output is closed."""
    alert = new_alert()
    (letter,) = publish_dead_letters(kafka.bootstrap_servers, ALERTS_DEAD_LETTER, [dead_lettered_alert(alert)])
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "PATH": os.environ["PATH"], "LC_ALL": "C"}
    command = [sys.executable, "-m", "notifier", "dead-letters"]
    done = subprocess.run(
        [*command, "requeue", letter], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"requeued: {letter}  ")
    assert [each.value for each in records(kafka.bootstrap_servers, ALERTS_RAISED)] == [encode_alert(alert, CAUSE)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        broken = subprocess.run(
            [*command, "list"],
            env=environment,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            timeout=240,
            check=False,
        )
    assert (broken.returncode, broken.stderr) == (1, "")
