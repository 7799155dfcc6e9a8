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
from notifier.delivery.confirmations import ConfirmationDelivery
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import PendingEvent
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import MAX_CONFIRMATION_ATTEMPTS
from notifier.delivery.store import DeliveryStore
from notifier.errors import (
    FailureReason,
    HardBounce,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    TemporarilyRefused,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from notifier.messages import ConfirmationRequest
from notifier.metrics import NotifierMetrics
from tests.fakes.hurried_loop import BEGIN, LoopClock, run
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import CONTACT, SENDER
from tests.notifier.simulated_services import SimulatedProcess, SimulatedTable, Simulation
from tests.notifier.simulation_settings import DeliverySettings, FaultRates

UNCONFIRMED = replace(CONTACT, confirmed=False, confirm_url="https://example.org/c?t=1")
ADA, BOB = UUID(int=1), UUID(int=2)


class ConfirmationFixture:
    """A ConfirmationDelivery whose contacts, SMTP client and topics are this fixture."""

    def __init__(self) -> None:
        self.table = SimulatedTable(SimulatedProcess(Simulation(1, FaultRates(), DeliverySettings(), 1)), {})
        self.contact: Contact | None = UNCONFIRMED
        self.failures: dict[UUID, list[NotSent]] = {}
        self.mailed: list[str] = []
        self.at_work = 0
        self.takes_s = 0.0
        self.dead_letters: list[str] = []
        self.bounces: list[UUID] = []
        self.acknowledged: list[str] = []
        self.owns_partitions = True
        clock, policy = LoopClock(), MailPolicy(SENDER)
        store = DeliveryStore(self.table, self.table, lambda error: None)
        self.metrics = Metrics(ServiceIdentity("notifier", "test"))
        counted = NotifierMetrics(self.metrics)
        self.confirmations = ConfirmationDelivery(store, self, self, self, policy, InFlightLimit(1), clock, counted)

    async def request(self, confirmation_id: str, user: UUID = ADA) -> None:
        """Start a confirmation request."""
        message = SimpleNamespace(
            topic="users", partition=0, timestamp=BEGIN.timestamp(), generation_id=0, name=confirmation_id
        )

        async def acknowledge() -> None:
            self.acknowledged.append(confirmation_id)

        event: Any = FakeEvent(message)
        await self.confirmations.start(PendingEvent(event, acknowledge), ConfirmationRequest(user, confirmation_id))

    async def find_contact(self, user_id: UUID) -> Contact | None:
        await asyncio.sleep(0.01)
        if self.failures.get(user_id) and isinstance(self.failures[user_id][0], UserManagerUnavailable):
            raise self.failures[user_id].pop(0)
        return replace(self.contact, user_id=user_id) if self.contact is not None else None

    async def report_bounce(self, user_id: UUID, at: object) -> None:
        self.bounces.append(user_id)

    async def send(self, mail: Any, envelope_from: str | None = None, before_content: Any = None) -> None:
        """Accept a mail after `takes_s` seconds, or raise the next failure."""
        await before_content()
        self.at_work += 1
        await asyncio.sleep(self.takes_s)
        self.at_work -= 1
        for user in (ADA, BOB):
            if self.failures.get(user):
                raise self.failures[user].pop(0)
        self.mailed.append(mail["Message-ID"])

    async def publish_retry(self, user_id: UUID, retry: object) -> None:
        raise NotImplementedError

    async def publish_dead_letter(self, event: Any, reason: str) -> None:
        self.dead_letters.append(f"{event.message.name}: {reason}")

    def is_still_ours(self, event: object) -> bool:
        return self.owns_partitions


def run_check(check: Callable[[ConfirmationFixture], Coroutine[Any, Any, None]]) -> None:
    """Run a check with a fixture in accelerated time."""

    async def run_with_fixture() -> None:
        await check(ConfirmationFixture())

    run(run_with_fixture())


def test_each_request_is_mailed_once_and_at_once() -> None:
    """A duplicate of a request, even at the same time, is not mailed; another request is."""

    async def check(fixture: ConfirmationFixture) -> None:
        for confirmation_id in ("one", "one", "two"):
            await fixture.request(confirmation_id)
        await asyncio.sleep(1)
        assert len(set(fixture.mailed)) == len(fixture.mailed) == 2
        assert fixture.acknowledged == ["one", "one", "two"]

    run_check(check)


@pytest.mark.parametrize("contact", [None, CONTACT, replace(UNCONFIRMED, confirm_url="")])
def test_a_user_with_nothing_to_confirm_gets_no_mail(contact: Contact | None) -> None:
    """A deleted or confirmed user gets no link."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.contact = contact
        await fixture.request("one")
        await asyncio.sleep(1)
        assert (fixture.mailed, fixture.acknowledged) == ([], ["one"])

    run_check(check)


def test_a_rejected_recipient_delays_no_other_request() -> None:
    """After some attempts the request is dead-lettered."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [TemporarilyRefused("450")] * MAX_CONFIRMATION_ATTEMPTS
        await fixture.request("one", ADA)
        await asyncio.sleep(75)
        assert fixture.dead_letters == [f"one: gave up after {MAX_CONFIRMATION_ATTEMPTS} tries: 450"]
        await fixture.request("two", BOB)
        await asyncio.sleep(1)
        assert len(fixture.mailed) == 1
        assert fixture.acknowledged == ["one", "two"]

    run_check(check)


@pytest.mark.parametrize(("hours", "is_mailed"), [(2, True), (25, False)])
def test_an_outage_costs_no_confirmation_within_a_day(hours: int, is_mailed: bool) -> None:
    """During an outage a request waits for the lifetime, because it delays no other; and the worker does not count as
    stuck."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [UserManagerUnavailable("UNAVAILABLE")] * 2000
        await fixture.request("one")
        await asyncio.sleep(hours * 3600)
        assert fixture.confirmations.is_blocked_by_outage == is_mailed
        fixture.failures.clear()
        await asyncio.sleep(300)
        assert (len(fixture.mailed), len(fixture.dead_letters)) == (is_mailed, not is_mailed)
        assert not fixture.confirmations.is_blocked_by_outage

    run_check(check)


@pytest.mark.parametrize("failure", [PermanentlyRefused("554"), HardBounce("550")])
def test_a_permanent_failure_is_dead_lettered_at_once(failure: NotSent) -> None:
    """An address that does not exist is also reported."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [failure]
        await fixture.request("one")
        await asyncio.sleep(1)
        assert fixture.dead_letters == [f"one: {failure}"]
        assert fixture.bounces == ([ADA] if isinstance(failure, HardBounce) else [])
        assert fixture.acknowledged == ["one"]

    run_check(check)


@pytest.mark.parametrize(("reason", "counts"), [(FailureReason.UNREACHABLE, True), (FailureReason.BREAKER_OPEN, False)])
def test_a_failure_is_counted_unless_the_circuit_was_open(reason: FailureReason, counts: bool) -> None:
    """An open circuit does not raise the rate of failures."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [MailServerUnavailable("away", reason)]
        await fixture.request("one")
        await asyncio.sleep(60)
        assert len(fixture.mailed) == 1
        assert ('status="failure"' in fixture.metrics.format_exposition()[0].decode()) == counts

    run_check(check)


def test_draining_finishes_mails_in_progress_and_cancels_pauses() -> None:
    """A request in its pause is not acknowledged: the partition's next owner handles it."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [MailServerUnavailable("away")] * 3
        await fixture.request("waits", ADA)
        await asyncio.sleep(1)
        fixture.failures.clear()
        fixture.takes_s = 3
        await fixture.request("under way", BOB)
        await asyncio.sleep(0.5)
        await fixture.confirmations.stop_and_drain(8.0)
        assert len(fixture.mailed) == 1
        await asyncio.sleep(600)
        assert (len(fixture.mailed), fixture.acknowledged) == (1, ["under way"])

    run_check(check)


def test_draining_waits_for_no_second_attempt() -> None:
    """An attempt that fails while the worker drains is the last one."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.takes_s, fixture.failures[ADA] = 1, [TemporarilyRefused("450")] * 3
        await fixture.request("one")
        await asyncio.sleep(0.5)
        began = LoopClock().now()
        await fixture.confirmations.stop_and_drain(8.0)
        assert LoopClock().now() - began < timedelta(seconds=1)
        await asyncio.sleep(600)
        assert (len(fixture.failures[ADA]), fixture.mailed, fixture.acknowledged) == (2, [], [])

    run_check(check)


def test_a_request_of_a_revoked_partition_is_not_continued() -> None:
    """After a rebalance another worker may be mailing it."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [TemporarilyRefused("450")]
        await fixture.request("one")
        await asyncio.sleep(1)
        fixture.owns_partitions = False
        await fixture.request("two", BOB)
        await asyncio.sleep(600)
        assert (fixture.mailed, fixture.acknowledged) == ([], [])

    run_check(check)


@pytest.mark.parametrize(
    "url",
    [
        "https://flüge.example.org/confirm/t",
        "HTTPS://example.org/confirm/t",
        "https://example.org/a b/confirm/t",
        'https://example.org/"/confirm/t',
        "https://example.org/<a>/confirm/t",
        "https://example.org/\n/confirm/t",
        "https://example.org/\u202e/confirm/t",
        "https://example.org/ü/confirm/t",
        "ftp://example.org/confirm/t",
        "example.org/confirm/t",
        "//example.org/confirm/t",
        "https://",
        f"https://example.org/{'a' * 900}",
    ],
)
def test_a_confirmation_waits_for_a_link_that_can_be_printed(url: str) -> None:
    """A mail without its link is never sent; the request waits until the operator has corrected the setting."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.contact = replace(UNCONFIRMED, confirm_url=url)
        await fixture.request("one")
        await asyncio.sleep(60)
        assert (fixture.mailed, fixture.dead_letters, fixture.acknowledged) == ([], [], [])
        labels = {"service": "notifier", "node": "test", "kind": "confirmation", "reason": "link"}
        assert fixture.metrics.registry.get_sample_value("email_retries_total", labels)
        fixture.contact = UNCONFIRMED
        await asyncio.sleep(3_600)
        assert (len(fixture.mailed), fixture.dead_letters, fixture.acknowledged) == (1, [], ["one"])

    run_check(check)


def test_a_link_that_is_never_corrected_becomes_a_dead_letter_with_advice() -> None:
    """At the end of its lifetime the request is dead-lettered, and the reason says what to correct."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.contact = replace(UNCONFIRMED, confirm_url="https://flüge.example.org/confirm/t")
        await fixture.request("one")
        await asyncio.sleep(3 * 86_400)
        (dead_letter,) = fixture.dead_letters
        assert "correct the PUBLIC_URL of user_manager" in dead_letter
        assert fixture.mailed == []

    run_check(check)
