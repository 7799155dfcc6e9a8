"""The notifier as a real process, with a real broker and a real mailbox."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from collector.messages import encode_airport_unheard, encode_code_retired
from domain.alerts import AlertState
from domain.notices import Notice, RetiredNotice
from local.kafka import Broker
from local.mailbox.reading import find_confirmation_link, read_mails
from notifier.mail.alert_header import (
    CAUSE_HEADER,
    NOTICE_HEADER,
    parse_alert_header,
    parse_cause_header,
    select_header_fields,
)
from notifier.mail.headers import compute_mail_id
from streams.messages import encode_alert
from tests.fakes.smtp_server import HANG_UP, FakeSmtpServer
from tests.fakes.user_service import FakeUserService
from tests.notifier.alerts import ALERT, CAUSE, NOTICE, build_retired_notice, build_unheard_notice, new_alert
from tests.notifier.process import (
    UserEvent,
    build_alert_event,
    build_contact,
    get_message_id,
    get_message_ids,
    is_everything_acknowledged,
    publish,
    read_dead_letters,
    running_mailbox,
    running_notifier,
)
from tests.waiting import eventually
from towerwatch.topics import ALERTS_RAISED, ALERTS_RETRY, NOTICES_RAISED, USERS_CHANGED
from towerwatch.users.v1.events_pb2 import UserChanged, UserRegistered
from towerwatch.users.v1.user_service_pb2 import CONFIRMATION_STATE_SENT, CONFIRMATION_STATE_WAITING


@pytest.fixture
def smtp() -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer().running() as server:
        yield server


def build_registration_event(user_id: UUID, confirmation_id: str) -> UserEvent:
    change = UserChanged(user_id=str(user_id), registered=UserRegistered(confirmation_id=confirmation_id))
    return UserEvent(USERS_CHANGED, user_id, change.SerializeToString())


def build_notice_event(notice: Notice) -> UserEvent:
    if isinstance(notice, RetiredNotice):
        message = encode_code_retired(notice.user_id, notice.airport, notice.successor)
    else:
        message = encode_airport_unheard(notice.user_id, notice.airport, notice.since)
    return UserEvent(NOTICES_RAISED, notice.user_id, message.value)


def test_each_alert_is_mailed_once_to_users_who_may_be_mailed(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """Duplicates are mailed once; undecodable events are dead-lettered and delay nothing; users who are unconfirmed,
    paused or deleted get no alert; a registration gets its link; no log, label or topic reveals a user."""
    known = new_alert()
    users.add(build_contact(known.user_id))
    unconfirmed, paused, gone = new_alert(), new_alert(), new_alert()
    users.add(build_contact(unconfirmed.user_id, confirmed=False, confirm_url="https://example.org/confirm?t=token7"))
    users.add(build_contact(paused.user_id, paused=True))
    last = new_alert(user_id=known.user_id)
    with (
        running_mailbox(tmp_path / "mail") as port,
        running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier,
    ):
        publish(
            kafka.bootstrap_servers,
            [
                UserEvent(ALERTS_RAISED, known.user_id, b"\xffnonsense"),
                UserEvent(ALERTS_RETRY, known.user_id, b"\xffnonsense"),
                UserEvent(USERS_CHANGED, known.user_id, b"\xffnonsense"),
                UserEvent(USERS_CHANGED, known.user_id, None),
                UserEvent(ALERTS_RAISED, known.user_id, None),
                build_alert_event(known),
                build_alert_event(known),
                build_alert_event(unconfirmed),
                build_alert_event(paused),
                build_alert_event(gone),
                build_registration_event(unconfirmed.user_id, "first"),
                build_registration_event(unconfirmed.user_id, "first"),
                build_registration_event(known.user_id, "confirmed meanwhile"),
                build_alert_event(known),
                build_alert_event(last),
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
    assert sorted(get_message_ids(delivered)) == sorted(set(get_message_ids(delivered)))
    assert set(told_mails) == {get_message_id(known), get_message_id(last)}
    mail = told_mails[get_message_id(known)]
    assert parse_alert_header(mail.message["X-Towerwatch-Alert"]) == select_header_fields(known)
    assert parse_cause_header(mail.message[CAUSE_HEADER]) == CAUSE
    assert [link for mail in delivered if (link := find_confirmation_link(mail))] == [
        "https://example.org/confirm?t=token7"
    ]
    aside = read_dead_letters(kafka.bootstrap_servers, known.user_id)
    assert Counter((letter.headers["source-topic"], letter.value) for letter in aside) == {
        (ALERTS_RAISED.name, b"\xffnonsense"): 1,
        (ALERTS_RETRY.name, b"\xffnonsense"): 1,
        (USERS_CHANGED.name, b"\xffnonsense"): 1,
        (ALERTS_RAISED.name, None): 1,
    }
    assert all(
        {"source-partition", "source-offset", "reason", "dead-lettered-at"} <= set(each.headers) for each in aside
    )


def test_rejected_mails_delay_no_other_mail(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """A mail that is rejected temporarily is sent later, a mail that is rejected permanently is dead-lettered at once,
    and the mails behind both are sent meanwhile."""
    later, never, lost, asks, behind = (new_alert() for _ in range(5))
    for alert in (later, never, lost, behind):
        users.add(build_contact(alert.user_id, email=f"{alert.user_id}@example.net"))
    users.add(
        build_contact(asks.user_id, confirmed=False, confirm_url="https://x.example.org/", email="asks@example.net")
    )
    smtp.rcpt_script_for[f"{later.user_id}@example.net"] = ["450 4.2.1 over quota"] * 4
    smtp.rcpt_script_for[f"{never.user_id}@example.net"] = [f"550 5.1.1 {never.user_id}@example.net unknown"]
    smtp.rcpt_script_for[f"{lost.user_id}@example.net"] = [HANG_UP]
    smtp.rcpt_script_for["asks@example.net"] = ["451 not yet"]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
        publish(
            kafka.bootstrap_servers,
            [
                build_registration_event(asks.user_id, "asks"),
                *(build_alert_event(alert) for alert in (later, never, lost, behind)),
            ],
        )
        eventually(lambda: len(smtp.mails) == 4)
        order = [str(mail["Message-ID"]) for mail in smtp.mails]
        assert set(order) >= {get_message_id(alert) for alert in (later, lost, behind)}
        assert order.index(get_message_id(behind)) < order.index(get_message_id(later))
        [aside] = eventually(lambda: read_dead_letters(kafka.bootstrap_servers, never.user_id))
        assert aside.value == encode_alert(never, CAUSE)
        assert aside.headers["reason"] == "the server refused the recipient: 550 5.1.1"
        assert 'status="failure"' in notifier.page("/metrics")
        assert "example.net" not in notifier.log()

        users.away.set()
        meanwhile = new_alert()
        users.add(build_contact(meanwhile.user_id))
        publish(kafka.bootstrap_servers, [build_alert_event(meanwhile)])
        eventually(lambda: str(meanwhile.user_id) in users.asked)
        eventually(lambda: notifier.log().count("UNAVAILABLE") >= 2)
        users.away.clear()
        eventually(lambda: get_message_id(meanwhile) in [mail["Message-ID"] for mail in smtp.mails])


def test_a_relay_that_refuses_everybody_suppresses_nobody(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """All mails wait, across a restart too, and arrive once the relay is mended; a bare 550 of one address counts once
    the server has accepted the others."""
    alerts = [new_alert() for _ in range(12)]
    replies = (
        "550 relay not permitted", "550", "551 we do not relay", "553", "550 5.7.1 Relaying denied", "554",
        "554 5.7.1 Relay access denied", "550 Sender verify failed", "550 5.4.5 Daily sending quota exceeded",
        "550 5.1.1 relay not permitted", "552 quota exceeded", "550-read\r\n550 Administrative prohibition",
    )  # fmt: skip
    gone = new_alert()
    for alert in (*alerts, gone):
        users.add(build_contact(alert.user_id, email=f"{alert.user_id}@example.net"))
    for alert, reply in zip(alerts, replies, strict=True):
        smtp.rcpt_script_for[f"{alert.user_id}@example.net"] = [reply] * 500
    smtp.rcpt_script_for[f"{gone.user_id}@example.net"] = ["550 no such user"] * 500
    events = [build_alert_event(alert) for alert in (*alerts, gone)]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: notifier.events().count("alerts.put_off") >= 40, within_s=90)
        assert (users.bounced, smtp.mails) == ([], [])
        metrics = notifier.page("/metrics")
        for reason in ("relay", "sender", "quota", "policy", "refused", "unproven"):
            assert f'reason="{reason}",service="notifier"}}' in metrics
        assert "example.net" not in notifier.log()
        notifier.kill()
    assert users.bounced == []
    for alert in alerts:
        smtp.rcpt_script_for[f"{alert.user_id}@example.net"].clear()
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port):
        eventually(lambda: len(smtp.mails) >= len(alerts), within_s=90)
        eventually(lambda: users.bounced, within_s=90)
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers), within_s=90)
    assert sorted(str(mail["Message-ID"]) for mail in smtp.mails) == sorted(get_message_id(alert) for alert in alerts)
    assert users.bounced == [str(gone.user_id)]
    [letter] = read_dead_letters(kafka.bootstrap_servers, gone.user_id)
    assert letter.headers["reason"] == "the server refused the recipient: 550"


def test_a_greylisted_confirmation_mail_waits_and_survives_kill_9(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """It is tried more often than the five times of before, no other mail waits for it, and its owner can see that it
    waits; after the kill each mail arrives once."""
    asks, behind = uuid4(), uuid4()
    for user_id in (asks, behind):
        users.add(
            build_contact(
                user_id, confirmed=False, confirm_url="https://x.example.org/", email=f"{user_id}@example.net"
            )
        )
    smtp.rcpt_script_for[f"{asks}@example.net"] = ["450 4.7.1 greylisted"] * 500
    events = [build_registration_event(asks, str(asks)), build_registration_event(behind, str(behind))]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="0.1") as notifier:
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: notifier.events().count("confirmation.put_off") >= 7, within_s=90)
        assert [rcpt for _, rcpt in smtp.envelopes] == [f"RCPT TO:<{behind}@example.net>"]
        assert (str(asks), str(asks), CONFIRMATION_STATE_WAITING) in users.confirmations
        notifier.kill()
    assert read_dead_letters(kafka.bootstrap_servers, asks) == []
    smtp.rcpt_script_for[f"{asks}@example.net"].clear()
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="0.1"):
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: len(smtp.mails) >= 2, within_s=90)
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers), within_s=90)
    assert sorted(rcpt for _, rcpt in smtp.envelopes) == sorted(
        f"RCPT TO:<{each}@example.net>" for each in (asks, behind)
    )
    assert users.confirmations[-1] == (str(asks), str(asks), CONFIRMATION_STATE_SENT)


def test_a_stop_loses_no_queued_alert(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """Faust would acknowledge the event that a stop interrupts; a retry in its pause must be mailed after a restart."""
    alert = new_alert()
    users.add(build_contact(alert.user_id, email="later@example.net"))
    smtp.rcpt_script_for["later@example.net"] = ["450 later"]
    started = time.monotonic()
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="20") as notifier:
        publish(kafka.bootstrap_servers, [build_alert_event(alert)])
        eventually(lambda: "alerts.put_off" in notifier.events())
        assert notifier.terminate() == 0
    assert smtp.mails == []
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port):
        eventually(lambda: smtp.mails, within_s=90)
    assert time.monotonic() - started > 10
    assert [mail["Message-ID"] for mail in smtp.mails] == [get_message_id(alert)]


def test_kill_9_mails_nothing_twice(kafka: Broker, users: FakeUserService, tmp_path: Path) -> None:
    """Sent mails are recorded across a crash; only the mail that was in flight at the crash may be sent again,
    unchanged."""
    user_id = uuid4()
    users.add(build_contact(user_id))
    burst = [new_alert(user_id=user_id) for _ in range(300)]
    with running_mailbox(tmp_path / "mail") as port:
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier:
            publish(kafka.bootstrap_servers, [build_alert_event(alert) for alert in burst])
            eventually(lambda: len(list((tmp_path / "mail" / "new").iterdir())) >= 60)
            notifier.kill()
            before = set(get_message_ids(read_mails(tmp_path / "mail")))
            assert len(before) < len(burst)
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier:
            # Of a later window, so that it is mailed after all others.
            sentinel = new_alert(user_id=user_id, window_start=burst[0].window_start + timedelta(hours=1))
            publish(
                kafka.bootstrap_servers, [*(build_alert_event(alert) for alert in burst), build_alert_event(sentinel)]
            )
            eventually(lambda: get_message_id(sentinel) in get_message_ids(read_mails(tmp_path / "mail")), within_s=120)
    counted = Counter(get_message_ids(read_mails(tmp_path / "mail")))
    assert set(counted) == {get_message_id(alert) for alert in (*burst, sentinel)}
    repeated = {each: count for each, count in counted.items() if count > 1}
    assert sum(repeated.values()) <= 2
    assert set(repeated) <= before


def test_corrections_are_one_mail_that_survives_kill_9_and_a_mail_server_that_is_away(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """They hold up no other alert; duplicates, and what was superseded, are not told; who wants none gets none."""
    user_id, unwilling = uuid4(), uuid4()
    users.add(build_contact(user_id, email=f"{user_id}@example.net"))
    users.add(build_contact(unwilling, without_corrections=True))
    begin = ALERT.window_start
    firing = new_alert(user_id=user_id, corrects=True, count=24, count_before=19)
    taken = new_alert(
        user_id=user_id, corrects=True, state=AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING,
        window_start=begin + timedelta(hours=3), count=18, count_before=23, withdrawn_count=23,
    )  # fmt: skip
    passing = new_alert(user_id=user_id, corrects=True, window_start=begin + timedelta(hours=6), count=77)
    undone = replace(passing, alert_id=uuid4(), state=AlertState.WITHDRAWN, withdrawn_state=AlertState.FIRING, count=20)
    corrections = [firing, taken, passing, undone]
    unwanted, other = (new_alert(user_id=unwilling, corrects=flag) for flag in (True, False))
    events = [build_alert_event(each) for each in (*corrections, unwanted, other)]
    smtp.rcpt_script_for[f"{user_id}@example.net"] = ["450 4.2.1 over quota"] * 3
    settings = {"RETRY_BASE_S": "1", "CORRECTIONS_QUIET_S": "1"}
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, **settings) as notifier:
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: notifier.events().count("corrections.put_off") >= 2, within_s=90)
        eventually(lambda: len(smtp.mails) == 1)
        # It is recorded as dropped, so that the next worker does not count it again.
        eventually(lambda: 'reason="not_wanted"' in notifier.page("/metrics"))
        notifier.kill()
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, **settings) as notifier:
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: len(smtp.mails) >= 2, within_s=120)
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers), within_s=90)
    assert [mail["Message-ID"] for mail in smtp.mails] == [
        get_message_id(other),
        f"<{compute_mail_id(corrections)}@example.org>",
    ]
    text = " ".join(smtp.mails[1].get_body(("plain",)).get_content().split())
    assert "24 departures, not 19: more than your level of 20." in text
    assert "18 departures, not 23: not more than your level of 20. We take back the alert." in text
    assert re.search(r"\b77\b", text) is None  # an id may contain 77
    assert text.count("more than your level") == 2
    assert read_dead_letters(kafka.bootstrap_servers, user_id) == []


def test_an_unheard_airport_is_told_once_to_each_user_who_may_be_mailed(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """Repeats are mailed once; undecodable notices are dead-lettered and delay nothing; users who are unconfirmed,
    paused or deleted get no notice; the hourly limit on alerts does not hold notices back."""
    known, other, unconfirmed, paused, gone = (uuid4() for _ in range(5))
    for user_id in (known, other):
        users.add(build_contact(user_id, unsubscribe_url=f"https://example.org/unsubscribe?token={user_id}"))
    users.add(build_contact(unconfirmed, confirmed=False))
    users.add(build_contact(paused, paused=True))
    told = [
        build_unheard_notice(known, "KPWM", NOTICE.since),
        build_unheard_notice(known, "KBOS", NOTICE.since),
        build_unheard_notice(other, "KPWM", NOTICE.since),
    ]
    silent = [build_unheard_notice(each, "KPWM", NOTICE.since) for each in (unconfirmed, paused, gone)]
    with (
        running_mailbox(tmp_path / "mail") as port,
        running_notifier(
            tmp_path, kafka.bootstrap_servers, users.target, port, PERSON_MAILS_PER_HOUR="1", GROUP_WAIT_S="5"
        ) as notifier,
    ):
        publish(
            kafka.bootstrap_servers,
            [
                UserEvent(NOTICES_RAISED, known, b"\xffnonsense"),
                UserEvent(NOTICES_RAISED, known, None),
                *(build_notice_event(notice) for notice in (*told, *silent, *told)),
            ],
        )
        eventually(lambda: len(read_mails(tmp_path / "mail")) >= 3)
        publish(kafka.bootstrap_servers, [build_notice_event(notice) for notice in told])
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers))
        metrics = notifier.page("/metrics")
        assert notifier.terminate() == 0
        log = notifier.log()
    assert "secret" not in log
    delivered = read_mails(tmp_path / "mail")
    by_id = {str(mail.message["Message-ID"]): mail.message for mail in delivered}
    assert len(delivered) == 3
    assert set(by_id) == {f"<{notice.notice_id}@example.org>" for notice in told}
    for notice in told:
        message = by_id[f"<{notice.notice_id}@example.org>"]
        assert f"secret-{notice.user_id}@example.net" in str(message["To"])
        assert message[NOTICE_HEADER] == f"airport={notice.airport}; since=2026-11-21T00:00:00Z"
        assert message["List-Unsubscribe"] == f"<https://example.org/unsubscribe?token={notice.user_id}>"
        assert "Fri 20 Nov 19:00 in your time zone" in " ".join(message.get_body(("plain",)).get_content().split())
    aside = read_dead_letters(kafka.bootstrap_servers, known)
    assert sorted((letter.headers["source-topic"], letter.value or b"") for letter in aside) == [
        (NOTICES_RAISED.name, b""),
        (NOTICES_RAISED.name, b"\xffnonsense"),
    ]
    assert 'emails_sent_total{kind="notice",node="local",service="notifier",status="success"} 3.0' in metrics
    for reason, dropped in (("already_sent", 6), ("unconfirmed", 1), ("paused", 1), ("user_gone", 1)):
        assert f'notices_dropped_total{{node="local",reason="{reason}",service="notifier"}} {dropped}.0' in metrics


def test_a_rejected_notice_waits_in_the_retry_topic_and_survives_kill_9(
    kafka: Broker, users: FakeUserService, smtp: FakeSmtpServer, tmp_path: Path
) -> None:
    """A notice that is rejected temporarily is mailed once by the next worker, and one that is rejected permanently is
    dead-lettered; notices behind both are mailed meanwhile, and what was mailed before the kill is not repeated."""
    later, never, behind = (build_unheard_notice(uuid4(), "KPWM", NOTICE.since) for _ in range(3))
    for notice in (later, never, behind):
        users.add(build_contact(notice.user_id, email=f"{notice.user_id}@example.net"))
    smtp.rcpt_script_for[f"{later.user_id}@example.net"] = ["450 4.2.1 over quota"] * 3
    smtp.rcpt_script_for[f"{never.user_id}@example.net"] = [f"550 5.1.1 {never.user_id}@example.net unknown"]
    events = [build_notice_event(notice) for notice in (later, never, behind)]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="2") as notifier:
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: len(smtp.mails) == 1 and read_dead_letters(kafka.bootstrap_servers, never.user_id))
        eventually(lambda: notifier.events().count("notice.put_off") >= 2)
        notifier.kill()
        assert [mail["Message-ID"] for mail in smtp.mails] == [f"<{behind.notice_id}@example.org>"]
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port, RETRY_BASE_S="2"):
        publish(kafka.bootstrap_servers, events)
        eventually(lambda: len(smtp.mails) >= 2, within_s=90)
        eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers), within_s=90)
    assert [mail["Message-ID"] for mail in smtp.mails] == [
        f"<{each.notice_id}@example.org>" for each in (behind, later)
    ]
    [letter] = read_dead_letters(kafka.bootstrap_servers, never.user_id)
    assert letter.headers["source-topic"] == NOTICES_RAISED.name
    assert str(never.user_id) not in letter.headers["reason"]
    assert users.bounced == [str(never.user_id)]


def test_kill_9_in_a_burst_of_notices_loses_none_and_repeats_only_the_mail_in_flight(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """A mail whose record a crash lost is sent again with the same Message-ID; all others once."""
    user_id = uuid4()
    users.add(build_contact(user_id))
    burst: list[Notice] = [build_unheard_notice(user_id, f"K{number:03}", NOTICE.since) for number in range(100)]
    burst += [build_retired_notice(user_id, f"U{number:03}", "UCFM" if number % 2 else "") for number in range(100)]
    with running_mailbox(tmp_path / "mail") as port:
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port) as notifier:
            publish(kafka.bootstrap_servers, [build_notice_event(notice) for notice in burst])
            eventually(lambda: len(list((tmp_path / "mail" / "new").iterdir())) >= 40)
            notifier.kill()
            before = set(get_message_ids(read_mails(tmp_path / "mail")))
            assert len(before) < len(burst)
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, port):
            publish(kafka.bootstrap_servers, [build_notice_event(notice) for notice in burst])
            eventually(lambda: len(set(get_message_ids(read_mails(tmp_path / "mail")))) >= len(burst), within_s=120)
            eventually(lambda: is_everything_acknowledged(kafka.bootstrap_servers), within_s=90)
    counted = Counter(get_message_ids(read_mails(tmp_path / "mail")))
    assert set(counted) == {f"<{notice.notice_id}@example.org>" for notice in burst}
    repeated = {each: count for each, count in counted.items() if count > 1}
    assert sum(repeated.values()) <= 2
    assert set(repeated) <= before


def test_a_mail_server_whose_name_is_unknown_is_an_outage(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """Mails wait, the health page says so, and nothing is dead-lettered."""
    alert, registered = new_alert(), new_alert().user_id
    users.add(build_contact(alert.user_id))
    users.add(build_contact(registered, confirmed=False, confirm_url="https://example.org/confirm?t=token8"))
    unknown = {"SMTP_HOST": "no-such-name.invalid"}
    with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, 25, **unknown) as notifier:
        assert "outage" not in notifier.page("/health/ready")
        publish(kafka.bootstrap_servers, [build_registration_event(registered, "one"), build_alert_event(alert)])
        eventually(lambda: "mails wait" in json.loads(notifier.page("/health/ready") or "{}").get("outage", ""))
        eventually(lambda: "mail_server.left_alone" in notifier.events())
        assert notifier.page("/health/live")
        assert notifier.terminate() == 0
        assert "dead_letter" not in notifier.events()
    for user_id in (alert.user_id, registered):
        assert read_dead_letters(kafka.bootstrap_servers, user_id) == []
