"""The SMTP client against a fake server over real sockets: the commands it sends, and the outcome of each mail."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta
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
    SendingSideRefused,
    TemporarilyRefused,
    UnprovenBounce,
)
from notifier.smtp import SmtpClient, SmtpTimeouts
from tests.fakes.clock import FakeClock
from tests.fakes.smtp_server import ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL, HANG_UP, RESET, STALL, FakeSmtpServer

# Only for servers that never answer: on a loaded machine, one that does may take longer than this.
SHORT_TIMEOUTS = SmtpTimeouts(connect_s=2.0, command_s=2.0, content_s=2.0)
EXTENSIONS = ("PIPELINING", "SIZE 100000", "8BITMIME", "ENHANCEDSTATUSCODES", "SMTPUTF8")


@pytest.fixture(params=[(), EXTENSIONS], ids=["plain", "pipelining"])
def fake(request: pytest.FixtureRequest) -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer(extensions=request.param).running() as server:
        yield server


def build_mail(number: int = 1, to: str = "ada@example.net", text: str = "24 departures\n") -> EmailMessage:
    """Return a mail with this number in its subject and Message-ID."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = "Towerwatch <alerts@example.org>"
    mail["To"] = to
    mail["Subject"] = f"mail {number}"
    mail["Message-ID"] = f"<{number}@example.org>"
    mail.set_content(text, cte="7bit" if text.isascii() else "8bit")
    return mail


async def send_one(client: SmtpClient, mail: EmailMessage) -> NotSent | None:
    """Send a mail; return its error, or None if the server has accepted it."""
    try:
        await client.send(mail)
    except NotSent as error:
        return error
    return None


def send_in_sequence(client: SmtpClient, times: int = 1) -> list[NotSent | None]:
    """Send mails one after another, and close the client; return for each mail its error, or None if accepted."""

    async def send_mails() -> list[NotSent | None]:
        outcomes = [await send_one(client, build_mail(number)) for number in range(times)]
        await client.close()
        return outcomes

    return asyncio.run(asyncio.wait_for(send_mails(), 150))


def create_client(fake: FakeSmtpServer, **settings: object) -> SmtpClient:
    return SmtpClient("127.0.0.1", fake.port, "plaintext", **settings)  # type: ignore[arg-type]


def test_mails_share_a_connection(fake: FakeSmtpServer) -> None:
    """A connection, which costs several round trips and a TLS handshake, is opened once, without a probe per mail."""
    assert send_in_sequence(create_client(fake), 3) == [None] * 3
    assert fake.connections == 1
    assert fake.commands == ["CONNECT", "EHLO", *["MAIL", "RCPT", "DATA", "CONTENT"] * 3, "QUIT"]
    assert [mail["Subject"] for mail in fake.mails] == ["mail 0", "mail 1", "mail 2"]


def test_commands_are_pipelined_if_the_server_offers_it() -> None:
    """The client sends MAIL, RCPT and DATA together with PIPELINING (RFC 2920), else each after the reply before."""
    for extensions, most in ((EXTENSIONS, 3), ((), 1)):
        with FakeSmtpServer(extensions=extensions).running() as fake:
            assert send_in_sequence(create_client(fake)) == [None]
        reads = fake.commands_per_read[1:] if extensions else fake.commands_per_read[1:4]  # after EHLO
        assert reads[0] == most


def test_a_connection_is_closed_after_its_number_of_mails(fake: FakeSmtpServer) -> None:
    """The client closes a connection with QUIT after `mails_per_connection`, before a server's own limit is reached."""
    assert send_in_sequence(create_client(fake, mails_per_connection=2), 5) == [None] * 5
    assert fake.connections == 3
    assert fake.commands.count("QUIT") == 3


