"""What becomes of a mail that cannot go out now, or never: each rule by an example."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from notifier.delivery import deliver as mailroom
from notifier.errors import (
    HardBounce,
    LostAfterData,
    MailServerAway,
    PermanentlyRefused,
    Reason,
    TemporarilyRefused,
    UserManagerAway,
)
from notifier.mail import Contact
from tests.notifier.alerts import CONTACT
from tests.notifier.mail.rendered import Scene, scene
from tests.notifier.story import Worker, written
from tests.notifier.weather import Ways
from tests.notifier.world import People


@pytest.fixture(autouse=True)
def _mails_are_what_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom, "compose_alerts_mail", written)


def test_a_temporary_refusal_puts_off_and_holds_back_what_comes_after() -> None:
    """RESOLVED never goes before its FIRING, also when the process is restarted meanwhile."""

    async def doing(it: Scene) -> None:
        it.world.script.append(TemporarilyRefused("450"))
        it.bring(1)
        await asyncio.sleep(5.5)
        [retry] = it.retries
        assert (retry.attempt, retry.sealed) == (1, False)
        it.bring(2)
        await it.restart()
        assert it.told == []
        await asyncio.sleep(20)
        assert it.told == [{1, 2}]
        assert it.person.put_off == ()

    scene(doing)


def test_what_waits_of_a_person_is_put_off_along() -> None:
    """Else an alert behind a mailbox that is full for hours would be in hand, unacknowledged, for as long, and the
    worker would pass for one that is stuck."""

    async def doing(it: Scene) -> None:
        it.world.script.extend([TemporarilyRefused("452")] * 40)
        it.bring(1, 2, 3)
        await asyncio.sleep(3600)
        assert it.told == []
        assert it.world.raised.next_offset == 3
        attempts = {each.raised[0].alert.alert_id.int: each.attempt for each in it.retries}
        assert attempts[1] > 15, "only the first is tried"
        assert (attempts[2], attempts[3]) == (0, 0)
        first, second, third = (each.not_before for each in it.retries[:3])
        assert first < second < third, "so that they keep their order"
        assert len(it.retries) - 3 == it.world.retry.next_offset, "only the last of each is in hand"
        it.world.script.clear()
        await asyncio.sleep(300)
        assert it.told == [{1}, {2}, {3}]

    scene(doing, Ways(group_wait=timedelta(0)))


def test_after_silence_the_same_mail_is_sent_again_alone() -> None:
    """The server may have it; and it had."""

    async def doing(it: Scene) -> None:
        it.world.script.append(LostAfterData("no answer from the server to the mail"))
        it.bring(1, 2)
        await asyncio.sleep(5.5)
        it.bring(3)
        await asyncio.sleep(30)
        [retry] = it.retries
        assert (retry.sealed, len(retry.raised)) == (True, 2)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_after_silence_an_older_record_of_the_alerts_does_not_pass_for_them() -> None:
    """Acknowledged, it comes again nevertheless, for it was not committed yet; and before the one that says that the
    server may have the mail."""

    async def doing(it: Scene) -> None:
        it.world.script.extend([TemporarilyRefused("450"), LostAfterData("no answer from the server to the mail")])
        it.bring(1, 2)
        while not it.told:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        it.bring(3)
        assert [each.sealed for each in it.retries] == [False, True]
        it.world.retry.acknowledged.clear()
        it.world.script.append(TemporarilyRefused("450"))
        sealed = it.world.retry.records.pop()
        await it.restart()
        it.worker.tables["people"].held = True
        await asyncio.sleep(0.5)
        it.world.retry.add(sealed)  # it is read while the older one is on its way
        await asyncio.sleep(0.5)
        it.worker.tables["people"].held = False
        await asyncio.sleep(60)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_whoever_may_have_been_told_and_wants_no_mail_any_more_is_not_told_in_other_company() -> None:
    """When the stream repeats one of the alerts, and by then the person wants mails again."""

    async def doing(it: Scene) -> None:
        it.world.script.append("never answers")
        it.bring(1, 2)
        await asyncio.sleep(6)
        it.world.contact = None
        await it.restart()
        await asyncio.sleep(6)
        it.world.contact = CONTACT
        it.bring(2, 3)
        await asyncio.sleep(30)
        assert it.told == [{1, 2}, {3}]

    scene(doing)


def test_a_permanent_refusal_is_a_dead_letter_of_each_alert() -> None:
    """And a redelivery of one is dropped; unless somebody wants it to be tried again."""

    async def doing(it: Scene) -> None:
        it.world.script.append(PermanentlyRefused("the server refused the mail: 554"))
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


def test_what_was_told_already_is_no_dead_letter() -> None:
    """A repeat that is in one mail with an alert that is refused is only dropped."""

    async def doing(it: Scene) -> None:
        it.bring(1)
        await asyncio.sleep(6)
        it.world.script.append(PermanentlyRefused("the server refused the mail: 554"))
        it.bring(1, 2)
        await asyncio.sleep(6)
        assert it.dead == [(2, "the server refused the mail: 554")]

    scene(doing)


def test_an_address_that_does_not_exist_is_reported() -> None:
    """user_manager then suppresses it."""

    async def doing(it: Scene) -> None:
        it.world.script.append(HardBounce("the server refused the recipient: 550"))
        it.bring(1)
        await asyncio.sleep(6)
        assert it.world.bounces == it.world.users
        assert it.dead == [(1, "the server refused the recipient: 550")]

    scene(doing)


def test_what_is_no_news_any_more_is_given_up() -> None:
    """After its lifetime, with the number of its tries."""

    async def doing(it: Scene) -> None:
        it.world.script.extend([TemporarilyRefused("450")] * 1000)
        it.bring(1)
        await asyncio.sleep(25 * 3600)
        [(number, reason)] = it.dead
        assert number == 1
        assert reason.startswith("gave up after 4"), "some 480 tries"
        assert it.retries[-1].not_before - it.retries[-1].first_attempt_at <= timedelta(hours=24)

    scene(doing)


def test_what_may_have_been_taken_is_not_divided_by_age() -> None:
    """One alert of it has become old, the others have not: sent without it they would be another mail."""

    async def doing(it: Scene) -> None:
        it.world.script.append("never answers")
        it.bring(1)
        await asyncio.sleep(4)
        it.bring(2)
        await asyncio.sleep(2)
        it.worker.crash()
        await it.world.end_tasks()
        await asyncio.sleep(600 - 4)
        it.worker = Worker(it.world)
        it.worker.begin()
        await asyncio.sleep(1)
        assert it.told == [{1, 2}, {1, 2}]
        assert it.dead == []

    scene(doing, Ways(lifetime=timedelta(minutes=10)))


def test_a_person_gets_so_many_mails_an_hour() -> None:
    """What is more comes with the next one, in one mail, and counts as no try."""

    async def doing(it: Scene) -> None:
        for number in range(1, 6):
            it.bring(number)
            await asyncio.sleep(60)
        assert it.told == [{1}, {2}]
        assert {each.attempt for each in it.retries} == {0}
        await asyncio.sleep(3600)
        assert it.told == [{1}, {2}, {3, 4, 5}]
        assert it.world.mails[2].at - it.world.mails[0].at >= timedelta(hours=1)

    scene(doing, Ways(mails_per_hour=2))


def test_while_the_server_is_left_alone_nothing_is_tried() -> None:
    """The mail waits on, in hand; what comes meanwhile joins it."""

    async def doing(it: Scene) -> None:
        now = it.world.clock.now()
        it.world.script.append(MailServerAway("left alone", Reason.BREAKER_OPEN, now + timedelta(minutes=4)))
        it.bring(1)
        await asyncio.sleep(6)
        it.bring(2)
        await asyncio.sleep(233)
        assert (it.told, it.retries) == ([], [])
        await asyncio.sleep(10)
        assert it.told == [{1, 2}]

    scene(doing)


def test_a_server_that_cannot_be_reached_was_tried() -> None:
    """Whether it is worth another try is for the breaker to say."""

    async def doing(it: Scene) -> None:
        it.world.script.append(MailServerAway("no answer from the server to the connection"))
        it.bring(1)
        await asyncio.sleep(20)
        assert [each.attempt for each in it.retries] == [1]
        assert it.told == [{1}]

    scene(doing)


def test_while_user_manager_is_away_everybody_rests_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who find it out at the same time rest together, and for a second only: it was one failure, not many."""
    answers = People.of

    async def away(_self: People, _user_id: UUID) -> Contact | None:
        await asyncio.sleep(1)
        raise UserManagerAway("UNAVAILABLE")

    monkeypatch.setattr(People, "of", away)

    async def doing(it: Scene) -> None:
        for number in range(1, 11):
            it.world.raise_alert(replace(it.alert(number), user_id=UUID(int=1000 + number)))
        await asyncio.sleep(1.2)
        resting = it.worker.dispatch.is_resting
        assert resting
        monkeypatch.setattr(People, "of", answers)
        await asyncio.sleep(1.1)
        resting = it.worker.dispatch.is_resting
        assert not resting
        await asyncio.sleep(10)
        assert len(it.told) == 10

    scene(doing, Ways(group_wait=timedelta(0)))
