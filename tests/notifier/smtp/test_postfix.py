"""The SMTP client against a real mail server, Postfix: replies are classified right, and accepted mails arrive."""

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
from notifier.errors import FailureReason, HardBounce, MailServerUnavailable, NotSent, SendingSideRefused
from notifier.smtp import SmtpClient
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
    """The shared Postfix, with an empty mailbox."""
    shared.empty_mailbox()
    return shared


def build_mail(number: int, to: str = "ada@example.net", text: str = "24 departures\n.\n") -> EmailMessage:
    """Return a mail with this number in its subject and Message-ID."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", to, f"mail {number}"
    mail["Message-ID"] = f"<{number}@example.org>"
    mail.set_content(text)
    return mail


def create_client(postfix: Postfix, **settings: object) -> SmtpClient:
    return SmtpClient(HOST, postfix.port, "starttls", ca_file=postfix.ca_file, **settings)  # type: ignore[arg-type]


async def send_until_accepted(client: SmtpClient, mail: EmailMessage) -> int:
    """Send a mail until it is accepted; return how many attempts failed."""
    began, attempt = CLOCK.now(), 0
    while True:
        try:
            await client.send(mail)
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
    """Mails over four encrypted connections, several at a time, arrive without loss and duplicates."""

    async def sending() -> None:
        client = create_client(postfix, mails_per_connection=5)
        await asyncio.gather(*(client.send(build_mail(n, f"u{n}@example.net")) for n in range(50)))
        await client.close()

    asyncio.run(asyncio.wait_for(sending(), 150))
    eventually(lambda: len(postfix.mails()) >= 50, "all mails", 30)
    mails = postfix.mails()
    assert Counter(mail["Subject"] for mail in mails) == Counter(f"mail {n}" for n in range(50))
    assert all(mail["Delivered-To"] == mail["To"] for mail in mails)
    assert {mail.get_content() for mail in mails} == {"24 departures\n.\n"}
    assert all("TLSv1" in mail["Received"] for mail in mails), "encrypted"
    assert postfix.log().count("disconnect from") >= 10
    assert "lost connection after" not in postfix.log(), "each connection ended with QUIT"


def test_refusals_are_classified(postfix: Postfix) -> None:
    """An unknown recipient is a hard bounce; a mail too large and a denied relay wait; VERP senders are accepted."""

    async def sending() -> list[NotSent | None]:
        client = create_client(postfix, connections=1)
        outcomes: list[NotSent | None] = []
        for mail, sender in (
            (build_mail(1, "nobody@example.net"), None),
            (build_mail(2, text="x" * 70 + "\n" + "y\n" * SIZE_LIMIT), None),
            (build_mail(3, "ada@elsewhere.example"), None),
            (build_mail(4), "bounces+4=ada=example.net@example.org"),
        ):
            try:
                await client.send(mail, sender)
                outcomes.append(None)
            except NotSent as error:
                outcomes.append(error)
        await client.close()
        return outcomes

    unknown, large, elsewhere, taken = asyncio.run(asyncio.wait_for(sending(), 150))
    assert unknown is not None
    assert large is not None
    assert elsewhere is not None
    assert (type(unknown), unknown.reason, str(unknown)) == (
        HardBounce, FailureReason.MAILBOX_UNKNOWN, "the server refused the recipient: 550 5.1.1",
    )  # fmt: skip
    assert (type(large), large.reason) == (SendingSideRefused, FailureReason.TOO_LARGE)
    assert (type(elsewhere), elsewhere.reason) == (SendingSideRefused, FailureReason.RELAY)
    assert taken is None
    eventually(postfix.mails, "the mail", 30)
    [mail] = postfix.mails()
    assert (mail["Subject"], mail["Return-Path"]) == ("mail 4", "<bounces+4=ada=example.net@example.org>")


def test_a_non_ascii_address_gets_its_mail(postfix: Postfix) -> None:
    """SMTPUTF8 (RFC 6531) works end to end."""

    async def sending() -> None:
        client = create_client(postfix)
        await client.send(build_mail(1, "zoë@example.net"))
        await client.close()

    asyncio.run(asyncio.wait_for(sending(), 150))
    eventually(postfix.mails, "the mail", 30)
    [mail] = postfix.mails()
    assert "zoë@example.net" in mail.as_bytes().decode(errors="replace")
    assert "UTF8SMTP" in mail["Received"]


def test_an_untrusted_certificate_is_refused(postfix: Postfix) -> None:
    """The client refuses a real server's certificate, too, if the machine does not trust it."""
    with pytest.raises(MailServerUnavailable) as refused:
        asyncio.run(SmtpClient(HOST, postfix.port, "starttls").send(build_mail(1)))
    assert refused.value.reason is FailureReason.TLS


def test_no_mail_is_lost_when_the_server_restarts(postfix: Postfix) -> None:
    """Every mail arrives; only a mail without a reply to its content may arrive twice: at most one per connection."""

    async def sending() -> int:
        breaker_policy = BreakerPolicy(first_opening=timedelta(seconds=0.2), longest_opening=timedelta(seconds=0.5))
        client = create_client(postfix, breaker_policy=breaker_policy)
        mails = [build_mail(n, f"u{n}@example.net") for n in range(300)]
        tasks = [asyncio.create_task(send_until_accepted(client, mail)) for mail in mails]
        while sum(task.done() for task in tasks) < 40:
            await asyncio.sleep(0.005)
        await asyncio.to_thread(postfix.stop)
        assert sum(task.done() for task in tasks) < 300, "all mails were sent before the stop"
        await asyncio.to_thread(postfix.start)
        tries = await asyncio.gather(*tasks)
        await client.close()
        return max(tries)

    assert asyncio.run(asyncio.wait_for(sending(), 120)) > 0
    wanted = {f"<{n}@example.org>" for n in range(300)}
    eventually(lambda: {mail["Message-ID"] for mail in postfix.mails()} == wanted, "all mails", 60)
    assert len(postfix.mails()) <= 304


def test_the_server_starts_with_a_leftover_of_a_killed_delivery(postfix: Postfix) -> None:
    """A stop in the middle of a mail leaves a file in the queue, which Postfix reports when it starts again."""
    postfix.stop()
    postfix.leave_partial_mail()
    postfix.start()
    assert "bogus file name" in postfix.log()
