"""Notices: each rule by an example, on the simulated services. The storms of `test_dispatch` have notices, too."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from domain.notices import UnheardNotice
from notifier.delivery import notices as notices_module
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    TemporarilyRefused,
)
from notifier.mail import Contact
from notifier.messages import REQUEUED_FROM, ScheduledNotice, decode_retry
from tests.fakes.hurried_loop import run
from tests.notifier.alerts import CONTACT, NOTICE, build_unheard_notice
from tests.notifier.delivery.single_user import SingleUserDelivery
from tests.notifier.simulation import SimulatedWorker, build_fake_notice_mail
from tests.notifier.simulation_settings import DeliverySettings


class NoticesOfOneUser(SingleUserDelivery):
    """A simulated worker and the notices of its one user."""

    def build_notice(self, airport: str = "KPWM") -> UnheardNotice:
        return build_unheard_notice(self.simulation.users[0], airport, NOTICE.since)

    def publish_notices(self, *airports: str, requeued: bool = False) -> None:
        """Publish a notice about each airport; `requeued`: with the header of a requeued dead letter."""
        for airport in airports:
            headers = {REQUEUED_FROM: b"3:1"} if requeued else None
            self.simulation.publish_notice(self.build_notice(airport), headers)

    @property
    def mailed_airports(self) -> list[str]:
        """The airport of each notice that the server accepted, in order."""
        notices = self.simulation.notices
        return [notices[notice_id].airport for mail in self.simulation.mails for notice_id in mail.alert_ids]

    @property
    def notice_retries(self) -> list[ScheduledNotice]:
        """All notices in records of the retry topic."""
        decoded = [decode_retry(each.value) for each in self.simulation.retry_log.records]
        return [each for each in decoded if isinstance(each, ScheduledNotice)]

    @property
    def dead_letter_reasons(self) -> list[str]:
        return [reason for _, reason in self.simulation.list_dead_letters()]

    def count_dropped(self, reason: str) -> float:
        """Return the metric of dropped notices with this reason; 0 if there is none."""
        labels = {"service": "notifier", "node": "story", "reason": reason}
        return self.worker.registry.get_sample_value("notices_dropped_total", labels) or 0.0


def run_steps(
    steps: Callable[[NoticesOfOneUser], Coroutine[Any, Any, None]], settings: DeliverySettings | None = None
) -> None:
    """Run steps of a test in virtual time, and assert that every event is acknowledged in the end."""

    async def run_and_check() -> None:
        delivery = NoticesOfOneUser(settings or DeliverySettings())
        await steps(delivery)
        assert delivery.simulation.is_all_acknowledged
        await delivery.simulation.cancel_process_tasks()

    with mock.patch.object(notices_module, "compose_unheard_mail", build_fake_notice_mail):
        run(run_and_check())


def test_each_airport_is_told_once_whatever_is_repeated() -> None:
    """Duplicates, at the same time or later, are dropped; another airport has a mail of its own, at once."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.publish_notices("KPWM", "KPWM", "KBOS", "KPWM")
        await asyncio.sleep(2)
        assert sorted(delivery.mailed_airports) == ["KBOS", "KPWM"]
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        assert len(delivery.mailed_airports) == 2
        assert delivery.count_dropped("already_sent") == 3

    run_steps(steps)


def test_the_hourly_limit_swallows_no_notice() -> None:
    """The limit is one of alert mails: a notice neither waits for it nor counts, and is not part of an alert mail."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.publish_alerts(1)
        delivery.publish_notices("KPWM", "KBOS", "KACK")
        await asyncio.sleep(10)
        assert sorted(len(mail.alert_ids) for mail in delivery.simulation.mails) == [1, 1, 1, 1]
        assert len(delivery.user_state.mailed_at) == 1

    with mock.patch(
        "notifier.delivery.composition.compose_alerts_mail", lambda alerts, contact, *_: alert_mail(contact)
    ):
        run_steps(steps, DeliverySettings(mails_per_hour=1))


def alert_mail(contact: Contact) -> Any:
    """Return a substitute for a mail with one alert."""
    return build_fake_notice_mail(NOTICE, contact)


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (None, "user_gone"),
        (replace(CONTACT, confirmed=False), "unconfirmed"),
        (replace(CONTACT, paused=True), "paused"),
        (replace(CONTACT, suppressed=True), "suppressed"),
    ],
)
def test_who_may_have_no_mail_gets_no_notice(contact: Contact | None, reason: str) -> None:
    """The contact is requested at the moment of sending; a notice that is raised again after a pause is mailed."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.contact = contact
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        assert (delivery.mailed_airports, delivery.count_dropped(reason)) == ([], 1)
        delivery.simulation.contact = CONTACT
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        assert delivery.mailed_airports == ["KPWM"]

    run_steps(steps)


def test_a_user_who_leaves_during_the_retries_gets_no_mail() -> None:
    """Each attempt requests the contact anew."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450"))
        delivery.publish_notices("KPWM")
        await asyncio.sleep(1)
        delivery.simulation.contact = None
        await asyncio.sleep(60)
        assert (delivery.mailed_airports, delivery.count_dropped("user_gone")) == ([], 1)

    run_steps(steps)


@pytest.mark.parametrize(
    "failure",
    [
        TemporarilyRefused("450", FailureReason.POLICY_LATER),
        MailServerUnavailable("away"),
        MailServerUnavailable("open", FailureReason.BREAKER_OPEN),
    ],
)
def test_a_temporary_failure_is_retried_through_the_retry_topic(failure: NotSent) -> None:
    """Greylisting takes minutes: the retries go on for a day, each from the topic, and each event is acknowledged."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.extend([failure] * 20)
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        assert delivery.simulation.notices_log.next_offset == 1
        await asyncio.sleep(3 * 3600)
        assert delivery.mailed_airports == ["KPWM"]
        assert [each.attempt for each in delivery.notice_retries] == list(range(1, 21))
        waits = [
            later.not_before - each.not_before
            for each, later in zip(delivery.notice_retries, delivery.notice_retries[1:], strict=False)
        ]
        assert max(waits) <= timedelta(minutes=4, seconds=5)
        counted = delivery.worker.registry.get_sample_value(
            "email_retries_total",
            {"service": "notifier", "node": "story", "kind": "notice", "reason": str(failure.reason)},
        )
        assert counted == 20

    run_steps(steps)


