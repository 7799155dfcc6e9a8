"""The SMTP client and the retries against a mail server that fails in every way and phase, by a seeded plan."""

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
from notifier.delivery.retries import compute_next_attempt_time
from notifier.errors import FailureReason, HardBounce, LostAfterData, MailServerUnavailable, NotSent, PermanentlyRefused
from notifier.smtp import SmtpClient, SmtpTimeouts
from tests.fakes.smtp_server import ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL, HANG_UP, RESET, STALL, FakeSmtpServer, Script
from tests.fakes.tls import server_context
from tests.waiting import eventually

MAILS: Final = 150
CONNECTIONS: Final = 6
MAX_IN_FLIGHT: Final = 3
"""The maximal number of unconfirmed mails."""
SPEED: Final = 100.0
"""How many times faster than real time pauses pass."""

FAULTS_BEFORE_A_MAIL: Final = {
    "CONNECT": (HANG_UP, RESET, "421 4.3.2 busy", "554 5.7.1 not you", "nonsense"),
    "EHLO": (HANG_UP, RESET, "421 4.3.2 busy", "550 5.7.1 not you"),
    "STARTTLS": (HANG_UP, RESET, "454 4.7.0 not now"),
    "HANDSHAKE": (HANG_UP, RESET),
    "AUTH": (HANG_UP, RESET, "421 4.3.2 busy", "454 4.7.0 not now", "535 5.7.8 wrong"),
    "MAIL": (HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452 4.3.1 full", "550 5.7.1 not you"),
}
STALLED: Final = ("CONNECT", "EHLO", "HANDSHAKE", "AUTH", "MAIL", "RCPT", "DATA")
"""The commands that get no answer once."""
SENDING_SIDE_REFUSALS: Final = (
    "550 relay not permitted",
    "550-5.7.1 read this\r\n550 5.7.1 policy",
    "554",
    "554 5.7.1 Relay access denied",
    "550 5.4.5 daily sending quota exceeded",
    "550 5.1.1 sender rejected",
    "554 5.7.1 <u1@example.net>: Relay access denied",
    "550 5.7.26 unauthenticated sender, see our policy",
    "550 5.7.0 local policy violation",
    "550 sender verify failed",
)
"""Replies that blame us or nobody: they hold against no address."""
TEMPORARY_FAULTS: Final = {
    "RCPT": (
        HANG_UP, RESET, "421 4.7.0 slow down", "450 4.2.1 busy", "450", "451 4.7.0 grey", "452 4.2.2 full",
        "450 4.7.1 Greylisted, see https://example.org/", "451 Greylisted, please try again in 300 seconds",
        "450-4.7.1 wait\r\n450 4.7.1 and come again", "452 4.5.3 too many recipients",
        *SENDING_SIDE_REFUSALS, "550", "551 user not local", "553", "552 quota exceeded", "454 4.7.1 no relay for now",
    ),
    "DATA": (
        HANG_UP, RESET, "421 4.3.2 busy", "451 4.3.0 later", "452", "451 4.7.1 grey", *SENDING_SIDE_REFUSALS, "552",
    ),
    "CONTENT": (
        "421 4.3.2 busy", "450 4.2.0 later", "451 4.7.0 grey", "452 4.3.1 full", "535 5.7.8 log in",
        *SENDING_SIDE_REFUSALS, "552 5.3.4 big", "554 5.6.0 bad", "550 5.1.8 bad outbound sender",
    ),
}  # fmt: skip
PERMANENT_FAULTS: Final = (
    ("RCPT", "550 5.1.1 unknown", HardBounce, FailureReason.MAILBOX_UNKNOWN),
    ("RCPT", "553 no such mailbox (#5.1.1)", HardBounce, FailureReason.MAILBOX_UNKNOWN),
    ("RCPT", "550 5.2.1 disabled", HardBounce, FailureReason.MAILBOX_UNKNOWN),
    ("RCPT", "552 5.2.2 full", PermanentlyRefused, FailureReason.MAILBOX_FULL),
    ("DATA", "552 5.2.2 full", PermanentlyRefused, FailureReason.MAILBOX_FULL),
    ("DATA", "555 5.5.4 parameters", PermanentlyRefused, FailureReason.PROTOCOL),
    ("CONTENT", "552 5.2.3 big", PermanentlyRefused, FailureReason.TOO_LARGE),
    ("CONTENT", "550 5.1.1 unknown", PermanentlyRefused, FailureReason.MAILBOX_UNKNOWN),
)


@dataclass
class ExpectedResults:
    """The expected results of the server's script, by address."""

    refused: dict[str, tuple[type[NotSent], FailureReason]] = field(default_factory=dict)
    """The permanent rejections; all other mails arrive."""
    copies: Counter[str] = field(default_factory=Counter)
    """How often the server accepts a mail without its reply arriving."""


def write_script(chance: random.Random, fake: FakeSmtpServer, addresses: list[str]) -> ExpectedResults:
    """Write the server's script of faults; return the expected results."""
    expected = ExpectedResults()
    for command, answers in FAULTS_BEFORE_A_MAIL.items():
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
            command, answer, kind, reason = PERMANENT_FAULTS[number // 4 % len(PERMANENT_FAULTS)]
            _add_temporary_failures(chance, script, command)
            script[command].append(answer)
            expected.refused[address] = (kind, reason)
            continue
        for command in TEMPORARY_FAULTS:
            _add_temporary_failures(chance, script, command)
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            script["CONTENT"].append(ACCEPT_THEN_STALL if chance.random() < 0.1 else ACCEPT_THEN_CLOSE)
            expected.copies[address] += 1
        chance.shuffle(script["CONTENT"])
    return expected


def _add_temporary_failures(chance: random.Random, script: Script, command: str) -> None:
    """Add up to two temporary failures to the script of a command."""
    script[command] += chance.choices(TEMPORARY_FAULTS[command], k=chance.choice((0, 0, 1, 2)))


@dataclass
class MailResult:
    """The result of one mail after all attempts."""

    error: NotSent | None = None
    """The permanent rejection; None: the mail was accepted."""
    unknown: int = 0
    """The number of attempts after which the server may have accepted the mail."""
    content_sent: int = 0
    """The number of attempts in which the content may have been sent."""


@dataclass
class Slot:
    """A slot of the in-flight limit, held from the mail's content to the outcome."""

    semaphore: asyncio.Semaphore
    is_acquired: bool = False

    async def acquire(self) -> None:
        if not self.is_acquired:
            await self.semaphore.acquire()
            self.is_acquired = True

    def release(self) -> None:
        if self.is_acquired:
            self.semaphore.release()


def build_mail(address: str) -> EmailMessage:
    """Return a mail with a line that contains only a dot."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", address, "24 departures"
    mail["Message-ID"] = f"<{address.partition('@')[0]}@towerwatch.example>"
    mail.set_content("KJFK had 24 departures.\n.\nThat is a line with a dot.\n")
    return mail


async def send_until_final(
    server: SmtpClient, clock: ScaledClock, mail: EmailMessage, semaphore: asyncio.Semaphore
) -> MailResult:
    """Send a mail again and again, like the notifier does, until it is accepted or permanently rejected."""
    result = MailResult()
    began = clock.now()
    attempt = 0
    while True:
        attempt += 1
        slot = Slot(semaphore)
        try:
            await server.send(mail, before_content=slot.acquire)
            return result
        except NotSent as error:
            failure = error
        finally:
            result.content_sent += slot.is_acquired
            slot.release()
        assert "@" not in str(failure)
        if failure.permanent:
            result.error = failure
            return result
        result.unknown += isinstance(failure, LostAfterData)
        assert isinstance(failure, MailServerUnavailable) is failure.affects_all_mails
        now, base = clock.now(), timedelta(seconds=2)
        again = compute_next_attempt_time(now, min(attempt, 5), began, base, random.random(), failure.retry_at)
        assert again is not None, f"{mail['To']} was never taken: {failure}"
        await asyncio.sleep(clock.real_seconds(again - now))


PIPELINING: Final = ("PIPELINING", "SIZE 100000", "8BITMIME")


@pytest.mark.parametrize(("seed", "extensions"), [(1, PIPELINING), (2, ()), (3, PIPELINING)])
def test_every_mail_arrives_once_or_is_rejected_for_its_own_reason(
    tmp_path: Path, seed: int, extensions: tuple[str, ...]
) -> None:
    """Duplicates come only from connections lost after a mail's last line, and have the same Message-ID.

    After the storm no connection is open and no mail is in progress.
    """
    context, trusted = server_context(tmp_path)
    fake = FakeSmtpServer(context, "starttls", ("towerwatch", "right"), extensions)
    addresses = [f"u{number}@example.net" for number in range(MAILS)]
    expected = write_script(random.Random(seed), fake, addresses)
    script_lengths = {command: len(answers) for command, answers in fake.script.items()}
    clock = ScaledClock(datetime(2026, 11, 23, tzinfo=UTC), SPEED, datetime.now(UTC))

    async def storm(port: int) -> list[MailResult]:
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
        semaphore = asyncio.Semaphore(MAX_IN_FLIGHT)
        results = await asyncio.gather(
            *(send_until_final(server, clock, build_mail(address), semaphore) for address in addresses)
        )
        assert (server.mails_in_flight, server.connections <= CONNECTIONS) == (0, True)
        await server.close()
        return results

    with fake.running():
        results = asyncio.run(asyncio.wait_for(storm(fake.port), 150))
        eventually(lambda: fake.open == 0, "the end of all connections", 10)

    refused = {
        to: (type(result.error), result.error.reason)
        for to, result in zip(addresses, results, strict=True)
        if result.error
    }
    assert refused == expected.refused
    taken = Counter(mail["To"] for mail in fake.mails)
    assert taken == Counter(address for address in addresses if address not in expected.refused) + expected.copies
    assert {
        to: result.unknown for to, result in zip(addresses, results, strict=True) if result.unknown
    } == expected.copies
    assert all(taken[to] <= result.content_sent for to, result in zip(addresses, results, strict=True)), (
        "said before it was taken"
    )
    for mail in fake.mails:
        assert mail["Message-ID"] == f"<{mail['To'].partition('@')[0]}@towerwatch.example>"
        assert mail.get_content().splitlines()[1] == "."
    assert fake.most_open <= CONNECTIONS * 2, (
        "for each open one, at most one of which the server has yet to see the end"
    )
    assert all(not any(script.values()) for to, script in fake.script_for.items() if to not in expected.refused)
    for command, answers in script_lengths.items():
        assert len(fake.script[command]) < answers / 2, f"too little of the storm came in {command}"