def test_many_mails_are_in_flight_over_a_limited_number_of_connections(fake: FakeSmtpServer) -> None:
    """A hundred callers share three connections, and each gets the outcome of its own mail."""

    async def send_mails() -> list[NotSent | None]:
        client = create_client(fake, connections=3)
        outcomes = await asyncio.gather(*(send_one(client, build_mail(n, f"u{n}@example.net")) for n in range(100)))
        await client.close()
        return outcomes

    fake.rcpt_script_for["u7@example.net"] = ["550 5.1.1 no"]
    outcomes = asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert sorted(mail["Subject"] for mail in fake.mails) == sorted(f"mail {n}" for n in range(100) if n != 7)
    assert fake.most_open == fake.connections == 3


@pytest.mark.parametrize(
    ("command", "answer", "error_class", "reason"),
    [
        ("RCPT", "450 4.2.1 ada@example.net is busy", TemporarilyRefused, FailureReason.MAILBOX_BUSY),
        ("RCPT", "550 5.1.1 ada@example.net unknown", HardBounce, FailureReason.MAILBOX_UNKNOWN),
        ("RCPT", "550-5.7.1 ada@example.net\r\n550 5.7.1 is spam", SendingSideRefused, FailureReason.CONTENT),
        ("RCPT", "550 ada@example.net is nobody", UnprovenBounce, FailureReason.UNPROVEN),
        ("RCPT", "550-ada@example.net\r\n550 relay not permitted", SendingSideRefused, FailureReason.RELAY),
        ("RCPT", "552 5.2.2 ada@example.net is full", PermanentlyRefused, FailureReason.MAILBOX_FULL),
        ("RCPT", "530 5.7.0 authentication required", MailServerUnavailable, FailureReason.AUTHENTICATION),
        ("RCPT", "421 4.3.2 ada@example.net later", MailServerUnavailable, FailureReason.BUSY),
        ("RCPT", HANG_UP, TemporarilyRefused, FailureReason.LOST),
        ("MAIL", "451 later", MailServerUnavailable, FailureReason.BUSY),
        ("MAIL", "550 5.7.1 not from you", MailServerUnavailable, FailureReason.SENDER),
        ("MAIL", "552 5.3.4 ada@example.net: too big", SendingSideRefused, FailureReason.TOO_LARGE),
        ("MAIL", HANG_UP, TemporarilyRefused, FailureReason.LOST),
        ("MAIL", STALL, TemporarilyRefused, FailureReason.LOST),
        ("DATA", "451 later", TemporarilyRefused, FailureReason.PUT_OFF),
        ("DATA", "554 no", SendingSideRefused, FailureReason.REFUSED),
        ("DATA", RESET, TemporarilyRefused, FailureReason.LOST),
        ("CONTENT", "452 disk full", TemporarilyRefused, FailureReason.STORAGE),
        ("CONTENT", "554 5.6.0 no such mail please", SendingSideRefused, FailureReason.CONTENT),
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
def test_a_refusal_is_classified_and_concerns_its_mail_only(
    fake: FakeSmtpServer, command: str, answer: str, error_class: type[NotSent], reason: FailureReason
) -> None:
    """The error's class and reason are right, the next mail is sent, and no error holds the server's text."""
    fake.script[command] = [answer]
    timeouts = SHORT_TIMEOUTS if answer == STALL else None
    refused, accepted = send_in_sequence(create_client(fake, timeouts=timeouts), 2)
    assert refused is not None
    assert (type(refused), refused.reason) == (error_class, reason)
    assert "ada" not in str(refused)
    assert accepted is None
    assert [mail["Subject"] for mail in fake.mails] == ["mail 1"]


def test_an_unproven_bounce_says_when_the_server_accepted_another_recipient(fake: FakeSmtpServer) -> None:
    """A mail to the same recipient is no evidence, and neither is one that the server refused after RCPT."""
    clock = FakeClock()

    async def send_mails() -> list[datetime | None]:
        client, told = create_client(fake, clock=clock), []
        for to in ("eve@example.net", "eve@example.net", "ada@example.net", "ada@example.net", "eve@example.net"):
            clock.advance(timedelta(seconds=1))
            error = await send_one(client, build_mail(to=to))
            if isinstance(error, UnprovenBounce):
                told.append(error.other_accepted_at)
        await client.close()
        return told

    fake.rcpt_script_for["eve@example.net"] = [None, "550 no", "553 no"]
    fake.script_for["ada@example.net"]["CONTENT"] = ["554 no", None]
    began = clock.now()
    assert asyncio.run(asyncio.wait_for(send_mails(), 150)) == [None, began + timedelta(seconds=4)]


def test_a_refused_mail_keeps_its_connection_open(fake: FakeSmtpServer) -> None:
    """RSET discards its envelope before the next mail, which only its own recipient gets."""
    fake.rcpt_script_for["ada@example.net"] = ["450 4.2.1 busy", "550 5.1.1 no"]
    fake.script_for["ada@example.net"]["DATA"] = ["451 later"]
    fake.script_for["ada@example.net"]["CONTENT"] = ["554 5.6.0 no"]
    outcomes = send_in_sequence(create_client(fake), 5)
    assert [outcome is None for outcome in outcomes] == [False, False, False, False, True]
    assert fake.connections == 1
    assert len(fake.mails) == 1


def test_a_server_without_recipient_gets_no_content(fake: FakeSmtpServer) -> None:
    """A pipelined DATA may be accepted although RCPT was refused (RFC 2920, 3.1): no content may be sent then."""
    fake.rcpt_script_for["ada@example.net"] = ["550 5.1.1 no"]
    fake.script["DATA"] = ["354 go on"] if "PIPELINING" in fake.build_ehlo_reply(False) else []
    refused, accepted = send_in_sequence(create_client(fake), 2)
    assert (type(refused), accepted) == (HardBounce, None)
    assert fake.connections == 1
    assert len(fake.mails) == 1


def test_a_reply_never_belongs_to_another_mail(fake: FakeSmtpServer) -> None:
    """After a timeout the connection is closed, so that a late reply cannot be read as the reply to the next mail."""
    fake.script["RCPT"] = [STALL]
    refused, accepted = send_in_sequence(create_client(fake, timeouts=SHORT_TIMEOUTS), 2)
    assert refused is not None
    assert (refused.reason, accepted) == (FailureReason.LOST, None)
    assert fake.connections == 2


def test_a_connection_that_the_server_closed_costs_no_mail(fake: FakeSmtpServer) -> None:
    """A mail on an idle connection that the server has closed, with or without a 421, is sent over another."""
    fake.script["MAIL"] = [None, HANG_UP, None, "421 4.4.2 idle for too long", None, RESET]
    assert send_in_sequence(create_client(fake), 4) == [None] * 4
    assert fake.connections == 4
    assert [mail["Subject"] for mail in fake.mails] == [f"mail {n}" for n in range(4)]


def test_a_connection_idle_for_long_is_probed(fake: FakeSmtpServer) -> None:
    """A NOOP finds a dead connection before a mail uses it; a NOOP for each mail would cost a round trip."""
    clock = FakeClock()

    async def send_mails() -> None:
        client = create_client(fake, clock=clock, timeouts=SHORT_TIMEOUTS)
        for number, idle in enumerate((1, 31, 31, 1)):
            clock.advance(timedelta(seconds=idle))
            await client.send(build_mail(number))
        await client.close()

    fake.script["NOOP"] = [None, STALL]
    asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert fake.commands.count("NOOP") == 2
    assert fake.connections == 2
    assert len(fake.mails) == 4


def test_a_cancelled_probe_leaves_no_connection_open(fake: FakeSmtpServer) -> None:
    """During its probe a connection is in no list: without closing it would stay open as long as the server permits."""
    clock = FakeClock()

    async def send_mails() -> None:
        client = create_client(fake, clock=clock)
        await client.send(build_mail(1))
        clock.advance(timedelta(seconds=31))
        second = asyncio.create_task(client.send(build_mail(2)))
        while "NOOP" not in fake.commands:
            await asyncio.sleep(0.01)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert client.connections == 0
        await client.close()

    fake.script["NOOP"] = [STALL]
    asyncio.run(asyncio.wait_for(send_mails(), 150))


@pytest.mark.parametrize("fault", [ACCEPT_THEN_CLOSE, ACCEPT_THEN_STALL])
def test_an_unconfirmed_mail_is_sent_again_under_the_same_id(fake: FakeSmtpServer, fault: str) -> None:
    """A mail without a reply to its content is sent again: two copies with one Message-ID are better than none."""

    async def send_mails() -> None:
        client = create_client(fake, timeouts=SHORT_TIMEOUTS)
        with pytest.raises(LostAfterData) as lost:
            await client.send(build_mail())
        assert not lost.value.permanent
        await client.send(build_mail())
        await client.close()

    fake.script["CONTENT"] = [fault]
    asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert [mail["Message-ID"] for mail in fake.mails] == ["<1@example.org>"] * 2


def test_a_cancelled_mail_leaves_nothing_behind(fake: FakeSmtpServer) -> None:
    """Its connection is closed, its place in the pool is free, and the server gets the next mail complete."""

    async def send_mails() -> None:
        client = create_client(fake, connections=1)
        first = asyncio.create_task(client.send(build_mail(1)))
        while "RCPT" not in fake.commands:
            await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await client.send(build_mail(2))
        await client.close()

    fake.script["RCPT"] = [STALL]
    asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert [mail["Subject"] for mail in fake.mails] == ["mail 2"]


def test_an_outage_costs_no_storm_of_connections(fake: FakeSmtpServer) -> None:
    """The circuit opens when a server refuses every connection, and the errors of 200 mails have a retry time."""
    clock = FakeClock()

    async def send_mails() -> None:
        client = create_client(fake, clock=clock)
        outcomes = await asyncio.gather(*(send_one(client, build_mail(n)) for n in range(200)))
        assert {type(outcome) for outcome in outcomes} == {MailServerUnavailable}
        assert fake.connections < 5 + 4, "more than the failures that open the circuit, and the connections in use"
        assert client.state is BreakerState.OPEN
        [away] = {outcome.retry_at for outcome in outcomes[50:] if outcome is not None}
        assert away is not None
        clock.advance(away - clock.now())
        seen = fake.connections
        again = await asyncio.gather(*(send_one(client, build_mail(n)) for n in range(200)))
        assert fake.connections == seen + 1, "one mail is the probe"
        assert all(outcome is not None and outcome.retry_at is not None for outcome in again)
        fake.script["CONNECT"].clear()
        clock.advance(timedelta(minutes=5))
        assert await send_one(client, build_mail(1)) is None
        assert set(await asyncio.gather(*(send_one(client, build_mail(n)) for n in range(20)))) == {None}
        await client.close()

    fake.script["CONNECT"] = ["554 5.7.1 not from here"] * 300
    with capture_logs() as logs:
        asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert [log["event"] for log in logs] == ["mail_server.left_alone"] * 2 + ["mail_server.back"]
    assert logs[0]["reason"] == "not_welcome"


def test_refused_mails_do_not_open_the_breaker(fake: FakeSmtpServer) -> None:
    """A reply about one mail is a success for the breaker: the server works."""
    fake.rcpt_script_for["ada@example.net"] = ["550 5.1.1 no", "450 4.2.1 busy"] * 6
    assert send_in_sequence(create_client(fake, clock=FakeClock()), 13)[-1] is None


@pytest.mark.parametrize(
    "answer",
    [
        "521 5.3.2 this host takes no mail",
        "550 5.1.8 bad sender",
        "421 4.3.2 closing",
        "535 5.7.8 no",
        "454 4.7.0 no",
        "530 5.7.0 no",
        HANG_UP,
    ],
)
@pytest.mark.parametrize("command", ["RCPT", "DATA", "CONTENT"])
def test_what_is_said_of_one_recipient_does_not_stop_the_mails_of_others(
    fake: FakeSmtpServer, command: str, answer: str
) -> None:
    """A smarthost passes on what the recipient's server says, which may be anything, and as often as it likes."""
    fake.script_for["mallory@evil.example"][command] = [answer] * 20

    async def send_mails() -> None:
        client = create_client(fake, clock=FakeClock())
        for number in range(10):
            to = "mallory@evil.example" if number % 2 else "Mallory <mallory@Evil.Example>"
            fake.script_for["mallory@Evil.Example"] = fake.script_for["mallory@evil.example"]
            assert await send_one(client, build_mail(number, to)) is not None
        assert client.state is BreakerState.CLOSED
        assert await send_one(client, build_mail(99)) is None
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))


