"""The callback `before_content`: until it returns, the server cannot have accepted the mail."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest

from chassis.breaker import BreakerState
from notifier.errors import FailureReason, HardBounce, LostAfterData, MailServerUnavailable, NotSent, TemporarilyRefused
from notifier.smtp import SmtpClient, SmtpTimeouts
from tests.fakes.smtp_server import (
    ACCEPT_THEN_CLOSE,
    ACCEPT_THEN_STALL,
    HANG_UP,
    RESET,
    STALL,
    THEN_CLOSE,
    FakeSmtpServer,
)

SHORT_TIMEOUTS = SmtpTimeouts(connect_s=0.5, command_s=0.5, content_s=0.5)


@pytest.fixture(params=[(), ("PIPELINING", "SIZE 100000")], ids=["plain", "pipelining"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer(extensions=request.param).running() as server:
        yield server


def build_mail(number: int, to: str = "ada@example.net") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", to, f"mail {number}"
    mail.set_content("24 departures\n")
    return mail


def create_client(fake: FakeSmtpServer, connections: int = 4, timeouts: SmtpTimeouts | None = None) -> SmtpClient:
    return SmtpClient("127.0.0.1", fake.port, "plaintext", connections=connections, timeouts=timeouts)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 150))


async def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true; `run` has the deadline."""
    while not condition():
        await asyncio.sleep(0.002)


class BlockingCallback:
    """A `before_content` that counts its calls, and blocks until `released` is set."""

    def __init__(self) -> None:
        self.calls = 0
        self.released = asyncio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        await self.released.wait()


def subjects(fake: FakeSmtpServer) -> list[str]:
    return [mail["Subject"] for mail in fake.mails]


def test_a_mail_is_not_accepted_before_the_callback_returns(fake: FakeSmtpServer) -> None:
    """While one mail waits for its callback, another is sent over another connection; then the first is sent."""

    async def scenario() -> None:
        client, callback = create_client(fake), BlockingCallback()
        waiting = asyncio.create_task(client.send(build_mail(1), before_content=callback))
        await wait_until(lambda: callback.calls == 1)
        assert fake.commands == ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"]
        await client.send(build_mail(2))
        assert (subjects(fake), waiting.done()) == (["mail 2"], False)
        callback.released.set()
        await waiting
        assert (subjects(fake), callback.calls) == (["mail 2", "mail 1"], 1)
        await client.close()

    run(scenario())


@pytest.mark.parametrize(
    ("command", "answer"), [("RCPT", "550 5.1.1 no"), ("RCPT", HANG_UP), ("DATA", "451 later"), ("DATA", STALL)]
)
def test_a_refused_mail_never_calls_the_callback(fake: FakeSmtpServer, command: str, answer: str) -> None:
    """A mail that fails before its content is certainly not accepted: the caller need not record it as unconfirmed."""

    async def scenario() -> None:
        client, callback = create_client(fake, timeouts=SHORT_TIMEOUTS), BlockingCallback()
        with pytest.raises(NotSent):
            await client.send(build_mail(1), before_content=callback)
        assert callback.calls == 0
        await client.close()

    fake.script[command] = [answer]
    run(scenario())
    assert fake.mails == []


def test_a_mail_without_recipient_never_calls_the_callback() -> None:
    """A pipelining server may send 354 although it has refused the recipient: it gets an empty content."""

    async def scenario() -> None:
        client, callback = create_client(fake), BlockingCallback()
        with pytest.raises(HardBounce):
            await client.send(build_mail(1), before_content=callback)
        assert callback.calls == 0
        await client.close()

    with FakeSmtpServer(extensions=("PIPELINING",)).running() as fake:
        fake.script["RCPT"], fake.script["DATA"] = ["550 5.1.1 no"], ["354 go on"]
        run(scenario())
    assert fake.mails == []


def test_a_waiting_mail_occupies_its_connection(fake: FakeSmtpServer) -> None:
    """The next mail gets the same connection after the waiting mail was sent."""

    async def scenario() -> None:
        client, callback = create_client(fake, connections=1), BlockingCallback()
        waiting = [asyncio.create_task(client.send(build_mail(n), before_content=callback)) for n in (1, 2)]
        await wait_until(lambda: callback.calls == 1)
        assert (client.mails_in_flight, client.connections) == (1, 1)
        callback.released.set()
        await asyncio.gather(*waiting)
        assert callback.calls == 2
        await client.close()

    run(scenario())
    assert (subjects(fake), fake.connections) == (["mail 1", "mail 2"], 1)


