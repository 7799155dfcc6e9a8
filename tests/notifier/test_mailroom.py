import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest

from chassis.metrics import Identity, Metrics
from notifier.errors import NotSent, TemporarilyRefused, UserManagerAway
from notifier.mail import Contact
from notifier.mailroom import Mailroom
from notifier.messages import ConfirmationWish, RaisedAlert
from tests.fakes.clock import FakeClock
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, SENDER

RAISED = RaisedAlert(ALERT, CAUSE, b"")
WISH = ConfirmationWish(CONTACT.user_id, "c1")
UNCONFIRMED = replace(CONTACT, confirmed=False, confirm_url="https://example.org/c?t=1")


class Memory(dict[bytes, datetime]):
    """Remembers what went out."""

    async def record(self, key: bytes, at: datetime) -> None:
        self[key] = at


class Desk:
    """A mailroom with contacts and a mail server in memory."""

    def __init__(self, contact: Contact | None = CONTACT) -> None:
        self.contact = contact
        self.sent = Memory()
        self.mails: list[EmailMessage] = []
        self.failures: list[NotSent] = []
        self.taking = asyncio.Event()
        """Cleared: the mail server keeps its client waiting."""
        self.taking.set()
        self.asked = asyncio.Event()
        self.metrics = Metrics(Identity("notifier", "test"))
        self.mailroom = Mailroom(self.sent, self, self, SENDER, FakeClock(), self.metrics)

    async def of(self, user_id: UUID) -> Contact | None:
        if self.failures and isinstance(self.failures[0], UserManagerAway):
            raise self.failures.pop(0)
        return self.contact

    async def send(self, mail: EmailMessage) -> None:
        self.asked.set()
        await self.taking.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.mails.append(mail)

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels | {"service": "notifier", "node": "test"})


def run(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 20))


def test_an_alert_is_mailed_once() -> None:
    """A repeat of the same alert id finds it recorded."""

    async def scene() -> None:
        desk = Desk()
        await desk.mailroom.tell(RAISED)
        await desk.mailroom.tell(RAISED)
        assert len(desk.mails) == 1
        assert desk.sent == {str(ALERT.alert_id).encode(): datetime(2013, 2, 13, tzinfo=UTC)}
        assert desk.value("emails_sent_total", status="success") == 1
        assert desk.value("alerts_dropped_total", reason="already_sent") == 1

    run(scene)


def test_the_same_alert_by_two_ways_at_once_is_mailed_once() -> None:
    """Fresh and as a retry: who comes second looks only after the first has recorded."""

    async def scene() -> None:
        desk = Desk()
        await asyncio.gather(*(desk.mailroom.tell(RAISED) for _ in range(5)))
        assert len(desk.mails) == 1

    run(scene)


@pytest.mark.parametrize("failure", [TemporarilyRefused("450"), UserManagerAway("UNAVAILABLE")])
def test_a_mail_that_did_not_go_out_is_not_recorded(failure: NotSent) -> None:
    """The retry must find it open."""

    async def scene() -> None:
        desk = Desk()
        desk.failures.append(failure)
        with pytest.raises(type(failure)):
            await desk.mailroom.tell(RAISED)
        assert desk.sent == {}
        await desk.mailroom.tell(RAISED)
        assert len(desk.mails) == 1

    run(scene)


@pytest.mark.parametrize(
    ("contact", "reason"),
    [
        (None, "user_gone"),
        (replace(CONTACT, confirmed=False), "unconfirmed"),
        (replace(CONTACT, paused=True), "paused"),
    ],
)
def test_who_may_not_be_mailed_is_not(contact: Contact | None, reason: str) -> None:
    """A deleted, unconfirmed or paused user is never mailed."""

    async def scene() -> None:
        desk = Desk(contact)
        await desk.mailroom.tell(RAISED)
        assert desk.mails == []
        assert desk.value("alerts_dropped_total", reason=reason) == 1

    run(scene)


def test_a_wish_is_mailed_once_and_the_next_wish_again() -> None:
    """Each request for a confirmation mail is one mail."""

    async def scene() -> None:
        desk = Desk(UNCONFIRMED)
        for wish in (WISH, WISH, replace(WISH, confirmation_id="c2")):
            await desk.mailroom.ask_to_confirm(wish)
        assert len(desk.mails) == 2
        assert UNCONFIRMED.confirm_url in desk.mails[0].get_body(("plain",)).get_content()

    run(scene)


@pytest.mark.parametrize("contact", [None, CONTACT, replace(UNCONFIRMED, confirm_url="")])
def test_nobody_is_asked_to_confirm_in_vain(contact: Contact | None) -> None:
    """Who is gone or has confirmed meanwhile gets no link."""

    async def scene() -> None:
        desk = Desk(contact)
        await desk.mailroom.ask_to_confirm(WISH)
        assert desk.mails == []

    run(scene)


def test_closing_finishes_the_mail_at_hand_and_begins_no_other() -> None:
    """A stop must not cut a mail off between the server's 250 and the record."""

    async def scene() -> None:
        desk = Desk()
        desk.taking.clear()
        first = asyncio.create_task(desk.mailroom.tell(RAISED))
        await desk.asked.wait()
        closing = asyncio.create_task(desk.mailroom.close())
        desk.taking.set()
        await asyncio.gather(first, closing)
        assert len(desk.sent) == 1
        later = asyncio.create_task(desk.mailroom.tell(replace(RAISED, alert=replace(ALERT, alert_id=UUID(int=7)))))
        done, _ = await asyncio.wait({later}, timeout=0.05)
        assert not done
        later.cancel()

    run(scene)
