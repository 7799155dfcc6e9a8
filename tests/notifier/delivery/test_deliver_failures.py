"""The handling of a mail that cannot be sent now, or never: each rule by an example."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from notifier.delivery import deliver as deliver_module
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
from tests.notifier.delivery.single_user import Scene, scene
from tests.notifier.simulated_services import SimulatedUserManager
from tests.notifier.simulation import SimulatedWorker, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(deliver_module, "compose_alerts_mail", build_fake_mail)


def test_a_temporary_rejection_defers_the_mail_and_later_alerts() -> None:
    """RESOLVED is never mailed before its FIRING, also if the process is restarted meanwhile."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append(TemporarilyRefused("450"))
        it.bring(1)
        await asyncio.sleep(5.5)
        [retry] = it.retries
        assert (retry.attempt, retry.sealed) == (1, False)
        it.bring(2)
        await it.restart()
        assert it.told == []
        await asyncio.sleep(20)
        assert it.told == [{1, 2}]
        assert it.person.deferred_batches == ()

    scene(doing)


def test_other_alerts_of_the_user_are_deferred_with_the_mail() -> None:
    """Otherwise an alert behind a full mailbox would be unacknowledged for hours, and the worker would count as
    stuck."""

    async def doing(it: Scene) -> None:
        it.simulation.script.extend([TemporarilyRefused("452")] * 40)
        it.bring(1, 2, 3)
        await asyncio.sleep(3600)
        assert it.told == []
        assert it.simulation.raised_log.next_offset == 3
        attempts = {each.alerts[0].alert.alert_id.int: each.attempt for each in it.retries}
        assert attempts[1] > 15, "only the first is tried"
        assert (attempts[2], attempts[3]) == (0, 0)
        first, second, third = (each.not_before for each in it.retries[:3])
        assert first < second < third, "so that they keep their order"
        assert len(it.retries) - 3 == it.simulation.retry_log.next_offset, (
            "only the last record of each is unacknowledged"
        )
        it.simulation.script.clear()
        await asyncio.sleep(300)
        assert it.told == [{1}, {2}, {3}]

    scene(doing, DeliverySettings(group_wait=timedelta(0)))


def test_after_a_lost_connection_the_same_mail_is_sent_again_alone() -> None:
    """The server may have accepted the mail, and here it has."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append(LostAfterData("no answer from the server to the mail"))
        it.bring(1, 2)
        await asyncio.sleep(5.5)
        it.bring(3)
        await asyncio.sleep(30)
        [retry] = it.retries
        assert (retry.sealed, len(retry.alerts)) == (True, 2)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_after_a_lost_connection_an_older_retry_of_the_alerts_is_not_mailed_with_others() -> None:
    """The older retry is read again because its acknowledgement was not committed, and before the sealed retry."""

    async def doing(it: Scene) -> None:
        it.simulation.script.extend([TemporarilyRefused("450"), LostAfterData("no answer from the server to the mail")])
        it.bring(1, 2)
        while not it.told:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        it.bring(3)
        assert [each.sealed for each in it.retries] == [False, True]
        it.simulation.retry_log.acknowledged.clear()
        it.simulation.script.append(TemporarilyRefused("450"))
        sealed = it.simulation.retry_log.records.pop()
        await it.restart()
        it.worker.tables["users"].is_blocked = True
        await asyncio.sleep(0.5)
        it.simulation.retry_log.add(sealed)  # it is read while the older one is in flight
        await asyncio.sleep(0.5)
        it.worker.tables["users"].is_blocked = False
        await asyncio.sleep(60)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_alerts_of_an_unconfirmed_mail_to_a_deleted_user_are_never_mailed_with_others() -> None:
    """Not even if the stream publishes a duplicate of an alert after the user has returned."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append("never answers")
        it.bring(1, 2)
        await asyncio.sleep(6)
        it.simulation.contact = None
        await it.restart()
        await asyncio.sleep(6)
        it.simulation.contact = CONTACT
        it.bring(2, 3)
        await asyncio.sleep(30)
        assert it.told == [{1, 2}, {3}]

    scene(doing)


