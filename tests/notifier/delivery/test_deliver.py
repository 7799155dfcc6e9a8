"""One mail to its end, and what a crash makes of it. What chance makes of all rules together is in `test_dispatch`."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from notifier.delivery import deliver as mailroom
from notifier.mail import Contact
from tests.notifier.alerts import CONTACT
from tests.notifier.mail.rendered import Scene, scene
from tests.notifier.story import written
from tests.notifier.weather import Ways


@pytest.fixture(autouse=True)
def _mails_are_what_they_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom, "compose_alerts_mail", written)


def test_alerts_of_one_person_are_one_mail_recorded_and_acknowledged() -> None:
    """And a repeat of one finds it recorded."""

    async def doing(it: Scene) -> None:
        it.bring(1, 2)
        await asyncio.sleep(6)
        it.bring(2)
        await asyncio.sleep(6)
        assert it.told == [{1, 2}]
        assert len(it.world.kept["fates"]) == 2
        assert (len(it.person.mailed_at), it.person.on_its_way) == (1, frozenset())

    scene(doing, Ways(mails_per_hour=12))


def test_what_a_mail_tells_is_written_down_before_it_is_sent() -> None:
    """And the broker has it by then: whoever comes after a crash makes the same mail again, and nothing joins it."""

    async def doing(it: Scene) -> None:
        it.world.script.append("never answers")
        it.bring(1, 2)
        await asyncio.sleep(6)
        assert {each.int for each in it.person.on_its_way} == {1, 2}
        it.bring(3)
        await it.restart()
        await asyncio.sleep(20)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_a_mail_of_which_any_record_is_kept_is_not_sent_again() -> None:
    """All of them are recorded together, so the others' records were only lost on their way."""

    async def doing(it: Scene) -> None:
        it.worker.tables["fates"].held = True
        it.bring(1, 2)
        await asyncio.sleep(6)
        it.world.kept["fates"][str(UUID(int=2)).encode()] = b"2026-11-23T00:00:05+00:00"
        await it.restart()
        await asyncio.sleep(20)
        assert it.told == [{1, 2}]
        assert len(it.world.kept["fates"]) == 2
        assert len(it.person.mailed_at) == 1

    scene(doing, Ways(mails_per_hour=12))


def test_which_mail_it_was_is_forgotten_only_once_its_record_is_kept() -> None:
    """The two tables are kept by different partitions. If the second were ahead, a crash between them would repeat the
    alerts in another mail, together with what came since."""

    async def doing(it: Scene) -> None:
        it.worker.tables["fates"].held = True
        it.bring(1, 2)
        await asyncio.sleep(20)
        assert {each.int for each in it.person.on_its_way} == {1, 2}
        it.bring(3)
        await it.restart()
        await asyncio.sleep(20)
        assert it.told == [{1, 2}, {1, 2}, {3}]

    scene(doing)


def test_a_mail_costs_two_entries_of_its_person() -> None:
    """Which mail it is, and that it went out: what is kept in milliseconds compares equal when it is read."""

    async def doing(it: Scene) -> None:
        await asyncio.sleep(0.1234567)
        table = it.worker.tables["people"]
        written_people: list[bytes | None] = []
        write = table.write

        def counting(event: Any, key: bytes, entry: bytes | None) -> None:
            written_people.append(entry)
            write(event, key, entry)

        table.write = counting  # type: ignore[method-assign]
        it.bring(1)
        await asyncio.sleep(6)
        assert len(written_people) == 2

    scene(doing)


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (None, "user_gone"),
        (replace(CONTACT, confirmed=False), "unconfirmed"),
        (replace(CONTACT, paused=True), "paused"),
        (replace(CONTACT, suppressed=True), "suppressed"),
    ],
)
def test_who_may_not_be_mailed_is_not(contact: Contact | None, reason: str) -> None:
    """Who is deleted, unconfirmed, paused or suppressed gets no alert; it is counted why."""

    async def doing(it: Scene) -> None:
        it.world.contact = contact
        it.bring(1, 2)
        await asyncio.sleep(6)
        assert (it.told, it.retries, it.dead) == ([], [], [])
        labels = {"service": "notifier", "node": "story", "reason": reason}
        assert it.worker.registry.get_sample_value("alerts_dropped_total", labels) == 2

    scene(doing)


def test_a_bug_costs_one_mail_kept_as_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the worker."""

    def buggy(*_: object) -> object:
        raise ZeroDivisionError

    async def doing(it: Scene) -> None:
        monkeypatch.setattr(mailroom, "compose_alerts_mail", buggy)
        it.bring(1)
        await asyncio.sleep(6)
        monkeypatch.setattr(mailroom, "compose_alerts_mail", written)
        it.bring(2)
        await asyncio.sleep(6)
        assert it.dead == [(1, "ZeroDivisionError in the notifier")]
        assert it.told == [{2}]

    scene(doing)


@pytest.mark.parametrize("most", [1, 2])
def test_so_many_mails_are_in_doubt_at_a_time(most: int) -> None:
    """A crash repeats no more than that, however many are under way."""

    async def doing(it: Scene) -> None:
        it.world.script.extend(["never answers"] * 9)
        for number in range(1, 6):
            it.world.raise_alert(replace(it.alert(number), user_id=UUID(int=1000 + number)))
        await asyncio.sleep(6)
        assert len(it.told) == most
        it.world.script.clear()
        await it.restart()
        await asyncio.sleep(10)
        assert sum(map(len, it.told)) == 5 + most

    scene(doing, Ways(group_wait=timedelta(0), in_doubt=most, connections=4))
