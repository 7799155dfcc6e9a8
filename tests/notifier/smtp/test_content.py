"""The instant from which on a mail is in doubt: its caller's last word before the content goes out."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any

import pytest

from chassis.breaker import BreakerState
from notifier.errors import FailureReason, HardBounce, LostAfterData, MailServerUnavailable, NotSent, TemporarilyRefused
from notifier.smtp import MailServer, Timeouts
from tests.fakes.smtp_server import HANG_UP, RESET, STALL, TAKEN_THEN_GONE, TAKEN_THEN_STALL, THEN_GONE, FakeSmtpServer

IMPATIENT = Timeouts(connect_s=0.5, command_s=0.5, content_s=0.5)


@pytest.fixture(params=[(), ("PIPELINING", "SIZE 100000")], ids=["plain", "pipelining"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer(extensions=request.param).running() as server:
        yield server


def a_mail(number: int, to: str = "ada@example.net") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "alerts@example.org", to, f"mail {number}"
    mail.set_content("24 departures\n")
    return mail


def plain(fake: FakeSmtpServer, connections: int = 4, timeouts: Timeouts | None = None) -> MailServer:
    return MailServer("127.0.0.1", fake.port, "plaintext", connections=connections, timeouts=timeouts)


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 30))


async def until(condition: Callable[[], bool]) -> None:
    """As long as it takes; `run` has the deadline."""
    while not condition():
        await asyncio.sleep(0.002)


class LastWord:
    """A caller that holds its mail back until it is told to let it go."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_go = asyncio.Event()

    async def __call__(self) -> None:
        self.asked += 1
        await self.may_go.wait()


def subjects(fake: FakeSmtpServer) -> list[str]:
    return [mail["Subject"] for mail in fake.mails]


def test_a_mail_is_not_taken_before_its_caller_says_so(fake: FakeSmtpServer) -> None:
    """While one waits another goes out over another connection; the first goes as soon as it may."""

    async def scene() -> None:
        server, word = plain(fake), LastWord()
        waiting = asyncio.create_task(server.send(a_mail(1), before_content=word))
        await until(lambda: word.asked == 1)
        assert fake.commands == ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"]
        await server.send(a_mail(2))
        assert (subjects(fake), waiting.done()) == (["mail 2"], False)
        word.may_go.set()
        await waiting
        assert (subjects(fake), word.asked) == (["mail 2", "mail 1"], 1)
        await server.close()

    run(scene())


@pytest.mark.parametrize(
    ("command", "answer"), [("RCPT", "550 5.1.1 no"), ("RCPT", HANG_UP), ("DATA", "451 later"), ("DATA", STALL)]
)
def test_who_is_not_wanted_is_not_asked(fake: FakeSmtpServer, command: str, answer: str) -> None:
    """A mail that is refused before its content is never in doubt: nobody has to remember it."""

    async def scene() -> None:
        server, word = plain(fake, timeouts=IMPATIENT), LastWord()
        with pytest.raises(NotSent):
            await server.send(a_mail(1), before_content=word)
        assert word.asked == 0
        await server.close()

    fake.script[command] = [answer]
    run(scene())
    assert fake.mails == []


def test_a_mail_for_nobody_is_not_asked_for() -> None:
    """With PIPELINING a server may want the content although it has refused the recipient: it gets an empty one."""

    async def scene() -> None:
        server, word = plain(fake), LastWord()
        with pytest.raises(HardBounce):
            await server.send(a_mail(1), before_content=word)
        assert word.asked == 0
        await server.close()

    with FakeSmtpServer(extensions=("PIPELINING",)).running() as fake:
        fake.script["RCPT"], fake.script["DATA"] = ["550 5.1.1 no"], ["354 go on"]
        run(scene())
    assert fake.mails == []


def test_who_waits_keeps_the_place_in_the_pool(fake: FakeSmtpServer) -> None:
    """The next mail gets the same connection, when it is free."""

    async def scene() -> None:
        server, word = plain(fake, connections=1), LastWord()
        waiting = [asyncio.create_task(server.send(a_mail(n), before_content=word)) for n in (1, 2)]
        await until(lambda: word.asked == 1)
        assert (server.mails_under_way, server.connections) == (1, 1)
        word.may_go.set()
        await asyncio.gather(*waiting)
        assert word.asked == 2
        await server.close()

    run(scene())
    assert (subjects(fake), fake.connections) == (["mail 1", "mail 2"], 1)


