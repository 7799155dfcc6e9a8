"""Confirmation mails: each rule by an example."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from chassis.metrics import Metrics, ServiceIdentity
from notifier.delivery.confirmations import Confirmations
from notifier.delivery.in_flight import Doubts
from notifier.delivery.interfaces import Arrival, Manner
from notifier.delivery.retries import CONFIRMATION_TRIES
from notifier.delivery.store import Ledger
from notifier.errors import (
    HardBounce,
    MailServerAway,
    NotSent,
    PermanentlyRefused,
    Reason,
    TemporarilyRefused,
    UserManagerAway,
)
from notifier.mail import Contact
from notifier.messages import ConfirmationWish
from notifier.metrics import NotifierMetrics
from tests.fakes.hurried_loop import BEGIN, LoopClock, run
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import CONTACT, SENDER
from tests.notifier.weather import Ways, Weather
from tests.notifier.world import Life, Table, World

UNCONFIRMED = replace(CONTACT, confirmed=False, confirm_url="https://example.org/c?t=1")
ADA, BOB = UUID(int=1), UUID(int=2)


class Scene:
    """Wishes of some users, and what the server does with their mails."""

    def __init__(self) -> None:
        self.table = Table(Life(World(1, Weather(), Ways(), 1)), {})
        self.contact: Contact | None = UNCONFIRMED
        self.failures: dict[UUID, list[NotSent]] = {}
        self.mailed: list[str] = []
        self.at_work = 0
        self.takes_s = 0.0
        self.buried: list[str] = []
        self.bounces: list[UUID] = []
        self.acknowledged: list[str] = []
        self.ours = True
        clock, manner = LoopClock(), Manner(SENDER)
        ledger = Ledger(self.table, self.table, lambda error: None)
        self.metrics = Metrics(ServiceIdentity("notifier", "test"))
        counted = NotifierMetrics(self.metrics)
        self.confirmations = Confirmations(ledger, self, self, self, manner, Doubts(1), clock, counted)

    async def wish(self, wanted: str, user: UUID = ADA) -> None:
        message = SimpleNamespace(topic="users", partition=0, timestamp=BEGIN.timestamp(), generation_id=0, name=wanted)

        async def acknowledge() -> None:
            self.acknowledged.append(wanted)

        event: Any = FakeEvent(message)
        await self.confirmations.take(Arrival(event, acknowledge), ConfirmationWish(user, wanted))

    async def of(self, user_id: UUID) -> Contact | None:
        await asyncio.sleep(0.01)
        if self.failures.get(user_id) and isinstance(self.failures[user_id][0], UserManagerAway):
            raise self.failures[user_id].pop(0)
        return replace(self.contact, user_id=user_id) if self.contact is not None else None

    async def report_bounce(self, user_id: UUID, at: object) -> None:
        self.bounces.append(user_id)

    async def send(self, mail: Any, envelope_from: str | None = None, before_content: Any = None) -> None:
        await before_content()
        self.at_work += 1
        await asyncio.sleep(self.takes_s)
        self.at_work -= 1
        for user in (ADA, BOB):
            if self.failures.get(user):
                raise self.failures[user].pop(0)
        self.mailed.append(mail["Message-ID"])

    async def put_off(self, user_id: UUID, retry: object) -> None:
        raise NotImplementedError

    async def bury(self, event: Any, reason: str) -> None:
        self.buried.append(f"{event.message.name}: {reason}")

    def are_ours(self, event: object) -> bool:
        return self.ours


def scene(doing: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def with_it() -> None:
        await doing(Scene())

    run(with_it())


def test_a_wish_is_mailed_at_once_and_once_and_the_next_wish_again() -> None:
    """Each wish for a mail is one mail; a repeat of the same, even at the same time, is none."""

    async def doing(it: Scene) -> None:
        for wanted in ("one", "one", "two"):
            await it.wish(wanted)
        await asyncio.sleep(1)
        assert len(set(it.mailed)) == len(it.mailed) == 2
        assert it.acknowledged == ["one", "one", "two"]

    scene(doing)


@pytest.mark.parametrize("contact", [None, CONTACT, replace(UNCONFIRMED, confirm_url="")])
def test_nobody_is_asked_to_confirm_in_vain(contact: Contact | None) -> None:
    """Who is gone or has confirmed meanwhile gets no link."""

    async def doing(it: Scene) -> None:
        it.contact = contact
        await it.wish("one")
        await asyncio.sleep(1)
        assert (it.mailed, it.acknowledged) == ([], ["one"])

    scene(doing)


def test_who_alone_is_refused_holds_up_nobody_and_may_ask_again() -> None:
    """After some tries in place the wish becomes a dead letter."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [TemporarilyRefused("450")] * CONFIRMATION_TRIES
        await it.wish("one", ADA)
        await asyncio.sleep(75)
        assert it.buried == [f"one: gave up after {CONFIRMATION_TRIES} tries: 450"]
        await it.wish("two", BOB)
        await asyncio.sleep(1)
        assert len(it.mailed) == 1
        assert it.acknowledged == ["one", "two"]

    scene(doing)