def test_what_is_said_of_recipients_of_many_domains_opens_the_breaker(fake: FakeSmtpServer) -> None:
    """Then it is the server's own; what comes before a recipient is named always counts."""

    async def send_mails() -> None:
        client = create_client(fake, clock=FakeClock())
        for number in range(5):
            assert client.state is BreakerState.CLOSED
            to = f"ada@example{number}.net"
            fake.script_for[to]["RCPT"] = ["421 4.3.2 closing"]
            assert await send_one(client, build_mail(number, to)) is not None
        assert client.state is BreakerState.OPEN
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))


def test_a_server_that_refuses_all_mails_to_one_domain_opens_the_breaker(fake: FakeSmtpServer) -> None:
    """If nothing else gets through, 15 failures in a row are the server's, also if all are about one domain.

    Before, the circuit of a company that mails only to itself never opened.
    """
    fake.script_for["ada@corp.example"]["RCPT"] = ["421 4.3.2 closing"] * 40

    async def send_mails() -> None:
        """Send mails until the circuit is open."""
        client = create_client(fake, clock=FakeClock())
        for number in range(15):
            assert client.state is BreakerState.CLOSED, number
            assert await send_one(client, build_mail(number, "ada@corp.example")) is not None
        assert client.state is BreakerState.OPEN
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))


