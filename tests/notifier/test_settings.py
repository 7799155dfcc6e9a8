import pytest

from chassis.errors import SettingsError
from chassis.settings import load
from notifier.settings import NotifierSettings

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
    ],
)
def test_settings_that_cannot_work_are_refused(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    """At the start, in words, and without showing a secret."""
    with pytest.raises(SettingsError) as refused:
        loaded(monkeypatch, **changes)
    assert "hunter2" not in str(refused.value)