def test_who_is_cancelled_while_waiting_was_not_mailed(fake: FakeSmtpServer) -> None:
    """The connection is closed, for the server waits for a mail on it; the place is free."""

    async def scene() -> None:
        server, word = plain(fake, connections=1), LastWord()
        waiting = asyncio.create_task(server.send(a_mail(1), before_content=word))
        await until(lambda: word.asked == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (server.mails_under_way, server.connections) == (0, 0)
        await server.send(a_mail(2))
        assert (server.mails_under_way, server.connections) == (0, 1)
        await server.close()
        await until(lambda: server.connections == 0)

    run(scene())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


def test_an_error_of_the_caller_comes_out(fake: FakeSmtpServer) -> None:
    """The mail was not sent, and the server is not to blame."""

    class Lost(Exception):
        pass

    async def give_up() -> None:
        raise Lost

    async def scene() -> None:
        server = plain(fake)
        for number in range(9):
            with pytest.raises(Lost):
                await server.send(a_mail(number), before_content=give_up)
        assert server.state is BreakerState.CLOSED
        await server.send(a_mail(9))
        await server.close()

    run(scene())
    assert subjects(fake) == ["mail 9"]


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        ("354 go on", TemporarilyRefused, FailureReason.LOST),
        ("354 go on\r\n421 4.4.2 too slow", MailServerUnavailable, FailureReason.BUSY),
        ("354 go on\r\n451 4.4.2 too slow", TemporarilyRefused, FailureReason.PUT_OFF),
        ("354 go on\r\nnonsense", TemporarilyRefused, FailureReason.LOST),
    ],
)
def test_a_server_that_does_not_wait_has_no_mail(
    fake: FakeSmtpServer, answer: str, kind: type[NotSent], reason: FailureReason
) -> None:
    """It was gone before anything was written: the mail is not in doubt."""

    async def scene() -> None:
        server, word = plain(fake), LastWord()
        waiting = asyncio.create_task(server.send(a_mail(1), before_content=word))
        await until(lambda: word.asked == 1)
        await until(lambda: server.connections == 0)
        word.may_go.set()
        with pytest.raises(kind) as refused:
            await waiting
        assert (type(refused.value), refused.value.reason) == (kind, reason)
        await server.send(a_mail(2))
        await server.close()

    fake.script["DATA"] = [answer + THEN_GONE]
    run(scene())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


def test_a_server_that_changes_its_mind_is_not_spoken_to_again(fake: FakeSmtpServer) -> None:
    """Nobody knows whether it takes what we say next for a command or for the mail."""

    async def scene() -> None:
        server, word = plain(fake, connections=1), LastWord()
        word.may_go.set()
        with pytest.raises(TemporarilyRefused) as refused:
            await server.send(a_mail(1), before_content=word)
        assert (refused.value.reason, server.connections) == (FailureReason.PUT_OFF, 0)
        await server.send(a_mail(2))
        await server.close()

    fake.script["DATA"] = ["354 go on\r\n451 4.4.2 too slow"]
    run(scene())
    assert (subjects(fake), fake.connections) == (["mail 2"], 2)


@pytest.mark.parametrize("silence", [TAKEN_THEN_GONE, TAKEN_THEN_STALL])
def test_a_mail_in_doubt_had_its_callers_word(fake: FakeSmtpServer, silence: str) -> None:
    """Whatever the server may have taken, it was asked for before."""

    async def scene() -> None:
        server, word = plain(fake, timeouts=IMPATIENT), LastWord()
        word.may_go.set()
        with pytest.raises(LostAfterData):
            await server.send(a_mail(1), before_content=word)
        assert word.asked == 1
        await server.close()

    fake.script["CONTENT"] = [silence]
    run(scene())
    assert subjects(fake) == ["mail 1"]


@pytest.mark.parametrize("rudely", [HANG_UP, RESET])
def test_a_mail_that_goes_over_another_connection_is_asked_for_there(fake: FakeSmtpServer, rudely: str) -> None:
    """The kept-open one turned out dead before it was ready for any content."""

    async def scene() -> None:
        server, word = plain(fake), LastWord()
        word.may_go.set()
        for number in (1, 2):
            await server.send(a_mail(number), before_content=word)
        assert word.asked == 2
        await server.close()

    fake.script["MAIL"] = [None, rudely]
    run(scene())
    assert (subjects(fake), fake.connections) == (["mail 1", "mail 2"], 2)


def test_no_more_mails_are_in_doubt_than_allowed(fake: FakeSmtpServer) -> None:
    """Eight connections get ready side by side; one mail at a time may have been taken without our knowing."""
    in_doubt: list[int] = []
    most_ready = 0

    async def one(server: MailServer, bound: asyncio.Semaphore, number: int) -> None:
        nonlocal most_ready

        async def before_content() -> None:
            nonlocal most_ready
            most_ready = max(most_ready, server.mails_under_way)
            await bound.acquire()
            in_doubt.append(number)
            assert in_doubt == [number]

        await server.send(a_mail(number), before_content=before_content)
        in_doubt.remove(number)
        bound.release()

    async def scene() -> None:
        server, bound = plain(fake, connections=8), asyncio.Semaphore(1)
        await asyncio.gather(*(one(server, bound, number) for number in range(60)))
        await server.close()

    run(scene())
    assert sorted(subjects(fake)) == sorted(f"mail {number}" for number in range(60))
    assert most_ready == 8
