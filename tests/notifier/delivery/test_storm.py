"""A mail server that fails in every way and every phase, by a seeded plan, while many mails are under way."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Final

import pytest

from chassis.breaker import BreakerPolicy
from chassis.clock import ScaledClock
from notifier.delivery.retries import next_try
from notifier.errors import HardBounce, LostAfterData, MailServerAway, NotSent, PermanentlyRefused, Reason
from notifier.smtp import SmtpClient, SmtpTimeouts
from tests.fakes.smtp_server import ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL, HANG_UP, RESET, STALL, FakeSmtpServer, Script
from tests.fakes.tls import server_context
from tests.waiting import eventually

MAILS: Final = 150
CONNECTIONS: Final = 6
IN_DOUBT: Final = 3
"""Mails, at most, that the server may have taken without our knowing."""
SPEED: Final = 100.0
"""Pauses and openings pass so many times as fast as outside."""

BEFORE_A_MAIL: Final = {
    "CONNECT": (HANG_UP, RESET, "421 4.3.2 busy", "554 5.7.1 not you", "nonsense"),
    "EHLO": (HANG_UP, RESET, "421 4.3.2 busy", "550 5.7.1 not you"),
    "STARTTLS": (HANG_UP, RESET, "454 4.7.0 not now"),
    "HANDSHAKE": (HANG_UP, RESET),
    "AUTH": (HANG_UP, RESET, "421 4.3.2 busy", "454 4.7.0 not now", "535 5.7.8 wrong"),
    "MAIL": (HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452 4.3.1 full", "550 5.7.1 not you"),
}
STALLED: Final = ("CONNECT", "EHLO", "HANDSHAKE", "AUTH", "MAIL", "RCPT", "DATA")
"""Each falls silent once."""
FOR_NOW: Final = {
    "RCPT": (HANG_UP, RESET, "421 4.7.0 slow down", "450 4.2.1 busy", "450", "451 4.7.0 grey", "452 4.2.2 full"),
    "DATA": (HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452"),
    "CONTENT": ("421 4.3.2 busy", "450 4.2.0 later", "451 4.7.0 grey", "452 4.3.1 full", "535 5.7.8 log in"),
}
FOR_GOOD: Final = (
    ("RCPT", "550 5.1.1 unknown", HardBounce, Reason.MAILBOX_UNKNOWN),
    ("RCPT", "550", HardBounce, Reason.MAILBOX_UNKNOWN),
    ("RCPT", "550 5.7.1 policy", PermanentlyRefused, Reason.POLICY),
    ("RCPT", "552 5.2.2 full", PermanentlyRefused, Reason.MAILBOX_FULL),
    ("DATA", "554 5.7.1 policy", PermanentlyRefused, Reason.POLICY),
    ("DATA", "552", PermanentlyRefused, Reason.TOO_LARGE),
    ("CONTENT", "552 5.3.4 big", PermanentlyRefused, Reason.TOO_LARGE),
    ("CONTENT", "554", PermanentlyRefused, Reason.REFUSED),
    ("CONTENT", "554 5.6.0 bad", PermanentlyRefused, Reason.CONTENT),
)


@dataclass
class Plan:
    """What the server will do to each mail, and what must come of it."""

    refused: dict[str, tuple[type[NotSent], Reason]] = field(default_factory=dict)
    """By address; all others arrive."""
    copies: Counter[str] = field(default_factory=Counter)
    """How often the server takes a mail and does not say so."""


def planned(chance: random.Random, fake: FakeSmtpServer, addresses: list[str]) -> Plan:
    """Write the server's script."""
    plan = Plan()
    for command, answers in BEFORE_A_MAIL.items():
        faults: list[str | None] = [*answers, *([STALL] if command in STALLED else [])]
        # A few usual answers in between, so that all phases have their turn; each connection is a chance to fail.
        usual: list[str | None] = [None] * (len(faults) * (20 if command == "MAIL" else 2))
        fake.script[command] = chance.sample(faults + usual, len(faults + usual))
    for command in ("RCPT", "DATA"):
        script = fake.script_for[chance.choice(addresses[: MAILS // 2])]
        script[command].append(STALL)
    for number, address in enumerate(addresses):
        script = fake.script_for[address]
        if number % 4 == 3:
            command, answer, kind, reason = FOR_GOOD[number // 4 % len(FOR_GOOD)]
            _put_off(chance, script, command)
            script[command].append(answer)
            plan.refused[address] = (kind, reason)
            continue
        for command in FOR_NOW:
            _put_off(chance, script, command)
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            script["CONTENT"].append(ACCEPT_THEN_STALL if chance.random() < 0.1 else ACCEPT_THEN_CLOSE)
            plan.copies[address] += 1
        chance.shuffle(script["CONTENT"])
    return plan


def _put_off(chance: random.Random, script: Script, command: str) -> None:
    script[command] += chance.choices(FOR_NOW[command], k=chance.choice((0, 0, 1, 2)))


@dataclass
class Fate:
    """What a mail has been through."""

    error: NotSent | None = None
    """For good."""
    unknown: int = 0
    """How often nobody knew whether it was taken."""
    begun: int = 0
    """How often its content may have gone out."""


@dataclass
class Holding:
    """One of the places for mails in doubt, from the mail's content to the outcome."""

    places: asyncio.Semaphore
    begun: bool = False

    async def begin(self) -> None:
        if not self.begun:
            await self.places.acquire()
            self.begun = True

    def end(self) -> None:
        if self.begun:
            self.places.release()


def a_mail(address: str) -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", address, "24 departures"
    mail["Message-ID"] = f"<{address.partition('@')[0]}@towerwatch.example>"
    mail.set_content("KJFK had 24 departures.\n.\nThat is a line with a dot.\n")
    return mail


async def insist(server: SmtpClient, clock: ScaledClock, mail: EmailMessage, doubts: asyncio.Semaphore) -> Fate:
    """Send again and again, as the agents do, until it is taken or refused for good."""
    fate = Fate()
    began = clock.now()
    attempt = 0
    while True:
        attempt += 1
        holding = Holding(doubts)
        try:
            await server.send(mail, before_content=holding.begin)
            return fate
        except NotSent as error:
            failure = error
        finally:
            fate.begun += holding.begun
            holding.end()
        assert "@" not in str(failure)
        if failure.permanent:
            fate.error = failure
            return fate
        fate.unknown += isinstance(failure, LostAfterData)
        assert isinstance(failure, MailServerAway) is failure.concerns_all
        now, base = clock.now(), timedelta(seconds=2)
        again = next_try(now, min(attempt, 5), began, base, random.random(), failure.retry_at)
        assert again is not None, f"{mail['To']} was never taken: {failure}"
        await asyncio.sleep(clock.real_seconds(again - now))


PIPELINING: Final = ("PIPELINING", "SIZE 100000", "8BITMIME")


@pytest.mark.parametrize(("seed", "extensions"), [(1, PIPELINING), (2, ()), (3, PIPELINING)])
def test_every_mail_arrives_once_or_is_refused_for_its_own_reason(
    tmp_path: Path, seed: int, extensions: tuple[str, ...]
) -> None:
    """Copies come only from a connection that was lost after the mail's last line, and bear the same Message-ID.

    Nothing of the storm is left: no connection, no mail in nobody's hands.
    """
    context, trusted = server_context(tmp_path)
    fake = FakeSmtpServer(context, "starttls", ("towerwatch", "right"), extensions)
    addresses = [f"u{number}@example.net" for number in range(MAILS)]
    plan = planned(random.Random(seed), fake, addresses)
    to_be_said = {command: len(answers) for command, answers in fake.script.items()}
    clock = ScaledClock(datetime(2026, 11, 23, tzinfo=UTC), SPEED, datetime.now(UTC))

    async def storm(port: int) -> list[Fate]:
        server = SmtpClient(
            "127.0.0.1",
            port,
            "starttls",
            "towerwatch",
            "right",
            ca_file=trusted,
            connections=CONNECTIONS,
            mails_per_connection=7,
            clock=clock,
            breaker_policy=BreakerPolicy(longest_opening=timedelta(seconds=20)),
            timeouts=SmtpTimeouts(connect_s=2, command_s=2, content_s=5),
        )
        doubts = asyncio.Semaphore(IN_DOUBT)
        fates = await asyncio.gather(*(insist(server, clock, a_mail(address), doubts) for address in addresses))
        assert (server.mails_in_flight, server.connections <= CONNECTIONS) == (0, True)
        await server.close()
        return fates

    with fake.running():
        fates = asyncio.run(asyncio.wait_for(storm(fake.port), 150))
        eventually(lambda: fake.open == 0, "the end of all connections", 10)

    refused = {
        to: (type(fate.error), fate.error.reason) for to, fate in zip(addresses, fates, strict=True) if fate.error
    }
    assert refused == plan.refused
    taken = Counter(mail["To"] for mail in fake.mails)
    assert taken == Counter(address for address in addresses if address not in plan.refused) + plan.copies
    assert {to: fate.unknown for to, fate in zip(addresses, fates, strict=True) if fate.unknown} == plan.copies
    assert all(taken[to] <= fate.begun for to, fate in zip(addresses, fates, strict=True)), "said before it was taken"
    for mail in fake.mails:
        assert mail["Message-ID"] == f"<{mail['To'].partition('@')[0]}@towerwatch.example>"
        assert mail.get_content().splitlines()[1] == "."
    assert fake.most_open <= CONNECTIONS * 2, (
        "for each open one, at most one of which the server has yet to see the end"
    )
    assert all(not any(script.values()) for to, script in fake.script_for.items() if to not in plan.refused)
    for command, answers in to_be_said.items():
        assert len(fake.script[command]) < answers / 2, f"too little of the storm came in {command}"
