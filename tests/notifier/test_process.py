"""The notifier as it runs: a real worker, a real broker, a real mailbox."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.alerts import Alert
from local.kafka import Broker
from local.mailbox.reading import ReceivedMail, find_confirmation_link, read_mails
from notifier.mail.alert_header import CAUSE_HEADER, parse_alert_header, parse_cause_header, told
from streams.messages import encode_alert
from tests.fakes.smtp_server import HANG_UP, FakeSmtpServer
from tests.fakes.user_service import FakeUserService
from tests.notifier.alerts import CAUSE, new_alert
from tests.notifier.process import Event, contact, dead_letters, publish, running_notifier
from tests.ports import free_port
from tests.waiting import eventually
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def users() -> Iterator[FakeUserService]:
    with FakeUserService().running() as service:
        yield service


@pytest.fixture
def smtp() -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer().running() as server:
        yield server


@contextmanager
def running_mailbox(maildir: Path) -> Iterator[int]:
    """The port of a real mailbox."""
    port = free_port()
    command = [sys.executable, "-m", "local.mailbox", "--port", str(port), "--maildir", str(maildir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield port
        finally:
            process.kill()


def raised(alert: Alert) -> Event:
    return Event(ALERTS_RAISED, alert.user_id, encode_alert(alert, CAUSE))


def registered(user_id: UUID, confirmation_id: str) -> Event:
    change = UserChanged(user_id=str(user_id), registered=UserRegistered(confirmation_id=confirmation_id))
    return Event(USERS_CHANGED, user_id, change.SerializeToString())


def message_ids(delivered: list[ReceivedMail]) -> list[str]:
    return [str(mail.message["Message-ID"]) for mail in delivered]


def message_id(alert: Alert) -> str:
    return f"<{alert.alert_id}@example.org>"


def test_each_alert_is_mailed_once_to_whom_it_may_concern(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """Duplicates are mailed once; bytes that are no alert are put aside and hold nothing up; who is unconfirmed,
    paused or gone gets nothing; a registration gets its link; and no log, label or topic tells who anybody is."""
    known = new_alert()
    users.add(contact(known.user_id))
    unconfirmed, paused, gone = new_alert(), new_alert(), new_alert()
    users.add(contact(unconfirmed.user_id, confirmed=False, confirm_url="https://example.org/confirm?t=token7"))
    users.add(contact(paused.user_id, paused=True))
    last = new_alert(user_id=known.user_id)
    with (
        running_mailbox(tmp_path / "mail") as port,
        running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier,
    ):
        publish(
            kafka.bootstrap_servers,
            [
                Event(ALERTS_RAISED, known.user_id, b"\xffnonsense"),
                Event(ALERTS_RETRY, known.user_id, b"\xffnonsense"),
                Event(USERS_CHANGED, known.user_id, b"\xffnonsense"),
                Event(USERS_CHANGED, known.user_id, None),
                Event(ALERTS_RAISED, known.user_id, None),
                raised(known),
                raised(known),
                raised(unconfirmed),
                raised(paused),
                raised(gone),
                registered(unconfirmed.user_id, "first"),
                registered(unconfirmed.user_id, "first"),
                registered(known.user_id, "confirmed meanwhile"),
                raised(known),
                raised(last),
            ],
        )
        eventually(lambda: len(read_mails(tmp_path / "mail")) >= 3)
        eventually(lambda: notifier.page("/metrics").count('alerts_dropped_total{node="local",reason=') == 4)
        assert notifier.terminate() == 0
        log = notifier.log()
    assert "secret" not in log
    assert "token7" not in log
    delivered = read_mails(tmp_path / "mail")
    told_mails = {str(mail.message["Message-ID"]): mail for mail in delivered if not find_confirmation_link(mail)}
    assert sorted(message_ids(delivered)) == sorted(set(message_ids(delivered)))
    assert set(told_mails) == {message_id(known), message_id(last)}
    mail = told_mails[message_id(known)]
    assert parse_alert_header(mail.message["X-Towerwatch-Alert"]) == told(known)
    assert parse_cause_header(mail.message[CAUSE_HEADER]) == CAUSE
    assert [link for mail in delivered if (link := find_confirmation_link(mail))] == [
        "https://example.org/confirm?t=token7"
    ]
    aside = dead_letters(kafka.bootstrap_servers, known.user_id)
    assert Counter((letter.headers["source-topic"], letter.value) for letter in aside) == {
        (ALERTS_RAISED.name, b"\xffnonsense"): 1,
        (ALERTS_RETRY.name, b"\xffnonsense"): 1,
        (USERS_CHANGED.name, b"\xffnonsense"): 1,
        (ALERTS_RAISED.name, None): 1,
    }
    assert all(
        {"source-partition", "source-offset", "reason", "dead-lettered-at"} <= set(each.headers) for each in aside
    )


def test_refusals_hold_up_nobody_else(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """What is refused for now is mailed later; what is refused for good becomes a dead letter at once; what stands
    behind either goes out meanwhile."""
    later, never, lost, asks, behind = (new_alert() for _ in range(5))
    for alert in (later, never, lost, behind):
        users.add(contact(alert.user_id, email=f"{alert.user_id}@example.net"))
    users.add(contact(asks.user_id, confirmed=False, confirm_url="https://x.example.org/", email="asks@example.net"))
    smtp.to[f"{later.user_id}@example.net"] = ["450 4.2.1 over quota"] * 3
    smtp.to[f"{never.user_id}@example.net"] = [f"550 5.1.1 {never.user_id}@example.net unknown"]
    smtp.to[f"{lost.user_id}@example.net"] = [HANG_UP]
    smtp.to["asks@example.net"] = ["451 not yet"]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
        publish(
            kafka.bootstrap_servers,
            [registered(asks.user_id, "asks"), *(raised(alert) for alert in (later, never, lost, behind))],
        )
        eventually(lambda: len(smtp.mails) == 4)
        order = [str(mail["Message-ID"]) for mail in smtp.mails]
        assert set(order) >= {message_id(alert) for alert in (later, lost, behind)}
        assert order.index(message_id(behind)) < order.index(message_id(later))
        [aside] = eventually(lambda: dead_letters(kafka.bootstrap_servers, never.user_id))
        assert aside.value == encode_alert(never, CAUSE)
        assert aside.headers["reason"] == "the server refused the recipient: 550 5.1.1"
        assert 'status="failure"' in notifier.page("/metrics")
        assert "example.net" not in notifier.log()

        users.away.set()
        meanwhile = new_alert()
        users.add(contact(meanwhile.user_id))
        publish(kafka.bootstrap_servers, [raised(meanwhile)])
        eventually(lambda: str(meanwhile.user_id) in users.asked)
        eventually(lambda: notifier.log().count("UNAVAILABLE") >= 2)
        users.away.clear()
        eventually(lambda: message_id(meanwhile) in [mail["Message-ID"] for mail in smtp.mails])


def test_a_stop_loses_no_alert_that_waits(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """Faust would acknowledge the event that a stop interrupts; a retry in its pause must be there after a restart."""
    alert = new_alert()
    users.add(contact(alert.user_id, email="later@example.net"))
    smtp.to["later@example.net"] = ["450 later"]
    started = time.monotonic()
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="20") as notifier:
        publish(kafka.bootstrap_servers, [raised(alert)])
        eventually(lambda: "alerts.put_off" in notifier.events())
        stopping = time.monotonic()
        assert notifier.terminate() == 0
        assert time.monotonic() - stopping < 8
    assert smtp.mails == []
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port):
        eventually(lambda: smtp.mails, within_s=90)
    assert time.monotonic() - started > 10
    assert [mail["Message-ID"] for mail in smtp.mails] == [message_id(alert)]


def test_kill_9_mails_nothing_twice(kafka: Broker, users: FakeUserService, tmp_path: Path) -> None:
    """What went out is remembered across a crash; only the mail of the very instant may come again, as the same one."""
    user_id = uuid4()
    users.add(contact(user_id))
    burst = [new_alert(user_id=user_id) for _ in range(300)]
    with running_mailbox(tmp_path / "mail") as port:
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier:
            publish(kafka.bootstrap_servers, [raised(alert) for alert in burst])
            eventually(lambda: len(list((tmp_path / "mail" / "new").iterdir())) >= 60)
            notifier.kill()
            before = set(message_ids(read_mails(tmp_path / "mail")))
            assert len(before) < len(burst)
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier:
            sentinel = new_alert(user_id=user_id)
            publish(kafka.bootstrap_servers, [*(raised(alert) for alert in burst), raised(sentinel)])
            eventually(lambda: message_id(sentinel) in message_ids(read_mails(tmp_path / "mail")), within_s=120)
    counted = Counter(message_ids(read_mails(tmp_path / "mail")))
    assert set(counted) == {message_id(alert) for alert in (*burst, sentinel)}
    repeated = {each: count for each, count in counted.items() if count > 1}
    assert sum(repeated.values()) <= 2
    assert set(repeated) <= before
