"""The delivery of one mail, and its repetition after a crash. Random faults are in `test_dispatch`."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from notifier.delivery import composition as composition_module
from notifier.mail import Contact
from tests.notifier.alerts import CONTACT
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulation import build_fake_catch_up_mail, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail)


def test_alerts_of_one_user_are_one_mail_recorded_and_acknowledged() -> None:
    """A duplicate of an alert finds its record."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        delivery.publish_alerts(2)
        await asyncio.sleep(6)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        entries = delivery.simulation.changelogs["statuses"]
        assert len([each for each in entries if not each.startswith(b"told-breach/")]) == 2
        assert (len(delivery.user_state.mailed_at), delivery.user_state.in_flight_ids) == (1, frozenset())

    run_steps(steps, DeliverySettings(mails_per_hour=12))


def test_the_in_flight_ids_are_persisted_before_a_mail_is_sent() -> None:
    """After a crash the same mail is built again, and no other alert joins it."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append("never answers")
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        assert {each.int for each in delivery.user_state.in_flight_ids} == {1, 2}
        delivery.publish_alerts(3)
        await delivery.restart()
        await asyncio.sleep(20)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]

    run_steps(steps)


def test_a_mail_with_one_persisted_status_is_not_sent_again() -> None:
    """All statuses of a mail are written together, so the missing ones were lost in the crash."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.worker.tables["statuses"].is_blocked = True
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        delivery.simulation.changelogs["statuses"][str(UUID(int=2)).encode()] = b"2026-11-23T00:00:05+00:00"
        await delivery.restart()
        await asyncio.sleep(20)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        assert len(delivery.simulation.changelogs["statuses"]) == 2
        assert len(delivery.user_state.mailed_at) == 1

    run_steps(steps, DeliverySettings(mails_per_hour=12))


def test_the_in_flight_ids_are_removed_only_after_the_statuses_are_persisted() -> None:
    """The two tables have different changelogs. If the user state were ahead, a crash between the two writes would mail
    the alerts again together with newer ones."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.worker.tables["statuses"].is_blocked = True
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(20)
        assert {each.int for each in delivery.user_state.in_flight_ids} == {1, 2}
        delivery.publish_alerts(3)
        await delivery.restart()
        await asyncio.sleep(20)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]

    run_steps(steps)


def test_a_mail_writes_the_user_state_twice() -> None:
    """Once before it is sent and once after: times in milliseconds equal the decoded ones."""

    async def steps(delivery: SingleUserDelivery) -> None:
        await asyncio.sleep(0.1234567)
        table = delivery.worker.tables["users"]
        written_people: list[bytes | None] = []
        write = table.write

        def counting(event: Any, key: bytes, entry: bytes | None) -> None:
            written_people.append(entry)
            write(event, key, entry)

        table.write = counting  # type: ignore[method-assign]
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        assert len(written_people) == 2

    run_steps(steps)


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (None, "user_gone"),
        (replace(CONTACT, confirmed=False), "unconfirmed"),
        (replace(CONTACT, paused=True), "paused"),
        (replace(CONTACT, suppressed=True), "suppressed"),
    ],
)
def test_users_who_may_not_be_mailed_get_no_alert(contact: Contact | None, reason: str) -> None:
    """Alerts for deleted, unconfirmed, paused and suppressed users are dropped, and counted by reason."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.contact = contact
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        assert (delivery.mailed_alert_numbers, delivery.retries, delivery.dead_letters) == ([], [], [])
        labels = {"service": "notifier", "node": "story", "reason": reason}
        assert delivery.worker.registry.get_sample_value("alerts_dropped_total", labels) == 2

    run_steps(steps)


def test_a_bug_dead_letters_one_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker continues."""

    def buggy(*_: object) -> object:
        raise ZeroDivisionError

    async def steps(delivery: SingleUserDelivery) -> None:
        monkeypatch.setattr(composition_module, "compose_alerts_mail", buggy)
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
        delivery.publish_alerts(2)
        await asyncio.sleep(6)
        assert delivery.dead_letters == [(1, "ZeroDivisionError in the notifier")]
        assert delivery.mailed_alert_numbers == [{2}]

    run_steps(steps)


@pytest.mark.parametrize("limit", [1, 2])
def test_the_number_of_unconfirmed_mails_is_limited(limit: int) -> None:
    """A crash duplicates no more mails than that, however many are in progress."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend(["never answers"] * 9)
        for number in range(1, 6):
            delivery.simulation.publish_alert(replace(delivery.build_alert(number), user_id=UUID(int=1000 + number)))
        await asyncio.sleep(6)
        assert len(delivery.mailed_alert_numbers) == limit
        delivery.simulation.script.clear()
        await delivery.restart()
        await asyncio.sleep(10)
        assert sum(map(len, delivery.mailed_alert_numbers)) == 5 + limit

    run_steps(steps, DeliverySettings(group_wait=timedelta(0), max_in_flight=limit, connections=4))
