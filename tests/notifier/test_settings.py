from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from chassis.errors import SettingsError
from chassis.settings import load_settings
from notifier.delivery.batching import MISSING_RETRY_TIMEOUT
from notifier.delivery.policy import CorrectionPolicy
from notifier.delivery.retries import MAX_PAUSE
from notifier.delivery.user_state import LONGEST_CORRECTIONS_PAUSE
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
    """Load the settings from ENOUGH with these changes."""
    for name, value in (ENOUGH | changes).items():
        monkeypatch.setenv(name, value)
    return load_settings(NotifierSettings)


def test_mail_is_encrypted_unless_plaintext_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing setting must not send users' addresses unencrypted."""
    settings = loaded(monkeypatch)
    assert settings.smtp_security == "starttls"
    assert str(settings.parse_sender()) == "Towerwatch <alerts@example.org>"


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
        {"CORRECTIONS_QUIET_S": "-1"},
        {"CORRECTIONS_WAIT_S": "86401"},
        {"CORRECTIONS_PAUSE_S": "86401"},
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
def test_invalid_settings_are_rejected(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]) -> None:
    """They are rejected at the start, with a text that shows no secret."""
    with pytest.raises(SettingsError) as refused:
        loaded(monkeypatch, **changes)
    assert "hunter2" not in str(refused.value)


def test_a_ca_file_can_be_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A private mail server has a private certificate."""
    _, trusted = server_context(tmp_path)
    assert loaded(monkeypatch, SMTP_CA_FILE=str(trusted)).smtp_ca_file == trusted


def test_delivery_is_not_rate_limited_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four connections are polite, and enough."""
    settings = loaded(monkeypatch)
    assert (settings.smtp_connections, settings.smtp_mails_per_minute) == (4, None)
    assert loaded(monkeypatch, SMTP_MAILS_PER_MINUTE="30").smtp_mails_per_minute == 30


def test_mails_to_one_user_are_grouped_and_limited_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """One mail contains the alerts of five seconds, and a user gets twelve an hour; 0 means one mail for each alert,
    and no limit."""
    settings = loaded(monkeypatch)
    assert (settings.group_wait_s, settings.person_mails_per_hour, settings.smtp_mails_in_doubt) == (5.0, 12, 1)
    settings = loaded(monkeypatch, GROUP_WAIT_S="0", PERSON_MAILS_PER_HOUR="0", SMTP_MAILS_IN_DOUBT="4")
    assert (settings.group_wait_s, settings.person_mails_per_hour, settings.smtp_mails_in_doubt) == (0.0, 0, 4)


def test_corrections_are_one_mail_a_day_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night's corrections come within hours; the pause between two mails is a day at most, as long as it is kept."""
    assert loaded(monkeypatch).build_correction_policy() == CorrectionPolicy()
    settings = loaded(monkeypatch, CORRECTIONS_QUIET_S="0", CORRECTIONS_WAIT_S="1", CORRECTIONS_PAUSE_S="86400")
    policy = settings.build_correction_policy()
    assert policy == CorrectionPolicy(timedelta(0), timedelta(seconds=1), timedelta(days=1))
    assert policy.pause <= LONGEST_CORRECTIONS_PAUSE


def test_a_queued_alert_does_not_make_a_worker_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert waits for its own pause, or for a deferred alert before it, and is acknowledged only after that."""
    longest = MAX_PAUSE + MISSING_RETRY_TIMEOUT + timedelta(seconds=60)
    assert loaded(monkeypatch, STUCK_AFTER_S="480").stuck_after_s > longest.total_seconds()


def test_bounces_go_to_the_configured_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounces go to the sender's mailbox if no other is configured."""
    assert loaded(monkeypatch).parse_bounce_address() is None
    assert str(loaded(monkeypatch, BOUNCES_TO="bounces@example.org").parse_bounce_address()) == "bounces@example.org"


def test_mails_are_signed_if_a_key_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key may be in a file, and is not shown."""
    assert loaded(monkeypatch).build_signing_key() is None
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    changes = {"DKIM_DOMAIN": "example.org", "DKIM_SELECTOR": "s1", "DKIM_KEY_FILE": str(tmp_path / "key.pem")}
    settings = loaded(monkeypatch, **changes)
    assert settings.build_signing_key() is not None
    assert "PRIVATE" not in repr(settings)


@pytest.mark.parametrize(
    "host",
    [
        "smtp..example.org",
        "smtp://example.org",
        "smtp.example.org:587",
        " smtp.example.org",
        "-smtp.example.org",
        "a" * 64,
    ],
)
def test_a_mail_server_that_no_resolver_can_look_up_is_refused(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """It would be found by the first mail otherwise. The other rules are in tests/chassis/test_addresses.py."""
    with pytest.raises(SettingsError, match=r"^SMTP_HOST: must .+$"):
        loaded(monkeypatch, SMTP_HOST=host)