def test_a_permanent_rejection_dead_letters_each_alert() -> None:
    """A duplicate of an alert is dropped, unless an operator requeued it."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append(PermanentlyRefused("the server refused the mail: 554"))
        it.bring(1, 2)
        await asyncio.sleep(6)
        it.bring(1)
        await asyncio.sleep(6)
        assert it.dead == [(1, "the server refused the mail: 554"), (2, "the server refused the mail: 554")]
        assert it.told == []
        it.bring(1, requeued=True)
        await asyncio.sleep(6)
        assert it.told == [{1}]

    scene(doing)


def test_an_alert_that_was_mailed_is_not_dead_lettered() -> None:
    """A duplicate in one mail with a rejected alert is only dropped."""

    async def doing(it: Scene) -> None:
        it.bring(1)
        await asyncio.sleep(6)
        it.simulation.script.append(PermanentlyRefused("the server refused the mail: 554"))
        it.bring(1, 2)
        await asyncio.sleep(6)
        assert it.dead == [(2, "the server refused the mail: 554")]

    scene(doing)


def test_an_address_that_does_not_exist_is_reported() -> None:
    """user_manager then suppresses it."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append(HardBounce("the server refused the recipient: 550"))
        it.bring(1)
        await asyncio.sleep(6)
        assert it.simulation.bounces == it.simulation.users
        assert it.dead == [(1, "the server refused the recipient: 550")]

    scene(doing)


def test_an_alert_is_given_up_after_its_lifetime() -> None:
    """The reason contains the number of attempts."""

    async def doing(it: Scene) -> None:
        it.simulation.script.extend([TemporarilyRefused("450")] * 1000)
        it.bring(1)
        await asyncio.sleep(25 * 3600)
        [(number, reason)] = it.dead
        assert number == 1
        assert reason.startswith("gave up after 4"), "some 480 tries"
        assert it.retries[-1].not_before - it.retries[-1].first_attempt_at <= timedelta(hours=24)

    scene(doing)


def test_a_mail_that_may_have_been_sent_is_not_divided_by_age() -> None:
    """One of its alerts has expired, the others have not: without it they would be another mail."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append("never answers")
        it.bring(1)
        await asyncio.sleep(4)
        it.bring(2)
        await asyncio.sleep(2)
        it.worker.crash()
        await it.simulation.cancel_process_tasks()
        await asyncio.sleep(600 - 4)
        it.worker = SimulatedWorker(it.simulation)
        it.worker.start()
        await asyncio.sleep(1)
        assert it.told == [{1, 2}, {1, 2}]
        assert it.dead == []

    scene(doing, DeliverySettings(lifetime=timedelta(minutes=10)))


def test_mails_to_a_user_are_limited_per_hour() -> None:
    """Further alerts go into the next mail, all together, and the wait is not counted as an attempt."""

    async def doing(it: Scene) -> None:
        for number in range(1, 6):
            it.bring(number)
            await asyncio.sleep(60)
        assert it.told == [{1}, {2}]
        assert {each.attempt for each in it.retries} == {0}
        await asyncio.sleep(3600)
        assert it.told == [{1}, {2}, {3, 4, 5}]
        assert it.simulation.mails[2].at - it.simulation.mails[0].at >= timedelta(hours=1)

    scene(doing, DeliverySettings(mails_per_hour=2))


def test_while_the_circuit_is_open_no_mail_is_tried() -> None:
    """The mail stays queued, and alerts that arrive meanwhile join it."""

    async def doing(it: Scene) -> None:
        now = it.simulation.clock.now()
        it.simulation.script.append(
            MailServerUnavailable("circuit open", FailureReason.BREAKER_OPEN, now + timedelta(minutes=4))
        )
        it.bring(1)
        await asyncio.sleep(6)
        it.bring(2)
        await asyncio.sleep(233)
        assert (it.told, it.retries) == ([], [])
        await asyncio.sleep(10)
        assert it.told == [{1, 2}]

    scene(doing)


def test_an_unreachable_server_counts_as_an_attempt() -> None:
    """The circuit breaker decides whether another attempt is made."""

    async def doing(it: Scene) -> None:
        it.simulation.script.append(MailServerUnavailable("no answer from the server to the connection"))
        it.bring(1)
        await asyncio.sleep(20)
        assert [each.attempt for each in it.retries] == [1]
        assert it.told == [{1}]

    scene(doing)


def test_an_unavailable_user_manager_pauses_all_mails_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails that fail at the same time share one pause of a second: they are one failure, not many."""
    answers = SimulatedUserManager.find_contact

    async def away(_self: SimulatedUserManager, _user_id: UUID) -> Contact | None:
        await asyncio.sleep(1)
        raise UserManagerUnavailable("UNAVAILABLE")

    monkeypatch.setattr(SimulatedUserManager, "find_contact", away)

    async def doing(it: Scene) -> None:
        for number in range(1, 11):
            it.simulation.publish_alert(replace(it.alert(number), user_id=UUID(int=1000 + number)))
        await asyncio.sleep(1.2)
        is_paused = it.worker.dispatcher.is_paused
        assert is_paused
        monkeypatch.setattr(SimulatedUserManager, "find_contact", answers)
        await asyncio.sleep(1.1)
        is_paused = it.worker.dispatcher.is_paused
        assert not is_paused
        await asyncio.sleep(10)
        assert len(it.told) == 10

    scene(doing, DeliverySettings(group_wait=timedelta(0)))