def test_a_notice_that_fails_for_a_day_is_dead_lettered_and_can_be_requeued() -> None:
    """A duplicate of the dead letter is not mailed; an operator's requeue is, and has a day of its own."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.extend([TemporarilyRefused("450")] * 10_000)
        delivery.publish_notices("KPWM")
        await asyncio.sleep(25 * 3600)
        [reason] = delivery.dead_letter_reasons
        assert reason.startswith("gave up after ")
        delivery.simulation.script.clear()
        delivery.publish_notices("KPWM")
        await asyncio.sleep(10)
        assert delivery.mailed_airports == []
        delivery.publish_notices("KPWM", requeued=True)
        await asyncio.sleep(10)
        assert delivery.mailed_airports == ["KPWM"]
        delivery.publish_notices("KPWM", requeued=True)
        await asyncio.sleep(10)
        assert delivery.mailed_airports == ["KPWM"]

    run_steps(steps)


@pytest.mark.parametrize("days", [8, 40])
def test_a_notice_is_mailed_after_an_absence(days: int) -> None:
    """One that was never tried, and one that waited for a retry: nobody tried them meanwhile, so both are tried now."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450"))
        delivery.publish_notices("KPWM")
        await asyncio.sleep(1)
        delivery.worker.crash()
        await delivery.simulation.cancel_process_tasks()
        delivery.publish_notices("KBGR")
        await asyncio.sleep(days * 86_400)
        delivery.worker = SimulatedWorker(delivery.simulation)
        delivery.worker.start()
        await asyncio.sleep(60)
        assert sorted(delivery.mailed_airports) == ["KBGR", "KPWM"]
        assert delivery.dead_letter_reasons == []

    run_steps(steps)


@pytest.mark.parametrize("failure", [PermanentlyRefused("554"), HardBounce("550")])
def test_a_permanent_failure_is_dead_lettered_at_once(failure: NotSent) -> None:
    """An address that does not exist is also reported to user_manager."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.append(failure)
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        assert delivery.dead_letter_reasons == [str(failure)]
        bounced = delivery.simulation.users if isinstance(failure, HardBounce) else []
        assert delivery.simulation.bounces == bounced

    run_steps(steps)


def test_a_mail_that_the_server_may_have_is_sealed() -> None:
    """It is sent again, since a duplicate is better than a lost mail; later failures do not unseal it."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.extend([LostAfterData("no answer"), TemporarilyRefused("450")])
        delivery.publish_notices("KPWM")
        await asyncio.sleep(60)
        assert [each.sealed for each in delivery.notice_retries] == [True, True]
        assert delivery.mailed_airports == ["KPWM", "KPWM"]

    run_steps(steps)


def test_duplicates_of_a_failed_notice_become_one_retry() -> None:
    """Else each repeat of the collector would go on as retries of its own for a day."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.extend([TemporarilyRefused("450")] * 3)
        delivery.publish_notices("KPWM", "KPWM", "KPWM")
        await asyncio.sleep(600)
        assert delivery.mailed_airports == ["KPWM"]
        assert [each.attempt for each in delivery.notice_retries] == [1, 2, 3]

    run_steps(steps)


def test_a_kill_loses_no_notice_and_mails_none_twice() -> None:
    """A recorded mail is not repeated, and one that waits for its retry is mailed by the next worker."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.publish_notices("KPWM")
        await asyncio.sleep(2)
        delivery.simulation.script.extend([TemporarilyRefused("450")] * 4)
        delivery.publish_notices("KBOS")
        await asyncio.sleep(12)
        delivery.simulation.notices_log.acknowledged.clear()  # none of them was committed
        await delivery.restart()
        await asyncio.sleep(600)
        assert delivery.mailed_airports == ["KPWM", "KBOS"]

    run_steps(steps)


def test_a_rebalance_waits_for_the_mail_in_progress_and_not_for_retries() -> None:
    """A notice in its pause is not acknowledged: the partition's next owner mails it."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450", retry_at=None))
        delivery.publish_notices("KPWM")
        await asyncio.sleep(1)
        began = delivery.simulation.clock.now()
        await delivery.worker.rebalance()
        assert delivery.simulation.clock.now() - began < timedelta(seconds=1)
        await asyncio.sleep(60)
        assert delivery.mailed_airports == ["KPWM"]

    run_steps(steps)


def test_a_bug_costs_one_notice() -> None:
    """The event is kept as evidence, and the notices behind it are mailed."""

    async def steps(delivery: NoticesOfOneUser) -> None:
        with mock.patch.object(notices_module, "compose_unheard_mail", side_effect=ZeroDivisionError):
            delivery.publish_notices("KPWM")
            await asyncio.sleep(2)
        delivery.publish_notices("KBOS")
        await asyncio.sleep(2)
        assert delivery.dead_letter_reasons == ["ZeroDivisionError in the notifier"]
        assert delivery.mailed_airports == ["KBOS"]

    run_steps(steps)
