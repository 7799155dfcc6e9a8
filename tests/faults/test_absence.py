"""The notifier, or the stream, is away for weeks: a real broker, a mail server, and the records of all those days."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer

from domain.alerts import Alert, AlertState
from local.kafka import Broker
from notifier.mail.alert_header import ALERT_HEADER, parse_alert_header
from streams.messages import encode_alert
from tests.fakes.smtp_server import FakeSmtpServer
from tests.fakes.user_service import FakeUserService
from tests.faults.lost_log import running_stack
from tests.faults.test_lost_log import FIRST, collect_day, make_interest
from tests.notifier.alerts import new_alert
from tests.notifier.process import (
    build_contact,
    is_everything_acknowledged,
    read_dead_letters,
    running_notifier,
    started_notifier,
)
from tests.streams.process import read_records
from tests.waiting import eventually
from towerwatch.alerts.v1.events_pb2 import AlertRaised
from towerwatch.topics import ALERTS_RAISED, partition_of

pytestmark = pytest.mark.faults

DAY = timedelta(days=1)


def publish_at(bootstrap_servers: str, alerts: Iterable[tuple[datetime, Alert]]) -> None:
    """Publish alerts in records that are dated as the stream dated them then."""

    async def publishing() -> None:
        async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:
            for at, alert in alerts:
                user_id = str(alert.user_id)
                partition = partition_of(user_id, ALERTS_RAISED)
                timestamp_ms = int(at.timestamp() * 1000)
                value = encode_alert(alert, at)
                await producer.send(ALERTS_RAISED.name, value, user_id.encode(), partition, timestamp_ms)

    asyncio.run(publishing())


def list_alerts(user_id: UUID, days: int, now: datetime) -> list[tuple[datetime, Alert]]:
    """Return one alert for each of the last days, and one of an hour ago, each with the time at which it was raised."""
    ages = [DAY * number + timedelta(hours=2) for number in range(days, 0, -1)] + [timedelta(hours=1)]
    hours = [(now - age).replace(minute=0, second=0, microsecond=0) for age in ages]
    return [(at + timedelta(minutes=50), new_alert(user_id=user_id, window_start=at)) for at in hours]


def read_windows(mail: EmailMessage) -> list[datetime]:
    """Return the start of the window of each alert in a mail, in order."""
    return sorted(parse_alert_header(str(value)).window_start for value in mail.get_all(ALERT_HEADER, []))


@pytest.mark.parametrize("days", [8, pytest.param(40, marks=pytest.mark.long)])
def test_after_an_absence_each_user_gets_one_mail_about_what_became_too_old(
    days: int, kafka: Broker, tmp_path: Path
) -> None:
    """What is younger than a day comes as always. A worker is killed while it mails: a mail that comes twice has the
    same Message-ID and alerts. What is withdrawn is not listed; a deleted user gets nothing; no alert is a dead letter.
    """
    now, gone_id = datetime.now(UTC), uuid4()
    published = {user_id: list_alerts(user_id, days, now) for user_id in (uuid4(), uuid4(), uuid4())}
    gone = list_alerts(gone_id, days, now)
    withdrawn_at, withdrawn = next(iter(published.values()))[2]
    withdrawal = replace(withdrawn, alert_id=uuid4(), state=AlertState.WITHDRAWN, withdrawn_count=0)
    every = [*gone, *(each for alerts in published.values() for each in alerts)]
    every.append((withdrawn_at + timedelta(hours=3), withdrawal))
    with FakeUserService().running() as users, FakeSmtpServer().running() as smtp:
        for user_id in published:
            users.add(build_contact(user_id))
        with running_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as before:
            assert before.terminate() == 0
        publish_at(kafka.bootstrap_servers, sorted(every, key=lambda each: each[0]))
        with started_notifier(tmp_path, kafka.bootstrap_servers, users.target, smtp.port) as notifier:
            eventually(lambda: bool(smtp.mails), "the first mail", within_s=240)
            notifier.kill()
        with (
            started_notifier(tmp_path / "one", kafka.bootstrap_servers, users.target, smtp.port),
            started_notifier(tmp_path / "other", kafka.bootstrap_servers, users.target, smtp.port),
        ):
            eventually(
                lambda: is_everything_acknowledged(kafka.bootstrap_servers), "the end of all events", within_s=240
            )
        mails = list(smtp.mails)
    by_id = {str(mail["Message-ID"]): mail for mail in mails}
    copies = Counter(str(mail["Message-ID"]) for mail in mails)
    assert sum(copies.values()) - len(copies) <= 1, "one mail at most was in doubt"
    late = [mail for mail in by_id.values() if str(mail["Subject"]).startswith("Mailed late: ")]
    assert len(late) == len(published)
    for user_id, alerts in published.items():
        [mail] = [each for each in late if str(user_id) in str(each["To"])]
        listed = [alert.window_start for _, alert in alerts[:-1] if alert is not withdrawn]
        assert read_windows(mail) == listed
        others = [each for each in by_id.values() if str(user_id) in str(each["To"]) and each is not mail]
        assert [read_windows(each) for each in others] == [[alerts[-1][1].window_start]]
    assert not [mail for mail in mails if str(gone_id) in str(mail["To"])]
    assert not any(read_dead_letters(kafka.bootstrap_servers, user_id) for user_id in (*published, gone_id))


@pytest.mark.parametrize("days", [8, pytest.param(40, marks=pytest.mark.long)])
def test_after_an_absence_the_stream_raises_what_it_would_have_raised(days: int, tmp_path: Path) -> None:
    """A killed worker reads all that was published meanwhile: days with and without traffic, and a gap.

    The alerts are those of a stream that was never away, and none is about a window of the gap. Those of the absence
    are raised once; the kill may repeat one from before it, which the notifier recognises.
    """
    with running_stack(tmp_path) as stack:
        raised = stack.set_interest(make_interest(1, uuid4(), low=3, repeat=True))
        raised |= stack.set_interest(make_interest(2, uuid4(), high=5))
        raised |= collect_day(stack, 0, 1) | collect_day(stack, 1, 9)
        stack.wait_until_raised(raised)
        before = set(raised)
        stack.stop_worker()
        gap = range(3, 3 + days // 4)
        for day in range(2, days):
            if day not in gap:
                raised |= collect_day(stack, day, (0, 4, 9)[day % 3])
        stack.wait_until_raised(raised)
        stack.wait_until_told()
        alerts = read_records(stack.broker.bootstrap_servers, ALERTS_RAISED)
        found = [AlertRaised.FromString(record.value) for record in alerts]
        copies = Counter(UUID(each.alert_id) for each in found)
        assert copies.keys() == raised
        assert all(copies[each] == 1 for each in raised - before), "raised twice"
        assert all(copies[each] <= 2 for each in before), "a kill repeats an alert once, under the same id"
        assert len(found) > days // 2
        missing = {FIRST + day * DAY for day in gap}
        assert not missing & {each.window_start.ToDatetime(UTC) for each in found}
