"""When a rejected recipient counts against the address: as a pure rule, and in the delivery of alerts."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from notifier.delivery import composition as composition_module
from notifier.delivery.bounces import is_bounce_proven
from notifier.errors import SendingSideRefused, UnprovenBounce
from tests.notifier.delivery.single_user import SingleUserDelivery, run_steps
from tests.notifier.simulation import build_fake_catch_up_mail, build_fake_mail
from tests.notifier.simulation_settings import DeliverySettings


@pytest.fixture(autouse=True)
def _replace_mail_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the composition of mails, which takes long."""
    monkeypatch.setattr(composition_module, "compose_alerts_mail", build_fake_mail)
    monkeypatch.setattr(composition_module, "compose_catch_up_mail", build_fake_catch_up_mail)


def at(text: str) -> datetime:
    """Return the time of a day and an hour in UTC like "3 14:05"."""
    day, _, clock = text.partition(" ")
    return datetime.fromisoformat(f"2026-11-{int(day):02}T{clock}").replace(tzinfo=UTC)


def reject(other_accepted_at: datetime | None = None) -> UnprovenBounce:
    """Return the error of a bare 550 from a server that accepted another recipient at this time."""
    error = UnprovenBounce("the server refused the recipient: 550")
    error.other_accepted_at = other_accepted_at
    return error


@pytest.mark.parametrize(
    ("first", "now", "other_accepted", "is_proven"),
    [
        ("3 10:00", "3 10:05", None, False),
        ("3 10:00", "3 10:05", "3 09:59", False),
        ("3 10:00", "3 10:05", "3 10:00", False),
        ("3 10:00", "3 10:05", "3 10:01", True),
        ("3 10:00", "3 10:00", "3 10:00", False),
        ("3 10:00", "3 23:59", None, False),
        ("3 10:00", "3 23:59", "2 23:59", False),
        ("3 23:59", "4 00:01", None, False),
        ("3 18:00", "4 05:59", None, False),
        ("3 18:00", "4 06:00", None, True),
        ("3 00:30", "4 00:30", None, True),
        ("3 10:00", "9 10:00", None, True),
        ("3 10:00", "4 10:00", "1 10:00", True),
        ("4 10:00", "3 10:00", None, False),
        ("4 10:00", "3 10:00", "3 09:59", False),
    ],
)
def test_a_bare_rejection_counts_only_with_evidence(
    first: str, now: str, other_accepted: str | None, is_proven: bool
) -> None:
    """The same server has accepted another recipient since, or the second rejection came on another day."""
    other_accepted_at = at(other_accepted) if other_accepted is not None else None
    assert is_bounce_proven(at(first), at(now), other_accepted_at) is is_proven


def test_a_server_that_relays_for_nobody_suppresses_nobody() -> None:
    """The alerts wait, and are mailed once the server relays again."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend(
            reject() if number % 2 else SendingSideRefused("554") for number in range(500)
        )
        delivery.publish_alerts(1)
        await asyncio.sleep(3 * 3600)
        assert (delivery.simulation.bounces, delivery.dead_letters, delivery.mailed_alert_numbers) == ([], [], [])
        delivery.simulation.script.clear()
        await asyncio.sleep(300)
        assert delivery.mailed_alert_numbers == [{1}]

    run_steps(steps)


def test_a_second_rejection_counts_after_the_server_accepted_another_recipient() -> None:
    """What the server accepted before the first rejection is no evidence, and a restart forgets no rejection."""

    async def steps(delivery: SingleUserDelivery) -> None:
        now = delivery.simulation.clock.now
        delivery.simulation.script.append(reject(now()))
        delivery.publish_alerts(1)
        await asyncio.sleep(5.5)
        assert (delivery.simulation.bounces, delivery.dead_letters) == ([], [])
        delivery.simulation.script.append(reject(now() + timedelta(seconds=1)))
        await delivery.restart()
        await asyncio.sleep(30)
        assert delivery.simulation.bounces == delivery.simulation.users
        assert delivery.dead_letters == [(1, "the server refused the recipient: 550")]

    run_steps(steps)


def test_a_second_rejection_on_another_day_counts() -> None:
    """The mail of the first is given up by then or still waits."""

    async def steps(delivery: SingleUserDelivery) -> None:
        await asyncio.sleep(10 * 3600)
        delivery.simulation.script.extend([reject()] * 1000)
        delivery.publish_alerts(1)
        await asyncio.sleep(13 * 3600)
        assert (delivery.simulation.bounces, delivery.dead_letters) == ([], [])
        await asyncio.sleep(1.5 * 3600)
        assert delivery.simulation.bounces == delivery.simulation.users
        assert len(delivery.dead_letters) == 1

    run_steps(steps)


def test_a_mail_that_arrives_ends_the_suspicion() -> None:
    """A rejection before it is no first one any more."""

    async def steps(delivery: SingleUserDelivery) -> None:
        now = delivery.simulation.clock.now
        delivery.simulation.script.append(reject())
        delivery.publish_alerts(1)
        await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [{1}]
        delivery.simulation.script.append(reject(now()))
        delivery.publish_alerts(2)
        await asyncio.sleep(60)
        assert delivery.mailed_alert_numbers == [{1}, {2}]
        assert (delivery.simulation.bounces, delivery.dead_letters) == ([], [])

    run_steps(steps)


def test_what_is_said_of_us_is_given_up_after_the_lifetime_and_kept() -> None:
    """The dead letter can be requeued once the operator has mended the relay."""

    async def steps(delivery: SingleUserDelivery) -> None:
        delivery.simulation.script.extend([SendingSideRefused("the server refused the recipient: 554 5.7.1")] * 1000)
        delivery.publish_alerts(1)
        await asyncio.sleep(5 * 3600)
        [(number, reason)] = delivery.dead_letters
        assert number == 1
        assert reason.startswith("gave up after ")
        assert delivery.simulation.bounces == []
        delivery.simulation.script.clear()
        delivery.publish_alerts(1, requeued=True)
        await asyncio.sleep(10)
        assert delivery.mailed_alert_numbers == [{1}]

    run_steps(steps, DeliverySettings(lifetime=timedelta(hours=1)))
