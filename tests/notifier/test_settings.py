from pathlib import Path

import pytest

from chassis.errors import SettingsError
from chassis.settings import load
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
    return load(NotifierSettings)


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
