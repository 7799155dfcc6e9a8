"""Confirmation mails: each rule by an example."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from chassis.clock import SteadyClock
from chassis.metrics import Metrics, ServiceIdentity
from notifier.delivery.confirmations import ConfirmationDelivery
from notifier.delivery.in_flight import InFlightLimit
from notifier.delivery.interfaces import ConfirmationState, PendingEvent
from notifier.delivery.policy import MailPolicy
from notifier.delivery.retries import CONFIRMATION_LIFETIME
from notifier.delivery.store import DeliveryStore
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    SendingSideRefused,
    TemporarilyRefused,
    UserManagerUnavailable,
)
from notifier.mail import Contact
from notifier.messages import ConfirmationRequest, ScheduledConfirmation
from notifier.metrics import NotifierMetrics
from tests.fakes.hurried_loop import BEGIN, LoopClock, run
from tests.fakes.stream import FakeEvent
from tests.notifier.alerts import CONTACT, SENDER
from tests.notifier.simulated_services import SimulatedProcess, SimulatedTable, Simulation
from tests.notifier.simulation_settings import DeliverySettings, FaultRates
from user_manager.links import CONFIRMATION_LINK_LIFETIME

UNCONFIRMED = replace(CONTACT, confirmed=False, confirm_url="https://example.org/c?t=1")
ADA, BOB = UUID(int=1), UUID(int=2)


class ConfirmationFixture:
    """A ConfirmationDelivery whose contacts, SMTP client and topics are this fixture.

    Retry records are read at once, like those of the retry topic.
    """

    def __init__(self) -> None:
        self.table = SimulatedTable(SimulatedProcess(Simulation(1, FaultRates(), DeliverySettings(), 1)), {})
        self.contact: Contact | None = UNCONFIRMED
        self.failures: dict[UUID, list[NotSent]] = {}
        self.mailed: list[str] = []
        self.subjects: list[str] = []
        self.at_work = 0
        self.takes_s = 0.0
        self.dead_letters: list[str] = []
        self.bounces: list[UUID] = []
        self.acknowledged: list[str] = []
        self.retries: list[ScheduledConfirmation] = []
        self.reports: list[str] = []
        self.are_retries_read = True
        self.owns_partitions = True
        clock, policy = SteadyClock(LoopClock()), MailPolicy(SENDER)
        store = DeliveryStore(self.table, self.table, lambda error: None)
        self.metrics = Metrics(ServiceIdentity("notifier", "test"))
        counted = NotifierMetrics(self.metrics)
        self.confirmations = ConfirmationDelivery(store, self, self, self, policy, InFlightLimit(1), clock, counted)

    async def request(self, confirmation_id: str, user: UUID = ADA) -> None:
        """Start a confirmation request."""
        await self.start(ScheduledConfirmation(ConfirmationRequest(user, confirmation_id), 0, BEGIN, BEGIN))

    async def start(self, scheduled: ScheduledConfirmation) -> None:
        """Start a confirmation mail as an agent does that has read its event."""
        message = SimpleNamespace(
            topic="users", partition=0, timestamp=BEGIN.timestamp(), generation_id=0, name=scheduled.mail_key
        )

        async def acknowledge() -> None:
            self.acknowledged.append(scheduled.mail_key)

        event: Any = FakeEvent(message)
        await self.confirmations.start(PendingEvent(event, acknowledge), scheduled)

    async def find_contact(self, user_id: UUID, interest_ids: Collection[UUID] = ()) -> Contact | None:
        await asyncio.sleep(0.01)
        if self.failures.get(user_id) and isinstance(self.failures[user_id][0], UserManagerUnavailable):
            raise self.failures[user_id].pop(0)
        return replace(self.contact, user_id=user_id) if self.contact is not None else None

    async def report_bounce(self, user_id: UUID, at: object) -> None:
        self.bounces.append(user_id)

    async def report_confirmation(self, user_id: UUID, confirmation_id: str, state: ConfirmationState) -> None:
        self.reports.append(f"{confirmation_id}: {state}")

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
        self.subjects.append(mail["Subject"])

    async def publish_retry(self, user_id: UUID, retry: Any) -> None:
        self.retries.append(retry)
        if self.are_retries_read:
            await self.start(retry)

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


def test_the_contact_says_what_the_mail_offers() -> None:
    """One request, one mail: to confirm, to sign in, or a new token."""

    async def check(fixture: ConfirmationFixture) -> None:
        url = "https://example.org/x"
        for number, link in enumerate(("confirm_url", "sign_in_url", "token_url")):
            fixture.contact = replace(UNCONFIRMED, **({"confirm_url": ""} | {link: url}))
            await fixture.request(str(number))
            await asyncio.sleep(1)
        assert fixture.subjects == [
            "Confirm your address for Towerwatch", "Sign in to Towerwatch", "Your Towerwatch account"
        ]  # fmt: skip

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


@pytest.mark.parametrize(
    ("reply", "minutes"),
    [
        (TemporarilyRefused("450 4.2.0 Greylisted"), 10),
        (TemporarilyRefused("450 4.7.1 Greylisted"), 5),
        (TemporarilyRefused("451 4.7.1 try again in 300 seconds"), 60),
        (TemporarilyRefused("451 4.7.500 server busy"), 15),
        (TemporarilyRefused("452 4.2.2 mailbox full"), 3 * 24 * 60),
        (TemporarilyRefused("452 4.3.1 storage"), 120),
        (TemporarilyRefused("450 4.1.2 domain not found"), 24 * 60),
        (TemporarilyRefused("421 lost"), 1),
        (SendingSideRefused("554 5.7.1 relay access denied"), 12 * 60),
        (SendingSideRefused("550 5.4.5 sending quota"), 24 * 60),
        (MailServerUnavailable("unreachable"), 26 * 60),
        (UserManagerUnavailable("UNAVAILABLE"), 6 * 24 * 60),
        (LostAfterData("no answer"), 2),
    ],
    ids=str,
)
def test_a_confirmation_mail_waits_as_long_as_its_link_is_good(reply: NotSent, minutes: int) -> None:
    """It is retried like alerts, delays no other request, and each event is acknowledged within minutes."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [reply] * 10_000
        await fixture.request("one", ADA)
        await asyncio.sleep(minutes * 60)
        assert (fixture.dead_letters, fixture.mailed) == ([], [])
        assert len(fixture.retries) - len(fixture.acknowledged) in (0, 1)
        fixture.failures.clear()
        await fixture.request("two", BOB)
        await asyncio.sleep(1)
        assert "two: sent" in fixture.reports
        await asyncio.sleep(300)
        assert (len(fixture.mailed), fixture.dead_letters) == (2, [])
        assert {"one", "two"} <= {*fixture.acknowledged}
        assert sorted(each for each in fixture.reports if each.endswith(": sent")) == ["one: sent", "two: sent"]
        assert ("one: waiting" in fixture.reports) == (not isinstance(reply, UserManagerUnavailable))

    run_check(check)


