"""Encryption and login: with whom the mail server talks at all."""

import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from notifier.errors import FailureReason, MailServerUnavailable, NotSent
from notifier.smtp import MailServer, Security, Timeouts
from tests.fakes.smtp_server import HANG_UP, RESET, STALL, FakeSmtpServer
from tests.fakes.tls import server_context
from tests.notifier.smtp.test_client import EXTENSIONS, sent_in_turn


def over_tls(
    context: ssl.SSLContext, security: Security, ca_file: Path | None, password: str = "right", fault: str | None = None
) -> tuple[NotSent | None, FakeSmtpServer]:
    """What becomes of a mail to a server that insists on TLS and a login."""
    fake = FakeSmtpServer(context, "tls" if security == "tls" else "starttls", ("towerwatch", "right"), EXTENSIONS)
    fake.script["HANDSHAKE"] = [fault]
    with fake.running():
        server = MailServer(
            "127.0.0.1", fake.port, security, "towerwatch", password, ca_file=ca_file, timeouts=Timeouts(connect_s=2)
        )
        [outcome] = sent_in_turn(server)
    return outcome, fake


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("by_setting", [True, False])
def test_encrypted_and_logged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, security: Security, by_setting: bool
) -> None:
    """Both ways of encrypting work with a certificate that the settings, or the machine, trust."""
    context, trusted = server_context(tmp_path)
    if not by_setting:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    outcome, fake = over_tls(context, security, trusted if by_setting else None)
    assert outcome is None
    assert len(fake.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("fault", ["unknown", "expired", "wrong host"])
def test_a_certificate_that_cannot_be_believed_is_refused(tmp_path: Path, security: Security, fault: str) -> None:
    """Otherwise whoever stands in between would read along. It concerns all mails, and no password is told."""
    address = "127.0.0.2" if fault == "wrong host" else "127.0.0.1"
    context, trusted = server_context(tmp_path, address, timedelta(hours=-1 if fault == "expired" else 1))
    outcome, fake = over_tls(context, security, None if fault == "unknown" else trusted)
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS
    assert "AUTH" not in fake.commands


@pytest.mark.parametrize("fault", [HANG_UP, RESET, STALL])
def test_a_handshake_that_comes_to_no_end(tmp_path: Path, fault: str) -> None:
    """Costs its timeout and no more."""
    context, trusted = server_context(tmp_path)
    outcome, _ = over_tls(context, "starttls", trusted, fault=fault)
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.TLS


def test_a_wrong_password_is_our_fault_and_costs_no_alert(tmp_path: Path) -> None:
    """535 is a 5yz, but it says nothing about the mail: it will be tried again."""
    context, trusted = server_context(tmp_path)
    outcome, _ = over_tls(context, "starttls", trusted, password="wrong")
    assert isinstance(outcome, MailServerUnavailable)
    assert outcome.reason is FailureReason.AUTHENTICATION
    assert "535 5.7.8" in str(outcome)
