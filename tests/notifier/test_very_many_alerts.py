"""A user with very many alerts, in a module of its own: what waits for hours would keep other tests' topics unread."""

import re
from datetime import UTC, datetime
from pathlib import Path

from local.kafka import Broker
from local.mailbox.reading import read_mails
from notifier.messages import Retry, decode_raised_alert, encode_retry
from streams.messages import encode_alert
from tests.fakes.user_service import FakeUserService
from tests.notifier.alerts import CAUSE, new_alert
from tests.notifier.process import (
    UserEvent,
    build_alert_event,
    build_contact,
    get_message_id,
    get_message_ids,
    publish,
    read_dead_letters,
    running_mailbox,
    running_notifier,
)
from tests.waiting import eventually
from towerwatch.topics import ALERTS_WAITING


def test_a_user_with_very_many_alerts_takes_nobody_elses_place(
    kafka: Broker, users: FakeUserService, tmp_path: Path
) -> None:
    """What is above a user's share waits in a topic of its own; another's alert behind it is mailed; what was waiting
    is mailed, dropped if its user is gone, or dead-lettered if nobody can read it."""
    many, other, waiting, gone = (new_alert() for _ in range(4))
    for each in (many, other, waiting):
        users.add(build_contact(each.user_id))
    now = datetime.now(UTC)
    due = [
        UserEvent(
            ALERTS_WAITING,
            each.user_id,
            encode_retry(Retry((decode_raised_alert(encode_alert(each, CAUSE)),), 0, now, now)),
        )
        for each in (waiting, gone)
    ]
    with (
        running_mailbox(tmp_path / "mail") as port,
        running_notifier(
            tmp_path, kafka.bootstrap_servers, users.target, port, PERSON_MAILS_PER_HOUR="1", GROUP_WAIT_S="5"
        ) as notifier,
    ):
        publish(kafka.bootstrap_servers, [*due, UserEvent(ALERTS_WAITING, waiting.user_id, b"\xffnonsense")])
        publish(kafka.bootstrap_servers, [build_alert_event(new_alert(user_id=many.user_id)) for _ in range(3_000)])
        publish(kafka.bootstrap_servers, [build_alert_event(other)])
        eventually(
            lambda: (
                {get_message_id(waiting), get_message_id(other)} <= set(get_message_ids(read_mails(tmp_path / "mail")))
            ),
            within_s=180,
        )
        eventually(lambda: read_dead_letters(kafka.bootstrap_servers, waiting.user_id))
        dropped = 'alerts_dropped_total{node="local",reason="user_gone",service="notifier"} 1.0'
        eventually(lambda: dropped in notifier.page("/metrics"))
        metrics = notifier.page("/metrics")
        assert notifier.terminate() == 0
    [made_to_wait] = re.findall(r"alerts_made_to_wait_total\{.*\} ([0-9.e+]+)", metrics)
    assert float(made_to_wait) >= 1
    [aside] = read_dead_letters(kafka.bootstrap_servers, waiting.user_id)
    assert (aside.headers["source-topic"], aside.value) == (ALERTS_WAITING.name, b"\xffnonsense")
