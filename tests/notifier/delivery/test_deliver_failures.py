"""The handling of a mail that cannot be sent now, or never: each rule by an example."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from notifier.delivery import composition as composition_module
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    PermanentlyRefused,
    TemporarilyRefused,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from tests.notifier.alerts import CONTACT
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulated_services import SimulatedUserManager
from tests.notifier.simulation import SimulatedWorker, build_fake_catch_up_mail, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail)


def test_a_temporary_rejection_defers_the_mail_and_later_alerts() -> None:
    """RESOLVED is never mailed before its FIRING, also if the process is restarted meanwhile."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(TemporarilyRefused("450"))
        delivery.publish_alerts(1)
        await asyncio.sleep(5.5)
        [retry] = delivery.retries
        assert (retry.attempt, retry.sealed) == (1, False)
        delivery.publish_alerts(2)
        await delivery.restart()
        assert delivery.mailed_alert_numbers == []
        await asyncio.sleep(20)
        assert delivery.mailed_alert_numbers == [{1, 2}]
        assert delivery.user_state.deferred_batches == ()

    run_steps(steps)


def test_other_alerts_of_the_user_are_deferred_with_the_mail() -> None:
    """Otherwise an alert behind a full mailbox would be unacknowledged for hours, and the worker would count as
    stuck."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend([TemporarilyRefused("452")] * 40)
        delivery.publish_alerts(1, 2, 3)
        await asyncio.sleep(3600)
        assert delivery.mailed_alert_numbers == []
        assert delivery.simulation.raised_log.next_offset == 3
        attempts = {each.alerts[0].alert.alert_id.int: each.attempt for each in delivery.retries}
        assert attempts[1] > 15, "only the first is tried"
        assert (attempts[2], attempts[3]) == (0, 0)
        first, second, third = (each.not_before for each in delivery.retries[:3])
        assert first < second < third, "so that they keep their order"
        assert len(delivery.retries) - 3 == delivery.simulation.retry_log.next_offset, (
            "only the last record of each is unacknowledged"
        )
        delivery.simulation.script.clear()
        await asyncio.sleep(300)
        assert delivery.mailed_alert_numbers == [{1}, {2}, {3}]

    run_steps(steps, DeliverySettings(group_wait=timedelta(0)))


def test_after_a_lost_connection_the_same_mail_is_sent_again_alone() -> None:
    """The server may have accepted the mail, and here it has."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(LostAfterData("no answer from the server to the mail"))
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(5.5)
        delivery.publish_alerts(3)
        await asyncio.sleep(30)
        [retry] = delivery.retries
        assert (retry.sealed, len(retry.alerts)) == (True, 2)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]

    run_steps(steps)


def test_after_a_lost_connection_an_older_retry_of_the_alerts_is_not_mailed_with_others() -> None:
    """The older retry is read again because its acknowledgement was not committed, and before the sealed retry."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend(
            [TemporarilyRefused("450"), LostAfterData("no answer from the server to the mail")]
        )
        delivery.publish_alerts(1, 2)
        while not delivery.mailed_alert_numbers:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        delivery.publish_alerts(3)
        assert [each.sealed for each in delivery.retries] == [False, True]
        delivery.simulation.retry_log.acknowledged.clear()
        delivery.simulation.script.append(TemporarilyRefused("450"))
        sealed = delivery.simulation.retry_log.records.pop()
        await delivery.restart()
        delivery.worker.tables["users"].is_blocked = True
        await asyncio.sleep(0.5)
        delivery.simulation.retry_log.add(sealed)  # it is read while the older one is in flight
        await asyncio.sleep(0.5)
        delivery.worker.tables["users"].is_blocked = False
        await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}, {3}]

    run_steps(steps)


def test_alerts_of_an_unconfirmed_mail_to_a_deleted_user_are_never_mailed_with_others() -> None:
    """Not even if the stream publishes a duplicate of an alert after the user has returned."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append("never answers")
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        delivery.simulation.contact = None
        await delivery.restart()
        await asyncio.sleep(6)
        delivery.simulation.contact = CONTACT
        delivery.publish_alerts(2, 3)
        await asyncio.sleep(30)
        assert delivery.mailed_alert_numbers == [{1, 2}, {3}]

    run_steps(steps)


def test_a_permanent_rejection_dead_letters_each_alert() -> None:
    """A duplicate of an alert is dropped, unless an operator requeued it."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(PermanentlyRefused("the server refused the mail: 554"))
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        assert delivery.dead_letters == [
            (1, "the server refused the mail: 554"),
            (2, "the server refused the mail: 554"),
        ]
        assert delivery.mailed_alert_numbers == []
        delivery.publish_alerts(1, requeued=True)
        await asyncio.sleep(6)
        assert delivery.mailed_alert_numbers == [{1}]

    run_steps(steps)


def test_an_alert_that_was_mailed_is_not_dead_lettered() -> None:
    """A duplicate in one mail with a rejected alert is only dropped."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        delivery.simulation.script.append(PermanentlyRefused("the server refused the mail: 554"))
        delivery.publish_alerts(1, 2)
        await asyncio.sleep(6)
        assert delivery.dead_letters == [(2, "the server refused the mail: 554")]

    run_steps(steps)