def test_a_probe_that_fails_counts_whatever_failed_before(fake: FakeSmtpServer) -> None:
    """After a probe that fails, no other mail is tried at once, also if one of its domain failed just after the others.

    Before, the late failure made each probe to that domain one whose outcome is unknown: the next followed at once.
    """
    address = "ada@corp.example"

    async def send_mails() -> None:
        """Open the circuit while a mail is in progress, let that fail, then send mails to the same domain."""
        clock = FakeClock()
        client = create_client(fake, clock=clock)
        is_ready, may_continue = asyncio.Event(), asyncio.Event()

        async def wait_before_content() -> None:
            """Keep the mail in progress until the test lets it continue."""
            is_ready.set()
            await may_continue.wait()

        fake.script_for[address]["CONTENT"] = ["421 4.3.2 closing"]
        late = asyncio.create_task(client.send(build_mail(0, address), before_content=wait_before_content))
        await is_ready.wait()
        fake.script["CONNECT"] = ["554 5.7.1 not from here"] * 5
        for number in range(5):
            assert await send_one(client, build_mail(number + 1)) is not None
        assert client.state is BreakerState.OPEN
        may_continue.set()
        with pytest.raises(NotSent):
            await late
        fake.script_for[address]["RCPT"] = ["421 4.3.2 closing"] * 10
        for _ in range(3):
            clock.advance(timedelta(minutes=5))
            outcomes = [await send_one(client, build_mail(number + 10, address)) for number in range(4)]
            reasons = [outcome.reason for outcome in outcomes if outcome is not None]
            assert [each is FailureReason.BREAKER_OPEN for each in reasons] == [False, True, True, True]
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))


