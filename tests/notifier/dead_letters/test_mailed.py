"""Dead letters of a real worker, requeued by the operator's command, are mailed exactly once."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from local.kafka import Broker
from notifier.__main__ import main
from streams.messages import encode_alert
from tests.fakes.smtp_server import FakeSmtpServer
from tests.fakes.user_service import FakeUserService
from tests.notifier.alerts import CAUSE, NOTICE, build_unheard_notice, new_alert
from tests.notifier.dead_letter_records import dead_lettered_notice, dead_lettered_retry, publish_dead_letters
from tests.notifier.process import UserEvent, build_contact, publish, read_dead_letters, running_notifier
from tests.waiting import eventually
from towerwatch.topics import ALERTS_DEAD_LETTER, ALERTS_RAISED, NOTICES_RAISED


@pytest.fixture
def users() -> Iterator[FakeUserService]:
    with FakeUserService().running() as service:
        yield service


@pytest.fixture
def smtp() -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer().running() as server:
        yield server


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Undo the command's logging configuration, which writes to the standard error of one test alone."""
    of_kafka = logging.getLogger("aiokafka")
    level = of_kafka.level
    yield
    of_kafka.setLevel(level)
    structlog.reset_defaults()


def test_a_requeued_alert_is_mailed_exactly_once(
    kafka: Broker,
    users: FakeUserService,
    smtp: FakeSmtpServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A requeued alert that the server refuses again becomes a dead letter again; requeued later, it is mailed once.

    The list shows that an alert is again in a later dead letter. All alerts of a failed mail are requeued, too.
    """
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    alert, user_id, last = new_alert(), uuid4(), new_alert()
    together = [new_alert(user_id=user_id) for _ in range(3)]
    for each in (alert.user_id, user_id, last.user_id):
        users.add(build_contact(each, email=f"{each}@example.net"))
    smtp.script_for[f"{alert.user_id}@example.net"]["CONTENT"] = ["552 5.2.2 full", "552 5.2.2 full"]

    def letters_of_alert() -> list[dict]:
        capsys.readouterr()
        assert main(["dead-letters", "list", "--json"]) == 0
        listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [each for each in listed if each["alert_ids"] == [str(alert.alert_id)]]

    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
        publish(kafka.bootstrap_servers, [UserEvent(ALERTS_RAISED, alert.user_id, encode_alert(alert, CAUSE))])
        eventually(lambda: read_dead_letters(kafka.bootstrap_servers, alert.user_id))
        assert main(["dead-letters", "requeue", "--all", "--reason", "552"]) == 0
        first, again = eventually(lambda: len(found := letters_of_alert()) == 2 and found)
        assert (first["again_in"], again["again_in"], again["requeued_at"]) == (again["id"], None, None)
        assert first["requeued_at"] is not None
        assert smtp.mails == []

        publish_dead_letters(kafka.bootstrap_servers, ALERTS_DEAD_LETTER, [dead_lettered_retry(*together)])
        assert main(["dead-letters", "requeue", "--all"]) == 0
        requeued_ids = {str(each.alert_id) for each in (alert, *together)}
        eventually(lambda: {mail["Message-ID"].partition("@")[0].strip("<") for mail in smtp.mails} >= requeued_ids)

        assert main(["dead-letters", "requeue", first["id"], again["id"]]) == 0
        eventually(lambda: 'alerts_dropped_total{node="local",reason="already_sent"' in notifier.page("/metrics"))
        publish(kafka.bootstrap_servers, [UserEvent(ALERTS_RAISED, last.user_id, encode_alert(last, CAUSE))])
        eventually(lambda: len(smtp.mails) == 5)
    assert len({mail["Message-ID"] for mail in smtp.mails}) == 5


def test_a_requeued_notice_is_mailed_exactly_once(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice that the server refused is mailed after its requeue; a second requeue mails nothing."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    notice = build_unheard_notice(uuid4(), "KPWM", NOTICE.since)
    users.add(build_contact(notice.user_id, email=f"{notice.user_id}@example.net"))
    smtp.script_for[f"{notice.user_id}@example.net"]["CONTENT"] = ["552 5.2.2 full"]
    event = UserEvent(NOTICES_RAISED, notice.user_id, dead_lettered_notice(notice).value)
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
        publish(kafka.bootstrap_servers, [event])
        eventually(lambda: read_dead_letters(kafka.bootstrap_servers, notice.user_id))
        publish(kafka.bootstrap_servers, [event])
        eventually(lambda: 'notices_dropped_total{node="local",reason="already_sent"' in notifier.page("/metrics"))
        assert smtp.mails == []
        assert main(["dead-letters", "requeue", "--all", "--topic", NOTICES_RAISED.name]) == 0
        eventually(lambda: len(smtp.mails) == 1)
        [letter] = [
            each for each in read_dead_letters(kafka.bootstrap_servers, notice.user_id) if "reason" in each.headers
        ]
        assert letter.headers["source-topic"] == NOTICES_RAISED.name
        assert main(["dead-letters", "requeue", "--all", "--topic", NOTICES_RAISED.name]) == 0
        publish(kafka.bootstrap_servers, [event])
        eventually(
            lambda: 'reason="already_sent",service="notifier"} 2.0' in notifier.page("/metrics"),
            "the repeat is dropped",
        )
    assert [mail["Message-ID"] for mail in smtp.mails] == [f"<{notice.notice_id}@example.org>"]
