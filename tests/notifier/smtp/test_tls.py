"""TLS and login: the SMTP client sends mails only to a server with a trusted certificate."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from notifier.errors import FailureReason, MailServerUnavailable, NotSent
from notifier.smtp import Security, SmtpClient, SmtpTimeouts
from tests.fakes.smtp_server import HANG_UP, RESET, STALL, FakeSmtpServer
from tests.fakes.tls import server_context
from tests.notifier.smtp.test_client import EXTENSIONS, send_in_sequence


def send_over_tls(
    context: ssl.SSLContext, security: Security, ca_file: Path | None, password: str = "right", fault: str | None = None
) -> tuple[NotSent | None, FakeSmtpServer]:
    """Send a mail to a server that requires TLS and a login; return its error (None: accepted) and the server."""
    fake = FakeSmtpServer(context, "tls" if security == "tls" else "starttls", ("towerwatch", "right"), EXTENSIONS)
    fake.script["HANDSHAKE"] = [fault]
    with fake.running():
        client = SmtpClient(
            "127.0.0.1",
            fake.port,
            security,
            "towerwatch",
            password,
            ca_file=ca_file,
            timeouts=SmtpTimeouts(connect_s=2),
        )
        [outcome] = send_in_sequence(client)
    return outcome, fake


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("by_setting", [True, False])
def test_a_mail_is_sent_encrypted_after_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Security, by_setting: bool
) -> None:
    """STARTTLS and implicit TLS work with a certificate that the settings, or the machine, trust."""
    context, trusted = server_context(tmp_path)
    if not by_setting:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    outcome, fake = send_over_tls(context, security, trusted if by_setting else None)
    assert outcome is None
    assert len(fake.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["unknown", "expired", "wrong host"])
def test_an_invalid_certificate_is_refused(tmp_path: Path, security: Security, fault: str) -> None:
    """An attacker between client and server cannot read mails. The error concerns all mails; no password is sent."""
    address = "127.0.0.2" if fault == "wrong host" else "127.0.0.1"
    context, trusted = server_context(tmp_path, address, timedelta(hours=-1 if fault == "expired" else 1))
    outcome, fake = send_over_tls(context, security, None if fault == "unknown" else trusted)
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS
    assert "AUTH" not in fake.commands


@pytest.mark.parametrize("fault", [HANG_UP, RESET, STALL])
def test_a_failed_handshake_ends_with_its_timeout(tmp_path: Path, fault: str) -> None:
    """A handshake that is closed, reset or never finished raises MailServerAway with the reason TLS."""
    context, trusted = server_context(tmp_path)
    outcome, _ = send_over_tls(context, "starttls", trusted, fault=fault)
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS


def test_a_wrong_password_is_not_permanent(tmp_path: Path) -> None:
    """535 is a permanent reply (5yz), but not about the mail: the mail will be retried."""
    context, trusted = server_context(tmp_path)
    outcome, _ = send_over_tls(context, "starttls", trusted, password="wrong")
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.AUTHENTICATION
    assert "535 5.7.8" in str(outcome)