@pytest.mark.parametrize(("days", "is_mailed"), [(6.9, True), (7.1, False)])
def test_a_confirmation_is_given_up_when_its_link_would_have_expired(days: float, is_mailed: bool) -> None:
    """The mail has the age of its request then, and its owner may ask for another."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [UserManagerUnavailable("UNAVAILABLE")] * 10_000
        await fixture.request("one")
        await asyncio.sleep(days * 24 * 3600)
        fixture.failures.clear()
        await asyncio.sleep(300)
        assert (len(fixture.mailed), len(fixture.dead_letters)) == (is_mailed, not is_mailed)
        assert fixture.reports == ["one: sent" if is_mailed else "one: failed"]

    run_check(check)


def test_the_lifetime_of_a_confirmation_is_that_of_its_link() -> None:
    """The two services agree without importing each other."""
    assert CONFIRMATION_LIFETIME == CONFIRMATION_LINK_LIFETIME


def test_a_redelivered_request_is_mailed_once() -> None:
    """After a crash the request is read again beside its retry; one of them is mailed."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [TemporarilyRefused("450")] * 2
        await fixture.request("one")
        await asyncio.sleep(1)
        await fixture.request("one")
        await asyncio.sleep(600)
        assert (len(fixture.mailed), fixture.dead_letters) == (1, [])
        assert len(fixture.acknowledged) == 2 + len(fixture.retries)

    run_check(check)


def test_a_dead_lettered_request_that_is_redelivered_is_dropped() -> None:
    """Its owner may ask for another mail."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [PermanentlyRefused("552")]
        await fixture.request("one")
        await asyncio.sleep(1)
        await fixture.request("one")
        await asyncio.sleep(1)
        assert (fixture.mailed, len(fixture.dead_letters), fixture.acknowledged) == ([], 1, ["one", "one"])

    run_check(check)


@pytest.mark.parametrize("failure", [PermanentlyRefused("554"), HardBounce("550")])
def test_a_permanent_failure_is_dead_lettered_at_once(failure: NotSent) -> None:
    """An address that does not exist is also reported."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.failures[ADA] = [failure]
        await fixture.request("one")
        await asyncio.sleep(1)
        assert fixture.dead_letters == [f"one: {failure}"]
        assert fixture.reports == ["one: failed"]
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
        fixture.acknowledged.clear()
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
        assert LoopClock().now() - began < timedelta(seconds=2)
        await asyncio.sleep(600)
        assert (len(fixture.failures[ADA]), fixture.mailed, fixture.acknowledged) == (2, [], ["one"])
        assert len(fixture.retries) == 1

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
        assert (fixture.mailed, fixture.acknowledged) == ([], ["one"])

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
        assert (fixture.mailed, fixture.dead_letters) == ([], [])
        labels = {"service": "notifier", "node": "test", "kind": "confirmation", "reason": "link"}
        assert fixture.metrics.registry.get_sample_value("email_retries_total", labels)
        fixture.contact = UNCONFIRMED
        await asyncio.sleep(3_600)
        assert (len(fixture.mailed), fixture.dead_letters) == (1, [])

    run_check(check)


def test_a_link_that_is_never_corrected_becomes_a_dead_letter_with_advice() -> None:
    """At the end of its lifetime the request is dead-lettered, and the reason says what to correct."""

    async def check(fixture: ConfirmationFixture) -> None:
        fixture.contact = replace(UNCONFIRMED, confirm_url="https://flüge.example.org/confirm/t")
        await fixture.request("one")
        await asyncio.sleep(8 * 86_400)
        (dead_letter,) = fixture.dead_letters
        assert "correct the PUBLIC_URL of user_manager" in dead_letter
        assert fixture.mailed == []

    run_check(check)
