"""The mail server, spoken to over real sockets: what goes over them, and what becomes of each mail."""

import asyncio
import socket
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from structlog.testing import capture_logs

from chassis.breaker import BreakerState
from notifier.errors import (
    FailureReason,
    HardBounce,
    LostAfterData,
    MailServerUnavailable,
    NotSent,
    PermanentlyRefused,
    TemporarilyRefused,
)
from notifier.smtp import MailServer, Timeouts
from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import HANG_UP, RESET, STALL, TAKEN_THEN_GONE, TAKEN_THEN_STALL, FakeSmtpServer

IMPATIENT = Timeouts(connect_s=0.5, command_s=0.5, content_s=0.5)
EXTENSIONS = ("PIPELINING", "SIZE 100000", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")


@pytest.fixture(params=[(), EXTENSIONS], ids=["plain", "pipelining"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer(extensions=request.param).running() as server:
        yield server


def a_mail(number: int = 1, to: str = "ada@example.net", text: str = "24 departures\n") -> EmailMessage:
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Towerwatch <alerts@example.org>"
    mail["To"] = to
    mail["Subject"] = f"mail {number}"
    mail["Message-ID"] = f"<{number}@example.org>"
    mail.set_content(text, cte="7bit" if text.isascii() else "8bit")
    return mail


async def outcome_of(server: MailServer, mail: EmailMessage) -> NotSent | None:
    try:
        await server.send(mail)
    except NotSent as error:
        return error
    return None


def sent_in_turn(server: MailServer, times: int = 1) -> list[NotSent | None]:
    """What became of so many mails, sent one after another."""

    async def sending() -> list[NotSent | None]:
        outcomes = [await outcome_of(server, a_mail(number)) for number in range(times)]
        await server.close()
        return outcomes

    return asyncio.run(asyncio.wait_for(sending(), 30))


def plain(fake: FakeSmtpServer, **settings: object) -> MailServer:
    return MailServer("127.0.0.1", fake.port, "plaintext", **({"timeouts": IMPATIENT} | settings))  # type: ignore[arg-type]


def test_mails_share_a_connection(fake: FakeSmtpServer) -> None:
    """A connection costs several round trips (and a TLS handshake); it is made once, and no mail asks if it stands."""
    assert sent_in_turn(plain(fake), 3) == [None] * 3
    assert fake.connections == 1
    assert fake.commands == ["CONNECT", "EHLO", *["MAIL", "RCPT", "DATA", "CONTENT"] * 3, "QUIT"]
    assert [mail["Subject"] for mail in fake.mails] == ["mail 0", "mail 1", "mail 2"]


def test_what_can_go_together_does() -> None:
    """With PIPELINING, MAIL, RCPT and DATA are one round trip (RFC 2920); without it each waits for its reply."""
    for extensions, most in ((EXTENSIONS, 3), ((), 1)):
        with FakeSmtpServer(extensions=extensions).running() as fake:
            assert sent_in_turn(plain(fake)) == [None]
        begins = fake.together[1:] if extensions else fake.together[1:4]  # after EHLO, before the mail
        assert begins[0] == most


def test_a_connection_says_good_bye_after_so_many_mails(fake: FakeSmtpServer) -> None:
    """Servers have a limit of their own, at which they are less polite."""
    assert sent_in_turn(plain(fake, mails_per_connection=2), 5) == [None] * 5
    assert fake.connections == 3
    assert fake.commands.count("QUIT") == 3


def test_many_mails_are_under_way_at_once_and_no_more_connections_than_allowed(fake: FakeSmtpServer) -> None:
    """Each of a hundred callers gets their own answer."""

    async def sending() -> list[NotSent | None]:
        server = plain(fake, connections=3, timeouts=Timeouts())
        outcomes = await asyncio.gather(*(outcome_of(server, a_mail(n, f"u{n}@example.net")) for n in range(100)))
        await server.close()
        return outcomes

    fake.to["u7@example.net"] = ["550 5.1.1 no"]
    outcomes = asyncio.run(asyncio.wait_for(sending(), 60))
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert sorted(mail["Subject"] for mail in fake.mails) == sorted(f"mail {n}" for n in range(100) if n != 7)
    assert fake.most_open == fake.connections == 3


@pytest.mark.parametrize(
    ("command", "answer", "kind", "reason"),
    [
        ("RCPT", "450 4.2.1 ada@example.net is busy", TemporarilyRefused, FailureReason.MAILBOX_BUSY),
        ("RCPT", "550 5.1.1 ada@example.net unknown", HardBounce, FailureReason.MAILBOX_UNKNOWN),
        ("RCPT", "550-5.7.1 ada@example.net\r\n550 5.7.1 is spam", PermanentlyRefused, FailureReason.POLICY),
        ("RCPT", "530 5.7.0 authentication required", MailServerUnavailable, FailureReason.AUTHENTICATION),
        ("RCPT", "421 4.3.2 ada@example.net later", MailServerUnavailable, FailureReason.BUSY),
        ("RCPT", HANG_UP, TemporarilyRefused, FailureReason.LOST),
        ("MAIL", "451 later", MailServerUnavailable, FailureReason.BUSY),
        ("MAIL", "550 5.7.1 not from you", MailServerUnavailable, FailureReason.SENDER),
        ("MAIL", "552 5.3.4 ada@example.net: too big", PermanentlyRefused, FailureReason.TOO_LARGE),
        ("MAIL", HANG_UP, TemporarilyRefused, FailureReason.LOST),
        ("MAIL", STALL, TemporarilyRefused, FailureReason.LOST),
        ("DATA", "451 later", TemporarilyRefused, FailureReason.PUT_OFF),
        ("DATA", "554 no", PermanentlyRefused, FailureReason.REFUSED),
        ("DATA", RESET, TemporarilyRefused, FailureReason.LOST),
        ("CONTENT", "452 disk full", TemporarilyRefused, FailureReason.STORAGE),
        ("CONTENT", "554 5.6.0 no such mail please", PermanentlyRefused, FailureReason.CONTENT),
        ("CONTENT", HANG_UP, LostAfterData, FailureReason.LOST_AFTER_DATA),
        ("CONTENT", "nonsense", LostAfterData, FailureReason.LOST_AFTER_DATA),
        ("CONNECT", "554 go away", MailServerUnavailable, FailureReason.NOT_WELCOME),
        ("CONNECT", "421 busy", MailServerUnavailable, FailureReason.BUSY),
        ("CONNECT", HANG_UP, MailServerUnavailable, FailureReason.UNREACHABLE),
        ("CONNECT", STALL, MailServerUnavailable, FailureReason.UNREACHABLE),
        ("EHLO", RESET, MailServerUnavailable, FailureReason.UNREACHABLE),
        ("EHLO", STALL, MailServerUnavailable, FailureReason.UNREACHABLE),
        ("EHLO", "550 not to you", MailServerUnavailable, FailureReason.NOT_WELCOME),
    ],
)
def test_a_refusal_is_what_it_is_and_ends_with_its_mail(
    fake: FakeSmtpServer, command: str, answer: str, kind: type[NotSent], reason: FailureReason
) -> None:
    """Its class and its reason are right, the next mail goes out, and no reply's words get out."""
    fake.script[command] = [answer]
    refused, accepted = sent_in_turn(plain(fake), 2)
    assert refused is not None
    assert (type(refused), refused.reason) == (kind, reason)
    assert "ada" not in str(refused)
    assert accepted is None
    assert [mail["Subject"] for mail in fake.mails] == ["mail 1"]


def test_a_refused_mail_does_not_cost_its_connection(fake: FakeSmtpServer) -> None:
    """What the server remembers of it is forgotten before the next, whose recipient alone gets it."""
    fake.to["ada@example.net"] = ["450 4.2.1 busy", "550 5.1.1 no"]
    fake.of["ada@example.net"]["DATA"] = ["451 later"]
    fake.of["ada@example.net"]["CONTENT"] = ["554 5.6.0 no"]
    outcomes = sent_in_turn(plain(fake), 5)
    assert [outcome is None for outcome in outcomes] == [False, False, False, False, True]
    assert fake.connections == 1
    assert len(fake.mails) == 1


def test_a_server_that_wants_a_mail_for_nobody_gets_none(fake: FakeSmtpServer) -> None:
    """Pipelined, DATA may be taken although RCPT was not (RFC 2920, 3.1): the mail must not be said then."""
    fake.to["ada@example.net"] = ["550 5.1.1 no"]
    fake.script["DATA"] = ["354 go on"] if "PIPELINING" in fake.greeted(False) else []
    refused, accepted = sent_in_turn(plain(fake), 2)
    assert (type(refused), accepted) == (HardBounce, None)
    assert fake.connections == 1
    assert len(fake.mails) == 1


def test_a_reply_never_belongs_to_another_mail(fake: FakeSmtpServer) -> None:
    """After an answer that came too late the connection is gone, so that nobody takes it for theirs."""
    fake.script["RCPT"] = [STALL]
    refused, accepted = sent_in_turn(plain(fake), 2)
    assert refused is not None
    assert (refused.reason, accepted) == (FailureReason.LOST, None)
    assert fake.connections == 2


def test_a_connection_that_the_server_closed_costs_no_mail(fake: FakeSmtpServer) -> None:
    """Servers close idle connections, with a word or without; what they have not heard goes over another."""
    fake.script["MAIL"] = [None, HANG_UP, None, "421 4.4.2 idle for too long", None, RESET]
    assert sent_in_turn(plain(fake), 4) == [None] * 4
    assert fake.connections == 4
    assert [mail["Subject"] for mail in fake.mails] == [f"mail {n}" for n in range(4)]


def test_who_was_idle_for_long_is_asked_whether_they_stand(fake: FakeSmtpServer) -> None:
    """A mail must not find out in its middle; a NOOP for each mail would be a round trip too many."""
    clock = FakeClock()

    async def sending() -> None:
        server = plain(fake, clock=clock)
        for number, idle in enumerate((1, 31, 31, 1)):
            clock.advance(timedelta(seconds=idle))
            await server.send(a_mail(number))
        await server.close()

    fake.script["NOOP"] = [None, STALL]
    asyncio.run(asyncio.wait_for(sending(), 30))
    assert fake.commands.count("NOOP") == 2
    assert fake.connections == 2
    assert len(fake.mails) == 4


def test_who_is_interrupted_while_they_ask_leaves_no_connection_open(fake: FakeSmtpServer) -> None:
    """Nobody else knows of it: it would stay open for as long as the server likes."""
    clock = FakeClock()

    async def sending() -> None:
        server = plain(fake, clock=clock, timeouts=Timeouts())
        await server.send(a_mail(1))
        clock.advance(timedelta(seconds=31))
        second = asyncio.create_task(server.send(a_mail(2)))
        while "NOOP" not in fake.commands:
            await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert server.connections == 0
        await server.close()

    fake.script["NOOP"] = [STALL]
    asyncio.run(asyncio.wait_for(sending(), 30))


@pytest.mark.parametrize("silence", [TAKEN_THEN_GONE, TAKEN_THEN_STALL])
def test_what_may_have_been_taken_is_sent_again_under_the_same_id(fake: FakeSmtpServer, silence: str) -> None:
    """The one case of a second copy: better twice than never; by its Message-ID a mail program knows it."""

    async def sending() -> None:
        server = plain(fake)
        with pytest.raises(LostAfterData) as lost:
            await server.send(a_mail())
        assert not lost.value.permanent
        await server.send(a_mail())
        await server.close()

    fake.script["CONTENT"] = [silence]
    asyncio.run(asyncio.wait_for(sending(), 30))
    assert [mail["Message-ID"] for mail in fake.mails] == ["<1@example.org>"] * 2


def test_a_cancelled_mail_leaves_nothing_behind(fake: FakeSmtpServer) -> None:
    """Its connection is closed, its place is free, and the server gets the next mail whole."""

    async def sending() -> None:
        server = plain(fake, connections=1, timeouts=Timeouts())
        first = asyncio.create_task(server.send(a_mail(1)))
        while "RCPT" not in fake.commands:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await server.send(a_mail(2))
        await server.close()

    fake.script["RCPT"] = [STALL]
    asyncio.run(asyncio.wait_for(sending(), 30))
    assert [mail["Subject"] for mail in fake.mails] == ["mail 2"]


def test_an_outage_costs_no_storm_of_connections(fake: FakeSmtpServer) -> None:
    """Two hundred mails and a server that turns everybody away: it is left alone, and each mail is told until when."""
    clock = FakeClock()

    async def sending() -> None:
        server = plain(fake, clock=clock, timeouts=Timeouts())
        outcomes = await asyncio.gather(*(outcome_of(server, a_mail(n)) for n in range(200)))
        assert {type(outcome) for outcome in outcomes} == {MailServerUnavailable}
        assert fake.connections < 5 + 4, "more than it takes to see it, and those under way"
        assert server.state is BreakerState.OPEN
        [away] = {outcome.retry_at for outcome in outcomes[50:] if outcome is not None}
        assert away is not None
        clock.advance(away - clock.now())
        seen = fake.connections
        again = await asyncio.gather(*(outcome_of(server, a_mail(n)) for n in range(200)))
        assert fake.connections == seen + 1, "one sees whether the server is back"
        assert all(outcome is not None and outcome.retry_at is not None for outcome in again)
        fake.script["CONNECT"].clear()
        clock.advance(timedelta(minutes=5))
        assert await outcome_of(server, a_mail(1)) is None
        assert set(await asyncio.gather(*(outcome_of(server, a_mail(n)) for n in range(20)))) == {None}
        await server.close()

    fake.script["CONNECT"] = ["554 5.7.1 not from here"] * 300
    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(sending(), 60))
    assert [log["event"] for log in logs] == ["mail_server.left_alone"] * 2 + ["mail_server.back"]
    assert logs[0]["reason"] == "not_welcome"


def test_refused_mails_do_not_open_the_breaker(fake: FakeSmtpServer) -> None:
    """A server that has answered is there, whatever it said about one mail."""
    fake.to["ada@example.net"] = ["550 5.1.1 no", "450 4.2.1 busy"] * 6
    assert sent_in_turn(plain(fake, clock=FakeClock()), 13)[-1] is None


def test_so_many_mails_a_minute_and_no_more(fake: FakeSmtpServer) -> None:
    """The third of two a minute waits until the minute of the first is over."""
    waits: list[float] = []

    class Clock(FakeClock):
        def real_seconds(self, duration: timedelta) -> float:
            waits.append(duration.total_seconds())
            self.advance(max(duration, timedelta(0)))
            return 0.0

    assert sent_in_turn(plain(fake, mails_per_minute=2, clock=Clock()), 4) == [None] * 4
    assert waits == [0, 0, 60, 0]


def test_nobody_listens() -> None:
    """A server that is down is away, whatever the mail."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        [outcome] = sent_in_turn(MailServer("127.0.0.1", free.getsockname()[1], "plaintext"))
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.UNREACHABLE


def test_a_server_without_starttls_gets_no_mail(fake: FakeSmtpServer) -> None:
    """Who asked for encryption never sends without, not even when a server (or who stands before it) offers none."""
    [outcome] = sent_in_turn(MailServer("127.0.0.1", fake.port, "starttls"))
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS
    assert "MAIL" not in fake.commands


def test_who_hears_of_a_bounce(fake: FakeSmtpServer) -> None:
    """The mailbox of From, unless another is given (VERP), or nobody."""

    async def sending() -> None:
        server = plain(fake)
        await server.send(a_mail())
        await server.send(a_mail(), "bounce+1=ada@example.org")
        await server.send(a_mail(), "")
        await server.close()

    asyncio.run(asyncio.wait_for(sending(), 30))
    senders = [mail.split("<")[1].split(">")[0] for mail, _ in fake.envelopes]
    assert senders == ["alerts@example.org", "bounce+1=ada@example.org", ""]


def test_what_the_server_offers_is_used() -> None:
    """Its size, eight bits and other alphabets are said with MAIL, so that it can refuse before it has read all."""
    for mail, said in (
        (a_mail(), ""),
        (a_mail(text="zoë\n"), " BODY=8BITMIME"),
        (a_mail(to="zoë@example.net"), " BODY=8BITMIME SMTPUTF8"),  # its header is not ASCII either
    ):
        with FakeSmtpServer(extensions=EXTENSIONS).running() as fake:
            assert asyncio.run(outcome_of(plain(fake), mail)) is None
        size = len(mail.as_bytes(policy=mail.policy.clone(utf8=True)))
        [(command, _)] = fake.envelopes
        assert command == f"MAIL FROM:<alerts@example.org> SIZE={size}{said}"


def test_a_server_without_eight_bits_gets_seven(fake: FakeSmtpServer) -> None:
    """RFC 6152 has it so; the text is the same."""
    asyncio.run(plain(fake).send(a_mail(text="zoë\n")))
    [mail] = fake.mails
    assert mail.get_content().strip() == "zoë"
    assert (mail["Content-Transfer-Encoding"] == "8bit") is ("8BITMIME" in fake.greeted(False))


def test_an_address_in_utf8_needs_a_server_that_takes_it() -> None:
    """Without SMTPUTF8 no mail can ever reach such an address; others still can."""

    async def sending() -> None:
        server = plain(fake)
        with pytest.raises(PermanentlyRefused) as refused:
            await server.send(a_mail(to="zoë@example.net"))
        assert refused.value.reason is FailureReason.ADDRESS
        await server.send(a_mail())
        await server.close()

    with FakeSmtpServer().running() as fake:
        asyncio.run(asyncio.wait_for(sending(), 30))
    assert fake.connections == 1