def test_the_rate_limit_delays_mails(fake: FakeSmtpServer) -> None:
    """The third mail waits until a minute after the first if two per minute are allowed."""
    waits: list[float] = []

    class ManualClock(FakeClock):
        def real_seconds(self, duration: timedelta) -> float:
            waits.append(duration.total_seconds())
            self.advance(max(duration, timedelta(0)))
            return 0.0

    assert send_in_sequence(create_client(fake, mails_per_minute=2, clock=ManualClock()), 4) == [None] * 4
    assert waits == [0, 0, 60, 0]


@pytest.mark.parametrize("days", [400, -400])
def test_a_wall_clock_that_is_set_delays_no_mail(fake: FakeSmtpServer, days: int) -> None:
    """The rate limit and the idle connection go on as if nothing had happened, whatever the clock shows for a while."""
    waits: list[float] = []

    class ManualClock(FakeClock):
        def real_seconds(self, duration: timedelta) -> float:
            waits.append(duration.total_seconds())
            self.advance(max(duration, timedelta(0)))
            return 0.0

    async def send_mails() -> None:
        clock = ManualClock()
        client = create_client(fake, mails_per_minute=2, clock=clock, connections=1)
        for number in range(4):
            clock.set_wall_clock(clock.now() + timedelta(days=days))
            assert await send_one(client, build_mail(number)) is None
            clock.set_wall_clock(clock.now() - timedelta(days=days))
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert waits == [0, 0, 60, 0]
    assert (fake.connections, fake.commands.count("NOOP")) == (1, 1), "only the connection that was idle for a minute"