def test_an_address_that_does_not_exist_is_reported() -> None:
    """user_manager then suppresses it."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(HardBounce("the server refused the recipient: 550"))
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        assert delivery.simulation.bounces == delivery.simulation.users
        assert delivery.dead_letters == [(1, "the server refused the recipient: 550")]

    run_steps(steps)


def test_an_alert_is_given_up_after_two_lifetimes() -> None:
    """In the second it is in a catch-up mail, which is given up by the number of its attempts; the reason says both."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend([TemporarilyRefused("450")] * 2000)
        delivery.publish_alerts(1)
        await asyncio.sleep(25 * 3600)
        assert delivery.dead_letters == []
        assert [each.catch_up for each in delivery.retries[-5:]] == [True] * 5
        [last] = [each for each in delivery.retries if each.attempt and not each.catch_up][-1:]
        assert last.not_before - last.first_attempt_at <= timedelta(hours=24)
        await asyncio.sleep(72 * 3600)
        [(number, reason)] = delivery.dead_letters
        assert number == 1
        assert reason.startswith("gave up after 7"), "some 720 tries"
        assert reason.endswith("tries of a mail about what became too old")

    run_steps(steps)


def test_a_mail_that_may_have_been_sent_is_not_divided_by_age() -> None:
    """One of its alerts has expired, the others have not: without it they would be another mail."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append("never answers")
        delivery.publish_alerts(1)
        await asyncio.sleep(4)
        delivery.publish_alerts(2)
        await asyncio.sleep(2)
        delivery.worker.crash()
        await delivery.simulation.cancel_process_tasks()
        await asyncio.sleep(600 - 4)
        delivery.worker = SimulatedWorker(delivery.simulation)
        delivery.worker.start()
        await asyncio.sleep(1)
        assert delivery.mailed_alert_numbers == [{1, 2}, {1, 2}]
        assert delivery.dead_letters == []

    run_steps(steps, DeliverySettings(lifetime=timedelta(minutes=10)))


def test_mails_to_a_user_are_limited_per_hour() -> None:
    """Further alerts go into the next mail, all together, and the wait is not counted as an attempt."""

    async def steps(delivery: SingleUserDelivery) -> None:
        for number in range(1, 6):
            delivery.publish_alerts(number)
            await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [{1}, {2}]
        assert {each.attempt for each in delivery.retries} == {0}
        await asyncio.sleep(3600)
        assert delivery.mailed_alert_numbers == [{1}, {2}, {3, 4, 5}]
        assert delivery.simulation.mails[2].at - delivery.simulation.mails[0].at >= timedelta(hours=1)

    run_steps(steps, DeliverySettings(mails_per_hour=2))


def test_while_the_circuit_is_open_no_mail_is_tried() -> None:
    """The mail stays queued, and alerts that arrive meanwhile join it."""

    async def steps(delivery: SingleUserDelivery) -> None:
        now = delivery.simulation.clock.now()
        delivery.simulation.script.append(
            MailServerUnavailable("circuit open", FailureReason.BREAKER_OPEN, now + timedelta(minutes=4))
        )
        delivery.publish_alerts(1)
        await asyncio.sleep(6)
        delivery.publish_alerts(2)
        await asyncio.sleep(233)
        assert (delivery.mailed_alert_numbers, delivery.retries) == ([], [])
        await asyncio.sleep(10)
        assert delivery.mailed_alert_numbers == [{1, 2}]

    run_steps(steps)


def test_an_unreachable_server_counts_as_an_attempt() -> None:
    """The circuit breaker decides whether another attempt is made."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.append(MailServerUnavailable("no answer from the server to the connection"))
        delivery.publish_alerts(1)
        await asyncio.sleep(20)
        assert [each.attempt for each in delivery.retries] == [1]
        assert delivery.mailed_alert_numbers == [{1}]

    run_steps(steps)


def test_an_unavailable_user_manager_pauses_all_mails_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails that fail at the same time share one pause of a second: they are one failure, not many."""
    answers = SimulatedUserManager.find_contact

    async def away(_self: SimulatedUserManager, _user_id: UUID, _interest_ids: Collection[UUID] = ()) -> Contact | None:
        await asyncio.sleep(1)
        raise UserManagerUnavailable("UNAVAILABLE")

    monkeypatch.setattr(SimulatedUserManager, "find_contact", away)

    async def steps(delivery: SingleUserDelivery) -> None:
        for number in range(1, 11):
            delivery.simulation.publish_alert(replace(delivery.build_alert(number), user_id=UUID(int=1000 + number)))
        await asyncio.sleep(1.2)
        is_paused = delivery.worker.dispatcher.is_paused
        assert is_paused
        monkeypatch.setattr(SimulatedUserManager, "find_contact", answers)
        await asyncio.sleep(1.1)
        is_paused = delivery.worker.dispatcher.is_paused
        assert not is_paused
        await asyncio.sleep(10)
        assert len(delivery.mailed_alert_numbers) == 10

    run_steps(steps, DeliverySettings(group_wait=timedelta(0)))