def test_a_mail_cancelled_while_waiting_is_not_sent(fake: FakeSmtpServer) -> None:
    """The connection is closed, since the server waits for a mail on it; its place in the pool is free."""

    async def scenario() -> None:
        client, callback = create_client(fake, connections=1), BlockingCallback()
        waiting = asyncio.create_task(client.send(build_mail(1), before_content=callback))
        await wait_until(lambda: callback.calls == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (client.mails_in_flight, client.connections) == (0, 0)
        await client.send(build_mail(2))
        assert (client.mails_in_flight, client.connections) == (0, 1)
        await client.close()
        await wait_until(lambda: client.connections == 0)

    run(scenario())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


def test_an_error_of_the_callback_is_raised(fake: FakeSmtpServer) -> None:
    """The mail is not sent, and the error does not count as a failure of the server."""

    class Lost(Exception):
        pass

    async def give_up() -> None:
        raise Lost

    async def scenario() -> None:
        client = create_client(fake)
        for number in range(9):
            with pytest.raises(Lost):
                await client.send(build_mail(number), before_content=give_up)
        assert client.state is BreakerState.CLOSED
        await client.send(build_mail(9))
        await client.close()

    run(scenario())
    assert subjects(fake) == ["mail 9"]


@pytest.mark.parametrize(
    ("answer", "error_class", "reason"),
    [
        ("354 go on", TemporarilyRefused, FailureReason.LOST),
        ("354 go on\r\n421 4.4.2 too slow", MailServerUnavailable, FailureReason.BUSY),
        ("354 go on\r\n451 4.4.2 too slow", TemporarilyRefused, FailureReason.PUT_OFF),
        ("354 go on\r\nnonsense", TemporarilyRefused, FailureReason.LOST),
    ],
)
def test_a_server_that_stops_waiting_has_no_mail(
    fake: FakeSmtpServer, answer: str, error_class: type[NotSent], reason: FailureReason
) -> None:
    """The connection ended before any content was sent: the mail is certainly not accepted."""

    async def scenario() -> None:
        client, callback = create_client(fake), BlockingCallback()
        waiting = asyncio.create_task(client.send(build_mail(1), before_content=callback))
        await wait_until(lambda: callback.calls == 1)
        await wait_until(lambda: client.connections == 0)
        callback.released.set()
        with pytest.raises(error_class) as refused:
            await waiting
        assert (type(refused.value), refused.value.reason) == (error_class, reason)
        await client.send(build_mail(2))
        await client.close()

    fake.script["DATA"] = [answer + THEN_CLOSE]
    run(scenario())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


def test_a_connection_is_closed_after_a_late_refusal(fake: FakeSmtpServer) -> None:
    """After 354 and then 451 the server may read the next bytes as a command or as content: no byte is sent."""

    async def scenario() -> None:
        client, callback = create_client(fake, connections=1), BlockingCallback()
        callback.released.set()
        with pytest.raises(TemporarilyRefused) as refused:
            await client.send(build_mail(1), before_content=callback)
        assert (refused.value.reason, client.connections) == (FailureReason.PUT_OFF, 0)
        await client.send(build_mail(2))
        await client.close()

    fake.script["DATA"] = ["354 go on\r\n451 4.4.2 too slow"]
    run(scenario())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


@pytest.mark.parametrize("silence", [ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL])
def test_an_unconfirmed_mail_has_called_the_callback(fake: FakeSmtpServer, silence: str) -> None:
    """A server may have accepted a mail only after the callback has returned."""

    async def scenario() -> None:
        client, callback = create_client(fake, timeouts=SHORT_TIMEOUTS), BlockingCallback()
        callback.released.set()
        with pytest.raises(LostAfterData):
            await client.send(build_mail(1), before_content=callback)
        assert callback.calls == 1
        await client.close()

    fake.script["CONTENT"] = [silence]
    run(scenario())
    assert subjects(fake) == ["mail 1"]


@pytest.mark.parametrize("fault", [HANG_UP, RESET])
def test_a_mail_retried_on_another_connection_calls_the_callback_once(fake: FakeSmtpServer, fault: str) -> None:
    """The idle connection proved to be closed before the server was ready for content."""

    async def scenario() -> None:
        client, callback = create_client(fake), BlockingCallback()
        callback.released.set()
        for number in (1, 2):
            await client.send(build_mail(number), before_content=callback)
        assert callback.calls == 2
        await client.close()

    fake.script["MAIL"] = [None, fault]
    run(scenario())
    assert (subjects(fake), fake.connections) == (["mail 1", "mail 2"], 2)


def test_the_callback_can_limit_unconfirmed_mails(fake: FakeSmtpServer) -> None:
    """Eight connections become ready at the same time, but only one mail at a time is unconfirmed."""
    unconfirmed: list[int] = []
    most_ready = 0

    async def send_one(client: SmtpClient, bound: asyncio.Semaphore, number: int) -> None:
        nonlocal most_ready

        async def before_content() -> None:
            nonlocal most_ready
            most_ready = max(most_ready, client.mails_in_flight)
            await bound.acquire()
            unconfirmed.append(number)
            assert unconfirmed == [number]

        await client.send(build_mail(number), before_content=before_content)
        unconfirmed.remove(number)
        bound.release()

    async def scenario() -> None:
        client, bound = create_client(fake, connections=8), asyncio.Semaphore(1)
        await asyncio.gather(*(send_one(client, bound, number) for number in range(60)))
        await client.close()

    run(scenario())
    assert sorted(subjects(fake)) == sorted(f"mail {number}" for number in range(60))
    assert most_ready == 8
