"""A real mail server, Postfix: what it says is understood, and what it takes arrives."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP

import pytest

from chassis.breaker import BreakerPolicy
from chassis.clock import SystemClock
from notifier.delivery.retries import compute_next_attempt_time
from notifier.errors import FailureReason, HardBounce, MailServerUnavailable, NotSent, PermanentlyRefused
from notifier.smtp import MailServer
from tests.fakes.postfix import SIZE_LIMIT, Postfix, running_postfix
from tests.ports import HOST
from tests.waiting import eventually

CLOCK = SystemClock()


@pytest.fixture(scope="module")
def shared() -> Iterator[Postfix]:
    with running_postfix() as server:
        yield server


@pytest.fixture
def postfix(shared: Postfix) -> Postfix:
    """With an empty mailbox."""
    shared.forget()
    return shared


def a_mail(number: int, to: str = "ada@example.net", text: str = "24 departures\n.\n") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", to, f"mail {number}"
    mail["Message-ID"] = f"<{number}@example.org>"
    mail.set_content(text)
    return mail


def server_of(postfix: Postfix, **settings: object) -> MailServer:
    return MailServer(HOST, postfix.port, "starttls", ca_file=postfix.ca_file, **settings)  # type: ignore[arg-type]


async def insist(server: MailServer, mail: EmailMessage) -> int:
    """Send until it is taken; how often that was in vain."""
    began, attempt = CLOCK.now(), 0
    while True:
        try:
            await server.send(mail)
            return attempt
        except NotSent as error:
            failure = error
        attempt += 1
        assert not failure.permanent, failure
        now = CLOCK.now()
        at = compute_next_attempt_time(
            now, min(attempt, 3), began, timedelta(seconds=0.1), random.random(), failure.retry_at
        )
        assert at is not None
        await asyncio.sleep(CLOCK.real_seconds(at - now))


def test_fifty_mails_arrive_once_each(postfix: Postfix) -> None:
    """Over four encrypted connections, several at a time."""

    async def sending() -> None:
        server = server_of(postfix, mails_per_connection=5)
        await asyncio.gather(*(server.send(a_mail(n, f"u{n}@example.net")) for n in range(50)))
        await server.close()

    asyncio.run(asyncio.wait_for(sending(), 60))
    eventually(lambda: len(postfix.mails()) >= 50, "all mails", 30)
    mails = postfix.mails()
    assert Counter(mail["Subject"] for mail in mails) == Counter(f"mail {n}" for n in range(50))
    assert all(mail["Delivered-To"] == mail["To"] for mail in mails)
    assert {mail.get_content() for mail in mails} == {"24 departures\n.\n"}
    assert all("TLSv1" in mail["Received"] for mail in mails), "encrypted"
    assert postfix.log().count("disconnect from") >= 10
    assert "lost connection after" not in postfix.log(), "it was always taken leave of"


def test_what_it_refuses_is_understood(postfix: Postfix) -> None:
    """An unknown recipient is a hard bounce; a mail that is too large, another domain and a bad sender are not."""

    async def sending() -> list[NotSent | None]:
        server = server_of(postfix, connections=1)
        outcomes: list[NotSent | None] = []
        for mail, sender in (
            (a_mail(1, "nobody@example.net"), None),
            (a_mail(2, text="x" * 70 + "\n" + "y\n" * SIZE_LIMIT), None),
            (a_mail(3, "ada@elsewhere.example"), None),
            (a_mail(4), "bounces+4=ada=example.net@example.org"),
        ):
            try:
                await server.send(mail, sender)
                outcomes.append(None)
            except NotSent as error:
                outcomes.append(error)
        await server.close()
        return outcomes

    unknown, large, elsewhere, taken = asyncio.run(asyncio.wait_for(sending(), 60))
    assert unknown is not None
    assert large is not None
    assert elsewhere is not None
    assert (type(unknown), unknown.reason, str(unknown)) == (
        HardBounce, FailureReason.MAILBOX_UNKNOWN, "the server refused the recipient: 550 5.1.1",
    )  # fmt: skip
    assert (type(large), large.reason) == (PermanentlyRefused, FailureReason.TOO_LARGE)
    assert (type(elsewhere), elsewhere.reason) == (PermanentlyRefused, FailureReason.POLICY)
    assert taken is None
    eventually(postfix.mails, "the mail", 30)
    [mail] = postfix.mails()
    assert (mail["Subject"], mail["Return-Path"]) == ("mail 4", "<bounces+4=ada=example.net@example.org>")


def test_an_address_in_another_alphabet(postfix: Postfix) -> None:
    """SMTPUTF8 (RFC 6531), end to end."""

    async def sending() -> None:
        server = server_of(postfix)
        await server.send(a_mail(1, "zoë@example.net"))
        await server.close()

    asyncio.run(asyncio.wait_for(sending(), 60))
    eventually(postfix.mails, "the mail", 30)
    [mail] = postfix.mails()
    assert "zoë@example.net" in mail.as_bytes().decode(errors="replace")
    assert "UTF8SMTP" in mail["Received"]


def test_a_certificate_that_the_machine_does_not_know(postfix: Postfix) -> None:
    """Is refused, with a real server too."""
    with pytest.raises(MailServerUnavailable) as refused:
        asyncio.run(MailServer(HOST, postfix.port, "starttls").send(a_mail(1)))
    assert refused.value.reason is FailureReason.TLS


def test_it_is_stopped_and_started_in_mid_run(postfix: Postfix) -> None:
    """Every mail arrives; twice only what was lost after its last line, which here at most each connection can be."""

    async def sending() -> int:
        patience = BreakerPolicy(first_opening=timedelta(seconds=0.2), longest_opening=timedelta(seconds=0.5))
        server = server_of(postfix, patience=patience)
        tasks = [asyncio.create_task(insist(server, a_mail(n, f"u{n}@example.net"))) for n in range(300)]
        while sum(task.done() for task in tasks) < 40:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(postfix.stop)
        assert sum(task.done() for task in tasks) < 300, "all had gone out before"
        await asyncio.to_thread(postfix.start)
        tries = await asyncio.gather(*tasks)
        await server.close()
        return max(tries)

    assert asyncio.run(asyncio.wait_for(sending(), 120)) > 0
    wanted = {f"<{n}@example.org>" for n in range(300)}
    eventually(lambda: {mail["Message-ID"] for mail in postfix.mails()} == wanted, "all mails", 60)
    assert len(postfix.mails()) <= 304
