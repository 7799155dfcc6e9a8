"""`python -m notifier dead-letters` on a real broker."""

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
from uuid import uuid4

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
from tests.notifier.alerts import CAUSE, new_alert
from tests.notifier.letters import Aside, put_aside, raised, retry
from tests.streams.process import read_records as records
from towerwatch.topics import (
    ALERTS_DEAD_LETTER,
    ALERTS_RAISED,
    ALERTS_RETRY,
    FLIGHTS_OBSERVED,
    INTERESTS_CHANGED,
    USERS_CHANGED,
    Topic,
    partition_of,
)
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

pytestmark = pytest.mark.timeout(240)

_NUMBERS = count(1)


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command logs to the standard error of its process, which here is pytest's, and of one test alone."""
    of_kafka = logging.getLogger("aiokafka")
    level = of_kafka.level
    yield
    of_kafka.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def only_what_a_command_needs(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting but the broker's."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)


@pytest.fixture
def letters(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> Topic:
    """Topics of dead letters and of alerts, for one test alone."""
    number = next(_NUMBERS)
    letters, alerts = Topic(f"letters.{number}", 12), Topic(f"alerts.{number}", ALERTS_RAISED.partitions)
    asyncio.run(ensure_topics(kafka.bootstrap_servers, [letters, alerts]))
    monkeypatch.setattr(commands, "ALERTS_DEAD_LETTER", letters)
    monkeypatch.setattr(commands, "ALERTS_RAISED", alerts)
    return letters


class Shell:
    """Runs commands in this process, and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str], list[str]]:
        """Status, and lines of standard output and error."""
        self._capsys.readouterr()
        status = main(["dead-letters", *arguments])
        printed = self._capsys.readouterr()
        return status, printed.out.splitlines(), printed.err.splitlines()

    def listed(self, *arguments: str) -> list[dict]:
        """The letters of a list."""
        status, out, _ = self("list", "--json", *arguments)
        assert status == 0
        return [json.loads(line) for line in out]


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def requeued_alerts(kafka: Broker) -> list[ConsumerRecord]:
    return records(kafka.bootstrap_servers, commands.ALERTS_RAISED)


REGISTERED = UserChanged(user_id=str(uuid4()), registered=UserRegistered(confirmation_id="c1")).SerializeToString()


def test_all_letters_are_listed_whatever_they_hold(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """Of both services, in all partitions, the oldest first; undecodable, empty, huge, and hostile ones too."""
    alerts = [new_alert() for _ in range(40)]
    asides = [
        *(raised(each) for each in alerts),
        retry(new_alert(), new_alert()),
        Aside(ALERTS_RAISED, b"u", b"\xffnonsense", "undecodable: no AlertRaised"),
        Aside(ALERTS_RAISED, b"v", None, "undecodable: no value"),
        Aside(ALERTS_RAISED, b"w", b"x" * 1_000_000, "undecodable: \x1b[2Jno AlertRaised"),
        Aside(ALERTS_RAISED, b"w", b"x" * 890_000),
        Aside(USERS_CHANGED, b"w", REGISTERED, "gave up after 5 tries: no"),
        Aside(FLIGHTS_OBSERVED, b"KJFK", b"\xff", "no FlightsObserved"),
        Aside(INTERESTS_CHANGED, f"KJFK/{uuid4()}".encode(), None, "no sequence among the headers"),
    ]
    ids = put_aside(kafka.bootstrap_servers, letters, asides)
    assert len({each.partition(":")[0] for each in ids}) > 6
    status, out, err = shell("list")
    assert (status, err) == (0, [])
    told = [line.split("  ") for line in out[: len(asides)]]
    assert [each[0] for each in sorted(told, key=lambda each: ids.index(each[0]))] == ids
    assert [each[1] for each in told] == sorted(each[1] for each in told)
    assert [each[2] for each in sorted(told, key=lambda each: ids.index(each[0]))] == [a.topic.name for a in asides]
    assert out[len(asides)] == "dead letters: 48; requeued: 0; again in a later one: 0"
    assert "      41  alerts.raised.v1  the server refused the recipient: 550" in out
    assert "\x1b" not in "".join(out)
    found = {each["id"]: each for each in shell.listed()}
    assert found[ids[0]]["alert_ids"] == [str(alerts[0].alert_id)]
    assert found[ids[43]]["left_out"] == 1_000_001
    assert all(datetime.fromisoformat(each["dead_lettered_at"]).tzinfo is not None for each in found.values())


def test_a_list_is_cut_and_summarised_as_asked(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """The summary is of all that is asked for, also of what is not shown."""
    put_aside(
        kafka.bootstrap_servers,
        letters,
        [
            *(raised(new_alert(), f"gave up after {each} tries: no answer") for each in range(7)),
            retry(new_alert(), reason="the server refused the content: 554"),
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
    assert len(shell.listed("--since", "1h")) == 8
    assert shell.listed("--until", "1h") == []
    assert shell("list", "--until", "1h")[1] == ["no dead letters"]


def test_one_letter_is_shown_with_all_that_it_holds(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """And one that is not there is missed."""
    alert = new_alert()
    first, second = put_aside(
        kafka.bootstrap_servers, letters, [raised(alert), Aside(ALERTS_RAISED, b"u", b"\xff\x00", "undecodable: no")]
    )
    status, out, _ = shell("show", first)
    assert status == 0
    assert json.loads("\n".join(out[out.index("{") :]))["alert_id"] == str(alert.alert_id)
    assert "header   reason: the server refused the recipient: 550" in out
    assert shell("show", second)[1][-1] == "ff 00"
    for nobody in (f"{first.partition(':')[0]}:99", "77:0"):
        assert shell("show", nobody) == (1, [], [f"{nobody}  there is no such letter: `list` shows the ids"])


def test_alerts_are_raised_anew_where_the_catalogue_has_them(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """Byte by byte, under their person's key, each with the letter that it comes from."""
    fresh, user_id = new_alert(), uuid4()
    several = [new_alert(user_id=user_id) for _ in range(3)]
    unknown_field = b"\xa2\x06\x01x"
    aside = Aside(ALERTS_RAISED, str(fresh.user_id).encode(), unknown_field + encode_alert(fresh, CAUSE))
    ids = put_aside(kafka.bootstrap_servers, letters, [aside, retry(*several)])
    status, out, err = shell("requeue", *ids)
    assert (status, err) == (0, [])
    assert out[-1] == "letters requeued: 2; alerts of them: 4; letters left: 0"
    found = requeued_alerts(kafka)
    assert len(found) == 4
    for record in found:
        assert record.partition == partition_of(record.key.decode(), ALERTS_RAISED)
    of_first = [each for each in found if each.headers == (("requeued-from", ids[0].encode()),)]
    assert [(each.key, each.value) for each in of_first] == [(aside.key, aside.value)]
    of_second = [each for each in found if each.headers == (("requeued-from", ids[1].encode()),)]
    assert [each.value for each in of_second] == [encode_alert(each, CAUSE) for each in several]
    assert {each.key for each in of_second} == {str(user_id).encode()}


def test_what_was_requeued_is_marked_and_left_alone_unless_it_is_named(
    kafka: Broker, letters: Topic, shell: Shell
) -> None:
    """Nor does a letter of the same alert, put aside since, count as requeued."""
    alert, other = new_alert(), new_alert()
    (first,) = put_aside(kafka.bootstrap_servers, letters, [raised(alert)])
    assert shell("requeue", "--all")[0] == 0
    (found,) = shell.listed()
    assert datetime.now(UTC) - datetime.fromisoformat(found["requeued_at"]) < timedelta(minutes=5)
    assert any(line.startswith("requeued ") for line in shell("show", first)[1])
    assert shell("requeue", "--all")[1] == ["letters requeued: 0; alerts of them: 0; letters left: 0"]
    assert len(requeued_alerts(kafka)) == 1
    assert shell("requeue", first)[0] == 0
    assert len(requeued_alerts(kafka)) == 2

    again, another = put_aside(kafka.bootstrap_servers, letters, [raised(alert, "refused again"), raised(other)])
    by_id = {each["id"]: each for each in shell.listed()}
    assert (by_id[first]["again_in"], by_id[again]["again_in"]) == (again, None)
    assert [bool(by_id[each]["requeued_at"]) for each in (first, again, another)] == [True, False, False]
    assert shell("list", "--summary")[1][0] == "dead letters: 3; requeued: 1; again in a later one: 0"
    assert shell("requeue", "--all")[1][-1] == "letters requeued: 2; alerts of them: 2; letters left: 0"


def test_an_alert_of_several_letters_is_requeued_once(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """All of its letters are then done with."""
    twice = new_alert()
    once = new_alert(user_id=twice.user_id)
    put_aside(kafka.bootstrap_servers, letters, [raised(twice), retry(once, twice), raised(twice)])
    assert shell("requeue", "--all")[1][-1] == "letters requeued: 3; alerts of them: 2; letters left: 0"
    assert sorted(each.value for each in requeued_alerts(kafka)) == sorted(
        encode_alert(a, CAUSE) for a in (twice, once)
    )
    assert all(each["requeued_at"] for each in shell.listed())


def test_a_dry_run_says_all_and_does_nothing(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """Not even a note."""
    (first, _) = put_aside(
        kafka.bootstrap_servers, letters, [raised(new_alert()), Aside(USERS_CHANGED, b"u", REGISTERED)]
    )
    before = len(records(kafka.bootstrap_servers, letters))
    status, out, err = shell("requeue", "--all", "--dry-run")
    assert status == 1
    assert out[0].startswith(f"would be requeued: {first}  ")
    assert out[-1] == "letters would be requeued: 1; alerts of them: 1; letters left: 1"
    assert "another confirmation mail" in err[0]
    assert requeued_alerts(kafka) == []
    assert len(records(kafka.bootstrap_servers, letters)) == before == 2


def test_what_cannot_be_requeued_is_told_and_holds_nothing_up(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """The exit status tells, too; nothing of it goes anywhere."""
    good: list[Alert] = [new_alert() for _ in range(3)]
    asides = [
        raised(good[0]),
        Aside(ALERTS_RAISED, b"u", b"\xff"),
        Aside(USERS_CHANGED, b"u", REGISTERED),
        raised(good[1]),
        Aside(FLIGHTS_OBSERVED, b"KJFK", b"\xff"),
        Aside(INTERESTS_CHANGED, f"KJFK/{uuid4()}".encode(), None),
        Aside(ALERTS_RAISED, b"w", b"x" * 1_000_000),
        retry(new_alert(), sealed=True),
        raised(good[2]),
    ]
    ids = put_aside(kafka.bootstrap_servers, letters, asides)
    before = {topic.name: len(records(kafka.bootstrap_servers, topic)) for topic in (USERS_CHANGED, FLIGHTS_OBSERVED)}
    status, out, err = shell("requeue", "--all")
    assert status == 1
    assert out[-1] == "letters requeued: 3; alerts of them: 3; letters left: 6"
    assert {line.partition("  ")[0] for line in err} == {ids[each] for each in (1, 2, 4, 5, 6, 7)}
    (too_large,) = (line for line in err if line.startswith(f"{ids[6]}  "))
    assert re.search(r"the event itself is at alerts\.raised\.v1, partition \d+, offset 6,", too_large)
    assert {each.value for each in requeued_alerts(kafka)} == {encode_alert(each, CAUSE) for each in good}
    after = {topic.name: len(records(kafka.bootstrap_servers, topic)) for topic in (USERS_CHANGED, FLIGHTS_OBSERVED)}
    assert before == after
    status, out, err = shell("requeue", ids[0], "11:999")
    assert (status, err) == (1, ["11:999  there is no such letter: `list` shows the ids"])
    assert out[-1] == "letters requeued: 1; alerts of them: 1; letters left: 0"


def test_only_what_the_options_name_is_requeued(kafka: Broker, letters: Topic, shell: Shell) -> None:
    """By reason, topic and time."""
    fresh, later, refused = new_alert(), new_alert(), new_alert()
    put_aside(
        kafka.bootstrap_servers,
        letters,
        [raised(fresh, "no answer"), retry(later, reason="no answer"), raised(refused, "refused: 550")],
    )
    assert shell("requeue", "--all", "--until", "1h")[1][-1].startswith("letters requeued: 0;")
    assert shell("requeue", "--all", "--reason", "no answer", "--topic", ALERTS_RETRY.name, "--since", "1h")[0] == 0
    assert [each.value for each in requeued_alerts(kafka)] == [encode_alert(later, CAUSE)]


def test_thousands_are_requeued_in_the_order_in_which_they_were_put_aside(
    kafka: Broker, letters: Topic, shell: Shell
) -> None:
    """Each person's: what is resolved must not be told before what fired."""
    people = [uuid4() for _ in range(5)]
    alerts = [new_alert(user_id=people[each % 5]) for each in range(1_200)]
    put_aside(kafka.bootstrap_servers, letters, [raised(each) for each in alerts])
    status, out, _ = shell("requeue", "--all")
    assert (status, out[-1]) == (0, "letters requeued: 1,200; alerts of them: 1,200; letters left: 0")
    found = requeued_alerts(kafka)
    assert len(found) == 1_200
    for person in people:
        of_person = [each.value for each in found if each.key == str(person).encode()]
        assert of_person == [encode_alert(each, CAUSE) for each in alerts if each.user_id == person]


def test_a_topic_that_is_empty_or_absent_says_so(kafka: Broker, letters: Topic, shell: Shell, monkeypatch) -> None:
    """Absent, the broker may be the wrong one; to ask does not make the topic."""
    assert shell("list") == (0, ["no dead letters"], [f"{letters.name} is empty"])
    assert shell("list", "--json") == (0, [], [f"{letters.name} is empty"])
    monkeypatch.setattr(commands, "ALERTS_DEAD_LETTER", Topic("nowhere.v1", 12))
    for arguments in (["list"], ["show", "0:0"], ["requeue", "--all"]) * 2:
        status, out, err = shell(*arguments)
        assert (status, out, len(err)) == (1, [], 1)
        assert err[0].startswith("notifier: the broker has no topic nowhere.v1: ")


def test_alerts_are_not_sent_to_a_broker_that_has_no_place_for_them(
    kafka: Broker, letters: Topic, shell: Shell, monkeypatch
) -> None:
    """It would make the topic with partitions as it sees fit."""
    put_aside(kafka.bootstrap_servers, letters, [raised(new_alert())])
    monkeypatch.setattr(commands, "ALERTS_RAISED", Topic("nowhere.v1", 12))
    status, out, err = shell("requeue", "--all")
    assert (status, out) == (1, [])
    assert err[0].startswith("notifier: the broker has no topic nowhere.v1 of 12 partitions")


def test_a_broker_that_dies_meanwhile_is_one_sentence(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of aiokafka's it breaks; and what is not acknowledged is not called done."""
    begin = commands._producer
    with running_broker(tmp_path) as broker:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        monkeypatch.setattr(commands, "_SILENT_POLLS", 3)
        put_aside(broker.bootstrap_servers, ALERTS_DEAD_LETTER, [raised(new_alert()) for _ in range(3)])

        async def begin_and_lose(bootstrap_servers: str) -> AIOKafkaProducer:
            producer = await begin(bootstrap_servers)
            broker.stop()
            return producer

        monkeypatch.setattr(commands, "_producer", begin_and_lose)
        status, out, err = shell("requeue", "--all")
    assert (status, out) == (1, [])
    assert err == ["notifier: the broker gives no more letters, though there are more: try again when it is well"]


def test_it_runs_as_an_operator_runs_it(kafka: Broker) -> None:
    """A process with the broker's setting alone, on the catalogue's topics, whose reader may go away."""
    alert = new_alert()
    (letter,) = put_aside(kafka.bootstrap_servers, ALERTS_DEAD_LETTER, [raised(alert)])
    environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "PATH": os.environ["PATH"], "LC_ALL": "C"}
    command = [sys.executable, "-m", "notifier", "dead-letters"]
    done = subprocess.run(
        [*command, "requeue", letter], env=environment, capture_output=True, text=True, timeout=60, check=False
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
            timeout=60,
            check=False,
        )
    assert (broken.returncode, broken.stderr) == (1, "")
