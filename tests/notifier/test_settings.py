from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chassis.errors import SettingsError
from chassis.settings import load_settings
from notifier.delivery.batching import OVERDUE
from notifier.delivery.retries import LONGEST
from notifier.settings import NotifierSettings
from tests.fakes.tls import server_context

ENOUGH = {
    "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
    "WEB_PORT": "6066",
    "USER_MANAGER_GRPC_TARGET": "localhost:50051",
    "SMTP_HOST": "localhost",
    "SMTP_PORT": "587",
    "MAIL_FROM": "Towerwatch <alerts@example.org>",
}


def loaded(monkeypatch: pytest.MonkeyPatch, **changes: str) -> NotifierSettings:
    for name, value in (ENOUGH | changes).items():
        monkeypatch.setenv(name, value)
    return load_settings(NotifierSettings)


def test_mail_is_encrypted_unless_plaintext_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgotten setting must not send people's addresses in the clear."""
    settings = loaded(monkeypatch)
    assert settings.smtp_security == "starttls"
    assert str(settings.sender()) == "Towerwatch <alerts@example.org>"


@pytest.mark.parametrize(
    "changes",
    [
        {"MAIL_FROM": "nobody"},
        {"MAIL_FROM": "Towerwatch <@>"},
        {"MAIL_FROM": "Towerwatch <ü@example.org>"},
        {"SMTP_USERNAME": "towerwatch"},
        {"SMTP_PASSWORD": "hunter2hunter2"},
        {"SMTP_USERNAME": "towerwatch", "SMTP_PASSWORD": "hunter2hunter2", "SMTP_SECURITY": "plaintext"},
        {"SMTP_SECURITY": "none"},
        {"RETRY_BASE_S": "0"},
        {"RETRY_LIFETIME_S": "1"},
        {"SMTP_CONNECTIONS": "0"},
        {"SMTP_MAILS_PER_CONNECTION": "0"},
        {"SMTP_MAILS_PER_MINUTE": "0"},
        {"SMTP_MAILS_IN_DOUBT": "0"},
        {"GROUP_WAIT_S": "-1"},
        {"GROUP_WAIT_S": "61"},
        {"PERSON_MAILS_PER_HOUR": "-1"},
        {"BOUNCES_TO": "nobody"},
        {"BOUNCES_TO": "ü@example.org"},
        {"STUCK_AFTER_S": "300"},
        {"DKIM_DOMAIN": "example.org"},
        {"DKIM_DOMAIN": "example.org", "DKIM_SELECTOR": "s1"},
        {"DKIM_DOMAIN": "example.org", "DKIM_SELECTOR": "s1", "DKIM_KEY": "hunter2hunter2"},
        {"SMTP_CA_FILE": "/nowhere/at-all.pem"},
        {"SMTP_CA_FILE": __file__},
    ],
)
def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    """At the start, in words, and without showing a secret."""
    with pytest.raises(SettingsError) as refused:
        loaded(monkeypatch, **changes)
    assert "hunter2" not in str(refused.value)


def test_whom_to_believe_may_be_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mail server of one's own has a certificate of one's own."""
    _, trusted = server_context(tmp_path)
    assert loaded(monkeypatch, SMTP_CA_FILE=str(trusted)).smtp_ca_file == trusted


def test_delivery_is_not_limited_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four connections are polite, and enough."""
    settings = loaded(monkeypatch)
    assert (settings.smtp_connections, settings.smtp_mails_per_minute) == (4, None)
    assert loaded(monkeypatch, SMTP_MAILS_PER_MINUTE="30").smtp_mails_per_minute == 30


def test_what_one_person_gets_is_grouped_and_limited_unless_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mail for what comes within five seconds, twelve an hour; 0 means a mail for each alert, and no limit."""
    settings = loaded(monkeypatch)
    assert (settings.group_wait_s, settings.person_mails_per_hour, settings.smtp_mails_in_doubt) == (5.0, 12, 1)
    settings = loaded(monkeypatch, GROUP_WAIT_S="0", PERSON_MAILS_PER_HOUR="0", SMTP_MAILS_IN_DOUBT="4")
    assert (settings.group_wait_s, settings.person_mails_per_hour, settings.smtp_mails_in_doubt) == (0.0, 0, 4)


def test_an_event_that_waits_in_hand_is_no_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for its own pause, or for what was put off before it; only then is it told, and acknowledged."""
    longest = LONGEST + OVERDUE + timedelta(seconds=60)
    assert loaded(monkeypatch, STUCK_AFTER_S="480").stuck_after_s > longest.total_seconds()


def test_bounces_come_back_to_whom_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else to the mailbox that mails come from."""
    assert loaded(monkeypatch).bounce_address() is None
    assert str(loaded(monkeypatch, BOUNCES_TO="bounces@example.org").bounce_address()) == "bounces@example.org"


def test_mails_are_signed_when_it_is_said_with_what(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key may be in a file, and does not show."""
    assert loaded(monkeypatch).signing_key() is None
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    changes = {"DKIM_DOMAIN": "example.org", "DKIM_SELECTOR": "s1", "DKIM_KEY_FILE": str(tmp_path / "key.pem")}
    settings = loaded(monkeypatch, **changes)
    assert settings.signing_key() is not None
    assert "PRIVATE" not in repr(settings)