@pytest.mark.parametrize(("hours", "is_mailed"), [(2, True), (25, False)])
def test_an_outage_costs_no_confirmation_within_a_day(hours: int, is_mailed: bool) -> None:
    """While nobody could be mailed, waiting costs the others nothing; yesterday's link is of no use. And a worker that
    waits for user_manager is not one that is stuck."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [UserManagerAway("UNAVAILABLE")] * 2000
        await it.wish("one")
        await asyncio.sleep(hours * 3600)
        assert it.confirmations.are_waiting_for_others == is_mailed
        it.failures.clear()
        await asyncio.sleep(300)
        assert (len(it.mailed), len(it.buried)) == (is_mailed, not is_mailed)
        assert not it.confirmations.are_waiting_for_others

    scene(doing)


@pytest.mark.parametrize("failure", [PermanentlyRefused("554"), HardBounce("550")])
def test_what_is_hopeless_is_a_dead_letter_at_once(failure: NotSent) -> None:
    """And an address that does not exist is reported."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [failure]
        await it.wish("one")
        await asyncio.sleep(1)
        assert it.buried == [f"one: {failure}"]
        assert it.bounces == ([ADA] if isinstance(failure, HardBounce) else [])
        assert it.acknowledged == ["one"]

    scene(doing)


@pytest.mark.parametrize(("reason", "counts"), [(Reason.UNREACHABLE, True), (Reason.BREAKER_OPEN, False)])
def test_a_failure_is_counted_where_the_server_was_asked(reason: Reason, counts: bool) -> None:
    """As with alerts: else each look at a server that is left alone would raise the rate of failures."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [MailServerAway("away", reason)]
        await it.wish("one")
        await asyncio.sleep(60)
        assert len(it.mailed) == 1
        assert ('status="failure"' in it.metrics.format_exposition()[0].decode()) == counts

    scene(doing)


def test_letting_go_ends_the_mail_under_way_and_breaks_off_what_waits() -> None:
    """What waits for another try is not acknowledged: whoever has it then sees to it."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [MailServerAway("away")] * 3
        await it.wish("waits", ADA)
        await asyncio.sleep(1)
        it.failures.clear()
        it.takes_s = 3
        await it.wish("under way", BOB)
        await asyncio.sleep(0.5)
        await it.confirmations.let_go(8.0)
        assert len(it.mailed) == 1
        await asyncio.sleep(600)
        assert (len(it.mailed), it.acknowledged) == (1, ["under way"])

    scene(doing)


def test_letting_go_waits_for_no_second_try() -> None:
    """A try that fails meanwhile is the last one here."""

    async def doing(it: Scene) -> None:
        it.takes_s, it.failures[ADA] = 1, [TemporarilyRefused("450")] * 3
        await it.wish("one")
        await asyncio.sleep(0.5)
        began = LoopClock().now()
        await it.confirmations.let_go(8.0)
        assert LoopClock().now() - began < timedelta(seconds=1)
        await asyncio.sleep(600)
        assert (len(it.failures[ADA]), it.mailed, it.acknowledged) == (2, [], [])

    scene(doing)


def test_a_wish_that_is_not_ours_any_more_is_left_to_others() -> None:
    """A rebalance began while it waited: another worker may be mailing it now."""

    async def doing(it: Scene) -> None:
        it.failures[ADA] = [TemporarilyRefused("450")]
        await it.wish("one")
        await asyncio.sleep(1)
        it.ours = False
        await it.wish("two", BOB)
        await asyncio.sleep(600)
        assert (it.mailed, it.acknowledged) == ([], [])

    scene(doing)