@pytest.mark.parametrize("days", [400, -400])
def test_an_open_circuit_closes_although_the_wall_clock_is_set(fake: FakeSmtpServer, days: int) -> None:
    """It stays open for its time, and no longer, if it was opened while the clock was wrong."""
    clock = FakeClock()

    async def send_mails() -> None:
        client = create_client(fake, clock=clock)
        clock.set_wall_clock(clock.now() + timedelta(days=days))
        for number in range(5):
            assert await send_one(client, build_mail(number)) is not None
        clock.set_wall_clock(clock.now() - timedelta(days=days))
        refused = await send_one(client, build_mail())
        assert refused is not None
        assert refused.retry_at is not None
        assert timedelta(0) < refused.retry_at - clock.now() <= timedelta(seconds=5)
        clock.advance(refused.retry_at - clock.now())
        assert await send_one(client, build_mail()) is None
        await client.close()

    fake.script["CONNECT"] = ["554 5.7.1 not from here"] * 5
    asyncio.run(asyncio.wait_for(send_mails(), 150))


def test_a_closed_port_is_an_unavailable_server() -> None:
    """A refused connection concerns all mails: MailServerAway."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        [outcome] = send_in_sequence(SmtpClient("127.0.0.1", free.getsockname()[1], "plaintext"))
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.UNREACHABLE


def test_a_server_without_starttls_gets_no_mail(fake: FakeSmtpServer) -> None:
    """A client with `starttls` never sends unencrypted, even if the server (or an attacker) offers no STARTTLS."""
    [outcome] = send_in_sequence(SmtpClient("127.0.0.1", fake.port, "starttls"))
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS
    assert "MAIL" not in fake.commands


def test_the_envelope_sender_is_the_address_for_bounces(fake: FakeSmtpServer) -> None:
    """The envelope sender is the address in From, or the given one (VERP), or empty."""

    async def send_mails() -> None:
        client = create_client(fake)
        await client.send(build_mail())
        await client.send(build_mail(), "bounce+1=ada@example.org")
        await client.send(build_mail(), "")
        await client.close()

    asyncio.run(asyncio.wait_for(send_mails(), 150))
    senders = [mail.split("<")[1].split(">")[0] for mail, _ in fake.envelopes]
    assert senders == ["alerts@example.org", "bounce+1=ada@example.org", ""]


def test_the_extensions_of_the_server_are_used() -> None:
    """MAIL holds size, BODY=8BITMIME and SMTPUTF8, so that the server can refuse a mail before it has read it."""
    for mail, said in (
        (build_mail(), ""),
        (build_mail(text="zoë\n"), " BODY=8BITMIME"),
        (build_mail(to="zoë@example.net"), " BODY=8BITMIME SMTPUTF8"),  # its header is not ASCII either
    ):
        with FakeSmtpServer(extensions=EXTENSIONS).running() as fake:
            assert asyncio.run(send_one(create_client(fake), mail)) is None
        size = len(mail.as_bytes(policy=mail.policy.clone(utf8=True)))
        [(command, _)] = fake.envelopes
        assert command == f"MAIL FROM:<alerts@example.org> SIZE={size}{said}"


def test_a_server_without_eight_bits_gets_seven(fake: FakeSmtpServer) -> None:
    """The content is encoded in ASCII for a server without 8BITMIME (RFC 6152), and the text is the same."""
    asyncio.run(create_client(fake).send(build_mail(text="zoë\n")))
    [mail] = fake.mails
    assert mail.get_content().strip() == "zoë"
    assert (mail["Content-Transfer-Encoding"] == "8bit") is ("8BITMIME" in fake.build_ehlo_reply(False))


def test_an_address_in_utf8_needs_a_server_that_takes_it() -> None:
    """A mail to such an address is refused permanently without SMTPUTF8; mails to others are sent."""

    async def send_mails() -> None:
        client = create_client(fake)
        with pytest.raises(PermanentlyRefused) as refused:
            await client.send(build_mail(to="zoë@example.net"))
        assert refused.value.reason is FailureReason.ADDRESS
        await client.send(build_mail())
        await client.close()

    with FakeSmtpServer().running() as fake:
        asyncio.run(asyncio.wait_for(send_mails(), 150))
    assert fake.connections == 1


@pytest.mark.parametrize(
    "host",
    [
        "smtp..example.org",
        ".example.org",
        "a" * 64 + ".org",
        "ü" * 64,
        "no-such-name.invalid",
        "a\0b",
        "\ud800",
        "a b",
        "%",
    ],
)
def test_a_name_that_cannot_be_looked_up_is_an_unavailable_server(host: str) -> None:
    """Whatever the look-up raises, mails wait: it may be another name, or another resolver, tomorrow."""
    client = SmtpClient(host, 25, "plaintext", timeouts=SHORT_TIMEOUTS)
    (error,) = send_in_sequence(client)
    assert isinstance(error, MailServerUnavailable)


@pytest.mark.parametrize(
    "raised",
    [
        socket.gaierror(socket.EAI_NONAME, "unknown"),
        socket.gaierror(socket.EAI_AGAIN, "later"),
        socket.gaierror(socket.EAI_FAIL, "broken"),
        socket.herror(1, "unknown"),
        UnicodeError("label empty or too long"),
        UnicodeEncodeError("idna", "a", 0, 1, "no"),
        OverflowError("getsockaddrarg: port must be 0-65535."),
        ValueError("embedded null character"),
        OSError(101, "Network is unreachable"),
        ConnectionRefusedError(),
        TimeoutError(),
        InterruptedError(),
    ],
    ids=lambda raised: type(raised).__name__,
)
def test_whatever_the_look_up_raises_the_server_is_unavailable(
    fake: FakeSmtpServer, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """The next mail is sent once the name is found."""

    async def send_twice() -> list[NotSent | None]:
        client = create_client(fake)
        loop = asyncio.get_running_loop()
        with monkeypatch.context() as patched:
            patched.setattr(type(loop), "getaddrinfo", _raising(raised))
            patched.setattr(type(loop), "create_connection", _raising(raised))
            first = await send_one(client, build_mail())
        second = await send_one(client, build_mail())
        await client.close()
        return [first, second]

    first, second = asyncio.run(send_twice())
    assert isinstance(first, MailServerUnavailable)
    assert second is None


def _raising(error: Exception) -> Callable[..., Awaitable[None]]:
    """Return an asynchronous function that raises the error, whatever it is called with."""

    async def fail(*_args: object, **_kwargs: object) -> None:
        raise error

    return fail
