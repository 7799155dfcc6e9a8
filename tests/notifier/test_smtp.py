import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword as Login, Session

from notifier.errors import MailServerAway, NotSent, PermanentlyRefused, TemporarilyRefused
from notifier.mail import alert_mail, subject
from notifier.smtp import MailServer, Security
from tests.fakes.smtp_server import HANG_UP, FakeSmtpServer
from tests.fakes.tls import server_context
from tests.notifier.alerts import ALERT, CAUSE, CONTACT, NOW, SENDER


@pytest.fixture
def fake() -> Iterator[FakeSmtpServer]:
    with FakeSmtpServer().running() as server:
        yield server


def a_mail() -> EmailMessage:
    return alert_mail(ALERT, CONTACT, SENDER, NOW, CAUSE)


def send(port: int, times: int = 1, security: Security = "plaintext") -> list[NotSent | None]:
    """What became of so many mails that were sent one after another by one MailServer."""

    async def sending() -> list[NotSent | None]:
        server = MailServer("127.0.0.1", port, security)
        outcomes: list[NotSent | None] = []
        for _ in range(times):
            try:
                await server.send(a_mail())
                outcomes.append(None)
            except NotSent as error:
                outcomes.append(error)
        await server.close()
        return outcomes

    return asyncio.run(asyncio.wait_for(sending(), 30))


def test_mails_share_a_connection(fake: FakeSmtpServer) -> None:
    """A connection costs several round trips (and a TLS handshake); it is made once."""
    assert send(fake.port, times=3) == [None] * 3
    assert fake.connections == 1
    assert fake.commands[-1] == "QUIT"
    assert [mail["Subject"] for mail in fake.mails] == [subject(ALERT)] * 3


@pytest.mark.parametrize(
    ("command", "answer", "kind"),
    [
        ("RCPT", "450 4.2.1 ada@example.net is over quota", TemporarilyRefused),
        ("RCPT", "550 5.1.1 ada@example.net unknown", PermanentlyRefused),
        ("RCPT", "530 5.7.0 authentication required", MailServerAway),
        ("RCPT", HANG_UP, TemporarilyRefused),
        ("MAIL", "451 later", MailServerAway),
        ("MAIL", "550 5.7.1 not from you", MailServerAway),
        ("MAIL", HANG_UP, TemporarilyRefused),
        ("DATA", "451 later", TemporarilyRefused),
        ("DATA", "554 no", PermanentlyRefused),
        ("DATA", HANG_UP, TemporarilyRefused),
        ("CONTENT", "452 disk full", TemporarilyRefused),
        ("CONTENT", "554 5.6.0 no such mail please", PermanentlyRefused),
        ("CONTENT", HANG_UP, TemporarilyRefused),
        ("CONTENT", "nonsense", TemporarilyRefused),
        ("CONNECT", "554 go away", MailServerAway),
        ("CONNECT", "421 busy", MailServerAway),
        ("CONNECT", HANG_UP, MailServerAway),
        ("EHLO", HANG_UP, MailServerAway),
        ("EHLO", "550 not to you", MailServerAway),
    ],
)
def test_a_refusal_is_what_it_is_and_ends_with_its_mail(
    fake: FakeSmtpServer, command: str, answer: str, kind: type[NotSent]
) -> None:
    """Only a 5yz about this mail or its recipient is for good; the next mail goes out; no reply's words get out."""
    fake.script[command] = [answer]
    refused, accepted = send(fake.port, times=2)
    assert type(refused) is kind
    assert "ada" not in str(refused)
    assert accepted is None
    assert len(fake.mails) == 1


def test_a_connection_that_the_server_closed_is_made_anew(fake: FakeSmtpServer) -> None:
    """Servers close idle connections; that costs no mail."""
    fake.script["NOOP"] = [HANG_UP, "421 idle for too long"]
    assert send(fake.port, times=3) == [None] * 3
    assert fake.connections == 3


def test_nobody_listens() -> None:
    """A server that is down is away, whatever the mail."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        [outcome] = send(free.getsockname()[1])
    assert type(outcome) is MailServerAway


def test_a_server_without_starttls_gets_no_mail(fake: FakeSmtpServer) -> None:
    """Who asked for encryption never sends without, not even when a server (or who stands before it) offers none."""
    [outcome] = send(fake.port, security="starttls")
    assert type(outcome) is MailServerAway
    assert "MAIL" not in fake.commands


def test_an_address_in_utf8_needs_a_server_that_takes_it(fake: FakeSmtpServer) -> None:
    """Without SMTPUTF8 no mail can ever reach such an address."""
    mail = alert_mail(ALERT, replace(CONTACT, email="zoë@example.net"), SENDER, NOW, CAUSE)
    with pytest.raises(PermanentlyRefused):
        asyncio.run(MailServer("127.0.0.1", fake.port, "plaintext").send(mail))


class _Keeps:
    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(  # noqa: N802 - aiosmtpd looks it up by this name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        self.envelopes.append(envelope)
        return "250 OK"


def _authenticated(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: object) -> AuthResult:
    return AuthResult(success=isinstance(login, Login) and login.password == b"right", handled=False)


async def _over_tls(
    context: ssl.SSLContext, security: Security, password: str = "right", email: str = "ada@example.net"
) -> list[Envelope]:
    """The envelopes that arrive at a server that insists on TLS and a login, when one mail is sent."""
    keeps = _Keeps()
    starttls = security == "starttls"
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(
            keeps,
            hostname="fake.example",
            tls_context=context if starttls else None,
            require_starttls=starttls,
            auth_required=True,
            auth_require_tls=starttls,
            authenticator=_authenticated,
            enable_SMTPUTF8=True,
        ),
        "127.0.0.1",
        0,
        ssl=None if starttls else context,
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = MailServer("127.0.0.1", port, security, "towerwatch", password)
        try:
            await client.send(alert_mail(ALERT, replace(CONTACT, email=email), SENDER, NOW, CAUSE))
        finally:
            await client.close()
    return keeps.envelopes


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_encrypted_and_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Security) -> None:
    """Both ways of encrypting work with a certificate that the machine trusts."""
    context, trusted = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    [envelope] = asyncio.run(_over_tls(context, security))
    assert (envelope.mail_from, envelope.rcpt_tos) == ("alerts@example.org", ["ada@example.net"])


def test_an_address_in_utf8_reaches_a_server_that_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People may have addresses in their own alphabet (RFC 6531)."""
    context, trusted = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    [envelope] = asyncio.run(_over_tls(context, "tls", email="zoë@example.net"))
    assert envelope.rcpt_tos == ["zoë@example.net"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, security: Security) -> None:
    """Otherwise whoever stands in between would read along."""
    context, _ = server_context(tmp_path)
    with pytest.raises(MailServerAway):
        asyncio.run(_over_tls(context, security))


def test_a_wrong_password_is_our_fault_and_costs_no_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """535 is a 5yz, but it says nothing about the mail: it will be tried again."""
    context, trusted = server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with pytest.raises(MailServerAway) as refused:
        asyncio.run(_over_tls(context, "starttls", password="wrong"))
    assert "535" in str(refused.value)
